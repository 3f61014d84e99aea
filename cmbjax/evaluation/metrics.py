"""Predictions of one test set to metrics with intervals.

Rule: a candidate is called a microbleed when its likelihood is strictly
above the threshold; sensitivity counts lesions, each once, and its final
form divides by all lesions, those without a candidate too.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.evaluation import own as own_metrics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation import ranking, statistics
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from cmbjax.evaluation.statistics import Interval, Resampling

# The reference threshold (Chen 2019, ISMRM #0671).
THRESHOLD = 0.1
# 'module:name' to a metric of the user.
own = own_metrics.find
# FP per scan at which FROC sensitivities are read: doublings, from one in two
# scans to more than anybody would look through.
FROC_RATES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


class Clusters(NamedTuple):
  """Sums per subject, [S] each: all that a ratio metric needs.

  Attributes:
    subject: [S] str, sorted; every subject of the test set.
    scans: number of scans.
    lesions: all true lesions.
    found: lesions with at least one candidate.
    hit: lesions with a candidate above the threshold.
    positives: candidates that are microbleeds.
    negatives: candidates that are mimics.
    false_positives: mimics above the threshold.
  """

  subject: np.ndarray
  scans: np.ndarray
  lesions: np.ndarray
  found: np.ndarray
  hit: np.ndarray
  positives: np.ndarray
  negatives: np.ndarray
  false_positives: np.ndarray


class Roc(NamedTuple):
  """Points of the ROC curve from (0, 0) to (1, 1)."""

  fpr: np.ndarray
  tpr: np.ndarray


class Froc(NamedTuple):
  """Sensitivity over all lesions against false positives per scan."""

  fp_per_scan: np.ndarray
  sensitivity: np.ndarray
  threshold: np.ndarray


def clusters(
  predictions: Predictions,
  scans: ScanCounts,
  *,
  threshold: float = THRESHOLD,
) -> Clusters:
  """Sums per subject at `threshold`.

  Args:
    predictions: N candidates.
    scans: M scans, those without candidates too.
    threshold: strictly above is kept.
  """
  subject = np.unique(scans.subject)
  size = len(subject)

  def count(names, weights=None):
    at = np.searchsorted(subject, names)
    return np.bincount(at, weights, minlength=size).astype(float)

  lesion_scan, best = tables.lesions(predictions)
  owner = scans.subject[tables.places_of(lesion_scan, scans)]
  negative = predictions.label == 0
  false = negative & (predictions.probability > threshold)
  return Clusters(
    subject=subject,
    scans=count(scans.subject),
    lesions=count(scans.subject, scans.num_lesions),
    found=count(owner),
    hit=count(owner[best > threshold]),
    positives=count(predictions.subject[~negative]),
    negatives=count(predictions.subject[negative]),
    false_positives=count(predictions.subject[false]),
  )


def ratios(sums: Clusters) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Numerator and denominator per subject of each ratio metric."""
  hit, fp = sums.hit, sums.false_positives
  return {
    'sensitivity_candidates': (hit, sums.found),
    'sensitivity_lesions': (hit, sums.lesions),
    'detector_sensitivity': (sums.found, sums.lesions),
    'precision': (hit, hit + fp),
    # 2 TP / (2 TP + FP + FN) with TP + FN = all lesions.
    'f1': (2 * hit, hit + fp + sums.lesions),
    'fp_per_scan': (fp, sums.scans),
    'fp_removed': (sums.negatives - fp, sums.negatives),
  }


_EMPTY = {
  'sensitivity_candidates': 'no lesion has a candidate',
  'sensitivity_lesions': 'no lesions in this test set',
  'detector_sensitivity': 'no lesions in this test set',
  'precision': 'no candidate is above the threshold',
  'f1': 'no lesions and nothing above the threshold',
  'fp_per_scan': 'no scans',
  'fp_removed': 'no mimics among the candidates',
}


def evaluate(
  predictions: Predictions,
  scans: ScanCounts,
  *,
  threshold: float = THRESHOLD,
  **how,
) -> dict[str, Interval]:
  """Metrics of one test set with intervals over subjects.

  Args:
    predictions: likelihoods of the candidates.
    scans: all scans of the test set, those without candidates too.
    threshold: a likelihood must be strictly above it.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.

  Returns:
    auc, average_precision, sensitivity_candidates (lesions kept of those
    that became candidates: the conditional figure of the paper),
    sensitivity_lesions (of all lesions), detector_sensitivity, precision,
    f1, fp_per_scan, fp_removed. An undefined metric has value None and a
    note.

  Raises:
    InputError: when the tables do not fit together or there is no scan.
  """
  tables.check(predictions, scans)
  if not len(scans.scan):
    raise InputError('evaluation: the test set has no scans.')
  sums = clusters(predictions, scans, threshold=threshold)
  how = statistics.resampling(len(sums.subject), **how)
  result = _ranking(predictions, sums, how)
  for name, (top, bottom) in ratios(sums).items():
    result[name] = statistics.ratio_interval(
      top,
      bottom,
      how,
      proportion=name != 'fp_per_scan',
      empty=_EMPTY[name],
    )
  return result


def _ranking(predictions, sums, how):
  """The two metrics that need no threshold."""
  names = ('auc', 'average_precision')
  positives, negatives = sums.positives.sum(), sums.negatives.sum()
  if not positives or not negatives:
    which = 'microbleeds' if not positives else 'mimics'
    empty = Interval(None, None, None, f'no {which} among the candidates')
    return dict.fromkeys(names, empty)
  score = np.asarray(predictions.probability, np.float64)
  at = np.searchsorted(sums.subject, predictions.subject)
  size = len(sums.subject)
  wins = ranking.pair_wins(score, predictions.label, at, size)
  fewer = sums.positives if positives <= negatives else sums.negatives

  def auc(weights):
    return ranking.auc_draws(wins, sums.positives, sums.negatives, weights)

  def average_precision(weights):
    return ranking.average_precision_draws(
      score, predictions.label, at, weights
    )

  found = (ranked(draw, fewer, how) for draw in (auc, average_precision))
  return dict(zip(names, found))


def ranked(
  draw: Callable[[np.ndarray], np.ndarray], fewer: np.ndarray, how: Resampling
) -> Interval:
  """Interval of a ranking, whose values are in 0..1.

  Args:
    draw: [D, S] weights of the subjects to [D] values.
    fewer: [S] units of the rarer class.
    how: from `statistics.resampling`.

  Returns:
    The exact bound where the ranking is perfect: every draw of it is perfect,
    so that resampling says nothing.
  """
  value = float(draw(np.ones((1, len(fewer))))[0])
  if len(fewer) > 1 and value in (0.0, 1.0):
    return statistics.end_of_range(value, fewer, how.level, proportion=True)
  return statistics.interval(value, draw(how.weights), how, scale='logit')


def auc(score: np.ndarray, label: np.ndarray) -> float | None:
  """Area under the ROC curve by mid-ranks; None with one class only."""
  score, label = np.asarray(score, np.float64), np.asarray(label)
  one = np.zeros(len(score), int)
  pairs = float(np.sum(label == 1)) * float(np.sum(label == 0))
  if pairs == 0:
    return None
  return float(ranking.pair_wins(score, label, one, 1)[0, 0] / pairs)


def average_precision(score: np.ndarray, label: np.ndarray) -> float | None:
  """Step-wise area under precision-recall; None without positives."""
  one = np.zeros(len(score), int)
  value = ranking.average_precision_draws(
    np.asarray(score, np.float64), np.asarray(label), one, np.ones((1, 1))
  )[0]
  return float(value) if np.isfinite(value) else None


def roc(score: np.ndarray, label: np.ndarray) -> Roc | None:
  """Corners of the ROC curve, one per distinct score; None with one class.

  Points on a straight line between their neighbours are left out.
  """
  score, label = np.asarray(score, np.float64), np.asarray(label)
  if not np.any(label == 1) or not np.any(label == 0):
    return None
  order = np.argsort(-score, kind='stable')
  last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
  tp = np.concatenate([[0], np.cumsum(label[order] == 1)[last]])
  fp = np.concatenate([[0], np.cumsum(label[order] == 0)[last]])
  dx, dy = np.diff(fp), np.diff(tp)
  bend = dx[1:] * dy[:-1] != dx[:-1] * dy[1:]  # whole numbers, so exact
  keep = np.concatenate([[True], bend, [True]])
  return Roc(fp[keep] / fp[-1], tp[keep] / tp[-1])


def froc(predictions: Predictions, scans: ScanCounts) -> Froc | None:
  """FROC curve over all lesions; None without lesions or scans.

  Each threshold is the largest value that is still excluded, so a point
  (strictly above) is what `evaluate` gives at that threshold.
  """
  total = scans.num_lesions.sum()
  if total == 0 or not len(scans.scan):
    return None
  _, best = tables.lesions(predictions)
  score = np.asarray(predictions.probability, np.float64)
  false = score[predictions.label == 0]
  # A threshold between two likelihoods gives what the lower one gives.
  values = np.unique(np.concatenate([best, false]))[::-1]
  threshold = np.concatenate([values, [-1.0]])  # -1: nothing is excluded
  hit = len(best) - np.searchsorted(np.sort(best), threshold, 'right')
  fp = len(false) - np.searchsorted(np.sort(false), threshold, 'right')
  return Froc(fp / len(scans.scan), hit / total, threshold)


def sensitivity_at(
  curve: Froc | None, rates: Sequence[float] = FROC_RATES
) -> dict[float, float | None]:
  """Largest sensitivity with at most `rate` false positives per scan."""
  if curve is None:
    return dict.fromkeys(rates)
  return {
    rate: float(curve.sensitivity[curve.fp_per_scan <= rate].max())
    for rate in rates
  }


def sensitivity_by(
  group: np.ndarray,
  subject: np.ndarray,
  likelihood: np.ndarray,
  *,
  threshold: float = THRESHOLD,
  **how,
) -> dict[str, tuple[Interval, int]]:
  """Sensitivity over all lesions in groups of size, region, ...

  Args:
    group: [L] str, one per true lesion.
    subject: [L] str.
    likelihood: [L] float, NaN for a lesion that no candidate reached.
    threshold: strictly above.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.

  Returns:
    group -> (sensitivity, number of lesions), in order of appearance.
  """
  names, at = np.unique(subject, return_inverse=True)
  if not len(names):
    return {}
  how = statistics.resampling(len(names), **how)
  # A lesion that no candidate reached is missed at any threshold.
  hit = np.nan_to_num(np.asarray(likelihood, float), nan=-1.0) > threshold
  result = {}
  for name in dict.fromkeys(group.tolist()):
    inside = group == name
    top = np.bincount(
      at[inside], hit[inside].astype(float), minlength=len(names)
    )
    bottom = np.bincount(at[inside], minlength=len(names)).astype(float)
    interval = statistics.ratio_interval(
      top, bottom, how, proportion=True, empty='no lesions'
    )
    result[str(name)] = (interval, int(inside.sum()))
  return result
