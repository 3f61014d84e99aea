"""Every number of the candidate stage, and which candidates it lets through.

Rule: sizes are in mm and intensities are fractions of the local brain, so the
same gates hold for 0.5 x 0.5 x 2 mm and 1 x 1 x 1.5 mm scans.
"""

import dataclasses

import numpy as np

from cmbjax.detect import hessian, radial_symmetry


@dataclasses.dataclass(frozen=True)
class Gates:
  """Defaults of the candidate stage. "tuned": on simulated training seeds."""

  # Where a dark disc might be.
  generator: str = 'frst'  # or 'hessian'; FRST as in Bian et al., 2013
  radii_mm: tuple[float, ...] = radial_symmetry.RADII_MM
  strictness: float = radial_symmetry.STRICTNESS  # alpha of FRST
  min_gradient: float = radial_symmetry.MIN_GRADIENT  # beta, brain = 1
  diameters_mm: tuple[float, ...] = hessian.DIAMETERS_MM  # 'hessian' only
  background_mm: float = 12.0  # width of the bias-field Gaussian
  clip: float = 1.2  # brighter than this x brain is not of interest
  peak_mm: float = 2.0  # no second peak this near in plane; +-1 slice
  min_response: float = 1e-3  # generator response at a peak
  max_darkness: float = 0.6  # darkest of 3 x 3 pixels at the peak / brain
  max_peaks: int = 4000  # a memory limit, not a gate: the best responses

  # How a region is grown.
  seed_mm: float = 1.0  # darkest voxel this near the peak is the seed
  shell_mm: tuple[float, float] = (3.0, 6.0)  # background = its median
  level: float = 0.5  # half maximum between seed and background
  growth_mm: float = 5.0  # radius; 10 mm is the largest microbleed

  # Which regions stay.
  min_contrast: float = 0.2  # (background - seed) / background
  min_diameter_mm: float = 1.0  # equivalent sphere
  max_diameter_mm: float = 10.0
  min_circularity: float = 0.5  # in plane, convex outline
  max_eccentricity: float = 0.9  # in plane
  min_solidity: float = 0.7  # in plane, area / convex area
  shape_pixels: int = 9  # smaller areas have no measurable shape
  max_slices: int = 3  # or twice the diameter, the larger one
  max_elongation: float = 3.0  # of a region that leaves the growth sphere
  edge_mm: float = 1.0  # distance from the rim of the mask
  merge_mm: float = 2.0  # centres nearer than this are one candidate

  # What the categories mean.
  travel_mm: float = 1.0  # in-plane shift between adjacent slices


def judge(
  features: dict[str, np.ndarray], gates: Gates, spacing_mm
) -> list[str]:
  """The first gate that each candidate fails, '' where it passes all."""
  f = features
  shaped = f['area_pixels'] >= gates.shape_pixels
  longest = np.maximum(
    gates.max_slices * spacing_mm[2], 2 * f['diameter_mm'] + 1e-4
  )
  failed = {
    'near the edge': f['edge_mm'] < gates.edge_mm,
    'low contrast': f['contrast'] < gates.min_contrast,
    'too small': f['diameter_mm'] < gates.min_diameter_mm,
    'too large': f['diameter_mm'] > gates.max_diameter_mm,
    'vessel': (f['touches_sphere'] > 0)
    & (f['elongation'] > gates.max_elongation),
    'not round': shaped & (f['circularity'] < gates.min_circularity),
    'elongated': shaped & (f['eccentricity'] > gates.max_eccentricity),
    'not solid': shaped & (f['solidity'] < gates.min_solidity),
    'too many slices': f['extent_mm'] > longest,
  }
  reasons = list(failed)
  table = np.stack([*failed.values(), np.ones(len(shaped), bool)])
  return [([*reasons, ''])[i] for i in table.argmax(0)]
