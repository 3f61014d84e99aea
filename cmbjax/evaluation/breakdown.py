"""True lesions to sensitivity by their size and their region.

Rule: every true lesion is in exactly one group of each heading, those of
unknown size or region too, so that the groups add up to all lesions.
"""

import itertools

import numpy as np

from cmbjax.evaluation import metrics
from cmbjax.evaluation.statistics import Interval

# Upper ends in mm; a quarter of published lesions is below 2.3 mm, a quarter
# above 3.2 mm, and above 10 mm a lesion is no microbleed.
SIZES_MM = (2.0, 3.0, 5.0, 10.0)
UNKNOWN = 'unknown'


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
      names = sorted(by, key=lambda n: (n == UNKNOWN, -by[n][1], n))
    found[head] = {name: by[name] for name in names}
  return found
