"""Known verdicts to a journal that was never open in a browser.

Rule: such a journal is like any other: the same checks, the same lines, and
the state is what its lines say.
"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cmbjax import files
from cmbjax.review.log import journal
from cmbjax.review.log import lines as lines_lib
from cmbjax.review.log.items import Candidate
from cmbjax.review.log.opening import Terms, new_header
from cmbjax.review.log.record import ReviewRecord

LAST = 'last'


class Composed(NamedTuple):
  """A journal that is not on the disk yet."""

  record: ReviewRecord  # the state that it tells
  data: bytes  # of `events.jsonl`


def header_of(
  like: ReviewRecord,
  candidates: Iterable[Candidate],
  *,
  rater: str,
  blind: Sequence[str],
) -> dict[str, Any]:
  """The first line of another reader's journal of the same image.

  Args:
    like: a reading of that image.
    candidates: that the other one is shown.
    rater: the other one.
    blind: what is kept from him, see `opening.new_header`.
  """
  same = ('case', 'source', 'image_sha256', 'labels_sha256', 'model')
  return new_header(
    candidates,
    grid=like.view.to_json(),
    rater=rater,
    terms=Terms(blind=tuple(blind)),
    simulated=like.header['simulated'],
    **{name: like.header[name] for name in same},
  )


def compose(
  header: Mapping[str, Any], actions: Iterable[Mapping[str, Any]]
) -> Composed:
  """Checks all actions, one after the other.

  Args:
    header: of `opening.new_header`, perhaps with more keys.
    actions: as `ReviewRecord.plan` takes them, each with 'time' (UTC); the
      item 'last' is the one with the highest number, just added.

  Raises:
    InputError: an action that the record refuses.
  """
  record = ReviewRecord(header)
  lines = [dict(header)]
  for action in actions:
    action = dict(action)
    time = action.pop('time')
    if action.get('item') == LAST:
      action['item'] = max(record.items)
    line = record.plan(action)[0] | {'time': time}
    record.fold(line)
    lines.append(line)
  return Composed(record, lines_lib.encoded(lines))


def write(
  folder: pathlib.Path,
  header: Mapping[str, Any],
  actions: Iterable[Mapping[str, Any]],
) -> ReviewRecord:
  """Writes a journal, whole or not at all; the state that it tells.

  Args:
    folder: root/rater/case.
    header: as `compose` takes it.
    actions: as `compose` takes them.

  Raises:
    InputError: an action that the record refuses; nothing is written.
  """
  made = compose(header, actions)
  files.write_bytes(folder / journal.EVENTS, made.data)
  return made.record
