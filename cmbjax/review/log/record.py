"""Lines of one reader on one image to the state of the review, and to JSON.

Rule: the state is a pure fold over the lines of the journal. `plan` checks an
action and says the line, `fold` takes a line in; nothing else changes state.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import checks, events, geometry, items
from cmbjax.review.log.items import SCHEMA
from cmbjax.review.log.reading import Reading, Touched

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


class ReviewRecord(Reading):
  """A reading that grows by lines, and what a page is shown of it."""

  def __init__(self, header: Mapping[str, Any]):
    """The state before any event.

    Raises:
      InputError: the header is not of this schema.
    """
    super().__init__(header)
    self._sizes: dict[int, items.Size] = {}  # until the voxels change

  @property
  def undoable(self) -> list[int]:
    """Revisions that undo takes back, the next one last."""
    return [line['rev'] for line in self.steps]

  @property
  def redoable(self) -> list[int]:
    """Revisions that redo makes again, the next one last."""
    return [line['rev'] for line in self.undone]

  def size(self, number: int) -> items.Size:
    """Volume, diameter and flags of an item."""
    if number not in self._sizes:
      self._sizes[number] = items.measure(self.voxels(number), self.view)
    return self._sizes[number]

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
      'can_undo': bool(self.steps),
      'can_redo': bool(self.undone),
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

  def plan(
    self, action: Mapping[str, Any]
  ) -> tuple[dict[str, Any], np.ndarray]:
    """Checks an action; see `events.plan`. Changes nothing.

    Args:
      action: {'event': ..., 'item': ..., 'value': ..., 'ms': ...}, with the
        fields that `events.EVENTS` has.

    Returns:
      The line that says it, and the linear indices that it asks for in vain,
      because they belong to another item.

    Raises:
      InputError: it cannot be done.
    """
    return events.plan(self, action)

  def apply(self, action: Mapping[str, Any]) -> Change:
    """`plan` and `fold`; for work without files."""
    return self.fold(*self.plan(action))

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
    event = events.of(line)
    self.touched = Touched(set(), set(), [])
    about = event.put(self, line, forward=True) or line
    if event.is_step(line):
      self.steps.append(line)
      self.undone.clear()
    self.rev = line['rev']
    self.begun |= event.is_work
    self.ms += line.get('ms', 0)
    if 'item' in line:
      self.items[line['item']].ms += line.get('ms', 0)
    return self._change(line, about.get('item'), refused)

  def _change(
    self, line: Mapping[str, Any], item: int | None, refused: np.ndarray
  ) -> Change:
    touched = self.touched
    for number in touched.items | touched.removed:
      self._sizes.pop(number, None)
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
