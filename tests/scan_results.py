"""Made-up results of one scan, for tests of what shows and stores them."""

import dataclasses
import pathlib

import numpy as np

from cmbjax.detect import counts, records
from cmbjax.detect.result import Lesion, ScanResult

REGIONS = (
  ('frontal', 'lobar'),
  ('thalamus', 'deep'),
  ('cerebellum', 'infratentorial'),
)


def lesion(n: int, voxel, affine, status: str, **more) -> Lesion:
  """Lesion `n` (from 1) at a voxel."""
  region, location = REGIONS[n % 3]
  likely = {'definite': 0.95, 'possible': 0.3, 'rejected': 0.04}[status]
  rejected = status == 'rejected'
  values = {
    'index': 0 if rejected else n,
    'id': f'candidate-{n:04d}' if rejected else f'lesion-{n:03d}',
    'candidate': n,
    'centre_mm': tuple(float(x) for x in (affine @ [*voxel, 1])[:3]),
    'centre_index': tuple(int(x) for x in voxel),
    'status': status,
    'likelihood': likely - n / 10_000,
    'spread': 0.02,
    'probability': likely * 0.9,
    'volume_mm3': 10.0 + n,
    'diameter_mm': 2.0 + n / 100,
    'feret_mm': 2.5,
    'extent_mm': (2.0, 2.0, 4.0),
    'contrast': 0.8,
    'category': 'hard',
    'region': region,
    'location': location,
    'region_certain': n % 4 > 0,
  }
  return Lesion(**values | more)


def make(
  definite: int = 3,
  possible: int = 2,
  rejected: int = 2,
  *,
  shape=(48, 56, 20),
  spacing_mm=(1.0, 1.0, 2.0),
  seed: int = 0,
  **more,
) -> ScanResult:
  """A noisy brain with dark cubes as lesions; `more` replaces fields."""
  rng = np.random.default_rng(seed)
  affine = np.diag([*spacing_mm, 1.0])
  affine[:3, 3] = -np.array(shape) * spacing_mm / 2
  place = [(np.arange(n) - (n - 1) / 2) / (n / 2) for n in shape]
  x, y, z = np.meshgrid(*place, indexing='ij', sparse=True)
  mask = x**2 + y**2 + z**2 < 0.9
  swi = rng.normal(0.75, 0.08, shape).astype(np.float32).clip(0, 1) * mask
  labels = np.zeros(shape, np.uint16)
  statuses = ['definite'] * definite + ['possible'] * possible
  statuses += ['rejected'] * rejected
  inside = rng.permutation(np.argwhere(mask))[: len(statuses)]
  lesions = []
  for n, (voxel, status) in enumerate(zip(inside, statuses), start=1):
    box = tuple(slice(max(v - 1, 0), v + 2) for v in voxel)
    swi[box] = 0.1
    if status != 'rejected':
      labels[box] = n
    lesions.append(lesion(n, voxel, affine, status))
  dropped = len(statuses) + 3  # three that a gate dropped
  gates = ['vessel', 'not round', 'too small']
  fields = {
    'name': 'sub-01',
    'subject': 'sub-01',
    'session': None,
    'source': 'sub-01_swi.nii.gz',
    'simulated': True,
    'protocol': {
      'field_t': 3.0,
      'echo_time_s': 0.028,
      'spacing_mm': spacing_mm,
      'manufacturer': 'GE',
      'model': None,
      'made': 'given',
    },
    'lesions': tuple(lesions),
    'candidates': {
      'candidate': np.arange(1, dropped + 1),
      'x_mm': np.zeros(dropped),
      'y_mm': np.zeros(dropped),
      'z_mm': np.zeros(dropped),
      'score': np.linspace(1, 0.1, dropped),
      'kept': np.arange(dropped) < len(statuses),
      'reason': np.array([''] * len(statuses) + gates),
    },
    'counts': counts.count(lesions, classified=True)
    | {'proposed': dropped, 'candidates': len(statuses)},
    'warnings': (),
    'operating_point': {
      'name': 'high_sensitivity',
      'threshold': 0.1,
      'definite_threshold': 0.5,
      'networks': 5,
      'fingerprint': 'ab' * 8,
    },
    'seconds': {'candidates': 1.5},
    'software': {'cmbjax': '1', 'numpy': '2'},
    'swi': swi,
    'labels': labels,
    'mask': mask,
    'spacing_mm': spacing_mm,
    'affine': affine,
  }
  return ScanResult(**fields | more)


def group_row(result: ScanResult) -> dict:
  """What the group page gets of a result, as `detect` gives it."""
  warnings = list(result.warnings)
  record = {'row': records.group_row(result), 'warnings': warnings}
  return records._page_row(pathlib.Path('nowhere'), record)


def changed(result: ScanResult, **more) -> ScanResult:
  """`result` with other fields."""
  return dataclasses.replace(result, **more)
