"""Growing round a clicked voxel."""

import time

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.review.cases import grow
from tests import small_cohorts
from tests.messages import says

SPACING_MM = (0.5, 0.5, 2.0)


@pytest.fixture(scope='module')
def phantom():
  return small_cohorts.phantom(5, num_lesions=3, num_mimics=0)


def mask_of(voxels, shape):
  found = np.zeros(int(np.prod(shape)), bool)
  found[voxels] = True
  return found.reshape(shape, order='F')


def ball(shape, centre, radius_mm, spacing_mm):
  axes = np.ogrid[tuple(slice(n) for n in shape)]
  away = [((a - c) * s) ** 2 for a, c, s in zip(axes, centre, spacing_mm)]
  return np.sqrt(sum(away)) <= radius_mm


def test_the_half_maximum_of_a_ball(phantom):
  """exp(-(r / 1.6)^4) is one half at r = 1.46 mm."""
  for place in phantom.lesion_voxels:
    found = grow.grow(phantom.swi, SPACING_MM, place)
    own = mask_of(found.voxels, phantom.swi.shape)
    truth = ball(own.shape, place, 1.46, SPACING_MM)
    overlap = 2 * (own & truth).sum() / (own.sum() + truth.sum())
    assert overlap > 0.85


def test_indices_are_sorted_and_distinct(phantom):
  found = grow.grow(phantom.swi, SPACING_MM, phantom.lesion_voxels[0])
  assert found.voxels.dtype == np.int64
  assert (np.diff(found.voxels) > 0).all()


def test_nothing_beyond_the_sphere_and_in_one_piece():
  """A long vessel is cut by the sphere."""
  image = np.full((60, 60, 30), 200, np.float32)
  image[:, 28:32, 14:16] = 20
  for radius_mm in (2.0, 4.0):
    found = grow.grow(image, (0.5, 0.5, 1.0), (30, 30, 15), radius_mm=radius_mm)
    own = mask_of(found.voxels, image.shape)
    assert own.sum() > 10
    sphere = ball(image.shape, (30, 30, 15), radius_mm, (0.5, 0.5, 1.0))
    assert not (own & ~sphere).any()
    assert ndimage.label(own)[1] == 1


def test_the_dark_outside_of_the_head_is_not_taken():
  """A lesion three voxels under the surface does not flow out."""
  image = np.zeros((80, 80, 30), np.float32)
  image[20:, :, :] = 200
  image[23:27, 38:42, 14:17] = 30
  found = grow.grow(image, (0.5, 0.5, 1.0), (25, 40, 15))
  own = mask_of(found.voxels, image.shape)
  assert own[23:27, 38:42, 14:17].all()
  assert not own[:20].any()


def test_voxels_of_others_are_not_taken(phantom):
  place = phantom.lesion_voxels[0]
  whole = grow.grow(phantom.swi, SPACING_MM, place).voxels
  taken = mask_of(whole, phantom.swi.shape)
  taken[: place[0] + 1] = False  # half of it is somebody else's
  found = grow.grow(
    phantom.swi, SPACING_MM, place, free=lambda box: ~taken[box]
  )
  own = mask_of(found.voxels, phantom.swi.shape)
  assert own.any()
  assert not (own & taken).any()


def test_a_voxel_of_another_lesion_cannot_be_the_seed(phantom):
  with says(InputError):
    grow.grow(
      phantom.swi,
      SPACING_MM,
      (30, 30, 8),
      free=lambda box: np.zeros(phantom.swi[box].shape, bool),
    )


def test_where_nothing_is_dark_there_is_no_outline(phantom):
  """Noise of brain has no half maximum that means anything."""
  inner = np.argwhere(phantom.swi[22:42, 20:40, 6:10] > 190)
  bright = np.add(inner, (22, 20, 6))
  rng = np.random.default_rng(0)
  for place in bright[rng.integers(len(bright), size=12)]:
    away = phantom.lesion_voxels - place
    if np.linalg.norm(away * SPACING_MM, axis=1).min() > 4:
      found = grow.grow(phantom.swi, SPACING_MM, place)
      assert found.voxels.size == 0
      assert found.voxels.dtype == np.int64
      assert found.tool['contrast'] < 0.2


@pytest.mark.parametrize('place', [(0, 0, 0), (63, 59, 15), (0, 30, 15)])
def test_asked_for_one_there_is_always_at_least_the_voxel(phantom, place):
  found = grow.grow(phantom.swi, SPACING_MM, place, least_contrast=0)
  assert found.voxels.size >= 1
  image = np.zeros((9, 9, 9), np.int16)
  flat = grow.grow(image, (1, 1, 1), (4, 4, 4), least_contrast=0)
  assert flat.voxels.tolist() == [4 + 9 * (4 + 9 * 4)]


@pytest.mark.parametrize('place', [(-1, 0, 0), (64, 0, 0), (0, 0), (0, 0, 99)])
def test_a_place_outside_is_refused(phantom, place):
  with says(InputError):
    grow.grow(phantom.swi, SPACING_MM, place)


@pytest.mark.parametrize('radius_mm', [0.0, -1.0, 16.0, float('nan')])
def test_a_radius_that_is_not_allowed(phantom, radius_mm):
  with says(InputError, 'radius_mm'):
    grow.grow(phantom.swi, SPACING_MM, (30, 30, 8), radius_mm=radius_mm)


def test_the_log_has_all_that_decides_the_outline(phantom):
  place = tuple(phantom.lesion_voxels[1])
  first = grow.grow(phantom.swi, SPACING_MM, place, radius_mm=4)
  tool = first.tool
  assert tool['name'] == 'grow'
  assert {'radius_mm', 'level', 'core_level', 'seed_mm', 'ijk'} <= set(tool)
  again = grow.grow(
    phantom.swi, SPACING_MM, tool['ijk'], radius_mm=tool['radius_mm']
  )
  np.testing.assert_array_equal(first.voxels, again.voxels)


def test_the_box_decides_nothing_else():
  """Far away voxels may be anything: the outline stays."""
  rng = np.random.default_rng(3)
  one = small_cohorts.phantom(
    7, num_lesions=1, num_mimics=0, shape=(96, 90, 40), spacing_mm=(1, 1, 1)
  )
  place = one.lesion_voxels[0]
  first = grow.grow(one.swi, (1, 1, 1), place).voxels
  far = ~ball(one.swi.shape, place, 36, (1, 1, 1))
  other = np.where(far, rng.uniform(0, 255, far.shape), one.swi)
  again = grow.grow(other, (1, 1, 1), place).voxels
  np.testing.assert_array_equal(first, again)


def test_a_large_scan_costs_no_more_than_a_small_one():
  image = np.full((512, 512, 144), 200, np.uint8)
  image[250:254, 250:254, 70:72] = 30
  grow.grow(image, (0.5, 0.5, 1.0), (251, 251, 70))
  times = []
  for _ in range(3):
    start = time.process_time()
    grow.grow(image, (0.5, 0.5, 1.0), (251, 251, 70))
    times.append(time.process_time() - start)
  assert min(times) < 0.25  # 0.04 on a free core
