"""`cmbjax doctor`: what this machine has, how quick it is, and what to fix.

Rule: every line that is not fine names the command that fixes it; nothing is
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
import tempfile
import webbrowser
from collections.abc import Iterator
from typing import Any, NamedTuple

from cmbjax import speed, workers
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


class Check(NamedTuple):
  """One line: what was looked at, its state, what was found, and the fix."""

  name: str
  state: str
  found: str
  fix: str = ''


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
  quick = {} if arguments.no_speed or missing else speed.measure()
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
  return f'{text}\n   {"":<12s} -> {check.fix}' if check.fix else text


def checks() -> Iterator[Check]:
  """All of them, in the order in which one would fix them."""
  packages = _packages()
  yield _python()
  yield packages  # before the others, which import them
  for look in (
    _devices,
    _convolution,
    _cache,
    _memory,
    _disk,
    _weights,
    _browser,
    _extras,
  ):
    try:
      yield look()
    except (ImportError, AttributeError) as error:
      if packages.state == FINE:  # then it is a bug of ours
        raise
      name, found = look.__name__.lstrip('_'), str(error).splitlines()[0]
      yield Check(name, MISSING, found, packages.fix)


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
    fix = shlex.join(['python', '-m', 'pip', 'install', *wanting])
    return Check('packages', MISSING, '; '.join(wrong), fix)
  shown = ('jax', 'flax', 'optax', 'nibabel', 'numpy')
  names = ', '.join(f'{n} {v}' for n, v in seen if n in shown)
  return Check('packages', FINE, f'{len(seen)} are there: {names}')


def _devices() -> Check:
  import jax

  try:
    devices = jax.devices()
  except RuntimeError as error:
    reason = str(error).splitlines()[0]
    fix = 'JAX_PLATFORMS=cpu cmbjax doctor, then fix the driver'
    return Check('devices', MISSING, reason, fix)
  kinds = ', '.join(sorted({d.device_kind for d in devices}))
  found = f'{len(devices)} x {kinds}; {workers.cores()} core(s)'
  nvidia = shutil.which('nvidia-smi') or pathlib.Path('/dev/nvidia0').exists()
  if nvidia and jax.default_backend() == 'cpu':
    fix = "python -m pip install 'cmbjax[gpu]'"
    return Check('devices', NOTE, f'{found}; a GPU that JAX cannot see', fix)
  if workers.cores() == 1 and jax.default_backend() == 'cpu':
    fix = 'two are twice as fast: docker run --cpus=2, sbatch -c 2'
    return Check('devices', NOTE, found, fix)
  return Check('devices', FINE, found)


def _convolution() -> Check:
  import jax

  from cmbjax.models import winograd

  if jax.default_backend() != 'cpu':
    return Check('convolution', FINE, "the device's own")
  if winograd.available():
    return Check('convolution', FINE, 'compiled for this processor')
  if os.environ.get('CMBJAX_COMPILE') == '0':
    fix = 'unset CMBJAX_COMPILE, and training is about 3 times as fast'
    return Check('convolution', NOTE, 'switched off', fix)
  cache = _cache()
  if cache.state != FINE:
    return Check('convolution', NOTE, 'no cache to compile it to', cache.fix)
  fix = 'apt-get install g++ (or another C++17 compiler): 3 times as fast'
  return Check('convolution', NOTE, 'plain XLA, no C++ compiler', fix)


def _cache() -> Check:
  root = os.environ.get('XDG_CACHE_HOME')
  folder = pathlib.Path(root) if root else pathlib.Path.home() / '.cache'
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    found = f'{folder}: {error.strerror}'
    fix = 'export XDG_CACHE_HOME=a folder that you can write'
    return Check('cache', NOTE, found, fix)
  return Check('cache', FINE, f'{folder} can be written')


def _memory() -> Check:
  total, free = workers.memory_gb()
  if total is None:
    return Check('memory', NOTE, 'this system does not tell')
  found = f'{total:.1f} GB, {free:.1f} GB free'
  if free >= LEAST_MEMORY_GB:
    return Check('memory', FINE, found)
  fix = f'close something: {LEAST_MEMORY_GB:g} GB are wanted; use --jobs 1'
  return Check('memory', NOTE, found, fix)


def _disk() -> Check:
  here = pathlib.Path.cwd()
  free = shutil.disk_usage(here).free / 1e9
  found = f'{free:.1f} GB free in {here}'
  if not os.access(here, os.W_OK):
    fix = 'work in a folder that you can write'
    return Check('disk', NOTE, f'{found}, which cannot be written', fix)
  if free < LEAST_DISK_GB:
    fix = f'free some space: a study wants {LEAST_DISK_GB:g} GB'
    return Check('disk', NOTE, found, fix)
  return Check('disk', FINE, found)


def _weights() -> Check:
  from cmbjax.detect import classifier

  try:
    known = classifier.load(None)
  except InputError as error:
    fix = 'python -m pip install --force-reinstall --no-deps FILE, the wheel'
    fix += ' or checkout that cmbjax came from'
    return Check('weights', MISSING, str(error), fix)
  found = f'{known.name}, {len(known.table)} networks ({known.model})'
  if known.simulated:
    found += ', trained on simulated scans'
  return Check('weights', FINE, found)


def _browser() -> Check:
  """`cmbjax review` and `demo` open one, where there is one."""
  try:
    webbrowser.get()
  except webbrowser.Error:
    fix = 'cmbjax review OUT --no-browser --port 8000, then on your own '
    fix += 'computer: ssh -L 8000:127.0.0.1:8000 THIS_MACHINE'
    return Check('browser', NOTE, 'none was found', fix)
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
  fix = "optional, python -m pip install 'cmbjax[NAME]': " + '; '.join(lacking)
  return Check('extras', NOTE, found, fix)


def _print_speed(found: dict[str, Any]) -> None:
  if not found:
    return
  shape = ' x '.join(map(str, speed.SHAPE))
  print(
    f'   speed        training {found["training_patches_per_s"]:,} patches/s, '
    f'inference {found["inference_patches_per_s"]:,} patches/s (resnet_v4);\n'
    f'   {"":<12s} candidates of {shape} voxels in '
    f'{found["candidates_s"]:.1f} s; first epoch after '
    f'{found["first_epoch_s"]:.0f} s'
  )
