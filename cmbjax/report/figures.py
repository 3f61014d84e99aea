"""A study's numbers to figures: PNG for papers, inline SVG for the page.

Rule: every panel is drawn once by one function on a matplotlib Axes; the
page gets the same drawing with its colours turned into CSS variables, so
that it follows the reader's light or dark setting.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmbjax.report.looks import INK, MUTED, RULE, TOKENS, Look
from cmbjax.report.tables import (
  CohortRow,
  Metric,
  ResultRow,
)

# Of a curve on the page, which is a panel of some 300 pixels; a study of many
# candidates would fill megabytes with points that nobody can tell apart.
_POINTS = 400

STYLE = {
  'font.family': 'sans-serif',
  'font.sans-serif': ['DejaVu Sans'],
  'font.size': 9,
  'axes.edgecolor': MUTED,
  'axes.labelcolor': INK,
  'axes.linewidth': 0.7,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.titlesize': 10,
  'axes.titleweight': 'bold',
  'axes.titlelocation': 'left',
  'axes.titlecolor': INK,
  'text.color': INK,
  'xtick.color': MUTED,
  'ytick.color': MUTED,
  'xtick.labelcolor': INK,
  'ytick.labelcolor': INK,
  'grid.color': RULE,
  'grid.linewidth': 0.6,
  'legend.frameon': False,
  'legend.fontsize': 8.5,
  'legend.labelcolor': INK,
  'svg.fonttype': 'none',  # text stays text: it is read aloud and found
  'svg.hashsalt': 'cmbjax',  # the same ids, so the same file, in every run
  'figure.dpi': 160,
}


def literal(text: str) -> str:
  """A name from a config as matplotlib shows it, sign by sign.

  A pair of dollars would be a formula, and a curve whose label starts with an
  underscore has no entry in the legend.
  """
  text = text.replace('$', r'\$')
  return f' {text}' if text.startswith('_') else text


def draw_roc(ax: Axes, rows: Sequence[ResultRow], look: Look) -> None:
  """ROC curves of the strategies on one test set.

  Args:
    ax: where to draw.
    rows: of one test set.
    look: labels and colours.
  """
  ax.plot([0, 1], [0, 1], color=RULE, linewidth=0.8, zorder=0)
  for row in rows:
    if row.roc is None:
      continue
    area = row.metrics['auc'].value
    ax.plot(
      *_thin(row.roc),
      label=literal(f'{row.strategy_label}  {area:.3f}'),
      **look.line(row.strategy),
    )
  # A little beyond 0 and 1, or a curve along the edge is cut in half.
  ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect='equal')
  ax.set(xlabel='false positive rate', ylabel='sensitivity of candidates')
  _finish(ax, [row.roc for row in rows], 'lower right')


def draw_froc(ax: Axes, rows: Sequence[ResultRow], look: Look) -> None:
  """Sensitivity of all lesions against FP per scan on one test set.

  Args:
    ax: where to draw.
    rows: of one test set.
    look: labels and colours.
  """
  for row in rows:
    if row.froc is not None:
      ax.plot(
        *_thin(row.froc),
        drawstyle='steps-post',
        label=literal(row.strategy_label),
        **look.line(row.strategy),
      )
  ax.set(ylim=(0, 1.01), xlabel='false positives per scan')
  ax.set(ylabel='sensitivity of all lesions')
  # Curves reach hundreds per scan, and are compared at a few: logarithmic,
  # but for the part below 1, as 0 has no logarithm.
  ax.set_xscale('symlog', linthresh=1, linscale=0.5)
  ax.set_xlim(left=0)
  ax.xaxis.set_major_formatter('{x:g}')
  _finish(ax, [row.froc for row in rows], 'upper left')


def draw_reliability(ax: Axes, rows: Sequence[ResultRow], look: Look) -> None:
  """Share of microbleeds against likelihood on one test set.

  Args:
    ax: where to draw.
    rows: of one test set.
    look: labels and colours.
  """
  ax.plot([0, 1], [0, 1], color=RULE, linewidth=0.8, zorder=0)
  for row in rows:
    if not row.reliability or not row.reliability[0]:
      continue
    likelihood, share, count = (np.asarray(v) for v in row.reliability)
    line = look.line(row.strategy)
    ax.plot(likelihood, share, label=literal(row.strategy_label), **line)
    area = 6 + 60 * count / count.sum()  # never so small that it is lost
    ax.scatter(likelihood, share, s=area, color=line['color'], zorder=3)
  ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect='equal')
  ax.set(xlabel='likelihood', ylabel='share of microbleeds')
  _finish(ax, [row.reliability for row in rows], 'lower right')


def draw_counts(ax: Axes, cohorts: Sequence[CohortRow], look: Look) -> None:
  """Candidates per scan of each cohort.

  Args:
    ax: where to draw.
    cohorts: one bar for each of its two kinds of candidates.
    look: labels and colours.
  """
  for y, cohort in enumerate(cohorts):
    scans = max(cohort.num_scans, 1)
    colour = look.test_colour(cohort.name)
    parts = (('CMB', cohort.num_cmb, 0.18), ('FP', cohort.num_fp, -0.18))
    for name, count, shift in parts:
      value = count / scans
      strong = 1.0 if name == 'CMB' else 0.45
      at = y - shift
      ax.barh(at, value, 0.32, color=colour, alpha=strong, linewidth=0)
      ax.annotate(
        f'{value:.1f} {name}',
        (value, at),
        xytext=(4, 0),
        textcoords='offset points',
        va='center',
        fontsize=8,
      )
  ax.set_yticks(range(len(cohorts)), [literal(c.label) for c in cohorts])
  ax.invert_yaxis()
  ax.spines['left'].set_visible(False)
  ax.tick_params(axis='y', length=0)
  # Room for the numbers behind the bars.
  ax.set_xlim(0, 1.18 * max(ax.get_xlim()[1], 1))
  ax.set_xlabel('candidates per scan')


def draw_rows(
  ax: Axes, rows: Sequence[ResultRow], metric: Metric, look: Look
) -> None:
  """One metric of all rows, coloured by test set.

  Args:
    ax: where to draw.
    rows: from above downwards.
    metric: what is drawn, and its kind.
    look: labels and colours.
  """
  for y, row in enumerate(rows):
    interval = row.metrics.get(metric.name)
    colour = look.test_colour(row.test)
    if interval is None or interval.value is None:
      ax.text(0.02, y, '–', transform=ax.get_yaxis_transform(), va='center')
      continue
    if interval.low is not None:
      ax.hlines(y, interval.low, interval.high, colour, linewidth=2.2)
    ax.plot(interval.value, y, 'o', color=colour, markersize=5, clip_on=False)
  ax.set_title(metric.head)
  ax.set_ylim(len(rows) - 0.5, -0.5)
  ax.set_yticks(range(len(rows)), [])
  if metric.kind != 'count':
    # An AUC of one half is chance; the axis starts there unless one is worse.
    low = 0.5 if metric.name == 'auc' and ax.get_xlim()[0] >= 0.5 else 0.0
    ax.set_xlim(low - 0.02 * (1 - low), 1 + 0.02 * (1 - low))
  else:
    ax.set_xlim(0, 1.04 * ax.get_xlim()[1])
  ax.grid(axis='x')
  ax.tick_params(axis='y', length=0)
  ax.spines['left'].set_visible(False)


def draw_loss(ax: Axes, curves: Sequence[dict], look: Look) -> None:
  """Validation loss of one strategy: each replica thin, the mean strong.

  Args:
    ax: where to draw.
    curves: epochs of one strategy, see `StudyTables.learning`.
    look: labels and colours.
  """
  _draw_replicas(ax, curves, 'validation_loss', look)
  ax.set_ylabel('validation loss')
  ax.set_ylim(0, 1.06 * ax.get_ylim()[1])  # from 0: a small fall looks small


def draw_rate(ax: Axes, curves: Sequence[dict], look: Look) -> None:
  """Learning rate of each replica of one strategy.

  Args:
    ax: where to draw.
    curves: epochs of one strategy, see `StudyTables.learning`.
    look: labels and colours.
  """
  _draw_replicas(ax, curves, 'learning_rate', look, mean=False)
  ax.set(yscale='log', xlabel='epoch', ylabel='learning rate')
  values = [c['learning_rate'] for c in curves if c.get('learning_rate')]
  if values:
    ax.set_ylim(min(values) / 2, max(values) * 2)


def _draw_replicas(ax, curves, name, look, *, mean=True):
  replicas: dict[tuple, list] = {}
  for row in curves:
    value = row.get(name)
    if value is not None and math.isfinite(value):
      key = (row.get('seed', 0), row.get('fold', 0))
      replicas.setdefault(key, []).append((row['epoch'], value))
  colour = look.strategy_colour(curves[0]['strategy'])
  for points in replicas.values():
    x, y = zip(*points)
    alpha = 0.45 if mean else 0.8
    marker = 'o' if len(x) == 1 else None
    steps = 'default' if mean else 'steps-post'  # a rate changes at once
    ax.plot(
      x,
      y,
      color=colour,
      linewidth=0.9,
      alpha=alpha,
      marker=marker,
      markersize=3,
      drawstyle=steps,
    )
  if mean and len(replicas) > 1:
    epochs = sorted({x for points in replicas.values() for x, _ in points})
    at = {e: [] for e in epochs}
    for points in replicas.values():
      for x, y in points:
        at[x].append(y)
    ax.plot(epochs, [np.mean(at[e]) for e in epochs], color=colour, lw=2)
  ax.grid(axis='y')
  low, high = ax.get_xlim()
  if high - low < 1:  # one epoch
    ax.set_xlim(low - 0.5, high + 0.5)
  ax.xaxis.set_major_locator(
    mpl.ticker.MaxNLocator(integer=True, min_n_ticks=1)
  )


def _finish(ax: Axes, curves: Sequence, where: str) -> None:
  ax.grid(True)
  ax.set_axisbelow(True)
  if any(curve for curve in curves):
    ax.legend(loc=where, handlelength=1.8)
  else:
    ax.text(0.5, 0.5, 'not defined', transform=ax.transAxes, ha='center')


def _thin(curve) -> tuple[np.ndarray, np.ndarray]:
  """At most `_POINTS` points, ends included; a page needs no more."""
  x, y = (np.asarray(axis, float) for axis in curve)
  if len(x) <= _POINTS:
    return x, y
  keep = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(int))
  return x[keep], y[keep]


def by_strategy(learning: Sequence[dict]) -> dict[str, list[dict]]:
  """Strategy -> its epochs, in order of appearance."""
  groups: dict[str, list[dict]] = {}
  for row in learning:
    groups.setdefault(row['strategy'], []).append(row)
  return groups


class Drawing(NamedTuple):
  """A drawing for a page.

  Attributes:
    label: read by screen readers.
    svg: an SVG element behind its '<svg ' and our own attributes.
  """

  label: str
  svg: Markup


def inline(
  draw: Callable, *args, size: tuple[float, float], name: str, label: str
) -> Drawing:
  """One panel for the page.

  Args:
    draw: one of the functions above; called with Axes and `args`.
    args: what is drawn.
    size: width and height in inches at 72 px.
    name: makes the ids inside unique on the page.
    label: read by screen readers.

  Returns:
    The drawing, whose text matplotlib has escaped.
  """
  with mpl.rc_context(STYLE):
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    draw(figure.add_subplot(), *args)
    # The paper is that of the page, light or dark.
    figure.patch.set_visible(False)
    for ax in figure.axes:
      ax.patch.set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', metadata={'Date': None})
  return Drawing(label, Markup(_for_page(buffer.getvalue(), name)))


def _for_page(svg: str, name: str) -> str:
  """matplotlib's SVG file as an element that inherits colours and font."""
  svg = svg[svg.index('<svg ') + len('<svg ') :]
  svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
  svg = re.sub(r'(^|\s)xmlns(:\w+)?="[^"]*"', '', svg)
  svg = re.sub(r'<!--.*?-->', '', svg, flags=re.DOTALL)
  # Several drawings are on one page, and matplotlib gives all the same ids.
  svg = re.sub(r'\bid="', f'id="{name}-', svg)
  svg = re.sub(r'(url\(|href=")#', rf'\1#{name}-', svg)
  # "font: bold 9px 'DejaVu Sans'" -> the family of the page.
  svg = re.sub(
    r'font: ((?:bold|\d{3}) )?([\d.]+px) [^;\"]*',
    lambda m: f'font-size: {m[2]}' + '; font-weight: 600' * bool(m[1]),
    svg,
  )
  for colour, variable in TOKENS.items():
    svg = svg.replace(colour, f'var({variable})')
  return re.sub(r'\n\s*\n', '\n', svg)


def patch_png(image: np.ndarray, *, scale: int = 4, gap: int = 1) -> bytes:
  """Axial slices of a patch side by side as a PNG, transparent between.

  Args:
    image: [X, Y, Z] float 0..1 in RAS voxel order.
    scale: screen pixels per voxel, nearest neighbour.
    gap: voxels between slices.
  """
  image = np.clip(np.asarray(image, float), 0, 1)
  x, y, z = image.shape
  strip = np.zeros((y, z * (x + gap) - gap, 4), np.uint8)  # RGBA
  for k in range(z):
    start = k * (x + gap)
    grey = np.round(255 * image[::-1, ::-1, k].T)
    strip[:, start : start + x, :3] = grey[..., None]
    strip[:, start : start + x, 3] = 255
  buffer = io.BytesIO()
  strip = strip.repeat(scale, 0).repeat(scale, 1)
  mpl.image.imsave(buffer, strip, format='png')
  return buffer.getvalue()
