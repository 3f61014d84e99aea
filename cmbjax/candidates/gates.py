"""Every number of the candidate stage, and which candidates it lets through.

Rule: sizes are in mm and intensities are fractions of the local brain, so the
same gates hold for 0.5 x 0.5 x 2 mm and 1 x 1 x 1.5 mm scans.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from cmbjax.candidates import blobness, radial_symmetry


@dataclasses.dataclass(frozen=True)
class Gates:
  """Defaults of the candidate stage. "tuned": on simulated training seeds."""

  # Where a dark disc might be.
  generator: str = 'frst'  # Bian et al., 2013; or 'module:function'
  radii_mm: tuple[float, ...] = radial_symmetry.RADII_MM
  strictness: float = radial_symmetry.STRICTNESS  # alpha of FRST
  min_gradient: float = radial_symmetry.MIN_GRADIENT  # beta, brain = 1
  diameters_mm: tuple[float, ...] = blobness.DIAMETERS_MM  # of blobs
  background_mm: float = 12.0  # width of the bias-field Gaussian
  clip: float = 1.2  # brighter than this x brain is not of interest
  peak_mm: float = 2.0  # no second peak this near in plane; +-1 slice
  min_response: float = 3e-3  # FRST at a peak; tuned
  max_darkness: float = 0.85  # darkest of 3 x 3 pixels at the peak / brain
  max_peaks: int = 4000  # a memory limit, not a gate: the best responses

  # How a region is grown.
  seed_mm: float = 1.0  # darkest voxel this near the peak is the seed
  shell_mm: tuple[float, float] = (3.0, 6.0)  # background = its median
  level: float = 0.5  # half maximum between seed and background
  core_level: float = 0.3  # leaves faint vessels that join the region out
  growth_mm: float = 5.0  # radius; 10 mm is the largest microbleed

  # Which regions stay. Loose: a lesion may touch a vessel, so what a shape
  # tells weighs in the score, and only hopeless shapes are gated alone.
  min_score: float = 2.9e-3  # see `score`; tuned
  min_contrast: float = 0.2  # (background - seed) / background
  min_diameter_mm: float = 1.0  # equivalent sphere
  max_diameter_mm: float = 10.0
  min_circularity: float = 0.2  # core in plane, convex outline
  max_eccentricity: float = 0.985  # core in plane
  min_solidity: float = 0.35  # core in plane, area / convex area
  shape_pixels: int = 9  # smaller areas have no measurable shape
  max_elongation: float = 4.0  # of a core that leaves the growth sphere
  edge_mm: float = 1.5  # distance from the rim of the mask
  merge_mm: float = 2.0  # centres nearer than this are one candidate

  # What the categories mean.
  travel_mm: float = 1.0  # in-plane shift between adjacent slices


def score(
  features: dict[str, np.ndarray], spacing_mm: Sequence[float]
) -> np.ndarray:
  """How much a candidate looks like a dark ball, [N] float32.

  A product, so that one clear sign against it cannot be outvoted: radial
  symmetry (per mm, as its gradients are per voxel), depth and roundness of
  the blob in its slice, convex roundness and flatness of the region, and
  little else that is dark close to it, where vessels go on. Exponents: a
  logistic fit on simulated training seeds, rounded.
  """
  f = features
  response = f['response'] / math.sqrt(spacing_mm[0] * spacing_mm[1])
  blob = np.sqrt(f['blobness'] * f['roundness'])
  flatness = f['flatness'] ** 1.5 * np.sqrt(f['core_flatness'])
  alone = np.where(f['core_touches_sphere'] > 0, _LEAVES, 1)
  alone = alone / (f['crowding'] + _CROWDING)
  product = response * blob * f['circularity'] * flatness * alone
  return product.astype(np.float32)


_CROWDING = 0.02  # so little that is dark nearby tells nothing
_LEAVES = 1 / 3  # of the score stays when even the core leaves the sphere


def judge(features: dict[str, np.ndarray], gates: Gates) -> list[str]:
  """The first gate that each candidate fails, '' where it passes all."""
  f = features
  shaped = f['core_area_pixels'] >= gates.shape_pixels
  wide = shaped & (_width_pixels(f) > _ONE_PIXEL)
  failed = {
    'near the edge': f['edge_mm'] < gates.edge_mm,
    'low contrast': f['contrast'] < gates.min_contrast,
    'too small': f['diameter_mm'] < gates.min_diameter_mm,
    'too large': f['diameter_mm'] > gates.max_diameter_mm,
    'vessel': (f['core_touches_sphere'] > 0)
    & (_length_over_width(f) > gates.max_elongation),
    'not round': wide & (f['core_circularity'] < gates.min_circularity),
    'elongated': wide & (f['core_eccentricity'] > gates.max_eccentricity),
    'not solid': shaped & (f['core_solidity'] < gates.min_solidity),
    'low score': f['score'] < gates.min_score,
  }
  reasons = list(failed)
  table = np.stack([*failed.values(), np.ones(len(shaped), bool)])
  return [([*reasons, ''])[i] for i in table.argmax(0)]


_SLICES = 3  # a length across fewer is not known
_ONE_PIXEL = 1.5  # up to this mean width, in pixels, a width is not known


def _width_pixels(features):
  """Mean width [N] of the core in its slice: area over longest diameter."""
  pixels = features['core_area_pixels']
  side_mm = np.sqrt(features['core_area_mm2'] / pixels)
  return pixels * side_mm / features['core_feret_mm']


def _length_over_width(features):
  """Elongation [N] of the core, as far as its voxels can show it.

  A dot on the border of two thick slices is in both. So across fewer than
  three slices a length counts only where it is in plane too.
  """
  squared = np.square(features['core_eccentricity'])
  in_plane = 1 / np.sqrt(np.maximum(1 - squared, 1e-6))
  known = features['core_num_slices'] >= _SLICES
  elongation = features['core_elongation']
  return np.where(known, elongation, np.minimum(elongation, in_plane))
