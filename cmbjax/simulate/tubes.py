"""Tubes in MNI mm to the voxels that they fill.

Rule: a tube is a polyline with a radius; volume is deposited, so a vein that
is thinner than a voxel keeps its true moment.
"""

from typing import NamedTuple

import numpy as np

from cmbjax.simulate import anatomy

STEP_MM = 0.5
_ODD = np.array([0.3, 0.1, 0.7], np.float32)  # parallel to no vein


class Tubes(NamedTuple):
  """Polylines of equal step; points after the end of a tube are NaN."""

  points_mm: np.ndarray  # [N, S, 3] float32
  radius_mm: np.ndarray  # [N, S]
  kind: np.ndarray  # [N] str
  # [N] share of the blood that lost its oxygen; None: all of it.
  venous: np.ndarray | None = None


def stack(parts) -> Tubes:
  longest = max(p.points_mm.shape[1] for p in parts)

  def pad(array):
    width = [(0, 0)] * array.ndim
    width[1] = (0, longest - array.shape[1])
    return np.pad(array, width, constant_values=np.nan)

  return Tubes(
    np.concatenate([pad(p.points_mm) for p in parts]).astype(np.float32),
    np.concatenate([pad(p.radius_mm) for p in parts]).astype(np.float32),
    np.concatenate([p.kind for p in parts]),
    _venous(parts),
  )


def _venous(parts):
  if all(p.venous is None for p in parts):
    return None
  return np.concatenate([
    np.ones(len(p.kind), np.float32) if p.venous is None else p.venous
    for p in parts
  ])  # fmt: skip


def unit(vectors):
  norm = np.sqrt((vectors**2).sum(-1, keepdims=True))
  return vectors / np.maximum(norm, 1e-9)


def carry(tubes: Tubes, head: anatomy.SimulatedHead) -> Tubes:
  """MNI mm to grid mm of one head."""
  alive = np.isfinite(tubes.radius_mm)
  points = np.full_like(tubes.points_mm, np.nan)
  points[alive] = head.from_mni(tubes.points_mm[alive])
  return tubes._replace(points_mm=points)


def deposit(rng, tubes: Tubes, shape, spacing_mm) -> np.ndarray:
  """Occupied share of each voxel, float32 [X, Y, Z] in 0..1.

  Each step is spread over the disc across the tube by a sunflower pattern;
  its volume goes to the eight nearest voxels. Blood that is less venous weighs
  less.

  Args:
    rng: numpy generator.
    tubes: in grid mm.
    shape: (X, Y, Z).
    spacing_mm: voxel sizes.
  """
  heading = np.diff(tubes.points_mm, axis=1, append=np.nan)
  heading[:, 1:] = np.where(
    np.isfinite(heading[:, 1:]), heading[:, 1:], heading[:, :-1]
  )
  alive = np.isfinite(heading[..., 0]) & np.isfinite(tubes.radius_mm)
  reach = np.array(shape) * spacing_mm + 3.0
  alive &= ((tubes.points_mm > -3.0) & (tubes.points_mm < reach)).all(-1)
  points, heading = tubes.points_mm[alive], unit(heading[alive])
  radius = tubes.radius_mm[alive]
  weight = None
  if tubes.venous is not None:
    weight = np.broadcast_to(tubes.venous[:, None], alive.shape)[alive]
  occupancy = np.zeros(int(np.prod(shape)), np.float32)
  for low, high, discs in ((0, 0.4, 8), (0.4, 0.9, 32), (0.9, 9, 240)):
    part = (radius >= low) & (radius < high)
    if part.any():
      cloud, volume = _cloud(
        rng, points[part], heading[part], radius[part], discs
      )
      if weight is not None:
        volume = volume * np.repeat(weight[part], discs)
      index = cloud / np.asarray(spacing_mm, np.float32)
      _scatter(occupancy, index, volume, shape)
  occupancy /= np.float32(np.prod(spacing_mm))
  return np.minimum(occupancy, 1.0, out=occupancy).reshape(shape)


def _cloud(rng, points, heading, radius, discs):
  """Points [N * discs, 3] that fill each step, and the volume of each."""
  side = unit(np.cross(heading, np.roll(heading, 1, -1) + _ODD))
  other = np.cross(heading, side)
  rank = np.arange(discs) + 0.5
  angle = rank * 2.399963 + rng.uniform(0, 2 * np.pi, (len(points), 1))
  reach = np.sqrt(rank / discs) * radius[:, None]  # [N, D]
  a, b = np.cos(angle) * reach, np.sin(angle) * reach
  jitter = rng.uniform(-0.5, 0.5, a.shape) * STEP_MM
  cloud = points[:, None] + a[..., None] * side[:, None]
  cloud = cloud + b[..., None] * other[:, None]
  cloud += jitter[..., None] * heading[:, None]
  volume = np.pi * radius**2 * STEP_MM / discs
  return cloud.reshape(-1, 3), np.repeat(volume, discs)


def _scatter(out, index, volume, shape) -> None:
  """Adds `volume` at fractional `index` to flat `out`, trilinear."""
  low = np.floor(index).astype(np.int32)
  frac = (index - low).astype(np.float32)
  for corner in np.ndindex(2, 2, 2):
    place = low + corner
    share = np.prod(np.where(corner, frac, 1 - frac), -1) * volume
    ok = ((place >= 0) & (place < shape)).all(-1)
    flat = np.ravel_multi_index(tuple(place[ok].T), shape)
    np.add.at(out, flat, share[ok].astype(np.float32))


def trace(tubes: Tubes, kinds, shape, spacing_mm, *, reach_mm=0.4):
  """Label image uint16 [X, Y, Z]: 1 + index in `kinds` along each tube.

  Voxels within `reach_mm` beyond the radius belong to the tube.

  Args:
    tubes: in grid mm.
    kinds: names of kinds of tubes, in the order of the labels.
    shape: (X, Y, Z).
    spacing_mm: voxel sizes.
    reach_mm: see above.
  """
  out = np.zeros(shape, np.uint16)
  spacing = np.asarray(spacing_mm, np.float32)
  angle = np.arange(8) * (np.pi / 4)
  ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
  for number, kind in enumerate(kinds, start=1):
    chosen = tubes.kind == kind
    alive = np.isfinite(tubes.radius_mm[chosen])
    points = tubes.points_mm[chosen][alive]
    reach = tubes.radius_mm[chosen][alive] + reach_mm
    for share in (0.0, 0.5, 1.0):
      offset = share * reach[:, None, None] * ring
      place = np.rint((points[:, None] + offset) / spacing).astype(int)
      place = place.reshape(-1, 3)
      place = place[((place >= 0) & (place < shape)).all(-1)]
      out[tuple(place.T)] = number
  return out
