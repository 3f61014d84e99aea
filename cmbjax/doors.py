"""A path that somebody gave to an open file, or one sentence why not.

Rule: every file that is read comes through here. It is an ordinary file, so
that reading it ends, and it holds its content and not a pointer to it.
"""

import errno
import os
import pathlib
import re
import stat
from typing import BinaryIO

from cmbjax.errors import InputError

_KINDS = (
  (stat.S_ISDIR, 'a folder'),
  (stat.S_ISFIFO, 'a pipe'),
  (stat.S_ISSOCK, 'a socket'),
  (stat.S_ISBLK, 'a device'),
  (stat.S_ISCHR, 'a device'),
)
# What is in the place of a file whose content was not fetched: Git LFS,
# git-annex where it is unlocked, and its links on a disk without links.
_LFS = b'version https://git-lfs.github.com/spec/'
_ANNEX = re.compile(rb'(/annex/objects/|(\.\./)*\.git/annex/objects/)')
_MOST_POINTER = 32 * 1024  # bytes; git-annex reads no longer ones as pointers


def open_file(path: str | os.PathLike) -> BinaryIO:
  """An ordinary file, open for reading bytes.

  Raises:
    InputError: it is missing or unreadable; a folder, pipe, socket or device;
      a link to nothing; or a pointer of git-annex or Git LFS.
  """
  try:
    # First: to open a device may do something to it.
    refuse_others(path, os.stat(path))
    # Without O_NONBLOCK, opening a pipe waits for somebody to write.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
  except InputError:
    raise
  except (OSError, ValueError) as error:  # ValueError: a NUL in the name
    raise InputError(f'{path}: {_why(path, error)}.') from error
  try:
    state = os.fstat(handle)
    refuse_others(path, state)  # it may be another one by now
    if state.st_size <= _MOST_POINTER:
      _refuse_pointer(path, os.pread(handle, 200, 0))
  except OSError as error:
    os.close(handle)
    raise InputError(f'{path}: {_why(path, error)}.') from error
  except InputError:
    os.close(handle)
    raise
  return open(handle, 'rb')


def is_there(path: str | os.PathLike) -> bool:
  """Whether something has this name, whatever it is.

  A file that one may do without is missing where nothing has its name. A link
  to nothing, or a pipe, is a mistake that whoever reads it then names.

  Raises:
    InputError: it cannot be known.
  """
  try:
    os.lstat(path)
  except (FileNotFoundError, NotADirectoryError):
    return False
  except (OSError, ValueError) as error:
    raise InputError(f'{path}: {_why(path, error)}.') from error
  return True


def state_of(path: str | os.PathLike) -> os.stat_result:
  """Size and times of an ordinary file.

  Raises:
    InputError: as `open_file`.
  """
  with open_file(path) as handle:
    return os.fstat(handle.fileno())


def refuse_others(path: str | os.PathLike, state: os.stat_result) -> None:
  """Refuses what is not an ordinary file.

  Raises:
    InputError: says what it is.
  """
  if not stat.S_ISREG(state.st_mode):
    kind = next((word for is_it, word in _KINDS if is_it(state.st_mode)),
                'something else')  # fmt: skip
    raise InputError(
      f'{path}: cannot be read, it is {kind}; give an ordinary file.'
    )


def _refuse_pointer(path, start: bytes) -> None:
  if start.startswith(_LFS):
    what, get = 'Git LFS', '`git lfs pull`'
  elif _ANNEX.match(start):
    what, get = 'git-annex', '`datalad get` or `git annex get`'
  else:
    return
  raise InputError(
    f'{path}: holds a pointer of {what} instead of its content; get that with '
    f'{get}.'
  )


def _why(path, error: OSError | ValueError) -> str:
  """Why it could not be opened, and what to do."""
  if getattr(error, 'errno', None) == errno.ENOENT and os.path.islink(path):
    target = pathlib.PurePath(os.readlink(path))
    if 'annex' in target.parts:
      return (
        'is a link of git-annex, and its content is not here; get it with '
        '`datalad get` or `git annex get`'
      )
    return f'is a link to {target}, which is missing; copy the file itself'
  return f'cannot be read ({getattr(error, "strerror", None) or error})'
