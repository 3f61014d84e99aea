"""Who owns which voxel, and how voxels change hands.

Rule: a voxel belongs to at most one item, and what a line gives it takes from
nobody but those it names.
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import geometry

if TYPE_CHECKING:
  from cmbjax.review.log.record import ReviewRecord

_NOTHING = np.zeros(0, np.int64)


class Hands(NamedTuple):
  """The voxels of a line that change hands; sorted linear indices."""

  gained: np.ndarray
  lost: np.ndarray
  taken: tuple[tuple[int, np.ndarray], ...]  # of `gained`, from which item


def plan(
  record: 'ReviewRecord',
  number: int,
  wanted: np.ndarray,
  unwanted: np.ndarray,
) -> tuple[dict[str, Any], np.ndarray]:
  """What of a drawing can happen.

  Voxels of a rejected item may be taken: they are in no mask. All others stay
  with their owner.

  Args:
    record: the present state.
    number: of the item, which may be a new one.
    wanted: [n] sorted, distinct linear indices that it should have.
    unwanted: the same, that it should not have.

  Returns:
    Part of a line (set, clear, taken, refused, voxels_sha256), and the
    indices that stay with another item.
  """
  owner, theirs = (record.owner(some, number) for some in (wanted, unwanted))
  known = record.items.get(number)
  over = known is not None and known.repeat_of is not None  # takes nothing
  gain = owner == 0
  taken = {}
  for other in np.unique(owner[~gain & (owner != number)]).tolist():
    if record.items[other].locked:
      gain |= owner == other
      if not over:
        taken[str(other)] = geometry.encode_runs(wanted[owner == other])
  foreign = wanted[~gain & (owner != number)]
  lost = unwanted[theirs == number]
  part: dict[str, Any] = {
    'set': geometry.encode_runs(wanted[gain]),
    'clear': geometry.encode_runs(lost),
  }
  if taken:
    part['taken'] = taken
  if foreign.size:
    part['refused'] = int(foreign.size)
  before = _NOTHING if known is None else known.voxels
  part['voxels_sha256'] = digest(joined(without(before, lost), wanted[gain]))
  kept = unwanted[(theirs != 0) & (theirs != number)]
  return part, np.sort(np.concatenate([foreign, kept]))


def hands(line: Mapping[str, Any], size: int) -> Hands:
  """The voxels of a line of a journal.

  Args:
    line: with or without set, clear and taken.
    size: number of voxels of the image.

  Raises:
    InputError: its runs are damaged.
  """
  return Hands(
    geometry.decode_runs(line.get('set', ()), size),
    geometry.decode_runs(line.get('clear', ()), size),
    tuple(
      (int(other), geometry.decode_runs(runs, size))
      for other, runs in line.get('taken', {}).items()
    ),
  )


def joined(voxels: np.ndarray, more: np.ndarray) -> np.ndarray:
  """Two sorted lists without a common voxel, as one."""
  return np.insert(voxels, np.searchsorted(voxels, more), more)


def without(voxels: np.ndarray, less: np.ndarray) -> np.ndarray:
  """A sorted list without some of its own voxels."""
  return np.delete(voxels, np.searchsorted(voxels, less))


def digest(voxels: np.ndarray) -> str:
  """16 hex digits of SHA-256 over sorted little-endian int64 indices."""
  return hashlib.sha256(voxels.astype('<i8').tobytes()).hexdigest()[:16]


def verify(line: Mapping[str, Any], voxels: np.ndarray) -> None:
  """InputError where an item has other voxels than the line says."""
  wanted = line.get('voxels_sha256')
  if wanted and digest(voxels) != wanted:
    raise InputError(f'leaves item {line["item"]} with other voxels than then')
