"""Images to blocks of voxels and back: what is smooth needs no more.

Rule: the corner of the first voxel stays where it is.
"""

from collections.abc import Sequence

import numpy as np


def block_sums(image: np.ndarray, factors: Sequence[int]) -> np.ndarray:
  """Sums over whole blocks of voxels; the last block may be smaller.

  Args:
    image: float [X, Y, Z].
    factors: voxels in a block along each axis.
  """
  for axis, factor in enumerate(factors):
    starts = np.arange(0, image.shape[axis], factor)
    image = np.add.reduceat(image, starts, axis)
  return image


def block_mean(image: np.ndarray, factors: Sequence[int]) -> np.ndarray:
  """Means of whole blocks of voxels; the last block may be smaller.

  Args:
    image: float [X, Y, Z].
    factors: voxels in a block along each axis.
  """
  for axis, factor in enumerate(factors):
    if factor > 1:
      size = image.shape[axis]
      starts = np.arange(0, size, factor)
      counts = np.diff(np.append(starts, size)).astype(np.float32)
      image = np.add.reduceat(image, starts, axis) / _along(counts, axis)
  return image


def stretch(
  coarse: np.ndarray, factors: Sequence[int], shape: Sequence[int]
) -> np.ndarray:
  """Block means back to [X, Y, Z] of `shape`, by linear interpolation.

  Args:
    coarse: block means.
    factors: voxels of a block along x, y, z.
    shape: X, Y, Z of the result.
  """
  result = np.asarray(coarse, np.float32)
  for axis, (factor, size) in enumerate(zip(factors, shape)):
    if factor > 1:
      last = coarse.shape[axis] - 1
      place = np.clip((np.arange(size) + 0.5) / factor - 0.5, 0, last)
      low = np.minimum(place.astype(int), max(last - 1, 0))
      part = _along((place - low).astype(np.float32), axis)
      step = result.take(np.minimum(low + 1, last), axis)
      result = result.take(low, axis)
      step -= result
      step *= part
      result += step
  return result


def _along(values, axis):
  return values.reshape([-1 if a == axis else 1 for a in range(3)])
