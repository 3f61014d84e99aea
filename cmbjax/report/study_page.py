"""A study's tables to one self-contained page, CSV, JSON and PNG.

Rule: a section without content is left out; titles of anything measured on
simulated data say so.
"""

import base64
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from cmbjax import files
from cmbjax.evaluation import metrics
from cmbjax.report import (
  breakdowns,
  cells,
  figure_files,
  figures,
  lesions,
  methods,
  pages,
  results,
  storage,
  tables,
  texts,
)
from cmbjax.report.looks import look_of
from cmbjax.report.tables import Patch, StudyTables


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
  headline = tables.headline(study)
  return pages.render(
    'report.html',
    folder='study',
    styles=('base.css', 'report.css'),
    skip=('results', 'results'),
    eyebrow='transfer study of cerebral microbleeds',
    page_title=headline,
    title=cells.sentence_case(headline),
    simulated=_SIMULATED if study.simulated else '',
    lead=methods.lead(study),
    sections=list(_sections(study)),
    time=study.record.get('environment', {}).get('time', ''),
    threshold=_threshold(study),
    look=look_of(study),
    counted=methods.counted,
  )


_SIMULATED = (
  'The scans were made by a physics simulator. The numbers say how the methods '
  'compare on such scans; they are not results of patients and cannot be set '
  'beside published ones.'
)


def _sections(study: StudyTables):
  for name, head, content in (
    ('results', 'Results', results.results),
    ('orderings', tables.claims_head(study), results.orderings),
    ('pairs', 'Strategies in pairs', results.pairs),
    ('held-out', 'Out of fold', results.held_out),
    ('roc', 'ROC curves', roc),
    ('froc', 'Lesions and false positives', lesions.froc),
    ('units', 'By candidate, lesion, scan and subject', breakdowns.units),
    ('parts', 'Lesions by size and region', breakdowns.parts),
    ('likelihoods', 'By likelihood', breakdowns.likelihoods),
    ('counts', 'Microbleeds per scan', lesions.counts),
    ('cohorts', 'Cohorts', cohorts),
    ('removed', tables.removed_head(study), removed),
    ('misses', 'Misses and errors', misses),
    ('calibration', 'Calibration', calibration),
    ('points', 'Operating points', breakdowns.points),
    ('learning', 'Learning curves', learning),
    ('methods', 'Methods', methods_section),
  ):
    title = head
    if study.simulated and name != 'methods':
      title = f'{head} (simulated data)'
    if it := content(study):
      yield pages.Section(name, head, title, it)


def _threshold(study: StudyTables) -> float:
  return study.record.get('threshold', metrics.THRESHOLD)


def roc(study: StudyTables) -> dict[str, Any] | None:
  """ROC curves by test set."""
  made = cells.panels(study, figures.draw_roc, 'roc')
  return {'figures': made} if made else None


def cohorts(study: StudyTables) -> dict[str, Any] | None:
  """Table and counts."""
  if not study.cohorts:
    return None
  heads = ('Cohort', 'Subjects', 'Scans', 'CMB (per scan)', 'FP (per scan)')
  heads += ('CMB / FP', 'Lesions', 'Never proposed', 'Protocol')
  table = cells.PageTable('Cohorts', heads)
  for cohort in study.cohorts:
    table.add(cohort, _cohort_cells(cohort))
  drawing = figures.inline(
    figures.draw_counts,
    study.cohorts,
    look_of(study),
    size=(7.0, 0.9 + 0.75 * len(study.cohorts)),
    name='counts',
    label='Candidates per scan of each cohort',
  )
  return {'cohorts': table, 'drawing': drawing}


def _cohort_cells(cohort: tables.CohortRow) -> list[str]:
  def per_scan(count):
    if not cohort.num_scans:
      return f'{count}'
    return f'{count} ({count / cohort.num_scans:.1f})'

  ratio = texts.DASH
  if cohort.num_fp:
    ratio = f'{cohort.num_cmb / cohort.num_fp:.2f}'
  missed = str(cohort.num_missed)
  if cohort.num_lesions:
    share = 100 * cohort.num_missed / cohort.num_lesions
    missed += f' ({share:.0f} %)'
  protocol = cohort.protocol
  if cohort.simulated:
    protocol = f'{protocol}, simulated' if protocol else 'simulated'
  return [
    str(cohort.num_subjects),
    str(cohort.num_scans),
    per_scan(cohort.num_cmb),
    per_scan(cohort.num_fp),
    ratio,
    str(cohort.num_lesions),
    missed,
    protocol,
  ]


def removed(study: StudyTables) -> dict[str, Any] | None:
  """False candidates that a strategy removes after its start."""
  if not study.removed:
    return None
  unnamed = ('one strategy', 'another', 'one test set')
  names = (label or other for label, other in zip(study.removed_by, unnamed))
  shown = _patches(study.removed, _threshold(study))
  return dict(zip(('before', 'after', 'test'), names)) | {'patches': shown}


def misses(study: StudyTables) -> dict[str, Any] | None:
  """Lesions that were lost and mimics that were kept."""
  if not study.misses:
    return None
  return {'patches': _patches(study.misses, _threshold(study))}


def _patches(patches: Sequence[Patch], threshold: float) -> list[dict]:
  """Slices as PNG, with each likelihood in the colour of its strategy."""
  shown = []
  for patch in patches:
    png = ''
    if patch.image.size:
      png = base64.b64encode(figures.patch_png(patch.image)).decode()
    values = ((patch.before, 'c-before'), (patch.after, 'c-after'))
    numbers = [
      (texts.likelihood_text(value, threshold), colour)
      for value, colour in values
      if value is not None
    ]
    names = {'key': patch.key, 'caption': patch.caption}
    shown.append(names | {'numbers': numbers, 'png': png})
  return shown


def calibration(study: StudyTables) -> dict[str, Any] | None:
  """Reliability diagrams, Brier score and ECE."""
  if not any(row.calibration for row in study.rows):
    return None
  columns = [('brier', 'Brier score', 'error'), ('ece', 'ECE', 'error')]
  calibrated = any(row.calibrated_by for row in study.rows)
  if calibrated:
    columns += [('brier_calibrated', 'Brier, calibrated', 'error')]
    columns += [('ece_calibrated', 'ECE, calibrated', 'error')]
  heads = ['Strategy', *(head for _, head, _ in columns)]
  table = cells.PageTable('Calibration', heads + ['Calibrated by'] * calibrated)
  for row in tables.ordered(study.rows):
    by = [row.calibrated_by or texts.DASH] * calibrated
    table.add(row, table.values(row.calibration, columns) + by)
  made = cells.panels(study, figures.draw_reliability, 'reliability')
  return {'figures': made, 'scores': table}


def learning(study: StudyTables) -> dict[str, Any] | None:
  """Validation loss and learning rate of every fold."""
  made, look = [], look_of(study)
  for i, (name, curves) in enumerate(
    figures.by_strategy(study.learning).items()
  ):
    label = look.strategies[name]
    drawings = [
      figures.inline(
        draw,
        curves,
        look,
        size=size,
        name=f'{draw.__name__}-{i}',
        label=f'{what} of {label}',
      )
      for draw, size, what in (
        # As wide as each other, so that their epochs are below each other.
        (figures.draw_loss, (4.4, 2.7), 'validation loss'),
        (figures.draw_rate, (4.4, 2.0), 'learning rate'),
      )
    ]
    made.append(cells.Panel(label, drawings))
  return {'figures': made} if made else None


def methods_section(study: StudyTables) -> dict[str, Any]:
  """A paragraph to paste, and the full record."""
  record = storage.plain(study.record)
  return {
    'paragraph': methods.paragraph(study),
    'strategies': [one for one in study.strategies if one.text],
    'record': json.dumps(record, indent=2, ensure_ascii=False),
  }
