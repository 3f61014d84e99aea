"""The tissue maps of the package against those that they come from."""

import numpy as np
import pytest

from cmbjax.imaging import template


def test_maps_are_shares_and_symmetric():
  model = template.load()
  for image in (model.grey, model.white, model.brain):
    assert image.min() == 0
    assert image.max() == 1
    np.testing.assert_array_equal(image, image[::-1])
  volume_ml = model.brain.sum() * template.STEP_MM**3 / 1e3
  assert volume_ml == pytest.approx(1887, rel=0.01)  # of the 1 mm template


def test_origin_is_the_middle_of_the_right_half():
  model = template.load()
  middle = (np.array(model.brain.shape) - 1) / 2 * template.STEP_MM
  assert (model.origin_mm + middle)[0] == 0


def test_the_stored_file_is_what_nilearn_gives(tmp_path):
  datasets = pytest.importorskip('nilearn.datasets')
  white = np.asarray(datasets.load_mni152_wm_template(resolution=1).dataobj)
  brain = np.asarray(datasets.load_mni152_template(resolution=1).dataobj) > 0
  right = template.thin(white, white, brain)[1] / 31
  model = template.load()
  np.testing.assert_array_equal(model.white[49:], right.astype(np.float32))
