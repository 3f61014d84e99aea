"""The order of examples: complete, equal in length, a pure function."""

import numpy as np
import pytest

from cmbjax.data import sampler
from cmbjax.errors import InputError
from tests.messages import says

FOLD_OF = np.array([0] * 7 + [1] * 3 + [2] * 5 + [-1] * 4)


@pytest.mark.parametrize('batch', [1, 4, 32])
def test_steps_are_equal_and_nothing_is_dropped(batch):
  steps = -(-12 // batch)  # fold 1 leaves most: 7 + 5
  assert sampler.num_steps(FOLD_OF, batch) == steps
  for fold in range(3):
    index = sampler.order(FOLD_OF, fold, epoch=0, seed=0, batch=batch)
    assert index.shape == (steps, batch)
    assert index.dtype == np.int32
    expected = np.flatnonzero((fold != FOLD_OF) & (FOLD_OF >= 0))
    counts = np.bincount(index.ravel(), minlength=FOLD_OF.size)
    assert np.flatnonzero(counts).tolist() == expected.tolist()
    seen = counts[expected]
    assert seen.max() - seen.min() <= 1


def test_same_arguments_same_order():
  first = sampler.order(FOLD_OF, 1, epoch=3, seed=9, batch=4)
  assert np.array_equal(
    first, sampler.order(FOLD_OF.copy(), 1, epoch=3, seed=9, batch=4)
  )


@pytest.mark.parametrize('change', [{'epoch': 4}, {'seed': 8}])
def test_epoch_and_seed_change_the_order(change):
  usual = {'epoch': 3, 'seed': 9, 'batch': 4}
  assert not np.array_equal(
    sampler.order(FOLD_OF, 1, **usual),
    sampler.order(FOLD_OF, 1, **usual | change),
  )


def test_folds_of_one_size_have_orders_of_their_own():
  fold_of = np.repeat([0, 1], 30)
  first, second = (
    sampler.order(fold_of, fold, epoch=0, seed=0, batch=30) for fold in (0, 1)
  )
  assert not np.array_equal(first - 30, second)


def test_every_place_is_equally_likely_to_come_first():
  firsts = [
    sampler.order(FOLD_OF, 1, epoch=e, seed=0, batch=4)[0, 0]
    for e in range(600)
  ]
  counts = np.bincount(firsts, minlength=FOLD_OF.size)
  members = sampler.training(FOLD_OF, 1)
  assert counts[members].min() > 25  # 50 expected, sd 6.8
  assert counts.sum() == counts[members].sum()


def test_held_out_and_training_part_the_folds():
  for fold in range(3):
    together = [
      *np.flatnonzero(fold == FOLD_OF),
      *sampler.training(FOLD_OF, fold),
    ]
    assert sorted(together) == list(range(15))


def test_a_fold_without_training_examples_is_an_error():
  with says(InputError):
    sampler.order(np.zeros(5, int), 0, epoch=0, seed=0, batch=2)
