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

# With fewer the new points were no better than those of the weights in
# benchmarks/results/calibrate.json.
FEWEST = {'subjects': 5, 'lesions': 15, 'mimics': 15}
# Of the lesions that were found; the rest is what the threshold may cost.
KEEP = 0.95
POINTS = {'possible': 'high_sensitivity', 'definite': 'high_precision'}
KINDS = ('none', 'temperature', 'logistic', 'isotonic')
_FOLDS = 10  # each subject alone where there are no more
_RATIOS = ('sensitivity_lesions', 'precision', 'fp_per_scan')


class Weighed(NamedTuple):
  """What the networks' numbers are worth on some reviewed scans.

  Attributes:
    points: 'possible' and 'definite', each metric name to its interval.
    scores: 'brier' and 'ece' of the probability.
    thresholds: of 'possible' and 'definite'.
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
    InputError: there are no lesions.
  """
  fold_of, folds = _folds(predictions, scans)
  chosen, fitted = _chosen(predictions, scans, shipped, fold_of, floor, keep)
  decided = {name: np.zeros(len(predictions.key)) for name in POINTS}
  probability = np.zeros(len(predictions.key))
  for fold in np.unique(folds):
    out, scans_in = fold_of == fold, folds != fold
    inside = tables.select(predictions, ~out)
    points, how = shipped['points'], shipped['calibration']
    if (inside.label == 1).any():
      points, how = _chosen(
        inside, _some(scans, scans_in), shipped, fold_of[~out], floor, keep
      )
    likelihood = predictions.probability[out]
    probability[out] = operating_points.calibrated(likelihood, how)
    for name, point in POINTS.items():
      decided[name][out] = likelihood > points[point]['threshold']
  before = {
    name: max(float(shipped['points'][point]['threshold']), floor)
    for name, point in POINTS.items()
  }
  was = operating_points.calibrated(
    predictions.probability, shipped['calibration']
  )
  after = _weighed(predictions, scans, decided, probability)
  after.thresholds.update(
    {name: chosen[point]['threshold'] for name, point in POINTS.items()}
  )
  return Chosen(
    _said(chosen, after),
    fitted,
    _weighed(
      predictions,
      scans,
      {n: predictions.probability > t for n, t in before.items()},
      was,
    )._replace(thresholds=before),
    after,
  )


def _folds(predictions, scans):
  """Fold of each candidate [N] and of each scan [M], by subject."""
  subject = np.unique(scans.subject)
  fold = np.arange(len(subject)) % min(len(subject), _FOLDS)
  return (
    fold[np.searchsorted(subject, predictions.subject)],
    fold[np.searchsorted(subject, scans.subject)],
  )


def _some(scans, which):
  return ScanCounts(*(column[which] for column in scans))


def _chosen(predictions, scans, shipped, fold_of, floor, keep):
  """Points and calibration from these scans, without a word on their worth."""
  points = operating_points.points(
    predictions, scans, threshold=_keeping(predictions, floor, keep)
  )
  rule = f'keeps {keep:.0%} of the lesions that were found'
  points['high_sensitivity']['rule'] = rule
  for point in points.values():
    point['rule'] = point['rule'].replace(', out of fold', '')
  fitted = operating_points.fit(
    predictions.probability, predictions.label, fold_of, kinds=KINDS
  )
  was = operating_points.calibrated(
    predictions.probability, shipped['calibration']
  )
  scores = fitted['brier'] | {
    'shipped': calibration.brier(was, predictions.label)
  }
  if scores['shipped'] <= min(fitted['brier'].values(), default=np.inf):
    fitted = dict(shipped['calibration'])  # nothing that was fitted is better
  return points, fitted | {'brier': scores}


def _keeping(predictions, floor, keep) -> float:
  """The highest threshold that keeps so many of the lesions above `floor`."""
  _, best = tables.lesions(predictions)
  best = np.sort(best[best > floor])
  if not len(best):
    return floor
  # Rounded down: of few lesions none is given up. The epsilon is for 1 - .9.
  lowest = best[int((1 - keep) * len(best) + 1e-9)]
  below = predictions.probability[predictions.probability < lowest]
  return max(floor, float(below.max(initial=0.0)))


def _weighed(predictions, scans, decided, probability) -> Weighed:
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
  return Weighed(points, scores, {})


def _said(points, after):
  """The points with what cross-validation says of those that it scored."""
  names = dict(zip(_RATIOS, ('sensitivity', 'precision', 'fp_per_scan')))
  for name, point in POINTS.items():
    scored = after.points[name]
    points[point] |= {own: scored[m].value for m, own in names.items()}
  return points
