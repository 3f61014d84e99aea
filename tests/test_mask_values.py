"""Brain masks as programs write them."""

import pathlib

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.imaging import mask_values
from tests.messages import says

PATH = pathlib.Path('m.nii.gz')


@pytest.fixture
def ball():
  x, y, z = np.ogrid[-20:20, -24:24, -6:6]
  return x**2 + y**2 + 4 * z**2 < 15**2


def distance(ball):
  outside = ndimage.distance_transform_edt(~ball)
  return (outside - ndimage.distance_transform_edt(ball)).astype(np.float32)


@pytest.mark.parametrize(
  ('made', 'said'),
  [
    (lambda b: b.astype(np.uint8), ''),
    (lambda b: b.astype(np.uint8) * 255, ''),
    (lambda b: np.where(b, 2, 0) * 1.0, ''),
    (lambda b: np.where(b, np.arange(12) % 3 + 1, 0), ''),  # classes
    (lambda b: b.astype(np.int16) + 1, '1 and 2 only'),
    (distance, 'below 0'),
    (lambda b: -distance(b), 'above 0'),
    (
      lambda b: np.clip(0.5 - distance(b) / 4, 0, 1),
      'from 0.5 on',
    ),
    (  # everywhere a little, as networks write
      lambda b: np.clip(0.5 - distance(b) / 4, 1e-5, 1),
      'from 0.5 on',
    ),
  ],
)
def test_one_meaning(ball, made, said):
  inside, note = mask_values.whether_inside(PATH, made(ball))
  assert inside.dtype == bool
  assert (inside ^ ball).sum() <= 0.02 * ball.sum()
  assert said in note
  assert bool(said) == bool(note)


def test_a_brain_without_skull_is_its_own_mask(ball):
  """Its dark lesions are inside."""
  image = np.where(ball, np.random.default_rng(9000).random(ball.shape), 0)
  image[20, 24, 6] = 0.01
  inside, note = mask_values.whether_inside(PATH, image.astype(np.float32))
  assert (inside == ball).all()
  assert not note


@pytest.mark.parametrize(
  ('made', 'named'),
  [
    (lambda b: (~b).astype(np.uint8), 'm.nii.gz inverted'),
    (lambda b: -b.astype(np.int16), 'm.nii.gz empty'),
    (lambda b: b.astype(np.uint8) * 0, 'm.nii.gz empty'),
  ],
)
def test_what_is_no_brain_is_refused(ball, made, named):
  with says(InputError, named):
    mask_values.whether_inside(PATH, made(ball))


def test_of_a_file(tmp_path, ball):
  path = tmp_path / 'mask.nii.gz'
  nib.save(nib.Nifti1Image(distance(ball), np.eye(4)), path)
  mask = mask_values.read(path)
  assert (mask.array == ball).all()
  assert 'mask.nii.gz' in mask.notes[0]
