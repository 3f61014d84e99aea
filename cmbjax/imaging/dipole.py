"""Local phase round small spots to which way they change the field.

Blood, iron and veins are paramagnetic, calcium is diamagnetic; both are dark
in an SWI, and only the sign of the field round them tells which. Rule: the
field outside of a spot is compared, not the phase inside, which wraps and is
lost where there is no signal.

Outside of a small ball the field is that of a dipole, (3 cos^2 - 1) / r^3 from
the axis of the main field (Schenck, Medical Physics 23:815, 1996).
"""

from collections.abc import Sequence

import numpy as np

_REACH_MM = 4.0  # from the surface; farther out other things decide
_LEAST_VOXELS = 20


def axis_of_field(affine: np.ndarray) -> np.ndarray:
  """Direction [3] of the main field along the voxel axes.

  That is the z axis of the world, as in all scanners in which people lie.

  Args:
    affine: [4, 4] voxel index to world mm.
  """
  axes = np.asarray(affine, float)[:3, :3]
  return (axes / np.linalg.norm(axes, axis=0))[2]


def susceptibility_sign(
  phase: np.ndarray,
  mask: np.ndarray,
  spacing_mm: Sequence[float],
  *,
  centre: np.ndarray,
  radius_mm: np.ndarray,
  field: np.ndarray,
) -> np.ndarray:
  """How much the phase round each spot is that of a dipole, -1..1.

  Args:
    phase: [X, Y, Z] high-passed, rad or any multiple of it; veins negative.
    mask: bool [X, Y, Z], the brain.
    spacing_mm: voxel sizes.
    centre: [N, 3] voxel indices.
    radius_mm: [N] of the spots.
    field: [3] direction of the main field along the voxel axes.

  Returns:
    [N] correlation with the field of a paramagnetic ball: above 0 it is as
    blood, below 0 as calcium; NaN where too little brain is round it.
  """
  spacing = np.asarray(spacing_mm, float)
  out = np.full(len(centre), np.nan)
  for n, (place, radius) in enumerate(zip(np.asarray(centre), radius_mm)):
    reach = np.ceil((radius + _REACH_MM) / spacing).astype(int)
    low = np.maximum(place - reach, 0)
    high = np.minimum(place + reach + 1, phase.shape)
    box = tuple(map(slice, low, high))
    grid = np.ogrid[box]
    away = [(g - c) * s for g, c, s in zip(grid, place, spacing)]
    square = sum(a**2 for a in away)
    # Half a voxel more: the voxels at the surface are partly inside.
    inner = radius + 0.5 * spacing.min()
    used = mask[box] & (square > inner**2)
    used &= square <= (radius + _REACH_MM) ** 2
    if used.sum() < _LEAST_VOXELS:
      continue
    along = sum(a * b for a, b in zip(away, field))
    square = np.broadcast_to(square, used.shape)[used]
    along = np.broadcast_to(along, used.shape)[used]
    dipole = (3 * along**2 / square - 1) / square**1.5
    out[n] = -_correlation(dipole, phase[box][used].astype(float))
  return out


def _correlation(one, other) -> float:
  one, other = one - one.mean(), other - other.mean()
  size = float(np.sqrt((one**2).sum() * (other**2).sum()))
  return float((one * other).sum()) / size if size > 0 else 0.0
