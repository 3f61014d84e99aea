"""Labels, scores and subjects in plain arrays to metrics with intervals.

Rule: these are of the candidates alone. A lesion that no candidate reached is
not in the arrays, so nothing here is a share of all lesions.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cmbjax.errors import InputError
from cmbjax.evaluation import calibration, levels
from cmbjax.evaluation import compare as compare_lib
from cmbjax.evaluation import metrics as metrics_lib
from cmbjax.evaluation import own as own_metrics
from cmbjax.evaluation.permutation import Test
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from cmbjax.evaluation.statistics import Interval

_OF_CANDIDATES = {
  'sensitivity': 'patch_sensitivity',
  'specificity': 'patch_specificity',
  'precision': 'patch_precision',
  'f1': 'patch_f1',
}


def metrics(
  y: Sequence[int] | np.ndarray,
  score: Sequence[float] | np.ndarray,
  subject: Sequence | np.ndarray,
  *,
  threshold: float = metrics_lib.THRESHOLD,
  level: float = 0.95,
  own: Mapping[str, own_metrics.Metric] | None = None,
) -> dict[str, Interval]:
  """Metrics of N candidates with jackknife intervals over subjects.

  Args:
    y: [N] 1 for a microbleed, 0 for a mimic.
    score: [N] likelihoods in 0..1.
    subject: [N] whose candidate it is; names or numbers.
    threshold: a candidate is kept when its score is strictly above.
    level: of the intervals.
    own: name -> your own `(y, score, subject) -> float`.

  Returns:
    auc, average_precision, sensitivity, specificity, precision, f1, brier,
    ece and those of `own`. One that is not defined has the value None and a
    note that says why.

  Raises:
    InputError: unequal lengths, no candidates, labels other than 0 and 1, or
      scores outside 0..1.
  """
  p, scans = _tables(y, subject, score=score)
  ranked = metrics_lib.evaluate(p, scans, threshold=threshold, level=level)
  decided = levels.evaluate(p, scans, threshold=threshold, level=level)
  found = {name: ranked[name] for name in ('auc', 'average_precision')}
  found |= {name: decided[key] for name, key in _OF_CANDIDATES.items()}
  found |= calibration.scores(p, level=level)
  for name, metric in (own or {}).items():
    found[name] = own_metrics.interval(metric, p, scans, level=level)
  return found


def compare(
  y: Sequence[int] | np.ndarray,
  first: Sequence[float] | np.ndarray,
  second: Sequence[float] | np.ndarray,
  subject: Sequence | np.ndarray,
  *,
  level: float = 0.95,
  own: Mapping[str, own_metrics.Metric] | None = None,
) -> dict[str, Test]:
  """Two scores of the same candidates: first minus second.

  Args:
    y: [N] 1 for a microbleed, 0 for a mimic.
    first: [N] likelihoods in 0..1.
    second: [N] likelihoods in 0..1.
    subject: [N] whose candidate it is; names or numbers.
    level: of the intervals.
    own: name -> your own `(y, score, subject) -> float`.

  Returns:
    auc with the p of swapping the two within subjects, average_precision and
    those of `own` with an interval only.

  Raises:
    InputError: as `metrics`.
  """
  a, scans = _tables(y, subject, first=first)
  b, _ = _tables(y, subject, second=second)
  names = ('auc', 'average_precision')
  found = compare_lib.paired(a, b, scans, names=names, level=level)
  for name, metric in (own or {}).items():
    gap = own_metrics.difference(metric, a, b, scans, level=level)
    found[name] = Test(gap, None, compare_lib.PAIRED)
  return found


def _tables(y, subject, **scores) -> tuple[Predictions, ScanCounts]:
  """One scan per subject; every microbleed is a lesion of its own."""
  ((name, score),) = scores.items()
  columns = {'y': y, name: score, 'subject': subject}
  columns = {key: np.asarray(column) for key, column in columns.items()}
  shapes = {key: column.shape for key, column in columns.items()}
  if len(set(shapes.values())) > 1 or columns['y'].ndim != 1:
    found = ', '.join(f'{key} {shape}' for key, shape in shapes.items())
    raise InputError(f'arrays: shapes are {found}; give each as [N].')
  label, score, subject = columns.values()
  if not len(label):
    raise InputError('arrays: y is empty; give one candidate or more.')
  if score.dtype.kind not in 'biuf':
    raise InputError(f'arrays: {name} holds {score.dtype}; give numbers.')
  _check(label, np.isin(label, (0, 1)), 'y', '0 (mimic) or 1 (microbleed)')
  score = score.astype(np.float64)
  _check(score, (score >= 0) & (score <= 1), name, 'a likelihood in 0..1')
  label, subject = label.astype(int), subject.astype(str)
  names, at = np.unique(subject, return_inverse=True)
  lesions = np.bincount(at, label, minlength=len(names)).astype(int)
  predictions = Predictions(
    key=np.arange(len(label)).astype(str),
    subject=subject,
    scan=subject,
    cohort=np.full(len(label), ''),
    label=label,
    # Nothing is known of which share a lesion.
    lesion=np.where(label == 1, np.cumsum(label), 0),
    probability=score,
  )
  return predictions, ScanCounts(names, names, lesions, np.zeros_like(lesions))


def _check(values, good, name: str, what: str) -> None:
  if not good.all():  # NaN is not good either
    i = int(np.flatnonzero(~good)[0])
    raise InputError(f'arrays: {name}[{i}] is {values[i]}; give {what}.')
