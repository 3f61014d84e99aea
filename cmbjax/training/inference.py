"""Networks to what they say of examples, and to how they do on their folds.

Rule: a training candidate is only judged by the networks that held its fold
out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmbjax.training import hosts, replicas, scores
from cmbjax.training.jobs import Job, fill, rows_of
from cmbjax.training.replicas import Patches, Weights
from cmbjax.training.runner import Runner
from cmbjax.training.state import State, padded


class HeldOut(NamedTuple):
  """How each replica does on the fold that it held out, float32 [R]."""

  loss: np.ndarray  # mean, with class weights; it steers the training
  auc: np.ndarray  # of the candidates; NaN without both kinds
  sensitivity: np.ndarray  # share of its microbleeds above the threshold


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


def out_of_fold(
  job: Job,
  patches: Patches,
  weights: Weights,
  runner: Runner,
  *,
  batch: int = 128,
) -> np.ndarray:
  """Likelihoods [n] of the n examples of `job.pool`, mean over seeds.

  The epoch of each network was chosen on its own held-out fold, so these are
  a little better than likelihoods of new subjects.

  Args:
    job: its folds, and the rows that held them out.
    patches: all examples, on the device.
    weights: of the job's R replicas, leaves [R, ...].
    runner: how replicas are run.
    batch: patches per call.
  """
  rows = out_of_fold_each(job, patches, weights, runner, batch=batch)
  return np.nanmean(rows, axis=0)


def out_of_fold_each(
  job: Job,
  patches: Patches,
  weights: Weights,
  runner: Runner,
  *,
  batch: int = 128,
) -> np.ndarray:
  """As `out_of_fold`, each network alone: [R, n], NaN where it was trained.

  Args:
    job: its folds, and the rows that held them out.
    patches: all examples, on the device.
    weights: of the job's R replicas, leaves [R, ...].
    runner: how replicas are run.
    batch: patches per call.
  """
  held = [np.flatnonzero(job.fold_of == row.fold) for row in job.replicas]
  width = max(len(mine) for mine in held)
  # Folds differ in size: the last example is repeated, and left out below.
  index = [
    np.pad(job.pool[mine], (0, width - len(mine)), 'edge') for mine in held
  ]
  rows = predict(patches, weights, runner, np.stack(index), batch=batch)
  out = np.full((len(held), len(job.pool)), np.nan)
  for each, row, mine in zip(out, rows, held):
    each[mine] = row[: len(mine)]
  return out


def validate(
  jobs: Sequence[Job],
  patches: Patches,
  runner: Runner,
  state: State,
  *,
  batch: int = 128,
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
    # In double precision: a best epoch must not hang on rounding.
    z, y = logits[r, : len(mine)].astype(np.float64), labels[mine]
    weight = replicas.class_weight(y, row.positive_weight)
    out.loss[r] = np.mean(weight * scores.losses(runner.loss, z, y))
    out.auc[r] = scores.auc(z, y)
    out.sensitivity[r] = scores.sensitivity(z, y, threshold)
  return out
