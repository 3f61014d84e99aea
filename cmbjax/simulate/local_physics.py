"""The equations of `physics` and `lesions` in JAX, for one small box.

Rule: every function here gives what its NumPy namesake gives (tests compare
them), is pure, and can be jitted and vmapped.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from cmbjax.simulate import anatomy, physics, vessels

_EXACT = jax.lax.Precision.HIGHEST  # GPUs round products to 10 bits otherwise
_GOLDEN_RAD = 2.399963  # of the sunflower pattern across a tube
_HANN_EDGE = 0.375  # of the homodyne window, see imaging.phase


class Spheres(NamedTuple):
  """A deposit; unused rows have radius 0."""

  centre_mm: jax.Array  # [N, 3]
  radius_mm: jax.Array  # [N]
  chi_ppm: jax.Array  # [N]
  density: jax.Array  # share of the signal that is left inside


def steady_state(density, t1_s, *, repetition_time_s, flip_deg):
  """Spoiled gradient echo at TE 0; see `physics.spoiled_echo`."""
  angle = np.deg2rad(flip_deg)
  e1 = jnp.exp(-repetition_time_s / t1_s)
  return density * np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1)


def dipole_kernel(shape, spacing_mm, b0):
  """As `physics.dipole_kernel`; `b0` [3] may be traced."""
  frequency = [np.fft.fftfreq(n, d) for n, d in zip(shape[:2], spacing_mm)]
  frequency.append(np.fft.rfftfreq(shape[2], spacing_mm[2]))
  k = [
    a.astype(np.float32)
    for a in np.meshgrid(*frequency, indexing='ij', sparse=True)
  ]
  squared = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
  squared[0, 0, 0] = 1.0
  along = k[0] * b0[0] + k[1] * b0[1] + k[2] * b0[2]
  kernel = jnp.float32(1 / 3) - along * along / squared
  return kernel.at[0, 0, 0].set(0.0)


def field_ppm(chi_ppm, spacing_mm, b0):
  """As `physics.field_ppm`: the box [X, Y, Z] wraps round."""
  spectrum = jnp.fft.rfftn(chi_ppm) * dipole_kernel(
    chi_ppm.shape, spacing_mm, b0
  )
  return jnp.fft.irfftn(spectrum, s=chi_ppm.shape)


def phasors(points_mm, spheres: Spheres, b0, *, field_t, echo_times_s):
  """exp(i phase - TE R2') of a deposit at points [..., 3], one per echo.

  The sum of the analytic fields of spheres, 0 inside each (Lorentz), with
  static dephasing inside (Yablonskiy and Haacke, 1994).
  """
  shape = (-1, *[1] * (points_mm.ndim - 1))
  x, y, z = (
    points_mm[..., a] - spheres.centre_mm[:, a].reshape(shape) for a in range(3)
  )  # [N, ...]
  radius, chi = spheres.radius_mm.reshape(shape), spheres.chi_ppm.reshape(shape)
  squared = x * x + y * y + z * z
  along = x * b0[0] + y * b0[1] + z * b0[2]
  outside = squared > radius * radius
  safe = jnp.where(outside, squared, 1.0)
  value = (3 * along * along / safe - 1) * (chi * radius**3 / 3)
  field = jnp.where(outside, value / (safe * jnp.sqrt(safe)), 0.0).sum(0)
  inside = jnp.where(outside, 0.0, jnp.abs(chi)).sum(0)
  left = jnp.where(inside > 0, spheres.density, 1.0)
  out = []
  for echo in echo_times_s:
    angle = field * physics.phase_per_ppm(field_t, echo)
    size = left * jnp.exp(-inside * (echo * physics.R2_PRIME * field_t))
    out.append(jax.lax.complex(size * jnp.cos(angle), size * jnp.sin(angle)))
  return out


def deposit_factors(
  axes_mm, spacing_mm, spheres: Spheres, b0, *, centre, field_t, echo_times_s
):
  """Factors [X, Y, Z] of a deposit near node `centre`, one per echo.

  One sample per node far away; averages over 0.25 mm within 3.5 mm and
  over 0.125 mm within 1.5 mm of the centre, as `lesions.effect` does by radius.

  Args:
    axes_mm: three arrays of node coordinates.
    centre: static index of the node nearest the middle of the deposit.
  """
  given = {'field_t': field_t, 'echo_times_s': echo_times_s}
  grid = jnp.stack(jnp.meshgrid(*axes_mm, indexing='ij'), -1)
  out = phasors(grid, spheres, b0, **given)
  for reach_mm, step_mm in ((3.5, 0.25), (1.5, 0.125)):
    half = [int(np.ceil(reach_mm / s)) for s in spacing_mm]
    box = tuple(slice(max(c - h, 0), c + h + 1) for c, h in zip(centre, half))
    offsets = subvoxels(spacing_mm, step_mm)
    points = grid[box][..., None, :] + offsets
    near = phasors(points, spheres, b0, **given)
    out = [o.at[box].set(n.mean(-1)) for o, n in zip(out, near)]
  return out


def subvoxels(spacing_mm, step_mm) -> np.ndarray:
  """Offsets [M, 3] of sample points in a voxel, near cubic."""
  counts = [max(round(s / step_mm), 1) for s in spacing_mm]
  axes = [
    ((np.arange(n) + 0.5) / n - 0.5) * s for n, s in zip(counts, spacing_mm)
  ]
  points = np.stack(np.meshgrid(*axes, indexing='ij'), -1)
  return points.reshape(-1, 3).astype(np.float32)


def fill_tubes(points, heading, radius, corner_mm, spacing_mm, *, shape,
               discs):  # fmt: skip
  """Occupied share [X, Y, Z] of voxels by steps of tubes, not clipped.

  As `vessels.deposit`: each step is spread over `discs` points of the disc
  across the tube; their volume goes to the eight nearest voxels, or to the
  nearest one when the discs are many.

  Args:
    points: [S, 3] mm.
    heading: [S, 3] unit vectors.
    radius: [S] mm; 0 where there is no step.
    corner_mm: [3] of node 0.
  """
  side = jnp.cross(heading, jnp.roll(heading, 1, -1) + vessels._ODD)
  side /= jnp.maximum(jnp.linalg.norm(side, axis=-1, keepdims=True), 1e-6)
  other = jnp.cross(heading, side)
  rank = np.arange(discs, dtype=np.float32) + 0.5
  # Even instead of random: no step has its disc turned like the last one.
  number = np.arange(len(points), dtype=np.float32)[:, None]
  angle = rank * _GOLDEN_RAD + number
  jitter = (number * 0.7549 + rank * 0.5698) % 1
  reach = np.sqrt(rank / discs) * radius[:, None]
  cloud = (
    points[:, None]
    + (jnp.cos(angle) * reach)[..., None] * side[:, None]
    + (jnp.sin(angle) * reach)[..., None] * other[:, None]
    + ((jitter - 0.5) * vessels.STEP_MM)[..., None] * heading[:, None]
  )
  volume = np.pi * radius**2 * vessels.STEP_MM / discs / np.prod(spacing_mm)
  volume = jnp.repeat(volume, discs)
  index = (cloud.reshape(-1, 3) - corner_mm) / np.array(spacing_mm, np.float32)
  return _scatter(index, volume, shape, nearest=discs > 32)


def _scatter(index, volume, shape, *, nearest):
  """Adds `volume` [P] at fractional `index` [P, 3] to zeros of `shape`."""
  low = jnp.floor(index + (0.5 if nearest else 0.0)).astype(jnp.int32)
  inside = ((low >= 0) & (low < np.array(shape) - 1)).all(-1)
  flat = (low[:, 0] * shape[1] + low[:, 1]) * shape[2] + low[:, 2]
  volume = jnp.where(inside, volume, 0.0)
  if nearest:
    places, shares = [flat], [volume]
  else:
    part = index - low
    steps = np.array(list(np.ndindex(2, 2, 2)))
    strides = steps @ np.array([shape[1] * shape[2], shape[2], 1])
    x, y, z = (jnp.stack([1 - p, p]) for p in part.T)
    places = [flat + stride for stride in strides]
    shares = [volume * x[a] * y[b] * z[c] for a, b, c in steps]
  where, share = jax.lax.optimization_barrier(
    (jnp.concatenate(places), jnp.concatenate(shares))
  )
  where = jnp.clip(where, 0, int(np.prod(shape)) - 1)
  return jnp.zeros(int(np.prod(shape))).at[where].add(share).reshape(shape)


def linear_matrix(positions, size):
  """Linear interpolation [len(positions), size] from nodes 0, 1, 2, ..."""
  far = jnp.abs(positions[:, None] - np.arange(size, dtype=np.float32))
  return jnp.maximum(1 - far, 0)


def along_axes(matrices, image):
  """Applies a matrix [out, in] to each of X, Y, Z; None: leave it.

  Args:
    image: [X, Y, Z, ...], complex without further axes.
  """
  if jnp.iscomplexobj(image) and not any(map(np.iscomplexobj, matrices)):
    parts = jnp.stack([image.real, image.imag], -1)
    parts = along_axes(matrices, parts)
    return jax.lax.complex(parts[..., 0], parts[..., 1])
  for axis, matrix in enumerate(matrices):
    if matrix is not None:
      image = jnp.moveaxis(
        jnp.tensordot(matrix, image, axes=(1, axis), precision=_EXACT), 0, axis
      )
  return image


def noise_size(size, spacing_mm) -> int:
  """How many values on a 2 mm grid cover `size` nodes."""
  return int(np.ceil(size * spacing_mm / 2)) + 2


def noise_matrix(size, spacing_mm, sigma_mm) -> np.ndarray:
  """[size, K]: K white values on a 2 mm grid to smooth noise of variance 1."""
  count = noise_size(size, spacing_mm)
  smooth = ndimage.gaussian_filter1d(
    np.eye(count), sigma_mm / 2, axis=0, mode='wrap'
  )
  smooth /= np.sqrt((smooth**2).sum(1, keepdims=True))
  refine = anatomy.cubic_matrix(size, count, step=spacing_mm / 2)
  return (refine @ smooth).astype(np.float32)


def crop_matrix(have, want) -> np.ndarray | None:
  """`physics.crop_kspace` along one axis as complex64 [want, have]."""
  if have == want:
    return None
  image = np.eye(have, dtype=np.complex64)[:, :, None]
  return physics.crop_kspace(image, (want, have, 1))[:, :, 0]


def lowpass_matrix(size, spacing_mm, sigma_mm) -> np.ndarray:
  """Low-pass of the homodyne filter along one axis, float32 [size, size].

  A Hann window in k-space, edges mirrored; see imaging.phase.
  """
  pad = round(3 * sigma_mm / spacing_mm)
  padded = np.pad(np.eye(size), ((pad, pad), (0, 0)), mode='symmetric')
  frequency = abs(np.fft.fftfreq(len(padded), spacing_mm))
  window = 0.5 + 0.5 * np.cos(
    np.pi * np.minimum(frequency * sigma_mm / _HANN_EDGE, 1)
  )
  low = np.fft.ifft(np.fft.fft(padded, axis=0) * window[:, None], axis=0)
  return low.real[pad : pad + size].astype(np.float32)


def echo_swi(magnitude, phase_hp, *, echo_time_s, num_echoes):
  """SWI of one echo, as `scan.echo_swi`."""
  threshold = np.pi
  if num_echoes > 1:
    threshold *= min(1.0, echo_time_s / 0.016)
  return magnitude * jnp.clip(1 + phase_hp / threshold, 0, 1) ** 4


def grow(dark, seed, *, steps):
  """Voxels of `dark` [X, Y, Z] connected with `seed` (26 neighbours)."""

  def spread(_, region):
    for axis in range(3):
      wide = jnp.pad(
        region, [(1, 1) if a == axis else (0, 0) for a in range(3)]
      )
      size = region.shape[axis]
      parts = (
        jax.lax.slice_in_dim(wide, s, s + size, axis=axis) for s in range(3)
      )
      first, second, third = parts
      region = first | second | third
    return region & dark

  return jax.lax.fori_loop(0, steps, spread, seed & dark)
