"""Arrays inside `jax.shard_map` that agree about the mesh axes they vary over.

Rule: a hand-written gradient needs arguments that vary alike; the transpose
of the cast then sums the gradient of a replicated argument over the devices.
Outside `shard_map` nothing happens.
"""

import jax
from jax import lax


def alike(*arrays):
  """The arrays, each varying over every mesh axis that any of them does."""
  names = frozenset().union(*map(_varying, arrays))
  return tuple(_cast(array, names - _varying(array)) for array in arrays)


def _cast(array, names):
  return (
    lax.pcast(array, tuple(sorted(names)), to='varying') if names else array
  )


def _varying(array):
  kind = jax.typeof(array)
  kind = getattr(kind, 'manual_axis_type', None) or kind  # jax 0.10 and later
  names = getattr(kind, 'varying', None)
  return frozenset(getattr(kind, 'vma', ()) if names is None else names)
