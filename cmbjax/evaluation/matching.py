"""Detected and true label images to hits, misses and false positives.

Rule: two rules exist, `touch` and `valdo`; their numbers are never in one
table. Distances are in millimetres.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.errors import InputError

VALDO_DISTANCE_MM = 5.0  # of the challenge; centres must be strictly closer


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
  """One-to-one matching of centres closer than 5 mm, nearest pairs first.

  As in the VALDO challenge (Sudre 2024): 6-connected components of all labels
  together, centres of mass. A component has the label that most of it has.

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
  a, b = a * spacing_mm, b * spacing_mm
  distance = np.linalg.norm(a[:, None] - b[None], axis=-1)  # [D, L]
  near = np.argwhere(distance < VALDO_DISTANCE_MM)
  # Nearest first, or a far pair could take the place of a near one.
  order = np.argsort(distance[tuple(near.T)], kind='stable')
  for i, j in near[order]:
    if not useful[i] and not hit[j]:
      useful[i] = hit[j] = True
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
