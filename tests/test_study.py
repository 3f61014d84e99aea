"""Cohort folders to examples, folds and test subjects."""

import numpy as np
import pytest

from cmbjax import config as configs
from cmbjax import study
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
