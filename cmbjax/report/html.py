"""A study's tables to one self-contained page, CSV, JSON and PNG.

Rule: every text from outside passes `escape` before it enters the page, and
the page asks for nothing from any network.
"""

import html
import json
import os
import pathlib
import string

import cmbjax
from cmbjax import files
from cmbjax.report import (
  breakdowns,
  cells,
  figure_files,
  figures,
  gallery,
  lesions,
  methods,
  pages,
  results,
  storage,
  tables,
)
from cmbjax.report.looks import Look, look_of
from cmbjax.report.tables import StudyTables

escape = html.escape


def write(study: StudyTables, folder: str | os.PathLike) -> pathlib.Path:
  """Writes report.html, results.json, the figures and the tables as CSV.

  Args:
    study: all numbers.
    folder: made when missing.

  Returns:
    Path of report.html.
  """
  folder = files.make_folder(folder)
  storage.write_all(study, folder)
  figure_files.save_all(study, folder)
  path = folder / 'report.html'
  files.write_text(path, page(study))
  return path


def page(study: StudyTables) -> str:
  """The whole page as text."""
  parts = [
    ('results', 'Results', results.results(study)),
    ('orderings', tables.claims_head(study), results.orderings(study)),
    ('pairs', 'Strategies in pairs', results.pairs(study)),
    ('held-out', 'Out of fold', results.held_out(study)),
    ('roc', 'ROC curves', roc(study)),
    ('froc', 'Lesions and false positives', lesions.froc(study)),
    (
      'units',
      'By candidate, lesion, scan and subject',
      breakdowns.units(study),
    ),
    ('parts', 'Lesions by size and region', lesions.parts(study)),
    ('likelihoods', 'By likelihood', breakdowns.likelihoods(study)),
    ('counts', 'Microbleeds per scan', lesions.counts(study)),
    ('cohorts', 'Cohorts', cohorts(study)),
    ('removed', tables.removed_head(study), gallery.removed(study)),
    ('misses', 'Misses and errors', gallery.misses(study)),
    ('calibration', 'Calibration', calibration(study)),
    ('points', 'Operating points', breakdowns.points(study)),
    ('learning', 'Learning curves', learning(study)),
    ('methods', 'Methods', methods_section(study)),
  ]
  nav, body = cells.sections(parts, lambda _, head: _titled(head, study))
  time = study.record.get('environment', {}).get('time', '')
  return string.Template(pages.read('report.html')).substitute(
    page_title=escape(f'{tables.headline(study)} – cmbjax'),
    title=escape(cells.sentence_case(tables.headline(study))),
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


def roc(study: StudyTables) -> str:
  """ROC curves by test set."""
  return cells.panels(
    study,
    figures.draw_roc,
    'roc',
    'ROC of all strategies over the candidates of one test set, with AUC.',
  )


def cohorts(study: StudyTables) -> str:
  """Table and counts."""
  if not study.cohorts:
    return ''
  look = look_of(study)
  lines = ''.join(_cohort_line(cohort, look) for cohort in study.cohorts)
  heads = ('Cohort', 'Subjects', 'Scans', 'CMB (per scan)', 'FP (per scan)')
  heads += ('CMB / FP', 'Lesions', 'Never proposed', 'Protocol')
  heads = ''.join(f'<th scope="col">{head}</th>' for head in heads)
  drawing = figures.inline(
    figures.draw_counts,
    study.cohorts,
    look,
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


def _cohort_line(cohort: tables.CohortRow, look: Look) -> str:
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
  columns = (
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
    f'<tr><th scope="row" class="{look.test_class(cohort.name)}">'
    f'{escape(cohort.label)}</th>'
    + ''.join(
      f'<td data-head="{escape(head)}"><span>{escape(str(text))}</span></td>'
      for head, text in columns
    )
    + '</tr>'
  )


def calibration(study: StudyTables) -> str:
  """Reliability diagrams, Brier score and ECE."""
  if not any(row.calibration for row in study.rows):
    return ''
  look, marks, lines = look_of(study), tables.Notes(), []
  columns = [('brier', 'Brier score'), ('ece', 'ECE')]
  if any(row.calibrated_by for row in study.rows):
    columns += [('brier_calibrated', 'Brier, calibrated')]
    columns += [('ece_calibrated', 'ECE, calibrated')]
  for row in tables.ordered(study.rows):
    values = [
      (head, cells.value(row.calibration.get(name), 'error', marks))
      for name, head in columns
    ]
    if len(columns) > 2:
      values.append(('Calibrated by', escape(row.calibrated_by or tables.DASH)))
    lines.append(cells.line(cells.row_name(row, look), values))
  heads = ['Strategy', *(head for _, head in columns)]
  heads += ['Calibrated by'] * (len(columns) > 2)
  return (
    cells.panels(
      study,
      figures.draw_reliability,
      'reliability',
      'Share of microbleeds among candidates of like likelihood; dots grow '
      'with the number of candidates.',
    )
    + cells.table(heads, lines, label='Calibration')
    + cells.notes(marks)
    + '<p class="small">ECE: expected calibration error over 10 bins, which '
    'is above 0 by chance alone when candidates are few. A calibration is '
    'fitted on out-of-fold likelihoods of training subjects; the likelihoods '
    'above and all other sections are not calibrated.</p>'
  )


def learning(study: StudyTables) -> str:
  """Validation loss and learning rate of every fold."""
  groups = figures.by_strategy(study.learning)
  if not groups:
    return ''
  panels, look = [], look_of(study)
  for i, (name, curves) in enumerate(groups.items()):
    label = look.strategies[name]
    drawings = ''.join(
      figures.inline(
        draw,
        curves,
        look,
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
    f'<div class="panels{" four" * (len(panels) == 4)}">{"".join(panels)}'
    '</div>'
  )


def _strategies(study: StudyTables) -> str:
  """Each strategy in words."""
  items = ''.join(
    f'<dt>{escape(one.label)}</dt><dd>{escape(one.text)}</dd>'
    for one in study.strategies
    if one.text
  )
  if not items:
    return ''
  return (
    '<details><summary>What each strategy does</summary>'
    f'<dl>{items}</dl></details>'
  )


def methods_section(study: StudyTables) -> str:
  """A paragraph to paste, and the full record."""
  record = json.dumps(storage.plain(study.record), indent=2, ensure_ascii=False)
  return (
    f'<p class="prose">{escape(methods.paragraph(study))}</p>'
    f'{_strategies(study)}<details><summary>Settings and versions</summary>'
    f'<pre tabindex="0">{escape(record)}</pre></details>'
  )
