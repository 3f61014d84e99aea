"""Two counts per scan to agreement: ICC, Bland-Altman and weighted kappa.

Rule: a statistic that is not defined (no spread, too few scans) is None with
a note, never NaN.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation import statistics
from cmbjax.evaluation.intervals import Interval, too_few
from cmbjax.evaluation.predictions import Predictions, ScanCounts

# Lower ends of the usual grades of burden: 0, 1-4, 5-9, 10-19, 20 or more.
GRADES = (0, 1, 5, 10, 20)


class BlandAltman(NamedTuple):
  """Mean difference and limits of agreement (Bland and Altman 1986)."""

  bias: float | None
  low: float | None
  high: float | None


class CountAgreement(NamedTuple):
  """Predicted against true counts per scan.

  Attributes:
    icc: ICC(2,1) of the counts.
    bland_altman: predicted minus true.
    kappa: quadratic weights, of the burden grades.
    same_grade: share of scans with the right grade.
    grades: [G, G] int, scans by true (row) and predicted (column) grade.
    counts: predicted and true, [M] each.
    consistency: ICC(3,1), which leaves a constant difference aside.
  """

  icc: Interval
  bland_altman: BlandAltman
  kappa: Interval
  same_grade: Interval
  grades: np.ndarray
  counts: tuple[np.ndarray, np.ndarray]
  consistency: Interval


_UNDEFINED = Interval(None, None, None, 'needs two scans and two raters')


def icc(ratings: np.ndarray, *, level: float = 0.95) -> Interval:
  """ICC(2,1): two-way random, absolute agreement, single rater.

  Shrout and Fleiss (1979), Psychol Bull 86:420; interval of their eq. 10.

  Args:
    ratings: [n, k], n scans and k raters.
    level: of the interval.
  """
  found = _mean_squares(ratings)
  if found is None:
    return _UNDEFINED
  n, k, between, raters, error = found
  bottom = between + (k - 1) * error + k * (raters - error) / n
  if bottom <= 0:
    return Interval(None, None, None, 'all counts are equal')
  value = (between - error) / bottom
  # Rounding leaves a little where there is no error at all.
  if error <= 1e-12 * (between + raters):
    note = 'perfect agreement' if raters == 0 else 'a constant difference'
    note = too_few(n, 'scan') or f'{note}: no interval'
    return Interval(float(value), None, None, note)
  a = k * value / (n * (1 - value))
  b = 1 + k * value * (n - 1) / (n * (1 - value))
  top = (a * raters + b * error) ** 2
  freedom = top / (
    (a * raters) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
  )
  tail = 0.5 + level / 2
  if too_few(n):
    return Interval(float(value), None, None, too_few(n, 'scan'))
  if freedom < 1e-2:  # the quantiles of F overflow
    return Interval(float(value), None, None, _OVERFLOW)
  f_low = stats.f.ppf(tail, n - 1, freedom)
  f_high = stats.f.ppf(tail, freedom, n - 1)
  if not np.isfinite([f_low, f_high]).all():
    return Interval(float(value), None, None, _OVERFLOW)
  rest = k * raters + (k * n - k - n) * error
  low = n * (between - f_low * error) / (f_low * rest + n * between)
  high = n * (f_high * between - error) / (rest + n * f_high * between)
  return Interval(float(value), float(low), float(high))


def icc_consistency(ratings: np.ndarray, *, level: float = 0.95) -> Interval:
  """ICC(3,1): two-way mixed, consistency, single rater.

  Shrout and Fleiss (1979), with their interval; raters that differ by a
  constant agree perfectly.

  Args:
    ratings: [n, k], n scans and k raters.
    level: of the interval.
  """
  found = _mean_squares(ratings)
  if found is None:
    return _UNDEFINED
  n, k, between, raters, error = found
  if between + error <= 1e-12 * max(raters, 1):
    return Interval(None, None, None, 'no variation between scans')
  value = float((between - error) / (between + (k - 1) * error))
  if error <= 1e-12 * (between + raters):
    note = too_few(n, 'scan') or 'perfect consistency: no interval'
    return Interval(value, None, None, note)
  if too_few(n):
    return Interval(value, None, None, too_few(n, 'scan'))
  freedom, tail = (n - 1) * (k - 1), 0.5 + level / 2
  ratio = between / error
  ends = (
    ratio / stats.f.ppf(tail, n - 1, freedom),
    ratio * stats.f.ppf(tail, freedom, n - 1),
  )
  low, high = ((end - 1) / (end + k - 1) for end in ends)
  return Interval(value, float(low), float(high))


_OVERFLOW = 'the raters agree too badly for an interval'


class _MeanSquares(NamedTuple):
  """Of a two-way table of n scans and k raters."""

  n: int
  k: int
  between: float  # scans
  raters: float
  error: float


def _mean_squares(ratings) -> _MeanSquares | None:
  """None without two scans and two raters."""
  x = np.asarray(ratings, float)
  n, k = x.shape
  if n < 2 or k < 2:
    return None
  grand = x.mean()
  rows, columns = x.mean(1), x.mean(0)
  between = k * np.sum((rows - grand) ** 2) / (n - 1)
  raters = n * np.sum((columns - grand) ** 2) / (k - 1)
  residual = x - rows[:, None] - columns[None] + grand
  error = np.sum(residual**2) / ((n - 1) * (k - 1))
  return _MeanSquares(n, k, between, raters, error)


def bland_altman(first: np.ndarray, second: np.ndarray) -> BlandAltman:
  """Mean of first - second and its 1.96 SD limits; None for too few scans."""
  gap = np.asarray(first, float) - np.asarray(second, float)
  if not len(gap):
    return BlandAltman(None, None, None)
  bias = float(gap.mean())
  if too_few(len(gap)):
    return BlandAltman(bias, None, None)
  half = 1.96 * float(gap.std(ddof=1))  # 95 % of normal differences
  return BlandAltman(bias, bias - half, bias + half)


def bias(found: CountAgreement) -> Interval:
  """Mean difference with its limits of agreement (not an interval)."""
  limits, scans = found.bland_altman, len(found.counts[0])
  if limits.bias is None:
    return Interval(None, None, None, 'no scans')
  note = too_few(scans, 'scan') or 'limits of agreement: 1.96 SD'
  return Interval(*limits, note)


def weighted_kappa(
  first: np.ndarray, second: np.ndarray, *, num_grades: int
) -> float | None:
  """Cohen's kappa with quadratic weights (1968); None with nothing to gain.

  Args:
    first: [n] int grades 0..num_grades-1.
    second: [n] the same of the other rater.
    num_grades: number of grades.
  """
  if not len(first):
    return None
  grades = np.arange(num_grades)
  cost = np.subtract.outer(grades, grades).astype(float) ** 2
  table = np.zeros((num_grades, num_grades))
  np.add.at(table, (np.asarray(first), np.asarray(second)), 1)
  chance = np.outer(table.sum(1), table.sum(0)) / table.sum()
  expected = np.sum(cost * chance)
  if expected == 0:
    return None
  return float(1 - np.sum(cost * table) / expected)


def grade(count: np.ndarray) -> np.ndarray:
  """Burden grade of a count: 0, 1-4, 5-9, 10-19, >= 20 give 0..4."""
  # A grade starts at its lower end, which 'right' puts inside.
  return np.searchsorted(GRADES, np.asarray(count), side='right') - 1


def counts(
  predictions: Predictions, scans: ScanCounts, *, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
  """Predicted and true number of microbleeds per scan, [M] each.

  A lesion with two kept candidates is counted once: a reader would see one.

  Args:
    predictions: N candidates.
    scans: M scans, those without candidates too.
    threshold: strictly above is kept.
  """
  lesion_scan, best = tables.lesions(predictions)
  kept = predictions.probability > threshold
  false = predictions.scan[kept & (predictions.label == 0)]
  found = np.zeros(len(scans.scan), int)
  for where in (lesion_scan[best > threshold], false):
    np.add.at(found, tables.places_of(where, scans), 1)
  return found, np.asarray(scans.num_lesions, int)


def count_agreement(
  predictions: Predictions,
  scans: ScanCounts,
  *,
  threshold: float,
  **how,
) -> CountAgreement:
  """Agreement of the number of microbleeds per scan with the truth.

  Args:
    predictions: N candidates.
    scans: M scans, those without candidates too.
    threshold: strictly above is kept.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.
  """
  tables.check(predictions, scans)
  found, true = counts(predictions, scans, threshold=threshold)
  return of_counts(found, true, scans.subject, **how)


def of_counts(
  found: np.ndarray, true: np.ndarray, subject: np.ndarray, **how
) -> CountAgreement:
  """Agreement of two counts per scan.

  Args:
    found: [M] int.
    true: [M] int.
    subject: [M] str, left out or drawn together.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.
  """
  names, at = np.unique(subject, return_inverse=True)
  table = np.zeros((len(GRADES), len(GRADES)), int)
  np.add.at(table, (grade(true), grade(found)), 1)
  resampled = statistics.resampling(max(len(names), 1), **how)
  right = (grade(found) == grade(true)).astype(float)
  size = max(len(names), 1)
  return CountAgreement(
    icc=icc(np.stack([found, true], 1), level=resampled.level),
    bland_altman=bland_altman(found, true),
    kappa=_kappa(grade(found), grade(true), at, resampled),
    same_grade=statistics.ratio_interval(
      np.bincount(at, right, minlength=size),
      np.bincount(at, minlength=size).astype(float),
      resampled,
      proportion=True,
      empty='no scans',
    ),
    grades=table,
    counts=(found, true),
    consistency=icc_consistency(
      np.stack([found, true], 1), level=resampled.level
    ),
  )


def _kappa(found, true, at, how) -> Interval:
  """Weighted kappa of the grades with an interval over subjects."""
  value = weighted_kappa(found, true, num_grades=len(GRADES))
  if value is None:
    return Interval(None, None, None, 'all scans have one grade')
  few = too_few(how.weights.shape[1])
  if value == 1 or few:
    note = few or 'perfect agreement: no interval'
    return Interval(value, None, None, note)
  draws = []
  # One by one, as kappa is not a ratio of sums over subjects.
  for weight in how.weights.astype(int):
    times = weight[at]  # how often each scan is in this draw
    one = weighted_kappa(
      np.repeat(found, times), np.repeat(true, times), num_grades=len(GRADES)
    )
    draws.append(np.nan if one is None else one)
  if np.ptp(draws) < 1e-12:
    note = 'no variation between subjects, so no interval'
    return Interval(value, None, None, note)
  inside = statistics.interval(value, np.array(draws), how)
  if inside.low is None:
    return inside
  return inside._replace(low=max(inside.low, -1.0), high=min(inside.high, 1.0))
