"""Seconds and memory per simulated whole-brain scan, and its contact sheet.

  python benchmarks/simulate.py                      # timings of all protocols
  python benchmarks/simulate.py --sheets=docs        # one picture per protocol
  python benchmarks/simulate.py --blooming           # size against M B0 TE

Rule: every protocol runs in fresh processes, so that their peak memory is
their own; the time counts the scan and its files, and the start (imports and
templates) apart. On a shared machine look at the processor time (cpu s).
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = ('btumor_7t', 'btumor_3t', 'ccm_3t', 'btumor_7t_4echo')


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--protocols', default=','.join(NAMES))
  parser.add_argument('--processes', type=int, default=2, help='side by side')
  parser.add_argument('--sheets', help='folder for the pictures')
  parser.add_argument('--blooming', action='store_true')
  parser.add_argument('--subject', type=int, default=1)
  parser.add_argument('--one', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(_one(args.one, args.subject)))
    return
  if args.blooming:
    _blooming()
    return
  if args.sheets:
    for name in args.protocols.split(','):
      print(_sheet(name, args.subject, pathlib.Path(args.sheets)))
    return
  print(f'{args.processes} processes side by side, simulated scans')
  print(
    f'{"protocol":<18}{"start s":>9}{"scan s":>9}{"s per scan":>12}'
    f'{"cpu s":>7}{"GB":>6}'
  )
  for name in args.protocols.split(','):
    found = _together(name, args.processes)
    slowest = max(f['scan'] for f in found)
    print(
      f'{name:<18}{max(f["start"] for f in found):>9.1f}{slowest:>9.1f}'
      f'{slowest / args.processes:>12.1f}{max(f["cpu"] for f in found):>7.1f}'
      f'{max(f["gigabytes"] for f in found):>6.2f}'
    )


def _blooming():
  """Prints how the size on the SWI grows with moment, field and echo time."""
  import numpy as np

  rng = np.random.default_rng(3)
  product, diameter = [], []
  for field_t, echo_s in ((7, 0.016), (3, 0.028)):
    for moment in (0.4, 0.9, 1.8, 3.5, 7.0, 14.0):
      sizes = [_bloom(moment, field_t, echo_s, rng) for _ in range(4)]
      product.append(moment * field_t * echo_s)
      diameter.append(np.mean(sizes))
  slope, start = np.polyfit(np.log(product), np.log(diameter), 1)
  print('one compact sphere at 0.5x0.5x2 mm, simulated, no high-pass')
  print(
    f'diameter = {np.exp(start):.2f} mm (M B0 TE)^{slope:.3f}; '
    'theory 1/3, reference 5.67 mm'
  )
  ratios = []
  for moment in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0):
    place = [int(n) for n in rng.integers(2**31, size=4)]
    short, long = (
      np.mean(
        [
          _bloom(moment, 3.0, echo, np.random.default_rng(n)) ** 3
          for n in place
        ]
      )
      for echo in (0.020, 0.040)
    )
    ratios.append(long / short)
    print(f'M {moment:5.2f}: volume at TE 40 over TE 20 ms {ratios[-1]:.2f}')
  print(f'mean {np.mean(ratios):.2f}; Liu et al., 2012, 2.30 +- 1.20 (real)')


def _bloom(moment, field_t, echo_s, rng):
  """Equivalent diameter in mm below half of the tissue around."""
  import numpy as np

  from cmbjax.simulate import lesions, physics

  spacing, shape = np.array((0.5, 0.5, 1.0)), (64, 64, 24)
  centre = np.array(shape) * spacing / 2 + rng.uniform(-0.5, 0.5, 3) * (
    0.5, 0.5, 2.0
  )  # fmt: skip
  radius = (3 * moment / (4 * np.pi)) ** (1 / 3)
  sphere = np.array([[*centre, radius]], np.float32)
  effect = lesions.effect(
    lesions.Deposit('sphere', sphere, np.array([1.0])), shape, spacing,
    b0=(0, 0, 1), field_t=field_t, echo_times_s=(echo_s,),
  )  # fmt: skip
  signal = np.ones(shape, np.complex64)
  signal[effect.box] = effect.factors[0]
  signal = physics.crop_kspace(signal, (64, 64, 12))
  swi = abs(signal) * np.clip(1 + np.angle(signal) / np.pi, 0, 1) ** 4
  return (6 * (swi < 0.5).sum() * 0.5 / np.pi) ** (1 / 3)


def _together(name, processes):
  """The results of `processes` children that run at the same time."""
  children = [
    subprocess.Popen(
      [sys.executable, __file__, f'--one={name}', f'--subject={n}'],
      stdout=subprocess.PIPE,
      cwd=ROOT,
    )
    for n in range(1, processes + 1)
  ]
  return [json.loads(child.communicate()[0]) for child in children]


def _one(name, subject):
  begin = time.perf_counter()
  from cmbjax.simulate import cohort, tissue_atlas

  tissue_atlas.load()
  start, busy = time.perf_counter(), time.process_time()
  with tempfile.TemporaryDirectory() as folder:
    cohort.simulate(name, subjects=1, first=subject, out=folder, seed=0, jobs=1)
  end, busy = time.perf_counter(), time.process_time() - busy
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
  return {
    'start': start - begin,
    'scan': end - start,
    'cpu': busy,
    'gigabytes': peak,
  }


def _sheet(name, subject, folder):
  """Magnitude, phase, SWI, 8 mm minIP at four levels of one scan."""
  import matplotlib
  import numpy as np

  matplotlib.use('Agg')
  from matplotlib import pyplot

  from cmbjax.simulate import protocols, scan

  protocol = protocols.get_protocol(name)
  made = scan.make_scan(protocol, subject, seed=0, workers=2)
  magnitude, phase, swi = made.magnitude[-1], made.phase[-1], made.swi
  half = round(4 / protocol.voxel_mm[2])
  figure, axes = pyplot.subplots(4, 4, figsize=(10, 12.3), facecolor='black')
  for row, share in zip(axes, (0.27, 0.42, 0.55, 0.68)):
    k = round(share * swi.shape[2])
    minip = swi[:, :, k - half : k + half + 1].min(2)
    for axis, image in zip(row, (magnitude[:, :, k], phase[:, :, k],
                                 swi[:, :, k], minip)):  # fmt: skip
      low, high = 0, np.percentile(swi[made.brain], 99)
      if image.min() < 0:
        low, high = -np.pi, np.pi
      axis.imshow(image.T, cmap='gray', origin='lower', vmin=low, vmax=high)
      axis.axis('off')
  for axis, title in zip(axes[0], ('magnitude', 'phase', 'SWI', 'minIP 8 mm')):
    axis.set_title(f'{title} (simulated)', color='white', fontsize=9)
  figure.subplots_adjust(0, 0, 1, 0.97, 0.01, 0.01)
  path = folder / f'simulated_{name}.jpg'
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=72, facecolor='black', pil_kwargs={'quality': 80})
  return path


if __name__ == '__main__':
  main()
