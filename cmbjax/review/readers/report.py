"""How far readers agree to one self-contained page, two tables and JSON.

Rule: every number has its interval or the reason why it has none.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from cmbjax import files
from cmbjax.evaluation import agreement as counts_lib
from cmbjax.evaluation.raters import Spread
from cmbjax.report import cells, pages, texts
from cmbjax.report.figures import inline
from cmbjax.review.readers import agreement, figures, merge, numbers
from cmbjax.review.readers.agreement import VERDICTS, Agreement, Pair
from cmbjax.review.readers.places import AGREED, MATCHING_MM

_MOST_LISTED = 60  # places on the page; places.tsv has all
_SIDE = (4.2, 4.2)  # inches at 72 px


def write(
  root: pathlib.Path,
  raters: Sequence[str] | None,
  out: pathlib.Path,
  *,
  matching_mm: float = MATCHING_MM,
  **how,
) -> pathlib.Path:
  """Writes agreement.html, .tsv and .json, and places.tsv.

  Args:
    root: folder of the reviews.
    raters: names; none: everybody but adjudicators.
    out: made when missing.
    matching_mm: farthest apart that two additions may be to be one place.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.

  Returns:
    Path of agreement.html.
  """
  found = agreement.measure(root, raters or (), matching_mm=matching_mm, **how)
  out = files.make_folder(out)
  rows = list(numbers.rows(found))
  head = ['readers', 'statistic', 'value', 'low', 'high', 'of', 'note']
  written = merge.tsv(head, map(numbers.texts, rows))
  files.write_text(out / 'agreement.tsv', written)
  names = [reader.name for reader in found.readers]
  head = ['case', 'place', 'x', 'y', 'z', *(f'said_by_{n}' for n in names)]
  files.write_text(out / 'places.tsv', merge.tsv(head, found.places))
  record = numbers.as_json(found, rows, matching_mm)
  files.write_json(out / 'agreement.json', record)
  files.write_text(out / 'agreement.html', page(found, matching_mm))
  return out / 'agreement.html'


def page(found: Agreement, matching_mm: float = MATCHING_MM) -> str:
  """The whole page as text."""
  count = len(found.readers)
  title = 'How one reader read'
  if count > 1:
    many = 'two' if count == 2 else count
    title = f'How far {many} readers agree'
  title += ' on simulated scans' if found.simulated else ''
  return pages.render(
    'report.html',
    folder='agreement',
    styles=('base.css', 'report.css', 'agreement.css'),
    skip=('readers', 'results'),
    eyebrow='review of cerebral microbleeds',
    page_title=title,
    title=title,
    simulated=_SIMULATED if found.simulated else '',
    lead=_lead(found),
    sections=list(_sections(found, matching_mm)),
    time='',
    verdicts=VERDICTS,
  )


_SIMULATED = (
  'A physics simulator made scans that were read here; what readers do on them '
  'is no result on patients.'
)


def _sections(found: Agreement, matching_mm: float):
  for name, head, content in (
    ('readers', 'Readers', _readers(found)),
    ('verdicts', 'Verdicts on candidates', _verdicts(found)),
    ('lesions', 'Lesions found', _lesions(found)),
    ('counts', 'Microbleeds per scan', _counts(found)),
    ('outlines', 'Outlines', _outlines(found)),
    ('unaided', 'With and without candidates', _unaided(found)),
    ('again', 'The same reader twice', _again(found)),
    ('ratings', 'Ratings and likelihood', _ratings(found)),
    ('open', 'Where they differ', _differences(found)),
    ('methods', 'Methods', {'matching_mm': matching_mm}),
  ):
    title = head
    if found.simulated and name != 'methods':
      title = f'{head} (simulated data)'
    if content:
      yield pages.Section(name, head, title, content)


def _lead(found: Agreement) -> list[str]:
  said = []
  for pair in found.pairs[:3]:
    some = pair.both_or_none
    if some.observed.value is None:
      said.append(f'{_both(pair)} have judged no candidate together.')
      continue
    said.append(
      f'{_both(pair)} agree on '
      f'{texts.number(some.observed.value, "percent")} of '
      f'{int(some.table.sum())} candidates that both accepted or rejected: '
      f'kappa {texts.number(some.kappa.value, "number")}, AC1 '
      f'{texts.number(some.ac1.value, "number")}.'
    )
    if pair.positive.value is not None:
      said.append(
        f'Of the {sum(pair.found)} lesions that {pair.first} or {pair.second} '
        f'accepted, both accepted {pair.found[0]}.'
      )
  if not found.pairs:
    said.append('One reader agrees with nobody: agreement needs two.')
  return said


def _both(pair: Pair) -> str:
  return f'{pair.first} and {pair.second}'


def _readers(found: Agreement) -> dict[str, Any]:
  heads = ('Reader', 'Scans', 'Completed', *map(str.capitalize, VERDICTS))
  heads += ('Added', 'Seconds per decision', 'Seconds per scan')
  table = cells.PageTable('Readers', heads)
  for one in found.readers:
    values = [one.cases, one.completed, *one.verdicts.values(), one.added]
    times = [_spread(one.decision_s), _spread(one.case_s)]
    table.add(one.name, [*map(str, values), *times])
  known = [x for x in found.readers if x.decision_s.count]
  times = known and inline(
    figures.draw_times,
    [(one.name, one.decision_s) for one in known],
    size=(5.8, 0.7 + 0.45 * len(known)),
    name='times',
    label='Seconds per decision, median and quartiles',
  )
  return {'readers': table, 'times': times}


def _spread(some: Spread) -> cells.Cell:
  if some.median is None:
    return cells.Cell(texts.DASH, 'no time was logged')
  inside = f'{_seconds(some.low)}–{_seconds(some.high)}'
  return cells.Cell(_seconds(some.median), inside)


def _seconds(value: float) -> str:
  return f'{value:.1f}' if value < 10 else f'{value:.0f}'


def _verdicts(found: Agreement) -> dict[str, Any] | None:
  if not found.pairs:
    return None
  heads = ('Readers', 'Judged by both', 'Same', 'Kappa', 'AC1')
  heads += ('Agreement on accept', 'Agreement on reject')
  table = cells.PageTable('Verdicts', heads)
  for pair in found.pairs:
    some = pair.both_or_none
    agreed = _agreed(table, some)
    specific = [table.value(one, 'percent') for one in some.specific]
    table.add(_both(pair), agreed + specific)
  raw = [
    _raw(pair.verdicts.table, pair.first, pair.second) for pair in found.pairs
  ]
  return {'table': table, 'raw': raw}


def _agreed(table: cells.PageTable, some) -> list[cells.Cell | str]:
  """How many, the same verdict, kappa and AC1."""
  return [
    str(int(some.table.sum())),
    table.value(some.observed, 'percent'),
    table.value(some.kappa, 'number'),
    table.value(some.ac1, 'number'),
  ]


def _raw(table, first: str, second: str) -> dict[str, Any]:
  """Verdicts of the first reader down, of the second across."""
  return {'table': table.tolist(), 'first': first, 'second': second}


def _lesions(found: Agreement) -> dict[str, Any] | None:
  if not found.pairs:
    return None
  heads = ('Readers', 'Scans', 'Both', 'Only the first', 'Only the second')
  table = cells.PageTable('Lesions', (*heads, 'Positive agreement'))
  for pair in found.pairs:
    counts = map(str, (pair.completed, *pair.found))
    table.add(_both(pair), [*counts, table.value(pair.positive, 'percent')])
  return {'table': table}


def _counts(found: Agreement) -> dict[str, Any] | None:
  known = [pair for pair in found.pairs if pair.counts is not None]
  if not known:
    return None
  heads = ('Readers', 'Scans', 'ICC(2,1)', 'Bias and limits')
  heads += ('Weighted kappa of grades', 'Same grade')
  table = cells.PageTable('Counts', heads)
  for pair in known:
    one = pair.counts
    columns = [
      str(pair.completed),
      table.value(one.icc, 'number'),
      cells.signed(counts_lib.bias(one), 1),
      table.value(one.kappa, 'number'),
      table.value(one.same_grade, 'percent'),
    ]
    table.add(_both(pair), columns)
  everybody = None
  if len(found.readers) > 2:
    everybody = table.value(found.icc, 'number')
  return {
    'table': table,
    'everybody': everybody,
    'readers': len(found.readers),
    'scans': found.scans,
    'pairs': [
      {'names': _both(pair), 'drawings': _count_drawings(pair, n)}
      for n, pair in enumerate(known)
    ],
  }


def _count_drawings(pair: Pair, n: int) -> list:
  one, (first, second) = pair.counts, (pair.first, pair.second)
  return [
    inline(
      figures.draw_counts,
      one.counts,
      (first, second),
      size=_SIDE,
      name=f'counts-{n}',
      label=f'Microbleeds per scan, {first} against {second}',
    ),
    inline(
      figures.draw_differences,
      one.counts,
      one.bland_altman,
      (first, second),
      size=_SIDE,
      name=f'differences-{n}',
      label=f'Difference of counts, {first} minus {second}, over their mean',
    ),
  ]


def _outlines(found: Agreement) -> dict[str, Any] | None:
  heads = ('Readers', 'Lesions', 'Edited', 'Dice', 'Dice, edited')
  heads += ('Volume ratio, edited', 'Distance of centres, edited (mm)')
  table = cells.PageTable('Outlines', heads)
  for pair in found.pairs:
    one = pair.outlines
    if one.lesions:
      values = (one.dice, one.dice_edited, one.volume_ratio, one.distance_mm)
      values = [table.value(interval, 'number') for interval in values]
      table.add(_both(pair), [str(one.lesions), str(one.edited), *values])
  return {'table': table} if table.lines else None


def _unaided(found: Agreement) -> dict[str, Any] | None:
  table = cells.PageTable(
    'Unaided and aided', ('Reader', 'Scans', *numbers.GAINS)
  )
  for one in found.readers:
    if one.gain is not None:
      columns = [str(one.gain.scans)]
      for count, interval in zip(one.gain[1:5], one.gain.per_scan):
        shown = table.value(interval, 'number')
        text = f'{count} lesions, {shown.text}'
        columns.append(shown._replace(text=text, after='per scan'))
      table.add(one.name, columns)
  return {'table': table} if table.lines else None


def _again(found: Agreement) -> dict[str, Any] | None:
  heads = ('Reader', 'Read twice', 'Same', 'Kappa', 'AC1')
  table, raw = cells.PageTable('Read again', heads), []
  for one in found.readers:
    if one.again is not None:
      table.add(one.name, _agreed(table, one.again))
      raw.append(_raw(one.again.table, f'{one.name}, first', 'again'))
  return {'table': table, 'raw': raw} if raw else None


def _ratings(found: Agreement) -> dict[str, Any] | None:
  heads = ('Reader', 'Rated', 'Spearman correlation')
  table, panels = cells.PageTable('Ratings', heads), []
  for n, one in enumerate(found.readers):
    if one.rating is not None:
      count = str(len(one.ratings))
      table.add(one.name, [count, table.value(one.rating, 'number')])
      drawing = inline(
        figures.draw_ratings,
        one.ratings,
        size=_SIDE,
        name=f'ratings-{n}',
        label=f'Ratings of {one.name} against likelihood',
      )
      panels.append(cells.Panel(one.name, [drawing]))
  return {'table': table, 'figures': panels} if panels else None


def _differences(found: Agreement) -> dict[str, Any] | None:
  names = [one.name for one in found.readers]
  if len(names) < 2:
    return None
  table = cells.PageTable('Differences', ('Place', *names, 'mm'))
  count = 0
  for row in found.places:
    said = [row[f'said_by_{name}'] for name in names]
    if len({text for text in said if text}) < 2:
      continue
    count += 1
    if count <= _MOST_LISTED:
      where = ', '.join(f'{row[axis]:.1f}' for axis in 'xyz')
      said = [text or texts.DASH for text in said]
      table.add(row, [*said, where.replace('-', '−')])
  return {'table': table, 'count': count, 'agreed': AGREED}
