"""Subjects stay on one side; the draw depends on the cohort and the seed."""

import json

import numpy as np
import pytest

from cmbjax.data import folds
from cmbjax.errors import InputError
from tests.messages import says

SUBJECTS = [f'sub-3T{n:03d}' for n in range(1, 12)]


def test_every_subject_is_in_one_fold_and_folds_differ_by_one_subject():
  rows = [s for n, s in enumerate(SUBJECTS) for _ in range(n + 1)]
  fold_of = folds.assign(rows, 4, seed=3, cohort='btumor_3t')
  by_subject = {}
  for subject, fold in zip(rows, fold_of.tolist()):
    by_subject.setdefault(subject, set()).add(fold)
  assert all(len(some) == 1 for some in by_subject.values())
  sizes = np.bincount([min(some) for some in by_subject.values()])
  assert sizes.tolist() == [3, 3, 3, 2]


def test_the_draw_does_not_depend_on_order_or_repeats():
  rows = np.random.default_rng(0).permutation(SUBJECTS * 3)
  once = dict(zip(SUBJECTS, folds.assign(SUBJECTS, 5, seed=1)))
  again = folds.assign(rows, 5, seed=1)
  assert [once[s] for s in rows] == again.tolist()


@pytest.mark.parametrize('change', [{'seed': 2}, {'cohort': 'b'}])
def test_the_draw_depends_on_seed_and_cohort(change):
  usual = {'seed': 1, 'cohort': 'a'}
  assert (
    folds.assign(SUBJECTS, 5, **usual).tolist()
    != folds.assign(SUBJECTS, 5, **usual | change).tolist()
  )
  assert folds.hold_out(SUBJECTS, 5, **usual) != folds.hold_out(
    SUBJECTS, 5, **usual | change
  )


def test_a_cohort_has_the_same_folds_alone_and_with_another():
  others = [f'sub-7T{n:03d}' for n in range(9)]
  both = folds.make_folds(
    {'btumor_7t': others, 'btumor_3t': SUBJECTS},
    3,
    num_test={'btumor_3t': 4},
    seed=5,
  )
  alone = folds.make_folds(
    {'btumor_3t': SUBJECTS}, 3, num_test={'btumor_3t': 4}, seed=5
  )
  assert both.of(SUBJECTS).tolist() == alone.of(SUBJECTS).tolist()
  assert both.test_subjects == alone.test_subjects
  assert both.hash != alone.hash


def test_held_out_subjects_are_in_no_fold():
  made = folds.make_folds(
    {'btumor_3t': SUBJECTS, 'ccm_3t': ['sub-C1', 'sub-C2']},
    2,
    num_test={'btumor_3t': 5, 'ccm_3t': 2},
    seed=0,
  )
  fold_of = made.of([*SUBJECTS, 'sub-C1', 'sub-C2'])
  assert (fold_of == -1).sum() == 7
  assert set(fold_of[-2:]) == {-1}
  assert set(made.test_subjects) == folds.hold_out(
    SUBJECTS, 5, seed=0, cohort='btumor_3t'
  ) | {'sub-C1', 'sub-C2'}


def test_json_round_trip_and_hash():
  made = folds.make_folds({'a': SUBJECTS}, 3, num_test={'a': 2}, seed=7)
  content = json.loads(json.dumps(made.to_json()))
  assert made.hash == content['hash']
  assert content['fold_of_subject'] == dict(made.fold_of_subject)
  assert len(made.hash) == 16


def test_unknown_subjects_are_named():
  made = folds.make_folds({'a': SUBJECTS}, 3, num_test={}, seed=7)
  with says(InputError):
    made.of([SUBJECTS[0], 'sub-other'])


@pytest.mark.parametrize(
  ('num_subjects', 'num_folds', 'message'),
  [
    (1, 2, 'ccm_3t'),
    (3, 5, 'config.train.folds'),
    (3, 1, 'config.train.folds'),
  ],
)
def test_too_few_subjects(num_subjects, num_folds, message):
  with says(InputError, message):
    folds.assign(SUBJECTS[:num_subjects], num_folds, seed=0, cohort='ccm_3t')


def test_too_many_test_subjects():
  with says(InputError):
    folds.hold_out(SUBJECTS, 12, seed=0, cohort='btumor_3t')
