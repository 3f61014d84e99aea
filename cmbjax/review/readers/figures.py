"""Drawings of the agreement page, as SVG that follows the page's colours.

Rule: every drawing has a title for those who do not see it, and numbers that
it shows stand in a table too.
"""

import html
from collections.abc import Sequence

import numpy as np

from cmbjax.evaluation.agreement import BlandAltman
from cmbjax.evaluation.raters import Spread

escape = html.escape
_SIDE, _LEFT, _BOTTOM, _TOP = 300, 46, 40, 12  # px


def counts(first: np.ndarray, second: np.ndarray, names: Sequence[str]) -> str:
  """Lesions per scan of one reader against the other; larger for more scans."""
  most = max([4, *first.tolist(), *second.tolist()])
  frame = _Frame((0, most), (0, most))
  one, two = names
  dots = [
    frame.dot(x, y, 3 + 2 * np.sqrt(n), f'{n} with {x:g} and {y:g}')
    for x, y, n in _piled(first, second)
  ]
  return frame.svg(
    [frame.line(0, 0, most, most, 'rule'), *dots],
    title=f'Microbleeds per scan, {one} against {two}',
    below=one,
    beside=two,
  )


def bland_altman(
  first: np.ndarray,
  second: np.ndarray,
  limits: BlandAltman,
  names: Sequence[str],
) -> str:
  """Difference over mean, with bias and limits (Bland and Altman 1986)."""
  mean, gap = (first + second) / 2, first - second
  ends = [gap.min(), gap.max(), limits.bias, limits.low, limits.high, -2, 2]
  ends = [end for end in ends if end is not None]
  frame = _Frame((0, max(4, mean.max())), (min(ends), max(ends)))
  lines = [
    frame.level(value, kind)
    for value, kind in (
      (0, 'rule'),
      (limits.bias, 'strong'),
      (limits.low, 'dashed'),
      (limits.high, 'dashed'),
    )
    if value is not None
  ]
  dots = [
    frame.dot(x, y, 3 + 2 * np.sqrt(n), f'{n} with {y:+g} at {x:g}')
    for x, y, n in _piled(mean, gap)
  ]
  one, two = names
  return frame.svg(
    [*lines, *dots],
    title=f'Difference of counts, {one} minus {two}, over their mean',
    below='mean of both',
    beside=f'{one} − {two}',
  )


def ratings(pairs: Sequence[tuple[int, float]], name: str) -> str:
  """A reader's ratings against the likelihood of the networks."""
  frame = _Frame((0, 1), (1, 10))
  dots = [frame.dot(x, y, 4, f'{y} at {x:.2f}') for y, x in pairs]
  return frame.svg(
    dots,
    title=f'Ratings of {name} against likelihood',
    below='likelihood of the networks',
    beside='rating',
  )


def times(rows: Sequence[tuple[str, Spread]], title: str) -> str:
  """Median and quartiles in seconds, one line per reader."""
  known = [(name, spread) for name, spread in rows if spread.count]
  if not known:
    return ''
  most = max(spread.high for _, spread in known) or 1
  left, width, step = 80, 350, 30
  height = step * len(known) + 34
  parts = []
  for n, (name, spread) in enumerate(known):
    y = 18 + step * n
    low, middle, high = (
      left + (width - left) * value / most
      for value in (spread.low, spread.median, spread.high)
    )
    parts.append(
      f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(name)}'
      f'</text><line class="rule" x1="{left}" x2="{width}" y1="{y}" y2="{y}"/>'
      f'<rect class="bar" x="{low:.1f}" y="{y - 6}" height="12" '
      f'width="{max(high - low, 1):.1f}"/><line class="strong" '
      f'x1="{middle:.1f}" x2="{middle:.1f}" y1="{y - 10}" y2="{y + 10}"/>'
    )
  y = height - 8
  for value in _ticks(0, most):
    x = left + (width - left) * value / most
    parts.append(f'<text class="tick" x="{x:.1f}" y="{y}">{value:g}</text>')
  return _svg(parts, width + 20, height, title)


def _piled(x: np.ndarray, y: np.ndarray):
  """Equal points once, with how many they are."""
  pairs = np.stack([np.asarray(x, float), np.asarray(y, float)], 1)
  places, number = np.unique(pairs, axis=0, return_counts=True)
  return [(a, b, int(n)) for (a, b), n in zip(places.tolist(), number)]


class _Frame:
  """Axes of a square drawing."""

  def __init__(self, x: tuple[float, float], y: tuple[float, float]):
    self._x, self._y = _padded(*x), _padded(*y)
    self._ends = x, y

  def at(self, x: float, y: float) -> tuple[float, float]:
    """Pixels of a value."""
    (a, b), (c, d) = self._x, self._y
    wide, high = _SIDE - _LEFT - _TOP, _SIDE - _BOTTOM - _TOP
    return (
      _LEFT + wide * (x - a) / (b - a),
      _TOP + high * (1 - (y - c) / (d - c)),
    )

  def dot(self, x: float, y: float, radius: float, text: str) -> str:
    px, py = self.at(x, y)
    return (
      f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{radius:.1f}"><title>'
      f'{escape(text)}</title></circle>'
    )

  def line(self, x: float, y: float, x2: float, y2: float, kind: str) -> str:
    (a, b), (c, d) = self.at(x, y), self.at(x2, y2)
    return (
      f'<line class="{kind}" x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" '
      f'y2="{d:.1f}"/>'
    )

  def level(self, y: float, kind: str) -> str:
    return self.line(self._x[0], y, self._x[1], y, kind)

  def svg(self, parts, *, title: str, below: str, beside: str) -> str:
    (a, b), (c, d) = self._x, self._y
    base, right = _SIDE - _BOTTOM, _SIDE - _TOP
    frame = [self.line(a, c, b, c, 'axis'), self.line(a, c, a, d, 'axis')]
    for value in _ticks(*self._ends[0]):
      x, _ = self.at(value, c)
      frame.append(
        f'<text class="tick" x="{x:.1f}" y="{base + 16}">{value:g}</text>'
      )
    for value in _ticks(*self._ends[1]):
      _, y = self.at(a, value)
      text = f'{value:g}'.replace('-', '−')
      frame.append(
        f'<text class="tick end" x="{_LEFT - 6}" y="{y + 4:.1f}">{text}</text>'
      )
    middle = (_LEFT + right) / 2
    frame.append(
      f'<text class="name" x="{middle:.0f}" y="{_SIDE - 4}">{escape(below)}'
      '</text><text class="name" transform="translate(11 '
      f'{(_TOP + base) / 2:.0f}) rotate(-90)">{escape(beside)}</text>'
    )
    return _svg([*frame, *parts], _SIDE, _SIDE, title)


def _svg(parts: Sequence[str], width: float, height: float, title: str) -> str:
  return (
    f'<svg class="drawn" viewBox="0 0 {width} {height}" role="img" '
    f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
  )


def _padded(low: float, high: float) -> tuple[float, float]:
  room = 0.06 * (high - low or 1)
  return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
  """Four to six round numbers from `low` to `high`."""
  step = 10.0 ** np.floor(np.log10(max(high - low, 1e-9)))
  step = next(
    s
    for s in (step * f for f in (0.1, 0.2, 0.5, 1, 2))
    if (high - low) / s <= 6
  )
  first = np.ceil(low / step - 1e-9)
  last = np.floor(high / step + 1e-9)
  return [float(round(n * step, 10)) + 0.0 for n in np.arange(first, last + 1)]
