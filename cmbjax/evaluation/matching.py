"""Detected and true label images to hits, misses and false positives.

Rule: two rules exist, `touch` and `valdo`; their numbers are never in one
table. Distances are in millimetres.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.errors import InputError

VALDO_DISTANCE_MM = 5.0  # of the challenge; centres must be strictly closer
_DIGITS = 6  # of a distance in mm


class Matched(NamedTuple):
  """Objects of one scan, by one rule.

  Attributes:
    lesion: [L] int, label of each true object in the truth.
    hit: [L] bool.
    detection: [D] int, label of each detected object.
    false: [D] bool, it hits nothing.
  """

  lesion: np.ndarray
  hit: np.ndarray
  detection: np.ndarray
  false: np.ndarray


def touch(detected: np.ndarray, truth: np.ndarray) -> Matched:
  """A detection that shares a voxel with a lesion hits it.

  Args:
    detected: [X, Y, Z] int, 0 or the label of a detection.
    truth: [X, Y, Z] int, 0 or the label of a lesion.

  Raises:
    InputError: when the shapes differ.
  """
  _same_shape(detected, truth)
  lesion = np.unique(truth[truth > 0])
  detection = np.unique(detected[detected > 0])
  both = (detected > 0) & (truth > 0)
  hit = np.isin(lesion, truth[both])
  return Matched(lesion, hit, detection, ~np.isin(detection, detected[both]))


def valdo(
  detected: np.ndarray,
  truth: np.ndarray,
  spacing_mm: tuple[float, float, float],
) -> Matched:
  """A detection belongs to the lesion whose centre is nearest, within 5 mm.

  As the code of the VALDO challenge does (Sudre 2024; valdo-eval-2021, run
  with direct neighbours and 5 mm): 6-connected components of all labels
  together, centres of mass. Of the detections of one lesion the nearest hits
  it; the others are false, even beside a second lesion that has no detection.
  Two at the same distance both hit. A component has the label that most of it
  has.

  Not defined there: a detection midway between two lesions belongs to the one
  that comes first in the array, which depends on how the file is stored.

  Args:
    detected: [X, Y, Z] int, 0 or the label of a detection.
    truth: [X, Y, Z] int, 0 or the label of a lesion.
    spacing_mm: voxel size.

  Raises:
    InputError: when the shapes differ.
  """
  _same_shape(detected, truth)
  a, detection = _components(detected)
  b, lesion = _components(truth)
  hit, useful = np.zeros(len(b), bool), np.zeros(len(a), bool)
  if len(a) and len(b):
    a, b = a * spacing_mm, b * spacing_mm
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)  # [D, L]
    # 0.8 mm is not a binary number: 2 voxels to the left and to the right
    # would differ in the last digit.
    distance = np.round(distance, _DIGITS)
    nearest, gap = distance.argmin(1), distance.min(1)
    near = gap < VALDO_DISTANCE_MM
    closest = np.full(len(b), np.inf)
    np.minimum.at(closest, nearest[near], gap[near])
    useful = near & (gap == closest[nearest])
    hit[nearest[useful]] = True
  return Matched(lesion, hit, detection, ~useful)


def _components(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Centres in voxels, [n, 3], and labels, [n], of 6-connected components."""
  parts, count = ndimage.label(image > 0)
  # By hand: scipy's center_of_mass gives the same but goes over all voxels of a
  # head (3.4 s instead of 0.7 s), and these are a few hundred of them.
  at = np.flatnonzero(parts)
  part = parts.ravel()[at] - 1
  voxels = np.unravel_index(at, parts.shape)
  sums = [np.bincount(part, axis, minlength=count) for axis in voxels]
  centres = np.stack(sums, 1) / np.bincount(part, minlength=count)[:, None]
  pair, size = np.unique(
    np.stack([part, image.ravel()[at]], 1), axis=0, return_counts=True
  )
  label = np.zeros(count, int)
  order = np.argsort(size, kind='stable')  # the largest is written last
  label[pair[order, 0]] = pair[order, 1]
  return centres, label


def _same_shape(detected, truth) -> None:
  if np.shape(detected) != np.shape(truth):
    raise InputError(
      f'matching: the detection has shape {np.shape(detected)}, the truth '
      f'{np.shape(truth)}; resample them to one grid first.'
    )
