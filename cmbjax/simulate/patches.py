"""Labelled patches straight from physics, thousands a minute, without scans.

Each is the centre of a small box: anatomy and vessels cut from the library,
one object, the field, the signal, k-space and SWI as for a whole scan. Rule:
patch n depends on the protocol, the seed and n alone; patches come in groups
of `GROUP` that share one person.
"""

import functools
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmbjax.errors import InputError
from cmbjax.simulate import local_physics as local
from cmbjax.simulate import patch_library
from cmbjax.simulate import patch_scene as scene
from cmbjax.simulate.patch_library import KINDS
from cmbjax.simulate.protocols import Protocol

VERSION = 2  # of the drawing; part of every fingerprint
GROUP = 100  # patches of one person
CENTRE = tuple(size // 2 for size in scene.PATCH)  # of the dark spot

_WITH_DEPOSIT = (True, False, False, False)  # chunks of trials, in turn
_CHUNK = 16  # trials computed together; part of what a patch is
_MIDDLES = ('magnitude', 'swi', 'brain')  # for `_reference`
_POOL = 96  # boxes that say what intensity becomes 1


class Patches(NamedTuple):
  """N simulated patches of one protocol."""

  image: np.ndarray  # [N, 24, 24, 12] float32 0..1, as cut from a scan
  label: np.ndarray  # [N] int8, 1 = microbleed
  kind: np.ndarray  # [N] str, one of KINDS
  moment: np.ndarray  # [N] float32 ppm mm3 of the deposit, 0 without
  diameter_mm: np.ndarray  # [N] float32 of a microbleed's label, 0 for a mimic
  contrast: np.ndarray  # [N] float32, noise-free, of a microbleed, else 0
  place_mm: np.ndarray  # [N, 3] float32, MNI
  group: np.ndarray  # [N] int32, the person


def make_patches(
  protocol: Protocol, *, count: int, seed: int, first: int = 0
) -> Patches:
  """Simulates patches `first` .. `first + count - 1`.

  Args:
    protocol: of the scan that they could be from.
    count: how many; 1 or more.
    seed: 0 or more; others give other people.
    first: number of the first one.

  Raises:
    InputError: a number out of range.
  """
  for name, value, least in (
    ('count', count, 1), ('seed', seed, 0), ('first', first, 0),
  ):  # fmt: skip
    if value < least:
      raise InputError(f'{name}: found {value}, must be {least} or more.')
  last = first + count
  groups = [
    make_group(protocol, number, seed=seed)
    for number in range(first // GROUP, (last - 1) // GROUP + 1)
  ]
  whole = Patches(*(np.concatenate(parts) for parts in zip(*groups)))
  start = first - first // GROUP * GROUP
  return Patches(*(column[start : start + count] for column in whole))


def make_group(protocol: Protocol, number: int, *, seed: int) -> Patches:
  """The `GROUP` patches of person `number`: trials until enough are kept."""
  subject = scene.draw_subject(_rng(protocol, seed, number, 0), protocol)
  subject = _with_level(subject, protocol, _reference(protocol))
  library = patch_library.load()
  kept, chunk = [], 0
  while sum(len(part['kind']) for part in kept) < GROUP:
    rngs = [
      _rng(protocol, seed, number, 1 + chunk * _CHUNK + n)
      for n in range(_CHUNK)
    ]
    deposit = _WITH_DEPOSIT[chunk % len(_WITH_DEPOSIT)]
    trials = _stack(
      scene.draw_trial(rng, protocol, library, subject, deposit=deposit)
      for rng in rngs
    )
    made = _run(protocol, subject, trials, deposit)
    made = jax.device_get({k: v for k, v in made.items() if k not in _MIDDLES})
    keep = made.pop('keep')
    made |= {'kind': trials.kind, 'place_mm': trials.place_mm}
    made['moment'] = _moments(trials.spheres)
    kept.append({name: column[keep] for name, column in made.items()})
    chunk += 1
  rows = {k: np.concatenate([p[k] for p in kept])[:GROUP] for k in kept[0]}
  label = (rows['kind'] == 0).astype(np.int8)
  return Patches(
    # A scan is stored in 8 bits.
    image=rows['image'].astype(np.float32) / np.float32(255),
    label=label,
    kind=np.array(KINDS)[rows['kind']],
    moment=rows['moment'],
    diameter_mm=rows['diameter_mm'] * label,
    contrast=rows['contrast'] * label,
    place_mm=rows['place_mm'],
    group=np.full(GROUP, number, np.int32),
  )


def _rng(protocol, seed, group, trial):
  name = zlib.crc32(protocol.name.encode())
  return np.random.default_rng([seed, name, group, trial])


def _stack(trials) -> scene.Trial:
  return scene.Trial(*(np.stack(column) for column in zip(*trials)))


def _moments(spheres) -> np.ndarray:
  """[N] ppm mm3 of spheres [N, 5, 5]."""
  volume = 4 / 3 * np.pi * spheres[..., 3] ** 3
  return (volume * spheres[..., 4]).sum(-1).astype(np.float32)


def _with_level(subject, protocol, reference):
  """Adds the noise, and the intensity that becomes 1, of this person."""
  place_mm, magnitude, swi = reference
  bias = scene.bias_field(subject, place_mm, protocol)
  sigma = np.median(magnitude * bias) / subject['snr']
  level = np.percentile(swi * bias, 99.5)
  return {
    **subject, 'sigma': np.float32(sigma), 'level': np.float32(level)
  }  # fmt: skip


@functools.lru_cache
def _reference(protocol: Protocol):
  """Places, magnitudes (first echo) and SWI of brain voxels of some people."""
  library, found = patch_library.load(), []
  for number in range(_POOL // _CHUNK):
    # No seed of a person has four numbers.
    rng = np.random.default_rng([0, zlib.crc32(protocol.name.encode()), number])
    subject = scene.draw_subject(rng, protocol)
    sigma = 0.0  # noise makes the brightest voxels brighter
    if found:
      sigma = np.median(np.concatenate([f[1] for f in found])) / subject['snr']
    subject |= {
      'sigma': np.float32(sigma), 'level': np.float32(1),
      'bias': np.zeros(9, np.float32),
    }  # fmt: skip
    trials = _stack(
      scene.draw_trial(rng, protocol, library, subject, deposit=False)
      for _ in range(_CHUNK)
    )
    made = jax.device_get(_run(protocol, subject, trials, False))
    magnitude, swi, brain = (made[name] for name in _MIDDLES)
    where = np.broadcast_to(
      trials.place_mm[:, None, None, None], (*brain.shape, 3)
    )
    found.append((where[brain], magnitude[brain], swi[brain]))
  place, magnitude, swi = (np.concatenate(part) for part in zip(*found))
  some = np.random.default_rng(0).permutation(len(swi))[:8192]
  return place[some], magnitude[some], swi[some]


@functools.partial(jax.jit, static_argnums=(0, 3))
def _run(protocol, subject, trials, deposit):
  """Patches of `_CHUNK` trials, and which of them a detector would propose."""

  def one(trial):
    drawn = scene.render(protocol, subject, trial)
    made = scene.acquire(protocol, subject, trial, drawn, deposit=deposit)
    made['brain'] = drawn['brain']
    middle = tuple(slice(n // 4, -(n // 4)) for n in made['swi'].shape)
    return {
      **_cut(protocol, trial, made),
      **{name: made[name][middle] for name in _MIDDLES if not deposit},
    }

  return jax.vmap(one)(trials)


# What a detector asks of a candidate, see detect.gates; here on one box.
_LOOK_MM = (1.5, 1.2)  # from the object to the darkest voxel, in and through
_SHELL_MM = (3.0, 6.0)
_GROWTH_MM = 5.0
_MIN_CONTRAST = 0.35  # fainter ones seldom reach the score of a detector
_VISIBLE = 0.25  # of a microbleed without noise, as for whole scans
_DIAMETERS_MM = (1.0, 10.0)
_RIM_MM = 2.0
_MIN_ROUNDNESS = 0.35  # short by long axis of the core in its slice


def _cut(protocol, trial, made) -> dict:
  """Finds the dark spot, centres the patch on it, judges and measures it."""
  voxel = np.array(protocol.voxel_mm)
  shape = made['swi'].shape
  swi = jnp.rint(jnp.clip(made['swi'], 0, 1) * 255) / 255
  middle = np.array(shape) // 2
  reach = np.minimum(
    np.ceil((_SHELL_MM[1] + 0.5) / voxel).astype(int), middle - 1
  )
  window = tuple(slice(c - r, c + r + 1) for c, r in zip(middle, reach))
  near = {k: made[k][window] for k in ('brain', 'with_', 'without')}
  spot = _spot(near, swi[window], reach, voxel)
  room = middle - np.array(scene.PATCH) // 2
  shift = jnp.rint(spot['offset_mm'] / voxel).astype(jnp.int32)
  keep = spot['keep'] & (jnp.abs(shift) <= room).all()
  bleeds = trial.kind == KINDS.index('microbleed')
  keep &= ~bleeds | (spot['contrast'] >= _VISIBLE)
  start = middle - np.array(scene.PATCH) // 2 + jnp.clip(shift, -room, room)
  image = jax.lax.dynamic_slice(swi, start, scene.PATCH)
  return {
    'image': jnp.rint(255 * image).astype(jnp.uint8), 'keep': keep,
    'contrast': spot['contrast'], 'diameter_mm': spot['diameter_mm'],
  }  # fmt: skip


def _spot(near, swi, reach, voxel) -> dict:
  """What a detector measures of the dark spot in the middle of a window."""
  axes = [np.arange(-r, r + 1) * v for r, v in zip(reach, voxel)]
  x, y, z = np.meshgrid(*axes, indexing='ij', sparse=True)
  flat = np.sqrt(x**2 + y**2) + 0 * z
  away = np.sqrt(flat**2 + z**2)
  look = (flat <= _LOOK_MM[0]) & (abs(z) <= max(_LOOK_MM[1], voxel[2]))
  seed = jnp.argmin(jnp.where(look, swi, 2.0))
  dark = swi.reshape(-1)[seed]
  seed = (jnp.arange(swi.size) == seed).reshape(swi.shape)
  shell = (away >= _SHELL_MM[0]) & (away <= _SHELL_MM[1])
  around = _median(swi[shell], near['brain'][shell])
  contrast = (around - dark) / jnp.maximum(around, 1e-3)

  def region(level):
    below = swi <= dark + level * (around - dark)
    return local.grow(below & (away <= _GROWTH_MM + 1), seed, steps=10)

  core, diameter = region(0.3), _diameter(region(0.5), voxel)
  offset = jnp.stack([jnp.sum(core * a) for a in (x, y, z)]) / jnp.sum(core)
  keep = (diameter >= _DIAMETERS_MM[0]) & (diameter <= _DIAMETERS_MM[1])
  keep &= contrast >= _MIN_CONTRAST
  keep &= _roundness(core, offset, x, y, voxel) >= _MIN_ROUNDNESS
  rim = (flat <= _RIM_MM) & (abs(z) <= 1.01 * voxel[2])
  keep &= (near['brain'] | ~rim).all()
  # Noise-free; see `lesions.label_contrast`.
  change = near['without'] - near['with_']
  peak = jnp.max(jnp.where(look, change, 0))
  label = local.grow(change >= 0.5 * peak, look, steps=10)
  without = near['without'][shell]
  return {
    'keep': keep,
    'offset_mm': offset,
    'contrast': jnp.minimum(peak / _median(without, without > 0), 1),
    'diameter_mm': _diameter(label, voxel),
  }


def _median(values, mask):
  """Of the values [N] where `mask` [N] holds."""
  ranked = jnp.sort(jnp.where(mask, values, jnp.inf))
  return ranked[jnp.maximum(jnp.sum(mask) // 2, 0)]


def _diameter(region, voxel):
  """Of the ball with as much volume."""
  return (6 / np.pi * np.prod(voxel) * jnp.sum(region)) ** (1 / 3)


def _roundness(core, offset, x, y, voxel):
  """Short by long axis in plane, from second moments; a voxel has a size."""
  total = jnp.sum(core)
  dx, dy = x - offset[0], y - offset[1]
  a = jnp.sum(core * dx * dx) / total + voxel[0] ** 2 / 12
  c = jnp.sum(core * dy * dy) / total + voxel[1] ** 2 / 12
  b = jnp.sum(core * (dx * dy)) / total
  root = jnp.sqrt((a - c) ** 2 / 4 + b * b)
  return jnp.sqrt((a + c - 2 * root) / (a + c + 2 * root))
