"""A number with its interval, and when an interval says too little.

Rule: a spread between subjects (scans, of counts and quartiles) needs
`FEWEST` of them. From fewer, and where the interval of a rate reaches beyond
`MOST` times the rate, there is none and the note says so: 'n/a (2 subjects)'.
An exact bound, where all or none were found, estimates no spread and stays.
"""

from typing import NamedTuple

# Student's t is 12.7 for two, 4.3 for three, 3.2 for four: two scans with 1 and
# 9 false positives had 5 of them per scan, 0.00 to 5772585.19.
FEWEST = 4
# One subject with nearly all false positives does the same among twenty.
MOST = 100
_NONE = 'n/a'


class Interval(NamedTuple):
  """A number with its interval.

  Attributes:
    value: the estimate, None when it is not defined.
    low: lower bound, None when there is none.
    high: upper bound, None when there is none.
    note: '' or why something is undefined or uncertain.
  """

  value: float | None
  low: float | None
  high: float | None
  note: str = ''


def too_few(count: int, unit: str = 'subject') -> str:
  """'n/a (2 subjects): an interval needs 4 or more', or '' for enough.

  Args:
    count: of what the spread is over.
    unit: its name, for one of them.
  """
  if count >= FEWEST:
    return ''
  return f'{_NONE} ({_of(count, unit)}): an interval needs {FEWEST} or more'


def too_wide(value: float, high: float, count: int) -> str:
  """'n/a (20 subjects): ...', or '' for a bound that says something.

  Args:
    value: a rate.
    high: its upper bound.
    count: subjects.
  """
  if high <= MOST * value:
    return ''
  return (
    f'{_NONE} ({_of(count, "subject")}): it reaches beyond {MOST} times '
    'the number'
  )


def missing(interval: Interval) -> str:
  """'n/a (2 subjects)' where an interval would say nothing, else ''."""
  if interval.low is not None or not interval.note.startswith(_NONE):
    return ''
  return interval.note.partition(':')[0]


def _of(count: int, unit: str) -> str:
  return f'{count} {unit}{"" if count == 1 else "s"}'
