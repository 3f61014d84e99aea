"""Persons as names of files have them to remarks that some may be one.

Rule: what cannot be known is not decided, but it is said.
"""

import re
from collections.abc import Iterable

_TIME = re.compile(r'(t|tp|v|m|y|mr|scan|time)\d+|\d+(m|mo|y|yr|w)')
_SPM = 'rwmsu'  # what SPM puts before the name of what it made


def of(persons: Iterable[str]) -> tuple[str, ...]:
  """Remarks on persons whose names are so near that they may be one.

  Args:
    persons: words of names that say whose an image is; '' is nobody.
  """
  known = {person for person in persons if person}
  by_start: dict[str, list[str]] = {}
  for person in sorted(known):
    if start := ' '.join(person.split()[:-1]):
      by_start.setdefault(start, []).append(person)
  lasts = {s: {n.split()[-1] for n in near} for s, near in by_start.items()}
  words = [last for s, last in lasts.items() if not s.isdecimal()]
  notes = []
  for start, near in by_start.items():
    several = len(near) > 1
    is_suspect = several and all(map(_TIME.fullmatch, lasts[start]))
    if not start.isdecimal():
      # All of a study are often numbered; only some of it are suspicious.
      some = start in known or (several and len(words) > 1)
      is_suspect |= some and len(near) < max(len(known) / 2, 2)
      named = any(not last.isdecimal() for last in lasts[start])
      is_suspect |= start in known and named
      is_suspect |= several and words.count(lasts[start]) > 1
    if is_suspect:
      notes.append(_different(sorted({start, *near} & known)))
  for person in sorted(known):
    made = known & {f'{letter}{person}' for letter in _SPM}
    if made:
      notes.append(_different([person, *sorted(made)]))
  return tuple(notes)


def _different(persons) -> str:
  more = f' and {len(persons) - 6} more' if len(persons) > 6 else ''
  return f'taken for different persons: {", ".join(persons[:6])}{more}'
