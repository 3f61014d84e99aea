"""What the test of every builder folder asks, without TensorFlow."""

import pathlib
import sys

import numpy as np

from cmbjax.data import examples


def check_builder(builder_class: type, home: pathlib.Path, out: pathlib.Path):
  """Builds all configs of `home`/dummy_data to `out` and reads them back.

  Args:
    builder_class: the `Builder` of the folder.
    home: the folder.
    out: an empty folder.

  Returns:
    config name -> Examples.
  """
  found = {}
  for config in builder_class.BUILDER_CONFIGS:
    if len(config.channels) > 1:  # dummy_data holds SWI only
      continue
    folder = examples.build(
      builder_class, home / 'dummy_data', out, config=config.name, apart=False
    )
    assert folder == out / home.name / config.name / '1.2.0'
    found[config.name] = examples.load(folder)
    _check_examples(found[config.name], examples.load_scans(folder))
    for path in folder.iterdir():
      assert b'dummy_data' not in path.read_bytes(), path
  assert 'tensorflow' not in sys.modules
  _check_texts(builder_class(data_dir=str(out), config='native').info)
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
  tags = pathlib.Path(__file__).parent / info.name / 'TAGS.txt'
  assert set(tags.read_text().split()) <= set(dataset_metadata.valid_tags())
