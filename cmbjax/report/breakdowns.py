"""Test rows taken apart: by unit, by size, by likelihood, by operating point.

Rule: a table names what it counts; the interval is over subjects whatever
the unit.
"""

from collections.abc import Callable, Sequence
from typing import Any

from cmbjax.evaluation import metrics
from cmbjax.report.cells import PageTable, sentence_case
from cmbjax.report.looks import Look, look_of
from cmbjax.report.tables import ResultRow, StudyTables

_UNITS = (
  (
    'By candidate',
    'Each candidate counts once, so that two in one lesion count twice.',
    (
      ('patch_sensitivity', 'Sensitivity', 'percent'),
      ('patch_specificity', 'Specificity', 'percent'),
      ('patch_precision', 'Precision', 'percent'),
      ('patch_f1', 'F1', 'number'),
    ),
  ),
  (
    'By lesion',
    'All true lesions, each once, also those never proposed.',
    (
      ('sensitivity_lesions', 'Sensitivity', 'percent'),
      ('precision', 'Precision', 'percent'),
      ('f1', 'F1', 'number'),
      ('average_precision', 'Average precision', 'number'),
    ),
  ),
  (
    'By scan',
    'A scan is positive when it has a lesion, and called so when a candidate '
    'is kept.',
    (
      ('scan_sensitivity', 'Sensitivity', 'percent'),
      ('scan_specificity', 'Specificity', 'percent'),
      ('scan_auc', 'AUC', 'number'),
    ),
  ),
  (
    'By subject',
    'Means over subjects, which all weigh the same whatever they hold.',
    (
      ('subject_sensitivity', 'Sensitivity', 'percent'),
      ('subject_precision', 'Precision', 'percent'),
      ('subject_f1', 'F1', 'number'),
      ('subject_fp_per_scan', 'FP per scan', 'count'),
    ),
  ),
)
_POINTS = {
  'high_sensitivity': 'high sensitivity',
  'balanced': 'balanced',
  'high_precision': 'high precision',
}
_POINT_COLUMNS = (
  ('sensitivity_lesions', 'Sensitivity, all lesions', 'percent'),
  ('precision', 'Precision', 'percent'),
  ('f1', 'F1', 'number'),
  ('fp_per_scan', 'FP per scan', 'count'),
)


def units(study: StudyTables) -> dict[str, Any] | None:
  """The same rows counted by candidate, lesion, scan and subject."""
  rows = look_of(study).in_order(study.rows)
  if not any(row.levels for row in rows):
    return None
  made = []
  for label, meaning, columns in _UNITS:
    heads = ('Strategy', *(head for _, head, _ in columns))
    table = PageTable(label, heads)
    for row in rows:
      table.add(row, table.values(row.metrics | row.levels, columns))
    made.append({'meaning': meaning, 'table': table})
  return {'units': made}


def parts(study: StudyTables) -> dict[str, Any] | None:
  """Sensitivity by size and region, where the lesions are known singly."""
  look, made = look_of(study), []
  for head in dict.fromkeys(h for row in study.rows for h in row.parts):
    for rows in look.by_test(study.rows).values():
      known = [row for row in rows if head in row.parts]
      if known:
        made.append(_part(head, known, look))
  return {'parts': made} if made else None


def _part(head: str, rows: Sequence[ResultRow], look: Look) -> dict[str, Any]:
  """One table: a line per group, a column per strategy."""
  label = rows[0].test_label
  names = [row.strategy_label for row in rows]
  table = PageTable(f'{head} on {label}', (sentence_case(head), *names))
  for group, (_, count) in rows[0].parts[head].items():
    shares = [row.parts[head][group][0] for row in rows]
    cells = [table.value(share, 'percent') for share in shares]
    table.add((group, count), cells)
  colour = look.test_class(rows[0].test)
  return {'head': head, 'test': label, 'colour': colour, 'table': table}


def likelihoods(study: StudyTables) -> dict[str, Any] | None:
  """What the candidates of each bin of likelihood are."""

  def make(rows, label):
    heads = ('Likelihood', *(row.strategy_label for row in rows))
    table = PageTable(f'Likelihood, {label}', heads)
    for bins in zip(*(row.likelihoods for row in rows)):
      cells = [
        table.value(one.share, 'percent')._replace(
          after=f'({one.microbleeds} of {one.candidates})'
        )
        for one in bins
      ]
      table.add(f'{bins[0].low:g} to {bins[0].high:g}', cells)
    return table

  return _by_test(study, lambda row: row.likelihoods, make)


def points(study: StudyTables) -> dict[str, Any] | None:
  """Thresholds chosen out of fold, scored on the test sets."""
  threshold = study.record.get('threshold', metrics.THRESHOLD)

  def make(rows, label):
    heads = ('Strategy and point', 'Threshold')
    heads += tuple(head for _, head, _ in _POINT_COLUMNS)
    table = PageTable(f'Strategy and point, {label}', heads)
    for row in rows:
      for name, point in row.points.items():
        if point.threshold == threshold:
          continue  # those numbers are in the table of results
        which = (row.strategy_label, _POINTS.get(name, name), point.rule)
        values = table.values(point.metrics, _POINT_COLUMNS)
        table.add(which, [f'{point.threshold:.3g}', *values])
    return table

  return _by_test(study, lambda row: row.points, make)


def _by_test(
  study: StudyTables, has: Callable, make: Callable
) -> dict[str, Any] | None:
  """One table per test set of the rows that have something."""
  look, made = look_of(study), []
  for test, rows in look.by_test(study.rows).items():
    known = [row for row in rows if has(row)]
    if known:
      label = look.tests[test]
      table = make(known, label)
      colour = look.test_class(test)
      made.append({'test': label, 'colour': colour, 'table': table})
  return {'tests': made} if made else None
