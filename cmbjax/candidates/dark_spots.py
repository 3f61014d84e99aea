"""A flattened SWI to the places of all its dark spots, many too many.

Rule: scales are in mm, so a spot of 3 mm is one in any voxel; a lesion that
touches a vessel, or the rim of the brain, has a place of its own.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.candidates.radial_symmetry import over

# Widths of Gaussians; the difference of two neighbours answers to spots of
# about three times the narrower one.
SCALES_MM = (0.6, 1.5, 3.0)
LEAST = 0.03  # darker than round it by this share of the brain
APART_MM = 1.0  # a place is the best one this near, and in its slice
MOST = 16_000  # the best ones of a scan; about twice what has lesions
_NARROW = 0.3  # a Gaussian of fewer voxels does nothing
_WIDE = 2.5  # where a Gaussian is cut, in widths
_ROWS = 64  # rows that one thread takes; the result does not depend on them


class DarkSpots(NamedTuple):
  """N places, the strongest first."""

  place: np.ndarray  # [N, 3] int32 voxels
  response: np.ndarray  # [N] float32, largest difference of the scales
  darkness: np.ndarray  # [N, S] float32, 1 - image at each scale


def find(
  image: np.ndarray,
  spacing_mm: Sequence[float],
  mask: np.ndarray,
  *,
  jobs: int | None = None,
) -> DarkSpots:
  """All local maxima of the difference of Gaussians, at the best scale.

  Args:
    image: [X, Y, Z] float32, as `background.flatten` gives it.
    spacing_mm: voxel sizes.
    mask: [X, Y, Z] bool, the brain.
    jobs: threads; the result does not depend on it.
  """
  blurred, width_mm = [image], 0.0
  for scale_mm in SCALES_MM:
    # Two Gaussians in a row are one; the second is the cheaper for it.
    more_mm = math.sqrt(scale_mm**2 - width_mm**2)
    sigma = [more_mm / side for side in spacing_mm]
    blurred.append(_blur(blurred[-1], sigma, jobs))
    width_mm = scale_mm
  response = blurred[2] - blurred[1]
  np.maximum(response, blurred[3] - blurred[2], out=response)
  place = _highest(response, spacing_mm, mask, jobs)
  value = response[tuple(place.T)]
  order = np.argsort(-value, kind='stable')[:MOST]
  place = place[order]
  at = tuple(place.T)
  darkness = np.stack([1 - scale[at] for scale in blurred[1:]], 1)
  return DarkSpots(place.astype(np.int32), value[order], darkness)


def _blur(image, sigma, jobs):
  """A Gaussian along each axis."""
  for axis, width in enumerate(sigma):
    if width > _NARROW:
      image = _blur_along(image, width, axis, jobs)
  return image


def _blur_along(image, width, axis, jobs):
  """A Gaussian along one axis, in parts along another one."""
  result = np.empty_like(image)
  along = 1 if axis == 0 else 0

  def one(n: int) -> None:
    rows = slice(n * _ROWS, (n + 1) * _ROWS)
    part = (slice(None), rows) if along else rows
    ndimage.gaussian_filter1d(
      image[part],
      width,
      axis,
      output=result[part],
      mode='nearest',
      truncate=_WIDE,
    )

  over(one, math.ceil(image.shape[along] / _ROWS), jobs)
  return result


def _highest(response, spacing_mm, mask, jobs):
  """Voxels [N, 3] above `LEAST` that are the largest within `APART_MM`.

  Thick slices do not compete with each other: a lesion has a brighter
  neighbour above it too often.
  """
  half = [max(1, int(APART_MM / side + 0.5)) for side in spacing_mm[:2]]
  above = int(APART_MM / spacing_mm[2] + 0.5)
  half.append(above if spacing_mm[2] <= APART_MM else 0)

  def one(n: int) -> np.ndarray:
    first = max(n * _ROWS - half[0], 0)
    rows = slice(first, (n + 1) * _ROWS + half[0])
    part = response[rows]
    best = ndimage.maximum_filter(
      part, [2 * h + 1 for h in half], mode='nearest'
    )
    place = np.argwhere((part >= best) & (part > LEAST) & mask[rows])
    place[:, 0] += first
    return place[place[:, 0] // _ROWS == n]

  return np.concatenate(over(one, math.ceil(len(response) / _ROWS), jobs))
