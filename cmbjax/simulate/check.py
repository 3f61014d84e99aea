"""Simulated lesions beside real ones: sizes, contrast, shape, places, counts.

Rule: the real numbers stand here with their source; nothing is tuned while
checking.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import volume
from cmbjax.simulate.lesions import REGION_SHARES

QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95)
# 957 real microbleeds of five public sets, masks at 0.5 mm (per-lesion tables
# of MicrobleedNet; VALDO, DOU, MOMENI, RODEJA, CRB).
REAL_DIAMETER_MM = (1.4, 2.3, 2.7, 3.2, 4.8)
REAL_ELONGATION = (0.27, 0.44, 0.61, 0.86, 0.97)
REAL_FLATNESS = (0.18, 0.35, 0.50, 0.67, 0.88)
# Lesion over background intensity of real SWAN lesions: the range.
REAL_INTENSITY = (0.01, 0.61)
# Chen et al., ISMRM 2019: microbleeds per subject of the test sets.
REAL_COUNTS = {
  'btumor_7t': 30.8,
  'btumor_7t_4echo': 30.8,
  'btumor_3t': 22.6,
}
WITHIN = 0.15  # the three middle quantiles should agree this well


class RealismCheck(NamedTuple):
  """Simulated against real.

  Attributes:
    diameter_mm: simulated quantiles at `QUANTILES`.
    intensity: lesion over surroundings on the SWI, median per lesion.
    elongation, flatness: middle and shortest over longest axis.
    shares: share of each region.
    per_subject: mean number.
    off: relative difference of the 25, 50, 75 % diameters.
    text: the table.
  """

  diameter_mm: np.ndarray
  intensity: np.ndarray
  elongation: np.ndarray
  flatness: np.ndarray
  shares: dict[str, float]
  per_subject: float
  off: np.ndarray
  text: str


def check(folder: str | os.PathLike) -> RealismCheck:
  """Reads the truth of a simulated cohort and compares it with real lesions.

  Raises:
    NoInputError: no such folder or no subject in it.
    InputError: not a simulated cohort, or one without lesions.
  """
  folder = pathlib.Path(folder)
  top = folder / 'dataset_description.json'
  if not doors.is_there(top):
    raise NoInputError(f'{folder}: is no cohort folder; simulate one first.')
  about = files.read_object(top)
  if not about.get('Simulated'):
    raise InputError(
      f'{folder}: is not simulated, so there is nothing to check.'
    )
  subjects = sorted(p.name for p in folder.glob('sub-*') if p.is_dir())
  if not subjects:
    raise NoInputError(f'{folder}: holds no subject; simulate some first.')
  rows = [row for subject in subjects for row in _read(folder, subject)]
  if not rows:
    raise InputError(f'{folder}: holds no lesion; simulate more subjects.')
  cohort = about.get('Cohort', 'unknown')
  return _compare(rows, cohort, len(subjects))


def _read(folder, subject) -> list[dict]:
  """Table rows of one subject, with the intensity measured on its SWI."""
  stem = folder / 'derivatives' / 'truth' / subject / 'anat' / subject
  table = pathlib.Path(f'{stem}_seg-cmb_dseg.tsv')
  lines = files.read_text(table).splitlines()
  names = lines[0].split('\t') if lines else []
  missing = {'index', 'diameter_mm', 'region', 'elongation', 'flatness'} - set(
    names
  )
  if missing:
    raise InputError(
      f'{table}: has no column {min(missing)!r}; simulate it again.'
    )
  rows = [dict(zip(names, line.split('\t'))) for line in lines[1:]]
  labels = volume.load(f'{stem}_seg-cmb_dseg.nii.gz').array
  swi = volume.load(folder / subject / 'anat' / f'{subject}_swi.nii.gz').array
  mask = volume.load(f'{stem}_label-brain_mask.nii.gz').array > 0
  for row in rows:
    row['intensity'] = _intensity(swi, labels, mask, int(row['index']))
  return rows


def _intensity(swi, labels, mask, index) -> float:
  """Median of the lesion over the median of the tissue around it."""
  where = np.argwhere(labels == index)
  low = np.maximum(where.min(0) - 6, 0)
  box = tuple(slice(a, b) for a, b in zip(low, where.max(0) + 7))
  around = swi[box][(labels[box] == 0) & mask[box]]
  inside = swi[box][labels[box] == index]
  return float(np.median(inside) / max(np.median(around), 1e-6))


def _compare(rows, cohort, num_subjects) -> RealismCheck:
  popcorn = np.array(['popcorn' in row['type'] for row in rows])
  small = ~popcorn if (~popcorn).any() else popcorn

  def quantiles(name):
    values = np.array([float(row[name]) for row in rows])
    return np.quantile(values[small], QUANTILES)

  diameter = quantiles('diameter_mm')
  where = [row['region'] for row in rows]
  result = RealismCheck(
    diameter_mm=diameter,
    intensity=quantiles('intensity'),
    elongation=quantiles('elongation'),
    flatness=quantiles('flatness'),
    shares={n: where.count(n) / len(where) for n in REGION_SHARES},
    per_subject=len(rows) / num_subjects,
    off=diameter[1:4] / REAL_DIAMETER_MM[1:4] - 1,
    text='',
  )
  return result._replace(text=_text(result, cohort, len(rows), num_subjects))


def _text(result: RealismCheck, cohort, count, num_subjects) -> str:
  def row(name, values):
    return f'{name:<38}' + ''.join(f'{v:8.2f}' for v in values)

  lines = [
    f'Simulated cohort {cohort}: {count} lesions in {num_subjects} subjects',
    f'{"quantile":<38}' + ''.join(f'{q:>8.0%}' for q in QUANTILES),
    row('diameter mm, simulated', result.diameter_mm),
    row('diameter mm, real', REAL_DIAMETER_MM),
    row('elongation, simulated', result.elongation),
    row('elongation, real', REAL_ELONGATION),
    row('flatness, simulated', result.flatness),
    row('flatness, real', REAL_FLATNESS),
    row('contrast (lesion/tissue), simulated', result.intensity),
    f'{"contrast (lesion/tissue), real":<38}{REAL_INTENSITY[0]:8.2f} to '
    f'{REAL_INTENSITY[1]:.2f}, typically 0.3 to 0.4',
    '',
    f'{"region":<38}{"simulated":>10}{"real":>8}',
  ]
  lines += [
    f'{name:<38}{share:>10.0%}{REGION_SHARES[name]:>8.0%}'
    for name, share in result.shares.items()
  ]
  wanted = REAL_COUNTS.get(cohort)
  wanted = f'{wanted:.1f}' if wanted else 'not published'
  lines += [
    '',
    f'lesions per subject: {result.per_subject:.1f}, paper {wanted}',
  ]
  worst = float(abs(result.off).max())
  word = 'yes' if worst <= WITHIN else 'no'
  lines.append(
    f'25/50/75 % diameters within {WITHIN:.0%} of real: {word} '
    f'(worst {worst:.0%})'
  )
  return '\n'.join(lines)
