"""How quick this machine is: training, inference and the candidate stage.

Rule: a made-up scan and untrained networks, so that nothing has to be there.
"""

import time
from collections.abc import Callable
from typing import Any

SHAPE, SPACING_MM = (240, 240, 72), (0.9, 0.9, 2.0)  # as of many clinics


def measure() -> dict[str, Any]:
  """Measures this machine: training, inference and the candidate stage."""
  found = _networks()
  image, mask = _made_up_brain()

  def propose():
    from cmbjax.candidates import detector

    detector.propose(image, SPACING_MM, mask)

  found['candidates_s'] = round(_least(propose, repeats=2), 2)
  return found


def _networks(
  *, replicas_at_once: int = 2, batch: int = 16, steps: int = 4
) -> dict[str, Any]:
  """Patches per second of the paper's network, forward and training."""
  import jax
  import numpy as np

  from cmbjax.models import get_model
  from cmbjax.training import loop, replicas
  from cmbjax.training.runner import Runner, begin

  began = time.perf_counter()
  network = get_model('resnet_v4')
  runner = Runner(network)
  rng = np.random.default_rng(0)
  count = 2 * batch * steps
  patches = replicas.on_device(
    rng.random((count, 24, 24, 12), np.float32), rng.integers(0, 2, count)
  )
  rows = tuple(
    replicas.Replica('speed', r % 2, 0, 1e-4) for r in range(replicas_at_once)
  )
  pool, fold_of = np.arange(count), np.arange(count) % 2
  job = loop.Job('speed', rows, pool, fold_of, 1, batch)
  first = replicas.first_weights(network, rows)
  state = loop.initial_state((job,), first, runner)
  values = loop.values_of((job,), first, runner)
  active = np.ones(runner.padded(len(rows)), bool)

  def train():
    nonlocal state
    state = loop.run_epoch(
      (job,), state, patches, runner, values=values, epoch=0, active=active
    )
    state = state._replace(course=begin(len(active)))
    jax.block_until_ready(state.learner)

  def infer():
    runner.logits(patches, state.learner.weights, pool, batch)

  train()  # compiles
  start = time.perf_counter() - began
  seen = len(rows) * batch * job.steps
  trained = seen / _least(train, repeats=3)
  inferred = len(rows) * count / _least(infer, repeats=3)
  return {
    'first_epoch_s': round(start, 1),
    'training_patches_per_s': round(trained),
    'inference_patches_per_s': round(inferred),
  }


def _made_up_brain():
  """Noise in an ellipsoid with dark dots, not a simulated scan."""
  import numpy as np

  rng = np.random.default_rng(0)
  axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
  away = sum(((a - n / 2) / (0.4 * n)) ** 2 for a, n in zip(axes, SHAPE))
  mask = away <= 1
  image = np.where(mask, np.float32(0.7), np.float32(0.1))
  inside = np.argwhere(away <= 0.8)
  for x, y, z in inside[rng.choice(len(inside), 300, replace=False)]:
    image[x - 1 : x + 2, y - 1 : y + 2, z] = 0.2
  image += 0.03 * rng.standard_normal(SHAPE, np.float32)
  return np.clip(image, 0, 1), mask


def _least(work: Callable[[], None], *, repeats: int) -> float:
  """Seconds of the quickest of several calls, after one that is not timed."""
  work()
  taken = []  # the least, not the mean: others use the machine too
  for _ in range(repeats):
    began = time.perf_counter()
    work()
    taken.append(time.perf_counter() - began)
  return min(taken)
