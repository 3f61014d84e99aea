"""Networks from outside: by name, with their own names, or refused."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmbjax import models
from cmbjax.data import augment
from cmbjax.errors import InputError
from cmbjax.models import contract
from cmbjax.training import loop, replicas
from cmbjax.training.runner import Runner
from tests.messages import says
from tests.test_replicas import Tiny, job_of, largest

HERE = 'tests.test_contract:'
X = np.random.default_rng(0).random((3, *augment.SEEN, 1), np.float32)


class Column(nn.Module):
  """Logits [B, 1]; takes one of the settings, and no data axis."""

  bn_momentum: float = 0.5

  @nn.compact
  def __call__(self, x, train):
    x = nn.Conv(2, (3, 3, 3), strides=8)(x)
    x = nn.BatchNorm(not train, momentum=self.bn_momentum)(x)
    x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2, 3)))
    return nn.Dense(1)(x)


class Flat(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    return nn.Dense(2)(x.reshape(len(x), -1))


class Keeps(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    self.variable('cache', 'seen', jnp.zeros, ())
    return nn.Dense(1)(x.reshape(len(x), -1))


class Noisy(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    y = nn.Dense(1)(x.reshape(len(x), -1))
    return y + jax.random.normal(self.make_rng('noise'), y.shape)


class Blind(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(1)(x.reshape(len(x), -1))


class Needy(nn.Module):
  classes: int

  @nn.compact
  def __call__(self, x, train):
    return x


class Unlearned(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    return x.mean((1, 2, 3, 4))


class Whole(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    return nn.Dense(1)(x.reshape(len(x), -1)).astype(int)


class ThreeChannels(Flat):
  @nn.compact
  def __call__(self, x, train):
    assert x.shape[-1] == 3
    return nn.Dense(1)(x.reshape(len(x), -1))


made = Column(0.25)


def nothing():
  return {}


def factory(dtype=None):
  return Column(0.75)


def test_patches_are_those_of_the_augmenter():
  assert contract.SEEN == augment.SEEN


@pytest.mark.parametrize('name', ['resnet_v4', 'fcnn', HERE + 'Column'])
def test_patches_of_another_shape_are_refused(name):
  """Averages over voxels would take them, and give other numbers."""
  network = models.get_model(name)
  run = functools.partial(network.init_with_output, jax.random.key(0))
  for shape in ((2, 24, 24, 12, 1), (2, 16, 16, 8), (16, 16, 8, 1)):
    with says(InputError, f'{shape} (B, 16, 16, 8, C)'):
      jax.eval_shape(functools.partial(run, train=False), jnp.zeros(shape))


def test_an_own_network_is_what_it_is_alone():
  """Names, first values, dropout and statistics; [B, 1] becomes [B]."""
  network, plain = models.get_model(HERE + 'Column'), Column()
  key = jax.random.key(3)
  variables = network.init(key, X, train=False)
  want = plain.init(key, X, train=False)
  assert jax.tree.structure(variables) == jax.tree.structure(want)
  assert largest(variables, want) == 0
  options = {'rngs': {'dropout': key}, 'mutable': ['batch_stats']}
  got, new = network.apply(variables, X, train=True, **options)
  expected, moved = plain.apply(variables, X, train=True, **options)
  np.testing.assert_array_equal(got, expected[:, 0])
  assert got.shape == (3,)
  assert largest(new, moved) == 0
  still = network.apply(variables, X)
  np.testing.assert_array_equal(
    still, plain.apply(variables, X, train=False)[:, 0]
  )


@pytest.mark.parametrize(
  ('name', 'momentum'), [('Column', 0.9), ('made', 0.25), ('factory', 0.75)]
)
def test_settings_only_where_they_are_taken(name, momentum):
  network = models.get_model(
    HERE + name, bn_momentum=0.9, dtype=jnp.float32, convolution='native'
  )
  assert network.network.bn_momentum == momentum


@pytest.mark.parametrize(
  'name',
  [
    *('Flat', 'Keeps', 'Noisy', 'Blind', 'Needy', 'nothing', 'X'),
    *('ThreeChannels', 'Unlearned', 'Whole', 'Gone'),
  ],
)
def test_what_is_no_network_is_refused(name):
  with says(InputError, f'config.model.name {HERE}{name}'):
    models.get_model(HERE + name)


def test_channels_are_those_of_the_study():
  models.get_model(HERE + 'ThreeChannels', channels=3)


def test_a_batch_is_split_only_where_the_network_knows():
  network = models.get_model('resnet_v3')
  assert contract.split_over(network, 'data').data_axis == 'data'
  for one in (Tiny(), models.get_model(HERE + 'Column')):
    with says(InputError):
      contract.split_over(one, 'data')
  own = contract.Own(models.get_model('resnet_v3'))
  assert contract.split_over(own, 'data').network.data_axis == 'data'


@pytest.mark.parametrize('backend', ['loop', 'map', 'vmap', 'shard'])
def test_an_own_network_trains(toy, tmp_path, backend):
  network = models.get_model(HERE + 'Column', bn_momentum=0.9)
  job = job_of(epochs=2)
  weights = loop.train(
    job,
    replicas.on_device(*toy),
    Runner(network, backend=backend),
    folder=tmp_path,
    fingerprint='f',
    start=lambda: replicas.first_weights(network, job.replicas),
  )
  first = replicas.first_weights(network, job.replicas)
  assert set(weights.params) == {'Conv_0', 'BatchNorm_0', 'Dense_0'}
  assert all(
    (np.abs(a - b).reshape(3, -1).max(1) > 0).all()
    for a, b in zip(
      jax.tree.leaves(weights.params), jax.tree.leaves(first.params)
    )
    if np.ndim(a) > 2
  )
