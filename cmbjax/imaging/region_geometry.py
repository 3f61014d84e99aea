"""The 13 rating regions of MARS, drawn in MNI space from geometry.

Rule: every surface below is written from textbook anatomy and landmarks in
MNI mm; tissue comes from the template; no label of any atlas is stored.

MARS (Gregoire et al. 2009): infratentorial, deep and lobar regions. Drawn for
the right half; the template is symmetric. Later steps overwrite earlier ones.
"""

import itertools

import numpy as np
from scipy import ndimage

from cmbjax.imaging import template as template_module

REGIONS = (
  'outside',
  'brainstem',
  'cerebellum',
  'basal ganglia',
  'thalamus',
  'internal capsule',
  'external capsule',
  'corpus callosum',
  'deep white matter',
  'frontal',
  'parietal',
  'temporal',
  'occipital',
  'insula',
)


def draw() -> np.ndarray:
  """Region index [X/2, Y, Z] uint8 on the right half of the template grid.

  Every voxel of the brain has one; fluid takes that of the nearest tissue.
  """
  template = template_module.load()
  middle = template.brain.shape[0] // 2
  grey, white, brain = (
    image[middle:] for image in (template.grey, template.white, template.brain)
  )
  step = template_module.STEP_MM
  x, y, z = np.meshgrid(
    step * np.arange(grey.shape[0]),
    *(
      o + step * np.arange(n)
      for o, n in zip(template.origin_mm[1:], grey.shape[1:])
    ),
    indexing='ij',
    sparse=True,
  )
  region = _lobes(x, y, z)
  _draw_deep(region, x, y, z, template=template, middle=middle)
  _draw_infratentorial(region, x, y, z)
  fluid = (brain > 0.5) & (grey + white < 0.4)
  return _fill(region, (brain > 0.5) & ~fluid, brain > 0.5)


def _set(region, where, name) -> None:
  region[np.broadcast_to(where, region.shape)] = REGIONS.index(name)


def _fill(region, tissue, brain) -> np.ndarray:
  """Fluid takes the region of the nearest tissue; 0 outside of the brain."""
  nearest = ndimage.distance_transform_edt(
    ~tissue, return_distances=False, return_indices=True
  )
  return np.where(brain, region[tuple(nearest)], 0).astype(np.uint8)


# Lateral (Sylvian) fissure: y, z from the temporal pole to its end.
_SYLVIAN = ((-62, -50, -35, -20, 0, 12, 24), (14, 19, 18, 12, -3, -11, -18))
# Where the occipital lobe begins: parieto-occipital sulcus, then the line to
# the preoccipital notch; z, y.
_OCCIPITAL = ((-24, -8, 4, 16, 28, 40, 52), (-62, -64, -66, -68, -72, -79, -92))
# The same near the midline, under the sulcus: the lingual gyrus.
_LINGUAL = ((-24, 2, 10, 18), (-52, -50, -58, -68))


def _lobes(x, y, z) -> np.ndarray:
  region = np.full(np.broadcast_shapes(x.shape, y.shape, z.shape), 0, np.uint8)
  _set(region, True, 'frontal')
  # Central sulcus: (5, -35, 72) at the vertex to (60, -7, 20).
  central = -35 + 0.27 * x + 0.22 * (70 - z)
  _set(region, y < central, 'parietal')
  fissure = np.interp(y, *_SYLVIAN)
  # In front the orbital gyri lie medial of the pole, at the same height.
  lateral = x > np.interp(y, (-12, 0, 20), (0, 17, 26))
  _set(region, (z < fissure) & (lateral | (z < -26)) & (y < 24), 'temporal')
  behind = y < np.interp(z, *_OCCIPITAL)
  lingual = (y < np.interp(z, *_LINGUAL)) & (x < 30) & (z < 18)
  _set(region, behind | lingual, 'occipital')
  # Behind the splenium the medial wall is precuneus and cingulate.
  _set(
    region,
    (x < 24) & (y < -38) & (y > -60) & (z > 4) & ~lingual & ~behind,
    'parietal',
  )
  return region


def _ellipsoid(x, y, z, *, centre, semi_axes, long=(0, 1, 0), middle=(0, 0, 1)):
  """Distance from the surface in mm (about), negative inside."""
  long = np.asarray(long, float) / np.linalg.norm(long)
  middle = np.asarray(middle, float) - (np.asarray(middle) @ long) * long
  middle /= np.linalg.norm(middle)
  frame = (long, middle, np.cross(long, middle))
  dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
  total, slope = 0.0, 0.0
  for axis, size in zip(frame, semi_axes):
    along = dx * axis[0] + dy * axis[1] + dz * axis[2]
    total = total + (along / size) ** 2
    slope = slope + (along / size**2) ** 2
  radius = np.sqrt(total)
  # First-order distance: value over gradient of the radius.
  return (radius - 1) * radius / np.maximum(np.sqrt(slope), 1e-6)


def _tube(x, y, z, knots):
  """Distance in mm from a chain of spheres (x, y, z, radius)."""
  best = np.inf
  for first, last in itertools.pairwise(knots):
    first, last = np.array(first, float), np.array(last, float)
    way = last[:3] - first[:3]
    offset = (x - first[0], y - first[1], z - first[2])
    share = sum(o * w for o, w in zip(offset, way)) / (way @ way)
    share = np.clip(share, 0, 1)
    apart = sum((o - share * w) ** 2 for o, w in zip(offset, way))
    radius = first[3] + share * (last[3] - first[3])
    best = np.minimum(best, np.sqrt(apart) - radius)
  return best


_CAUDATE = (
  (11, 17, -3, 5.0),
  (13, 15, 4, 6.5),
  (14, 8, 12, 5.5),
  (15.5, -2, 18, 4.2),
  (18, -14, 21, 3.2),
  (21, -26, 18, 2.6),
)
_PUTAMEN = {
  'centre': (26.3, 1.5, 0.5),
  'semi_axes': (18.5, 13.0, 4.8),
  'long': (0.33, -0.9, 0.25),
}
_PALLIDUM = {
  'centre': (19, -3, -1),
  'semi_axes': (11, 7, 4.5),
  'long': (0.62, -0.75, 0.2),
}
_THALAMUS = {
  'centre': (11.5, -19, 7.5),
  'semi_axes': (17, 10, 9.5),
  'long': (0.42, -0.9, 0.1),
}
_ACCUMBENS = ((9.5, 12, -7, 4.5), (20, 8, -6, 3.5))
# Internal capsule: anterior limb, genu, posterior limb, retrolenticular part.
_CAPSULE = ((19, 19), (15, 8), (12.5, 0), (18, -10), (25, -22), (31, -33))
# Callosum at the midline (y, z, half thickness), rostrum to splenium.
_CALLOSUM = (
  (17, -5, 2.0),
  (26, -2, 3.5),
  (30, 7, 5.0),
  (25, 16, 4.0),
  (12, 23, 3.2),
  (-4, 26.5, 3.2),
  (-20, 25.5, 3.2),
  (-31, 20.5, 3.5),
  (-38, 13, 5.0),
  (-35, 7, 3.5),
)


def _draw_deep(region, x, y, z, *, template, middle) -> None:
  cortical = _core(template)[middle:]
  white = template.white[middle:]
  # Tissue moves the edge of a nucleus by up to 2.5 mm.
  grow = 2.5 * (template.grey[middle:] - white)
  _set(region, cortical & (z > -22), 'deep white matter')
  # Nothing lobar is between the midline and the insula, nor within the
  # callosal arc.
  medial = x < np.interp(y, (-28, -10, 10, 24), (30, 32, 31, 22))
  heart = medial & (z > -8) & (z < 22) & (y > -28) & (y < 24)
  _set(region, heart, 'deep white matter')
  arc = np.array(_CALLOSUM[2:-1])[::-1]
  below = (z < np.interp(y, arc[:, 0], arc[:, 1])) & (z > -6)
  _set(region, below & (x < 22) & (y > -37) & (y < 28), 'deep white matter')
  _draw_callosum(region, x, y, z, white)
  putamen = _ellipsoid(x, y, z, **_PUTAMEN)
  pallidum = _ellipsoid(x, y, z, **_PALLIDUM)
  caudate = _tube(x, y, z, _CAUDATE) - grow
  thalamus = _ellipsoid(x, y, z, **_THALAMUS) - grow
  flank = x > np.interp(y, (-25, 0, 20), (33, 28, 22))
  oval = ((y - 3) / 26) ** 2 + ((z - 2) / 18) ** 2 < 1
  _set(region, (putamen < 13) & flank & oval & (x < 45), 'insula')
  _set(region, (putamen < 4.0) & flank & oval, 'external capsule')
  sheet = _sheet(x, y, z) < 4.2
  _set(region, sheet & (z > -5) & (z < 23), 'internal capsule')
  # Round the third ventricle all is diencephalon; in front of it and under
  # the head of the caudate, striatum and basal forebrain.
  third = (x < 10) & (y < 2) & (y > -30) & (z > -12) & (z < 12)
  _set(region, third, 'thalamus')
  ventral = (x > 4) & (x < 24) & (y > 2) & (y < 22) & (z > -9) & (z < 8)
  _set(region, ventral & (white < 0.4), 'basal ganglia')
  # Under the lentiform nucleus: substantia innominata, then the peduncle.
  base = (z > -11) & (z < 2) & (x > 8)
  _set(region, base & (x < 28) & (y > -12) & (y < 12), 'basal ganglia')
  _set(region, base & (x < 21) & (y > -24) & (y < -8), 'internal capsule')
  accumbens = _tube(x, y, z, _ACCUMBENS)
  for nucleus in (caudate, putamen - grow, pallidum, accumbens):
    _set(region, nucleus < 0, 'basal ganglia')
  _set(region, thalamus < 0, 'thalamus')


def _sheet(x, y, z):
  """Distance in mm from the sheet of the internal capsule; it leans out."""
  lean = 0.25 * (z - 6)
  knots = [(a, b, 0, 0) for a, b in _CAPSULE]
  return _tube(x - lean, y, 0 * z, knots)


def _draw_callosum(region, x, y, z, white) -> None:
  # Away from the midline it rises, and its ends sweep forward and backward.
  lift = 0.016 * x**2
  sweep = np.where(y > 0, 1.0, -1.0) * 0.016 * x**2
  radius = 0.02 * x
  knots = [(0, a, b, c) for a, b, c in _CALLOSUM]
  near = _tube(0 * x, y - sweep, z - lift * (z > 12), knots) < radius
  _set(region, near & (x < 21) & ((white > 0.4) | (x < 6)), 'corpus callosum')


def _core(template) -> np.ndarray:
  """Central white matter [X, Y, Z]: the gyri's own is left out."""
  sigma = 2.5 / template_module.STEP_MM
  smooth = ndimage.gaussian_filter(template.white, sigma)
  return smooth > 0.68


# Brainstem: z, y of the middle, half widths along y and x.
_STEM = (
  (-64, -52, -44, -36, -28, -20, -12, -4),
  (-43, -37, -30, -27, -25, -23, -23, -25),
  (9, 10, 13, 14, 14, 14, 14, 12),
  (9, 9, 13, 16, 17, 16, 16, 13),
)


def _draw_infratentorial(region, x, y, z) -> None:
  # Tentorium: rises toward the midline and falls to the sides and backward.
  tent = tentorium_mm(x, y)
  _set(region, (z < tent) & (y < -31) & (z < -8), 'cerebellum')
  stem_y, half_y, half_x = (np.interp(z, _STEM[0], c) for c in _STEM[1:])
  inside = (x / half_x) ** 2 + ((y - stem_y) / half_y) ** 2 < 1
  _set(region, inside & (z < -4), 'brainstem')
  tectum = (x < 11) & (y > -40) & (y < -22) & (z > -14) & (z < -2)
  _set(region, tectum, 'brainstem')


def tentorium_mm(x, y):
  """Height z of the tentorium at |x|, y, all MNI mm."""
  tent = -26.9 - 1.35 * x - 1.16 * y + 0.00248 * x * x
  return tent - 0.01257 * x * y - 0.01267 * y * y


def nuclei() -> dict[str, np.ndarray]:
  """Centre [3], MNI mm, of each drawn nucleus of the right side."""
  x, y, z = np.meshgrid(
    np.arange(0.0, 45), np.arange(-50.0, 40), np.arange(-25.0, 35),
    indexing='ij', sparse=True,
  )  # fmt: skip
  shapes = {
    'caudate': _tube(x, y, z, _CAUDATE),
    'putamen': _ellipsoid(x, y, z, **_PUTAMEN),
    'pallidum': _ellipsoid(x, y, z, **_PALLIDUM),
    'thalamus': _ellipsoid(x, y, z, **_THALAMUS),
  }
  first = np.array([0.0, -50.0, -25.0])
  return {n: first + np.argwhere(s < 0).mean(0) for n, s in shapes.items()}
