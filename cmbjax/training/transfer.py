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
  renamed, mapped = [], {}
  for old, value in have.items():
    if any(re.search(pattern, old) for pattern in skip):
      continue
    new = old
    for pattern, replacement in rename:
      new = re.sub(pattern, replacement, new)
    if new in mapped:
      raise InputError(f'pretrained: two names become {new!r}; check rename.')
    if new != old and new in want:
      renamed.append(f'{old} -> {new}')
    mapped[new] = value
  loaded = [name for name in want if name in mapped]
  if not loaded:
    raise InputError(
      'pretrained: no name in the checkpoint agrees with the network; it '
      f'holds {_brief(list(have))}, the network has {_brief(list(want))}.'
    )
  for name in loaded:
    _same_shape(name, want[name], mapped[name])
  out = {n: mapped[n] if n in mapped else want[n] for n in want}
  used = {n for n in mapped if n in want}
  unused = [n for n in have if n not in used and not _was_renamed(n, renamed)]
  return Transfer(
    weights=_unflatten(out),
    loaded=[n for n in loaded if not _became(n, renamed)],
    renamed=renamed,
    at_init=[n for n in want if n not in mapped],
    unused=unused,
  )


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


def _was_renamed(name: str, renamed: list[str]) -> bool:
  return any(line.split(' -> ')[0] == name for line in renamed)


def _became(name: str, renamed: list[str]) -> bool:
  return any(line.split(' -> ')[1] == name for line in renamed)


def _brief(names: list[str], most: int = 4) -> str:
  if not names:
    return 'none'
  rest = f' ... and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + rest
