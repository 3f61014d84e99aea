"""A study's tables to one self-contained page, CSV, JSON and PNG.

Rule: every text from outside passes `escape` before it enters the page, and
the page asks for nothing from any network.
"""

import base64
import html
import json
import os
import pathlib
import string
from collections.abc import Sequence

import cmbjax
from cmbjax import files
from cmbjax.evaluation import compare, metrics
from cmbjax.evaluation.statistics import Interval
from cmbjax.report import figures, methods, pages, tables
from cmbjax.report.tables import METRICS, Patch, Row, StudyTables

escape = html.escape

_VERDICTS = {
  compare.REPRODUCED: 'yes',
  compare.NOT_REPRODUCED: 'no',
  compare.UNDECIDED: 'open',
}
# Ends of the small drawings; an AUC of one half is chance.
_AXES = {'number': (0.5, 1.0), 'percent': (0.0, 1.0), 'error': (0.0, 1.0)}
_COUNTS = (
  ('icc', 'ICC(2,1)'),
  ('kappa', 'Weighted kappa of grades'),
  ('bias', 'Bias and limits of agreement'),
)
_PANEL = (4.4, 4.4)  # inches at 72 px


def write(study: StudyTables, folder: str | os.PathLike) -> pathlib.Path:
  """Writes report.html, results.csv, results.json and the figures.

  Args:
    study: all numbers.
    folder: made when missing.

  Returns:
    Path of report.html.
  """
  folder = files.make_folder(folder)
  tables.write_csv(study, folder / 'results.csv')
  tables.write_json(study, folder / 'results.json')
  figures.save_all(study, folder)
  path = folder / 'report.html'
  files.write_text(path, page(study))
  return path


def page(study: StudyTables) -> str:
  """The whole page as text."""
  sections = [
    ('results', 'Results', results(study)),
    ('orderings', "The paper's orderings", orderings(study)),
    ('roc', 'ROC curves', roc(study)),
    ('froc', 'Lesions and false positives', froc(study)),
    ('cohorts', 'Cohorts', cohorts(study)),
    ('removed', 'What fine-tuning removes', removed(study)),
    ('misses', 'Misses and errors', misses(study)),
    ('calibration', 'Calibration', calibration(study)),
    ('learning', 'Learning curves', learning(study)),
    ('methods', 'Methods', methods_section(study)),
  ]
  sections = [one for one in sections if one[2]]
  nav = ''.join(
    f'<li><a href="#{name}">{escape(head)}</a></li>'
    for name, head, _ in sections
  )
  body = ''.join(
    f'<section id="{name}" aria-labelledby="{name}-head">'
    f'<h2 id="{name}-head">{escape(_titled(head, study))}</h2>{content}'
    '</section>\n'
    for name, head, content in sections
  )
  time = study.record.get('environment', {}).get('time', '')
  return string.Template(pages.read('report.html')).substitute(
    page_title=escape(f'{tables.headline(study)} – cmbjax'),
    title=escape(_sentence_case(tables.headline(study))),
    css=pages.read('base.css') + pages.read('report.css'),
    banner=_banner(study),
    lead=_lead(study),
    nav=nav,
    sections=body,
    version=escape(cmbjax.__version__),
    time=escape(f', {time}' if time else ''),
  )


def _titled(head: str, study: StudyTables) -> str:
  """Titles of anything measured on simulated data say so."""
  if study.simulated and head != 'Methods':
    return f'{head} (simulated data)'
  return head


def _sentence_case(text: str) -> str:
  return text[:1].upper() + text[1:]


def _banner(study: StudyTables) -> str:
  if not study.simulated:
    return ''
  return (
    '<p class="notice"><strong>Simulated data.</strong> The scans were made '
    'by a physics simulator. The numbers say how the methods compare on such '
    'scans; they are not results of patients and cannot be set beside '
    'published ones.</p>'
  )


def _lead(study: StudyTables) -> str:
  items = ''.join(
    f'<li>{escape(sentence)}</li>' for sentence in methods.lead(study)
  )
  return f'<ul class="lead">{items}</ul>'


def results(study: StudyTables) -> str:
  """Figure 3: rows grouped and coloured by test set."""
  notes = tables.Notes()
  heads = ''.join(f'<th scope="col">{escape(m.head)}</th>' for m in METRICS)
  highest = _highest(study.rows)
  body = []
  for test, rows in figures.by_test(study.rows).items():
    some = rows[0]
    body.append(
      f'<tr class="group {_test_class(test)}"><th scope="rowgroup" '
      f'colspan="{len(METRICS) + 2}">{escape(tables.cohort_label(test))} '
      f'<span class="small">{_sizes(some)}</span></th></tr>'
    )
    body += [_result_line(row, highest, notes) for row in rows]
  caption = methods.reading(study)
  return (
    f'<p class="sub">{escape(caption)}</p>'
    '<div class="scroll" tabindex="0" role="region" aria-label="Results">'
    '<table class="cards"><thead><tr><th scope="col">Row</th>'
    f'<th scope="col">Strategy</th>{heads}</tr></thead>'
    f'<tbody>{"".join(body)}</tbody></table></div>'
    + _notes(notes)
    + _seeds(study)
    + _meanings()
  )


def _sizes(row: Row) -> str:
  """'6 subjects, 1 scan, 30 candidates, 9 lesions'."""
  return ', '.join(
    methods.counted(count, name)
    for name, count in (
      ('subject', row.num_subjects),
      ('scan', row.num_scans),
      ('candidate', row.num_candidates),
      ('lesion', row.num_lesions),
    )
  )


def _result_line(row: Row, highest: float, notes: tables.Notes) -> str:
  number = tables.DASH if row.number is None else str(row.number)
  cells = ''.join(
    f'<td class="num" data-head="{escape(m.head)}">'
    + _cell(
      row.metrics.get(m.name),
      m.kind,
      notes,
      axis=_AXES.get(m.kind, (0.0, highest)),
      colour=_test_class(row.test),
    )
    + '</td>'
    for m in METRICS
  )
  return (
    f'<tr><td class="row-no">{number}</td><th scope="row">'
    f'{escape(tables.strategy_label(row.strategy))}</th>{cells}</tr>'
  )


def _cell(interval: Interval | None, kind, notes, *, axis, colour) -> str:
  """Number, interval and a small drawing of both."""
  if interval is None:
    return tables.DASH
  mark = notes.mark(interval.note)
  mark = f'<sup>{escape(mark)}</sup>' if mark else ''
  value = f'<span class="value">{tables.number(interval.value, kind)}{mark}'
  inside = tables.bounds(interval, kind)
  text = f'<span>{value}</span>'
  if inside:
    text += f' <span class="ci">{inside}</span>'
  if interval.value is None:
    return text + '</span>'
  low = interval.value if interval.low is None else interval.low
  high = interval.value if interval.high is None else interval.high
  spots = zip('lhv', (low, high, interval.value))
  style = ';'.join(f'--{k}:{_percent(x, axis)}' for k, x in spots)
  return (
    f'{text}<span class="track {colour}" style="{style}" '
    'aria-hidden="true"><i></i><b></b></span></span>'
  )


def _percent(value: float, axis: tuple[float, float]) -> str:
  share = (value - axis[0]) / (axis[1] - axis[0])
  return f'{100 * min(max(share, 0.0), 1.0):.1f}%'


def _highest(rows: Sequence[Row]) -> float:
  """End of the axis of FP per scan."""
  found = [row.metrics.get('fp_per_scan') for row in rows]
  ends = [i.high or i.value or 0 for i in found if i is not None]
  return max([*ends, 1e-9])


def _notes(notes: tables.Notes) -> str:
  if not notes.texts:
    return ''
  items = ''.join(
    f'<li><sup>{escape(notes.mark(text))}</sup> {escape(text)}</li>'
    for text in notes.texts
  )
  return f'<ul class="notes" aria-label="Notes">{items}</ul>'


def _seeds(study: StudyTables) -> str:
  """AUC of every training seed alone, when there is more than one."""
  lines = []
  for row in tables.ordered(study.rows):
    known = [value for value in row.seeds if value is not None]
    if len(known) > 1:
      name = tables.strategy_label(row.strategy)
      test = tables.cohort_label(row.test)
      values = ', '.join(f'{value:.3f}' for value in known)
      lines.append(
        f'<dt>{escape(name)} on {escape(test)}</dt><dd>{values}</dd>'
      )
  if not lines:
    return ''
  return (
    '<details><summary>AUC of every training seed alone</summary><p>The '
    'table averages the likelihoods of all seeds first; the spread below is '
    f'that of training.</p><dl>{"".join(lines)}</dl></details>'
  )


def _meanings() -> str:
  items = ''.join(
    f'<dt>{escape(m.head)}</dt><dd>{escape(m.meaning)}</dd>' for m in METRICS
  )
  return (
    '<details><summary>What the columns mean</summary>'
    f'<dl>{items}</dl></details>'
  )


def orderings(study: StudyTables) -> str:
  """The paper's claims with differences, p values and verdicts."""
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
    '<p class="sub">Difference of AUC, first row minus second. Decided only '
    'when the interval and the permutation of whole subjects agree; p is '
    'shown as found and after Holm over all claims.</p>'
    '<div class="scroll" tabindex="0" role="region" aria-label="Orderings">'
    '<table class="cards"><thead><tr><th scope="col">Claim</th>'
    '<th scope="col">Difference</th><th scope="col">FP per scan</th>'
    '<th scope="col">p (Holm)</th>'
    '<th scope="col">Here</th></tr></thead>'
    f'<tbody>{lines}</tbody></table></div>'
  )


def _ordering_line(one: compare.Ordering, extent: float) -> str:
  gap = one.difference
  if one.metric == 'auc':
    value, inside = signed(gap, 3)
  else:
    value = tables.number(gap.value, 'percent')
    inside = tables.bounds(gap, 'percent')
  track = ''
  if one.metric == 'auc' and gap.low is not None:
    spots = zip('lhv', (gap.low, gap.high, gap.value))
    style = ';'.join(
      f'--{k}:{_percent(x, (-extent, extent))}' for k, x in spots
    )
    track = (
      f'<span class="track zero" style="{style}" aria-hidden="true">'
      '<i></i><b></b></span>'
    )
  fp, fp_inside = signed(one.fp_difference, 1)
  p = tables.DASH
  if one.p is not None:
    p = f'{_p(one.p)} ({_p(one.p_holm)})'
  return (
    f'<tr><th scope="row">{escape(one.claim)}'
    f'<br><span class="small">{escape(one.rows)}; {escape(one.design)}'
    '</span></th>'
    f'<td class="num" data-head="Difference"><span>{value} '
    f'<span class="ci">{inside}</span>{track}</span></td>'
    f'<td data-head="FP per scan"><span>{fp} '
    f'<span class="ci">{fp_inside}</span></span></td>'
    f'<td data-head="p (Holm)"><span class="value">{p}</span></td>'
    f'<td data-head="Here"><span>'
    f'<span class="verdict {_VERDICTS[one.verdict]}">{one.verdict}</span>'
    f'<br><span class="small">{escape(one.reason)}</span></span></td></tr>'
  )


def _p(value: float) -> str:
  return '&lt;0.001' if value < 0.001 else f'{value:.3f}'


def signed(gap: Interval | None, digits: int) -> tuple[str, str]:
  """A difference and its interval as text with signs."""
  if gap is None or gap.value is None:
    return tables.DASH, ''
  value = _sign(gap.value, digits)
  if gap.low is None:
    return value, ''
  return value, f'{_sign(gap.low, digits)} to {_sign(gap.high, digits)}'


def _sign(value: float, digits: int) -> str:
  return f'{value:+.{digits}f}'.replace('-', '−')


def roc(study: StudyTables) -> str:
  """Figure 5."""
  return _panels(
    study.rows,
    figures.draw_roc,
    'roc',
    'ROC of all strategies over the candidates of one test set, with AUC.',
  )


def froc(study: StudyTables) -> str:
  """FROC, and sensitivity at fixed rates."""
  if not any(row.froc for row in study.rows):
    return ''
  rates = metrics.FROC_RATES
  heads = ''.join(f'<th scope="col">{rate:g}</th>' for rate in rates)
  lines = []
  by_test = figures.by_test(study.rows).values()
  for row in (row for some in by_test for row in some):
    curve = row.froc and metrics.Froc(*map(_array, row.froc), None)
    found = metrics.sensitivity_at(curve, rates)
    cells = ''.join(
      f'<td data-head="{rate:g} FP per scan">'
      f'{tables.number(value, "percent")}</td>'
      for rate, value in found.items()
    )
    lines.append(f'<tr><th scope="row">{_row_name(row)}</th>{cells}</tr>')
  table = (
    '<h3>Sensitivity of all lesions at fixed false positives per scan</h3>'
    '<div class="scroll" tabindex="0" role="region" aria-label="FROC table">'
    '<table class="cards"><thead><tr><th scope="col">Strategy</th>'
    f'{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
  )
  intro = (
    'Lesions that no candidate reached count as missed, so a curve ends '
    'below one where the detector ends.'
  )
  return (
    _panels(study.rows, figures.draw_froc, 'froc', intro)
    + table
    + _parts(study)
    + _agreement(study)
  )


def _agreement(study: StudyTables) -> str:
  """ICC, weighted kappa and Bland-Altman of the counts per scan."""
  notes, lines = tables.Notes(), []
  by_test = figures.by_test(study.rows).values()
  for row in (row for some in by_test for row in some):
    cells = ''
    for name, head in _COUNTS:
      found = row.agreement.get(name, Interval(None, None, None, ''))
      mark = notes.mark(found.note)
      mark = f'<sup>{mark}</sup>' if mark else ''
      if name == 'bias':
        value, inside = signed(found, 1)
      else:
        value = tables.number(found.value, 'number')
        inside = tables.bounds(found, 'number')
      cells += (
        f'<td data-head="{head}"><span>{value}{mark} '
        f'<span class="ci">{inside}</span></span></td>'
      )
    lines.append(f'<tr><th scope="row">{_row_name(row)}</th>{cells}</tr>')
  heads = ''.join(f'<th scope="col">{head}</th>' for _, head in _COUNTS)
  return (
    '<h3>Number of microbleeds per scan against the truth</h3>'
    '<div class="scroll" tabindex="0" role="region" aria-label="Counts">'
    '<table class="cards"><thead><tr><th scope="col">Strategy</th>'
    f'{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    + _notes(notes)
  )


def _row_name(row: Row) -> str:
  return (
    f'{escape(tables.strategy_label(row.strategy))} '
    f'<span class="{_test_class(row.test)}">on '
    f'{escape(tables.cohort_label(row.test))}</span>'
  )


def _array(values):
  import numpy as np

  return np.asarray(values, float)


def _parts(study: StudyTables) -> str:
  """Sensitivity by size, region, ... where a row brings it."""
  blocks = []
  heads = dict.fromkeys(h for row in study.rows for h in row.parts)
  for head in heads:
    lines = []
    for row in tables.ordered(study.rows):
      for name, (interval, count) in row.parts.get(head, {}).items():
        lines.append(
          f'<tr><th scope="row">{escape(tables.strategy_label(row.strategy))}'
          f' on {escape(tables.cohort_label(row.test))}</th>'
          f'<td data-head="{escape(head)}">{escape(name)}</td>'
          f'<td data-head="Lesions">{count}</td>'
          '<td data-head="Sensitivity"><span>'
          f'{tables.number(interval.value, "percent")} '
          f'<span class="ci">{tables.bounds(interval, "percent")}</span>'
          '</span></td></tr>'
        )
    blocks.append(
      f'<h3>Sensitivity of all lesions by {escape(head)}</h3>'
      '<table class="cards"><thead><tr><th scope="col">Strategy</th>'
      f'<th scope="col">{escape(_sentence_case(head))}</th>'
      '<th scope="col">Lesions</th><th scope="col">Sensitivity</th></tr>'
      f'</thead><tbody>{"".join(lines)}</tbody></table>'
    )
  return ''.join(blocks)


def cohorts(study: StudyTables) -> str:
  """Figure 2: table and counts."""
  if not study.cohorts:
    return ''
  lines = ''.join(_cohort_line(cohort) for cohort in study.cohorts)
  heads = ('Cohort', 'Subjects', 'Scans', 'CMB (per scan)', 'FP (per scan)')
  heads += ('CMB / FP', 'Lesions', 'Never proposed', 'Protocol')
  heads = ''.join(f'<th scope="col">{head}</th>' for head in heads)
  drawing = figures.inline(
    figures.draw_counts,
    study.cohorts,
    size=(7.0, 0.9 + 0.75 * len(study.cohorts)),
    name='counts',
    label='Candidates per scan of each cohort',
  )
  return (
    '<p class="sub">CMB and FP count candidates; a lesion that no candidate '
    'reached is counted under "never proposed".</p>'
    '<div class="scroll" tabindex="0" role="region" aria-label="Cohorts">'
    f'<table class="cards"><thead><tr>{heads}</tr></thead>'
    f'<tbody>{lines}</tbody></table></div>'
    f'<div class="wide"><figure>{drawing}</figure></div>'
  )


def _cohort_line(cohort: tables.CohortRow) -> str:
  def per_scan(count):
    if not cohort.num_scans:
      return f'{count}'
    return f'{count} ({count / cohort.num_scans:.1f})'

  ratio = tables.DASH
  if cohort.num_fp:
    ratio = f'{cohort.num_cmb / cohort.num_fp:.2f}'
  missed = str(cohort.num_missed)
  if cohort.num_lesions:
    share = 100 * cohort.num_missed / cohort.num_lesions
    missed += f' ({share:.0f} %)'
  protocol = cohort.protocol
  if cohort.simulated:
    protocol = f'{protocol}, simulated' if protocol else 'simulated'
  cells = (
    ('Subjects', cohort.num_subjects),
    ('Scans', cohort.num_scans),
    ('CMB (per scan)', per_scan(cohort.num_cmb)),
    ('FP (per scan)', per_scan(cohort.num_fp)),
    ('CMB / FP', ratio),
    ('Lesions', cohort.num_lesions),
    ('Never proposed', missed),
    ('Protocol', protocol),
  )
  return (
    f'<tr><th scope="row" class="{_test_class(cohort.name)}">'
    f'{escape(tables.cohort_label(cohort.name))}</th>'
    + ''.join(
      f'<td data-head="{escape(head)}"><span>{escape(str(text))}</span></td>'
      for head, text in cells
    )
    + '</tr>'
  )


def removed(study: StudyTables) -> str:
  """Figure 4."""
  if not study.removed:
    return ''
  threshold = study.record.get('threshold', metrics.THRESHOLD)
  return (
    '<p class="sub">False candidates called microbleeds by the 7T model '
    f'(likelihood above {threshold:g}, <b class="s-before">red</b>) and '
    'removed by the fine-tuned one (<b class="s-after">green</b>). '
    f'{_VIEW}</p>' + _slices(study.removed)
  )


def misses(study: StudyTables) -> str:
  """Lesions that were lost and mimics that were kept."""
  if not study.misses:
    return ''
  return (
    '<p class="sub">Lesions that were missed, and the errors with the '
    f'largest likelihood. {_VIEW}</p>' + _slices(study.misses)
  )


_VIEW = (
  'Consecutive axial slices through the patch from below upwards, the '
  "patient's right on the left."
)


def _slices(patches: Sequence[Patch]) -> str:
  lines = []
  for patch in patches:
    numbers = ''.join(
      f'<b class="{colour}">{value:.2f}</b> '
      for value, colour in (
        (patch.before, 's-before'),
        (patch.after, 's-after'),
      )
      if value is not None
    )
    image = '<span class="small">no image</span>'
    if patch.image.size:
      data = base64.b64encode(figures.patch_png(patch.image)).decode()
      image = (
        f'<img src="data:image/png;base64,{data}" '
        f'alt="Axial slices of {escape(patch.key)}">'
      )
    lines.append(
      f'<figure><figcaption>{numbers}<span class="key">{escape(patch.key)}'
      f'</span>{escape(patch.caption)}</figcaption>{image}</figure>'
    )
  return f'<div class="slices">{"".join(lines)}</div>'


def calibration(study: StudyTables) -> str:
  """Reliability diagrams, Brier score and ECE."""
  if not any(row.calibration for row in study.rows):
    return ''
  notes = tables.Notes()
  lines = []
  for row in tables.ordered(study.rows):
    cells = ''.join(
      f'<td data-head="{head}"><span>'
      + _cell(row.calibration.get(name), 'error', notes, axis=(0, 1), colour='')
      + '</span></td>'
      for name, head in (('brier', 'Brier score'), ('ece', 'ECE'))
    )
    lines.append(
      f'<tr><th scope="row">{escape(tables.strategy_label(row.strategy))} on '
      f'{escape(tables.cohort_label(row.test))}</th>{cells}</tr>'
    )
  return (
    _panels(
      study.rows,
      figures.draw_reliability,
      'reliability',
      'Share of microbleeds among candidates of like likelihood; dots grow '
      'with the number of candidates.',
    )
    + '<table class="cards"><thead><tr><th scope="col">Strategy</th>'
    '<th scope="col">Brier score</th><th scope="col">Expected calibration '
    f'error</th></tr></thead><tbody>{"".join(lines)}</tbody></table>'
    + _notes(notes)
  )


def learning(study: StudyTables) -> str:
  """Validation loss and learning rate of every fold."""
  groups = figures.by_strategy(study.learning)
  if not groups:
    return ''
  panels = []
  for i, (name, curves) in enumerate(groups.items()):
    label = tables.strategy_label(name)
    drawings = ''.join(
      figures.inline(
        draw,
        curves,
        size=size,
        name=f'{draw.__name__}-{i}',
        label=f'{what} of {label}',
      )
      for draw, size, what in (
        (figures.draw_loss, (4.4, 2.7), 'validation loss'),
        (figures.draw_rate, (4.4, 2.0), 'learning rate'),
      )
    )
    panels.append(f'<figure><h3>{escape(label)}</h3>{drawings}</figure>')
  return (
    '<p class="sub">One thin line per fold and seed, the mean strong; below '
    'the learning rate, which each fold lowers on its own.</p>'
    f'<div class="panels">{"".join(panels)}</div>'
  )


def methods_section(study: StudyTables) -> str:
  """A paragraph to paste, and the full record."""
  record = json.dumps(tables.plain(study.record), indent=2, ensure_ascii=False)
  return (
    f'<p class="prose">{escape(methods.paragraph(study))}</p>'
    '<details><summary>Settings and versions</summary>'
    f'<pre tabindex="0">{escape(record)}</pre></details>'
  )


def _panels(rows: Sequence[Row], draw, name: str, intro: str) -> str:
  """One drawing per test set, side by side where there is room."""
  groups = figures.by_test(rows)
  if not groups:
    return ''
  panels = []
  for i, (test, some) in enumerate(groups.items()):
    label = tables.cohort_label(test)
    drawing = figures.inline(
      draw,
      some,
      size=_PANEL,
      name=f'{name}-{i}',
      label=f'{name} on {label}',
    )
    head = f'<h3 class="{_test_class(test)}">{escape(label)}</h3>'
    panels.append(f'<figure>{head}{drawing}</figure>')
  return (
    f'<p class="sub">{escape(intro)}</p>'
    f'<div class="panels">{"".join(panels)}</div>'
  )


def _test_class(test: str) -> str:
  """CSS class of a test set's colour."""
  variable = figures.cohort_variable(test)
  kind = 't' if variable.startswith('--test-') else 's'
  return f'{kind}-{variable.removeprefix("--").removeprefix("test-")}'
