"""Patches to logits: the residual networks of the microbleed studies.

Rule: names in the parameter tree and parameter counts never change, because
checkpoints are transferred by name.

The published family (Chen et al. 2018, J Digit Imaging 32; code of the same
group) with Keras' defaults: Glorot-uniform kernels, zero biases, BatchNorm
momentum 0.99 and epsilon 1e-3. Output is the logit; there is no sigmoid.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cmbjax.models import contract, convolution, normalization

BN_MOMENTUM = 0.99
BN_EPSILON = 1e-3
DROPOUT = 0.5


class Unit(nn.Module):
  """Conv, BatchNorm, ReLU, Conv, BatchNorm, add the shortcut, ReLU."""

  width: int
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  project: bool = False  # 1x1x1 convolution on the shortcut

  @nn.compact
  def __call__(self, x):
    y = self.conv(self.width, normalized=True, name='conv_0')(x)
    y = nn.relu(self.norm(name='norm_0')(y))
    y = self.conv(self.width, normalized=True, name='conv_1')(y)
    y = self.norm(name='norm_1')(y)
    if self.project:  # widths differ where a stage begins
      x = self.conv(self.width, size=1, name='shortcut')(x)
    return nn.relu(x + y)


class Stage(nn.Module):
  """Units of one width; the first one has the projected shortcut."""

  units: int
  width: int
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]

  @nn.compact
  def __call__(self, x):
    for index in range(self.units):
      unit = functools.partial(Unit, project=index == 0)
      x = unit(self.width, self.conv, self.norm, name=f'unit_{index}')(x)
    return x


class Plain(nn.Module):
  """Two convolutions with ReLU, then max-pooling by 2."""

  width: int
  conv: Callable[..., nn.Module]
  pool: bool = True

  @nn.compact
  def __call__(self, x):
    x = nn.relu(self.conv(self.width, name='conv_0')(x))
    x = nn.relu(self.conv(self.width, name='conv_1')(x))
    return convolution.max_pool(x) if self.pool else x


class Dropout(nn.Module):
  """Sets a share of x [B, F] to zero, the same one however B is split.

  Attributes:
    rate: share that is dropped.
    data_axis: mesh axis over which the batch is split, or None.
  """

  rate: float
  data_axis: str | None = None

  @nn.compact
  def __call__(self, x, *, train: bool):
    if not train or not self.rate:
      return x
    size, first = len(x), 0
    if self.data_axis:
      size *= lax.axis_size(self.data_axis)
      first = lax.axis_index(self.data_axis) * len(x)
    # The draws of the whole batch: they are few, and each device takes its own.
    kept = jax.random.bernoulli(
      self.make_rng('dropout'), 1 - self.rate, (size, x.shape[-1])
    )
    kept = lax.dynamic_slice_in_dim(kept, first, len(x))
    return jnp.where(kept, x / (1 - self.rate), 0)


class Head(nn.Module):
  """Features [B, F] to logits [B]: dense layers, ReLU and dropout."""

  widths: tuple[int, ...] = (32, 16)
  dropout: float = DROPOUT
  data_axis: str | None = None

  @nn.compact
  def __call__(self, x, *, train: bool):
    dense = functools.partial(
      nn.Dense, kernel_init=nn.initializers.glorot_uniform()
    )
    # From here on in single precision: logits of bfloat16 have 8 bits.
    x = x.astype(jnp.float32)
    drop = functools.partial(Dropout, self.dropout, self.data_axis)
    for index, width in enumerate(self.widths):
      x = nn.relu(dense(width, name=f'dense_{index}')(x))
      x = drop(name=f'dropout_{index}')(x, train=train)
    return dense(1, name='logit')(x)[:, 0]  # [B]


class ResNet(nn.Module):
  """Stages of residual units, then plain blocks, then the head.

  Attributes:
    stages: (units, width) of each stage.
    plain: widths of the plain blocks behind the stages.
    pool_stages: max-pooling by 2 between the stages.
    pool_last: max-pooling by 2 behind the last plain block too.
    flatten: features are flattened for the head, not averaged over voxels.
    head: widths of the dense layers before the last one.
    convolution: 'auto' or a form of `convolution.FORMS`.
    bn_momentum: of BatchNorm's running statistics. With 0.99 they need some
      300 steps to forget their start; short trainings want less.
    dropout: in the head.
    dtype: of the computation up to the head; parameters stay float32.
    data_axis: mesh axis over which a batch is split (inside `shard_map`):
      BatchNorm then sees the whole batch. None: it is not split.
  """

  stages: tuple[tuple[int, int], ...]
  plain: tuple[int, ...] = ()
  pool_stages: bool = True
  pool_last: bool = True
  flatten: bool = False
  head: tuple[int, ...] = (32, 16)
  convolution: str = 'auto'
  bn_momentum: float = BN_MOMENTUM
  dropout: float = DROPOUT
  dtype: Any = None
  data_axis: str | None = None

  @nn.compact
  def __call__(self, x, *, train: bool = False):
    """x [B, 16, 16, 8, C] to logits [B]; C is set by the first x."""
    contract.check_patches(x.shape)
    conv = functools.partial(
      convolution.Convolution, form=self.convolution, dtype=self.dtype
    )
    norm = functools.partial(
      normalization.BatchNorm,
      train,
      momentum=self.bn_momentum,
      epsilon=BN_EPSILON,
      dtype=self.dtype,
      data_axis=self.data_axis,
    )
    for letter, (units, width) in zip('abc', self.stages):
      if letter != 'a' and self.pool_stages:
        x = convolution.max_pool(x)
      x = Stage(units, width, conv, norm, name=f'stage_{letter}')(x)
    for index, width in enumerate(self.plain):
      pool = self.pool_last or index < len(self.plain) - 1
      x = Plain(width, conv, pool, name=f'plain_{index}')(x)
    x = x.reshape(len(x), -1) if self.flatten else x.mean((1, 2, 3))
    head = Head(self.head, self.dropout, self.data_axis, name='head')
    return head(x, train=train)


def family(units: int, width: int = 8, **kwargs) -> ResNet:
  """Stages of n, 2n and n units at once, twice and four times the width.

  Args:
    units: n.
    width: channels of the first stage.
    **kwargs: further attributes of `ResNet`.
  """
  stages = ((units, width), (2 * units, 2 * width), (units, 4 * width))
  return ResNet(stages, **kwargs)


RESNETS = {
  'resnet_v1': functools.partial(ResNet, ((5, 8),), (8, 16), flatten=True),
  'resnet_v3': functools.partial(family, 2),
  'resnet_v4': functools.partial(family, 3),  # the published default
  'resnet_v4_1': functools.partial(family, 3, 4),
  'resnet_v5': functools.partial(family, 4),
}

# The simple networks published beside the residual ones, as comparators.
# Those whose input is not 16 x 16 x 8 are left out.
_flat = functools.partial(ResNet, flatten=True)
_cnn = functools.partial(_flat, (), dropout=0.0)
BASELINES = {
  'fcnn': functools.partial(_cnn, head=(128, 64)),
  'resnet_v2': functools.partial(
    _flat, ((1, 8), (1, 16)), (8, 16), pool_stages=False
  ),
  'simpler_cnn': functools.partial(_cnn, (8, 16, 32), pool_last=False),
  'simpler_cnn_v2': functools.partial(
    _cnn, (8, 16, 32), pool_last=False, dropout=0.5
  ),
  'simpler_cnn_v3': functools.partial(_cnn, (8, 16), dropout=0.5),
}
