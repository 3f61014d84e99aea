"""Tests of imaging/appearance.py: what an image shows, and made right.

How often a good scan is doubted was measured on simulated scans of all
protocols; here each kind has one drawn head.
"""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.imaging import appearance, volume
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct import scan_image
from tests import heads
from tests.messages import said, says

SPACING = heads.SPACING_MM
HEAD = heads.draw()
IMAGE = HEAD.magnitude
BRAIN = IMAGE[HEAD.brain]
SMOOTH = ndimage.gaussian_filter(IMAGE, 0.8)  # edges as scans have them
WHOLE = (SMOOTH * (60000 / SMOOTH.max())).astype(np.uint16)
Z_SCORED = (IMAGE - BRAIN.mean()) / BRAIN.std()


def _eight_bits(image):
  return np.rint(image * (255 / image.max())).clip(0, 255).astype(np.uint8)


GOOD = {
  'float': IMAGE,
  '8 bits': _eight_bits(IMAGE),
  '16 bits': (1000 * IMAGE).astype(np.int16),
  'skull-stripped': np.where(HEAD.brain, IMAGE, 0),
  'very noisy': heads.draw(noise=0.15).magnitude,
  'cut inside of the brain': np.where(HEAD.veins, 0.1, IMAGE)[
    30:-30, 35:-35, 5:-5
  ],
  'few slices': IMAGE[:, :, 10:12],
  'resampled': ndimage.zoom(IMAGE, (1.4, 1.4, 1.0), order=3),
}
BAD = {
  'z-scored': (Z_SCORED, appearance.SHIFTED),
  'z-scored and whole': ((100 * Z_SCORED).astype(np.int16), 'shifted'),
  'z-scored with air': ((IMAGE - IMAGE.mean()) / IMAGE.std(), 'shifted'),
  '-1 to 1': (2 * IMAGE / IMAGE.max() - 1, 'shifted'),
  'z-scored, air painted': (
    np.where(
      HEAD.brain, Z_SCORED, np.percentile(Z_SCORED[HEAD.brain], 0.1) - 1
    ),
    'shifted',
  ),
  'int16': (WHOLE.view(np.int16), 'overflowed'),
  'int16 in floats': (WHOLE.view(np.int16).astype(np.float32), 'overflowed'),
  'int8': (
    (0.85 * _eight_bits(SMOOTH)).astype(np.uint8).view(np.int8),
    'overflowed',
  ),
  'inverted': (IMAGE.max() - IMAGE, 'inverted'),
  'inverted 8 bits': (255 - _eight_bits(IMAGE), 'inverted'),
  'negated': (-IMAGE, 'inverted'),  # all of it below 0, air at 0
  'phase': (HEAD.phase, 'phase'),
  'phase 0..4095': (
    np.rint((HEAD.phase + np.pi) * (4095 / 2 / np.pi)).astype(np.int16),
    'phase',
  ),
  'phase in degrees': (np.degrees(HEAD.phase), 'phase'),
  'running minimum': (ndimage.minimum_filter1d(IMAGE, 4, axis=2), 'projection'),
  'running maximum': (ndimage.maximum_filter1d(IMAGE, 4, axis=2), 'projection'),
  'mask': (HEAD.brain.astype(np.uint8), 'labels'),
  'labels': ((HEAD.brain * 3 + HEAD.veins).astype(np.int16), 'labels'),
}
REPAIRED = list(BAD)[:11]


@pytest.mark.parametrize('name', GOOD)
def test_a_good_image_is_not_doubted(name):
  seen = appearance.look(GOOD[name], SPACING)
  assert (seen.kind, seen.certain, seen.signs) == ('intensity', True, ())
  assert appearance.repaired(GOOD[name], seen) is GOOD[name]


@pytest.mark.parametrize('name', BAD)
def test_what_a_bad_image_shows(name):
  image, kind = BAD[name]
  seen = appearance.look(image, SPACING)
  assert (seen.kind, seen.certain) == (kind, True)
  assert seen.signs


@pytest.mark.parametrize('name', REPAIRED)
def test_what_is_repaired_is_the_image_again(name):
  image, _ = BAD[name]
  again = appearance.repaired(image, appearance.look(image, SPACING))
  as_it_was = SMOOTH if name.startswith('int') else IMAGE
  inside = np.corrcoef(again[HEAD.brain], as_it_was[HEAD.brain])[0, 1]
  assert inside > 0.99
  dark, bright = np.percentile(again, 1), np.median(again[HEAD.brain])
  assert again.min() >= 0
  assert dark < 0.1 * bright


@pytest.mark.parametrize('air', [0, -30])
def test_black_is_a_guess_where_air_was_painted(air):
  image = np.where(HEAD.brain, Z_SCORED, air)
  seen = appearance.look(image, SPACING)
  assert (seen.kind, seen.certain) == ('shifted', False)
  again = appearance.repaired(image, seen)
  assert np.corrcoef(again[HEAD.brain], BRAIN)[0, 1] > 0.99
  assert np.median(again[~HEAD.brain]) == 0


def test_of_one_value_nothing_is_said():
  assert appearance.look(np.ones((8, 8, 8)), SPACING).kind == 'intensity'


def _scan(tmp_path, array):
  path = tmp_path / 'x_swi.nii.gz'
  nib.save(nib.Nifti1Image(array, np.diag([*SPACING, 1.0])), path)
  return ScanFiles('x', None, 'x', path, (), (), None, {})


@pytest.mark.parametrize('name', ['z-scored', 'int16', 'inverted'])
def test_a_scan_is_put_right_and_it_is_said(tmp_path, name):
  found = scan_image.load_image(_scan(tmp_path, BAD[name][0]))
  as_it_was = SMOOTH if name == 'int16' else IMAGE
  right = scan_image.load_image(_scan(tmp_path, as_it_was))
  assert (found.mask == right.mask).mean() > 0.99
  (note,) = found.notes
  said(note, 'x_swi.nii.gz')


@pytest.mark.parametrize('name', ['phase', 'running minimum', 'labels'])
def test_what_is_not_an_swi_is_refused(tmp_path, name):
  with says(InputError, 'x_swi.nii.gz'):
    scan_image.load_image(_scan(tmp_path, BAD[name][0]))


def test_doubts_are_said(tmp_path):
  lifted = scan_image.load_image(_scan(tmp_path, IMAGE + 1))
  said(' '.join(lifted.notes), 'x_swi.nii.gz')


@pytest.mark.parametrize('turned', [False, True])
def test_nan_in_the_brain_is_said_and_round_it_not(tmp_path, turned):
  inside, outside = IMAGE.copy(), np.where(HEAD.brain, IMAGE, np.nan)
  inside[48:52, 56:60, 10:12] = np.nan
  scan = _scan(tmp_path, inside)
  if turned:
    image = nib.Nifti1Image(
      inside.transpose(2, 1, 0)[:, ::-1], np.diag([2.0, 1.0, 1.0, 1.0])
    )
    nib.save(image, scan.swi)
  found = scan_image.load_image(scan)
  said(' '.join(found.notes), 'x_swi.nii.gz')
  assert volume.load(scan.swi).unknown.sum() == 32
  assert not scan_image.load_image(_scan(tmp_path, outside)).notes
