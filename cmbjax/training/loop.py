"""One job (a strategy: folds x seeds) to trained weights.

Rule: everything that decides the numbers is in the job, and an interrupted
job that is run again ends with the same numbers.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmbjax.data import sampler
from cmbjax.progress import Progress
from cmbjax.training import checkpoint, optim, rng
from cmbjax.training.logs import EpochLog
from cmbjax.training.replicas import (
  Learner,
  Patches,
  Replica,
  Runner,
  Weights,
  loss_of,
  stack,
  unstack,
)


@dataclasses.dataclass(frozen=True)
class Job:
  """One strategy: who is trained on what, and how long.

  Attributes:
    strategy: its name.
    replicas: R rows; they share `pool`, `epochs` and `batch`.
    pool: [n] positions in the examples that may be trained on.
    fold_of: [n] fold of each of them, by subject.
    epochs: passes over the pool.
    batch: patches per step.
    plateau: how the learning rate falls.
    stop_after: bad epochs before a replica stops; 0 means never.
    positive_weight: weight of microbleeds in the loss.
  """

  strategy: str
  replicas: tuple[Replica, ...]
  pool: np.ndarray
  fold_of: np.ndarray
  epochs: int
  batch: int
  plateau: optim.Plateau
  stop_after: int = 0
  positive_weight: float = 1.0


class State(NamedTuple):
  """The state of R replicas: every leaf has a leading axis R."""

  learner: Learner
  plateau: Any
  best: Weights
  best_value: jax.Array  # [R] smallest validation loss so far
  bad_epochs: jax.Array  # [R] in a row


def train(
  job: Job,
  patches: Patches,
  runner: Runner,
  *,
  folder: pathlib.Path,
  fingerprint: str,
  start: Callable[[], Weights],
  evaluation_batch: int = 128,
) -> Weights:
  """Trains a job, or goes on where it was cut off.

  Args:
    job: what to train.
    patches: all examples, on the device.
    runner: how replicas are run.
    folder: of this job; gets `checkpoints/` and `epochs.jsonl`.
    fingerprint: of everything that decides the numbers.
    start: makes the first weights, leaves [R, ...]; not called on resume.
    evaluation_batch: patches per validation call.

  Returns:
    The weights of the best epoch of each replica, leaves [R, ...].
  """
  num = len(job.replicas)
  folder = pathlib.Path(folder)
  checkpoints = checkpoint.Checkpoints(
    folder / 'checkpoints', fingerprint=fingerprint
  )
  # 1. the job's own last checkpoint, 2. what `start` gives: transferred or
  # fresh weights.
  state, first = initial_state(job, start()), 0
  restored = checkpoints.restore(state)
  if restored is not None:
    state, first = restored.state, restored.epoch + 1
  log = EpochLog(folder / 'epochs.jsonl', keep_epochs=first)
  label = f'train {job.strategy} ({num} networks), epoch'
  with Progress(label, job.epochs, done=first) as progress:
    for epoch in range(first, job.epochs):
      active = _active(job, state)
      if not active.any():
        break
      rate = np.asarray(state.learner.opt.hyperparams['learning_rate'])
      learner, loss = runner.epoch(
        patches,
        state.learner,
        epoch_order(job, epoch),
        _keys(job, epoch),
        active,
      )
      value = validate(job, patches, runner, learner, evaluation_batch)
      state = end_epoch(job, state, learner, value, active)
      log.add(
        epoch=epoch,
        train_loss=loss,
        validation_loss=np.where(active, value, np.nan),
        learning_rate=rate,
        active=active,
      )
      checkpoints.save(epoch, state)
      progress.advance(note=f'validation loss {np.median(value):.3f}')
  return jax.tree.map(np.asarray, state.best)


def initial_state(job: Job, weights: Weights) -> State:
  """The state before the first epoch; `weights` leaves are [R, ...]."""
  num = len(job.replicas)
  optimizer = optim.adam()
  opt = stack([optimizer.init(one) for one in unstack(weights.params, num)])
  opt = optim.set_rate(opt, _base_rate(job))
  weights = jax.tree.map(jnp.asarray, weights)
  return State(
    learner=Learner(weights, opt),
    plateau=optim.plateau_init(job.plateau, num),
    best=jax.tree.map(jnp.copy, weights),  # the learner's buffers are donated
    best_value=jnp.full(num, jnp.inf, jnp.float32),
    bad_epochs=jnp.zeros(num, jnp.int32),
  )


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
  job: Job, patches: Patches, runner: Runner, learner: Learner, batch: int
) -> np.ndarray:
  """Mean loss [R] of each replica on its own held-out fold."""
  held = [job.pool[job.fold_of == r.fold] for r in job.replicas]
  width = max(len(h) for h in held)
  # Folds differ in size: repeat the last example, and leave it out below.
  index = np.stack([np.pad(h, (0, width - len(h)), mode='edge') for h in held])
  logits = runner.logits(patches, learner.weights, index, batch)
  labels = np.asarray(patches.label)
  out = []
  for row, mine in zip(logits, held):
    losses = loss_of(row[: len(mine)], labels[mine], job.positive_weight)
    out.append(float(np.mean(np.asarray(losses))))
  return np.asarray(out, np.float32)


def end_epoch(
  job: Job,
  state: State,
  learner: Learner,
  value: np.ndarray,
  active: np.ndarray,
) -> State:
  """Learning rates, best weights and counters after one epoch; value [R]."""
  active = jnp.asarray(active)
  value = jnp.where(active & jnp.isfinite(value), value, jnp.inf)
  better = value < state.best_value
  stepped = optim.plateau_step(job.plateau, state.plateau, value)
  plateau = _choose(active, stepped, state.plateau)
  rate = jnp.asarray(_base_rate(job)) * plateau.scale
  learner = learner._replace(opt=optim.set_rate(learner.opt, rate))
  bad = jnp.where(better, 0, state.bad_epochs + active.astype(jnp.int32))
  return State(
    learner=learner,
    plateau=plateau,
    best=_choose(better, learner.weights, state.best),
    best_value=jnp.where(better, value, state.best_value),
    bad_epochs=bad,
  )


def predict(
  patches: Patches,
  weights: Weights,
  runner: Runner,
  index: np.ndarray,
  *,
  batch: int = 128,
) -> np.ndarray:
  """Likelihoods [R, n] of examples `index` [n] from each replica."""
  logits = runner.logits(patches, weights, np.asarray(index, np.int32), batch)
  return np.asarray(jax.nn.sigmoid(jnp.asarray(logits)), np.float64)


def _active(job: Job, state: State) -> np.ndarray:
  if not job.stop_after:
    return np.ones(len(job.replicas), bool)
  return np.asarray(state.bad_epochs) < job.stop_after


def _base_rate(job: Job) -> np.ndarray:
  return np.asarray([r.learning_rate for r in job.replicas], np.float32)


def _keys(job: Job, epoch: int) -> jax.Array:
  return jnp.stack(
    [rng.key(r.seed, 'step', fold=r.fold, epoch=epoch) for r in job.replicas]
  )


def _choose(keep: jax.Array, new: Any, old: Any) -> Any:
  def pick(n, o):
    mask = keep.reshape(-1, *[1] * (jnp.ndim(n) - 1))
    return jnp.where(mask, n, o)

  return jax.tree.map(pick, new, old)
