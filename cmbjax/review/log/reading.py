"""What a reader has said of one image so far.

Rule: a voxel belongs to at most one item, but for the hidden repeats, each of
which has an outline for itself; every change notes what it touched.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import checks, geometry
from cmbjax.review.log.items import MODEL, SCHEMA, Item

# Of an event that is planned: its part of a line, and the linear indices that
# it asks for in vain, because they belong to another item.
Part = tuple[dict[str, Any], np.ndarray]


class Touched(NamedTuple):
  """What one line changed.

  Attributes:
    items: numbers whose JSON may differ now.
    removed: numbers of items that are gone.
    voxels: arrays of linear indices that changed hands.
  """

  items: set[int]
  removed: set[int]
  voxels: list[np.ndarray]


class Reading:
  """The state of a review, as events change it; no files.

  Attributes:
    header: first line of the journal.
    view: geometry.View of the case.
    items: number to Item, also those that are hidden or removed.
    rev: number of the last line taken in.
    note: the reader's words on the case.
    ms: time spent on the case.
    views: what was looked at, to {'slices': n, 'ms': n}.
    done_rev: revision at which a first reader said done, or None.
    hidden: whether the candidates are still hidden from a first reader.
    said_status: the status that the reader set, or None.
    begun: whether anything was done.
    steps: lines that undo takes back, the next one last.
    undone: lines that redo makes again, the next one last.
    touched: by the line that is taken in.
  """

  def __init__(self, header: Mapping[str, Any]):
    """The state before any event.

    Raises:
      InputError: the header is not of this schema.
    """
    if header.get('schema') != SCHEMA:
      raise InputError(
        f'is of schema {checks.short(header.get("schema"))}, expected '
        f'{SCHEMA}; read it with the version of cmbjax that wrote it'
      )
    self.header = dict(header)
    self.view = geometry.View.from_json(header['grid'])
    self.hidden = header['mode'] == 'first-reader'
    outlines = {row['item']: row['voxels'] for row in header['items']}
    self.items = {
      row['item']: self._candidate(row, outlines) for row in header['items']
    }
    self.rev, self.note, self.ms, self.views = 0, '', 0, {}
    self.done_rev: int | None = None
    self.said_status: str | None = None
    self.begun = False
    self.steps: list[Mapping[str, Any]] = []
    self.undone: list[Mapping[str, Any]] = []
    self.touched = Touched(set(), set(), [])
    # One image of owners, so that no stroke has to ask every item.
    self._labels = np.zeros(self.view.shape, np.uint16, order='F')
    self._flat = self._labels.reshape(-1, order='F')  # shares its memory
    for item in self.items.values():
      if not self.hidden:
        self._mark(item, item.voxels, item.number)

  def _candidate(self, row: Mapping[str, Any], outlines) -> Item:
    bare = 'mask' in self.header['blind']
    again = row['repeat_of']  # begins as its original began
    runs = [] if bare else outlines[row['item'] if again is None else again]
    return Item(
      number=row['item'],
      origin=MODEL,
      ijk=tuple(row['ijk']),
      id=row['id'],
      index=row['index'],
      score=row['score'],
      status=row['status'],
      region=row['region'],
      evidence=row.get('evidence', ''),  # not in journals of 0.1.0
      repeat_of=row['repeat_of'],
      voxels=geometry.decode_runs(runs, self.view.size),
    )

  @property
  def status(self) -> str:
    """One of STATUSES; what the reader set, else by what was done."""
    return self.said_status or ('in progress' if self.begun else 'not started')

  @property
  def is_completed(self) -> bool:
    """Whether the reader called the case completed (a flagged one is not)."""
    return self.status == 'completed'

  @property
  def repeats(self) -> dict[int, int]:
    """Number of each hidden repeat to the number of its original."""
    return {
      item.number: item.repeat_of
      for item in self.items.values()
      if item.repeat_of is not None and item.present
    }

  def is_shown(self, number: int) -> bool:
    """Whether there is such an item that the reader may know of."""
    item = self.items.get(number)
    if item is None or not item.present:
      return False
    return not (self.hidden and item.origin == MODEL)

  def shown(self) -> list[Item]:
    """Items that the reader sees now, by number."""
    return [self.items[n] for n in sorted(self.items) if self.is_shown(n)]

  def voxels(self, number: int) -> np.ndarray:
    """Sorted int64 linear indices of an item."""
    return self.items[number].voxels

  def owner(self, voxels: np.ndarray, number: int = 0) -> np.ndarray:
    """[n] uint16: the items that have the voxels [n]; 0 where none has.

    With `number` as that item finds them: a repeat covers its original and
    sees itself there.
    """
    item, owner = self.items.get(number), self._flat[voxels]
    if item is not None and item.repeat_of is not None:
      owner[owner == item.repeat_of] = 0
      owner[np.isin(voxels, item.voxels)] = number
    return owner

  def labels(self) -> np.ndarray:
    """[X, Y, Z] uint16, Fortran order, read only: item numbers as shown.

    Without the repeats, each of which has its outline for itself.
    """
    shown = self._labels.view()
    shown.flags.writeable = False
    return shown

  def touch(self, number: int) -> Item:
    """An item that is about to change."""
    self.touched.items.add(number)
    return self.items[number]

  def gain(self, number: int, voxels: np.ndarray) -> None:
    """Gives an item voxels [n] that nobody has."""
    item = self.items[number]
    if item.repeat_of is None and self._flat[voxels].any():
      raise InputError(f'gives item {number} voxels that another one has')
    item.voxels = geometry.joined(item.voxels, voxels)
    self._mark(item, voxels, number)
    self._note(number, voxels)

  def lose(self, number: int, voxels: np.ndarray) -> None:
    """Takes voxels [n] from the item that has them."""
    if (self.owner(voxels, number) != number).any():
      raise InputError(f'takes voxels from item {number} that it has not')
    item = self.items[number]
    item.voxels = geometry.without(item.voxels, voxels)
    self._mark(item, voxels, 0)
    self._note(number, voxels)

  def hand_over(self, giver: Item, taker: Item) -> None:
    """An outline as a whole; what the taker had before is forgotten."""
    self._flat[giver.voxels] = 0
    taker.voxels, giver.voxels = giver.voxels, np.zeros(0, np.int64)
    self._mark(taker, taker.voxels, taker.number)
    self._note(taker.number, taker.voxels)

  def reveal(self, item: Item) -> None:
    """A hidden outline comes to light, without what others have by now."""
    mine = (0, item.number, item.repeat_of or 0)
    item.voxels = item.voxels[np.isin(self._flat[item.voxels], mine)]
    self._mark(item, item.voxels, item.number)
    self.touched.items.add(item.number)
    self._note(item.number, item.voxels)

  def _mark(self, item: Item, voxels: np.ndarray, value: int) -> None:
    """Whose the voxels are now; a repeat covers what is there."""
    if item.repeat_of is None:
      self._flat[voxels] = value

  def _note(self, number: int, voxels: np.ndarray) -> None:
    if voxels.size:
      self.touched.items.add(number)
      self.touched.voxels.append(voxels)
