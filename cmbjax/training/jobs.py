"""Jobs (strategy: folds x seeds) to arrays of the R rows of one program.

Rule: what a row sees is a function of its seed, its fold, the epoch and the
number of the step, of nothing else.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from cmbjax.data import sampler
from cmbjax.training import rng
from cmbjax.training.replicas import Replica


@dataclasses.dataclass(frozen=True)
class Job:
  """One strategy: which networks are trained on what, and how long.

  Attributes:
    strategy: its name.
    replicas: its rows, folds x seeds; they share what follows.
    pool: [n] positions in the examples that may be trained on.
    fold_of: [n] fold of each of them, by subject.
    epochs: passes over the pool.
    batch: patches per step.
    stop_after: bad epochs before a replica stops; 0 means never.
    variant: point of a sweep, '' for none.
  """

  strategy: str
  replicas: tuple[Replica, ...]
  pool: np.ndarray
  fold_of: np.ndarray
  epochs: int
  batch: int
  stop_after: int = 0
  variant: str = ''

  @property
  def name(self) -> str:
    """'probe' or 'probe@learning_rate=0.001'; also a folder."""
    return self.strategy + ('@' + self.variant if self.variant else '')

  @property
  def steps(self) -> int:
    """Steps of one epoch."""
    return sampler.num_steps(self.fold_of, self.batch)


def rows_of(jobs: Sequence[Job]) -> tuple[Replica, ...]:
  """The replica table of some jobs: R rows."""
  return tuple(row for job in jobs for row in job.replicas)


def filled_rows(jobs: Sequence[Job], num: int) -> tuple[Replica, ...]:
  """The replica table, filled up to `num` rows with the last one."""
  table = rows_of(jobs)
  return table + table[-1:] * (num - len(table))


def steps_of(jobs: Sequence[Job], num: int) -> np.ndarray:
  """Steps of an epoch of each row, [num]."""
  steps = [job.steps for job in jobs for _ in job.replicas]
  return fill(np.array(steps, np.int32), num)


def epoch_order(job: Job, epoch: int) -> np.ndarray:
  """Positions in the examples [R, steps, B]: f(seed, fold, epoch) only.

  So strategies that train on the same pool see the same batches.
  """
  rows = [
    sampler.order(
      job.fold_of, r.fold, epoch=epoch, seed=r.seed, batch=job.batch
    )
    for r in job.replicas
  ]
  return job.pool[np.stack(rows)].astype(np.int32)


def step_keys(job: Job, epoch: int) -> np.ndarray:
  """The key of each row for the steps of one epoch, uint32 [R, 2]."""
  seeds = np.array([r.seed for r in job.replicas], np.uint32)
  folds = np.array([r.fold for r in job.replicas], np.uint32)
  return np.asarray(_step_keys(seeds, folds, np.uint32(epoch)))


@jax.jit
def _step_keys(seeds, folds, epoch):
  def one(seed, fold):
    return rng.key(seed, 'step', fold=fold, epoch=epoch)

  return jax.random.key_data(jax.vmap(one)(seeds, folds))


def split(jobs: Sequence[Job], tree: Any) -> list[Any]:
  """The rows of each job, of a tree whose leaves are [R, ...]."""
  out, first = [], 0
  for job in jobs:
    rows = slice(first, first + len(job.replicas))
    first = rows.stop
    out.append(jax.tree.map(lambda leaf, rows=rows: leaf[rows], tree))
  return out


def fill(array: np.ndarray, num: int) -> np.ndarray:
  """[R, ...] to [num, ...] by repeating the last row."""
  extra = np.repeat(array[-1:], num - len(array), axis=0)
  return np.concatenate([array, extra]) if len(extra) else array
