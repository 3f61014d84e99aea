"""Two readers' verdicts to agreement: kappa, AC1, positive agreement, outlines.

Rule: the patient is the unit of every interval, never the lesion; what is not
defined (one rater, one category, one patient) is None with a note, never NaN.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from cmbjax.evaluation import statistics
from cmbjax.evaluation.intervals import Interval, too_few, too_wide

_PERFECT = 'perfect agreement: no interval'
_EMPTY = Interval(None, None, None, 'nothing that both judged')
_NONE = Interval(None, None, None, 'there are none')


class VerdictAgreement(NamedTuple):
  """Two readers' verdicts on the same items.

  Attributes:
    table: [C, C] int, items by the first (row) and second (column) verdict.
    observed: share of equal verdicts.
    kappa: Cohen (1960).
    ac1: Gwet (2008), which a rare category does not push down.
    specific: agreement on each category, [C]: 2a / (2a + b + c).
  """

  table: np.ndarray
  observed: Interval
  kappa: Interval
  ac1: Interval
  specific: tuple[Interval, ...]


class Spread(NamedTuple):
  """Middle and quartiles of some numbers; None where there are none."""

  median: float | None
  low: float | None
  high: float | None
  count: int


def cohen_kappa(table: np.ndarray) -> np.ndarray:
  """Cohen (1960, Educ Psychol Meas 20:37); NaN where chance explains all.

  Args:
    table: [..., C, C] counts, not negative.
  """
  table, total = _shares(table)
  chance = np.einsum('...ij,...ki->...', table, table)
  return _beyond(np.einsum('...ii->...', table), chance, total)


def gwet_ac1(table: np.ndarray) -> np.ndarray:
  """Gwet (2008, Br J Math Stat Psychol 61:29); NaN for an empty table.

  Args:
    table: [..., C, C] counts, C at least 2; a category that nobody used
      counts too.
  """
  table, total = _shares(table)
  share = (table.sum(-1) + table.sum(-2)) / 2
  chance = np.sum(share * (1 - share), -1) / (table.shape[-1] - 1)
  return _beyond(np.einsum('...ii->...', table), chance, total)


def _shares(table):
  table = np.asarray(table, float)
  total = table.sum((-2, -1))
  with np.errstate(invalid='ignore', divide='ignore'):
    return table / total[..., None, None], total


def _beyond(observed, chance, total):
  """(observed - chance) / (1 - chance)."""
  with np.errstate(invalid='ignore', divide='ignore'):
    value = (observed - chance) / (1 - chance)
  return np.where((total > 0) & (chance < 1 - 1e-12), value, np.nan)


def verdicts(
  first: np.ndarray,
  second: np.ndarray,
  subject: np.ndarray,
  *,
  num_categories: int,
  **how,
) -> VerdictAgreement:
  """Agreement of two readers, or of one reader with himself.

  Args:
    first: [N] int verdicts 0..num_categories-1.
    second: [N] the same of the other reader.
    subject: [N] str; drawn or left out together.
    num_categories: how many verdicts there are.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.
  """
  names, at = np.unique(np.asarray(subject, str), return_inverse=True)
  size = max(len(names), 1)
  tables = np.zeros((size, num_categories, num_categories))  # [S, C, C]
  if len(names):
    np.add.at(tables, (at, np.asarray(first), np.asarray(second)), 1)
  resampled = statistics.resampling(size, **how)
  table = tables.sum(0)
  drawn = np.einsum('ds,sij->dij', resampled.weights, tables)
  equal = np.einsum('sii->s', tables)  # the diagonals
  total = tables.sum((1, 2))
  specific = []
  for category in range(num_categories):
    both = 2 * tables[:, category, category]
    called = tables[:, category].sum(1) + tables[:, :, category].sum(1)
    specific.append(_share(both, called, resampled, 'nobody said so'))
  return VerdictAgreement(
    table.astype(int),
    _share(equal, total, resampled, _EMPTY.note),
    _coefficient(cohen_kappa(table), cohen_kappa(drawn), table, resampled),
    _coefficient(gwet_ac1(table), gwet_ac1(drawn), table, resampled),
    tuple(specific),
  )


def positive_agreement(
  both: np.ndarray, first: np.ndarray, second: np.ndarray, **how
) -> Interval:
  """Agreement on lesions, where places without one cannot be counted.

  2a / (2a + b + c), the F1 of one reader against the other (Cicchetti and
  Feinstein 1990, J Clin Epidemiol 43:551).

  Args:
    both: [S] lesions per patient that both marked.
    first: [S] that only the first marked.
    second: [S] that only the second marked.
    how: of `statistics.resampling`.
  """
  both, first, second = (
    np.asarray(some, float) for some in (both, first, second)
  )
  resampled = statistics.resampling(max(len(both), 1), **how)
  called = 2 * both + first + second
  if not len(both):
    both = called = np.zeros(1)
  return _share(2 * both, called, resampled, 'nobody marked a lesion')


def mean(
  values: np.ndarray, subject: np.ndarray, *, scale: str = 'plain', **how
) -> Interval:
  """Mean over lesions, its interval over patients.

  Args:
    values: [N] float.
    subject: [N] str.
    scale: 'logit' for values in 0..1, 'log' for values from 0, so that the
      interval stays in their range; else 'plain'.
    how: of `statistics.resampling`.
  """
  values = np.asarray(values, float)
  if not len(values):
    return _NONE
  names, at = np.unique(np.asarray(subject, str), return_inverse=True)
  resampled = statistics.resampling(len(names), **how)
  top = resampled.weights @ np.bincount(at, values)
  with np.errstate(invalid='ignore', divide='ignore'):
    draws = top / (resampled.weights @ np.bincount(at))
  return _around(float(values.mean()), draws, resampled, scale=scale)


def geometric_mean(values: np.ndarray, subject: np.ndarray, **how) -> Interval:
  """As `mean`, of ratios: values greater than zero.

  Args:
    values: [N].
    subject: [N] whose value it is.
    **how: as for `mean`.
  """
  found = mean(np.log(np.asarray(values, float)), subject, **how)
  value, *ends = (None if x is None else float(np.exp(x)) for x in found[:3])
  wide = '' if ends[1] is None else too_wide(value, ends[1], len(set(subject)))
  if wide:
    return Interval(value, None, None, wide)
  return Interval(value, *ends, found.note)


def spearman(
  x: np.ndarray, y: np.ndarray, subject: np.ndarray, **how
) -> Interval:
  """Rank correlation, its interval over patients on Fisher's z scale.

  Spearman (1904); ties get mid-ranks.

  Args:
    x: [N] float.
    y: [N] float.
    subject: [N] str.
    how: of `statistics.resampling`.
  """
  x, y = np.asarray(x, float), np.asarray(y, float)
  if len(x) < 3:  # two points always make a line
    return Interval(None, None, None, 'needs three items')
  value = _rank_correlation(x, y)
  if np.isnan(value):
    return Interval(None, None, None, 'one of the two has one value only')
  names, at = np.unique(np.asarray(subject, str), return_inverse=True)
  resampled = statistics.resampling(len(names), **how)
  times = resampled.weights.astype(int)[:, at]  # [D, N]
  draws = np.array(
    [_rank_correlation(np.repeat(x, t), np.repeat(y, t)) for t in times]
  )
  if 1 - abs(value) < 1e-12:  # no z there
    note = too_few(len(names)) or _PERFECT
    return Interval(float(np.rint(value)), None, None, note)
  # logit((r + 1) / 2) is 2 artanh(r), Fisher's z but for the factor.
  found = statistics.interval(
    (value + 1) / 2, (draws + 1) / 2, resampled, scale='logit'
  )
  ends = (None if end is None else 2 * end - 1 for end in found[1:3])
  return Interval(value, *ends, found.note)


def _rank_correlation(x, y) -> float:
  if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
    return np.nan
  a, b = stats.rankdata(x), stats.rankdata(y)
  return float(np.corrcoef(a, b)[0, 1])


def dice(first: np.ndarray, second: np.ndarray) -> float:
  """Overlap of two outlines: 2 |A and B| / (|A| + |B|) (Dice 1945).

  Args:
    first: int voxel indices, each once.
    second: the same; not both empty.
  """
  shared = np.intersect1d(first, second, assume_unique=True).size
  return 2 * shared / (len(first) + len(second))


def spread(values: Sequence[float]) -> Spread:
  """Median and quartiles."""
  if not len(values):
    return Spread(None, None, None, 0)
  low, middle, high = np.percentile(np.asarray(values, float), [25, 50, 75])
  return Spread(float(middle), float(low), float(high), len(values))


def _share(top, bottom, resampled, empty) -> Interval:
  return statistics.ratio_interval(
    np.asarray(top, float),
    np.asarray(bottom, float),
    resampled,
    proportion=True,
    empty=empty,
  )


def _coefficient(value, draws, table, resampled) -> Interval:
  """A coefficient of agreement; at most 1, at least -1."""
  if table.sum() == 0:
    return _EMPTY
  if np.isnan(value):
    return Interval(None, None, None, 'all verdicts are one and the same')
  if value > 1 - 1e-12:
    note = too_few(resampled.weights.shape[1]) or _PERFECT
    return Interval(1.0, None, None, note)
  found = _around(float(value), draws, resampled)
  if found.low is None:
    return found
  return found._replace(low=max(found.low, -1.0), high=min(found.high, 1.0))


def _around(value, draws, resampled, *, scale='plain') -> Interval:
  defined = draws[np.isfinite(draws)]
  few = too_few(resampled.weights.shape[1])
  if not few and len(defined) and np.ptp(defined) < 1e-12:
    note = 'no variation between patients, so no interval'
    return Interval(value, None, None, note)
  return statistics.interval(value, draws, resampled, scale=scale)
