"""Predictions of one strategy on one test set to a row of the report.

Rule: everything of a row comes from its prediction table and from what was
chosen out of fold; nothing is chosen on the test set.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cmbjax.evaluation import (
  agreement,
  breakdown,
  calibration,
  compare,
  froc,
  levels,
  metrics,
  operating_points,
)
from cmbjax.evaluation import own as own_metrics
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.evaluation.statistics import Interval
from cmbjax.report.tables import POINT_METRICS, Patch, ResultRow, ScoredPoint


def make_row(
  table: predictions_lib.PredictionTable,
  *,
  number: int | None = None,
  threshold: float = metrics.THRESHOLD,
  stored: Mapping | None = None,
  own: Mapping[str, Callable] | None = None,
  **how,
) -> ResultRow:
  """Everything of one row from one prediction table.

  Args:
    table: predictions of one strategy on one test set.
    number: row of the table of a paper, None when it has none.
    threshold: a likelihood must be strictly above it.
    stored: what `operating_points.choose` gave on out-of-fold predictions of
      the same strategy; None when it is not known.
    own: 'module:name' -> metric of the user, see `metrics.own`.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.
  """
  p, scans = table.predictions, table.scans
  stored = stored or {}
  counted = agreement.count_agreement(p, scans, threshold=threshold, **how)
  return ResultRow(
    strategy=table.strategy,
    test=table.test,
    number=number,
    metrics=metrics.evaluate(p, scans, threshold=threshold, **how),
    # Reviewers know it better; the page has the one that covers better.
    bootstrap=metrics.evaluate(
      p, scans, threshold=threshold, **{**how, 'method': 'bootstrap'}
    ),
    num_subjects=len(np.unique(scans.subject)),
    num_scans=len(scans.scan),
    num_candidates=len(p.key),
    num_lesions=int(np.sum(scans.num_lesions)),
    roc=_curve(metrics.roc(p.probability, p.label)),
    froc=_curve(_rises(metrics.froc(p, scans))),
    reliability=_curve(calibration.reliability(p.probability, p.label)),
    calibration=_calibration(p, stored.get('calibration'), how),
    calibrated_by=stored.get('calibration', {}).get('kind', ''),
    points=_points(p, scans, stored.get('points', {}), how),
    levels=levels.evaluate(p, scans, threshold=threshold, **how),
    rates={
      f'{rate:g}': found
      for rate, found in froc.sensitivities(p, scans, **how).items()
    },
    likelihoods=breakdown.by_likelihood(p, scans, **how),
    agreement=_agreement(counted),
    grades=counted.grades.tolist(),
    parts=_parts(table, threshold=threshold, **how),
    seeds=tuple(metrics.auc(one, p.label) for one in table.by_seed),
    kind=table.kind,
    strategy_label=table.strategy_label,
    test_label=table.test_label,
    own={
      name: own_metrics.interval(metric, p, scans, level=how.get('level', 0.95))
      for name, metric in (own or {}).items()
    },
  )


def _calibration(p, fitted, how) -> dict[str, Interval]:
  """Brier score and ECE, as they are and under the stored calibration."""
  found = calibration.scores(p, **how)
  if fitted:
    value = operating_points.calibrated(p.probability, fitted)
    again = calibration.scores(p._replace(probability=value), **how)
    found |= {f'{name}_calibrated': one for name, one in again.items()}
  return found


def _points(p, scans, points, how) -> dict[str, ScoredPoint]:
  """Thresholds of the training subjects on this test set."""
  result = {}
  for name, point in points.items():
    found = metrics.evaluate(p, scans, threshold=point['threshold'], **how)
    kept = {metric: found[metric] for metric in POINT_METRICS}
    result[name] = ScoredPoint(point['threshold'], point['rule'], kept)
  return result


def _parts(
  table: predictions_lib.PredictionTable, **how
) -> dict[str, dict[str, tuple]]:
  """Sensitivity by size and region, where the lesions are known one by one."""
  true = table.lesions
  if true is None:
    return {}
  return breakdown.sensitivities(
    true.diameter_mm,
    true.region,
    true.subject,
    predictions_lib.lesion_likelihood(table.predictions, true),
    **how,
  )


def _agreement(found: agreement.CountAgreement) -> dict[str, Interval]:
  return {
    'icc': found.icc,
    'consistency': found.consistency,
    'kappa': found.kappa,
    'same_grade': found.same_grade,
    'bias': agreement.bias(found),
  }


def _rises(curve: metrics.Froc | None):
  """The points of a step curve at which it rises, and its end."""
  if curve is None:
    return None
  y = curve.sensitivity
  keep = np.concatenate([[True], y[1:] > y[:-1]])
  keep[-1] = True  # where the detector ends, whether or not it rises there
  return curve.fp_per_scan[keep], y[keep]


def _curve(curve):
  if curve is None:
    return None
  return tuple(np.asarray(axis, float).tolist() for axis in curve)


def learning_rows(log: Sequence[dict], replicas: Sequence) -> list[dict]:
  """Epoch log (vectors of length R) to one dict per epoch and replica.

  Args:
    log: rows with epoch, train_loss, validation_loss, learning_rate.
    replicas: R objects with strategy, fold and seed.
  """
  columns = ('train_loss', 'validation_loss', 'learning_rate')
  return [
    {'strategy': one.strategy, 'fold': int(one.fold), 'seed': int(one.seed)}
    | {'epoch': row['epoch']}
    | {name: row[name][r] for name in columns if name in row}
    for row in log
    for r, one in enumerate(replicas)
  ]


def removed(
  before: predictions_lib.PredictionTable,
  after: predictions_lib.PredictionTable,
  image_of: Callable[[str], np.ndarray],
  *,
  threshold: float = metrics.THRESHOLD,
  most: int = 6,
) -> list[Patch]:
  """False candidates that `before` keeps and `after` does not.

  Args:
    before: predictions of the strategy that another one started from.
    after: of that other one, on the same test set.
    image_of: key of a candidate -> its patch [X, Y, Z], 0 to 1.
    threshold: strictly above is kept.
    most: patches, those with the largest drop of likelihood first.
  """
  old = before.predictions
  new = predictions_lib.align(old, after.predictions)
  return [
    Patch(
      key=str(old.key[i]),
      image=image_of(str(old.key[i])),
      before=float(old.probability[i]),
      after=float(new.probability[i]),
    )
    for i in compare.removed_by(old, new, threshold=threshold)[:most]
  ]
