"""Epochs to JSON lines: one line per epoch, vectors of length R.

Rule: the file holds exactly the epochs that the state has seen; after a
resume, later lines are gone.
"""

import json
import math
import pathlib
from typing import Any

import numpy as np

from cmbjax import doors, files


class EpochLog:
  """Append-only log of one job.

  Args:
    path: the file.
    keep_epochs: later lines are dropped.
    write: False in a process that leaves writing to another one.
  """

  def __init__(
    self, path: pathlib.Path, *, keep_epochs: int, write: bool = True
  ):
    self._path, self._write = pathlib.Path(path), write
    self.rows = [r for r in read(self._path) if r['epoch'] < keep_epochs]
    if write:
      lines = ''.join(_line(row) for row in self.rows)
      files.write_text(self._path, lines)

  def add(self, **row: Any) -> None:
    """Adds one epoch: numbers, strings and vectors."""
    row = {name: _plain(value) for name, value in row.items()}
    self.rows.append(row)
    if not self._write:
      return
    files.append_text(self._path, _line(row))


def read(path: pathlib.Path) -> list[dict]:
  """All whole lines; a last line that a kill cut short is left out."""
  path = pathlib.Path(path)
  if not doors.is_there(path):
    return []
  rows = []
  for line in files.read_text(path).splitlines():
    try:
      row = json.loads(line)
    except (ValueError, RecursionError):
      break  # what follows a cut line is of no known epoch
    if not isinstance(row, dict) or not isinstance(row.get('epoch'), int):
      break
    rows.append(row)
  return rows


def _line(row: dict) -> str:
  return json.dumps(row, allow_nan=False) + '\n'


def _plain(value: Any) -> Any:
  """JSON has no NaN: what is not finite becomes null."""
  if isinstance(value, np.ndarray | list | tuple):
    return [_plain(v) for v in np.asarray(value).tolist()]
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
