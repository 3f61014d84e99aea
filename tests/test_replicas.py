"""A replica in the program ends with the numbers that it has alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmbjax.errors import InputError
from cmbjax.training import loop, optim, replicas, rng

RULE = optim.Plateau(factor=0.1, patience=2, min_delta=1e-4, min_scale=1e-2)


class Tiny(nn.Module):
  """Compiles in a second; has BatchNorm and dropout like the real ones."""

  @nn.compact
  def __call__(self, x, train=False):
    # A bias before BatchNorm has a zero gradient, whose rounding Adam blows up.
    x = nn.Conv(4, (3, 3, 3), strides=4, use_bias=False)(x)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    x = nn.relu(x).reshape(len(x), -1)
    x = nn.Dropout(0.2, deterministic=not train)(x)
    return nn.Dense(1)(x)[:, 0]


def job_of(num_replicas=3, **changes):
  table = tuple(
    replicas.Replica('x', r % 2, r // 2, 1e-2 / (1 + r))
    for r in range(num_replicas)
  )
  settings = {
    'strategy': 'x',
    'replicas': table,
    'pool': np.arange(40),
    'fold_of': np.arange(40) // 2 % 2,
    'epochs': 3,
    'batch': 8,
    'plateau': RULE,
  }
  return loop.Job(**{**settings, **changes})


def start(job):
  return replicas.stack([replicas.initial(Tiny(), r) for r in job.replicas])


def one_epoch(job, toy, backend):
  patches = replicas.on_device(*toy)
  runner = replicas.Runner(Tiny(), backend=backend)
  state = loop.initial_state(job, start(job))
  active = np.ones(len(job.replicas), bool)
  return runner.epoch(
    patches,
    state.learner,
    loop.epoch_order(job, 0),
    loop._keys(job, 0),
    active,
  )


def largest(a, b):
  return max(
    float(jnp.abs(x - y).max())
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))
  )


@pytest.fixture(scope='module')
def together(toy):
  return one_epoch(job_of(), toy, 'loop')


@pytest.mark.parametrize('backend', ['map', 'vmap'])
def test_backends_agree(toy, together, backend):
  learner, loss = one_epoch(job_of(), toy, backend)
  assert largest(learner.weights, together[0].weights) < 1e-5
  np.testing.assert_allclose(loss, together[1], rtol=1e-5)


@pytest.mark.parametrize('r', range(3))
def test_a_replica_alone(toy, together, r):
  whole = job_of()
  alone = job_of(replicas=(whole.replicas[r],))
  learner, loss = one_epoch(alone, toy, 'loop')
  mine = replicas.unstack(together[0].weights, 3)[r]
  assert largest(replicas.unstack(learner.weights, 1)[0], mine) == 0
  assert loss[0] == together[1][r]


def test_an_inactive_replica_stays(toy):
  job = job_of()
  patches = replicas.on_device(*toy)
  state = loop.initial_state(job, start(job))
  before = jax.tree.map(np.asarray, state.learner.weights.params)
  active = np.array([True, False, True])
  for backend in ('loop', 'vmap'):
    runner = replicas.Runner(Tiny(), backend=backend)
    state = loop.initial_state(job, start(job))
    learner, loss = runner.epoch(
      patches,
      state.learner,
      loop.epoch_order(job, 0),
      loop._keys(job, 0),
      active,
    )
    after = replicas.unstack(learner.weights.params, 3)
    old = replicas.unstack(before, 3)
    assert largest(after[1], old[1]) == 0
    assert largest(after[0], old[0]) > 0
    assert np.isnan(loss[1])
    assert np.isfinite(loss[[0, 2]]).all()


@pytest.mark.parametrize('backend', ['loop', 'vmap'])
def test_logits_do_not_depend_on_the_batch(toy, backend):
  job = job_of()
  patches = replicas.on_device(*toy)
  weights = start(job)
  runner = replicas.Runner(Tiny(), backend=backend)
  index = np.arange(11)
  small = runner.logits(patches, weights, index, 4)
  large = runner.logits(patches, weights, index, 16)
  assert small.shape == (3, 11)
  np.testing.assert_allclose(small, large, atol=1e-6)
  crop = toy[0][index][:, 4:20, 4:20, 2:10, None].astype(np.float16)
  for r, one in enumerate(replicas.unstack(weights, 3)):
    direct = Tiny().apply(one._asdict(), crop.astype(np.float32))
    np.testing.assert_allclose(large[r], direct, atol=1e-5)
  assert runner.logits(patches, weights, np.arange(0), 4).shape == (3, 0)


def test_one_seed_starts_all_folds_alike():
  a, b, c = (replicas.initial(Tiny(), r) for r in job_of().replicas)
  assert largest(a, b) == 0  # seed 0, folds 0 and 1
  assert largest(a.params, c.params) > 0  # seed 1


def test_loss_is_weighted_cross_entropy():
  logits, label = jnp.array([0.3, -1.2]), jnp.array([1, 0])
  plain = optax.sigmoid_binary_cross_entropy(logits, label)
  got = replicas.loss_of(logits, label, 3.0)
  np.testing.assert_allclose(got, plain * jnp.array([3.0, 1.0]), rtol=1e-6)


def test_an_unknown_backend():
  with pytest.raises(InputError, match=r'config\.train\.backend.*pmap'):
    replicas.Runner(Tiny(), backend='pmap')


def test_keys_differ_by_step_and_replica():
  keys = loop._keys(job_of(), 0)
  bits = {int(jax.random.bits(k)) for k in keys}
  bits |= {int(jax.random.bits(k)) for k in loop._keys(job_of(), 1)}
  assert len(bits) == 6
  assert int(jax.random.bits(keys[0])) == int(
    jax.random.bits(rng.key(0, 'step', fold=0, epoch=0))
  )
