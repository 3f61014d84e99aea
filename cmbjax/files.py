"""Files that are either whole or absent.

Rule: nobody ever sees a half written file under its final name: write to a
temporary name in the same folder, fsync, rename. What is read comes through
`doors` and has a sensible size, or one sentence says why not.
"""

import contextlib
import contextvars
import errno
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cmbjax.doors import open_file
from cmbjax.errors import InputError, shown

if TYPE_CHECKING:  # `--help` does without
  import numpy as np

MOST_BYTES = 1 << 28  # of a text; the largest of ours have a tenth of it
MOST_UNPACKED = 1 << 32  # of an array file

# Temporary to final name of what is written inside `together`.
_WAITING: contextvars.ContextVar[dict | None] = contextvars.ContextVar(
  'waiting', default=None
)
# Whatever zipfile and numpy make of a damaged file.
_NO_ARRAYS = (
  OSError,
  EOFError,
  KeyError,
  ValueError,
  TypeError,
  SyntaxError,
  MemoryError,
  OverflowError,
  RuntimeError,  # encrypted, or a compression that is not known
  AttributeError,
  tokenize.TokenError,
  zlib.error,
  zipfile.BadZipFile,
)


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
    temporary = _temporary(path)
    try:
      yield temporary
    except OSError as error:
      # Only our own writing; an error about other files passes unchanged.
      if not _is_in(path.parent, error):
        raise
      raise _not_written(path, error) from error
    with _written(path):
      _sync(temporary)  # before the name: a crash must not leave it empty
      os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes 0600
      waiting = _WAITING.get()
      if waiting is None:
        os.replace(temporary, path)
      else:
        waiting[temporary] = path
        temporary = None
  finally:
    if temporary is not None:
      temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Files that are written inside get their names at its end, or none does.

  What is written inside cannot be read there.

  Raises:
    InputError: as `whole`.
  """
  if _WAITING.get() is not None:  # the outer one decides
    yield
    return
  waiting: dict[pathlib.Path, pathlib.Path] = {}
  token = _WAITING.set(waiting)
  try:
    yield
    for temporary, path in waiting.items():
      with _written(path):
        os.replace(temporary, path)
  finally:
    _WAITING.reset(token)
    for temporary in waiting:
      temporary.unlink(missing_ok=True)


def make_folder(path: str | os.PathLike) -> pathlib.Path:
  """The folder, made when missing.

  Raises:
    InputError: it is not a folder, or cannot be made.
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
def new_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """A folder beside `path` that becomes it when all went well.

  Raises:
    InputError: it is there already, and not empty, or cannot be written.
  """
  out = pathlib.Path(path)
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise InputError(f'{out}: is there already; name a new folder.')
  for stale in out.parent.glob(f'.partial-{out.name}-*'):
    shutil.rmtree(stale, ignore_errors=True)  # of a run that was killed
  work = make_folder(out.parent / f'.partial-{out.name}-{os.getpid()}')
  try:
    yield work
    try:
      os.replace(work, out)
    except OSError as error:
      raise _not_written(out, error) from error
  finally:
    shutil.rmtree(work, ignore_errors=True)


def check_place(path: str | os.PathLike, *, utf8: bool = False) -> None:
  """Refuses a folder that could not be written to, before work is done for it.

  Args:
    path: where work would go; nothing is made there.
    utf8: libraries will write there that know no other names.

  Raises:
    InputError: it, or the nearest folder above that is there, says no.
  """
  places = (place := pathlib.Path(path).absolute(), *place.parents)
  above = next(p for p in places if os.path.lexists(p))
  if not above.is_dir():
    why = f'used as a folder ({above} is a file)'
  elif not os.access(above, os.W_OK | os.X_OK):
    why = f'written ({above} may not be written to)'
  elif utf8 and any('\ud800' <= sign <= '\udfff' for sign in str(place)):
    why = 'written (its name is not UTF-8)'
  else:
    return
  raise InputError(f'{path}: cannot be {why}; choose another place.')


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
  """Writes `data` to `path`, whole or not at all."""
  with whole(path) as temporary:
    temporary.write_bytes(data)


def copy(source: str | os.PathLike, path: str | os.PathLike) -> None:
  """Copies the content of an ordinary file, whole or not at all.

  Raises:
    InputError: `source` cannot be read, or `path` not be written.
  """
  with (
    open_file(source) as given,
    whole(path) as temporary,
    temporary.open('wb') as taken,
  ):
    shutil.copyfileobj(given, taken, 1 << 20)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes UTF-8 `text` to `path`, whole or not at all.

  Half a character, as the name of a file of an old disk may hold, is written
  as its escape; JSON reads that back.
  """
  write_bytes(path, text.encode(errors='backslashreplace'))


def append_text(path: str | os.PathLike, text: str) -> None:
  """Appends UTF-8 text, on the disk when this returns.

  Raises:
    InputError: the file cannot be written or the disk is full; a part of
      `text` may be there.
  """
  try:
    with open(path, 'ab') as handle:
      handle.write(text.encode(errors='backslashreplace'))
      handle.flush()
      os.fsync(handle.fileno())
  except OSError as error:
    raise InputError(
      f'{path}: cannot be written ({error.strerror or error}); free some space '
      'or choose another folder.'
    ) from error


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value` as readable JSON; NaN is refused, keys keep their order."""
  text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
  write_text(path, text + '\n')


def read_bytes(path: str | os.PathLike, *, most: int = MOST_BYTES) -> bytes:
  """The content of an ordinary file.

  Raises:
    InputError: it cannot be read, or holds more than `most` bytes.
  """
  with open_file(path) as handle:
    try:
      data = handle.read(most + 1)
    except OSError as error:
      raise InputError(f'{path}: cannot be read ({error.strerror}).') from error
  if len(data) > most:
    raise InputError(
      f'{path}: holds more than {most >> 20} MiB, which no file of its kind '
      'does; check that it is the right one.'
    )
  return data


def read_text(path: str | os.PathLike, *, most: int = MOST_BYTES) -> str:
  """The UTF-8 text of a file; a byte order mark goes.

  Raises:
    InputError: as `read_bytes`, or it is not UTF-8.
  """
  try:
    return read_bytes(path, most=most).decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise InputError(
      f'{path}: cannot be read as UTF-8 text (byte {error.start} is '
      f'0x{error.object[error.start]:02x}); save it as UTF-8.'
    ) from error


def is_hidden(path: pathlib.Path) -> bool:
  """Of no person: macOS lays '._NAME' beside each NAME on a foreign disk."""
  return path.name.startswith('.')


def is_number(value: Any) -> bool:
  """Whether a value of JSON is a number that a float can hold.

  JSON knows whole numbers of any length; NaN and infinity are none.
  """
  return type(value) in (int, float) and abs(value) <= sys.float_info.max


def read_json(path: str | os.PathLike) -> Any:
  """Reads one JSON file.

  Raises:
    InputError: when it is missing, unreadable or not JSON.
  """
  text = read_text(path)
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:  # or nested too deeply
    raise InputError(f'{path}: is not valid JSON ({error}).') from error


def read_object(path: str | os.PathLike) -> dict[str, Any]:
  """Reads one JSON file that holds an object, `{...}`.

  Raises:
    InputError: as `read_json`, or it holds something else.
  """
  found = read_json(path)
  if not isinstance(found, dict):
    raise InputError(
      f'{path}: holds a {type(found).__name__}, expected a JSON object.'
    )
  return found


def read_arrays(path: str | os.PathLike) -> dict[str, 'np.ndarray']:
  """All arrays of an `.npz` file, by name.

  Raises:
    InputError: it is missing, damaged, or unpacks to far too much.
  """
  import numpy as np

  with open_file(path) as handle:
    try:
      with zipfile.ZipFile(handle) as members:
        size = sum(member.file_size for member in members.infolist())
      if size > MOST_UNPACKED:
        raise ValueError(f'it would unpack to {size:,} bytes')
      handle.seek(0)
      with np.load(handle, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
      for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # a member of another kind
          raise ValueError(f'{name} is no array')
      return arrays
    except _NO_ARRAYS as error:
      reason = shown(error) or type(error).__name__
      raise InputError(
        f'{path}: is no file of arrays, or a damaged one ({reason}); make or '
        'copy it again.'
      ) from error


def digest(*parts: Any) -> str:
  """16 hex digits of SHA-256 over bytes, paths (their content) or JSON.

  Raises:
    InputError: a path cannot be read.
  """
  sha = hashlib.sha256()
  for part in parts:
    if isinstance(part, pathlib.Path):
      with open_file(part) as handle:
        data = hashlib.file_digest(handle, 'sha256').digest()
    elif isinstance(part, bytes):
      data = part
    else:
      data = json.dumps(part, sort_keys=True).encode()
    sha.update(len(data).to_bytes(8, 'little') + data)
  return sha.hexdigest()[:16]


def _temporary(path: pathlib.Path) -> pathlib.Path:
  """A new file beside `path`."""
  with _written(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because writers choose their format by it.
    handle, name = tempfile.mkstemp(
      prefix='.partial-', suffix=path.name, dir=path.parent
    )
    os.close(handle)
  return pathlib.Path(name)


@contextlib.contextmanager
def _written(path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise _not_written(path, error) from error


def _not_written(path, error: OSError) -> InputError:
  full = error.errno in (errno.ENOSPC, errno.EDQUOT)
  return InputError(
    f'{path}: cannot be written ({error.strerror or error}); '
    + ('free some space.' if full else 'choose another place.')
  )


def _is_in(folder: pathlib.Path, error: OSError) -> bool:
  """Whether an error names files of a folder, or none."""
  named = [n for n in (error.filename, error.filename2) if n is not None]
  # tempfile names it absolutely, we perhaps not; a copy names both.
  home = os.path.abspath(folder)
  return not named or any(os.path.abspath(n).startswith(home) for n in named)


def _sync(path: pathlib.Path) -> None:
  with path.open('rb') as handle:
    os.fsync(handle.fileno())


def _umask() -> int:
  mask = os.umask(0)  # there is no way to ask without setting it
  os.umask(mask)
  return mask
