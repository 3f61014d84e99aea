"""Likelihoods to the sensitivity at fixed false positives per scan.

Rule: a draw of subjects sets its own threshold, the lowest that keeps to the
rate, so that the interval holds the uncertainty of the threshold too. The
threshold is a quantile, for which the jackknife fails (Efron 1979, Ann Stat
7:1, section 3): these intervals are always from bootstrap draws.
"""

from collections.abc import Sequence

import numpy as np

from cmbjax.evaluation import metrics, statistics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.intervals import Interval, too_few
from cmbjax.evaluation.predictions import Predictions, ScanCounts

_CHUNK = 2_000_000  # numbers per block of draws: 16 MB
_MORE = 100  # mimics looked at first, beyond half as many again as allowed


def sensitivities(
  predictions: Predictions,
  scans: ScanCounts,
  *,
  rates: Sequence[float] = metrics.FROC_RATES,
  **how,
) -> dict[float, Interval]:
  """Sensitivity over all lesions at each rate, with intervals over subjects.

  The value is that of `metrics.sensitivity_at`.

  Args:
    predictions: likelihoods of the candidates.
    scans: all scans of the test set.
    rates: false positives per scan that are allowed.
    how: `draws`, `seed` and `level` of `statistics.resampling`; `method` is
      left aside.
  """
  total = float(np.sum(scans.num_lesions))
  if not len(scans.scan) or not total:
    note = 'no lesions in this test set' if len(scans.scan) else 'no scans'
    return {rate: Interval(None, None, None, note) for rate in rates}
  sums = metrics.clusters(predictions, scans)
  size = len(sums.subject)
  how = statistics.resampling(size, **{**how, 'method': 'bootstrap'})
  once = np.ones((1, size))
  values = sensitivity_draws(predictions, scans, once, rates)[:, 0]
  drawn = sensitivity_draws(predictions, scans, how.weights, rates)
  return {
    rate: _interval(float(value), draws, sums.lesions, how)
    for rate, value, draws in zip(rates, values, drawn)
  }


def _interval(value, draws, lesions, how) -> Interval:
  if how.weights.shape[1] < 2:
    return Interval(value, None, None, too_few(1))
  if np.sum(lesions > 0) < 2:
    note = 'rests on one subject, so no interval'
    return Interval(value, None, None, note)
  if value in (0.0, 1.0):
    return statistics.end_of_range(value, lesions, how.level, proportion=True)
  return statistics.interval(value, draws, how)


def sensitivity_draws(
  predictions: Predictions,
  scans: ScanCounts,
  weights: np.ndarray,
  rates: Sequence[float],
) -> np.ndarray:
  """Sensitivity at each rate in each draw, [rates, D]; NaN without lesions.

  Args:
    predictions: likelihoods of the candidates.
    scans: all scans of the test set.
    weights: [D, S] how often each subject (sorted) is in each draw.
    rates: false positives per scan that are allowed.
  """
  subject = np.unique(scans.subject)
  score = np.asarray(predictions.probability, np.float64)
  false = np.flatnonzero(predictions.label == 0)
  false = false[np.argsort(-score[false], kind='stable')]
  lesion_scan, best = tables.lesions(predictions)
  place = tables.places_of(lesion_scan, scans)
  rank = np.argsort(-best, kind='stable')
  # A lesion is found when the threshold, a mimic, is strictly less likely:
  # mimics of one likelihood are above the same lesions, so come together.
  above = np.searchsorted(-score[false], -best[rank], 'right')
  count = np.zeros(len(subject))
  where = np.searchsorted(subject, scans.subject)
  np.add.at(count, where, np.asarray(scans.num_lesions, float))
  found = _cut(
    weights,
    rates,
    false_owner=np.searchsorted(subject, predictions.subject[false]),
    lesion_owner=np.searchsorted(subject, scans.subject[place[rank]]),
    above=above,
    scans=weights @ np.bincount(where, minlength=len(subject)).astype(float),
  )
  with np.errstate(invalid='ignore', divide='ignore'):
    return found / (weights @ count)


def _cut(
  weights: np.ndarray,
  rates: Sequence[float],
  *,
  false_owner: np.ndarray,
  lesion_owner: np.ndarray,
  above: np.ndarray,
  scans: np.ndarray,
) -> np.ndarray:
  """Weighted lesions above the threshold of each rate, [rates, D].

  Args:
    weights: [D, S].
    rates: false positives per scan that are allowed.
    false_owner: [F] subject of each mimic, the most likely first.
    lesion_owner: [L] subject of each lesion, the most likely first.
    above: [L] mimics that are as likely or more so.
    scans: [D] scans of each draw.
  """
  found = np.zeros((len(rates), len(weights)))
  budget = np.asarray(rates, float)[None] * scans[:, None] + 1e-9  # [D, rates]
  todo, size = np.arange(len(weights)), int(1.5 * budget.max(initial=0)) + _MORE
  while len(todo):
    # Beyond the largest budget nothing is looked at; few draws need more.
    size = min(size, len(false_owner))
    reached = np.searchsorted(above, size, 'right')
    over = np.ones(len(todo), bool)
    wide = max(size + reached, 1)
    for part in np.array_split(todo, -(-len(todo) * wide // _CHUNK)):
      fp = np.cumsum(weights[part][:, false_owner[:size]], axis=1)
      hits = np.zeros((len(part), reached + 1))
      lesions = weights[part][:, lesion_owner[:reached]]
      np.cumsum(lesions, axis=1, out=hits[:, 1:])
      for row, d in enumerate(part):
        kept = np.searchsorted(fp[row], budget[d], 'right')
        found[:, d] = hits[row, np.searchsorted(above[:reached], kept, 'right')]
        over[np.searchsorted(todo, d)] = kept.max() == size
    if size == len(false_owner):
      break
    todo, size = todo[over], 4 * size  # few draws come so far
  return found
