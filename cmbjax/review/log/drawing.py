"""Voxels that change hands: what of a drawing can happen, and its effect.

Rule: what a line gives an item it takes from nobody but those it names.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import geometry
from cmbjax.review.log.reading import Reading


def plan(
  reading: Reading,
  number: int,
  *,
  wanted: np.ndarray,
  unwanted: np.ndarray,
) -> tuple[dict[str, Any], np.ndarray]:
  """What of a drawing can happen.

  Voxels of a rejected item may be taken: they are in no mask. All others stay
  with their owner.

  Args:
    reading: the present state.
    number: of the item, which may be a new one.
    wanted: [n] sorted, distinct linear indices that it should have.
    unwanted: the same, that it should not have.

  Returns:
    Part of a line (set, clear, taken, refused, voxels_sha256), and the
    indices that stay with another item.
  """
  owner, theirs = (reading.owner(some, number) for some in (wanted, unwanted))
  known = reading.items.get(number)
  over = known is not None and known.repeat_of is not None  # takes nothing
  gain = owner == 0
  taken = {}
  for other in np.unique(owner[~gain & (owner != number)]).tolist():
    if reading.items[other].locked:
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
  before = np.zeros(0, np.int64) if known is None else known.voxels
  after = geometry.joined(geometry.without(before, lost), wanted[gain])
  part['voxels_sha256'] = geometry.digest(after)
  kept = unwanted[(theirs != 0) & (theirs != number)]
  return part, np.sort(np.concatenate([foreign, kept]))


def put(reading: Reading, line: Mapping[str, Any], *, forward: bool) -> None:
  """The voxels of a line change hands, or go back.

  Args:
    reading: the present state.
    line: with or without set, clear and taken.
    forward: False: the line is undone.

  Raises:
    InputError: its runs are damaged, or do not follow from the state.
  """
  number, size = line['item'], reading.view.size
  gained = geometry.decode_runs(line.get('set', ()), size)
  lost = geometry.decode_runs(line.get('clear', ()), size)
  taken = [
    (int(other), geometry.decode_runs(runs, size))
    for other, runs in line.get('taken', {}).items()
  ]
  reading.touch(number)
  if not forward:  # in the opposite order: a voxel never has two owners
    reading.lose(number, gained)
    reading.gain(number, lost)
    for other, voxels in taken:
      reading.gain(other, voxels)
    return
  for other, voxels in taken:
    reading.lose(other, voxels)
  reading.lose(number, lost)
  reading.gain(number, gained)
  wanted = line.get('voxels_sha256')
  if wanted and geometry.digest(reading.voxels(number)) != wanted:
    raise InputError(f'leaves item {number} with other voxels than then')
