"""One small box of a person's head with one object: library to SWI.

Rule: pure functions of JAX keys, with static shapes; every step has the
parameters of its namesake for whole scans.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmbjax.simulate import anatomy, lesions, patch_library, physics, tissue
from cmbjax.simulate import local_physics as local
from cmbjax.simulate.patch_library import KINDS
from cmbjax.simulate.protocols import Protocol

PATCH = (24, 24, 12)  # X Y Z, acquired voxels
_SPHERES = 5
_ARTERY_STEPS = 128
_THICK_MM = 0.6  # radius from which a tube is filled with more points


class Box(NamedTuple):
  """Static sizes of the box of one protocol."""

  shape: tuple[int, int, int]  # acquired
  ratio: tuple[int, int, int]  # fine nodes per acquired voxel
  half: tuple[int, int, int]  # template nodes on either side
  thin: int  # steps of thin veins that fit
  thick: int

  @property
  def fine(self) -> tuple[int, int, int]:
    return tuple(n * r for n, r in zip(self.shape, self.ratio))


@functools.lru_cache
def box_of(protocol: Protocol) -> Box:
  """Patch, filter margin and room to centre the patch on its object."""
  voxel, fine = protocol.voxel_mm, protocol.fine_mm
  shape = []
  for size, side in zip(PATCH[:2], voxel):
    margin = int(np.ceil(2.2 * protocol.homodyne_sigma_mm / side)) + 2
    shape.append(4 * int(np.ceil((size / 2 + margin) / 2)))
  shape.append(PATCH[2] + 4)
  ratio = tuple(round(a / b) for a, b in zip(voxel, fine))
  half = tuple(int(np.ceil(0.56 * n * v)) + 2 for n, v in zip(shape, voxel))
  volume = np.prod(np.array(shape) * voxel)
  return Box(tuple(shape), ratio, half, int(64 + volume / 16),
             int(64 + volume / 80))  # fmt: skip


def draw_subject(key, protocol) -> dict:
  """What the patches of a group share, as drawn for a whole scan."""
  keys = iter(jax.random.split(key, 20))

  def uniform(low, high, shape=()):
    return jax.random.uniform(next(keys), shape, minval=low, maxval=high)

  tilt = jnp.deg2rad(
    jax.random.normal(next(keys), (2,)) * jnp.array([6, 3])
    + jnp.array([-8.0, 0.0])
  )
  (sx, sy), (cx, cy) = jnp.sin(tilt), jnp.cos(tilt)
  shifts = jax.random.normal(next(keys), (3, 2)) * 0.25
  moved = (uniform(0, 1) < 0.4) * uniform(1, 4)
  return {
    'key': next(keys),
    'b0': jnp.array([-sy, cy * sx, cy * cx]),
    'scale': uniform(0.93, 1.03) * uniform(0.97, 1.03, (3,)),
    't1': uniform(0.93, 1.07, (3,)),
    'r2s': uniform(0.9, 1.1, (3,)),
    'chi': uniform(0.8, 1.2, (3,)),
    'iron': uniform(0.5, 1.5),
    'vein_chi': 4 * np.pi * 0.27 * 0.40 * uniform(0.29, 0.40),
    'snr': uniform(*protocol.snr),
    'bias': uniform(-1, 1, (9,)) * protocol.bias,
    'starts': uniform(0.05, 0.95, (3,)) - 0.5,
    'shifts': shifts * (jnp.arange(3) < jnp.floor(moved))[:, None],
  }


def bias_field(subject, place_mm, protocol):
  """Receive field [...] at MNI places [..., 3]; see `scan._receive`."""
  middle = anatomy.CENTRE_MNI_MM
  half = np.array(protocol.field_of_view_mm) / 2
  x, y, z = jnp.moveaxis((place_mm - middle) / half, -1, 0)
  terms = (x, x * x, x * y, y, y * y, y * z, z, z * z, x * z)
  return jnp.exp(sum(w * t for w, t in zip(subject['bias'], terms)))


def make_box(protocol, library, subject, key, kind) -> dict:
  """Box of SWI round one object, and the noise-free change it makes."""
  box = box_of(protocol)
  keys = jax.random.split(key, 8)
  number = library.first[kind] + jnp.floor(
    jax.random.uniform(keys[0]) * library.count[kind]
  ).astype(jnp.int32)
  place_mm, network = library.sites_mm[number], library.network[number]
  sub, flip = jax.random.uniform(keys[1], (2, 3))
  flip = jnp.where((flip < 0.5) & np.array([True, False, False]), -1.0, 1.0)
  corner = -np.array(box.shape) // 2 * np.array(protocol.voxel_mm)
  corner = corner + (sub - 0.5) * np.array(protocol.voxel_mm)
  axes = [
    corner[a] + np.arange(n) * np.float32(s)
    for a, (n, s) in enumerate(zip(box.fine, protocol.fine_mm))
  ]
  grow = flip / subject['scale']  # MNI mm per mm of the box
  maps = _tissue(protocol, library, subject, keys[2], place_mm, grow, axes)
  steps = library.steps[network]
  veins, flow = _fill(keys[3], protocol, box, steps, place_mm, grow, corner)
  maps, veins, flow = jax.lax.optimization_barrier((maps, veins, flow))
  density, r2s, chi, brain = maps
  density, r2s = _blend(density, r2s, veins, flow, protocol)
  chi = chi * brain + veins * subject['vein_chi']
  field = local.field_ppm(chi, protocol.fine_mm, subject['b0'])
  field, spread = _add_slope(keys[4], field, axes)
  spheres, moment = _draw_object(keys[5], kind)
  centre = tuple(n // 2 * r for n, r in zip(box.shape, box.ratio))
  factors = local.deposit_factors(
    axes, protocol.fine_mm, spheres, subject['b0'], centre=centre,
    field_t=protocol.field_t, echo_times_s=protocol.echo_times_s,
  )  # fmt: skip
  signals = _signals(protocol, density * brain, r2s, field, spread)
  signals, factors = jax.lax.optimization_barrier((signals, factors))
  made = _acquire(protocol, subject, keys[6], signals, factors, place_mm)
  step = box.ratio
  return {
    **made, 'kind': jnp.asarray(kind, jnp.int32), 'moment': moment,
    'place_mm': place_mm,
    'brain': brain[:: step[0], :: step[1], :: step[2]],
  }  # fmt: skip


def _tissue(protocol, library, subject, key, place_mm, grow, axes):
  """Density, R2*, susceptibility (ppm) and brain (bool) of the fine box."""
  box = box_of(protocol)
  # Barriers, here and below: XLA would compute these anew for every use.
  shares, brain, iron = _shares(
    protocol, box, library, key, place_mm, grow, axes
  )
  noise = functools.partial(_noise, protocol, box)
  texture = 0.7 * (
    noise(jax.random.fold_in(key, 1), 2.0)
    + noise(jax.random.fold_in(key, 2), 6.0)
  )
  density, r2s, chi = 0.0, 0.0, iron * subject['iron']
  r2s = 45.7 * protocol.field_t * chi
  for n, name in enumerate(('grey', 'white', 'csf')):
    values = physics.TISSUES[protocol.field_t][name]
    light = local.steady_state(
      values.density, values.t1_s * subject['t1'][n],
      repetition_time_s=protocol.repetition_time_s, flip_deg=protocol.flip_deg,
    )  # fmt: skip
    density += shares[n] * light
    r2s += shares[n] * (values.r2s * subject['r2s'][n]) * (1 + 0.05 * texture)
    chi += shares[n] * (tissue._CHI[name] * subject['chi'][n])
  return density * (1 + 0.04 * texture), r2s, chi, brain


def _shares(protocol, box, library, key, place_mm, grow, axes):
  """Crisp grey, white, CSF shares; brain; iron in ppm. See `tissue`."""
  index = place_mm - library.origin_mm
  start = jnp.floor(index).astype(jnp.int32) - jnp.array(box.half)
  size = [2 * h + 2 for h in box.half]
  block = jax.lax.dynamic_slice(
    library.tissue, (*start, 0), (*size, library.tissue.shape[-1])
  )
  at = [index[a] - start[a] + grow[a] * axes[a] for a in range(3)]
  values = local.resample_linear(block.astype(jnp.float32) / 255, at)
  grey, white, soft, iron = jnp.moveaxis(values, -1, 0)
  csf = jnp.clip(soft - grey - white, 0, 1)
  wobble = 0.10 * sum(
    _noise(protocol, box, jax.random.fold_in(key, n), sigma)
    for n, sigma in ((3, 1.3), (4, 2.6))
  )
  shares = []
  for image, sign, weight in (
    (grey, 0.0, 1.0), (white, 1.0, 1.0), (csf, 0.8, 1.35)
  ):  # fmt: skip
    image = weight * (image + jnp.where(image > 0.05, sign * wobble, 0))
    image = jnp.clip(image, 0.003, 1)
    shares.append(image * image * jnp.sqrt(image))  # to the power 2.5
  total = sum(shares)
  iron = iron * patch_library.IRON_TOP_PPM
  return [share / total for share in shares], soft > 0.5, iron


def _noise(protocol, box, key, sigma_mm):
  """Smooth noise of variance 1 on the fine box."""
  matrices = [
    local.noise_matrix(n, s, sigma_mm)
    for n, s in zip(box.fine, protocol.fine_mm)
  ]
  white = jax.random.normal(key, [m.shape[1] for m in matrices])
  return local.along_axes(matrices, white)


def _fill(key, protocol, box, steps, place_mm, grow, corner):
  """Shares of veins and of arteries on the fine box."""
  points = (steps[:, :3] - place_mm) / grow
  size = np.array(box.fine) * np.array(protocol.fine_mm)
  inside = ((points > corner - 2) & (points < corner + size + 2)).all(-1)
  inside &= steps[:, 6] > 0
  artery, thick = steps[:, 7] > 0, steps[:, 6] >= _THICK_MM

  def fill(number, chosen, limit, discs):
    (index,) = jnp.nonzero(
      inside & chosen, size=limit, fill_value=len(steps) - 1
    )
    heading = steps[index, 3:6] / grow
    heading /= jnp.maximum(
      jnp.linalg.norm(heading, axis=-1, keepdims=True), 1e-6
    )
    return local.fill_tubes(
      jax.random.fold_in(key, number), points[index], heading, steps[index, 6],
      corner, protocol.fine_mm, shape=box.fine, discs=discs,
    )  # fmt: skip

  veins = fill(0, ~artery & ~thick, box.thin, 12)
  veins += fill(1, ~artery & thick, box.thick, 64)
  flow = fill(2, artery, _ARTERY_STEPS, 64)
  return jnp.minimum(veins, 1), jnp.minimum(flow, 1)


def _blend(density, r2s, veins, flow, protocol):
  """Blood into tissue; see `tissue._blend_vessels`."""
  vein = physics.TISSUES[protocol.field_t]['vein']
  light = tissue._steady(vein, protocol)
  density = density + veins * (light - density)
  r2s = r2s + veins * (vein.r2s - r2s)
  density = density * (1 + 0.8 * flow)
  return density, r2s + flow * (220.0 - r2s)


def _add_slope(key, field, axes):
  """What the shim leaves of air and bone: a slope, steep in few places."""
  keys = jax.random.split(key)
  scale = 0.003 * jnp.exp(0.9 * jax.random.normal(keys[0]))  # ppm per mm
  slope = scale * jax.random.normal(keys[1], (3,))
  x, y, z = jnp.meshgrid(*axes, indexing='ij', sparse=True)
  field = field + slope[0] * x + slope[1] * y + slope[2] * z
  return field, slope[2] * (axes[2][1] - axes[2][0])


def _draw_object(key, kind):
  """Spheres of a microbleed or a calcification at 0, else none; its moment."""
  keys = jax.random.split(key)
  bleed, stone = _draw_microbleed(keys[0]), _draw_calcification(keys[1])
  is_bleed = kind == KINDS.index('microbleed')
  is_stone = kind == KINDS.index('calcification')
  spheres = jax.tree.map(
    lambda a, b: jnp.where(is_bleed, a, jnp.where(is_stone, b, 0.0)),
    bleed, stone,
  )  # fmt: skip
  volume = 4 / 3 * np.pi * spheres.radius_mm**3
  return spheres, (volume * spheres.chi_ppm).sum()


def _draw_microbleed(key) -> local.Spheres:
  """As `lesions.draw_microbleed`, with JAX's generator."""
  keys = jax.random.split(key, 9)
  spread = lesions.MOMENT_SPREAD * jax.random.t(keys[0], lesions.MOMENT_FREEDOM)
  moment = lesions.MOMENT_MEDIAN * jnp.exp(spread)
  moment = jnp.clip(moment, *lesions.MOMENT_RANGE)
  chi = jnp.clip(jnp.exp(0.4 * jax.random.normal(keys[1])), 0.3, 3.0)
  radius = (3 * moment / (4 * np.pi * chi)) ** (1 / 3)
  row = jnp.arange(_SPHERES)
  count = jax.random.randint(keys[2], (), 2, 5)
  weight = jax.random.gamma(keys[3], 3.0, (_SPHERES,)) * (row < count)
  offsets = jax.random.normal(keys[4], (_SPHERES, 3))
  reach = 0.7 * radius * jax.random.uniform(keys[5], (_SPHERES, 1)) ** (1 / 3)
  offsets *= reach / jnp.linalg.norm(offsets, axis=-1, keepdims=True)
  length = jnp.clip(1.6 + 0.35 * jax.random.normal(keys[6]), 1, 2.5)
  axis = jax.random.normal(keys[7], (3,))
  axis *= radius * (1 / 3) ** (1 / 3) * (length - 1) / jnp.linalg.norm(axis)
  long = jnp.outer(jnp.array([-1.0, 0, 1, 0, 0]), axis)
  odd = jax.random.uniform(keys[8]) < 0.25
  share = jnp.where(odd, weight / weight.sum(), jnp.where(row < 3, 1 / 3, 0))
  return local.Spheres(
    jnp.where(odd, offsets, long), radius * share ** (1 / 3),
    jnp.where(share > 0, chi, 0.0), jnp.float32(1),
  )  # fmt: skip


def _draw_calcification(key) -> local.Spheres:
  """As `lesions.draw_calcification`."""
  keys = jax.random.split(key, 6)
  radius = jax.random.uniform(keys[0], minval=0.5, maxval=1.6)
  count = jax.random.randint(keys[1], (), 2, 6)
  row = jnp.arange(_SPHERES)
  radii = jax.random.uniform(keys[2], (_SPHERES,), minval=0.6, maxval=1.0)
  radii *= radius * count ** (-1 / 4) * (row < count)
  chi = -jnp.exp(
    jax.random.uniform(keys[3], minval=np.log(0.25), maxval=np.log(1.6))
  )
  return local.Spheres(
    0.5 * radius * jax.random.normal(keys[4], (_SPHERES, 3)), radii,
    jnp.where(row < count, chi, 0.0),
    jax.random.uniform(keys[5], minval=0.2, maxval=0.6),
  )  # fmt: skip


def _signals(protocol, density, r2s, field, spread):
  """Noise-free signal [X, Y, Z] of the fine box, one per echo."""
  out = []
  for time in protocol.echo_times_s:
    rate = physics.phase_per_ppm(protocol.field_t, time)
    size = density * jnp.exp(-time * r2s)
    size *= jnp.sinc(spread * (rate / (2 * np.pi)))
    angle = rate * field
    out.append(jax.lax.complex(size * jnp.cos(angle), size * jnp.sin(angle)))
  return out


def _acquire(protocol, subject, key, signals, factors, place_mm):
  """SWI and first magnitude of the box, and SWI without noise."""
  box = box_of(protocol)
  crops = [local.crop_matrix(a, b) for a, b in zip(box.fine, box.shape)]
  bias = bias_field(subject, place_mm, protocol)
  total, without, with_, magnitude = 0.0, 0.0, 0.0, None
  for echo, (signal, factor) in enumerate(zip(signals, factors)):
    used = echo in protocol.swi_echoes
    if not used and echo:
      continue
    clean = local.along_axes(crops, signal * factor)
    noise = jax.random.normal(jax.random.fold_in(key, echo), (*clean.shape, 2))
    noise = jax.lax.complex(noise[..., 0], noise[..., 1]) * subject['sigma']
    noisy = _encode(protocol, subject, clean * bias + noise)
    magnitude = abs(noisy) if magnitude is None else magnitude
    if used:
      plain = local.along_axes(crops, signal)
      total += _swi(protocol, echo, noisy)
      without += _swi(protocol, echo, plain)
      with_ += _swi(protocol, echo, clean)
  count = len(protocol.swi_echoes)
  return {
    'swi': total / count / subject['level'], 'magnitude': magnitude,
    'without': without / count, 'with_': with_ / count,
  }  # fmt: skip


def _encode(protocol, subject, signal):
  """K-space steps between lines and the part not acquired; `scan._encode`."""
  kx, ky = (np.fft.fftfreq(n).astype(np.float32) for n in signal.shape[:2])
  weight = jnp.ones(signal.shape[:2], jnp.complex64)
  for start, shift in zip(subject['starts'], subject['shifts']):
    x, y = shift[0] / protocol.voxel_mm[0], shift[1] / protocol.voxel_mm[1]
    angle = -2 * np.pi * (x * kx[:, None] + y * ky)
    ramp = jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
    weight *= jnp.where((kx >= start)[:, None], ramp, 1)
  for axis, share in enumerate(protocol.resolution):
    edge = np.clip((share - 2 * abs((kx, ky)[axis])) / 0.04 + 0.5, 0, 1)
    weight *= edge[:, None] if axis == 0 else edge
  spectrum = jnp.fft.fft2(signal, axes=(0, 1)) * weight[..., None]
  return jnp.fft.ifft2(spectrum, axes=(0, 1))


def _swi(protocol, echo, signal):
  matrices = [
    local.lowpass_matrix(n, v, protocol.homodyne_sigma_mm)
    for n, v in zip(signal.shape[:2], protocol.voxel_mm)
  ]
  low = local.along_axes([*matrices, None], signal)
  return local.echo_swi(
    abs(signal), jnp.angle(signal * low.conj()),
    echo_time_s=protocol.echo_times_s[echo],
    num_echoes=len(protocol.echo_times_s),
  )  # fmt: skip
