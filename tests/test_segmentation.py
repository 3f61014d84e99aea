"""Outlines and sizes of lesions against shapes known by hand."""

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.candidates import segmentation

SPACING = (0.5, 0.5, 2.0)


def balls(shape, spacing_mm, centres, radii_mm, *, value=0.2, noise=0.0):
  axes = np.ogrid[tuple(slice(0, n) for n in shape)]
  image = np.ones(shape, np.float32)
  truth = np.zeros(shape, np.uint16)
  for label, (centre, radius) in enumerate(zip(centres, radii_mm), start=1):
    away = sum(((a - c) * s) ** 2 for a, c, s in zip(axes, centre, spacing_mm))
    image[away <= radius**2] = value
    truth[away <= radius**2] = label
  rng = np.random.default_rng(0)
  return image + noise * rng.standard_normal(shape).astype('f4'), truth


def dice(first, second):
  return 2 * (first & second).sum() / (first.sum() + second.sum())


def run(image, centres, *, spacing=SPACING, **more):
  mask = np.ones(image.shape, bool)
  return segmentation.segment(image, spacing, mask, np.array(centres), **more)


@pytest.mark.parametrize('spacing', [SPACING, (1.0, 1.0, 1.5), (0.4, 0.6, 1.0)])
def test_balls_are_outlined(spacing):
  centres = [(20, 20, 8), (44, 40, 9)]
  image, truth = balls((64, 60, 18), spacing, centres, (2.0, 3.0), noise=0.03)
  found = run(0.7 * image, centres, spacing=spacing)
  for label in (1, 2):
    assert dice(found.labels == label, truth == label) > 0.95
  assert found.kind == ['microbleed', 'microbleed']
  assert found.labels.dtype == np.uint16


def test_measures_agree_with_the_labels():
  centres = [(20, 20, 8), (44, 40, 9)]
  image, _ = balls((64, 60, 18), SPACING, centres, (2.0, 3.0))
  found = run(image, centres)
  for row in range(2):
    voxels = np.argwhere(found.labels == row + 1)
    got = {name: values[row] for name, values in found.measures.items()}
    volume = len(voxels) * 0.5
    assert got['volume_mm3'] == pytest.approx(volume)
    assert got['diameter_mm'] == pytest.approx((6 * volume / np.pi) ** (1 / 3))
    assert got['num_slices'] == len(set(voxels[:, 2]))
    assert got['extent_mm'] == 2 * got['num_slices']
    centre = [got[f'centre_{name}'] for name in 'xyz']
    np.testing.assert_allclose(centre, voxels.mean(0), atol=1e-4)
    assert got['contrast'] == pytest.approx(0.8, abs=0.03)
    assert got['darkest'] == pytest.approx(0.2, abs=0.03)
  # In plane the larger ball is 6 mm wide, give or take a pixel.
  assert found.measures['feret_mm'][1] == pytest.approx(6.3, abs=0.4)


def test_measures_of_labels_by_hand():
  labels = np.zeros((10, 10, 5), np.uint16)
  labels[2:5, 2:6, 2] = 1  # 3 x 4 x 2 mm
  labels[7, 7, 1:3] = 3  # label 2 is missing
  got = segmentation.measure(labels, (1.0, 1.0, 2.0), 3)
  assert got['volume_mm3'].tolist() == [24, 0, 4]
  assert got['feret_mm'][0] == pytest.approx(5, rel=5e-3)
  assert got['extent_mm'].tolist() == [2, 0, 4]
  assert got['num_slices'].tolist() == [1, 0, 2]
  assert got['centre_x'].tolist() == [3, 0, 7]
  # A stick of 20 x 1 x 2 mm: faces 2 x (20 + 40 + 2) mm2, two thirds count.
  stick = np.zeros((24, 3, 3), np.uint16)
  stick[2:22, 1, 1] = 1
  got = segmentation.measure(stick, (1.0, 1.0, 2.0), 1)
  expected = np.pi ** (1 / 3) * (6 * 40) ** (2 / 3) / (124 * 2 / 3)
  assert got['sphericity'][0] == pytest.approx(expected, rel=1e-5)


def test_a_ball_is_a_sphere_and_a_rod_is_not():
  _, truth = balls((61, 61, 61), (0.25,) * 3, [(30, 30, 30)], (5.0,))
  got = segmentation.measure(truth, (0.25,) * 3, 1)
  assert got['sphericity'][0] == pytest.approx(1, abs=0.02)
  rod = np.zeros((61, 61, 61), np.uint16)
  rod[:, 29:32, 29:32] = 1
  assert segmentation.measure(rod, (0.25,) * 3, 1)['sphericity'][0] < 0.75


def test_more_than_ten_mm_is_not_a_microbleed():
  centres = [(40, 40, 10)]
  image, truth = balls((81, 81, 21), SPACING, centres, (7.0,))
  found = run(image, centres)
  assert found.kind == ['macro or cavernoma']
  assert dice(found.labels == 1, truth == 1) > 0.95
  assert found.measures['diameter_mm'][0] == pytest.approx(14, abs=0.5)
  # Of 0.2 in 1: the brain is round the lesion, and not within it.
  assert found.measures['contrast'][0] == pytest.approx(0.8, abs=0.02)


def test_a_vessel_through_it_is_not_followed_for_ever():
  centres = [(60, 30, 8)]
  image, _ = balls((121, 61, 17), SPACING, centres, (2.0,))
  image[:, 30, 8] = 0.3
  found = run(image, centres)
  assert found.kind == ['microbleed']
  rows = np.argwhere(found.labels == 1)[:, 0]
  assert rows.min() >= 50
  assert rows.max() <= 70


def test_touching_lesions_share_no_voxel_and_keep_their_own():
  centres = [(20, 20, 8), (27, 20, 8)]
  image, truth = balls((48, 40, 17), SPACING, centres, (2.0, 2.0))
  found = run(image, centres)
  assert found.labels[20, 20, 8] == 1
  assert found.labels[27, 20, 8] == 2
  union = found.labels > 0
  assert dice(union, truth > 0) > 0.98
  sizes = found.measures['volume_mm3']
  assert sizes.min() > 0.7 * sizes.max()


def test_two_centres_of_one_lesion_both_keep_a_voxel():
  image = ndimage.gaussian_filter(
    balls((40, 40, 17), SPACING, [(20, 20, 8)], (1.5,))[0], (1, 1, 0)
  )
  found = run(image, [(20, 20, 8), (21, 20, 8)])
  assert (found.measures['volume_mm3'] > 0).all()


def test_bright_core_is_filled():
  image, truth = balls((48, 48, 17), SPACING, [(24, 24, 8)], (3.0,))
  core, _ = balls((48, 48, 17), SPACING, [(24, 24, 8)], (1.0,))
  image[core < 1] = 0.9
  found = run(image, [(24, 24, 8)], gates=segmentation.Gates(seed_mm=2.0))
  assert dice(found.labels == 1, truth == 1) > 0.98


def test_no_lesion_is_no_error():
  image = np.ones((10, 10, 5), np.float32)
  found = run(image, np.zeros((0, 3), int))
  assert not found.labels.any()
  assert found.kind == []
  assert found.measures['volume_mm3'].shape == (0,)
  assert set(found.measures) == set(run(image, [(5, 5, 2)]).measures)


def test_a_faint_vessel_that_joins_is_left_out():
  centres = [(40, 40, 8)]
  image, truth = balls((81, 81, 17), SPACING, centres, (2.0,), value=0.0)
  image[:, 40, 8] = np.minimum(image[:, 40, 8], 0.45)  # below half, no core
  found = run(image, centres)
  rows = np.argwhere(found.labels == 1)[:, 0]
  assert rows.min() >= 40 - 4 - 3  # radius and rim, of the 10 that it grew
  assert rows.max() <= 40 + 4 + 3
  assert dice(found.labels == 1, truth == 1) > 0.9


def test_every_lesion_is_one_piece():
  rng = np.random.default_rng(3)
  swi = np.clip(0.6 + 0.25 * rng.standard_normal((40, 40, 12)), 0, 1)
  centre = rng.integers((6, 6, 3), (34, 34, 9), (12, 3))
  swi[tuple(centre.T)] = 0
  found = segmentation.segment(
    swi.astype(np.float32), (0.5, 0.5, 2.0), np.ones(swi.shape, bool), centre
  )
  for label in range(1, 13):
    assert ndimage.label(found.labels == label)[1] == 1


@pytest.mark.parametrize('centres', [[20, 24], [24, 20]])
def test_what_two_lesions_are_equally_near_to_goes_to_the_first(centres):
  image = np.ones((44, 40, 17), np.float32)
  image[20:25, 20, 8] = 0.2
  found = run(image, [(x, 20, 8) for x in centres])
  expected = [1, 1, 1, 2, 2] if centres[0] == 20 else [2, 2, 1, 1, 1]
  assert found.labels[20:25, 20, 8].tolist() == expected


def test_the_rim_of_thick_slices_is_a_slice():
  image = np.ones((40, 40, 17), np.float32)
  image[19:22, 19:22, 8] = 0.0
  image[19:22, 19:22, 9] = 0.4  # 2 mm off: half maximum, not core
  found = run(image, [(20, 20, 8)])
  assert np.unique(np.nonzero(found.labels)[2]).tolist() == [8, 9]
