"""Detected and true label images to hits, misses and false positives.

Rule: two rules exist, `touch` and `valdo`; their numbers never stand in one
table. Distances are in millimetres.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.errors import InputError

VALDO_DISTANCE_MM = 5.0  # centres must be strictly closer


class Matches(NamedTuple):
  """Objects of one scan, by one rule.

  Attributes:
    lesion_hit: [L] bool, one per true lesion, in the order of its label.
    detection_false: [D] bool, one per detected object, True when it hits no
      lesion.
  """

  lesion_hit: np.ndarray
  detection_false: np.ndarray


def touch(detected: np.ndarray, truth: np.ndarray) -> Matches:
  """A detection that shares a voxel with a lesion hits it.

  Args:
    detected: [X, Y, Z] bool mask (26-connected components are the objects)
      or int instance labels.
    truth: the same for the true lesions.

  Raises:
    InputError: when the shapes differ.
  """
  _same_shape(detected, truth)
  a, num_a = objects(detected, connectivity=26)
  b, num_b = objects(truth, connectivity=26)
  both = (a > 0) & (b > 0)
  hit, useful = np.zeros(num_b, bool), np.zeros(num_a, bool)
  hit[b[both] - 1] = True
  useful[a[both] - 1] = True
  return Matches(hit, ~useful)


def valdo(
  detected: np.ndarray,
  truth: np.ndarray,
  spacing_mm: tuple[float, float, float],
) -> Matches:
  """One-to-one matching of centres closer than 5 mm, nearest pairs first.

  As in the VALDO challenge (Sudre 2024): 6-connected components of the mask
  at 0.5, centres of mass.

  Args:
    detected: [X, Y, Z] likelihood (cut at 0.5), bool mask or int labels.
    truth: the same for the true lesions.
    spacing_mm: voxel size.

  Raises:
    InputError: when the shapes differ.
  """
  _same_shape(detected, truth)
  spacing = np.asarray(spacing_mm, float)
  a = centres(*objects(detected, connectivity=6)) * spacing
  b = centres(*objects(truth, connectivity=6)) * spacing
  hit, useful = np.zeros(len(b), bool), np.zeros(len(a), bool)
  distance = np.linalg.norm(a[:, None] - b[None], axis=-1)  # [D, L]
  near = np.argwhere(distance < VALDO_DISTANCE_MM)
  order = np.argsort(distance[tuple(near.T)], kind='stable')
  for i, j in near[order]:
    if not useful[i] and not hit[j]:
      useful[i] = hit[j] = True
  return Matches(hit, ~useful)


def objects(image: np.ndarray, *, connectivity: int) -> tuple[np.ndarray, int]:
  """Labels 1..n and n. Integer images keep their own instances.

  Args:
    image: bool mask, float likelihood (cut at 0.5, inclusive) or int
      instance labels.
    connectivity: 6 or 26, for masks and likelihoods.
  """
  image = np.asarray(image)
  if image.dtype.kind in 'iu':
    labels = np.zeros(image.shape, np.int32)
    at = np.flatnonzero(image)  # few of the voxels of a head
    names, inverse = np.unique(image.ravel()[at], return_inverse=True)
    labels.ravel()[at] = inverse + 1
    return labels, len(names)
  mask = image if image.dtype == bool else image >= 0.5
  rank = {6: 1, 26: 3}[connectivity]
  structure = ndimage.generate_binary_structure(3, rank)
  return ndimage.label(mask, structure)


def centres(labels: np.ndarray, count: int) -> np.ndarray:
  """Centres of mass in voxels, [n, 3]."""
  at = np.flatnonzero(labels)
  owner = labels.ravel()[at] - 1
  voxels = np.unravel_index(at, labels.shape)
  sums = [np.bincount(owner, axis, minlength=count) for axis in voxels]
  size = np.bincount(owner, minlength=count)
  return np.stack(sums, 1) / size[:, None]


def _same_shape(detected, truth) -> None:
  if np.shape(detected) != np.shape(truth):
    raise InputError(
      f'matching: the detection has shape {np.shape(detected)}, the truth '
      f'{np.shape(truth)}; resample them to one grid first.'
    )
