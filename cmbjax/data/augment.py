"""A 24x24x12 patch to the 16x16x8 that a network sees, on the device.

Rule: every draw is one affine map of the plane, shared by all slices, so that
each output voxel is interpolated once and nothing outside the crop is made.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp

from cmbjax import plugins
from cmbjax.data.patches import PATCH
from cmbjax.errors import InputError, shown
from cmbjax.reconstruct.channels import ONLY_SWI, depth

SEEN = (16, 16, 8)  # X Y Z, what a network sees
_FIRST = tuple((full - seen) // 2 for full, seen in zip(PATCH, SEEN))
_MIDDLE = (PATCH[0] - 1) / 2  # the plane turns about this point


def centre_crop(patch: jax.Array) -> jax.Array:
  """[..., 24, 24, 12] -> [..., 16, 16, 8]: voxels 4-19, 4-19, 2-9.

  Channels [..., 24, 24, 12, C] stay behind.
  """
  window = [slice(a, a + n) for a, n in zip(_FIRST, SEEN)]
  if patch.shape[-3:] != PATCH:
    window.append(slice(None))
  return patch[(..., *window)]


def mirrored(patches: jax.Array) -> Iterator[jax.Array]:
  """The eight mirror images of patches [N, 24, 24, 12] (or [..., C]).

  Every network was trained on all of them, so that the mean of its likelihoods
  over the eight is a steadier likelihood of the same candidate. JAX or numpy.
  """
  for steps in itertools.product((1, -1), repeat=3):
    x, y, z = (slice(None, None, step) for step in steps)
    yield patches[:, x, y, z]


def with_channels(patch: jax.Array) -> jax.Array:
  """[N, 24, 24, 12] -> [N, 24, 24, 12, 1]; with channels it stays."""
  return patch[..., None] if patch.ndim == 4 else patch


def augment(
  key: jax.Array, patch: jax.Array, strength: jax.Array | float = 1.0
) -> jax.Array:
  """Flips, a shift, a rotation and the centre crop, as in Chen et al. 2018.

  Flips along x, y, z with p = 0.5 each; a shift of 0 or 1 voxel along x and
  along y; a rotation in the plane by any angle, about the middle of the
  patch. The published code draws whole degrees and cubic splines; here the
  angle is continuous and the interpolation linear.

  Args:
    key: a JAX random key.
    patch: [24, 24, 12] or [24, 24, 12, C]; use `jax.vmap` for batches.
    strength: 0 (only the crop) to 1 (as published); scales the chance of a
      flip and of a shift and the range of the angle.

  Returns:
    float32 [16, 16, 8] or [16, 16, 8, C], all channels moved alike.
  """
  flip_key, shift_key, angle_key = jax.random.split(key, 3)
  return transform(
    patch,
    flips=jax.random.bernoulli(flip_key, 0.5 * strength, (3,)),
    shift=jax.random.bernoulli(shift_key, 0.5 * strength, (2,)),
    angle=strength
    * jax.random.uniform(angle_key, (), minval=-jnp.pi, maxval=jnp.pi),
  )


def appearance(
  key: jax.Array,
  patch: jax.Array,
  strength: jax.Array | float = 1.0,
  *,
  channels: Sequence[str] = ONLY_SWI,
) -> jax.Array:
  """`augment`, and the look of another scanner.

  Each axis is blurred by itself, as thick or interpolated voxels are; then a
  gamma, a contrast about the patch's mean, a brightness that changes along a
  line, and noise. All channels that show the SWI itself get the same, those at
  another scale as much in mm; the others only move.

  Args:
    key: a JAX random key.
    patch: [24, 24, 12] or [24, 24, 12, C]; use `jax.vmap` for batches.
    strength: 0 (only the crop) to 1; scales all ranges.
    channels: which images the C are, see `reconstruct.channels`.

  Returns:
    float32 [16, 16, 8] or [16, 16, 8, C], what shows the SWI in 0..1.
  """
  move_key, *keys = jax.random.split(key, 6)
  image = jnp.asarray(patch).astype(jnp.float32)
  image = image.reshape(*PATCH, -1)
  scales = _scales(channels)
  if image.shape[-1] != len(scales):
    raise InputError(
      f'patch: has {image.shape[-1]} channels, these are {len(scales)} '
      f'({" + ".join(channels)}).'
    )
  shown_swi = jnp.array([scale > 0 for scale in scales])
  scale = jnp.array([scale or 1.0 for scale in scales])
  width = strength * _blur(keys[0])
  for axis in range(3):
    blurred = _blurred(image, axis, width[axis] / scale)
    image = jnp.where(shown_swi, blurred, image)
  image = augment(move_key, image, strength)
  looks = _looks(keys[1:], image, scale, strength)
  image = jnp.where(shown_swi, looks, image)
  return image.reshape(*SEEN, *jnp.shape(patch)[3:])


# How many times the SWI's voxels those of an image of it are; 0: not of it.
_SCALES = {'swi': 1.0, 'wide': 3.0, 'mirror': 1.0}
_BLUR = (1.6, 1.6, 0.6)  # at most, voxels: .8 x .8 x 1.2 mm of resampled ones
_GAMMA, _CONTRAST, _BRIGHT = 0.3, 0.5, 0.15  # at most; of logarithms
_RAMP = 0.1  # at most, from the middle to the edge of a patch
_NOISE = 0.05  # at most


def _scales(channels):
  parts = [(_SCALES.get(name, 0.0),) * depth([name]) for name in channels]
  return sum(parts, ())


def _blur(key):
  """Widths along x, y, z in voxels; half of the axes stay sharp."""
  some, width = jax.random.split(key)
  which = jax.random.bernoulli(some, 0.5, (3,))
  return which * jax.random.uniform(width, (3,)) * jnp.array(_BLUR)


def _blurred(image, axis, width):
  """[X, Y, Z, C] blurred along one axis, by a width [C] in voxels."""
  reach = 3
  offset = jnp.arange(-reach, reach + 1, dtype=jnp.float32)[:, None]
  # Never 0 / 0: a width of 0 leaves the middle alone.
  share = jnp.exp(-0.5 * (offset / jnp.maximum(width, 1e-2)) ** 2)
  share = share / share.sum(0)  # [7, C]
  edge = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
  padded = jnp.pad(image, edge, mode='edge')
  size = image.shape[axis]
  return sum(
    jax.lax.slice_in_dim(padded, n, n + size, axis=axis) * share[n]
    for n in range(2 * reach + 1)
  )


def _looks(keys, image, scale, strength):
  """Gamma, contrast, brightness and noise of [X, Y, Z, C]."""
  curve, light, way, grain = keys
  # Centred: fewer than half of all patches change much.
  gamma, contrast = jax.random.uniform(curve, (2,), minval=-1, maxval=1)
  bright, level = jax.random.uniform(light, (2,), minval=-1, maxval=1)
  image = jnp.maximum(image, 0) ** jnp.exp(strength * _GAMMA * gamma)
  mean = image.mean((0, 1, 2))
  image = mean + (image - mean) * jnp.exp(strength * _CONTRAST * contrast)
  slope = _RAMP * strength * jax.random.uniform(way, (3,), minval=-1, maxval=1)
  at = [jnp.linspace(-1, 1, n) for n in image.shape[:3]]
  x, y, z = jnp.meshgrid(*at, indexing='ij')
  ramp = slope[0] * x + slope[1] * y + slope[2] * z
  image = image * (1 + ramp[..., None] * scale)
  image = image * jnp.exp(strength * _BRIGHT * bright)
  # The mean of many voxels has less noise.
  noise = jax.random.normal(grain, image.shape) / scale**1.5
  image = image + strength * _NOISE * jnp.abs(level) * noise
  return jnp.clip(image, 0, 1)


AUGMENTERS = {'chen2018': augment, 'appearance': appearance}
_KEY = 'config.train.augmenter'


def find(name: str, channels: Sequence[str] = ONLY_SWI) -> Callable:
  """An augmentation by its name, or your own as 'module:name'.

  Args:
    name: 'chen2018', 'appearance', or a function (key, patch float32
      [24, 24, 12, C], strength 0 to 1) of JAX arrays that returns
      [16, 16, 8, C].
    channels: which images the C are, for 'appearance'.

  Raises:
    InputError: there is none, or it returns something else.
  """
  found = plugins.find(name, key=_KEY, known=AUGMENTERS)
  if found is appearance:
    found = functools.partial(appearance, channels=tuple(channels))
  # Shapes only: nothing is computed, and nothing has to fit into memory.
  number = depth(channels)
  patch = jax.ShapeDtypeStruct((*PATCH, number), jnp.float32)
  must = 'take (key, patch, strength) as JAX arrays'
  with plugins.tried(name, key=_KEY, must=must):
    made = jax.eval_shape(found, jax.random.key(0), patch, jnp.float32(1))
  if getattr(made, 'shape', None) != (*SEEN, number):
    raise InputError(
      f'{_KEY}: {shown(name)!r} gives '
      f'{getattr(made, "shape", type(made).__name__)} for a patch of '
      f'{patch.shape}; it must give {(*SEEN, number)}, which is what a '
      'network sees.'
    )
  return found


def transform(
  patch: jax.Array, *, flips: jax.Array, shift: jax.Array, angle: jax.Array
) -> jax.Array:
  """One patch under given draws: flip, then shift, then rotate, then crop.

  Exact for multiples of 90 degrees; otherwise bilinear in the plane. The
  rotation is that of `scipy.ndimage.rotate(axes=(0, 1))`.

  Args:
    patch: [24, 24, 12] or [24, 24, 12, C].
    flips: bool [3], along x, y, z.
    shift: voxels along x and y, [2]; 1 brings voxel i + 1 to place i.
    angle: radians.

  Returns:
    float32 [16, 16, 8] or [16, 16, 8, C].
  """
  x, y = _source_of(flips, shift, angle)
  first, last = _FIRST[2], _FIRST[2] + SEEN[2]
  slab = jnp.asarray(patch)[:, :, first:last].astype(jnp.float32)
  columns = slab.reshape(PATCH[0] * PATCH[1], -1)  # [X * Y, Z * C]
  seen = _bilinear(columns, x, y).reshape(*SEEN, *slab.shape[3:])
  return jnp.where(flips[2], seen[:, :, ::-1], seen)


def _source_of(flips, shift, angle):
  """Where each seen in-plane voxel comes from: x, y of shape [16 * 16]."""
  i = jnp.arange(SEEN[0], dtype=jnp.float32) + (_FIRST[0] - _MIDDLE)
  j = jnp.arange(SEEN[1], dtype=jnp.float32) + (_FIRST[1] - _MIDDLE)
  cos, sin = _whole(jnp.cos(angle)), _whole(jnp.sin(angle))
  x = cos * i[:, None] + sin * j[None, :] + shift[0]
  y = cos * j[None, :] - sin * i[:, None] + shift[1]
  x = jnp.where(flips[0], -x, x) + _MIDDLE
  y = jnp.where(flips[1], -y, y) + _MIDDLE
  return x.reshape(-1), y.reshape(-1)


def _whole(value):
  """Rounds away the last bits near 0, so that quarter turns are exact."""
  return jnp.where(jnp.abs(value) < 1e-6, 0.0, value)


def _bilinear(columns, x, y):
  """columns [X * Y, n] at in-plane places x, y [M] -> [M, n]; edges repeat."""
  size = PATCH[0]
  x, y = jnp.clip(x, 0, size - 1), jnp.clip(y, 0, size - 1)
  x0 = jnp.minimum(x.astype(jnp.int32), size - 2)
  y0 = jnp.minimum(y.astype(jnp.int32), size - 2)
  right, up = (x - x0)[:, None], (y - y0)[:, None]
  corner = x0 * size + y0

  def at(offset):
    return columns.at[corner + offset].get(mode='promise_in_bounds')

  low = at(0) * (1 - right) + at(size) * right
  high = at(1) * (1 - right) + at(size + 1) * right
  return low * (1 - up) + high * up
