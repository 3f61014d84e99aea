"""Test rows to tables: results, orderings, pairs, out of fold.

Rule: an effect stands with its interval before any p value, and a test that
takes candidates for independent says so.
"""

import functools
import html
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax.evaluation import claims, compare, statistics
from cmbjax.evaluation.orderings import Ordering
from cmbjax.evaluation.predictions import OUT_OF_FOLD
from cmbjax.evaluation.statistics import Interval
from cmbjax.report import cells, methods, tables
from cmbjax.report.looks import Look, look_of
from cmbjax.report.tables import METRICS, Row, StudyTables

escape = html.escape

_VERDICTS = {
  claims.REPRODUCED: 'yes',
  claims.NOT_REPRODUCED: 'no',
  claims.UNDECIDED: 'open',
}
# Ends of the small drawings; an AUC of one half is chance.
_AXES = {'number': (0.5, 1.0), 'percent': (0.0, 1.0)}


def results(study: StudyTables) -> str:
  """Rows grouped and coloured by test set."""
  notes, look, columns = tables.Notes(), look_of(study), _columns(study)
  with_number = tables.numbered(study.rows)
  heads = ['Row'] * with_number + ['Strategy', *(c.head for c in columns)]
  top = ''.join(f'<th scope="col">{escape(head)}</th>' for head in heads)
  body = []
  for test, rows in look.by_test(study.rows).items():
    colour = look.test_class(test)
    body.append(
      f'<tr class="group {colour}"><th scope="rowgroup" '
      f'colspan="{len(heads)}">{escape(look.tests[test])} '
      f'<span class="small">{cells.sizes(rows[0])}</span></th></tr>'
    )
    for row in rows:
      number = _number(row) if with_number else ''
      line = number + _result_cells(row, columns, colour, notes)
      body.append(f'<tr>{line}</tr>')
  caption = methods.reading(study)
  return (
    f'<p class="sub">{escape(caption)}</p>'
    '<div class="scroll" tabindex="0" role="region" aria-label="Results">'
    f'<table class="cards"><thead><tr>{top}</tr></thead>'
    f'<tbody>{"".join(body)}</tbody></table></div>'
    + cells.notes(notes)
    + _seeds(study)
    + _meanings(study)
  )


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
  of: Callable[[Row], Interval | None]


def _own_heads(study: StudyTables) -> list[tuple[str, str]]:
  return [(n, tables.own_head(n, study.metrics)) for n in study.metrics]


def _columns(study: StudyTables) -> list[_Column]:
  columns = []
  for m in METRICS:
    of = functools.partial(_metric, m.name)
    axis = _AXES.get(m.kind) or _axis(study.rows, of)
    columns.append(_Column(m.head, m.kind, axis, of))
  for name in study.metrics:
    of = functools.partial(_own, name)
    axis = _axis(study.rows, of)
    head = tables.own_head(name, study.metrics)
    columns.append(_Column(head, 'number', axis, of))
  return columns


def _metric(name: str, row: Row) -> Interval | None:
  return row.metrics.get(name)


def _own(name: str, row: Row) -> Interval | None:
  return row.own.get(name)


def _axis(rows: Sequence[Row], of: Callable) -> tuple[float, float]:
  """From 0, or the smallest below it, to the largest of a column."""
  found = [i for i in map(of, rows) if i is not None and i.value is not None]
  ends = [x for i in found for x in i[:3] if x is not None]
  return min([*ends, 0.0]), max([*ends, 1e-9])


def _number(row: Row) -> str:
  number = tables.DASH if row.number is None else str(row.number)
  return f'<td class="row-no">{number}</td>'


def _result_cells(row: Row, columns, colour, notes: tables.Notes) -> str:
  values = ''.join(
    f'<td class="num" data-head="{escape(one.head)}">'
    + cells.cell(one.of(row), one.kind, notes, axis=one.axis, colour=colour)
    + '</td>'
    for one in columns
  )
  return f'<th scope="row">{escape(row.strategy_label)}</th>{values}'


def _seeds(study: StudyTables) -> str:
  """AUC of every training seed alone and its spread, when there are more."""
  lines, look = [], look_of(study)
  for row in tables.ordered(study.rows):
    known = [auc for auc in row.seeds if auc is not None]
    if len(known) > 1:
      mean = tables.number(row.metrics['auc'].value, 'number')
      every = ', '.join(f'{auc:.3f}' for auc in known)
      columns = [
        ('All seeds averaged', mean),
        ('Each seed alone', every),
        ('SD of seeds', f'{np.std(known, ddof=1):.3f}'),
      ]
      lines.append(cells.line(cells.row_name(row, look), columns))
  if not lines:
    return ''
  heads = ('Strategy', 'All seeds averaged', 'Each seed alone', 'SD of seeds')
  return (
    '<details><summary>AUC of every training seed alone</summary><p>The '
    'table above averages the likelihoods of all seeds first; the spread below '
    'is that of training, not of subjects.</p>'
    + cells.table(heads, lines, label='Training seeds')
    + '</details>'
  )


def _meanings(study: StudyTables) -> str:
  meanings = [(m.head, m.meaning) for m in METRICS]
  if study.paper:
    as_in = {'sensitivity_candidates': ' (as in the paper)'}
    meanings = [(m.head, m.meaning + as_in.get(m.name, '')) for m in METRICS]
  meanings += [(head, f'your own: {n}') for n, head in _own_heads(study)]
  items = ''.join(
    f'<dt>{escape(head)}</dt><dd>{escape(text)}</dd>' for head, text in meanings
  )
  return (
    '<details><summary>What the columns mean</summary>'
    f'<dl>{items}</dl></details>'
  )


def orderings(study: StudyTables) -> str:
  """Claims with differences, p values and verdicts."""
  if not study.orderings:
    return ''
  extent = max(
    [
      abs(bound)
      for one in study.orderings
      if one.metric == 'auc'
      for bound in one.difference[:3]
      if bound is not None
    ]
    + [0.01]
  )
  lines = ''.join(_ordering_line(one, extent) for one in study.orderings)
  return (
    f'<p class="sub">{escape(methods.family(study))}</p>'
    '<div class="scroll" tabindex="0" role="region" aria-label="Orderings">'
    '<table class="cards claims"><thead><tr><th scope="col">Claim</th>'
    '<th scope="col">Difference</th><th scope="col">FP per scan</th>'
    '<th scope="col">p, alone</th><th scope="col">p, Holm</th>'
    '<th scope="col">Here</th></tr></thead>'
    f'<tbody>{lines}</tbody></table></div>' + _open(study)
  )


def _open(study: StudyTables) -> str:
  """How many subjects each undecided claim would take."""
  lines = []
  for one in study.orderings:
    if one.verdict != claims.UNDECIDED or one.metric != 'auc':
      continue
    seen, _ = cells.signed(one.difference, 3)
    least = tables.DASH
    if one.detectable is not None:
      least = f'{one.detectable:.3f}'
    needed = tables.DASH
    if one.needed is not None:
      needed = f'{one.needed:,}' if one.needed < 10_000 else 'over 10,000'
    columns = [
      ('Difference seen', seen),
      ('Smallest that is found', least),
      ('Subjects here', str(one.num_subjects)),
      ('Subjects needed', needed),
    ]
    lines.append(cells.line(escape(one.claim), columns))
  if not lines:
    return ''
  heads = ('Undecided claim', 'Difference seen', 'Smallest that is found')
  heads += ('Subjects here', 'Subjects needed')
  return (
    '<h3>What the undecided claims lack</h3><p class="small">The smallest '
    'difference of AUC that these subjects would decide four times in five, '
    'and how many subjects (of each test set) a difference as large as the '
    'one seen would take; both by the t test at the level that Holm asks of '
    'the next claim. The second takes what was seen for the truth: an order '
    'of magnitude, not a plan.</p>' + cells.table(heads, lines, label='Power')
  )


def _ordering_line(one: Ordering, extent: float) -> str:
  gap = one.difference
  if one.metric == 'auc':
    value, inside = cells.signed(gap, 3)
  else:
    value = tables.number(gap.value, 'percent')
    inside = tables.bounds(gap, 'percent')
  track = ''
  if one.metric == 'auc' and gap.low is not None:
    spots = zip('lhv', (gap.low, gap.high, gap.value))
    style = ';'.join(
      f'--{k}:{cells.percent(x, (-extent, extent))}' for k, x in spots
    )
    track = (
      f'<span class="track zero" style="{style}" aria-hidden="true">'
      '<i></i><b></b></span>'
    )
  fp, fp_inside = cells.signed(one.fp_difference, 1)
  return (
    f'<tr><th scope="row">{escape(one.claim)}'
    f'<br><span class="small">{escape(one.rows)}; {escape(one.design)}'
    '</span></th>'
    f'<td class="num" data-head="Difference"><span>{value} '
    f'<span class="ci">{inside}</span>{track}</span></td>'
    f'<td data-head="FP per scan"><span>{fp} '
    f'<span class="ci">{fp_inside}</span></span></td>'
    f'<td data-head="p, alone"><span>{cells.p_value(one.p)}</span></td>'
    f'<td data-head="p, Holm"><span>{cells.p_value(one.p_holm)}</span></td>'
    f'<td data-head="Here"><span>'
    f'<span class="verdict {_VERDICTS[one.verdict]}">{one.verdict}</span>'
    f'<br><span class="small">{escape(one.reason)}{_seed_range(one)}'
    '</span></span></td></tr>'
  )


def _seed_range(one: Ordering) -> str:
  """How far the difference moves from seed to seed."""
  known = [gap for gap in one.by_seed if gap is not None]
  if len(known) < 2:
    return ''
  low, high = (cells.sign(end, 3) for end in (min(known), max(known)))
  return f'; single seeds {low} to {high}'


def held_out(study: StudyTables) -> str:
  """The training subjects, each judged by those that never saw it."""
  if not study.held_out:
    return ''
  marks, lines, look = tables.Notes(), [], look_of(study)
  shown = _columns(study)
  for row in study.held_out:
    columns = [
      (one.head, cells.value(one.of(row), one.kind, marks)) for one in shown
    ]
    columns.append(('Over', escape(cells.sizes(row))))
    lines.append(cells.line(cells.row_name(row, look), columns))
  heads = ('Strategy', *(one.head for one in shown), 'Over')
  return (
    '<p class="sub">Each training subject is judged by the networks that held '
    'its fold out. The same fold chose their epoch, so these numbers are a '
    'little optimistic; test subjects are in none of them.</p>'
    + cells.table(heads, lines, label='Out of fold')
    + cells.notes(marks)
  )


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


def pairs(study: StudyTables) -> str:
  """All pairs of strategies on one set of candidates, first minus second."""
  if not study.pairs:
    return ''
  adjusted = statistics.holm([one.tests['auc'].p for one in study.pairs])
  look = look_of(study)
  shown = (*_PAIR_HEADS, *_own_heads(study))
  lines = [
    _pair_line(one, p, shown, look) for one, p in zip(study.pairs, adjusted)
  ]
  heads = ('First minus second', *(head for _, head in shown))
  heads += ('p of AUC (Holm)', 'For reference')
  return (
    '<p class="sub">All pairs of strategies on the same candidates. '
    'Intervals leave out whole subjects; p swaps the two strategies within '
    'subjects, as found and after Holm over all pairs. For reference only: '
    'DeLong and McNemar take candidates for independent, Nadeau and Bengio '
    'take differences between folds for normal.</p>'
    + cells.table(heads, lines, label='Pairs of strategies')
  )


def _pair_line(
  one: compare.Comparison, holm: float | None, shown: Sequence, look: Look
) -> str:
  where = one.test_label or one.test
  if one.kind == OUT_OF_FOLD:
    where += ', out of fold'
  name = (
    f'{escape(one.first_label or one.first)} <em>minus</em> '
    f'{escape(one.second_label or one.second)}<br><span class="small">'
    f'<span class="{look.test_class(one.test)}">{escape(where)}</span>, '
    f'{methods.counted(one.num_subjects, "subject")}</span>'
  )
  columns = []
  for metric, head in shown:
    if metric not in one.tests:
      columns.append((head, tables.DASH))
      continue
    digits = 1 if metric == 'fp_per_scan' else 3
    gap, inside = cells.signed(one.tests[metric].difference, digits)
    columns.append((head, f'{gap} <span class="ci">{inside}</span>'))
  p = cells.p_value(one.tests['auc'].p)
  columns.append(('p of AUC (Holm)', f'{p} ({cells.p_value(holm)})'))
  others = ', '.join(
    f'{head} {cells.p_value(one.tests[test].p)}'
    for test, head in _ASSUMING
    if test in one.tests
  )
  columns.append(('For reference', f'<span class="small">{others}</span>'))
  return cells.line(name, columns)
