"""Run by test_mesh.py on 8 host devices: one line of JSON on standard output.

Each number is the largest difference from the same replica trained alone.
"""

import json
import re
import sys

import flax.linen as nn
import jax
import numpy as np

from cmbjax.models import normalization, resnet
from cmbjax.training import inference, loop, replicas, step
from cmbjax.training.runner import Runner

EXAMPLES, BATCH = 16, 4


class Small(nn.Module):
  """Compiles in a second; batches may be split as in the real ones."""

  data_axis: str | None = None

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Conv(4, (3, 3, 3), strides=4, use_bias=False, name='conv')(x)
    norm = normalization.BatchNorm(
      train, momentum=0.9, data_axis=self.data_axis, name='norm'
    )
    x = nn.relu(norm(x)).reshape(len(x), -1)
    x = resnet.Dropout(0.2, self.data_axis)(x, train=train)
    return nn.Dense(1, name='dense')(x)[:, 0]


NETWORK = Small()
COLLECTIVE = re.compile(
  r'(?:all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|'
  r'collective-broadcast)(?:-start)?\([^\n]*'
)


def toy():
  rng = np.random.default_rng(0)
  label = (np.arange(EXAMPLES) % 2).astype(np.int8)
  image = rng.uniform(0.5, 1, (EXAMPLES, 24, 24, 12)).astype(np.float32)
  image[label == 1, 8:16, 8:16, 3:9] = 0
  return replicas.on_device(image, label)


def jobs():
  """Scratch, fine-tuned (other rates) and frozen: 5 rows, two lengths."""

  def job(strategy, seeds, epochs, pool, **row):
    rows = tuple(
      replicas.Replica(strategy, fold=s % 2, seed=s, **row) for s in seeds
    )
    index = np.arange(pool)
    return loop.Job(strategy, rows, index, index // 2 % 2, epochs, BATCH)

  return (
    job('scratch', (0, 1), 2, EXAMPLES, learning_rate=1e-3),
    job('finetuned', (0, 1), 1, 12, learning_rate=3e-4, weight_decay=0.01),
    job('frozen', (1,), 2, 12, learning_rate=1e-3, frozen='conv|norm'),
  )


def start(table):
  """Fresh weights; fine-tuned and frozen rows begin elsewhere."""
  fresh = replicas.first_weights(NETWORK, table)
  moved = np.array([0.0 if r.strategy == 'scratch' else 0.01 for r in table])

  def shift(leaf):
    return leaf + moved.reshape(-1, *[1] * (leaf.ndim - 1)).astype(leaf.dtype)

  return jax.tree.map(shift, fresh)


def train(some, runner):
  """Final weights and the last learner's, of the rows of some jobs."""
  table = loop.rows_of(some)
  state = loop.initial_state(some, start(table), runner)
  values = loop.values_of(some, start(table), runner)
  for epoch in range(max(job.epochs for job in some)):
    active = loop.active_rows(some, state, epoch)
    state = loop.run_epoch(
      some, state, PATCHES, runner, values=values, epoch=epoch, active=active
    )
    held = inference.validate(some, PATCHES, runner, state, batch=8)
    state = loop.end_epoch(some, state, held.loss, active, runner)
  rows = slice(len(table))
  return jax.tree.map(lambda a: np.asarray(a)[rows], state.learner.weights)


def alone():
  """Every replica as a job of its own."""
  runner = Runner(NETWORK, backend='loop')
  parts = []
  for job in jobs():
    for row in job.replicas:
      one = loop.Job(
        *(job.strategy, (row,), job.pool, job.fold_of, job.epochs, job.batch)
      )
      parts.append(train((one,), runner))
  return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def furthest(a, b):
  differences = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), a, b)
  return max(jax.tree.leaves(differences))


def collectives(runner):
  """The collectives of the compiled step, one line each."""
  some = jobs()
  table = loop.rows_of(some)
  state = loop.initial_state(some, start(table), runner)
  num = len(state.best_value)
  values = loop.values_of(some, start(table), runner)
  place = runner.place
  compiled = runner._step.lower(
    runner._share(PATCHES),
    state.learner,
    place(np.zeros(num, np.float32)),
    np.int32(0),
    step.Turn(
      runner._batch(np.zeros((num, BATCH), np.int32)),
      place(np.zeros((num, 2), np.uint32)),
      place(np.zeros(num, np.float32)),
      place(values),
      place(np.ones(num, bool)),
    ),
  ).compile()
  return [m.group(0) for m in COLLECTIVE.finditer(compiled.as_text())]


PATCHES = toy()


def main():
  devices = jax.devices()
  assert len(devices) == 8
  reference = alone()
  out = {
    'loop': furthest(train(jobs(), Runner(NETWORK, backend='loop')), reference)
  }
  for num in (1, 4, 8):
    runner = Runner(NETWORK, backend='shard', devices=devices[:num])
    out[f'shard {num}'] = furthest(train(jobs(), runner), reference)
  out['collectives'] = len(collectives(runner))
  split = Runner(NETWORK, backend='shard', data_parallel=2)
  out['split batch'] = furthest(train(jobs(), split), reference)
  found = re.findall(r'replica_groups=(\S+?),? ', ' '.join(collectives(split)))
  out['groups'] = sorted(set(found))
  print(json.dumps(out))


if __name__ == '__main__':
  sys.exit(main())
