"""`cmbjax detect` as a person runs it, on an SWI of 480 x 480 x 72 voxels.

  python benchmarks/detect_command.py

Each run is a fresh process: start-up, imports, compiling, reading and writing
all count. The first run has an empty compilation cache, the others find it.
The scan is a simulated 3T head of 0.5 x 0.5 x 2 mm, padded with air to that
size. The networks are five untrained ones, which cost what trained ones do;
they reject nothing, so every candidate is outlined and drawn, which costs more
than trained ones would. Aim: 15 s on 2 cores, below 2 GB.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import nibabel as nib
import numpy as np

from cmbjax.models import get_model
from cmbjax.simulate import cohort
from cmbjax.training import checkpoint, replicas

SHAPE = (480, 480, 72)
MODEL, NETWORKS = 'resnet_v4', 5

# Runs a command and prints what it cost, as it is the only child.
_MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
wall = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, wall, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--runs', type=int, default=4)
  parser.add_argument('--seed', type=int, default=9000)
  parser.add_argument(
    '--scan', help='a NIfTI file of your own instead of the simulated head'
  )
  parser.add_argument('options', nargs='*', help='more options of detect')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    scan = args.scan or write_head(folder / 'head', args.seed)
    write_weights(folder / 'weights')
    print(f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}')
    for number in range(args.runs):
      note = 'empty compilation cache' if number == 0 else ''
      report(run(folder, scan, args.options), note)


def write_head(folder: pathlib.Path, seed: int) -> pathlib.Path:
  """A simulated head as an 8 bit SWI with its protocol."""
  made = cohort.simulate('btumor_3t', subjects=1, out=folder, seed=seed)
  (source,) = made.glob('sub-*/anat/*_swi.nii.gz')
  image = nib.load(source)
  array, affine = np.asanyarray(image.dataobj), image.affine.copy()
  for axis, size in enumerate(SHAPE):
    spare = size - array.shape[axis]
    first = -(spare // 2)
    if spare > 0:
      widths = [(0, 0)] * 3
      widths[axis] = (-first, spare + first)
      array = np.pad(array, widths)
    else:
      array = np.take(array, range(first, first + size), axis)
    affine[:3, 3] += affine[:3, axis] * first
  path = folder / 'sub-01_swi.nii.gz'
  nib.save(nib.Nifti1Image(array, affine), path)
  fields = source.with_name(source.name.replace('.nii.gz', '.json'))
  path.with_name('sub-01_swi.json').write_text(fields.read_text())
  return path


def write_weights(folder: pathlib.Path) -> None:
  """Five untrained networks in the form of a study's weights."""
  network = get_model(MODEL)
  table = [
    replicas.Replica('untrained', fold, fold, 1e-4) for fold in range(NETWORKS)
  ]
  weights = replicas.stack([replicas.initial(network, row) for row in table])
  checkpoint.save_weights(
    folder,
    weights,
    {
      'strategy': 'untrained',
      'model': MODEL,
      'patches': 'native',
      'threshold': 0.1,
      'replicas': [row._asdict() for row in table],
      'subjects': [],
      'fingerprint': 'untrained',
    },
  )


def run(folder: pathlib.Path, scan, options) -> dict:
  """One run in a fresh process."""
  out = folder / f'out-{time.monotonic_ns()}'
  command = [
    sys.executable, '-c', _MEASURE,
    sys.executable, '-m', 'cmbjax.cli', 'detect', str(scan), str(out),
    '--weights', str(folder / 'weights'), *options,
  ]  # fmt: skip
  environment = os.environ | {'XDG_CACHE_HOME': str(folder / 'cache')}
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)
  done = subprocess.run(
    command, env=environment, capture_output=True, text=True, check=True
  )
  code, wall, cpu, peak_kb = json.loads(done.stdout.splitlines()[-1])
  if code:
    raise SystemExit(done.stderr)
  (record,) = (out / 'logs').glob('sub-*.json')
  record = json.loads(record.read_text())
  return {
    'wall': wall,
    'cpu': cpu,
    'peak': peak_kb * 1024 / 1e9,
    'stages': record['seconds'],
    'row': record['row'],
  }


def report(found: dict, note: str) -> None:
  row = found['row']
  stages = found['stages']
  rest = found['wall'] - sum(stages.values())
  shown = ', '.join(f'{name} {value:.2f}' for name, value in stages.items())
  print(
    f'{found["wall"]:5.1f} s wall, {found["cpu"]:5.1f} s of processors, '
    f'{found["peak"]:.2f} GB; {row["candidates"]} candidates, '
    f'{row["counted"] + row["too_large"]} outlined{"; " if note else ""}{note}'
  )
  print(f'        {shown}, start-up and writing {rest:.2f}')


if __name__ == '__main__':
  main()
