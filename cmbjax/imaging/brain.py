"""A head image to the voxels that are brain.

Rule: all sizes are in mm, so that thick slices do not change the answer. A
person's own mask always goes before this one.
"""

import numpy as np
from scipy import ndimage

from cmbjax.errors import InputError

_WORK_MM = 2.0  # the shape is found on a grid of about this spacing
_OPEN_MM = 7.0  # bridges from brain to scalp thinner than twice this are cut
_BIAS_MM = 25.0  # width over which the receive field is followed
_LEAST_OF_BRIGHT = 0.15  # tissue is above this part of the brightest voxels,
_LEAST_OF_LOCAL = 0.4  # above this part of the tissue round it,
_LEAST_OF_NOISE = 4.0  # and above this many times the air,
_MOST_FOR_NOISE = 0.4  # unless there is no air in the image
_IN_PLANE = np.array([[[0], [1], [0]], [[1], [1], [1]], [[0], [1], [0]]], bool)
_CLOSE_MM = 5.0  # sulci and vessels narrower than twice this are closed


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
  image = np.asarray(image, np.float32)
  factors = [
    max(1, round(_WORK_MM / s)) if n > 1 else 1
    for s, n in zip(spacing_mm, image.shape)
  ]
  coarse = _block_mean(image, factors)
  step = np.array(spacing_mm, float) * factors
  tissue = _is_tissue(coarse, step)
  shape = _largest(_erode(tissue, step, _OPEN_MM))
  shape = _dilate(shape, step, _OPEN_MM)
  # The corners that opening cuts come back, but only within a slice: above the
  # brain of a thick slice lies the scalp of the next.
  shape = ndimage.binary_dilation(shape, _IN_PLANE) & tissue
  shape = _close(shape, step, _CLOSE_MM)
  shape = _fill_slices(shape)
  if not shape.any():
    raise InputError(
      f'image {image.shape}: no brain was found; give a mask of your own.'
    )
  return _refine(shape, factors, image.shape)


def _is_tissue(coarse, step):
  """Brighter than noise and than a fraction of its surroundings."""
  positive = coarse[coarse > 0]
  if not positive.size:
    raise InputError('image: holds no signal; give another file.')
  high = float(np.percentile(positive, 98))
  noise = float(np.percentile(coarse, 10))
  above_noise = min(_LEAST_OF_NOISE * noise, _MOST_FOR_NOISE * high)
  rough = coarse > max(_LEAST_OF_BRIGHT * high, above_noise)
  sigma = _BIAS_MM / step
  weight = ndimage.gaussian_filter(rough.astype(np.float32), sigma)
  local = ndimage.gaussian_filter(np.where(rough, coarse, 0), sigma)
  local /= np.maximum(weight, 1e-3)
  return rough & (coarse > _LEAST_OF_LOCAL * local)


def _block_mean(image, factors):
  for axis, factor in enumerate(factors):
    if factor > 1:
      starts = np.arange(0, image.shape[axis], factor)
      counts = np.diff(np.append(starts, image.shape[axis]))
      image = np.add.reduceat(image, starts, axis) / np.reshape(
        counts.astype(np.float32), [-1 if a == axis else 1 for a in range(3)]
      )
  return image


def _erode(mask, step, radius_mm):
  padded = np.pad(mask, [(1, 1), (1, 1), (0, 0)])
  inside = ndimage.distance_transform_edt(padded, sampling=step)
  return inside[1:-1, 1:-1] > radius_mm


def _dilate(mask, step, radius_mm):
  return ndimage.distance_transform_edt(~mask, sampling=step) <= radius_mm


def _close(mask, step, radius_mm):
  pad = [int(np.ceil(radius_mm / s)) + 1 for s in step]
  padded = np.pad(mask, [(p, p) for p in pad])
  closed = (
    ndimage.distance_transform_edt(
      _dilate(padded, step, radius_mm), sampling=step
    )
    > radius_mm
  )
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


def _refine(mask, factors, shape):
  """The coarse shape on the full grid, smooth at its edge."""
  result = mask.astype(np.float32)
  for axis, (factor, size) in enumerate(zip(factors, shape)):
    if factor > 1:
      place = (np.arange(size) + 0.5) / factor - 0.5
      place = np.clip(place, 0, mask.shape[axis] - 1)
      low = np.minimum(place.astype(int), max(mask.shape[axis] - 2, 0))
      high = np.minimum(low + 1, mask.shape[axis] - 1)
      part = (place - low).astype(np.float32)
      part = part.reshape([-1 if a == axis else 1 for a in range(3)])
      result = result.take(low, axis) * (1 - part) + part * result.take(
        high, axis
      )
  return result > 0.5
