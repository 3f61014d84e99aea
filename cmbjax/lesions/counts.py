"""Lesions to the numbers that readers report.

Rule: only lesions that are counted (not larger than a microbleed) count, and
a pattern of places is only named where every place is known.
"""

from collections.abc import Iterable
from typing import Any

from cmbjax.lesions.result import DEFINITE, POSSIBLE, REJECTED, UNKNOWN, Lesion

LOCATIONS = ('lobar', 'deep', 'infratentorial', UNKNOWN)
_GRADES = (1, 5, 10, 20)  # least count of grades 1, 2, 3, 4
_BANDS = ((1, 'mild'), (5, 'moderate'), (10, 'severe'))


def grade(count: int) -> int:
  """0 to 4: none, 1-4, 5-9, 10-19, 20 and more."""
  return sum(count >= least for least in _GRADES)


def aria_h(count: int) -> str:
  """'none', 'mild' (1-4), 'moderate' (5-9) or 'severe' (10 and more).

  The bands are for new microhaemorrhages; one scan cannot tell new from old.
  """
  return ([name for least, name in _BANDS if count >= least] or ['none'])[-1]


def pattern(locations: Iterable[str]) -> str:
  """Where microbleeds are: 'none', 'unknown', 'strictly_lobar',
  'strictly_deep', 'infratentorial_only' or 'mixed'."""
  found = set(locations)
  if not found:
    return 'none'
  if UNKNOWN in found:
    return UNKNOWN
  alone = {
    'lobar': 'strictly_lobar',
    'deep': 'strictly_deep',
    'infratentorial': 'infratentorial_only',
  }
  return alone[found.pop()] if len(found) == 1 else 'mixed'


def count(lesions: Iterable[Lesion], *, classified: bool) -> dict[str, Any]:
  """All counts of one scan.

  Args:
    lesions: of all kinds; rejected ones are only counted as rejected.
    classified: False: candidates nobody has judged, so there is no grade.

  Returns:
    definite, possible, counted (both together), too_large, rejected,
    volume_mm3 (of the counted), by_region and by_location (definite and
    possible each), grade and grade_definite (0-4), aria_h, pattern,
    strictly_lobar (two or more, all lobar).
  """
  lesions = list(lesions)
  found = [x for x in lesions if x.status != REJECTED]
  mine = [x for x in found if x.counted]
  sure = [x for x in mine if x.status == DEFINITE]
  shape = pattern(x.location for x in mine)
  return {
    'definite': len(sure),
    'possible': len(mine) - len(sure),
    'counted': len(mine),
    'too_large': len(found) - len(mine),
    'rejected': len(lesions) - len(found),
    'volume_mm3': round(sum(x.volume_mm3 for x in mine), 3),
    'by_region': _by(mine, 'region'),
    'by_location': _by(mine, 'location', LOCATIONS),
    'grade': grade(len(mine)) if classified else None,
    'grade_definite': grade(len(sure)) if classified else None,
    'aria_h': aria_h(len(mine)) if classified else None,
    'pattern': shape if classified else None,
    'strictly_lobar': classified
    and len(mine) >= 2
    and shape == 'strictly_lobar',
  }


def _by(lesions, field, always=()):
  names = [getattr(x, field) for x in lesions]
  table = {
    n: {DEFINITE: 0, POSSIBLE: 0} for n in [*always, *sorted(set(names))]
  }
  for name, lesion in zip(names, lesions):
    table[name][lesion.status] += 1
  return table
