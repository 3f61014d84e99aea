"""Which of two lists of lesions are the same, one to one.

Rule: lesions are one when their centres are within some millimetres or their
outlines overlap; the order of the lists changes nothing but the order of the
pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from scipy import optimize

from cmbjax.review.log.geometry import View
from cmbjax.review.log.items import Item

MATCHING_MM = 5.0  # half of the widest microbleed
_FORBIDDEN = 1e6  # mm; more than all allowed distances together


class HasOutline(Protocol):
  """What can be matched."""

  @property
  def mm(self) -> tuple[float, float, float]:
    """Centre, RAS world."""

  @property
  def voxels(self) -> np.ndarray:
    """Sorted linear indices; none without outline."""


class Spot(NamedTuple):
  """One lesion; see `HasOutline`."""

  number: int
  mm: tuple[float, float, float]
  voxels: np.ndarray


def centre(item: Item, voxels: np.ndarray, view: View) -> tuple:
  """Centre of an outline, else the item's point, in mm."""
  place = view.ijk_of(voxels).mean(0) if len(voxels) else np.array(item.ijk)
  return tuple(float(value) for value in view.to_world(place))


def assign(
  first: Sequence[HasOutline],
  second: Sequence[HasOutline],
  *,
  matching_mm: float,
) -> list[tuple[int, int]]:
  """Pairs of marks that are one place, one to one.

  As many pairs as possible, and of those the ones with the smallest sum of
  distances (Kuhn 1955, Naval Research Logistics 2:83).
  """
  if not first or not second:
    return []
  cost = np.empty((len(first), len(second)))
  for i, a in enumerate(first):
    for j, b in enumerate(second):
      cost[i, j] = _distance(a, b, matching_mm)
  rows, columns = optimize.linear_sum_assignment(cost)
  return [
    (int(i), int(j)) for i, j in zip(rows, columns) if cost[i, j] < _FORBIDDEN
  ]


def _distance(a: HasOutline, b: HasOutline, matching_mm: float) -> float:
  away = float(np.linalg.norm(np.subtract(a.mm, b.mm)))
  near = away <= matching_mm or np.intersect1d(a.voxels, b.voxels).size > 0
  return away if near else _FORBIDDEN
