"""A map of a filter to its peaks on something dark.

Rule: distances are in mm in plane, and one slice up and down.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cmbjax.candidates.gates import Gates
from cmbjax.candidates.radial_symmetry import over
from cmbjax.imaging import slabs


def find(
  image: np.ndarray,
  response: np.ndarray,
  spacing_mm: Sequence[float],
  mask: np.ndarray,
  *,
  gates: Gates,
  least: float,
  jobs: int | None = None,
) -> np.ndarray:
  """Local maxima [N, 3] of the response that lie on something dark.

  A maximum is above `least` and the largest within `peak_mm` in plane and
  one slice up and down; the best `max_peaks`, best first.

  Args:
    image: [X, Y, Z], as `flatten` gives it.
    response: [X, Y, Z] of the filter.
    spacing_mm: voxel sizes.
    mask: [X, Y, Z] bool, the brain.
    gates: distances, darkness and the most peaks.
    least: smallest response.
    jobs: threads; None: one per core.
  """
  parts = []
  for rows in slabs.of(response.shape[0]):
    part = np.argwhere((response[rows] > least) & mask[rows])
    part[:, 0] += rows.start
    parts.append(part)
  place = np.concatenate(parts)
  place = place[_is_dark(image, place, gates.max_darkness)]
  value = response[tuple(place.T)]
  half = [max(1, round(gates.peak_mm / side)) for side in spacing_mm[:2]]
  best = value >= _highest(response, place, half, jobs)
  place, value = place[best], value[best]
  order = np.argsort(-value, kind='stable')[: gates.max_peaks]
  return place[order].astype(np.int32)


def _is_dark(image, place, limit):
  """Whether the darkest of 3 x 3 pixels in plane is below the limit."""
  darkest = np.full(len(place), np.inf, np.float32)
  for dx in (-1, 0, 1):
    for dy in (-1, 0, 1):
      x = np.clip(place[:, 0] + dx, 0, image.shape[0] - 1)
      y = np.clip(place[:, 1] + dy, 0, image.shape[1] - 1)
      darkest = np.minimum(darkest, image[x, y, place[:, 2]])
  return darkest < limit


def _highest(response, place, half, jobs):
  """Largest response [N] near each place: in plane, one slice up and down.

  A maximum filter slice by slice on threads; no map of all of it is kept.
  """
  size = [2 * h + 1 for h in half]
  count = response.shape[2]
  order = np.argsort(place[:, 2], kind='stable')
  starts = np.searchsorted(place[order, 2], np.arange(count + 1))
  highest = np.full((3, len(place)), -np.inf, np.float32)

  def one(z: int) -> None:
    near = range(max(z - 1, 0), min(z + 2, count))
    if starts[near[0]] == starts[near[-1] + 1]:
      return
    flat = ndimage.maximum_filter(response[..., z], size, mode='nearest')
    for other in near:
      mine = order[starts[other] : starts[other + 1]]
      highest[other - z + 1, mine] = flat[tuple(place[mine, :2].T)]

  over(one, count, jobs)
  return highest.max(0)
