"""Tests of imaging/brain.py: heads that are biased, noisy, cut, scarred.

The same against the simulator's truth, all protocols: benchmarks/swi.py.
"""

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.imaging import brain, phase_mask
from tests import heads
from tests.messages import says

SPACING = heads.SPACING_MM


def dice(first, second):
  return 2 * (first & second).sum() / (first.sum() + second.sum())


def _grid(shape, step):
  """Coordinates in mm from the middle, [X, Y, Z] each."""
  return np.meshgrid(
    *[
      (np.arange(n, dtype=np.float32) - n / 2) * s for n, s in zip(shape, step)
    ],
    indexing='ij',
  )


def _noisy(truth):
  noise = 0.03 * np.random.default_rng(0).normal(size=truth.shape)
  return np.abs(truth + noise).astype(np.float32)


def _head(case):
  """(magnitude, true brain) of one kind of difficulty."""
  head = heads.draw(noise=0.12 if case == 'noise' else 0.03)
  image, truth = head.magnitude, head.brain
  x, y, z = (
    np.linspace(-1, 1, n, dtype=np.float32).reshape(
      [-1 if a == i else 1 for a in range(3)]
    )
    for i, n in enumerate(image.shape)
  )
  if case == 'bias':
    image = image * np.exp(0.8 * x - 0.5 * y + 0.3 * z)
  elif case == 'dark centre':
    image = image * (0.4 + x**2 + y**2)
  elif case == 'cavity':  # at the surface, 10 mm wide, without signal
    hole = (x * 48 - 30) ** 2 + (y * 56 - 5) ** 2 + (z * 24) ** 2 < 10**2
    image = np.where(hole, 0.03, image)
  elif case == 'bridge':  # a nerve from brain to scalp, 6 mm thick
    nerve = ((x * 48) ** 2 + (z * 24) ** 2 < 3**2) & (y > 0.7) & (y < 0.97)
    image = np.where(nerve, 1.0, image)
  elif case == 'bright scalp':
    outside = ~ndimage.binary_dilation(truth, iterations=2)
    image = np.where(outside & (image > 0.3), 3 * image, image)
  elif case == 'cut in plane':
    image, truth = image[20:-18], truth[20:-18]
  elif case == 'cut slab':
    image, truth = image[:, :, 8:15], truth[:, :, 8:15]
  elif case == 'dark slices':
    image = image.copy()
    image[:, :, :2] = 0
    truth = truth.copy()
    truth[:, :, :2] = False
  return np.asarray(image, np.float32), truth


@pytest.mark.parametrize(
  'case',
  [
    'plain',
    'noise',
    'bias',
    'dark centre',
    'cavity',
    'bridge',
    'bright scalp',
    'cut in plane',
    'cut slab',
    'dark slices',
  ],
)
def test_mask_equals_the_drawn_brain(case):
  image, truth = _head(case)
  found = brain.brain_mask(image, SPACING)
  assert found.dtype == bool
  assert found.shape == image.shape
  assert dice(found, truth) >= 0.97


def test_mask_from_an_swi_alone():
  head = heads.draw()
  image = head.magnitude * phase_mask.phase_mask(head.phase)
  assert dice(brain.brain_mask(image, SPACING), head.brain) >= 0.97


@pytest.mark.parametrize('slices', [1, 2])
def test_thicker_slices_give_the_same_brain(slices):
  head = heads.draw(shape=(96, 112, 24))
  image = head.magnitude.reshape(96, 112, -1, slices).mean(3)
  truth = head.brain.reshape(96, 112, -1, slices).mean(3) >= 0.5
  spacing = (1.0, 1.0, 2.0 * slices)
  assert dice(brain.brain_mask(image, spacing), truth) >= 0.96


def test_finer_voxels_give_the_same_brain():
  head = heads.draw()
  fine = head.magnitude.repeat(2, 0).repeat(2, 1)
  found = brain.brain_mask(fine, (0.5, 0.5, 2.0))
  truth = head.brain.repeat(2, 0).repeat(2, 1)
  assert dice(found, truth) >= 0.97


def test_scale_and_mirroring_change_nothing():
  head = heads.draw()
  plain = brain.brain_mask(head.magnitude, SPACING)
  scaled = brain.brain_mask(head.magnitude * 4000, SPACING)
  np.testing.assert_array_equal(plain, scaled)
  mirrored = brain.brain_mask(head.magnitude[::-1], SPACING)[::-1]
  assert dice(plain, mirrored) > 0.995


def test_dark_lesions_and_veins_stay_inside():
  head = heads.draw()
  image = head.magnitude.copy()
  image[46:50, 54:58, 11:13] = 0
  found = brain.brain_mask(image, SPACING)
  assert found[46:50, 54:58, 11:13].all()
  assert found[head.veins].all()


@pytest.mark.parametrize('slices', [1, 2])
@pytest.mark.parametrize('depth_mm', [3.5, 6.0, 9.0])
@pytest.mark.parametrize('side', [(1, 0), (0, -1), (0.6, 0.8)])
def test_a_dark_lesion_near_the_surface_does_not_remove_itself(
  side, depth_mm, slices
):
  head = heads.draw()
  x, y, z = _grid(head.brain.shape, SPACING)
  place = [s * (r - depth_mm) for s, r in zip(side, (36, 44))]
  ball = (x - place[0]) ** 2 + (y - place[1]) ** 2 + z**2 < 4.5**2
  image = np.where(ball, 0.1 * head.magnitude, head.magnitude)
  image = image.reshape(*image.shape[:2], -1, slices).mean(3)
  spacing = (*SPACING[:2], SPACING[2] * slices)
  found = brain.brain_mask(image, spacing).repeat(slices, 2)
  # At 3.5 mm a part of it is on the surface itself.
  assert found[ball & head.brain].mean() > (0.9 if depth_mm > 4 else 0.6)
  assert dice(found, head.brain) >= 0.96
  assert not found[ndimage.distance_transform_edt(~head.brain) > 3].any()


def test_a_single_slice_has_a_mask():
  head = heads.draw()
  found = brain.brain_mask(head.magnitude[:, :, 12:13], SPACING)
  assert dice(found, head.brain[:, :, 12:13]) >= 0.95


def test_tissue_without_air_is_brain():
  rng = np.random.default_rng(0)
  image = (1 + 0.05 * rng.normal(size=(30, 30, 12))).astype(np.float32)
  assert brain.brain_mask(image, (0.5, 0.5, 1.0)).mean() > 0.95


def test_a_face_below_the_brain_is_left_out_and_the_stem_is_kept():
  shape, step = (96, 112, 84), (2.0, 2.0, 2.0)
  x, y, z = _grid(shape, step)
  z = z - 20
  ball = (x / 68) ** 2 + (y / 84) ** 2 + (z / 56) ** 2 < 1
  stem = (x**2 + (y + 20) ** 2 < 9**2) & (z > -80) & (z < -40)
  truth = ball | stem
  # A face as bright as the brain, joined to it by bridges 16 mm thick.
  face = (x / 55) ** 2 + ((y - 45) / 35) ** 2 + ((z + 78) / 18) ** 2 < 1
  bridge = (x**2 + (y - 45) ** 2 < 8**2) & (z > -78) & (z < -40)
  found = brain.brain_mask(_noisy(truth | face | bridge), step)
  assert dice(found, truth) >= 0.97
  assert (found & face & ~truth).sum() < 0.02 * face.sum()
  middle = stem & ~ball & (x**2 + (y + 20) ** 2 < 5**2) & (z > -76)
  assert found[middle].mean() > 0.9


@pytest.mark.parametrize('side', ['back', 'side'])
def test_a_lobe_behind_a_cavity_is_kept_and_a_face_is_not(side):
  shape, step = (80, 96, 84), (2.0, 2.0, 2.0)
  x, y, z = _grid(shape, step)
  z = z - 20
  if side == 'side':
    x, y = y, x * 1.2
  ball = (x / 64) ** 2 + (y / 84) ** 2 + (z / 56) ** 2 < 1
  # Through the surface; bands of 20 mm and less round it hold the lobe.
  cavity = (x / 30) ** 2 + ((y + 50) / 14) ** 2 + ((z - 25) / 45) ** 2 < 1
  truth = ball & ~cavity
  lobe = truth & (y < -62)
  face = (x / 55) ** 2 + ((y - 25) / 35) ** 2 + ((z + 82) / 14) ** 2 < 1
  bridge = (x**2 + (y - 25) ** 2 < 8**2) & (z > -78) & (z < -40)
  found = brain.brain_mask(_noisy(truth | face | bridge), step)
  assert lobe.sum() * 0.008 > 40  # ml
  assert found[lobe].mean() > 0.96
  assert dice(found & ~cavity, truth) >= 0.97
  assert (found & face & ~truth).sum() < 0.02 * face.sum()


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_shared_surface_of_a_box_is_one_of_its_six_sides(axis):
  step = np.array([1.0, 2.0, 5.0])
  labels = np.zeros((12, 12, 12), int)
  labels[3:7, 3:7, 3:7] = 1
  labels[:2, :2, :2] = 2  # touches nothing
  core = np.zeros(labels.shape, bool)
  np.moveaxis(core, axis, 0)[7:] = True  # touches one side
  sides = np.prod(step) / step
  found = brain._shared_surface(labels, 2, core, step)
  assert found[1] == pytest.approx(sides[axis] / (2 * sides.sum()))
  assert found[2] == 0


def test_nothing_to_find_is_said():
  with says(InputError):
    brain.brain_mask(np.zeros((20, 20, 10), np.float32), SPACING)
  speck = np.zeros((60, 60, 20), np.float32)
  speck[30:32, 30:32, 10] = 1
  with says(InputError):
    brain.brain_mask(speck, SPACING)
