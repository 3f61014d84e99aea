"""Magnitude and local phase to the sign that veins have in this scan.

Rule: scanners disagree about the sign of phase, so it is measured on tubes
that are dark in the magnitude; a person can always override it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

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
_MOST_VOXELS = 1_000_000  # the middle slices of a large scan are enough


class Polarity(NamedTuple):
  """The sign that makes veins negative, and how it was found."""

  sign: int  # phase * sign has negative veins
  median_rad: float  # of the phase in the tubes, as given
  voxels: int
  certain: bool  # False: too few tubes or no clear phase; the sign is a guess
  contrast: float = 0.0  # mean phase in the tubes / its spread in the brain


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
  second = (h[inside] for h in _hessian(relative, spacing_mm))
  score = middle_eigenvalue(second)
  level = np.percentile(score, 100 - _TOP_PERCENT)
  brain = phase[box][inside]
  tubes = brain[score >= level]
  spread = float(np.sqrt(np.mean(np.square(brain), dtype=np.float64)))
  contrast = float(tubes.mean(dtype=np.float64)) / max(spread, 1e-20)
  values = tubes[np.abs(tubes) > _LEAST_PHASE]
  median = float(np.median(values)) if values.size else 0.0
  return _decide(median, int(values.size), contrast)


def combine(votes: Sequence[Polarity]) -> Polarity:
  """One sign for all echoes: each echo's median counts by its voxels."""
  total = sum(v.voxels for v in votes)
  median, contrast = (
    float(sum(mean * v.voxels for v, mean in zip(votes, means)) / max(total, 1))
    for means in ([v.median_rad for v in votes], [v.contrast for v in votes])
  )
  return _decide(median, total, contrast)


def middle_eigenvalue(hessian) -> np.ndarray:
  """Second of the three eigenvalues of symmetric 3x3 matrices (Smith 1961).

  A formula: numpy.linalg.eigvalsh takes 18 times as long (300,000 of them).

  Args:
    hessian: xx, yy, zz, xy, xz, yz, each of one shape.
  """
  xx, yy, zz, xy, xz, yz = hessian
  mean = (xx + yy + zz) / 3
  xx, yy, zz = xx - mean, yy - mean, zz - mean
  off = xy**2 + xz**2 + yz**2
  spread = np.sqrt((xx**2 + yy**2 + zz**2 + 2 * off) / 6)
  determinant = (
    xx * (yy * zz - yz**2) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
  )
  cube = np.maximum(spread**3, np.finfo(np.float32).tiny)
  angle = np.arccos(np.clip(determinant / (2 * cube), -1, 1)) / 3
  return mean + 2 * spread * np.cos(angle - np.float32(2 * np.pi / 3))


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


def _decide(median, voxels, contrast):
  """A sign by the median, which is believed where the contrast bears it out:
  the median of noise without its middle is far from 0 too."""
  is_clear = abs(median) > _LEAST_MEDIAN and voxels >= _LEAST_VOXELS
  sign = -1 if is_clear and median > 0 else 1
  certain = is_clear and contrast * np.sign(median) >= _LEAST_CONTRAST
  return Polarity(sign, median, voxels, bool(certain), contrast)


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
