"""Lesions by size and region, candidates by likelihood.

Rule: every true lesion is in exactly one group of each heading, those of
unknown size or region too, so that the groups add up to all lesions; so do
the candidates of all bins of likelihood.
"""

import itertools
from typing import NamedTuple

import numpy as np

from cmbjax.evaluation import metrics, statistics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from cmbjax.evaluation.statistics import Interval

# Upper ends in mm; a quarter of published lesions is below 2.3 mm, a quarter
# above 3.2 mm, and above 10 mm a lesion is no microbleed.
SIZES_MM = (2.0, 3.0, 5.0, 10.0)
UNKNOWN = 'unknown'
# Ends of the bins of likelihood; the first ends at the reference threshold.
LIKELIHOODS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class Bin(NamedTuple):
  """Candidates whose likelihood is above `low` and at most `high`.

  Attributes:
    low: end that is not inside, but for 0 in the first bin.
    high: end that is inside.
    candidates: in the bin.
    microbleeds: of these.
    share: of microbleeds among the candidates.
    lesions: true lesions whose most likely candidate is in the bin.
    of_lesions: share of all true lesions.
    fp_per_scan: mimics in the bin, per scan.
  """

  low: float
  high: float
  candidates: int
  microbleeds: int
  share: Interval
  lesions: int
  of_lesions: Interval
  fp_per_scan: Interval


def size_names(edges_mm: tuple[float, ...] = SIZES_MM) -> tuple[str, ...]:
  """'below 2 mm', '2 to 3 mm', ..., '10 mm and more', 'unknown'."""
  middle = [f'{a:g} to {b:g} mm' for a, b in itertools.pairwise(edges_mm)]
  ends = f'below {edges_mm[0]:g} mm', f'{edges_mm[-1]:g} mm and more'
  return (ends[0], *middle, ends[1], UNKNOWN)


def size_of(
  diameter_mm: np.ndarray, edges_mm: tuple[float, ...] = SIZES_MM
) -> np.ndarray:
  """Size class of each lesion, [L] str; a class starts at its lower end.

  Args:
    diameter_mm: [L] of the equivalent sphere; NaN where not known.
    edges_mm: upper ends of the classes.
  """
  diameter_mm = np.asarray(diameter_mm, float)
  names = np.array(size_names(edges_mm))
  at = np.searchsorted(edges_mm, diameter_mm, side='right')
  return names[np.where(np.isnan(diameter_mm), len(edges_mm) + 1, at)]


def sensitivities(
  diameter_mm: np.ndarray,
  region: np.ndarray,
  subject: np.ndarray,
  likelihood: np.ndarray,
  *,
  threshold: float = metrics.THRESHOLD,
  **how,
) -> dict[str, dict[str, tuple[Interval, int]]]:
  """Sensitivity over all lesions: 'size' and 'region' -> group -> result.

  A heading for which nothing is known is left out.

  Args:
    diameter_mm: [L], NaN where not known.
    region: [L] str, '' where not known.
    subject: [L] str.
    likelihood: [L], NaN for a lesion that no candidate reached.
    threshold: strictly above.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.

  Returns:
    Groups with their interval and number of lesions; sizes rise, regions go
    from the most lesions to the fewest, the unknown come last.
  """
  sizes = size_of(diameter_mm)
  region = np.where(np.asarray(region, str) == '', UNKNOWN, region)
  found = {}
  for head, group in (('size', sizes), ('region', region)):
    if np.all(group == UNKNOWN):
      continue
    by = metrics.sensitivity_by(
      group, subject, likelihood, threshold=threshold, **how
    )
    if head == 'size':
      names = [name for name in size_names() if name in by]
    else:
      # By number, as regions have no order; equal ones by name, so that every
      # run has the same.
      names = sorted(by, key=lambda n: (n == UNKNOWN, -by[n][1], n))
    found[head] = {name: by[name] for name in names}
  return found


def by_likelihood(
  predictions: Predictions,
  scans: ScanCounts,
  *,
  edges: tuple[float, ...] = LIKELIHOODS,
  **how,
) -> list[Bin]:
  """What the candidates of each bin of likelihood are.

  Args:
    predictions: likelihoods of the candidates.
    scans: all scans of the test set.
    edges: rising ends of the bins, from 0 to 1.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.
  """
  tables.check(predictions, scans)
  subject, at = np.unique(scans.subject, return_inverse=True)
  size = len(subject)
  resampled = statistics.resampling(max(size, 1), **how)
  owner = np.searchsorted(subject, predictions.subject)
  lesion_scan, best = tables.lesions(predictions)
  place = tables.places_of(lesion_scan, scans)

  def count(owners, mask):
    return np.bincount(owners[mask], minlength=max(size, 1)).astype(float)

  def ratio(top, bottom, empty, proportion=True):
    return statistics.ratio_interval(
      top, bottom, resampled, proportion=proportion, empty=empty
    )

  num_scans = count(at, np.ones(len(at), bool))
  lesions = np.bincount(at, scans.num_lesions, minlength=max(size, 1))
  bins = []
  for low, high in itertools.pairwise(edges):
    inside, reached = (
      # As a threshold: strictly above is kept, so the upper end is inside.
      (value <= high) & ((value > low) | (low == edges[0]))
      for value in (predictions.probability, best)
    )
    both = count(owner, inside)
    hits = count(owner, inside & (predictions.label == 1))
    found = count(at[place], reached)
    bins.append(
      Bin(
        low=low,
        high=high,
        candidates=int(both.sum()),
        microbleeds=int(hits.sum()),
        share=ratio(hits, both, 'no candidates'),
        lesions=int(found.sum()),
        of_lesions=ratio(found, lesions, 'no lesions in this test set'),
        fp_per_scan=ratio(both - hits, num_scans, 'no scans', False),
      )
    )
  return bins
