"""Events to lines on disk, and lines on disk to the state.

Rule: a line is on the disk before anybody hears that it was taken. All other
files of a review can be made again from `events.jsonl`.
"""

import contextlib
import errno
import json
import os
import pathlib
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import filelock
import numpy as np

import cmbjax
from cmbjax import files
from cmbjax.errors import InputError, NoInputError
from cmbjax.review.log import (
  checks,
  events,
  geometry,
  header_checks,
  reader_mask,
)
from cmbjax.review.log.record import Change, ReviewRecord, Stale

EVENTS, STATE, LOCK = 'events.jsonl', 'state.json', '.lock'
SNAPSHOT_EVERY = 20  # events
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_KEPT = {  # what a journal was begun with, and stays
  'mode': '--mode',
  'order': '--order',
  'seed': '--seed',
  'repeat': '--repeat',
  'least': '--least',
}


class DiskFull(InputError):
  """The line could not be written; nothing was changed. HTTP 507."""


def rater_label(name: str) -> str:
  """A name as a BIDS label: its letters and digits.

  Raises:
    InputError: none is left, or one is not of A-Z, a-z, 0-9: without it,
      two readers might become one.
  """
  other = [c for c in name if c.isalnum() and not c.isascii()]
  if other:
    raise InputError(
      f'--rater: {checks.short(name)} has a letter outside A-Z, a-z, 0-9; '
      'spell it with these.'
    )
  label = re.sub('[^A-Za-z0-9]', '', name)
  if not label:
    raise InputError(
      f'--rater: {checks.short(name)} has no letter or digit of A-Z, a-z, 0-9.'
    )
  return label


def folder_of(root: pathlib.Path, rater: str, case: str) -> pathlib.Path:
  """root/rater/case.

  Raises:
    InputError: a name would lead elsewhere.
  """
  for what, name in (('rater', rater), ('case', case)):
    if not re.fullmatch(r'[A-Za-z0-9_][A-Za-z0-9._-]*', name):
      raise InputError(
        f'{what}: {checks.short(name)} is no name of a folder; use letters, '
        'digits, - and _.'
      )
  return pathlib.Path(root) / rater / case


def raters(root: pathlib.Path) -> list[str]:
  """Labels of the raters with at least one journal below `root`, sorted."""
  found = pathlib.Path(root).glob(f'*/*/{EVENTS}')
  return sorted({path.parts[-3] for path in found})


def cases(root: pathlib.Path, rater: str) -> list[str]:
  """Names of the cases that a rater has begun, sorted."""
  found = (pathlib.Path(root) / rater).glob(f'*/{EVENTS}')
  return sorted(path.parts[-2] for path in found)


@contextlib.contextmanager
def hold(root: pathlib.Path, rater: str) -> Iterator[pathlib.Path]:
  """Keeps root/rater for this process; yields that folder.

  The system lets go when the process ends, however it ends.

  Raises:
    InputError: another process holds it (its number and computer are named),
      or it cannot be written.
  """
  folder = files.make_folder(pathlib.Path(root) / rater)
  path = folder / LOCK
  lock = filelock.FileLock(path)
  try:
    lock.acquire(blocking=False)
  except filelock.Timeout as error:
    raise InputError(
      f'{folder}: rater {rater} is reviewing already, {_holder(path)}; end '
      'that one, or give another --rater.'
    ) from error
  except OSError as error:
    raise InputError(
      f'{folder}: cannot be locked ({error.strerror}); choose another '
      'place with --reviews.'
    ) from error
  try:
    about = {'pid': os.getpid(), 'host': socket.gethostname()}
    with contextlib.suppress(OSError):  # it only explains, the lock holds
      path.write_text(json.dumps(about))
    yield folder
  finally:
    lock.release()


def lines(folder: pathlib.Path) -> list[dict[str, Any]]:
  """All whole lines of a journal, the header first.

  Raises:
    NoInputError: no journal there.
    InputError: a line is damaged (it is named).
  """
  return _lines(pathlib.Path(folder) / EVENTS)[0]


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
  path = pathlib.Path(folder) / EVENTS
  return _rebuilt(path, _lines(path)[0], until)


def summary(folder: pathlib.Path) -> dict[str, Any] | None:
  """`ReviewRecord.case_json` of a journal; None without one.

  From the snapshot where that is of the last line, else from all lines.

  Raises:
    InputError: a line is damaged (it is named).
  """
  folder = pathlib.Path(folder)
  if not (folder / EVENTS).is_file():
    return None
  with contextlib.suppress(
    InputError, OSError, KeyError, TypeError, ValueError
  ):
    case = files.read_json(folder / STATE)['case']
    if case['rev'] == _last_rev(folder / EVENTS):
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
    folder: pathlib.Path,
    record: ReviewRecord,
    size: int,
    notices: Sequence[str] = (),
  ):
    """Use `Journal.open`.

    Args:
      folder: root/rater/case.
      record: what the journal there says.
      size: bytes of its whole lines; what follows is cut off.
      notices: see above.
    """
    self.folder = pathlib.Path(folder)
    self.record = record
    self.notices = tuple(notices)
    self._size = size
    self._lock = threading.RLock()
    self._handle = _open_for_append(self.folder / EVENTS)
    self._cut = True  # whether what follows `size` is known to be worthless
    self._sound = True  # whether the state is that of the lines on disk
    self._closed = False

  @classmethod
  def open(cls, folder: pathlib.Path, header: Mapping[str, Any]) -> 'Journal':
    """Begins a journal with this header, or goes on with the one there.

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
    notices: list[str] = []
    try:
      known, size, rest = _lines(path)
    except NoInputError:
      return cls._begin(folder, header)
    record = _rebuilt(path, known)
    _same_image(path, record, header)
    if (record.header['labels_sha256'] or '') != (
      header['labels_sha256'] or ''
    ):
      if record.status != 'not started':
        raise _changed_labels(path)
      aside = _put_aside(path)
      journal = cls._begin(folder, header)
      journal.notices += (
        'The candidates have changed since this case was opened first, before '
        f'anything was said; {aside.name} holds that.',
      )
      return journal
    if rest:
      notices.append(
        f'The last line of {EVENTS} was cut short when the review ended '
        'abruptly and never confirmed; it was dropped.'
      )
    notices += [*_unshown(record), *_differences(record.header, header)]
    journal = cls(folder, record, size, notices)
    journal._say('open', {'blind': list(header['blind']), **_software()})
    return journal

  @classmethod
  def _begin(cls, folder: pathlib.Path, header: Mapping[str, Any]) -> 'Journal':
    line = {**header, 'time': events.now(), **_software()}
    record, data = ReviewRecord(line), _encoded(line)
    try:
      files.write_bytes(folder / EVENTS, data)
    except InputError as error:
      cause = error.__cause__
      full = isinstance(cause, OSError) and cause.errno in _FULL
      raise (DiskFull(str(error)) if full else error) from cause
    for place in (folder, folder.parent, folder.parent.parent):
      _sync_folder(place)  # so that the name outlives a power cut, too
    return cls(folder, record, len(data), _unshown(record))

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
      files.write_text(path, _dumped(self.record.state()) + '\n')
      return [*written, path]

  def close(self) -> None:
    """Says so in the log; writes the snapshot, and the mask if completed.

    A disk that is full is no error here: everything is in the journal.

    Raises:
      InputError: another program has changed the journal.
    """
    with self._lock:
      if self._closed:
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
        self._closed = True
        os.close(self._handle)

  def _say(self, event: str, new: Mapping[str, Any]) -> None:
    """A line of the session, which matters less than to go on."""
    line = events.session_line(self.record, event, new)
    with contextlib.suppress(DiskFull):
      self._take(line)

  def _take(self, line: Mapping[str, Any], *refused: np.ndarray) -> Change:
    """First the disk, then the state; whoever ends in between ends both."""
    self._append(line)
    self._sound = False
    change = self.record.fold(line, *refused)
    self._sound = True
    return change

  def _snapshot(self) -> None:
    with contextlib.suppress(InputError):  # only a cache
      text = _dumped(self.record.state()) + '\n'
      files.write_text(self.folder / STATE, text)

  def _append(self, line: Mapping[str, Any]) -> None:
    """The line on the disk, or as if it had never been tried."""
    path = self.folder / EVENTS
    if self._closed or not self._sound:
      how = 'closed' if self._closed else 'interrupted'
      raise InputError(f'{path}: was {how}; start the review again.')
    data = memoryview(_encoded(line))
    try:
      self._trim(path)
      self._cut = True
      while data:
        data = data[os.write(self._handle, data) :]
      os.fsync(self._handle)
    except OSError as error:
      with contextlib.suppress(OSError):  # else the next line tries again
        os.ftruncate(self._handle, self._size)
        os.fsync(self._handle)
      kind = DiskFull if error.errno in _FULL else InputError
      broken = error.errno == errno.EIO
      what = 'look after the disk' if broken else 'free some space'
      raise kind(
        f'{path}: cannot be written ({error.strerror or error}), so nothing '
        f'was changed; {what} and try again.'
      ) from error
    self._size = os.lseek(self._handle, 0, os.SEEK_END)
    self._cut = False

  def _trim(self, path: pathlib.Path) -> None:
    """Cuts off what an earlier failure left; refuses what others wrote."""
    ours = os.fstat(self._handle)
    try:
      same = os.path.samestat(os.stat(path), ours)
    except FileNotFoundError:
      same = False
    if same and ours.st_size > self._size and self._cut:
      os.ftruncate(self._handle, self._size)
    elif not same or ours.st_size != self._size:
      raise InputError(
        f'{path}: was changed by another program during the review; start '
        'the review again.'
      )


def _lines(path: pathlib.Path) -> tuple[list[dict[str, Any]], int, bytes]:
  """Whole lines, their bytes, and the half line that may follow."""
  try:
    if path.exists() and not path.is_file():
      raise InputError(f'{path}: cannot be read (it is no ordinary file).')
    data = path.read_bytes()
  except FileNotFoundError as error:
    raise NoInputError(f'{path}: no such review; check the names.') from error
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror}).') from error
  size = data.rfind(b'\n') + 1
  if not size and _was_begun(path.with_name(STATE)):
    raise InputError(
      f'{path}: was emptied, it holds no whole line; bring it back from a '
      f'copy, or remove it and {STATE} to begin this case anew.'
    )
  if not size:  # killed while it was begun: nothing was said yet
    raise NoInputError(f'{path}: holds no review yet.')
  found = []
  for number, raw in enumerate(data[: size - 1].split(b'\n'), start=1):
    try:
      line = json.loads(raw)
    except (ValueError, RecursionError) as error:
      raise _damaged(path, number, 'is not JSON') from error
    if not isinstance(line, dict):
      raise _damaged(path, number, 'is no JSON object')
    found.append(line)
  return found, size, data[size:]


def _was_begun(state: pathlib.Path) -> bool:
  """Whether a snapshot tells of a review in which something was said."""
  with contextlib.suppress(InputError, KeyError, TypeError):
    return files.read_json(state)['case']['status'] != 'not started'
  return False


def _rebuilt(
  path: pathlib.Path, known: Sequence[Mapping], until: int | None = None
) -> ReviewRecord:
  number = 1
  try:
    header_checks.check(known[0])
    record = ReviewRecord(known[0])
    for line in known[1:]:
      if until is not None and record.rev >= until:
        break
      number += 1
      events.check_line(line, record)
      record.fold(line)
  except InputError as error:
    raise _damaged(path, number, str(error).rstrip('.')) from error
  except (KeyError, TypeError, ValueError, IndexError, OverflowError,
          AttributeError, RecursionError, MemoryError) as error:  # fmt: skip
    raise _damaged(path, number, f'lacks or spoils {error!r:.200}') from error
  return record


def _damaged(path: pathlib.Path, number: int, why: str) -> InputError:
  return InputError(
    f'{path}: line {number} is damaged, it {why}; bring the file back from a '
    'copy, or end it before this line.'
  )


def _last_rev(path: pathlib.Path) -> int:
  """Revision of the last whole line; reads the end of the file only."""
  with path.open('rb') as handle:
    end = handle.seek(0, os.SEEK_END)
    step = 4096
    while True:
      handle.seek(max(end - step, 0))
      data = handle.read(min(step, end))
      whole = data[: data.rfind(b'\n') + 1]
      start = whole.rfind(b'\n', 0, -1)
      if start >= 0 or step >= end:
        return json.loads(whole[start + 1 :])['rev']
      step *= 8


def _same_image(path, record: ReviewRecord, header: Mapping[str, Any]) -> None:
  """InputError where the journal is of another reader, case or image."""
  for what in ('rater', 'case'):
    if record.header[what] != header[what]:
      raise InputError(
        f'{path}: is of {what} {checks.short(record.header[what])}, not '
        f'{header[what]}; a review cannot be copied or renamed, so move it '
        'away or give --reviews a new folder.'
      )
  view = geometry.View.from_json(header['grid'])
  if record.header['image_sha256'] != header['image_sha256']:
    what = 'another image'
  elif not record.view.same(view):
    what = 'an image with another grid or affine'
  else:
    return
  raise InputError(
    f'{path}: was made on {what} than {header["source"]} is now; bring the '
    'old image back, or give --reviews a new folder.'
  )


def _changed_labels(path: pathlib.Path) -> InputError:
  return InputError(
    f'{path}: was made on other candidates than there are now (detect was run '
    'again?); bring the old labels back to go on, or begin anew with --reviews '
    'and a new folder.'
  )


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


def _unshown(record: ReviewRecord) -> list[str]:
  """What --least keeps from the reader; a first reader learns no number."""
  least, count = record.header.get('least'), len(record.header.get('below', ()))
  if not count:
    return []
  what = 'not definite' if least == 'definite' else f'below {least:g}'
  many = 'Candidates' if record.hidden else f'{count} candidates'
  return [
    f'{many} {what} are not shown (--least); they stay without a verdict.'
  ]


def _differences(old: Mapping, new: Mapping) -> list[str]:
  notices = []
  for key, option in _KEPT.items():
    values = [one.get(key) for one in (old, new)]
    if values[0] != values[1]:
      was, now = ('all' if value is None else value for value in values)
      notices.append(
        f'This case was begun with {option} {was}, which stays; {now} is for '
        'new cases.'
      )
  if ('mask' in old['blind']) != ('mask' in new['blind']):
    how = 'hidden' if 'mask' in old['blind'] else 'shown'
    notices.append(f'This case was begun with masks {how}, which stays.')
  return notices


def _holder(path: pathlib.Path) -> str:
  """Who holds the lock, as its file says; it may say nothing."""
  try:
    about = json.loads(files.read_bytes(path, most=4096))
    return f'process {int(about["pid"])} on {str(about["host"])[:100]}'
  except (InputError, ValueError, KeyError, TypeError):
    return 'in a process that did not say its number'


def _open_for_append(path: pathlib.Path) -> int:
  try:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
  except OSError as error:
    raise InputError(
      f'{path}: cannot be written ({error.strerror}); choose another place '
      'with --reviews.'
    ) from error


def _sync_folder(folder: pathlib.Path) -> None:
  with contextlib.suppress(OSError):  # not every file system can
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)


def _software() -> dict[str, str]:
  return {'cmbjax': cmbjax.__version__, 'host': socket.gethostname()}


def _encoded(line: Mapping[str, Any]) -> bytes:
  return (_dumped(line) + '\n').encode()


def _dumped(value: Any) -> str:
  return json.dumps(value, separators=(',', ':'), allow_nan=False)
