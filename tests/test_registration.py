"""A head made from the package's own template, placed by a known map."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cmbjax.errors import InputError
from cmbjax.imaging import registration, template
from tests.messages import says

SPACING_MM = (2.0, 2.0, 4.0)


def place(*, turn=(0, 0, 0), scale=1.05, shift=(0, 0, 0)):
  """World mm to MNI mm, [4, 4]."""
  matrix = np.eye(4)
  matrix[:3, :3] = (
    scale * Rotation.from_euler('xyz', turn, degrees=True).as_matrix()
  )
  matrix[:3, 3] = matrix[:3, :3] @ -np.array(shift, float) + (0, -18, 8)
  return matrix


def draw(world_to_mni, *, centre=(0, 0, 0), means=(1.0, 0.82, 1.2), seed=0,
         field_mm=(200, 220, 200)):  # fmt: skip
  """Image, mask and affine of a head with dark veins, bias and noise."""
  rng = np.random.default_rng([seed, 7])
  shape = [round(f / s) for f, s in zip(field_mm, SPACING_MM)]
  affine = np.diag([*SPACING_MM, 1.0])
  affine[:3, 3] = np.array(centre) - np.array(field_mm) / 2
  index = np.indices(shape).reshape(3, -1).T
  whole = world_to_mni @ affine
  mni = index @ whole[:3, :3].T + whole[:3, 3]
  model = template.load()
  at = ((mni - model.origin_mm) / template.STEP_MM).T
  grey, white, inside = (
    ndimage.map_coordinates(m, at, order=1).reshape(shape)
    for m in (model.grey, model.white, model.brain)
  )
  image = means[0] * grey + means[1] * white
  image += means[2] * (inside - grey - white)
  image *= 1 + 0.3 * np.linspace(-1, 1, shape[0])[:, None, None]
  image *= 1 - 0.7 * (rng.random(shape) < 0.01)
  image += 0.03 * rng.standard_normal(shape)
  return image.astype(np.float32), inside > 0.5, affine


def error_mm(found, world_to_mni, mask, affine) -> float:
  """Root mean square over the voxels of the brain."""
  points = np.argwhere(mask)[::7] @ affine[:3, :3].T + affine[:3, 3]
  true = points @ world_to_mni[:3, :3].T + world_to_mni[:3, 3]
  return float(np.sqrt(((found.to_mni(points) - true) ** 2).sum(1).mean()))


@pytest.mark.parametrize(
  ('turn', 'means'),
  [
    ((0, 0, 0), (1.0, 0.82, 1.2)),
    ((25, 0, 0), (1.0, 0.82, 1.2)),
    ((-25, 4, 0), (0.7, 1.0, 0.3)),
    ((0, 25, 0), (1.0, 1.0, 1.0)),
    ((5, -5, -25), (1.0, 0.9, 0.4)),
  ],
)
def test_tilted_heads_of_any_contrast(turn, means):
  true = place(turn=turn)
  image, mask, affine = draw(true, means=means)
  found = registration.register(image, mask, affine)
  assert error_mm(found, true, mask, affine) < 1.5
  assert found.trusted
  assert found.overlap > 0.95


def test_the_origin_of_the_header_does_not_matter():
  shift = np.array([400.0, -300.0, 900.0])
  true = place(turn=(6, 3, -8), scale=1.1, shift=shift)
  image, mask, affine = draw(true, centre=shift)
  found = registration.register(image, mask, affine)
  assert error_mm(found, true, mask, affine) < 1.5


@pytest.mark.parametrize(('first', 'last'), [(7, 20), (17, 30), (26, 44)])
def test_slabs_are_put_at_their_height(first, last):
  true = place(turn=(-10, 2, 3))
  image, mask, affine = draw(true)
  affine = affine.copy()
  affine[:3, 3] += affine[:3, 2] * first
  image, mask = image[:, :, first:last], mask[:, :, first:last]
  found = registration.register(image, mask, affine)
  assert error_mm(found, true, mask, affine) < 3.0


def test_a_wide_mask_does_not_scale_the_brain():
  true = place()
  image, mask, affine = draw(true)
  tight = registration.register(image, mask, affine)
  wide = ndimage.binary_dilation(mask)
  found = registration.register(image, wide, affine)
  assert wide.sum() > 1.1 * mask.sum()
  assert error_mm(found, true, mask, affine) < 2.5
  length = [
    np.linalg.det(r.world_to_mni[:3, :3]) ** (1 / 3) for r in (tight, found)
  ]
  # Without the edge class the brain would look 3 % larger.
  assert abs(np.log(length[1] / length[0])) < 0.02


def test_bad_voxels_are_left_out():
  true = place(turn=(4, 0, 0))
  image, mask, affine = draw(true)
  image[~mask] = np.nan
  image[50, 50, 25] = np.inf
  found = registration.register(image, mask, affine)
  assert error_mm(found, true, mask, affine) < 1.5


def test_what_is_no_brain_is_not_trusted():
  mask = np.zeros((80, 80, 40), bool)
  mask[10:30, 10:70, 2:38] = True
  mask[50:60, 10:70, 2:38] = True
  found = registration.register(
    mask.astype(np.float32), mask, np.diag([2.0, 2.0, 4.0, 1.0])
  )
  assert not found.trusted


def test_too_little_brain_is_refused():
  mask = np.zeros((40, 40, 10), bool)
  mask[10:20, 10:20, 3:6] = True
  with says(InputError):
    registration.register(mask.astype(np.float32), mask, np.eye(4))
  with says(InputError):
    registration.register(np.zeros((4, 4, 4)), mask, np.eye(4))


def test_same_answer_twice():
  true = place()
  image, mask, affine = draw(true)
  first, second = (registration.register(image, mask, affine) for _ in range(2))
  np.testing.assert_array_equal(first.world_to_mni, second.world_to_mni)
