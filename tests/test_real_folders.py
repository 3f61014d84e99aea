"""A person's own folders, from files to folds, in every layout we read."""

import pathlib

import nibabel as nib
import numpy as np
import pytest

from cmbjax import cli
from cmbjax.data import cohort, examples, folds
from cmbjax.errors import InputError
from cmbjax.intake import lupolab
from tests import small_cohorts
from tests.messages import says
from tests.small_cohorts import label_path, phantom, save, write_scan

SUBJECTS = [f'sub-patient{n}' for n in (1, 2, 3, 4)]


def with_label_images(root):
  for number, subject in enumerate(SUBJECTS):
    one = phantom(number)
    write_scan(root, subject, one)
    ending = 'label-L_desc-cmb_mask.nii.gz'
    path = root / 'derivatives/rater' / subject / 'anat' / f'{subject}_{ending}'
    save(path, one.lesions > 0, one.affine)


def with_points(root):
  for number, subject in enumerate(SUBJECTS):
    one = phantom(number)
    anat = write_scan(root, subject, one)
    world = nib.affines.apply_affine(one.affine, one.lesion_voxels)
    rows = ['\t'.join(f'{value:.2f}' for value in row) for row in world]
    text = '\n'.join(['x\ty\tz', *rows])
    (anat / f'{subject}_cmb.tsv').write_text(text + '\n')


def in_folders_of_the_labeler(root):
  small_cohorts.write_lupolab(root, subjects=4, first_seed=-1)


def in_one_folder_of_the_labeler(root):
  for number in range(4):
    one, name = phantom(number), f'case{number}'
    for ending, array in (
      ('scaled', one.swi),
      ('swi_nonproj_final_usercorrected', one.lesions > 0),
      ('swi_nonproj_false_positives', one.mimics > 0),
    ):
      save(root / f'{name}_{ending}.nii', array, one.affine)


LAYOUTS = [
  with_label_images,
  with_points,
  in_folders_of_the_labeler,
  in_one_folder_of_the_labeler,
]


@pytest.mark.parametrize('write', LAYOUTS, ids=lambda write: write.__name__)
@pytest.mark.parametrize('config', ['native', 'resampled'])
def test_from_files_to_folds(tmp_path, write, config):
  write(tmp_path / 'mine')
  folder = examples.build(
    'mine', tmp_path / 'mine', tmp_path / 'data', config=config
  )
  found, scans = examples.load(folder), examples.load_scans(folder)
  assert found.image.shape == (20, 24, 24, 12)
  assert found.label.sum() == 12
  assert not scans.simulated.any()
  assert scans.num_lesions.tolist() == [3] * 4
  assert scans.num_missed.tolist() == [0] * 4
  # Microbleeds and mimics lie where they were put.
  for number, name in enumerate(scans.scan):
    one, own = phantom(number), examples.select(found, found.scan == name)
    for label, places in ((1, one.lesion_voxels), (0, one.mimic_voxels)):
      centres = sorted(own.centre[own.label == label].tolist())
      np.testing.assert_allclose(centres, sorted(places.tolist()), atol=1)
  # The candidate is the dark thing in the middle of its patch.
  assert found.image[:, 12, 12, 6].max() < 0.35
  made = folds.make_folds(
    {'mine': found.subject}, 3, num_test={'mine': 1}, seed=0
  )
  fold_of = made.of(found.subject)
  assert np.bincount(fold_of + 1).tolist() == [5, 5, 5, 5]


def test_what_the_labeler_wrote_is_all_there_is(tmp_path):
  """Detected or not, only the components of both masks are candidates."""
  one = phantom(3)
  dark = one.swi.copy()
  dark[one.lesions == 1] = 20  # dark, but in neither mask
  masks = {
    'final_usercorrected': one.lesions == 2,
    'finalcorrected': (one.lesions == 2) | (one.lesions == 3),
    'false_positives': one.mimics == 1,
  }
  save(tmp_path / 'P1/scaled_a.nii', dark, one.affine)
  for name, mask in masks.items():
    save(tmp_path / f'P1/a_{name}.nii', mask, one.affine)
  folder = examples.build('mine', tmp_path, tmp_path.with_suffix('.data'))
  found, scans = examples.load(folder), examples.load_scans(folder)
  assert sorted(found.label.tolist()) == [0, 1, 1]
  assert scans.truth.tolist() == ['candidates']
  assert scans.num_lesions.tolist() == [2]


def test_a_folder_is_a_subject_and_a_second_level_a_session(tmp_path):
  for number, place in enumerate(['P01/2013-05', 'P01/2014-06', 'P02/x']):
    one = phantom(number)
    for name, array in (
      ('scaled', one.swi),
      ('finalcorrected', one.lesions),
      ('false_positives', one.mimics),
    ):
      save(tmp_path / place / f'{name}.nii', array, one.affine)
  found = cohort.read_cohort(tmp_path)
  assert {scan.subject for scan in found.scans} == {'sub-P01', 'sub-P02'}
  assert [scan.name for scan in found.scans] == [
    'sub-P01_ses-201305',
    'sub-P01_ses-201406',
    'sub-P02_ses-x',
  ]


def test_a_brain_mask_beside_the_scaled_image_is_used(tmp_path):
  small_cohorts.write_lupolab(tmp_path, subjects=1)
  one = phantom(1)
  own = one.brain & (np.indices(one.brain.shape)[0] > 20)
  save(tmp_path / 'P1/P1_brain_mask_scaled.nii.gz', own, one.affine)
  (scan,) = cohort.read_cohort(tmp_path).scans
  np.testing.assert_array_equal(cohort.load_scan(scan).mask, own)


def _remove(root, pattern):
  for path in root.rglob(pattern):
    path.unlink()


def _add(root, name):
  one = phantom(1)
  save(root / 'P1' / name, one.lesions, one.affine)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda root: _remove(root, '*false_positives*'),
      '*false_positives*',
    ),
    (
      lambda root: _remove(root, 'scaled*'),
      '',
    ),
    (
      lambda root: _add(root, 'P1_swi_nonproj_false_positives.nii'),
      'finalcorrected.nii P1_swi_nonproj_false_pos',
    ),
    (
      lambda root: (root / 'P2').rename(root / 'P-1'),
      'P1',
    ),
  ],
)
def test_mistakes_in_the_folders_of_the_labeler(tmp_path, change, message):
  small_cohorts.write_lupolab(tmp_path / 'l', subjects=2)
  change(tmp_path / 'l')
  with says(InputError, message):
    examples.build('mine', tmp_path / 'l', tmp_path / 'data')
  assert not list((tmp_path / 'data').rglob('dataset_info.json'))


@pytest.mark.parametrize(
  ('change', 'message', 'kept'),
  [
    (
      lambda root: _remove(root, 'P2_*finalcorrected*'),
      'scaled_P2.nii: found 0 masks named *finalcorrected*',
      'sub-P1',
    ),
    (
      lambda root: _add(root, 'again_false_positives.nii'),
      'found 2 masks named *false_positives* (P1_swi_nonproj_false',
      'sub-P2',
    ),
  ],
)
def test_a_mistake_in_one_folder_of_the_labeler(
  tmp_path, capsys, change, message, kept
):
  """The other scan is built, and the exit code says that not all are."""
  small_cohorts.write_lupolab(tmp_path / 'l', subjects=2)
  change(tmp_path / 'l')
  words = ['build', 'mine', '--manual_dir', str(tmp_path / 'l')]
  assert cli.main([*words, '--data_dir', str(tmp_path / 'data')]) == 1
  said = capsys.readouterr()
  assert message in said.err.replace(str(tmp_path / 'l'), '')
  found = examples.load(pathlib.Path(said.out.strip()))
  assert set(found.subject) == {kept}


def test_a_labeler_scan_has_no_masks_of_one_with_a_longer_name(tmp_path):
  for name in ('P1', 'P10', 'P1_late'):
    for path in (f'scaled_{name}', f'{name}_finalcorrected'):
      save(tmp_path / f'{path}.nii', np.zeros((3, 3, 3)), np.eye(4))
    if name != 'P1':
      path = tmp_path / f'{name}_false_positives.nii'
      save(path, np.zeros((3, 3, 3)), np.eye(4))
  failures = {}
  found = lupolab.find_scans(tmp_path, failures=failures)
  own = {scan.name: truth.rejected.name for scan, truth in found}
  assert own == {
    'sub-p10': 'P10_false_positives.nii',
    'sub-p1late': 'P1_late_false_positives.nii',
  }
  assert 'found 0 masks named *false_positives*' in failures['scaled_P1.nii']


def test_a_cohort_with_one_subject_cannot_be_folded(tmp_path):
  one = phantom(1)
  write_scan(tmp_path / 'c', 'sub-1', one)
  save(label_path(tmp_path / 'c', 'sub-1'), one.lesions, one.affine)
  found = examples.load(examples.build('c', tmp_path / 'c', tmp_path / 'd'))
  with says(InputError):
    folds.make_folds({'mine': found.subject}, 2, num_test={}, seed=0)


def test_other_folders_are_not_taken_for_the_labelers(tmp_path):
  save(tmp_path / 'a' / 'FRST_scaled_map.nii', np.zeros((3, 3, 3)), np.eye(4))
  assert not lupolab.is_lupolab(tmp_path)
