"""Prediction tables to one file and back.

Rule: a table is checked when it is written and when it is read, and no object
is pickled.
"""

import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.evaluation.predictions import (
  ENSEMBLE,
  OUT_OF_FOLD,
  Networks,
  Predictions,
  PredictionTable,
  ScanCounts,
  TrueLesions,
  by_seed,
  check,
  ensemble,
)

_HEAD = ('strategy', 'test', 'fold_hash', 'selection', 'simulated', 'kind')
_HEAD += ('strategy_label', 'test_label')
_PARTS = {
  'predictions': Predictions,
  'scans': ScanCounts,
  'networks': Networks,
  'lesions': TrueLesions,
}
_COLUMNS = ('by_seed', 'fold_of')


def check_table(table: PredictionTable) -> None:
  """`check`, and that every mean is the mean of what it is said to be of.

  Raises:
    InputError: also for another number of candidates or lesions.
  """
  p = table.predictions
  check(p, table.scans)
  name = f'{table.strategy} on {table.test}'
  if table.kind not in (ENSEMBLE, OUT_OF_FOLD):
    raise InputError(f"{name}: kind '{table.kind}' is not known.")
  means = np.asarray(table.by_seed, np.float64)
  if means.ndim != 2 or means.shape[1] != len(p.key):
    raise InputError(f'{name}: by_seed is not one row of candidates per seed.')
  # Networks are stored in single precision, hence 1e-6.
  if not np.allclose(ensemble(means), p.probability, atol=1e-6):
    raise InputError(f'{name}: the likelihoods are not the mean over seeds.')
  if table.networks is not None:
    found = by_seed(table.networks)
    if found.shape != means.shape or not np.allclose(found, means, atol=1e-6):
      raise InputError(f'{name}: a seed is not the mean of its networks.')
    _check_held_out(name, table)
  if table.lesions is not None:
    size = len(table.lesions.scan)
    if size != np.sum(table.scans.num_lesions):
      raise InputError(
        f'{name}: {size} lesions are listed, but the scans have '
        f'{np.sum(table.scans.num_lesions)}.'
      )


def _check_held_out(name: str, table: PredictionTable) -> None:
  """Out of fold: nobody judges what it was trained on."""
  if table.kind != OUT_OF_FOLD:
    return
  if table.fold_of is None:
    raise InputError(f'{name}: out-of-fold likelihoods need `fold_of`.')
  networks = table.networks
  seen = networks.fold[:, None] != np.asarray(table.fold_of)[None]
  if np.isfinite(networks.likelihood[seen]).any():
    raise InputError(
      f'{name}: a network judges candidates that it was trained on.'
    )


def write(path: str | os.PathLike, tables: Sequence[PredictionTable]) -> None:
  """Writes tables as one compressed .npz without pickled objects."""
  arrays, heads = {}, []
  for i, table in enumerate(tables):
    check_table(table)
    heads.append({name: getattr(table, name) for name in _HEAD})
    for part in _PARTS:
      if getattr(table, part) is not None:
        for name, column in getattr(table, part)._asdict().items():
          arrays[f'{i}/{_PARTS[part].__name__}/{name}'] = _plain(column)
    for name in _COLUMNS:
      if getattr(table, name) is not None:
        arrays[f'{i}/{name}'] = np.asarray(getattr(table, name))
  # As bytes: numpy would pickle a dictionary.
  arrays['tables'] = np.frombuffer(json.dumps(heads).encode(), np.uint8)
  with files.whole(path) as temporary, temporary.open('wb') as handle:
    np.savez_compressed(handle, **arrays)


def read(path: str | os.PathLike) -> list[PredictionTable]:
  """Reads what `write` wrote.

  Args:
    path: the .npz file, or a folder that holds `predictions.npz`.

  Raises:
    NoInputError: when it is missing.
    InputError: when it was not written by `write`.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    path = path / 'predictions.npz'
  if not doors.is_there(path):
    raise NoInputError(f'{path}: not found; give the folder of a finished run.')
  arrays = files.read_arrays(path)
  try:
    heads = json.loads(arrays['tables'].tobytes())
    return [_table(i, head, arrays) for i, head in enumerate(heads)]
  except (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    RecursionError,
  ) as error:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    raise InputError(
      f'{path}: is not a prediction file of cmbjax ({reason}); run the study '
      'again.'
    ) from error


def _table(i: int, head: dict, arrays) -> PredictionTable:
  def part(kind):
    names = [f'{i}/{kind.__name__}/{name}' for name in kind._fields]
    if names[0] not in arrays:
      return None
    return kind(*(arrays[name] for name in names))

  columns = {name: f'{i}/{name}' for name in _COLUMNS}
  table = PredictionTable(
    **{name: part(kind) for name, kind in _PARTS.items()},
    **{n: arrays.get(at) for n, at in columns.items()},
    **head,
  )
  if table.predictions is None or table.scans is None or table.by_seed is None:
    raise KeyError(f'table {i}')
  check_table(table)
  return table


def _plain(column) -> np.ndarray:
  """Strings as fixed-width unicode, so that nothing is pickled."""
  column = np.asarray(column)
  return column.astype(str) if column.dtype.kind in 'OSU' else column
