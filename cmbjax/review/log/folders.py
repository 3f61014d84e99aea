"""Readers to their folders: who has reviewed what, and who does so now.

Rule: a reader is a folder that one process holds at a time, a case a folder
in it; no name leads anywhere else.
"""

import contextlib
import getpass
import json
import os
import pathlib
import re
import socket
from collections.abc import Iterator, Sequence

import filelock

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.review.log import checks
from cmbjax.review.log.lines import EVENTS

LOCK = '.lock'


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
  # A BIDS label: the mask of this reader has it in its name.
  label = re.sub('[^A-Za-z0-9]', '', name)
  if not label:
    raise InputError(
      f'--rater: {checks.short(name)} has no letter or digit of A-Z, a-z, 0-9.'
    )
  return label


def label_or_login(name: str | None) -> str:
  """The label of a reader; without a name, of who is logged in.

  Raises:
    InputError: no label can be made of the name.
  """
  if name is not None:
    return rater_label(name)
  try:
    return rater_label(getpass.getuser())
  except (OSError, KeyError, ImportError):  # no name for this number
    return 'reader'


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


def readers(root: pathlib.Path) -> list[str]:
  """Labels of those with a journal below `root`, sorted; no merged folders,
  whose names no label can have."""
  found = {path.parts[-3] for path in pathlib.Path(root).glob(f'*/*/{EVENTS}')}
  return sorted(name for name in found if name.isalnum())


def check_raters(
  root: pathlib.Path, raters: Sequence[str], *, least: int = 2
) -> list[str]:
  """The names, sorted, each once.

  Raises:
    InputError: fewer than `least`.
    NoInputError: one has no reviews below `root`.
  """
  names = sorted({rater_label(name) for name in raters})
  if len(names) < least:
    raise InputError(
      f'raters: found {", ".join(names) or "none"}; give at least {least} '
      'different names.'
    )
  known = readers(root)
  for name in names:
    if name not in known:
      listed = ', '.join(known) or 'nobody'
      raise NoInputError(
        f'{root}: {name} has no reviews here; there are those of {listed}.'
      )
  return names


def reader_or_merge(root: pathlib.Path, name: str) -> str:
  """The folder of a reader, or of what `merge.run_merge` wrote.

  Raises:
    NoInputError, InputError: as `check_raters`.
  """
  merged = name.startswith('merge_') and pathlib.Path(name).name == name
  if merged and doors.is_there(root / name / 'merge.json'):
    return name
  (label,) = check_raters(root, [name], least=1)
  return label


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
  except (OSError, NotImplementedError) as error:  # filelock 3: no locks here
    why = getattr(error, 'strerror', None) or error
    raise InputError(
      f'{folder}: cannot be locked ({why}); choose another '
      'place with --reviews.'
    ) from error
  try:
    about = {'pid': os.getpid(), 'host': socket.gethostname()}
    with contextlib.suppress(OSError):  # it only explains, the lock holds
      path.write_text(json.dumps(about))
    yield folder
  finally:
    lock.release()


def _holder(path: pathlib.Path) -> str:
  """Who holds the lock, as its file says; it may say nothing."""
  try:
    about = json.loads(files.read_bytes(path, most=4096))
    return f'process {int(about["pid"])} on {str(about["host"])[:100]}'
  except (InputError, ValueError, KeyError, TypeError):
    return 'in a process that did not say its number'
