"""Predictions to a calibration and to operating points.

Rule: everything here is chosen on subjects whose networks did not see them:
training subjects, out of fold, or a cohort that is kept for it. Numbers on
the same subjects are then a little optimistic.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmbjax.errors import InputError
from cmbjax.evaluation import calibration, metrics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.predictions import Predictions, ScanCounts

OUT_OF_FOLD = 'out of fold'
HIGH_SENSITIVITY = 0.1  # Chen et al., ISMRM 2019 #0671
# Of the high-precision point, if it can be had: one in ten is false [ours].
PRECISION = 0.9

KINDS = ('none', 'temperature', 'isotonic')
_FEW = 30  # of either class: steps cannot be fitted to fewer


def choose(
  predictions: Predictions,
  scans: ScanCounts,
  *,
  fold_of: np.ndarray,
  threshold: float = HIGH_SENSITIVITY,
  where: str = OUT_OF_FOLD,
) -> dict[str, Any]:
  """Everything that is stored beside the weights, JSON types only.

  Args:
    predictions: [N] likelihoods by networks that did not see the subject.
    scans: all scans of these subjects.
    fold_of: [N] fold of each candidate; folds are apart by subject.
    threshold: of the high-sensitivity point.
    where: on what it is chosen, for the rules.

  Returns:
    {'points': {name: {threshold, sensitivity, precision, fp_per_scan, rule}},
    'calibration': {...}, 'chosen': where, 'out_of_fold': {counts}}.
    Sensitivity is of all lesions, those without a candidate too. Thresholds
    never fall from high sensitivity over balanced to high precision.
  """
  return {
    'points': points(predictions, scans, threshold=threshold, where=where),
    'calibration': fit(predictions.probability, predictions.label, fold_of),
    'chosen': where,
    'out_of_fold': counts(predictions.label, scans),
  }


def counts(label: np.ndarray, scans: ScanCounts) -> dict[str, int]:
  """Of candidates with labels [N], and all scans that they are of."""
  return {
    'subjects': len(set(scans.subject.tolist())),
    'scans': len(scans.scan),
    'lesions': int(scans.num_lesions.sum()),
    'candidates': len(label),
    'microbleeds': int(np.sum(label == 1)),
  }


def points(
  predictions: Predictions,
  scans: ScanCounts,
  *,
  threshold: float = HIGH_SENSITIVITY,
  where: str = OUT_OF_FOLD,
) -> dict[str, dict[str, Any]]:
  """The three operating points.

  'high_sensitivity' is the given threshold; 'balanced' has the best F1;
  'high_precision' is the lowest with a precision of 0.9, or has the best F0.5
  where none has.

  Args:
    predictions: by networks that did not see the subject.
    scans: all their scans, those without candidates too.
    threshold: of 'high_sensitivity'.
    where: on what they are chosen, for the rules.

  Raises:
    InputError: there are no lesions.
  """
  curve = metrics.froc(predictions, scans)
  if curve is None:
    raise InputError('operating point: the scans have no lesions.')
  hits = curve.sensitivity * scans.num_lesions.sum()
  false = curve.fp_per_scan * len(scans.scan)
  found = np.maximum(hits + false, 1e-12)  # nothing found: a precision of 0
  precision, recall = hits / found, curve.sensitivity
  best = int(np.argmax(f_score(precision, recall, 1.0)))
  good = np.flatnonzero((precision >= PRECISION) & (hits > 0))
  if len(good):
    # The curve goes to lower thresholds: the last good point keeps the most.
    sure, why = good[-1], f'lowest with precision >= {PRECISION:g}'
  else:
    sure, why = int(np.argmax(f_score(precision, recall, 0.5))), 'best F0.5'
  # The points are named by their order, so they must have it.
  middle = max(float(curve.threshold[best]), threshold)
  high = max(float(curve.threshold[sure]), middle)
  rules = {
    'high_sensitivity': (threshold, 'threshold of the reference study'),
    'balanced': (middle, f'best F1 of lesions, {where}'),
    'high_precision': (high, f'{why}, {where}'),
  }
  return {
    name: _point(predictions, scans, value, rule)
    for name, (value, rule) in rules.items()
  }


def precision_by(
  predictions: Predictions,
  scans: ScanCounts,
  *,
  fold_of: np.ndarray,
  group: np.ndarray,
  least: int = _FEW,
) -> dict[Any, float]:
  """Precision of the high-precision point in each group of scans.

  Cross-fitted: the threshold that is asked about a fold is chosen on the
  others, so no scan had a say in it.

  Args:
    predictions: [N] likelihoods by networks that did not see the subject.
    scans: [M] all scans of these subjects.
    fold_of: [N] fold of each candidate; folds are apart by subject.
    group: [M] of each scan.
    least: fewest findings of a group; of fewer nothing is known.
  """
  group_of = dict(zip(scans.scan.tolist(), group.tolist()))
  mine = np.array([group_of[scan] for scan in predictions.scan.tolist()])
  right, found = collections.Counter(), collections.Counter()
  for fold in np.unique(fold_of):
    out = fold_of == fold
    kept = ~np.isin(scans.scan, np.unique(predictions.scan[out]))
    if not scans.num_lesions[kept].sum():
      continue  # nothing can be chosen there
    chosen = points(
      tables.select(predictions, ~out),
      ScanCounts(*(column[kept] for column in scans)),
    )
    above = out & (
      predictions.probability > chosen['high_precision']['threshold']
    )
    found.update(mine[above].tolist())
    right.update(mine[above & (predictions.label == 1)].tolist())
  return {g: right[g] / n for g, n in found.items() if n >= least}


def fit(
  likelihood: np.ndarray,
  label: np.ndarray,
  fold_of: np.ndarray,
  *,
  kinds: Sequence[str] = KINDS,
) -> dict[str, Any]:
  """The calibration with the smallest cross-fitted Brier score.

  Each kind is fitted on all folds but one and scored on that one.

  Args:
    likelihood: [N] out-of-fold.
    label: [N] 0 or 1.
    fold_of: [N].
    kinds: to choose from, the simplest first.

  Returns:
    {'kind': one of `kinds`, its parameters, 'brier': {kind: cross-fitted
    score}}.
  """
  if min(np.sum(label == 1), np.sum(label == 0)) < _FEW:
    kinds = [kind for kind in kinds if kind != 'isotonic']
  scores = {}
  for kind in kinds:
    value = np.full(len(label), np.nan)
    for fold in np.unique(fold_of):
      out = fold_of == fold
      if len(np.unique(label[~out])) == 2:
        fitted = _fit(kind, likelihood[~out], label[~out])
        value[out] = calibrated(likelihood[out], fitted)
    scored = np.isfinite(value)
    if scored.any():
      scores[kind] = calibration.brier(value[scored], label[scored])
  if not scores:
    return {'kind': 'none', 'brier': {}}
  best = min(scores, key=scores.get)  # of equals the simplest
  return {**_fit(best, likelihood, label), 'brier': scores}


def calibrated(likelihood: np.ndarray, fitted: Mapping[str, Any]) -> np.ndarray:
  """Likelihoods [N] under a stored calibration.

  Raises:
    InputError: a kind that is not known.
  """
  kind = fitted.get('kind')
  if kind == 'none':
    return np.asarray(likelihood, np.float64)
  if kind == 'temperature':
    return calibration.apply_temperature(likelihood, fitted['temperature'])
  if kind == 'logistic':
    line = calibration.Logistic(fitted['slope'], fitted['intercept'])
    return calibration.apply_logistic(likelihood, line)
  if kind == 'isotonic':
    steps = calibration.Isotonic(
      np.asarray(fitted['knot'], float), np.asarray(fitted['value'], float)
    )
    return calibration.apply_isotonic(likelihood, steps)
  raise InputError(
    f'calibration: found {kind!r}; known are none, temperature, logistic and '
    'isotonic.'
  )


def _fit(kind, likelihood, label):
  if kind == 'temperature':
    found = calibration.fit_temperature(likelihood, label)
    return {'kind': kind, 'temperature': found}
  if kind == 'logistic':
    line = calibration.fit_logistic(likelihood, label)
    return {'kind': kind, **line._asdict()}
  if kind == 'isotonic':
    found = calibration.fit_isotonic(likelihood, label)
    # Only the ends of each step are needed.
    change = np.diff(found.value) != 0
    ends = np.append(True, change) | np.append(change, True)
    return {
      'kind': kind,
      'knot': found.knot[ends].tolist(),
      'value': found.value[ends].tolist(),
    }
  return {'kind': 'none'}


def f_score(
  precision: np.ndarray, recall: np.ndarray, beta: float
) -> np.ndarray:
  """F-beta of N points.

  Args:
    precision: [N].
    recall: [N].
    beta: above 1, it weighs recall more.
  """
  bottom = np.maximum(beta**2 * precision + recall, 1e-12)
  return (1 + beta**2) * precision * recall / bottom


def _point(predictions, scans, threshold, rule):
  above = predictions.probability > threshold
  false = int(np.sum(above & (predictions.label == 0)))
  _, best = tables.lesions(predictions)
  hits = int(np.sum(best > threshold))
  return {
    'threshold': float(threshold),
    'sensitivity': hits / max(int(scans.num_lesions.sum()), 1),
    'precision': hits / (hits + false) if hits + false else None,
    'fp_per_scan': false / len(scans.scan),
    'rule': rule,
  }
