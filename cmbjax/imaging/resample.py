"""Images to another voxel size, each voxel the mean of what it covers.

Rule: the corner of the first voxel stays where it is in the world, so both
grids cover the same tissue; nothing is turned.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import slabs, volume

_MOST_TIMES = 20.0  # a voxel size this many times off is a slip of the pen


def block_mean(image: np.ndarray, factors: Sequence[int]) -> np.ndarray:
  """Means of whole blocks of voxels; the last block may be smaller.

  Args:
    image: [X, Y, Z].
    factors: voxels in a block along each axis.

  Returns:
    float32.
  """
  parts = [
    _block_mean(image[..., part], factors)
    for part in slabs.of(image.shape[2], factors[2])
  ]
  return np.concatenate(parts, 2)


def _block_mean(image, factors):
  image = np.asarray(image, np.float32)
  for axis, factor in enumerate(factors):
    if factor > 1:
      starts = np.arange(0, image.shape[axis], factor)
      counts = np.diff(np.append(starts, image.shape[axis]))
      image = np.add.reduceat(image, starts, axis) / _along(
        counts.astype(np.float32), axis
      )
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


def to_spacing(
  image: np.ndarray,
  spacing_mm: Sequence[float],
  new_mm: Sequence[float],
) -> np.ndarray:
  """Means over new voxels, along every axis by the share that each covers.

  Args:
    image: [X, Y, Z].
    spacing_mm: its voxel sizes.
    new_mm: the new voxel sizes; along an axis that gets finer the image is
      interpolated linearly.

  Returns:
    float32, on a grid that starts at the same corner and covers the image as
    far as whole voxels do (an axis keeps at least one voxel).

  Raises:
    InputError: a size that is not above 0, or far from the old one.
  """
  image = np.asarray(image, np.float32)
  for axis, (old, new) in enumerate(zip(spacing_mm, new_mm)):
    if not 1 / _MOST_TIMES <= new / old <= _MOST_TIMES:
      raise InputError(
        f'resample: found {new:g} mm for voxels of {old:g} mm; give a size '
        f'between {old / _MOST_TIMES:g} and {old * _MOST_TIMES:g} mm.'
      )
    if abs(new / old - 1) > 1e-4:
      weights = _weights(image.shape[axis], new / old)
      image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
  return image


def to_spacing_volume(
  like: volume.Volume, new_mm: Sequence[float]
) -> volume.Volume:
  """The grid of `to_spacing`, with the voxel order of the file kept.

  Returns:
    a volume whose array is empty (zeros, uint8) and whose affine and native
    grid are the new ones.
  """
  ratio = np.array(new_mm, float) / like.spacing_mm
  shape = [_count(n, r) for n, r in zip(like.array.shape, ratio)]
  affine = like.affine.copy()
  affine[:3, :3] *= ratio
  affine[:3, 3] = like.to_world((ratio - 1) / 2)
  empty = dataclasses.replace(
    like, array=np.zeros(shape, np.uint8), affine=affine
  )
  return volume.with_order_of(empty, like)


def _weights(size, ratio):
  """Matrix [new, old] of shares; rows sum to 1."""
  count = _count(size, ratio)
  if ratio < 1:
    place = np.clip((np.arange(count) + 0.5) * ratio - 0.5, 0, size - 1)
    return np.maximum(
      1 - np.abs(place[:, None] - np.arange(size)), 0, dtype=np.float32
    )
  low = (np.arange(count) * ratio)[:, None]
  start = np.arange(size)
  share = np.minimum(low + ratio, start + 1) - np.maximum(low, start)
  share = np.maximum(share, 0)
  return (share / share.sum(1, keepdims=True)).astype(np.float32)


def _count(size, ratio):
  return max(int(np.floor(size / ratio + 1e-3)), 1)


def _along(values, axis):
  return values.reshape([-1 if a == axis else 1 for a in range(3)])
