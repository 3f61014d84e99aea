"""A voxel that a reader clicked to the outline of what is dark there.

Rule: the same growing as in detection, in a box round the voxel, so that it
is quick on any scan and the same on any computer.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.candidates import segmentation
from cmbjax.candidates.gates import Gates
from cmbjax.errors import InputError

RADIUS_MM = 6.0  # default; microbleeds are up to 10 mm wide (Greenberg 2009)
RADII_MM = (1.0, 15.0)  # below it is one voxel, above it is no microbleed
LEAST_CONTRAST = Gates().min_contrast  # of a candidate, too
_AROUND_MM = 14.0  # of tissue, for its usual brightness
_DARK = 0.3  # of that: not tissue, when there is much of it
_MUCH_MM = 12.0  # no microbleed is as wide
_MOST = 0.97  # of so wide a cube


class Grown(NamedTuple):
  """An outline."""

  voxels: np.ndarray  # sorted linear index, x fastest; none: nothing is dark
  tool: dict[str, Any]  # what it was made with, for the log


def grow(
  array: np.ndarray,
  spacing_mm: Sequence[float],
  ijk: Sequence[int],
  *,
  radius_mm: float = RADIUS_MM,
  free: Callable[[tuple], np.ndarray] | None = None,
  least_contrast: float = LEAST_CONTRAST,
) -> Grown:
  """What is dark and joined to a voxel, within a sphere round it.

  Args:
    array: [X, Y, Z], the image that is judged; lesions are dark.
    spacing_mm: voxel sizes.
    ijk: the voxel.
    radius_mm: of the sphere.
    free: given slices of three axes, whether those voxels may be taken: those
      of other lesions may not; None: all may.
    least_contrast: what is less dark than this share below its surroundings
      has no outline that means anything; 0: always one, of a voxel or more.

  Raises:
    InputError: the voxel is outside, is not free, or the radius is not
      allowed.
  """
  low, high = RADII_MM
  if not low <= radius_mm <= high:
    raise InputError(
      f'radius_mm: found {radius_mm:g}; give {low:g} to {high:g} mm.'
    )
  shape = array.shape
  if len(ijk) != 3 or not all(0 <= v < n for v, n in zip(ijk, shape)):
    raise InputError(f'ijk: {list(ijk)} is outside of the image {shape}.')
  spacing_mm = tuple(float(side) for side in spacing_mm)
  box = _box(ijk, shape, spacing_mm, radius_mm + _AROUND_MM)
  part = np.asarray(array[box], np.float32)
  seed = tuple(v - b.start for v, b in zip(ijk, box))
  mask = _tissue(part, spacing_mm)
  if free is not None:
    mine = free(box)
    mask &= mine
    if not mine[seed]:
      raise InputError('ijk: that voxel belongs to another lesion.')
  mask[seed] = True
  gates = dataclasses.replace(Gates(), growth_mm=float(radius_mm))
  found = segmentation.segment(
    part, spacing_mm, mask, [seed], gates=gates, jobs=1
  )
  own = _within((found.labels == 1) & mask, seed, spacing_mm, radius_mm)
  contrast = float(found.measures['contrast'][0])
  if contrast < least_contrast:
    own = np.zeros_like(own)
  index = np.argwhere(own).reshape(-1, 3) + [b.start for b in box]
  voxels = np.ravel_multi_index(tuple(index.T), shape, order='F')
  tool = _tool(gates, radius_mm, least_contrast)
  tool |= {'contrast': round(contrast, 4), 'ijk': [int(v) for v in ijk]}
  return Grown(np.sort(voxels), tool)


def _tool(gates, radius_mm, least_contrast) -> dict[str, Any]:
  return {
    'name': 'grow',
    'radius_mm': float(radius_mm),
    'level': gates.level,
    'core_level': gates.core_level,
    'seed_mm': gates.seed_mm,
    'shell_mm': list(gates.shell_mm),
    'least_contrast': float(least_contrast),
  }


def _box(ijk, shape, spacing_mm, reach_mm):
  reach = [int(np.ceil(reach_mm / side)) for side in spacing_mm]
  return tuple(
    slice(max(0, int(v) - r), min(n, int(v) + r + 1))
    for v, r, n in zip(ijk, reach, shape)
  )


def _tissue(part, spacing_mm):
  """Without the dark outside of the head: dark cubes wider than a lesion."""
  light = part[part > 0]
  usual = np.percentile(light, 60) if light.size else 0
  dark = part <= _DARK * usual
  sides = [max(1, round(_MUCH_MM / side)) for side in spacing_mm]
  share = ndimage.uniform_filter(dark.astype(np.float32), sides, mode='nearest')
  wide = share >= _MOST
  if not wide.any():
    return np.ones(part.shape, bool)
  return ~(dark & (ndimage.maximum_filter(wide, sides, mode='nearest')))


def _within(own, seed, spacing_mm, radius_mm):
  """What of the outline is in the sphere and hangs together there."""
  axes = np.ogrid[tuple(slice(n) for n in own.shape)]
  squares = [((a - s) * d) ** 2 for a, s, d in zip(axes, seed, spacing_mm)]
  # A little more, or a voxel on the sphere is in on one computer only.
  own = own & (sum(squares) <= (radius_mm + 1e-6) ** 2)
  pieces, count = ndimage.label(own)
  if count == 0:
    own[seed] = True
  elif count > 1:
    main = pieces[seed] or np.bincount(pieces[pieces > 0]).argmax()
    own = pieces == main
  return own
