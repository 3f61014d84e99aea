"""Lesions to the counts of a scan.

Rule: what is reported per scan is what the rating scales say of the counted
lesions; candidates that nobody has judged have no grade.
"""

from collections.abc import Sequence
from typing import Any

from cmbjax.detect.result import DEFINITE, POSSIBLE, REJECTED, UNKNOWN, Lesion
from cmbjax.imaging import ratings

LOCATIONS = ('lobar', 'deep', 'infratentorial', UNKNOWN)
_GRADES = (
  'grade',
  'grade_with_possible',
  'aria_h',
  'aria_h_with_possible',
  'pattern',
  'pattern_certain',
  'strictly_lobar',
)


def count(
  lesions: Sequence[Lesion],
  *,
  classified: bool,
  missing: Sequence[str] = (),
) -> dict[str, Any]:
  """All counts of one scan.

  Args:
    lesions: of all kinds.
    classified: False: candidates nobody has judged; grades are None then.
    missing: why no grade is established; grades are None then too.

  Returns:
    What `ratings.summarise` gives, with every location in by_location, and
    counted (definite and possible), too_large, rejected, volume_mm3 (of the
    counted), not_established (`missing`).
  """
  found = [lesion for lesion in lesions if lesion.status != REJECTED]
  mine = [lesion for lesion in found if lesion.counted]
  tally = ratings.summarise(lesions)
  nobody = {DEFINITE: 0, POSSIBLE: 0}
  tally['by_location'] = {n: dict(nobody) for n in LOCATIONS} | (
    tally['by_location']
  )
  # A grade of candidates, or of a T1, would look like a diagnosis.
  if not classified or missing:
    tally |= dict.fromkeys(_GRADES)
  return tally | {
    'counted': len(mine),
    'too_large': len(found) - len(mine),
    'rejected': len(lesions) - len(found),
    'not_established': list(missing),
    'volume_mm3': round(sum(lesion.volume_mm3 for lesion in mine), 3),
  }
