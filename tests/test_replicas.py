"""A replica in the program ends with the numbers that it has alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmbjax import workers
from cmbjax.data import augment
from cmbjax.errors import InputError
from cmbjax.models import resnet
from cmbjax.training import loop, replicas, rng
from cmbjax.training.runner import Runner
from tests.messages import says


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
    replicas.Replica(
      'x',
      fold=r % 2,
      seed=r // 2,
      learning_rate=1e-2 / (1 + r),
      min_learning_rate=1e-4 / (1 + r),
      patience=2,
    )
    for r in range(num_replicas)
  )
  settings = {
    'strategy': 'x',
    'replicas': table,
    'pool': np.arange(40),
    'fold_of': np.arange(40) // 2 % 2,
    'epochs': 3,
    'batch': 8,
  }
  return loop.Job(**{**settings, **changes})


def start(job):
  return replicas.first_weights(Tiny(), job.replicas)


def one_epoch(job, toy, backend, active=None, **options):
  """Weights [R, ...] and mean loss [R] after the first epoch."""
  patches = replicas.on_device(*toy)
  runner = Runner(Tiny(), backend=backend, **options)
  num = len(job.replicas)
  state = loop.initial_state((job,), start(job), runner)
  values = loop.values_of((job,), start(job), runner)
  active = loop.active_rows((job,), state, 0) if active is None else active
  state = loop.run_epoch(
    (job,), state, patches, runner, values=values, epoch=0, active=active
  )
  weights = jax.tree.map(lambda a: np.asarray(a)[:num], state.learner.weights)
  return weights, np.asarray(state.course.total)[:num] / job.steps


def largest(a, b):
  return max(
    float(jnp.abs(x - y).max())
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))
  )


def test_threads_take_turns(toy, together, monkeypatch):
  """No replica is left to the end, when only one core would have work."""
  monkeypatch.setattr(workers, 'cores', lambda: 1)
  turns, jit = [], jax.jit

  def counted(step, **how):
    call = jit(step, **how)

    def run(*args):
      if 'donate_argnums' in how:
        turns.append(tuple(args[4].key))  # of a replica
      return call(*args)

    return run

  monkeypatch.setattr(jax, 'jit', counted)
  job = job_of()
  weights, _ = one_epoch(job, toy, 'loop')
  assert turns == [tuple(key) for key in loop.step_keys(job, 0)] * job.steps
  assert largest(weights, together[0]) == 0


@pytest.fixture(scope='module')
def together(toy):
  return one_epoch(job_of(), toy, 'loop')


@pytest.mark.parametrize(
  ('backend', 'options'),
  [('map', {}), ('vmap', {}), ('vmap', {'width': 2}), ('shard', {})],
)
def test_backends_agree(toy, together, backend, options):
  weights, loss = one_epoch(job_of(), toy, backend, **options)
  assert largest(weights, together[0]) < 1e-6
  np.testing.assert_allclose(loss, together[1], rtol=1e-5)


@pytest.mark.parametrize('r', range(3))
def test_a_replica_alone(toy, together, r):
  whole = job_of()
  alone = job_of(replicas=(whole.replicas[r],))
  weights, loss = one_epoch(alone, toy, 'loop')
  mine = replicas.unstack(together[0], 3)[r]
  assert largest(replicas.unstack(weights, 1)[0], mine) == 0
  assert loss[0] == together[1][r]


@pytest.mark.parametrize('backend', ['loop', 'vmap'])
def test_an_inactive_replica_stays(toy, backend):
  job = job_of()
  active = np.array([True, False, True])
  weights, loss = one_epoch(job, toy, backend, active)
  after = replicas.unstack(weights.params, 3)
  old = replicas.unstack(start(job).params, 3)
  assert largest(after[1], old[1]) == 0
  assert largest(after[0], old[0]) > 0
  assert loss[1] == 0
  assert (loss[[0, 2]] > 0).all()


@pytest.mark.parametrize('backend', ['loop', 'vmap'])
def test_logits_do_not_depend_on_the_batch(toy, backend):
  job = job_of()
  patches = replicas.on_device(*toy)
  weights = start(job)
  runner = Runner(Tiny(), backend=backend)
  weights = runner.place(weights)
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
  logits, label = jnp.array([0.3, -1.2]), jnp.array([1.0, 0.0])
  plain = optax.sigmoid_binary_cross_entropy(logits, label)
  weight = replicas.class_weight(label, 3.0)
  got = weight * replicas.find_loss('cross_entropy')(logits, label)
  np.testing.assert_allclose(got, plain * jnp.array([3.0, 1.0]), rtol=1e-6)


class Bare(nn.Module):
  """BatchNorm of flax, and no dropout."""

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Conv(2, (3, 3, 3), strides=4)(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    return nn.Dense(1)(nn.relu(x).reshape(len(x), -1))[:, 0]


def one_step(network, toy, replica, backend):
  """Loss of the one step of an epoch, and what the network saw in it."""
  job = job_of(
    replicas=(replica,), pool=np.arange(16), fold_of=np.arange(16) // 8
  )
  patches = replicas.on_device(*toy)
  fresh = replicas.first_weights(network, job.replicas)
  moved = jax.tree.map(lambda leaf: leaf + 0.3, fresh.batch_stats)
  weights = replicas.Weights(fresh.params, moved)
  runner = Runner(network, backend=backend)
  state = loop.initial_state((job,), weights, runner)
  values = loop.values_of((job,), weights, runner)
  state = loop.run_epoch(
    (job,),
    state,
    patches,
    runner,
    values=values,
    epoch=0,
    active=np.ones(1, bool),
  )
  index = loop.epoch_order(job, 0)[0, 0]
  key = jax.random.fold_in(rng.key(replica.seed, 'step', fold=0, epoch=0), 0)
  turns, drops = jax.random.split(key)
  seen = jax.vmap(augment.augment, (0, 0, None))(
    jax.random.split(turns, len(index)),
    patches.image[index].astype(jnp.float32),
    replica.augmentation,
  )
  alone = replicas.unstack(weights, 1)[0]._asdict()
  label = np.asarray(patches.label[index], np.float32)
  return float(state.course.total[0]), alone, seen, drops, label


@pytest.mark.parametrize('backend', ['loop', 'vmap'])
@pytest.mark.parametrize('strength', [0.0, 0.5, 1.0])
def test_a_step_by_hand(toy, backend, strength):
  """What is learned from is augmented, dropped out and normalized."""
  replica = job_of().replicas[0]._replace(augmentation=strength)
  loss, weights, seen, drops, label = one_step(Tiny(), toy, replica, backend)
  logits, _ = Tiny().apply(
    weights, seen, train=True, rngs={'dropout': drops}, mutable=['batch_stats']
  )
  want = optax.sigmoid_binary_cross_entropy(logits, label).mean()
  assert loss == pytest.approx(float(want), rel=1e-5)


@pytest.mark.parametrize('network', [Bare(), resnet.ResNet(((1, 4),), head=())])
def test_a_frozen_norm_uses_its_own_statistics(toy, network):
  """In the loss that is learned from too, as it will when it is tested."""
  replica = job_of().replicas[0]
  for frozen, train in (('', True), ('.', False)):
    loss, weights, seen, _, label = one_step(
      network, toy, replica._replace(frozen=frozen), 'loop'
    )
    losses = {}
    for as_in_training in (True, False):
      logits, _ = network.apply(
        weights, seen, train=as_in_training, mutable=['batch_stats']
      )
      one = optax.sigmoid_binary_cross_entropy(logits, label)
      losses[as_in_training] = float(one.mean())
    assert loss == pytest.approx(losses[train], rel=1e-5)
    assert loss != pytest.approx(losses[not train], rel=1e-3)


def test_augmentation_alone_changes_a_row(toy, together):
  table = list(job_of().replicas)
  table[2] = table[2]._replace(augmentation=0.0)
  weights, _ = one_epoch(job_of(replicas=tuple(table)), toy, 'loop')
  rows = replicas.unstack(weights, 3)
  plain = replicas.unstack(together[0], 3)
  assert largest(rows[1], plain[1]) == 0
  assert largest(rows[2].params, plain[2].params) > 1e-4


def test_rows_of_records_of_another_version():
  row = job_of().replicas[1]._replace(frozen='norm')
  assert replicas.from_record([row._asdict()]) == (row,)
  for wrong in ({**row._asdict(), 'momentum': 0.9}, {'fold': 1}):
    with says(InputError, 'weights.json'):
      replicas.from_record([wrong])


def test_an_unknown_backend():
  with says(InputError, 'config.train.backend'):
    Runner(Tiny(), backend='pmap')


def test_keys_differ_by_epoch_and_replica():
  keys = [tuple(k) for epoch in (0, 1) for k in loop.step_keys(job_of(), epoch)]
  assert len(set(keys)) == 6
  expected = jax.random.key_data(rng.key(0, 'step', fold=0, epoch=0))
  np.testing.assert_array_equal(keys[0], expected)


def test_rows_steer_their_own_step(toy, together):
  """Class weight, decay and augmentation of one row touch no other."""
  table = list(job_of().replicas)
  table[1] = table[1]._replace(positive_weight=4.0)
  table[2] = table[2]._replace(weight_decay=0.5, augmentation=0.0)
  job = job_of(replicas=tuple(table))
  for backend in ('loop', 'vmap'):
    weights, _ = one_epoch(job, toy, backend)
    for r, (new, old) in enumerate(
      zip(replicas.unstack(weights, 3), replicas.unstack(together[0], 3))
    ):
      assert (largest(new, old) < 1e-6) == (r == 0)


def test_frozen_layers_stay_bit_for_bit(toy, together):
  table = list(job_of().replicas)
  table[1] = table[1]._replace(frozen='Conv_0|BatchNorm_0', weight_decay=0.1)
  job = job_of(replicas=tuple(table))
  before = replicas.unstack(start(job), 3)[1]
  for backend in ('loop', 'vmap', 'shard'):
    weights, _ = one_epoch(job, toy, backend)
    rows = replicas.unstack(weights, 3)
    after = rows[1]
    for name in ('Conv_0', 'BatchNorm_0'):
      assert largest(after.params[name], before.params[name]) == 0
    assert largest(after.batch_stats, before.batch_stats) == 0
    assert largest(after.params['Dense_0'], before.params['Dense_0']) > 0
    assert largest(rows[0], replicas.unstack(together[0], 3)[0]) < 1e-6


def test_a_frozen_name_that_fits_nothing():
  table = (job_of().replicas[0]._replace(frozen='stage_z'),)
  with says(InputError, 'stage_z Dense_0'):
    replicas.trainable(table, start(job_of(replicas=table)))


def test_bfloat16_trains(toy):
  """The layers are half as wide; parameters and statistics stay float32."""
  job = job_of(1, pool=np.arange(16), fold_of=np.arange(16) // 2 % 2)
  patches, found = replicas.on_device(*toy), []
  for dtype in (jnp.float32, jnp.bfloat16):
    network = resnet.ResNet(((1, 4),), head=(), dtype=dtype)
    runner = Runner(network, backend='vmap')
    weights = replicas.first_weights(network, job.replicas)
    state = loop.initial_state((job,), weights, runner)
    values = loop.values_of((job,), weights, runner)
    active = np.ones(1, bool)
    state = loop.run_epoch(
      (job,), state, patches, runner, values=values, epoch=0, active=active
    )
    leaves = jax.tree.leaves(state.learner.weights)
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    found.append(float(state.course.total[0]))
  assert found[0] != found[1]
  assert found[0] == pytest.approx(found[1], rel=0.05)


def test_the_first_bias_is_the_logit_of_the_share():
  """Only of the one output; the other leaves stay."""
  leaves = {
    'dense': {'bias': np.zeros((2, 4), 'f4'), 'kernel': np.ones((2, 1), 'f4')},
    'out': {'bias': np.zeros((2, 1), 'f4')},
  }
  found = replicas.with_output_bias(replicas.Weights(leaves, {}), [0.5, 0.2])
  bias = found.params['out']['bias']
  np.testing.assert_allclose(1 / (1 + np.exp(-bias)), [[0.5], [0.2]], rtol=1e-6)
  assert found.params['dense']['bias'] is leaves['dense']['bias']
  assert found.params['dense']['kernel'] is leaves['dense']['kernel']


def test_a_whole_network_begins_with_the_share():
  rows = tuple(replicas.Replica('x', fold, 0, 1e-3) for fold in range(2))
  network = Tiny()
  weights = replicas.first_weights(network, rows)
  told = replicas.with_output_bias(weights, [0.1, 0.4])
  changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), weights, told)
  assert sum(jax.tree.leaves(changed)) == 1
