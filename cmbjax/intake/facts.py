"""Field strength and echo time of JSON fields, where they can be believed.

Rule: what is no number, or of another unit, is not known, and is said.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cmbjax import files

FIELD, ECHO = 'MagneticFieldStrength', 'EchoTime'
HIGHEST_FIELD_T, LATEST_ECHO_S = 25.0, 0.5


class _Kind(NamedTuple):
  most: float
  unit: str
  example: str


_KINDS = {
  FIELD: _Kind(HIGHEST_FIELD_T, 'tesla', '3'),
  ECHO: _Kind(LATEST_ECHO_S, 'seconds', '0.028'),
}


def number(value: Any, key: str) -> tuple[float | None, str]:
  """What a JSON says for a key, and why that is not believed.

  Args:
    value: one value; a number in quotes is that number, null and 0 are what
      programs write for what they do not know.
    key: `FIELD` or `ECHO`.

  Returns:
    (the number or None, '' or what was found and how it is written).
  """
  kind, found = _KINDS[key], value
  if isinstance(value, str):
    with contextlib.suppress(ValueError):
      found = float(value)
  if found is None or found in (0, '', 'n/a'):
    return None, ''
  if files.is_number(found) and 0 < found <= kind.most:
    return float(found), ''
  return None, (
    f'{key} in its JSON is {value!r}, expected a number of {kind.unit} above 0 '
    f'and up to {kind.most:g}, for example "{key}": {kind.example}'
  )


def known(fields: Mapping[str, Any], key: str) -> float | None:
  """The number of a key that has one value; None where it is not known."""
  return number(fields.get(key), key)[0]


def remarks(several: Sequence[Mapping[str, Any]]) -> list[str]:
  """Why facts of some JSON files are not believed, each once."""
  said: dict[str, None] = {}
  for fields in several:
    for key in (FIELD, ECHO):
      values = fields.get(key)
      for value in values if isinstance(values, list) else [values]:
        said[number(value, key)[1]] = None
  return [f'{why}; it was taken as not known' for why in said if why]
