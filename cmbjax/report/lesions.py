"""Rows to what they say of lesions and scans: FROC, counts, burden.

Rule: the denominator is all true lesions, also those never proposed.
"""

import itertools
from typing import Any

import numpy as np

from cmbjax.evaluation import agreement, metrics
from cmbjax.report import figures
from cmbjax.report.cells import PageTable, panels, signed
from cmbjax.report.looks import look_of
from cmbjax.report.tables import ResultRow, StudyTables

_COUNTS = (
  ('icc', 'ICC(2,1)', 'number'),
  ('consistency', 'ICC(3,1)', 'number'),
  ('kappa', 'Weighted kappa of grades', 'number'),
  ('same_grade', 'Scans with the right grade', 'percent'),
)


def froc(study: StudyTables) -> dict[str, Any] | None:
  """FROC, and sensitivity at fixed rates."""
  # Without lesions there is no sensitivity of all lesions.
  if not any(row.froc for row in study.rows):
    return None
  rates = [f'{rate:g}' for rate in metrics.FROC_RATES]
  heads = ('Strategy', *(f'{rate} FP per scan' for rate in rates))
  table = PageTable('FROC table', heads)
  for row in look_of(study).in_order(study.rows):
    table.add(row, [table.value(row.rates.get(r), 'percent') for r in rates])
  return {'figures': panels(study, figures.draw_froc, 'froc'), 'rates': table}


def counts(study: StudyTables) -> dict[str, Any] | None:
  """ICC, weighted kappa, Bland-Altman and grades of the counts per scan."""
  rows = look_of(study).in_order(study.rows)
  if not rows:
    return None
  heads = ('Strategy', *(head for _, head, _ in _COUNTS))
  table = PageTable('Counts', (*heads, 'Bias and limits of agreement'))
  for row in rows:
    values = table.values(row.agreement, _COUNTS)
    bias = row.agreement.get('bias')
    mark = table.notes.mark(bias.note) if bias else ''
    table.add(row, [*values, signed(bias, 1)._replace(mark=mark)])
  names = _grade_names()
  burden = [(row, _burden(row, names)) for row in rows if np.any(row.grades)]
  return {'counts': table, 'grades': names, 'burden': burden}


def _grade_names() -> list[str]:
  """'0', '1 to 4', ..., '20 or more'."""
  low = agreement.GRADES
  names = [
    f'{a}' if a == b - 1 else f'{a} to {b - 1}'
    for a, b in itertools.pairwise(low)
  ]
  return [*names, f'{low[-1]} or more']


def _burden(row: ResultRow, names: list[str]) -> PageTable:
  """Scans by true and found grade."""
  heads = ('Scans', *(f'found {name}' for name in names))
  table = PageTable(f'Grades of {row.strategy}, {row.test}', heads)
  for name, line in zip(names, row.grades):
    if any(line):
      table.add(f'true {name}', [str(count) for count in line])
  return table
