"""A finished run to the folder of weights that comes with the package.

Rule: what is packed is what was trained, its parameters rounded to half
precision and nothing else; the card says what was measured with them.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from cmbjax import doors, files, sealed
from cmbjax.errors import InputError, NoInputError
from cmbjax.training import checkpoint
from cmbjax.training.checkpoint import HALF
from cmbjax.training.replicas import Weights
from cmbjax.weights import card
from cmbjax.weights.catalogue import NAMES

POINTS_FILE = 'operating_points.json'
STUDY = ('7t', 'finetuned', 'combined')  # strategies of configs/weights.py


def pack(
  run: pathlib.Path,
  out: pathlib.Path,
  *,
  results: pathlib.Path | None = None,
  names: Sequence[str] | None = None,
  name: str | None = None,
) -> list[pathlib.Path]:
  """Writes OUT/NAME for every strategy of a run.

  Args:
    run: folder of a finished `configs/weights.py`, or a folder of packed
      weights, whose cards are then written again.
    out: gets one folder per name.
    results: benchmarks/results/weights.json, for the cards.
    names: strategies; None: those of configs/weights.py, or all packed ones.
    name: of `catalogue.NAMES`; instead of `names`: what the only strategy of
      the run is called.

  Returns:
    The folders.

  Raises:
    NoInputError: the run lacks a strategy, or its operating points.
    InputError: its weights are damaged, or of an older run than its points;
      a name that is not known, or a run of several strategies for it.
  """
  run, out = pathlib.Path(run), pathlib.Path(out)
  rows = _rows(results) if results is not None else []
  if name is not None:
    return [_one(_only(run), out / _known(name), name, rows)]
  home = (
    run if doors.is_there(run / NAMES[0] / 'weights.json') else run / 'models'
  )
  names = names or (NAMES if home == run else STUDY)
  return [_one(home / one, out / one, one, rows) for one in names]


def _known(name: str) -> str:
  if name not in NAMES:
    raise InputError(f'--name: is {name!r}, allowed are {", ".join(NAMES)}.')
  return name


def _only(run: pathlib.Path) -> pathlib.Path:
  found = sorted(p.parent for p in run.glob('models/*/weights.json'))
  if len(found) != 1:
    there = ', '.join(folder.name for folder in found) or 'none'
    raise InputError(
      f'{run}/models: --name is for a run of one strategy, found {there}.'
    )
  return found[0]


def _one(source, target, name, rows) -> pathlib.Path:
  record = checkpoint.read_record(source)
  path = source / POINTS_FILE
  if not doors.is_there(path):
    raise NoInputError(f'{path}: not found; run the study to its end first.')
  points = sealed.read_json(path)
  if points.get('fingerprint') != record['fingerprint']:
    raise InputError(
      f'{path}: was made for other weights; run the study to its end again.'
    )
  weights = in_half(checkpoint.load_weights(source))
  record['strategy'] = name
  if record.get('precision') != HALF:  # rounded: no longer the same numbers
    record['fingerprint'] = files.digest(record['fingerprint'], HALF)
    record['precision'] = HALF
    points['fingerprint'] = record['fingerprint']
  mine = [row for row in rows if row['weights'] == name]
  checkpoint.save_weights(target, weights, record)
  sealed.write_json(target / POINTS_FILE, points)
  text = card.write(name, record, points, mine)
  files.write_text(target / 'README.md', text)
  return target


def in_half(weights: Weights) -> Weights:
  """Parameters in half precision; statistics of BatchNorm stay as they are.

  Raises:
    InputError: a number is too large for it.
  """

  def rounded(path, leaf):
    with np.errstate(over='ignore'):
      half = np.asarray(leaf).astype(np.float16)
    if not np.isfinite(half).all():
      name = '/'.join(str(part.key) for part in path)
      raise InputError(f'params/{name}: does not fit into float16.')
    return half

  # Statistics are few, and a variance can be beyond float16.
  params = jax.tree_util.tree_map_with_path(rounded, weights.params)
  return weights._replace(params=params)


def _rows(results: pathlib.Path) -> list[dict[str, Any]]:
  found = files.read_json(results)
  if not isinstance(found, dict) or 'rows' not in found:
    raise InputError(
      f'{results}: is not what benchmarks/weights.py writes; run it again.'
    )
  return found['rows']
