"""Cohort folders to examples, folds and test subjects."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from cmbjax import config as configs
from cmbjax import study
from cmbjax.errors import InputError
from tests import small_cohorts


@pytest.fixture(scope='module')
def cohort(tmp_path_factory):
  folder = tmp_path_factory.mktemp('cohort')
  small_cohorts.write_cohort(folder, subjects=3)
  return folder


@pytest.mark.parametrize(
  ('asked', 'tested', 'said'),
  [(1, 1, '2 of 3 subjects are left out'), (3, 3, ''), (9, 3, '')],
)
def test_a_cohort_that_is_only_tested(
  cohort, tmp_path, capsys, asked, tested, said
):
  """Too few are left for folds: they are used for nothing, and that is said."""
  config = configs.load('configs/finetune.py')
  config.strategies, config.tests = ('7t',), ('btumor_3t',)
  config.test_subjects.btumor_3t = asked
  material = study.gather(config, {'btumor_3t': cohort}, tmp_path)
  assert len(material.folds.test_subjects) == tested
  assert not material.folds.fold_of_subject
  for rows in (material.examples, material.scans, material.lesions):
    assert set(rows.subject.tolist()) == set(material.folds.test_subjects)
  assert len(material.fold_of) == len(material.examples.key)
  assert np.all(material.fold_of == -1)
  printed = capsys.readouterr().err
  assert said in printed
  assert bool(said) == ('left out' in printed)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({}, 'share 3 subjects: sub-01, .*--config.shared_labels=false'),
    ({'shared_labels': False}, r'subjects \(3\) are held out'),
    (
      {'shared_labels': False, 'test_subjects.btumor_3t': 1},
      '2 subjects .*config.train.folds',
    ),
  ],
)
def test_people_are_checked_before_anything_is_made(
  cohort, tmp_path, values, message
):
  """Not after the scans of 7T are simulated and a hundred are searched."""
  config = configs.load('configs/finetune.py')
  config.cohorts.btumor_3t = config.cohorts.ccm_3t = str(cohort)
  config.pretrained = 'train'  # 7T would be simulated
  config.update_from_flattened_dict(values)
  with pytest.raises(InputError, match=message):
    study.run(config, tmp_path / 'run')
  made = {path.name for path in (tmp_path / 'run').iterdir()}
  assert not made & {'cohorts', 'examples', 'folds.json'}


def test_labels_of_each_cohort_are_its_own(cohort):
  config = configs.load('configs/finetune.py')
  config.cohorts.btumor_3t = config.cohorts.ccm_3t = str(cohort)
  config.shared_labels = False
  config.test_subjects.btumor_3t = 1
  config.train.folds = 2
  study.check_given(config)


CACHED = """
import pathlib, sys
import jax
from cmbjax import study

folder = pathlib.Path(sys.argv[1])
study._compilation_cache(folder)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
print(float(jax.jit(lambda x: x * 3)(2.0)))
for path in folder.rglob('*-cache'):
  path.write_bytes(path.read_bytes()[:10])
"""


def test_a_compiled_program_cut_short_is_made_again(tmp_path):
  """As a full disk leaves it; nobody has to read of that."""
  left_out = 'JAX_COMPILATION_CACHE_DIR'
  here = {k: v for k, v in os.environ.items() if k != left_out}
  here['PYTHONPATH'] = str(pathlib.Path(__file__).parents[1])
  for _ in range(2):
    done = subprocess.run(
      [sys.executable, '-c', CACHED, tmp_path],
      env=here,
      capture_output=True,
      text=True,
      check=False,
    )
    assert (done.stdout, done.stderr) == ('6.0\n', '')
    assert list(tmp_path.rglob('*-cache'))
