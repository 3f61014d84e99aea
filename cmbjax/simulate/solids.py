"""Simple solids to their depth in mm at given points, and their soft shares.

Rule: depth is positive inside; points are [3, ...], in any frame in mm.
"""

import numpy as np


def ellipsoid(points, centre, semi_axes, *, long=None, middle=None):
  """Depth [...] beneath the surface of an ellipsoid, exact to first order.

  Args:
    points: [3, ...].
    centre: [3] mm.
    semi_axes: [3] mm, along `long`, `middle` and the third; without them
      along x, y, z.
    long, middle: directions, need not be perpendicular.
  """
  offset = [p - np.float32(c) for p, c in zip(points, centre)]
  if long is not None:
    first = np.asarray(long, float) / np.linalg.norm(long)
    second = np.asarray(middle, float)
    second = second - (second @ first) * first
    second /= np.linalg.norm(second)
    frame = np.array([first, second, np.cross(first, second)], np.float32)
    offset = [sum(o * a for o, a in zip(offset, axis)) for axis in frame]
  radius, slope = 0.0, 0.0
  for o, size in zip(offset, semi_axes):
    part = o / np.float32(size)
    radius = radius + part * part
    slope = slope + (part / np.float32(size)) ** 2
  radius = np.sqrt(radius)
  # Value over gradient; in the middle the gradient is gone.
  deep = (1 - radius) * radius / np.maximum(np.sqrt(slope), 1e-6)
  return np.where(radius < 0.05, np.float32(min(semi_axes)), deep)


def chain(points, path, radii):
  """Depth [...] beneath a chain of rounded cones, exact where radii agree.

  Args:
    points: [3, ...].
    path: [K, 3] mm.
    radii: [K] mm.
  """
  path = np.asarray(path, np.float32)
  best = None
  for start, stop, first, last in zip(path, path[1:], radii, radii[1:]):
    line = stop - start
    offset = [p - s for p, s in zip(points, start)]
    way = sum(o * c for o, c in zip(offset, line)) / np.float32(line @ line)
    way = np.clip(way, 0, 1)
    far = np.sqrt(sum((o - way * c) ** 2 for o, c in zip(offset, line)))
    depth = np.float32(first) + way * np.float32(last - first) - far
    best = depth if best is None else np.maximum(best, depth)
  return best


def soft(depth, width_mm=1.0):
  """Share 0..1 of a voxel that is inside, linear across the surface."""
  return np.clip(depth / np.float32(width_mm) + np.float32(0.5), 0, 1)


def sheet(distance, half_mm, width_mm=1.0):
  """Share of a voxel that a thin sheet fills.

  Args:
    distance: [...] mm from its middle, signed or not.
    half_mm: half of its thickness.
    width_mm: of the voxel.
  """
  across = (np.float32(half_mm) - abs(distance)) / np.float32(width_mm) + 0.5
  return np.clip(across, 0, np.minimum(1, 2 * half_mm / width_mm))


def box_of(mni, centre, reach_mm, *, step=4):
  """Slices of the grid that hold all points within `reach_mm` of a centre.

  Args:
    mni: [3, X, Y, Z] place of each node.
    centre: [3] of the same frame.
    reach_mm: per axis or for all.
    step: only every so many-th node is looked at.

  Returns:
    Three slices, or None when the grid does not reach there.
  """
  wide = np.broadcast_to(np.asarray(reach_mm, float) + step, 3)
  near = True
  for axis, c, r in zip(mni, centre, wide):
    near = near & (abs(axis[::step, ::step, ::step] - c) < r)
  if not near.any():
    return None
  out = []
  for k, size in enumerate(mni.shape[1:]):
    line = np.flatnonzero(near.any(axis=tuple(i for i in range(3) if i != k)))
    out.append(slice(line[0] * step, min((line[-1] + 1) * step, size)))
  return tuple(out)
