"""Two prediction tables to paired differences, tests and verdicts.

Rule: strategies are compared on the same candidates of the same subjects; a
claim is decided only when the interval and the permutation test agree.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from cmbjax.evaluation import classical, metrics, statistics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from cmbjax.evaluation.statistics import Interval, Test

REPRODUCED = 'reproduced'
NOT_REPRODUCED = 'not reproduced'
UNDECIDED = 'undecided'

# "Not significantly better" is taken as a gain of AUC below this [ours].
MARGIN = 0.02
# "Removes many FPs" is taken as more than half of them [ours].
MANY = 0.5
# A difference is taken as found when it would be, four times in five.
POWER = 0.8

PAIRED = 'paired over subjects'
UNPAIRED = 'different subjects'


class Claim(NamedTuple):
  """One ordering: `first` lies above `second`, or does not.

  Attributes:
    text: the claim in words.
    first: (strategy, test set).
    second: (strategy, test set); None for a claim about `first` alone.
    kind: 'above', 'not above' or 'many removed'.
    inferred: True when the paper does not name the reference of "higher".
  """

  text: str
  first: tuple[str, str]
  second: tuple[str, str] | None
  kind: str = 'above'
  inferred: bool = False


class Ordering(NamedTuple):
  """A claim and what this study says of it.

  Attributes:
    claim: in words.
    rows: for example 'row 4 above row 6'.
    metric: 'auc' or 'fp_removed'.
    difference: first minus second (or the value of a claim about one row).
    p: permutation over subjects, None when there is none.
    p_holm: p adjusted for all claims of the family.
    fp_difference: of FP per scan, first minus second, None when unpaired.
    verdict: reproduced, not reproduced or undecided.
    reason: why, one sentence.
    design: 'paired over subjects' or 'different subjects'.
    by_seed: the difference of every training seed alone.
    needed: subjects at which a difference as large as the one seen would be
      decided four times in five; None where that is not known.
  """

  claim: str
  rows: str
  metric: str
  difference: Interval
  p: float | None
  p_holm: float | None
  fp_difference: Interval | None
  verdict: str
  reason: str
  design: str
  by_seed: tuple[float | None, ...] = ()
  needed: int | None = None


class Comparison(NamedTuple):
  """Two strategies on one test set; differences are first minus second.

  `tests` holds auc, average_precision, sensitivity_lesions, precision and
  fp_per_scan (paired over subjects), delong and mcnemar (candidates taken
  as independent) and, out of fold, nadeau_bengio (AUC of the folds), each a
  `Test`.
  """

  first: str
  second: str
  test: str
  num_subjects: int
  tests: dict[str, Test]
  simulated: bool = False
  kind: str = tables.ENSEMBLE


# Rows of Figure 3 of the paper (Chen 2019, ISMRM #0671).
ROWS = {
  ('7t', 'btumor_7t'): 1,
  ('7t', 'btumor_3t'): 2,
  ('7t', 'ccm_3t'): 3,
  ('finetuned', 'btumor_3t'): 4,
  ('finetuned', 'ccm_3t'): 5,
  ('scratch', 'btumor_3t'): 6,
  ('scratch', 'ccm_3t'): 7,
  ('combined', 'btumor_7t'): 8,
  ('combined', 'btumor_3t'): 9,
  ('combined', 'ccm_3t'): 10,
}
_AT = {number: key for key, number in ROWS.items()}


def _claim(text, first, second, kind='above', *, inferred=False):
  second = _AT[second] if second else None
  return Claim(text, _AT[first], second, kind, inferred)


CLAIMS = (
  _claim('The 7T model does a little worse on 3T than on 7T', 1, 2),
  _claim('Fine-tuning beats training from scratch on 3T', 4, 6),
  _claim('Fine-tuning beats training from scratch on CCM', 5, 7),
  _claim('Fine-tuning beats the 7T model on 3T', 4, 2, inferred=True),
  _claim('Fine-tuning beats the 7T model on CCM', 5, 3, inferred=True),
  _claim('From scratch is below the 7T model on 3T', 2, 6, inferred=True),
  _claim('From scratch is below the 7T model on CCM', 3, 7, inferred=True),
  _claim('Combined training beats the 7T model on 3T', 9, 2),
  _claim('Combined is not better than fine-tuned on 3T', 9, 4, 'not above'),
  _claim('Combined training beats the 7T model on CCM', 10, 3),
  _claim('Combined training beats fine-tuning on CCM', 10, 5),
  _claim('CCM is the worst test set: 7T model', 2, 3),
  _claim('CCM is the worst test set: fine-tuned', 4, 5),
  _claim('CCM is the worst test set: from scratch', 6, 7),
  _claim('CCM is the worst test set: combined', 9, 10),
  _claim('Combined removes many FPs on CCM', 10, None, 'many removed'),
)


def paired(
  first: Predictions,
  second: Predictions,
  scans: ScanCounts,
  *,
  threshold: float = metrics.THRESHOLD,
  **how,
) -> dict[str, Test]:
  """Differences first - second on the same candidates.

  Intervals: both strategies on the same subjects left out or drawn. p:
  strategies swapped within subjects; a ratio without fixed denominator
  (precision) and average precision get an interval only. `how` is `method`,
  `draws`, `seed` and `level` of `statistics.resampling`.

  Raises:
    InputError: when keys, labels or subjects differ.
  """
  second = tables.align(first, second)
  for one in (first, second):
    tables.check(one, scans)
  sums = [
    metrics.clusters(p, scans, threshold=threshold) for p in (first, second)
  ]
  subject, size = sums[0].subject, len(sums[0].subject)
  at = np.searchsorted(subject, first.subject)
  seed = how.get('seed', 0)
  how = statistics.resampling(size, **how)
  weights, once = how.weights, np.ones((1, size))
  result = {}

  def add(name, value, drawn, contribution):
    if not np.isfinite(value):
      gap = Interval(None, None, None, 'not defined for both strategies')
      result[name] = Test(gap, None, PAIRED)
      return
    interval = statistics.interval(float(value), drawn, how)
    p = None
    if contribution is not None and size > 1:
      p = statistics.sign_flip(contribution, seed=seed, estimated=name == 'auc')
    result[name] = Test(interval, p, PAIRED)

  curves = [_ranking(p, at, s) for p, s in zip((first, second), sums)]
  for k, name in enumerate(('auc', 'average_precision')):
    (value,), drawn = (
      curves[0][k](used) - curves[1][k](used) for used in (once, weights)
    )
    swap = None
    if name == 'auc':
      scores = (first.probability, second.probability)
      swap = statistics.swap_contributions(*scores, first.label, at, size)
    add(name, value, drawn, swap)
  parts = [metrics.ratios(s) for s in sums]
  for name in ('sensitivity_lesions', 'precision', 'fp_per_scan'):
    (top, bottom), (other, base) = (part[name] for part in parts)
    (value,), drawn = (
      _ratio(used, top, bottom) - _ratio(used, other, base)
      for used in (once, weights)
    )
    same = bottom.sum() > 0 and np.array_equal(bottom, base)
    swap = (top - other) / bottom.sum() if same else None
    add(name, value, drawn, swap)
  return result


def _ranking(p, at, sums):
  """AUC and average precision as functions of subject weights."""
  score = np.asarray(p.probability, np.float64)
  wins = statistics.pair_wins(score, p.label, at, len(sums.subject))
  return (
    lambda w: statistics.auc_draws(wins, sums.positives, sums.negatives, w),
    lambda w: statistics.average_precision_draws(score, p.label, at, w),
  )


def _ratio(weights, top, bottom):
  with np.errstate(invalid='ignore', divide='ignore'):
    return (weights @ top) / (weights @ bottom)


def compare(
  first: tables.Table,
  second: tables.Table,
  *,
  threshold: float = metrics.THRESHOLD,
  **how,
) -> Comparison:
  """All paired differences of two tables, with the tests reviewers ask for.

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
  size = len(np.unique(first.scans.subject))
  return Comparison(
    first=first.strategy,
    second=second.strategy,
    test=first.test,
    num_subjects=size,
    tests=tests,
    simulated=first.simulated or second.simulated,
    kind=first.kind,
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
  share = 1 / max(len(folds) - 1, 1)
  return classical.nadeau_bengio(
    *np.array(scores).T, test_over_train=share, level=level
  )


def all_pairs(run: Sequence[tables.Table], **options) -> list[Comparison]:
  """`compare` of every two strategies with the same test set and kind."""
  return [
    compare(first, second, **options)
    for first, second in itertools.combinations(run, 2)
    if (first.test, first.kind) == (second.test, second.kind)
  ]


def orderings(
  predictions: Mapping[tuple[str, str], Predictions],
  scans: Mapping[str, ScanCounts],
  *,
  by_seed: Mapping[tuple[str, str], np.ndarray] | None = None,
  claims: Sequence[Claim] = CLAIMS,
  threshold: float = metrics.THRESHOLD,
  margin: float = MARGIN,
  **how,
) -> list[Ordering]:
  """What this study says of the paper's orderings (method: A19, Figure 3).

  Claims whose rows are not all there are left out.

  Args:
    predictions: (strategy, test set) -> likelihoods, averaged over seeds.
    scans: test set -> all its scans.
    by_seed: (strategy, test set) -> [S, N] likelihoods of every seed alone.
    claims: what to judge.
    threshold: for FP per scan.
    margin: gain of AUC that still counts as "not better".
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`; a
      claim needs p <= 1 - level as well.
  """
  level = how.get('level', 0.95)
  judged = []
  for claim in claims:
    if claim.first not in predictions:
      continue
    if claim.second is not None and claim.second not in predictions:
      continue
    if claim.kind == 'many removed':
      judged.append(_removed(claim, predictions, scans, threshold, how))
      continue
    first, second = predictions[claim.first], predictions[claim.second]
    fp, design = None, PAIRED
    if claim.first[1] == claim.second[1]:
      counts = scans[claim.first[1]]
      tests = paired(first, second, counts, threshold=threshold, **how)
      test, fp = tests['auc'], tests['fp_per_scan'].difference
      size = len(np.unique(counts.subject))
    else:
      test, size = _unpaired(first, second, **how)
      design = UNPAIRED
    verdict, reason, needed = _judge(
      claim, test, size, level=level, margin=margin
    )
    judged.append(
      Ordering(
        claim=claim.text + (' (our reading)' if claim.inferred else ''),
        rows=_rows(claim),
        metric='auc',
        difference=test.difference,
        p=test.p,
        p_holm=None,
        fp_difference=fp,
        verdict=verdict,
        reason=reason,
        design=design,
        by_seed=_seed_differences(claim, predictions, by_seed or {}),
        needed=needed,
      )
    )
  adjusted = statistics.holm([one.p for one in judged])
  return [one._replace(p_holm=p) for one, p in zip(judged, adjusted)]


def _rows(claim: Claim) -> str:
  def name(key):
    return f'row {ROWS[key]}' if key in ROWS else ' on '.join(key)

  if claim.second is None:
    return name(claim.first)
  return f'{name(claim.first)} {claim.kind} {name(claim.second)}'


def _unpaired(first, second, **how) -> tuple[Test, int]:
  """Difference of AUC of one model between two sets of subjects."""
  values, drawn, sizes, parts = [], [], [], []
  # Each set of subjects is drawn with a seed of its own.
  for own_seed, p in enumerate((first, second)):
    subject, at = np.unique(p.subject, return_inverse=True)
    size = max(len(subject), 1)
    sizes.append(len(subject))
    score = np.asarray(p.probability, np.float64)
    wins = statistics.pair_wins(score, p.label, at, size)
    classes = [np.bincount(at[p.label == k], minlength=size) for k in (1, 0)]
    seed = 2 * how.get('seed', 0) + own_seed
    parts.append(statistics.resampling(size, **how | {'seed': seed}))
    once = np.ones((1, size))
    values.append(statistics.auc_draws(wins, *classes, once)[0])
    drawn.append(statistics.auc_draws(wins, *classes, parts[-1].weights))
  value = float(values[0] - values[1])
  if not np.isfinite(value):
    gap = Interval(None, None, None, 'one class only in a test set')
    return Test(gap, None, UNPAIRED), min(sizes)
  if min(sizes) < 2:
    gap = Interval(value, None, None, 'one subject, so no interval')
    return Test(gap, None, UNPAIRED), min(sizes)
  gap = statistics.difference_interval(value, drawn, parts)
  p = _regroup(first, second, seed=how.get('seed', 0))
  return Test(gap, p, UNPAIRED), min(sizes)


def _regroup(first, second, *, seed) -> float | None:
  names = np.concatenate(
    [
      np.char.add('1 ', first.subject.astype(str)),
      np.char.add('2 ', second.subject.astype(str)),
    ]
  )
  label = np.concatenate([first.label, second.label])
  score = np.concatenate([first.probability, second.probability])
  subject, at = np.unique(names, return_inverse=True)
  size = len(subject)
  wins = statistics.pair_wins(score.astype(np.float64), label, at, size)
  positives, negatives = (
    np.bincount(at[label == k], minlength=size) for k in (1, 0)
  )
  in_first = np.char.startswith(subject, '1 ')
  return statistics.group_permutation(
    wins, positives, negatives, in_first, seed=seed
  )


def _removed(claim, predictions, scans, threshold, how) -> Ordering:
  p, counts = predictions[claim.first], scans[claim.first[1]]
  share = metrics.evaluate(p, counts, threshold=threshold, **how)['fp_removed']
  verdict, reason = UNDECIDED, f'the interval includes {100 * MANY:g} %'
  if share.low is None:
    reason = share.note
  elif share.low > MANY:
    verdict, reason = REPRODUCED, f'more than {100 * MANY:g} % are removed'
  elif share.high < MANY:
    verdict, reason = NOT_REPRODUCED, f'less than {100 * MANY:g} % are removed'
  return Ordering(
    claim=claim.text,
    rows=_rows(claim),
    metric='fp_removed',
    difference=share,
    p=None,
    p_holm=None,
    fp_difference=None,
    verdict=verdict,
    reason=reason,
    design='one row',
  )


def _seed_differences(claim, predictions, by_seed) -> tuple:
  """AUC of the first row minus the second, of each seed that both have."""
  sides = []
  for key in (claim.first, claim.second):
    label = predictions[key].label
    sides.append([metrics.auc(one, label) for one in by_seed.get(key, ())])
  return tuple(
    None if a is None or b is None else a - b for a, b in zip(*sides)
  )


def _judge(claim, test, size, *, level, margin) -> tuple[str, str, int | None]:
  """Verdict, reason and the subjects needed, of one claim about AUC."""
  gap = test.difference
  if gap.value is None or gap.low is None:
    return UNDECIDED, gap.note, None
  alpha, needed = 1 - level, None
  if claim.kind == 'not above' and gap.value < margin:
    seen = margin - gap.value
  else:
    seen = gap.value
  if seen:
    paired = test.assumption == PAIRED
    needed = subjects_needed(
      seen, _error(gap, level), size, level=level, paired=paired
    )
  # Swapping all subjects or none gives the same |difference|.
  smallest = 2.0 ** (1 - size)
  if test.assumption == PAIRED and smallest > alpha:
    return (
      UNDECIDED,
      (f'{size} subjects are too few: no p below {smallest:.2g} is possible'),
      needed,
    )
  significant = test.p is not None and test.p <= alpha
  if claim.kind == 'not above':
    if gap.high <= margin:
      return REPRODUCED, f'a gain above {margin:g} is excluded', None
    if gap.low > 0 and significant:
      return NOT_REPRODUCED, 'the interval lies above 0', None
    start = f'a gain above {margin:g} is not excluded'
  else:
    if significant and gap.low > 0:
      return REPRODUCED, 'the interval lies above 0', None
    if significant and gap.high < 0:
      return NOT_REPRODUCED, 'the interval lies below 0', None
    way = 'the claimed' if gap.value > 0 else 'the other'
    start = f'points {way} way' if gap.value else 'no difference at all'
    if significant != (gap.low > 0 or gap.high < 0):
      return (
        UNDECIDED,
        (f'{start}; the interval and the permutation do not agree'),
        needed,
      )
  return UNDECIDED, start + _power(needed, size), needed


def _power(needed: int | None, size: int) -> str:
  """What an undecided claim lacks."""
  if needed is None:
    return ''
  count = f'about {needed}' if needed < 10_000 else 'more than 10,000'
  return (
    f'; to decide on a difference as seen takes {count} subjects, here are '
    f'{size}'
  )


def _error(gap: Interval, level: float) -> float:
  """Standard error of a difference; the t of few subjects widens it."""
  return (gap.high - gap.low) / (2 * stats.norm.ppf(0.5 + level / 2))


def subjects_needed(
  difference: float,
  error: float,
  num_subjects: int,
  *,
  level: float = 0.95,
  power: float = POWER,
  paired: bool = True,
) -> int:
  """Subjects at which a difference is found with the given power.

  The error over subjects falls as 1 / sqrt(n), so that the usual z test
  (Lachin 1981, Control Clin Trials 2:93) needs
  n = S ((z_{1 - alpha / 2} + z_{power}) error / difference)^2.
  It takes the difference that was seen for the true one, which is itself
  uncertain: an order of magnitude, not a plan.

  Args:
    difference: that shall be found, not 0.
    error: standard error of the difference with `num_subjects`.
    num_subjects: S, of this study (of two sets: of the smaller one, when
      both grow alike).
    level: 1 - alpha of the two-sided test.
    power: how often it is found.
    paired: at least as many that swapping strategies can reach alpha at all.
  """
  quantiles = stats.norm.ppf(0.5 + level / 2) + stats.norm.ppf(power)
  count = num_subjects * (quantiles * error / difference) ** 2
  least = 1 + np.log2(1 / (1 - level)) if paired else 2
  return int(np.ceil(max(count, least) - 1e-9))


def removed_by(
  before: Predictions,
  after: Predictions,
  *,
  threshold: float = metrics.THRESHOLD,
) -> np.ndarray:
  """False candidates that fine-tuning removes (Figure 4), as row indices.

  Mimics that `before` calls a microbleed and `after` does not, the largest
  drop of likelihood first. Indices are into `before`.
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
