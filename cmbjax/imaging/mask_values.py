"""A brain mask as programs write it to what is inside.

Rule: a mask has one meaning, whoever reads it. What is not plain (a
probability, a distance, numbers other than 0 outside) is said, and what marks
the outside is refused.
"""

import dataclasses
import os
import pathlib

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.imaging.volume import Volume

_OVERSHOOT = 0.2  # of a mask that was resampled with splines
_OUTSIDE, _INSIDE = 0.8, 0.2  # of the borders, of the middle: inverted
_TOP = 0.9  # of the largest value of a map, from where on it is sure


def read(path: str | os.PathLike) -> Volume:
  """A brain mask; its array is bool.

  Raises:
    NoInputError, InputError: as `volume.load`; or the mask is empty, or marks
      what is outside of the brain.
  """
  path = pathlib.Path(path)
  image = volume.load(path)
  inside, note = whether_inside(path, image.array)
  notes = (*image.notes, f'{path.name}: {note}') if note else image.notes
  return dataclasses.replace(image, array=inside, notes=notes)


def whether_inside(
  path: pathlib.Path, array: np.ndarray
) -> tuple[np.ndarray, str]:
  """What of an image [X, Y, Z] is brain, and how it was read; '' if plainly.

  Raises:
    InputError: the mask is empty, or marks what is outside of the brain.
  """
  inside, note = _inside(array)
  if not inside.any():
    raise InputError(
      f'{path}: is an empty mask (values {array.min():g} to {array.max():g}); '
      'give one that is above 0 in the brain.'
    )
  border = _borders(inside)
  x, y = (n // 4 for n in inside.shape[:2])
  middle = inside[x : inside.shape[0] - x, y : inside.shape[1] - y]
  if border.mean() > _OUTSIDE and middle.mean() < _INSIDE:
    raise InputError(
      f'{path}: marks {border.mean():.0%} of the border of the image and '
      f'{middle.mean():.0%} of its middle, so it is inverted; give a mask that '
      'is above 0 in the brain.'
    )
  return inside, note


def _inside(array) -> tuple[np.ndarray, str]:
  low, high = (float(array.min()), float(array.max())) if array.size else (0, 0)
  if array.dtype.kind == 'b' or low == high:
    return array > 0, ''
  if low < -_OVERSHOOT and high > 0:
    at_border = np.median(_borders(array))
    inside, side = (array < 0, 'below') if at_border > 0 else (
      array > 0, 'above'
    )  # fmt: skip
    return inside, (
      f'the mask has {low:g} to {high:g}, as distances have, and was taken as '
      f'brain where it is {side} 0'
    )
  if low > 0 and not ((array != low) & (array != high)).any():
    return array == high, (
      f'the mask has {low:g} and {high:g} only; {high:g} was taken as brain'
    )
  if 0 < high <= 1 + _OVERSHOOT and _is_map(array, high):
    return array >= 0.5 * high, (
      f'the mask is a map of {low:g} to {high:g}, and was taken as brain from '
      f'{0.5 * high:g} on'
    )
  return array > 0, ''


def _is_map(array, high) -> bool:
  """Whether nearly all of the inside has the top: of a picture it has not."""
  top = int((array >= _TOP * high).sum())
  between = int(((array > (1 - _TOP) * high) & (array < _TOP * high)).sum())
  return 0 < between < top


def _borders(array) -> np.ndarray:
  """The outermost voxels along x and y."""
  sides = array[0], array[-1], array[:, 0], array[:, -1]
  return np.concatenate([side.ravel() for side in sides])
