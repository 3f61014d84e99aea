"""What a run writes for itself to read back later, with its own digest.

Rule: a file whose digest is missing or differs is never believed. It is made
again with a word, or refused in one sentence. This is against damage, copies
and edits by hand, not against somebody who computes a new digest.
"""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmbjax import doors, files
from cmbjax.errors import InputError

if TYPE_CHECKING:  # `--help` does without
  import numpy as np

SEAL = 'sha256'  # the key of a sealed file that holds its digest


def write_json(path: str | os.PathLike, value: Mapping[str, Any]) -> None:
  """Writes a JSON object with its digest, for `read_json`."""
  plain = json.loads(json.dumps(value))  # keys and tuples as they come back
  files.write_json(path, plain | {SEAL: _digest(path, plain)})


def read_json(path: str | os.PathLike) -> dict[str, Any]:
  """The JSON object that `write_json` wrote, without its digest.

  Raises:
    InputError: as `files.read_object`, or its digest is missing or differs.
  """
  found = files.read_object(path)
  _check(path, found.pop(SEAL, None), _digest(path, found))
  return found


def write_arrays(
  path: str | os.PathLike, arrays: Mapping[str, 'np.ndarray']
) -> None:
  """Writes arrays by name, no objects, as `.npz` for `read_arrays`."""
  import numpy as np

  known = {name: np.asarray(array) for name, array in arrays.items()}
  seal = np.array(_digest_of_arrays(path, known))
  with files.whole(path) as temporary, temporary.open('wb') as handle:
    np.savez(handle, **known, **{SEAL: seal})


def read_arrays(path: str | os.PathLike) -> dict[str, 'np.ndarray']:
  """The arrays that `write_arrays` wrote, without their digest.

  Raises:
    InputError: as `files.read_arrays`, or their digest is missing or differs.
  """
  found = files.read_arrays(path)
  seal = found.pop(SEAL, None)
  _check(
    path, None if seal is None else str(seal), _digest_of_arrays(path, found)
  )
  return found


def write_list(
  path: str | os.PathLike,
  members: Mapping[str, str | os.PathLike],
  **facts: Any,
) -> None:
  """Writes the SHA-256 of some files to `path`, for `damage`.

  Args:
    path: of the list.
    members: name in the list, relative to a folder, to the file itself.
    **facts: what else the list shall say.

  Raises:
    InputError: one of them cannot be read.
  """
  sums = {name: sha256(member) for name, member in members.items()}
  write_json(path, {**facts, 'files': sums})


def damage(path: str | os.PathLike, folder: str | os.PathLike) -> str:
  """What is wrong with files of which `write_list` wrote a list.

  Args:
    path: of the list.
    folder: that the names in it are relative to.

  Returns:
    The first thing that is wrong, in words without a full stop; '' where all
    files are as they were.

  Raises:
    InputError: one of them cannot be read.
  """
  try:
    listed = read_json(path)['files']
  except InputError:
    return f'{pathlib.Path(path).name} is missing or damaged'
  except KeyError:
    return f'{pathlib.Path(path).name} lists no files: another version wrote it'
  for name, wanted in listed.items():
    member = pathlib.Path(folder, name)
    if not member.is_file():
      return f'{name} is missing'
    if sha256(member) != wanted:
      return f'{name} was changed'
  return ''


def sha256(path: str | os.PathLike) -> str:
  """64 hex digits over the content of a file, read once while it is the same.

  Raises:
    InputError: it cannot be read.
  """
  with doors.open_file(path) as handle:
    state = os.fstat(handle.fileno())
  return _sha256(
    os.path.abspath(path), state.st_ino, state.st_size, state.st_ctime_ns
  )


@functools.cache
def _sha256(path: str, inode: int, size: int, changed_ns: int) -> str:
  """All but the path are there to notice another content."""
  with doors.open_file(path) as handle:
    return hashlib.file_digest(handle, 'sha256').hexdigest()


def _digest(path, value) -> str:
  # With its name: a file that is copied over another one is noticed.
  return files.digest(pathlib.Path(path).name, value)


def _digest_of_arrays(path, arrays) -> str:
  import numpy as np

  parts: list[Any] = [pathlib.Path(path).name]
  for name in sorted(arrays):  # an archive keeps no order
    array = np.ascontiguousarray(arrays[name])
    parts += [[name, array.dtype.str, array.shape], array.tobytes()]
  return files.digest(*parts)


def _check(path, found: str | None, wanted: str) -> None:
  if found != wanted:
    what = 'has no digest' if found is None else 'differs from its digest'
    raise InputError(
      f'{path}: {what}, so it is not what was written; make or copy it again.'
    )
