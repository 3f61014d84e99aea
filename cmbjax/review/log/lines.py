"""Lines of a file, each sealed: appended, never changed, and read back.

Rule: a line is on the disk before anybody hears that it was taken. Its seal is
a digest of itself and of the seal before it, so that whatever changed a line
later, a hand or a disk, the line is named and nothing behind it is believed.
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError

EVENTS = 'events.jsonl'
# EIO too: a disk that fails while it writes has taken nothing, either.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class DiskFull(InputError):
  """The line could not be written; nothing was changed. HTTP 507."""


class Lines(NamedTuple):
  """What a file holds.

  Attributes:
    found: its whole lines, without their seals.
    size: bytes of these.
    seal: of the last one.
    rest: bytes of a half line behind them, which nobody heard of.
  """

  found: list[dict[str, Any]]
  size: int
  seal: str
  rest: bytes


def dumped(value: Any) -> str:
  """The one way in which a value is written."""
  return json.dumps(value, separators=(',', ':'), allow_nan=False)


def sealed(line: Mapping[str, Any], before: str) -> tuple[bytes, str]:
  """A line as it is written, and its seal, behind a line with the seal
  `before`; '' for the first one."""
  text = dumped(line)
  # 64 bits: it is to find damage, not to stop a forger.
  seal = hashlib.sha256((before + text).encode()).hexdigest()[:16]
  return f'{text[:-1]},"seal":"{seal}"}}\n'.encode(), seal


def encoded(lines: Iterable[Mapping[str, Any]]) -> bytes:
  """A whole file of lines."""
  parts, seal = [], ''
  for line in lines:
    data, seal = sealed(line, seal)
    parts.append(data)
  return b''.join(parts)


def read(path: pathlib.Path) -> Lines:
  """The lines of a file.

  Raises:
    NoInputError: no such file, or no whole line in it.
    InputError: it cannot be read, or a line is damaged (it is named).
  """
  if not os.path.lexists(path):
    raise NoInputError(f'{path}: no such review; check the names.')
  with doors.open_file(path) as handle:
    data = handle.read()
  size = data.rfind(b'\n') + 1
  if not size:  # killed while it was begun: nothing was said yet
    raise NoInputError(f'{path}: holds no review yet.')
  found, seal = [], ''
  for number, raw in enumerate(data[:size].splitlines(keepends=True), start=1):
    try:
      line = json.loads(raw)
      line.pop('seal')
      again, seal = sealed(line, seal)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
      again = None
    if again != raw:
      if number == 1 and b'"schema"' in raw and b'"seal"' not in raw:
        raise InputError(
          f'{path}: has no seals, another version of cmbjax wrote it; read it '
          'with that one, or give --reviews a new folder.'
        )
      raise damaged(path, number, 'is not as it was written')
    found.append(line)
  return Lines(found, size, seal, data[size:])


def damaged(path: pathlib.Path, number: int, why: str) -> InputError:
  """What is wrong with a line, and what to do."""
  return InputError(
    f'{path}: line {number} is damaged, it {why}; bring the file back from a '
    'copy, or end it before this line.'
  )


def last(path: pathlib.Path) -> dict[str, Any]:
  """The last whole line; reads the end of the file only."""
  with doors.open_file(path) as handle:
    end = handle.seek(0, os.SEEK_END)
    step = 4096
    while True:
      handle.seek(max(end - step, 0))
      data = handle.read(min(step, end))
      whole = data[: data.rfind(b'\n') + 1]
      start = whole.rfind(b'\n', 0, -1)
      if start >= 0 or step >= end:
        return json.loads(whole[start + 1 :])
      step *= 8  # a line with a large outline is long


class LineFile:
  """A file of lines, open to be continued."""

  def __init__(self, path: pathlib.Path, known: Lines):
    """Opens what was read.

    Raises:
      InputError: it cannot be written.
    """
    self.path, self._size, self._seal = path, known.size, known.seal
    self._cut = True  # whether what follows `size` is known to be worthless
    self.closed = False
    try:
      # Appending: another program that writes is found out, not overwritten.
      # Windows would write line ends of its own.
      flags = os.O_RDWR | os.O_APPEND | getattr(os, 'O_BINARY', 0)
      self._handle = os.open(path, flags)
    except OSError as error:
      raise InputError(
        f'{path}: cannot be written ({error.strerror}); choose another place '
        'with --reviews.'
      ) from error

  @classmethod
  def begin(cls, path: pathlib.Path, line: Mapping[str, Any]) -> 'LineFile':
    """A new file with its first line.

    Raises:
      DiskFull, InputError: it cannot be written.
    """
    data, seal = sealed(line, '')
    try:
      files.write_bytes(path, data)
    except InputError as error:
      cause = error.__cause__
      full = isinstance(cause, OSError) and cause.errno in FULL
      raise (DiskFull(str(error)) if full else error) from cause
    for folder in list(path.parents)[:3]:
      _sync_folder(folder)  # so that the name outlives a power cut, too
    return cls(path, Lines([], len(data), seal, b''))

  def append(self, line: Mapping[str, Any]) -> None:
    """The line on the disk, or as if it had never been tried.

    Raises:
      DiskFull: nothing was changed.
      InputError: closed, changed by another program, or a disk that fails.
    """
    if self.closed:
      raise InputError(f'{self.path}: was closed; start the review again.')
    data, seal = sealed(line, self._seal)
    rest = memoryview(data)
    try:
      self._trim()
      self._cut = True
      while rest:
        rest = rest[os.write(self._handle, rest) :]
      os.fsync(self._handle)
    except OSError as error:
      with contextlib.suppress(OSError):  # else the next line tries again
        os.ftruncate(self._handle, self._size)
        os.fsync(self._handle)
      kind = DiskFull if error.errno in FULL else InputError
      broken = error.errno == errno.EIO
      what = 'look after the disk' if broken else 'free some space'
      raise kind(
        f'{self.path}: cannot be written ({error.strerror or error}), so '
        f'nothing was changed; {what} and try again.'
      ) from error
    self._size += len(data)
    self._seal, self._cut = seal, False

  def _trim(self) -> None:
    """Cuts off what an earlier failure left; refuses what others wrote."""
    ours = os.fstat(self._handle)
    try:
      same = os.path.samestat(os.stat(self.path), ours)
    except FileNotFoundError:
      same = False
    if same and ours.st_size > self._size and self._cut:
      os.ftruncate(self._handle, self._size)
    elif not same or ours.st_size != self._size:
      raise InputError(
        f'{self.path}: was changed by another program during the review; start '
        'the review again.'
      )

  def close(self) -> None:
    """No line is taken any more."""
    if not self.closed:
      self.closed = True
      os.close(self._handle)


def _sync_folder(folder: pathlib.Path) -> None:
  with contextlib.suppress(OSError):  # not every file system can
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)
