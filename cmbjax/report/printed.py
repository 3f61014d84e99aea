"""The rows and claims of a study as plain text for a terminal.

Rule: at most 120 columns; what does not fit is cut with an ellipsis, but never
so that two names become one.
"""

import textwrap
from collections.abc import Callable

from cmbjax.evaluation import intervals, metrics
from cmbjax.evaluation.intervals import Interval
from cmbjax.report.tables import (
  METRICS,
  StudyTables,
  claims_head,
  headline,
  numbered,
  ordered,
  own_head,
)
from cmbjax.report.texts import DASH, Notes, bounds, number

_OWN_PER_LINE = 3  # own metrics beside each other: more pass 120 columns


def print_rows(study: StudyTables) -> str:
  """The rows as plain text for a terminal, at most 120 columns wide."""
  notes = Notes()
  table = _lines(
    study,
    [m.short for m in METRICS[:5]],
    lambda row: [
      _cell(row.metrics.get(m.name), m.kind, notes) for m in METRICS[:5]
    ],
  )
  level = study.record.get('level', 0.95)
  threshold = study.record.get('threshold', metrics.THRESHOLD)
  lines = [headline(study), '', *_columns(table), '']
  for i in range(0, len(study.metrics), _OWN_PER_LINE):
    names = study.metrics[i : i + _OWN_PER_LINE]
    own = _lines(
      study,
      [_clip(own_head(name, study.metrics), 20) for name in names],
      lambda row, names=names: [
        _cell(row.own.get(name), 'number', notes) for name in names
      ],
    )
    lines += [*_columns(own), '']
  lines.append(
    f'Threshold {threshold:g} (strictly above); {100 * level:g} % intervals '
    f'over subjects by {study.record.get("method", "jackknife")}; those by '
    'bootstrap are in results.csv.'
  )
  if study.record.get('pretrained'):
    lines += textwrap.wrap(study.record['pretrained'], 100)
  lines += [f'{notes.mark(text)}) {text}' for text in notes.texts]
  lines += _verdict_lines(study)
  return '\n'.join(lines) + '\n'


def _lines(study: StudyTables, heads: list[str], values: Callable) -> list:
  """Which row it is, then some values of it; a heading first."""
  with_number = numbered(study.rows)
  # 19 and 12: what is left of 120 columns beside five metrics.
  strategies = _clipped([row.strategy_label for row in study.rows], 19)
  tests = _clipped([row.test_label for row in study.rows], 12)
  table = [['Row'] * with_number + ['Strategy', 'Test set', *heads]]
  for row in ordered(study.rows):
    place = [DASH if row.number is None else str(row.number)] * with_number
    where = [strategies[row.strategy_label], tests[row.test_label]]
    table.append([*place, *where, *values(row)])
  return table


def _verdict_lines(study: StudyTables) -> list[str]:
  if not study.orderings:
    return []
  where = ' on simulated data' if study.simulated else ''
  lines = ['', f'{claims_head(study)}{where} (difference, p after Holm):']
  for one in study.orderings:
    value = number(one.difference.value, 'percent')
    if one.metric == 'auc' and one.difference.value is not None:
      value = f'{one.difference.value:+.3f}'.replace('-', '−')
    p = '' if one.p_holm is None else f'p {one.p_holm:.3f}'
    claim = _clip(one.claim, 85)
    lines.append(f'  {one.verdict:<15}{value:>7}  {p:<8}{claim}')
  return lines


def _cell(interval: Interval | None, kind: str, notes: Notes) -> str:
  if interval is None:
    return DASH
  text = number(interval.value, kind)
  inside = f' ({bounds(interval, kind)})' if interval.low is not None else ''
  if intervals.missing(interval):  # its note says of how many subjects
    inside = ' n/a'
  mark = notes.mark(interval.note)
  return text + inside + (f' {mark})' if mark else '')


def _columns(table: list[list[str]]) -> list[str]:
  width = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
  lines = [
    '  '.join(cell.ljust(w) for cell, w in zip(row, width)).rstrip()
    for row in table
  ]
  return [lines[0], '-' * max(len(line) for line in lines), *lines[1:]]


def _clip(text: str, width: int) -> str:
  return text if len(text) <= width else text[: width - 1] + '…'


def _clipped(names: list[str], width: int) -> dict[str, str]:
  """Each name at the width, or all of them whole where two became one."""
  clipped = {name: _clip(name, width) for name in names}
  if len(set(clipped.values())) < len(clipped):
    return {name: name for name in names}
  return clipped
