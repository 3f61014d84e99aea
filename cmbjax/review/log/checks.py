"""Kinds of values: what may pass into the journal, and what may not.

Rule: whatever a page sends or a journal holds, it is taken or there is one
clear InputError. A check takes (name, value, view) and gives the value back,
arrays of voxels sorted.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.review.log.geometry import View, distinct

MOST_VOXELS = 500_000  # of one action; a 20 mm ball at 0.5 mm has 34,000
LONGEST_TEXT = 10_000  # letters
DAY_MS = 86_400_000  # a computer that slept overnight was not reading
_MOST_TOOL = 2_000  # characters of JSON; what grew a lesion needs 300
_SCALAR = str | int | float | bool | None

Check = Callable[[str, Any, View], Any]


def short(value: Any) -> str:
  """A value for a message, however long it is."""
  try:
    text = repr(value)
  except (RecursionError, ValueError):  # too deep, or too many digits
    return f'a value of type {type(value).__name__}'
  return text if len(text) <= 40 else f'{text[:37]}...'


def one_of(
  name: str, value: Any, allowed: Sequence[str], *, none: bool = False
) -> str | None:
  """The value.

  Args:
    name: of the field, for the message.
    value: anything.
    allowed: texts that it may be.
    none: whether it may be None, too.
  """
  if (value is None and none) or (isinstance(value, str) and value in allowed):
    return value
  choices = ', '.join([*allowed, 'null'] if none else allowed)
  raise InputError(f'{name}: {short(value)} is none of {choices}.')


def choice(*allowed: str, none: bool = False) -> Check:
  """The check that a value is one of some texts, perhaps also None."""
  return lambda name, value, view: one_of(name, value, allowed, none=none)


def whole(low: int, high: int, *, none: bool = False) -> Check:
  """The check that a value is a whole number of a range, ends included."""

  def check(name, value, view=None):
    if value is None and none:
      return value
    # `True` is an int for isinstance.
    if type(value) is not int or not low <= value <= high:
      raise InputError(
        f'{name}: {short(value)} is not a whole number {low} to {high}.'
      )
    return value

  return check


def text(name: str, value: Any, view: View | None = None) -> str:
  """A text that can be written as UTF-8."""
  if not isinstance(value, str):
    raise InputError(f'{name}: {short(value)} is not a text.')
  if len(value) > LONGEST_TEXT:
    raise InputError(
      f'{name}: has {len(value)} characters, at most {LONGEST_TEXT}.'
    )
  try:
    value.encode()
  except UnicodeEncodeError as error:
    raise InputError(f'{name}: holds half a character; type it again.') from (
      error
    )
  return value


def word(name: str, value: Any, view: View | None = None) -> str:
  """A short name: letters, digits, - and _."""
  good = isinstance(value, str) and 0 < len(value) <= 40 and value.isascii()
  if not good or not value.replace('-', '').replace('_', '').isalnum():
    raise InputError(f'{name}: {short(value)} is not a short name.')
  return value


def flag(name: str, value: Any, view: View | None = None) -> bool:
  """True or False."""
  if not isinstance(value, bool):
    raise InputError(f'{name}: give true or false.')
  return value


def length(name: str, value: Any, view: View | None = None) -> float:
  """A length in mm."""
  if not files.is_number(value) or not 0 < value < 1000:
    raise InputError(f'{name}: give a number of mm from above 0 to 1000.')
  return float(value)


def milliseconds(name: str, value: Any, view: View | None = None) -> int:
  """A duration; more than a day is a day."""
  if not files.is_number(value) or value < 0:
    raise InputError(f'{name}: {short(value)} is not a time in milliseconds.')
  return min(int(value), DAY_MS)


def voxel(name: str, value: Any, view: View) -> list[int]:
  """Three whole numbers inside the image."""
  if (
    not isinstance(value, list | tuple)
    or len(value) != 3
    or not all(isinstance(v, int | np.integer) for v in value)
    or any(isinstance(v, bool) for v in value)
    or not all(0 <= v < n for v, n in zip(value, view.shape))
  ):
    raise InputError(
      f'{name}: {short(value)} is no voxel of the image of {view.shape} voxels.'
    )
  return [int(v) for v in value]


def indices(name: str, value: Any, view: View) -> np.ndarray:
  """Linear indices to sorted, distinct int64 ones."""
  if not isinstance(value, list | tuple | np.ndarray):
    raise InputError(f'{name}: {short(value)} is not a list of voxels.')
  if len(value) > MOST_VOXELS:
    raise InputError(
      f'{name}: has {len(value)} voxels, at most {MOST_VOXELS} at once.'
    )
  if isinstance(value, np.ndarray):
    good = value.ndim == 1 and value.dtype.kind in 'iu'
  else:
    good = set(map(type, value)) <= {int}
  if not good and len(value):
    raise InputError(f'{name}: holds something that is no whole number.')
  if not len(value):
    return np.zeros(0, np.int64)
  # Before they become int64, where a huge number would wrap around.
  low, high = min(value), max(value)
  if low < 0 or high >= view.size:
    wrong = low if low < 0 else high
    raise InputError(
      f'{name}: voxel {short(wrong)} is outside the image, 0 to '
      f'{view.size - 1}.'
    )
  return distinct(value)


def tool(name: str, value: Any, view: View | None = None) -> dict[str, Any]:
  """How a change was drawn: flat, small JSON."""
  flat = isinstance(value, Mapping) and all(
    isinstance(key, str)
    and all(
      isinstance(v, _SCALAR) for v in (one if type(one) is list else [one])
    )
    for key, one in value.items()
  )
  try:
    size = len(json.dumps(value, allow_nan=False)) if flat else 0
  except ValueError:  # not finite, or too many digits
    flat = False
  if not flat or size > _MOST_TOOL:
    raise InputError(
      f'{name}: is not a small JSON object of numbers and texts.'
    )
  return dict(value)
