"""Claims about pairs of test rows to verdicts on them.

Rule: the claims are one confirmatory family; the correction is over all of
them, whatever is shown.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax.evaluation import metrics, permutation, ranking, statistics
from cmbjax.evaluation.claims import (
  ABOVE,
  MANY,
  MANY_REMOVED,
  MARGIN,
  NOT_REPRODUCED,
  REPRODUCED,
  UNDECIDED,
  Claim,
  check,
  judge,
)
from cmbjax.evaluation.compare import UNPAIRED, paired
from cmbjax.evaluation.intervals import Interval, too_few
from cmbjax.evaluation.permutation import Test
from cmbjax.evaluation.predictions import Predictions, ScanCounts


class Ordering(NamedTuple):
  """A claim and what this study says of it.

  Attributes:
    claim: in words.
    rows: for example 'row 4 above row 6'.
    metric: 'auc' or 'fp_removed'.
    difference: first minus second (or the value of a claim about one row).
    p: permutation over subjects, None when there is none.
    p_holm: p adjusted for all claims of the family; the verdict rests on it.
    fp_difference: of FP per scan, first minus second, None when unpaired.
    verdict: reproduced, not reproduced or undecided.
    reason: why, one sentence.
    design: 'paired over subjects' or 'different subjects'.
    by_seed: the difference of every training seed alone.
    needed: subjects at which a difference as large as the one seen would be
      decided four times in five, by the rule of the family; None where that
      is not known or nothing is lacking.
    detectable: the smallest difference that these subjects would decide four
      times in five; None where no number would, or nothing is lacking.
    num_subjects: of the test set, or of the smaller of two.
    bootstrap: the difference with its interval from paired draws of whole
      subjects.
    kind: of the claim.
    margin: of the claim.
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
  detectable: float | None = None
  num_subjects: int | None = None
  bootstrap: Interval | None = None
  kind: str = ABOVE
  margin: float = MARGIN


class _Tested(NamedTuple):
  """One claim about AUC with its test, before the family is known."""

  claim: Claim
  test: Test
  drawn: Interval  # by bootstrap
  fp: Interval | None
  sizes: tuple[int, ...]  # subjects of the test set, or of both


def orderings(
  predictions: Mapping[tuple[str, str], Predictions],
  scans: Mapping[str, ScanCounts],
  *,
  claims: Sequence[Claim],
  numbers: Mapping[tuple[str, str], int | None] | None = None,
  labels: Mapping[tuple[str, str], str] | None = None,
  by_seed: Mapping[tuple[str, str], np.ndarray] | None = None,
  threshold: float = metrics.THRESHOLD,
  **how,
) -> list[Ordering]:
  """What this study says of some claims.

  Claims whose rows are not all there are left out.

  Args:
    predictions: (strategy, test set) -> likelihoods, averaged over seeds.
    scans: test set -> all its scans.
    claims: what to judge; one family for Holm's correction.
    numbers: (strategy, test set) -> row number in a published table; a row
      without one is called by its label.
    labels: (strategy, test set) -> name of a row; default 'STRATEGY on TEST'.
    by_seed: (strategy, test set) -> [S, N] likelihoods of every seed alone.
    threshold: for FP per scan.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`; a
      claim needs p <= 1 - level after Holm as well.

  Raises:
    InputError: a claim of an unknown kind, or without the rows that it needs.
  """
  check(claims)
  here = [
    claim
    for claim in claims
    if {claim.first, claim.second or claim.first} <= set(predictions)
  ]
  tested = {
    claim: _test(claim, predictions, scans, threshold, how)
    for claim in here
    if claim.kind != MANY_REMOVED
  }
  family = _Family(list(tested.values()), how.get('level', 0.95))
  adjusted = dict(zip(tested, family.adjusted))
  judged = []
  for claim in here:
    if claim.kind == MANY_REMOVED:
      found = _removed(claim, predictions, scans, threshold, how)
    else:
      found = family.judge(tested[claim], adjusted[claim])
      found['by_seed'] = _seed_differences(claim, predictions, by_seed or {})
    judged.append(
      Ordering(
        claim=claim.text + (' (our reading)' if claim.inferred else ''),
        rows=_rows(claim, numbers or {}, labels or {}),
        kind=claim.kind,
        margin=claim.margin,
        **found,
      )
    )
  return judged


class _Family:
  """All claims about AUC together, which Holm's correction is over."""

  def __init__(self, tested: Sequence[_Tested], level: float):
    self.adjusted = permutation.holm([one.test.p for one in tested])
    self._level = level
    known = [p for p in self.adjusted if p is not None]
    self._size = len(known)
    # What the next claim has to reach, by Holm's steps.
    self._left = max(sum(p > 1 - level for p in known), 1)

  def judge(self, one: _Tested, p_holm: float | None) -> dict[str, Any]:
    """Fields of `Ordering` for a claim about AUC."""
    verdict = judge(
      one.claim,
      one.test,
      one.sizes,
      level=self._level,
      p_holm=p_holm,
      family=self._left,
      num_claims=self._size,
    )
    return {
      'metric': 'auc',
      'difference': one.test.difference,
      'p': one.test.p,
      'p_holm': p_holm,
      'fp_difference': one.fp,
      'design': one.test.assumption,
      'num_subjects': min(one.sizes),
      'bootstrap': one.drawn,
      **verdict._asdict(),
    }


def _test(claim, predictions, scans, threshold, how) -> _Tested:
  """The difference of AUC of one claim, by the method and by bootstrap."""
  first, second = predictions[claim.first], predictions[claim.second]
  drawn = {**how, 'method': 'bootstrap'}
  if claim.first[1] == claim.second[1]:
    counts = scans[claim.first[1]]
    tests, other = (
      paired(first, second, counts, threshold=threshold, names=names, **some)
      for names, some in ((('auc', 'fp_per_scan'), how), (('auc',), drawn))
    )
    return _Tested(
      claim,
      tests['auc'],
      other['auc'].difference,
      tests['fp_per_scan'].difference,
      (len(np.unique(counts.subject)),),
    )
  test, sizes = _unpaired(first, second, **how)
  other, _ = _unpaired(first, second, **drawn)
  return _Tested(claim, test, other.difference, None, sizes)


def _rows(claim: Claim, numbers: Mapping, labels: Mapping) -> str:
  """'row 4 above row 6', or the labels of rows without a number."""

  def name(key):
    if numbers.get(key) is not None:
      return f'row {numbers[key]}'
    return labels.get(key, ' on '.join(key))

  if claim.second is None:
    return name(claim.first)
  return f'{name(claim.first)} {claim.kind} {name(claim.second)}'


def _unpaired(first, second, **how) -> tuple[Test, tuple[int, int]]:
  """Difference of AUC of one model between two sets of subjects."""
  values, drawn, sizes, parts = [], [], [], []
  # Each set of subjects is drawn with a seed of its own.
  for own_seed, p in enumerate((first, second)):
    subject, at = np.unique(p.subject, return_inverse=True)
    size = max(len(subject), 1)
    sizes.append(len(subject))
    score = np.asarray(p.probability, np.float64)
    wins = ranking.pair_wins(score, p.label, at, size)
    classes = [np.bincount(at[p.label == k], minlength=size) for k in (1, 0)]
    seed = 2 * how.get('seed', 0) + own_seed  # never that of the other set
    parts.append(statistics.resampling(size, **how | {'seed': seed}))
    once = np.ones((1, size))
    values.append(ranking.auc_draws(wins, *classes, once)[0])
    drawn.append(ranking.auc_draws(wins, *classes, parts[-1].weights))
  value = float(values[0] - values[1])
  if not np.isfinite(value):
    gap = Interval(None, None, None, 'one class only in a test set')
    return Test(gap, None, UNPAIRED), tuple(sizes)
  if min(sizes) < 2:
    gap = Interval(value, None, None, too_few(min(sizes)))
    return Test(gap, None, UNPAIRED), tuple(sizes)
  gap = statistics.difference_interval(value, drawn, parts)
  p = _regroup(first, second, seed=how.get('seed', 0))
  return Test(gap, p, UNPAIRED), tuple(sizes)


def _regroup(first, second, *, seed) -> float | None:
  # A person in both sets is two subjects: the sets are taken for independent.
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
  wins = ranking.pair_wins(score.astype(np.float64), label, at, size)
  positives, negatives = (
    np.bincount(at[label == k], minlength=size) for k in (1, 0)
  )
  in_first = np.char.startswith(subject, '1 ')
  return permutation.group_permutation(
    wins, positives, negatives, in_first, seed=seed
  )


def _removed(claim, predictions, scans, threshold, how) -> dict[str, Any]:
  """Fields of `Ordering` for a claim about the mimics that one row removes."""
  p, counts = predictions[claim.first], scans[claim.first[1]]
  share = metrics.evaluate(p, counts, threshold=threshold, **how)['fp_removed']
  verdict, reason = UNDECIDED, f'the interval includes {100 * MANY:g} %'
  if share.low is None:
    reason = share.note
  elif share.low > MANY:
    verdict, reason = REPRODUCED, f'more than {100 * MANY:g} % are removed'
  elif share.high < MANY:
    verdict, reason = NOT_REPRODUCED, f'less than {100 * MANY:g} % are removed'
  return {
    'metric': 'fp_removed',
    'difference': share,
    'p': None,
    'p_holm': None,
    'fp_difference': None,
    'verdict': verdict,
    'reason': reason,
    'design': 'one row',
  }


def _seed_differences(claim, predictions, by_seed) -> tuple:
  """AUC of the first row minus the second, of each seed that both have."""
  sides = []
  for key in (claim.first, claim.second):
    label = predictions[key].label
    sides.append([metrics.auc(one, label) for one in by_seed.get(key, ())])
  return tuple(
    None if a is None or b is None else a - b for a, b in zip(*sides)
  )
