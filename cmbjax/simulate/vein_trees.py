"""Tissue of one person to veins that grow as trees, grid mm.

Points are strewn in the tissue that veins drain, near ones are joined, and
each point keeps the cheapest way to a collector: along sulci, along the wall of
a ventricle, hardly across white matter. What ways share becomes a trunk, and
Murray's law (r^3 adds up) its radius. Rule: nothing is drawn by hand but the
collectors, so branches, ends and junctions are where the tissue puts them.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse, spatial

from cmbjax.simulate import grids
from cmbjax.simulate.tubes import STEP_MM, Tubes, stack

_NEAR = 10  # neighbours of a point that it may be joined with
_GREATEST_MM = 1.5  # radius of a trunk
# Points per ml that are drained.
_PER_ML = {'sulcus': 12.0, 'cortex': 7.0, 'white': 3.3, 'deep grey': 2.5}
_SULCI = 0.09  # of the brain; wider sulci hold as many veins
_OUTLETS_PER_ML = 0.5  # of the outermost 3 mm, where trunks leave the brain
_WALL_PER_ML = 16.0  # of the tissue beside a ventricle
# Cost of a way per mm.
_COST = {'sulcus': 1.0, 'cortex': 1.8, 'white': 3.0, 'wall': 0.4}
# Knots of the large collectors in MNI mm, both sides where x > 1.5, and their
# radius in mm.
_COLLECTORS = {
  'internal cerebral vein': (
    0.8, [(3, 5, 11), (1.8, -10, 16), (1.5, -27, 12), (0, -40, 5)]
  ),
  'basal vein': (0.7, [(11, 2, -17), (15, -14, -13), (14, -31, -3),
                       (0, -40, 5)]),
  'straight sinus': (1.8, [(0, -40, 5), (0, -58, 6), (0, -90, -11)]),
  'transverse sinus': (2.6, [(2, -93, -13), (33, -84, -22), (55, -52, -30),
                             (47, -40, -46)]),
}  # fmt: skip
_MONRO_MM = (4.0, 4.0, 12.0)  # there the veins of the ventricle's wall leave
_ANOMALY_SHARE = 0.1  # of people with a caput medusae


class _Place(NamedTuple):
  """Tissue of one person on every second node of the 1 mm grid."""

  depth_mm: np.ndarray  # [x, y, z] under the surface
  ventricle_mm: np.ndarray  # [x, y, z] to a lateral ventricle; inf: none here
  fluid: np.ndarray  # [x, y, z] share, narrow sulci counted more
  grey: np.ndarray
  deep: np.ndarray  # [x, y, z] bool, nuclei, thalamus and brainstem
  mni: np.ndarray  # [3, x, y, z]


def draw_trees(rng, head) -> Tubes:
  """Family 'trees': all veins of one person, grid mm.

  Args:
    rng: numpy generator.
    head: the person.
  """
  place = _look(head)
  parts = [_collectors(rng, head)]
  parts += _drain(rng, *_outer(rng, place), kind='cortical')
  parts += _drain(rng, *_inner(rng, place), kind='medullary')
  if rng.random() < _ANOMALY_SHARE:
    parts += _anomaly(rng, place)
  return stack(parts)


def _look(head) -> _Place:
  half = (slice(None, None, 2),) * 3
  mask = head.mask[half]
  depth = 2 * ndimage.distance_transform_edt(mask).astype(np.float32)
  x, y, z = mni = head.mni[(slice(None), *half)]
  csf = head.csf[half]
  hole = (csf > 0.5) & (depth > 16) & (abs(x) < 32) & (y > -58) & (y < 42)
  hole &= (z > 2) & (z < 36) & ((abs(x) > 3) | (z < 22))
  away = np.full(depth.shape, np.inf, np.float32)
  if hole.any():
    away = 2 * ndimage.distance_transform_edt(~hole).astype(np.float32)
  deep = mask & (head.region[half] >= 4)
  return _Place(depth, away, csf, head.grey[half], deep, mni)


def _strew(rng, weight) -> np.ndarray:
  """Random points [N, 3] grid mm, `weight` [x, y, z] of them per ml."""
  count = rng.poisson(np.maximum(weight, 0).ravel() * 0.008)
  index = np.repeat(np.arange(count.size), count)
  node = np.stack(np.unravel_index(index, weight.shape), 1)
  return 2 * node + rng.uniform(-1, 1, node.shape)


def _outer(rng, place):
  """What drains to the surface: points, their costs, outlets, straightness."""
  inside = (place.depth_mm > 0) & (place.ventricle_mm > 5)
  sulcus = np.clip(2.5 * place.fluid - 0.3, 0, 1) * inside
  cortex = place.grey * inside * ~place.deep * (1 - sulcus)
  white = np.clip(1 - place.grey - place.fluid, 0, 1) * inside * ~place.deep
  white *= np.clip(1.6 - place.depth_mm / 22, 0.15, 1)
  density = rng.uniform(0.8, 1.35)
  wide = max(1.0, sulcus[inside].mean() / _SULCI)
  weight = _PER_ML['sulcus'] / wide * sulcus + _PER_ML['cortex'] * cortex
  weight += _PER_ML['white'] * white + 0.5 * _PER_ML['white'] * place.deep
  points = _strew(rng, density * weight)
  at = _nodes(points, weight.shape)
  cost = _COST['white'] + (_COST['cortex'] - _COST['white']) * cortex[at]
  cost += (_COST['sulcus'] - _COST['white']) * sulcus[at]
  outermost = place.depth_mm[at] < 3.0
  # Trunks leave where the density of outlets says, wherever points are.
  share = _OUTLETS_PER_ML / np.maximum(density * weight[at], 1e-3)
  outlet = outermost & (rng.random(len(points)) < share)
  return points, cost, outlet, 1.5


def _inner(rng, place):
  """What drains into the veins beside the ventricles."""
  away = place.ventricle_mm
  inside = (place.depth_mm > 6) & (away > 1)
  wall = (away > 1) & (away < 3.5) & inside
  tissue = inside & ~wall & (place.fluid < 0.4)
  white = tissue * ~place.deep * np.clip(1.5 - away / 26, 0, 1)
  white *= 1 - place.grey
  weight = rng.uniform(0.8, 1.35) * (
    _WALL_PER_ML * wall
    + _PER_ML['white'] * white
    + _PER_ML['deep grey'] * (place.deep & tissue)
  )
  points = _strew(rng, weight)
  at = _nodes(points, weight.shape)
  cost = np.where(wall[at], _COST['wall'], _COST['white'])
  mni = place.mni[(slice(None), *at)].T
  far = np.sqrt(((mni * _one_side(mni) - _MONRO_MM) ** 2).sum(1))
  # A few further outlets: atrium, and the foot of the basal ganglia.
  outlet = (far < 8) | (rng.random(len(points)) < 0.006)
  return points, cost, outlet, 1.15


def _one_side(mni):
  return np.where(mni < 0, [-1, 1, 1], 1)


def _nodes(points, shape):
  index = np.rint(points / 2).astype(int)
  return tuple(np.clip(index, 0, np.array(shape) - 1).T)


def _drain(rng, points, cost, outlet, power, *, kind) -> list[Tubes]:
  """Points to tubes along the cheapest ways to outlets.

  A way costs its steps to the `power`: 1 is nearly straight, more winds.
  """
  if len(points) < 2 * _NEAR or not outlet.any():
    return []
  parent = _cheapest(rng, points, cost, outlet, power)
  return _tubes(rng, points, parent, kind)


def _cheapest(rng, points, cost, outlet, power) -> np.ndarray:
  """Next point [N] on the way out; itself where there is none."""
  gap, other = spatial.cKDTree(points).query(points, _NEAR + 1)
  gap, other = gap[:, 1:], other[:, 1:]
  price = (gap + 0.1) ** power * (cost[:, None] + cost[other]) / 2
  price *= rng.uniform(0.8, 1.25, price.shape)
  rows = np.repeat(np.arange(len(points)), _NEAR)
  graph = sparse.csr_array(
    (price.ravel(), (rows, other.ravel())), shape=(len(points),) * 2
  )
  _, parent, _ = sparse.csgraph.dijkstra(
    graph, directed=False, indices=np.flatnonzero(outlet), min_only=True,
    return_predecessors=True,
  )  # fmt: skip
  return np.where(parent < 0, np.arange(len(points)), parent)


def _tubes(rng, points, parent, kind) -> list[Tubes]:
  """One tube from each end of the trees to where it meets a thicker one."""
  radius, thickest, order = _murray(rng, parent)
  person = rng.uniform(0.6, 0.95)
  ways, widths = [], []
  for start in order:
    if thickest[start] >= 0 or parent[start] == start:
      continue  # not an end
    way = [start]
    while parent[way[-1]] != way[-1]:
      here = way[-1]
      way.append(parent[here])
      if thickest[way[-1]] != here:
        break
    ways.append(points[way])
    widths.append(radius[[*way[:-1], way[-2]]])
  venous = np.clip(person * rng.lognormal(0, 0.2, len(ways)), 0.3, 1)
  return [_resample(rng, ways, widths, venous, kind)] if ways else []


def _murray(rng, parent):
  """Radius [N] by Murray's law, the thickest child [N] (-1: an end), order."""
  count = len(parent)
  order = _leaves_first(parent)
  cubed = (0.13 * rng.lognormal(0, 0.35, count)) ** 3
  total = np.zeros(count)
  thickest = np.full(count, -1)
  greatest = np.zeros(count)
  for node in order:
    cubed[node] = max(total[node], cubed[node])
    above = parent[node]
    if above != node:
      total[above] += cubed[node]
      if cubed[node] > greatest[above]:
        greatest[above], thickest[above] = cubed[node], node
  return np.minimum(np.cbrt(cubed), _GREATEST_MM), thickest, order


def _leaves_first(parent) -> np.ndarray:
  """Order in which every point is before the next on its way out."""
  level = np.zeros(len(parent), int)
  place = np.arange(len(parent))
  while True:
    above = parent[place]
    moved = above != place
    if not moved.any():
      return np.argsort(-level, kind='stable')
    level += moved
    place = above


def _resample(rng, ways, widths, venous, kind) -> Tubes:
  """Knots to smooth tubes of equal step, with a radius that comes and goes."""
  tubes = []
  for way, width in zip(ways, widths):
    along = np.r_[0, np.cumsum(np.sqrt((np.diff(way, axis=0) ** 2).sum(1)))]
    at = np.arange(0, along[-1] + STEP_MM, STEP_MM)
    line = np.stack([np.interp(at, along, axis) for axis in way.T], 1)
    smooth = ndimage.gaussian_filter1d(line, 4.0, axis=0, mode='nearest')
    # Both ends stay, so that trees stay connected.
    near = np.minimum(np.arange(len(at)), np.arange(len(at))[::-1])
    keep = np.exp(-near / 4.0)[:, None]
    wave = ndimage.gaussian_filter1d(rng.standard_normal(len(at)), 5.0)
    radius = np.interp(at, along, width)
    # Thin veins come and go; large ones are even.
    radius *= np.exp(np.minimum(1.6, 0.5 / radius) * wave)
    tubes.append((keep * line + (1 - keep) * smooth, radius))
  longest = max(len(radius) for _, radius in tubes)
  points = np.full((len(tubes), longest, 3), np.nan, np.float32)
  radii = np.full((len(tubes), longest), np.nan, np.float32)
  for number, (line, radius) in enumerate(tubes):
    points[number, : len(line)] = line
    radii[number, : len(line)] = radius
  kinds = np.full(len(tubes), kind, '<U24')
  return Tubes(points, radii, kinds, np.asarray(venous, np.float32))


def _collectors(rng, head) -> Tubes:
  """Sinuses and the large deep veins, which trees run into."""
  parts = []
  for name, (radius, knots) in _COLLECTORS.items():
    knots = np.array(knots, float)
    for side in (1, -1) if knots[:, 0].max() > 1.5 else (1,):
      placed = knots * (side, 1, 1) + rng.normal(0, 1.2, knots.shape)
      way = _bend(head.from_mni(placed.astype(np.float32)))
      width = np.full(len(way), radius * rng.uniform(0.7, 1.2))
      venous = [rng.uniform(0.6, 0.9)]
      parts.append(_resample(rng, [way], [width], venous, name))
  return stack(parts + _sagittal(rng, head))


def _bend(knots) -> np.ndarray:
  from scipy import interpolate

  number = np.arange(len(knots))
  fine = np.linspace(0, len(knots) - 1, 8 * len(knots))
  return interpolate.PchipInterpolator(number, knots)(fine)


def _sagittal(rng, head) -> list[Tubes]:
  """The sinus along the rim of the brain in its middle plane."""
  y = np.arange(66.0, -98.0, -4.0)
  steps = np.arange(100.0, -30.0, -1.0)
  grid = np.stack(np.broadcast_arrays(0.0, y[:, None], steps), -1)
  place = head.from_mni(grid.reshape(-1, 3).astype(np.float32))
  inside = grids.sample(head.mask.astype(np.float32), place) > 0.5
  inside = inside.reshape(grid.shape[:2])
  some = inside.any(1) & ~inside[:, 0]
  if some.sum() < 4:
    return []
  first = inside.argmax(1)
  way = place.reshape(grid.shape)[np.arange(len(y)), first - 1][some]
  width = np.linspace(1.2, 2.8, len(way)) * rng.uniform(0.8, 1.15)
  name = 'superior sagittal sinus'
  return [_resample(rng, [way], [width], [rng.uniform(0.6, 0.9)], name)]


def _anomaly(rng, place) -> list[Tubes]:
  """A caput medusae: many veins of a small region meet in one collector."""
  white = (place.depth_mm > 14) & (place.grey < 0.3) & (place.fluid < 0.2)
  pool = np.argwhere(white & (place.ventricle_mm < 30) & ~place.deep)
  if not len(pool):
    return []
  centre = 2.0 * pool[rng.integers(len(pool))]
  axes = np.indices(white.shape) * 2.0 - centre.reshape(3, 1, 1, 1)
  ball = white & ((axes**2).sum(0) < rng.uniform(9, 17) ** 2)
  head = np.concatenate([[centre], _strew(rng, rng.uniform(4, 9) * ball)])
  outlet = np.arange(len(head)) == 0
  caput = _drain(rng, head, np.ones(len(head)), outlet, 1.0, kind='anomaly')
  # From there to the nearest ventricle.
  down = np.argwhere(place.ventricle_mm <= 2) * 2.0
  goal = down[((down - centre) ** 2).sum(1).argmin()]
  way = np.linspace(centre, goal, 6)
  way[1:-1] += rng.normal(0, 1.5, (4, 3))
  width = np.full(6, rng.uniform(0.5, 1.1))
  trunk = _resample(rng, [way], [width], [rng.uniform(0.6, 0.9)], 'anomaly')
  return [*caput, trunk]
