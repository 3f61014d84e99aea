"""Patches per second of R trainings at once, beside PyTorch's one by one.

  python benchmarks/replicas.py --torch-python=/path/to/python-with-torch
  python benchmarks/replicas.py --quick     # fewer cases, under 4 minutes
  python benchmarks/replicas.py --platform=gpu --dtypes=float32,bfloat16

resnet_v4 on 16 x 16 x 8 patches, Adam, the whole step. The one of cmbjax has
the gather from the device and the augmentation in it, that of PyTorch starts
from a finished batch. Each case has a process of its own, pinned to the same
cores, with as many threads as cores and the same allocator settings. Processes
take turns over the rounds; the fastest sample of the best batch size counts.
The result goes to benchmarks/results/replicas-PLATFORM.json.

Rule: run it on an idle machine; the load before the first case is recorded.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
ALLOCATOR = {  # large temporaries are kept, not mapped anew in every step
  'MALLOC_MMAP_THRESHOLD_': '4294967296',
  'MALLOC_TRIM_THRESHOLD_': '4294967296',
  'MALLOC_TOP_PAD_': '268435456',
}
LAYOUTS = ('channels_last_3d', 'contiguous')
# Multiply-adds of the convolutions count twice; three forward passes' worth
# make a training step.
GFLOP_FORWARD, GFLOP_STEP = 0.0867, 0.26
NUM_EXAMPLES = 1024


def main() -> None:
  args = _arguments()
  if args.case:
    print(json.dumps(_child(args)))
    return
  load = os.getloadavg()[0]
  with tempfile.TemporaryDirectory() as cache:
    starts = _starts(args, cache)
    found = {}
    cases = list(_cases(args))
    for number in range(args.rounds):
      for case in cases:
        for name, value in _run(args, case, f'{cache}/warm').items():
          best = found.setdefault(case, {})
          pick = min if name.endswith(('_s', '_gb')) else max
          best[name] = pick(best.get(name, value), value)
        print(f'round {number + 1}: {_line(case, found)}', flush=True)
  _report(args, found, starts, load)


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--quick', action='store_true')
  parser.add_argument('--rounds', type=int, default=0, help='3; 1 if quick')
  parser.add_argument('--seconds', type=float, default=0, help='per sample')
  parser.add_argument('--samples', type=int, default=4)
  parser.add_argument('--cores', type=int, default=0, help='0: all')
  parser.add_argument('--platform', choices=('cpu', 'gpu'), default='cpu')
  parser.add_argument('--dtypes', default='float32')
  parser.add_argument('--batches', default='')
  parser.add_argument('--replicas', default='1,5,20')
  parser.add_argument('--backends', default='')
  parser.add_argument('--torch-python', default='', help='one with PyTorch')
  parser.add_argument('--peak-tflops', type=float, default=0)
  parser.add_argument('--case', default='', help=argparse.SUPPRESS)
  parser.add_argument('--began', type=float, default=0, help=argparse.SUPPRESS)
  args = parser.parse_args()
  args.cores = args.cores or len(os.sched_getaffinity(0))
  args.rounds = args.rounds or (1 if args.quick else 3)
  args.seconds = args.seconds or (1.0 if args.quick else 2.0)
  gpu = args.platform == 'gpu'
  many = '16,64,256' if gpu else '16,64'
  args.batches = args.batches or ('64' if args.quick else many)
  args.backends = args.backends or ('loop,vmap' if gpu else 'loop,map,vmap')
  return args


def _cases(args):
  """'side/R/batch/dtype' of every process, PyTorch between the others."""
  for dtype in args.dtypes.split(','):
    for batch in args.batches.split(','):
      for backend in args.backends.split(','):
        for num in args.replicas.split(','):
          if args.quick and args.platform == 'cpu' and _slow(backend, num):
            continue
          yield f'{backend}/{num}/{batch}/{dtype}'
      if args.torch_python:
        layouts = [*LAYOUTS, 'compiled'] if args.platform == 'gpu' else LAYOUTS
        for layout in layouts:
          yield f'{layout}/1/{batch}/{dtype}'


def _slow(backend, num):
  """Programs that take long to compile: left out of a quick run."""
  return backend != 'loop' and num != '5'


def _run(args, case, cache) -> dict:
  side = case.partition('/')[0]
  torch = side in (*LAYOUTS, 'compiled')
  command = [args.torch_python if torch else sys.executable, __file__]
  command += [f'--case={case}', f'--began={time.time()}']
  for name in ('cores', 'platform', 'samples', 'seconds'):
    command.append(f'--{name}={getattr(args, name)}')
  environment = {
    **os.environ,
    **ALLOCATOR,
    'PYTHONPATH': str(ROOT),
    'OMP_NUM_THREADS': str(args.cores),
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }
  if args.platform == 'cpu':
    environment['JAX_PLATFORMS'] = 'cpu'
  done = subprocess.run(
    command, env=environment, text=True, stdout=subprocess.PIPE, check=False
  )
  if done.returncode:  # out of memory on a small GPU, for example
    return {'failed': done.returncode}
  return json.loads(done.stdout.splitlines()[-1])


def _starts(args, cache) -> dict:
  """Seconds from the start of Python to the end of the first step."""
  batch = args.batches.split(',')[0]
  out = {}
  backends = args.backends.split(',')
  for backend in backends[:1] if args.quick else backends:
    case = f'{backend}/5/{batch}/float32'
    folder = f'{cache}/start-{backend}'
    for name in ('cold', 'cached'):
      out[f'{backend}, {name}'] = _run(args, case, folder).get('first_step_s')
      print(f'start, {backend}, {name}: {out[f"{backend}, {name}"]} s')
  return out


def _child(args) -> dict:
  if args.platform == 'cpu' and hasattr(os, 'sched_setaffinity'):
    cores = sorted(os.sched_getaffinity(0))[-args.cores :]
    os.sched_setaffinity(0, cores)
  side, num, batch, dtype = args.case.split('/')
  if side in (*LAYOUTS, 'compiled'):
    return _torch(args, side, int(batch), dtype)
  return _cmbjax(args, side, int(num), int(batch), dtype)


def _best(args, function, patches) -> float:
  """Patches per second of the fastest sample."""
  function()
  start = time.perf_counter()
  function()
  once = time.perf_counter() - start
  repeats = max(1, round(args.seconds / max(once, 1e-9)))
  samples = []
  for _ in range(args.samples):
    start = time.perf_counter()
    for _ in range(repeats):
      function()
    samples.append((time.perf_counter() - start) / repeats)
  return patches / min(samples)


def _cmbjax(args, backend, num, batch, dtype) -> dict:
  import jax
  import jax.numpy as jnp
  import numpy as np

  from cmbjax.models import get_model
  from cmbjax.training import loop, replicas, watch
  from cmbjax.training.runner import Runner, begin

  if dtype == 'tf32':
    jax.config.update('jax_default_matmul_precision', 'tensorfloat32')
  network = get_model(
    'resnet_v4', dtype=jnp.bfloat16 if dtype == 'bfloat16' else None
  )
  runner = Runner(network, backend=backend)
  rng = np.random.default_rng(0)
  patches = replicas.on_device(
    rng.random((NUM_EXAMPLES, 24, 24, 12), np.float32),
    rng.integers(0, 2, NUM_EXAMPLES),
  )
  rows = tuple(replicas.Replica('x', r % 2, 0, 1e-4) for r in range(num))
  fold_of = np.arange(NUM_EXAMPLES) % 2
  job = loop.Job('x', rows, np.arange(NUM_EXAMPLES), fold_of, 1, batch)
  first = replicas.first_weights(network, rows)
  state = loop.initial_state((job,), first, runner)
  values = loop.values_of((job,), first, runner)
  steps = np.full(num, 2, np.int32)
  index = loop.epoch_order(job, 0)[:, :2]
  keys, active = loop._keys(job, 0), np.ones(num, bool)
  learner = state.learner

  def train(steps=steps):
    nonlocal learner
    learner, _ = runner.epoch(
      patches,
      learner,
      begin(num),
      index=index,
      steps=steps,
      keys=keys,
      values=values,
      active=active,
    )
    jax.block_until_ready(learner)

  train(np.ones(num, np.int32))
  began = time.time() - args.began
  held = np.arange(min(4 * batch, NUM_EXAMPLES))

  def infer():
    runner.logits(patches, learner.weights, held, batch)

  out = {'first_step_s': round(began, 2)}
  out['training'] = _best(args, train, num * 2 * batch)
  out['inference'] = _best(args, infer, num * len(held))
  memory = watch.memory_gb()
  return out | {'memory_gb': memory.get('device', memory['host'])}


def _torch(args, layout, batch, dtype) -> dict:
  import resource

  import torch

  sys.path.insert(0, str(ROOT / 'benchmarks'))
  import convolution

  torch.set_num_threads(args.cores)
  torch.manual_seed(0)
  device = 'cuda' if args.platform == 'gpu' else 'cpu'
  torch.backends.cuda.matmul.allow_tf32 = dtype == 'tf32'
  torch.backends.cudnn.allow_tf32 = dtype == 'tf32'
  torch.backends.cudnn.benchmark = True
  net = convolution._torch_net(torch).to(device)
  x = torch.rand(batch, 1, 16, 16, 8, device=device)
  y = (torch.arange(batch, device=device) % 2).float()
  if layout != 'contiguous':
    net = net.to(memory_format=torch.channels_last_3d)
    x = x.contiguous(memory_format=torch.channels_last_3d)
  call = torch.compile(net) if layout == 'compiled' else net
  adam = torch.optim.Adam(net.parameters(), lr=1e-4)
  loss_of = torch.nn.BCEWithLogitsLoss()
  half = torch.autocast(device, torch.bfloat16, enabled=dtype == 'bfloat16')

  def done():
    if device == 'cuda':
      torch.cuda.synchronize()

  def train():
    net.train()
    for _ in range(2):
      adam.zero_grad(set_to_none=True)
      with half:
        loss = loss_of(call(x)[:, 0].float(), y)
      loss.backward()
      adam.step()
    done()

  def infer():
    net.eval()
    with torch.inference_mode(), half:
      for _ in range(4):
        call(x)
    done()

  train()
  out = {'first_step_s': round(time.time() - args.began, 2)}
  out['training'] = _best(args, train, 2 * batch)
  out['inference'] = _best(args, infer, 4 * batch)
  if device == 'cuda':
    memory = torch.cuda.max_memory_allocated()
  else:
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return out | {'memory_gb': round(memory / 1e9, 3)}


def _line(case, found) -> str:
  row = found[case]
  if 'failed' in row:
    return f'{case}: failed'
  return (
    f'{case}: training {row["training"]:,.0f}, inference '
    f'{row["inference"]:,.0f} patches/s, {row["memory_gb"]:.1f} GB'
  )


def _report(args, found, starts, load) -> None:
  table = {}  # (side, R, dtype) -> {what: (patches/s, batch)}
  for case, row in found.items():
    side, num, batch, dtype = case.split('/')
    for what in ('training', 'inference'):
      if what in row:
        cell = table.setdefault((side, int(num), dtype), {})
        cell[what] = max(cell.get(what, (0, 0)), (row[what], int(batch)))
  best = {}  # of PyTorch, by dtype
  for (side, _, dtype), cell in table.items():
    if side in (*LAYOUTS, 'compiled'):
      for what, (speed, _) in cell.items():
        key = what, dtype
        best[key] = max(best.get(key, 0), speed)
  print(f'\n{_machine()}; {args.cores} cores; load before {load:.1f}')
  lines = []
  for (side, num, dtype), cell in table.items():
    line = {'side': side, 'replicas': num, 'dtype': dtype}
    text = f'{side:17s} R={num:<3d}{dtype:9s}'
    for what, (speed, batch) in cell.items():
      gflop = GFLOP_STEP if what == 'training' else GFLOP_FORWARD
      line[what] = {'patches_per_second': round(speed, 1), 'batch': batch}
      text += f' {what} {speed:9,.0f}/s (batch {batch})'
      if best.get((what, dtype)):
        line[what]['of_pytorch'] = round(speed / best[what, dtype], 3)
        text += f' {speed / best[what, dtype]:5.2f}x'
      if args.peak_tflops:
        share = speed * gflop / 1e3 / args.peak_tflops
        line[what]['of_peak_flops'] = round(share, 4)
        text += f' {share:6.1%} of peak'
    lines.append(line)
    print(text)
  print('x: against the faster layout of PyTorch' if best else 'no PyTorch')
  for name, seconds in starts.items():
    print(f'start to first step, {name}: {seconds} s')
  out = ROOT / 'benchmarks' / 'results'
  out.mkdir(exist_ok=True)
  result = {
    'machine': _machine(),
    'cores': args.cores,
    'load_before': round(load, 2),
    'quick': args.quick,
    'rows': lines,
    'first_step_s': starts,
    'cases': found,
  }
  name = f'replicas-{args.platform}{"-quick" if args.quick else ""}.json'
  (out / name).write_text(json.dumps(result, indent=2) + '\n')


def _machine() -> str:
  try:
    text = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8')
    names = [l for l in text.splitlines() if l.startswith('model name')]
    return names[0].partition(':')[2].strip()
  except (OSError, IndexError):
    return platform.machine()


if __name__ == '__main__':
  main()
