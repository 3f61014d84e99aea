"""Geometry is exact for all 48 axis orders, straight and oblique."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import volume
from tests.messages import says

ORDERS = [
  (order, flips)
  for order in itertools.permutations(range(3))
  for flips in itertools.product((1, -1), repeat=3)
]


def oblique(degrees):
  a = np.deg2rad(degrees)
  x = np.array(
    [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
  )
  z = np.array(
    [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
  )
  return x @ z


def affine_of(order, flips, degrees):
  matrix = np.zeros((3, 3))
  for axis, (to, flip) in enumerate(zip(order, flips)):
    matrix[to, axis] = flip * (0.5, 0.7, 2.0)[axis]
  affine = np.eye(4)
  affine[:3, :3] = oblique(degrees) @ matrix
  affine[:3, 3] = (11.0, -7.0, 3.0)
  return affine


@pytest.mark.parametrize('degrees', [0, 17])
@pytest.mark.parametrize(('order', 'flips'), ORDERS)
def test_every_axis_order_comes_back(tmp_path, order, flips, degrees):
  rng = np.random.default_rng(0)
  array = rng.integers(0, 1000, (4, 5, 6)).astype(np.int16)
  affine = affine_of(order, flips, degrees)
  path = tmp_path / 'x.nii.gz'
  nib.save(nib.Nifti1Image(array, affine), path)

  scan = volume.load(path)
  assert nib.aff2axcodes(scan.affine) == ('R', 'A', 'S')
  index = np.array([1, 2, 3])
  native = scan.to_native_index(index)
  assert scan.array[tuple(index)] == array[tuple(native)]
  world = affine[:3, :3] @ native + affine[:3, 3]
  np.testing.assert_allclose(scan.to_world(index), world, atol=1e-4)
  np.testing.assert_allclose(scan.to_index(world), index, atol=1e-4)

  copy = tmp_path / 'y.nii.gz'
  volume.save(copy, scan.array, scan)
  back = nib.load(copy)
  np.testing.assert_array_equal(np.asanyarray(back.dataobj), array)
  np.testing.assert_allclose(back.affine, affine, atol=1e-5)


def test_same_content_gives_the_same_bytes(tmp_path):
  scan = volume.from_array(np.zeros((2, 3, 4), np.uint8), np.eye(4))
  volume.save(tmp_path / 'a.nii.gz', scan.array, scan)
  volume.save(tmp_path / 'b.nii.gz', scan.array, scan)
  a = (tmp_path / 'a.nii.gz').read_bytes()
  assert a == (tmp_path / 'b.nii.gz').read_bytes()


@pytest.mark.parametrize(
  ('name', 'named'), [('x.nii', '32,000'), ('x.nii.gz', '')]
)
def test_a_cut_file_is_one_clear_error(tmp_path, name, named):
  path = tmp_path / name
  rng = np.random.default_rng(0)
  array = rng.normal(size=(20, 20, 20)).astype(np.float32)
  nib.save(nib.Nifti1Image(array, np.eye(4)), path)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  with says(InputError, f'{name} {named}'):
    volume.load(path)


def test_scaling_nan_and_one_volume_in_4d(tmp_path):
  array = np.arange(24, dtype=np.int16).reshape(2, 3, 4, 1)
  image = nib.Nifti1Image(array, np.eye(4))
  image.header.set_slope_inter(0.5, 10)
  nib.save(image, tmp_path / 'scaled.nii')
  scan = volume.load(tmp_path / 'scaled.nii')
  stored = volume.load(tmp_path / 'scaled.nii', scaled=False)
  assert scan.array.shape == (2, 3, 4)
  np.testing.assert_allclose(scan.array, stored.array * 0.5 + 10)

  holes = np.ones((2, 3, 4), np.float32)
  holes[0, 0, 0] = np.nan
  nib.save(nib.Nifti1Image(holes, np.eye(4)), tmp_path / 'holes.nii')
  assert volume.load(tmp_path / 'holes.nii').array[0, 0, 0] == 0


@pytest.mark.parametrize(
  ('array', 'affine'),
  [
    (np.zeros((3, 3, 3, 2)), np.eye(4)),
    (np.zeros((3, 3)), np.eye(4)),
    (np.full((3, 3, 3), np.nan), np.eye(4)),
    (np.zeros((3, 3, 3)), np.diag([1.0, 0, 1, 1])),
  ],
)
def test_unusable_volumes(tmp_path, array, affine):
  image = nib.Nifti1Image(array.astype(np.float32), None)
  image.header.set_sform(affine, code=1)
  nib.save(image, tmp_path / 'x.nii')
  with says(InputError):
    volume.load(tmp_path / 'x.nii')


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (np.diag([1, 1, 1, 1]), ()),
    (np.diag([-1, 1, 1, 1]), ('sform', 'mirror image', 'left and right')),
    (np.eye(4) + 40 * np.eye(4, k=3), ('sform', '40 mm apart')),
    (np.eye(4) + 2 * np.eye(4, k=3), ()),  # moved by a coregistration
  ],
)
def test_qform_against_sform(tmp_path, change, said):
  place = np.diag([1.0, 1, 2, 1]) + 7 * np.eye(4, k=3)
  image = nib.Nifti1Image(np.ones((20, 20, 9), np.uint8), None)
  image.header.set_qform(place, code=1)
  image.header.set_sform(change @ place, code=1)
  nib.save(image, tmp_path / 'x.nii')
  notes = volume.load(tmp_path / 'x.nii').notes
  assert len(notes) == bool(said)
  assert all(word in note for note in notes for word in said)


def test_missing_file(tmp_path):
  with says(NoInputError):
    volume.load(tmp_path / 'none.nii.gz')


def test_voxel_sizes_are_those_of_oblique_axes():
  affine = affine_of((0, 1, 2), (1, 1, 1), 30)
  made = volume.from_array(np.zeros((4, 5, 6), np.uint8), affine)
  assert made.spacing_mm == pytest.approx((0.5, 0.7, 2.0), abs=1e-6)


@pytest.mark.parametrize(
  ('name', 'packed', 'named'),
  [
    ('plain.nii.gz', False, 'plain.nii.gz end in .nii'),
    ('packed.nii', True, 'packed.nii end in .nii.gz'),
  ],
)
def test_a_name_that_is_wrong_about_compression(tmp_path, name, packed, named):
  right = tmp_path / ('right.nii.gz' if packed else 'right.nii')
  nib.save(nib.Nifti1Image(np.ones((9, 9, 9), np.uint8), np.eye(4)), right)
  path = right.rename(tmp_path / name)
  with says(InputError, named):
    volume.load(path)
