"""Likelihoods to calibrated likelihoods, and how calibrated they are.

Rule: everything that is fitted here takes out-of-fold predictions; a test
set is only ever scored.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from cmbjax.errors import InputError
from cmbjax.evaluation import statistics
from cmbjax.evaluation.predictions import Predictions
from cmbjax.evaluation.statistics import Interval

BINS = 10  # as usual for the ECE; it grows with their number
_EPSILON = 1e-6  # likelihoods of 0 and 1 have no logit


class Reliability(NamedTuple):
  """Bins of equal width that hold something, B of them.

  Attributes:
    likelihood: [B] mean likelihood in the bin.
    share: [B] share of microbleeds in the bin.
    count: [B] candidates in the bin.
  """

  likelihood: list[float]
  share: list[float]
  count: list[int]


class Isotonic(NamedTuple):
  """Rising steps: `value` at each `knot`, linear between two of them."""

  knot: np.ndarray
  value: np.ndarray


class Logistic(NamedTuple):
  """sigmoid(slope * logit + intercept); the intercept moves with how rare
  lesions are among the candidates of a site."""

  slope: float
  intercept: float


def reliability(
  probability: np.ndarray, label: np.ndarray, *, bins: int = BINS
) -> Reliability:
  """Reliability diagram over equal bins of likelihood; empty bins are out.

  Args:
    probability: [N] likelihoods.
    label: [N] 1 for a microbleed.
    bins: how many.
  """
  which = _bin_of(probability, bins)
  count = np.bincount(which, minlength=bins)
  used = count > 0
  mean = np.bincount(which, probability, minlength=bins)[used] / count[used]
  share = np.bincount(which, label, minlength=bins)[used] / count[used]
  return Reliability(mean.tolist(), share.tolist(), count[used].tolist())


def ece(
  probability: np.ndarray, label: np.ndarray, *, bins: int = BINS
) -> float | None:
  """Expected calibration error (Naeini 2015): mean |likelihood - share|.

  Weighted by the candidates in each bin; None without candidates.

  Args:
    probability: [N] likelihoods.
    label: [N] 1 for a microbleed.
    bins: how many.
  """
  if not len(probability):
    return None
  likelihood, share, count = map(
    np.asarray, reliability(probability, label, bins=bins)
  )
  gap = np.abs(likelihood - share)
  return float(np.sum(count * gap) / np.sum(count))


def brier(probability: np.ndarray, label: np.ndarray) -> float | None:
  """Mean squared error of the likelihood (Brier 1950)."""
  if not len(probability):
    return None
  gap = np.asarray(probability, np.float64) - np.asarray(label)
  return float(np.mean(gap**2))


def scores(
  predictions: Predictions,
  *,
  bins: int = BINS,
  **how,
) -> dict[str, Interval]:
  """Brier score and ECE with intervals over subjects.

  Args:
    predictions: of one test set.
    bins: of equal width, for the ECE.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.
  """
  p = np.asarray(predictions.probability, np.float64)
  y = np.asarray(predictions.label)
  if not len(p):
    empty = Interval(None, None, None, 'no candidates')
    return {'brier': empty, 'ece': empty}
  subjects, at = np.unique(predictions.subject, return_inverse=True)
  size = len(subjects)
  how = statistics.resampling(size, **how)
  count = how.weights @ np.bincount(at, minlength=size)
  error = how.weights @ np.bincount(at, (p - y) ** 2, minlength=size)
  # Signed gap per subject and bin: |sum over the drawn| is the bin's error.
  cell = at * bins + _bin_of(p, bins)
  gap = np.bincount(cell, p - y, minlength=size * bins).reshape(size, bins)
  gap = np.abs(how.weights @ gap).sum(1)
  with np.errstate(invalid='ignore'):
    drawn = {'brier': error / count, 'ece': gap / count}
  values = {'brier': brier(p, y), 'ece': ece(p, y, bins=bins)}
  # The ECE may be close to 0 by chance: its logarithm knows no bounds.
  scales = {'brier': 'logit', 'ece': 'plain'}
  return {
    name: _inside(
      statistics.interval(value, drawn[name], how, scale=scales[name])
    )
    for name, value in values.items()
  }


def _inside(found: Interval) -> Interval:
  """Both scores are in 0..1."""
  if found.low is None:
    return found
  return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))


def fit_temperature(probability: np.ndarray, label: np.ndarray) -> float:
  """Temperature T of least log loss for sigmoid(logit / T) (Guo 2017).

  Args:
    probability: [N] out-of-fold likelihoods.
    label: [N] 0 or 1.

  Raises:
    InputError: with one class only.
  """
  _both_classes(label)
  logit = _logit(probability)
  sign = 2 * np.asarray(label) - 1

  def loss(log_t):
    return float(np.mean(np.logaddexp(0, -sign * logit / np.exp(log_t))))

  # T from 1/55 to 55; beyond, all likelihoods are 0, 1 or one half.
  found = optimize.minimize_scalar(loss, bounds=(-4, 4), method='bounded')
  return float(np.exp(found.x))


def apply_temperature(
  probability: np.ndarray, temperature: float
) -> np.ndarray:
  """Likelihoods at `temperature`; above 1 they move towards one half."""
  return special.expit(_logit(probability) / temperature)


def fit_logistic(probability: np.ndarray, label: np.ndarray) -> Logistic:
  """The line in the logit of least log loss, to Platt's targets (1999).

  (n + 1) / (n + 2) and 1 / (n + 2) in place of 1 and 0, so that classes that
  are apart do not give an infinite slope.

  Args:
    probability: [N] likelihoods.
    label: [N] 0 or 1.

  Raises:
    InputError: with one class only.
  """
  _both_classes(label)
  logit, label = _logit(probability), np.asarray(label)
  count = np.array([np.sum(label == 0), np.sum(label == 1)])
  targets = np.array([1, count[1] + 1]) / (count + 2)
  target = targets[label]

  def loss(line):
    seen = line[0] * logit + line[1]
    wrong = special.expit(seen) - target
    value = np.mean(np.logaddexp(0, seen) - target * seen)
    return value, np.array([np.mean(wrong * logit), np.mean(wrong)])

  # A slope below 0 would turn the order of the likelihoods round.
  found = optimize.minimize(
    loss, (1.0, 0.0), jac=True, bounds=((0, None), (None, None))
  )
  return Logistic(float(found.x[0]), float(found.x[1]))


def apply_logistic(probability: np.ndarray, fitted: Logistic) -> np.ndarray:
  """Likelihoods on the line of `fitted`."""
  return special.expit(fitted.slope * _logit(probability) + fitted.intercept)


def fit_isotonic(probability: np.ndarray, label: np.ndarray) -> Isotonic:
  """Rising values of least squares (pool adjacent violators).

  Raises:
    InputError: with one class only.
  """
  _both_classes(label)
  knot, at = np.unique(np.asarray(probability, float), return_inverse=True)
  count = np.bincount(at)
  share = np.bincount(at, label) / count
  fitted = optimize.isotonic_regression(share, weights=count.astype(float))
  return Isotonic(knot, np.clip(fitted.x, 0, 1))


def apply_isotonic(probability: np.ndarray, fitted: Isotonic) -> np.ndarray:
  """Linear between the knots, constant outside."""
  return np.interp(probability, fitted.knot, fitted.value)


def _both_classes(label) -> None:
  if len(np.unique(label)) < 2:
    raise InputError('calibration: needs microbleeds and mimics.')


def _bin_of(probability, bins):
  at = np.floor(np.asarray(probability, np.float64) * bins).astype(int)
  return np.clip(at, 0, bins - 1)  # 1.0 is in the last bin


def _logit(probability):
  p = np.asarray(probability, np.float64)
  return special.logit(np.clip(p, _EPSILON, 1 - _EPSILON))
