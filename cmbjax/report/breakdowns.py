"""Test rows taken apart: by unit, by likelihood, by operating point.

Rule: a table names what it counts; the interval is over subjects whatever
the unit.
"""

import html
from collections.abc import Callable

from cmbjax.evaluation import metrics
from cmbjax.report import cells, tables
from cmbjax.report.looks import look_of
from cmbjax.report.tables import StudyTables

escape = html.escape

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


def units(study: StudyTables) -> str:
  """The same rows counted by candidate, lesion, scan and subject."""
  look = look_of(study)
  rows = [row for some in look.by_test(study.rows).values() for row in some]
  if not any(row.levels for row in rows):
    return ''
  blocks = []
  for head, meaning, columns in _UNITS:
    marks = tables.Notes()
    lines = []
    for row in rows:
      known = row.metrics | row.levels
      values = [
        (name, cells.value(known.get(key), kind, marks))
        for key, name, kind in columns
      ]
      lines.append(cells.line(cells.row_name(row, look), values))
    heads = ('Strategy', *(name for _, name, _ in columns))
    table = cells.table(heads, lines, label=head) + cells.notes(marks)
    intro = f'<p class="small">{escape(meaning)}</p>'
    blocks.append(cells.fold(head, intro + table))
  return (
    '<p class="sub">The same decisions, counted by four units. Intervals are '
    'over subjects in all of them.</p>' + ''.join(blocks)
  )


def likelihoods(study: StudyTables) -> str:
  """What the candidates of each bin of likelihood are."""

  def block(rows, marks):
    lines = []
    for i, one in enumerate(rows[0].likelihoods):
      columns = [
        (row.strategy_label, _bin(row.likelihoods[i], marks)) for row in rows
      ]
      lines.append(cells.line(f'{one.low:g} to {one.high:g}', columns))
    heads = [row.strategy_label for row in rows]
    return ('Likelihood', *heads), lines

  blocks = _by_test(study, lambda row: row.likelihoods, block)
  if not blocks:
    return ''
  return (
    '<p class="sub">Share of microbleeds among the candidates of each bin of '
    'likelihood, its interval, and how many of how many candidates that is. '
    'A bin holds its upper end; the first is what the reference threshold '
    f'removes.</p>{blocks}'
  )


def _bin(one, marks: tables.Notes) -> str:
  share = cells.value(one.share, 'percent', marks)
  count = f'({one.microbleeds} of {one.candidates})'
  return f'{share} <span class="small">{count}</span>'


def points(study: StudyTables) -> str:
  """Thresholds chosen out of fold, scored on the test sets."""
  threshold = study.record.get('threshold', metrics.THRESHOLD)

  def block(rows, marks):
    lines = []
    for row in rows:
      for name, point in row.points.items():
        if point.threshold == threshold:
          continue  # that is the table of results
        columns = [('Threshold', f'{point.threshold:.3g}')]
        columns += [
          (head, cells.value(point.metrics.get(key), kind, marks))
          for key, head, kind in _POINT_COLUMNS
        ]
        head = (
          f'{escape(row.strategy_label)}<br><span '
          f'class="small">{escape(_POINTS.get(name, name))}: '
          f'{escape(point.rule)}</span>'
        )
        lines.append(cells.line(head, columns))
    heads = ('Strategy and point', 'Threshold')
    return (*heads, *(head for _, head, _ in _POINT_COLUMNS)), lines

  blocks = _by_test(study, lambda row: row.points, block)
  if not blocks:
    return ''
  return (
    '<p class="sub">Thresholds chosen on training subjects, out of fold, and '
    'stored with the weights; here they meet subjects that had no say in '
    f'them. The threshold of {threshold:g} is in the results above.</p>{blocks}'
  )


def _by_test(study: StudyTables, has: Callable, block: Callable) -> str:
  """One table per test set of the rows that have something."""
  blocks, look = [], look_of(study)
  for test, rows in look.by_test(study.rows).items():
    known = [row for row in rows if has(row)]
    if not known:
      continue
    marks, label = tables.Notes(), look.tests[test]
    heads, lines = block(known, marks)
    blocks.append(
      cells.fold(
        f'On <span class="{look.test_class(test)}">{escape(label)}</span>',
        cells.table(heads, lines, label=f'{heads[0]}, {label}')
        + cells.notes(marks),
      )
    )
  return ''.join(blocks)
