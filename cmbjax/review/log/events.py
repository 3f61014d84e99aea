"""Events: what a reader may do, and all that is known of each.

Rule: an event is one entry of EVENTS with its two functions. What a request
may hold, what undo takes back and what counts as work derive from that entry.
What can be refused is refused while it is planned; a planned line always fits
the state that it was planned for.
"""

import datetime
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import checks, drawing, reveal
from cmbjax.review.log.checks import Check, choice, whole
from cmbjax.review.log.items import (
  CERTAINTIES,
  JUDGED,
  MIMICS,
  REGIONS,
  STATUSES,
  VERDICTS,
)
from cmbjax.review.log.reading import Part, Reading

_NOTHING = np.zeros(0, np.int64)
_ON = {'mimic': ('reject',), 'certainty': ('accept', 'unsure')}

Fields = Mapping[str, Check]
_NONE: Fields = types.MappingProxyType({})


def _differs(line: Mapping[str, Any]) -> bool:
  return line['old'] != line['new']


def _draws(line: Mapping[str, Any]) -> bool:
  return bool(line['set'] or line['clear'])


def _always(line: Mapping[str, Any]) -> bool:
  return True


def _never(line: Mapping[str, Any]) -> bool:
  return False


class Event(NamedTuple):
  """One kind of event.

  Attributes:
    plan: (reading, checked action) to its part of a line, and the voxels that
      it asked for in vain; changes nothing. None: no page can send it.
    put: (reading, line, forward) makes a line happen, or with forward False
      unhappen; may give another line, which it was about.
    needs, may: fields of a request, each with its check.
    is_step: whether a line did something that undo takes back.
    is_work: whether it is the work of a reader, not of a page or server.
  """

  plan: Callable[[Reading, Mapping[str, Any]], Part] | None
  put: Callable[..., Mapping[str, Any] | None]
  needs: Fields = _NONE
  may: Fields = _NONE
  is_step: Callable[[Mapping[str, Any]], bool] = _never
  is_work: bool = True


def of(line: Mapping[str, Any]) -> Event:
  """The kind of a line.

  Raises:
    InputError: there is none of its name.
  """
  if line['event'] not in EVENTS:
    raise InputError(f'has an unknown event {checks.short(line["event"])}')
  return EVENTS[line['event']]


def checked(action: Any, reading: Reading) -> dict[str, Any]:
  """An action with the fields that its event has, each of its kind.

  Raises:
    InputError: an event that there is not or that no page can send; a field
      that it does not have, that it lacks, or that is not of its kind.
  """
  if not isinstance(action, Mapping):
    raise InputError('an action is a JSON object with an event.')
  planned = [name for name, event in EVENTS.items() if event.plan]
  name = checks.one_of('event', action.get('event'), planned)
  event = EVENTS[name]
  fields = event.needs | event.may | _ALWAYS
  for field in action:
    if field not in fields and field != 'event':
      raise InputError(f'{checks.short(field)}: is no field of {name}.')
  for field in event.needs:
    if field not in action:
      raise InputError(f'{field}: is missing in {name}.')
  found = {'event': name}
  for field, check in fields.items():
    if field in action:
      label = name if field == 'value' else field
      found[field] = check(label, action[field], reading.view)
  if 'item' in found and not reading.is_shown(found['item']):
    raise InputError(f'item {found["item"]}: there is none in this case.')
  return found


def plan(
  reading: Reading, action: Mapping[str, Any]
) -> tuple[dict[str, Any], np.ndarray]:
  """The line that says an action, and the voxels it asked for in vain.

  Raises:
    InputError: as `checked`; a locked item; nothing to undo.
  """
  action = checked(action, reading)
  more, refused = EVENTS[action['event']].plan(reading, action)
  timed = {name: action[name] for name in ('ms',) if name in action}
  return _line(reading, action['event']) | more | timed, refused


def session_line(
  reading: Reading, event: str, new: Mapping[str, Any]
) -> dict[str, Any]:
  """A line that no page can send.

  Args:
    reading: the present state.
    event: 'open' or 'close'.
    new: what it says.
  """
  return _line(reading, event) | {'new': dict(new)}


def now() -> str:
  """The time in UTC, to the millisecond."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='milliseconds')


def _line(reading: Reading, event: str) -> dict[str, Any]:
  return {'rev': reading.rev + 1, 'time': now(), 'event': event}


# What a reader says of an item.


def _plan_verdict(reading: Reading, action) -> Part:
  item = reading.items[action['item']]
  old = {name: getattr(item, name) for name in JUDGED}
  new = {'verdict': action['value'], 'certainty': None, 'mimic': None}
  for name in ('certainty', 'mimic'):
    new[name] = action.get(name)
    if new[name] is None and action['value'] == item.verdict:
      new[name] = old[name]  # said before, and still true
    _check_belongs(name, new[name], action['value'])
  return {'item': item.number, 'old': old, 'new': new}, _NOTHING


def _put_verdict(reading: Reading, line, *, forward: bool) -> None:
  for name in JUDGED:
    said = line['new' if forward else 'old']
    setattr(reading.touch(line['item']), name, said[name])


def _plan_field(reading: Reading, action) -> Part:
  item, name = reading.items[action['item']], action['event']
  _check_belongs(name, action['value'], item.verdict)
  old, new = getattr(item, name), action['value']
  return {'item': item.number, 'old': old, 'new': new}, _NOTHING


def _put_field(reading: Reading, line, *, forward: bool) -> None:
  value = line['new' if forward else 'old']
  setattr(reading.touch(line['item']), line['event'], value)


def _check_belongs(name: str, value: Any, verdict: str | None) -> None:
  """A mimic belongs to a rejection, a certainty to what may be a lesion."""
  if value is None or name not in _ON or verdict in _ON[name]:
    return
  raise InputError(
    f'{name}: is asked only with the verdict {" or ".join(_ON[name])}, not '
    f'{verdict or "without one"}.'
  )


# What a reader says of the case.


def _plan_note(reading: Reading, action) -> Part:
  return {'old': reading.note, 'new': action['value']}, _NOTHING


def _put_note(reading: Reading, line, *, forward: bool) -> None:
  reading.note = line['new' if forward else 'old']


def _plan_status(reading: Reading, action) -> Part:
  return {'old': reading.status, 'new': action['value']}, _NOTHING


def _put_status(reading: Reading, line, *, forward: bool) -> None:
  reading.said_status = line['new']


def _plan_view(reading: Reading, action) -> Part:
  known = {'what': 'sweep', 'slices': 0} | dict(action)
  return {
    n: known[n] for n in ('what', 'slices', 'item') if n in known
  }, _NOTHING


def _put_view(reading: Reading, line, *, forward: bool) -> None:
  seen = reading.views.setdefault(line['what'], {'slices': 0, 'ms': 0})
  seen['slices'] += line['slices']
  seen['ms'] += line.get('ms', 0)


# Undo and redo.


def _plan_undo(reading: Reading, action) -> Part:
  if not reading.steps:
    raise InputError('there is nothing to undo.')
  return {'undoes': reading.steps[-1]['rev']}, _NOTHING


def _put_undo(reading: Reading, line, *, forward: bool) -> Mapping[str, Any]:
  step = _last(reading.steps, line['undoes'])
  of(step).put(reading, step, forward=False)
  reading.undone.append(reading.steps.pop())
  return step


def _plan_redo(reading: Reading, action) -> Part:
  if not reading.undone:
    raise InputError('there is nothing to redo.')
  return {'redoes': reading.undone[-1]['rev']}, _NOTHING


def _put_redo(reading: Reading, line, *, forward: bool) -> Mapping[str, Any]:
  step = _last(reading.undone, line['redoes'])
  of(step).put(reading, step, forward=True)
  reading.steps.append(reading.undone.pop())
  return step


def _last(steps, named: int) -> Mapping[str, Any]:
  if not steps or steps[-1]['rev'] != named:
    raise InputError(f'names {checks.short(named)}, which is not the last')
  return steps[-1]


def _put_nothing(reading: Reading, line, *, forward: bool) -> None:
  """A line about the session alone."""


_VERDICT = choice(*VERDICTS, none=True)
_CERTAINTY = choice(*CERTAINTIES, none=True)
_MIMIC = choice(*MIMICS, none=True)
_RATING = whole(1, 10, none=True)
_REGION = choice(*REGIONS)
_STATUS = choice(*STATUSES[1:])  # nobody goes back to 'not started'
_ITEM = {'item': whole(0, 2**31)}
_IJK = {'ijk': checks.voxel}
_GROWN = {'radius_mm': checks.length}  # the server grows, and tells with what
_PAINTED = {'set': checks.indices, 'tool': checks.tool}
_DRAWN = _PAINTED | {'clear': checks.indices}
_ALWAYS = {'rev': whole(0, 2**53), 'ms': checks.milliseconds}


def _field(check: Check) -> Event:
  """The event that sets one field of an item."""
  return Event(
    _plan_field,
    _put_field,
    needs=_ITEM | {'value': check},
    is_step=_differs,
  )


EVENTS: dict[str, Event] = {
  'verdict': Event(
    _plan_verdict,
    _put_verdict,
    needs=_ITEM | {'value': _VERDICT},
    may={'certainty': _CERTAINTY, 'mimic': _MIMIC},
    is_step=_differs,
  ),
  'certainty': _field(_CERTAINTY),
  'mimic': _field(_MIMIC),
  'rating': _field(_RATING),
  'region': _field(_REGION),
  'comment': _field(checks.text),
  'note': Event(
    _plan_note,
    _put_note,
    needs={'value': checks.text},
    is_step=_differs,
  ),
  'add': Event(
    drawing.plan_add,
    drawing.put_add,
    needs=_IJK,
    may=_GROWN | _PAINTED | {'grow': checks.flag},
    is_step=_always,
  ),
  'remove': Event(
    drawing.plan_remove, drawing.put_remove, needs=_ITEM, is_step=_always
  ),
  'move': Event(
    drawing.plan_move,
    drawing.put_move,
    needs=_ITEM | _IJK,
    is_step=_differs,
  ),
  'edit': Event(
    drawing.plan_strokes,
    drawing.put_strokes,
    needs=_ITEM,
    may=_DRAWN,
    is_step=_draws,
  ),
  'grow': Event(
    drawing.plan_strokes,
    drawing.put_strokes,
    needs=_ITEM | _IJK,
    may=_GROWN | _DRAWN,
    is_step=_draws,
  ),
  'status': Event(
    _plan_status,
    _put_status,
    needs={'value': _STATUS},
  ),
  'done': Event(reveal.plan, reveal.put),
  'view': Event(
    _plan_view,
    _put_view,
    may=_ITEM | {'what': checks.word, 'slices': whole(0, 10**6)},
    is_work=False,
  ),
  'undo': Event(_plan_undo, _put_undo),
  'redo': Event(_plan_redo, _put_redo),
  'open': Event(None, _put_nothing, is_work=False),
  'close': Event(None, _put_nothing, is_work=False),
}
