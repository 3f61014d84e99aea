"""Numbers, bounds and notes to text.

Rule: a number that is not defined is a dash with the reason as a note; NaN is
never written.
"""

import re

import numpy as np

from cmbjax.evaluation import intervals
from cmbjax.evaluation.intervals import Interval

DASH = '–'
_MOST_DIGITS = 9  # single precision has no more


def number(value: float | None, kind: str) -> str:
  """One value as text: 0.942, '93 %' or 11.2; a dash for None."""
  if value is None:
    return DASH
  if kind == 'percent':
    return f'{100 * value:.0f}\N{NO-BREAK SPACE}%'
  if kind == 'count':
    return f'{value:.1f}'
  return f'{value:.3f}'.replace('-', '−')


def likelihood_text(likelihood: float, *thresholds: float) -> str:
  """A likelihood as text on its own side of the thresholds.

  Args:
    likelihood: 0 to 1.
    thresholds: what it is held against.
  """
  side = np.sign(np.subtract(likelihood, thresholds))
  for more in range(2, _MOST_DIGITS):
    text = f'{likelihood:.{more}f}'
    if np.array_equal(np.sign(np.subtract(float(text), thresholds)), side):
      return text
  return f'{likelihood:.{_MOST_DIGITS}f}'


def bounds(interval: Interval, kind: str) -> str:
  """The interval as text, 'n/a (2 subjects)' or '' when there is none."""
  if interval.low is None or interval.high is None:
    return intervals.missing(interval)
  low, high = interval.low, interval.high
  if kind == 'percent':
    return f'{100 * low:.0f}–{100 * high:.0f}'
  if kind == 'count':
    return f'{low:.1f}–{high:.1f}'
  text = f'{low:.3f}–{high:.3f}'
  if low < 0:
    text = f'{low:.3f} to {high:.3f}'.replace('-', '−')
  return re.sub(r'\b0\.', '.', text)  # 10.5 keeps its zero


class Notes:
  """Collects notes and gives each different one a letter."""

  def __init__(self):
    self.texts: list[str] = []

  def mark(self, text: str) -> str:
    """'' for no note, else 'a', 'b', ...; the same text, the same letter."""
    if not text:
      return ''
    if text not in self.texts:
      self.texts.append(text)
    index = self.texts.index(text)
    return chr(ord('a') + index) if index < 26 else str(index)
