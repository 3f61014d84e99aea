"""Every builder folder on its dummy data, without TensorFlow."""

import importlib
import pathlib
import sys

import numpy as np
import pytest

from cmbjax.data import examples

HOME = pathlib.Path(__file__).parent


@pytest.mark.parametrize(
  ('name', 'subjects', 'spacing_mm'),
  [
    ('btumor_7t', {'sub-7T001', 'sub-7T002'}, (0.5, 0.5, 2.0)),
    ('btumor_3t', {'sub-3T001', 'sub-3T002'}, (0.5, 0.5, 2.0)),
    ('ccm_3t', {'sub-CCM001', 'sub-CCM002'}, (1.0, 1.0, 1.5)),
  ],
)
def test_both_configs_build_and_read_back(name, subjects, spacing_mm, tmp_path):
  module = f'tfds_builders.{name}.{name}_dataset_builder'
  builder = importlib.import_module(module).Builder
  native, resampled = (
    _built(builder, config, tmp_path) for config in ('native', 'resampled')
  )
  assert 'tensorflow' not in sys.modules
  _check_texts(builder(data_dir=str(tmp_path), config='native').info)
  assert set(native.subject) == subjects
  assert set(native.cohort) == {name}
  assert np.allclose(native.spacing_mm, spacing_mm)
  assert native.key.tolist() == resampled.key.tolist()
  is_same = np.allclose(native.image, resampled.image, atol=2e-3)
  assert is_same is (spacing_mm == (0.5, 0.5, 2.0))  # the grid of 'resampled'


def _built(builder, config, out):
  """Examples of dummy_data, which holds no channel but the SWI."""
  source = HOME / builder.name / 'dummy_data'
  folder = examples.build(builder, source, out, config=config, apart=False)
  assert folder == out / builder.name / config / '1.2.0'
  found = examples.load(folder)
  _check_examples(found, examples.load_scans(folder))
  for path in folder.iterdir():
    assert b'dummy_data' not in path.read_bytes(), path
  return found


def _check_examples(found, scans):
  """Two phantoms of two microbleeds and a mimic each."""
  assert found.image.shape == (6, 24, 24, 12)
  assert found.image.min() >= 0
  assert found.image.max() <= 1
  assert found.label.tolist().count(1) == 4
  assert len(set(found.key.tolist())) == 6
  assert len({image.tobytes() for image in found.image}) == 6
  for key, subject, scan in zip(found.key, found.subject, found.scan):
    assert key.startswith(f'{subject}/{scan}/')
  assert np.array_equal(scans.num_lesions, [2, 2])
  assert np.array_equal(scans.num_missed, [0, 0])
  assert not scans.simulated.any()


def _check_texts(info):
  """README.md, CITATIONS.bib and TAGS.txt are read."""
  from tensorflow_datasets.core import dataset_metadata

  assert info.name in info.description
  assert '10.1007/s10278-018-0146-z' in info.citation
  tags = HOME / info.name / 'TAGS.txt'
  assert set(tags.read_text().split()) <= set(dataset_metadata.valid_tags())
