"""Known verdicts to a journal that was never open in a browser.

Rule: such a journal is like any other: the same checks, the same lines, and
the state is what its lines say.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from cmbjax import files
from cmbjax.review import journal
from cmbjax.review.record import ReviewRecord

LAST = 'last'


def write(
  folder: pathlib.Path,
  header: Mapping[str, Any],
  actions: Iterable[Mapping[str, Any]],
) -> ReviewRecord:
  """Writes `events.jsonl`, whole or not at all; the state that it tells.

  Args:
    folder: root/rater/case.
    header: of `record.new_header`, perhaps with more keys.
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
    plan = record.plan(action)
    line = dict(plan.line) | {'time': time}
    record.fold(line)
    lines.append(line)
  text = [json.dumps(line, allow_nan=False) for line in lines]
  files.write_text(folder / journal.EVENTS, '\n'.join(text) + '\n')
  return record


def last_time(folder: pathlib.Path) -> str:
  """When a journal was last written to, as its lines say; '' where not."""
  found = journal.lines(folder)
  return max((line.get('time') or '' for line in found), default='')
