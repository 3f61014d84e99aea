"""Tiny cohorts for the tests of `cmbjax.data`: a bright brain, dark blobs.

Not a simulation: no physics, only the file layouts and known positions.
"""

import dataclasses
import json
import pathlib
from unittest import mock

import nibabel as nib
import numpy as np
from scipy import ndimage

SHAPE = (64, 60, 16)
SPACING_MM = (0.5, 0.5, 2.0)
BLOB_MM = 1.6  # radius


@dataclasses.dataclass
class Phantom:
  """One scan, in RAS voxel order."""

  swi: np.ndarray  # [X, Y, Z] float32 0..255
  brain: np.ndarray  # bool [X, Y, Z]
  lesions: np.ndarray  # int32 [X, Y, Z], 1..L
  mimics: np.ndarray  # int32 [X, Y, Z]
  affine: np.ndarray
  lesion_voxels: np.ndarray  # [L, 3] centres
  mimic_voxels: np.ndarray  # [M, 3] centres


def affine_of(spacing_mm=SPACING_MM, shape=SHAPE):
  affine = np.diag([*spacing_mm, 1.0])
  affine[:3, 3] = -np.array(shape) * spacing_mm / 2 + (3.0, -5.0, 2.0)
  return affine


def phantom(
  seed, *, num_lesions=3, num_mimics=2, shape=SHAPE, spacing_mm=SPACING_MM
):
  """An ellipsoid with faint noise and dark balls that do not touch."""
  rng = np.random.default_rng(seed)
  size = np.array(shape)
  grid = np.stack(np.indices(shape), -1)
  away = (grid - (size - 1) / 2) / (size / 2 - 1)
  brain = (away**2).sum(-1) < 1
  texture = ndimage.gaussian_filter(rng.normal(size=shape), 2)
  swi = np.where(brain, 200 + 40 * texture, 0)
  inner = np.argwhere((away**2).sum(-1) < 0.45)
  places = []
  while len(places) < num_lesions + num_mimics:
    place = inner[rng.integers(len(inner))]
    apart = [np.linalg.norm((place - p) * spacing_mm) for p in places]
    if min(apart, default=99) > 8:
      places.append(place)
  images = [np.zeros(shape, np.int32) for _ in range(2)]
  for number, place in enumerate(places):
    distance = np.linalg.norm((grid - place) * spacing_mm, axis=-1)
    swi = swi * (1 - 0.85 * np.exp(-((distance / BLOB_MM) ** 4)))
    which, first = (0, 0) if number < num_lesions else (1, num_lesions)
    images[which][distance < BLOB_MM] = number - first + 1
  places = np.array(places).reshape(-1, 3)
  return Phantom(
    np.clip(swi, 0, 255).astype(np.float32),
    brain,
    *images,
    affine_of(spacing_mm, shape),
    places[:num_lesions],
    places[num_lesions:],
  )


def save(path, array, affine):
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  if array.dtype == bool:
    array = array.astype(np.uint8)
  nib.save(nib.Nifti1Image(array, affine), path)
  return path


def write_scan(root, subject, one, *, session=None, mask=True):
  """SWI, JSON and (by default) brain mask of one scan; returns anat/."""
  name = f'{subject}_{session}' if session else subject
  anat = pathlib.Path(root, subject, session or '', 'anat')
  save(anat / f'{name}_swi.nii.gz', one.swi.astype(np.uint8), one.affine)
  facts = {'EchoTime': 0.016, 'MagneticFieldStrength': 7}
  (anat / f'{name}_swi.json').write_text(json.dumps(facts))
  if mask:
    save(anat / f'{name}_desc-brain_mask.nii.gz', one.brain, one.affine)
  return anat


def label_path(root, subject, *, ending='seg-cmb_dseg.nii.gz', session=None):
  name = f'{subject}_{session}' if session else subject
  folder = pathlib.Path(root, 'derivatives/truth', subject, session or '')
  return folder / 'anat' / f'{name}_{ending}'


def write_cohort(
  root,
  *,
  subjects=3,
  first=1,
  first_seed=0,
  simulated=False,
  prefix='sub-',
  **how,
):
  """The layout of `cmbjax simulate`, with instance labels; the phantoms."""
  root = pathlib.Path(root)
  root.mkdir(parents=True, exist_ok=True)
  facts = {'Name': 'small', 'BIDSVersion': '1.10.0', 'Simulated': simulated}
  (root / 'dataset_description.json').write_text(json.dumps(facts))
  made = {}
  for number in range(first, first + subjects):
    subject, one = f'{prefix}{number:02d}', phantom(first_seed + number, **how)
    write_scan(root, subject, one)
    save(label_path(root, subject), one.lesions.astype(np.uint16), one.affine)
    made[subject] = one
  return made


def phantom_scan(seed):
  """What `simulate.scan.make_scan` gives, of a phantom."""
  from cmbjax.simulate import labels as labels_lib
  from cmbjax.simulate import scan

  one = phantom(seed, shape=(96, 90, 24))
  rows = [
    [
      labels_lib.Finding(n, 'round', 'thalamus', np.zeros(3), 1.0, 0.5)
      for n in range(1, labels.max() + 1)
    ]
    for labels in (one.lesions, one.mimics)
  ]
  phase = np.random.default_rng(seed).uniform(-np.pi, np.pi, one.swi.shape)
  return scan.SimulatedScan(
    magnitude=[one.swi],
    phase=[phase.astype(np.float32)],
    swi=one.swi,
    brain=one.brain,
    lesions=one.lesions.astype(np.uint16),
    mimics=one.mimics.astype(np.uint16),
    lesion_rows=rows[0],
    mimic_rows=rows[1],
    affine=one.affine,
    facts={},
  )


def write_as_simulated(root, *, subjects=2):
  """As `cmbjax simulate` writes it, but of phantoms instead of physics."""
  from cmbjax.simulate import cohort

  def make_scan(protocol, number, **_):
    return phantom_scan(number)

  with mock.patch.object(cohort.scan_module, 'make_scan', make_scan):
    cohort.simulate('ccm_3t', subjects=subjects, out=root, seed=0, jobs=1)


def write_lupolab(root, *, subjects=3, first_seed=0):
  """A folder per scan: scaled image, accepted mask, false positives."""
  made = {}
  for number in range(1, subjects + 1):
    one, folder = phantom(first_seed + number), pathlib.Path(root, f'P{number}')
    for name, array in (
      (f'scaled_P{number}.nii', one.swi),
      (f'P{number}_swi_nonproj_finalcorrected.nii', one.lesions > 0),
      (f'P{number}_swi_nonproj_false_positives.nii', one.mimics > 0),
      (f'P{number}_swi_denoised.nii', one.mimics * 0),
    ):
      save(folder / name, array, one.affine)
    made[f'sub-P{number}'] = one
  return made
