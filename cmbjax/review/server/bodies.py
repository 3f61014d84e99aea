"""The body of a request to a JSON object.

Rule: whatever a body holds, it becomes a small, shallow object that can be
written to a file again, or one sentence. What an action may hold is in
`review/log/events.py`.
"""

import json
from typing import Any

from cmbjax.errors import InputError

MOST_BYTES = 8 * 2**20  # the voxels of one action, 16 letters each
_MOST_DEEP = 4  # of a list in a tool in an action, and one to spare


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
