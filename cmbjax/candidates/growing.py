"""Seeds to regions of half maximum, and regions to shapes, many at a time.

Rule: every seed has its own little box, so cost follows the number of seeds
and not the size of the scan.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.candidates.radial_symmetry import over

_BATCH, _VOXELS = 128, 1_500_000  # most seeds and voxels of boxes per task
_ANGLES = 24  # directions of the convex outline; 0.4 % of its area


class Regions(NamedTuple):
  """What was grown from N seeds; voxels of all regions lie end to end."""

  seed: np.ndarray  # [N, 3] int32
  darkest: np.ndarray  # [N] intensity of the seed
  background: np.ndarray  # [N] median of the shell
  edge_mm: np.ndarray  # [N] distance to the mask's rim, at most the shell
  crowding: np.ndarray  # [N] share of the inner half shell below half maximum
  owner: np.ndarray  # [V] int32, which seed
  voxel: np.ndarray  # [V, 3] int32
  level: float  # of growing, between darkest and background


class Box(NamedTuple):
  """Voxels round a seed: offsets and their distance, centre in the middle."""

  half: tuple[int, int, int]
  distance_mm: np.ndarray  # [A, B, C]


def box_of(spacing_mm, reach_mm: float) -> Box:
  half = tuple(int(np.ceil(reach_mm / side - 1e-6)) for side in spacing_mm)
  axes = np.ogrid[tuple(slice(-h, h + 1) for h in half)]
  squares = [(a * side) ** 2 for a, side in zip(axes, spacing_mm)]
  return Box(half, np.sqrt(sum(squares)).astype(np.float32))


def darkest_near(image, peak, spacing_mm, *, reach_mm: float) -> np.ndarray:
  """The darkest voxel within reach of each peak [N, 3]; ties: the nearest.

  Args:
    image: [X, Y, Z].
    peak: [N, 3] voxel indices.
    spacing_mm: voxel sizes.
    reach_mm: how far to look.
  """
  box = box_of(spacing_mm, reach_mm)
  offsets = np.argwhere(box.distance_mm <= reach_mm + 1e-6) - box.half
  distance = np.linalg.norm(offsets * np.asarray(spacing_mm), axis=1)
  offsets = offsets[np.argsort(distance, kind='stable')]
  places = peak[:, None] + offsets[None]  # [N, P, 3]
  limits = np.asarray(image.shape) - 1
  inside = ((places >= 0) & (places <= limits)).all(-1)
  values = image[tuple(np.moveaxis(np.clip(places, 0, limits), -1, 0))]
  values = np.where(inside, values, np.inf)
  best = values.argmin(1)
  return places[np.arange(len(peak)), best].astype(np.int32)


def grow(
  image,
  mask,
  seed,
  spacing_mm,
  *,
  level: float = 0.5,
  growth_mm: float = 5.0,
  shell_mm: tuple[float, float] = (3.0, 6.0),
  jobs: int | None = None,
) -> Regions:
  """Voxels joined (26 neighbours) to each seed and darker than the level.

  Args:
    image: [X, Y, Z] float32.
    mask: [X, Y, Z] bool, the brain.
    seed: [N, 3] voxel indices inside the image.
    spacing_mm: voxel sizes.
    level: 0.5 is half-way between the seed and its background.
    growth_mm: radius of the sphere that a region may fill.
    shell_mm: inner and outer radius of the background shell.
    jobs: threads.

  Returns:
    Regions; each has at least its seed.
  """
  box = box_of(spacing_mm, max(growth_mm, shell_mm[1]))
  seed = np.asarray(seed, np.int32).reshape(-1, 3)
  count = min(_BATCH, max(1, _VOXELS // box.distance_mm.size))
  starts = range(0, len(seed), count)

  def one(batch: int):
    part = seed[starts[batch] : starts[batch] + count]
    return _grow_batch(
      _boxes(image, part, box),
      _boxes(mask, part, box) & _boxes_inside(mask.shape, part, box),
      seed=part,
      first=starts[batch],
      box=box,
      level=level,
      growth_mm=growth_mm,
      shell_mm=shell_mm,
    )

  parts = over(one, len(starts), jobs) or [_nothing()]
  joined = [np.concatenate(column) for column in zip(*parts)]
  return Regions(seed, *joined, level)


def _nothing():
  none = np.zeros(0, np.float32)
  return *(4 * [none]), np.zeros(0, np.int32), np.zeros((0, 3), np.int32)


def _boxes(array, seed, box: Box):
  """Boxes [n, A, B, C] round n seeds; the edge goes on beyond the array."""
  result = np.empty((len(seed), *box.distance_mm.shape), array.dtype)
  half = np.asarray(box.half)
  low, high = seed - half, seed + half + 1
  inside = ((low >= 0) & (high <= array.shape)).all(1)
  for row, (first, end) in enumerate(zip(low.tolist(), high.tolist())):
    if inside[row]:
      result[row] = array[tuple(map(slice, first, end))]
      continue
    along = [
      np.arange(a, b).clip(0, size - 1)
      for a, b, size in zip(first, end, array.shape)
    ]
    result[row] = array[np.ix_(*along)]
  return result


def _boxes_inside(shape, seed, box: Box):
  """Which voxels of the boxes are in an array of a shape: bool [n, A, B, C]."""
  inside = True
  for axis, (h, size) in enumerate(zip(box.half, shape)):
    along = seed[:, axis, None] + np.arange(-h, h + 1)
    one = (along >= 0) & (along < size)
    inside = (
      inside & one[:, *(slice(None) if a == axis else None for a in range(3))]
    )
  return inside


def _grow_batch(values, brain, *, seed, first, box, level, growth_mm, shell_mm):
  """Columns of `Regions` for boxes [n, A, B, C] round seeds `first`, ..."""
  distance = box.distance_mm
  middle = tuple(box.half)
  darkest = values[(slice(None), *middle)]
  shell = (distance > shell_mm[0]) & (distance <= shell_mm[1])
  background = _masked_median(values[:, shell], brain[:, shell], darkest)
  close = shell & (distance <= (shell_mm[0] + shell_mm[1]) / 2)
  crowding = _share_dark(
    values[:, close], brain[:, close], (darkest + background) / 2
  )
  threshold = darkest + level * (background - darkest)
  dark = (values < threshold[:, None, None, None]) & brain
  dark &= distance <= growth_mm
  dark[(slice(None), *middle)] = True
  joined = np.zeros((3, 3, 3, 3), int)
  joined[1] = 1  # neighbours within a box, never from box to box
  labels, _ = ndimage.label(dark, joined)
  own = labels[(slice(None), *middle)]
  owner, *index = np.nonzero(labels == own[:, None, None, None])
  voxel = np.stack(index, 1) - np.asarray(middle) + seed[owner]
  near = np.where(brain, np.inf, distance).min((1, 2, 3))
  edge = np.minimum(near, shell_mm[1])
  return (
    darkest,
    background,
    edge.astype(np.float32),
    crowding,
    (owner + first).astype(np.int32),
    voxel.astype(np.int32),
  )


def _masked_median(values, valid, otherwise):
  """Row-wise lower median of the valid entries; `otherwise` if none."""
  ordered = np.sort(np.where(valid, values, np.inf), axis=1)
  count = valid.sum(1)
  middle = ordered[np.arange(len(values)), np.maximum(count - 1, 0) // 2]
  return np.where(count > 0, middle, otherwise).astype(np.float32)


def _share_dark(values, valid, limit):
  """Row-wise share of the valid entries that are below the limit."""
  dark = ((values < limit[:, None]) & valid).sum(1)
  return (dark / np.maximum(valid.sum(1), 1)).astype(np.float32)


def shapes(
  regions: Regions, spacing_mm, *, growth_mm: float, at_seed: bool = False
) -> dict:
  """Features of every region, float32 [N] each, in mm.

  Args:
    regions: of N candidates.
    spacing_mm: voxel sizes.
    growth_mm: largest distance that a region grew.
    at_seed: the outline in plane is that of the seed's slice, not of the
      largest one, which may be a vessel above or below a lesion.
  """
  sides = np.asarray(spacing_mm, float)
  away = (regions.voxel - regions.seed[regions.owner]) * sides
  # Touching: a neighbour along some axis is beyond the sphere.
  further = (away**2).sum(1)[:, None] + 2 * sides * np.abs(away) + sides**2
  far = further.max(1) > growth_mm**2
  touching = np.bincount(regions.owner[far], minlength=len(regions.seed)) > 0
  features = {
    'touches_sphere': touching.astype(np.float32),
    'contrast': contrast(regions),
    'darkest': regions.darkest,
    'background': regions.background,
    'edge_mm': regions.edge_mm,
    'crowding': regions.crowding,
  }
  count = len(regions.seed)
  sliced = regions.seed[:, 2] if at_seed else None
  return features | geometry(
    regions.owner, regions.voxel, spacing_mm, count, outline_at=sliced
  )


def contrast(regions: Regions) -> np.ndarray:
  """(background - seed) / background, [N]; 0 where there is no background."""
  none = np.zeros(len(regions.seed), np.float32)
  step = regions.background - regions.darkest
  return np.divide(
    step, regions.background, out=none, where=regions.background > 0
  )


def geometry(
  owner: np.ndarray,
  voxel: np.ndarray,
  spacing_mm,
  count: int,
  *,
  outline_at: np.ndarray | None = None,
) -> dict:
  """Size and shape of `count` regions given as voxels.

  The in-plane ones (area, circularity, eccentricity, solidity, Feret) are of
  one slice; pixels count as small rectangles, so one square pixel has
  circularity pi / 4 and solidity 1.

  Args:
    owner: [V] ascending, which region; each of `count` has a voxel.
    voxel: [V, 3] indices.
    spacing_mm: voxel sizes.
    count: number of regions.
    outline_at: [count] index of that slice, where each region has a voxel;
      None: the slice with the largest area.

  Returns:
    Name to [count] float32; `centre` has [count, 3] voxels.
  """
  sides = np.asarray(spacing_mm, float)
  point = voxel * sides  # [V, 3] mm
  voxels = np.bincount(owner, minlength=count)
  volume = voxels * sides.prod()
  centre = _mean(owner, point, voxels)
  spread = np.linalg.eigvalsh(_scatter(owner, point, centre, voxels, sides))
  features = {
    'volume_mm3': volume,
    'diameter_mm': np.cbrt(6 * volume / np.pi),
    'elongation': np.sqrt(spread[:, 2] / spread[:, 1]),
    'flatness': np.sqrt(spread[:, 0] / spread[:, 2]),
    'centre': centre / sides,
  }
  features |= _slices(
    owner, voxel[:, 2], point, count, sides, outline_at=outline_at
  )
  return {name: np.asarray(v, np.float32) for name, v in features.items()}


def _mean(owner, point, count):
  sums = [np.bincount(owner, column, len(count)) for column in point.T]
  return np.stack(sums, 1) / np.maximum(count, 1)[:, None]


def _scatter(owner, point, centre, count, sides):
  """Second moments [N, D, D]; a voxel is a box, not a point."""
  away = point - centre[owner]
  moments = np.zeros((len(count), *2 * (point.shape[1],)))
  for i in range(point.shape[1]):
    for j in range(i + 1):
      total = np.bincount(owner, away[:, i] * away[:, j], len(count))
      moments[:, i, j] = moments[:, j, i] = total / np.maximum(count, 1)
    moments[:, i, i] += sides[i] ** 2 / 12
  return moments


def _slices(owner, z, point, count, sides, *, outline_at):
  """Features from slice to slice, and of one slice."""
  lowest = np.full(count, np.iinfo(np.int32).max)
  np.minimum.at(lowest, owner, z)
  z = z - lowest[owner]
  slots = int(z.max(initial=0)) + 1
  slot = owner * slots + z
  area = np.bincount(slot, minlength=count * slots)
  middle = _mean(slot, point[:, :2], area).reshape(count, slots, 2)
  area = area.reshape(count, slots)
  both = (area[:, 1:] > 0) & (area[:, :-1] > 0)
  step = np.linalg.norm(np.diff(middle, axis=1), axis=2)
  shift = np.where(both, step, 0).max(1, initial=0)
  slices = (area > 0).sum(1)
  outlined = area.argmax(1) if outline_at is None else outline_at - lowest
  chosen = z == outlined[owner]
  plane = _plane(owner[chosen], point[chosen, :2], count, sides[:2])
  return plane | {
    'num_slices': slices,
    'extent_mm': slices * sides[2],
    'centroid_shift_mm': shift,
  }


def _plane(owner, point, count, sides):
  """Outline features of one slice of each region."""
  pixels = np.bincount(owner, minlength=count)
  area = pixels * sides.prod()
  centre = _mean(owner, point, pixels)
  spread = np.linalg.eigvalsh(_scatter(owner, point, centre, pixels, sides))
  outline, convex, feret = _convex(owner, point, count, sides)
  return {
    'area_pixels': pixels,
    'area_mm2': area,
    'eccentricity': np.sqrt(1 - spread[:, 0] / spread[:, 1]),
    'circularity': 4 * np.pi * area / outline**2,
    'solidity': area / convex,
    'feret_mm': feret,
  }


def _convex(owner, point, count, sides):
  """Perimeter, area and Feret diameter of the convex outline.

  From its support function h: an edge of the circumscribed polygon is
  (h_before + h_after - 2 h cos d) / sin d long, at distance h.
  """
  angle = np.arange(2 * _ANGLES) * (np.pi / _ANGLES)
  delta = np.pi / _ANGLES
  start = np.searchsorted(owner, np.arange(count))
  support = np.empty((count, len(angle)))
  for i, a in enumerate(angle):
    along = point[:, 0] * np.cos(a) + point[:, 1] * np.sin(a)
    half = abs(np.cos(a)) * sides[0] / 2 + abs(np.sin(a)) * sides[1] / 2
    support[:, i] = np.maximum.reduceat(along, start) + half
  before, after = np.roll(support, 1, 1), np.roll(support, -1, 1)
  edge = (before + after - 2 * support * np.cos(delta)) / np.sin(delta)
  feret = (support[:, :_ANGLES] + support[:, _ANGLES:]).max(1)
  return edge.sum(1), (support * edge).sum(1) / 2, feret
