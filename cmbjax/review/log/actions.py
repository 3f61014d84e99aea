"""Actions of a page to lines of the journal.

Rule: everything that can be refused is refused here; a line that was made
here always fits the state that it was made for.
"""

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import checks, drawing, geometry, matching
from cmbjax.review.log.items import (
  AFTER,
  CERTAINTIES,
  JUDGED,
  MIMICS,
  MODEL,
  READER,
  STATUSES,
  VERDICTS,
  Item,
)
from cmbjax.review.log.opening import MOST_ITEMS, UNAIDED

if TYPE_CHECKING:
  from cmbjax.review.log.record import ReviewRecord

FIELDS = ('certainty', 'mimic', 'rating', 'region', 'comment')
DRAWN = ('edit', 'grow')
SILENT = ('open', 'close', 'view')  # not the work of a reader
UNDOABLE = ('verdict', *FIELDS, 'note', 'add', 'remove', 'move', *DRAWN)
_NOTHING = np.zeros(0, np.int64)


class Plan(NamedTuple):
  """A checked action.

  Attributes:
    line: of the journal.
    refused: [n] linear indices that the action asked for in vain, because
      they belong to another item.
  """

  line: dict[str, Any]
  refused: np.ndarray


def plan(record: 'ReviewRecord', action: Mapping[str, Any]) -> Plan:
  """Checks an action; the line that says it. Changes nothing.

  Raises:
    InputError: unknown event or item, a value that is not allowed, voxels out
      of range, a locked item, nothing to undo.
  """
  if not isinstance(action, Mapping):
    raise InputError('an action is a JSON object with an event.')
  event = checks.one_of('event', action.get('event'), tuple(_PLANS))
  ms = checks.milliseconds(action.get('ms'))
  more, refused = _PLANS[event](record, action)
  timed = {} if ms is None else {'ms': ms}
  return Plan(_line(record, event) | more | timed, refused)


def session_line(
  record: 'ReviewRecord', event: str, new: Mapping[str, Any]
) -> dict[str, Any]:
  """The line 'open' or 'close', which no page can send."""
  return _line(record, event) | {'new': dict(new)}


def now() -> str:
  """The time in UTC, to the millisecond."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='milliseconds')


def is_change(line: Mapping[str, Any]) -> bool:
  """Whether a line did something that undo takes back."""
  event = line['event']
  if event in DRAWN:
    return bool(line['set'] or line['clear'])
  if event in ('add', 'remove'):
    return True
  return event in UNDOABLE and line['old'] != line['new']


def _line(record: 'ReviewRecord', event: str) -> dict[str, Any]:
  return {'rev': record.rev + 1, 'time': now(), 'event': event}


def _verdict(record, action):
  item = _item(record, action)
  value = checks.one_of('value', action.get('value'), VERDICTS, none=True)
  old = {name: getattr(item, name) for name in JUDGED}
  new = {'verdict': value, 'certainty': None, 'mimic': None}
  for name, allowed in (('certainty', CERTAINTIES), ('mimic', MIMICS)):
    given = action.get(name)
    if given is None and value == item.verdict:
      given = old[name]  # said before, and still true
    new[name] = checks.one_of(name, given, allowed, none=True)
    checks.belongs(name, new[name], value)
  return {'item': item.number, 'old': old, 'new': new}, _NOTHING


def _field(record, action):
  item, name = _item(record, action), action['event']
  new = checks.FIELDS[name](name, action.get('value'))
  checks.belongs(name, new, item.verdict)
  old = getattr(item, name)
  return {'item': item.number, 'old': old, 'new': new}, _NOTHING


def _note(record, action):
  new = checks.text('note', action.get('value'))
  return {'old': record.note, 'new': new}, _NOTHING


def _add(record, action):
  ijk = checks.voxel(action.get('ijk'), record.view)
  number = _next_number(record)
  wanted = checks.indices('set', action.get('set'), record.view.size)
  drawn, refused = drawing.plan(record, number, wanted, _NOTHING)
  unaided = record.hidden or not any(
    item.origin == MODEL for item in record.items.values()
  )
  new = {
    'ijk': list(ijk),
    'origin': READER if unaided else AFTER,
    'verdict': 'accept',
  }
  return {'item': number, 'new': new, **drawn, **_tool(action)}, refused


def _remove(record, action):
  item = _item(record, action)
  if item.origin == MODEL:
    raise InputError(
      f'item {item.number}: was not added by the reader; reject it instead.'
    )
  runs = geometry.encode_runs(item.voxels)
  return {'item': item.number, 'clear': runs}, _NOTHING


def _move(record, action):
  item = _drawable(record, action)
  ijk = checks.voxel(action.get('ijk'), record.view)
  old, new = list(item.ijk), list(ijk)
  return {'item': item.number, 'old': old, 'new': new}, _NOTHING


def _drawn(record, action):
  item = _drawable(record, action)
  if action.get('set') is None and action.get('clear') is None:
    raise InputError(f'{action["event"]}: needs voxels to set or to clear.')
  wanted, unwanted = (
    checks.indices(name, action.get(name), record.view.size)
    for name in ('set', 'clear')
  )
  if np.intersect1d(wanted, unwanted, assume_unique=True).size:
    raise InputError('a voxel stands in both set and clear; name it once.')
  drawn, refused = drawing.plan(record, item.number, wanted, unwanted)
  return {'item': item.number, **drawn, **_tool(action)}, refused


def _tool(action):
  if action.get('tool') is None:
    return {}
  return {'tool': checks.tool(action['tool'])}


def _status(record, action):
  new = checks.one_of('value', action.get('value'), STATUSES[1:])
  return {'old': record.status, 'new': new}, _NOTHING


def _done(record, action):
  if record.done_rev is not None:
    raise InputError('done: was said before.')
  if not record.hidden:
    raise InputError('done: only a first reader says so; nothing is hidden.')
  found = _found_unaided(record)
  known = {candidate for _, candidate in found}
  again = [n for n, original in record.repeats.items() if original in known]
  # Asked again alone, it would stand out: all others he marked are judged.
  return {'found': found} | ({'dropped': again} if again else {}), _NOTHING


def _found_unaided(record) -> list[list[int]]:
  """[addition, candidate] that are one lesion, the candidate as the source
  has it. The line says them, so that other rules of matching change no
  review that was read before."""
  view, added, hidden = record.view, [], []
  runs = {row['item']: row['voxels'] for row in record.header['items']}
  for number, item in sorted(record.items.items()):
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


def _view(record, action):
  line = {
    'what': checks.word('what', action.get('what', 'sweep')),
    'slices': checks.count('slices', action.get('slices', 0)),
  }
  if action.get('item') is not None:
    line['item'] = _item(record, action).number
  return line, _NOTHING


def _undo(record, action):
  if not record.undoable:
    raise InputError('there is nothing to undo.')
  return {'undoes': record.undoable[-1]}, _NOTHING


def _redo(record, action):
  if not record.redoable:
    raise InputError('there is nothing to redo.')
  return {'redoes': record.redoable[-1]}, _NOTHING


_PLANS = {
  'verdict': _verdict,
  **dict.fromkeys(FIELDS, _field),
  'note': _note,
  'add': _add,
  'remove': _remove,
  'move': _move,
  **dict.fromkeys(DRAWN, _drawn),
  'status': _status,
  'done': _done,
  'view': _view,
  'undo': _undo,
  'redo': _redo,
}


def _item(record, action) -> Item:
  number = action.get('item')
  if type(number) is not int or not record.is_shown(number):
    raise InputError(
      f'item {checks.short(number)}: there is none in this case.'
    )
  return record.items[number]


def _drawable(record, action) -> Item:
  item = _item(record, action)
  if item.locked:
    raise InputError(
      f'item {item.number}: is rejected, so its outline is locked; clear the '
      'verdict first.'
    )
  return item


def _next_number(record) -> int:
  """The numbers of unaided additions do not tell how many are hidden."""
  known = record.items
  if record.hidden:
    number = max([n for n in known if n <= UNAIDED], default=0) + 1
    full = number > UNAIDED
  else:
    number = max(known, default=0) + 1
    full = number > MOST_ITEMS
  if full:
    raise InputError('there are too many items in this case to add another.')
  return number
