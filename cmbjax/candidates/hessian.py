"""An SWI to a map of dark blobs: smaller Hessian eigenvalue, slice by slice.

The alternative to the radial symmetry transform. Rule: diameters in mm.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cmbjax.candidates.radial_symmetry import over

DIAMETERS_MM = (1.5, 2.2, 3.2, 4.5)


def blobness(
  image: np.ndarray,
  spacing_mm: Sequence[float],
  *,
  mask: np.ndarray | None = None,
  diameters_mm: Sequence[float] = DIAMETERS_MM,
  jobs: int | None = None,
) -> np.ndarray:
  """Largest scale-normalised lambda_min over the diameters, in each slice.

  A dark disc has two large positive eigenvalues, a dark line one. The scale
  of a disc of diameter d is d / (2 sqrt 2) (Lindeberg, IJCV 30(2), 1998).

  Args:
    image: [X, Y, Z]; brain about 1.
    spacing_mm: voxel sizes along x, y, z.
    mask: [X, Y, Z] bool; slices without a voxel in it are skipped.
    diameters_mm: diameters looked for.
    jobs: threads; None means all cores.

  Returns:
    [X, Y, Z] float32, >= 0.
  """
  slices = np.ascontiguousarray(np.moveaxis(image, 2, 0), np.float32)
  result = np.zeros(slices.shape, np.float32)  # [Z, X, Y]

  def one(z: int) -> None:
    if mask is None or mask[:, :, z].any():
      for diameter in diameters_mm:
        small, _ = eigenvalues(slices[z], spacing_mm, diameter_mm=diameter)
        np.maximum(result[z], small, out=result[z])

  over(one, len(slices), jobs)
  return np.moveaxis(result, 0, 2)


def eigenvalues(
  image: np.ndarray, spacing_mm: Sequence[float], *, diameter_mm: float
) -> tuple[np.ndarray, np.ndarray]:
  """Smaller and larger eigenvalue [X, Y] of the scaled in-plane Hessian.

  Args:
    image: [X, Y], one slice.
    spacing_mm: in plane.
    diameter_mm: of the blobs that are looked for.
  """
  scale = diameter_mm / (2 * math.sqrt(2))
  # Below 0.4 voxels a sampled Gaussian is no Gaussian any more.
  sigma = [max(scale / side, 0.4) for side in spacing_mm[:2]]

  def second(order: tuple[int, int]) -> np.ndarray:
    sides = spacing_mm[0] ** order[0] * spacing_mm[1] ** order[1]
    derived = ndimage.gaussian_filter(
      image, sigma, order=order, mode='nearest', truncate=4.0
    )
    return derived * np.float32(scale**2 / sides)

  xx, yy, xy = second((2, 0)), second((0, 2)), second((1, 1))
  half = np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
  mean = (xx + yy) / 2
  return mean - half, mean + half


def blobness_at(
  image: np.ndarray,
  place: np.ndarray,
  spacing_mm: Sequence[float],
  *,
  diameters_mm: Sequence[float] = DIAMETERS_MM,
) -> tuple[np.ndarray, np.ndarray]:
  """The same at N voxels only, and how round the blob there is.

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
  pads = [(h, h) for h in half]
  padded = np.pad(image, [*pads, (0, 0)], mode='edge')
  shape = tuple(2 * h + 1 for h in half)
  windows = np.lib.stride_tricks.sliding_window_view(padded, shape, (0, 1))
  patches = windows[tuple(np.asarray(place).T)].reshape(-1, math.prod(shape))
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
