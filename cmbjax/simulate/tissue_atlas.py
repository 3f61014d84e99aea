"""The MNI templates as shares of tissue, nuclei and regions.

Rule: nothing here belongs to one person; everything is on the templates' own
1 mm grid, or every second node of it.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import region_geometry
from cmbjax.simulate.grids import grid_mm

REGIONS = (
  'outside',
  'white matter',
  'cortex',
  'cerebellum',
  'basal ganglia',
  'thalamus',
  'brainstem',
)


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
def load() -> TissueAtlas:
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
