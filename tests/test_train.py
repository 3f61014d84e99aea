"""Where a training starts, and by what the points of a sweep are compared."""

import types

import numpy as np
import pytest

from cmbjax import config as configs
from cmbjax import study, trainings
from cmbjax.training import held_out, loop, replicas
from cmbjax.training.replicas import Patches, Replica, Weights

LABEL = np.array([1, 0, 0, 0, 1, 1, 0, 0], np.int8)
FOLD_OF = np.array([0, 0, 0, 0, 1, 1, 1, 1])


def job_of(strategy, rows):
  table = tuple(Replica(strategy, fold, seed, 1e-3) for fold, seed in rows)
  return loop.Job(strategy, table, np.arange(8), FOLD_OF, 1, 4)


def planned(strategy, rows, **settings):
  config = configs.load('configs/finetune.py')
  config.train.update(settings)
  return trainings.Planned(job_of(strategy, rows), config, strategy, None)


def weights_of(rows):
  """Each row knows which one it is, and has the bias of an output."""
  params = {'where': np.arange(rows) + 100.0, 'bias': np.zeros((rows, 1))}
  return Weights(params, {})


@pytest.fixture
def fresh(monkeypatch):
  monkeypatch.setattr(
    replicas,
    'first_weights',
    lambda network, table, channels: weights_of(len(table)),
  )


@pytest.mark.parametrize(
  ('of_source', 'of_job', 'begins'),
  [
    # Fold k goes on from fold k, and seed s from seed s where there is one.
    ([(0, 0), (1, 0)], [(1, 0), (0, 0)], [1, 0]),
    ([(0, 0), (1, 0), (0, 5), (1, 5)], [(0, 5), (1, 0)], [2, 1]),
    # Fewer seeds than are trained now: they take turns.
    ([(0, 0), (1, 0)], [(1, 1), (0, 2)], [1, 0]),
    ([(0, 8), (0, 9), (1, 8)], [(0, 0), (0, 1), (1, 3)], [0, 1, 2]),
    # Fewer folds: any of them, by seed.
    ([(0, 0), (1, 1)], [(4, 1), (4, 0)], [1, 0]),
  ],
)
def test_a_fold_goes_on_from_its_own(fresh, of_source, of_job, begins):
  source = trainings.Trained(
    weights_of(len(of_source)), job_of('7t', of_source).replicas, 'f'
  )
  one = planned('finetuned', of_job)
  found = trainings.first_weights(None, one, None, source)
  np.testing.assert_array_equal(found.params['where'] - 100, begins)


def test_the_first_output_is_the_share_of_what_a_row_trains_on(fresh):
  """The fold that is held out has no say in it."""
  examples = types.SimpleNamespace(label=LABEL)
  material = types.SimpleNamespace(examples=examples)
  one = planned('7t', [(0, 0), (1, 0)], output_bias='prior')
  found = trainings.first_weights(None, one, material, None)
  # Without fold 0: 2 of 4; without fold 1: 1 of 4.
  np.testing.assert_allclose(
    found.params['bias'][:, 0], [0, np.log(1 / 3)], atol=1e-6
  )
  plain = planned('7t', [(0, 0)], output_bias='zero')
  zero = trainings.first_weights(None, plain, material, None)
  np.testing.assert_array_equal(zero.params['bias'], 0)


def test_held_out_loss_is_the_mean_cross_entropy(monkeypatch):
  likelihood = np.linspace(0.05, 0.9, 8)
  likelihood[0] = 0.0  # a microbleed: the logarithm is cut off
  monkeypatch.setattr(held_out, 'predict', lambda *_, **__: likelihood)
  one = planned('7t', [(0, 0)])
  patches = Patches(None, np.concatenate([LABEL[:0], LABEL]))
  found = trainings.held_out_loss(
    one, trainings.Trained(None, (), 'f'), patches, None
  )
  each = [
    -np.log(max(p if y else 1 - p, 1e-12)) for p, y in zip(likelihood, LABEL)
  ]
  assert found == pytest.approx(np.mean(each))


def test_the_point_with_the_smallest_loss_is_chosen(monkeypatch, tmp_path):
  """Of each strategy for itself; nothing is compared without a sweep."""
  loss = {'a1': 0.5, 'a2': 0.3, 'a3': 0.4, 'b1': 0.2, 'b2': 0.6}
  monkeypatch.setattr(
    trainings, 'held_out_loss', lambda one, *_: loss[one.fingerprint]
  )
  written, published = [], []
  monkeypatch.setattr(trainings, 'write_sweep', lambda *a: written.append(a))
  monkeypatch.setattr(
    trainings, 'publish', lambda _, one: published.append(one.fingerprint)
  )

  def one(mark):
    return planned({'a': '7t', 'b': 'scratch'}[mark[0]], [(0, 0)])._replace(
      fingerprint=mark
    )

  points = {(one(m).job.strategy, m[1]): one(m) for m in loss}
  rest = (dict.fromkeys(loss), None, lambda config: None, tmp_path)
  chosen = study.choose(points, *rest)
  assert {n: p.fingerprint for n, p in chosen.items()} == {
    '7t': 'a2',
    'scratch': 'b1',
  }
  assert published == ['a2', 'b1']
  assert written[0][2] == loss
  alone = {key: p for key, p in points.items() if key[1] == '1'}
  chosen = study.choose(alone, *rest)
  assert {p.fingerprint for p in chosen.values()} == {'a1', 'b1'}
  assert len(written) == 1
