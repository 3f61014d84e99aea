"""A study's figures to PNG files, and to SVG where they are drawings.

Rule: each is the drawing of the page with a title; a figure without content
is not written, and one that an earlier run left under its name goes.
"""

import pathlib

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmbjax import files
from cmbjax.evaluation import metrics
from cmbjax.report import figures
from cmbjax.report.looks import MUTED, NAMED, look_of
from cmbjax.report.tables import (
  METRICS,
  StudyTables,
  headline,
  likelihood_text,
  ordered,
  removed_head,
)


def save_all(study: StudyTables, folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes figure2 ... figure5, froc, reliability and learning.

  As PNG, and as SVG where it is a drawing. A figure without content is not
  written; one that an earlier run left under its name goes.
  """
  look = look_of(study)
  rows, tests = ordered(study.rows), look.by_test(study.rows)
  made = []

  def save(name, title, content, shape, size, fill):
    if content:
      made.append(
        _save(folder / f'{name}.png', title, study, shape, size, fill)
      )
    else:
      _remove(folder / f'{name}.png')

  def panels(draw):
    def fill(axes):
      for ax, (test, some) in zip(axes, tests.items()):
        draw(ax, some, look)
        ax.set_title(figures.literal(look.tests[test]))

    return fill

  count = max(len(tests), 1)
  wide = (3.6 * count, 3.9)
  save(
    'figure2_cohorts',
    'Candidates per scan',
    study.cohorts,
    (1, 1),
    (7, 1 + 0.8 * len(study.cohorts)),
    lambda axes: figures.draw_counts(axes[0], study.cohorts, look),
  )
  save(
    'figure3_rows',
    'Test metrics with intervals over subjects',
    rows,
    (1, len(METRICS)),
    (15, 1.4 + 0.36 * len(rows)),
    lambda axes: _fill_rows(axes, rows, look),
  )
  save('figure5_roc', 'ROC', rows, (1, count), wide, panels(figures.draw_roc))
  save('froc', 'FROC', rows, (1, count), wide, panels(figures.draw_froc))
  save(
    'reliability',
    'Reliability',
    rows,
    (1, count),
    wide,
    panels(figures.draw_reliability),
  )
  strategies = figures.by_strategy(study.learning)
  save(
    'learning',
    'Validation loss and learning rate of every fold',
    strategies,
    (2, max(len(strategies), 1)),
    (3.4 * max(len(strategies), 1), 5),
    lambda axes: _fill_learning(axes, strategies, look),
  )
  for name, title, patches in (
    ('figure4_removed', removed_head(study), study.removed),
    ('misses', 'Missed lesions and worst errors', study.misses),
  ):
    patches = [p for p in patches if np.size(p.image)]
    if patches:
      path = folder / f'{name}.png'
      made.append(_save_patches(path, title, study, patches))
    else:
      _remove(folder / f'{name}.png')
  return made


def _remove(path: pathlib.Path) -> None:
  for old in (path, path.with_suffix('.svg')):
    old.unlink(missing_ok=True)


def _fill_rows(axes, rows, look):
  for ax, metric in zip(axes, METRICS):
    figures.draw_rows(ax, rows, metric, look)
  names = [
    figures.literal(
      f'{row.number or ""}  {row.strategy_label} on {row.test_label}'.strip()
    )
    for row in rows
  ]
  axes[0].set_yticks(range(len(rows)), names)
  for label, row in zip(axes[0].get_yticklabels(), rows):
    label.set_color(look.test_colour(row.test))


def _fill_learning(axes, strategies, look):
  half = len(axes) // 2
  for i, (name, curves) in enumerate(strategies.items()):
    figures.draw_loss(axes[i], curves, look)
    axes[i].set_title(figures.literal(look.strategies[name]))
    figures.draw_rate(axes[half + i], curves, look)


def _save(
  path, title, study, shape, size, fill, *, vector=True
) -> pathlib.Path:
  """PNG, and SVG beside it for drawings without images."""
  with mpl.rc_context(figures.STYLE):
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(*shape, squeeze=False)
    fill(axes.ravel())
    title = figures.literal(f'{title} – {headline(study)}')
    figure.suptitle(title, x=0.01, ha='left', fontsize=11)
    with files.whole(path) as temporary:
      figure.savefig(temporary, format='png', metadata={'Software': None})
    if vector:
      with files.whole(path.with_suffix('.svg')) as temporary:
        figure.savefig(temporary, format='svg', metadata={'Date': None})
  return path


def _save_patches(path, title, study, patches) -> pathlib.Path:
  """Consecutive axial slices of each patch in a row, likelihoods beside."""
  threshold = study.record.get('threshold', metrics.THRESHOLD)

  def fill(axes):
    for patch, line in zip(patches, axes.reshape(len(patches), -1)):
      image = np.asarray(patch.image, float)
      for z, ax in enumerate(line):
        ax.axis('off')
        if z < image.shape[2]:
          # RAS array, shown with the patient's right on the left.
          slice_ = image[::-1, :, z].T
          ax.imshow(slice_, cmap='gray', vmin=0, vmax=1, origin='lower')
      beside = {'transform': line[0].transAxes, 'ha': 'right'}
      key = figures.literal(patch.key)
      line[0].text(-0.1, 0.78, key, fontsize=6.5, color=MUTED, **beside)
      marks = ((patch.before, '--before'), (patch.after, '--after'))
      for y, (value, variable) in zip((0.48, 0.18), marks):
        if value is not None:
          beside['color'] = NAMED[variable]
          text = likelihood_text(value, threshold)
          line[0].text(-0.1, y, text, weight='bold', **beside)

  slices = max(np.asarray(p.image).shape[2] for p in patches)
  size = (2.2 + 0.9 * slices, 0.7 + 0.95 * len(patches))
  title = f'{title} (threshold {threshold:g})'
  shape = (len(patches), slices)
  return _save(path, title, study, shape, size, fill, vector=False)
