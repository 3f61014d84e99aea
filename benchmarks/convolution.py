"""One training step and one forward pass of resnet_v4, beside PyTorch.

  python benchmarks/convolution.py --batch=64 --cores=1
  python benchmarks/convolution.py --torch=/path/to/python-with-torch

Rule: fair. Each side runs in its own process, pinned to the same cores, with
as many threads as cores and the same allocator settings. Processes of all
sides take turns, the smallest sample of each counts. `--clock=cpu` counts
processor time instead of wall time: right on a shared machine with one core,
misleading with more, because PyTorch's threads spin while they wait.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
JAX_SIDES = ('auto', 'composed', 'native')
TORCH_SIDES = ('channels_last_3d', 'contiguous')
ALLOCATOR = {  # large temporaries are kept, not mapped anew in every step
  'MALLOC_MMAP_THRESHOLD_': '4294967296',
  'MALLOC_TRIM_THRESHOLD_': '4294967296',
  'MALLOC_TOP_PAD_': '268435456',
  'MALLOC_ARENA_MAX': '1',  # as cmbjax.allocator sets it
}


def main():
  args = _arguments()
  if args.side:
    run = _run_torch if args.side in TORCH_SIDES else _run_jax
    print(json.dumps(run(args)))
    return
  sides = [(side, sys.executable) for side in args.forms.split(',')]
  if args.torch:
    sides += [(side, args.torch) for side in TORCH_SIDES]
  best = {}
  for _ in range(args.rounds):
    for side, python in sides:
      for key, value in _child(args, side, python).items():
        old = best.setdefault(side, {}).get(key, value)
        best[side][key] = min(old, value)
  _print(args, best)


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--cores', type=int, default=1)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--samples', type=int, default=8)
  parser.add_argument('--clock', choices=('wall', 'cpu'), default='wall')
  parser.add_argument('--forms', default=','.join(JAX_SIDES))
  parser.add_argument('--torch', default='', help='a Python that has PyTorch')
  parser.add_argument('--side', default='', help=argparse.SUPPRESS)
  return parser.parse_args()


def _child(args, side, python):
  options = ('batch', 'cores', 'samples', 'clock')
  command = [python, __file__, f'--side={side}']
  command += [f'--{name}={getattr(args, name)}' for name in options]
  environment = {
    **os.environ,
    **ALLOCATOR,
    'PYTHONPATH': str(ROOT),
    'OMP_NUM_THREADS': str(args.cores),
  }
  if args.cores == 1:
    environment['XLA_FLAGS'] = '--xla_cpu_multi_thread_eigen=false'
  done = subprocess.run(
    command, env=environment, check=True, text=True, stdout=subprocess.PIPE
  )
  return json.loads(done.stdout.splitlines()[-1])


def _pin(args):
  cores = sorted(os.sched_getaffinity(0))[-args.cores :]
  os.sched_setaffinity(0, cores)


def _smallest_ms(args, function):
  """The fastest of some samples, after two that do not count."""
  clock = time.process_time if args.clock == 'cpu' else time.perf_counter
  samples = []
  for _ in range(args.samples + 2):
    start = clock()
    function()
    samples.append(clock() - start)
  return 1e3 * min(samples[2:])


def _run_jax(args):
  _pin(args)
  start = time.perf_counter()
  import jax
  import jax.numpy as jnp
  import optax

  from cmbjax import models

  model = models.get_model('resnet_v4', convolution=args.side)
  x = jax.random.uniform(jax.random.key(1), (args.batch, 16, 16, 8, 1))
  y = (jnp.arange(args.batch) % 2).astype(jnp.float32)
  init = jax.jit(
    model.init, compiler_options={'xla_backend_optimization_level': 0}
  )
  variables = init(jax.random.key(0), x[:1])
  adam = optax.adam(1e-4)

  @jax.jit
  def step(variables, state, key):
    def loss(params):
      logits, new = model.apply(
        {**variables, 'params': params},
        x,
        train=True,
        rngs={'dropout': key},
        mutable=['batch_stats'],
      )
      return optax.sigmoid_binary_cross_entropy(logits, y).mean(), new

    gradients, new = jax.grad(loss, has_aux=True)(variables['params'])
    updates, state = adam.update(gradients, state)
    params = optax.apply_updates(variables['params'], updates)
    return {'params': params, **new}, state

  state, key = adam.init(variables['params']), jax.random.key(2)

  def train():
    return jax.block_until_ready(step(variables, state, key))

  train()
  first_s = time.perf_counter() - start
  forward = jax.jit(lambda variables: model.apply(variables, x))
  return {
    'train_ms': _smallest_ms(args, train),
    'forward_ms': _smallest_ms(
      args, lambda: forward(variables).block_until_ready()
    ),
    'first_step_s': first_s,
  }


def _run_torch(args):
  _pin(args)
  start = time.perf_counter()
  import torch

  torch.set_num_threads(args.cores)
  torch.manual_seed(0)
  net = _torch_net(torch)
  x = torch.rand(args.batch, 1, 16, 16, 8)
  y = (torch.arange(args.batch) % 2).float()
  if args.side == 'channels_last_3d':
    net = net.to(memory_format=torch.channels_last_3d)
    x = x.contiguous(memory_format=torch.channels_last_3d)
  adam = torch.optim.Adam(net.parameters(), lr=1e-4)
  loss_of = torch.nn.BCEWithLogitsLoss()

  def train():
    net.train()
    adam.zero_grad(set_to_none=True)
    loss_of(net(x)[:, 0], y).backward()
    adam.step()

  def forward():
    net.eval()
    with torch.inference_mode():
      net(x)

  train()
  first_s = time.perf_counter() - start
  return {
    'train_ms': _smallest_ms(args, train),
    'forward_ms': _smallest_ms(args, forward),
    'first_step_s': first_s,
  }


def _torch_net(torch):
  """resnet_v4 with the same layers and number of parameters."""
  nn = torch.nn

  class Unit(nn.Module):
    def __init__(self, inputs, width, *, project):
      super().__init__()
      self.body = nn.Sequential(
        nn.Conv3d(inputs, width, 3, padding=1),
        nn.BatchNorm3d(width, eps=1e-3, momentum=0.01),
        nn.ReLU(inplace=True),
        nn.Conv3d(width, width, 3, padding=1),
        nn.BatchNorm3d(width, eps=1e-3, momentum=0.01),
      )
      self.shortcut = nn.Conv3d(inputs, width, 1) if project else nn.Identity()

    def forward(self, x):
      return torch.relu(self.body(x) + self.shortcut(x))

  layers, inputs = [], 1
  for width, units in ((8, 3), (16, 6), (32, 3)):
    if layers:
      layers.append(nn.MaxPool3d(2))
    for index in range(units):
      layers.append(Unit(inputs, width, project=index == 0))
      inputs = width
  layers += [nn.AdaptiveAvgPool3d(1), nn.Flatten()]
  for width in (32, 16):
    layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.5)]
    inputs = width
  net = nn.Sequential(*layers, nn.Linear(inputs, 1))
  assert sum(p.numel() for p in net.parameters()) == 244_009
  return net


def _print(args, best):
  print(
    f'resnet_v4, batch {args.batch}, {args.cores} core(s), {args.clock} time, '
    f'smallest of {args.rounds} x {args.samples} samples; load now '
    f'{os.getloadavg()[0]:.1f}'
  )
  torch = [best[side] for side in TORCH_SIDES if side in best]
  for side, row in best.items():
    line = f'{side:17s}'
    for key in ('train_ms', 'forward_ms'):
      line += f' {key[:-3]} {row[key]:7.1f} ms {row[key] / args.batch:6.2f}'
      line += ' ms/patch'
      if torch:
        line += f' {min(t[key] for t in torch) / row[key]:5.2f}x PyTorch;'
    print(f'{line} first step after {row["first_step_s"]:.1f} s')


if __name__ == '__main__':
  main()
