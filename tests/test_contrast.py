"""An SWI is one, and every other contrast is called what it is."""

import numpy as np
import pytest

from cmbjax.imaging import contrast
from cmbjax.simulate import protocols, scan
from tests import contrasts


@pytest.fixture(scope='module')
def head():
  return contrasts.draw_tissue(9074)


@pytest.mark.parametrize(
  ('look', 'name'),
  [
    ('T1', 'T1-weighted'),
    ('T1 with agent', 'T1-weighted'),
    ('FLAIR', 'FLAIR'),
    ('T2', 'T2-weighted'),
    ('EPI', 'EPI'),
    ('PD', 'PD-weighted or like CT'),
    ('CT', 'PD-weighted or like CT'),
  ],
)
def test_every_other_contrast_is_named(head, look, name):
  image, spacing, brain = contrasts.draw(head, contrasts.LOOKS[look])
  assert f'looks {name}: ' in contrast.unlike_swi(image, spacing, brain)
  assert contrast.unlike_swi(40 * image, spacing, brain)  # of any scale


@pytest.mark.parametrize('name', ['btumor_3t', 'ccm_3t', 'clinical_15t'])
def test_an_swi_and_its_magnitude_have_no_other_name(name):
  protocol = protocols.get_protocol(name)
  made = scan.make_scan(protocol, 1, seed=9076, slab_mm=40)
  for image in (made.swi, made.magnitude[-1]):
    assert contrast.unlike_swi(image, protocol.voxel_mm, made.brain) == ''


def test_numbers_by_hand():
  """Even tissue with 1 % of it half as bright, in single voxels."""
  image = np.ones((100, 100, 20), np.float32)
  image[::10, ::10] = 0.5
  mask = np.ones(image.shape, bool)
  seen = contrast.measure(image, (1.0, 1.0, 2.0), mask)
  assert seen.dark == pytest.approx(1, abs=0.2)
  assert seen.bright == 0
  assert seen.finest == pytest.approx(0.5, abs=0.02)
  assert seen.darkest == pytest.approx(1, abs=0.03)
  assert seen.brightest == pytest.approx(1, abs=0.03)
  assert seen.spread < 0.03


def test_too_little_brain_has_no_name():
  image = np.ones((20, 20, 5), np.float32)
  assert contrast.measure(image, (1, 1, 2), image > 2) is None
  assert contrast.unlike_swi(image, (1, 1, 2), image > 0) == ''
