"""Test rows to the tables of results, orderings, pairs and out of fold.

Rule: the interval of an effect comes before any p value, and a test that
takes candidates for independent says so.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax.evaluation import claims, permutation
from cmbjax.evaluation.compare import Comparison
from cmbjax.evaluation.orderings import Ordering
from cmbjax.evaluation.statistics import Interval
from cmbjax.report import methods, tables, texts
from cmbjax.report.cells import (
  Cell,
  PageTable,
  p_value,
  sign,
  signed,
  sizes,
  track,
)
from cmbjax.report.looks import look_of
from cmbjax.report.tables import METRICS, ResultRow, StudyTables

_VERDICTS = {
  claims.REPRODUCED: 'yes',
  claims.NOT_REPRODUCED: 'no',
  claims.UNDECIDED: 'open',
}
# Ends of the small drawings; an AUC of one half is chance.
_AXES = {'number': (0.5, 1.0), 'percent': (0.0, 1.0)}
_MOST_SUBJECTS = 10_000  # a number beyond says only "not with this design"


class _Column(NamedTuple):
  """One metric of the table of results.

  Attributes:
    head: plain text.
    kind: as in `tables.Metric`.
    axis: ends of the small drawings.
    of: its interval in a row.
  """

  head: str
  kind: str
  axis: tuple[float, float]
  of: Callable[[ResultRow], Interval | None]


def results(study: StudyTables) -> dict[str, Any]:
  """Rows grouped and coloured by test set."""
  look, notes, columns = look_of(study), texts.Notes(), _columns(study)
  with_number = tables.numbered(study.rows)

  def cells(row):
    table = PageTable('', (), notes=notes)
    for one in columns:
      found = one.of(row)
      cell = table.value(found, one.kind)
      if found is not None:
        cell = cell._replace(track=track(found, one.axis))
      yield cell

  groups = [
    {
      'label': look.tests[test],
      'colour': look.test_class(test),
      'sizes': sizes(rows[0]),
      'lines': [(row, list(cells(row))) for row in rows],
    }
    for test, rows in look.by_test(study.rows).items()
  ]
  return {
    'caption': methods.reading(study),
    'numbered': with_number,
    'heads': ['Row'] * with_number + ['Strategy', *(c.head for c in columns)],
    'groups': groups,
    'notes': notes,
    'seeds': _seeds(study),
    'meanings': _meanings(study),
  }


def _columns(study: StudyTables) -> list[_Column]:
  columns = []
  for m in METRICS:
    of = functools.partial(_metric, m.name)
    axis = _AXES.get(m.kind) or _axis(study.rows, of)
    columns.append(_Column(m.head, m.kind, axis, of))
  for name, head in _own_heads(study):
    of = functools.partial(_own, name)
    columns.append(_Column(head, 'number', _axis(study.rows, of), of))
  return columns


def _own_heads(study: StudyTables) -> list[tuple[str, str]]:
  return [(n, tables.own_head(n, study.metrics)) for n in study.metrics]


def _metric(name: str, row: ResultRow) -> Interval | None:
  return row.metrics.get(name)


def _own(name: str, row: ResultRow) -> Interval | None:
  return row.own.get(name)


def _axis(rows: Sequence[ResultRow], of: Callable) -> tuple[float, float]:
  """From 0, or the smallest below it, to the largest of a column."""
  # One axis for all test sets, or drawings below each other would not compare.
  found = [i for i in map(of, rows) if i is not None and i.value is not None]
  ends = [x for i in found for x in i[:3] if x is not None]
  return min([*ends, 0.0]), max([*ends, 1e-9])


def _seeds(study: StudyTables) -> PageTable:
  """AUC of every training seed alone and its spread, when there are more."""
  heads = ('Strategy', 'All seeds averaged', 'Each seed alone', 'SD of seeds')
  table = PageTable('Training seeds', heads)
  for row in tables.ordered(study.rows):
    known = [auc for auc in row.seeds if auc is not None]
    if len(known) > 1:
      mean = texts.number(row.metrics['auc'].value, 'number')
      every = ', '.join(f'{auc:.3f}' for auc in known)
      table.add(row, [mean, every, f'{np.std(known, ddof=1):.3f}'])
  return table


def _meanings(study: StudyTables) -> list[tuple[str, str]]:
  as_in = {}
  if study.paper:
    as_in = {'sensitivity_candidates': ' (as in the paper)'}
  meanings = [(m.head, m.meaning + as_in.get(m.name, '')) for m in METRICS]
  return meanings + [(head, f'your own: {n}') for n, head in _own_heads(study)]


def orderings(study: StudyTables) -> dict[str, Any] | None:
  """Claims with differences, p values and verdicts."""
  if not study.orderings:
    return None
  extent = max(
    [
      abs(bound)
      for one in study.orderings
      if one.metric == 'auc'
      for bound in one.difference[:3]
      if bound is not None
    ]
    + [0.01]  # differences of zero have a drawing too
  )
  return {
    'family': methods.family(study),
    'lines': [_ordering(one, extent) for one in study.orderings],
    'open': _open(study),
  }


def _ordering(one: Ordering, extent: float) -> dict[str, Any]:
  gap = one.difference
  if one.metric == 'auc':
    difference = signed(gap, 3)
    if gap.low is not None:
      difference = difference._replace(track=track(gap, (-extent, extent)))
  else:
    inside = texts.bounds(gap, 'percent')
    difference = Cell(texts.number(gap.value, 'percent'), inside)
  return {
    'claim': one.claim,
    'rows': one.rows,
    'design': one.design,
    'difference': difference,
    'fp': signed(one.fp_difference, 1),
    'p': p_value(one.p),
    'p_holm': p_value(one.p_holm),
    'kind': _VERDICTS[one.verdict],
    'verdict': one.verdict,
    'reason': one.reason + _seed_range(one),
  }


def _seed_range(one: Ordering) -> str:
  """How far the difference moves from seed to seed."""
  known = [gap for gap in one.by_seed if gap is not None]
  if len(known) < 2:
    return ''
  low, high = (sign(end, 3) for end in (min(known), max(known)))
  return f'; single seeds {low} to {high}'


def _open(study: StudyTables) -> PageTable:
  """How many subjects each undecided claim would take."""
  heads = ('Undecided claim', 'Difference seen', 'Smallest that is found')
  heads += ('Subjects here', 'Subjects needed')
  table = PageTable('Power', heads)
  for one in study.orderings:
    if one.verdict != claims.UNDECIDED or one.metric != 'auc':
      continue
    least = needed = texts.DASH
    if one.detectable is not None:
      least = f'{one.detectable:.3f}'
    if one.needed is not None:
      needed = f'over {_MOST_SUBJECTS:,}'
      if one.needed < _MOST_SUBJECTS:
        needed = f'{one.needed:,}'
    seen = signed(one.difference, 3).text
    table.add(one.claim, [seen, least, str(one.num_subjects), needed])
  return table


def held_out(study: StudyTables) -> dict[str, Any] | None:
  """The training subjects, each judged by those that never saw it."""
  if not study.held_out:
    return None
  columns = _columns(study)
  heads = ('Strategy', *(one.head for one in columns), 'Over')
  table = PageTable('Out of fold', heads)
  for row in study.held_out:
    values = [table.value(one.of(row), one.kind) for one in columns]
    table.add(row, [*values, sizes(row)])
  return {'rows': table}


_PAIR_HEADS = (
  ('auc', 'AUC'),
  ('sensitivity_lesions', 'Sensitivity, all lesions'),
  ('fp_per_scan', 'FP per scan'),
)
_ASSUMING = (
  ('delong', 'DeLong'),
  ('mcnemar', 'McNemar'),
  ('nadeau_bengio', 'Nadeau-Bengio'),
)


def pairs(study: StudyTables) -> dict[str, Any] | None:
  """All pairs of strategies on one set of candidates, first minus second."""
  if not study.pairs:
    return None
  # A family of its own, apart from that of the claims.
  adjusted = permutation.holm([one.tests['auc'].p for one in study.pairs])
  shown = (*_PAIR_HEADS, *_own_heads(study))
  heads = ('First minus second', *(head for _, head in shown))
  heads += ('p of AUC (Holm)', 'For reference')
  table = PageTable('Pairs of strategies', heads)
  for one, holm in zip(study.pairs, adjusted):
    table.add(one, list(_pair_cells(one, holm, shown)))
  return {'pairs': table}


def _pair_cells(one: Comparison, holm: float | None, shown: Sequence):
  for metric, _ in shown:
    if metric in one.tests:
      # Rates are tens, shares are below 1.
      digits = 1 if metric == 'fp_per_scan' else 3
      yield signed(one.tests[metric].difference, digits)
    else:
      yield texts.DASH
  yield f'{p_value(one.tests["auc"].p)} ({p_value(holm)})'
  yield ', '.join(
    f'{head} {p_value(one.tests[test].p)}'
    for test, head in _ASSUMING
    if test in one.tests
  )
