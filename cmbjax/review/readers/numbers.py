"""How far readers agree to a table of numbers and to JSON.

Rule: every number has its interval or the reason why it has none.
"""

from collections.abc import Iterator
from typing import Any

import cmbjax
from cmbjax.evaluation import agreement
from cmbjax.evaluation.raters import VerdictAgreement
from cmbjax.evaluation.statistics import Interval
from cmbjax.review.readers.agreement import VERDICTS, Agreement

SCHEMA = 'cmbjax-agreement-1'
_GAIN_KEYS = ('unaided', 'aided', 'added', 'dropped')
GAINS = (
  'Unaided',
  'Aided',
  'Added with candidates',
  'Dropped with candidates',
)


def rows(found: Agreement) -> Iterator[dict[str, Any]]:
  """All statistics, a row each; what is not defined has a note."""
  for pair in found.pairs:
    yield from _pair_rows(f'{pair.first}, {pair.second}', pair)
  if len(found.readers) > 2:
    everybody = ', '.join(reader.name for reader in found.readers)
    yield _number(everybody, 'ICC(2,1) of counts', found.icc, found.scans)
  for reader in found.readers:
    yield from _reader_rows(reader)


def _pair_rows(name, pair):
  for where, some in (
    ('accept or reject', pair.both_or_none),
    ('with unsure', pair.verdicts),
  ):
    yield from _verdict_rows(name, where, some)
  drawn, counts = pair.outlines, pair.counts
  rows = [('positive agreement', pair.positive, sum(pair.found))]
  if counts is not None:
    rows += [
      ('ICC(2,1) of counts', counts.icc, pair.completed),
      ('bias of counts', agreement.bias(counts), pair.completed),
      ('weighted kappa of grades', counts.kappa, pair.completed),
      ('same grade', counts.same_grade, pair.completed),
    ]
  rows += [
    ('Dice', drawn.dice, drawn.lesions),
    ('Dice of edited outlines', drawn.dice_edited, drawn.edited),
    ('volume ratio of edited outlines', drawn.volume_ratio, drawn.edited),
    ('distance of centres, mm', drawn.distance_mm, drawn.edited),
  ]
  for what, interval, count in rows:
    yield _number(name, what, interval, count)


def _reader_rows(reader):
  if reader.again is not None:
    yield from _verdict_rows(reader.name, 'read again', reader.again)
  if reader.gain is not None:
    for what, interval in zip(GAINS, reader.gain.per_scan):
      what = f'{what}, lesions per scan'
      yield _number(reader.name, what, interval, reader.gain.scans)
  for what, spread in (
    ('seconds per decision', reader.decision_s),
    ('seconds per scan', reader.case_s),
  ):
    note = 'median and quartiles' if spread.count else 'no time was logged'
    inside = Interval(spread.median, spread.low, spread.high, note)
    yield _number(reader.name, what, inside, spread.count)
  if reader.rating is not None:
    what = 'Spearman of rating and likelihood'
    yield _number(reader.name, what, reader.rating, len(reader.ratings))


def _verdict_rows(name, where, some: VerdictAgreement):
  count = int(some.table.sum())
  for what, interval in (
    ('same verdict', some.observed),
    ("Cohen's kappa", some.kappa),
    ("Gwet's AC1", some.ac1),
  ):
    yield _number(name, f'{what}, {where}', interval, count)


def _number(readers, statistic, interval: Interval, of) -> dict[str, Any]:
  return {
    'readers': readers,
    'statistic': statistic,
    'value': interval.value,
    'low': interval.low,
    'high': interval.high,
    'of': of,
    'note': interval.note,
  }


def texts(row) -> dict[str, Any]:
  """Numbers with six digits."""
  return {
    key: f'{value:.6g}' if isinstance(value, int | float) else value
    for key, value in row.items()
  }


def as_json(found: Agreement, rows, matching_mm: float) -> dict[str, Any]:
  """Everything as JSON types."""
  return {
    'schema': SCHEMA,
    'cmbjax': cmbjax.__version__,
    'simulated': found.simulated,
    'matching_mm': matching_mm,
    'readers': [
      {
        'name': reader.name,
        'cases': reader.cases,
        'completed': reader.completed,
        'verdicts': reader.verdicts,
        'added': reader.added,
        'unaided': None
        if reader.gain is None
        else dict(zip(('scans', *_GAIN_KEYS), reader.gain[:5])),
        'read_again': None
        if reader.again is None
        else reader.again.table.tolist(),
      }
      for reader in found.readers
    ],
    'pairs': [
      {
        'readers': [pair.first, pair.second],
        'scans': pair.scans,
        'completed': pair.completed,
        'verdicts': list(VERDICTS),
        'table': pair.verdicts.table.tolist(),
        'lesions': dict(zip(('both', 'first', 'second'), pair.found)),
        'counts': None
        if pair.counts is None
        else [some.tolist() for some in pair.counts.counts],
      }
      for pair in found.pairs
    ],
    'statistics': rows,
  }
