"""What is painted on the screen is that voxel in the file."""

import itertools
import json

import nibabel as nib
import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.review.log import geometry
from tests import review_records
from tests.messages import says
from tests.test_volume import ORDERS, affine_of


@pytest.mark.parametrize('degrees', [0, 17])
@pytest.mark.parametrize(('order', 'flips'), ORDERS)
def test_every_axis_order_is_exact(order, flips, degrees):
  rng = np.random.default_rng(0)
  array = rng.permutation(120).reshape(4, 5, 6).astype(np.int16)
  scan = volume.from_array(array, affine_of(order, flips, degrees))
  view = geometry.View.of(scan)

  # Every voxel, by the number that the page gives it.
  index = np.arange(view.size)
  ijk = view.ijk_of(index)
  sent = geometry.to_int16(scan.array).stored.ravel(order='F')
  np.testing.assert_array_equal(sent, scan.array[tuple(ijk.T)])
  np.testing.assert_array_equal(view.index_of(ijk), index)

  native = view.to_native(ijk)
  np.testing.assert_array_equal(array[tuple(native.T)], sent)
  world = native @ scan.native.affine[:3, :3].T + scan.native.affine[:3, 3]
  np.testing.assert_allclose(view.to_world(ijk), world, atol=1e-9)
  np.testing.assert_array_equal(view.to_ijk(world), ijk)
  assert view.oblique_deg == (0 if degrees == 0 else pytest.approx(23.9, abs=1))


def test_index_counts_x_fastest():
  view = review_records.view((4, 5, 6))
  assert view.index_of([1, 2, 3]) == 1 + 4 * (2 + 5 * 3)
  assert view.ijk_of(69).tolist() == [1, 2, 3]
  assert view.index_of([3, 4, 5]) == view.size - 1


def test_a_view_comes_back_from_json():
  view = review_records.view()
  back = geometry.View.from_json(json.loads(json.dumps(view.to_json())))
  assert back.to_json() == view.to_json()
  assert back.same(view)
  np.testing.assert_array_equal(back.affine, view.affine)
  other = review_records.AFFINE.copy()
  other[0, 3] += 0.01
  assert not view.same(review_records.view(affine=other))
  assert not view.same(review_records.view((12, 10, 9)))


def test_forms_of_the_file_are_kept(tmp_path):
  header = nib.Nifti1Header()
  header.set_data_shape((3, 4, 5))
  header.set_data_dtype(np.uint8)
  first, second = np.diag([1.0, 1, 2, 1]), np.diag([-1.0, 1, 2, 1])
  header.set_qform(first, 1)
  header.set_sform(second, 4)
  image = nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), None, header)
  nib.save(image, tmp_path / 'x.nii')
  view = geometry.View.of(volume.load(tmp_path / 'x.nii'))
  assert (view.forms['qform']['code'], view.forms['sform']['code']) == (1, 4)
  np.testing.assert_array_equal(view.forms['qform']['affine'], first)
  np.testing.assert_array_equal(view.native_affine, second)


@pytest.mark.parametrize(
  'array',
  [
    np.arange(-60, 60, dtype=np.int16),
    np.arange(120, dtype='>i2'),
    np.arange(120, dtype=np.uint8),
    np.linspace(0, 65535, 120).astype(np.uint16),
    np.linspace(0, 65535, 120).astype('>u2'),
    np.arange(120, dtype=np.int32) + 1_000_000,
    np.arange(120, dtype=np.uint64) + 2**40,
    np.arange(120, dtype=np.float32) - 7,
    np.arange(120, dtype='>f8') + 40_000,
    np.arange(120) % 2 == 0,
    np.full(120, 3.25),
    np.full(120, -40_000, np.int32),
  ],
  ids=lambda array: f'{array.dtype.str} {array.max()}',
)
def test_int16_is_exact_where_it_can_be(array):
  array = array.reshape(4, 5, 6)
  shown = geometry.to_int16(array)
  assert shown.stored.dtype == '<i2'
  assert shown.stored.flags.f_contiguous
  assert shown.slope == 1
  back = shown.stored.astype(np.float64) * shown.slope + shown.intercept
  np.testing.assert_array_equal(back, array.astype(np.float64))


@pytest.mark.parametrize(
  'array',
  [
    np.linspace(-3.1, 3.2, 120).astype(np.float32),
    np.linspace(0, 1, 120).astype('>f4'),
    np.linspace(0, 1e300, 120),
    np.linspace(-8e307, 8e307, 120),
    np.arange(120, dtype=np.int32) * 1000,
    np.linspace(0, 2.0**62, 120).astype(np.int64),
    np.arange(120, dtype=np.int16) * 0.37 + 10,  # a scaled file
  ],
  ids=lambda array: f'{array.dtype.str} {array.max():.3g}',
)
def test_int16_is_within_half_a_step_otherwise(array):
  array = array.reshape(4, 5, 6)
  shown = geometry.to_int16(array)
  back = shown.stored.astype(np.float64) * shown.slope + shown.intercept
  wide = array.astype(np.float64)
  step = wide.max() / 65534 - wide.min() / 65534
  assert shown.slope == pytest.approx(step)
  assert np.abs(back - wide).max() <= step * (0.5 + 1e-6)
  assert shown.stored.min() == -32767
  assert shown.stored.max() == 32767


def test_int16_of_what_is_not_finite():
  array = np.linspace(0, 1, 120).reshape(4, 5, 6)
  array[0, 0, 0], array[1, 1, 1], array[2, 2, 2] = np.nan, np.inf, -np.inf
  shown = geometry.to_int16(array)
  assert np.isfinite([shown.slope, shown.intercept]).all()
  assert {shown.stored[n, n, n] for n in range(3)} == {-32767}
  nothing = geometry.to_int16(np.full((2, 2, 2), np.nan))
  assert (nothing.stored == 0).all()


def test_window():
  rng = np.random.default_rng(0)
  array = rng.uniform(0, 100, (40, 40, 40))
  array[:20] = 0  # air does not count
  assert geometry.window(array) == (0, pytest.approx(99.5, abs=0.2))
  low, high = geometry.window(array - 50)
  assert low < -45
  assert high > 45
  assert geometry.window(np.zeros((3, 3, 3))) == (0, 1)
  assert geometry.window(np.full((3, 3, 3), 5.0)) == (0, 5)
  assert geometry.window(np.full((3, 3, 3), -5.0)) == (-5, -4)


def test_slab_axis_is_the_thick_one():
  def axis(*sides):
    affine = np.diag([*sides, 1.0])
    return review_records.view(affine=affine).slab_axis

  assert axis(0.5, 0.5, 2) == 2
  assert axis(1, 1, 1) == 2
  assert axis(2, 0.5, 0.5) == 0
  assert axis(0.9, 0.9, 0.6) == 0


def test_oblique_angle_is_known():
  for degrees in (0.0, 5.0, 18.0, 44.0):
    a = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    affine = affine @ np.diag([0.4, 0.7, 2, 1])
    assert geometry.oblique_deg(affine) == pytest.approx(degrees, abs=0.01)


@pytest.mark.parametrize('seed', range(20))
def test_runs_come_back(seed):
  rng = np.random.default_rng(seed)
  size = int(rng.integers(1, 60))
  found = np.flatnonzero(rng.random(size) < rng.random())
  runs = geometry.encode_runs(found)
  np.testing.assert_array_equal(geometry.decode_runs(runs, size), found)
  assert sum(length for _, length in runs) == found.size
  for (a, n), (b, _) in itertools.pairwise(runs):
    assert a + n < b  # as few runs as possible


def test_distinct():
  found = geometry.distinct([5, 0, 5, 2, 0])
  assert found.tolist() == [0, 2, 5]
  assert found.dtype == np.int64
  assert geometry.distinct([]).tolist() == []


def test_runs_by_hand():
  assert geometry.encode_runs([2, 3, 4, 9]) == [[2, 3], [9, 1]]
  assert geometry.decode_runs([[2, 3], [9, 1]], 10).tolist() == [2, 3, 4, 9]


@pytest.mark.parametrize(
  'runs',
  [
    [[0, 0]],
    [[-1, 2]],
    [[3, 2], [4, 1]],
    [[5, 1], [2, 1]],
    [[9, 2]],
    [[0, 10**30]],
    [[2**62, 2**62]],
    [[1]],
    [[1, 2], [5]],
    [[1.5, 2]],
    ['ab'],
    [[True, False]],
    [None],
  ],
)
def test_damaged_runs_are_refused(runs):
  with says(InputError):
    geometry.decode_runs(runs, 10)
