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
from cmbjax.training.replicas import Learner, Values, Weights


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


class Turn(NamedTuple):
  """What one step of a replica sees; in a program of R rows all have axis R.

  Attributes:
    index: [B] into the examples; BatchNorm sees each of them once, so a batch
      is never padded.
    key: data of the replica's key, uint32 [2].
    rate: the learning rate.
    values: what else steers it.
    active: None (yes) or a bool; with no, all stays.
  """

  index: Any
  key: Any
  rate: Any
  values: Values
  active: Any = None


def train_step(parts: Parts, data_axis: str | None = None) -> Callable:
  """The step of one replica.

  (patches, learner, total loss so far, number of the step, `Turn`) to
  (learner, total).

  Args:
    parts: of the step.
    data_axis: mesh axis over which B is split, or None.
  """

  def step(patches, learner, total, number, turn):
    key = jax.random.fold_in(jax.random.wrap_key_data(turn.key), number)
    moves, drops = jax.random.split(key)
    size, first = _part(len(turn.index), data_axis)
    # Keys of the whole batch, so that a split one is moved alike.
    moves = lax.dynamic_slice_in_dim(
      jax.random.split(moves, size), first, len(turn.index)
    )
    weights, may_change = learner.weights, turn.values.trainable
    loss_of = _loss_of(parts, patches, weights, turn, (moves, drops, size))
    params = weights.params
    if data_axis:  # else the gradients would be summed once by themselves
      params = lax.pcast(params, data_axis, to='varying')
    value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
    (loss, stats), grads = value_and_grad(params)
    if data_axis:
      loss, grads = lax.psum((loss, grads), data_axis)
    # Made here, from traced settings: rows may differ in both of them.
    decay = turn.values.weight_decay
    optimizer = optim.make(parts.optimizer, turn.rate, decay)
    change, opt = optimizer.update(grads, learner.opt, weights.params)
    new = Weights(optax.apply_updates(weights.params, change), stats)
    if may_change is not None:  # also what an optimizer moves without gradient
      new = jax.tree.map(jnp.where, may_change, new, weights)
    new = Learner(new, opt)
    if turn.active is not None:
      keep = lambda n, o: jnp.where(turn.active, n, o)  # noqa: E731
      new = jax.tree.map(keep, new, learner)
      loss = jnp.where(turn.active, loss, 0)
    return new, total + loss

  return step


def _loss_of(parts, patches, weights, turn, draws) -> Callable:
  """params to (mean loss of a batch, BatchNorm's new statistics)."""
  moves, drops, size = draws
  values, may_change = turn.values, turn.values.trainable
  image = patches.image[turn.index].astype(jnp.float32)  # [B, X, Y, Z, C]
  augmented = jax.vmap(parts.augmenter, (0, 0, None))
  image = augmented(moves, image, values.augmentation)
  label = patches.label[turn.index].astype(jnp.float32)
  fixed = {'batch_stats': weights.batch_stats}
  if may_change is not None:
    fixed['frozen'] = replicas.frozen_norms(may_change)

  def loss_of(params):
    with nn.intercept_methods(normalization.heed_frozen):
      logits, updates = parts.network.apply(
        {'params': params, **fixed},
        image,
        train=True,
        rngs={'dropout': drops},
        mutable=['batch_stats'],
      )
    weight = replicas.class_weight(label, values.positive_weight)
    losses = weight * parts.loss(logits, label)
    # By the size of the whole batch: parts of it are summed.
    return losses.sum() / size, updates.get('batch_stats', {})

  return loss_of


def forward(network: Any) -> Callable:
  """(patches, weights, index [B]) -> logits [B], without augmentation."""

  def run(patches, weights, index):
    image = patches.image[index].astype(jnp.float32)
    image = augment.centre_crop(image)  # what no augmentation leaves
    return network.apply(weights._asdict(), image, train=False)

  return run


def _part(size: int, data_axis: str | None):
  """Size of the whole batch, and where this device's part begins."""
  if data_axis is None:
    return size, 0
  return size * lax.axis_size(data_axis), size * lax.axis_index(data_axis)
