"""Events to lines on disk, and lines on disk to the state.

Rule: a line is on the disk before anybody hears that it was taken. All other
files of a review can be made again from `events.jsonl`.
"""

import contextlib
import os
import pathlib
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import cmbjax
from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.review.log import checks, events, notices, reader_mask
from cmbjax.review.log import lines as lines_lib
from cmbjax.review.log.lines import EVENTS, DiskFull, LineFile, Lines
from cmbjax.review.log.record import Change, ReviewRecord, Stale

STATE = 'state.json'
SNAPSHOT_EVERY = 20  # events; a page lists hundreds of cases by snapshots


def lines(folder: pathlib.Path) -> list[dict[str, Any]]:
  """All whole lines of a journal, the header first.

  Raises:
    NoInputError: no journal there.
    InputError: a line is damaged (it is named).
  """
  return _read(pathlib.Path(folder)).found


def read(folder: pathlib.Path, *, until: int | None = None) -> ReviewRecord:
  """The state that a journal folder tells, without a lock; writes nothing.

  Args:
    folder: root/rater/case.
    until: the state at this revision instead of the last one; just before
      `record.done_rev` is what a first reader said unaided.

  Raises:
    NoInputError: no journal there.
    InputError: a line is damaged (it is named).
  """
  folder = pathlib.Path(folder)
  return _rebuilt(folder, _read(folder).found, until)


def summary(folder: pathlib.Path) -> dict[str, Any] | None:
  """`ReviewRecord.case_json` of a journal; None without one.

  From the snapshot where that is of the last line, else from all lines.

  Raises:
    InputError: a line is damaged (it is named).
  """
  folder = pathlib.Path(folder)
  if not doors.is_there(folder / EVENTS):
    return None
  with contextlib.suppress(
    InputError, OSError, KeyError, TypeError, ValueError
  ):
    case = files.read_json(folder / STATE)['case']
    if case['rev'] == lines_lib.last(folder / EVENTS)['rev']:
      return case
  try:
    return read(folder).case_json()
  except NoInputError:
    return None


class Journal:
  """A case that is open for writing.

  Attributes:
    folder: root/rater/case.
    record: the state.
    notices: sentences for the reader about what was found on opening.
  """

  def __init__(
    self,
    record: ReviewRecord,
    file: LineFile,
    said: Sequence[str] = (),
  ):
    """Use `Journal.open`.

    Args:
      record: what the journal says.
      file: its lines.
      said: see `notices`.
    """
    self.folder = file.path.parent
    self.record = record
    self.notices = tuple(said)
    self._lock = threading.RLock()
    self._file = file
    # Whether the state is that of the lines on disk; not so when Ctrl-C came
    # between the two.
    self._sound = True

  @classmethod
  def open(cls, folder: pathlib.Path, header: Mapping[str, Any]) -> 'Journal':
    """Begins a journal with this header, or continues the one there.

    What an existing journal was begun with (order, seed, repeats, mode,
    hidden masks) stays; a difference becomes a notice. A journal in which the
    reader did nothing yet is put aside when the labels have changed.

    Args:
      folder: root/rater/case; hold the rater's folder before.
      header: `opening.new_header(...)` of the present files.

    Raises:
      DiskFull: it could not be begun.
      InputError: it belongs to another image, grid or label image, or a line
        is damaged.
    """
    folder = pathlib.Path(folder)
    path = folder / EVENTS
    try:
      known = _read(folder)
    except NoInputError:
      return cls._begin(path, header)
    record = _rebuilt(folder, known.found)
    notices.check_image(path, record, header)
    if (record.header['labels_sha256'] or '') != (
      header['labels_sha256'] or ''
    ):
      if record.status != 'not started':
        raise notices.changed_labels(path)
      aside = _put_aside(path)
      said = (
        'The candidates have changed since this case was opened first, before '
        f'anything was said; {aside.name} holds that.'
      )
      return cls._begin(path, header, said)
    said = []
    if known.rest:
      said.append(
        f'The last line of {EVENTS} was cut short when the review ended '
        'abruptly and never confirmed; it was dropped.'
      )
    said += notices.unshown(record)
    said += notices.differences(record.header, header)
    journal = cls(record, LineFile(path, known), said)
    journal._say('open', {'blind': list(header['blind']), **_software()})
    return journal

  @classmethod
  def _begin(
    cls, path: pathlib.Path, header: Mapping[str, Any], *said: str
  ) -> 'Journal':
    line = {**header, 'time': events.now(), **_software()}
    record = ReviewRecord(line)
    file = LineFile.begin(path, line)
    return cls(record, file, (*notices.unshown(record), *said))

  def apply(self, action: Mapping[str, Any]) -> Change:
    """Checks, writes to the disk, then changes the state. Thread safe.

    Raises:
      Stale: `action['rev']` is given and not the present revision.
      DiskFull: nothing was changed.
      InputError: as `ReviewRecord.plan`.
    """
    with self._lock:
      if isinstance(action, Mapping) and action.get('rev') is not None:
        rev = checks.whole(0, 2**53)('rev', action['rev'])
        if rev != self.record.rev:
          raise Stale(self.record.rev)
      line, refused = self.record.plan(action)
      change = self._take(line, refused)
      if line['rev'] % SNAPSHOT_EVERY == 0 or line['event'] == 'status':
        self._snapshot()
      return change

  def save(self) -> list[pathlib.Path]:
    """Writes mask, table and snapshot; their paths.

    Raises:
      InputError: they cannot be written; the journal is whole nevertheless.
    """
    with self._lock:
      written = reader_mask.write(self.record, self.folder)
      path = self.folder / STATE
      files.write_text(path, lines_lib.dumped(self.record.state()) + '\n')
      return [*written, path]

  def close(self) -> None:
    """Says so in the log; writes the snapshot, and the mask if completed.

    A disk that is full is no error here: everything is in the journal.

    Raises:
      InputError: another program has changed the journal.
    """
    with self._lock:
      if self._file.closed:
        return
      try:
        if not self._sound:
          return
        self._say('close', {})
        self._snapshot()
        if self.record.status == 'completed':
          with contextlib.suppress(InputError):
            self.save()
      finally:
        self._file.close()

  def _say(self, event: str, new: Mapping[str, Any]) -> None:
    """A line of the session, which matters less than to go on."""
    line = events.session_line(self.record, event, new)
    with contextlib.suppress(DiskFull):
      self._take(line)

  def _take(self, line: Mapping[str, Any], *refused: np.ndarray) -> Change:
    """First the disk, then the state; whoever ends in between ends both."""
    if not self._sound:
      raise InputError(
        f'{self._file.path}: was interrupted; start the review again.'
      )
    self._file.append(line)
    self._sound = False
    change = self.record.fold(line, *refused)
    self._sound = True
    return change

  def _snapshot(self) -> None:
    with contextlib.suppress(InputError):  # only a cache
      text = lines_lib.dumped(self.record.state()) + '\n'
      files.write_text(self.folder / STATE, text)


def _read(folder: pathlib.Path) -> Lines:
  """The lines of a journal; one that lost all of them is not begun again."""
  path = folder / EVENTS
  try:
    return lines_lib.read(path)
  except NoInputError:
    if path.exists() and _was_begun(folder / STATE):
      raise InputError(
        f'{path}: was emptied, it holds no whole line; bring it back from a '
        f'copy, or remove it and {STATE} to begin this case anew.'
      ) from None
    raise


def _was_begun(state: pathlib.Path) -> bool:
  """Whether a snapshot tells of a review in which something was said."""
  with contextlib.suppress(InputError, KeyError, TypeError):
    return files.read_json(state)['case']['status'] != 'not started'
  return False


def _rebuilt(
  folder: pathlib.Path, known: Sequence[Mapping], until: int | None = None
) -> ReviewRecord:
  number = 1  # of the line that is taken in
  try:
    record = ReviewRecord(known[0])
    for line in known[1:]:
      if until is not None and record.rev >= until:
        break
      number += 1
      record.fold(line)
  except InputError as error:
    why = str(error).rstrip('.')
    raise lines_lib.damaged(folder / EVENTS, number, why) from error
  return record


def _put_aside(path: pathlib.Path) -> pathlib.Path:
  number = 1
  while (aside := path.with_name(f'unread-{number}.jsonl')).exists():
    number += 1
  try:
    os.replace(path, aside)
    path.with_name(STATE).unlink(missing_ok=True)
  except OSError as error:
    raise InputError(
      f'{path}: cannot be put aside ({error.strerror}); choose another place '
      'with --reviews.'
    ) from error
  return aside


def _software() -> dict[str, str]:
  return {'cmbjax': cmbjax.__version__, 'host': socket.gethostname()}
