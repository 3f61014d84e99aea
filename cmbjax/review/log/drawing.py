"""Lesions that a reader adds, moves and draws: what can happen, and its effect.

Rule: what a line gives an item it takes from nobody but those it names.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import geometry
from cmbjax.review.log.items import AFTER, MODEL, READER, Item
from cmbjax.review.log.opening import MOST_ITEMS, UNAIDED
from cmbjax.review.log.reading import Part, Reading

_NOTHING = np.zeros(0, np.int64)


def plan_add(reading: Reading, action) -> Part:
  """A new lesion, with what was drawn of it."""
  number = _next_number(reading)
  wanted = action.get('set', _NOTHING)
  drawn, refused = _possible(reading, number, wanted=wanted, unwanted=_NOTHING)
  unaided = reading.hidden or not any(
    item.origin == MODEL for item in reading.items.values()
  )
  new = {
    'ijk': action['ijk'],
    'origin': READER if unaided else AFTER,
    'verdict': 'accept',
  }
  return {'item': number, 'new': new, **drawn, **_tool(action)}, refused


def _next_number(reading: Reading) -> int:
  """The numbers of unaided additions do not tell how many are hidden."""
  known = reading.items
  if reading.hidden:
    number = max([n for n in known if n <= UNAIDED], default=0) + 1
    full = number > UNAIDED
  else:
    number = max(known, default=0) + 1
    full = number > MOST_ITEMS
  if full:
    raise InputError('there are too many items in this case to add another.')
  return number


def put_add(reading: Reading, line, *, forward: bool) -> None:
  """An addition keeps its number and its time, also while it is undone."""
  number, new = line['item'], line['new']
  if number not in reading.items:
    reading.items[number] = Item(
      number, new['origin'], tuple(new['ijk']), verdict=new['verdict']
    )
  _come_or_go(reading, number, here=forward)
  put_strokes(reading, line, forward=forward)


def plan_remove(reading: Reading, action) -> Part:
  """The end of an addition; a candidate is rejected instead."""
  item = reading.items[action['item']]
  if item.origin == MODEL:
    raise InputError(
      f'item {item.number}: was not added by the reader; reject it instead.'
    )
  runs = geometry.encode_runs(item.voxels)
  return {'item': item.number, 'clear': runs}, _NOTHING


def put_remove(reading: Reading, line, *, forward: bool) -> None:
  """An addition goes, or comes back."""
  _come_or_go(reading, line['item'], here=not forward)
  put_strokes(reading, line, forward=forward)


def _come_or_go(reading: Reading, number: int, *, here: bool) -> None:
  reading.items[number].present = here
  if not here:
    reading.touched.removed.add(number)


def plan_move(reading: Reading, action) -> Part:
  """Another point of an item."""
  item = _drawable(reading, action)
  old, new = list(item.ijk), action['ijk']
  return {'item': item.number, 'old': old, 'new': new}, _NOTHING


def put_move(reading: Reading, line, *, forward: bool) -> None:
  """An item has another point."""
  ijk = tuple(line['new' if forward else 'old'])
  reading.touch(line['item']).ijk = ijk


def plan_strokes(reading: Reading, action) -> Part:
  """Voxels that an item should have, or not have any more."""
  item = _drawable(reading, action)
  if 'set' not in action and 'clear' not in action:
    raise InputError(f'{action["event"]}: needs voxels to set or to clear.')
  both = {
    'wanted': action.get('set', _NOTHING),
    'unwanted': action.get('clear', _NOTHING),
  }
  if np.intersect1d(*both.values(), assume_unique=True).size:
    raise InputError('a voxel stands in both set and clear; name it once.')
  drawn, refused = _possible(reading, item.number, **both)
  return {'item': item.number, **drawn, **_tool(action)}, refused


def _drawable(reading: Reading, action) -> Item:
  item = reading.items[action['item']]
  if item.locked:
    raise InputError(
      f'item {item.number}: is rejected, so its outline is locked; clear the '
      'verdict first.'
    )
  return item


def _tool(action) -> dict[str, Any]:
  return {'tool': action['tool']} if 'tool' in action else {}


def _possible(
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


def put_strokes(
  reading: Reading, line: Mapping[str, Any], *, forward: bool
) -> None:
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
