"""Run by test_resume.py: trains, may be killed.

  python tests/killed.py FOLDER EPOCHS

Prints the digest of the final weights. SIGTERM saves and exits 0.
"""

import pathlib
import sys

import jax
import numpy as np

from cmbjax import files
from cmbjax.training import loop, optim, preemption, replicas
from cmbjax.training.runner import Runner
from tests.test_replicas import Tiny

SCHEDULES = (*optim.SCHEDULES, 'tests.test_optim:step')


def train(folder: pathlib.Path, epochs: int) -> str:
  """Digest of the final weights of five replicas, one of each schedule."""
  row = replicas.Replica('x', 0, 0, 1e-3, patience=1, warmup=0.3)
  rows = tuple(
    row._replace(fold=r % 2, seed=r // 2, schedule=schedule)
    for r, schedule in enumerate(SCHEDULES)
  )
  fold_of = np.arange(64) // 2 % 2
  image = np.random.default_rng(0).random((64, 24, 24, 12), np.float32)
  weights = loop.train(
    loop.Job('x', rows, np.arange(64), fold_of, epochs, 4),
    replicas.on_device(image, np.arange(64) % 2),
    Runner(Tiny(), backend='loop'),
    folder=folder,
    fingerprint='same',
    start=lambda: replicas.first_weights(Tiny(), rows),
  )
  leaves = jax.tree.leaves(weights)
  return files.digest(*(np.asarray(leaf).tobytes() for leaf in leaves))


def main() -> int:
  try:
    with preemption.listening():
      print(train(pathlib.Path(sys.argv[1]), int(sys.argv[2])))
  except preemption.Stopped:
    pass
  return 0


if __name__ == '__main__':
  preemption.exit_with(main)
