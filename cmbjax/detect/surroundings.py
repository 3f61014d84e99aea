"""Dark spots and the image round them to numbers that words are made of.

Rule: distances are in mm whatever the voxel, and nothing here decides
anything; a network has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

_DIRECTIONS = 128
_STEPS_MM = (0.5, 1.5, 2.5)  # beyond the surface: where a vessel goes on
_OPPOSITE = -0.7  # cosine; a vessel may bend by 45 degrees
_SHELL_MM = (3.0, 4.5, 6.0)  # from the centre, past the surface: background
_CORE_MM = 1.0  # the darkest voxel this near is the middle of a spot
_DARK = 0.5  # of the way from the background to the spot
_ALIKE = 0.25  # of the background: parenchyma


class Around(NamedTuple):
  """What is round N spots.

  Attributes:
    contrast: [N] (background - darkest) / background, 0..1.
    tubularity: [N] how dark it goes on at both ends, 0 (not) to 1 (as dark).
    one_end: [N] the same at the darker end.
    parenchyma: [N] share of what is round it that is as bright as brain.
    outside: [N] share of it that is outside of the brain mask.
  """

  contrast: np.ndarray
  tubularity: np.ndarray
  one_end: np.ndarray
  parenchyma: np.ndarray
  outside: np.ndarray


def measure(
  unit: np.ndarray,
  mask: np.ndarray,
  spacing_mm: Sequence[float],
  *,
  centre: np.ndarray,
  diameter_mm: np.ndarray,
) -> Around:
  """Looks from each spot in all directions.

  Args:
    unit: [X, Y, Z] SWI in 0..1.
    mask: bool [X, Y, Z], the brain.
    spacing_mm: voxel sizes.
    centre: [N, 3] voxel indices.
    diameter_mm: [N] of the spots.
  """
  spacing = np.asarray(spacing_mm, float)
  way = directions(_DIRECTIONS)
  # A thick slice is dark over all of its thickness.
  surface = np.maximum(np.asarray(diameter_mm, float) / 2, 0.5)[:, None]
  surface = surface + 0.5 * np.abs(way) @ spacing
  darkest = _darkest(unit, np.asarray(centre), spacing)
  far = _seen(unit, mask, centre, spacing, way, surface, _SHELL_MM)
  with np.errstate(invalid='ignore'):
    flat = far.reshape(len(far), -1)
    known = np.isfinite(flat).any(1)
    usual = np.full(len(flat), np.nan)
    usual[known] = np.nanmedian(flat[known], 1)
  usual = np.maximum(np.where(known, usual, darkest), 1e-6)
  near = _seen(unit, mask, centre, spacing, way, surface, _STEPS_MM)
  depth = np.maximum(usual - darkest, 1e-6)
  darkness = (usual[:, None, None] - near) / depth[:, None, None]
  inside = np.isfinite(near)
  alike = inside & (np.abs(near / usual[:, None, None] - 1) < _ALIKE)
  alike &= darkness < _DARK
  # Outside of the brain nothing is known to go on.
  goes_on = np.where(inside, np.clip(darkness, 0, 1), 0).mean(2)  # [N, D]
  behind = way @ way.T < _OPPOSITE
  other = np.stack([goes_on[:, row].max(1) for row in behind], 1)
  total = max(near.shape[1] * near.shape[2], 1)
  return Around(
    contrast=np.clip((usual - darkest) / usual, 0, 1),
    tubularity=np.minimum(goes_on, other).max(1),
    one_end=goes_on.max(1),
    parenchyma=alike.sum((1, 2)) / total,
    outside=1 - inside.sum((1, 2)) / total,
  )


def directions(count: int) -> np.ndarray:
  """Unit vectors [count, 3], evenly over the sphere (a Fibonacci spiral)."""
  n = np.arange(count) + 0.5
  z = 1 - 2 * n / count
  turn = np.pi * (1 + np.sqrt(5)) * n
  wide = np.sqrt(1 - z**2)
  return np.stack([wide * np.cos(turn), wide * np.sin(turn), z], 1)


def _seen(unit, mask, centre, spacing, way, surface, steps):
  """Brightness [N, D, S] beyond the surface; NaN outside of the brain."""
  reach = surface[:, :, None] + np.asarray(steps)
  place = np.asarray(centre, float)[:, None, None] + (
    reach[..., None] * way[None, :, None] / spacing
  )
  index = np.moveaxis(place, -1, 0)
  value = ndimage.map_coordinates(unit, index, order=1, mode='nearest')
  whole = np.rint(index).astype(int)
  shape = np.reshape(mask.shape, (3, 1, 1, 1))
  in_box = ((whole >= 0) & (whole < shape)).all(0)
  whole = np.clip(whole, 0, shape - 1)
  return np.where(in_box & mask[tuple(whole)], value, np.nan)


def _darkest(unit, centre, spacing):
  """The darkest voxel [N] within `_CORE_MM` of each centre."""
  reach = np.floor(_CORE_MM / spacing).astype(int)
  steps = np.stack(
    np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing='ij'), -1
  ).reshape(-1, 3)
  place = np.clip(centre[:, None] + steps, 0, np.array(unit.shape) - 1)
  return unit[tuple(np.moveaxis(place, -1, 0))].min(1).astype(float)
