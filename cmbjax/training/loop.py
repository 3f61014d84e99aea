"""Jobs (strategy: folds x seeds) to trained weights, all at once.

Rule: everything that decides the numbers is in the jobs, and an interrupted
training that is run again ends with the same numbers.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmbjax.data import sampler
from cmbjax.errors import InputError
from cmbjax.progress import Progress
from cmbjax.training import (
  checkpoint,
  hosts,
  optim,
  preemption,
  replicas,
  rng,
  scores,
  watch,
)
from cmbjax.training import runner as runner_lib
from cmbjax.training.logs import EpochLog
from cmbjax.training.replicas import Learner, Patches, Replica, Values, Weights
from cmbjax.training.runner import Course, Runner


@dataclasses.dataclass(frozen=True)
class Job:
  """One strategy: who is trained on what, and how long.

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
    """'finetuned' or 'finetuned@learning_rate=0.001'; also a folder."""
    return self.strategy + ('@' + self.variant if self.variant else '')

  @property
  def steps(self) -> int:
    """Steps of one epoch."""
    return sampler.num_steps(self.fold_of, self.batch)


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
  restored = checkpoints.restore(_saved(state, len(table)))
  if restored is not None:
    first = restored.epoch
    state = _placed(restored.state, runner, len(table))
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
      for log, part in zip(logs, _per_job(jobs, row)):
        log.add(epoch=epoch, **part)
      observer.epoch(epoch, jobs, row, speed)
      saver.offer(epoch + 1, state, force=epoch + 1 == last)
      progress.advance(note=watch.summary(held.loss[active], speed))
    saver.offer(epoch_after(first, logs), state, force=True)
  _check_finite(jobs, state)
  return _split(jobs, hosts.fetch(state.best))


def rows_of(jobs: Sequence[Job]) -> tuple[Replica, ...]:
  """The replica table of some jobs: R rows."""
  return tuple(row for job in jobs for row in job.replicas)


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


def initial_state(
  jobs: Sequence[Job], weights: Weights, runner: Runner
) -> State:
  """The state before the first epoch; `weights` leaves are [R, ...]."""
  table = rows_of(jobs)
  num = runner.padded(len(table))
  weights = _padded(hosts.fetch(weights), runner, len(table))
  decay = np.array([row.weight_decay for row in _rows(jobs, num)])
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
  """What steers each row, arrays [R]; `weights` leaves are [R, ...]."""
  table = rows_of(jobs)
  return _padded(replicas.values_of(table, weights), runner, len(table))


def run_epoch(
  jobs: Sequence[Job],
  state: State,
  patches: Patches,
  runner: Runner,
  values: Values,
  epoch: int,
  active: np.ndarray,
) -> State:
  """The rest of one epoch; it may end early when a stop is requested."""
  num = len(active)
  orders = [epoch_order(job, epoch) for job in jobs]
  most = max(order.shape[1] for order in orders)
  orders = [  # a job with fewer steps is inactive in those that are added
    np.pad(o, ((0, 0), (0, most - o.shape[1]), (0, 0))) for o in orders
  ]
  keys = np.concatenate([_keys(job, epoch) for job in jobs])
  learner, course = runner.epoch(
    patches,
    state.learner,
    state.course,
    index=_fill(np.concatenate(orders), num),
    steps=steps_of(jobs, num),
    keys=_fill(keys, num),
    rates=rates_of(jobs, state, epoch),
    values=values,
    active=active,
    stop=_stop,
  )
  return state._replace(learner=learner, course=course)


def rates_of(jobs: Sequence[Job], state: State, epoch: int) -> np.ndarray:
  """Learning rates of the steps of one epoch, float32 [num, most steps].

  They follow from the number of the step and from the plateau alone, so that
  a training that goes on has the same.
  """
  most = max(job.steps for job in jobs)
  rows = []
  for job in jobs:
    now = slice(epoch * job.steps, (epoch + 1) * job.steps)
    for row in job.replicas:
      course = optim.rates(row, job.epochs * job.steps)
      mine = course[now] if epoch < job.epochs else course[-1:]
      rows.append(np.pad(mine, (0, most - len(mine)), mode='edge'))
  rates = _fill(np.stack(rows), len(state.best_value))
  return rates * state.plateau.scale[:, None]


def steps_of(jobs: Sequence[Job], num: int) -> np.ndarray:
  """Steps of an epoch of each row, [num]."""
  steps = [job.steps for job in jobs for _ in job.replicas]
  return _fill(np.array(steps, np.int32), num)


def patches_left(
  jobs: Sequence[Job], course: Course, active: np.ndarray
) -> int:
  """How many patches the active rows still see in this epoch, together."""
  steps = steps_of(jobs, len(active)) - course.step
  return int(np.sum(steps[active])) * jobs[0].batch


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
  logits = runner.logits(patches, weights, _fill(index, num), batch)
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


def end_epoch(
  jobs: Sequence[Job],
  state: State,
  value: np.ndarray,
  active: np.ndarray,
  runner: Runner,
) -> State:
  """Learning rates, best weights and counters after one epoch; value [R]."""
  num = len(active)
  value = np.where(active & np.isfinite(value), value, np.inf)
  better = value < state.best_value
  stepped = optim.plateau_step(_rows(jobs, num), state.plateau, value)
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
  """Rows [R] that still train: not stopped, not through, no filling."""
  out = np.zeros(len(state.bad_epochs), bool)
  first = 0
  for job in jobs:
    rows = slice(first, first + len(job.replicas))
    first = rows.stop
    out[rows] = epoch < job.epochs
    if job.stop_after:
      out[rows] &= state.bad_epochs[rows] < job.stop_after
  return out


def predict(
  patches: Patches,
  weights: Weights,
  runner: Runner,
  index: np.ndarray,
  *,
  batch: int = 128,
) -> np.ndarray:
  """Likelihoods [R, n] of examples `index` [n], or [R, n] its own for each."""
  num = jax.tree.leaves(weights)[0].shape[0]
  weights = runner.place(_padded(hosts.fetch(weights), runner, num))
  index = np.asarray(index, np.int32)
  if index.ndim == 2:
    index = _fill(index, runner.padded(num))
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
      self._checkpoints.save(epoch, _saved(state, self._num))
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

  Raises:
    InputError: none did.
  """
  table = rows_of(jobs)
  lost = ~np.isfinite(state.best_value[: len(table)])
  if lost.all():
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


def _per_job(jobs: Sequence[Job], row: dict) -> list[dict]:
  out, first = [], 0
  for job in jobs:
    rows = slice(first, first + len(job.replicas))
    first = rows.stop
    out.append({name: vector[rows] for name, vector in row.items()})
  return out


def _split(jobs: Sequence[Job], weights: Weights) -> list[Weights]:
  out, first = [], 0
  for job in jobs:
    rows = slice(first, first + len(job.replicas))
    first = rows.stop
    out.append(jax.tree.map(lambda leaf, rows=rows: leaf[rows], weights))
  return out


def _saved(state: State, num: int) -> State:
  """The state as it is saved: numpy, without the rows that fill up."""
  return jax.tree.map(lambda leaf: leaf[:num], hosts.fetch(state))


def _placed(state: State, runner: Runner, num: int) -> State:
  state = _padded(state, runner, num)
  return state._replace(
    learner=runner.place(state.learner), best=runner.place(state.best)
  )


def _padded(tree: Any, runner: Runner, num: int) -> Any:
  full = runner.padded(num)
  return jax.tree.map(lambda leaf: _fill(np.asarray(leaf)[:num], full), tree)


def _fill(array: np.ndarray, num: int) -> np.ndarray:
  """[R, ...] to [num, ...] by repeating the last row."""
  extra = np.repeat(array[-1:], num - len(array), axis=0)
  return np.concatenate([array, extra]) if len(extra) else array


def _rows(jobs: Sequence[Job], num: int) -> tuple[Replica, ...]:
  """The replica table, filled up to `num` rows with the last one."""
  table = rows_of(jobs)
  return table + table[-1:] * (num - len(table))


def _keys(job: Job, epoch: int) -> np.ndarray:
  """uint32 [R, 2]."""
  seeds = np.array([r.seed for r in job.replicas], np.uint32)
  folds = np.array([r.fold for r in job.replicas], np.uint32)
  return np.asarray(_step_keys(seeds, folds, np.uint32(epoch)))


@jax.jit
def _step_keys(seeds, folds, epoch):
  def one(seed, fold):
    return rng.key(seed, 'step', fold=fold, epoch=epoch)

  return jax.random.key_data(jax.vmap(one)(seeds, folds))
