"""Values of an action: what may pass into the journal, and what may not.

Rule: whatever a page sends, it is taken or there is one clear InputError.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.review.log.geometry import View, distinct
from cmbjax.review.log.items import CERTAINTIES, MIMICS, REGIONS

MOST_VOXELS = 500_000  # of one action; a 20 mm ball at 0.5 mm has 34,000
LONGEST_TEXT = 10_000
_DAY_MS = 86_400_000  # a computer that slept overnight was not reading
_MOST_TOOL = 2_000  # characters of JSON
_SCALAR = str | int | float | bool | None
_ON = {'mimic': ('reject',), 'certainty': ('accept', 'unsure')}


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
  """The value, one of `allowed` (or None)."""
  if (value is None and none) or (isinstance(value, str) and value in allowed):
    return value
  choices = ', '.join([*allowed, 'null'] if none else allowed)
  raise InputError(f'{name}: {short(value)} is none of {choices}.')


def belongs(name: str, value: Any, verdict: str | None) -> None:
  """A mimic belongs to a rejection, a certainty to what may be a lesion."""
  if value is None or name not in _ON or verdict in _ON[name]:
    return
  raise InputError(
    f'{name}: is asked only with the verdict {" or ".join(_ON[name])}, not '
    f'{verdict or "without one"}.'
  )


def text(name: str, value: Any) -> str:
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


def word(name: str, value: Any) -> str:
  """A short name: letters, digits, - and _."""
  good = isinstance(value, str) and 0 < len(value) <= 40 and value.isascii()
  if not good or not value.replace('-', '').replace('_', '').isalnum():
    raise InputError(f'{name}: {short(value)} is not a short name.')
  return value


def count(name: str, value: Any) -> int:
  """A whole number from 0 to a million."""
  if type(value) is not int or not 0 <= value <= 1_000_000:
    raise InputError(f'{name}: {short(value)} is not a number of things.')
  return value


def milliseconds(value: Any) -> int | None:
  """A duration; more than a day is a day."""
  if value is None:
    return None
  if not files.is_number(value) or value < 0:
    raise InputError(f'ms: {short(value)} is not a time in milliseconds.')
  return min(int(value), _DAY_MS)


def voxel(value: Any, view: View) -> tuple[int, int, int]:
  """Three whole numbers inside the image."""
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if (
    not isinstance(value, list | tuple)
    or len(value) != 3
    or not all(isinstance(v, int | np.integer) for v in value)
    or any(isinstance(v, bool) for v in value)
    or not all(0 <= v < n for v, n in zip(value, view.shape))
  ):
    raise InputError(
      f'ijk: {short(value)} is no voxel of the image of {view.shape} voxels.'
    )
  return tuple(int(v) for v in value)


def indices(name: str, value: Any, size: int) -> np.ndarray:
  """Sorted, distinct int64 linear indices; None means none."""
  if value is None:
    return np.zeros(0, np.int64)
  if not isinstance(value, list | tuple | np.ndarray):
    raise InputError(f'{name}: {short(value)} is not a list of voxels.')
  if len(value) > MOST_VOXELS:
    raise InputError(
      f'{name}: has {len(value)} voxels, at most {MOST_VOXELS} at once.'
    )
  if isinstance(value, np.ndarray):
    whole = value.ndim == 1 and value.dtype.kind in 'iu'
  else:
    whole = set(map(type, value)) <= {int}
  if not whole:
    raise InputError(f'{name}: holds something that is no whole number.')
  if not len(value):
    return np.zeros(0, np.int64)
  low, high = min(value), max(value)
  if low < 0 or high >= size:
    wrong = low if low < 0 else high
    raise InputError(
      f'{name}: voxel {short(wrong)} is outside the image, 0 to {size - 1}.'
    )
  return distinct(value)


def tool(value: Any) -> dict[str, Any]:
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
    raise InputError('tool: is not a small JSON object of numbers and texts.')
  return dict(value)


def _rating(name: str, value: Any) -> int | None:
  if value is None or (type(value) is int and 1 <= value <= 10):
    return value
  raise InputError(f'{name}: {short(value)} is not a whole number 1 to 10.')


FIELDS = {  # event to the check of its value
  'certainty': lambda name, value: one_of(name, value, CERTAINTIES, none=True),
  'mimic': lambda name, value: one_of(name, value, MIMICS, none=True),
  'region': lambda name, value: one_of(name, value, REGIONS),
  'rating': _rating,
  'comment': text,
}
