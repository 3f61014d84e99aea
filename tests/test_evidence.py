"""Derived channels against hand values, ramps and images with a known plane."""

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.data import evidence, patches
from cmbjax.data.evidence import Evidence, Sites
from cmbjax.imaging import registration, symmetry
from cmbjax.reconstruct import channels
from tests.test_symmetry import head

SHAPE, SPACING_MM = (90, 80, 40), (0.8, 0.8, 3.0)
CENTRES = np.array([[60, 40, 20], [30, 35, 18]])


def scan(image, **found):
  """A scan of which some is known already."""
  whole = np.ones(SHAPE, bool)
  made = Evidence(image, whole, SPACING_MM, np.diag([*SPACING_MM, 1.0]))
  vars(made).update(found)
  return made


def plane(x_mm, **changes):
  known = symmetry.MirrorPlane(np.array([1.0, 0, 0]), x_mm, 1, 1, 140)
  return known._replace(**changes)


def textured():
  return np.random.default_rng(0).random(SHAPE).astype(np.float32)


def test_names_are_those_that_studies_know():
  assert tuple(evidence.DERIVED) == channels.DERIVED


@pytest.mark.parametrize('grid_mm', [SPACING_MM, (0.5, 0.5, 2.0)])
def test_wide_is_three_times_as_wide(grid_mm):
  """A ramp stays one, with three times the step."""
  slope = np.array([0.004, 0.006, 0.012])
  image = (np.indices(SHAPE).T @ slope).T.astype(np.float32)
  centre = np.array([[45, 40, 20]])
  found = evidence.wide(scan(image), Sites(centre, grid_mm))
  step = 3 * slope * grid_mm / SPACING_MM
  offset = np.stack(np.indices(patches.PATCH), -1) - patches.CENTRE
  expected = centre[0] @ slope + offset @ step
  seen = (slice(6, 18), slice(6, 18), slice(3, 9))  # away from the edge
  np.testing.assert_allclose(found[0][seen], expected[seen], atol=2e-3)


def test_wide_means_what_it_covers():
  """A black voxel in a white image: its share of a block."""
  image = np.ones(SHAPE, np.float32)
  image[60, 40, 20] = 0
  found = evidence.wide(scan(image), Sites(CENTRES, SPACING_MM))
  assert found.shape == (2, *patches.PATCH)
  missing = 1 - found[0]
  assert missing.sum() == pytest.approx(1 / 27, rel=1e-3)
  assert missing.max() == missing[12, 12, 6]


def test_mirror_of_a_known_plane():
  """On the scan's own grid it is the other place, turned round."""
  image = textured()
  made = scan(image, plane=plane(44.5 * SPACING_MM[0]))
  found = evidence.mirror(made, Sites(CENTRES, SPACING_MM))
  own = patches.cut(image, CENTRES * (-1, 1, 1) + (89, 0, 0))
  np.testing.assert_allclose(found[:, 1:], own[:, :0:-1], atol=1e-4)


def test_mirror_is_blank_where_there_is_nothing_to_compare():
  image = textured()
  centres = np.array([[60, 40, 20], [46, 40, 20], [5, 40, 20]])
  sites = Sites(centres, SPACING_MM)
  made = scan(image, plane=plane(44.5 * SPACING_MM[0]))
  assert evidence.mirror(made, sites).any((1, 2, 3)).tolist() == [1, 0, 1]
  made.mask[84, 40, 20] = False
  assert evidence.mirror(made, sites).any((1, 2, 3)).tolist() == [1, 0, 0]
  beyond = scan(image, plane=plane(17.0))
  assert evidence.mirror(beyond, sites).any((1, 2, 3)).tolist() == [0, 0, 1]
  unknown = scan(image, plane=plane(35.0, likeness=0.1))
  assert not evidence.mirror(unknown, sites).any()


def test_a_nucleus_has_a_partner_and_a_microbleed_has_none():
  """In a turned head, by the image's own plane."""
  image, mask, affine, normal = head(12, -7, 9)
  spacing_mm = tuple(np.diag(affine)[:3])
  right = np.array([9, 0, 0]) + 30 * normal + (0, 10, 5)
  left = right - 2 * (normal @ (right - (9, 0, 0))) * normal
  alone = right + np.array([0, 22, 0])

  def voxel(world):
    return (world - affine[:3, 3]) / spacing_mm

  where = np.stack(np.indices(mask.shape), -1)
  dark = np.zeros(mask.shape, bool)
  for place in (right, left, alone):
    dark |= (((where - voxel(place)) * spacing_mm) ** 2).sum(-1) < 3.5**2
  unit = np.clip(np.where(dark, 0.1, image), 0, 1).astype(np.float32)
  made = Evidence(unit, mask, spacing_mm, affine)
  centres = np.rint([voxel(p) for p in (right, left, alone)]).astype(int)
  found = made.patches(centres, channels=('swi', 'mirror'))
  own, other = found[:, 12, 12, 6].T
  assert (own < 0.2).all()
  assert (other[:2] < 0.3).all()
  assert other[2] > 0.5


def test_vessels_are_where_they_are():
  """A vein along z, in voxels that are averaged two by two."""
  image = np.ones((80, 80, 30), np.float32)
  image[40:43, 40:43] = 0.4
  made = Evidence(image, image > 0, (0.5, 0.5, 2.0), np.eye(4))
  found = evidence.vessels(
    made, Sites(np.array([[41, 41, 15], [30, 41, 15]]), (0.5, 0.5, 2.0))
  )
  for patch, middle in zip(found, (12, 23)):
    best = ndimage.center_of_mass(patch > 0.5 * patch.max())
    np.testing.assert_allclose(best[:2], (middle, 12), atol=0.6)
    assert patch.max() > 0.5


def test_place_by_hand():
  """The left and the right are one place; mm beyond the brain are clipped."""
  matrix = np.eye(4)
  matrix[:3, 3] = (-40, -80, -55)
  known = registration.Registration(matrix, 0.95, 0.1)
  sites = Sites(np.array([[75, 75, 20], [25, 75, 20], [50, 400, 0]]), (1, 1, 1))
  found = evidence.place(scan(textured(), registered=known), sites)
  assert found.shape == (3, *patches.PATCH, 3)
  expected = [[0.25, 90 / 190, 80 / 160], [0.25, 90 / 190, 0.5], [0, 1, 0.125]]
  np.testing.assert_allclose(found[:, 3, 20, 7], expected, atol=1e-6)
  unsure = known._replace(overlap=0.5)
  assert not evidence.place(scan(textured(), registered=unsure), sites).any()


def test_a_piece_of_a_brain_has_no_place():
  made = scan(textured())
  made.mask[4:] = False
  assert not evidence.place(made, Sites(CENTRES, SPACING_MM)).any()


def test_all_channels_at_once_and_in_order():
  image = textured()
  known = registration.Registration(np.eye(4), 0.95, 0.1)
  made = scan(image, plane=plane(35.6), registered=known)
  names = ('swi', *channels.DERIVED)
  for grid_mm in (None, patches.RESAMPLED_MM):
    for count in (2, 0):
      found = made.patches(CENTRES[:count], channels=names, grid_mm=grid_mm)
      assert found.shape == (count, *patches.PATCH, channels.depth(names))
      assert found.min(initial=0) >= 0
      assert found.max(initial=1) <= 1
  alone = made.patches(CENTRES, grid_mm=patches.RESAMPLED_MM)
  expected = patches.resample(image, CENTRES, SPACING_MM)
  np.testing.assert_array_equal(alone, expected)
