"""Trained folds to out-of-fold predictions.

Rule: a candidate is only predicted by the networks that held its fold out.
"""

import numpy as np

from cmbjax.training import loop
from cmbjax.training.replicas import Patches, Weights


def predict(
  job: loop.Job,
  patches: Patches,
  weights: Weights,
  runner,
  *,
  batch: int = 128,
) -> np.ndarray:
  """Likelihoods [n] of the n examples of `job.pool`, mean over seeds.

  The epoch of each network was chosen on its own held-out fold, so these are
  a little better than likelihoods of new subjects.

  Args:
    job: who was held out of what.
    patches: all examples, on the device.
    weights: of the job's R replicas, leaves [R, ...].
    runner: how replicas are run.
    batch: patches per call.
  """
  rows = predict_each(job, patches, weights, runner, batch=batch)
  return np.nanmean(rows, axis=0)


def predict_each(
  job: loop.Job,
  patches: Patches,
  weights: Weights,
  runner,
  *,
  batch: int = 128,
) -> np.ndarray:
  """As `predict`, each network alone: [R, n], NaN where it was trained.

  Args:
    job: who was held out of what.
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
  rows = loop.predict(patches, weights, runner, np.stack(index), batch=batch)
  out = np.full((len(held), len(job.pool)), np.nan)
  for each, row, mine in zip(out, rows, held):
    each[mine] = row[: len(mine)]
  return out
