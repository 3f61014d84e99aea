"""Lesions and scans: FROC, sensitivity by size and region, counts, burden.

Rule: the denominator is all true lesions, also those never proposed.
"""

import html
import itertools

import numpy as np

from cmbjax.evaluation import agreement, metrics
from cmbjax.report import cells, figures, tables
from cmbjax.report.looks import Look, look_of
from cmbjax.report.tables import Row, StudyTables

escape = html.escape

_COUNTS = (
  ('icc', 'ICC(2,1)', 'number'),
  ('consistency', 'ICC(3,1)', 'number'),
  ('kappa', 'Weighted kappa of grades', 'number'),
  ('same_grade', 'Scans with the right grade', 'percent'),
)
_BIAS = 'Bias and limits of agreement'


def froc(study: StudyTables) -> str:
  """FROC, and sensitivity at fixed rates."""
  if not any(row.froc for row in study.rows):
    return ''
  marks, lines = tables.Notes(), []
  heads = ('Strategy', *(f'{rate:g}' for rate in metrics.FROC_RATES))
  look = look_of(study)
  by_test = look.by_test(study.rows).values()
  for row in (row for some in by_test for row in some):
    columns = [
      (
        f'{rate} FP per scan',
        cells.value(row.rates.get(rate), 'percent', marks),
      )
      for rate in heads[1:]
    ]
    lines.append(cells.line(cells.row_name(row, look), columns))
  table = (
    '<h3>Sensitivity of all lesions at fixed false positives per scan</h3>'
    '<p class="small">Intervals from bootstrap draws of whole subjects, each '
    'with the threshold that keeps to the rate in that draw.</p>'
    + cells.table(heads, lines, label='FROC table')
    + cells.notes(marks)
  )
  intro = (
    'Lesions that no candidate reached count as missed, so a curve ends '
    'below one where the detector ends.'
  )
  return cells.panels(study, figures.draw_froc, 'froc', intro) + table


def parts(study: StudyTables) -> str:
  """Sensitivity by size and region, where the lesions are known singly."""
  blocks, look = [], look_of(study)
  heads = dict.fromkeys(h for row in study.rows for h in row.parts)
  for head in heads:
    for rows in look.by_test(study.rows).values():
      known = [row for row in rows if head in row.parts]
      if known:
        blocks.append(_part(head, known, look))
  if not blocks:
    return ''
  return (
    '<p class="sub">Of all true lesions of a group, how many are kept. The '
    'same lesions are in the groups of every strategy; their number stands '
    'behind the name of the group.</p>' + ''.join(blocks)
  )


def _part(head: str, rows: list[Row], look: Look) -> str:
  """One table: a line per group, a column per strategy."""
  marks = tables.Notes()
  names = [row.strategy_label for row in rows]
  lines = []
  for group, (_, count) in rows[0].parts[head].items():
    columns = [
      (name, cells.value(row.parts[head][group][0], 'percent', marks))
      for name, row in zip(names, rows)
    ]
    title = f'{escape(group)} <span class="small">({count})</span>'
    lines.append(cells.line(title, columns))
  label, colour = rows[0].test_label, look.test_class(rows[0].test)
  return cells.fold(
    f'By {escape(head)} on <span class="{colour}">{escape(label)}</span>',
    cells.table(
      (cells.sentence_case(head), *names), lines, label=f'{head} on {label}'
    )
    + cells.notes(marks),
  )


def counts(study: StudyTables) -> str:
  """ICC, weighted kappa, Bland-Altman and grades of the counts per scan."""
  marks, lines = tables.Notes(), []
  look = look_of(study)
  by_test = look.by_test(study.rows).values()
  for row in (row for some in by_test for row in some):
    columns = [
      (head, cells.value(row.agreement.get(name), kind, marks))
      for name, head, kind in _COUNTS
    ]
    found = row.agreement.get('bias')
    bias, inside = cells.signed(found, 1)
    mark = marks.mark(found.note) if found else ''
    bias += f'<sup>{mark}</sup>' if mark else ''
    columns.append((_BIAS, f'{bias} <span class="ci">{inside}</span>'))
    lines.append(cells.line(cells.row_name(row, look), columns))
  if not lines:
    return ''
  heads = ('Strategy', *(head for _, head, _ in _COUNTS), _BIAS)
  return (
    '<p class="sub">The number of microbleeds that a strategy finds in a scan '
    'against the true number. Grades of burden: '
    f'{escape(", ".join(_grade_names()))}.</p>'
    + cells.table(heads, lines, label='Counts')
    + cells.notes(marks)
    + _burden(study)
  )


def _grade_names() -> list[str]:
  """'0', '1 to 4', ..., '20 or more'."""
  low = agreement.GRADES
  names = [
    f'{a}' if a == b - 1 else f'{a} to {b - 1}'
    for a, b in itertools.pairwise(low)
  ]
  return [*names, f'{low[-1]} or more']


def _burden(study: StudyTables) -> str:
  """Scans by true and found grade, one small table per row."""
  names, blocks = _grade_names(), []
  look = look_of(study)
  by_test = look.by_test(study.rows).values()
  for row in (row for some in by_test for row in some):
    if not np.any(row.grades):
      continue
    lines = [
      cells.line(
        f'true {escape(name)}',
        [(f'found {n}', str(count)) for n, count in zip(names, line)],
      )
      for name, line in zip(names, row.grades)
      if any(line)
    ]
    heads = ('Scans', *(f'found {name}' for name in names))
    blocks.append(
      f'<h4>{cells.row_name(row, look)}</h4>'
      + cells.table(heads, lines, label=f'Grades of {row.strategy}, {row.test}')
    )
  if not blocks:
    return ''
  return (
    '<details><summary>Scans by true and found grade</summary>'
    f'{"".join(blocks)}</details>'
  )
