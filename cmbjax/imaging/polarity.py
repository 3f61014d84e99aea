"""Magnitude and local phase to the sign that veins have in this scan.

Rule: scanners disagree about the sign of phase, so it is measured on tubes
that are dark in the magnitude; a person can always override it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import curvature

_SCALE_MM = 0.5
_LEAST_SIGMA = 0.4  # voxels; a narrower Gaussian is no Gaussian on the grid
_BORDER_MM = 3.0
_TOP_PERCENT = 1.0
_LEAST_PHASE = 0.3  # rad; below it noise decides
_LEAST_MEDIAN = 0.1  # rad
_LEAST_VOXELS = 50
# Mean phase of the tubes over the spread in the brain. Simulated scans have
# 0.5 and more; noise, another scan's phase and one that is shifted 0.2 at most.
_LEAST_CONTRAST = 0.35
# Tubes within 39 degrees of the slice normal, which is the main field but for
# oblique scans. Across the field, thin slices show the inside of a vein, whose
# phase is the other way round. Of 324 variants of simulated scans all tubes
# were wrong in 59 (13 isotropic ones for certain), tubes along the field in 6.
_ALONG = 0.6  # squared cosine
_LEAST_ALONG = 0.2  # mean phase over spread; with less nothing is certain
_SEEN_ALONG = 0.05  # less says nothing
_MOST_VOXELS = 1_000_000  # the middle slices of a large scan are enough


# Sign that makes veins negative, by maker. Siemens: UK Biobank negates phase
# before the negative mask. GE: the other way round, by `fix_ge_phase` of
# MriResearchTools.jl. Of other makers no source is known to us.
_USUAL = {'siemens': -1, 'ge': 1}


class Polarity(NamedTuple):
  """The sign that makes veins negative, and how it was found."""

  sign: int  # phase * sign has negative veins
  median_rad: float  # of the phase in the tubes, as given
  voxels: int
  certain: bool  # False: too few tubes or no clear phase; the sign is a guess
  contrast: float = 0.0  # mean phase in the tubes / its spread in the brain
  along: float = 0.0  # the same of the tubes along the slice normal
  along_voxels: int = 0


def detect(
  magnitude: np.ndarray,
  phase: np.ndarray,
  spacing_mm: tuple[float, float, float],
  mask: np.ndarray,
) -> Polarity:
  """Decides by the phase inside tubes that are dark in the magnitude.

  The middle eigenvalue of the Hessian is large in dark tubes and dots but not
  in dark sheets: the falx has the opposite phase and would win otherwise.

  Args:
    magnitude: [X, Y, Z].
    phase: [X, Y, Z] high-passed, rad.
    spacing_mm: voxel sizes.
    mask: bool [X, Y, Z], brain.
  """
  box = _middle(mask)
  inside = _erode(mask[box], spacing_mm)
  if not inside.any():
    return Polarity(1, 0.0, 0, False)
  relative = np.asarray(magnitude[box], np.float32)
  relative = relative / _median(relative, inside)
  second = [h[inside] for h in _hessian(relative, spacing_mm)]
  score = curvature.middle_eigenvalue(second)
  top = score >= np.percentile(score, 100 - _TOP_PERCENT)
  brain = phase[box][inside]
  tubes = brain[top]
  spread = float(np.sqrt(np.mean(np.square(brain), dtype=np.float64)))
  contrast = float(tubes.mean(dtype=np.float64)) / max(spread, 1e-20)
  values = tubes[np.abs(tubes) > _LEAST_PHASE]
  median = float(np.median(values)) if values.size else 0.0
  along = tubes[_is_along([h[top] for h in second])]
  mean = float(along.sum(dtype=np.float64)) / max(along.size, 1)
  return _decide(
    median, int(values.size), contrast, mean / max(spread, 1e-20), along.size
  )


def combine(votes: Sequence[Polarity]) -> Polarity:
  """One sign for all echoes: each echo's median counts by its voxels."""
  total = sum(v.voxels for v in votes)
  median, contrast = (
    float(sum(mean * v.voxels for v, mean in zip(votes, means)) / max(total, 1))
    for means in ([v.median_rad for v in votes], [v.contrast for v in votes])
  )
  num_along = sum(v.along_voxels for v in votes)
  along = sum(v.along * v.along_voxels for v in votes) / max(num_along, 1)
  return _decide(median, total, contrast, along, num_along)


def usual_sign(maker: str) -> int | None:
  """The sign that makes veins negative on scanners of a maker; None: unknown.

  Args:
    maker: Manufacturer of a JSON file.
  """
  words = maker.lower().split() or ['']
  return _USUAL.get(words[0])


def _hessian(image, spacing_mm):
  """xx, yy, zz, xy, xz, yz derivatives at 0.5 mm, times the squared scale."""
  image = np.asarray(image, np.float32)
  sigma = [max(_SCALE_MM / s, _LEAST_SIGMA) for s in spacing_mm]
  result = []
  for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
    order = [(a == i) + (a == j) for a in range(3)]
    factor = np.float32(_SCALE_MM**2 / (spacing_mm[i] * spacing_mm[j]))
    result.append(factor * ndimage.gaussian_filter(image, sigma, order))
  return result


def _is_along(hessian):
  """Whether tubes [N] run along the third axis, by their Hessians."""
  xx, yy, zz, xy, xz, yz = (np.asarray(h, np.float64) for h in hessian)
  rows = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
  matrices = np.stack([np.stack(row, -1) for row in rows], -2)
  _, vectors = np.linalg.eigh(matrices)
  return vectors[:, 2, 0] ** 2 > _ALONG  # a tube bends least along itself


def _decide(median, voxels, contrast, along=0.0, along_voxels=0):
  """A sign by the median, which is believed where the contrast bears it out:
  the median of noise without its middle is far from 0 too. Where tubes along
  the field do not bear it out, they are followed, and nothing is certain."""
  is_clear = abs(median) > _LEAST_MEDIAN and voxels >= _LEAST_VOXELS
  sign = -1 if is_clear and median > 0 else 1
  certain = is_clear and contrast * np.sign(median) >= _LEAST_CONTRAST
  if along_voxels >= _LEAST_VOXELS:
    certain = certain and -sign * along >= _LEAST_ALONG
    if not certain and abs(along) >= _SEEN_ALONG:
      sign = -1 if along > 0 else 1
  return Polarity(
    sign, median, voxels, bool(certain), contrast, along, along_voxels
  )


def _median(image, inside):
  return max(float(np.median(image[inside])), 1e-20)


def _middle(mask):
  """A box round the mask, with as many middle slices as are needed."""
  if not mask.any():
    return (slice(0, 0),) * 3
  x, y, z = (
    np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a)))
    for a in range(3)
  )
  area = (x[-1] - x[0] + 1) * (y[-1] - y[0] + 1)
  keep = int(np.clip(_MOST_VOXELS // area, 5, z[-1] - z[0] + 1))
  start = (z[0] + z[-1] + 1 - keep) // 2
  start = max(start, 0)
  return (
    slice(x[0], x[-1] + 1),
    slice(y[0], y[-1] + 1),
    slice(start, start + keep),
  )


def _erode(mask, spacing_mm):
  """The mask without a border of 3 mm (in z at least one slice)."""
  result = mask.astype(np.uint8)
  for axis, spacing in enumerate(spacing_mm):
    radius = max(int(_BORDER_MM / spacing), 1)
    if mask.shape[axis] > 1:
      result = ndimage.minimum_filter1d(
        result, 2 * radius + 1, axis=axis, mode='constant', cval=0
      )
  return result.astype(bool)
