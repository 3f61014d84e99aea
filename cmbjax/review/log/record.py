"""Events of one reader on one image to the state of the review.

Rule: the state is a pure fold over the lines of the journal. `plan` checks an
action and says the line, `fold` takes a line in; nothing else changes state.

When a first reader says done, an addition of his and a candidate at the same
place become one item, as the line 'done' pairs them: the candidate, with the
verdict, words, point and outline of the addition, which is gone. `found_as`
tells; the unaided reading is `journal.read(folder, until=done_rev - 1)`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import actions, checks, drawing, geometry, items
from cmbjax.review.log.actions import Plan
from cmbjax.review.log.items import (
  AFTER,
  BLINDS,
  CERTAINTIES,
  JUDGED,
  MIMICS,
  MODEL,
  MODES,
  ORDERS,
  READER,
  REGIONS,
  SCHEMA,
  STATUSES,
  VERDICTS,
  Candidate,
  Item,
)
from cmbjax.review.log.opening import new_header

__all__ = (  # what the other modules of this room find here
  'AFTER', 'BLINDS', 'CERTAINTIES', 'MIMICS', 'MODEL', 'MODES', 'ORDERS',
  'READER', 'REGIONS', 'SCHEMA', 'STATUSES', 'VERDICTS', 'Candidate', 'Change',
  'Item', 'Plan', 'ReviewRecord', 'Stale', 'new_header',
)  # fmt: skip

_NOTHING = np.zeros(0, np.int64)


class Stale(InputError):
  """An action was based on an older state than the present one: HTTP 409."""

  def __init__(self, rev: int):
    super().__init__(
      'this case was changed elsewhere, perhaps in another tab; load it again.'
    )
    self.rev = rev


@dataclasses.dataclass(frozen=True)
class Change:
  """What one line of the journal changed.

  Attributes:
    line: the line.
    item: the item that it is about, also of what it undoes; None without.
    items: numbers of the items whose JSON may differ now.
    removed: numbers of the items that are gone.
    voxels: [n] linear indices whose label the page must take over: those
      that changed, and those that it asked for and did not get.
    labels: [n] uint16, their labels now (0: none).
    refused: how many voxels stayed with another item.
  """

  line: Mapping[str, Any]
  item: int | None
  items: tuple[int, ...]
  removed: tuple[int, ...]
  voxels: np.ndarray
  labels: np.ndarray
  refused: int


class ReviewRecord:
  """State of a review; pure Python and numpy, no files.

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
    self._status: str | None = None
    self._begun = False
    self._undo: list[Mapping[str, Any]] = []
    self._redo: list[Mapping[str, Any]] = []
    self._labels = np.zeros(self.view.shape, np.uint16, order='F')
    self._flat = self._labels.reshape(-1, order='F')  # shares its memory
    self._sizes: dict[int, items.Size] = {}  # until the voxels change
    for item in self.items.values():
      if not self.hidden and item.repeat_of is None:
        self._flat[item.voxels] = item.number

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
      repeat_of=row['repeat_of'],
      voxels=geometry.decode_runs(runs, self.view.size),
    )

  @property
  def status(self) -> str:
    """One of STATUSES; what the reader set, else by what was done."""
    begun = 'in progress' if self._begun else 'not started'
    return self._status or begun

  @property
  def repeats(self) -> dict[int, int]:
    """Number of each hidden repeat to the number of its original."""
    return {
      item.number: item.repeat_of
      for item in self.items.values()
      if item.repeat_of is not None and item.present
    }

  @property
  def undoable(self) -> list[int]:
    """Revisions that undo takes back, the next one last."""
    return [line['rev'] for line in self._undo]

  @property
  def redoable(self) -> list[int]:
    """Revisions that redo makes again, the next one last."""
    return [line['rev'] for line in self._redo]

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

  def size(self, number: int) -> items.Size:
    """Volume, diameter and flags of an item."""
    if number not in self._sizes:
      self._sizes[number] = items.measure(self.voxels(number), self.view)
    return self._sizes[number]

  def owner(self, voxels: np.ndarray, number: int = 0) -> np.ndarray:
    """[n] uint16: the items that have the voxels [n]; 0 where none has.

    With `number` as that item finds them: a repeat lies over its original and
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

  def item_json(self, number: int, blind: Sequence[str] = ()) -> dict[str, Any]:
    """JSON of one item as the page gets it; blinded fields are null."""
    return self.items[number].shown_json(self.view, self.size(number), blind)

  def view_items(self, blind: Sequence[str] = ()) -> list[dict[str, Any]]:
    """JSON of the items shown, by number."""
    return [self.item_json(item.number, blind) for item in self.shown()]

  def case_json(self) -> dict[str, Any]:
    """The case in short: no voxels, no items."""
    shown = self.shown()
    unread = [item.number for item in shown if item.verdict is None]
    return {
      'rev': self.rev,
      'status': self.status,
      'note': self.note,
      'items': len(shown),
      'read': len(shown) - len(unread),
      'hidden': self.hidden,
      'ms': self.ms,
      'can_undo': bool(self._undo),
      'can_redo': bool(self._redo),
      'first_unread': unread[0] if unread else None,
    }

  def answer(self, change: Change, blind: Sequence[str] = ()) -> dict[str, Any]:
    """What POST events answers."""
    case = self.case_json()
    top = ('rev', 'can_undo', 'can_redo', 'first_unread')
    pairs = np.stack([change.voxels, change.labels.astype(np.int64)], 1)
    return {
      **{name: case.pop(name) for name in top},
      'item': change.item,
      'items': [self.item_json(number, blind) for number in change.items],
      'removed': list(change.removed),
      'labels': pairs.tolist(),
      'refused': change.refused,
      'case': case,
    }

  def state(self) -> dict[str, Any]:
    """What was said, as JSON; without voxels."""
    return {
      'schema': SCHEMA,
      'case': self.case_json(),
      'views': self.views,
      'done_rev': self.done_rev,
      'items': [self.items[n].state() for n in sorted(self.items)],
    }

  def snapshot(self) -> dict[str, Any]:
    """The whole state as JSON: two of them are equal or differ."""
    return {
      **self.state(),
      'voxels': {
        str(item.number): geometry.encode_runs(item.voxels)
        for item in self.items.values()
      },
      'undo': self.undoable,
      'redo': self.redoable,
    }

  def plan(self, action: Mapping[str, Any]) -> Plan:
    """Checks an action; the line that says it. Changes nothing.

    Args:
      action: JSON of the page: {'event': ..., 'item': ..., 'value': ...,
        'ms': ...}. 'edit', 'grow' and 'add' take `set` and `clear` (linear
        indices) and `tool`. 'rev' is not looked at here.

    Raises:
      InputError: unknown event or item, a value that is not allowed, voxels
        out of range, a locked item, nothing to undo.
    """
    return actions.plan(self, action)

  def apply(self, action: Mapping[str, Any]) -> Change:
    """`plan` and `fold`; for work without files."""
    return self.fold(*self.plan(action))

  def undo(self) -> Change:
    """Takes the last undoable change back."""
    return self.apply({'event': 'undo'})

  def redo(self) -> Change:
    """Makes the last undone change again."""
    return self.apply({'event': 'redo'})

  def fold(
    self, line: Mapping[str, Any], refused: np.ndarray = _NOTHING
  ) -> Change:
    """Takes one line in, as `plan` gave it or as the journal holds it.

    Args:
      line: of the journal.
      refused: of the plan, to tell the page.

    Raises:
      InputError, KeyError, TypeError, ValueError, IndexError: it does not
        follow from the present state; the record is of no use then.
    """
    if line['rev'] != self.rev + 1:
      raise InputError(
        f'has revision {checks.short(line["rev"])}, expected {self.rev + 1}'
      )
    event, said = line['event'], line
    if event in ('undo', 'redo'):
      said, touched = self._step(line)
    else:
      touched = self._put(line, forward=True)
      if actions.is_change(line):
        self._undo.append(line)
        self._redo.clear()
    self.rev = line['rev']
    self._begun |= event not in actions.SILENT
    self._count_time(line)
    return self._change(line, said.get('item'), touched, refused)

  def _step(self, line: Mapping[str, Any]) -> tuple[Mapping, '_Touched']:
    """The line that is undone or made again, and what that touches."""
    undoing = line['event'] == 'undo'
    source, target = self._undo, self._redo
    if not undoing:
      source, target = target, source
    named = line['undoes' if undoing else 'redoes']
    if not source or source[-1]['rev'] != named:
      raise InputError(f'names {checks.short(named)}, which is not the last')
    touched = self._put(source[-1], forward=not undoing)
    target.append(source.pop())
    return target[-1], touched

  def _count_time(self, line: Mapping[str, Any]) -> None:
    ms = line.get('ms', 0)
    self.ms += ms
    if 'item' in line:
      self.items[line['item']].ms += ms
    if line['event'] == 'view':
      seen = self.views.setdefault(line['what'], {'slices': 0, 'ms': 0})
      seen['slices'] += line['slices']
      seen['ms'] += ms

  def _put(self, line: Mapping[str, Any], *, forward: bool) -> '_Touched':
    """Makes one line happen, or unhappen."""
    event, value = line['event'], line.get('new' if forward else 'old')
    touched = _Touched(set(), set(), [])
    if event == 'verdict':
      for name in JUDGED:
        setattr(self._changed(line, touched), name, value[name])
    elif event in actions.FIELDS:
      setattr(self._changed(line, touched), event, value)
    elif event == 'move':
      self._changed(line, touched).ijk = tuple(value)
    elif event == 'note':
      self.note = value
    elif event == 'status':
      self._status = value
    elif event == 'done':
      self._reveal(line, touched)
    elif event in ('add', 'remove'):
      self._come_or_go(line, touched, here=(event == 'add') == forward)
      self._draw(line, touched, forward=forward)
    elif event in actions.DRAWN:
      self._draw(line, touched, forward=forward)
    elif event not in actions.SILENT:
      raise InputError(f'has an unknown event {checks.short(event)}')
    return touched

  def _changed(self, line: Mapping[str, Any], touched: '_Touched') -> Item:
    touched.items.add(line['item'])
    return self.items[line['item']]

  def _reveal(self, line: Mapping[str, Any], touched: '_Touched') -> None:
    self.hidden, self.done_rev = False, line['rev']
    self._undo.clear()  # the unaided reading stays as it was
    self._redo.clear()
    for addition, candidate in line.get('found', ()):  # none in old journals
      self._merge(addition, candidate, touched)
    for number in line.get('dropped', ()):
      self.items[number].present = False
    for item in self.items.values():
      if item.origin == MODEL:
        mine = (0, item.number, item.repeat_of or 0)
        item.voxels = item.voxels[np.isin(self._flat[item.voxels], mine)]
        self._mark(item, item.voxels, item.number)
        touched.items.add(item.number)
        self._redrawn(item.number, item.voxels, touched)

  def _merge(self, addition: int, candidate: int, touched) -> None:
    """A candidate becomes what the reader said of the same lesion unaided."""
    old, new = self.items[addition], self.items[candidate]
    if old.origin == MODEL or new.origin != MODEL or not old.present:
      raise InputError(f'finds {candidate} as {addition}, which cannot be')
    for name in (*JUDGED, 'rating', 'comment', 'ijk'):
      setattr(new, name, getattr(old, name))
    if old.region != 'unknown':
      new.region = old.region
    new.ms += old.ms
    new.found_as, old.present = addition, False
    if old.voxels.size:  # the reader's outline
      self._flat[old.voxels] = 0
      new.voxels, old.voxels = old.voxels, _NOTHING
      touched.voxels.append(new.voxels)
      self._flat[new.voxels] = candidate
      self._sizes.pop(addition, None)
    touched.removed.add(addition)

  def _come_or_go(
    self, line: Mapping[str, Any], touched: '_Touched', *, here: bool
  ) -> None:
    """An addition, or its end; it keeps its number and its time."""
    number = line['item']
    if number not in self.items:
      new = line['new']
      self.items[number] = Item(
        number, new['origin'], tuple(new['ijk']), verdict=new['verdict']
      )
    self.items[number].present = here
    (touched.items if here else touched.removed).add(number)

  def _draw(
    self, line: Mapping[str, Any], touched: '_Touched', *, forward: bool
  ) -> None:
    """Voxels change hands."""
    number = line['item']
    hands = drawing.hands(line, self.view.size)
    if forward:
      for other, voxels in hands.taken:
        self._lose(other, voxels, touched)
      self._lose(number, hands.lost, touched)
      self._gain(number, hands.gained, touched)
      drawing.verify(line, self.items[number].voxels)
    else:
      self._lose(number, hands.gained, touched)
      self._gain(number, hands.lost, touched)
      for other, voxels in hands.taken:
        self._gain(other, voxels, touched)
    touched.items.add(number)

  def _gain(self, number: int, voxels: np.ndarray, touched: '_Touched') -> None:
    item = self.items[number]
    if item.repeat_of is None and self._flat[voxels].any():
      raise InputError(f'gives item {number} voxels that another one has')
    item.voxels = drawing.joined(item.voxels, voxels)
    self._mark(item, voxels, number)
    self._redrawn(number, voxels, touched)

  def _lose(self, number: int, voxels: np.ndarray, touched: '_Touched') -> None:
    if (self.owner(voxels, number) != number).any():
      raise InputError(f'takes voxels from item {number} that it has not')
    item = self.items[number]
    item.voxels = drawing.without(item.voxels, voxels)
    self._mark(item, voxels, 0)
    self._redrawn(number, voxels, touched)

  def _mark(self, item: Item, voxels: np.ndarray, value: int) -> None:
    """Whose the voxels are now; a repeat lies over what is there."""
    if item.repeat_of is None:
      self._flat[voxels] = value

  def _redrawn(
    self, number: int, voxels: np.ndarray, touched: '_Touched'
  ) -> None:
    self._sizes.pop(number, None)
    if voxels.size:
      touched.items.add(number)
      touched.voxels.append(voxels)

  def _change(
    self, line, item: int | None, touched: '_Touched', refused: np.ndarray
  ) -> Change:
    voxels = geometry.distinct(np.concatenate([refused, *touched.voxels]))
    return Change(
      line=line,
      item=item,
      items=tuple(sorted(n for n in touched.items if self.is_shown(n))),
      removed=tuple(sorted(touched.removed)),
      voxels=voxels,
      labels=self._flat[voxels],
      refused=int(line.get('refused', 0)),
    )


class _Touched(NamedTuple):
  items: set[int]
  removed: set[int]
  voxels: list[np.ndarray]
