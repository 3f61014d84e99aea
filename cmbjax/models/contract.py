"""What every network obeys: patches [B, 16, 16, 8, C] to logits [B].

Rule: a patch of another shape is refused. Networks that average over voxels
would take 24 x 24 x 12, as it is stored, and give other numbers.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmbjax import plugins
from cmbjax.errors import InputError, shown

SEEN = (16, 16, 8)  # X Y Z of a patch, as `data.augment` crops it
KEY = 'config.model.name'
_COLLECTIONS = {'params', 'batch_stats'}


def check_patches(shape: tuple[int, ...]) -> None:
  """Refuses patches that no network has learned from.

  Raises:
    InputError: the shape is not [B, 16, 16, 8, C].
  """
  if len(shape) != 5 or tuple(shape[1:4]) != SEEN:
    raise InputError(
      f'patches: have shape {tuple(shape)}, a network takes '
      '(B, 16, 16, 8, C); cmbjax.data.augment.centre_crop makes it of '
      '(B, 24, 24, 12, C), and patches[..., None] adds C.'
    )


class Own(nn.Module):
  """A network from outside, with its own names of parameters.

  Attributes:
    network: takes (x [B, 16, 16, 8, C], train=bool), gives [B] or [B, 1].
  """

  network: nn.Module

  def setup(self):
    nn.share_scope(self, self.network)

  def __call__(self, x, *, train: bool = False):
    """x [B, 16, 16, 8, C] to logits [B]."""
    check_patches(x.shape)
    return self.network(x, train=train).reshape(len(x))


def own(name: str, network: Any, *, channels: int) -> Own:
  """A network from outside, after a look at what it takes and gives.

  Args:
    name: of it, for messages.
    network: a module of flax.linen.
    channels: C of its patches.

  Raises:
    InputError: it is another kind of object, cannot be called as needed, or
      gives or keeps something else.
  """
  key = f'{KEY}: {shown(name)!r}'
  if not isinstance(network, nn.Module):
    raise InputError(
      f'{key} gives {type(network).__name__}; it must give a flax.linen.Module '
      '(flax.nnx.bridge.ToLinen makes one of a module of nnx).'
    )
  patches = jax.ShapeDtypeStruct((3, *SEEN, channels), jnp.float32)
  must = (
    f'take (x {list(patches.shape)}, train=True or False), and random numbers '
    "from 'dropout' alone"
  )
  with plugins.tried(name, key=KEY, must=must, verb='called'):
    kept, logits = jax.eval_shape(lambda x: _trial(network, x), patches)
  shape = getattr(logits, 'shape', type(logits).__name__)
  if shape not in ((3,), (3, 1)):
    raise InputError(
      f'{key} gives {shape} for patches {patches.shape}; it must give one '
      'logit for each, (3,) or (3, 1).'
    )
  if not jnp.issubdtype(logits.dtype, jnp.floating):
    raise InputError(
      f'{key} gives {logits.dtype} numbers; a logit must be floating.'
    )
  if not kept.get('params'):
    raise InputError(f'{key} has no params, so that nothing can be trained.')
  if wrong := set(kept) - _COLLECTIONS:
    raise InputError(
      f'{key} keeps the collection {min(wrong)!r}; it may have params and '
      'batch_stats.'
    )
  return Own(network)


def split_over(network: nn.Module, axis: str) -> nn.Module:
  """The network for batches that are split over a mesh axis.

  Raises:
    InputError: it has no `data_axis`, so that BatchNorm and dropout would see
      parts of a batch.
  """
  inside = network.network if isinstance(network, Own) else network
  if not hasattr(inside, 'data_axis'):
    raise InputError(
      f'config.train.data_parallel: {type(inside).__name__} has no attribute '
      'data_axis, so that it cannot share a batch; set it to 1.'
    )
  inside = inside.clone(data_axis=axis)
  return Own(inside) if isinstance(network, Own) else inside


def _trial(network: nn.Module, x: Any):
  """Its variables and what it gives in training, as the step calls it."""
  key = jax.random.key(0)
  variables = network.init(key, x, train=False)
  network.apply(variables, x, train=False)
  logits, changed = network.apply(
    variables,
    x,
    train=True,
    rngs={'dropout': key},
    mutable=['batch_stats'],
  )
  return {**variables, **changed}, logits
