"""An SWI to how much each place looks like a dark vessel, 0..1.

Rule: all sizes are in mm and thick slices count as what they are, so that a
dot in two slices is not a tube along them.

The line filter of Li, Sone and Doi, Medical Physics 30:2040, 2003: of the
curvatures a <= b <= c of the blurred image, b (b - a) / c is large in tubes and
0 in dots (a = b = c) and in sheets (a = b = 0).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import curvature, resample

SCALES_MM = (0.8, 1.6)  # standard deviations; veins of 1 to 4 mm
_WORK_MM = 1.0  # voxels smaller than this are averaged first
_ROOM_MM = 6.0  # round the brain
_GAIN = 6.0  # a long black vein of the right width then gives about 1
_LEAST_SHARE = 0.05  # of brain within the blur


class Vesselness(NamedTuple):
  """A map on blocks of the scan's voxels."""

  image: np.ndarray  # float32 [X / f, Y / f, Z / f], 0..1
  factors: tuple[int, ...]  # voxels of a block along x, y, z


def of_image(
  image: np.ndarray, mask: np.ndarray, spacing_mm: Sequence[float]
) -> Vesselness:
  """How much each place of the brain looks like a dark vessel.

  Args:
    image: [X, Y, Z] SWI in 0..1.
    mask: bool [X, Y, Z], the brain; 0 outside of it.
    spacing_mm: voxel sizes.
  """
  factors = tuple(max(1, round(_WORK_MM / side)) for side in spacing_mm)
  sides = np.array(spacing_mm, float) * factors
  inside = resample.block_mean(mask, factors)
  bright = resample.block_mean(np.where(mask, image, 0), factors)
  found = np.zeros(inside.shape, np.float32)
  box = _box(inside > 0, sides)
  if box is not None:
    soft, value = inside[box], bright[box]
    lines = [_lines(value, soft, sides, scale) for scale in SCALES_MM]
    found[box] = np.clip(_GAIN * np.maximum.reduce(lines), 0, 1)
    found[box] *= soft > 0.5
  return Vesselness(found, factors)


def _box(inside, sides):
  """The box of the brain with room to blur; None: there is no brain."""
  (box,) = ndimage.find_objects(inside.astype(np.int8)) or [None]
  if box is None:
    return None
  room = np.ceil(_ROOM_MM / sides).astype(int)
  return tuple(
    slice(max(0, one.start - more), one.stop + more)
    for one, more in zip(box, room)
  )


def _lines(value, soft, sides, scale_mm):
  """The line filter at one scale, in parts of the brightness round it."""
  # A voxel has blurred the image already.
  sigma = np.sqrt(np.maximum(scale_mm**2 - sides**2 / 12, 0)) / sides
  share = ndimage.gaussian_filter(soft, sigma, truncate=3)
  # What is outside of the brain is not dark, but unknown.
  smooth = ndimage.gaussian_filter(value, sigma, truncate=3)
  smooth /= np.maximum(share, _LEAST_SHARE)
  found = np.zeros(value.shape, np.float32)
  # Where nothing bends upwards there is no dark tube.
  second = _curvatures(smooth, sides, scale_mm)
  at = (soft > 0.5) & (second[0] + second[1] + second[2] > 0)
  low, middle, high = curvature.eigenvalues([one[at] for one in second])
  middle = np.maximum(middle, 0)
  low = np.clip(low, 0, middle)
  found[at] = middle * (middle - low) / np.maximum(high, 1e-6)
  return found


def _curvatures(image, sides, scale_mm):
  """xx, yy, zz, xy, xz, yz second derivatives, times the squared scale."""
  first = [np.gradient(image, axis=axis) for axis in range(3)]
  gain = [np.sqrt(_gain(side, scale_mm)) * scale_mm / side for side in sides]
  result = []
  for axis in range(3):
    middle = np.moveaxis(image, axis, 0)
    second = np.zeros_like(image)
    bent = np.moveaxis(second, axis, 0)
    bent[1:-1] = middle[2:] + middle[:-2] - 2 * middle[1:-1]
    result.append(second * np.float32(gain[axis] ** 2))
  for i, j in ((0, 1), (0, 2), (1, 2)):
    mixed = np.gradient(first[i], axis=j)
    result.append(mixed * np.float32(gain[i] * gain[j]))
  return result


def _gain(side, scale_mm):
  """What the second difference of a dot has to be multiplied by.

  From voxel to voxel a small dot bends less than it does in its middle. Of a
  Gaussian dot as wide as the blur, the true curvature over the differences.
  """
  width = 2 * scale_mm**2
  seen = 2 * (1 - np.exp(-(side**2) / (2 * width))) / side**2
  return 1 / (width * seen)
