"""`cmbjax doctor`: what this machine has, how quick it is, and what to mend.

Rule: every line that is not fine names the command that mends it; nothing is
installed, downloaded or left behind.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import shlex
import shutil
import socket
import tempfile
import time
import webbrowser
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cmbjax import workers
from cmbjax.errors import InputError

FINE, NOTE, MISSING = 'fine', 'note', 'missing'
MARKS = {FINE: 'ok', NOTE: '--', MISSING: '!!'}
LEAST_MEMORY_GB = 4.0  # one scan of 480 x 480 x 72 voxels takes 1 GB
LEAST_DISK_GB = 5.0  # a study of 24 simulated scans takes 2 GB
EXTRAS = {  # the modules or programs that have to be there; what they are for
  'dicom': (
    ('pydicom', 'highdicom', 'dcm2niix'),
    'DICOM folders in, DICOM segmentations out',
  ),
  'tensorboard': (('tensorboardX',), 'scalars for TensorBoard'),
  'wandb': (('wandb',), 'scalars for Weights & Biases'),
  'mlflow': (('mlflow',), 'scalars for MLflow'),
  'beam': (('apache_beam',), 'simulation and building on a cluster'),
}
SPEED_SHAPE, SPEED_SPACING = (240, 240, 72), (0.9, 0.9, 2.0)


class Check(NamedTuple):
  """One line: what was looked at, its state, what was found, and the mend."""

  name: str
  state: str
  found: str
  mend: str = ''


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options of the verb."""
  parser.add_argument(
    '--no-speed',
    action='store_true',
    help='leave out the measurement of speed (about half a minute)',
  )
  parser.add_argument('--json', action='store_true', help='print JSON')


def run(arguments: argparse.Namespace) -> int:
  """Looks, measures and prints; 0 where nothing that is needed is missing."""
  found = []
  for check in checks():
    found.append(check)
    if not arguments.json:
      print(line(check), flush=True)
  missing = sum(check.state == MISSING for check in found)
  quick = {} if arguments.no_speed or missing else speed()
  if arguments.json:
    whole = {'checks': [c._asdict() for c in found], 'speed': quick}
    print(json.dumps(whole, indent=2))
  else:
    _print_speed(quick)
    print(
      f'{missing} of {len(found)} checks need something: see !! above.'
      if missing
      else 'All that is needed is here.'
    )
  return int(missing > 0)


def line(check: Check) -> str:
  """A check as one or two lines of text."""
  text = f'{MARKS[check.state]} {check.name:<12s} {check.found}'
  return f'{text}\n   {"":<12s} -> {check.mend}' if check.mend else text


def checks() -> Iterator[Check]:
  """All of them, in the order in which one would mend them."""
  packages = _packages()
  yield _python()
  yield packages
  for look in (
    _devices,
    _convolution,
    _cache,
    _memory,
    _disk,
    _weights,
    _template,
    _loopback,
    _browser,
    _extras,
  ):
    try:
      yield look()
    except (ImportError, AttributeError) as error:
      if packages.state == FINE:
        raise
      name, found = look.__name__.lstrip('_'), str(error).splitlines()[0]
      yield Check(name, MISSING, found, packages.mend)


def _python() -> Check:
  return Check(
    'Python', FINE, f'{platform.python_version()} on {platform.system()}'
  )


def _packages() -> Check:
  """Those that the package asks for, with their versions."""
  from packaging.requirements import Requirement

  wrong, seen, wanting = [], [], []
  for text in importlib.metadata.requires('cmbjax') or ():
    wanted = Requirement(text)
    if wanted.marker and not wanted.marker.evaluate({'extra': ''}):
      continue
    try:
      version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
      wrong.append(f'{wanted.name} is missing')
      wanting.append(f'{wanted.name}{wanted.specifier}')
      continue
    if not wanted.specifier.contains(version, prereleases=True):
      wrong.append(f'{wanted.name} {version}, wanted {wanted.specifier}')
      wanting.append(f'{wanted.name}{wanted.specifier}')
    seen.append((wanted.name, version))
  if wrong:
    mend = shlex.join(['python', '-m', 'pip', 'install', *wanting])
    return Check('packages', MISSING, '; '.join(wrong), mend)
  shown = ('jax', 'flax', 'optax', 'nibabel', 'numpy')
  names = ', '.join(f'{n} {v}' for n, v in seen if n in shown)
  return Check('packages', FINE, f'{len(seen)} are there: {names}')


def _devices() -> Check:
  import jax

  try:
    devices = jax.devices()
  except RuntimeError as error:
    reason = str(error).splitlines()[0]
    mend = 'JAX_PLATFORMS=cpu cmbjax doctor, then mend the driver'
    return Check('devices', MISSING, reason, mend)
  kinds = ', '.join(sorted({d.device_kind for d in devices}))
  found = f'{len(devices)} x {kinds}; {workers.cores()} core(s)'
  nvidia = shutil.which('nvidia-smi') or pathlib.Path('/dev/nvidia0').exists()
  if nvidia and jax.default_backend() == 'cpu':
    mend = "python -m pip install 'cmbjax[gpu]'"
    return Check('devices', NOTE, f'{found}; a GPU that JAX cannot see', mend)
  if workers.cores() == 1 and jax.default_backend() == 'cpu':
    mend = 'two are twice as fast: docker run --cpus=2, sbatch -c 2'
    return Check('devices', NOTE, found, mend)
  return Check('devices', FINE, found)


def _convolution() -> Check:
  import jax

  from cmbjax.models import winograd

  if jax.default_backend() != 'cpu':
    return Check('convolution', FINE, "the device's own")
  if winograd.available():
    return Check('convolution', FINE, 'compiled for this processor')
  if os.environ.get('CMBJAX_COMPILE') == '0':
    mend = 'unset CMBJAX_COMPILE, and training is about 3 times as fast'
    return Check('convolution', NOTE, 'switched off', mend)
  cache = _cache()
  if cache.state != FINE:
    return Check('convolution', NOTE, 'no cache to compile it to', cache.mend)
  mend = 'apt-get install g++ (or another C++17 compiler): 3 times as fast'
  return Check('convolution', NOTE, 'plain XLA, no C++ compiler', mend)


def _cache() -> Check:
  root = os.environ.get('XDG_CACHE_HOME')
  folder = pathlib.Path(root) if root else pathlib.Path.home() / '.cache'
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    found = f'{folder}: {error.strerror}'
    mend = 'export XDG_CACHE_HOME=a folder that you can write'
    return Check('cache', NOTE, found, mend)
  return Check('cache', FINE, f'{folder} can be written')


def _memory() -> Check:
  total, free = memory_gb()
  if total is None:
    return Check('memory', NOTE, 'this system does not tell')
  found = f'{total:.1f} GB, {free:.1f} GB free'
  if free >= LEAST_MEMORY_GB:
    return Check('memory', FINE, found)
  mend = f'close something: {LEAST_MEMORY_GB:g} GB are wanted; use --jobs 1'
  return Check('memory', NOTE, found, mend)


def memory_gb() -> tuple[float | None, float | None]:
  """All memory and what is free of it, in 1e9 bytes; None where not told."""
  try:
    text = pathlib.Path('/proc/meminfo').read_text(encoding='ascii')
  except OSError:
    return None, None
  rows = dict(row.split(':', 1) for row in text.splitlines() if ':' in row)
  names = ('MemTotal', 'MemAvailable')
  total, free = (1024 * int(rows[n].split()[0]) / 1e9 for n in names)
  return total, free


def _disk() -> Check:
  here = pathlib.Path.cwd()
  free = shutil.disk_usage(here).free / 1e9
  found = f'{free:.1f} GB free in {here}'
  if not os.access(here, os.W_OK):
    mend = 'work in a folder that you can write'
    return Check('disk', NOTE, f'{found}, which cannot be written', mend)
  if free < LEAST_DISK_GB:
    mend = f'free some space: a study wants {LEAST_DISK_GB:g} GB'
    return Check('disk', NOTE, found, mend)
  return Check('disk', FINE, found)


def _weights() -> Check:
  from cmbjax.detect import classifier

  try:
    known = classifier.load(None)
  except InputError as error:
    mend = 'python -m pip install --force-reinstall --no-deps FILE, the wheel'
    mend += ' or checkout that cmbjax came from'
    return Check('weights', MISSING, str(error), mend)
  found = f'{known.name}, {len(known.table)} networks ({known.model})'
  if known.simulated:
    found += ', trained on simulated scans'
  return Check('weights', FINE, found)


def _template() -> Check:
  """The simulator's anatomy, inside of nilearn's wheel."""
  spec = importlib.util.find_spec('nilearn')
  home = pathlib.Path(spec.origin).parent if spec and spec.origin else None
  data = home and home / 'datasets' / 'data'
  if data and any(data.glob('mni*gm*.nii.gz')):
    return Check('template', FINE, 'brain templates for the simulator')
  mend = 'python -m pip install --force-reinstall nilearn'
  return Check('template', MISSING, 'no MNI templates in nilearn', mend)


def _loopback() -> Check:
  """`cmbjax review` serves its page to this machine only."""
  try:
    with socket.socket() as server:
      server.bind(('127.0.0.1', 0))
  except OSError as error:
    mend = 'allow loopback connections; detect works without'
    return Check('loopback', NOTE, f'127.0.0.1: {error.strerror}', mend)
  return Check('loopback', FINE, 'cmbjax review can serve its page')


def _browser() -> Check:
  """`cmbjax review` and `demo` open one, where there is one."""
  try:
    webbrowser.get()
  except webbrowser.Error:
    mend = 'cmbjax review OUT --no-browser --port 8000, then on your own '
    mend += 'computer: ssh -L 8000:127.0.0.1:8000 THIS_MACHINE'
    return Check('browser', NOTE, 'none was found', mend)
  return Check('browser', FINE, 'cmbjax review opens it')


def _extras() -> Check:
  there = {
    name: all(importlib.util.find_spec(p) or shutil.which(p) for p in parts)
    for name, (parts, _) in EXTRAS.items()
  }
  found = ', '.join(name for name, here in there.items() if here) or 'none'
  lacking = [
    f'[{name}] {EXTRAS[name][1]}' for name, here in there.items() if not here
  ]
  if not lacking:
    return Check('extras', FINE, found)
  mend = "optional, python -m pip install 'cmbjax[NAME]': " + '; '.join(lacking)
  return Check('extras', NOTE, found, mend)


def speed() -> dict[str, Any]:
  """Measures this machine: training, inference and the candidate stage."""
  found = _networks()
  image, mask = _made_up_brain()

  def propose():
    from cmbjax.candidates import detector

    detector.propose(image, SPEED_SPACING, mask)

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

  train()
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
  axes = np.ogrid[tuple(slice(0, n) for n in SPEED_SHAPE)]
  away = sum(((a - n / 2) / (0.4 * n)) ** 2 for a, n in zip(axes, SPEED_SHAPE))
  mask = away <= 1
  image = np.where(mask, np.float32(0.7), np.float32(0.1))
  inside = np.argwhere(away <= 0.8)
  for x, y, z in inside[rng.choice(len(inside), 300, replace=False)]:
    image[x - 1 : x + 2, y - 1 : y + 2, z] = 0.2
  image += 0.03 * rng.standard_normal(SPEED_SHAPE, np.float32)
  return np.clip(image, 0, 1), mask


def _least(work: Callable[[], None], *, repeats: int) -> float:
  """Seconds of the quickest of several calls, after one that is not timed."""
  work()
  taken = []
  for _ in range(repeats):
    began = time.perf_counter()
    work()
    taken.append(time.perf_counter() - began)
  return min(taken)


def _print_speed(found: dict[str, Any]) -> None:
  if not found:
    return
  shape = ' x '.join(map(str, SPEED_SHAPE))
  print(
    f'   speed        training {found["training_patches_per_s"]:,} patches/s, '
    f'inference {found["inference_patches_per_s"]:,} patches/s (resnet_v4);\n'
    f'   {"":<12s} candidates of {shape} voxels in '
    f'{found["candidates_s"]:.1f} s; first epoch after '
    f'{found["first_epoch_s"]:.0f} s'
  )
