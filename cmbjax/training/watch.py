"""What is seen of a training while it runs: speed, losses, a profile.

Rule: watching changes no number, and what is written here may differ between
two runs that are otherwise the same.
"""

import contextlib
import json
import pathlib
import resource
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np

from cmbjax import files

PROFILED = 1  # epoch of a call that is profiled; the first one compiles


class Writer(Protocol):
  """A place for scalars: TensorBoard, Weights & Biases, MLflow."""

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Some named numbers of one epoch."""

  def close(self) -> None:
    """Everything is written."""


class Observer:
  """Hands what happens to writers, and counts speed and memory.

  Args:
    folder: gets `speed.jsonl`; None for no file.
    writers: each gets every scalar.
    profile: folder for one profiled epoch per call, or None.
  """

  def __init__(
    self,
    folder: pathlib.Path | None = None,
    *,
    writers: Sequence[Writer] = (),
    profile: pathlib.Path | None = None,
  ):
    self._folder = folder and pathlib.Path(folder)
    self._writers, self._profile = tuple(writers), profile

  def profile(self, number: int):
    """A context for epoch `number` of this call."""
    if self._profile is None or number != PROFILED:
      return contextlib.nullcontext()
    return jax.profiler.trace(str(self._profile))

  def begin(self, jobs: Sequence[Any], first: int, fingerprint: str) -> None:
    """The jobs start, or go on, at epoch `first`.

    Args:
      jobs: those that are trained together.
      first: what writers hold of it and later is written again.
      fingerprint: of everything that decides the numbers.
    """
    del fingerprint

  def epoch(
    self, epoch: int, jobs: Sequence[Any], row: dict, speed: float
  ) -> None:
    """One epoch of all jobs; row holds vectors [R], speed is patches/s."""
    memory = memory_gb()
    if self._folder is not None:
      line = {
        'epoch': epoch,
        'jobs': [job.name for job in jobs],
        'networks': int(np.sum(row['active'])),
        'patches_per_second': round(float(speed), 1),
        **{f'{name}_memory_gb': value for name, value in memory.items()},
      }
      path = files.make_folder(self._folder) / 'speed.jsonl'
      files.append_text(path, json.dumps(line) + '\n')
    if not self._writers:
      return
    values = {'speed/patches_per_second': float(speed)}
    values |= {f'memory/{name}_gb': value for name, value in memory.items()}
    rows = [(job.name, r) for job in jobs for r in job.replicas]
    for i, (name, replica) in enumerate(rows):
      if row['active'][i]:
        tag = f'{name}/fold-{replica.fold}/seed-{replica.seed}'
        for what in ('train_loss', 'validation_loss', 'learning_rate'):
          values[f'{what}/{tag}'] = float(row[what][i])
    for writer in self._writers:
      writer.scalars(epoch, values)


def read_speed(folder: pathlib.Path) -> list[dict]:
  """The lines of `speed.jsonl`; none when there is no such file."""
  path = pathlib.Path(folder) / 'speed.jsonl'
  if not path.is_file():
    return []
  rows = []
  for line in files.read_text(path).splitlines():
    with contextlib.suppress(ValueError, RecursionError):  # cut by a kill
      rows.append(json.loads(line))
  known = ('epoch', 'patches_per_second')
  return [
    row
    for row in rows
    if isinstance(row, dict)
    and all(isinstance(row.get(name), int | float) for name in known)
  ]


def summary(value: np.ndarray, speed: float) -> str:
  """Validation losses of the active replicas, and speed, in a few words."""
  known = value[np.isfinite(value)]
  text = 'validation loss '
  text += f'{np.median(known):.3f}' if len(known) else 'not finite'
  if len(known) > 1:
    text += f' ({np.min(known):.3f} to {np.max(known):.3f})'
  if 0 < len(known) < len(value):
    text += f', not finite in {len(value) - len(known)} of {len(value)}'
  return f'{text}, {speed:,.0f} patches/s'


def memory_gb() -> dict[str, float]:
  """Peak memory of this process, and of its devices where they tell."""
  unit = 1 if sys.platform == 'darwin' else 1024
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  out = {'host': round(peak / 1e9, 3)}
  stats = [d.memory_stats() or {} for d in jax.local_devices()]
  peaks = [s['peak_bytes_in_use'] for s in stats if 'peak_bytes_in_use' in s]
  if peaks:
    out['device'] = round(max(peaks) / 1e9, 3)
  return out
