"""Predictions to metrics whose unit is a patch, a scan or a subject.

Rule: the unit that is counted differs, the unit that is left out or drawn is
always the subject. Metrics that count lesions are in `metrics`.
"""

import numpy as np

from cmbjax.errors import InputError
from cmbjax.evaluation import metrics, ranking, statistics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from cmbjax.evaluation.statistics import Interval

PATCH = ('patch_sensitivity', 'patch_specificity', 'patch_precision')
PATCH += ('patch_f1',)
SCAN = ('scan_sensitivity', 'scan_specificity', 'scan_auc')
SUBJECT = ('subject_sensitivity', 'subject_precision', 'subject_f1')
SUBJECT += ('subject_fp_per_scan',)


def evaluate(
  predictions: Predictions,
  scans: ScanCounts,
  *,
  threshold: float = metrics.THRESHOLD,
  **how,
) -> dict[str, Interval]:
  """All metrics of this file, with intervals over subjects.

  Args:
    predictions: likelihoods of the candidates.
    scans: all scans of the test set, those without candidates too.
    threshold: a likelihood must be strictly above it.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.

  Returns:
    patch_*: each candidate counts once; two in one lesion count twice.
    scan_*: a scan is positive when it has a lesion, and called so when a
      candidate is kept; scan_auc ranks scans by their largest likelihood.
    subject_*: mean over subjects of sensitivity (all lesions), precision and
      F1 of lesions and FP per scan, whatever a subject holds.

  Raises:
    InputError: when the tables do not fit together or there is no scan.
  """
  tables.check(predictions, scans)
  if not len(scans.scan):
    raise InputError('evaluation: the test set has no scans.')
  return {
    **_patch(predictions, scans, threshold, how),
    **_scan(predictions, scans, threshold, how),
    **_subject(predictions, scans, threshold, how),
  }


def _patch(predictions, scans, threshold, how):
  subject = np.unique(scans.subject)
  at = np.searchsorted(subject, predictions.subject)
  true = predictions.label == 1
  kept = predictions.probability > threshold

  def count(mask):
    return np.bincount(at, mask, minlength=len(subject)).astype(float)

  hits, positives = count(kept & true), count(true)
  false, negatives = count(kept & ~true), count(~true)
  pairs = (
    (hits, positives, 'no candidate is a microbleed'),
    (negatives - false, negatives, 'no mimics among the candidates'),
    (hits, hits + false, 'no candidate is above the threshold'),
    (2 * hits, hits + false + positives, 'no microbleeds, nothing kept'),
  )
  return dict(zip(PATCH, _ratios(pairs, len(subject), how)))


def _ratios(pairs, size, how) -> list[Interval]:
  resampled = statistics.resampling(size, **how)
  return [
    statistics.ratio_interval(
      top, bottom, resampled, proportion=True, empty=empty
    )
    for top, bottom, empty in pairs
  ]


def _scan(predictions, scans, threshold, how):
  subject, at = np.unique(scans.subject, return_inverse=True)
  score = scan_likelihood(predictions, scans)
  positive = scans.num_lesions > 0
  called = score > threshold

  def count(mask):
    return np.bincount(at, mask, minlength=len(subject)).astype(float)

  pairs = (
    (count(called & positive), count(positive), 'no scan has a microbleed'),
    (count(~called & ~positive), count(~positive), _NO_CLEAN),
  )
  result = dict(zip(SCAN, _ratios(pairs, len(subject), how)))
  result['scan_auc'] = _scan_auc(score, positive, at, len(subject), how)
  return result


_NO_CLEAN = 'no scan is without microbleeds'


def scan_likelihood(predictions: Predictions, scans: ScanCounts) -> np.ndarray:
  """Largest likelihood of each scan's candidates, [M]; 0 without any."""
  best = np.zeros(len(scans.scan))
  at = tables.places_of(predictions.scan, scans)
  np.maximum.at(best, at, predictions.probability)
  return best


def _scan_auc(score, positive, at, size, how) -> Interval:
  label = positive.astype(int)
  if positive.all() or not positive.any():
    note = _NO_CLEAN if positive.all() else 'no scan has a microbleed'
    return Interval(None, None, None, note)
  resampled = statistics.resampling(size, **how)
  wins = ranking.pair_wins(score, label, at, size)
  classes = [np.bincount(at[label == k], minlength=size) for k in (1, 0)]
  return metrics.ranked(
    lambda weights: ranking.auc_draws(wins, *classes, weights),
    min(classes, key=np.sum).astype(float),
    resampled,
  )


def _subject(predictions, scans, threshold, how):
  sums = metrics.clusters(predictions, scans, threshold=threshold)
  hit, fp, lesions = sums.hit, sums.false_positives, sums.lesions
  pairs = (
    (hit, lesions, 'no lesions in this test set'),
    (hit, hit + fp, 'no candidate is above the threshold'),
    (2 * hit, hit + fp + lesions, 'no lesions and nothing kept'),
    (fp, sums.scans, 'no scans'),
  )
  result = {}
  for name, (top, bottom, empty) in zip(SUBJECT, pairs):
    used = bottom > 0
    result[name] = statistics.mean_interval(
      top[used] / bottom[used],
      proportion=name != 'subject_fp_per_scan',
      empty=empty,
      **how,
    )
  return result
