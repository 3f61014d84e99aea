"""Strategies swapped within whole subjects, or subjects regrouped, to p values.

Rule: a subject is swapped or regrouped with all of its candidates.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from cmbjax.evaluation.ranking import auc_draws, margins
from cmbjax.evaluation.statistics import Interval, generator

# Exact enumeration of all swaps up to this number of subjects (2^14 signs).
_EXACT_SUBJECTS = 14


class Test(NamedTuple):
  """Difference with interval, p value and what the test assumes."""

  difference: Interval
  p: float | None
  assumption: str

  __test__ = False  # not a pytest class


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
  # Who adds nothing has the same sum under both signs.
  c = contribution[contribution != 0]
  if not np.all(np.isfinite(c)):
    return None
  if not len(c):
    return 1.0
  observed = abs(c.sum())
  slack = 1e-9 * np.abs(c).sum()  # equal sums must count as equal
  if estimated and len(c) > 1:
    c = c * math.sqrt(len(c) / (len(c) - 1))
  # The same p as scipy's permutation_test, 30 times as fast; beyond, the draws
  # have a stream of their own, and ranks need the widening above.
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
