"""Training state and weights on disk, through orbax.

Rule: what is read is what was written. Every folder of arrays has a manifest
with the hash of each file, written last; a folder whose manifest is missing or
does not agree is never loaded.
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

from cmbjax import files, sealed
from cmbjax.errors import InputError, NoInputError
from cmbjax.training import hosts, packed
from cmbjax.training.replicas import Weights

_MANIFEST = 'manifest.json'
_ARRAYS = 'arrays'
_BESIDE_BYTES = 1 << 18  # names, shapes and places of the arrays


class Restored(NamedTuple):
  """The state where an epoch begins, or goes on; leaves are numpy."""

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
    keep: epochs to keep.
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
        shutil.rmtree(old)

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
        if _whole(folder, head):
          state = _load(folder / _ARRAYS, like)
          found = Restored(head['epoch'], state)
          continue
        if hosts.is_writer():
          print(
            f'{folder}: is damaged; going back to the epoch before.',
            file=sys.stderr,
          )
      if found is None:  # of another job, or cut short, or damaged
        useless.append(folder)
    hosts.barrier('all have looked')
    if hosts.is_writer():
      for folder in useless:
        shutil.rmtree(folder)
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
  heads = (_head(epoch) for epoch in pathlib.Path(folder).glob('epoch-*'))
  return {head['fingerprint'] for head in heads if 'fingerprint' in head}


def save_weights(folder: pathlib.Path, weights: Weights, record: dict) -> None:
  """Writes `weights` [R, ...] and `weights.json`; the JSON comes last.

  Args:
    folder: `models/NAME`.
    weights: leaves [R, ...].
    record: content of `weights.json`, see `read_record`.
  """
  folder = pathlib.Path(folder).absolute()
  if hosts.is_writer():
    (folder / 'weights.json').unlink(missing_ok=True)
  _save(folder / 'weights', weights._asdict(), {})
  if hosts.is_writer():
    sealed.write_json(folder / 'weights.json', record)
  hosts.barrier('weights are there')


def read_record(folder: pathlib.Path) -> dict:
  """`weights.json` of a weights folder.

  Raises:
    NoInputError: there is no such folder, or it holds no weights.
  """
  path = pathlib.Path(folder) / 'weights.json'
  if not path.is_file():
    raise NoInputError(
      f'{folder}: holds no weights (weights.json is missing); give the '
      '`models/NAME` folder of a finished run.'
    )
  found = files.read_object(path)
  if sealed.SEAL in found:  # packed weights have SHA256SUMS instead
    found = sealed.read_json(path)
  missing = [
    key
    for key in ('model', 'subjects', 'replicas', 'fingerprint')
    if key not in found
  ]
  if missing:
    raise InputError(
      f'{path}: has no {missing[0]!r}; copy the folder or train again.'
    )
  return found


def check_weights(folder: pathlib.Path) -> None:
  """Compares the hashes of a weights folder, without reading its arrays.

  Raises:
    InputError: a file is missing or is not what was written.
  """
  if packed.is_packed(folder):
    packed.check(folder)
    return
  inside = pathlib.Path(folder).absolute() / 'weights'
  if not _whole(inside, _head(inside)):
    raise InputError(
      f'{folder}: its weights are damaged (a file is missing or differs from '
      'its hash); copy the folder or train again.'
    )


def load_weights(folder: pathlib.Path) -> Weights:
  """All arrays of a weights folder as numpy, with their own shapes.

  Raises:
    InputError: a file is missing or is not what was written.
  """
  if packed.is_packed(folder):
    return packed.load(folder)
  check_weights(folder)
  inside = pathlib.Path(folder).absolute() / 'weights'
  with _orbax() as orbax:
    known = orbax.metadata(inside / _ARRAYS).metadata
  tree = _load(inside / _ARRAYS, known)
  return Weights(tree['params'], tree['batch_stats'])


def _save(folder: pathlib.Path, tree: Any, head: dict) -> None:
  """Arrays first, then the manifest that makes them count.

  All processes have to call it, because orbax makes them wait for each other;
  the first one writes.
  """
  try:
    if hosts.is_writer():
      if folder.exists():
        shutil.rmtree(folder)
      folder.mkdir(parents=True)
      _check_room(folder, tree)
    hosts.barrier('the folder is there')
    with _orbax() as orbax:
      orbax.save(folder / _ARRAYS, tree)
  except (OSError, ValueError) as error:
    reason = _reason(error)
    if reason is None:
      raise
    if hosts.is_writer():  # a full disk needs what was written of it
      shutil.rmtree(folder, ignore_errors=True)
    raise InputError(
      f'{folder}: cannot be written ({reason}); free some space or choose '
      'another folder. What was saved before is whole: run it again to go on.'
    ) from error
  if hosts.is_writer():
    files.write_json(folder / _MANIFEST, {**head, 'files': _hashes(folder)})
  hosts.barrier('the manifest is there')


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
  try:
    return files.read_object(folder / _MANIFEST)
  except InputError:
    return {}


def _whole(folder: pathlib.Path, head: dict) -> bool:
  return 'files' in head and head['files'] == _hashes(folder)


def _hashes(folder: pathlib.Path) -> dict[str, str]:
  inside = folder / _ARRAYS
  return {
    str(path.relative_to(inside)): files.digest(path)
    for path in sorted(inside.rglob('*'))
    if path.is_file()
  }


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
