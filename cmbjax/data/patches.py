"""A scan and candidate positions to 24x24x12 patches round them.

Rule: the candidate sits at index (12, 12, 6) of its patch, and voxels beyond
the scan repeat its edge. The crop to 16x16x8 happens after augmentation.
"""

import numpy as np
from scipy import ndimage

PATCH = (24, 24, 12)  # X Y Z
CENTRE = tuple(size // 2 for size in PATCH)
RESAMPLED_MM = (0.5, 0.5, 2.0)  # the grid of both brain tumour cohorts

_TRUNCATE = 4.0  # of a Gaussian, in sigmas
_FWHM = 2 * np.sqrt(2 * np.log(2))  # of a Gaussian, in sigmas


def cut(image: np.ndarray, centres: np.ndarray) -> np.ndarray:
  """Patches on the scan's own grid, as in the published code.

  Args:
    image: [X, Y, Z].
    centres: int [N, 3], voxel indices.

  Returns:
    [N, 24, 24, 12], the dtype of `image`.
  """
  centres = np.asarray(centres).reshape(-1, 3)
  index = []
  for axis, (size, middle) in enumerate(zip(PATCH, CENTRE)):
    along = centres[:, axis, None] + np.arange(size) - middle  # [N, size]
    # Repeats the edge: zeros would look like dark lesions.
    along = np.clip(along, 0, image.shape[axis] - 1)
    shape = [-1] + [size if a == axis else 1 for a in range(3)]
    index.append(along.reshape(shape))
  return image[tuple(index)]


def resample(
  image: np.ndarray,
  centres: np.ndarray,
  spacing_mm: tuple[float, float, float],
  *,
  grid_mm: tuple[float, float, float] = RESAMPLED_MM,
  onto: np.ndarray | None = None,
) -> np.ndarray:
  """Patches of one size in mm, whatever the scan's voxels are.

  Linear interpolation; an axis that becomes coarser by a ratio r is smoothed
  first, with a Gaussian of FWHM sqrt(r^2 - 1) voxels (Cardoso et al., MICCAI
  2015), so nothing aliases.

  Args:
    image: [X, Y, Z].
    centres: [N, 3], voxel indices (fractions are allowed).
    spacing_mm: voxel sizes of `image`.
    grid_mm: voxel sizes of the patches.
    onto: [4, 4] rigid map of voxel indices, as onto the other half of the
      brain: each voxel of a patch comes from there. None: from its own place.

  Returns:
    float32 [N, 24, 24, 12].
  """
  centres = np.asarray(centres, float).reshape(-1, 3)
  ratio = np.asarray(grid_mm, float) / np.asarray(spacing_mm, float)
  steps = [
    (np.arange(size) - middle) * step
    for size, middle, step in zip(PATCH, CENTRE, ratio)
  ]
  offsets = np.stack(np.meshgrid(*steps, indexing='ij'))  # [3, 24, 24, 12]
  if onto is not None:
    centres = centres @ onto[:3, :3].T + onto[:3, 3]
    offsets = np.tensordot(onto[:3, :3], offsets, 1)
  patches = [
    _resampled(np.asarray(image), centre[:, None, None, None] + offsets, ratio)
    for centre in centres
  ]
  return np.array(patches, np.float32).reshape(-1, *PATCH)


def _resampled(image, place, ratio):
  """One patch at places [3, 24, 24, 12]: only what is near is smoothed."""
  sigmas = np.sqrt(np.maximum(ratio**2 - 1, 0)) / _FWHM
  box = []
  for along, sigma, size in zip(place, sigmas, image.shape):
    reach = int(_TRUNCATE * sigma + 0.5) + 1  # as far as the filter sees
    first = int(np.clip(np.floor(along.min()) - reach, 0, size - 1))
    last = int(np.clip(np.ceil(along.max()) + reach, 0, size - 1))
    box.append(slice(first, last + 1))
  part = np.asarray(image[tuple(box)], np.float32)
  for axis in np.flatnonzero(ratio > 1):
    part = ndimage.gaussian_filter1d(
      part, sigmas[axis], axis, mode='nearest', truncate=_TRUNCATE
    )
  start = np.array([one.start for one in box])[:, None, None, None]
  return ndimage.map_coordinates(part, place - start, order=1, mode='nearest')
