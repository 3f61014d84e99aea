"""The plane between the halves: turned templates, whose plane is known."""

import functools

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cmbjax.imaging import symmetry, template

SPACING_MM = (1.6, 1.6, 3.0)
SHAPE = (110, 130, 22)


@functools.cache
def head(yaw=0.0, roll=0.0, shift_mm=0.0):
  """A slab of the template, which is symmetric: (image, mask, affine, normal).

  The head is turned about the origin of the world and then moved to the right.
  """
  affine = np.diag([*SPACING_MM, 1.0])
  affine[:3, 3] = -(np.array(SHAPE) - 1) / 2 * SPACING_MM + (0, -15, 10)
  world = np.indices(SHAPE).reshape(3, -1).T @ affine[:3, :3] + affine[:3, 3]
  turn = Rotation.from_euler('zy', (yaw, roll), degrees=True)
  mni = turn.inv().apply(world - (shift_mm, 0, 0))
  brain = template.load()
  index = ((mni - brain.origin_mm) / template.STEP_MM).T
  grey, white, inside = (
    ndimage.map_coordinates(one, index, order=1).reshape(SHAPE)
    for one in (brain.grey, brain.white, brain.brain)
  )
  noise = np.random.default_rng(0).normal(size=SHAPE) * 0.05
  image = 0.5 * inside + 0.3 * grey + 0.1 * white + noise
  return image, inside > 0.5, affine, turn.apply((1.0, 0, 0))


def places(mask, affine):
  return np.argwhere(mask)[::500] @ affine[:3, :3] + affine[:3, 3]


@pytest.mark.parametrize('turned', [(0, 0, 0), (12, -7, 9), (-18, 10, -14)])
def test_the_plane_of_a_turned_head(turned):
  image, mask, affine, normal = head(*turned)
  found = symmetry.find_plane(image, mask, affine)
  assert found.known
  assert found.likeness > 0.6
  assert found.overlap > 0.95
  assert abs(np.rad2deg(np.arccos(found.normal @ normal))) < 1
  offset = normal @ (turned[2], 0, 0)
  world = places(mask, affine)
  expected = world - 2 * (world @ normal - offset)[:, None] * normal
  away = np.linalg.norm(found.mirrored(world) - expected, axis=1)
  assert away.max() < 2
  np.testing.assert_allclose(found.mirrored(found.mirrored(world)), world)


def test_by_hand():
  plane = symmetry.MirrorPlane(np.array([1.0, 0, 0]), 3.0, 1, 1, 140)
  np.testing.assert_array_equal(plane.mirrored((5, 7, -2)), (1, 7, -2))
  assert plane.known
  for lacking in ({'likeness': 0.2}, {'overlap': 0.8}, {'width_mm': 70}):
    assert not plane._replace(**lacking).known


@pytest.mark.parametrize('part', ['left', 'three quarters', 'none'])
def test_what_is_not_a_whole_head(part):
  image, mask, affine, _ = head()
  mask = mask.copy()
  if part == 'none':
    mask[:] = False
  else:
    mask[SHAPE[0] // 2 + (0 if part == 'left' else 18) :] = False
  assert not symmetry.find_plane(image, mask, affine).known


def test_halves_that_are_not_alike():
  """The same shape, but nothing in it that has a partner."""
  _, mask, affine, _ = head()
  noise = np.random.default_rng(1).normal(size=SHAPE)
  smooth = ndimage.gaussian_filter(noise, 2)
  image = mask * (1 + 0.2 * smooth / smooth.std())
  found = symmetry.find_plane(image, mask, affine)
  assert found.overlap > 0.9
  assert found.likeness < symmetry.LEAST_LIKENESS
