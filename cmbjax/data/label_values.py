"""A label image, probability map or signed distance to whole numbers.

Rule: what is not whole numbers becomes a mask in one way, which is said; where
two readings are possible the image is refused.
"""

import pathlib

import numpy as np

from cmbjax.errors import InputError

KEY = 'LabelValues'  # in the JSON beside
PROBABILITY, PERCENT, BYTE = 'probability', 'percent', '0-255'
INSIDE_BELOW, INSIDE_ABOVE = (
  'distance, negative inside',
  ('distance, positive inside'),
)
CONTINUOUS = (PROBABILITY, PERCENT, BYTE, INSIDE_BELOW, INSIDE_ABOVE)

_LARGEST = 1_000_000  # tables as long as the largest label are made
_TOP = {PROBABILITY: 1, PERCENT: 100, BYTE: 255}
_OVERSHOOT = 0.2  # of a mask that was resampled with splines
_MOST_INSIDE = 0.05  # of the image: lesions are on the smaller side of 0
_RINGS = 0.25  # of all neighbours differ, where values are steps of a map
_MANY, _LEAST = 20, 6  # a map reaches more than 20, in 6 steps or more
_SEEMS = {100: PERCENT, 255: BYTE}  # largest value of a map in whole numbers


def whole(
  path: pathlib.Path, array: np.ndarray, given: str | None
) -> tuple[np.ndarray, str]:
  """Labels int32 [X, Y, Z], and what was done to get them; '' for nothing.

  Args:
    path: of the image, for messages.
    array: its values; NaN is background.
    given: what its JSON says that they are, one of `CONTINUOUS`, or None.

  Raises:
    InputError: values that have no meaning, or two.
  """
  if array.dtype.kind == 'f' and np.isnan(array).any():
    array = np.nan_to_num(array, nan=0.0)
  low, high = float(array.min()), float(array.max())
  odd = _first_odd(array)
  if given in _TOP:
    return _above(path, array, given, high)
  if given is not None:
    return _inside(array, given)
  if odd is None and low >= 0 and high <= _LARGEST:
    labels = array.astype(np.int32)
    kind = _map_of_whole_numbers(path, labels)
    return _above(path, array, kind, high) if kind else (labels, '')
  if odd is not None and low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT:
    return _above(path, array, PROBABILITY, high)
  if odd is not None and low >= 0 and 50 < high <= 100:
    return _above(path, array, PERCENT, high)
  if odd is not None and low < -_OVERSHOOT and high > 0:
    return _distance(path, array, low, high)
  odd = (low if low < 0 else high) if odd is None else odd
  raise InputError(
    f'{path}: holds {odd:g} (values {low:g} to {high:g}), expected whole '
    f'numbers from 0 to {_LARGEST:,}, or a probability from 0 to 1 or 0 to '
    f'100; correct it, or say in its JSON "{KEY}": "{PROBABILITY}", '
    f'"{PERCENT}", "{BYTE}", "{INSIDE_BELOW}" or "{INSIDE_ABOVE}".'
  )


def _first_odd(array) -> float | None:
  if array.dtype.kind != 'f':
    return None
  odd = array != np.rint(array)
  return float(array[odd][0]) if odd.any() else None


def _map_of_whole_numbers(path, labels) -> str:
  """PERCENT or BYTE where labels are a map of so many steps; '' for labels.

  Numbers of lesions are in one place each, steps of a map are in rings around
  every lesion.
  """
  top = int(labels.max(initial=0))
  if not _MANY < top <= 255:
    return ''
  pairs = [_neighbours(labels, axis) for axis in range(3)]
  differing = sum(int(np.count_nonzero(one != two)) for one, two in pairs)
  count = sum(len(one) for one, _ in pairs)
  values = np.unique(labels[labels > 0])
  if len(values) < _LEAST or differing < _RINGS * count:
    return ''
  if top not in _SEEMS:
    raise InputError(
      f'{path}: holds {len(values)} values up to {top}, in rings as in a map '
      f'of probabilities; say in its JSON "{KEY}": "{PERCENT}", "{BYTE}", '
      '"lesions" or "classes".'
    )
  return _SEEMS[top]


def _neighbours(labels, axis) -> tuple[np.ndarray, np.ndarray]:
  """Values of all pairs of voxels along an axis that both have one."""
  along = np.moveaxis(labels.T, axis, 0)  # images come in Fortran's order
  one, two = along[:-1], along[1:]
  both = (one > 0) & (two > 0)
  return one[both], two[both]


def _above(path, array, kind, high) -> tuple[np.ndarray, str]:
  half = _TOP[kind] / 2
  inside = array >= half
  if high > 0 and not inside.any():
    raise InputError(
      f'{path}: is a map of {kind} whose largest value is {high:g}, so nothing '
      f'reaches {half:g}; give the lesions as a mask.'
    )
  return inside.astype(np.int32), (
    f'a map of probabilities (0 to {_TOP[kind]}), taken from {half:g} on'
  )


def _distance(path, array, low, high) -> tuple[np.ndarray, str]:
  """The smaller side of 0 is inside: lesions never fill half of an image."""
  below, above = float((array < 0).mean()), float((array > 0).mean())
  if min(below, above) > _MOST_INSIDE:
    raise InputError(
      f'{path}: holds {low:g} to {high:g}, {below:.0%} of the voxels below 0 '
      f'and {above:.0%} above; if these are distances, say in its JSON '
      f'"{KEY}": "{INSIDE_BELOW}" or "{INSIDE_ABOVE}".'
    )
  return _inside(array, INSIDE_BELOW if below < above else INSIDE_ABOVE)


def _inside(array, kind) -> tuple[np.ndarray, str]:
  inside = array < 0 if kind == INSIDE_BELOW else array > 0
  side = 'below' if kind == INSIDE_BELOW else 'above'
  return inside.astype(np.int32), (
    f'signed distances, taken as inside where they are {side} 0'
  )
