"""Trained weights into a new network, matched by name.

Rule: nothing is loaded or left out silently, and a shape that differs is
an error.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from cmbjax.errors import InputError
from cmbjax.training.replicas import Weights


class Transfer(NamedTuple):
  """The loaded weights, and what happened to every name."""

  weights: Weights
  loaded: list[str]
  at_init: list[str]
  unused: list[str]

  def __str__(self) -> str:
    lines = []
    for title, names in (
      ('loaded', self.loaded),
      ('left at init', self.at_init),
      ('unused in the checkpoint', self.unused),
    ):
      lines.append(f'{title} ({len(names)}): {_brief(names)}')
    return '\n'.join(lines)


def transfer(target: Weights, source: Weights) -> Transfer:
  """Copies leaves of `source` into `target` where the names agree.

  Leaves are [R, ...] in both, or without axis R in both.

  Raises:
    InputError: two shapes differ (both are shown), or no name agrees.
  """
  want, have = _flatten(target), _flatten(source)
  loaded = [name for name in want if name in have]
  if not loaded:
    raise InputError(
      'pretrained: no name in the checkpoint agrees with the network; it '
      f'holds {_brief(list(have))}, the network has {_brief(list(want))}.'
    )
  for name in loaded:
    _same_shape(name, want[name], have[name])
  return Transfer(
    weights=_unflatten(want | {name: have[name] for name in loaded}),
    loaded=loaded,
    at_init=[name for name in want if name not in have],
    unused=[name for name in have if name not in want],
  )


def _same_shape(name: str, want: Any, have: Any) -> None:
  if np.shape(want) != np.shape(have):
    raise InputError(
      f'pretrained: {name} has shape {np.shape(have)} in the checkpoint and '
      f'{np.shape(want)} in the network; use the same config.model.'
    )


def _flatten(weights: Weights) -> dict[str, Any]:
  return traverse_util.flatten_dict(weights._asdict(), sep='/')


def _unflatten(flat: Mapping[str, Any]) -> Weights:
  tree = traverse_util.unflatten_dict(flat, sep='/')
  return Weights(tree['params'], tree.get('batch_stats', {}))


def _brief(names: list[str], most: int = 4) -> str:
  if not names:
    return 'none'
  rest = f' ... and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + rest
