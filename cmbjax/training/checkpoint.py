"""Training state and weights on disk, through orbax.

Rule: what is read is what was written. Beside each folder of arrays is a list
with the hash of every file, which is written last: `weights.json`, or
`epoch-NNNN.json`. Arrays whose list is missing or does not agree are never
loaded.
"""

import contextlib
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from cmbjax import doors, sealed
from cmbjax.errors import InputError, NoInputError
from cmbjax.training import hosts
from cmbjax.training.replicas import Weights

HALF = 'half'  # of `precision` in weights.json
_BESIDE_BYTES = 1 << 18  # names, shapes and places of the arrays


class Restored(NamedTuple):
  """The state where an epoch begins, or is resumed; leaves are numpy."""

  epoch: int
  state: Any


class Checkpoints:
  """The last two states of some jobs, each in `epoch-NNNN`.

  With several processes the first one writes and all read, so the folder has
  to be one that all of them see.

  Args:
    folder: of these jobs only.
    fingerprint: of everything that decides its numbers; epochs with another
      one are removed.
    keep: epochs to keep; with two, the newest one may be damaged.
  """

  def __init__(self, folder: pathlib.Path, *, fingerprint: str, keep: int = 2):
    self._folder = pathlib.Path(folder).absolute()
    self._fingerprint = fingerprint
    self._keep = keep

  def save(self, epoch: int, state: Any) -> None:
    """Saves the state where `epoch` begins, then drops the oldest ones."""
    head = {'epoch': epoch, 'fingerprint': self._fingerprint}
    _save(self._folder / f'epoch-{epoch:04d}', state, head)
    if hosts.is_writer():
      for old in self._epochs()[self._keep :]:
        _remove(old)

  def restore(self, like: Any) -> Restored | None:
    """The newest whole epoch, or None.

    Args:
      like: a state of numpy arrays, with the names, shapes and types to
        expect. How many devices there were or are does not matter.
    """
    found, useless = None, []
    for folder in self._epochs():
      head = _head(folder)
      if found is None and head.get('fingerprint') == self._fingerprint:
        if not sealed.damage(_list_of(folder), folder):
          found = Restored(head['epoch'], _load(folder, like))
          continue
        if hosts.is_writer():
          print(
            f'{folder}: is damaged; going back to the epoch before.',
            file=sys.stderr,
          )
      if found is None:  # of another job, or cut short, or damaged
        useless.append(folder)
    # Nobody removes what another process has still to look at.
    hosts.barrier('all have looked')
    if hosts.is_writer():
      # What a kill leaves of a save has a name of Orbax's own.
      for folder in (*useless, *self._folder.glob('epoch-*-tmp*')):
        _remove(folder)
    return found

  def _epochs(self) -> list[pathlib.Path]:
    """Newest first, by number: names sort alike only up to epoch 9999."""
    number = {
      folder: folder.name.removeprefix('epoch-')
      for folder in self._folder.glob('epoch-*')
    }
    known = (folder for folder, text in number.items() if text.isdecimal())
    return sorted(known, key=lambda folder: int(number[folder]), reverse=True)


def fingerprints(folder: pathlib.Path) -> set[str]:
  """Whose epochs are below a folder of checkpoints."""
  epochs = pathlib.Path(folder).glob('epoch-*.json')
  heads = (_head(path.with_suffix('')) for path in epochs)
  return {head['fingerprint'] for head in heads if 'fingerprint' in head}


def save_weights(folder: pathlib.Path, weights: Weights, record: dict) -> None:
  """Writes `weights/`, an Orbax checkpoint, then `weights.json`.

  Args:
    folder: `models/NAME`.
    weights: leaves [R, ...].
    record: content of `weights.json`, see `read_record`.
  """
  _save(pathlib.Path(folder).absolute() / 'weights', weights._asdict(), record)


def read_record(folder: pathlib.Path) -> dict:
  """`weights.json` of a weights folder.

  Raises:
    NoInputError: the folder does not exist, or holds no weights.
    InputError: it is not what was written.
  """
  path = _list_of(pathlib.Path(folder) / 'weights')
  if not doors.is_there(path):
    raise NoInputError(
      f'{folder}: holds no weights (weights.json is missing); give the '
      '`models/NAME` folder of a finished run.'
    )
  record = sealed.read_json(path)
  record.pop('files', None)
  return record


def check_weights(folder: pathlib.Path) -> None:
  """Compares the hashes of a weights folder, without reading its arrays.

  Raises:
    InputError: a file is missing or is not what was written.
  """
  inside = pathlib.Path(folder) / 'weights'
  if found := sealed.damage(_list_of(inside), inside):
    raise InputError(
      f'{folder}: its weights are damaged ({found}); copy the folder again, '
      'install cmbjax again where they came with it, or train again.'
    )


def load_weights(folder: pathlib.Path) -> Weights:
  """All arrays of a weights folder as numpy, with their own shapes.

  The bundled ones are stored in half precision, see `weights.pack`, and are
  returned in single precision as all others.

  Raises:
    InputError: a file is missing or is not what was written.
  """
  check_weights(folder)
  path = pathlib.Path(folder).absolute() / 'weights'
  with _orbax() as orbax:
    known = orbax.metadata(path).metadata
  weights = Weights(**_load(path, known))
  if read_record(folder).get('precision') == HALF:
    weights = jax.tree.map(lambda leaf: leaf.astype(np.float32), weights)
  return weights


def _save(folder: pathlib.Path, tree: Any, head: dict) -> None:
  """Arrays first, then the list of their hashes that makes them count.

  All processes have to call it, because orbax makes them wait for each other;
  the first one writes.
  """
  try:
    if hosts.is_writer():
      _remove(folder)
      folder.parent.mkdir(parents=True, exist_ok=True)
      _check_room(folder.parent, tree)
    hosts.barrier('the folder is there')
    with _orbax() as orbax:
      orbax.save(folder, tree)
  except (OSError, ValueError) as error:
    reason = _reason(error)
    if reason is None:
      raise
    if hosts.is_writer():  # a full disk needs what was written of it
      with contextlib.suppress(OSError):  # what is in the way may stay
        _remove(folder)
    raise InputError(
      f'{folder}: cannot be written ({reason}); free some space or choose '
      'another folder. What was saved before is whole: run it again to go on.'
    ) from error
  if hosts.is_writer():
    # It says where the folder was on this machine, and nothing reads it.
    (folder / 'commit_success.txt').unlink(missing_ok=True)
    inside = (path for path in sorted(folder.rglob('*')) if path.is_file())
    members = {str(path.relative_to(folder)): path for path in inside}
    sealed.write_list(_list_of(folder), members, **head)
  hosts.barrier('the list is there')


def _list_of(folder: pathlib.Path) -> pathlib.Path:
  """`weights.json` beside `weights/`, `epoch-0003.json` beside its folder."""
  return folder.with_name(f'{folder.name}.json')


def _remove(folder: pathlib.Path) -> None:
  """Arrays that a kill leaves without their list count for nothing."""
  _list_of(folder).unlink(missing_ok=True)
  shutil.rmtree(folder, ignore_errors=True)


def _check_room(folder: pathlib.Path, tree: Any) -> None:
  """Reserves what the arrays need, and gives it back.

  TensorStore writes many files at once; where the disk ends among them, it
  prints a traceback of each.

  Raises:
    OSError: there is not so much room.
  """
  if not hasattr(os, 'posix_fallocate'):  # macOS
    return
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + _BESIDE_BYTES
  with tempfile.TemporaryFile(dir=folder) as handle:
    os.posix_fallocate(handle.fileno(), 0, size)


def _reason(error: Exception) -> str | None:
  """What the system said; None for an error that is not about files."""
  if isinstance(error, OSError):
    return error.strerror or str(error)
  # TensorStore hides it in the text of a ValueError.
  code = re.search(r"os_error_code='(\d+)'", str(error))
  return os.strerror(int(code.group(1))) if code else None


def _head(folder: pathlib.Path) -> dict:
  """Epoch and fingerprint of a checkpoint; empty where it does not count."""
  try:
    return sealed.read_json(_list_of(folder))
  except InputError:
    return {}


def _load(path: pathlib.Path, like: Any) -> Any:
  target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
  with _orbax() as orbax:
    return orbax.load(path, target)


@contextlib.contextmanager
def _orbax() -> Iterator[Any]:
  """Orbax without its reports: ours is one line per epoch.

  Imported late, because it takes half a second; nobody else imports it.
  """
  from orbax.checkpoint import v1

  before = logging.get_verbosity()
  logging.set_verbosity(min(before, logging.ERROR))
  try:
    yield v1
  finally:
    logging.set_verbosity(before)
