"""What first readers found alone, and what the candidates added to that.

Rule: only scans that were completed after the candidates were shown count;
the unaided reading is the journal up to the line 'done'.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cmbjax.evaluation import raters as stats
from cmbjax.evaluation.statistics import Interval
from cmbjax.review.log.items import READER, Item
from cmbjax.review.log.record import ReviewRecord


class Unaided(NamedTuple):
  """Lesions of a first reader with and without the candidates.

  Attributes:
    scans: completed after the candidates were shown.
    alone: lesions accepted before; `aided`: in the end.
    added: of those in the end, not accepted before.
    dropped: accepted before, not in the end.
    per_scan: the same four as means per scan, intervals over patients.
  """

  scans: int
  alone: int
  aided: int
  added: int
  dropped: int
  per_scan: tuple[Interval, Interval, Interval, Interval]


def compare(
  readings: Mapping[str, tuple[ReviewRecord, ReviewRecord]],
  subject_of,
  **how,
) -> Unaided | None:
  """The gain of one reader; None where nothing was read twice.

  Args:
    readings: name of a case to its unaided and its final record.
    subject_of: name of a case to its patient.
    how: of `statistics.resampling`.
  """
  if not readings:
    return None
  table = np.array([_counts(*both) for both in readings.values()])
  subject = np.array([subject_of(case) for case in readings], str)
  means = (stats.mean(row, subject, **how) for row in table.T)
  return Unaided(len(table), *map(int, table.sum(0)), tuple(means))


def _counts(alone: ReviewRecord, final: ReviewRecord) -> tuple:
  """Lesions alone, aided, added and dropped of one scan."""
  before = {item.number for item in _accepted(alone)}
  after = [_unaided_number(item) for item in _accepted(final)]
  kept = sum(number in before for number in after)
  return len(before), len(after), len(after) - kept, len(before) - kept


def _accepted(record: ReviewRecord) -> list[Item]:
  return [
    item
    for item in record.shown()
    if item.verdict == 'accept' and item.repeat_of is None
  ]


def _unaided_number(item: Item) -> int | None:
  """The number that an item had before the candidates were shown."""
  return item.number if item.origin == READER else item.found_as
