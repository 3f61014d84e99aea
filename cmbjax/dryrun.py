"""A config to what it would train: table, programs, memory and time.

Rule: nothing is simulated, built, compiled or trained; what is estimated says
so, and where the numbers come from.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cmbjax import config as configs
from cmbjax import trainings as trainings_lib
from cmbjax.data import augment
from cmbjax.data.channels import data_set as data_set_of
from cmbjax.models import get_model
from cmbjax.progress import readable
from cmbjax.training import replicas, watch

# Candidates per simulated scan of 60 mm, counted in finished runs.
CANDIDATES_PER_SCAN = {
  'btumor_7t': 100,
  'btumor_3t': 100,
  'ccm_3t': 180,
  'randomised': 100,  # whole heads times 60 / 168
}
# Useful GFLOP/s of a training step of resnet_v4, measured on x86-64 cores with
# the compiled convolution; the one for GPUs is a guess on the safe side.
CPU_GFLOPS_PER_CORE = 60.0
GPU_GFLOPS = 2000.0
COMPILE_S = 20.0  # of one program on a CPU
STATE_COPIES = 5  # weights, two moments of Adam, best weights, gradients
# On a CPU all is in the memory of one process: Python, JAX and the compiler
# take the first number (peak of finished runs of 5 to 45 networks), and the
# copies that are saved or handed to threads add to those above.
PROCESS_BYTES = 1.3e9
HOST_COPIES = 10


class Training(NamedTuple):
  """One job as it would be: R rows that share what stands here."""

  strategy: str
  variant: str
  config: ConfigDict
  rows: tuple[replicas.Replica, ...]
  epochs: int
  candidates: int  # of its training subjects
  wave: int  # 1 waits for the weights of wave 0

  @property
  def steps(self) -> int:
    """Steps of an epoch, folds taken as equal."""
    train = self.config.train
    seen = self.candidates * (train.folds - 1) / train.folds
    return max(1, math.ceil(seen / train.batch))

  @property
  def program(self) -> tuple:
    """What decides the shapes."""
    model = self.config.model
    channels = len(self.config.channels)
    return (model.name, model.dtype, channels, self.config.train.batch)


class Cost(NamedTuple):
  """What one network costs; per patch where not said otherwise."""

  parameters: int
  forward_flops: float
  activation_bytes: float  # kept for the gradients


def describe(
  config: ConfigDict, workdir: pathlib.Path, sweep: Sequence[dict] = ()
) -> str:
  """The text of `--mode=dryrun`.

  Raises:
    InputError: a wrong setting, also of a single point of the sweep.
  """
  points = configs.points(config, sweep)
  trainings_lib.check_layers(points)
  trainings_lib.check_pretrained(config)
  counts, source = candidates(config, pathlib.Path(workdir))
  trainings = list(plan(points, counts))
  waves = sorted({(t.wave, t.program) for t in trainings})
  programs = {t.program for t in trainings}
  costs = {p: cost(*p[:3]) for p in programs}
  total = sum(len(t.rows) for t in trainings)
  out = [
    f'{config.name}: {total} trainings, {len(programs)} '
    f'program{"s" if len(programs) > 1 else ""}, {len(waves)} '
    f'call{"s" if len(waves) > 1 else ""}; nothing is trained now',
    '',
    *_table(trainings),
    '',
    f'Candidates: {source}.',
    '',
  ]
  for number, (wave, program) in enumerate(waves, 1):
    some = [t for t in trainings if (t.wave, t.program) == (wave, program)]
    out.append(_call(number, some, costs[program]))
  memory = max(
    _memory(
      [t for t in trainings if (t.wave, t.program) == w], costs[w[1]], counts
    )
    for w in waves
  )
  seconds, why = _seconds(trainings, costs, pathlib.Path(workdir))
  where = 'of this process' if _on_cpu() else 'on the device'
  out += [
    f'Memory: about {memory / 1e9:.1f} GB {where} (estimated).',
    f'Time: about {seconds:.0f} s, {readable(seconds)}, for the training '
    f'({why}).',
  ]
  load, cores = os.getloadavg()[0], os.cpu_count() or 1
  if _on_cpu() and load > cores / 2:
    out.append(
      f'Other work is running here now (load {load:.1f} on {cores} cores): '
      f'up to {(load + cores) / cores:.0f} times as long.'
    )
  return '\n'.join(out)


def plan(
  points: Sequence[configs.Point], counts: dict[str, int]
) -> Iterator[Training]:
  """The different trainings of all points, as `trainings.plan` makes them."""
  known = set()
  for point in points:
    rows_of = {}
    for strategy in configs.trained_strategies(point.config):
      rows = configs.replica_rows(point.config, strategy)
      epochs = configs.epochs_of(point.config, strategy)
      train, model = point.config.train, point.config.model
      rows_of[strategy] = (
        *(rows, epochs, train.batch, train.stop_after, train.bn_momentum),
        *(model.name, model.dtype),
      )
      tuned = configs.goes_on(point.config, strategy)
      mark = (rows_of[strategy], rows_of.get('7t') if tuned else None)
      if mark in known:
        continue
      known.add(mark)
      yield Training(
        strategy=strategy,
        variant=configs.variant(point, strategy),
        config=point.config,
        rows=rows,
        epochs=epochs,
        candidates=sum(
          counts[name] for name in configs.trained_on(point.config, strategy)
        ),
        wave=int(tuned and point.config.pretrained in configs.TRAIN_FIRST),
      )


def candidates(
  config: ConfigDict, workdir: pathlib.Path
) -> tuple[dict[str, int], str]:
  """Training candidates of each cohort, and where the numbers come from."""
  counts, counted = {}, []
  data_set = data_set_of(config.patches, config.channels)
  for name in filter(lambda n: _subjects(config, n), configs.LEARNABLE):
    folders = list((workdir / 'examples').glob(f'*/{name}/{data_set}/*'))
    folders = [f for f in folders if (f / 'dataset_info.json').is_file()]
    subjects = _subjects(config, name)
    if folders:
      newest = max(folders, key=lambda f: f.stat().st_mtime)
      info = json.loads((newest / 'dataset_info.json').read_text())
      lengths = (s['shardLengths'] for s in info['splits'])
      number = sum(int(n) for shards in lengths for n in shards)
      counted.append(name)
    else:
      number = CANDIDATES_PER_SCAN[name] * subjects
      if config.simulate.slab_mm and not config.cohorts[name]:
        number = number * config.simulate.slab_mm / 60
    held = configs.held_out(config, name, subjects)
    share = max(subjects - held, 0) / max(subjects, 1)
    counts[name] = round(number * share)
  if not counted:
    return counts, 'estimated from the number of scans'
  if len(counted) == len(counts):
    return counts, 'counted in the examples of an earlier run'
  return counts, f'counted in {", ".join(counted)}, others estimated'


def cost(model: str, dtype: str, channels: int = 1) -> Cost:
  """FLOPs and bytes of a network, from its shapes alone."""
  network = get_model(model, convolution='native', dtype=jnp.dtype(dtype))
  patch = jax.ShapeDtypeStruct((1, *augment.SEEN, channels), jnp.float32)
  variables = jax.eval_shape(
    lambda x: network.init(jax.random.key(0), x), patch
  )
  leaves = jax.tree.leaves(variables['params'])
  graph = jax.make_jaxpr(lambda v, x: network.apply(v, x))(variables, patch)
  flops = kept = 0.0
  for equation in _equations(graph.jaxpr):
    made = equation.outvars[0].aval
    if equation.primitive.name in ('conv_general_dilated', 'dot_general'):
      kernel = equation.invars[1].aval.shape
      flops += 2 * math.prod(made.shape) * math.prod(kernel[:-1])
      # Its result, and what BatchNorm and ReLU make of it.
      kept += 3 * made.size * made.dtype.itemsize
  return Cost(sum(leaf.size for leaf in leaves), flops, kept)


def _equations(jaxpr) -> Iterator:
  for equation in jaxpr.eqns:
    yield equation
    for value in equation.params.values():
      inner = getattr(value, 'jaxpr', None)
      if inner is not None and hasattr(inner, 'eqns'):
        yield from _equations(inner)


def _subjects(config: ConfigDict, name: str) -> int:
  folder = config.cohorts[name]
  if folder:
    return max(1, sum(p.is_dir() for p in pathlib.Path(folder).glob('sub-*')))
  return config.simulate.subjects[name]


def _table(trainings: Sequence[Training]) -> list[str]:
  head = ['strategy', 'folds', 'seeds', 'rate', 'decay', 'patience', 'weight']
  head += ['augment', 'frozen', 'network', 'batch', 'epochs', 'steps']
  lines = [head]
  for t in trainings:
    row = t.rows[0]
    cells = [t.strategy, t.config.train.folds, len(t.config.train.seeds)]
    cells += [f'{row.learning_rate:g}', f'{row.weight_decay:g}', row.patience]
    cells += [f'{row.positive_weight:g}', f'{row.augmentation:g}']
    cells += [row.frozen or '-', t.config.model.name, t.config.train.batch]
    lines.append([str(c) for c in [*cells, t.epochs, t.steps]])
  widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
  return [
    '  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
    for line in lines
  ]


def _call(number: int, some: Sequence[Training], network: Cost) -> str:
  model, dtype, _, batch = some[0].program
  strategies = ', '.join(dict.fromkeys(t.strategy for t in some))
  rows = sum(len(t.rows) for t in some)
  steps = max(t.epochs * t.steps for t in some)
  return (
    f'Call {number}: {rows} networks at once ({strategies}); {model} '
    f'({network.parameters:,} parameters), {dtype}, batch {batch}; '
    f'{steps:,} steps.'
  )


def _memory(
  some: Sequence[Training], network: Cost, counts: dict[str, int]
) -> float:
  """Bytes: states of all rows, activations of those that run at once."""
  rows = sum(len(t.rows) for t in some)
  train = some[0].config.train
  at_once = rows
  if _on_cpu() and train.backend in ('auto', 'loop', 'map'):
    at_once = min(rows, os.cpu_count() or 1)
  elif train.width:
    at_once = min(rows, train.width)
  channels = len(some[0].config.channels)
  patches = sum(counts.values()) * math.prod(augment.PATCH) * channels * 2
  copies = HOST_COPIES if _on_cpu() else STATE_COPIES
  state = rows * network.parameters * 4 * copies
  active = at_once * train.batch * network.activation_bytes
  return patches + state + active + (PROCESS_BYTES if _on_cpu() else 0)


def _on_cpu() -> bool:
  return jax.default_backend() == 'cpu'


def _seconds(
  trainings: Sequence[Training], costs: dict, workdir: pathlib.Path
) -> tuple[float, str]:
  measured = _measured(workdir)
  compile_s = COMPILE_S * len({t.program for t in trainings})
  if measured:
    seen = sum(
      len(t.rows) * t.epochs * t.steps * t.config.train.batch for t in trainings
    )
    why = f'measured here before: {measured:,.0f} patches/s'
    return seen / measured + compile_s, why
  flops = 0.0
  for t in trainings:
    patches = t.steps * t.config.train.batch
    held = t.candidates / t.config.train.folds
    forward = costs[t.program].forward_flops
    flops += len(t.rows) * t.epochs * forward * (3 * patches + held)
  if _on_cpu():
    cores = os.cpu_count() or 1
    rate, why = CPU_GFLOPS_PER_CORE * cores, f'{cores} cores, stored cost model'
  else:
    rate, why = GPU_GFLOPS * jax.device_count(), 'a guess: no GPU was measured'
  return flops / (rate * 1e9) + compile_s, why


def _measured(workdir: pathlib.Path) -> float:
  """Patches per second of an earlier training in this folder; 0 for none."""
  rows = watch.read_speed(workdir)
  # The first epoch of a call is slower: it compiles.
  warm = [row['patches_per_second'] for row in rows if row['epoch'] > 0]
  return float(np.median(warm)) if warm else 0.0
