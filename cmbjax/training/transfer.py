"""Trained weights into a new network, matched by name.

Rule: nothing is loaded, left out or renamed silently, and a shape that
differs is an error.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from cmbjax.errors import InputError
from cmbjax.training.replicas import Weights


class Transfer(NamedTuple):
  """The loaded weights, and what happened to every name."""

  weights: Weights
  loaded: list[str]
  renamed: list[str]  # 'old -> new'
  at_init: list[str]
  unused: list[str]

  def __str__(self) -> str:
    lines = []
    for title, names in (
      ('loaded', self.loaded),
      ('renamed', self.renamed),
      ('left at init', self.at_init),
      ('unused in the checkpoint', self.unused),
    ):
      lines.append(f'{title} ({len(names)}): {_brief(names)}')
    return '\n'.join(lines)


def transfer(
  target: Weights,
  source: Weights,
  *,
  rename: Sequence[tuple[str, str]] = (),
  skip: Sequence[str] = (),
) -> Transfer:
  """Copies leaves of `source` into `target` where the names agree.

  Args:
    target: fresh weights, leaves [R, ...] or without axis R.
    source: weights of the same layout.
    rename: (regular expression, replacement) on source names 'params/a/b'.
    skip: regular expressions of source names that are left out.

  Raises:
    InputError: two shapes differ (both are shown), two source names become
      one, or no name agrees.
  """
  want, have = _flatten(target), _flatten(source)
  old_of = _old_names(have, rename, skip)
  taken = {new: old_of[new] for new in want if new in old_of}
  if not taken:
    raise InputError(
      'pretrained: no name in the checkpoint agrees with the network; it '
      f'holds {_brief(list(have))}, the network has {_brief(list(want))}.'
    )
  for new, old in taken.items():
    _same_shape(new, want[new], have[old])
  out = want | {new: have[old] for new, old in taken.items()}
  used = set(taken.values())
  return Transfer(
    weights=_unflatten(out),
    loaded=[new for new, old in taken.items() if new == old],
    renamed=[f'{old} -> {new}' for new, old in taken.items() if new != old],
    at_init=[name for name in want if name not in taken],
    unused=[name for name in have if name not in used],
  )


def _old_names(have, rename, skip) -> dict[str, str]:
  """Name in the network -> name in the checkpoint, without the skipped."""
  old_of: dict[str, str] = {}
  for old in have:
    if any(re.search(pattern, old) for pattern in skip):
      continue
    new = old
    for pattern, replacement in rename:
      new = re.sub(pattern, replacement, new)
    if new in old_of:
      raise InputError(f'pretrained: two names become {new!r}; check rename.')
    old_of[new] = old
  return old_of


def _same_shape(name: str, want: Any, have: Any) -> None:
  if np.shape(want) != np.shape(have):
    raise InputError(
      f'pretrained: {name} has shape {np.shape(have)} in the checkpoint and '
      f'{np.shape(want)} in the network; use the same config.model or skip it.'
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
