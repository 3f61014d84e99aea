"""Reviewed scans of one site to operating points and a calibration for it.

The networks stay as they are; what is chosen again is where a likelihood
counts, and how likely a lesion is at it. Rule: what is said of the new points
comes from subjects that had no part in choosing them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cmbjax.evaluation import calibration, metrics, operating_points, statistics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.intervals import Interval
from cmbjax.evaluation.predictions import Predictions, ScanCounts

# With 3 subjects the calibration error on others was .25 in one of 20 draws,
# with 5 it was .12 (benchmarks/calibrate.py; .32 with the weights' own).
FEWEST = {'subjects': 5, 'lesions': 10, 'mimics': 15}
# Of the lesions that were found; the rest is what the threshold may cost.
KEEP = 0.95
# Of the lesions found, for a point of high precision; at the very end of the
# fit there is hardly anything to go by. On 20 slabs its precision on others
# was 0 in one of 20 draws without this, .38 with it.
_LEAST_FOUND = 0.2
KINDS = ('none', 'temperature', 'logistic', 'isotonic')
_FOLDS = 10  # each subject alone where they are fewer
_RATIOS = ('sensitivity_lesions', 'precision', 'fp_per_scan')


class Weighed(NamedTuple):
  """What the networks' numbers are worth on some reviewed scans.

  Attributes:
    points: point to metric name to its interval.
    scores: 'brier' and 'ece' of the probability.
    thresholds: of the points.
  """

  points: dict[str, dict[str, Interval]]
  scores: dict[str, Interval]
  thresholds: dict[str, float]


class Chosen(NamedTuple):
  """What was chosen for a site.

  Attributes:
    points: as `operating_points.points`, measured by cross-validation.
    calibration: as `operating_points.fit`, or that of the weights.
    before: the points of the weights on these scans.
    after: the new ones, each subject with those that the others chose.
  """

  points: dict[str, dict[str, Any]]
  calibration: dict[str, Any]
  before: Weighed
  after: Weighed


def count(predictions: Predictions, scans: ScanCounts) -> dict[str, int]:
  """Subjects, lesions that have a likelihood, and mimics."""
  lesion_scan, _ = tables.lesions(predictions)
  return {
    'subjects': len(set(scans.subject.tolist())),
    'lesions': len(lesion_scan),
    'mimics': int(np.sum(predictions.label == 0)),
  }


def missing(known: Mapping[str, int]) -> dict[str, int]:
  """What has to be reviewed before a calibration: name to the number."""
  return {n: least for n, least in FEWEST.items() if known[n] < least}


def choose(
  predictions: Predictions,
  scans: ScanCounts,
  shipped: Mapping[str, Any],
  *,
  floor: float,
  keep: float = KEEP,
) -> Chosen:
  """New points and a new calibration, with what they are worth.

  Args:
    predictions: likelihoods of the networks, with the readers' labels.
    scans: all reviewed scans, those without candidates too.
    shipped: 'points' and 'calibration' of the weights.
    floor: likelihoods down to this were reviewed; no threshold is below.
    keep: of the lesions above `floor`, how many 'possible' keeps.

  Raises:
    InputError: microbleeds or mimics are missing.
  """
  likelihood, fold_of = predictions.probability, folds(predictions, scans)
  thresholds, fitted = refit(
    predictions, shipped, fold_of, floor=floor, keep=keep
  )
  decided = {name: np.zeros(len(likelihood), bool) for name in thresholds}
  probability = np.zeros(len(likelihood))
  was = {n: _threshold(shipped, n, floor) for n in thresholds}
  for fold in np.unique(fold_of):
    out = fold_of == fold
    inside = tables.select(predictions, ~out)
    at, how = was, shipped['calibration']
    if len(np.unique(inside.label)) == 2:
      at, how = refit(inside, shipped, fold_of[~out], floor=floor, keep=keep)
    probability[out] = operating_points.calibrated(likelihood[out], how)
    for name, threshold in at.items():
      decided[name][out] = likelihood[out] > threshold
  known = operating_points.calibrated(likelihood, shipped['calibration'])
  before = {name: likelihood > threshold for name, threshold in was.items()}
  after = _weighed(predictions, scans, decided, probability, thresholds)
  return Chosen(
    _points(after, keep),
    fitted,
    _weighed(predictions, scans, before, known, was),
    after,
  )


def refit(
  predictions: Predictions,
  shipped: Mapping[str, Any],
  fold_of: np.ndarray,
  *,
  floor: float,
  keep: float = KEEP,
) -> tuple[dict[str, float], dict[str, Any]]:
  """Thresholds by point, and a calibration; not what they are worth.

  Args:
    predictions: as `choose` takes them.
    shipped: as there.
    fold_of: [N] as `folds` gives it.
    floor: as there.
    keep: as there.
  """
  return (
    _thresholds(predictions, floor, keep),
    _calibration(predictions, shipped, fold_of),
  )


def _threshold(shipped, point, floor) -> float:
  """Of the weights; first ones of a study have no balanced point."""
  known = shipped['points']
  known = known.get(point, known['high_precision'])
  return max(float(known['threshold']), floor)


def folds(predictions: Predictions, scans: ScanCounts) -> np.ndarray:
  """Fold of each candidate [N], by subject."""
  subject = np.unique(scans.subject)
  fold = np.arange(len(subject)) % min(len(subject), _FOLDS)
  return fold[np.searchsorted(subject, predictions.subject)]


def _calibration(predictions, shipped, fold_of) -> dict[str, Any]:
  """The best of `KINDS`, or that of the weights where none is better."""
  likelihood, label = predictions.probability, predictions.label
  fitted = operating_points.fit(likelihood, label, fold_of, kinds=KINDS)
  known = operating_points.calibrated(likelihood, shipped['calibration'])
  scores = {'shipped': calibration.brier(known, label), **fitted['brier']}
  if min(scores, key=scores.get) == 'shipped':
    fitted = dict(shipped['calibration'])
  return fitted | {'brier': scores}


def _thresholds(predictions, floor, keep) -> dict[str, float]:
  """By point. Those that rest on precision take it from a logistic fit.

  Counts alone would take the one lesion above all mimics for a precision of
  1; the fit borrows from all candidates.
  """
  order = np.argsort(-predictions.probability, kind='stable')
  likelihood = predictions.probability[order]
  line = calibration.fit_logistic(likelihood, predictions.label[order])
  hits = np.cumsum(calibration.apply_logistic(likelihood, line))
  precision = hits / np.arange(1, len(hits) + 1)
  recall = hits / hits[-1]
  good = np.flatnonzero(
    (precision >= operating_points.PRECISION) & (recall >= _LEAST_FOUND)
  )
  best, sure = (
    int(np.argmax(operating_points.f_score(precision, recall, beta)))
    for beta in (1.0, 0.5)
  )
  below = np.append(likelihood[1:], floor)  # above it is what was taken
  low = _keeping(predictions, floor, keep)
  middle = max(float(below[best]), low)
  high = max(float(below[good[-1] if len(good) else sure]), middle)
  names = ('high_sensitivity', 'balanced', 'high_precision')
  return dict(zip(names, (low, middle, high)))


def _keeping(predictions, floor, keep) -> float:
  """The highest threshold that keeps so many of the lesions above `floor`.

  Above the k-th lowest of n lesions are, of all such lesions, 1 - k / (n + 1)
  on average; where even the first is too much, nothing is given up.
  """
  _, best = tables.lesions(predictions)
  best = np.sort(best[best > floor])
  # The epsilon is for 1 - .9.
  lost = int((1 - keep) * (len(best) + 1) + 1e-9)
  if not lost:
    return floor
  below = predictions.probability < best[lost - 1]
  return max(floor, float(predictions.probability[below].max(initial=0.0)))


def _weighed(predictions, scans, decided, probability, at) -> Weighed:
  """Scores of decisions [N] by point and of probabilities [N]."""
  size = len(np.unique(scans.subject))
  how = statistics.resampling(size)
  points = {}
  for name, is_found in decided.items():
    taken = predictions._replace(probability=np.asarray(is_found, float))
    sums = metrics.ratios(metrics.clusters(taken, scans, threshold=0.5))
    points[name] = {
      metric: statistics.ratio_interval(
        *sums[metric],
        how,
        proportion=metric != 'fp_per_scan',
        empty='nothing was found',
      )
      for metric in _RATIOS
    }
  scores = calibration.scores(predictions._replace(probability=probability))
  return Weighed(points, scores, at)


def _points(after, keep) -> dict[str, dict[str, Any]]:
  """As `operating_points.points`, with what cross-validation says."""
  least = f'{operating_points.PRECISION:g}'
  rules = {
    'high_sensitivity': f'keeps {keep:.0%} of the lesions that were found',
    'balanced': 'best F1',
    'high_precision': f'lowest with precision >= {least}, else best F0.5',
  }
  names = dict(zip(_RATIOS, ('sensitivity', 'precision', 'fp_per_scan')))
  return {
    point: {
      'threshold': after.thresholds[point],
      **{own: after.points[point][m].value for m, own in names.items()},
      'rule': f'{rule}, on reviewed scans, cross-validated',
    }
    for point, rule in rules.items()
  }
