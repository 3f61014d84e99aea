"""Voxels of an SWI to how blob-like and how round their slice is there.

A dark disc has two large positive eigenvalues of the Hessian, a dark line has
one. Rule: diameters in mm.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

DIAMETERS_MM = (1.5, 2.2, 3.2, 4.5)


def blobness_at(
  image: np.ndarray,
  place: np.ndarray,
  spacing_mm: Sequence[float],
  *,
  diameters_mm: Sequence[float] = DIAMETERS_MM,
) -> tuple[np.ndarray, np.ndarray]:
  """Largest scale-normalised lambda_min over the diameters, at N voxels.

  The scale of a disc of diameter d is d / (2 sqrt 2) (Lindeberg, IJCV 30(2),
  1998).

  Args:
    image: [X, Y, Z].
    place: [N, 3] voxel indices.
    spacing_mm: voxel sizes along x, y, z.
    diameters_mm: diameters looked for.

  Returns:
    Largest lambda_min [N], and lambda_min / lambda_max [N] at that diameter
    (1 for a disc, 0 for a line); both 0 where lambda_min is never positive.
  """
  widest = max(diameters_mm) / (2 * math.sqrt(2))
  half = [int(4 * max(widest / side, 0.4) + 0.5) for side in spacing_mm[:2]]
  shape = tuple(2 * h + 1 for h in half)
  place = np.asarray(place).reshape(-1, 3)
  # Clipped: the edge goes on beyond the image.
  rows, columns = (
    np.clip(place[:, axis, None] + np.arange(-h, h + 1), 0, size - 1)
    for axis, (h, size) in enumerate(zip(half, image.shape))
  )
  patches = image[rows[:, :, None], columns[:, None], place[:, 2, None, None]]
  patches = patches.reshape(-1, math.prod(shape))
  blob = np.zeros(len(place), np.float32)
  roundness = np.zeros(len(place), np.float32)
  for diameter in diameters_mm:
    xx, yy, xy = _kernels(shape, spacing_mm, diameter).reshape(3, -1)
    xx, yy, xy = patches @ xx, patches @ yy, patches @ xy
    spread = np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    small, large = (xx + yy) / 2 - spread, (xx + yy) / 2 + spread
    better = small > blob
    blob[better] = small[better]
    roundness[better] = small[better] / large[better]
  return blob, roundness


def _kernels(shape, spacing_mm, diameter_mm):
  """Scaled second derivatives [3, *shape] as weights of one patch."""
  scale = diameter_mm / (2 * math.sqrt(2))
  # Below 0.4 voxels a sampled Gaussian is too narrow to be one.
  sigma = [max(scale / side, 0.4) for side in spacing_mm[:2]]
  spike = np.zeros(shape, np.float32)
  spike[shape[0] // 2, shape[1] // 2] = 1
  orders = ((2, 0), (0, 2), (1, 1))  # even in sum: no mirroring needed
  return np.stack(
    [
      ndimage.gaussian_filter(
        spike, sigma, order=order, mode='constant', truncate=4.0
      )
      * np.float32(
        scale**2 / (spacing_mm[0] ** order[0] * spacing_mm[1] ** order[1])
      )
      for order in orders
    ]
  )
