"""Whether simulated scans hold as much dark clutter as a real brain.

  python benchmarks/realism.py --veins walks trees ridges --slab-mm 40

Every family of veins draws the same people. Counted, per litre of brain: what
the candidate stage keeps, by depth under the surface, and small dark parts; and
the median contrast of those candidates. Beside them: the same of
one real brain (3 T, gradient echo magnitude, 1.06 mm isotropic, skull-
stripped, bias-flattened). The 1 mm scans are like that one, the other is
the SWI of `btumor_3t`; people have no lesion and no tumour here, since the rim
of a tumour is clutter too. Seeds 9000-9099 are for tuning. No scan that is made
here is of a person.
"""

import argparse
import dataclasses
import pathlib

import numpy as np
from scipy import ndimage

from cmbjax import files
from cmbjax.candidates import background, detector, gates, stages
from cmbjax.simulate import families, protocols, scan

RESULTS = pathlib.Path(__file__).parent / 'results' / 'realism.json'
DEPTHS_MM = {'2-8': (2, 8), '8-16': (8, 16), '>30': (30, np.inf)}
REAL = {  # of the real brain
  '2-8': 281, '8-16': 240, '>30': 231, 'contrast': 0.51, 'small': 454,
}  # fmt: skip
SWI_3T, SWI_1MM, MAGNITUDE_1MM = 'btumor_3t SWI', '1 mm SWI', '1 mm magnitude'
_DARK = 0.75  # of the brain, what makes a dark part
_LONGEST_MM = 5.0  # of a small one
_LEAST_MM3 = 2.0  # smaller ones are noise


def main() -> None:
  """Simulates, counts, prints the table and writes results/realism.json."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--seed', type=int, default=9000)
  parser.add_argument('--subjects', type=int, default=2)
  parser.add_argument('--slab-mm', type=float, help='default: whole heads')
  parser.add_argument('--veins', nargs='+', default=[*families.KINDS['veins']])
  parser.add_argument('--anatomy', default=families.CLASSIC.anatomy)
  parser.add_argument('--results', type=pathlib.Path, default=RESULTS)
  args = parser.parse_args()
  print(f'{"":<26}' + ''.join(f'{name:>10}' for name in REAL))
  print(f'{"a real brain":<26}' + _numbers(REAL))
  found = {}
  for veins in args.veins:
    drawn = families.CLASSIC._replace(veins=veins, anatomy=args.anatomy)
    people = [
      pictures(drawn, number, seed=args.seed, slab_mm=args.slab_mm)
      for number in range(1, args.subjects + 1)
    ]
    for name in people[0]:
      mean = _mean([person[name] for person in people])
      found[f'{veins}, {name}'] = mean
      print(f'{veins + ", " + name:<26}' + _numbers(mean), flush=True)
  files.write_json(
    args.results,
    {
      'simulated': True,
      'seed': args.seed,
      'subjects': args.subjects,
      'slab_mm': args.slab_mm,
      'anatomy': args.anatomy,
      'a real brain': REAL,
      **found,
    },
  )


def pictures(drawn, number: int, *, seed: int, slab_mm) -> dict:
  """Counts in each kind of picture of one person."""
  usual = dataclasses.replace(
    protocols.get_protocol('btumor_3t'), families=drawn,
    disease='small vessel disease', mean_lesions=0,
  )  # fmt: skip
  fine = dataclasses.replace(
    usual, voxel_mm=(1.0, 1.0, 1.0), fine_mm=(0.5, 0.5, 0.5), snr=(25, 40),
    echo_times_s=(0.025,), repetition_time_s=0.035, flip_deg=15.0,
  )  # fmt: skip
  one, other = (
    scan.make_scan(protocol, number, seed=seed, slab_mm=slab_mm)
    for protocol in (usual, fine)
  )
  return {
    SWI_3T: count(one, one.swi, usual.voxel_mm),
    SWI_1MM: count(other, other.swi * other.brain, fine.voxel_mm),
    MAGNITUDE_1MM: count(
      other, other.magnitude[0] * other.brain, fine.voxel_mm
    ),
  }


def count(made: scan.SimulatedScan, image, voxel_mm) -> dict[str, float]:
  """Clutter of one picture, per litre; names as in `REAL`."""
  brain = made.brain
  found = stages.propose(image, voxel_mm, brain, gates=gates.Gates(), jobs=1)
  place = tuple(found.centre[found.kept].T)
  under = ndimage.distance_transform_edt(brain, sampling=voxel_mm)
  litre = np.prod(voxel_mm) / 1e6
  result = {}
  for name, (low, high) in DEPTHS_MM.items():
    shell = brain & (under > low) & (under <= high)
    result[name] = float(shell[place].sum() / (shell.sum() * litre))
  contrast = found.features['contrast'][found.kept]
  result['contrast'] = float(np.median(contrast)) if len(contrast) else np.nan
  parts = small_parts(image, brain & (under > 2), voxel_mm)
  result['small'] = parts / (brain.sum() * litre)
  return result


def small_parts(image, inside, voxel_mm) -> int:
  """Dark parts of at most `_LONGEST_MM` along every axis.

  Where the real brain was counted another threshold may have been used.
  """
  flat = background.flatten(
    np.asarray(image, np.float32), voxel_mm, inside, gates=detector.Gates()
  )
  labels, _ = ndimage.label((flat < _DARK) & inside, np.ones((3, 3, 3)))
  large = np.bincount(labels.ravel())[1:] * np.prod(voxel_mm) >= _LEAST_MM3
  return sum(
    all((s.stop - s.start) * mm <= _LONGEST_MM for s, mm in zip(box, voxel_mm))
    for box, enough in zip(ndimage.find_objects(labels), large)
    if enough
  )


def _mean(people: list[dict]) -> dict[str, float]:
  return {
    name: float(np.mean([one[name] for one in people])) for name in people[0]
  }


def _numbers(row: dict) -> str:
  return ''.join(
    f'{value:>10.2f}' if value < 2 else f'{value:>10.0f}'
    for value in row.values()
  )


if __name__ == '__main__':
  main()
