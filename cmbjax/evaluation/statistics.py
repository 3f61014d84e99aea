"""Per-subject sums to intervals.

Rule: the subject is the unit. A subject is drawn or left out with all of its
candidates; nothing here takes two patches of one subject for independent.
"""

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from cmbjax.errors import InputError
from cmbjax.evaluation.intervals import Interval, too_few, too_wide

_UNDEFINED_SHARE = 0.05  # of the draws; more deserve a note
_FEW_SUBJECTS = 5  # below, an interval says little and has a note
# Between units of one subject, only where nothing can be estimated [ours].
CORRELATION = 0.1


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
    weights = 1 - np.eye(num_subjects)  # all but one
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
  if too_few(size):
    return Interval(value, None, None, too_few(size))
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
  ends, forward, back, slope = _SCALES[scale]
  if value in ends:
    return Interval(value, None, None, 'at the end of its range')
  if np.any((left_out <= ends[0]) | (left_out >= ends[1])):
    # No logit there: the delta method at the estimate instead.
    error, freedom = spread(left_out)
    error = error * slope(value)
  else:
    error, freedom = spread(forward(left_out))
  if error == 0 and scale == 'plain' and value == 0:
    return Interval(0.0, 0.0, 0.0, 'the same in every subject')
  if error <= 1e-12:  # the rounding of sums, not a spread
    note = 'no variation between subjects, so no interval'
    return Interval(float(value), None, None, note)
  half = special.stdtrit(freedom, 0.5 + level / 2) * error
  low, high = back(forward(value) - half), back(forward(value) + half)
  if scale == 'log' and too_wide(value, high, size):
    return Interval(float(value), None, None, too_wide(value, high, size))
  note = _few(size)
  return Interval(float(value), float(low), float(high), note)


def _few(num_subjects: int) -> str:
  """Note of an interval from few subjects."""
  few = num_subjects < _FEW_SUBJECTS
  return f'only {num_subjects} subjects' if few else ''


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
  # With fewer than 2 the t interval has no variance; more than S - 1 there
  # cannot be.
  return error, float(min(max(freedom, 2.0), size - 1.0))


# Ends of the range, forward, back, and slope of each scale.
_SCALES = {
  'plain': ((-np.inf, np.inf), lambda x: x, lambda x: x, lambda x: 1.0),
  'logit': (
    (0.0, 1.0),
    special.logit,
    special.expit,
    lambda x: 1 / (x * (1 - x)),
  ),
  'log': ((0.0, np.inf), np.log, np.exp, lambda x: 1 / x),
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
  notes += [_few(n)] if _few(n) else []
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
  if too_few(min(sizes)):
    return Interval(value, None, None, too_few(min(sizes)))
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
  note = _few(min(sizes))
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
    proportion: True when the ratio is in 0..1.
    empty: the note when the denominator is zero.
  """
  total = denominator.sum()
  if total == 0:
    return Interval(None, None, None, empty)
  value = float(numerator.sum() / total)
  # A subject without any units says nothing, and leaving it out changes
  # nothing: it must not count as one that agrees.
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
    proportion: True when values are in 0..1.
    empty: the note when there is no value.
    how: `method`, `draws`, `seed` and `level` of `resampling`.
  """
  if not len(values):
    return Interval(None, None, None, empty)
  drawn = resampling(len(values), **how)
  value = float(values.mean())
  if not too_few(len(values)) and np.ptp(values) < 1e-12:
    note = 'no variation between subjects, so no interval'
    return Interval(value, None, None, note)
  total = np.maximum(drawn.weights.sum(1), 1)  # one subject, left out
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
  size, tail = len(left_out), 0.5 + level / 2
  if too_few(size):
    return Interval(value, None, None, too_few(size))
  if not np.all(np.isfinite(left_out)):
    return Interval(value, None, None, 'rests on one subject, so no interval')
  error, _ = spread(left_out)
  units = count
  if error > 0:
    shrink = special.ndtri(tail) / special.stdtrit(size - 1, tail)
    units = min(count, value * (1 - value) / error**2 * shrink**2)
  hits, misses = value * units, (1 - value) * units
  low = special.betaincinv(hits, misses + 1, 1 - tail)
  high = special.betaincinv(hits + 1, misses, tail)
  note = _few(size)
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
