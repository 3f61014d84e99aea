"""An SWI to a map of how much every voxel looks like the centre of a dark disc.

Fast radial symmetry transform, dark version, slice by slice. Rule: radii and
spacing are in mm; gradients are per voxel, in units of the image given.
"""

import concurrent.futures
import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cmbjax import workers

RADII_MM = (1.0, 1.5, 2.0, 3.0)  # public pipeline on 3T SWI; lesions 2-6 mm
STRICTNESS = 2.0  # alpha of the paper: 1 loose, 3 strict
MIN_GRADIENT = 0.05  # beta of the paper; per voxel, local brain = 1
SMOOTHING = 0.25  # width of the Gaussian, in radii


def radial_symmetry(
  image: np.ndarray,
  spacing_mm: Sequence[float],
  *,
  mask: np.ndarray | None = None,
  radii_mm: Sequence[float] = RADII_MM,
  strictness: float = STRICTNESS,
  min_gradient: float = MIN_GRADIENT,
  jobs: int | None = None,
) -> np.ndarray:
  """Loy and Zelinsky, "Fast radial symmetry for detecting points of
  interest", IEEE PAMI 25(8), 2003: dark centres only, each axial slice alone.

  Args:
    image: [X, Y, Z]; brain about 1.
    spacing_mm: voxel sizes along x, y, z.
    mask: [X, Y, Z] bool, the pixels that may vote; None means all.
    radii_mm: rounded to voxels; doubles count once.
    strictness: exponent alpha on the number of votes.
    min_gradient: pixels with a smaller gradient do not vote.
    jobs: threads; None means all cores.

  Returns:
    [X, Y, Z] float32, >= 0, mean over the radii.
  """
  slices = np.moveaxis(image, 2, 0)
  allowed = None if mask is None else np.moveaxis(mask, 2, 0)
  result = np.zeros(slices.shape, np.float32)  # [Z, X, Y]
  radii = radii_in_voxels(radii_mm, spacing_mm)

  def one(z: int) -> None:
    if allowed is None or allowed[z].any():
      result[z] = _slice(
        np.ascontiguousarray(slices[z], np.float32),
        None if allowed is None else allowed[z],
        spacing_mm=spacing_mm,
        radii=radii,
        strictness=strictness,
        min_gradient=min_gradient,
      )

  over(one, len(slices), jobs)
  return np.moveaxis(result, 0, 2)


def over(function, count: int, jobs: int | None) -> list:
  """`[function(0), ..]` on threads: numpy and scipy release the lock.

  Args:
    function: of an index.
    count: how many indices.
    jobs: threads; None: one per core.
  """
  with concurrent.futures.ThreadPoolExecutor(jobs or workers.cores()) as pool:
    return list(pool.map(function, range(count)))


def radii_in_voxels(
  radii_mm: Sequence[float], spacing_mm: Sequence[float]
) -> tuple[int, ...]:
  """Whole radii of at least one voxel, ascending, each once."""
  side = math.sqrt(spacing_mm[0] * spacing_mm[1])
  return tuple(sorted({max(1, round(radius / side)) for radius in radii_mm}))


def gradient(
  image: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
  """In-plane Sobel gradient [X, Y] per voxel of the mean in-plane side."""
  side = math.sqrt(spacing_mm[0] * spacing_mm[1])
  return tuple(
    ndimage.sobel(image, axis, mode='nearest')
    * np.float32(side / spacing_mm[axis] / 8)
    for axis in (0, 1)
  )


def cast_votes(
  shape: tuple[int, int],
  place: tuple[np.ndarray, np.ndarray],
  direction: tuple[np.ndarray, np.ndarray],
  weight: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Votes and their weight, summed where they land.

  Args:
    shape: of the slice.
    place: [P] rows and [P] columns of the pixels that vote.
    direction: [P] and [P], from the pixel to its candidate centre in voxels,
      rounded here; votes that leave the slice are lost.
    weight: [P] gradient norms.

  Returns:
    Number of votes O_n [X, Y] and sum of weights M_n [X, Y], float32.
  """
  row = place[0] + np.rint(direction[0]).astype(np.int32)
  column = place[1] + np.rint(direction[1]).astype(np.int32)
  inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
  flat = (row * shape[1] + column)[inside]
  size = shape[0] * shape[1]
  votes = np.bincount(flat, minlength=size).reshape(shape)
  weights = np.bincount(flat, weight[inside], size).reshape(shape)
  return votes.astype(np.float32), weights.astype(np.float32)


def _slice(image, allowed, *, spacing_mm, radii, strictness, min_gradient):
  side = math.sqrt(spacing_mm[0] * spacing_mm[1])
  to_voxels = (side / spacing_mm[0], side / spacing_mm[1])
  gx, gy = gradient(image, spacing_mm)
  norm = np.sqrt(gx * gx + gy * gy)
  voters = norm > min_gradient
  if allowed is not None:
    voters &= allowed
  place = tuple(a.astype(np.int32) for a in np.nonzero(voters))
  weight = norm[place]
  # Unit vectors towards the dark side; scaled by the radius they are voxels.
  dx = -gx[place] / weight * np.float32(to_voxels[0])
  dy = -gy[place] / weight * np.float32(to_voxels[1])
  total = np.zeros_like(image)
  for radius in radii:
    votes, weights = cast_votes(
      image.shape, place, (radius * dx, radius * dy), weight
    )
    limit = np.float32(8.0 if radius == 1 else 9.9)  # k_n of the paper
    found = np.minimum(votes, limit) / limit
    symmetry = weights / limit * found**strictness
    sigma = [SMOOTHING * radius * scale for scale in to_voxels]
    total += ndimage.gaussian_filter(
      symmetry, sigma, mode='constant', truncate=3.0
    )
  return total / np.float32(len(radii))
