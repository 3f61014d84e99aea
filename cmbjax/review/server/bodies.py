"""The body of a request to an action.

Rule: whatever a body holds, it becomes a checked action or one sentence; only
the fields that an event has are let through, each of its own type and size.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from cmbjax.errors import InputError

MOST_BYTES = 8 * 2**20
MOST_VOXELS = 500_000
MOST_LETTERS = 10_000
_MOST_DEEP = 4
_DAY_MS = 24 * 3600 * 1000


def read(body: bytes) -> dict[str, Any]:
  """One JSON object.

  Raises:
    InputError: not UTF-8, not JSON, not an object, nested too deeply, numbers
      that are not finite, or text that is no Unicode.
  """
  try:
    found = json.loads(body.decode('utf-8'), parse_constant=_refuse)
  except (ValueError, RecursionError) as error:
    raise InputError(f'the body is no JSON ({_first(error)}).') from error
  if not isinstance(found, dict):
    raise InputError('the body is no JSON object.')
  _check_tree(found, _MOST_DEEP)
  return found


def check(fields: Mapping[str, Any]) -> dict[str, Any]:
  """An action as `ReviewRecord.plan` takes it, `set` and `clear` as arrays.

  Raises:
    InputError: an event that does not exist, a field that it does not have,
      lacks, or of another type.
  """
  event = fields.get('event')
  if not isinstance(event, str) or event not in _EVENTS:
    raise InputError(f'event: give one of {", ".join(_EVENTS)}.')
  needed, allowed = _EVENTS[event]
  for name in fields:
    if name not in needed and name not in allowed and name not in _ALWAYS:
      raise InputError(f'{_short(name)}: is no field of {event}.')
  for name in (*needed, 'rev'):
    if name not in fields:
      raise InputError(f'{name}: is missing in {event}.')
  return {n: _FIELDS[n](n, value) for n, value in fields.items()}


def _text(name, value):
  if not isinstance(value, str):
    raise InputError(f'{name}: give a text.')
  if len(value) > MOST_LETTERS:
    raise InputError(f'{name}: is longer than {MOST_LETTERS} letters.')
  return value


def _value(name, value):
  """A choice, a text or a rating; the record knows which are allowed."""
  if isinstance(value, str):
    return _text(name, value)
  if value is None or _is_whole(value):
    return value
  raise InputError(f'{name}: give a text, a whole number or null.')


def _choice(name, value):
  return None if value is None else _text(name, value)


def _whole(most):
  def check_whole(name, value):
    if not _is_whole(value) or not 0 <= value <= most:
      raise InputError(f'{name}: give a whole number from 0 to {most}.')
    return value

  return check_whole


def _voxel(name, value):
  good = isinstance(value, list) and len(value) == 3
  if not good or not all(_is_whole(v) and abs(v) < 2**31 for v in value):
    raise InputError(f'{name}: give three whole numbers.')
  return value


def _voxels(name, value):
  if not isinstance(value, list) or len(value) > MOST_VOXELS:
    raise InputError(f'{name}: give a list of at most {MOST_VOXELS} voxels.')
  if not all(type(v) is int and 0 <= v < 2**62 for v in value):
    raise InputError(f'{name}: give whole numbers from 0.')
  return np.array(value, np.int64)


def _length(name, value):
  if not _is_whole(value) and not isinstance(value, float):
    raise InputError(f'{name}: give a number of mm.')
  if not 0 < value < 1000:
    raise InputError(f'{name}: give a number of mm from above 0 to 1000.')
  return float(value)


def _flag(name, value):
  if not isinstance(value, bool):
    raise InputError(f'{name}: give true or false.')
  return value


def _tool(name, value):
  if not isinstance(value, dict) or len(value) > 12:
    raise InputError(f'{name}: give an object of at most 12 fields.')
  for key, one in value.items():
    plain = one is None or isinstance(one, (str, int, float))
    if not plain or len(str(one)) > 200 or len(key) > 40:
      raise InputError(f'{name}: give plain numbers and short texts only.')
  return value


_ALWAYS = ('event', 'rev', 'ms')
_FIELDS = {
  'event': _text,
  'rev': _whole(2**53),
  'ms': _whole(_DAY_MS),
  'item': _whole(2**31),
  'value': _value,
  'mimic': _choice,
  'certainty': _choice,
  'ijk': _voxel,
  'grow': _flag,
  'radius_mm': _length,
  'set': _voxels,
  'clear': _voxels,
  'tool': _tool,
  'what': _text,
  'slices': _whole(10**6),
}
_EVENTS = {  # event to (fields that it needs, fields that it may have)
  'verdict': (('item', 'value'), ('mimic', 'certainty')),
  'certainty': (('item', 'value'), ()),
  'mimic': (('item', 'value'), ()),
  'rating': (('item', 'value'), ()),
  'region': (('item', 'value'), ()),
  'comment': (('item', 'value'), ()),
  'note': (('value',), ()),
  'status': (('value',), ()),
  'add': (('ijk',), ('grow', 'radius_mm')),
  'remove': (('item',), ()),
  'move': (('item', 'ijk'), ()),
  'edit': (('item',), ('set', 'clear', 'tool')),
  'grow': (('item', 'ijk'), ('radius_mm',)),
  'view': (('what',), ('slices',)),
  'done': ((), ()),
  'undo': ((), ()),
  'redo': ((), ()),
}


def _is_whole(value):
  return isinstance(value, int) and not isinstance(value, bool)


def _refuse(name):
  raise ValueError(f'{name} is not allowed')


def _check_tree(value, deep):
  """Refuses what is nested deeply, and text that cannot be written."""
  if isinstance(value, str):
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
      raise InputError('the body has half a letter (a lone surrogate).')
  elif isinstance(value, (dict, list)):
    if deep == 0:
      raise InputError(f'the body is nested more than {_MOST_DEEP} deep.')
    if isinstance(value, dict):
      for key in value:
        _check_tree(key, 0)
      value = value.values()
    elif all(type(one) is int for one in value):
      return
    for one in value:
      _check_tree(one, deep - 1)


def _first(error) -> str:
  text = str(error).splitlines()[0] if str(error) else ''
  return text[:120] or type(error).__name__


def _short(name) -> str:
  return name if len(name) < 40 else name[:40] + '...'
