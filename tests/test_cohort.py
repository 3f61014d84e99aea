"""Cohort folders to scans and truths: the layouts, and every mistake."""

import gzip
import json
import types

import nibabel as nib
import numpy as np
import pytest

from cmbjax.data import cohort, tables
from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import bids
from cmbjax.reconstruct import scan_image
from tests import small_cohorts
from tests.messages import says
from tests.small_cohorts import label_path, save, write_cohort, write_scan

ONE = small_cohorts.phantom(1)


def points_path(root, subject='sub-01'):
  return root / subject / 'anat' / f'{subject}_cmb.tsv'


def write_points(root, text, subject='sub-01'):
  write_scan(root, subject, ONE)
  path = points_path(root, subject)
  path.write_text(text)
  return path


def load_only(root):
  (scan,) = cohort.read_cohort(root).scans
  return cohort.load_scan(scan)


def test_the_layout_of_simulate(tmp_path):
  made = write_cohort(tmp_path, subjects=2, simulated=True)
  found = cohort.read_cohort(tmp_path)
  assert found.simulated
  assert [scan.subject for scan in found.scans] == ['sub-01', 'sub-02']
  assert found.unlabelled == ()
  for scan in found.scans:
    loaded, one = cohort.load_scan(scan), made[scan.subject]
    assert loaded.swi.dtype == np.float32
    assert loaded.swi.max() == 1
    bright = np.percentile(one.swi.astype(np.uint8)[one.brain], 99.5)
    middle = one.swi.astype(np.uint8)[30, 30, 8] / bright
    assert loaded.swi[30, 30, 8] == pytest.approx(min(middle, 1), abs=1e-5)
    np.testing.assert_array_equal(loaded.mask, one.brain)
    np.testing.assert_array_equal(loaded.truth.labels, one.lesions)
    assert loaded.spacing_mm == small_cohorts.SPACING_MM
    assert loaded.truth.lesions.tolist() == [1, 2, 3]
    voxels = np.bincount(one.lesions.ravel())[1:]
    np.testing.assert_allclose(
      loaded.truth.diameter_mm, (6 / np.pi * 0.5 * voxels) ** (1 / 3), rtol=1e-6
    )


def test_diameters_of_the_table_go_first(tmp_path):
  write_cohort(tmp_path, subjects=1)
  table = label_path(tmp_path, 'sub-01', ending='seg-cmb_dseg.tsv')
  table.write_text('index\tname\tdiameter_mm\n2\tb\t2.5\n1\ta\tn/a\n')
  sizes = load_only(tmp_path).truth.diameter_mm
  assert sizes[1] == 2.5
  assert sizes[0] != 2.5


def test_regions_and_sizes_of_tables_are_read(tmp_path):
  write_cohort(tmp_path, subjects=1)
  table = label_path(tmp_path, 'sub-01', ending='seg-cmb_dseg.tsv')
  table.write_text('index\tregion\n2\tinsula\n1\tn/a\nn/a\tthalamus\n')
  loaded = load_only(tmp_path)
  assert loaded.truth.region == ('', 'insula', '')
  assert [loaded.truth.region_of(n) for n in (1, 2, 3)] == ['', 'insula', '']
  one = small_cohorts.phantom(1)
  world = one.lesion_voxels @ one.affine[:3, :3].T + one.affine[:3, 3]
  found = loaded.truth.centres_mm(loaded.affine)
  np.testing.assert_allclose(found, world, atol=0.3)


@pytest.mark.parametrize('flip', [0, 1, (0, 1, 2)])
def test_a_label_image_in_another_voxel_order(tmp_path, flip):
  write_scan(tmp_path, 'sub-01', ONE)
  image = nib.Nifti1Image(ONE.lesions.astype(np.uint8), ONE.affine)
  change = np.array([[0, 1], [1, 1], [2, 1]])
  change[list(np.atleast_1d(flip)), 1] = -1
  path = label_path(tmp_path, 'sub-01')
  path.parent.mkdir(parents=True)
  nib.save(image.as_reoriented(change), path)
  np.testing.assert_array_equal(load_only(tmp_path).truth.labels, ONE.lesions)


@pytest.mark.parametrize(
  'ending',
  [
    'label-CMB_mask.nii.gz',
    'label-L_desc-cmb_mask.nii.gz',
    'seg-cmb_dseg.nii.gz',  # one value for all lesions
  ],
)
def test_a_mask_is_split_into_its_components(tmp_path, ending):
  write_scan(tmp_path, 'sub-01', ONE)
  mask = (ONE.lesions > 0).astype(np.float32)
  save(label_path(tmp_path, 'sub-01', ending=ending), mask, ONE.affine)
  truth = load_only(tmp_path).truth
  assert truth.lesions.tolist() == [1, 2, 3]
  pairs = {(a, b) for a, b in zip(truth.labels.flat, ONE.lesions.flat)}
  assert len(pairs) == 4  # background and three lesions, one to one


def test_what_macos_lays_beside_the_labelers_files_is_none(tmp_path):
  small_cohorts.write_lupolab(tmp_path, subjects=1)
  before = cohort.read_cohort(tmp_path).scans
  for path in list(tmp_path.rglob('*.nii*')):
    path.with_name('._' + path.name).write_bytes(b'Mac OS X')
  assert cohort.read_cohort(tmp_path).scans == before


def test_an_empty_label_image_is_a_scan_without_lesions(tmp_path):
  write_scan(tmp_path, 'sub-01', ONE)
  save(label_path(tmp_path, 'sub-01'), ONE.lesions * 0, ONE.affine)
  assert load_only(tmp_path).truth.lesions.size == 0


def test_points_in_mm_and_in_voxels_are_the_same(tmp_path):
  world = nib.affines.apply_affine(ONE.affine, ONE.lesion_voxels)
  rows = '\n'.join('\t'.join(f'{v:.4f}' for v in row) for row in world)
  write_points(tmp_path / 'mm', 'x\ty\tz\n' + rows)
  rows = '\n'.join('\t'.join(map(str, row)) for row in ONE.lesion_voxels)
  write_points(tmp_path / 'voxel', 'I\tJ\tK\n' + rows)
  rows = '\n'.join('\t'.join(map(str, row)) for row in ONE.lesion_voxels + 1)
  one_based = write_points(tmp_path / 'matlab', 'i\tj\tk\n' + rows)
  one_based.with_suffix('.json').write_text('{"IndexBase": 1}')
  for name in ('mm', 'voxel', 'matlab'):
    truth = load_only(tmp_path / name).truth
    assert truth.kind == 'points'
    np.testing.assert_allclose(truth.points_mm, world, atol=1e-3)


def test_voxels_of_a_table_are_those_of_the_file(tmp_path):
  """The file is stored from right to left; the table counts as it does."""
  write_scan(tmp_path, 'sub-01', ONE)
  path = tmp_path / 'sub-01/anat/sub-01_swi.nii.gz'
  turned = nib.load(path).as_reoriented([[0, -1], [1, 1], [2, 1]])
  nib.save(turned, path)
  mask = path.with_name('sub-01_desc-brain_mask.nii.gz')
  i, j, k = ONE.lesion_voxels[0]
  points_path(tmp_path).write_text(
    f'i\tj\tk\n{small_cohorts.SHAPE[0] - 1 - i}\t{j}\t{k}\n'
  )
  assert mask.is_file()
  (point,) = load_only(tmp_path).truth.points_mm
  expected = nib.affines.apply_affine(ONE.affine, [i, j, k])
  np.testing.assert_allclose(point, expected)


@pytest.mark.parametrize(
  'text',
  [
    'x,y,z\n0,0,0\n1.5,0,0\n',
    'x;y;z\n0;0;0\n1,5;0;0\n',
    'x|y|z|note\n0|0|0|\n1.5|0|0|"a|b"\n',
    'x\ty\tz\tnote\n0\t0\t0\t"two\nlines"\n1,5\t0\t0\n',
  ],
)
def test_points_with_any_separator(tmp_path, text):
  write_points(tmp_path, text)
  found = load_only(tmp_path).truth.points_mm
  assert found.tolist() == [[0, 0, 0], [1.5, 0, 0]]


def test_a_quote_that_is_not_closed_names_its_row(tmp_path):
  rows = [f'{n}\t0\t0\t' + ('"5 mm' if n == 3 else 'ok') for n in range(8)]
  write_points(tmp_path, '\n'.join(['x\ty\tz\tnote', *rows]) + '\n')
  with says(InputError, 'sub-01_cmb.tsv row 5'):
    load_only(tmp_path)


def test_sessions_are_scans_of_one_subject(tmp_path):
  for number, session in enumerate(('ses-1', 'ses-2'), 1):
    one = small_cohorts.phantom(number)
    write_scan(tmp_path, 'sub-01', one, session=session)
    path = label_path(tmp_path, 'sub-01', session=session)
    save(path, one.lesions, one.affine)
  found = cohort.read_cohort(tmp_path)
  assert [scan.name for scan in found.scans] == ['sub-01_ses-1', 'sub-01_ses-2']
  assert {scan.subject for scan in found.scans} == {'sub-01'}
  for number, scan in enumerate(found.scans, 1):
    expected = small_cohorts.phantom(number).lesions
    np.testing.assert_array_equal(cohort.load_scan(scan).truth.labels, expected)


def test_without_an_swi_it_is_reconstructed(tmp_path):
  """A dipole-like phase darkens: the SWI differs from the magnitude."""
  anat = tmp_path / 'sub-01/anat'
  phase = np.where(ONE.lesions > 0, -1.5, 0.0).astype(np.float32)
  for part, array in (('mag', ONE.swi), ('phase', phase)):
    save(anat / f'sub-01_part-{part}_T2starw.nii.gz', array, ONE.affine)
    facts = {'EchoTime': 0.02, 'MagneticFieldStrength': 3, 'Units': 'rad'}
    path = anat / f'sub-01_part-{part}_T2starw.json'
    path.write_text(json.dumps(facts))
  save(anat / 'sub-01_desc-brain_mask.nii.gz', ONE.brain, ONE.affine)
  save(label_path(tmp_path, 'sub-01'), ONE.lesions, ONE.affine)
  with_phase = load_only(tmp_path).swi
  first = cohort.scan_fingerprint(cohort.read_cohort(tmp_path).scans[0])
  for path in anat.glob('*phase*'):
    path.unlink()
  magnitude = load_only(tmp_path).swi
  inside = ONE.lesions > 0
  assert with_phase[inside].mean() < 0.9 * magnitude[inside].mean()
  second = cohort.scan_fingerprint(cohort.read_cohort(tmp_path).scans[0])
  assert first != second


@pytest.mark.parametrize(('phase', 'seconds'), [(True, 0.025), (False, 0.03)])
def test_the_echo_time_is_that_of_the_echoes_that_are_used(
  tmp_path, phase, seconds
):
  """Of 10, 20 and 30 ms: all but the first make an SWI; alone, the last."""
  anat = tmp_path / 'sub-01/anat'
  for number in (1, 2, 3):
    for part in ('mag', 'phase') if phase else ('mag',):
      name = f'sub-01_echo-{number}_part-{part}_MEGRE'
      save(anat / f'{name}.nii.gz', ONE.swi, ONE.affine)
      facts = json.dumps({'EchoTime': number / 100})
      (anat / f'{name}.json').write_text(facts)
  (scan,) = bids.find_scans(tmp_path)
  assert scan_image.echo_time_s(scan) == pytest.approx(seconds)
  assert scan.sidecar['EchoTime'] == 0.01
  item = types.SimpleNamespace(name='sub-01', files=scan)
  assert tables._echo_time(item) == pytest.approx(seconds)


def test_the_mask_is_found_when_none_is_given(tmp_path):
  one = small_cohorts.phantom(3, shape=(80, 80, 24), spacing_mm=(1.0, 1.0, 2.0))
  write_scan(tmp_path, 'sub-01', one, mask=False)
  save(label_path(tmp_path, 'sub-01'), one.lesions, one.affine)
  mask = load_only(tmp_path).mask
  overlap = 2 * (mask & one.brain).sum() / (mask.sum() + one.brain.sum())
  assert overlap > 0.9


def test_scans_without_a_truth_are_left_out_by_name(tmp_path):
  write_cohort(tmp_path, subjects=2)
  write_scan(tmp_path, 'sub-09', ONE)
  found = cohort.read_cohort(tmp_path)
  assert found.unlabelled == ('sub-09',)
  assert len(found.scans) == 2


@pytest.mark.parametrize('manual', [True, False])
def test_what_was_detected_is_a_truth_only_when_reviewed(tmp_path, manual):
  write_scan(tmp_path, 'sub-01', ONE)
  folder = tmp_path / 'derivatives/cmbjax/sub-01/anat'
  path = folder / 'sub-01_space-orig_seg-cmb_dseg.nii.gz'
  save(path, ONE.lesions, ONE.affine)
  (folder / 'sub-01_space-orig_seg-cmb_dseg.json').write_text(
    json.dumps({'Manual': manual})
  )
  if manual:
    assert len(cohort.read_cohort(tmp_path).scans) == 1
  else:
    with says(NoInputError):
      cohort.read_cohort(tmp_path)


def test_the_fingerprint_follows_content_and_name_not_time(tmp_path):
  write_cohort(tmp_path / 'a', subjects=1)
  write_cohort(tmp_path / 'b', subjects=1)
  write_cohort(tmp_path / 'c', subjects=1, first_seed=5)
  write_cohort(tmp_path / 'd', subjects=1, prefix='sub-X')
  a, b, c, d = (
    cohort.scan_fingerprint(cohort.read_cohort(tmp_path / n).scans[0])
    for n in 'abcd'
  )
  assert a == b
  assert len({a, c, d}) == 3
  path = label_path(tmp_path / 'a', 'sub-01')
  lesions = ONE.lesions.copy()
  lesions[30, 30, 8] = 9
  save(path, lesions, ONE.affine)
  (scan,) = cohort.read_cohort(tmp_path / 'a').scans
  assert cohort.scan_fingerprint(scan) != a


# Mistakes. Each makes a folder and gives the error with its message.


def cut_in_half(tmp_path):
  write_cohort(tmp_path, subjects=1)
  path = tmp_path / 'sub-01/anat/sub-01_swi.nii.gz'
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  return 'sub-01_swi.nii.gz NIfTI'


def labels_cut_in_half(tmp_path):
  write_cohort(tmp_path, subjects=1)
  path = label_path(tmp_path, 'sub-01')
  whole = gzip.decompress(path.read_bytes())
  path.write_bytes(gzip.compress(whole[: len(whole) // 2]))
  return 'seg-cmb_dseg.nii.gz NIfTI'


def another_shape(tmp_path):
  write_cohort(tmp_path, subjects=1)
  save(label_path(tmp_path, 'sub-01'), ONE.lesions[1:], ONE.affine)
  return '63x60x16 64x60x16 _swi.nii.gz'


def another_affine(tmp_path):
  write_cohort(tmp_path, subjects=1)
  affine = ONE.affine.copy()
  affine[0, 3] += 0.5
  save(label_path(tmp_path, 'sub-01'), ONE.lesions, affine)
  return 'seg-cmb_dseg.nii.gz 0.5'


def mask_of_another_shape(tmp_path):
  write_cohort(tmp_path, subjects=1)
  path = tmp_path / 'sub-01/anat/sub-01_desc-brain_mask.nii.gz'
  save(path, ONE.brain[:, :-2], ONE.affine)
  return 'desc-brain_mask.nii.gz 64x58x16'


def probabilities(tmp_path):
  write_cohort(tmp_path, subjects=1)
  path = label_path(tmp_path, 'sub-01')
  save(path, (ONE.lesions > 0) * np.float32(0.25), ONE.affine)
  return '0.25'


def negative_labels(tmp_path):
  write_cohort(tmp_path, subjects=1)
  path = label_path(tmp_path, 'sub-01')
  save(path, ONE.lesions.astype(np.int16) - 1, ONE.affine)
  return ''


def labels_beyond_any_count(tmp_path):
  write_cohort(tmp_path, subjects=1)
  path = label_path(tmp_path, 'sub-01')
  save(path, (ONE.lesions > 0) * 3e9, ONE.affine)  # no int32 holds it
  return '1,000,000'


def points_outside(tmp_path):
  write_points(tmp_path, 'x\ty\tz\n0\t0\t0\n0\t0\t400\n')
  return 'sub-01_cmb.tsv 400'


def points_left_of_the_scan(tmp_path):
  write_points(tmp_path, 'i\tj\tk\n-1\t3\t3\n')
  return ''


def missing_columns(tmp_path):
  write_points(tmp_path, 'x\ty\tname\n0\t0\ta\n')
  return 'sub-01_cmb.tsv'


def empty_table(tmp_path):
  write_points(tmp_path, '')
  return ''


def no_number(tmp_path):
  write_points(tmp_path, 'x\ty\tz\n0\t0\t0\n0\tn/a\t0\n')
  return 'n/a'


def bad_index_base(tmp_path):
  path = write_points(tmp_path, 'i\tj\tk\n3\t3\t3\n')
  path.with_suffix('.json').write_text('{"IndexBase": 2}')
  return 'IndexBase'


def two_truths(tmp_path):
  write_cohort(tmp_path, subjects=1)
  path = label_path(tmp_path, 'sub-01', ending='seg-cmb_desc-b_dseg.nii.gz')
  save(path, ONE.lesions, ONE.affine)
  return 'derivatives/truth'


def subject_twice(tmp_path):
  write_cohort(tmp_path, subjects=2)
  (tmp_path / 'participants.tsv').write_text(
    'participant_id\tage\nsub-01\t4\nsub-02\t5\nsub-01\t6\n'
  )
  return 'participants.tsv'


def participants_in_latin_1(tmp_path):
  write_cohort(tmp_path, subjects=1)
  (tmp_path / 'participants.tsv').write_bytes(b'participant_id\nsub-01\xe9\n')
  return 'participants.tsv UTF'


def voxels_in_metres(tmp_path):
  write_cohort(tmp_path, subjects=1)
  path = tmp_path / 'sub-01/anat/sub-01_swi.nii.gz'
  image = nib.load(path)
  affine = image.affine.copy()
  affine[:3] /= 1000
  save(path, np.asanyarray(image.dataobj), affine)
  return 'sub-01_swi.nii.gz'


def nothing_but_air(tmp_path):
  write_cohort(tmp_path, subjects=1)
  path = tmp_path / 'sub-01/anat/sub-01_swi.nii.gz'
  image = nib.load(path)
  save(path, np.zeros(image.shape, np.uint8), image.affine)
  return 'sub-01_swi.nii.gz'


def subject_in_two_spellings(tmp_path):
  write_cohort(tmp_path, subjects=1, prefix='sub-a')
  write_cohort(tmp_path, subjects=1, prefix='sub-A')
  return 'sub-A01 sub-a01'


def echo_time_in_words(tmp_path):
  write_cohort(tmp_path, subjects=1)
  path = tmp_path / 'sub-01/anat/sub-01_swi.json'
  path.write_text('{"EchoTime": ')
  return 'sub-01_swi.json JSON'


@pytest.mark.parametrize(
  'mistake',
  [
    cut_in_half,
    labels_cut_in_half,
    another_shape,
    another_affine,
    mask_of_another_shape,
    probabilities,
    negative_labels,
    labels_beyond_any_count,
    points_outside,
    points_left_of_the_scan,
    missing_columns,
    empty_table,
    no_number,
    bad_index_base,
    two_truths,
    subject_twice,
    participants_in_latin_1,
    voxels_in_metres,
    nothing_but_air,
    subject_in_two_spellings,
    echo_time_in_words,
  ],
  ids=lambda mistake: mistake.__name__,
)
def test_mistakes(tmp_path, mistake):
  named = mistake(tmp_path)
  with says(InputError, named) as caught:
    load_only(tmp_path)
  assert caught.value.exit_code == 2
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('what', ['missing', 'file', 'empty', 'no truth'])
def test_nothing_to_work_on(tmp_path, what):
  folder = tmp_path / 'x'
  if what == 'file':
    folder.write_text('')
  if what == 'empty':
    folder.mkdir()
  if what == 'no truth':
    write_scan(folder, 'sub-01', ONE)
  with says(NoInputError, str(folder)) as caught:
    cohort.read_cohort(folder)
  assert caught.value.exit_code == 3
