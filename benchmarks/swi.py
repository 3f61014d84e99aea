"""Seconds, signs and brain masks on simulated scans of every protocol.

  python benchmarks/swi.py                     # 2 heads each, about 10 minutes
  python benchmarks/swi.py --speed-only        # half a minute
  python benchmarks/swi.py --seeds 9000 9001   # heads for tuning

Heads have skull, scalp, eyes, face and neck (all simulated) and are made
harder: bias field, noise, a cavity without signal, a cut field of view, slices
of 4 mm, the SWI alone. The simulated truth is compared with `brain_mask`
(Dice). The radii of the mask were tuned on seeds 9000-9009; the table is of
seeds from 9010 on. Wanted: 0.97 or more; the sign of the phase found as given
and as flipped; on two idle cores at most 2 s for the SWI and 1.5 s for the mask
of 480 x 480 x 72 voxels.
"""

import argparse
import os
import pathlib
import time

import numpy as np
import scipy.fft

from cmbjax import files
from cmbjax.imaging import brain, resample, swi
from cmbjax.progress import Progress
from cmbjax.simulate import protocols, scan

RESULTS = pathlib.Path(__file__).parent / 'results' / 'swi.json'
SHAPE, SPACING = (480, 480, 72), (0.5, 0.5, 2.0)
SIGMA_MM = 1.9


def dice(first: np.ndarray, second: np.ndarray) -> float:
  return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def harder(magnitude, truth, spacing_mm, rng):
  """Yields (name, magnitude, truth), all [X, Y, Z]."""
  middle = np.median(magnitude[truth])
  x, y, z = _grid(truth.shape, spacing_mm)
  noise = rng.normal(size=(2, *truth.shape)).astype(np.float32)
  yield 'plain', magnitude, truth
  yield 'bias', magnitude * np.exp(0.01 * x - 0.005 * y + 0.004 * z), truth
  noisy = np.hypot(magnitude + middle / 6 * noise[0], middle / 6 * noise[1])
  yield 'snr 6', noisy, truth
  cavity = (x - 55) ** 2 + (y - 5) ** 2 + (z - 10) ** 2 < 17**2
  yield 'cavity', np.where(cavity & truth, 0.12 * magnitude, magnitude), truth
  edge = round(25 / spacing_mm[0])
  yield 'cut in plane', magnitude[edge:-edge], truth[edge:-edge]
  low = round(0.45 * truth.shape[2])
  slab = slice(low, low + round(45 / spacing_mm[2]))
  yield 'cut slab', magnitude[..., slab], truth[..., slab]


def _grid(shape, spacing_mm):
  return np.meshgrid(
    *[
      (np.arange(n, dtype=np.float32) - n / 2) * s
      for n, s in zip(shape, spacing_mm)
    ],
    indexing='ij',
    sparse=True,
  )


def thick(image, truth, spacing_mm):
  """(image, truth, spacing) with slices of 4 mm."""
  new = (*spacing_mm[:2], 4.0)
  mean, share = (
    resample.to_spacing(a, spacing_mm, new)
    for a in (image, truth.astype(np.float32))
  )
  return mean, share > 0.5, new


def measure(name: str, seed: int, folder: pathlib.Path | None) -> dict:
  """All numbers of one simulated head."""
  protocol = protocols.get_protocol(name)
  head = _head(protocol, seed, folder)
  magnitude, phase = head['magnitude'], head['phase']
  truth, spacing = head['brain'], protocol.voxel_mm
  mask = brain.brain_mask(magnitude[..., 0], spacing)
  signs = []
  for sign in (1, -1):
    found = swi.reconstruct(
      magnitude,
      sign * phase,
      spacing,
      echo_times_s=protocol.echo_times_s,
      field_t=protocol.field_t,
      mask=mask,
    ).polarity
    signs.append(found.sign == sign and found.certain)
  rng = np.random.default_rng([seed, 1])
  first = magnitude[..., 0]
  cases = {
    case: dice(brain.brain_mask(np.float32(image), spacing), true)
    for case, image, true in harder(first, truth, spacing, rng)
  }
  image, true, new = thick(first, truth, spacing)
  cases['4 mm slices'] = dice(brain.brain_mask(image, new), true)
  cases['swi alone'] = dice(brain.brain_mask(head['swi'], spacing), truth)
  return {
    'protocol': name,
    'seed': seed,
    'simulated': True,
    'simulator': scan.VERSION,
    'shape': list(magnitude.shape),
    'signs_found': signs,
    'dice': {k: round(v, 4) for k, v in cases.items()},
  }


def _head(protocol, seed, folder):
  """The arrays of one simulated head, from the folder where they are kept."""
  path = folder and folder / f'v{scan.VERSION}_{protocol.name}_{seed}.npz'
  if path and path.is_file():
    with np.load(path) as kept:
      return dict(kept)
  made = scan.make_scan(protocol, 1, seed=seed)
  head = {
    'magnitude': np.stack(made.magnitude, -1),
    'phase': np.stack(made.phase, -1),
    'swi': made.swi,
    'brain': made.brain,
  }
  if path:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, **head)
  return head


def speed() -> dict:
  """Seconds (wall, processor) on 480 x 480 x 72 drawn voxels, and the floor."""
  rng = np.random.default_rng(0)
  x, y, z = _grid(SHAPE, SPACING)
  radius = np.sqrt((x / 72) ** 2 + (y / 90) ** 2 + (z / 66) ** 2)
  body = np.float32(radius < 1) + np.float32(abs(radius - 1.12) < 0.04)
  for i, j, k in rng.integers((150, 150, 10), (330, 330, 62), (400, 3)):
    body[i : i + 3, j : j + 12, k] *= 0.6
  turn = np.where((body > 0.5) & (body < 0.9), -1.2, 0) + 0.03 * x
  noisy = body * np.exp(1j * turn) + 0.04 * (
    rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE)
  )
  # As NIfTI files lie in memory: slice after slice.
  magnitude = np.asfortranarray(np.abs(noisy), np.float32)
  phase = np.asfortranarray(np.angle(noisy), np.float32)
  mask = brain.brain_mask(magnitude, SPACING)
  return {
    'shape': list(SHAPE),
    'cores': os.cpu_count(),
    'mask_s': _best(lambda: brain.brain_mask(magnitude, SPACING)),
    'swi_s': _best(
      lambda: swi.reconstruct(magnitude, phase, SPACING, field_t=7, mask=mask)
    ),
    'floor': _floor(magnitude),
  }


def _floor(image) -> dict:
  """What nobody can leave out: memory traffic, transforms, angles."""
  size_y, size_x = SHAPE[:2]
  kept = int(np.ceil(2 * size_x * SPACING[0] * 0.375 / SIGMA_MM))
  slices = np.ascontiguousarray(image.T)
  few = np.ascontiguousarray(slices[..., :kept])

  def transforms():  # real and imaginary part, there and back
    for _ in range(4):
      scipy.fft.dct(slices, axis=2, workers=2)
      scipy.fft.dct(few, axis=1, workers=2)

  lines = slices.size / size_x + slices.shape[0] * kept
  flops = 4 * 2.5 * lines * size_x * np.log2(size_y)
  return {
    'bytes': 4 * image.nbytes,  # two images in, SWI and projection out
    'copy_s': _best(lambda: [image.copy(order='K') for _ in range(2)]),
    'transform_flops': float(flops),
    'transform_s': _best(transforms),
    'angle_s': _best(
      lambda: (np.cos(slices), np.sin(slices), np.arctan2(slices, slices))
    ),
  }


def _best(work, *, times: int = 3) -> list[float]:
  """(wall, processor) seconds; the second is fair on a busy machine."""
  rows = []
  for _ in range(times):
    start = time.perf_counter(), time.process_time()
    work()
    now = time.perf_counter(), time.process_time()
    rows.append([round(b - a, 2) for a, b in zip(start, now)])
  return [min(column) for column in zip(*rows)]


def report(result: dict) -> None:
  found, floor = result['speed'], result['speed']['floor']
  least = sum(floor[k][1] for k in ('copy_s', 'transform_s', 'angle_s'))
  print(
    f'480x480x72 (wall, processor s): SWI {found["swi_s"]}, mask '
    f'{found["mask_s"]}; floor of the SWI {least:.2f} processor s: '
    f'{floor["bytes"] / 1e6:.0f} MB {floor["copy_s"][1]}, '
    f'{floor["transform_flops"] / 1e9:.1f} GFLOP {floor["transform_s"][1]}, '
    f'angles {floor["angle_s"][1]}; we are at '
    f'{found["swi_s"][1] / max(least, 1e-9):.1f} times the floor'
  )
  for row in result['heads']:
    worst = min(row['dice'].items(), key=lambda item: item[1])
    print(
      f'{row["protocol"]} seed {row["seed"]} (simulated): signs '
      f'{row["signs_found"]}; worst Dice {worst[1]:.3f} ({worst[0]}); '
      + ', '.join(f'{k} {v:.3f}' for k, v in row['dice'].items())
    )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--seeds', nargs='+', type=int, default=[9010, 9011])
  parser.add_argument('--protocols', nargs='+', default=protocols.PROTOCOLS)
  parser.add_argument('--speed-only', action='store_true')
  parser.add_argument(
    '--heads', type=pathlib.Path, help='folder that keeps simulated heads'
  )
  args = parser.parse_args()
  result = {'speed': speed(), 'heads': []}
  jobs = [(p, s) for p in args.protocols for s in args.seeds]
  jobs = [] if args.speed_only else jobs
  with Progress('simulated heads', len(jobs)) as progress:
    for name, seed in jobs:
      result['heads'].append(measure(name, seed, args.heads))
      progress.advance()
  report(result)
  if jobs:
    files.write_json(RESULTS, result)
    print(RESULTS)


if __name__ == '__main__':
  main()
