"""The builder of btumor_3t on its dummy data."""

import pathlib

import numpy as np

from tfds_builders import checks
from tfds_builders.btumor_3t.btumor_3t_dataset_builder import Builder


def test_both_configs_build_and_read_back(tmp_path):
  home = pathlib.Path(__file__).parent
  found = checks.check_builder(Builder, home, tmp_path)
  native, resampled = found['native'], found['resampled']
  assert set(native.subject) == {'sub-3T001', 'sub-3T002'}
  assert set(native.cohort) == {'btumor_3t'}
  assert np.allclose(native.spacing_mm, (0.5, 0.5, 2.0))
  assert native.key.tolist() == resampled.key.tolist()
  assert np.allclose(native.image, resampled.image, atol=2e-3) is True
