"""Files that are either whole or absent.

Rule: nobody ever sees a half written file under its final name: write to a
temporary name in the same folder, fsync, rename.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from cmbjax.errors import InputError


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a temporary path; on success it becomes `path`, else it vanishes.

  Args:
    path: final name. Missing parent folders are made.

  Raises:
    InputError: when the folder cannot be written or the disk is full.
  """
  path = pathlib.Path(path)
  temporary = None
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because writers choose their format by it.
    handle, name = tempfile.mkstemp(
      prefix='.partial-', suffix=path.name, dir=path.parent
    )
    os.close(handle)
    temporary = pathlib.Path(name)
    yield temporary
    _sync(temporary)
    os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes 0600
    os.replace(temporary, path)
  except OSError as error:
    # Only our own writing; an error about another file passes unchanged.
    about = getattr(error, 'filename', None)
    # tempfile names it absolutely, we perhaps not.
    home = os.path.abspath(path.parent)
    if about is not None and not os.path.abspath(about).startswith(home):
      raise
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    raise InputError(
      f'{path}: cannot be written ({error.strerror or error}); '
      + ('free some space.' if full else 'choose another place.')
    ) from error
  finally:
    if temporary is not None:
      temporary.unlink(missing_ok=True)


def make_folder(path: str | os.PathLike) -> pathlib.Path:
  """The folder, made when missing.

  Raises:
    InputError: it is no folder, or cannot be made.
  """
  path = pathlib.Path(path)
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(
      f'{path}: cannot be used as a folder ({error.strerror or error}); '
      'choose another one.'
    ) from error
  return path


@contextlib.contextmanager
def alone_in(folder: str | os.PathLike) -> Iterator[None]:
  """Holds a folder; the system lets go when the process ends, however.

  Raises:
    InputError: another process holds it, or it cannot be written.
  """
  path = make_folder(folder) / '.lock'
  try:
    handle = path.open('w')
  except OSError as error:
    raise InputError(
      f'{folder}: cannot be written ({error.strerror}); choose another one.'
    ) from error
  with handle:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise InputError(
        f'{folder}: another run is using it; wait for it, or give another '
        '--workdir.'
      ) from error
    yield


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
  """Writes `data` to `path`, whole or not at all."""
  with whole(path) as temporary:
    temporary.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes UTF-8 `text` to `path`, whole or not at all."""
  write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value` as readable JSON; NaN is refused, keys keep their order."""
  text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
  write_text(path, text + '\n')


def read_json(path: str | os.PathLike) -> Any:
  """Reads one JSON file.

  Raises:
    InputError: when it is missing, unreadable or not JSON.
  """
  try:
    return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror}).') from error
  except (ValueError, RecursionError) as error:  # or nested too deeply
    raise InputError(f'{path}: is not valid JSON ({error}).') from error


def digest(*parts: Any) -> str:
  """16 hex digits of SHA-256 over bytes, paths (their content) or JSON."""
  sha = hashlib.sha256()
  for part in parts:
    if isinstance(part, pathlib.Path):
      with part.open('rb') as handle:
        data = hashlib.file_digest(handle, 'sha256').digest()
    elif isinstance(part, bytes):
      data = part
    else:
      data = json.dumps(part, sort_keys=True).encode()
    sha.update(len(data).to_bytes(8, 'little') + data)
  return sha.hexdigest()[:16]


def _sync(path: pathlib.Path) -> None:
  with path.open('rb') as handle:
    os.fsync(handle.fileno())


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask
