"""Planned trainings to what they cost: candidates, FLOPs, bytes and seconds.

Rule: nothing is simulated, built, compiled or trained; what is estimated says
so, and where the numbers come from.
"""

import functools
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmbjax import files
from cmbjax.data import augment
from cmbjax.data.built import is_built
from cmbjax.errors import InputError
from cmbjax.models import get_model
from cmbjax.reconstruct.channels import data_set as data_set_of
from cmbjax.reconstruct.channels import depth
from cmbjax.study.plan import Planned
from cmbjax.study.spec import Cohort, Study
from cmbjax.training import watch

# Candidates grow with the slab, up to those of a whole head.
_SLAB_MM = 60.0  # of the numbers in `simulate.protocols.CANDIDATES`
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


class Network(NamedTuple):
  """What one network costs; per patch where not said otherwise."""

  parameters: int
  forward_flops: float
  activation_bytes: float  # kept for the gradients


class Costs(NamedTuple):
  """What a plan costs.

  Attributes:
    candidates: of each cohort, to train on.
    counted: where those numbers come from, in words.
    bytes: at most at once, of this process on a CPU, else on the device.
    seconds: of the training.
    measured: where the seconds come from, in words.
  """

  candidates: Mapping[str, int]
  counted: str
  bytes: float
  seconds: float
  measured: str


def costs(
  study: Study,
  calls: Sequence[Sequence[Planned]],
  workdir: pathlib.Path,
  given: Mapping[str, int],
) -> Costs:
  """What the calls of a plan cost.

  Args:
    study: for its cohorts.
    calls: see `plan.Plan`.
    workdir: where an earlier run may have counted and measured.
    given: cohort -> subjects of its folder, where it is given.
  """
  counts, counted = candidates(study, workdir, given)
  most = max((_memory(call, counts) for call in calls), default=0.0)
  seconds, measured = _seconds(calls, counts, workdir)
  return Costs(counts, counted, most, seconds, measured)


def check_memory(found: Costs) -> None:
  """Refuses what this machine cannot hold, before any work.

  Raises:
    InputError: it is more than all of its memory.
  """
  if on_cpu() and found.bytes > memory_bytes():
    raise InputError(
      f'config.train: these trainings need about {found.bytes / 1e9:,.0f} GB '
      f'at once, this machine has {memory_bytes() / 1e9:,.0f} GB; lower '
      'config.train.batch, config.train.seeds or the points of the sweep.'
    )


def memory_bytes() -> float:
  """Of this machine."""
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def candidates(
  study: Study, workdir: pathlib.Path, given: Mapping[str, int]
) -> tuple[dict[str, int], str]:
  """Training candidates of each cohort, and where the numbers come from.

  Args:
    study: whose cohorts.
    workdir: where a run may have built some.
    given: subjects of each given cohort.
  """
  config, counts, counted = study.config, {}, []
  data_set = data_set_of(config.patches, config.channels)
  for name, cohort in study.cohorts.items():
    subjects = given.get(name, cohort.subjects)
    folder = pathlib.Path(cohort.folder).expanduser()
    built = [folder] if cohort.folder and is_built(folder) else []
    built = built or _built_before(workdir, name, data_set)
    number = max(map(_num_examples, built), default=0)
    if number:
      counted.append(name)
    else:
      number = _per_scan(cohort, config.simulate.slab_mm) * subjects
    left = max(subjects - cohort.held_out(subjects), 0)
    counts[name] = round(number * left / max(subjects, 1))
  if not counted:
    return counts, 'estimated from the number of scans'
  if len(counted) == len(counts):
    return counts, 'counted in the examples'
  return counts, f'counted in {", ".join(counted)}, others estimated'


def _built_before(
  workdir: pathlib.Path, name: str, data_set: str
) -> list[pathlib.Path]:
  """The newest data set of an earlier run in the same folder."""
  folders = (workdir / 'examples').glob(f'*/{name}/{data_set}/*')
  whole = [f for f in folders if is_built(f)]
  return sorted(whole, key=lambda f: f.stat().st_mtime)[-1:]


def _num_examples(folder: pathlib.Path) -> int:
  """As a data set says; 0 where it is damaged: a run makes it again."""
  try:
    info = files.read_object(folder / 'dataset_info.json')
    lengths = (split['shardLengths'] for split in info['splits'])
    return sum(int(n) for shards in lengths for n in shards)
  except (InputError, KeyError, TypeError, ValueError):
    return 0


def _per_scan(cohort: Cohort, slab_mm: float) -> float:
  """Candidates of a scan of this kind that nobody has counted yet."""
  from cmbjax.simulate.protocols import CANDIDATES, USUAL_CANDIDATES

  slab, whole = CANDIDATES.get(cohort.protocol, USUAL_CANDIDATES)
  if cohort.folder or not slab_mm:
    return whole
  return min(slab * slab_mm / _SLAB_MM, whole)


def network(planned: Planned) -> Network:
  """FLOPs and bytes of a network, from its shapes alone."""
  config = planned.recipe.config
  return _network(config.model.name, config.model.dtype, depth(config.channels))


@functools.cache
def _network(name: str, dtype: str, channels: int) -> Network:
  module = get_model(
    name, convolution='native', channels=channels, dtype=jnp.dtype(dtype)
  )
  patch = jax.ShapeDtypeStruct((1, *augment.SEEN, channels), jnp.float32)
  variables = jax.eval_shape(
    lambda x: module.init(jax.random.key(0), x, train=False), patch
  )
  leaves = jax.tree.leaves(variables['params'])
  graph = jax.make_jaxpr(lambda v, x: module.apply(v, x, train=False))(
    variables, patch
  )
  flops = kept = 0.0
  for equation in _equations(graph.jaxpr):
    made = equation.outvars[0].aval
    if equation.primitive.name in ('conv_general_dilated', 'dot_general'):
      kernel = equation.invars[1].aval.shape
      flops += 2 * math.prod(made.shape) * math.prod(kernel[:-1])
      # Its result, and what BatchNorm and ReLU make of it.
      kept += 3 * made.size * made.dtype.itemsize
  return Network(sum(leaf.size for leaf in leaves), flops, kept)


def _equations(jaxpr) -> Iterator:
  for equation in jaxpr.eqns:
    yield equation
    for value in equation.params.values():
      inner = getattr(value, 'jaxpr', None)
      if inner is not None and hasattr(inner, 'eqns'):
        yield from _equations(inner)


def num_candidates(planned: Planned, counts: Mapping[str, int]) -> int:
  """Of the training subjects of a training, folds and all."""
  return sum(counts[name] for name in planned.recipe.strategy.learns)


def num_steps(planned: Planned, counts: Mapping[str, int]) -> int:
  """Steps of an epoch, folds taken as equal."""
  train = planned.recipe.config.train
  seen = num_candidates(planned, counts) * (train.folds - 1) / train.folds
  return max(1, math.ceil(seen / train.batch))


def on_cpu() -> bool:
  """Whether a CPU is what trains."""
  return jax.default_backend() == 'cpu'


def _memory(call: Sequence[Planned], counts: Mapping[str, int]) -> float:
  """Bytes: states of all rows, activations of those that run at once."""
  rows = sum(len(one.recipe.rows) for one in call)
  config, one = call[0].recipe.config, network(call[0])
  at_once = rows
  if on_cpu() and config.train.backend in ('auto', 'loop', 'map'):
    at_once = min(rows, os.cpu_count() or 1)
  elif config.train.width:
    at_once = min(rows, config.train.width)
  patches = sum(counts.values()) * math.prod(augment.PATCH)
  patches *= depth(config.channels) * 2  # bytes of float16
  copies = HOST_COPIES if on_cpu() else STATE_COPIES
  state = rows * one.parameters * 4 * copies
  active = at_once * config.train.batch * one.activation_bytes
  return patches + state + active + (PROCESS_BYTES if on_cpu() else 0)


def _seconds(
  calls: Sequence[Sequence[Planned]],
  counts: Mapping[str, int],
  workdir: pathlib.Path,
) -> tuple[float, str]:
  compile_s = COMPILE_S * len({call[0].program for call in calls})
  patches, flops = 0.0, 0.0
  for one in (one for call in calls for one in call):
    train = one.recipe.config.train
    seen = num_steps(one, counts) * train.batch
    held = num_candidates(one, counts) / train.folds
    passes = len(one.recipe.rows) * one.recipe.epochs
    patches += passes * seen
    # A step is a forward pass and a backward one of twice its size.
    flops += passes * network(one).forward_flops * (3 * seen + held)
  measured = _measured(workdir)
  if measured:
    why = f'measured here before: {measured:,.0f} patches/s'
    return patches / measured + compile_s, why
  if on_cpu():
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
