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

from cmbjax import doors, files
from cmbjax.errors import shown

PROFILED = 1  # epoch of a call that is profiled; the first one compiles
TAGS = (  # of each training; the same names for all, so that charts overlay
  'train_loss',
  'validation_loss',
  'validation_auc',
  'validation_sensitivity',
  'learning_rate',
)


class Writer(Protocol):
  """A place for scalars: TensorBoard, Weights & Biases, MLflow."""

  def begin(self, name: str, first: int, fingerprint: str) -> None:
    """A training whose epochs come again from `first` on.

    Args:
      name: of the training.
      first: number of its next epoch.
      fingerprint: of everything that decides its numbers.
    """

  def scalars(self, name: str, step: int, values: dict[str, float]) -> None:
    """Some named numbers of one epoch of it.

    Args:
      name: of the training.
      step: number of the epoch.
      values: by name.
    """

  def close(self) -> None:
    """Everything is written."""


class Observer:
  """Hands what happens to writers, and counts speed and memory.

  A writer that fails is left out from then on, with a line on standard error:
  a training does not end because nobody watches it.

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
    self._writers, self._profile = list(writers), profile

  def profile(self, number: int):
    """A context for epoch `number` of this call."""
    if self._profile is None or number != PROFILED:
      return contextlib.nullcontext()
    return jax.profiler.trace(str(self._profile))

  def begin(
    self,
    jobs: Sequence[Any],
    past: Sequence[Sequence[dict]],
    fingerprint: str,
  ) -> None:
    """Some jobs start, or are resumed, together.

    Writers get the past once more: a kill loses what a library had not
    written yet, while `epochs.jsonl` always agrees with the state.

    Args:
      jobs: all of them.
      past: for each job the rows of its `epochs.jsonl`.
      fingerprint: of everything that decides the numbers.
    """
    for job, rows in zip(jobs, past):
      for name in trainings([job]):
        self._tell('begin', name, 0, fingerprint)
      for row in rows:
        self._scalars(row['epoch'], [job], row)
    first = max((row['epoch'] + 1 for rows in past for row in rows), default=0)
    self._tell('begin', _speed(jobs), first, fingerprint)

  def epoch(
    self, epoch: int, jobs: Sequence[Any], row: dict, speed: float
  ) -> None:
    """One epoch of all jobs; row holds vectors [R], speed is patches/s.

    Args:
      epoch: its number, from 0.
      jobs: what is trained.
      row: name -> vector [R] of the rows of all jobs.
      speed: patches per second.
    """
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
    self._scalars(epoch, jobs, row)
    values = {'patches_per_second': float(speed)}
    values |= {f'{name}_memory_gb': value for name, value in memory.items()}
    self._tell('scalars', _speed(jobs), epoch, values)

  def _scalars(self, epoch: int, jobs: Sequence[Any], row: dict) -> None:
    for i, name in enumerate(trainings(jobs)):
      values = {tag: row[tag][i] for tag in TAGS if tag in row}
      known = {
        tag: float(value)
        for tag, value in values.items()
        if value is not None and np.isfinite(value)
      }
      if row['active'][i]:
        self._tell('scalars', name, epoch, known)

  def close(self) -> None:
    """No epoch comes any more."""
    self._tell('close')

  def _tell(self, what: str, *args: Any) -> None:
    for writer in list(self._writers):
      try:
        getattr(writer, what)(*args)
      except Exception as error:  # of somebody's library or network
        self._writers.remove(writer)
        print(
          f'{type(writer).__name__}: writes no more ({shown(error)}); the '
          'training goes on, and epochs.jsonl has the same numbers.',
          file=sys.stderr,
        )


def trainings(jobs: Sequence[Any]) -> list[str]:
  """The name of each row, [R]: 'probe/fold-0/seed-0'."""
  return [
    f'{job.name}/fold-{row.fold}/seed-{row.seed}'
    for job in jobs
    for row in job.replicas
  ]


def _speed(jobs: Sequence[Any]) -> str:
  """All rows of a program have one speed, shown with the first job."""
  return f'{jobs[0].name}/speed'


def read_speed(folder: pathlib.Path) -> list[dict]:
  """The lines of `speed.jsonl`; none when the file does not exist."""
  path = pathlib.Path(folder) / 'speed.jsonl'
  if not doors.is_there(path):
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
  unit = 1 if sys.platform == 'darwin' else 1024  # Linux counts KiB
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  out = {'host': round(peak / 1e9, 3)}
  stats = [d.memory_stats() or {} for d in jax.local_devices()]
  peaks = [s['peak_bytes_in_use'] for s in stats if 'peak_bytes_in_use' in s]
  if peaks:
    out['device'] = round(max(peaks) / 1e9, 3)
  return out
