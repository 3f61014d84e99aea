"""Batch normalization with a gradient that is quick on CPU.

Rule: same values, statistics and names as `flax.linen.BatchNorm`.

XLA on CPU sums over all but a narrow last axis slowly, and differentiates
the textbook formula into many passes. Here rows are widened to [Z C] before
they are summed, and the gradient is written by hand: one pass for its two
sums, one for the result.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cmbjax.models import axes
from cmbjax.models import winograd as compiled


class BatchNorm(nn.Module):
  """Normalizes x [B, X, Y, Z, C] per channel, then scales and shifts.

  Attributes:
    train: True for the statistics of the batch, which also move the running
      ones; False for the running ones.
    momentum: share of the old running statistics that stays.
    epsilon: added to the variance.
    dtype: of the result; statistics are float32.
    data_axis: mesh axis over which the batch is split, or None; statistics
      are those of the whole batch.

  A variable 'norm' in the collection 'frozen', 1 or 0, makes it use the
  running statistics in training too and leave them as they are, as Keras
  does with `trainable = False`. It is an array: replicas may differ.
  """

  train: bool
  momentum: float = 0.99
  epsilon: float = 1e-3
  dtype: Any = None
  data_axis: str | None = None

  @nn.compact
  def __call__(self, x):
    shape = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    stats = 'batch_stats'
    running_mean = self.variable(stats, 'mean', jnp.zeros, shape)
    running_var = self.variable(stats, 'var', jnp.ones, shape)
    dtype = self.dtype or x.dtype
    x = x.astype(jnp.float32)
    if not self.train:
      factor = lax.rsqrt(running_var.value + self.epsilon) * scale
      y = (x - running_mean.value) * factor + bias
      return y.astype(dtype)
    given = None
    if self.has_variable('frozen', 'norm'):
      frozen = self.get_variable('frozen', 'norm')
      given = (running_mean.value, running_var.value, frozen)
    axis = None if self.is_initializing() else self.data_axis
    y, mean, var = normalize(
      x, scale, bias, self.epsilon, data_axis=axis, given=given
    )
    if not self.is_initializing():
      for old, new in ((running_mean, mean), (running_var, var)):
        moved = self.momentum * old.value
        moved += (1 - self.momentum) * lax.stop_gradient(new)
        if given is not None:
          moved = jnp.where(given[2] > 0, old.value, moved)
        old.value = moved
    return y.astype(dtype)


def heed_frozen(following, args, kwargs, context):
  """Makes `flax.linen.BatchNorm` heed the collection 'frozen' as well.

  For `flax.linen.intercept_methods`. Without it, a frozen layer of a network
  from outside would learn nothing and yet normalize with each batch.

  Args:
    following: the method that is called.
    args: of it.
    kwargs: of it.
    context: whose method it is.
  """
  norm = context.module
  heeds = (
    isinstance(norm, nn.BatchNorm)
    and context.method_name == '__call__'
    and norm.has_variable('frozen', 'norm')
  )
  if not heeds:
    return following(*args, **kwargs)
  known = {**norm.variables['batch_stats'], **norm.variables.get('params', {})}
  y = following(*args, **kwargs)  # which moves the running statistics
  x = args[0] if args else kwargs['x']
  own = np.atleast_1d(norm.axis) % x.ndim
  shape = [size if axis in own else 1 for axis, size in enumerate(x.shape)]
  known = {name: value.reshape(shape) for name, value in known.items()}
  factor = lax.rsqrt(known['var'] + norm.epsilon) * known.get('scale', 1.0)
  fixed = (x - known['mean']) * factor + known.get('bias', 0.0)
  frozen = norm.get_variable('frozen', 'norm') > 0
  return jnp.where(frozen, fixed.astype(y.dtype), y)


def normalize(x, scale, bias, epsilon: float, *, data_axis=None, given=None):
  """Normalized x [B, X, Y, Z, C], and mean and variance [C] of the batch.

  No gradient flows through the mean and the variance that are returned.

  Args:
    x: [B, X, Y, Z, C], or this device's part of B.
    scale: [C].
    bias: [C].
    epsilon: added to the variance.
    data_axis: mesh axis over which B is split, or None.
    given: (mean [C], variance [C], flag): where the flag is 1, these are
      used instead of the statistics of the batch.
  """
  x, scale, bias = axes.alike(x, scale, bias)
  return _normalize(epsilon, data_axis, x, scale, bias, given)


def _forward(epsilon, data_axis, x, scale, bias, given):
  num = _count(x, data_axis)
  total, squares = _sums(x, x, data_axis)
  mean = total / num
  # Two sums in one pass; rounding can make their difference negative.
  var = jnp.maximum(squares / num - mean * mean, 0.0)
  used_mean, used_var = mean, var
  if given is not None:
    frozen = given[2] > 0
    used_mean = jnp.where(frozen, given[0], mean)
    used_var = jnp.where(frozen, given[1], var)
  inverse = lax.rsqrt(used_var + epsilon)
  y = (x - used_mean) * (inverse * scale) + bias
  return (y, mean, var), (x, used_mean, inverse, scale, given)


def _backward(epsilon, data_axis, saved, gradients):
  """Ioffe & Szegedy 2015, arXiv:1502.03167, section 3, collected."""
  x, mean, inverse, scale, given = saved
  g = gradients[0]
  num = _count(x, data_axis)
  bias_gradient, product = _sums(g, x)
  scale_gradient = (product - mean * bias_gradient) * inverse
  whole_bias, whole_scale = bias_gradient, scale_gradient
  if data_axis:
    whole_bias, whole_scale = lax.psum(
      (bias_gradient, scale_gradient), data_axis
    )
  slope = whole_scale * inverse / num
  shift = mean * slope - whole_bias / num
  if given is not None:  # fixed statistics do not answer to x
    moves = given[2] <= 0
    slope, shift = jnp.where(moves, slope, 0), jnp.where(moves, shift, 0)
  none = jax.tree.map(jnp.zeros_like, given)
  return (
    (g - x * slope + shift) * (inverse * scale),
    scale_gradient,
    bias_gradient,
    none,
  )


_normalize = jax.custom_vjp(
  lambda *args: _forward(*args)[0], nondiff_argnums=(0, 1)
)
_normalize.defvjp(_forward, _backward)


def _sums(x, y, data_axis=None):
  """Sums [C] of x and of x y over all axes but the last."""
  quick = compiled.supports_sums(x.shape, x.dtype)
  both = compiled.sums(x, y) if quick else _wide_sums(x, y)
  return lax.psum(both, data_axis) if data_axis else both


def _wide_sums(x, y):
  """Over wide rows first."""
  z, c = x.shape[-2:]

  def total(values):
    return values.reshape(-1, z * c).sum(0).reshape(z, c).sum(0)

  return total(x), total(x * y)


def _count(x, data_axis):
  parts = lax.axis_size(data_axis) if data_axis else 1
  return parts * (x.size // x.shape[-1])
