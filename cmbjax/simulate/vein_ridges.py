"""Smooth random fields to the veins of one person, grid mm.

Two fields are both zero along curves. Curves that share one field meet where
the other two are zero, so several second fields to one first make a net with
junctions. A third kind of field sets the radius along them. Rule: the brain
only says how dense, wide and straight the net is, and the surface and the
middle plane, as two more fields, give the sagittal sinus.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage, spatial

from cmbjax.simulate import grids
from cmbjax.simulate.tubes import STEP_MM, Tubes, stack, unit

_STEP = 2  # mm between nodes of the fields
_MEET_MM = 0.6  # a curve that is this near another one joins it
_LEAST_MM = 0.09  # a thinner vein does not show: there it ends


class _Net(NamedTuple):
  """One net of veins."""

  kind: str
  width_mm: float  # of the bumps of its fields
  seconds: int  # how many fields share the first one
  seeds_per_ml: float
  radius_mm: float  # median
  spread: float  # of the logarithm of the radius
  longest_mm: float
  stretch: float  # 1: fields are the same at all depths, so veins are radial


_NETS = (
  _Net('pial net', 9.0, 3, 0.6, 0.52, 0.35, 80.0, 0.0),
  _Net('cortical net', 4.0, 4, 1.1, 0.27, 0.45, 26.0, 0.6),
  _Net('deep net', 6.5, 3, 2.2, 0.24, 0.45, 40.0, 0.8),
)


def draw_ridges(rng, head) -> Tubes:
  """Family 'ridges': all veins of one person, grid mm.

  Args:
    rng: numpy generator.
    head: the person.
  """
  half = (slice(None, None, _STEP),) * 3
  mask = head.mask[half]
  depth = _STEP * ndimage.distance_transform_edt(mask)
  depth -= _STEP * ndimage.distance_transform_edt(~mask)
  depth = depth.astype(np.float32)
  weights = {
    'pial net': mask * (depth < 5),
    'cortical net': mask * np.clip(1.3 - depth / 30, 0.25, 1),
    'deep net': mask * np.clip((depth - 12) / 12, 0, 1),
  }
  parts, taken = [], np.zeros((0, 3), np.float32)
  way = _outward(depth)
  for tube in (
    _sinus(rng, head.mni[(slice(None), *half)], depth),
    *(_draw(rng, net, weights[net.kind], depth, way) for net in _NETS),
  ):
    tube = _join(tube, taken)
    parts.append(tube)
    taken = np.concatenate([taken, tube.points_mm[_alive(tube)]])
  return stack(parts)


def _outward(depth):
  """Way [3, x, y, z] in nodes to the surface of the brain."""
  slope = -np.stack(np.gradient(ndimage.gaussian_filter(depth, 3.0)))
  slope /= np.maximum(np.sqrt((slope**2).sum(0)), 1e-6)
  return slope * np.clip(depth, 0, None) / _STEP


def _draw(rng, net, weight, depth, way) -> Tubes:
  """The curves of one net, each from a seed in both directions."""
  density = net.seeds_per_ml * rng.uniform(0.75, 1.25)
  count = rng.poisson(density * weight.sum() * _STEP**3 / 1000)
  total = np.cumsum(weight, dtype=np.float64, axis=None)
  node = np.searchsorted(total, rng.uniform(0, total[-1], max(count, 1)))
  seed = np.stack(np.unravel_index(node, weight.shape), 1) * float(_STEP)
  place = None
  if net.stretch:
    share = np.float32(net.stretch * rng.uniform(0.8, 1.15))
    place = np.indices(weight.shape, np.float32) + share * way

  def field(width_mm):
    bumps = _bumps(rng, weight.shape, width_mm)
    if place is None:
      return bumps
    return ndimage.map_coordinates(bumps, place, order=1, mode='nearest')

  first = field(net.width_mm)
  tubes = []
  for group in np.array_split(seed, net.seconds):
    second = field(net.width_mm * rng.uniform(0.7, 1.4))
    fields = _Fields((first, second))
    length = rng.gamma(2.0, net.longest_mm / 4, len(group))
    length = length.clip(4, net.longest_mm)
    tubes.append(_follow(fields, group, length))
  line = _pad(tubes)
  wide = _bumps(rng, weight.shape, 5.0)
  inside = _at(depth, line) > -0.5
  radius = net.radius_mm * np.exp(
    net.spread * (_at(wide, line) + rng.normal(0, 0.6, (len(line), 1)))
  )
  # Where both fields are nearly parallel a curve may jump to another.
  jump = np.diff(line, axis=1, prepend=line[:, :1])
  jumps = (jump**2).sum(-1) > (2 * STEP_MM) ** 2
  line[~inside | jumps | (radius < _LEAST_MM)] = np.nan
  radius[~np.isfinite(line[..., 0])] = np.nan
  venous = np.clip(rng.normal(0.8, 0.15, len(line)), 0.3, 1)
  return _only(Tubes(line, radius, _named(net.kind, len(line)), venous))


def _bumps(rng, shape, width_mm) -> np.ndarray:
  """A random field [x, y, z] with variance 1."""
  noise = rng.standard_normal(shape, np.float32)
  noise = ndimage.gaussian_filter(
    noise, width_mm / (2.5 * _STEP), mode='wrap', truncate=3
  )
  return noise / noise.std()


class _Fields:
  """Two fields, their values and their slopes at any place."""

  def __init__(self, pair):
    self._maps = [
      np.stack([f, *(g / _STEP for g in np.gradient(f))]) for f in pair
    ]

  def __call__(self, points):
    """Values [N, 2] and slopes [N, 2, 3] at grid mm [N, 3]."""
    one, other = (
      np.stack([_at(image, points) for image in maps], -1)
      for maps in self._maps
    )
    both = np.stack([one, other], 1)
    return both[..., 0], both[..., 1:]

  def drop(self, points):
    """Points moved toward where both are zero, and the way along it."""
    value, slope = self(points)
    gram = slope @ slope.transpose(0, 2, 1) + 1e-4 * np.eye(2)
    back = np.linalg.solve(gram, value[..., None])
    move = (slope.transpose(0, 2, 1) @ back)[..., 0]
    size = np.sqrt((move**2).sum(1, keepdims=True))
    move *= np.minimum(1, 1.5 / np.maximum(size, 1e-6))
    return points - move, unit(np.cross(slope[:, 0], slope[:, 1])), size[:, 0]


def _follow(fields, seed, length_mm) -> np.ndarray:
  """Curves [N, S, 3] through where seeds fall; NaN where they do not."""
  place = seed
  for _ in range(8):
    place, way, miss = fields.drop(place)
  place, way, length_mm = (a[miss < 0.3] for a in (place, way, length_mm))
  halves = []
  for side in (1.0, -1.0):
    here, heading, line = place, side * way, []
    for step in range(int(length_mm.max(initial=0) / STEP_MM / 2) + 1):
      line.append(np.where((length_mm >= 2 * step * STEP_MM)[:, None], here,
                           np.nan))  # fmt: skip
      here, along, _ = fields.drop(here + STEP_MM * heading)
      turned = np.sign((along * heading).sum(1, keepdims=True))
      heading = along * np.where(turned == 0, 1, turned)
    halves.append(np.stack(line, 1))
  return np.concatenate([halves[1][:, :0:-1], halves[0]], 1)


def _pad(lines) -> np.ndarray:
  longest = max(line.shape[1] for line in lines)
  return np.concatenate([
    np.pad(line, ((0, 0), (0, longest - line.shape[1]), (0, 0)),
           constant_values=np.nan) for line in lines
  ])  # fmt: skip


def _join(tubes: Tubes, taken) -> Tubes:
  """Ends each tube where it comes near one that was drawn before it."""
  line = tubes.points_mm
  rows, steps = np.nonzero(_alive(tubes))
  place = line[rows, steps]
  near = spatial.cKDTree(place)
  met = np.zeros(len(place), bool)
  if len(taken):
    gap, _ = spatial.cKDTree(taken).query(place, distance_upper_bound=_MEET_MM)
    met = np.isfinite(gap)
  pairs = np.sort(near.query_pairs(_MEET_MM, output_type='ndarray'), axis=1)
  # Points are in the order of the tubes, so the second is of the later one.
  met[pairs[rows[pairs[:, 0]] != rows[pairs[:, 1]], 1]] = True
  line, radius = line.copy(), tubes.radius_mm.copy()
  line[rows[met], steps[met]] = np.nan
  radius[rows[met], steps[met]] = np.nan
  return _only(tubes._replace(points_mm=line, radius_mm=radius))


def _only(tubes: Tubes) -> Tubes:
  """Tubes cut at their gaps, the longest piece of each, from step 0 on."""
  alive = _alive(tubes)
  run = np.zeros(alive.shape, int)
  count = np.zeros(len(alive), int)
  for step in range(alive.shape[1]):
    count = np.where(alive[:, step], count + 1, 0)
    run[:, step] = count
  last, length = run.argmax(1), run.max(1)
  steps = np.arange(max(length.max(initial=0), 2))
  index = np.clip(last - length + 1, 0, None)[:, None] + steps
  inside = steps < length[:, None]
  index = np.minimum(index, alive.shape[1] - 1)
  rows = np.arange(len(alive))[:, None]
  line = np.where(inside[..., None], tubes.points_mm[rows, index], np.nan)
  radius = np.where(inside, tubes.radius_mm[rows, index], np.nan)
  keep = length >= 2.0 / STEP_MM
  return Tubes(
    line[keep].astype(np.float32), radius[keep].astype(np.float32),
    tubes.kind[keep], tubes.venous[keep].astype(np.float32),
  )  # fmt: skip


def _sinus(rng, mni, depth) -> Tubes:
  """The sagittal sinus, where the surface meets the middle plane."""
  x, y, z = mni
  near = (abs(x) < 4) & (abs(depth) < 3) & (z > np.where(y < 0, -10, 20))
  seed = np.argwhere(near) * float(_STEP)
  seed = seed[:: max(1, len(seed) // 60)]
  fields = _Fields((x, ndimage.gaussian_filter(depth + 0.5, 1.5)))
  line = _follow(fields, seed, np.full(len(seed), 40.0))
  radius = np.full(line.shape[:2], rng.uniform(1.2, 2.2))
  radius[~np.isfinite(line[..., 0])] = np.nan
  kind = _named('superior sagittal sinus', len(line))
  return Tubes(line, radius, kind, np.full(len(line), 0.8))


def _alive(tubes):
  return np.isfinite(tubes.radius_mm) & np.isfinite(tubes.points_mm[..., 0])


def _named(kind, count):
  return np.full(count, kind, '<U24')


def _at(image, points):
  return grids.sample(image, np.nan_to_num(points) / _STEP)
