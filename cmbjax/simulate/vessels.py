"""The tissue atlas to the veins and arteries of one person, in MNI mm.

Rule: large trunks have fixed paths, all others are random walks from where
such veins begin.
"""

import numpy as np
from scipy import ndimage

from cmbjax.simulate import grids, tissue_atlas
from cmbjax.simulate.tubes import STEP_MM, Tubes, carry, stack, unit

# Fixed paths, MNI mm, for both sides where x > 0. Radius in mm.
_SINUSES = {
  'straight sinus': (
    1.9, [(0, -38, 6), (0, -50, 8), (0, -64, 3), (0, -80, -6), (0, -95, -13)]
  ),
  'transverse sinus': (
    2.8,
    [(1, -96, -14), (18, -92, -19), (36, -80, -23), (50, -64, -27),
     (54, -50, -30), (50, -42, -42), (42, -40, -54)],
  ),
  'internal cerebral vein': (
    0.85, [(2, 4, 12), (2, -8, 15), (2, -20, 14), (2, -30, 10), (0.5, -38, 6)]
  ),
  'basal vein': (
    0.8,
    [(8, 4, -16), (13, -6, -15), (17, -16, -11), (18, -26, -7), (11, -35, -1),
     (1, -39, 5)],
  ),
  'thalamostriate vein': (
    0.6,
    [(20, -18, 21), (17, -8, 20), (13, 2, 17), (7, 5, 14), (2.5, 4, 12)],
  ),
  'septal vein': (
    0.45, [(11, 28, 4), (6, 26, 7), (2.5, 18, 11), (2, 8, 13), (2, 4, 12)]
  ),
  'lateral atrial vein': (
    0.5, [(28, -52, 14), (24, -44, 14), (15, -38, 12), (6, -36, 9), (1, -38, 6)]
  ),
  'terminal vein': (
    0.4,
    [(26, -40, 18), (24, -28, 22), (22, -16, 23), (20, -4, 22), (17, 6, 19)],
  ),
}  # fmt: skip
# Lateral angle of a ventricle, from the frontal horn to the atrium: there the
# veins of the white matter end.
_ANGLE = np.array([
  (14, 34, 4), (17, 26, 12), (19, 14, 18), (20, 0, 21), (22, -14, 22),
  (24, -28, 20), (28, -40, 15), (30, -50, 8),
], np.float32)  # fmt: skip
# Radius where it begins; it halves toward the end.
_ARTERIES = {
  'basilar': (
    1.5, [(0, -32, -52), (0, -27, -40), (0, -22, -28), (0, -17, -20)]
  ),
  'carotid': (2.0, [(14, -6, -34), (12, 2, -28), (10, 2, -20), (13, 2, -15)]),
  'middle cerebral': (
    1.2, [(13, 2, -15), (22, 4, -16), (32, 2, -17), (38, 2, -10), (40, -4, -2)]
  ),
  'anterior cerebral': (
    0.9,
    [(13, 2, -15), (5, 10, -15), (2, 20, -12), (2, 32, -4), (2, 37, 8),
     (2, 30, 22), (2, 12, 32)],
  ),
  'posterior cerebral': (
    1.0,
    [(1, -17, -20), (9, -16, -19), (18, -24, -14), (20, -33, -7),
     (15, -44, -2), (12, -60, 4)],
  ),
}  # fmt: skip


def draw_walks(rng, head) -> Tubes:
  """Family 'walks': all veins of one person as random walks, grid mm.

  Args:
    rng: numpy generator.
    head: the person.
  """
  return carry(draw_veins(rng, tissue_atlas.load()), head)


def draw_veins(rng, atlas) -> Tubes:
  """All veins of one person in MNI mm: fixed trunks and random branches."""
  density = rng.uniform(0.7, 1.3)
  parts = [_trunks(rng, _SINUSES), _sagittal(rng, atlas)]
  parts.append(_medullary(rng, atlas, round(340 * density)))
  parts.append(_surface(rng, atlas, round(320 * density)))
  parts.append(_convexity(rng, atlas, round(34 * density)))
  parts.append(_penetrating(rng, atlas, round(300 * density)))
  branches = _branches(rng, stack(parts[2:5]), count=rng.integers(30, 61))
  return stack([*parts, branches])


def draw_arteries(rng) -> Tubes:
  """Large arteries of the base; they void the signal."""
  trunks = _trunks(rng, _ARTERIES, wobble_mm=0.9)
  alive = np.isfinite(trunks.radius_mm)
  way = np.arange(alive.shape[1]) / alive.sum(1, keepdims=True)
  return trunks._replace(radius_mm=trunks.radius_mm * (1 - 0.5 * way))


def _trunks(rng, paths, *, wobble_mm=0.8) -> Tubes:
  tubes = []
  for name, (radius, path) in paths.items():
    path = np.asarray(path, float)
    for side in (1, -1) if path[:, 0].max() > 1.5 else (1,):
      knots = path * (side, 1, 1) + rng.normal(0, wobble_mm, path.shape)
      tubes.append(_through(knots, radius * rng.uniform(0.8, 1.25), name))
  return stack(tubes)


def _through(knots, radius, kind) -> Tubes:
  """A smooth tube through knots [K, 3]."""
  from scipy import interpolate

  way = np.r_[0, np.cumsum(np.sqrt((np.diff(knots, axis=0) ** 2).sum(1)))]
  at = np.arange(0, way[-1], STEP_MM)
  points = interpolate.PchipInterpolator(way, knots)(at)[None]
  return Tubes(points, np.full(points.shape[:2], radius), np.array([kind]))


def _sagittal(rng, atlas) -> Tubes:
  """Superior sagittal sinus, just under the top of the midline."""
  y = np.arange(62, -96, -6.0)
  mid = round(-atlas.origin_mm[0])
  column = atlas.mask[mid - 4 : mid + 5].max(0)  # [Y, Z]
  rows = np.rint(y - atlas.origin_mm[1]).astype(int)
  # At 1 mm only, so the highest node is the surface itself.
  top = [np.flatnonzero(column[r]).max() + atlas.origin_mm[2] for r in rows]
  rim = np.stack([np.zeros_like(y), y, np.array(top) + 0.5], 1)
  rim = np.concatenate([rim, [[0, -99, -2], [0, -97, -12]]])
  rim += rng.normal(0, 0.5, rim.shape)
  tube = _through(rim, 1.0, 'superior sagittal sinus')
  length = tube.points_mm.shape[1]
  wide = np.linspace(1.3, 3.0, length) * rng.uniform(0.85, 1.2)
  return tube._replace(radius_mm=wide[None])


def _starts(rng, weight, origin, count, *, step=1.0) -> np.ndarray:
  """`count` random points [count, 3] with density `weight` [X, Y, Z]."""
  total = np.cumsum(weight, dtype=np.float64, axis=None)
  chosen = np.searchsorted(total, rng.uniform(0, total[-1], count))
  index = np.stack(np.unravel_index(chosen, weight.shape), -1)
  return origin + step * (index + rng.uniform(-0.5, 0.5, index.shape))


def _walk(rng, start, direction, length_mm, *, steer=None, wander=0.08):
  """Random walks [N, S, 3]; `steer(points)` is added to the direction."""
  num_steps = int(length_mm.max() / STEP_MM) + 1
  points = np.full((len(start), num_steps, 3), np.nan, np.float32)
  place, heading = start.astype(np.float32), unit(direction)
  for step in range(num_steps):
    alive = length_mm >= step * STEP_MM
    points[alive, step] = place[alive]
    heading = heading + rng.normal(0, wander, heading.shape)
    if steer is not None:
      heading = heading + steer(place)
    heading = unit(heading)
    place = place + STEP_MM * heading
  return points


def _lookup(images, points, origin, *, step):
  index = ((points - origin) / step).T
  return np.stack(
    [
      ndimage.map_coordinates(i, index, order=1, mode='nearest') for i in images
    ],
    -1,
  )


def _medullary(rng, atlas, count) -> Tubes:
  """Deep white matter veins, which fan out from the ventricles' angles."""
  white = atlas.white[::2, ::2, ::2] > 0.75
  region = atlas.region[::2, ::2, ::2]
  near = np.exp(-(((atlas.ventricle_mm - 13) / 12) ** 2))
  weight = white * (region == 1) * near
  start = _starts(rng, weight, atlas.origin_mm, count, step=2.0)
  line = _through(_ANGLE, 1.0, '').points_mm[0]
  side = np.where(start[:, :1] < 0, -1, 1) * np.array([[1, 0, 0]])
  side = side + np.array([[0, 1, 1]])
  # Mostly within their own coronal plane, with a little slant.
  reach = (start * side)[:, None] - line
  gap = (reach**2 * (1.0, 5.0, 1.0)).sum(-1)
  target = line[gap.argmin(1)] * side + rng.normal(0, 1.4, start.shape)
  way = target - start
  distance = np.sqrt((way**2).sum(1))
  length = np.clip(rng.uniform(0.55, 1.0, count) * distance, 4, 36)
  points = _walk(
    rng, start, way + rng.normal(0, 0.10, start.shape) * distance[:, None],
    length, steer=lambda p: 0.035 * unit(target - p), wander=0.025,
  )  # fmt: skip
  radius = 0.17 + rng.gamma(1.8, 0.085, count)
  return Tubes(points, _taper(radius, points, 0.5), _names('medullary', count))


def _surface(rng, atlas, count) -> Tubes:
  """Veins of the sulci, from their floor to the surface."""
  csf = np.clip(atlas.mask - atlas.grey - atlas.white, 0, 1)[::2, ::2, ::2]
  smooth = ndimage.gaussian_filter(csf, 0.7)
  slope = np.stack(np.gradient(ndimage.gaussian_filter(csf, 1.0)))
  weight = np.where((smooth > 0.12) & (atlas.ventricle_mm > 8), smooth, 0)
  weight *= np.clip(atlas.depth_mm / 8, 0, 1)
  x, y, z = grids.grid_mm(atlas.origin_mm, weight.shape, step=2.0)
  # Not in the fourth ventricle.
  weight[(abs(x) < 14) & (y > -62) & (y < -20) & (z < 0)] = 0
  weight[atlas.region[::2, ::2, ::2] >= 4] = 0
  start = _starts(rng, weight, atlas.origin_mm, count, step=2.0)
  outward = _lookup(atlas.outward, start, atlas.origin_mm, step=2.0)
  heading = outward + rng.normal(0, 0.45, start.shape) * (1, 1, 1.3)
  deep = _lookup([atlas.depth_mm], start, atlas.origin_mm, step=2.0)[:, 0]
  length = np.clip(deep + rng.gamma(2.0, 6.0, count), 5, 55)

  def along(points):
    pull = _lookup(slope, points, atlas.origin_mm, step=2.0)
    way = _lookup(atlas.outward, points, atlas.origin_mm, step=2.0)
    under = _lookup([atlas.depth_mm], points, atlas.origin_mm, step=2.0)
    # Upward once it is out; never beyond the surface.
    way = np.where(under > 1.5, 0.04 * way, -0.10 * way + (0, 0, 0.05))
    return np.clip(pull, -0.15, 0.15) + way

  points = _walk(rng, start, heading, length, steer=along, wander=0.045)
  radius = np.minimum(0.25 + rng.gamma(1.6, 0.19, count), 1.4)
  return Tubes(points, _taper(radius, points, 0.5), _names('cortical', count))


def _convexity(rng, atlas, count) -> Tubes:
  """Large superficial veins over the convexity to the sagittal sinus."""
  inside = abs(atlas.depth_mm) < 3
  x, y, z = grids.grid_mm(atlas.origin_mm, inside.shape, step=2.0)
  weight = inside * ((abs(x) > 22) & (z > 8) & (y > -95)) * 1.0
  start = _starts(rng, weight, atlas.origin_mm, count, step=2.0)
  side = np.where(start[:, :1] < 0, -1.0, 1.0)
  ahead = start[:, 1] + rng.normal(4, 9, count)
  goal = np.stack([0 * ahead, np.clip(ahead, -85, 55), 0 * ahead + 84], 1)
  goal[:, 2] -= 0.011 * (goal[:, 1] + 20) ** 2

  def over(points):
    way = unit(goal - points)
    up = _lookup(atlas.outward, points, atlas.origin_mm, step=2.0)
    depth = _lookup([atlas.depth_mm], points, atlas.origin_mm, step=2.0)
    way = way - (way * up).sum(1, keepdims=True) * up
    return 0.10 * unit(way) + np.clip(0.08 * (depth - 0.5), -0.2, 0.2) * up

  far = np.sqrt(((goal - start) ** 2).sum(1))
  points = _walk(rng, start, goal - start, 1.15 * far, steer=over, wander=0.06)
  # They end in the sinus.
  gone = np.cumsum(side * points[..., 0] < 1.0, axis=1) > 0
  points[gone & (np.arange(points.shape[1]) > 4)] = np.nan
  radius = 0.5 + rng.gamma(2.0, 0.16, count)
  return Tubes(points, _taper(radius, points, 0.5), _names('cortical', count))


def _penetrating(rng, atlas, count) -> Tubes:
  """Short veins, across the cortex or anyhow in the deep grey matter."""
  grey, white = atlas.grey[::2, ::2, ::2], atlas.white[::2, ::2, ::2]
  region = atlas.region[::2, ::2, ::2]
  weight = ((grey > 0.5) & (region == 2)) * 1.0
  weight += 0.7 * (region == 3) + 0.8 * ((region == 1) & (white < 0.8))
  weight += 0.5 * ((region == 4) | (region == 5)) + 0.3 * (region == 6)
  start = _starts(rng, weight, atlas.origin_mm, count, step=2.0)
  outward = _lookup(atlas.outward, start, atlas.origin_mm, step=2.0)
  heading = 1.2 * outward + rng.normal(0, 0.7, start.shape) * (1, 1, 1.4)
  length = rng.uniform(3, 13, count)
  points = _walk(rng, start, heading, length, wander=0.045)
  radius = 0.15 + rng.gamma(2.0, 0.06, count)
  return Tubes(
    points, _taper(radius, points, 0.7), _names('penetrating', count)
  )


def _branches(rng, veins: Tubes, *, count) -> Tubes:
  """Tubes that leave others at 60 to 120 degrees: bends and Y-junctions."""
  parent = rng.choice(len(veins.kind), count)
  alive = np.isfinite(veins.radius_mm[parent]).sum(1)
  at = (rng.uniform(0.3, 0.9, count) * (alive - 1)).astype(int)
  rows = np.arange(count)
  start = veins.points_mm[parent][rows, at]
  past = veins.points_mm[parent][rows, np.maximum(at - 1, 0)]
  heading = unit(start - past + 1e-6)
  side = unit(np.cross(heading, rng.normal(0, 1, heading.shape)))
  angle = np.deg2rad(rng.uniform(60, 120, count))[:, None]
  points = _walk(
    rng, start, np.cos(angle) * heading + np.sin(angle) * side,
    rng.uniform(4, 16, count), wander=0.1,
  )  # fmt: skip
  radius = veins.radius_mm[parent][rows, at] * rng.uniform(0.7, 1.1, count)
  return Tubes(points, _taper(radius, points, 0.6), _names('junction', count))


def _names(kind, count):
  return np.full(count, kind, dtype='<U24')


def _taper(radius, points, ratio):
  """Radius [N, S] growing from ratio * radius to radius downstream."""
  alive = np.isfinite(points[..., 0])
  last = np.maximum(alive.sum(1) - 1, 1)[:, None]
  way = np.minimum(np.arange(points.shape[1])[None] / last, 1)
  return np.where(alive, radius[:, None] * (ratio + (1 - ratio) * way), np.nan)
