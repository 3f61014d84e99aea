"""A scan and its brain mask to the affine map from world mm to MNI mm.

Rule: only the mask decides where to start, never the origin of the header,
so a scan is found wherever its file puts it; axes must be named rightly.

The image is explained as tissue: intensity = sum over classes of (mean of the
class) x (its share in the template) + (shift of the mask's edge), with the
means solved for in every step. So any contrast will do, bright or dark, and a
mask that is a little wide or narrow everywhere does not scale the brain. The
12 parameters follow by Gauss-Newton with robust weights, coarse to fine
(Friston et al. 1995; Ashburner et al. 1997, with their prior on the strain).
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.imaging import slabs
from cmbjax.imaging import template as template_module

# Strain from a person to the template: the mean and standard deviation of the
# log-length, and the standard deviation of what differs between directions.
_LENGTH_MEAN, _LENGTH_SD, _SHAPE_SD = 0.04, 0.06, 0.035
_TURN_SD = np.deg2rad(20.0)  # a head in the scanner
_BIAS_MM = 20.0  # width over which the receive field is followed
_RIM_MM = 12.0  # outside of the mask that takes part
_MIN_BRAIN_ML = 60.0
# What a template cannot explain is not noise: it is wrong in the same way over
# a wide area, so that many fewer voxels count than there are.
_ALIKE = 10.0
LEAST_OVERLAP = 0.85


class Level(NamedTuple):
  """One step from coarse to fine."""

  spacing_mm: float  # of the voxels that take part
  blur_mm: float  # standard deviation
  iterations: int
  looseness: float  # factor on `_SHAPE_SD`


_START = Level(12.0, 8.0, 6, 0.3)
_LEVELS = (
  Level(8.0, 6.0, 10, 0.6),
  Level(6.0, 4.0, 10, 1.0),
  Level(4.0, 2.5, 10, 1.0),
)
_PITCH_DEG = (-22, 0, 22)
_SLAB_STEP_MM = 14.0
_NUM_KEPT = 3  # starts that go through the first level


class Registration(NamedTuple):
  """Where a scan is in MNI space.

  Attributes:
    world_to_mni: [4, 4] float64, homogeneous, mm to mm.
    overlap: Dice coefficient of the mask and the template's brain inside the
      field of view; under `LEAST_OVERLAP` the result is not to be trusted.
    misfit: share of the variance of the image that is not explained, 0..1.
  """

  world_to_mni: np.ndarray
  overlap: float
  misfit: float

  @property
  def trusted(self) -> bool:
    return self.overlap >= LEAST_OVERLAP

  def to_mni(self, world_mm) -> np.ndarray:
    """World mm [..., 3] to MNI mm [..., 3]."""
    world_mm = np.asarray(world_mm, float)
    return world_mm @ self.world_to_mni[:3, :3].T + self.world_to_mni[:3, 3]


class _Points(NamedTuple):
  """Voxels of the scan that take part, and what they show."""

  world_mm: np.ndarray  # [N, 3]
  value: np.ndarray  # [N], 0 outside of the mask, about 1 inside
  centre_mm: np.ndarray  # [3]


def register(image, mask, affine) -> Registration:
  """Affine registration to MNI152 (ICBM 2009a).

  Args:
    image: [X, Y, Z] magnitude, or SWI, in RAS voxel order.
    mask: [X, Y, Z] bool brain.
    affine: [4, 4] RAS voxel index to world mm.

  Returns:
    The affine map and how well it fits.

  Raises:
    InputError: shapes differ, or less brain than `_MIN_BRAIN_ML`.
  """
  image, mask = np.asarray(image), np.asarray(mask, bool)
  affine = np.asarray(affine, float)
  if image.shape != mask.shape or image.ndim != 3:
    raise InputError(
      f'mask: has shape {mask.shape}, the image {image.shape}; both must be '
      'on one grid of 3 axes.'
    )
  volume_ml = mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1e3
  if volume_ml < _MIN_BRAIN_ML:
    raise InputError(
      f'mask: holds {volume_ml:.0f} ml of brain, at least {_MIN_BRAIN_ML:.0f} '
      'are needed to place it; give a larger slab or another mask.'
    )
  flat, step = flattened(image, mask, affine)
  matrices = _starts(flat, step)
  for level in _LEVELS:
    points = _take_points(*flat, step, level)
    tried = [_fit(points, m, level) for m in matrices]
    matrices = [min(tried, key=lambda t: t[1])[0]]
  matrix, misfit = tried[0]
  return Registration(matrix, _overlap(*flat[1:], matrix), misfit)


def _starts(flat, step) -> list[np.ndarray]:
  """The best of many heights and pitches, at low resolution."""
  points = _take_points(*flat, step, _START)
  _, soft, affine = flat
  inside = np.argwhere(soft > 0.5) @ affine[:3, :3].T + affine[:3, 3]
  low, high = np.percentile(inside[:, 2], (0.5, 99.5))
  template = template_module.load()
  solid = template.brain > 0.5
  levels = template.origin_mm[2] + template_module.STEP_MM * np.flatnonzero(
    solid.any((0, 1))
  )
  half = 0.45 * (high - low)
  bottom, top = levels[0] + half, levels[-1] - half
  count = max(1, int(np.ceil((top - bottom) / _SLAB_STEP_MM)) + 1)
  heights = (
    np.linspace(bottom, top, count) if top > bottom else [(bottom + top) / 2]
  )
  tried = []
  for height in heights:
    goal = _middle(template, height, half)
    for pitch in _PITCH_DEG:
      matrix = _placed(points.centre_mm, goal, np.deg2rad(pitch))
      tried.append(_fit(points, matrix, _START))
  tried.sort(key=lambda t: t[1])
  return [matrix for matrix, _ in tried[:_NUM_KEPT]]


def _middle(template, height, half):
  """Centre of the template's brain between two heights, MNI mm."""
  z = template.origin_mm[2] + template_module.STEP_MM * np.arange(
    template.brain.shape[2]
  )
  slab = template.brain * (abs(z - height) <= half + 1)
  index = np.argwhere(slab > 0.5).mean(0)
  return template.origin_mm + template_module.STEP_MM * index


def _placed(centre, goal, pitch) -> np.ndarray:
  """Turned about x, and `centre` brought to `goal`."""
  cos, sin = np.cos(pitch), np.sin(pitch)
  turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
  matrix = np.eye(4)
  matrix[:3, :3] = np.exp(_LENGTH_MEAN) * turn
  matrix[:3, 3] = goal - matrix[:3, :3] @ centre
  return matrix


def flattened(image, mask, affine):
  """An image without its receive field, at about 2 mm.

  Args:
    image: [X, Y, Z].
    mask: [X, Y, Z] bool brain.
    affine: [4, 4] voxel index to world mm.

  Returns:
    ((float32 image, 0 outside of the brain and about 1 inside; float32 share
    of the brain in each voxel; affine), voxel sizes [3]).
  """
  spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))
  factors = [max(1, round(2.0 / s)) for s in spacing]
  factors = [min(f, n) for f, n in zip(factors, image.shape)]
  soft, value = _block_means(image, mask, factors)
  step = spacing * factors
  sigma = _BIAS_MM / step
  local = ndimage.gaussian_filter(value, sigma)
  local /= np.maximum(ndimage.gaussian_filter(soft, sigma), 1e-3)
  value /= np.maximum(local, 1e-3 * max(float(local.max()), 1e-9))
  # Flow and lesions are not tissue.
  value = np.clip(value, 0, 2 * soft)
  change = np.diag([*factors, 1.0])
  change[:3, 3] = (np.array(factors) - 1) / 2
  return (value, soft, affine @ change), step


def _block_means(image, mask, factors):
  """Share of the mask, and mean of the image in it, float32 of each block."""
  soft, value = [], []
  rows = image.shape[0] // factors[0] * factors[0]
  for part in slabs.of(rows, factors[0]):
    inside, one = mask[part], np.asarray(image[part], np.float32)
    one = np.where(inside & np.isfinite(one), one, np.float32(0))
    soft.append(_block_mean(inside.astype(np.float32), factors))
    value.append(_block_mean(one, factors))
  return np.concatenate(soft), np.concatenate(value)


def _block_mean(image, factors):
  """Mean over blocks; a rest that fills no block is left out."""
  keep = [n // f for n, f in zip(image.shape, factors)]
  image = image[tuple(slice(0, k * f) for k, f in zip(keep, factors))]
  (a, p), (b, q), (c, r) = zip(keep, factors)
  return image.reshape(a, p, b, q, c, r).mean((1, 3, 5))


def _take_points(value, soft, affine, step, level: Level) -> _Points:
  """Every so many voxels of the blurred image, in the mask and round it."""
  sigma = np.sqrt(np.maximum(level.blur_mm**2 - (0.4 * step) ** 2, 0)) / step
  smooth = ndimage.gaussian_filter(value, sigma, mode='nearest')
  stride = [max(1, round(level.spacing_mm / s)) for s in step]
  reach = np.ceil(_RIM_MM / step).astype(int)
  near = ndimage.maximum_filter(soft, 2 * reach + 1) > 0.5
  first = [(n - 1) % k // 2 for n, k in zip(soft.shape, stride)]
  thin = tuple(slice(f, None, k) for f, k in zip(first, stride))
  near = near[thin]
  index = np.argwhere(near) * stride + first
  centre = np.argwhere(soft > 0.5).mean(0) @ affine[:3, :3].T + affine[:3, 3]
  world = index @ affine[:3, :3].T + affine[:3, 3]
  return _Points(world, smooth[thin][near], centre)


class _Classes(NamedTuple):
  """Blurred template: grey, white, CSF, edge of the brain."""

  origin_mm: np.ndarray
  step_mm: float
  maps: np.ndarray  # [4, X, Y, Z] float32


@functools.lru_cache(maxsize=8)
def _blurred_template(blur_mm: float) -> _Classes:
  template = template_module.load()
  pad, step = 12, template_module.STEP_MM
  grey, white, brain = (
    ndimage.gaussian_filter(np.pad(image, pad), blur_mm / step)
    for image in (template.grey, template.white, template.brain)
  )
  edge = np.sqrt(sum(g**2 for g in np.gradient(brain)))
  maps = np.stack([grey, white, brain - grey - white, edge])
  origin = template.origin_mm - pad * step
  thin = 2 if blur_mm >= 2 * step else 1
  maps = np.ascontiguousarray(maps[:, ::thin, ::thin, ::thin], np.float32)
  return _Classes(origin, thin * step, maps)


def _explain(points: _Points, matrix, classes: _Classes):
  """Where the points lie in the template, the means, and the residual [N]."""
  place = points.world_mm @ matrix[:3, :3].T + matrix[:3, 3]
  index = ((place - classes.origin_mm) / classes.step_mm).T
  shares = np.stack(
    [ndimage.map_coordinates(c, index, order=1) for c in classes.maps], 1
  )
  # A class that hardly occurs in a slab keeps the mean of tissue.
  pull = 0.002 * len(shares)
  left = shares.T @ shares + pull * np.eye(4)
  right = shares.T @ points.value + pull * np.array([1, 1, 1, 0])
  means = np.linalg.solve(left, right)
  return place, index, means, points.value - shares @ means


def _fit(points: _Points, matrix, level: Level):
  """Gauss-Newton from `matrix`: (the map, share of variance left)."""
  classes = _blurred_template(level.blur_mm)
  for _ in range(level.iterations):
    place, index, means, rest = _explain(points, matrix, classes)
    slope = _slope(means, classes, index)
    change = _step(place, slope, rest, matrix, level)
    matrix = change @ matrix
    if abs(change - np.eye(4)).max() < 0.02:  # mm
      break
  rest = _explain(points, matrix, classes)[3]
  return matrix, float((rest**2).mean() / max(points.value.var(), 1e-9))


def _slope(means, classes: _Classes, index):
  """Gradient [N, 3] per mm of the explained image at the points."""
  image = sum(m * c for m, c in zip(means.astype(np.float32), classes.maps))
  slope = []
  for axis in range(3):
    shift = np.zeros((3, 1))
    shift[axis] = 0.5
    ahead, behind = (
      ndimage.map_coordinates(image, index + s, order=1)
      for s in (shift, -shift)
    )
    slope.append((ahead - behind) / classes.step_mm)
  return np.stack(slope, 1)


def _step(place, slope, rest, matrix, level: Level) -> np.ndarray:
  """One damped Gauss-Newton step, [4, 4], to be applied in MNI space."""
  from scipy.spatial.transform import Rotation

  middle = place.mean(0)
  columns = slope[:, :, None] * (place - middle)[:, None, :]
  jacobian = np.concatenate([columns.reshape(-1, 9), slope], 1)  # [N, 12]
  scale = 2.0 * 1.4826 * np.median(abs(rest)) + 1e-6
  weight = 1 / (1 + (rest / scale) ** 2) ** 2  # Geman and McClure
  variance = (weight * rest**2).sum() / weight.sum()
  # Neighbours within the blur tell the same.
  alike = _ALIKE * max(1.0, (3.5 * level.blur_mm / level.spacing_mm) ** 3)
  weighted = (weight / (variance * alike))[:, None] * jacobian
  left = weighted.T @ jacobian
  right = weighted.T @ rest
  # Prior on strain and rotation, linear in the step.
  u, stretch, vt = np.linalg.svd(matrix[:3, :3])
  strain = u @ np.diag(np.log(stretch)) @ u.T
  turn = Rotation.from_matrix(u @ vt).as_rotvec()
  shape_sd = level.looseness * _SHAPE_SD
  for row, found, wanted, sd in _priors(strain, turn, shape_sd):
    left += np.outer(row, row) / sd**2
    right += row * (wanted - found) / sd**2
  left += 1e-6 * np.diag(np.diag(left))
  solved = np.linalg.solve(left, right)
  change = np.eye(4)
  change[:3, :3] += solved[:9].reshape(3, 3)
  change[:3, 3] = solved[9:] - solved[:9].reshape(3, 3) @ middle
  return change


def _priors(strain, turn, shape_sd):
  """(row over the 12 numbers of a step, its value now, mean, sd)."""
  unit = np.eye(12)
  diagonal = unit[[0, 4, 8]]
  length = np.trace(strain) / 3
  yield diagonal.mean(0), length, _LENGTH_MEAN, _LENGTH_SD
  for axis in range(3):
    row = diagonal[axis] - diagonal.mean(0)
    yield row, strain[axis, axis] - length, 0.0, shape_sd
  for i, j in ((0, 1), (0, 2), (1, 2)):
    row = (unit[3 * i + j] + unit[3 * j + i]) / 2
    yield row, strain[i, j], 0.0, shape_sd
  for axis, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
    row = (unit[3 * i + j] - unit[3 * j + i]) / 2
    yield row, turn[axis], 0.0, _TURN_SD


def _overlap(soft, affine, matrix) -> float:
  """Dice coefficient of mask and template within the field of view."""
  template = template_module.load()
  index = np.indices(tuple(-(-n // 2) for n in soft.shape)).reshape(3, -1).T * 2
  whole = matrix @ affine
  place = index @ whole[:3, :3].T + whole[:3, 3] - template.origin_mm
  there = ndimage.map_coordinates(
    template.brain, place.T / template_module.STEP_MM, order=1
  )
  here = soft[::2, ::2, ::2].ravel() > 0.5
  there = there > 0.5
  return float(2 * (here & there).sum() / max(here.sum() + there.sum(), 1))
