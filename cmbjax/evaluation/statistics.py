"""Per-subject sums to intervals and paired tests.

Rule: the subject is the unit. A subject is drawn, swapped or left out with
all of its candidates; nothing here treats two patches of one subject as
independent, except the tests at the end, which say so.
"""

import itertools
import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse, special, stats

from cmbjax.errors import InputError

# Exact enumeration of all swaps up to this number of subjects (2^14 signs).
_EXACT_SUBJECTS = 14
_CHUNK = 1_000_000  # numbers per block of draws: 8 MB stay in the cache
_UNDEFINED_SHARE = 0.05
# Between units of one subject, only where nothing can be estimated [ours].
CORRELATION = 0.1


class Interval(NamedTuple):
  """A number with its interval.

  Attributes:
    value: the estimate, None when it is not defined.
    low: lower bound, None when there is none.
    high: upper bound, None when there is none.
    note: '' or why something is undefined or uncertain.
  """

  value: float | None
  low: float | None
  high: float | None
  note: str = ''


class Test(NamedTuple):
  """Difference with interval, p value and what the test assumes."""

  difference: Interval
  p: float | None
  assumption: str

  __test__ = False  # not a pytest class


class Resampling(NamedTuple):
  """How whole subjects are left out or drawn.

  Attributes:
    method: 'jackknife' (default everywhere) or 'bootstrap'.
    weights: [D, S] how often each subject is in each draw. The jackknife has
      one draw per subject, without that subject.
    level: of the intervals, for example 0.95.
  """

  method: str
  weights: np.ndarray
  level: float


def generator(seed: int, name: str) -> np.random.Generator:
  """A random stream of its own for each purpose."""
  return np.random.default_rng([seed, zlib.crc32(name.encode())])


def subject_weights(num_subjects: int, *, draws: int, seed: int) -> np.ndarray:
  """How often each subject is in each bootstrap draw, [D, S] float64.

  Args:
    num_subjects: S.
    draws: D.
    seed: of the draws.
  """
  share = np.full(num_subjects, 1 / num_subjects)
  rng = generator(seed, 'bootstrap')
  return rng.multinomial(num_subjects, share, size=draws).astype(float)


def resampling(
  num_subjects: int,
  *,
  method: str = 'jackknife',
  draws: int = 2000,
  seed: int = 0,
  level: float = 0.95,
) -> Resampling:
  """The weights of one method; `draws` and `seed` are of the bootstrap.

  Args:
    num_subjects: S.
    method: 'jackknife' or 'bootstrap'.
    draws: D of the bootstrap.
    seed: of the bootstrap.
    level: of the intervals.

  Raises:
    InputError: for another method.
  """
  if method == 'jackknife':
    weights = np.ones((num_subjects, num_subjects)) - np.eye(num_subjects)
  elif method == 'bootstrap':
    weights = subject_weights(num_subjects, draws=draws, seed=seed)
  else:
    raise InputError(
      f"intervals: method '{method}' is not known; use jackknife or bootstrap."
    )
  return Resampling(method, weights, level)


def interval(
  value: float | None,
  draws: np.ndarray,
  how: Resampling,
  *,
  scale: str = 'plain',
) -> Interval:
  """Interval from the values of all draws, by the method of `how`.

  Args:
    value: the estimate; None gives an empty interval.
    draws: [D] values; NaN where a draw is undefined.
    how: the resampling that made the draws.
    scale: 'logit' for an AUC, 'log' for a rate, 'plain' for a difference;
      used by the jackknife, the percentile needs none.
  """
  size = how.weights.shape[1]
  if value is None:
    return Interval(None, None, None, 'not defined')
  if size < 2:
    return Interval(value, None, None, 'one subject, so no interval')
  if how.method == 'bootstrap':
    return percentile_interval(value, draws, level=how.level, num_subjects=size)
  return jackknife_interval(value, draws, level=how.level, scale=scale)


def jackknife_interval(
  value: float, left_out: np.ndarray, *, level: float, scale: str
) -> Interval:
  """Student t interval from leaving out each subject once (Tukey 1958).

  On the logit or log scale, so that the interval stays in range and is not
  symmetric; the degrees of freedom come from how unequal the subjects'
  influence is (see `spread`). benchmarks/coverage.py measures it against the
  percentile bootstrap, which covers too little for fewer than 30 subjects.

  Args:
    value: the estimate.
    left_out: [S] the estimate without each subject; NaN where undefined.
    level: for example 0.95.
    scale: 'logit', 'log' or 'plain'.
  """
  size = len(left_out)
  if not np.all(np.isfinite(left_out)):
    return Interval(value, None, None, 'rests on one subject, so no interval')
  ends = {'logit': (0.0, 1.0), 'log': (0.0, np.inf)}.get(
    scale, (-np.inf, np.inf)
  )
  if value in ends:
    return Interval(value, None, None, 'at the end of its range')
  forward, back, slope = _SCALES[scale]
  if np.any((left_out <= ends[0]) | (left_out >= ends[1])):
    # No logit there: the delta method at the estimate instead.
    error, freedom = spread(left_out)
    error = error * slope(value)
  else:
    error, freedom = spread(forward(left_out))
  if error == 0 and scale == 'plain' and value == 0:
    return Interval(0.0, 0.0, 0.0, 'the same in every subject')
  if error <= 1e-12:
    note = 'no variation between subjects, so no interval'
    return Interval(float(value), None, None, note)
  half = special.stdtrit(freedom, 0.5 + level / 2) * error
  low, high = back(forward(value) - half), back(forward(value) + half)
  note = f'only {size} subjects' if size < 5 else ''
  return Interval(float(value), float(low), float(high), note)


def spread(left_out: np.ndarray) -> tuple[float, float]:
  """Jackknife standard error and its degrees of freedom.

  The degrees of freedom are Satterthwaite's (1946) for a sum of squares with
  unequal variances, from the fourth moment of the influences d:
  3 (sum d^2)^2 / sum d^4 - 2, at least 2 and at most S - 1.
  """
  size = len(left_out)
  d = left_out - left_out.mean()
  error = math.sqrt((size - 1) / size * np.sum(d**2))
  fourth = np.sum(d**4)
  if fourth == 0:
    return error, size - 1.0
  freedom = 3 * np.sum(d**2) ** 2 / fourth - 2
  return error, float(min(max(freedom, 2.0), size - 1.0))


# Forward, back, and slope of each scale.
_SCALES = {
  'plain': (lambda x: x, lambda x: x, lambda x: 1.0),
  'logit': (special.logit, special.expit, lambda x: 1 / (x * (1 - x))),
  'log': (np.log, np.exp, lambda x: 1 / x),
}


def percentile_interval(
  value: float,
  draws: np.ndarray,
  *,
  level: float,
  num_subjects: int,
) -> Interval:
  """Percentile interval of bootstrap draws, widened for few subjects.

  The plain percentile interval is too narrow for n < 40 because it uses the
  normal quantile and the divisor n. Hesterberg (2015, The American
  Statistician 69:371, section 3.3) reads the percentiles at
  Phi(sqrt(n/(n-1)) t_{n-1}) instead.

  Args:
    value: the estimate.
    draws: [D] bootstrap values; NaN where a draw is undefined.
    level: for example 0.95.
    num_subjects: number of clusters that were drawn, at least 2.
  """
  defined = draws[np.isfinite(draws)]
  if not len(defined):
    return Interval(value, None, None, 'undefined in every bootstrap draw')
  n = num_subjects
  tail = stats.t.ppf((1 - level) / 2, n - 1) * math.sqrt(n / (n - 1))
  alpha = stats.norm.cdf(tail)
  low, high = np.quantile(defined, [alpha, 1 - alpha])
  notes = []
  lost = 1 - len(defined) / len(draws)
  if lost > _UNDEFINED_SHARE:
    notes.append(f'undefined in {100 * lost:.0f} % of the bootstrap draws')
  if n < 5:
    notes.append(f'only {n} subjects')
  return Interval(float(value), float(low), float(high), '; '.join(notes))


def difference_interval(
  value: float, draws: Sequence[np.ndarray], how: Sequence[Resampling]
) -> Interval:
  """Interval of a difference between two independent sets of subjects.

  Args:
    value: first minus second.
    draws: values of the draws of each set.
    how: resampling of each set, of one method, at least two subjects each.
  """
  sizes = [part.weights.shape[1] for part in how]
  if how[0].method == 'bootstrap':
    return percentile_interval(
      value,
      draws[0] - draws[1],
      level=how[0].level,
      num_subjects=min(sizes),
    )
  if not all(np.all(np.isfinite(part)) for part in draws):
    return Interval(value, None, None, 'rests on one subject, so no interval')
  spreads = [spread(part) for part in draws]
  variance = sum(error**2 for error, _ in spreads)
  if variance == 0:
    note = 'no variation between subjects, so no interval'
    return Interval(value, None, None, note)
  freedom = variance**2 / sum(e**4 / f for e, f in spreads)  # Welch 1947
  half = special.stdtrit(freedom, 0.5 + how[0].level / 2) * math.sqrt(variance)
  note = f'only {min(sizes)} subjects' if min(sizes) < 5 else ''
  return Interval(value, float(value - half), float(value + half), note)


def ratio_interval(
  numerator: np.ndarray,
  denominator: np.ndarray,
  how: Resampling,
  *,
  proportion: bool,
  empty: str,
) -> Interval:
  """Interval of sum(numerator) / sum(denominator) over subjects.

  Args:
    numerator: [S] sums per subject.
    denominator: [S] sums per subject.
    how: from `resampling`.
    proportion: True when the ratio lies in 0..1.
    empty: the note when the denominator is zero.
  """
  total = denominator.sum()
  if total == 0:
    return Interval(None, None, None, empty)
  value = float(numerator.sum() / total)
  used = denominator > 0
  if used.sum() > 1:
    if numerator.sum() == 0:
      return end_of_range(0.0, denominator, how.level, proportion=proportion)
    if proportion and numerator.sum() == total:
      return end_of_range(1.0, denominator, how.level, proportion=True)
  weights = how.weights[:, used]
  if how.method == 'jackknife':
    weights = weights[used]
  top, bottom = weights @ numerator[used], weights @ denominator[used]
  with np.errstate(invalid='ignore', divide='ignore'):
    draws = np.where(bottom > 0, top / bottom, np.nan)
  if proportion and how.method == 'jackknife' and len(draws) > 1:
    return share_interval(value, draws, float(total), level=how.level)
  return interval(value, draws, how._replace(weights=weights), scale='log')


def mean_interval(
  values: np.ndarray, *, proportion: bool, empty: str, **how
) -> Interval:
  """Mean over subjects, which all weigh the same whatever they hold.

  Args:
    values: [S] one per subject that has one.
    proportion: True when values lie in 0..1.
    empty: the note when there is no value.
    how: `method`, `draws`, `seed` and `level` of `resampling`.
  """
  if not len(values):
    return Interval(None, None, None, empty)
  drawn = resampling(len(values), **how)
  value = float(values.mean())
  if len(values) > 1 and np.ptp(values) < 1e-12:
    note = 'no variation between subjects, so no interval'
    return Interval(value, None, None, note)
  total = np.maximum(drawn.weights.sum(1), 1)
  found = interval(value, drawn.weights @ values / total, drawn)
  if found.low is None or not proportion:
    return found
  return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))


def share_interval(
  value: float, left_out: np.ndarray, count: float, *, level: float
) -> Interval:
  """Clopper-Pearson with the effective number of units.

  Korn and Graubard (1998, Survey Methodology 24:193): the units are as many
  as would give the jackknife's standard error if they were independent,
  reduced by (z / t)^2 for few subjects. Holds up close to 0 and 1, where
  all misses may sit in one subject.

  Args:
    value: the share, neither 0 nor 1.
    left_out: [S] the share without each subject, S at least 2.
    count: the denominator; the effective number is at most that.
    level: for example 0.95.
  """
  if not np.all(np.isfinite(left_out)):
    return Interval(value, None, None, 'rests on one subject, so no interval')
  size, tail = len(left_out), 0.5 + level / 2
  error, _ = spread(left_out)
  units = count
  if error > 0:
    shrink = special.ndtri(tail) / special.stdtrit(size - 1, tail)
    units = min(count, value * (1 - value) / error**2 * shrink**2)
  hits, misses = value * units, (1 - value) * units
  low = special.betaincinv(hits, misses + 1, 1 - tail)
  high = special.betaincinv(hits + 1, misses, tail)
  note = f'only {size} subjects' if size < 5 else ''
  return Interval(value, float(low), float(high), note)


def end_of_range(
  value: float, count: np.ndarray, level: float, *, proportion: bool
) -> Interval:
  """Interval where everything (1) or nothing (0) was found.

  No resampling can widen there, so the exact bound (Clopper and Pearson
  1934; Poisson for a rate) is given for the effective number of units under
  an assumed intraclass correlation.

  Args:
    value: 0 or 1.
    count: [S] units per subject.
    level: for example 0.95.
    proportion: False for a rate.
  """
  alpha, units = (1 - level) / 2, effective_units(count)
  note = f'exact bound, intraclass correlation {CORRELATION:g} assumed'
  if value == 1:
    return Interval(1.0, alpha ** (1 / units), 1.0, f'all of them: {note}')
  high = -math.log(alpha) / units
  if proportion:
    high = 1 - alpha ** (1 / units)
  return Interval(0.0, 0.0, high, f'none at all: {note}')


def effective_units(count: np.ndarray) -> float:
  """Units that carry independent information (Kish 1965, design effect).

  Args:
    count: [S] units per subject.
  """
  return float(np.sum(count / (1 + np.maximum(count - 1, 0) * CORRELATION)))


def pair_wins(
  score: np.ndarray,
  label: np.ndarray,
  subject: np.ndarray,
  num_subjects: int,
) -> np.ndarray:
  """Pairs won, [S, S]: positives of subject s above negatives of subject t.

  A tie counts one half, so that sum / (P N) is the AUC (Mann and Whitney
  1947) and, with weights w, w' U w is the numerator of the AUC of a draw.

  Args:
    score: [N] float.
    label: [N] int, 0 or 1.
    subject: [N] int in 0..S-1.
    num_subjects: S.
  """
  wins = np.zeros((num_subjects, num_subjects))
  positive = np.flatnonzero(label == 1)
  # Sorted queries keep the binary searches in the cache.
  positive = positive[np.argsort(score[positive], kind='stable')]
  owner, queries = subject[positive], score[positive]
  negative = np.flatnonzero(label == 0)
  negative = negative[np.lexsort((score[negative], subject[negative]))]
  edges = np.searchsorted(subject[negative], np.arange(num_subjects + 1))
  tied = np.isin(queries, score[negative]).any()
  for t in range(num_subjects):
    other = score[negative[edges[t] : edges[t + 1]]]
    if len(other) and len(queries):
      won = np.searchsorted(other, queries, 'left')
      if tied:
        won = 0.5 * (won + np.searchsorted(other, queries, 'right'))
      wins[:, t] = np.bincount(owner, won, minlength=num_subjects)
  return wins


def auc_draws(
  wins: np.ndarray,
  positives: np.ndarray,
  negatives: np.ndarray,
  weights: np.ndarray,
) -> np.ndarray:
  """AUC of each draw, [D]; NaN where a draw has one class only.

  Args:
    wins: [S, S] pairs won between the positives of one subject and the
      negatives of another.
    positives: [S] of each subject.
    negatives: [S] of each subject.
    weights: [D, S] of each subject in each draw.
  """
  pairs = (weights @ positives) * (weights @ negatives)
  won = np.einsum('ds,ds->d', weights @ wins, weights)
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.where(pairs > 0, won / pairs, np.nan)


def average_precision_draws(
  score: np.ndarray,
  label: np.ndarray,
  subject: np.ndarray,
  weights: np.ndarray,
) -> np.ndarray:
  """Average precision of each draw, [D]; NaN without positives.

  AP = sum_k (R_k - R_{k-1}) P_k over the distinct scores, the step-wise sum
  without interpolation. Scores without a positive add nothing to the sum
  and are merged into the next one that has a positive.

  Args:
    score: [N].
    label: [N] 1 for a microbleed.
    subject: [N] whole numbers 0..S-1.
    weights: [D, S] of each subject in each draw.
  """
  if not np.any(label == 1):
    return np.full(len(weights), np.nan)
  order = np.argsort(-score, kind='stable')
  score, label, subject = score[order], label[order], subject[order]
  ties = np.concatenate([[0], np.cumsum(score[1:] != score[:-1])])
  steps = np.unique(ties[label == 1])  # tied groups with a positive
  step = np.searchsorted(steps, ties)
  used = step < len(steps)  # below the last positive nothing counts
  shape = (len(steps), weights.shape[1])

  def counts(mask):
    cell = (np.ones(mask.sum()), (step[mask], subject[mask]))
    return sparse.csr_array(cell, shape=shape)

  positive, everything = counts(used & (label == 1)), counts(used)
  size = max(1, _CHUNK // len(steps))
  blocks = []
  for start in range(0, len(weights), size):
    block = np.ascontiguousarray(weights[start : start + size].T)
    gain = positive @ block  # [G, d]
    hits = np.cumsum(gain, axis=0)
    called = np.cumsum(everything @ block, axis=0)
    precision = hits / np.maximum(called, 1)
    total = np.where(hits[-1] > 0, hits[-1], np.nan)
    blocks.append(np.sum(gain * precision, axis=0) / total)
  return np.concatenate(blocks)


def swap_contributions(
  first: np.ndarray,
  second: np.ndarray,
  label: np.ndarray,
  subject: np.ndarray,
  num_subjects: int,
) -> np.ndarray:
  """What each subject adds to AUC(first) - AUC(second), [S].

  Scores become mid-ranks within each model first, so that a difference of
  calibration alone is no difference (Bandos, Rockette and Gur 2005, Stat Med
  24:2873). Swapping the two models within a set of subjects then turns the
  signs of their contributions: with signs e the difference is sum_s e_s c_s
  exactly, because the terms of pairs within the swapped set cancel.

  Args:
    first: [N] scores.
    second: [N] scores of the same candidates.
    label: [N] 1 for a microbleed.
    subject: [N] whole numbers 0..S-1.
    num_subjects: S.
  """
  positive, negative = label == 1, label == 0
  pairs = positive.sum() * negative.sum()
  if pairs == 0:
    return np.full(num_subjects, np.nan)
  ranks = [stats.rankdata(first), stats.rankdata(second)]
  total = np.zeros(num_subjects)
  for i, j in itertools.product((0, 1), repeat=2):
    won, beaten = margins(ranks[i][positive], ranks[j][negative])
    # Model 0 counts for, model 1 against, on each side of the pair.
    total += (1 - 2 * i) * np.bincount(
      subject[positive], won, minlength=num_subjects
    )
    total += (1 - 2 * j) * np.bincount(
      subject[negative], beaten, minlength=num_subjects
    )
  return total / (2 * pairs)


def margins(
  positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Pairs won by each positive [P], and over each negative [N]."""
  low, high = np.sort(negative), np.sort(positive)
  won = 0.5 * (
    np.searchsorted(low, positive, 'left')
    + np.searchsorted(low, positive, 'right')
  )
  beaten = len(positive) - 0.5 * (
    np.searchsorted(high, negative, 'left')
    + np.searchsorted(high, negative, 'right')
  )
  return won, beaten


def sign_flip(
  contribution: np.ndarray,
  *,
  draws: int = 9999,
  seed: int = 0,
  estimated: bool = False,
) -> float | None:
  """Two-sided p of sum(contribution) under random signs of the subjects.

  The permutation swaps the two strategies within a subject. All swaps are
  counted for up to 14 subjects; else (b + 1) / (m + 1) of `draws` random
  ones (Phipson and Smyth 2010).

  Args:
    contribution: [S] what each subject adds to the difference.
    draws: random swaps beyond 14 subjects.
    seed: of the swaps.
    estimated: True when ranks over all subjects made the contributions (AUC).
      The test is exact without; with ranks its level is 5-6 % instead of 5 %
      for few subjects, so the swapped sums are widened by sqrt(S / (S - 1)).
  """
  c = contribution[contribution != 0]
  if not np.all(np.isfinite(c)):
    return None
  if not len(c):
    return 1.0
  observed = abs(c.sum())
  slack = 1e-9 * np.abs(c).sum()  # equal sums must count as equal
  if estimated and len(c) > 1:
    c = c * math.sqrt(len(c) / (len(c) - 1))
  if len(c) <= _EXACT_SUBJECTS:
    bits = np.arange(2 ** len(c))[:, None] >> np.arange(len(c)) & 1
    return float(np.mean(np.abs((1 - 2 * bits) @ c) >= observed - slack))
  rng = generator(seed, 'sign flip')
  signs = 1 - 2 * rng.integers(0, 2, (draws, len(c)))
  more = np.sum(np.abs(signs @ c) >= observed - slack)
  return float((more + 1) / (draws + 1))


def group_permutation(
  wins: np.ndarray,
  positives: np.ndarray,
  negatives: np.ndarray,
  in_first: np.ndarray,
  *,
  draws: int = 9999,
  seed: int = 0,
) -> float | None:
  """Two-sided p of a difference of AUC between two groups of subjects.

  Subjects change groups; one model made all scores. All regroupings are
  counted where there are no more than the swaps of `sign_flip`; else
  (b + 1) / (m + 1) of `draws` random ones.

  Args:
    wins: [S, S] of `pair_wins` over all subjects of both groups.
    positives: [S].
    negatives: [S].
    in_first: [S] bool.
    draws: random regroupings, where not all are counted.
    seed: of the random ones.
  """

  def difference(group):
    a = auc_draws(wins, positives, negatives, group)
    return a - auc_draws(wins, positives, negatives, 1 - group)

  group = np.asarray(in_first, float)
  observed = difference(group[None])[0]
  if not np.isfinite(observed):
    return None
  size, first = len(group), int(group.sum())
  exact = math.comb(size, first) <= 2**_EXACT_SUBJECTS
  if exact:
    chosen = np.array(list(itertools.combinations(range(size), first)))
    groups = np.zeros((len(chosen), size))
    np.put_along_axis(groups, chosen, 1.0, axis=1)
  else:
    rng = generator(seed, 'regroup')
    groups = rng.permuted(np.tile(group, (draws, 1)), axis=1)
  values = difference(groups)
  values = values[np.isfinite(values)]
  more = np.sum(np.abs(values) >= abs(observed) - 1e-12)
  if exact:
    return float(more / len(values))
  return float((more + 1) / (len(values) + 1))


def holm(p: Sequence[float | None]) -> list[float | None]:
  """Adjusted p values of one family (Holm 1979); None stays None."""
  known = [i for i, value in enumerate(p) if value is not None]
  known.sort(key=lambda i: p[i])
  adjusted: list[float | None] = [None] * len(p)
  largest = 0.0
  for rank, i in enumerate(known):
    largest = max(largest, min(1.0, (len(known) - rank) * p[i]))
    adjusted[i] = largest
  return adjusted
