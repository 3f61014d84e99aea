"""A study's figures to PNG files, and to SVG where they are drawings.

Rule: each is the drawing of the page with a title; a figure without content
is not written, and one that an earlier run left under its name goes.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmbjax import files
from cmbjax.evaluation import metrics
from cmbjax.report import figures
from cmbjax.report.looks import MUTED, NAMED, Look, look_of
from cmbjax.report.tables import (
  METRICS,
  Patch,
  ResultRow,
  StudyTables,
  headline,
  ordered,
  removed_head,
)
from cmbjax.report.texts import likelihood_text


class _Plan(NamedTuple):
  """One figure.

  Attributes:
    name: of the files.
    title: above it.
    content: what is drawn; nothing to draw, no figure.
    shape: rows and columns of axes.
    size: inches.
    fill: draws on all axes.
    vector: also as SVG, for drawings without images.
  """

  name: str
  title: str
  content: Sequence
  shape: tuple[int, int]
  size: tuple[float, float]
  fill: Callable[[Sequence[Axes]], None]
  vector: bool = True


def save_all(study: StudyTables, folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes figure2 ... figure5, froc, reliability, learning and misses."""
  look, made = look_of(study), []
  plans = [*_drawings(study, look), _learning(study, look), *_galleries(study)]
  for plan in plans:
    path = folder / f'{plan.name}.png'
    if plan.content:
      made.append(_save(path, plan, headline(study)))
    else:
      for old in (path, path.with_suffix('.svg')):
        old.unlink(missing_ok=True)
  return made


def _drawings(study: StudyTables, look: Look) -> list[_Plan]:
  """What the page draws of cohorts and rows."""
  cohorts, rows = study.cohorts, ordered(study.rows)
  tests = look.by_test(rows)
  count = max(len(tests), 1)

  def by_test(name, title, draw):
    def fill(axes):
      for ax, (test, some) in zip(axes, tests.items()):
        draw(ax, some, look)
        ax.set_title(figures.literal(look.tests[test]))

    return _Plan(name, title, rows, (1, count), (3.6 * count, 3.9), fill)

  return [
    _Plan(
      'figure2_cohorts',
      'Candidates per scan',
      cohorts,
      (1, 1),
      (7, 1 + 0.8 * len(cohorts)),
      lambda axes: figures.draw_counts(axes[0], cohorts, look),
    ),
    _Plan(
      'figure3_rows',
      'Test metrics with intervals over subjects',
      rows,
      (1, len(METRICS)),
      (15, 1.4 + 0.36 * len(rows)),
      lambda axes: _fill_rows(axes, rows, look),
    ),
    by_test('figure5_roc', 'ROC', figures.draw_roc),
    by_test('froc', 'FROC', figures.draw_froc),
    by_test('reliability', 'Reliability', figures.draw_reliability),
  ]


def _fill_rows(axes: Sequence[Axes], rows: list[ResultRow], look: Look) -> None:
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


def _learning(study: StudyTables, look: Look) -> _Plan:
  """Loss above, learning rate below, a column per strategy."""
  strategies = figures.by_strategy(study.learning)
  count = max(len(strategies), 1)

  def fill(axes):
    for i, (name, curves) in enumerate(strategies.items()):
      figures.draw_loss(axes[i], curves, look)
      axes[i].set_title(figures.literal(look.strategies[name]))
      figures.draw_rate(axes[count + i], curves, look)

  title = 'Validation loss and learning rate of every fold'
  size = (3.4 * count, 5)
  return _Plan('learning', title, list(strategies), (2, count), size, fill)


def _galleries(study: StudyTables) -> list[_Plan]:
  """Patches that have an image."""
  threshold = study.record.get('threshold', metrics.THRESHOLD)
  return [
    _gallery(name, title, [p for p in patches if np.size(p.image)], threshold)
    for name, title, patches in (
      ('figure4_removed', removed_head(study), study.removed),
      ('misses', 'Missed lesions and worst errors', study.misses),
    )
  ]


def _gallery(
  name: str, title: str, patches: list[Patch], threshold: float
) -> _Plan:
  """Consecutive axial slices of each patch in a row, likelihoods beside."""
  slices = max((np.shape(p.image)[2] for p in patches), default=1)
  shape = (len(patches), slices)

  def fill(axes):
    for patch, line in zip(patches, np.reshape(axes, shape)):
      _fill_slices(line, patch, threshold)

  size = (2.2 + 0.9 * slices, 0.7 + 0.95 * len(patches))
  title = f'{title} (threshold {threshold:g})'
  return _Plan(name, title, patches, shape, size, fill, vector=False)


def _fill_slices(line: Sequence[Axes], patch: Patch, threshold: float) -> None:
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


def _save(path: pathlib.Path, plan: _Plan, headline: str) -> pathlib.Path:
  """PNG, and SVG beside it."""
  with mpl.rc_context(figures.STYLE):
    figure = Figure(figsize=plan.size, layout='constrained')
    FigureCanvasAgg(figure)
    plan.fill(figure.subplots(*plan.shape, squeeze=False).ravel())
    title = figures.literal(f'{plan.title} – {headline}')
    figure.suptitle(title, x=0.01, ha='left', fontsize=11)
    # Neither file says when or by which version it was drawn, so that the
    # same numbers give the same bytes.
    with files.whole(path) as temporary:
      figure.savefig(temporary, format='png', metadata={'Software': None})
    if plan.vector:
      with files.whole(path.with_suffix('.svg')) as temporary:
        figure.savefig(temporary, format='svg', metadata={'Date': None})
  return path
