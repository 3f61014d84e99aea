"""Simulated patches per minute, their memory, and how they look beside scans.

  python benchmarks/patches.py                          # speed, all protocols
  python benchmarks/patches.py --compare=COHORT --protocols=btumor_7t

Rule: every protocol runs in a fresh process; the time to load the library and
to compile stands apart. On a shared machine look at the processor time.
`--compare` cuts the candidates of a whole-scan cohort (`cmbjax simulate`) and
measures both kinds of patches in the same way. All of it is simulated.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = ('btumor_7t', 'btumor_3t', 'ccm_3t', 'btumor_7t_4echo')


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--protocols', default=','.join(NAMES))
  parser.add_argument('--groups', type=int, default=3, help='of 100 patches')
  parser.add_argument('--seed', type=int, default=9000)
  parser.add_argument('--compare', help='folder of a simulated cohort')
  parser.add_argument('--one', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(_one(args.one, args.groups, args.seed)))
    return
  names = args.protocols.split(',')
  if args.compare:
    print(_table(names[0], args.compare, args.groups, args.seed))
    return
  print('simulated patches, one process')
  print(
    f'{"protocol":<18}{"start s":>9}{"per s":>8}{"per min":>9}'
    f'{"cpu s per 100":>15}{"GB":>6}{"cmb %":>7}'
  )
  for name in names:
    command = [sys.executable, __file__, f'--one={name}']
    command += [f'--groups={args.groups}', f'--seed={args.seed}']
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, check=True)
    found = json.loads(done.stdout)
    print(
      f'{name:<18}{found["start"]:>9.1f}{found["rate"]:>8.1f}'
      f'{60 * found["rate"]:>9.0f}{found["cpu"]:>15.2f}'
      f'{found["gigabytes"]:>6.2f}{100 * found["cmb"]:>7.1f}',
      flush=True,
    )


def _one(name, groups, seed):
  begin = time.perf_counter()
  from cmbjax.simulate import patches, protocols

  protocol = protocols.get_protocol(name)
  patches.make_group(protocol, 0, seed=seed)
  start, busy = time.perf_counter(), time.process_time()
  made = [
    patches.make_group(protocol, n, seed=seed) for n in range(1, groups + 1)
  ]
  seconds, busy = time.perf_counter() - start, time.process_time() - busy
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
  return {
    'start': start - begin,
    'rate': groups * patches.GROUP / seconds,
    'cpu': busy / groups,
    'gigabytes': peak,
    'cmb': float(np.mean([m.label.mean() for m in made])),
  }


def _table(name, folder, groups, seed):
  """Quantiles of both kinds of patches, microbleeds and mimics apart."""
  from cmbjax.simulate import patches, protocols

  protocol = protocols.get_protocol(name)
  made = patches.make_patches(protocol, count=groups * patches.GROUP, seed=seed)
  image, label = _from_scans(folder)
  lines = [
    f'{name}, simulated: {len(label)} candidates of whole scans, '
    f'{len(made.label)} patches; 10 / 50 / 90 %'
  ]
  for wanted, title in ((1, 'microbleed'), (0, 'mimic')):
    sets = (image[label == wanted], made.image[made.label == wanted])
    scans, drawn = (_measure(s, protocol.voxel_mm) for s in sets)
    for what in scans:
      cells = [
        ' / '.join(f'{v:.2f}' for v in np.quantile(s[what], (0.1, 0.5, 0.9)))
        for s in (scans, drawn)
      ]
      row = f'{title:<11}{what:<14}'
      lines.append(f'{row}scans {cells[0]:<22}patches {cells[1]}')
  kinds, counts = np.unique(made.kind, return_counts=True)
  shares = (
    f'{k} {100 * c / counts.sum():.0f} %' for k, c in zip(kinds, counts)
  )
  lines.append('patches: ' + ', '.join(shares))
  return '\n'.join(lines)


def _from_scans(folder):
  """Patches [N, 24, 24, 12] and labels of the candidates of a cohort."""
  from cmbjax.data import cohort, cohort_builder
  from cmbjax.detect.candidates import Gates

  records = []
  for scan in cohort.read_cohort(pathlib.Path(folder)).scans:
    records += cohort_builder.make_records(
      scan, gates=Gates(), grid_mm=None, tables_dir=None
    )[1]
  image = np.stack([r['image'] for r in records]).astype(np.float32)
  return image, np.array([r['label'] for r in records])


def _measure(image, voxel_mm):
  """What a detector sees, per patch [N]."""
  from scipy import ndimage

  axes = [
    (np.arange(n) - n // 2) * v for n, v in zip(image.shape[1:], voxel_mm)
  ]
  x, y, z = np.meshgrid(*axes, indexing='ij', sparse=True)
  away = np.sqrt(x**2 + y**2 + z**2)
  shell, core = (away >= 3) & (away <= 6), away <= 1.01 * min(voxel_mm)
  found = {k: [] for k in ('centre', 'background', 'texture', 'contrast',
                           'diameter mm')}  # fmt: skip
  for patch in image:
    around, centre = np.median(patch[shell]), patch[core].mean()
    darkest = patch[away <= 1.6].min()
    level = darkest + 0.5 * (around - darkest)
    regions, _ = ndimage.label((patch <= level) & (away <= 6))
    near = np.unique(regions[away <= 1.6])
    volume = np.isin(regions, near[near > 0]).sum() * np.prod(voxel_mm)
    found['centre'].append(centre)
    found['background'].append(around)
    spread = np.quantile(patch[shell], (0.25, 0.75))
    found['texture'].append(spread[1] - spread[0])
    found['contrast'].append((around - darkest) / max(around, 1e-3))
    found['diameter mm'].append((6 * volume / np.pi) ** (1 / 3))
  return found


if __name__ == '__main__':
  main()
