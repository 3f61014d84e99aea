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
DEPOSITS = ('microbleed', 'calcification')
# How often each of KINDS is tried, among those with a deposit and those
# without. What a detector would not propose is dropped, so the shares among
# patches are others, near those of whole scans.
_TRIED = (0.85, 0.20, 0.10, 0.40, 0.15, 0.08, 0.05, 0.17)
_SPHERES = 5  # the most that a deposit has
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
  return Box(tuple(shape), ratio, half, int(64 + volume / 22),
             int(64 + volume / 80))  # fmt: skip


def draw_subject(rng, protocol) -> dict:
  """What all patches of one person share, as drawn for a whole scan."""
  tilt = np.deg2rad([rng.normal(-8, 6), rng.normal(0, 3)])
  (sx, sy), (cx, cy) = np.sin(tilt), np.cos(tilt)
  moves = rng.integers(1, 4) if rng.random() < 0.4 else 0
  subject = {
    'b0': [-sy, cy * sx, cy * cx],
    'scale': rng.uniform(0.93, 1.03) * rng.uniform(0.97, 1.03, 3),
    't1': rng.uniform(0.93, 1.07, 3),
    'r2s': rng.uniform(0.9, 1.1, 3),
    'chi': rng.uniform(0.8, 1.2, 3),
    'iron': rng.uniform(0.5, 1.5),
    'vein_chi': 4 * np.pi * 0.27 * 0.40 * rng.uniform(0.29, 0.40),
    'snr': rng.uniform(*protocol.snr),
    'bias': rng.uniform(-1, 1, 9) * protocol.bias,
    'starts': rng.uniform(0.05, 0.95, 3) - 0.5,
    'shifts': rng.normal(0, 0.25, (3, 2)) * (np.arange(3) < moves)[:, None],
  }
  return {k: np.asarray(v, np.float32) for k, v in subject.items()}


class Trial(NamedTuple):
  """What the host draws of one box; stacked, it is a batch."""

  kind: np.ndarray  # int32, index of KINDS
  place_mm: np.ndarray  # [3] float32, MNI
  block: np.ndarray  # [X, Y, Z, 4] uint8 of the templates
  thin: np.ndarray  # [S, 7] steps of veins: place in mm, heading, radius
  thick: np.ndarray
  arteries: np.ndarray
  corner_mm: np.ndarray  # [3] of node 0; the object is at 0
  slope: np.ndarray  # [3] ppm per mm, what the shim leaves
  spheres: np.ndarray  # [5, 5] place, radius, susceptibility
  density: np.ndarray  # of the spheres
  noise: np.ndarray  # [2] uint32, key


def draw_trial(rng, protocol, library, subject, *, deposit: bool) -> Trial:
  """Chooses a kind, a place and an object."""
  box, voxel = box_of(protocol), np.array(protocol.voxel_mm)
  chance = np.where(np.isin(KINDS, DEPOSITS) == deposit, _TRIED, 0)
  kind = int(rng.choice(len(KINDS), p=chance / chance.sum()))
  site = library.first[kind] + rng.integers(library.count[kind])
  place, network = library.sites_mm[site], library.network[site]
  flip = np.array([rng.choice([-1, 1]), 1, 1])
  # The object lies at 0, anywhere within the voxel in the middle.
  corner = voxel * (rng.uniform(-0.5, 0.5, 3) - np.array(box.shape) // 2)
  steps = _steps(library.steps[network], place, flip / subject['scale'],
                 corner, voxel * box.shape)  # fmt: skip
  artery, wide = steps[:, 7] > 0, steps[:, 6] >= _THICK_MM
  # The templates are taken at the node nearest the place, so that one person
  # has one interpolation; 0.5 mm is less than their own blur.
  index = np.rint(place - library.origin_mm).astype(int)
  block = library.tissue[
    tuple(slice(i - h, i + h + 1) for i, h in zip(index, box.half))
  ]
  spheres, density = _draw_object(rng, KINDS[kind])
  steep = 0.003 * np.exp(0.9 * rng.standard_normal())
  return Trial(
    np.int32(kind), place, block[:: flip[0]],
    _padded(steps[~artery & ~wide], box.thin),
    _padded(steps[~artery & wide], box.thick),
    _padded(steps[artery], _ARTERY_STEPS),
    corner.astype(np.float32),
    (steep * rng.standard_normal(3)).astype(np.float32), spheres, density,
    rng.integers(2**32, size=2, dtype=np.uint32),
  )  # fmt: skip


def _steps(steps, place_mm, grow, corner, size_mm):
  """Steps of vessels within 2 mm of the box, in its mm."""
  points = (steps[:, :3] - place_mm) / grow
  inside = ((points > corner - 2) & (points < corner + size_mm + 2)).all(1)
  found = steps[inside]
  heading = found[:, 3:6] / grow
  heading /= np.maximum(np.linalg.norm(heading, axis=1, keepdims=True), 1e-6)
  return np.concatenate([points[inside], heading, found[:, 6:]], 1)


def _padded(steps, limit):
  """[limit, 7]; rows without a step have radius 0."""
  out = np.zeros((limit, 7), np.float32)
  out[: len(steps)] = steps[:limit, :7]
  return out


def _draw_object(rng, kind):
  """Spheres [5, 5] of what lies at 0, and the signal left inside."""
  out = np.zeros((_SPHERES, 5), np.float32)
  if kind not in DEPOSITS:
    return out, np.float32(1)
  draw = {
    'microbleed': lesions.draw_microbleed,
    'calcification': lesions.draw_calcification,
  }[kind]
  deposit = draw(rng, np.zeros(3))
  out[: len(deposit.spheres), :4] = deposit.spheres
  out[: len(deposit.spheres), 4] = deposit.chi_ppm
  return out, np.float32(deposit.density)


def bias_field(subject, place_mm, protocol):
  """Receive field [...] at MNI places [..., 3]; see `scan._receive`."""
  middle = anatomy.CENTRE_MNI_MM
  half = np.array(protocol.field_of_view_mm) / 2
  x, y, z = jnp.moveaxis((place_mm - middle) / half, -1, 0)
  terms = (x, x * x, x * y, y, y * y, y * z, z, z * z, x * z)
  return jnp.exp(sum(w * t for w, t in zip(subject['bias'], terms)))


def render(protocol, subject, trial: Trial) -> dict:
  """Noise-free signal of a box without its deposit."""
  box = box_of(protocol)
  sizes = [local.noise_size(n, s) for n, s in zip(box.fine, protocol.fine_mm)]
  white = jax.random.normal(jax.random.wrap_key_data(trial.noise), (4, *sizes))
  maps = _tissue(protocol, subject, white, trial.block)
  veins, flow = _fill(protocol, box, trial)
  # Barriers: XLA would compute these anew for every use.
  maps, veins, flow = jax.lax.optimization_barrier((maps, veins, flow))
  density, r2s, chi, brain = maps
  density, r2s = _blend(density, r2s, veins, flow, protocol)
  chi = chi * brain + veins * subject['vein_chi']
  field = local.field_ppm(chi, protocol.fine_mm, subject['b0'])
  field, spread = _add_slope(trial.slope, field, protocol)
  signals = _signals(protocol, density * brain, r2s, field, spread)
  x, y, z = box.ratio
  return {
    'signals': jax.lax.optimization_barrier(signals),
    'brain': brain[::x, ::y, ::z],
  }


def acquire(protocol, subject, trial, drawn, *, deposit: bool) -> dict:
  """SWI and first magnitude of a drawn box, with its deposit or without one.

  `without` and `with_` are SWI without noise; 0 where there is no deposit.
  """
  box = box_of(protocol)
  crops = [local.crop_matrix(a, b) for a, b in zip(box.fine, box.shape)]
  bias = bias_field(subject, trial.place_mm, protocol)
  factors = [1.0] * len(drawn['signals'])
  if deposit:
    factors = _factors(protocol, subject, trial)
  without = with_ = jnp.zeros(box.shape)
  key = jax.random.wrap_key_data(trial.noise)
  total, magnitude = 0.0, None
  for echo, (signal, factor) in enumerate(zip(drawn['signals'], factors)):
    used = echo in protocol.swi_echoes
    if not used and echo:
      continue
    clean = local.along_axes(crops, signal * factor)
    noise = jax.random.normal(jax.random.fold_in(key, echo), (2, *clean.shape))
    noise = jax.lax.complex(*noise) * subject['sigma']
    noisy = _encode(protocol, subject, clean * bias + noise)
    magnitude = abs(noisy) if magnitude is None else magnitude
    if used:
      total += _swi(protocol, echo, noisy)
    if used and deposit:
      without += _swi(protocol, echo, local.along_axes(crops, signal))
      with_ += _swi(protocol, echo, clean)
  return {
    'swi': total / len(protocol.swi_echoes) / subject['level'],
    'magnitude': magnitude, 'without': without, 'with_': with_,
  }  # fmt: skip


def _factors(protocol, subject, trial):
  """What the deposit does to each signal."""
  box = box_of(protocol)
  axes = [
    trial.corner_mm[a] + np.arange(n) * np.float32(s)
    for a, (n, s) in enumerate(zip(box.fine, protocol.fine_mm))
  ]
  spheres = local.Spheres(
    trial.spheres[:, :3], trial.spheres[:, 3], trial.spheres[:, 4],
    trial.density,
  )  # fmt: skip
  factors = local.deposit_factors(
    axes, protocol.fine_mm, spheres, subject['b0'],
    centre=tuple(n // 2 * r for n, r in zip(box.shape, box.ratio)),
    field_t=protocol.field_t, echo_times_s=protocol.echo_times_s,
  )  # fmt: skip
  return jax.lax.optimization_barrier(factors)


def _tissue(protocol, subject, white, block):
  """Density, R2*, susceptibility (ppm) and brain (bool) of the fine box."""
  box = box_of(protocol)

  def noise(number, sigma_mm):
    matrices = [
      local.noise_matrix(n, s, sigma_mm)
      for n, s in zip(box.fine, protocol.fine_mm)
    ]
    return local.along_axes(matrices, white[number])

  wobble = 0.10 * (noise(0, 1.3) + noise(1, 2.6))
  texture = 0.7 * (noise(2, 2.0) + noise(3, 6.0))
  shares, brain, iron = _shares(protocol, box, subject, wobble, block)
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
  return density * (1 + 0.02 * texture), r2s, chi, brain


def _shares(protocol, box, subject, wobble, block):
  """Crisp grey, white, CSF shares; brain; iron in ppm. See `tissue`."""
  matrices = []
  for axis, (n, step) in enumerate(zip(box.fine, protocol.fine_mm)):
    at = (np.arange(n, dtype=np.float32) - n // 2) * step
    at = box.half[axis] + at / subject['scale'][axis]
    matrices.append(local.linear_matrix(at, block.shape[axis]))
  values = local.along_axes(matrices, block.astype(jnp.float32) / 255)
  grey, white, soft, iron = jnp.moveaxis(values, -1, 0)
  csf = jnp.clip(soft - grey - white, 0, 1)
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


def _fill(protocol, box, trial):
  """Shares of veins and of arteries on the fine box."""

  def fill(steps, discs):
    return local.fill_tubes(
      steps[:, :3], steps[:, 3:6], steps[:, 6], trial.corner_mm,
      protocol.fine_mm, shape=box.fine, discs=discs,
    )  # fmt: skip

  veins = fill(trial.thin, 8) + fill(trial.thick, 48)
  return jnp.minimum(veins, 1), jnp.minimum(fill(trial.arteries, 48), 1)


def _blend(density, r2s, veins, flow, protocol):
  """Blood into tissue; see `tissue._blend_vessels`."""
  vein = physics.TISSUES[protocol.field_t]['vein']
  light = tissue._steady(vein, protocol)
  density = density + veins * (light - density)
  r2s = r2s + veins * (vein.r2s - r2s)
  density = density * (1 + 0.8 * flow)
  return density, r2s + flow * (220.0 - r2s)


def _add_slope(slope, field, protocol):
  """What the shim leaves of air and bone."""
  x, y, z = np.meshgrid(
    *(np.arange(n) * s for n, s in zip(field.shape, protocol.fine_mm)),
    indexing='ij', sparse=True,
  )  # fmt: skip
  field = field + slope[0] * x + slope[1] * y + slope[2] * z
  return field, slope[2] * protocol.fine_mm[2]


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
