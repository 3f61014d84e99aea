"""A user's function of labels and likelihoods to a number with its interval.

Rule: the function sees the candidates of one test set and gives one number;
intervals leave out whole subjects, and what it cannot say becomes a note.
"""

from collections.abc import Callable

import numpy as np

from cmbjax import plugins
from cmbjax.errors import InputError, shown
from cmbjax.evaluation import statistics
from cmbjax.evaluation.intervals import Interval, too_few
from cmbjax.evaluation.predictions import Predictions, ScanCounts

# (y [N] 0 or 1, score [N] 0..1, subject [N] str) -> a number.
Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], float]

_KEY = 'config.evaluation.metrics'
_TAKES = (
  'a metric takes y [N] of 0 and 1, score [N] in 0..1 and subject [N], and '
  'returns one number'
)


def find(name: str, *, key: str = _KEY) -> Metric:
  """The metric called 'module:name', after a trial.

  Args:
    name: of a function `(y [N], score [N], subject [N]) -> float`.
    key: where the name was given, for messages.

  Raises:
    InputError: it cannot be imported, fails on 40 made-up candidates of five
      subjects, or does not return a number.
  """
  if not isinstance(name, str) or not plugins.is_plugin(name):
    raise InputError(
      f"{key}: is {shown(name)!r}; give each as 'module:name'. The metrics "
      'of cmbjax are always shown.'
    )
  metric = plugins.find(name, key=key, known={})
  # Both classes in every subject, and no tied scores: what any metric can do.
  y = np.tile([0, 0, 1, 0, 1, 0, 0, 1], 5)
  score = np.linspace(0.02, 0.98, 40)[(7 * np.arange(40)) % 40]
  _, note = _call(metric, y, score, np.repeat([f'sub-{i}' for i in '12345'], 8))
  if note and note != _UNDEFINED:
    raise InputError(f'{key}: {shown(name)!r} {note}; {_TAKES}.')
  return metric


def interval(
  metric: Metric,
  predictions: Predictions,
  scans: ScanCounts,
  *,
  level: float = 0.95,
) -> Interval:
  """The metric with its jackknife interval over the subjects of `scans`.

  Args:
    metric: see `find`.
    predictions: likelihoods of the candidates.
    scans: all scans of the test set.
    level: of the interval.

  Returns:
    Value None, and why, where the metric failed or gave no finite number.
  """
  return _jackknifed(metric, (predictions,), scans, level)


def difference(
  metric: Metric,
  first: Predictions,
  second: Predictions,
  scans: ScanCounts,
  *,
  level: float = 0.95,
) -> Interval:
  """First minus second on the same candidates, subjects left out of both.

  Args:
    metric: see `find`.
    first: likelihoods of one strategy.
    second: of another, in the same order (`predictions.align`).
    scans: all scans of the test set.
    level: of the interval.
  """
  return _jackknifed(metric, (first, second), scans, level)


def _jackknifed(metric, sides, scans, level) -> Interval:
  """Of one table the metric, of two its difference."""
  value, note = _of_sides(metric, sides, None)
  if value is None:
    return Interval(None, None, None, note)
  subjects = np.unique(scans.subject)
  if too_few(len(subjects)):
    return Interval(value, None, None, too_few(len(subjects)))
  with_some = set(sides[0].subject.tolist())
  left_out = np.full(len(subjects), value)
  for i, subject in enumerate(subjects.tolist()):
    # Without a candidate, leaving it out changes nothing.
    if subject in with_some:
      without, _ = _of_sides(metric, sides, subject)
      left_out[i] = np.nan if without is None else without
  return statistics.jackknife_interval(
    value, left_out, level=level, scale='plain'
  )


def _of_sides(metric, sides, left_out) -> tuple[float | None, str]:
  values = []
  for p in sides:
    kept = np.asarray(p.subject) != left_out
    value, note = _call(
      metric, p.label[kept], p.probability[kept], p.subject[kept]
    )
    if value is None:
      return None, note
    values.append(value)
  return values[0] - sum(values[1:]), ''


_UNDEFINED = 'gives no finite number here'


def _call(metric, y, score, subject) -> tuple[float | None, str]:
  """Value and note.

  The arrays are copies (of a mask), as a metric may sort what it is given.
  """
  try:
    value = metric(
      np.asarray(y, int),
      np.asarray(score, np.float64),
      np.asarray(subject, str),
    )
    if np.ndim(value):
      return None, f'returned an array of shape {np.shape(value)}'
    value = float('nan') if value is None else float(value)
  except (Exception, SystemExit) as error:  # of the user's own code
    return None, f'failed ({type(error).__name__}: {shown(error)})'
  return (value, '') if np.isfinite(value) else (None, _UNDEFINED)
