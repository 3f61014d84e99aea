"""A head image to the voxels that are brain.

Rule: all sizes are in mm, so that thick slices do not change the answer, and
what is dark and small inside does not change it either. A person's own mask
always goes before this one.
"""

import numpy as np
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.imaging import resample, slabs

_WORK_MM = 2.0  # the shape is found on a grid of about this spacing
_BIAS_MM = 25.0  # width over which the receive field is followed
_LEAST_OF_BRIGHT = 0.07  # tissue is above this part of the brightest voxels,
_LEAST_OF_LOCAL = 0.4  # above this part of the tissue round it,
_LEAST_OF_NOISE = 2.5  # and above this many times the air,
_MOST_FOR_NOISE = 0.3  # unless there is no air in the image
_OPEN_MM = 11.0  # bridges from brain to face and neck below twice this are cut
_MOST_OF_RADIUS = 0.38  # of the largest ball in the brain, for part of a head
_LEAST_RADIUS_MM = 4.0  # of that ball, or it is not a brain
_CORNER_MM = 4.0  # gyri that the cut took off reach no farther than this
_THICK_MM = (
  3.0  # what is thicker than twice this beside the brain is not a gyrus
)
_ROUND_MM = 5.0  # what is thick is not a sheet above this
_SMALL_ML = 20.0  # brain stem below the cut, poles of the temporal lobes
_LEAST_SHARED = 0.1  # of the surface of a larger part touches the brain
_CLOSE_MM = 6.0  # sulci and vessels narrower than twice this are closed
_DEEP_MM = 4.0  # farther from the edge everything is brain, dark or bright
_NOTCH_MM = 8.0  # a dark lesion at the edge is at most twice as wide
_HOLE_ML = 3.0  # a lesion of 10 mm whose SWI is dark 18 mm wide
_EDGE = 0.6  # the edge is where the image falls to this part of the tissue


def brain_mask(
  image: np.ndarray, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
  """Threshold and morphology on a coarse, bias-corrected copy.

  Args:
    image: [X, Y, Z] magnitude, best of a short echo; an SWI will do.
    spacing_mm: voxel sizes.

  Returns:
    bool [X, Y, Z].

  Raises:
    InputError: no signal, or nothing of the size of a brain.
  """
  factors = [
    max(1, round(_WORK_MM / s)) if n > 1 else 1
    for s, n in zip(spacing_mm, image.shape)
  ]
  coarse = resample.block_mean(image, factors)
  step = np.array(spacing_mm, float) * factors
  # Balls of some mm have no shape in slices that are thicker than they are.
  thick = max(1, round(step[2] / _WORK_MM))
  coarse, step[2] = coarse.repeat(thick, 2), step[2] / thick
  relative, tissue = _tissue(coarse, step)
  shape = _without_surroundings(tissue, step)
  shape = _fill_slices(_close(shape, step, _CLOSE_MM))
  if not shape.any():
    raise InputError(
      f'image {image.shape}: no brain was found; give a mask of your own.'
    )
  # The edge between coarse voxels is where the image itself says.
  bright = shape & (relative > _EDGE)
  deep = _erode(shape, step, _DEEP_MM)
  # But a dark lesion there must not remove itself.
  closed = _fill_slices(_close(deep | bright, step, _NOTCH_MM))
  sure = deep | (shape & closed & ~bright)
  level = np.where(sure, 1, np.where(shape, np.minimum(relative, 1), 0))
  level = resample.block_mean(level, (1, 1, thick))
  level = resample.stretch(level, (*factors[:2], 1), image.shape)
  mask = np.empty(image.shape, bool)
  for rows in slabs.of(image.shape[0]):
    part = level[rows]
    shape = (*part.shape[:2], image.shape[2])
    mask[rows] = resample.stretch(part, (1, 1, factors[2]), shape) > _EDGE
  return mask


def _tissue(coarse, step):
  """(image relative to the tissue round it, bool where there is tissue)."""
  positive = coarse[coarse > 0]
  if not positive.size:
    raise InputError('image: holds no signal; give another file.')
  high = float(np.percentile(positive, 98))
  noise = float(np.percentile(coarse, 10))
  above_noise = min(_LEAST_OF_NOISE * noise, _MOST_FOR_NOISE * high)
  rough = coarse > max(_LEAST_OF_BRIGHT * high, above_noise)
  sigma = _BIAS_MM / step
  weight, local = (
    ndimage.gaussian_filter(a, sigma, truncate=3)
    for a in (rough.astype(np.float32), np.where(rough, coarse, 0))
  )
  relative = coarse * np.maximum(weight, 1e-3) / np.maximum(local, 1e-20)
  return relative, _fill_holes(rough & (relative > _LEAST_OF_LOCAL), step)


def _fill_holes(tissue, step):
  """Tissue with small dark things inside; skull and air are large or open."""
  labels, _ = ndimage.label(~tissue)
  small = np.bincount(labels.ravel()) * step.prod() / 1000 < _HOLE_ML
  return tissue | small[labels]


def _without_surroundings(tissue, step):
  """The brain in the tissue of a head."""
  # Beyond the sides of the view is no tissue: a face cut there is no brain.
  padded = np.pad(tissue, [(1, 1), (1, 1), (0, 0)])
  inside = ndimage.distance_transform_edt(padded, sampling=step)[1:-1, 1:-1]
  if inside.max() < _LEAST_RADIUS_MM:
    return np.zeros_like(tissue)
  radius = min(_OPEN_MM, _MOST_OF_RADIUS * inside.max())
  core = _dilate(_largest(inside > radius), step, radius) & tissue
  # Gyri are thin and near, scalp is thin and far. What is thick and touches
  # the brain is a part of it if small (its stem, a pole) or if it lies on it
  # broadly (a lobe behind a resection); face and neck hang on bridges.
  rest = tissue & ~core
  depth = ndimage.distance_transform_edt(rest, sampling=step)
  thick = _dilate(depth > _THICK_MM, step, _THICK_MM)
  labels, count = ndimage.label(thick)
  round_ = ndimage.maximum(depth, labels, np.arange(count + 1)) > _ROUND_MM
  small = np.bincount(labels.ravel()) * step.prod() / 1000 < _SMALL_ML
  shared = _shared_surface(labels, count, core, step)
  kept = round_ & (shared > np.where(small, 0, _LEAST_SHARED))
  core |= kept[labels] & thick
  away = ndimage.distance_transform_edt(~core, sampling=step)
  return _largest(core | (rest & ~thick & (away <= _CORNER_MM)))


def _shared_surface(labels, count, core, step):
  """Share [count + 1] of each label's surface that touches the core."""
  shared, surface = np.zeros((2, count + 1))
  for axis, size in enumerate(step):
    low, high = (
      [np.moveaxis(a, axis, 0)[side] for a in (labels, core)]
      for side in (slice(None, -1), slice(1, None))
    )
    for (label, _), (other, on_core) in ((low, high), (high, low)):
      outer = label[label != other]
      surface += np.bincount(outer, minlength=count + 1) / size
      shared += np.bincount(label[on_core], minlength=count + 1) / size
  return shared / np.maximum(surface, 1e-9)


def _erode(mask, step, radius_mm):
  return ndimage.distance_transform_edt(mask, sampling=step) > radius_mm


def _dilate(mask, step, radius_mm):
  if not mask.any():
    return mask
  return ndimage.distance_transform_edt(~mask, sampling=step) <= radius_mm


def _close(mask, step, radius_mm):
  pad = [int(np.ceil(radius_mm / s)) + 1 for s in step]
  padded = np.pad(mask, [(p, p) for p in pad])
  closed = _erode(_dilate(padded, step, radius_mm), step, radius_mm)
  inner = tuple(slice(p, -p) for p in pad)
  return closed[inner] | mask


def _largest(mask):
  labels, count = ndimage.label(mask)
  if count < 2:
    return mask
  sizes = np.bincount(labels.ravel())
  sizes[0] = 0
  return labels == sizes.argmax()


def _fill_slices(mask):
  return np.stack(
    [ndimage.binary_fill_holes(s) for s in np.moveaxis(mask, 2, 0)], axis=2
  )
