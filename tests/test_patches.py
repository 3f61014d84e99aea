"""Patches: where the candidate sits, edges, and the fixed grid in mm."""

import numpy as np
import pytest

from cmbjax.data import patches

IMAGE = np.random.default_rng(0).random((40, 36, 20)).astype(np.float32)


def test_inside_it_is_a_plain_window():
  found = patches.cut(IMAGE, np.array([[20, 18, 9], [12, 12, 6]]))
  assert found.shape == (2, 24, 24, 12)
  np.testing.assert_array_equal(found[0], IMAGE[8:32, 6:30, 3:15])
  np.testing.assert_array_equal(found[1], IMAGE[:24, :24, :12])


def test_outside_the_edge_repeats():
  padded = np.pad(IMAGE, 24, mode='edge')
  corners = np.array([[0, 0, 0], [39, 35, 19], [0, 35, 10], [3, 20, 19]])
  for patch, centre in zip(patches.cut(IMAGE, corners), corners):
    x, y, z = centre + 24 - (12, 12, 6)
    np.testing.assert_array_equal(
      patch, padded[x : x + 24, y : y + 24, z : z + 12]
    )
    assert patch[12, 12, 6] == IMAGE[tuple(centre)]


@pytest.mark.parametrize('maker', ['cut', 'resample'])
def test_no_candidates(maker):
  how = {'cut': (), 'resample': ((0.5, 0.5, 2.0),)}[maker]
  found = getattr(patches, maker)(IMAGE, np.zeros((0, 3), int), *how)
  assert found.shape == (0, 24, 24, 12)


def test_resampling_to_the_same_grid_is_cutting():
  centres = np.array([[20, 18, 9], [1, 35, 18]])
  np.testing.assert_allclose(
    patches.resample(IMAGE, centres, (0.5, 0.5, 2.0)),
    patches.cut(IMAGE, centres),
    atol=1e-6,
  )


def test_a_ramp_keeps_its_slope_in_mm():
  spacing = np.array([1.0, 0.8, 1.5])
  grid = np.indices((40, 40, 30)) * spacing[:, None, None, None]
  slope = np.array([1.0, -2.0, 0.5])
  ramp = np.tensordot(slope, grid, 1)
  centre = np.array([[20, 20, 15]])
  (found,) = patches.resample(ramp, centre, tuple(spacing))
  offsets = np.moveaxis(np.indices(patches.PATCH), 0, -1) - patches.CENTRE
  expected = (centre[0] * spacing + offsets * (0.5, 0.5, 2.0)) @ slope
  np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_coarser_grid_does_not_alias():
  stripes = np.zeros((60, 60, 30), np.float32)
  stripes[:, :, ::2] = 1  # the finest pattern that 1 mm slices can hold
  centre = np.array([[30, 30, 14]])
  (found,) = patches.resample(stripes, centre, (0.5, 0.5, 1.0))
  naive = stripes[30, 30, 14 + 2 * (np.arange(12) - 6)]
  assert np.ptp(naive) == 0
  assert naive[0] == 1  # as if all were bright
  assert np.abs(found - 0.5).max() < 0.1


def test_smoothing_keeps_the_mean():
  (found,) = patches.resample(
    np.full((30, 30, 30), 0.7, np.float32), np.array([[2, 15, 29]]), (0.3,) * 3
  )
  np.testing.assert_allclose(found, 0.7, atol=1e-6)


def test_smoothing_makes_a_voxel_as_wide_as_the_new_one():
  image = np.zeros((40, 40, 31), np.float32)
  image[:, :, 15] = 1
  centre = np.array([[20, 20, 15]])
  (found,) = patches.resample(image, centre, (0.5, 0.5, 1.0))
  # FWHM in voxels: 1 and what is added make 2, as variances do.
  sigma = np.sqrt(2**2 - 1**2) / np.sqrt(8 * np.log(2))
  share = 1 / np.exp(-(np.arange(-9, 10) ** 2) / (2 * sigma**2)).sum()
  assert found[12, 12, 6] == pytest.approx(share, rel=1e-3)
