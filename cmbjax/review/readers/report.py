"""How far readers agree to one self-contained page, two tables and JSON.

Rule: every number stands with its interval or with the reason why it has
none, and every text from outside passes `escape` before it enters the page.
"""

import html
import pathlib
import string
from collections.abc import Iterator, Sequence
from typing import Any

import cmbjax
from cmbjax import files
from cmbjax.evaluation.raters import Spread, VerdictAgreement
from cmbjax.evaluation.statistics import Interval
from cmbjax.report import cells, pages, tables
from cmbjax.review.readers import agreement, figures, merge
from cmbjax.review.readers.agreement import VERDICTS, Agreement, Pair
from cmbjax.review.readers.places import AGREED, MATCHING_MM

escape = html.escape
SCHEMA = 'cmbjax-agreement-1'
_MOST_LISTED = 60
_LIMITS = 'Bias and limits'
_GAIN_KEYS = ('unaided', 'aided', 'added', 'dropped')
_GAINS = (
  'Unaided',
  'Aided',
  'Added with candidates',
  'Dropped with candidates',
)


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
  rows = list(numbers(found))
  head = ['readers', 'statistic', 'value', 'low', 'high', 'of', 'note']
  files.write_text(out / 'agreement.tsv', merge.tsv(head, map(_texts, rows)))
  names = [reader.name for reader in found.readers]
  head = ['case', 'place', 'x', 'y', 'z', *(f'said_by_{n}' for n in names)]
  files.write_text(out / 'places.tsv', merge.tsv(head, found.places))
  files.write_json(out / 'agreement.json', as_json(found, rows, matching_mm))
  files.write_text(out / 'agreement.html', page(found, matching_mm))
  return out / 'agreement.html'


def numbers(found: Agreement) -> Iterator[dict[str, Any]]:
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
      ('bias of counts', _bias(counts), pair.completed),
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
    for what, interval in zip(_GAINS, reader.gain.per_scan):
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


def _texts(row) -> dict[str, Any]:
  """Numbers with six digits."""
  return {
    key: f'{value:.6g}' if isinstance(value, int | float) else value
    for key, value in row.items()
  }


def _bias(counts) -> Interval:
  limits = counts.bland_altman
  note = 'limits of agreement: 1.96 SD' if limits.low is not None else ''
  note = note or 'needs two scans for limits'
  return Interval(limits.bias, limits.low, limits.high, note)


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


def page(found: Agreement, matching_mm: float = MATCHING_MM) -> str:
  """The whole page as text."""
  parts = [
    ('readers', 'Readers', _readers(found)),
    ('verdicts', 'Verdicts on candidates', _verdicts(found)),
    ('lesions', 'Lesions found', _lesions(found)),
    ('counts', 'Microbleeds per scan', _counts(found)),
    ('outlines', 'Outlines', _outlines(found)),
    ('unaided', 'With and without candidates', _gains(found)),
    ('again', 'The same reader twice', _again(found)),
    ('ratings', 'Ratings and likelihood', _ratings(found)),
    ('open', 'Where they differ', _differences(found)),
    ('methods', 'Methods', _methods(matching_mm)),
  ]
  told = ' (simulated data)' if found.simulated else ''
  nav, body = cells.sections(
    parts, lambda name, head: head + (told if name != 'methods' else '')
  )
  count = len(found.readers)
  title = 'How far two readers agree' if count == 2 else None
  title = title or (
    f'How far {count} readers agree' if count > 1 else 'How one reader read'
  )
  scans = ' on simulated scans' if found.simulated else ''
  return string.Template(pages.read('agreement.html')).substitute(
    page_title=escape(f'{title}{scans} – cmbjax'),
    title=escape(title + scans),
    css=pages.read('base.css'),
    eyebrow='cmbjax · review of cerebral microbleeds',
    banner=_banner(found),
    lead=_lead(found),
    nav=nav,
    sections=body,
    version=escape(cmbjax.__version__),
  )


def _banner(found: Agreement) -> str:
  if not found.simulated:
    return ''
  return (
    '<p class="notice"><strong>Simulated data.</strong> A physics simulator '
    'made scans that were read here; what readers do on them is no result on '
    'patients.</p>'
  )


def _lead(found: Agreement) -> str:
  said = []
  for pair in found.pairs[:3]:
    name = f'{pair.first} and {pair.second}'
    some = pair.both_or_none
    if some.observed.value is None:
      said.append(f'{name} have judged no candidate together.')
      continue
    said.append(
      f'{name} agree on {tables.number(some.observed.value, "percent")} of '
      f'{int(some.table.sum())} candidates that both accepted or rejected: '
      f'kappa {tables.number(some.kappa.value, "number")}, AC1 '
      f'{tables.number(some.ac1.value, "number")}.'
    )
    if pair.positive.value is not None:
      said.append(
        f'Of the {sum(pair.found)} lesions that {pair.first} or {pair.second} '
        f'accepted, both accepted {pair.found[0]}.'
      )
  if not found.pairs:
    said.append('One reader agrees with nobody: agreement needs two.')
  items = ''.join(f'<li>{escape(text)}</li>' for text in said)
  return f'<ul class="lead">{items}</ul>'


def _readers(found: Agreement) -> str:
  heads = ('Reader', 'Scans', 'Completed', *map(str.capitalize, VERDICTS))
  heads += ('Added', 'Seconds per decision', 'Seconds per scan')
  lines = []
  for one in found.readers:
    values = [one.cases, one.completed, *one.verdicts.values(), one.added]
    texts = [*map(str, values), _spread(one.decision_s), _spread(one.case_s)]
    lines.append(cells.line(escape(one.name), list(zip(heads[1:], texts))))
  drawing = figures.times(
    [(one.name, one.decision_s) for one in found.readers],
    'Seconds per decision, median and quartiles',
  )
  if drawing:
    drawing = (
      f'<figure class="wide">{drawing}<figcaption>Seconds per decision: '
      'median and quartiles.</figcaption></figure>'
    )
  return cells.table(heads, lines, label='Readers') + drawing


def _spread(some: Spread) -> str:
  if some.median is None:
    return f'{tables.DASH} <span class="ci">no time was logged</span>'
  inside = f'{_seconds(some.low)}–{_seconds(some.high)}'
  return f'{_seconds(some.median)} <span class="ci">{inside}</span>'


def _seconds(value: float) -> str:
  return f'{value:.1f}' if value < 10 else f'{value:.0f}'


def _verdicts(found: Agreement) -> str:
  if not found.pairs:
    return ''
  marks, lines, raw = tables.Notes(), [], []
  heads = ('Readers', 'Judged by both', 'Same', 'Kappa', 'AC1')
  heads += ('Agreement on accept', 'Agreement on reject')
  for pair in found.pairs:
    some = pair.both_or_none
    columns = [
      str(int(some.table.sum())),
      cells.value(some.observed, 'percent', marks),
      cells.value(some.kappa, 'number', marks),
      cells.value(some.ac1, 'number', marks),
      *(cells.value(one, 'percent', marks) for one in some.specific),
    ]
    lines.append(cells.line(_both(pair), list(zip(heads[1:], columns))))
    raw.append(_raw(pair.verdicts.table, pair.first, pair.second))
  return (
    '<p class="sub">Candidates that both accepted or rejected. Kappa falls '
    'where one verdict is rare; AC1 does not. The tables below have all '
    'verdicts.</p>'
    + cells.table(heads, lines, label='Verdicts')
    + cells.notes(marks)
    + f'<div class="panels">{"".join(raw)}</div>'
  )


def _both(pair: Pair) -> str:
  return f'{escape(pair.first)} and {escape(pair.second)}'


def _raw(table, first: str, second: str) -> str:
  """Verdicts of the first reader down, of the second across."""
  heads = ''.join(f'<th scope="col">{name}</th>' for name in VERDICTS)
  lines = ''.join(
    f'<tr><th scope="row">{name}</th>'
    + ''.join(
      f'<td{" class=same" if i == j else ""}>{int(count)}</td>'
      for j, count in enumerate(row)
    )
    + '</tr>'
    for i, (name, row) in enumerate(zip(VERDICTS, table))
  )
  return (
    f'<figure><table class="raw"><thead><tr><th scope="col">'
    f'{escape(first)}</th>{heads}</tr></thead><tbody>{lines}</tbody></table>'
    f'<figcaption>Lines: {escape(first)}. Columns: {escape(second)}.'
    '</figcaption></figure>'
  )


def _lesions(found: Agreement) -> str:
  if not found.pairs:
    return ''
  marks, lines = tables.Notes(), []
  heads = ('Readers', 'Scans', 'Both', 'Only the first', 'Only the second')
  heads += ('Positive agreement',)
  for pair in found.pairs:
    columns = [str(pair.completed), *map(str, pair.found)]
    columns.append(cells.value(pair.positive, 'percent', marks))
    lines.append(cells.line(_both(pair), list(zip(heads[1:], columns))))
  return (
    '<p class="sub">Accepted candidates and added lesions, on scans that both '
    'completed. There is no number of places without a lesion, so agreement '
    'is that on lesions: 2 both / (2 both + the others).</p>'
    + cells.table(heads, lines, label='Lesions')
    + cells.notes(marks)
  )


def _counts(found: Agreement) -> str:
  known = [pair for pair in found.pairs if pair.counts is not None]
  if not known:
    return ''
  marks, lines, drawings = tables.Notes(), [], []
  heads = ('Readers', 'Scans', 'ICC(2,1)', _LIMITS, 'Weighted kappa of grades')
  heads += ('Same grade',)
  for pair in known:
    one = pair.counts
    bias, inside = cells.signed(_bias(one)._replace(note=''), 1)
    columns = [
      str(pair.completed),
      cells.value(one.icc, 'number', marks),
      f'{bias} <span class="ci">{inside}</span>',
      cells.value(one.kappa, 'number', marks),
      cells.value(one.same_grade, 'percent', marks),
    ]
    lines.append(cells.line(_both(pair), list(zip(heads[1:], columns))))
    names = (pair.first, pair.second)
    both = (
      figures.counts(*one.counts, names),
      figures.bland_altman(*one.counts, one.bland_altman, names),
    )
    figure = ''.join(f'<figure>{drawing}</figure>' for drawing in both)
    drawings.append(f'<h3>{_both(pair)}</h3><div class="panels">{figure}</div>')
  everybody = ''
  if len(found.readers) > 2:
    value = cells.value(found.icc, 'number', marks)
    everybody = (
      f'<p>ICC(2,1) of all {len(found.readers)} readers on '
      f'{found.scans} scans that all completed: {value}</p>'
    )
  return (
    '<p class="sub">Lesions that a reader accepted or added in a scan. Grades '
    'of burden: 0, 1 to 4, 5 to 9, 10 to 19, 20 or more.</p>'
    + cells.table(heads, lines, label='Counts')
    + everybody
    + cells.notes(marks)
    + ''.join(drawings)
  )


def _outlines(found: Agreement) -> str:
  some = [pair for pair in found.pairs if pair.outlines.lesions]
  if not some:
    return ''
  marks, lines = tables.Notes(), []
  heads = ('Readers', 'Lesions', 'Edited', 'Dice', 'Dice, edited')
  heads += ('Volume ratio, edited', 'Distance of centres, edited (mm)')
  for pair in some:
    one = pair.outlines
    columns = [
      str(one.lesions),
      str(one.edited),
      *(
        cells.value(interval, 'number', marks)
        for interval in (
          one.dice,
          one.dice_edited,
          one.volume_ratio,
          one.distance_mm,
        )
      ),
    ]
    lines.append(cells.line(_both(pair), list(zip(heads[1:], columns))))
  return (
    '<p class="sub">Lesions that both accepted. Where neither changed the '
    'outline that the program proposed, Dice is 1 and says nothing of the '
    'readers; edited are those where at least one drew.</p>'
    + cells.table(heads, lines, label='Outlines')
    + cells.notes(marks)
  )


def _gains(found: Agreement) -> str:
  some = [one for one in found.readers if one.gain is not None]
  if not some:
    return ''
  marks, lines = tables.Notes(), []
  heads = ('Reader', 'Scans', *_GAINS)
  for one in some:
    columns = [str(one.gain.scans)]
    for count, interval in zip(one.gain[1:5], one.gain.per_scan):
      shown = cells.value(interval, 'number', marks)
      columns.append(f'{count} lesions, {shown} per scan')
    lines.append(cells.line(escape(one.name), list(zip(heads[1:], columns))))
  return (
    '<p class="sub">First readers marked lesions before they saw a candidate '
    '(unaided), then judged the candidates (aided), on scans that they '
    'completed. Added: accepted only with candidates. Dropped: accepted only '
    'without.</p>'
    + cells.table(heads, lines, label='Unaided and aided')
    + cells.notes(marks)
  )


def _again(found: Agreement) -> str:
  some = [one for one in found.readers if one.again is not None]
  if not some:
    return ''
  marks, lines, raw = tables.Notes(), [], []
  heads = ('Reader', 'Read twice', 'Same', 'Kappa', 'AC1')
  for one in some:
    columns = [
      str(int(one.again.table.sum())),
      cells.value(one.again.observed, 'percent', marks),
      cells.value(one.again.kappa, 'number', marks),
      cells.value(one.again.ac1, 'number', marks),
    ]
    lines.append(cells.line(escape(one.name), list(zip(heads[1:], columns))))
    raw.append(_raw(one.again.table, f'{one.name}, first', 'again'))
  return (
    '<p class="sub">Candidates that were shown a second time without a word, '
    'all verdicts.</p>'
    + cells.table(heads, lines, label='Read again')
    + cells.notes(marks)
    + f'<div class="panels">{"".join(raw)}</div>'
  )


def _ratings(found: Agreement) -> str:
  some = [one for one in found.readers if one.rating is not None]
  if not some:
    return ''
  marks, lines = tables.Notes(), []
  heads = ('Reader', 'Rated', 'Spearman correlation')
  for one in some:
    columns = [str(len(one.ratings))]
    columns.append(cells.value(one.rating, 'number', marks))
    lines.append(cells.line(escape(one.name), list(zip(heads[1:], columns))))
  drawings = ''.join(
    f'<figure><h3>{escape(one.name)}</h3>'
    f'{figures.ratings(one.ratings, one.name)}</figure>'
    for one in some
  )
  return (
    '<p class="sub">Ratings from 1 to 10 of how surely a candidate is a '
    'microbleed, against the likelihood that the networks gave it.</p>'
    + cells.table(heads, lines, label='Ratings')
    + cells.notes(marks)
    + f'<div class="panels">{drawings}</div>'
  )


def _differences(found: Agreement) -> str:
  names = [one.name for one in found.readers]
  if len(names) < 2:
    return ''
  rows = []
  for row in found.places:
    said = [row[f'said_by_{name}'] for name in names]
    if len({text for text in said if text}) > 1:
      rows.append((row, said))
  if not rows:
    return f'<p>They {AGREED} on all that both have judged.</p>'
  heads = ('Place', *names, 'mm')
  lines = []
  for row, said in rows[:_MOST_LISTED]:
    where = ', '.join(f'{row[axis]:.1f}' for axis in 'xyz').replace('-', '−')
    columns = [*(escape(text or tables.DASH) for text in said), where]
    place = f'{escape(row["case"])} <span class="small">{escape(row["place"])}'
    lines.append(cells.line(f'{place}</span>', list(zip(heads[1:], columns))))
  text = f'{len(rows)} places.'
  if len(rows) > _MOST_LISTED:
    text += f' The first {_MOST_LISTED} are shown;'
    text += ' places.tsv beside this page has all.'
  return f'<p class="sub">{text}</p>' + cells.table(
    heads, lines, label='Differences'
  )


def _methods(matching_mm: float) -> str:
  text = (
    'Candidates are matched by name; added lesions one to one by the Hungarian '
    f'method where their centres are at most {matching_mm:g} mm apart or their '
    'outlines overlap. Verdicts are compared on candidates that both judged, '
    'lesions and counts on scans that both completed. Kappa is that of Cohen '
    '(1960), AC1 that of Gwet (2008), ICC(2,1) that of Shrout and Fleiss '
    '(1979) with their interval, the kappa of grades has quadratic weights, '
    'limits of agreement are those of Bland and Altman (1986). All other '
    'intervals are 95 % and over patients: a patient is left out with all '
    'lesions (jackknife). Times are medians and quartiles.'
  )
  return (
    f'<p class="prose">{escape(text)}</p><p class="small">The same numbers are '
    'in agreement.tsv and agreement.json beside this page, and every place '
    'with all verdicts in places.tsv.</p>'
  )
