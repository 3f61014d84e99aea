"""Training state and weights on disk, through orbax.

Rule: only this file imports orbax, and every restore names the shapes that it
expects, so that nothing comes back in another shape than it was saved in.
"""

import logging
import math
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging as absl_logging
from orbax.checkpoint import v1 as ocp

from cmbjax import files
from cmbjax.errors import InputError, NoInputError
from cmbjax.training.replicas import Weights

_KEEP = ocp.training.preservation_policies
_WHEN = ocp.training.save_decision_policies

# Orbax reports every step of every save; ours is one line per epoch.
absl_logging.set_verbosity(absl_logging.ERROR)
logging.getLogger('orbax').setLevel(logging.ERROR)


class Restored(NamedTuple):
  """A saved epoch: the tree, and the JSON beside it."""

  state: Any
  meta: dict


class Checkpoints:
  """The last two epochs of one job; use it as a context manager.

  Args:
    folder: of this job only.
    fingerprint: of everything that decides its numbers; a checkpoint with
      another one is not resumed but refused.
  """

  def __init__(self, folder: pathlib.Path, *, fingerprint: str):
    self._folder = pathlib.Path(folder).absolute()
    self._fingerprint = fingerprint
    self._open = None

  def __enter__(self) -> 'Checkpoints':
    self._folder.mkdir(parents=True, exist_ok=True)
    self._open = ocp.training.Checkpointer(
      self._folder,
      save_decision_policy=_WHEN.FixedIntervalPolicy(1),
      preservation_policy=_KEEP.LatestN(2),
      cleanup_tmp_directories=True,
    )
    return self

  def __exit__(self, *error) -> None:
    self._open.close()

  def save(self, epoch: int, state: Any, meta: dict, *, value: float) -> None:
    """Saves in the background; `value` is only shown by other tools."""
    value = float(value) if math.isfinite(value) else math.inf
    saved = self._open.save_checkpointables_async(
      epoch,
      {'state': state, 'meta': {**meta, 'fingerprint': self._fingerprint}},
      metrics={'val_loss': value},
    )
    if saved is None:  # orbax drops a step that is not newer, silently
      raise RuntimeError(f'{self._folder}: epoch {epoch} was not saved.')

  def restore(self, like: Any) -> Restored | None:
    """The newest whole epoch, or None. `like` gives names and shapes."""
    target = jax.tree.map(_abstract, like)
    found = sorted(self._open.checkpoints, key=lambda c: -c.step)
    for checkpoint in found:
      try:
        out = self._open.load_checkpointables(
          checkpoint, {'state': target, 'meta': None}
        )
      except (OSError, ValueError, KeyError) as error:
        absl_logging.error(
          '%s: epoch %d is damaged (%s); trying the one before.',
          self._folder,
          checkpoint.step,
          type(error).__name__,
        )
        continue
      if out['meta']['fingerprint'] != self._fingerprint:
        return None
      return Restored(out['state'], out['meta'])
    return None


def save_weights(folder: pathlib.Path, weights: Weights, record: dict) -> None:
  """Writes `weights` [R, ...] and `weights.json`; the JSON comes last."""
  folder = pathlib.Path(folder).absolute()
  folder.mkdir(parents=True, exist_ok=True)
  ocp.save(folder / 'orbax', weights._asdict(), overwrite=True)
  files.write_json(folder / 'weights.json', record)


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
  return files.read_json(path)


def load_weights(folder: pathlib.Path) -> Weights:
  """All arrays of a weights folder as numpy, with their own shapes.

  Raises:
    InputError: the arrays are missing or damaged.
  """
  path = pathlib.Path(folder).absolute() / 'orbax'
  try:
    known = ocp.metadata(path).metadata
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), known)
    tree = ocp.load(path, target)
  except (OSError, ValueError, KeyError) as error:
    raise InputError(
      f'{folder}: its weights cannot be read ({type(error).__name__}); copy '
      'the folder again or train anew.'
    ) from error
  return Weights(tree['params'], tree['batch_stats'])


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  leaf = jax.numpy.asarray(leaf)
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
