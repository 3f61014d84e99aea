"""Jobs (strategy: folds x seeds) to trained weights, all at once.

Rule: everything that decides the numbers is in the jobs, and an interrupted
training that is run again ends with the same numbers.
"""

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.progress import Progress
from cmbjax.training import (
  checkpoint,
  hosts,
  inference,
  optim,
  preemption,
  watch,
)
from cmbjax.training.jobs import (
  Job,
  epoch_order,
  fill,
  rows_of,
  split,
  step_keys,
  steps_of,
)
from cmbjax.training.logs import EpochLog
from cmbjax.training.replicas import Patches, Values, Weights
from cmbjax.training.runner import Runner
from cmbjax.training.state import (
  State,
  active_rows,
  end_epoch,
  initial_state,
  patches_left,
  placed,
  rates_of,
  saved,
  values_of,
)


def train(
  job: Job,
  patches: Patches,
  runner: Runner,
  *,
  folder: pathlib.Path,
  **options: Any,
) -> Weights:
  """Trains one job; `options` are those of `train_together`.

  Args:
    job: what to train.
    patches: all examples, on the device.
    runner: how replicas are run.
    folder: gets checkpoints and `epochs.jsonl`.
    **options: those of `train_together`.

  Returns:
    The weights of the best epoch of each replica, leaves [R, ...].
  """
  folder = pathlib.Path(folder)
  folders = {'checkpoints': folder / 'checkpoints', 'logs': (folder,)}
  return train_together((job,), patches, runner, **folders, **options)[0]


def train_together(
  jobs: Sequence[Job],
  patches: Patches,
  runner: Runner,
  *,
  checkpoints: pathlib.Path,
  logs: Sequence[pathlib.Path],
  fingerprint: str,
  start: Callable[[], Weights],
  evaluation_batch: int = 128,
  threshold: float = 0.1,
  save_every_s: float = 0.0,
  observer: watch.Observer | None = None,
) -> list[Weights]:
  """Trains the rows of all jobs in one program, or resumes them.

  Args:
    jobs: what to train; all have the same batch size.
    patches: all examples, on the device.
    runner: how replicas are run.
    checkpoints: folder of the common state.
    logs: folder of each job, for its `epochs.jsonl`.
    fingerprint: of everything that decides the numbers.
    start: makes the first weights, leaves [R, ...] in the order of the jobs.
    evaluation_batch: patches per validation call.
    threshold: a candidate above it counts as found, in the logs alone.
    save_every_s: seconds between checkpoints; the last epoch and a request
      to stop always save.
    observer: sees speed and losses; None for nobody.

  Returns:
    For each job the weights of the best epoch of each replica.

  Raises:
    InputError: not one network ever had a finite loss, or a setting of a
      row that the optimizer or the schedule cannot use.
    Stopped: the program was asked to end; the state is saved.
  """
  check(jobs, runner)  # before `start`, which may read and move weights
  kept = checkpoint.Checkpoints(checkpoints, fingerprint=fingerprint)
  weights = start()
  state, first = _begin(jobs, weights, runner, kept)
  call = _Call(
    jobs=jobs,
    patches=patches,
    runner=runner,
    values=values_of(jobs, weights, runner),
    logs=[_log(folder, first or 0) for folder in logs],
    observer=observer or watch.Observer(),
    saver=_Saver(kept, save_every_s, len(rows_of(jobs)), saved=first),
    validation={'batch': evaluation_batch, 'threshold': threshold},
    first=first or 0,
  )
  past = [log.rows for log in call.logs]
  call.observer.begin(jobs, past, fingerprint)
  state = _run(call, state)
  _check_finite(jobs, state)
  return split(jobs, hosts.fetch(state.best))


class _Call(NamedTuple):
  """What stays the same in all epochs of one call."""

  jobs: Sequence[Job]
  patches: Patches
  runner: Runner
  values: Values
  logs: list[EpochLog]
  observer: watch.Observer
  saver: '_Saver'
  validation: dict[str, Any]  # options of `inference.validate`
  first: int  # epoch of this call


def _begin(
  jobs: Sequence[Job],
  weights: Weights,
  runner: Runner,
  kept: checkpoint.Checkpoints,
) -> tuple[State, int | None]:
  """The last checkpoint and its epoch; else the state of `weights`, None."""
  state, num = initial_state(jobs, weights, runner), len(rows_of(jobs))
  restored = kept.restore(saved(state, num))
  if restored is None:
    return state, None
  return placed(restored.state, runner, num), restored.epoch


def _log(folder: pathlib.Path, first: int) -> EpochLog:
  path = folder / 'epochs.jsonl'
  return EpochLog(path, keep_epochs=first, write=hosts.is_writer())


def _run(call: _Call, state: State) -> State:
  """All epochs that are left."""
  jobs, last = call.jobs, max(job.epochs for job in call.jobs)
  options = {'done': call.first, 'stream': hosts.screen()}
  with (
    preemption.deferred(),
    Progress(_label(jobs), last, **options) as progress,
  ):
    for epoch in range(call.first, last):
      active = active_rows(jobs, state, epoch)
      if not active.any():
        break
      state, said = _epoch(call, state, epoch, active)
      call.saver.offer(epoch + 1, state, force=epoch + 1 == last)
      progress.advance(note=said)
    # All rows may have stopped before the last epoch.
    call.saver.offer(epoch_after(call.first, call.logs), state, force=True)
  return state


def _epoch(
  call: _Call, state: State, epoch: int, active: np.ndarray
) -> tuple[State, str]:
  """Trains, validates and logs; the state, and a summary in words."""
  jobs, runner = call.jobs, call.runner
  began, seen = time.monotonic(), patches_left(jobs, state.course, active)
  turn = {'values': call.values, 'epoch': epoch, 'active': active}
  with call.observer.profile(epoch - call.first):
    state = run_epoch(jobs, state, call.patches, runner, **turn)
  if _stop():  # what is done of this epoch is kept, see `Course`
    call.saver.stop(epoch, state)
  held = inference.validate(
    jobs, call.patches, runner, state, **call.validation
  )
  speed = seen / (time.monotonic() - began)
  row = _epoch_row(jobs, state, held, epoch, active)
  state = end_epoch(jobs, state, held.loss, active, runner)
  for log, part in zip(call.logs, split(jobs, row)):
    log.add(epoch=epoch, **part)
  call.observer.epoch(epoch, jobs, row, speed)
  return state, watch.summary(held.loss[active], speed)


def check(jobs: Sequence[Job], runner: Runner) -> None:
  """Refuses settings of rows that the training could not use.

  Raises:
    InputError: a weight decay that the optimizer does not take, or a schedule
      that gives no usable rates.
  """
  optim.check_decay(runner.optimizer, rows_of(jobs))
  for job in jobs:
    for row in job.replicas:
      optim.rates(row, job.epochs * job.steps)


def run_epoch(
  jobs: Sequence[Job],
  state: State,
  patches: Patches,
  runner: Runner,
  *,
  values: Values,
  epoch: int,
  active: np.ndarray,
) -> State:
  """The rest of one epoch; it may end early when a stop is requested.

  Args:
    jobs: what is trained.
    state: where the epoch begins, or is resumed.
    patches: all examples, on the device.
    runner: how replicas are run.
    values: what steers each row.
    epoch: its number, from 0.
    active: bool [R]; the others stay as they are.
  """
  num = len(active)
  orders = [epoch_order(job, epoch) for job in jobs]
  most = max(order.shape[1] for order in orders)
  orders = [  # a job with fewer steps is inactive in those that are added
    np.pad(o, ((0, 0), (0, most - o.shape[1]), (0, 0))) for o in orders
  ]
  keys = np.concatenate([step_keys(job, epoch) for job in jobs])
  learner, course = runner.epoch(
    patches,
    state.learner,
    state.course,
    index=fill(np.concatenate(orders), num),
    steps=steps_of(jobs, num),
    keys=fill(keys, num),
    rates=rates_of(jobs, state, epoch),
    values=values,
    active=active,
    stop=_stop,
  )
  return state._replace(learner=learner, course=course)


class _Saver:
  """Saves now and then, and for certain when it must."""

  def __init__(
    self,
    checkpoints: checkpoint.Checkpoints,
    every_s: float,
    num: int,
    *,
    saved: int | None,
  ):
    self._checkpoints, self._every_s, self._num = checkpoints, every_s, num
    self._last, self._saved = time.monotonic(), saved

  def offer(self, epoch: int, state: State, *, force: bool) -> None:
    """`state` is where epoch number `epoch` begins, or is resumed."""
    stop = hosts.agree(preemption.requested())
    due = time.monotonic() - self._last >= self._every_s
    # All processes decide alike, because all of them write.
    if self._saved != epoch and hosts.agree(force or stop or due):
      self._checkpoints.save(epoch, saved(state, self._num))
      self._last, self._saved = time.monotonic(), epoch
    if stop:
      raise preemption.Stopped

  def stop(self, epoch: int, state: State) -> None:
    """Saves in the middle of an epoch, and ends."""
    self._saved = None  # the epoch is saved, but not these steps of it
    self.offer(epoch, state, force=True)
    raise preemption.Stopped


def _stop() -> bool:
  """Within an epoch one process alone may stop; several would have to agree."""
  return hosts.count() == 1 and preemption.requested()


def epoch_after(first: int, logs: Sequence[EpochLog]) -> int:
  """The epoch that would come next."""
  return max([first, *(row['epoch'] + 1 for log in logs for row in log.rows)])


def _check_finite(jobs: Sequence[Job], state: State) -> None:
  """Says which rows learned nothing.

  Points of a sweep are only named: the others continue.

  Raises:
    InputError: all of them.
  """
  table = rows_of(jobs)
  # It begins as infinity, and only a finite loss takes its place.
  lost = ~np.isfinite(state.best_value[: len(table)])
  if lost.all() and not any(job.variant for job in jobs):
    raise InputError(
      f'{_strategies(jobs)}: the held-out loss of no network was ever a '
      'finite number; lower config.train.learning_rate, or look at the images.'
    )
  for row in (row for row, none in zip(table, lost) if none):
    print(
      f'{row.strategy}, fold {row.fold}, seed {row.seed}, learning rate '
      f'{row.learning_rate:g}: its held-out loss was never a finite number, so '
      'its weights are those that it began with.',
      file=hosts.screen(),
    )


def _strategies(jobs: Sequence[Job]) -> str:
  return ', '.join(dict.fromkeys(job.strategy for job in jobs))


def _label(jobs: Sequence[Job]) -> str:
  return f'train {_strategies(jobs)} ({len(rows_of(jobs))} networks), epoch'


def _epoch_row(
  jobs: Sequence[Job],
  state: State,
  held: inference.HeldOut,
  epoch: int,
  active: np.ndarray,
) -> dict[str, np.ndarray]:
  """What is logged of one epoch, vectors [R]; the rate of its last step."""
  loss = state.course.total / steps_of(jobs, len(active))
  return {
    'train_loss': np.where(active, loss, np.nan),
    'validation_loss': np.where(active, held.loss, np.nan),
    'validation_auc': np.where(active, held.auc, np.nan),
    'validation_sensitivity': np.where(active, held.sensitivity, np.nan),
    'learning_rate': rates_of(jobs, state, epoch)[:, -1],
    'active': active,
  }
