"""Images on one regular grid to the same on another.

Rule: a grid has its node 0 at an offset in mm and one step per axis; nothing
is turned.
"""

import numpy as np
from scipy import ndimage


def grid_mm(origin, shape, *, step=1.0):
  """Three open axes of coordinates in mm.

  Args:
    origin: mm of node 0 along x, y, z.
    shape: (X, Y, Z).
    step: mm between nodes.
  """
  axes = [
    (np.float32(o) + np.float32(step) * np.arange(n, dtype=np.float32))
    for o, n in zip(origin, shape)
  ]
  return np.meshgrid(*axes, indexing='ij', sparse=True)


def sample(image, points_mm, *, order=1) -> np.ndarray:
  """Value of a 1 mm image [X, Y, Z] at grid mm [..., 3].

  Args:
    image: [X, Y, Z], node i at i mm.
    points_mm: [..., 3].
    order: of the spline; 0 is the nearest node.
  """
  return ndimage.map_coordinates(
    image,
    np.moveaxis(np.asarray(points_mm), -1, 0),
    order=order,
    mode='nearest',
  )


def spline(num_out: int, spacing: float, offset: float, step=1.0):
  """Uniform cubic B-spline weights [num_out, num_knots], node 0 at `offset`.

  Args:
    num_out: nodes of the fine grid.
    spacing: mm between knots.
    offset: mm of node 0 from knot 0.
    step: mm between nodes.
  """
  position = (np.arange(num_out) * step + offset) / spacing + 1.0
  distance = abs(position[:, None] - np.arange(np.ceil(position.max()) + 3))
  near = 2 / 3 - distance**2 + distance**3 / 2
  far = (2 - np.minimum(distance, 2)) ** 3 / 6
  return np.where(distance < 1, near, far).astype(np.float32)


def trilinear(images, index):
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

  Output i is at i * step + offset; beyond the border the edge is repeated.

  Args:
    num_out: nodes of the result.
    num_in: nodes that are given.
    step: of the result, in units of the given nodes.
    offset: of its node 0.
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


def smooth_noise(rng, shape, sigma) -> np.ndarray:
  """Unit variance noise [X, Y, Z], drawn as coarsely as its width allows.

  Args:
    rng: numpy generator.
    shape: of the result.
    sigma: width in voxels.
  """
  step = max(1, int(sigma / 1.5))
  small = tuple(-(-n // step) + 2 for n in shape)
  noise = rng.standard_normal(small, np.float32)
  noise = ndimage.gaussian_filter(noise, sigma / step, mode='wrap')
  noise /= noise.std()
  return refine(noise, shape, step=(1 / step,) * 3)


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
