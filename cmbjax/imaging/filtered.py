"""Whether a phase is high-passed already, asked of its voxels.

Rule: only what is certain counts. A phase that is called filtered is flat all
over the slice, so to use it as it is leaves no background behind.
"""

import numpy as np
from scipy import ndimage

_WIDTH_MM = 8.0  # of the low-pass: wider than any high-pass of an SWI
_BLOCK_MM = 2.0  # of voxels that are added before it
_SLICES = 8
_TISSUE = 0.3  # of the bright blocks: darker ones are air or edges
# In 90 of 100 places of a slice the slow phase is below this. Of simulated
# scans filtered ones have 0.05 to 0.2, raw ones 1.4 and more.
_FLAT_RAD = 0.3
_LEAST_MM = 80.0  # a smaller piece of a raw phase may be flat by chance
_LEAST_BLOCKS = 400


def is_high_passed(
  magnitude: np.ndarray,
  phase: np.ndarray,
  spacing_mm: tuple[float, float, float],
) -> bool:
  """Whether no slow phase is left in any of some slices, for certain.

  Args:
    magnitude: [X, Y, Z], the slice axis last.
    phase: [X, Y, Z] rad, wrapped or not.
    spacing_mm: voxel sizes.
  """
  sides = [n * side for n, side in zip(phase.shape, spacing_mm)]
  if min(sides[:2]) < _LEAST_MM:
    return False
  depth = phase.shape[2]
  places = np.unique(np.linspace(0.2, 0.8, _SLICES) * (depth - 1) + 0.5)
  slow = (
    _slow(magnitude[..., z], phase[..., z], spacing_mm)
    for z in np.unique(places.astype(int))
  )
  return all(
    each.size >= _LEAST_BLOCKS and np.percentile(each, 90) < _FLAT_RAD
    for each in slow
  )


def _slow(magnitude, phase, spacing_mm) -> np.ndarray:
  """Size of the slow phase [N], rad, in the tissue of one slice [X, Y]."""
  size = [max(round(_BLOCK_MM / side), 1) for side in spacing_mm[:2]]
  magnitude = np.asarray(magnitude, np.float32)
  parts = magnitude, magnitude * np.cos(phase), magnitude * np.sin(phase)
  sigma = [_WIDTH_MM / (n * side) for n, side in zip(size, spacing_mm)]
  total, real, imaginary = (
    ndimage.gaussian_filter(_blocks(part, size), sigma, mode='constant')
    for part in parts
  )
  tissue = total > _TISSUE * np.percentile(total, 99)
  return np.abs(np.arctan2(imaginary, real)[tissue])


def _blocks(image, size) -> np.ndarray:
  """Sums over blocks of one slice; what fills no block at the end is left."""
  x, y = (n // step for n, step in zip(image.shape, size))
  kept = image[: x * size[0], : y * size[1]]
  return kept.reshape(x, size[0], y, size[1]).sum((1, 3))
