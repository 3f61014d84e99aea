"""Tests of imaging/resample.py: block means, stretching, new grids."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.imaging import resample, volume
from tests.messages import says


def test_block_mean_by_hand():
  image = np.arange(10, dtype=np.float32).reshape(5, 2, 1)
  found = resample.block_mean(image, (2, 2, 1))
  np.testing.assert_allclose(found[:, 0, 0], [1.5, 5.5, 8.5])


def test_stretch_is_linear_and_undoes_block_means_of_a_ramp():
  ramp = np.arange(24, dtype=np.float32)[:, None, None] * np.ones((1, 6, 2))
  coarse = resample.block_mean(np.float32(ramp), (4, 3, 1))
  found = resample.stretch(coarse, (4, 3, 1), ramp.shape)
  np.testing.assert_allclose(found[2:-2], ramp[2:-2], rtol=1e-6)
  assert found[0, 0, 0] == coarse[0, 0, 0]


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_two_slices_become_their_mean(axis):
  image = np.random.default_rng(0).random((6, 8, 4)).astype(np.float32)
  spacing, new = [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]
  new[axis] = 2.0
  found = resample.to_spacing(image, spacing, new)
  moved = np.moveaxis(image, axis, 0)
  expected = np.moveaxis((moved[::2] + moved[1::2]) / 2, 0, axis)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_uneven_ratio_weighs_by_share():
  # Voxels of 1 mm at 0..6 to 1.5 mm: 1 + half of the next, over 1.5.
  image = np.array([3, 6, 9, 12, 15, 18], np.float32).reshape(6, 1, 1)
  found = resample.to_spacing(image, (1, 1, 1), (1.5, 1, 1))[:, 0, 0]
  np.testing.assert_allclose(found, [4, 8, 13, 17])


def test_finer_voxels_interpolate():
  image = np.arange(8, dtype=np.float32).reshape(8, 1, 1)
  found = resample.to_spacing(image, (1, 1, 1), (0.5, 1, 1))[:, 0, 0]
  np.testing.assert_allclose(found[1:-1], np.arange(14) / 2 + 0.25)


def test_same_spacing_is_the_same_image():
  image = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
  found = resample.to_spacing(image, (1, 1, 2), (1, 1, 2))
  np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize('size', [0.0, -1.0, np.nan, 30.0, 0.01])
def test_odd_sizes_are_refused(size):
  with says(InputError):
    resample.to_spacing(np.ones((4, 4, 4)), (1, 1, 1), (1, 1, size))


@pytest.mark.parametrize(
  ('axes', 'signs'),
  list(
    itertools.product([(0, 1, 2), (2, 0, 1)], [(1, 1, 1), (-1, 1, -1)]),
  ),
)
def test_grid_covers_the_same_tissue(axes, signs):
  # A blob keeps its centre in the world, whatever the order of the file.
  turn = np.eye(4)
  turn[:3, :3] = [[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]
  native = np.zeros((4, 4))
  for i, (axis, sign) in enumerate(zip(axes, signs)):
    native[axis, i] = sign * (0.5, 0.5, 1.0)[axis]
  native[:, 3] = 3, -7, 11, 1
  blob = np.zeros((26, 28, 30), np.float32)
  blob[11, 14, 15] = 1
  blob = ndimage.gaussian_filter(blob, 2.0, truncate=3)
  scan = volume.from_array(blob, turn @ native)
  new_mm = (1.0, 0.75, 2.0)
  grid = resample.to_spacing_volume(scan, new_mm)
  found = resample.to_spacing(scan.array, scan.spacing_mm, new_mm)
  assert grid.array.shape == found.shape
  np.testing.assert_allclose(grid.spacing_mm, new_mm)

  def centre(array, affine):
    index = np.argwhere(array > 0)
    weights = array[tuple(index.T)]
    mean = (index * weights[:, None]).sum(0) / weights.sum()
    return affine[:3, :3] @ mean + affine[:3, 3]

  expected = centre(blob, turn @ native)
  np.testing.assert_allclose(centre(found, grid.affine), expected, atol=0.03)
  back = volume.to_native(found, grid)
  assert back.shape == grid.native.shape
  np.testing.assert_allclose(
    centre(back, grid.native.affine), expected, atol=0.03
  )
  # The file's axes keep their place and direction.
  cosines = (turn @ native)[:3, :3] / scan.native.spacing_mm
  new = grid.native.affine[:3, :3] / grid.native.spacing_mm
  np.testing.assert_allclose(new, cosines, atol=1e-6)
