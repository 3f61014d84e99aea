"""Two score columns to the tests that reviewers know.

Rule: for reference only. These take candidates for independent, or folds for
normal, and every result says which; the main result swaps and leaves out
whole subjects (`statistics`).
"""

import math

import numpy as np
from scipy import special, stats

from cmbjax.evaluation import ranking
from cmbjax.evaluation.intervals import Interval, too_few
from cmbjax.evaluation.permutation import Test


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
  """Exact two-sided p of two correct/wrong columns, [N] bool each.

  Assumes independent examples. Edwards 1948; the binomial form.
  """
  only_first = int(np.sum(first & ~second))
  only_second = int(np.sum(~first & second))
  changed = only_first + only_second
  if changed == 0:
    return 1.0
  return float(stats.binomtest(only_first, changed, 0.5).pvalue)


def delong(
  first: np.ndarray,
  second: np.ndarray,
  label: np.ndarray,
  *,
  level: float = 0.95,
) -> Test:
  """Difference of two correlated AUCs (DeLong et al. 1988, Biometrics 44).

  Assumes independent examples, so it is too sure when a subject has many.

  Args:
    first: [N] scores.
    second: [N] scores of the same candidates.
    label: [N] 1 for a microbleed.
    level: of the interval.
  """
  assumption = 'independent candidates'
  positive, negative = label == 1, label == 0
  if positive.sum() < 2 or negative.sum() < 2:
    note = 'needs two candidates of each class'
    return Test(Interval(None, None, None, note), None, assumption)
  won, lost = [], []
  for score in (first, second):
    a, b = ranking.margins(score[positive], score[negative])
    won.append(a / negative.sum())  # [P] share of mimics below
    lost.append(b / positive.sum())  # [N] share of microbleeds above
  covariance = np.cov(won) / positive.sum() + np.cov(lost) / negative.sum()
  contrast = np.array([1.0, -1.0])
  variance = float(contrast @ covariance @ contrast)
  value = float(np.mean(won[0]) - np.mean(won[1]))
  if variance <= 1e-15:  # rounding: both give every candidate the same rank
    note = 'both models order the candidates alike'
    return Test(Interval(value, None, None, note), 1.0, assumption)
  error = math.sqrt(variance)
  half = float(stats.norm.ppf(0.5 + level / 2)) * error
  p = float(2 * stats.norm.sf(abs(value) / error))
  return Test(Interval(value, value - half, value + half), p, assumption)


def nadeau_bengio(
  first: np.ndarray,
  second: np.ndarray,
  *,
  test_over_train: float,
  level: float = 0.95,
) -> Test:
  """Corrected resampled t over fold scores (Nadeau and Bengio 2003, eq. 8).

  Training sets of folds overlap, so the variance 1/K is replaced by
  1/K + n_test / n_train.

  Args:
    first: [K] score of the first strategy per fold.
    second: [K] of the second.
    test_over_train: n_test / n_train, 1 / (K - 1) for K folds.
    level: for example 0.95.
  """
  assumption = 'normal fold differences'
  gap = np.asarray(first, float) - np.asarray(second, float)
  value = float(gap.mean())
  if len(gap) < 2:
    note = too_few(len(gap), 'fold')
    return Test(Interval(value, None, None, note), None, assumption)
  variance = gap.var(ddof=1) * (1 / len(gap) + test_over_train)
  if variance <= 1e-30:
    note = 'the difference is equal in all folds'
    return Test(Interval(value, None, None, note), None, assumption)
  error = math.sqrt(variance)
  freedom = len(gap) - 1
  half = float(special.stdtrit(freedom, 0.5 + level / 2)) * error
  p = float(2 * special.stdtr(freedom, -abs(value) / error))
  inside = Interval(value, value - half, value + half)
  if too_few(len(gap), 'fold'):
    inside = Interval(value, None, None, too_few(len(gap), 'fold'))
  return Test(inside, p, assumption)
