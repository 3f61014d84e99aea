"""Drawings of the agreement page.

Rule: every number that is drawn is in a table too.
"""

from collections.abc import Iterator, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from cmbjax.evaluation.agreement import BlandAltman
from cmbjax.evaluation.raters import Spread
from cmbjax.report.figures import literal
from cmbjax.report.looks import INK, MUTED, NAMED, RULE

_COLOUR = NAMED['--test-1']


def draw_counts(
  ax: Axes, counts: Sequence[np.ndarray], names: Sequence[str]
) -> None:
  """Lesions per scan of one reader against the other.

  Args:
    ax: where to draw.
    counts: of both readers, one number per scan.
    names: of both readers.
  """
  most = max([4, *counts[0].tolist(), *counts[1].tolist()])
  ax.plot([0, most], [0, most], color=RULE, linewidth=0.8, zorder=0)
  _dots(ax, *counts)
  ax.set(xlabel=literal(names[0]), ylabel=literal(names[1]))
  ax.set_aspect('equal')
  ax.margins(0.06)
  _whole(ax.xaxis, ax.yaxis)


def draw_differences(
  ax: Axes,
  counts: Sequence[np.ndarray],
  limits: BlandAltman,
  names: Sequence[str],
) -> None:
  """Difference over mean, with bias and limits (Bland and Altman 1986).

  Args:
    ax: where to draw.
    counts: of both readers, one number per scan.
    limits: bias and limits of agreement, None where undefined.
    names: of both readers.
  """
  first, second = counts
  for value, colour, style in (
    (0, RULE, '-'),
    (limits.bias, INK, '-'),
    (limits.low, MUTED, '--'),
    (limits.high, MUTED, '--'),
  ):
    if value is not None:
      ax.axhline(value, color=colour, linestyle=style, linewidth=1, zorder=0)
  _dots(ax, (first + second) / 2, first - second)
  ax.margins(0.06)
  ax.set_xlim(min(ax.get_xlim()[0], 0), max(ax.get_xlim()[1], 4))
  ax.set_ylim(min(ax.get_ylim()[0], -2), max(ax.get_ylim()[1], 2))
  ax.set_xlabel('mean of both')
  ax.set_ylabel(literal(f'{names[0]} − {names[1]}'))
  _whole(ax.yaxis)


def draw_ratings(ax: Axes, pairs: Sequence[tuple[int, float]]) -> None:
  """A reader's ratings against the likelihood of the networks."""
  rating, likelihood = np.array(pairs).T
  ax.scatter(likelihood, rating, s=28, color=_COLOUR, alpha=0.55)
  ax.set(xlim=(-0.05, 1.05), ylim=(0.5, 10.5))
  ax.set(xlabel='likelihood of the networks', ylabel='rating')


def draw_times(ax: Axes, rows: Sequence[tuple[str, Spread]]) -> None:
  """Median and quartiles in seconds, one line per reader."""
  for y, (_, some) in enumerate(rows):
    ax.barh(y, some.high - some.low, 0.4, some.low, color=_COLOUR, alpha=0.45)
    ax.vlines(some.median, y - 0.3, y + 0.3, INK, linewidth=1.6)
  ax.set_yticks(range(len(rows)), [literal(name) for name, _ in rows])
  ax.set_xlim(left=0)
  ax.set_xlabel('seconds')
  ax.invert_yaxis()


def _dots(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
  """Equal points once, larger and with how many they are."""
  for a, b, count in _piled(x, y):
    size = (3 + 2 * np.sqrt(count)) ** 2
    ax.scatter(a, b, s=size, color=_COLOUR, alpha=0.55, clip_on=False)
    if count > 1:
      beside = {'textcoords': 'offset points', 'xytext': (8, -3)}
      ax.annotate(str(count), (a, b), fontsize=8, color=MUTED, **beside)


def _piled(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[float, float, int]]:
  pairs = np.stack([np.asarray(x, float), np.asarray(y, float)], 1)
  places, number = np.unique(pairs, axis=0, return_counts=True)
  for (a, b), count in zip(places.tolist(), number):
    yield a, b, int(count)


def _whole(*axes) -> None:
  """Counts have whole numbers beside them."""
  for axis in axes:
    axis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
