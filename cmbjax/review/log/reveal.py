"""A first reader says done: candidates are shown, and what he found is theirs.

Rule: an addition and a candidate at the same place become one item, as the
line 'done' pairs them: the candidate, with the verdict, words, point and
outline of the addition, which is gone. `found_as` tells; the unaided reading
is `journal.read(folder, until=done_rev - 1)`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import geometry, matching
from cmbjax.review.log.items import JUDGED, MODEL
from cmbjax.review.log.reading import Part, Reading


def plan(reading: Reading, action: Mapping[str, Any]) -> Part:
  """The pairs, as part of a line.

  Raises:
    InputError: said before, or nothing is hidden.
  """
  if reading.done_rev is not None:
    raise InputError('done: was said before.')
  if not reading.hidden:
    raise InputError('done: only a first reader says so; nothing is hidden.')
  found = _found_unaided(reading)
  known = {candidate for _, candidate in found}
  again = [n for n, original in reading.repeats.items() if original in known]
  # Asked again alone, it would stand out: all others he marked are judged.
  pairs = {'found': found} | ({'dropped': again} if again else {})
  return pairs, np.zeros(0, np.int64)


def put(reading: Reading, line: Mapping[str, Any], *, forward: bool) -> None:
  """Shows the candidates; nothing undoes that.

  Args:
    reading: the present state.
    line: with the pairs.
    forward: always.

  Raises:
    InputError: a pair that cannot be.
  """
  reading.hidden, reading.done_rev = False, line['rev']
  reading.steps.clear()  # the unaided reading stays as it was
  reading.undone.clear()
  for addition, candidate in line['found']:
    _merge(reading, addition, candidate)
  for number in line.get('dropped', ()):
    reading.items[number].present = False
  for item in reading.items.values():
    if item.origin == MODEL:
      reading.reveal(item)


def _found_unaided(reading: Reading) -> list[list[int]]:
  """[addition, candidate] that are one lesion, the candidate as the source
  has it. The line says them, so that other rules of matching change no
  review that was read before."""
  view, added, hidden = reading.view, [], []
  runs = {row['item']: row['voxels'] for row in reading.header['items']}
  for number, item in sorted(reading.items.items()):
    if not item.present or item.repeat_of is not None:
      continue
    voxels = item.voxels
    if item.origin == MODEL:  # without outline where that is blinded
      voxels = geometry.decode_runs(runs[number], view.size)
    spot = matching.Spot(number, matching.centre(item, voxels, view), voxels)
    (hidden if item.origin == MODEL else added).append(spot)
  added.sort(key=lambda spot: (spot.mm, spot.number))
  hidden.sort(key=lambda spot: (spot.mm, spot.number))
  pairs = matching.assign(added, hidden, matching_mm=matching.MATCHING_MM)
  return sorted([added[i].number, hidden[j].number] for i, j in pairs)


def _merge(reading: Reading, addition: int, candidate: int) -> None:
  """A candidate becomes what the reader said of the same lesion unaided."""
  old, new = reading.items[addition], reading.items[candidate]
  if old.origin == MODEL or new.origin != MODEL or not old.present:
    raise InputError(f'finds {candidate} as {addition}, which cannot be')
  for name in (*JUDGED, 'rating', 'comment', 'ijk'):
    setattr(new, name, getattr(old, name))
  if old.region != 'unknown':
    new.region = old.region
  new.ms += old.ms
  new.found_as, old.present = addition, False
  if old.voxels.size:  # the reader's outline
    reading.hand_over(old, new)
  reading.touched.removed.add(addition)
