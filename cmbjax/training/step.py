"""One training step and one forward pass of one replica.

Rule: they know nothing of other replicas; `runner` is the one place that knows
how several are run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from cmbjax.data import augment
from cmbjax.models import normalization
from cmbjax.training import optim, replicas
from cmbjax.training.replicas import Learner, Weights


class Parts(NamedTuple):
  """What a step is made of.

  Attributes:
    network: the Linen module.
    loss: (logits [B], labels float32 [B]) to [B].
    augmenter: (key, patch [24, 24, 12, C], strength) to [16, 16, 8, C].
    optimizer: takes `learning_rate` (and `weight_decay`, if it has it) and
      gives an optax.GradientTransformation.
  """

  network: Any
  loss: Callable = replicas.cross_entropy
  augmenter: Callable = augment.augment
  optimizer: Callable = optim.OPTIMIZERS['adamw']


def train_step(parts: Parts, data_axis: str | None = None) -> Callable:
  """The step of one replica.

  (patches, learner, total, index [B], key data, number, rate, values, active)
  to (learner, total). BatchNorm sees each example of `index` once, so a batch
  is never padded. `active` is None (yes) or a bool; with no, all stays.

  Args:
    parts: of the step.
    data_axis: mesh axis over which B is split, or None.
  """
  network = parts.network

  def step(patches, learner, total, index, key, number, rate, values, active):
    weights, may_change = learner.weights, values.trainable
    key = jax.random.fold_in(jax.random.wrap_key_data(key), number)
    turns, drops = jax.random.split(key)
    size, first = _part(len(index), data_axis)
    turns = lax.dynamic_slice_in_dim(
      jax.random.split(turns, size), first, len(index)
    )
    image = patches.image[index].astype(jnp.float32)  # [B, X, Y, Z, C]
    image = jax.vmap(parts.augmenter, (0, 0, None))(
      turns, image, values.augmentation
    )
    label = patches.label[index].astype(jnp.float32)
    fixed = {'batch_stats': weights.batch_stats}
    if may_change is not None:
      fixed['frozen'] = replicas.frozen_norms(may_change)

    def loss_fn(params):
      with nn.intercept_methods(normalization.heed_frozen):
        logits, updates = network.apply(
          {'params': params, **fixed},
          image,
          train=True,
          rngs={'dropout': drops},
          mutable=['batch_stats'],
        )
      weight = replicas.class_weight(label, values.positive_weight)
      losses = weight * parts.loss(logits, label)
      return losses.sum() / size, updates.get('batch_stats', {})

    params = weights.params
    if data_axis:  # else the gradients would be summed once by themselves
      params = lax.pcast(params, data_axis, to='varying')
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, stats), grads = value_and_grad(params)
    if data_axis:
      loss, grads = lax.psum((loss, grads), data_axis)
    # Made here, from traced settings: rows may differ in both of them.
    optimizer = optim.make(parts.optimizer, rate, values.weight_decay)
    change, opt = optimizer.update(grads, learner.opt, weights.params)
    new = Weights(optax.apply_updates(weights.params, change), stats)
    if may_change is not None:
      new = jax.tree.map(jnp.where, may_change, new, weights)
    new = Learner(new, opt)
    if active is not None:
      new = jax.tree.map(lambda n, o: jnp.where(active, n, o), new, learner)
      loss = jnp.where(active, loss, 0)
    return new, total + loss

  return step


def forward(network: Any) -> Callable:
  """(patches, weights, index [B]) -> logits [B], without augmentation."""

  def run(patches, weights, index):
    image = patches.image[index].astype(jnp.float32)
    image = augment.centre_crop(image)
    return network.apply(weights._asdict(), image, train=False)

  return run


def _part(size: int, data_axis: str | None):
  """Size of the whole batch, and where this device's part begins."""
  if data_axis is None:
    return size, 0
  return size * lax.axis_size(data_axis), size * lax.axis_index(data_axis)
