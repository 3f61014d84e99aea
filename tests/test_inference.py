"""Each candidate is predicted by those who never saw its fold."""

import dataclasses

import numpy as np
import pytest

from cmbjax.training import inference, replicas
from cmbjax.training.runner import Runner
from tests.test_replicas import Tiny, job_of, start


@pytest.mark.parametrize('backend', ['loop', 'vmap'])
def test_out_of_fold_by_hand(toy, backend):
  """Two folds of unequal size, two seeds: the mean of one replica of each."""
  job = job_of(4)  # folds 0 1 0 1, seeds 0 0 1 1
  pool = np.array([7, 3, 30, 12, 25])
  job = dataclasses.replace(job, pool=pool, fold_of=np.array([0, 0, 1, 0, 1]))
  patches = replicas.on_device(*toy)
  runner = Runner(Tiny(), backend=backend)
  weights = start(job)
  found = inference.out_of_fold(job, patches, weights, runner, batch=4)
  everyone = inference.predict(
    patches, weights, runner, pool, batch=4
  )  # [R, n]
  for n, fold in enumerate(job.fold_of):
    mine = [r for r, row in enumerate(job.replicas) if row.fold == fold]
    assert len(mine) == 2
    assert found[n] == pytest.approx(everyone[mine, n].mean(), abs=1e-6)
