"""Slices of any orientation: the same lesions at the same voxels."""

import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from cmbjax.data import cohort, lesion_labels
from cmbjax.detect import chain, classifier, derivatives
from cmbjax.errors import InputError
from cmbjax.imaging import resample, slices, volume
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct import scan_image
from cmbjax.review.cases import case as cases
from tests import lesion_data, small_cohorts
from tests.messages import says

OPTIONS = chain.DetectOptions(regions=False)
TURNS = {  # about x, y, z in degrees
  'axial': (0, 0, 0),
  'a little': (20, 10, -15),
  'as reported': (55, 0, 0),
  'coronal': (90, 0, 0),
  'tilted coronal': (80, 5, 10),
  'back': (-60, 0, 0),
  'sagittal': (0, -90, 0),
  'tilted sagittal': (8, 75, 0),
  'double oblique': (50, 35, 0),
}
PLAIN = ('axial', 'a little')


def turn(name):
  """[4, 4], the head in the scanner."""
  angles = np.deg2rad(TURNS[name])
  turned = np.eye(3)
  for axis, angle in enumerate(angles):
    i, j = (other for other in range(3) if other != axis)
    one = np.eye(3)
    one[i, i] = one[j, j] = np.cos(angle)
    one[i, j], one[j, i] = -np.sin(angle), np.sin(angle)
    turned = turned @ one
  return nib.affines.from_matvec(turned, (4, -7, 9))


@pytest.fixture(scope='module')
def networks(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights') / 'w'
  lesion_data.write_weights(folder)
  return classifier.load(folder)


@pytest.fixture(scope='module')
def phantom():
  return small_cohorts.phantom(1)


def write(folder, phantom, name):
  """An SWI, its mask and its truth with a header that is turned."""
  affine = turn(name) @ phantom.affine
  images = {'swi': np.rint(phantom.swi), 'mask': phantom.brain}
  images['truth'] = phantom.lesions.astype(np.uint8)
  for ending, array in images.items():
    small_cohorts.save(folder / f'a_{ending}.nii', array, affine)
  return ScanFiles(
    subject='sub-01',
    session=None,
    name='sub-01',
    swi=folder / 'a_swi.nii',
    magnitude=(),
    phase=(),
    mask=folder / 'a_mask.nii',
    sidecar={},
  )


@pytest.fixture(scope='module')
def plain(phantom, networks, tmp_path_factory):
  scan = write(tmp_path_factory.mktemp('plain'), phantom, 'axial')
  return chain.analyse(scan, networks, OPTIONS, threads=1)


@pytest.mark.parametrize('name', TURNS)
def test_a_turned_header_moves_no_lesion(
  name, phantom, networks, plain, tmp_path
):
  scan = write(tmp_path, phantom, name)
  found = chain.analyse(scan, networks, OPTIONS, threads=1)
  expected = volume.to_native(plain.result.labels, plain.image)
  here = volume.to_native(found.result.labels, found.image)
  np.testing.assert_array_equal(here > 0, expected > 0)
  assert here.max() == expected.max() == 5
  result = found.result
  assert found.image.array.shape == result.swi.shape == result.mask.shape
  np.testing.assert_allclose(result.affine, found.image.affine)
  for lesion in result.found:
    inside = np.argwhere(result.labels == lesion.index)
    middle = nib.affines.apply_affine(result.affine, inside.mean(0))
    np.testing.assert_allclose(lesion.centre_mm, middle, atol=2e-3)
    sides = (np.ptp(inside, axis=0) + 1) * result.spacing_mm
    np.testing.assert_allclose(lesion.extent_mm, sides, atol=1e-3)
    near = np.linalg.norm((inside - lesion.centre_index), axis=1)
    assert near.min() <= 1
  for regions in found.candidates.regions:
    assert (regions < result.swi.shape).all()
  said = [text for text in result.warnings if 'slices are' in text]
  assert bool(said) == (name not in PLAIN)


@pytest.mark.parametrize('name', ['as reported', 'sagittal'])
def test_files_are_as_the_input_counts_its_voxels(
  name, phantom, networks, tmp_path
):
  scan = write(tmp_path, phantom, name)
  found = chain.analyse(scan, networks, OPTIONS, threads=1)
  paths = derivatives.write_scan(tmp_path / 'out', found, steps=True)
  given = nib.load(scan.swi)
  images = [nib.load(path) for path in paths if path.name.endswith('.nii.gz')]
  assert len(images) == 6
  for image in images:
    assert image.shape == given.shape
    np.testing.assert_allclose(image.affine, given.affine, atol=1e-5)
  flat = next(i for i in images if 'desc-flat' in i.get_filename())
  assert np.ptp(np.asarray(flat.dataobj)[~phantom.brain]) == 0
  table = next(p for p in paths if p.name.endswith('dseg.tsv'))
  labels = np.asarray(images[0].dataobj)
  head, *rows = [x.split('\t') for x in table.read_text().splitlines()]
  for row in rows:
    voxel = [int(row[head.index(axis)]) for axis in 'ijk']
    around = tuple(slice(v - 1, v + 2) for v in voxel)
    assert (labels[around] == int(row[0])).any()


@pytest.mark.parametrize('name', TURNS)
def test_a_truth_and_a_mask_follow_their_scan(name, phantom, tmp_path):
  scan = write(tmp_path, phantom, name)
  found = scan_image.load_image(scan)
  seen = found.volume
  assert seen.array.shape == phantom.swi.shape  # x, y, slices
  labels = lesion_labels.read(tmp_path / 'a_truth.nii', seen).labels
  back = volume.to_native(labels, seen)
  np.testing.assert_array_equal(back > 0, phantom.lesions > 0)
  number = back[phantom.lesions == 1].max()
  np.testing.assert_array_equal(
    volume.to_native(found.mask, seen), phantom.brain
  )
  away = seen.to_world(np.argwhere(labels == number)).mean(0)
  voxel = turn(name) @ phantom.affine
  expected = nib.affines.apply_affine(
    voxel, np.argwhere(phantom.lesions == 1).mean(0)
  )
  np.testing.assert_allclose(away, expected, atol=1e-3)


def test_a_data_set_has_the_same_patches_of_turned_scans(phantom, tmp_path):
  loaded = {}
  for name in ('axial', 'as reported', 'coronal'):
    root = tmp_path / name.replace(' ', '')
    one = small_cohorts.phantom(1)
    one.affine = turn(name) @ one.affine
    small_cohorts.write_scan(root, 'sub-01', one)
    path = small_cohorts.label_path(root, 'sub-01')
    small_cohorts.save(path, one.lesions.astype(np.uint16), one.affine)
    (scan,) = cohort.read_cohort(root).scans
    loaded[name] = cohort.load_scan(scan)
  first = loaded.pop('axial')
  for other in loaded.values():
    np.testing.assert_array_equal(other.swi, first.swi)
    np.testing.assert_array_equal(other.truth.labels, first.truth.labels)
    np.testing.assert_array_equal(other.mask, first.mask)
    assert other.spacing_mm == pytest.approx(first.spacing_mm)


ORDERS = [
  np.array(list(zip(order, signs)))
  for order in itertools.permutations(range(3))
  for signs in itertools.product((1, -1), repeat=3)
]


@pytest.mark.parametrize('name', ['axial', 'as reported', 'tilted sagittal'])
def test_however_a_file_counts_its_voxels_the_slices_are_last(name):
  affine = turn(name) @ small_cohorts.affine_of()
  array = np.random.default_rng(0).random(small_cohorts.SHAPE)
  expected = slices.last(volume.from_array(array, affine))
  for order in ORDERS:
    stored = orientations.apply_orientation(array, order)
    to_stored = orientations.inv_ornt_aff(order, array.shape)
    image = volume.from_array(stored, affine @ to_stored)
    seen = slices.last(image)
    np.testing.assert_array_equal(seen.array, expected.array)
    np.testing.assert_allclose(seen.affine, expected.affine, atol=1e-9)
    assert seen.spacing_mm[2] == max(seen.spacing_mm)
    back = slices.in_ras(seen)
    np.testing.assert_array_equal(back.array, image.array)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-9)
    np.testing.assert_array_equal(volume.to_native(seen.array, seen), stored)


def test_a_little_more_or_less_than_a_right_angle_is_one_order():
  """A mask's header may round otherwise than that of its scan."""
  orders = set()
  for angle in (88.5, 89.99, 90, 90.01, 91.5):
    TURNS['near'] = (angle, 0, 0)
    affine = turn('near') @ small_cohorts.affine_of()
    image = volume.from_array(np.zeros(small_cohorts.SHAPE), affine)
    orders.add(str(np.sign(np.rint(slices.last(image).affine[:3, :3] * 9))))
  del TURNS['near']
  assert len(orders) == 1


def test_cubes_have_axial_slices():
  affine = turn('as reported') @ np.diag([0.7, 0.7, 0.7, 1])
  image = volume.from_array(np.zeros((9, 8, 7)), affine)
  assert slices.last(image) is image
  assert slices.in_ras(image) is image


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('axial', 'axial'),
    ('coronal', 'coronal'),
    ('sagittal', 'sagittal'),
    ('back', 'coronal, tilted by 30 degrees'),
  ],
)
def test_slices_have_a_name(name, words):
  affine = turn(name) @ small_cohorts.affine_of()
  image = volume.from_array(np.zeros(small_cohorts.SHAPE), affine)
  assert slices.name_of(slices.last(image)) == words


def test_another_grid_is_refused_in_any_order(tmp_path, phantom):
  scan = slices.last(volume.load(write(tmp_path, phantom, 'as reported').swi))
  path = tmp_path / 'other.nii'
  small_cohorts.save(path, phantom.brain, turn('back') @ phantom.affine)
  with says(InputError, 'other.nii'):
    slices.array_like(volume.load(path), scan)
  cut = phantom.brain[:-1]
  small_cohorts.save(path, cut, turn('as reported') @ phantom.affine)
  with says(InputError, 'other.nii'):
    slices.array_like(volume.load(path), scan)


@pytest.mark.parametrize('name', ['as reported', 'sagittal'])
def test_a_review_shows_ras_and_finds_the_brain_along_slices(
  name, phantom, tmp_path
):
  scan = write(tmp_path, phantom, name)
  image = volume.load(scan.swi)
  given = cases.brain_of(image, scan.mask)
  np.testing.assert_array_equal(volume.to_native(given, image), phantom.brain)


def forms_of(path):
  header = nib.load(path).header
  names = ['qform_code', 'sform_code', 'quatern_b', 'qoffset_x', 'srow_x']
  return [np.array(header[n]).tolist() for n in names] + [
    header['pixdim'][:4].tolist()
  ]


@pytest.mark.parametrize(
  'codes', [(1, 1), (2, 1), (1, 4), (0, 2), (3, 0), (0, 0)]
)
@pytest.mark.parametrize('kind', [nib.Nifti1Image, nib.Nifti2Image])
def test_both_affines_of_a_file_are_kept(codes, kind, tmp_path):
  """Registered images have one of the scanner and one of the template."""
  array = np.zeros((5, 6, 7), np.int16)
  image = kind(array, np.eye(4))
  image.set_qform(turn('a little') @ np.diag([0.5, 0.5, 2, 1]), codes[0])
  image.set_sform(turn('back') @ np.diag([0.6, 0.5, 2, 1]), codes[1])
  nib.save(image, tmp_path / 'in.nii')
  scan = volume.load(tmp_path / 'in.nii')
  for like in (scan, slices.last(scan), volume.grid_of(tmp_path / 'in.nii')):
    volume.save(tmp_path / 'out.nii.gz', np.zeros(like.array.shape, bool), like)
    np.testing.assert_allclose(
      np.hstack(forms_of(tmp_path / 'out.nii.gz')),
      np.hstack(forms_of(tmp_path / 'in.nii')),
      rtol=1e-6,
    )
    back = volume.load(tmp_path / 'out.nii.gz')
    assert volume.same_grid(back, scan)
    assert back.placed == scan.placed == any(codes)


def test_a_new_grid_has_affines_of_its_own(tmp_path):
  image = nib.Nifti1Image(np.zeros((8, 8, 8), np.uint8), np.eye(4))
  image.set_qform(np.eye(4), 2)
  nib.save(image, tmp_path / 'in.nii')
  grid = resample.to_spacing_volume(volume.load(tmp_path / 'in.nii'), (2, 2, 2))
  volume.save(tmp_path / 'out.nii', grid.array, grid)
  back = nib.load(tmp_path / 'out.nii')
  np.testing.assert_allclose(back.affine, grid.native.affine)
  np.testing.assert_allclose(back.get_qform(), grid.native.affine)


def test_a_sidecar_says_how_slices_run(phantom, networks, tmp_path):
  scan = write(tmp_path, phantom, 'back')
  found = chain.analyse(scan, networks, OPTIONS, threads=1)
  paths = derivatives.write_scan(tmp_path / 'out', found, page=False)
  about = json.loads(next(p for p in paths if p.suffix == '.json').read_text())
  (said,) = [text for text in about['Warnings'] if 'slices are' in text]
  assert 'coronal, tilted by 30 degrees' in said
