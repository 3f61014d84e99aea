"""3-D convolution, channels last, in the form that is fast on this platform.

Rule: every form gives the values and gradients of
`lax.conv_general_dilated`, up to rounding; the parameters are the same.

XLA on CPU has no quick path for a 3-D convolution nor for its gradients, so
the forms here are built from 2-D convolutions and matrix products.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cmbjax import errors
from cmbjax.models import winograd as compiled


def native(x, kernel):
  """What XLA does by itself: cuDNN on GPU, slow on CPU."""
  return lax.conv_general_dilated(
    x, kernel, (1, 1, 1), 'SAME', dimension_numbers=('NXYZC', 'XYZIO', 'NXYZC')
  )


def im2col(x, kernel):
  """One matrix product over all stacked views: best for few voxels."""
  columns = jnp.concatenate(_windows(x, kernel.shape[:3]), -1)
  return columns @ kernel.reshape(-1, kernel.shape[-1])


def out3(x, kernel):
  """One 2-D convolution with an output per tap of X, then a shifted sum."""
  b, nx, ny, nz, c = x.shape
  size, *plane, _, o = kernel.shape
  flat = kernel.transpose(1, 2, 3, 0, 4).reshape(*plane, c, size * o)
  y = _conv2d(x.reshape(b * nx, ny, nz, c), flat)
  y = _pad(y.reshape(b, nx, ny, nz, -1), (size, 1, 1))
  taps = (y[:, a : a + nx, ..., a * o : (a + 1) * o] for a in range(size))
  return functools.reduce(jnp.add, taps)


def folded(x, kernel):
  """One 2-D convolution whose channels are all channels of all Z.

  The taps of Z become a band in a [Z C, Z O] matrix. That multiplies zeros,
  Z / 3 times the work, but wide channels run at the processor's full speed:
  best for patches with few slices.
  """
  b, nx, ny, nz, c = x.shape
  kx, ky, kz, _, o = kernel.shape
  band = np.zeros((kz, nz, nz))  # [tap, Z in, Z out]
  for tap in range(kz):
    band[tap] = np.eye(nz, k=(kz - 1) // 2 - tap)
  flat = jnp.einsum('xykco,kzw->xyzcwo', kernel, band.astype(kernel.dtype))
  y = _conv2d(x.reshape(b, nx, ny, nz * c), flat.reshape(kx, ky, nz * c, -1))
  return y.reshape(b, nx, ny, nz, o)


def winograd(x, kernel):
  """Compiled C++, where `winograd.supports` it; elsewhere as `composed`."""
  if not compiled.available():
    raise errors.InputError(
      "convolution 'winograd' needs a C++ compiler or cmbjax's wheel for this "
      f"platform; here: {compiled.why_not()}; choose 'auto'."
    )
  if compiled.supports(x.shape, kernel.shape, x.dtype):
    return compiled.convolve(x, kernel, jnp.zeros(kernel.shape[-1], x.dtype))
  return composed(x, kernel)


def composed(x, kernel):
  """The quickest of the forms above for this layer on CPU."""
  if kernel.shape[:3] == (1, 1, 1):
    return x @ kernel[0, 0, 0]
  if x.shape[3] * max(kernel.shape[3:]) <= FOLDED_CHANNELS:
    return folded(x, kernel)
  return (out3 if x.shape[1] * x.shape[2] > FEW_PIXELS else im2col)(x, kernel)


# Both are where the forms cross on x86-64, see benchmarks/convolution.py.
FOLDED_CHANNELS = 96  # more of them would be mostly zeros
FEW_PIXELS = 64  # a 2-D convolution of fewer is slow
FORMS: dict[str, Callable[..., Any]] = {
  form.__name__: form
  for form in (native, im2col, out3, folded, composed, winograd)
}


def convolve(x, kernel, bias=None, *, form: str = 'auto'):
  """x [B, X, Y, Z, C], kernel [X, Y, Z, C, O], bias [O] to [B, X, Y, Z, O].

  Stride 1, padding 'SAME'. `form` is a key of `FORMS`, or 'auto': native on
  GPU and TPU; on CPU winograd where it can be had, else composed.

  Args:
    x: input.
    kernel: X, Y, Z may differ.
    bias: None for none.
    form: a key of `FORMS`, or 'auto'.
  """
  if form == 'auto' and jax.default_backend() != 'cpu':
    form = 'native'
  if form == 'auto':
    compiled.warn()
    form = 'winograd' if compiled.available() else 'composed'
  if (
    form == 'winograd'
    and bias is not None
    and compiled.supports(x.shape, kernel.shape, x.dtype)
  ):
    return compiled.convolve(x, kernel, bias)
  y = FORMS[form](x, kernel)
  return y if bias is None else _add(y, bias)


def _add(y, bias):
  """y + bias, with a gradient summed over wide rows: quicker on CPU."""
  wide = y.reshape(*y.shape[:-2], -1) + jnp.tile(bias, y.shape[-2])
  return wide.reshape(y.shape)


class Convolution(nn.Module):
  """A convolution layer with bias, initialised as in Keras.

  Attributes:
    features: output channels.
    size: kernel size on every axis.
    form: 'auto' or a key of `FORMS`.
    dtype: of the computation; parameters stay float32.
    normalized: BatchNorm follows, which takes the mean and the bias with it.
      The bias stays, because published weights have one, but gets no
      gradient: it would be the rounding noise of a zero, and Adam divides
      noise by its own size.
  """

  features: int
  size: int = 3
  form: str = 'auto'
  dtype: Any = None
  normalized: bool = False

  @nn.compact
  def __call__(self, x):
    shape = (self.size,) * 3 + (x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.glorot_uniform(), shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    if self.normalized:
      bias = lax.stop_gradient(bias)
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    return convolve(x, kernel, bias, form=self.form)


def max_pool(x, size: int = 2):
  """Largest of size^3 voxels; x [B, X, Y, Z, C], sizes divisible."""
  return _blocks(x, size).max((2, 4, 6))


def _blocks(x, size):
  b, *space, c = x.shape
  if any(n % size for n in space):
    raise ValueError(f'Pooling by {size} does not divide {tuple(space)}.')
  split = [n for length in space for n in (length // size, size)]
  return x.reshape(b, *split, c)


def _pad(x, size):
  """Zeros around x [B, X, Y, Z, C] so that 'SAME' windows of `size` fit."""
  pads = [((n - 1) // 2, n // 2) for n in size]
  return jnp.pad(x, [(0, 0), *pads, (0, 0)])


def _windows(x, size):
  """One shifted view [B, X, Y, Z, C] of x per kernel position."""
  padded = _pad(x, size)
  _, nx, ny, nz, _ = x.shape
  return [
    padded[:, i : i + nx, j : j + ny, k : k + nz]
    for i, j, k in itertools.product(*map(range, size))
  ]


def _conv2d(x, kernel):
  return lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
