"""One training step to R replicas of it.

Rule: a replica in the program ends with the numbers it has alone. The step
knows nothing about replicas; `Runner` is the one place that knows how they
are run.
"""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmbjax.data import augment
from cmbjax.errors import InputError
from cmbjax.training import optim

BACKENDS = ('auto', 'loop', 'map', 'vmap')


class Replica(NamedTuple):
  """One row of the replica table."""

  strategy: str
  fold: int
  seed: int
  learning_rate: float


class Weights(NamedTuple):
  """What a trained network is; stacked, every leaf gains a leading axis R."""

  params: Any
  batch_stats: Any


class Learner(NamedTuple):
  """What one training step changes."""

  weights: Weights
  opt: Any


class Patches(NamedTuple):
  """All examples, on the device once; only indices travel afterwards."""

  image: jax.Array  # [N, 24, 24, 12] float16, 0..1
  label: jax.Array  # [N] int8


def on_device(image: np.ndarray, label: np.ndarray) -> Patches:
  """Examples [N, 24, 24, 12], [N] to the device."""
  return Patches(jnp.asarray(image, jnp.float16), jnp.asarray(label, jnp.int8))


def initial(network: Any, replica: Replica) -> Weights:
  """Fresh weights; one seed starts all its folds and strategies alike."""
  from cmbjax.training import rng

  sample = jnp.zeros((1, *augment.SEEN, 1), jnp.float32)
  # Level 0: init is compiled once and run once, so compiling fast wins.
  make = jax.jit(
    lambda key: network.init(key, sample, train=False),
    compiler_options={'xla_backend_optimization_level': 0},
  )
  variables = make(rng.key(replica.seed, 'init'))
  return Weights(variables['params'], variables.get('batch_stats', {}))


def loss_of(logits, label, positive_weight):
  """Weighted binary cross-entropy of each example."""
  label = label.astype(jnp.float32)
  weight = 1.0 + (positive_weight - 1.0) * label
  return weight * optax.sigmoid_binary_cross_entropy(logits, label)


def train_step(network: Any, positive_weight: float) -> Callable:
  """The step of one replica: (patches, learner, index [B], key) -> same, loss.

  BatchNorm sees each example of `index` once, so a batch is never padded.
  """
  optimizer = optim.adam()

  def step(patches, learner, index, key):
    weights = learner.weights
    turns, drops = jax.random.split(key)
    image = patches.image[index].astype(jnp.float32)  # [B, 24, 24, 12]
    image = jax.vmap(augment.augment)(
      jax.random.split(turns, index.shape[0]), image
    )[..., None]
    label = patches.label[index]

    def loss_fn(params):
      logits, updates = network.apply(
        {'params': params, 'batch_stats': weights.batch_stats},
        image,
        train=True,
        rngs={'dropout': drops},
        mutable=['batch_stats'],
      )
      return loss_of(logits, label, positive_weight).mean(), updates

    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, updates), grads = value_and_grad(weights.params)
    change, opt = optimizer.update(grads, learner.opt, weights.params)
    params = optax.apply_updates(weights.params, change)
    return Learner(Weights(params, updates.get('batch_stats', {})), opt), loss

  return step


def forward(network: Any) -> Callable:
  """(patches, weights, index [B]) -> logits [B], without augmentation."""

  def run(patches, weights, index):
    image = patches.image[index].astype(jnp.float32)
    image = augment.centre_crop(image)[..., None]
    return network.apply(weights._asdict(), image, train=False)

  return run


class Runner:
  """Runs a step and a forward pass for R replicas.

  Args:
    network: the Linen module.
    backend: 'loop' (one compiled step, replicas in threads), 'map' or 'vmap'
      (one program with axis R); 'auto' is 'loop' on CPU, 'vmap' elsewhere.
    positive_weight: weight of microbleeds in the loss.
  """

  def __init__(
    self, network: Any, *, backend: str = 'auto', positive_weight: float = 1.0
  ):
    if backend not in BACKENDS:
      raise InputError(
        f'config.train.backend: {backend!r} is unknown; use one of {BACKENDS}.'
      )
    if backend == 'auto':
      backend = 'loop' if jax.default_backend() == 'cpu' else 'vmap'
    self.backend = backend
    self.network = network
    step, run = train_step(network, positive_weight), forward(network)
    if backend == 'loop':
      self._step = jax.jit(step, donate_argnums=1)
      self._forward = jax.jit(run)
    else:
      self._step = jax.jit(_over(step, 1, 3, backend), donate_argnums=1)
      self._forward = jax.jit(_over(run, 1, 2, backend))

  def epoch(
    self,
    patches: Patches,
    learners: Learner,
    index: np.ndarray,
    keys: jax.Array,
    active: np.ndarray,
  ) -> tuple[Learner, np.ndarray]:
    """One epoch of every active replica.

    Args:
      patches: all examples.
      learners: every leaf [R, ...].
      index: [R, steps, B] into the examples.
      keys: [R] one key per replica; the step number is folded in.
      active: [R] bool; the others stay as they are.

    Returns:
      New learners, and the mean training loss [R] (NaN where inactive).
    """
    if self.backend == 'loop':
      return self._epoch_loop(patches, learners, index, keys, active)
    losses = []
    old = jax.tree.map(jnp.copy, learners)
    for s in range(index.shape[1]):
      folded = jax.vmap(lambda k, s=s: jax.random.fold_in(k, s))(keys)
      learners, loss = self._step(patches, learners, index[:, s], folded)
      losses.append(loss)
    keep = jnp.asarray(active)
    learners = jax.tree.map(lambda n, o: _where(keep, n, o), learners, old)
    mean = np.mean(np.asarray(losses), 0)
    return learners, np.where(active, mean, np.nan)

  def logits(
    self, patches: Patches, weights: Weights, index: np.ndarray, batch: int
  ) -> np.ndarray:
    """[R, n] logits of examples `index` [n], or [R, n] its own for each.

    The last batch is padded and the padding cut off again.
    """
    num = jax.tree.leaves(weights)[0].shape[0]
    index = np.broadcast_to(index, (num, np.shape(index)[-1]))
    size = index.shape[1]
    if not size:
      return np.zeros((num, 0), np.float32)
    padded = np.pad(index, ((0, 0), (0, -size % batch)), mode='edge')
    chunks = np.split(padded, padded.shape[1] // batch, axis=1)
    if self.backend == 'loop':
      parts = unstack(weights, num)

      def one(r):
        return [self._forward(patches, parts[r], c[r]) for c in chunks]

      out = _in_threads(one, range(num))
      rows = [np.concatenate([np.asarray(c) for c in row]) for row in out]
      return np.stack(rows)[:, :size]
    out = [np.asarray(self._forward(patches, weights, c)) for c in chunks]
    return np.concatenate(out, 1)[:, :size]

  def _epoch_loop(self, patches, learners, index, keys, active):
    num, steps = index.shape[:2]
    parts = unstack(learners, num)

    def one(r):
      learner, losses = parts[r], []
      for s in range(steps):
        key = jax.random.fold_in(keys[r], s)
        learner, loss = self._step(patches, learner, index[r, s], key)
        losses.append(loss)
      return learner, float(np.mean([float(x) for x in losses]))

    done = _in_threads(one, [r for r in range(num) if active[r]])
    losses = np.full(num, np.nan)
    for r, (learner, loss) in zip(np.flatnonzero(active), done):
      parts[r], losses[r] = learner, loss
    return stack(parts), losses


def stack(trees: list) -> Any:
  """R trees to one tree whose leaves have a leading axis R."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: Any, num: int) -> list:
  """The inverse of `stack`."""
  leaves, form = jax.tree.flatten(tree)
  return [form.unflatten([leaf[r] for leaf in leaves]) for r in range(num)]


def _where(keep, new, old):
  return jnp.where(keep.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _in_threads(function: Callable, items: Any) -> list:
  """Replicas are independent, and a compiled step does not hold the GIL."""
  items = list(items)
  workers = max(1, min(len(items), os.cpu_count() or 1))
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    return list(pool.map(function, items))


def _over(function: Callable, first: int, count: int, backend: str) -> Callable:
  """Adds axis R to `count` arguments from `first` on; the rest are shared."""

  def run(*args):
    shared, own = args[:first], args[first : first + count]
    if backend == 'map':
      return jax.lax.map(lambda a: function(*shared, *a), own)
    return jax.vmap(lambda *a: function(*shared, *a))(*own)

  return run
