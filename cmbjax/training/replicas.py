"""The replica table, and the arrays of R replicas.

Rule: what may differ between the rows of one compiled program is an array on
axis R; a replica in the program ends with the numbers it has alone.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from cmbjax import plugins
from cmbjax.data import augment
from cmbjax.errors import InputError, shown
from cmbjax.training import rng


class Replica(NamedTuple):
  """One row of the replica table; all of it may differ within a program.

  Attributes:
    strategy: what is trained on what.
    fold: the fold that is held out.
    seed: of the first weights, batches, augmentation and dropout.
    learning_rate: before any cut.
    min_learning_rate: no cut goes below.
    weight_decay: decoupled, as in AdamW.
    patience: bad epochs in a row that cut the rate.
    plateau_factor: what a cut multiplies the rate with.
    min_delta: smallest gain in loss that counts.
    positive_weight: weight of microbleeds in the loss.
    augmentation: strength, 0 to 1.
    frozen: regular expression of layer names that stay as they were loaded;
      '' for none.
    schedule: how the rate changes, a name that `optim.find_schedule` knows;
      `patience`, `plateau_factor` and `min_delta` are for 'plateau'.
    warmup: share of all steps until 'warmup_cosine' reaches the rate.
  """

  strategy: str
  fold: int
  seed: int
  learning_rate: float
  min_learning_rate: float = 1e-6
  weight_decay: float = 0.0
  patience: int = 4
  plateau_factor: float = 0.1
  min_delta: float = 1e-4
  positive_weight: float = 1.0
  augmentation: float = 1.0
  frozen: str = ''
  schedule: str = 'plateau'
  warmup: float = 0.0


def from_record(rows: Sequence[Mapping[str, Any]]) -> tuple[Replica, ...]:
  """The rows of `weights.json`.

  Raises:
    InputError: a row has other settings than a replica of this version.
  """
  try:
    return tuple(Replica(**row) for row in rows)
  except TypeError as error:
    raise InputError(
      f'replicas of weights.json: cannot be read ({shown(error)}); they may be '
      'of a newer cmbjax, or damaged: copy the folder again.'
    ) from error


class Weights(NamedTuple):
  """What a trained network is; stacked, every leaf gains a leading axis R."""

  params: Any
  batch_stats: Any


class Learner(NamedTuple):
  """What one training step changes."""

  weights: Weights
  opt: Any


class Values(NamedTuple):
  """What steers the step of each replica; arrays [R]."""

  positive_weight: Any
  weight_decay: Any
  augmentation: Any
  trainable: Any  # Weights of bool [R], or None: all of it


class Patches(NamedTuple):
  """All examples, on the device once; only indices travel afterwards."""

  image: jax.Array  # [N, 24, 24, 12, C] float16, 0..1
  label: jax.Array  # [N] int8


def on_device(image: np.ndarray, label: np.ndarray) -> Patches:
  """Examples [N, 24, 24, 12] or [N, 24, 24, 12, C], [N] to the device."""
  # Half precision: patches are 0 to 1, and its steps of 1/2048 are below the
  # noise of a scan. Converted here: on the device that would be a program for
  # each type.
  image = augment.with_channels(np.asarray(image, np.float16))
  return Patches(*jax.device_put((image, np.asarray(label, np.int8))))


def initial(network: Any, replica: Replica, channels: int = 1) -> Weights:
  """Fresh weights; one seed starts all its folds and strategies alike.

  Args:
    network: the Flax module.
    replica: its seed counts.
    channels: C.
  """
  return _initial(network, channels)(np.uint32(replica.seed))


def first_weights(
  network: Any, table: Sequence[Replica], channels: int = 1
) -> Weights:
  """Fresh weights of every row, leaves [R, ...] on the host.

  Args:
    network: the Flax module.
    table: R rows; their seeds count.
    channels: C.
  """
  of_seed = {
    row.seed: jax.tree.map(np.asarray, initial(network, row, channels))
    for row in table
  }
  return stack([of_seed[row.seed] for row in table])


def with_output_bias(weights: Weights, share: Sequence[float]) -> Weights:
  """The bias of the one output of each row is the logit of its share.

  With a bias of 0 and few microbleeds the first steps push every output down;
  in a small head this can silence all units that speak for a microbleed, for
  good, and no likelihood ever passes one half.

  Args:
    weights: fresh, leaves [R, ...].
    share: [R] of microbleeds among the examples of each row.
  """
  p = np.asarray(share, np.float64)[:, None]
  logit = np.log(p / (1 - p)).astype(np.float32)

  def of(path, leaf):
    last = getattr(path[-1], 'key', '')
    return logit if last == 'bias' and leaf.shape[1:] == (1,) else leaf

  params = jax.tree_util.tree_map_with_path(of, weights.params)
  return weights._replace(params=params)


@functools.lru_cache(maxsize=8)  # more networks than a study compares
def _initial(network: Any, channels: int):
  # Lazily: the layers are not computed, only what their weights begin as.
  sample = jax.ShapeDtypeStruct((1, *augment.SEEN, channels), jnp.float32)

  def make(seed):
    key = rng.key(seed, 'init')
    variables = network.lazy_init(key, sample, train=False)
    return Weights(variables['params'], variables.get('batch_stats', {}))

  # Level 0: it runs once per seed, so compiling fast wins.
  options = {'xla_backend_optimization_level': 0}
  return jax.jit(make, compiler_options=options)


def values_of(table: Sequence[Replica], weights: Weights) -> Values:
  """The steering arrays of some rows; weights leaves are [R, ...].

  Raises:
    InputError: a `frozen` expression fits no layer.
  """

  def column(name):
    return np.asarray([getattr(row, name) for row in table], np.float32)

  return Values(
    positive_weight=column('positive_weight'),
    weight_decay=column('weight_decay'),
    augmentation=column('augmentation'),
    trainable=trainable(table, weights),
  )


def trainable(table: Sequence[Replica], weights: Weights) -> Weights | None:
  """Which leaf of which replica may change, bool [R]; None if all may.

  Statistics of BatchNorm are leaves too: a frozen layer keeps them.

  Raises:
    InputError: an expression fits no layer.
  """
  if not any(row.frozen for row in table):
    return None
  trees = {
    kind: traverse_util.flatten_dict(tree, sep='/')
    for kind, tree in weights._asdict().items()
  }
  for row in table:
    if row.frozen and not any(
      re.search(row.frozen, name) for name in trees['params']
    ):
      layers = sorted({n.rpartition('/')[0] for n in trees['params']})
      raise InputError(
        f'{row.strategy}: frozen={row.frozen!r} fits no layer of the network; '
        f'it has {", ".join(layers[:4])} ... {layers[-1]}.'
      )

  def mask(name):
    return np.array(
      [not (row.frozen and re.search(row.frozen, name)) for row in table]
    )

  def masks(tree):
    return traverse_util.unflatten_dict({n: mask(n) for n in tree}, sep='/')

  return Weights(**{kind: masks(tree) for kind, tree in trees.items()})


def frozen_norms(may_change: Weights) -> dict:
  """The collection 'frozen' of `models.normalization.BatchNorm`."""
  flat = traverse_util.flatten_dict(may_change.batch_stats)
  return traverse_util.unflatten_dict(
    {
      # 1 is frozen, where the mask says what may change.
      (*path[:-1], 'norm'): 1.0 - mask.astype(jnp.float32)
      for path, mask in flat.items()
    }
  )


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Binary cross-entropy of each example; logits [B], labels [B], both float.

  Returns:
    [B].
  """
  return optax.sigmoid_binary_cross_entropy(logits, label)


LOSSES = {'cross_entropy': cross_entropy}


def find_loss(name: str) -> Callable:
  """A loss by its name, or your own as 'module:name'.

  Args:
    name: 'cross_entropy', or a function of logits [B] and labels [B] (0 or 1,
      both float32) that gives the loss of each example, [B]. The weight of
      microbleeds multiplies it afterwards.

  Raises:
    InputError: it does not exist, or gives something else.
  """
  key, must = (
    'config.train.loss',
    'take logits [B] and labels [B] as JAX arrays',
  )
  found = plugins.find(name, key=key, known=LOSSES)
  some = jax.ShapeDtypeStruct((3,), jnp.float32)
  with plugins.tried(name, key=key, must=must):
    shape = getattr(jax.eval_shape(found, some, some), 'shape', None)
  if shape != some.shape:
    raise InputError(
      f'{key}: {shown(name)!r} gives shape {shape} for logits and '
      'labels of shape (3,); it must give the loss of each example, (3,).'
    )
  return found


def class_weight(label: Any, positive_weight: Any) -> Any:
  """What the loss of each example is multiplied with; labels [B] are float."""
  return 1.0 + (positive_weight - 1.0) * label


def stack(trees: list) -> Any:
  """R trees to one tree whose leaves have a leading axis R, on the host."""
  return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def unstack(tree: Any, num: int) -> list:
  """The inverse of `stack`."""
  leaves, form = jax.tree.flatten(tree)
  return [form.unflatten([leaf[r] for leaf in leaves]) for r in range(num)]
