"""The MNI templates to one person's head: tissue, nuclei, regions.

Rule: a head is drawn on a 1 mm grid whose node (i, j, k) lies at i, j, k mm
of the grid frame; features are placed in MNI mm and carried over by the same
warp as the tissue.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import region_geometry

REGIONS = (
  'outside',
  'white matter',
  'cortex',
  'cerebellum',
  'basal ganglia',
  'thalamus',
  'brainstem',
)
# Point of MNI space at the centre of the field of view.
CENTRE_MNI_MM = np.array([0.0, -17.0, 6.0], np.float32)


class Nucleus(NamedTuple):
  """An ellipsoid at (+-x, y, z); directions of the long and middle axis are
  those of the right side."""

  name: str
  centre_mm: tuple[float, float, float]
  semi_axes_mm: tuple[float, float, float]  # long, middle, short
  long: tuple[float, float, float]
  middle: tuple[float, float, float]
  chi_ppm: float
  region: str


# Places and sizes: our measurements on the 7TAMIBrain and MARS atlases (MIT);
# susceptibility: Marques et al. 2021 as quoted by qsm-forward.
_BG, _TH, _BS, _CB = 'basal ganglia', 'thalamus', 'brainstem', 'cerebellum'
_Z = (0.0, 0.0, 1.0)
NUCLEI = (
  Nucleus(
    'caudate', (13.8, 9, 9.5), (19, 8, 5), (0.2, -0.84, 0.51), _Z, 0.044, _BG
  ),
  Nucleus(
    'putamen', (26.6, 1.5, 0.2), (17, 12, 4.8), (0.33, -0.9, 0.3), _Z, 0.038,
    _BG,
  ),
  Nucleus(
    'pallidum', (18.4, -2, -1.2), (10, 6.5, 3.6), (0.62, -0.75, 0.2), _Z,
    0.131, _BG,
  ),
  Nucleus(
    'thalamus', (11.2, -18.6, 7), (14.5, 9, 6.5), (0.45, -0.85, 0.1), _Z,
    0.020, _TH,
  ),
  Nucleus(
    'red nucleus', (5.8, -19.4, -9.9), (4.6, 3.6, 3.0), (0.35, 0.6, 0.72),
    (-0.8, 0.6, 0.2), 0.100, _BS,
  ),
  Nucleus(
    'substantia nigra', (8.6, -18, -14.7), (8.4, 5.4, 1.9), (0.09, 0.78, 0.61),
    (0.84, -0.4, 0.38), 0.111, _BS,
  ),
  Nucleus(
    'subthalamic nucleus', (11.6, -12.5, -7.2), (7.0, 4.2, 1.6),
    (0.77, -0.48, 0.4), (0.25, 0.8, 0.52), 0.111, _BS,
  ),
  Nucleus(
    'dentate', (15.5, -58, -36), (9, 6.5, 4.0), (0.45, 0.85, 0.2), _Z, 0.152,
    _CB,
  ),
)  # fmt: skip


# Part of the template grid that holds all nuclei: 45 mm to both sides.
NUCLEI_BOX = (slice(53, 144), slice(59, 170), slice(22, 113))


class TissueAtlas(NamedTuple):
  """The templates on their own 1 mm grid."""

  origin_mm: np.ndarray  # [3] MNI mm of node 0
  grey: np.ndarray  # [X, Y, Z] float32, 0..1
  white: np.ndarray
  mask: np.ndarray  # [X, Y, Z] float32, 0 or 1
  region: np.ndarray  # [X, Y, Z] uint8, index of REGIONS
  nuclei: np.ndarray  # [len(NUCLEI), x, y, z] uint8, 0..255, in `NUCLEI_BOX`
  to_ventricle: np.ndarray  # [3, X/2, Y/2, Z/2] unit vectors, 2 mm grid
  ventricle_mm: np.ndarray  # [X/2, Y/2, Z/2] distance to a lateral ventricle
  depth_mm: np.ndarray  # [X/2, Y/2, Z/2] under the surface of the brain
  outward: np.ndarray  # [3, X/2, Y/2, Z/2] unit vectors to the surface


@functools.lru_cache(maxsize=1)
def load_atlas() -> TissueAtlas:
  """Reads the templates that come with nilearn; needs no network."""
  from nilearn import datasets  # slow to import

  images = [
    datasets.load_mni152_gm_template(resolution=1),
    datasets.load_mni152_wm_template(resolution=1),
    datasets.load_mni152_template(resolution=1),
  ]
  grey, white, t1 = (
    np.asarray(image.dataobj).astype(np.float32) for image in images
  )
  mask = t1 > 0
  origin = images[0].affine[:3, 3].astype(np.float32)
  first = origin + [box.start for box in NUCLEI_BOX]
  size = [box.stop - box.start for box in NUCLEI_BOX]
  nuclei = np.stack([_soft_ellipsoid(n, first, size) for n in NUCLEI])
  csf = np.where(mask, 1 - grey - white, 0)
  distance, direction = _toward_ventricle(csf[::2, ::2, ::2], origin)
  depth, outward = _toward_surface(mask[::2, ::2, ::2])
  return TissueAtlas(
    origin,
    grey * mask,
    white * mask,
    mask.astype(np.float32),
    _regions(grey, white, mask, nuclei, origin),
    nuclei,
    direction,
    distance,
    depth,
    outward,
  )


def grid_mm(origin, shape, *, step=1.0):
  """Three open axes of coordinates in mm."""
  axes = [
    (np.float32(o) + np.float32(step) * np.arange(n, dtype=np.float32))
    for o, n in zip(origin, shape)
  ]
  return np.meshgrid(*axes, indexing='ij', sparse=True)


def _soft_ellipsoid(nucleus: Nucleus, origin, shape) -> np.ndarray:
  """Both sides, edge about 1 mm soft, uint8."""
  x, y, z = grid_mm(origin, shape)
  long = np.asarray(nucleus.long, float) / np.linalg.norm(nucleus.long)
  middle = np.asarray(nucleus.middle, float)
  middle = middle - (middle @ long) * long
  middle /= np.linalg.norm(middle)
  frame = (long, middle, np.cross(long, middle))
  centre = nucleus.centre_mm
  dx, dy, dz = abs(x) - centre[0], y - centre[1], z - centre[2]
  total = 0.0
  for axis, size in zip(frame, nucleus.semi_axes_mm):
    total = total + ((dx * axis[0] + dy * axis[1] + dz * axis[2]) / size) ** 2
  depth = (1 - np.sqrt(total)) * min(nucleus.semi_axes_mm)
  return (255 * np.clip(depth + 0.5, 0, 1)).astype(np.uint8)


def _toward_ventricle(csf, origin):
  """Distance to and direction toward the lateral ventricles, 2 mm grid."""
  x, y, z = grid_mm(origin, csf.shape, step=2.0)
  box = (abs(x) < 40) & (y > -60) & (y < 38) & (z > -6) & (z < 32)
  # Bodies and horns, not the fissures: away from the midline cisterns.
  box &= (z > 2) | (abs(x) > 18)
  inside = (csf > 0.5) & box & ((abs(x) < 24) | (y < -20))
  labels, _ = ndimage.label(ndimage.binary_dilation(inside))
  sizes = np.bincount(labels.ravel())
  sizes[0] = 0
  inside &= labels == sizes.argmax()
  distance = 2.0 * ndimage.distance_transform_edt(~inside).astype(np.float32)
  direction = -np.stack(np.gradient(ndimage.gaussian_filter(distance, 1.5)))
  direction /= np.maximum(np.sqrt((direction**2).sum(0)), 1e-6)
  return distance, direction.astype(np.float32)


def _toward_surface(mask):
  """Distance to and direction toward the brain's surface, 2 mm grid."""
  depth = 2.0 * ndimage.distance_transform_edt(mask)
  depth -= 2.0 * ndimage.distance_transform_edt(~mask)
  depth = depth.astype(np.float32)
  outward = -np.stack(np.gradient(ndimage.gaussian_filter(depth, 2.5)))
  outward /= np.maximum(np.sqrt((outward**2).sum(0)), 1e-6)
  return depth, outward.astype(np.float32)


def _regions(grey, white, mask, nuclei, origin) -> np.ndarray:
  """Region index by geometry; extents measured on the MARS atlas (MIT)."""
  x, y, z = grid_mm(origin, grey.shape)
  x = abs(x)
  region = np.where(white >= grey, 1, 2).astype(np.uint8)
  tent = region_geometry.tentorium_mm(x, y)
  stem_y = np.interp(
    z, (-62, -50, -44, -32, -20, -8), (-41, -36, -32, -26, -26, -31)
  )
  stem_x = np.interp(z, (-62, -44, -26, -8), (9, 13, 16, 13))
  stem = (x / stem_x) ** 2 + ((y - stem_y) / 14) ** 2 < 1
  stem = stem & (z < -5)
  below = (z < tent) & (y < -31) & (z < -8)
  region[np.broadcast_to(below, region.shape)] = REGIONS.index('cerebellum')
  region[np.broadcast_to(stem, region.shape)] = REGIONS.index('brainstem')
  for nucleus, soft in zip(NUCLEI, nuclei):
    if nucleus.region in ('basal ganglia', 'thalamus'):
      region[NUCLEI_BOX][soft > 127] = REGIONS.index(nucleus.region)
  region[~mask | (grey + white < 0.4)] = 0
  return region


@dataclasses.dataclass(frozen=True)
class SimulatedHead:
  """One person on the 1 mm grid of the field of view.

  Attributes:
    grey, white, csf: [X, Y, Z] float32 shares, 0 outside the brain.
    mask: [X, Y, Z] bool brain.
    iron_ppm: [X, Y, Z] float32 susceptibility of the nuclei.
    region: [X, Y, Z] uint8.
    mni: [3, X, Y, Z] float32 MNI mm of each node.
    frame: how the person lies over the templates.
    b0: unit vector of the main field in the grid frame.
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

  @property
  def matrix(self) -> np.ndarray:
    """[3, 3] of the affine part, grid mm to MNI mm."""
    return self.frame.matrix

  def to_mni(self, points_mm) -> np.ndarray:
    """Grid mm [N, 3] to MNI mm [N, 3]."""
    return np.stack(
      [sample(axis, points_mm) for axis in self.mni], -1
    ) + self._beyond(points_mm)

  def _beyond(self, points_mm) -> np.ndarray:
    # Outside the grid the affine part goes on.
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


def sample(image, points_mm, *, order=1) -> np.ndarray:
  """Value of a 1 mm image [X, Y, Z] at grid mm [..., 3]."""
  return ndimage.map_coordinates(
    image,
    np.moveaxis(np.asarray(points_mm), -1, 0),
    order=order,
    mode='nearest',
  )


def _rotation(angles_deg) -> np.ndarray:
  from scipy.spatial.transform import Rotation

  return Rotation.from_euler('xyz', angles_deg, degrees=True).as_matrix()


def _spline(num_out: int, spacing: float, offset: float, step=1.0):
  """Uniform cubic B-spline weights [num_out, num_knots], node 0 at `offset`."""
  position = (np.arange(num_out) * step + offset) / spacing + 1.0
  distance = abs(position[:, None] - np.arange(np.ceil(position.max()) + 3))
  near = 2 / 3 - distance**2 + distance**3 / 2
  far = (2 - np.minimum(distance, 2)) ** 3 / 6
  return np.where(distance < 1, near, far).astype(np.float32)


_KNOT_MM = 22.0


def draw_knots(rng, full_mm, *, sd_mm=2.0) -> np.ndarray:
  """B-spline coefficients [3, ...] of a smooth random displacement in mm.

  They depend on the full field of view only, so a slab is a part of it.
  """
  count = [_spline(round(n), _KNOT_MM, 0).shape[1] for n in full_mm]
  return rng.standard_normal((3, *count)).astype(np.float32) * sd_mm * 2.1


def displacement(knots, shape, *, origin, step=1.0) -> np.ndarray:
  """Displacement [3, X, Y, Z] in mm of the nodes `origin + step * index`.

  It fades away outside of the field of view.
  """
  weights = [_spline(n, _KNOT_MM, o, step) for n, o in zip(shape, origin)]
  weights = [
    np.pad(w, ((0, 0), (0, max(k - w.shape[1], 0))))[:, :k]
    for w, k in zip(weights, knots.shape[1:])
  ]
  return np.stack([separable(weights, k) for k in knots])


class HeadFrame(NamedTuple):
  """How one person lies over the templates."""

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
    x, y, z = grid_mm(origin, shape, step=step)
    x, y, z = x - middle[0], y - middle[1], z - middle[2]
    mni = np.stack([
      c + r[0] * x + r[1] * y + r[2] * z
      for c, r in zip(CENTRE_MNI_MM, self.matrix)
    ]).astype(np.float32)  # fmt: skip
    _widen_ventricles(mni, self.widening)
    mni += displacement(self.knots, shape, origin=origin, step=step)
    return mni


def draw_head(rng, *, full_mm, start_mm=0.0, depth_mm=None) -> SimulatedHead:
  """Draws one person.

  Args:
    rng: numpy generator.
    full_mm: field of view, mm.
    start_mm: z where a slab begins; 0 for the whole head.
    depth_mm: thickness in z; None for the whole head.
  """
  atlas = load_atlas()
  shape = (*(round(n) for n in full_mm[:2]), round(depth_mm or full_mm[2]))
  scale = rng.uniform(0.93, 1.03) * rng.uniform(0.97, 1.03, 3)
  shear = np.eye(3) + np.triu(rng.uniform(-0.03, 0.03, (3, 3)), 1)
  turn = _rotation(rng.uniform(-1, 1, 3) * (5, 4, 6))
  matrix = (np.diag(1 / scale) @ shear @ turn).astype(np.float32)
  tilt = _rotation([rng.normal(-8, 6), rng.normal(0, 3), 0])
  knots = draw_knots(rng, full_mm)
  frame = HeadFrame(matrix, knots, rng.uniform(0.95, 1.35), full_mm, start_mm)
  mni = frame.coordinates(shape, origin=(0, 0, start_mm))
  iron = _draw_iron(rng, atlas)
  return _pull(atlas, mni, frame, iron, tilt.T @ [0.0, 0.0, 1.0])


def _widen_ventricles(mni, factor: float) -> None:
  centre = np.array([0, -8, 14], np.float32).reshape(3, 1, 1, 1)
  offset = mni - centre
  squared = (
    (offset[0] / 22) ** 2 + (offset[1] / 38) ** 2 + (offset[2] / 20) ** 2
  )
  offset *= (1 / factor - 1) * np.exp(-0.5 * squared)
  offset[2] *= 0.5
  mni += offset


def _draw_iron(rng, atlas: TissueAtlas) -> np.ndarray:
  """Susceptibility of the nuclei, MNI grid; grows with age."""
  age = rng.uniform(0.5, 1.5)
  iron = np.zeros(atlas.mask.shape, np.float32)
  for nucleus, soft in zip(NUCLEI, atlas.nuclei):
    level = nucleus.chi_ppm * age * rng.uniform(0.85, 1.15)
    level /= 1.0 if nucleus.chi_ppm > 0.03 else 2.0
    part = iron[NUCLEI_BOX]
    np.maximum(part, soft * np.float32(level / 255), out=part)
  solid = np.clip(2 * (atlas.grey + atlas.white) - 0.6, 0, 1)
  return iron * solid


def _pull(atlas: TissueAtlas, mni, frame, iron, b0) -> SimulatedHead:
  """Samples the templates at `mni` [3, X, Y, Z]."""
  shape = mni.shape[1:]
  index = mni - atlas.origin_mm.reshape(3, 1, 1, 1)
  soft = ndimage.map_coordinates(atlas.mask, index, order=1)
  near = np.flatnonzero(soft.reshape(-1) > 0.02)
  inside = index.reshape(3, -1)[:, near]
  pulled = _trilinear((atlas.grey, atlas.white, iron), inside)
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


def _trilinear(images, index):
  """Images [X, Y, Z] at index [3, N]: one pass for all; [N] each."""
  shape = images[0].shape
  stack = np.stack([image.reshape(-1) for image in images], 1)
  out = np.empty((index.shape[1], len(images)), np.float32)
  last = np.array(shape)[:, None] - 1.001
  for start in range(0, index.shape[1], 2**18):
    part = slice(start, start + 2**18)
    place = np.clip(index[:, part], 0, last).astype(np.float32)
    low = place.astype(np.int32)
    frac = place - low
    flat = (low[0] * shape[1] + low[1]) * shape[2] + low[2]
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
      weight = 1.0
      for side, f in zip(corner, frac):
        weight = weight * (f if side else 1 - f)
      step = (corner[0] * shape[1] + corner[1]) * shape[2] + corner[2]
      total = total + stack[flat + step] * weight[:, None]
    out[part] = total
  return out.T


def cubic_matrix(num_out, num_in, *, step, offset=0.0) -> np.ndarray:
  """Keys cubic interpolation [num_out, num_in] from nodes 0, 1, 2, ...

  Output i lies at i * step + offset; beyond the border the edge is repeated.
  """
  position = np.arange(num_out) * step + offset
  base = np.floor(position).astype(int)
  weights = np.zeros((num_out, num_in), np.float32)
  for shift in (-1, 0, 1, 2):
    d = abs(position - (base + shift))
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    value = np.where(d <= 1, near, np.where(d < 2, far, 0))
    column = np.clip(base + shift, 0, num_in - 1)
    np.add.at(weights, (np.arange(num_out), column), value)
  return weights


def refine(image, shape, *, step, offset=(0.0, 0.0, 0.0)) -> np.ndarray:
  """A coarse image [X, Y, Z] on a finer grid, cubic, float32.

  Args:
    image: nodes at 0, 1, 2, ... along each axis.
    shape: of the result.
    step: its voxel in units of the coarse node distance, per axis.
    offset: of its voxel 0.
  """
  weights = [
    None
    if n == m and d == 1 and not o
    else cubic_matrix(n, m, step=d, offset=o)
    for n, m, d, o in zip(shape, image.shape, step, offset)
  ]
  return separable(weights, image)


def separable(weights, image) -> np.ndarray:
  """Applies one matrix per axis (None: leave it) to [X, Y, Z], float32.

  Sparse products: dense ones start threads that fight with other processes.
  """
  from scipy import sparse

  x, y, z = (None if w is None else sparse.csr_array(w) for w in weights)
  image = np.ascontiguousarray(image, np.float32)
  if z is not None:
    flat = image.reshape(-1, image.shape[2]).T
    image = (z @ np.ascontiguousarray(flat)).T.reshape(*image.shape[:2], -1)
    image = np.ascontiguousarray(image)
  if y is not None:
    image = np.stack([y @ plane for plane in image])
  if x is not None:
    flat = x @ image.reshape(len(image), -1)
    image = flat.reshape(-1, *image.shape[1:])
  return image
