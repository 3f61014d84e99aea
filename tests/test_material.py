"""Cohort folders to examples, folds and test subjects."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from cmbjax.data import persons
from cmbjax.errors import InputError
from cmbjax.study import config as configs
from cmbjax.study import material as material_lib
from cmbjax.study import resolve, run
from tests import small_cohorts
from tests.messages import says


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
  study = resolve.study_of(config)
  material = material_lib.gather(study, {'btumor_3t': cohort}, tmp_path)
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
    (
      {'test_subjects.btumor_3t': 1},
      '--config shared_labels=false',
    ),
    ({'shared_labels': False}, ''),
    (
      {'shared_labels': False, 'test_subjects.btumor_3t': 1},
      'config.train.folds',
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
  with says(InputError, message):
    run.study(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_given_weights_hide_what_they_start_from(cohort):
  """What `mid` would start from is neither trained nor there."""
  from cmbjax.study import Strategy

  config = configs.load('configs/finetune.py')
  config.pretrained = ''
  config.cohorts.btumor_3t = str(cohort)
  config.test_subjects.btumor_3t = 1
  config.train.folds = 2
  config.tests = ('btumor_3t',)
  where = ('btumor_3t',)
  for name, one in {
    'mid': Strategy('Mid', where, 'scratch', weights='7t'),
    'other': Strategy('Other', weights='7t'),
    'last': Strategy('Last', where, 'mid'),
  }.items():
    config.study.strategies[name] = configs._fields(one)
    config.strategies = ('last', 'other')
  study = resolve.study_of(config)
  assert [one.name for one in study.given] == ['mid', 'other']
  assert material_lib.check_people(study) == {'btumor_3t': 3}


def test_labels_of_each_cohort_are_its_own(cohort):
  config = configs.load('configs/finetune.py')
  config.cohorts.btumor_3t = config.cohorts.ccm_3t = str(cohort)
  config.shared_labels = False
  config.test_subjects.btumor_3t = 1
  config.train.folds = 2
  given = material_lib.check_people(resolve.study_of(config))
  assert given == {'btumor_3t': 3, 'ccm_3t': 3}


CACHED = """
import pathlib, sys
import jax
from cmbjax.study import run

folder = pathlib.Path(sys.argv[1])
run._compilation_cache(folder)
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


def test_a_person_of_two_cohorts_is_on_one_side(tmp_path):
  """Scanned at 7T and at 3T: who tests one cohort does not train the other."""
  folders = {}
  for name, first in (('btumor_7t', 1), ('btumor_3t', 4)):
    folders[name] = tmp_path / name
    small_cohorts.write_cohort(
      folders[name], subjects=6, first=first, first_seed=20 * first
    )
  config = configs.load('configs/combined.py')
  config.tests = ('btumor_7t', 'btumor_3t')
  config.train.folds = 2
  for name, folder in folders.items():
    config.cohorts[name] = str(folder)
    config.test_subjects[name] = 2
  study = resolve.study_of(config)
  material = material_lib.gather(study, folders, tmp_path / 'run')
  both = {'sub-04', 'sub-05', 'sub-06'}
  of = {
    name: set(material.scans.subject[material.scans.cohort == name])
    for name in folders
  }
  assert of['btumor_7t'] & of['btumor_3t'] == both
  test = set(material.folds.test_subjects)
  assert not test & set(material.folds.fold_of_subject)
  for name in folders:
    assert len(of[name] & test) >= 2
    mine = material.examples.cohort == name
    trained = set(material.examples.subject[mine & (material.fold_of >= 0)])
    assert trained == of[name] - test
  assert len(set(material.scans.scan.tolist())) == 12
  assert len(set(material.examples.key.tolist())) == len(material.examples.key)


@pytest.mark.parametrize(
  ('people', 'shared', 'named'),
  [
    # Real scans: a label is a person, or a label of a cohort is.
    ({'a': ['s1'], 'b': ['s1']}, True, {'a': ['s1'], 'b': ['s1']}),
    ({'a': ['s1'], 'b': ['s1']}, False, {'a': ['a:s1'], 'b': ['b:s1']}),
    # Simulated ones of two seeds are two, of one seed one, whatever is said.
    ({'a': ['s1@1'], 'b': ['s1@2']}, True, {'a': ['a:s1'], 'b': ['b:s1']}),
    ({'a': ['s1@1'], 'b': ['s1@1']}, False, {'a': ['s1'], 'b': ['s1']}),
    ({'a': ['s1@1'], 'b': ['s1']}, True, {'a': ['a:s1'], 'b': ['b:s1']}),
    # A third cohort makes no two people of one.
    (
      {'a': ['s1'], 'b': ['s1@2'], 'c': ['s1'], 'd': ['s1@2']},
      True,
      {'a': ['a:s1'], 'b': ['b:s1'], 'c': ['a:s1'], 'd': ['b:s1']},
    ),
  ],
)
def test_names_in_a_run(people, shared, named):
  given = {
    cohort: {name.partition('@')[0]: name for name in own}
    for cohort, own in people.items()
  }
  found = material_lib.names(given, shared=shared)
  assert {c: list(own.values()) for c, own in found.items()} == named


@pytest.mark.parametrize(
  ('one', 'other', 'shared', 'same'),
  [
    ('a:sub-01', 'a:sub-01', False, True),
    ('a:sub-01', 'b:sub-01', False, False),
    ('a:sub-01', 'b:sub-01', True, True),
    ('a:sub-01', 'sub-01', False, True),  # of a cohort that nobody wrote down
    ('sub-01@4', 'sub-01@4', False, True),  # by seed, whatever labels mean
    ('sub-01@4', 'a:sub-01', True, False),
  ],
)
def test_identity_is_cohort_and_label(one, other, shared, same):
  for some, others in ((one, other), (other, one)):
    assert persons.in_both([some], [others], shared=shared) == [some] * same
