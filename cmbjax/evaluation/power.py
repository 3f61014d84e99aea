"""A difference and its error to the subjects that would decide it.

Rule: planning takes an effect for granted. With the effect that was seen it
is an order of magnitude; the smallest effect that these subjects can show
does not depend on it, and is shown beside it.
"""

import math

from scipy import optimize, stats

# A difference is taken as found when it would be, four times in five.
POWER = 0.8
_MANY = 2000  # subjects beyond which t is normal


def error_of(
  low: float, high: float, num_subjects: int, *, level: float = 0.95
) -> float:
  """Standard error of a difference, from its interval.

  Unequal subjects have fewer degrees of freedom than `num_subjects` - 1, so
  that it is rather too large than too small.

  Args:
    low: end of the interval.
    high: its other end.
    num_subjects: that it was made from.
    level: of it.
  """
  return (high - low) / (2 * stats.t.ppf(0.5 + level / 2, num_subjects - 1))


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

  The error over subjects falls as 1 / sqrt(n). Power is that of the t test
  (Cohen 1988, Statistical Power Analysis, chapter 2), to which the
  permutation of whole subjects comes close.

  Args:
    difference: that shall be found, not 0.
    error: standard error of the difference with `num_subjects`.
    num_subjects: S, of this study (of two sets: of the smaller one, when
      both grow alike).
    level: 1 - alpha of the two-sided test; of one claim in a family of m
      under Holm, 1 - alpha / m.
    power: how often it is found.
    paired: swaps within subjects, else regroups two sets of equal size; at
      least as many as let that permutation reach alpha at all.
  """
  shift = abs(difference) / error / math.sqrt(num_subjects)  # of one subject
  quantiles = stats.norm.ppf(0.5 + level / 2) + stats.norm.ppf(power)
  # The z test is a lower bound; the search goes up from there.
  count = math.ceil((quantiles / shift) ** 2 - 1e-9)
  count = max(count, fewest(1 - level, paired=paired), 2)
  # Where t is normal, the z test is exact, and the search below long.
  if count > _MANY:
    return count
  while found(shift * math.sqrt(count), count, level, paired=paired) < power:
    count += 1
  return count


def found(
  shift: float, num_subjects: int, level: float, *, paired: bool = True
) -> float:
  """How often a t test finds a difference of `shift` standard errors.

  Args:
    shift: the true difference, in standard errors.
    num_subjects: of the test.
    level: 1 - the error of the first kind.
    paired: the same subjects in both groups.
  """
  freedom = (num_subjects - 1) * (1 if paired else 2)
  least = stats.t.ppf(0.5 + level / 2, freedom)
  # By chance on the other side: nothing where the shift is large.
  other = stats.nct.cdf(-least, freedom, shift) if shift < 3 else 0.0
  return float(stats.nct.sf(least, freedom, shift) + other)


def detectable(
  error: float,
  num_subjects: int,
  *,
  level: float = 0.95,
  power: float = POWER,
  paired: bool = True,
) -> float:
  """Smallest difference found with the given power at this error.

  Args:
    error: standard error of the difference with `num_subjects`.
    num_subjects: at least 2.
    level: 1 - alpha of the two-sided test.
    power: how often it is found.
    paired: strategies on the same subjects, else two sets of subjects.
  """

  def lacking(shift):
    return found(shift, num_subjects, level, paired=paired) - power

  most = 1.0
  # The root is between: power rises with the difference.
  while lacking(most) < 0:
    most *= 1.5
  return float(optimize.brentq(lacking, 1e-6, most) * error)


def smallest_p(num_subjects: int, other: int | None = None) -> float:
  """The smallest two-sided p that permuting whole subjects can give.

  Swapping all subjects or none gives the same |difference|; so does the
  mirror image of two groups of equal size, and of no others.

  Args:
    num_subjects: of both strategies, or of one of two groups.
    other: of the other group; None: strategies are swapped within subjects.
  """
  if other is None:
    return 2.0 ** (1 - num_subjects)
  alike = 2 if other == num_subjects else 1
  return alike / math.comb(num_subjects + other, num_subjects)


def fewest(alpha: float, *, paired: bool = True) -> int:
  """Subjects (of each of two equal groups) that can give p <= alpha at all."""
  count = 1
  while smallest_p(count, None if paired else count) > alpha * (1 + 1e-9):
    count += 1
  return count
