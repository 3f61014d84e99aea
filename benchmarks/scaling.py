"""Replicas over devices: the same numbers, and how fast.

  python benchmarks/replicas.py --scaling     # or this file by itself

Eight trainings of resnet_v4 (three from scratch, three fine-tuned, two with
frozen layers) run on 1, 2, 4 and 8 devices of one process, and on four devices
each of two processes. The devices are threads of the processor, so no case can
be faster than there are cores; what the table shows is that nothing is lost and
that predictions agree. Processor time is what a loaded machine cannot change.

Rule: a difference from one device above 1e-6 is a failure (exit code 1). The
table goes to benchmarks/results/scaling.json.
"""

import argparse
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CASES = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 4))  # processes, devices of each
LIMIT = 1e-6  # of a likelihood
EXAMPLES, BATCH, STEPS = 160, 16, 4


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--model', default='resnet_v4')
  parser.add_argument('--samples', type=int, default=3)
  parser.add_argument('--out', default=str(ROOT / 'benchmarks' / 'results'))
  parser.add_argument('--child', default='', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.child:
    child(args, *args.child.split(','))
    return 0
  return table(args.model, samples=args.samples, out=pathlib.Path(args.out))


def table(model: str, *, samples: int, out: pathlib.Path) -> int:
  """Runs all cases, prints and saves the table; returns the exit code."""
  import numpy as np

  load, rows, reference = os.getloadavg()[0], [], None
  cores = len(os.sched_getaffinity(0))
  print(
    f'{cores} cores, load before {load:.1f}: devices share the cores, so no '
    f'gain is expected beyond {cores} devices'
  )
  strategies = ('scratch', 'finetuned', 'frozen')
  titles = 'largest difference: ' + ', '.join(strategies)
  print(
    f'{"processes x devices":20s}{"patches/s":>10s}{"against 1":>10s}'
    f'{"CPU ms/patch":>13s}{titles:>52s}'
  )
  with tempfile.TemporaryDirectory() as folder:
    for processes, devices in CASES:
      found = run(model, processes, devices, samples, pathlib.Path(folder))
      predicted = found.pop('predicted')
      reference = reference or predicted
      row = {'processes': processes, 'devices': devices, **found}
      row['speed_against_1'] = round(
        row['patches_per_second'] / (rows or [row])[0]['patches_per_second'], 3
      )
      row['difference'] = {
        name: float(np.abs(predicted[name] - reference[name]).max())
        for name in strategies
      }
      row['difference_of_weights'] = max(
        float(np.abs(one - reference[name]).max())
        for name, one in predicted.items()
        if name not in strategies
      )
      # Likelihoods that are all the same would agree for nothing.
      row['spread'] = float(
        min(np.ptp(predicted[name], axis=1).min() for name in strategies)
      )
      rows.append(row)
      cells = '  '.join(f'{row["difference"][n]:.1e}' for n in strategies)
      print(
        f'{f"{processes} x {devices}":20s}{row["patches_per_second"]:10,.0f}'
        f'{row["speed_against_1"]:9.2f}x{row["cpu_ms_per_patch"]:13.2f}'
        f'{cells:>52s}',
        flush=True,
      )
  result = {
    'model': model,
    'cores': cores,
    'load_before': round(load, 2),
    'note': f'host devices share {cores} cores: none faster than {cores}',
    'trainings': 8,
    'limit': LIMIT,
    'rows': rows,
  }
  out.mkdir(parents=True, exist_ok=True)
  (out / 'scaling.json').write_text(json.dumps(result, indent=2) + '\n')
  furthest = max(max(row['difference'].values()) for row in rows)
  spread = min(row['spread'] for row in rows)
  apart = max(row['difference_of_weights'] for row in rows)
  print(
    f'largest difference {furthest:.1e}, allowed {LIMIT:.0e}; of the weights '
    f'{apart:.1e}; likelihoods of one network differ by {spread:.1e} or more'
  )
  return 0 if furthest <= LIMIT < spread else 1


def run(model, processes, devices, samples, folder) -> dict:
  """One case, in processes of its own."""
  import numpy as np

  with socket.socket() as one:
    one.bind(('localhost', 0))
    address = f'localhost:{one.getsockname()[1]}'
  out = folder / f'{processes}x{devices}.npz'
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
    'PYTHONPATH': str(ROOT),
  }
  begun = [
    subprocess.Popen(
      [
        *(sys.executable, __file__, f'--model={model}'),
        *(f'--samples={samples}', f'--child={out},{address},{processes},{i}'),
      ],
      env=environment,
      stdout=subprocess.PIPE,
      text=True,
    )
    for i in range(processes)
  ]
  try:
    lines = [json.loads(p.communicate()[0].splitlines()[-1]) for p in begun]
  finally:
    for process in begun:
      process.kill()
  patches = lines[0]['patches']
  return {
    'patches_per_second': round(patches / max(l['wall_s'] for l in lines), 1),
    'cpu_ms_per_patch': round(
      sum(l['cpu_s'] for l in lines) / patches * 1e3, 3
    ),
    'first_epoch_s': max(l['first_epoch_s'] for l in lines),
    'predicted': dict(np.load(out)),
  }


def child(args, out, address, processes, index) -> None:
  """Trains, writes predictions, and prints how long an epoch takes."""
  from cmbjax.training import hosts

  if int(processes) > 1:
    whole = contextlib.ExitStack()  # left at the end of the process
    whole.enter_context(hosts.together(address, int(processes), int(index)))
  import jax
  import numpy as np

  from cmbjax.models import get_model
  from cmbjax.training import inference, loop, replicas
  from cmbjax.training.runner import Runner

  # A few steps are enough for the statistics that predictions use.
  network = get_model(args.model, bn_momentum=0.5)
  runner = Runner(network, backend='shard')
  rng = np.random.default_rng(0)
  label = (np.arange(EXAMPLES) % 2).astype(np.int8)
  image = rng.uniform(0.5, 1, (EXAMPLES, 24, 24, 12)).astype(np.float32)
  image[label == 1, 8:16, 8:16, 3:9] *= 0.5
  patches = replicas.on_device(image, label)
  jobs = _jobs(replicas, loop)
  table = loop.rows_of(jobs)
  first = _start(network, table, replicas)
  state = loop.initial_state(jobs, first, runner)
  values = loop.values_of(jobs, first, runner)
  active = np.ones(len(state.best_value), bool)
  active[len(table) :] = False

  def epoch(number):
    nonlocal state
    state = loop.run_epoch(
      jobs, state, patches, runner, values=values, epoch=number, active=active
    )
    jax.block_until_ready(state.learner)
    value = state.course.total / STEPS
    state = loop.end_epoch(jobs, state, value, active, runner)

  began = time.monotonic()
  epoch(0)
  first_epoch_s = time.monotonic() - began
  epoch(1)
  weights = jax.tree.map(
    lambda leaf: leaf[: len(table)], hosts.fetch(state.learner.weights)
  )
  found, at = {}, 0
  for job in jobs:
    rows = slice(at, at + len(job.replicas))
    at = rows.stop
    own = jax.tree.map(lambda leaf, rows=rows: leaf[rows], weights)
    found[job.strategy] = inference.predict(
      patches, own, runner, np.arange(64), batch=64
    )
    for number, leaf in enumerate(jax.tree.leaves(own)):
      found[f'{job.strategy}/weights/{number}'] = leaf
  if hosts.is_writer():
    np.savez(out, **found)
  wall, cpu = [], []
  for number in range(args.samples):
    hosts.barrier('epoch')
    times = time.monotonic(), time.process_time()
    epoch(2 + number)
    wall.append(time.monotonic() - times[0])
    cpu.append(time.process_time() - times[1])
  hosts.barrier('end')
  print(
    json.dumps(
      {
        'patches': len(table) * STEPS * BATCH,
        'wall_s': min(wall),
        'cpu_s': min(cpu),
        'first_epoch_s': round(first_epoch_s, 1),
      }
    )
  )


def _jobs(replicas, loop):
  def job(strategy, rows, **row):
    index = _arange(BATCH * STEPS * 2)  # half of it in each fold
    return loop.Job(
      strategy,
      tuple(
        replicas.Replica(strategy, fold=r % 2, seed=r // 2, **row)
        for r in range(rows)
      ),
      *(index, index // 2 % 2, 9, BATCH),
    )

  return (
    job('scratch', 3, learning_rate=1e-4),
    job('finetuned', 3, learning_rate=3e-5, weight_decay=0.01),
    job('frozen', 2, learning_rate=1e-4, frozen='(conv|norm)_0'),
  )


def _arange(count):
  import numpy as np

  return np.arange(count)


def _start(network, table, replicas):
  """Fresh weights; fine-tuned and frozen rows begin elsewhere."""
  import jax
  import numpy as np

  fresh = replicas.first_weights(network, table)
  moved = np.array([0.0 if r.strategy == 'scratch' else 0.01 for r in table])

  def shift(leaf):
    return leaf + moved.reshape(-1, *[1] * (leaf.ndim - 1)).astype(leaf.dtype)

  return jax.tree.map(shift, fresh)


if __name__ == '__main__':
  sys.exit(main())
