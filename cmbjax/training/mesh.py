"""Replicas over several devices: a mesh (replica x data).

Rule: each device runs its own rows; with a batch that is split, only those
that share it talk to each other.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cmbjax import models
from cmbjax.errors import InputError
from cmbjax.training import hosts
from cmbjax.training.replicas import Patches
from cmbjax.training.step import Parts, Turn, forward, train_step

# Arguments with axis R, by position.
STEP = (1, 2, 4)
FORWARD = (1, 2)


def over(function: Callable, own: tuple[int, ...], how: str) -> Callable:
  """Adds axis R to the arguments `own`; the others are shared by all rows.

  Args:
    function: of one replica.
    own: positions of the arguments that have axis R.
    how: 'map' or 'vmap'.
  """

  def run(*args):
    def one(mine):
      every = dict(zip(own, mine))
      return function(*(every.get(i, a) for i, a in enumerate(args)))

    mine = tuple(args[i] for i in own)
    rows = jax.tree.leaves(mine)[0].shape[0]
    if rows == 1:  # a plain convolution, neither grouped nor in a loop
      alone = one(jax.tree.map(lambda a: a[0], mine))
      return jax.tree.map(lambda a: a[None], alone)
    if how == 'map':
      return lax.map(one, mine)
    return jax.vmap(one)(mine)

  return run


class Mesh:
  """The step and the forward pass on several devices.

  Attributes:
    step: compiled, for as many rows as are given.
    forward: compiled.
    rows: number of devices, or groups of them, that take rows.
    data: number of devices that share a batch.

  Args:
    parts: of the step.
    devices: all of them, of all processes.
    data_parallel: devices that share one batch.

  Raises:
    InputError: they cannot be shared out, or the network cannot share a batch.
  """

  def __init__(self, parts: Parts, devices: list, data_parallel: int):
    if data_parallel < 1 or len(devices) % data_parallel:
      raise InputError(
        f'config.train.data_parallel: is {data_parallel}, which does not '
        f'divide the {len(devices)} devices.'
      )
    self.rows, self.data = len(devices) // data_parallel, data_parallel
    self._mesh = jax.sharding.Mesh(
      np.array(devices).reshape(self.rows, self.data),
      ('replica', 'data'),
      axis_types=(AxisType.Auto,) * 2,
    )
    network, axis = parts.network, None
    if data_parallel > 1:
      axis = 'data'
      parts = parts._replace(network=models.split_over(network, axis))
    # On a CPU the rows of a device run one by one, as they do without a mesh.
    how = 'map' if devices[0].platform == 'cpu' else 'vmap'
    rows, everyone = P('replica'), P()
    self._batch = P('replica', axis)
    turn = Turn(self._batch, rows, rows, rows, rows)
    step = jax.shard_map(
      over(train_step(parts, axis), STEP, how),
      mesh=self._mesh,
      in_specs=(everyone, rows, rows, everyone, turn),
      out_specs=(rows, rows),
    )
    run = jax.shard_map(
      over(forward(network), FORWARD, how),
      mesh=self._mesh,
      in_specs=(everyone, rows, self._batch),
      out_specs=self._batch,
    )
    self.step = jax.jit(step, donate_argnums=1)
    self.forward = jax.jit(run)
    self._shared: tuple = (None, None)

  def place(self, tree: Any) -> Any:
    """Host arrays [R, ...], each row on its device."""
    return jax.tree.map(functools.partial(self._put, spec=P('replica')), tree)

  def batch(self, index: np.ndarray) -> jax.Array:
    """Indices [R, B], each row and part of a batch on its device."""
    return self._put(index, self._batch)

  def share(self, patches: Patches) -> Patches:
    """The patches on every device, once."""
    if self._shared[0] is not patches:
      put = functools.partial(self._put, spec=P())
      self._shared = (patches, jax.tree.map(put, patches))
    return self._shared[1]

  def _put(self, array, spec):
    array = hosts.fetch(array)
    return jax.make_array_from_callback(
      array.shape, NamedSharding(self._mesh, spec), lambda at: array[at]
    )
