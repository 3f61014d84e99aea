"""Tests of imaging/resample.py: block sums and means, stretching."""

import numpy as np

from cmbjax.imaging import resample


def test_block_mean_by_hand():
  image = np.arange(10, dtype=np.float32).reshape(5, 2, 1)
  found = resample.block_mean(image, (2, 2, 1))
  np.testing.assert_allclose(found[:, 0, 0], [1.5, 5.5, 8.5])
  total = resample.block_sums(image, (2, 2, 1))
  np.testing.assert_allclose(total[:, 0, 0], [6, 22, 17])


def test_stretch_is_linear_and_undoes_block_means_of_a_ramp():
  ramp = np.arange(24, dtype=np.float32)[:, None, None] * np.ones((1, 6, 2))
  coarse = resample.block_mean(np.float32(ramp), (4, 3, 1))
  found = resample.stretch(coarse, (4, 3, 1), ramp.shape)
  np.testing.assert_allclose(found[2:-2], ramp[2:-2], rtol=1e-6)
  assert found[0, 0, 0] == coarse[0, 0, 0]
