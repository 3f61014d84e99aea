"""The state of R replicas: its beginning, and what an epoch's end changes.

Rule: the rows that only fill up a program are inactive and never saved.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cmbjax.training import hosts, optim, replicas
from cmbjax.training import runner as runner_lib
from cmbjax.training.jobs import Job, fill, filled_rows, rows_of, steps_of
from cmbjax.training.replicas import Learner, Values, Weights
from cmbjax.training.runner import Course, Runner


class State(NamedTuple):
  """The state of R replicas; `learner` and `best` are on the device.

  R counts the inactive rows that fill up the program; they are not saved.
  """

  learner: Learner
  best: Weights
  plateau: Any  # of `optim.plateau_init`; [R]
  best_value: np.ndarray  # [R] smallest validation loss so far
  bad_epochs: np.ndarray  # [R] in a row
  course: Course  # within the epoch


def initial_state(
  jobs: Sequence[Job], weights: Weights, runner: Runner
) -> State:
  """The state before the first epoch; `weights` leaves are [R, ...].

  Args:
    jobs: what is trained.
    weights: of the R rows of all jobs.
    runner: how replicas are run.
  """
  table = rows_of(jobs)
  num = runner.padded(len(table))
  weights = padded(hosts.fetch(weights), runner, len(table))
  decay = np.array([row.weight_decay for row in filled_rows(jobs, num)])
  opt = optim.begin(runner.optimizer, weights.params, decay)
  return State(
    learner=runner.place(Learner(weights, opt)),
    # A second copy, because the learner's buffers are given to the step.
    best=runner.place(jax.tree.map(np.copy, weights)),
    plateau=optim.plateau_init(num),
    best_value=np.full(num, np.inf, np.float32),
    bad_epochs=np.zeros(num, np.int32),
    course=runner_lib.begin(num),
  )


def values_of(jobs: Sequence[Job], weights: Weights, runner: Runner) -> Values:
  """What steers each row, arrays [R]; `weights` leaves are [R, ...].

  Args:
    jobs: what is trained.
    weights: of the R rows of all jobs.
    runner: how replicas are run.
  """
  table = rows_of(jobs)
  return padded(replicas.values_of(table, weights), runner, len(table))


def rates_of(jobs: Sequence[Job], state: State, epoch: int) -> np.ndarray:
  """Learning rates of the steps of one epoch, float32 [num, most steps].

  They follow from the number of the step and from the plateau alone, so that
  a resumed training has the same.

  Args:
    jobs: what is trained.
    state: its plateau scales the rates.
    epoch: its number, from 0.
  """
  most = max(job.steps for job in jobs)
  rows = []
  for job in jobs:
    now = slice(epoch * job.steps, (epoch + 1) * job.steps)
    for row in job.replicas:
      course = optim.rates(row, job.epochs * job.steps)
      mine = course[now] if epoch < job.epochs else course[-1:]
      rows.append(np.pad(mine, (0, most - len(mine)), mode='edge'))
  rates = fill(np.stack(rows), len(state.best_value))
  return rates * state.plateau.scale[:, None]


def patches_left(
  jobs: Sequence[Job], course: Course, active: np.ndarray
) -> int:
  """How many patches the active rows still see in this epoch, together.

  Args:
    jobs: what is trained.
    course: how far each row is.
    active: bool [R].
  """
  steps = steps_of(jobs, len(active)) - course.step
  return int(np.sum(steps[active])) * jobs[0].batch


def end_epoch(
  jobs: Sequence[Job],
  state: State,
  value: np.ndarray,
  active: np.ndarray,
  runner: Runner,
) -> State:
  """Learning rates, best weights and counters after one epoch; value [R].

  Args:
    jobs: what is trained.
    state: behind the last step of the epoch.
    value: [R] validation losses.
    active: bool [R]; the others stay as they are.
    runner: how replicas are run.
  """
  num = len(active)
  # What is not finite is a bad epoch, and never the best one.
  value = np.where(active & np.isfinite(value), value, np.inf)
  better = value < state.best_value  # of equal epochs the first one stays
  stepped = optim.plateau_step(filled_rows(jobs, num), state.plateau, value)
  plateau = jax.tree.map(
    lambda n, o: np.where(active, n, o), stepped, state.plateau
  )
  bad = np.where(better, 0, state.bad_epochs + active)
  return State(
    learner=state.learner,
    best=runner.pick(better, state.learner.weights, state.best),
    plateau=plateau,
    best_value=np.where(better, value, state.best_value).astype(np.float32),
    bad_epochs=bad.astype(np.int32),
    course=runner_lib.begin(num),
  )


def active_rows(jobs: Sequence[Job], state: State, epoch: int) -> np.ndarray:
  """Rows [R] that still train: not stopped, not through, no filling.

  Args:
    jobs: what is trained.
    state: counts the bad epochs.
    epoch: its number, from 0.
  """
  out = np.zeros(len(state.bad_epochs), bool)
  first = 0
  for job in jobs:
    rows = slice(first, first + len(job.replicas))
    first = rows.stop
    out[rows] = epoch < job.epochs
    if job.stop_after:
      out[rows] &= state.bad_epochs[rows] < job.stop_after
  return out


def saved(state: State, num: int) -> State:
  """The state as it is saved: numpy, without the rows that fill up."""
  return jax.tree.map(lambda leaf: leaf[:num], hosts.fetch(state))


def placed(state: State, runner: Runner, num: int) -> State:
  """The inverse of `saved`: filled up, and where the runner wants it.

  Args:
    state: as `saved` gives it.
    runner: how replicas are run.
    num: rows that are not filling.
  """
  state = padded(state, runner, num)
  return state._replace(
    learner=runner.place(state.learner), best=runner.place(state.best)
  )


def padded(tree: Any, runner: Runner, num: int) -> Any:
  """Leaves [num, ...] to as many rows as the runner's program has.

  Args:
    tree: on the host.
    runner: says how many rows.
    num: rows of the tree.
  """
  full = runner.padded(num)
  return jax.tree.map(lambda leaf: fill(np.asarray(leaf)[:num], full), tree)
