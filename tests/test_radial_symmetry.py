"""The radial symmetry transform: hand values, discs, lines, geometry."""

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.candidates import blobness, radial_symmetry

SPACINGS = [(0.5, 0.5, 2.0), (1.0, 1.0, 1.5), (0.4, 0.7, 2.0)]


def disc(shape, spacing_mm, centre, radius_mm, *, depth=0.8):
  """A dark disc with a soft rim in a slice of ones, [X, Y, 1]."""
  x, y = np.ogrid[: shape[0], : shape[1]]
  away = np.hypot(
    (x - centre[0]) * spacing_mm[0], (y - centre[1]) * spacing_mm[1]
  )
  rim = 1 / (1 + np.exp((away - radius_mm) / 0.15))
  return (1 - depth * rim).astype(np.float32)[..., None]


def test_votes_of_a_tiny_image_by_hand():
  # A dark pixel at (3, 3); Sobel / 8 is +-2/8 beside it, 1/8 on diagonals.
  image = np.ones((7, 7), np.float32)
  image[3, 3] = 0
  gx, gy = radial_symmetry.gradient(image, (1, 1, 1))
  assert gx[4, 3] == 0.25
  assert gx[2, 3] == -0.25
  assert gx[4, 4] == gy[4, 4] == 0.125
  norm = np.hypot(gx, gy)
  place = np.nonzero(norm > 0.05)
  weight = norm[place]
  votes, weights = radial_symmetry.cast_votes(
    image.shape, place, (-gx[place] / weight, -gy[place] / weight), weight
  )
  # All eight neighbours vote for the middle with n = 1, and nobody else.
  assert votes[3, 3] == 8
  assert votes.sum() == 8
  np.testing.assert_allclose(weights[3, 3], 4 * 0.25 + 4 * 0.125 * 2**0.5)


def test_response_of_a_tiny_image_by_hand():
  image = np.ones((9, 9, 1), np.float32)
  image[4, 4] = 0
  found = radial_symmetry.radial_symmetry(image, (1, 1, 1), radii_mm=(1,))
  # One radius: M / 8 x (8 / 8)^2 at the centre, then a Gaussian of 0.25.
  spike = np.zeros((9, 9))
  spike[4, 4] = (1 + 0.5 * 2**0.5) / 8
  expected = ndimage.gaussian_filter(spike, 0.25, truncate=3)
  np.testing.assert_allclose(found[..., 0], expected, atol=1e-6)


def test_votes_outside_are_lost():
  place = (np.array([0, 2]), np.array([0, 2]))
  votes, weights = radial_symmetry.cast_votes(
    (3, 3), place, (np.array([-1.0, -2.0]), np.zeros(2)), np.array([5.0, 3.0])
  )
  assert votes.sum() == 1
  assert weights[0, 2] == 3


def test_radii_are_whole_and_single():
  assert radial_symmetry.radii_in_voxels((1, 1.5, 2, 3), (0.5, 0.5, 2)) == (
    2,
    3,
    4,
    6,
  )
  assert radial_symmetry.radii_in_voxels((1, 1.5, 2, 3), (1, 1, 1.5)) == (
    1,
    2,
    3,
  )
  assert radial_symmetry.radii_in_voxels((0.1,), (1, 1, 1)) == (1,)


@pytest.mark.parametrize('spacing', SPACINGS)
@pytest.mark.parametrize('radius_mm', [1.0, 1.5, 2.0, 3.0])
def test_centre_of_a_disc_within_a_voxel(spacing, radius_mm):
  centre = (22.3, 17.6)
  image = disc((48, 40), spacing, centre, radius_mm)
  found = radial_symmetry.radial_symmetry(image, spacing)
  peak = np.unravel_index(found.argmax(), found.shape)
  assert np.abs(np.subtract(peak[:2], centre)).max() <= 1


@pytest.mark.parametrize('width_mm', [1.0, 2.0, 3.0])
@pytest.mark.parametrize('degrees', [0, 30, 45])
def test_a_line_answers_less_than_half_a_disc(width_mm, degrees):
  spacing = (0.5, 0.5, 2.0)
  x, y = np.mgrid[:64, :64] - 31.5
  angle = np.deg2rad(degrees)
  away = np.abs(x * np.cos(angle) + y * np.sin(angle)) * 0.5
  line = 1 - 0.8 / (1 + np.exp((away - width_mm / 2) / 0.15))
  line = line.astype(np.float32)[..., None]
  inside = np.s_[12:-12, 12:-12]
  of_line = radial_symmetry.radial_symmetry(line, spacing)[inside].max()
  round_one = disc((64, 64), spacing, (31.5, 31.5), width_mm / 2)
  of_disc = radial_symmetry.radial_symmetry(round_one, spacing)[inside].max()
  assert of_line < 0.5 * of_disc


def blob_in_the_middle(image, spacing):
  middle = [[n // 2 for n in image.shape]]
  return blobness.blobness_at(image, middle, spacing)[0][0]


def symmetry_in_the_middle(image, spacing):
  found = radial_symmetry.radial_symmetry(image, spacing)
  return found[tuple(n // 2 for n in image.shape)]


@pytest.mark.parametrize('answer', [blob_in_the_middle, symmetry_in_the_middle])
def test_only_dark_discs_answer_in_their_middle(answer):
  spacing = (0.5, 0.5, 2.0)
  dark = disc((40, 40), spacing, (20, 20), 1.5)
  assert answer(dark, spacing) > 0.05
  assert answer(2 - dark, spacing) < 0.02 * answer(dark, spacing)


def test_flips_and_transposition_change_nothing():
  transform = radial_symmetry.radial_symmetry
  rng = np.random.default_rng(0)
  image = ndimage.gaussian_filter(rng.normal(1, 0.8, (30, 26, 3)), (1, 1, 0))
  image = image.astype(np.float32)
  found = transform(image, (0.5, 0.5, 2))
  for axis in range(3):
    flipped = transform(np.flip(image, axis), (0.5, 0.5, 2))
    np.testing.assert_allclose(np.flip(flipped, axis), found, atol=1e-6)
  turned = transform(image.transpose(1, 0, 2), (0.5, 0.5, 2))
  np.testing.assert_allclose(turned.transpose(1, 0, 2), found, atol=1e-6)


def test_one_disc_in_mm_answers_alike_on_anisotropic_pixels():
  # The same disc sampled at 0.5 x 0.5 and 0.5 x 0.6 mm: centre and size hold.
  first = disc((48, 48), (0.5, 0.5, 2), (24, 24), 2.0)
  second = disc((48, 40), (0.5, 0.6, 2), (24, 20), 2.0)
  a = radial_symmetry.radial_symmetry(first, (0.5, 0.5, 2))
  b = radial_symmetry.radial_symmetry(second, (0.5, 0.6, 2))
  assert b[24, 20, 0] == b.max()
  assert 0.6 < b.max() / a.max() < 1.7


def test_threads_and_repeats_give_the_same_bits():
  image = np.random.default_rng(1).normal(1, 0.3, (40, 40, 5))
  image = image.astype(np.float32)
  first = radial_symmetry.radial_symmetry(image, (0.5, 0.5, 2), jobs=1)
  for jobs in (1, 2, 4):
    again = radial_symmetry.radial_symmetry(image, (0.5, 0.5, 2), jobs=jobs)
    assert np.array_equal(first, again)


def test_only_masked_pixels_vote():
  image = disc((40, 40), (0.5, 0.5, 2), (20, 20), 1.5)
  mask = np.zeros(image.shape, bool)
  found = radial_symmetry.radial_symmetry(image, (0.5, 0.5, 2), mask=mask)
  assert not found.any()
  mask[:20] = True
  half = radial_symmetry.radial_symmetry(image, (0.5, 0.5, 2), mask=mask)
  whole = radial_symmetry.radial_symmetry(image, (0.5, 0.5, 2))
  assert 0 < half.max() < whole.max()


def test_hessian_matches_the_analytic_gaussian():
  # A Gaussian well of width w seen at scale s: I_xx at its centre is
  # depth w^2 / (w^2 + s^2)^2 (2-D), so the answer is s^2 times that.
  spacing, width, depth = (0.25, 0.25, 1.0), 1.5, 0.6
  x, y = (np.mgrid[:81, :81] - 40) * 0.25
  well = 1 - depth * np.exp(-(x**2 + y**2) / (2 * width**2))
  diameter = 3.0
  scale = diameter / (2 * 2**0.5)
  small, roundness = blobness.blobness_at(
    well.astype(np.float32)[..., None],
    [[40, 40, 0]],
    spacing,
    diameters_mm=(diameter,),
  )
  expected = scale**2 * depth * width**2 / (width**2 + scale**2) ** 2
  np.testing.assert_allclose(small, expected, rtol=0.02)
  np.testing.assert_allclose(small / roundness, expected, rtol=0.02)


def test_blobness_is_that_of_a_filtered_slice():
  """Against filters of whole slices and a library's eigenvalues."""
  rng = np.random.default_rng(2)
  image = ndimage.gaussian_filter(rng.normal(1, 2, (40, 36, 3)), (2, 2, 0))
  image = image.astype(np.float32)
  sides = np.array([0.5, 0.6])
  whole = np.zeros(image.shape)
  for diameter in blobness.DIAMETERS_MM:
    scale = diameter / 8**0.5

    def second(*order, scale=scale):
      sigma = (*scale / sides, 0)
      found = ndimage.gaussian_filter(
        image, sigma, order=(*order, 0), mode='nearest'
      )
      return found * scale**2 / np.prod(sides**order)

    xx, yy, xy = second(2, 0), second(0, 2), second(1, 1)
    matrices = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -1)
    whole = np.maximum(whole, np.linalg.eigvalsh(matrices)[..., 0])
  place = np.array([[20, 18, 1], [15, 25, 0], [0, 0, 2], [39, 10, 1]])
  inner = [True, True, False, False]  # the filter pads twice at the border
  blob, roundness = blobness.blobness_at(image, place, (0.5, 0.6, 2.0))
  np.testing.assert_allclose(
    blob[inner], whole[tuple(place.T)][inner], atol=1e-5
  )
  assert ((roundness >= 0) & (roundness <= 1)).all()


def test_roundness_of_a_disc_and_a_line():
  spacing = (0.5, 0.5, 2.0)
  round_one = disc((60, 60), spacing, (30, 30), 1.5)
  _, roundness = blobness.blobness_at(round_one, [[30, 30, 0]], spacing)
  assert roundness[0] > 0.98
  line = np.ones((60, 60, 1), np.float32)
  line[:, 29:32] = 0.2
  _, roundness = blobness.blobness_at(line, [[30, 30, 0]], spacing)
  assert roundness[0] < 0.02
