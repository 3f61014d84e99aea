"""The tissue atlas to one person's head: size, pose, folds, iron.

Rule: a head is drawn on a 1 mm grid whose node (i, j, k) is at i, j, k mm
of the grid frame; features are placed in MNI mm and carried over by the same
warp as the tissue.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.simulate import grids, tissue_atlas

# Point of MNI space at the centre of the field of view.
CENTRE_MNI_MM = np.array([0.0, -17.0, 6.0], np.float32)


class Details(NamedTuple):
  """What a person has whose tissue is drawn sharp; tubes in grid mm.

  Attributes:
    void: [X, Y, Z] float32, share of the signal that is missing: falx, calcium.
    fluid: signal of CSF, relative to its steady state.
    inflow: factor of the signal of arteries, beyond 1.
    flow_r2s: their decay in 1/s.
    arteries, spaces: tubes of blood, and of fluid along vessels.
    kinds: names of structures that may look like a deposit.
    labels: [X, Y, Z] uint8, 1 + index in `kinds`, 0 elsewhere.
  """

  void: np.ndarray
  fluid: float
  inflow: float
  flow_r2s: float
  arteries: Any
  spaces: Any
  kinds: tuple[str, ...]
  labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class SimulatedHead:
  """One person on the 1 mm grid of the field of view.

  Attributes:
    grey, white, csf: [X, Y, Z] float32 shares, 0 outside the brain.
    mask: [X, Y, Z] bool brain.
    iron_ppm: [X, Y, Z] float32 susceptibility of the nuclei.
    region: [X, Y, Z] uint8.
    mni: [3, X, Y, Z] float32 MNI mm of each node.
    frame: the place of the person over the templates.
    b0: unit vector of the main field in the grid frame.
    details: of a head whose shares are those of one person; None: they are
      means over people, `tissue` makes them sharp.
  """

  grey: np.ndarray
  white: np.ndarray
  csf: np.ndarray
  mask: np.ndarray
  iron_ppm: np.ndarray
  region: np.ndarray
  mni: np.ndarray
  frame: 'HeadFrame'
  b0: np.ndarray
  details: Details | None = None

  @property
  def matrix(self) -> np.ndarray:
    """[3, 3] of the affine part, grid mm to MNI mm."""
    return self.frame.matrix

  def to_mni(self, points_mm) -> np.ndarray:
    """Grid mm [N, 3] to MNI mm [N, 3]."""
    return np.stack(
      [grids.sample(axis, points_mm) for axis in self.mni], -1
    ) + self._beyond(points_mm)

  def _beyond(self, points_mm) -> np.ndarray:
    # Outside the grid the affine part continues.
    last = np.array(self.mask.shape, np.float32) - 1
    return (points_mm - np.clip(points_mm, 0, last)) @ self.matrix.T

  def from_mni(self, mni_mm) -> np.ndarray:
    """MNI mm [N, 3] to grid mm [N, 3], by fixed-point iteration."""
    inverse = np.linalg.inv(self.matrix).T.astype(np.float32)
    middle = (np.array(self.mask.shape, np.float32) - 1) / 2
    points = np.broadcast_to(middle, np.shape(mni_mm)).astype(np.float32)
    for _ in range(8):
      points = points + (mni_mm - self.to_mni(points)) @ inverse
    return points


def rotation(angles_deg) -> np.ndarray:
  """[3, 3] of turns about x, y, z in degrees."""
  from scipy.spatial.transform import Rotation

  return Rotation.from_euler('xyz', angles_deg, degrees=True).as_matrix()


_KNOT_MM = 22.0


def draw_knots(rng, full_mm, *, sd_mm=2.0, knot_mm=_KNOT_MM) -> np.ndarray:
  """B-spline coefficients [3, ...] of a smooth random displacement in mm.

  They depend on the full field of view only, so a slab is a part of it.

  Args:
    rng: numpy generator.
    full_mm: field of view, mm.
    sd_mm: of the displacement.
    knot_mm: between knots.
  """
  count = [grids.spline(round(n), knot_mm, 0).shape[1] for n in full_mm]
  return rng.standard_normal((3, *count)).astype(np.float32) * sd_mm * 2.1


def displacement(
  knots, shape, *, origin, step=1.0, knot_mm=_KNOT_MM
) -> np.ndarray:
  """Displacement [3, X, Y, Z] in mm of the nodes `origin + step * index`.

  It fades away outside of the field of view.

  Args:
    knots: of `draw_knots`.
    shape: (X, Y, Z) of the grid.
    origin: mm of node 0 in the full field of view.
    step: mm.
    knot_mm: between knots.
  """
  weights = [grids.spline(n, knot_mm, o, step) for n, o in zip(shape, origin)]
  weights = [
    np.pad(w, ((0, 0), (0, max(k - w.shape[1], 0))))[:, :k]
    for w, k in zip(weights, knots.shape[1:])
  ]
  return np.stack([grids.separable(weights, k) for k in knots])


class HeadFrame(NamedTuple):
  """The place of one person over the templates."""

  matrix: np.ndarray  # [3, 3], grid mm to MNI mm
  knots: np.ndarray  # of the displacement
  widening: float  # of the ventricles
  full_mm: tuple[float, float, float]
  start_mm: float  # z of node 0 of a slab in the field of view

  def coordinates(self, shape, *, origin, step=1.0) -> np.ndarray:
    """MNI mm [3, X, Y, Z] of the nodes `origin + step * index`.

    Args:
      shape: of the grid.
      origin: mm of node 0 in the full field of view.
      step: mm.
    """
    middle = (np.asarray(self.full_mm, np.float32) - 1) / 2
    x, y, z = grids.grid_mm(origin, shape, step=step)
    x, y, z = x - middle[0], y - middle[1], z - middle[2]
    mni = np.stack([
      c + r[0] * x + r[1] * y + r[2] * z
      for c, r in zip(CENTRE_MNI_MM, self.matrix)
    ]).astype(np.float32)  # fmt: skip
    widen_ventricles(mni, self.widening)
    mni += displacement(self.knots, shape, origin=origin, step=step)
    return mni

  def brain(self, mni) -> np.ndarray:
    """Share of brain at MNI mm [3, X, Y, Z]."""
    atlas = tissue_atlas.load()
    index = mni - atlas.origin_mm.reshape(3, 1, 1, 1)
    return ndimage.map_coordinates(atlas.mask, index, order=1)


def draw_head(rng, *, full_mm, start_mm=0.0, depth_mm=None) -> SimulatedHead:
  """Draws one person.

  Args:
    rng: numpy generator.
    full_mm: field of view, mm.
    start_mm: z where a slab begins; 0 for the whole head.
    depth_mm: thickness in z; None for the whole head.
  """
  atlas = tissue_atlas.load()
  shape = (*(round(n) for n in full_mm[:2]), round(depth_mm or full_mm[2]))
  scale = rng.uniform(0.93, 1.03) * rng.uniform(0.97, 1.03, 3)
  shear = np.eye(3) + np.triu(rng.uniform(-0.03, 0.03, (3, 3)), 1)
  turn = rotation(rng.uniform(-1, 1, 3) * (5, 4, 6))
  matrix = (np.diag(1 / scale) @ shear @ turn).astype(np.float32)
  tilt = rotation([rng.normal(-8, 6), rng.normal(0, 3), 0])
  knots = draw_knots(rng, full_mm)
  frame = HeadFrame(matrix, knots, rng.uniform(0.95, 1.35), full_mm, start_mm)
  mni = frame.coordinates(shape, origin=(0, 0, start_mm))
  iron = _draw_iron(rng, atlas)
  return _pull(atlas, mni, frame, iron, tilt.T @ [0.0, 0.0, 1.0])


def widen_ventricles(mni, factor) -> None:
  """Moves MNI mm [3, X, Y, Z] so that ventricles are `factor` as wide."""
  centre = np.array([0, -8, 14], np.float32).reshape(3, 1, 1, 1)
  offset = mni - centre
  squared = (
    (offset[0] / 22) ** 2 + (offset[1] / 38) ** 2 + (offset[2] / 20) ** 2
  )
  offset *= (1 / factor - 1) * np.exp(-0.5 * squared)
  offset[2] *= 0.5
  mni += offset


def _draw_iron(rng, atlas: tissue_atlas.TissueAtlas) -> np.ndarray:
  """Susceptibility of the nuclei, MNI grid; grows with age."""
  age = rng.uniform(0.5, 1.5)
  iron = np.zeros(atlas.mask.shape, np.float32)
  for nucleus, soft in zip(tissue_atlas.NUCLEI, atlas.nuclei):
    level = nucleus.chi_ppm * age * rng.uniform(0.85, 1.15)
    level /= 1.0 if nucleus.chi_ppm > 0.03 else 2.0
    part = iron[tissue_atlas.NUCLEI_BOX]
    np.maximum(part, soft * np.float32(level / 255), out=part)
  solid = np.clip(2 * (atlas.grey + atlas.white) - 0.6, 0, 1)
  return iron * solid


def _pull(
  atlas: tissue_atlas.TissueAtlas, mni, frame, iron, b0
) -> SimulatedHead:
  """Samples the templates at `mni` [3, X, Y, Z]."""
  shape = mni.shape[1:]
  index = mni - atlas.origin_mm.reshape(3, 1, 1, 1)
  soft = ndimage.map_coordinates(atlas.mask, index, order=1)
  near = np.flatnonzero(soft.reshape(-1) > 0.02)
  inside = index.reshape(3, -1)[:, near]
  pulled = grids.trilinear((atlas.grey, atlas.white, iron), inside)
  region = ndimage.map_coordinates(atlas.region, inside, order=0)

  def spread(values):
    out = np.zeros(shape, values.dtype)
    out.reshape(-1)[near] = values
    return out

  grey, white, iron = (spread(values) for values in pulled)
  mask = soft > 0.5
  return SimulatedHead(
    grey=grey,
    white=white,
    csf=np.clip(soft - grey - white, 0, 1),
    mask=mask,
    iron_ppm=iron,
    region=spread(region) * mask,
    mni=mni,
    frame=frame,
    b0=np.asarray(b0, np.float32),
  )
