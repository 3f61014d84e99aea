"""Two prediction tables to paired differences and tests.

Rule: strategies are compared on the same candidates of the same subjects, and
whole subjects are swapped and left out; `orderings` judges claims from that.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax.evaluation import (
  classical,
  metrics,
  permutation,
  power,
  ranking,
  statistics,
)
from cmbjax.evaluation import own as own_metrics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.permutation import Test
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from cmbjax.evaluation.statistics import Interval

PAIRED = 'paired over subjects'
UNPAIRED = 'different subjects'
DIFFERENCES = ('auc', 'average_precision', 'sensitivity_lesions', 'precision')
DIFFERENCES += ('fp_per_scan',)


class Comparison(NamedTuple):
  """Two strategies on one test set; differences are first minus second.

  `tests` holds auc, average_precision, sensitivity_lesions, precision and
  fp_per_scan (paired over subjects), delong and mcnemar (candidates taken
  as independent), out of fold nadeau_bengio (AUC of the folds), and own
  metrics by their names (paired over subjects), each a `Test`. The labels are
  what a reader is shown, '' for the name.
  """

  first: str
  second: str
  test: str
  num_subjects: int
  tests: dict[str, Test]
  simulated: bool = False
  kind: str = tables.ENSEMBLE
  first_label: str = ''
  second_label: str = ''
  test_label: str = ''


def paired(
  first: Predictions,
  second: Predictions,
  scans: ScanCounts,
  *,
  threshold: float = metrics.THRESHOLD,
  names: Sequence[str] = DIFFERENCES,
  **how,
) -> dict[str, Test]:
  """Differences first - second on the same candidates.

  Intervals: both strategies on the same subjects left out or drawn. p:
  strategies swapped within subjects; a ratio without fixed denominator
  (precision) and average precision get an interval only.

  Args:
    first: likelihoods of one strategy.
    second: of another, on the same candidates in any order.
    scans: of the test set.
    threshold: strictly above.
    names: which differences, of `DIFFERENCES`.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.

  Raises:
    InputError: when keys, labels or subjects differ.
  """
  second = tables.align(first, second)
  both = first, second
  for one in both:
    tables.check(one, scans)
  sums = [metrics.clusters(p, scans, threshold=threshold) for p in both]
  size = len(sums[0].subject)
  resampled = statistics.resampling(size, **how)
  result = {}
  for gap in (*_ranked(both, sums), *_shares(sums)):
    if gap.name not in names:
      continue
    (value,) = gap.of(np.ones((1, size)))
    if not np.isfinite(value):
      empty = Interval(None, None, None, 'not defined for both strategies')
      result[gap.name] = Test(empty, None, PAIRED)
      continue
    drawn = gap.of(resampled.weights)
    interval = statistics.interval(float(value), drawn, resampled)
    # One subject has two swaps, which give the same difference.
    p, swap = None, gap.swap()
    if swap is not None and size > 1:
      p = permutation.sign_flip(
        swap, seed=how.get('seed', 0), estimated=gap.name == 'auc'
      )
    result[gap.name] = Test(interval, p, PAIRED)
  return result


class _Gap(NamedTuple):
  """A difference of two strategies.

  Attributes:
    name: of `DIFFERENCES`.
    of: [D, S] weights of the subjects -> [D] differences.
    swap: what each subject adds to the difference, [S]; None without a test.
  """

  name: str
  of: Callable[[np.ndarray], np.ndarray]
  swap: Callable[[], np.ndarray | None]


def _ranked(both, sums) -> Iterator[_Gap]:
  """Of the two metrics that need no threshold."""
  first, second = both
  at = np.searchsorted(sums[0].subject, first.subject)
  size = len(sums[0].subject)

  def swap():
    scores = (first.probability, second.probability)
    return permutation.swap_contributions(*scores, first.label, at, size)

  (auc, precision), (other, base) = (
    _ranking(p, at, s) for p, s in zip(both, sums)
  )
  yield _Gap('auc', lambda w: auc(w) - other(w), swap)
  yield _Gap(
    'average_precision', lambda w: precision(w) - base(w), lambda: None
  )


def _ranking(p, at, sums):
  """AUC and average precision as functions of subject weights."""
  score = np.asarray(p.probability, np.float64)
  wins = ranking.pair_wins(score, p.label, at, len(sums.subject))
  return (
    lambda w: ranking.auc_draws(wins, sums.positives, sums.negatives, w),
    lambda w: ranking.average_precision_draws(score, p.label, at, w),
  )


def _shares(sums) -> Iterator[_Gap]:
  """Of ratios; those of one denominator have a test."""
  one, other = (metrics.ratios(s) for s in sums)
  for name in ('sensitivity_lesions', 'precision', 'fp_per_scan'):
    (top, bottom), (less, base) = one[name], other[name]
    same = bottom.sum() > 0 and np.array_equal(bottom, base)
    swap = (top - less) / bottom.sum() if same else None
    yield _Gap(
      name,
      lambda w, a=(top, bottom), b=(less, base): _ratio(w, *a) - _ratio(w, *b),
      lambda swap=swap: swap,
    )


def _ratio(weights, top, bottom):
  with np.errstate(invalid='ignore', divide='ignore'):
    return (weights @ top) / (weights @ bottom)


def compare(
  first: tables.PredictionTable,
  second: tables.PredictionTable,
  *,
  threshold: float = metrics.THRESHOLD,
  own: Mapping[str, own_metrics.Metric] | None = None,
  **how,
) -> Comparison:
  """All paired differences of two tables, with the tests reviewers ask for.

  Args:
    first: predictions of one strategy.
    second: of another, on the same test set.
    threshold: strictly above.
    own: name -> metric of the user; its difference has an interval but no p,
      which would take thousands of calls.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.

  Raises:
    InputError: other test set, kind, fold hash, keys, labels or scans.
  """
  tables.same_test(first, second)
  a = first.predictions
  b = tables.align(a, second.predictions)
  tests = paired(a, b, first.scans, threshold=threshold, **how)
  level = how.get('level', 0.95)
  tests['delong'] = classical.delong(
    a.probability, b.probability, a.label, level=level
  )
  right = [(p.probability > threshold) == (a.label == 1) for p in (a, b)]
  accuracy = float(np.mean(right[0]) - np.mean(right[1])) if len(a.key) else 0
  tests['mcnemar'] = Test(
    Interval(accuracy, None, None),
    classical.mcnemar(*right),
    'independent candidates',
  )
  if first.kind == tables.OUT_OF_FOLD and first.fold_of is not None:
    tests['nadeau_bengio'] = _over_folds(a, b, first.fold_of, level)
  for name, metric in (own or {}).items():
    gap = own_metrics.difference(metric, a, b, first.scans, level=level)
    tests[name] = Test(gap, None, PAIRED)
  size = len(np.unique(first.scans.subject))
  return Comparison(
    first=first.strategy,
    second=second.strategy,
    test=first.test,
    num_subjects=size,
    tests=tests,
    simulated=first.simulated or second.simulated,
    kind=first.kind,
    first_label=first.strategy_label,
    second_label=second.strategy_label,
    test_label=first.test_label,
  )


class Lacking(NamedTuple):
  """See `power`: what a difference of AUC would take to be decided."""

  needed: int
  detectable: float


def lacking(
  one: Comparison, *, level: float = 0.95, family: int = 1
) -> Lacking | None:
  """Subjects for the AUC difference seen, and what these subjects can show.

  Args:
    one: paired over subjects.
    level: of its intervals.
    family: pairs that Holm's next step holds.

  Returns:
    None where the difference is 0 or has no interval.
  """
  gap = one.tests['auc'].difference
  if not gap.value or gap.low is None or gap.low == gap.high:
    return None
  size, strict = one.num_subjects, 1 - (1 - level) / family
  error = power.error_of(gap.low, gap.high, size, level=level)
  return Lacking(
    power.subjects_needed(gap.value, error, size, level=strict),
    power.detectable(error, size, level=strict),
  )


def _over_folds(a, b, fold_of, level) -> Test:
  """AUC of each fold, compared as the folds of one cross-validation."""
  scores, folds = [], np.unique(fold_of)
  for fold in folds:
    mine = fold_of == fold
    one = [metrics.auc(p.probability[mine], a.label[mine]) for p in (a, b)]
    if None in one:
      gap = Interval(None, None, None, f'one class only in fold {fold}')
      return Test(gap, None, 'normal fold differences')
    scores.append(one)
  share = 1 / max(len(folds) - 1, 1)  # test over training subjects
  return classical.nadeau_bengio(
    *np.array(scores).T, test_over_train=share, level=level
  )


def all_pairs(
  run: Sequence[tables.PredictionTable], **options
) -> list[Comparison]:
  """`compare` of every two strategies with the same test set and kind."""
  return [
    compare(first, second, **options)
    for first, second in itertools.combinations(run, 2)
    if (first.test, first.kind) == (second.test, second.kind)
  ]


def removed_by(
  before: Predictions,
  after: Predictions,
  *,
  threshold: float = metrics.THRESHOLD,
) -> np.ndarray:
  """False candidates of `before` that `after` removes, as row indices.

  Mimics that `before` calls a microbleed and `after` does not, the largest
  drop of likelihood first. Indices are into `before`.

  Args:
    before: N candidates.
    after: the same ones, in any order.
    threshold: strictly above is a microbleed.
  """
  after = tables.align(before, after)
  a, b = before.probability, after.probability
  gone = (before.label == 0) & (a > threshold) & (b <= threshold)
  at = np.flatnonzero(gone)
  return at[np.argsort(b[at] - a[at], kind='stable')]


def worst_errors(
  predictions: Predictions, *, threshold: float = metrics.THRESHOLD
) -> np.ndarray:
  """Microbleeds that were lost, then mimics that were kept, worst first."""
  p, y = predictions.probability, predictions.label
  lost = np.flatnonzero((y == 1) & (p <= threshold))
  kept = np.flatnonzero((y == 0) & (p > threshold))
  return np.concatenate(
    [
      lost[np.argsort(p[lost], kind='stable')],
      kept[np.argsort(-p[kept], kind='stable')],
    ]
  )
