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
from jax import lax

from cmbjax.models import axes


class BatchNorm(nn.Module):
  """Normalizes x [B, X, Y, Z, C] per channel, then scales and shifts.

  Attributes:
    train: True for the statistics of the batch, which also move the running
      ones; False for the running ones.
    momentum: share of the old running statistics that stays.
    epsilon: added to the variance.
    dtype: of the result; statistics are float32.
  """

  train: bool
  momentum: float = 0.99
  epsilon: float = 1e-3
  dtype: Any = None

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
    y, mean, var = normalize(x, scale, bias, self.epsilon)
    if not self.is_initializing():
      for old, new in ((running_mean, mean), (running_var, var)):
        kept = self.momentum * old.value
        old.value = kept + (1 - self.momentum) * lax.stop_gradient(new)
    return y.astype(dtype)


def normalize(x, scale, bias, epsilon: float):
  """Normalized x [B, X, Y, Z, C], and mean and variance [C] of the batch.

  No gradient flows through the mean and the variance that are returned.
  """
  return _normalize(epsilon, *axes.alike(x, scale, bias))


def _forward(epsilon, x, scale, bias):
  num = x.size // x.shape[-1]
  mean = _sum(x) / num
  var = jnp.maximum(_sum(x * x) / num - mean * mean, 0.0)
  inverse = lax.rsqrt(var + epsilon)
  y = (x - mean) * (inverse * scale) + bias
  return (y, mean, var), (x, mean, inverse, scale)


def _backward(epsilon, saved, gradients):
  """Ioffe & Szegedy 2015, arXiv:1502.03167, section 3, collected."""
  x, mean, inverse, scale = saved
  g = gradients[0]
  num = x.size // x.shape[-1]
  bias_gradient = _sum(g)
  scale_gradient = (_sum(g * x) - mean * bias_gradient) * inverse
  slope = scale_gradient * inverse / num
  shift = mean * slope - bias_gradient / num
  return (
    (g - x * slope + shift) * (inverse * scale),
    scale_gradient,
    bias_gradient,
  )


_normalize = jax.custom_vjp(
  lambda epsilon, *args: _forward(epsilon, *args)[0], nondiff_argnums=(0,)
)
_normalize.defvjp(_forward, _backward)


def _sum(x):
  """Sum [C] over all axes but the last, over wide rows first."""
  z, c = x.shape[-2:]
  return x.reshape(-1, z * c).sum(0).reshape(z, c).sum(0)
