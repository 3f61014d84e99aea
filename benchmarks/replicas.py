"""Patches per second of R trainings at once, beside PyTorch's one by one.

  python benchmarks/replicas.py --torch-python=/path/to/python-with-torch
  python benchmarks/replicas.py --quick     # fewer cases, under 4 minutes
  python benchmarks/replicas.py --gpu --torch-python=...   # on an NVIDIA GPU
  python benchmarks/replicas.py --scaling   # 1 to 8 devices, 2 processes

resnet_v4 on 16 x 16 x 8 patches, Adam, the whole step. The one of cmbjax has
the gather from the device and the augmentation in it, that of PyTorch starts
from a finished batch. Each case has a process of its own, pinned to the same
cores, with as many threads as cores and the same allocator settings. Processes
take turns over the rounds; the fastest sample of the best batch size counts.
The limit is what this machine can do: products of large matrices, or copies of
memory where a step needs more of those. It holds for direct convolutions, whose
multiplications are counted; Winograd's form needs fewer and may pass it, so it
is no bound of that one and is called the direct form's limit throughout.
Winograd's bound is WINOGRAD times that limit.
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
RESULTS = ROOT / 'benchmarks' / 'results'
ALLOCATOR = {  # large temporaries are kept, not mapped anew in every step
  'MALLOC_MMAP_THRESHOLD_': '4294967296',
  'MALLOC_TRIM_THRESHOLD_': '4294967296',
  'MALLOC_TOP_PAD_': '268435456',
  'MALLOC_ARENA_MAX': '1',  # as cmbjax.allocator sets it
}
BACKENDS = ('auto', 'loop', 'map', 'vmap', 'shard')
LAYOUTS = ('channels_last_3d', 'contiguous')
# Multiply-adds of the convolutions count twice; three forward passes' worth
# make a training step.
GFLOP_FORWARD, GFLOP_STEP = 0.0867, 0.26
WINOGRAD = 3.4  # fewer multiplications by F(2x2x2, 3x3x3): 27 * 8 / 64
NUM_EXAMPLES = 1024
CASE_S = 180  # one that hangs does not take the others with it


# The study that the goal of 5 minutes on one H100 is about (ours).
PAPER_PATCHES = 9000 * 200 * 20  # candidates, epochs, trainings
GOALS = {'of_pytorch': 5.0, 'paper_study_s': 300.0}


def main() -> int:
  args = _arguments()
  if args.case:
    print(json.dumps(_child(args)))
    return 0
  if args.scaling:
    import scaling

    return scaling.table('resnet_v4', samples=args.samples, out=args.out)
  load = os.getloadavg()[0]
  starts = {}
  if args.platform == 'cpu' and not args.no_start:
    import start

    starts = start.measure()
    start.report(starts)
  with tempfile.TemporaryDirectory() as cache:
    found = {}
    cases = list(_cases(args))
    for number in range(args.rounds):
      for case in cases:
        best = found.setdefault(case, {})
        if 'failed' in best:
          continue
        for name, value in _run(args, case, f'{cache}/warm').items():
          lower = name in ('first_step_s', 'memory_gb')
          best[name] = (min if lower else max)(best.get(name, value), value)
        print(f'round {number + 1}: {_line(case, found)}', flush=True)
  _report(args, found, starts, load)
  return 0


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--quick', action='store_true')
  parser.add_argument('--rounds', type=int, default=0, help='3; 1 if quick')
  parser.add_argument('--seconds', type=float, default=0, help='per sample')
  parser.add_argument('--samples', type=int, default=4)
  parser.add_argument('--cores', type=int, default=0, help='0: all')
  parser.add_argument('--platform', choices=('cpu', 'gpu'), default='')
  parser.add_argument('--dtypes', default='')
  parser.add_argument('--batches', default='')
  parser.add_argument('--replicas', default='1,5,20')
  parser.add_argument('--backends', default='')
  parser.add_argument('--torch-python', default='', help='one with PyTorch')
  parser.add_argument('--gpu', action='store_true', help='all of it for a GPU')
  parser.add_argument('--scaling', action='store_true')
  parser.add_argument('--no-start', action='store_true')
  parser.add_argument('--out', type=pathlib.Path, default=RESULTS)
  parser.add_argument('--case', default='', help=argparse.SUPPRESS)
  parser.add_argument('--began', type=float, default=0, help=argparse.SUPPRESS)
  args = parser.parse_args()
  args.cores = args.cores or len(os.sched_getaffinity(0))
  args.rounds = args.rounds or (1 if args.quick or args.gpu else 2)
  args.seconds = args.seconds or 1.0
  args.platform = args.platform or ('gpu' if args.gpu else 'cpu')
  many = '64,256' if args.gpu else '16,64'
  args.dtypes = args.dtypes or (
    'float32,tf32,bfloat16' if args.gpu else 'float32'
  )
  args.batches = args.batches or ('64' if args.quick else many)
  # On one GPU shard is vmap.
  args.backends = args.backends or (
    'auto,loop,map,vmap' if args.gpu else 'auto,loop,map,vmap,shard'
  )
  return args


def _cases(args):
  """'side/R/batch/dtype' of every process, PyTorch between the others."""
  for dtype in args.dtypes.split(','):
    yield f'limit/1/0/{dtype}'
    for batch in args.batches.split(','):
      for num in args.replicas.split(','):
        for backend in args.backends.split(','):
          if _worthwhile(args, backend, int(num), int(batch)):
            yield f'{backend}/{num}/{batch}/{dtype}'
      if args.torch_python:
        layouts = [*LAYOUTS, 'compiled'] if args.gpu else LAYOUTS
        for layout in layouts:
          yield f'{layout}/1/{batch}/{dtype}'


def _worthwhile(args, backend, num, batch) -> bool:
  """Not the same program twice, and on a CPU none that takes minutes."""
  if num == 1:
    return backend == 'auto'  # one row is a plain step in all of them
  if args.gpu:
    return batch == 64 or num == 20
  if args.quick:
    return backend in ('auto', 'loop') or num == 5
  return num <= 5 or batch <= 16 or backend == 'auto'


def _run(args, case, cache) -> dict:
  side = case.partition('/')[0]
  torch = side in (*LAYOUTS, 'compiled')
  command = [args.torch_python if torch else sys.executable, __file__]
  command += [f'--case={case}', f'--began={time.time()}']
  for name in ('cores', 'platform', 'samples', 'seconds'):
    command.append(f'--{name}={getattr(args, name)}')
  command += ['--gpu'] if args.gpu else []
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
  try:
    done = subprocess.run(
      command,
      env=environment,
      text=True,
      stdout=subprocess.PIPE,
      timeout=CASE_S,
      check=False,
    )
    return json.loads(done.stdout.splitlines()[-1])
  except subprocess.TimeoutExpired:
    return {'failed': f'took more than {CASE_S} s'}
  except (IndexError, ValueError):  # out of memory on a small GPU, for example
    return {'failed': f'exit code {done.returncode}'}


def _child(args) -> dict:
  if args.platform == 'cpu' and hasattr(os, 'sched_setaffinity'):
    cores = sorted(os.sched_getaffinity(0))[-args.cores :]
    os.sched_setaffinity(0, cores)
  side, num, batch, dtype = args.case.split('/')
  if side == 'limit':
    return _limit(args, dtype)
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


def _limit(args, dtype) -> dict:
  """What the machine can do: TFLOP/s of a product, GB/s of a copy."""
  import jax
  import jax.numpy as jnp

  from cmbjax.study import cost

  half = jnp.bfloat16 if dtype == 'bfloat16' else jnp.float32
  size = 8192 if jax.default_backend() == 'gpu' else 2048
  precision = 'highest' if dtype == 'float32' else 'default'
  a = jnp.ones((size, size), half)
  product = jax.jit(lambda x: jnp.dot(x, x, precision=precision))
  copied = jax.jit(lambda x: x + 1)
  long = jnp.ones(size * size * 8, jnp.float32)
  per_s = _best(args, lambda: product(a).block_until_ready(), 1)
  copies = _best(args, lambda: copied(long).block_until_ready(), 1)
  # Written, read by what follows, read again for the gradients, and these.
  kept = cost._network('resnet_v4', 'float32', 1).activation_bytes / 1e9
  kept /= 2 if dtype == 'bfloat16' else 1
  return {
    'tflops': round(per_s * 2 * size**3 / 1e12, 3),
    'gb_per_s': round(copies * 2 * long.nbytes / 1e9, 1),
    'gb_training': 5 * kept,
    'gb_inference': 2 * kept,
    'device': jax.devices()[0].device_kind,
  }


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
  keys, active = loop.step_keys(job, 0), np.ones(num, bool)
  rates = loop.rates_of((job,), state, 0)[:, :2]
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
      rates=rates,
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
  device = 'cuda' if torch.cuda.is_available() and args.gpu else 'cpu'
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
    return f'{case}: failed, {row["failed"]}'
  if 'tflops' in row:
    return f'{case}: {row["tflops"]:.2f} TFLOP/s, {row["gb_per_s"]:,.0f} GB/s'
  return (
    f'{case}: training {row["training"]:,.0f}, inference '
    f'{row["inference"]:,.0f} patches/s, {row["memory_gb"]:.1f} GB'
  )


def _report(args, found, starts, load) -> None:
  limits = {
    case.rpartition('/')[2]: row
    for case, row in found.items()
    if case.startswith('limit/') and 'failed' not in row
  }
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
      line[what] = {'patches_per_second': round(speed, 1), 'batch': batch}
      text += f' {what} {speed:9,.0f}/s (batch {batch})'
      if best.get((what, dtype)):
        line[what]['of_pytorch'] = round(speed / best[what, dtype], 3)
        text += f' {speed / best[what, dtype]:5.2f}x'
      if dtype in limits:
        share = speed / _most(limits[dtype], what)
        line[what]['of_direct_form_limit'] = round(share, 4)
        line[what]['of_winograd_bound'] = round(share / WINOGRAD, 4)
        text += f' {share:6.1%} of direct limit, '
        text += f"{share / WINOGRAD:6.1%} of Winograd's bound"
    lines.append(line)
    print(text)
  print('x: against the faster layout of PyTorch' if best else 'no PyTorch')
  goals = _goals(lines) if args.gpu else {}
  result = {
    'machine': _machine(),
    'device': next((one['device'] for one in limits.values()), ''),
    'cores': args.cores,
    'load_before': round(load, 2),
    'quick': args.quick,
    'rows': lines,
    'limits': limits,
    'goals': goals,
    'start': starts,
    'cases': found,
  }
  args.out.mkdir(parents=True, exist_ok=True)
  name = f'replicas-{args.platform}{"-quick" if args.quick else ""}.json'
  if args.gpu and args.platform == 'cpu':
    name = 'replicas-rehearsal.json'  # of the GPU's table, on the processor
  (args.out / name).write_text(json.dumps(result, indent=2) + '\n')
  print(f'saved: {args.out.name}/{name}')


def _most(limit, what) -> float:
  """Patches per second that arithmetic and memory allow direct convolutions."""
  gflop = GFLOP_STEP if what == 'training' else GFLOP_FORWARD
  by_flops = limit['tflops'] * 1e3 / gflop
  return min(by_flops, limit['gb_per_s'] / limit[f'gb_{what}'])


def _goals(lines) -> dict:
  """20 trainings against PyTorch, and the study of the paper's size."""
  ours = [l for l in lines if l['side'] in BACKENDS]
  many = max((l['replicas'] for l in ours), default=0)
  ours = [l for l in ours if l['replicas'] == many and 'training' in l]
  if not ours:
    print('no training case of cmbjax ended: nothing to say about the goals')
    return {}
  fastest = max(ours, key=lambda l: l['training']['patches_per_second'])
  seconds = PAPER_PATCHES / fastest['training']['patches_per_second']
  ratio = {l['dtype']: 0.0 for l in ours}
  for line in ours:
    own = line['training'].get('of_pytorch', 0.0)
    ratio[line['dtype']] = max(ratio[line['dtype']], own)
  for dtype, times in ratio.items():
    said = f'{times:.1f}x PyTorch' if times else 'no PyTorch to compare with'
    print(f'{many} trainings, {dtype}: {said}, goal {GOALS["of_pytorch"]:.0f}x')
  print(
    f'study of the paper (20 trainings x 200 epochs x 9,000 candidates), '
    f'{fastest["side"]}, {fastest["dtype"]}: {seconds:,.0f} s, goal '
    f'{GOALS["paper_study_s"]:.0f} s on one H100'
  )
  return {
    'replicas': many,
    'of_pytorch': ratio,
    'paper_study_s': round(seconds, 1),
    'goals': GOALS,
  }


def _machine() -> str:
  try:
    text = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8')
    names = [l for l in text.splitlines() if l.startswith('model name')]
    return names[0].partition(':')[2].strip()
  except (OSError, IndexError):
    return platform.machine()


if __name__ == '__main__':
  sys.exit(main())
