"""One claim and the test of its difference to a verdict.

Rule: a claim is decided only when its interval excludes zero and its
permutation over subjects is significant after Holm's correction over the
whole family; p is shown alone beside it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from cmbjax.errors import InputError
from cmbjax.evaluation import power
from cmbjax.evaluation.permutation import Test

REPRODUCED = 'reproduced'
NOT_REPRODUCED = 'not reproduced'
UNDECIDED = 'undecided'

# "Not significantly better" is taken as a gain of AUC below this [ours].
MARGIN = 0.02
ABOVE, NOT_ABOVE, MANY_REMOVED = KINDS = ('above', 'not above', 'many removed')
# "Removes many FPs" is taken as more than half of them [ours].
MANY = 0.5


class Claim(NamedTuple):
  """One ordering: `first` is above `second`, or is not.

  Attributes:
    text: the claim in words.
    first: (strategy, test set).
    second: (strategy, test set); None for a claim about `first` alone.
    kind: 'above', 'not above' or 'many removed' (of `KINDS`).
    margin: of 'not above': gain of AUC that still counts as "not better".
    inferred: True when the claim is our reading of a text that leaves open
      what is compared with what.
  """

  text: str
  first: tuple[str, str]
  second: tuple[str, str] | None = None
  kind: str = ABOVE
  margin: float = MARGIN
  inferred: bool = False


def check(claims: Sequence[Claim]) -> None:
  """Refuses claims that nothing could be said of, before any work.

  Raises:
    InputError: an unknown kind, a claim about two rows without the second or
      about one row with a second, about a row and itself, one that is there
      twice, or a margin below 0.
  """
  for claim in claims:
    name = f'claim {claim.text!r}'
    if not isinstance(claim.text, str) or not claim.text.strip():
      raise InputError(f'{name}: must be a sentence.')
    if claim.kind not in KINDS:
      raise InputError(
        f'{name}: kind is {claim.kind!r}; choose from {", ".join(KINDS)}.'
      )
    if (claim.kind == MANY_REMOVED) != (claim.second is None):
      raise InputError(
        f'{name}: second is {claim.second}; a claim of kind {MANY_REMOVED!r} '
        'is about `first` alone, every other one needs (strategy, test set).'
      )
    if claim.first == claim.second:
      raise InputError(f'{name}: compares {claim.first} with itself.')
    if sum(other == claim for other in claims) > 1:
      raise InputError(f'{name}: is there twice; keep one.')
    margin = claim.margin
    if not isinstance(margin, int | float) or not 0 <= margin < math.inf:
      raise InputError(f'{name}: margin is {margin!r}; give 0 or more.')


class Judgement(NamedTuple):
  """See `orderings.Ordering`."""

  verdict: str
  reason: str
  needed: int | None = None
  detectable: float | None = None


def judge(
  claim: Claim,
  test: Test,
  sizes: tuple[int, ...],
  *,
  level: float,
  p_holm: float | None = None,
  family: int = 1,
  num_claims: int = 1,
) -> Judgement:
  """Verdict, reason and what is lacking, of one claim about AUC.

  Args:
    claim: what is claimed, and the margin of 'not above'.
    test: difference, interval and p.
    sizes: subjects of the test set, or of each of two.
    level: of the intervals; 1 - level is the family-wise error.
    p_holm: p after Holm; None takes the claim as a family of its own.
    family: claims that Holm's next step still holds.
    num_claims: all claims of the family.
  """
  gap = test.difference
  if gap.value is None or gap.low is None:
    few = ''
    if gap.value is not None and claim.kind != NOT_ABOVE and min(sizes) > 1:
      strict = 1 - (1 - level) / family
      few = _too_few(sizes, level=level, strict=strict, family=family)
    return Judgement(UNDECIDED, few or gap.note)
  p_holm = test.p if p_holm is None else p_holm
  alpha = 1 - level
  alone = test.p is not None and test.p <= alpha
  # `alone` first: without a p there is none after Holm either.
  significant = alone and p_holm <= alpha
  side = (gap.low > 0) - (gap.high < 0)
  if claim.kind == NOT_ABOVE and gap.high <= claim.margin:
    return Judgement(REPRODUCED, f'a gain above {claim.margin:g} is excluded')
  if significant and side:
    where = 'above' if side > 0 else 'below'
    if claim.kind == ABOVE:
      verdict = REPRODUCED if side > 0 else NOT_REPRODUCED
      return Judgement(verdict, f'the interval lies {where} 0')
    if side > 0:
      return Judgement(NOT_REPRODUCED, 'the interval lies above 0')
  start = _why_open(claim, gap, side, alone)
  if alone and not significant and side:
    start += f'; p {test.p:.3f} alone, {p_holm:.3f} after Holm'
    start += f' over {num_claims} claims'
  return _lacking(claim, test, sizes, start=start, level=level, family=family)


def _why_open(claim, gap, side, alone) -> str:
  """Where the difference points, and whether its tests agree."""
  if claim.kind == NOT_ABOVE:
    return f'a gain above {claim.margin:g} is not excluded'
  if not gap.value:
    return 'no difference at all'
  start = f'points {"the claimed" if gap.value > 0 else "the other"} way'
  if alone != bool(side):
    return f'{start}; the interval and the permutation do not agree'
  return start


def _lacking(
  claim: Claim,
  test: Test,
  sizes: tuple[int, ...],
  *,
  start: str,
  level: float,
  family: int,
) -> Judgement:
  """An undecided claim with the subjects that would decide it."""
  gap, size = test.difference, min(sizes)
  error = power.error_of(gap.low, gap.high, size, level=level)
  swapped = len(sizes) == 1
  # Equivalence is read off the interval; it is not part of Holm's family.
  by_margin = claim.kind == NOT_ABOVE and gap.value < claim.margin
  seen = claim.margin - gap.value if by_margin else gap.value
  strict = level if by_margin else 1 - (1 - level) / family
  needed = None
  if seen:
    needed = power.subjects_needed(
      seen, error, size, level=strict, paired=swapped
    )
  few = _too_few(sizes, level=level, strict=strict, family=family)
  if few and not by_margin:
    return Judgement(UNDECIDED, few, needed)
  return Judgement(
    UNDECIDED,
    start + _subjects(needed, size),
    needed,
    power.detectable(error, size, level=strict, paired=swapped),
  )


def _too_few(
  sizes: tuple[int, ...], *, level: float, strict: float, family: int
) -> str:
  """That no permutation of these subjects reaches the level, '' if one does.

  Then no effect, however large, would be decided, and no number for one is
  honest.
  """
  smallest = power.smallest_p(*sizes)
  if smallest <= 1 - strict:
    return ''
  here = ' and '.join(str(n) for n in sizes)
  few = f'{here} subjects are too few: no p below {smallest:.2g} is possible'
  if smallest <= 1 - level:
    few += f', and Holm asks for {1 - strict:.2g} of {family} open claims'
  return few


def _subjects(needed: int | None, size: int) -> str:
  """What an undecided claim lacks."""
  if needed is None:
    return ''
  count = f'about {needed:,}' if needed < 10_000 else 'more than 10,000'
  return (
    f'; to decide on a difference as seen takes {count} subjects, here are '
    f'{size}'
  )
