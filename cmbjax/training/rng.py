"""Names and numbers to random keys.

Rule: a key is folded from what it is for, never split from a chain, so that
a new consumer changes no other.
"""

import zlib

import jax


def key(seed: int, *names: str, **numbers: int) -> jax.Array:
  """A typed key for one purpose: `key(0, 'dropout', fold=2, epoch=5)`.

  Args:
    seed: the seed of the replica; in compiled code a uint32 of the device.
    *names: stream names; their order matters.
    **numbers: further coordinates; each is folded in behind its own name.
  """
  out = jax.random.key(seed)
  for name in names:
    out = jax.random.fold_in(out, word(name))
  for name in sorted(numbers):
    out = jax.random.fold_in(jax.random.fold_in(out, word(name)), numbers[name])
  return out


def word(name: str) -> int:
  """A stable 32-bit number for a name (Python's hash differs per process)."""
  return zlib.crc32(name.encode())
