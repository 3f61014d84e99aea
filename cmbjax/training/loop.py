"""Jobs (strategy: folds x seeds) to trained weights, all at once.

Rule: everything that decides the numbers is in the jobs, and an interrupted
training that is run again ends with the same numbers.
"""

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmbjax.errors import InputError
from cmbjax.progress import Progress
from cmbjax.training import (
  checkpoint,
  hosts,
  optim,
  preemption,
  replicas,
  scores,
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
  padded,
  patches_left,
  placed,
  rates_of,
  saved,
  values_of,
)


class HeldOut(NamedTuple):
  """How each replica does on the fold that it held out, float32 [R]."""

  loss: np.ndarray  # mean, with class weights; it steers the training
  auc: np.ndarray  # of the candidates; NaN without both kinds
  sensitivity: np.ndarray  # share of its microbleeds above the threshold


class Place(NamedTuple):
  """Where the jobs of one call keep their things.

  Attributes:
    checkpoints: folder of the common state.
    logs: folder of each job, for its `epochs.jsonl`.
  """

  checkpoints: pathlib.Path
  logs: tuple[pathlib.Path, ...]


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
  place = Place(folder / 'checkpoints', (folder,))
  return train_together((job,), patches, runner, place=place, **options)[0]


def train_together(
  jobs: Sequence[Job],
  patches: Patches,
  runner: Runner,
  *,
  place: Place,
  fingerprint: str,
  start: Callable[[], Weights],
  evaluation_batch: int = 128,
  threshold: float = 0.1,
  save_every_s: float = 0.0,
  observer: watch.Observer | None = None,
) -> list[Weights]:
  """Trains the rows of all jobs in one program, or goes on where it was.

  Args:
    jobs: what to train; all have the same batch size.
    patches: all examples, on the device.
    runner: how replicas are run.
    place: folders.
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
  checkpoints = checkpoint.Checkpoints(
    place.checkpoints, fingerprint=fingerprint
  )
  observer = observer or watch.Observer()
  table = rows_of(jobs)
  check(jobs, runner)
  # 1. the last checkpoint of these jobs, 2. what `start` gives: transferred
  # or fresh weights.
  weights = start()
  values = values_of(jobs, weights, runner)
  state, first = initial_state(jobs, weights, runner), 0
  restored = checkpoints.restore(saved(state, len(table)))
  if restored is not None:
    first = restored.epoch
    state = placed(restored.state, runner, len(table))
  logs = [
    EpochLog(
      folder / 'epochs.jsonl', keep_epochs=first, write=hosts.is_writer()
    )
    for folder in place.logs
  ]
  observer.begin(jobs, [log.rows for log in logs], fingerprint)
  saver = _Saver(
    checkpoints, save_every_s, len(table), saved=restored and first
  )
  last = max(job.epochs for job in jobs)
  with (
    preemption.deferred(),
    Progress(_label(jobs), last, done=first, stream=hosts.screen()) as progress,
  ):
    for epoch in range(first, last):
      active = active_rows(jobs, state, epoch)
      if not active.any():
        break
      began, seen = time.monotonic(), patches_left(jobs, state.course, active)
      with observer.profile(epoch - first):
        state = run_epoch(jobs, state, patches, runner, values, epoch, active)
      if _stop():
        saver.stop(epoch, state)
      held = validate(
        jobs, patches, runner, state, evaluation_batch, threshold=threshold
      )
      speed = seen / (time.monotonic() - began)
      row = _epoch_row(jobs, state, held, epoch, active)
      state = end_epoch(jobs, state, held.loss, active, runner)
      for log, part in zip(logs, split(jobs, row)):
        log.add(epoch=epoch, **part)
      observer.epoch(epoch, jobs, row, speed)
      saver.offer(epoch + 1, state, force=epoch + 1 == last)
      progress.advance(note=watch.summary(held.loss[active], speed))
    saver.offer(epoch_after(first, logs), state, force=True)
  _check_finite(jobs, state)
  return split(jobs, hosts.fetch(state.best))


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
  values: Values,
  epoch: int,
  active: np.ndarray,
) -> State:
  """The rest of one epoch; it may end early when a stop is requested.

  Args:
    jobs: what is trained.
    state: where the epoch begins, or goes on.
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


def validate(
  jobs: Sequence[Job],
  patches: Patches,
  runner: Runner,
  state: State,
  batch: int,
  *,
  threshold: float = 0.1,
) -> HeldOut:
  """Each replica on its own held-out fold.

  Args:
    jobs: what is trained.
    patches: all examples, on the device.
    runner: how replicas are run.
    state: of all rows.
    batch: patches per call.
    threshold: of the sensitivity.
  """
  held = [job.pool[job.fold_of == r.fold] for job in jobs for r in job.replicas]
  num = len(state.best_value)
  width = max(len(h) for h in held)
  # Folds differ in size: repeat the last example, and leave it out below.
  index = np.stack([np.pad(h, (0, width - len(h)), mode='edge') for h in held])
  weights = state.learner.weights
  logits = runner.logits(patches, weights, fill(index, num), batch)
  labels = np.asarray(patches.label)
  out = HeldOut(
    np.full(num, np.inf, np.float32),
    np.full(num, np.nan, np.float32),
    np.full(num, np.nan, np.float32),
  )
  for r, (mine, row) in enumerate(zip(held, rows_of(jobs))):
    z, y = logits[r, : len(mine)].astype(np.float64), labels[mine]
    weight = replicas.class_weight(y, row.positive_weight)
    out.loss[r] = np.mean(weight * scores.losses(runner.loss, z, y))
    out.auc[r] = scores.auc(z, y)
    out.sensitivity[r] = scores.sensitivity(z, y, threshold)
  return out


def predict(
  patches: Patches,
  weights: Weights,
  runner: Runner,
  index: np.ndarray,
  *,
  batch: int = 128,
) -> np.ndarray:
  """Likelihoods [R, n] of examples `index` [n], or [R, n] its own for each.

  Args:
    patches: all examples, on the device.
    weights: leaves [R, ...].
    runner: how replicas are run.
    index: positions in the examples.
    batch: patches per call.
  """
  num = jax.tree.leaves(weights)[0].shape[0]
  weights = runner.place(padded(hosts.fetch(weights), runner, num))
  index = np.asarray(index, np.int32)
  if index.ndim == 2:
    index = fill(index, runner.padded(num))
  logits = runner.logits(patches, weights, index, batch)
  return np.asarray(jax.nn.sigmoid(jnp.asarray(logits[:num])), np.float64)


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
    """`state` is where epoch number `epoch` begins, or goes on."""
    stop = hosts.agree(preemption.requested())
    due = time.monotonic() - self._last >= self._every_s
    if self._saved != epoch and hosts.agree(force or stop or due):
      self._checkpoints.save(epoch, saved(state, self._num))
      self._last, self._saved = time.monotonic(), epoch
    if stop:
      raise preemption.Stopped

  def stop(self, epoch: int, state: State) -> None:
    """Saves in the middle of an epoch, and ends."""
    self._saved = None
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

  Points of a sweep are only said: the others go on, and these are not chosen.

  Raises:
    InputError: all of them.
  """
  table = rows_of(jobs)
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
  held: HeldOut,
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
