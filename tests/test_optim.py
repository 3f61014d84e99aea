"""Rates: optax's own schedules, exact for each replica; any optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmbjax.errors import InputError
from cmbjax.training import optim
from cmbjax.training.replicas import Replica
from tests.messages import says

ROW = Replica('x', 0, 0, 1e-2, min_learning_rate=1e-4, patience=2)


def scales(values, rows=(ROW,)):
  """values [epochs, R] -> scales [epochs, R]."""
  state, out = optim.plateau_init(len(rows)), []
  for row in np.asarray(values, np.float32):
    state = optim.plateau_step(rows, state, row)
    out.append(state.scale)
  return np.array(out)


def keras(values, row):
  """Reference: keras.callbacks.ReduceLROnPlateau(mode='min', cooldown=0)."""
  best, wait, scale, out = np.inf, 0, 1.0, []
  for value in values:
    if np.isfinite(value) and value < best - row.min_delta:
      best, wait = value, 0
    else:
      wait += 1
      if wait >= row.patience:
        least = row.min_learning_rate / row.learning_rate
        scale, wait = max(scale * row.plateau_factor, least), 0
    out.append(scale)
  return out


def test_a_flat_loss_is_cut_at_every_second_epoch_down_to_the_floor():
  got = scales([[1.0]] * 8)[:, 0]
  np.testing.assert_allclose(
    got, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01], rtol=1e-6
  )


def test_rows_of_every_kind_agree_with_keras():
  """Each has its own settings, and sees no other."""
  rows = (
    ROW,
    ROW._replace(plateau_factor=0.5, patience=3, min_learning_rate=3e-3),
    ROW._replace(min_delta=0.0),
    ROW._replace(min_learning_rate=1.0),  # above the rate: never a cut
  )
  rng = np.random.default_rng(0)
  values = rng.normal(1, 0.3, (60, len(rows))).cumsum(0)
  values = (values / np.arange(1, 61)[:, None]).astype(np.float32)
  values[7], values[20, 0] = np.nan, np.inf
  got = scales(values, rows)
  for r, row in enumerate(rows[:3]):
    np.testing.assert_allclose(got[:, r], keras(values[:, r], row), rtol=1e-5)
    np.testing.assert_array_equal(
      got[:, r], scales(values[:, r : r + 1], [row])[:, 0]
    )
  assert (got[:, 3] == 1).all()
  assert len(np.unique(got[:, 1])) > 2


def test_other_schedules_have_no_plateau():
  rows = (ROW, ROW._replace(schedule='cosine'))
  got = scales(np.ones((5, 2)), rows)
  assert got[-1, 0] < 1
  assert (got[:, 1] == 1).all()


@pytest.mark.parametrize(
  ('schedule', 'at'),
  [  # rate at steps 0, 10, 50 and 99 of 100, by hand
    ('plateau', [1e-2] * 4),
    ('constant', [1e-2] * 4),
    ('cosine', [1e-2, 0.0097577, 0.00505, 1.0244e-4]),
    ('warmup_cosine', [1e-4, 0.00505, 0.0069443, 1.0382e-4]),
  ],
)
def test_rates_by_hand(schedule, at):
  row = ROW._replace(schedule=schedule, warmup=0.2)
  got = optim.rates(row, 100)
  assert got.dtype == np.float32
  np.testing.assert_allclose(got[[0, 10, 50, 99]], at, rtol=1e-3)
  assert got.min() >= np.float32(row.min_learning_rate) * 0.99999


def test_a_warm_up_of_nothing_or_all():
  row = ROW._replace(schedule='warmup_cosine')
  np.testing.assert_allclose(
    optim.rates(row, 9), optim.rates(row._replace(schedule='cosine'), 9)
  )
  assert optim.rates(row._replace(warmup=1.0), 9).argmax() == 8


def step(learning_rate, steps):
  """A user's schedule."""
  return optax.piecewise_constant_schedule(learning_rate, {steps // 2: 0.5})


def floor(learning_rate, steps, *, min_learning_rate):
  return optax.linear_schedule(learning_rate, min_learning_rate, steps)


def below_zero(learning_rate, steps):
  return lambda count: learning_rate * (1 - count)


def no_schedule(learning_rate, steps):
  return learning_rate


def test_own_schedules():
  row = ROW._replace(schedule='tests.test_optim:step')
  np.testing.assert_allclose(
    optim.rates(row, 6), [0.01, 0.01, 0.01, 0.005, 0.005, 0.005], rtol=1e-6
  )
  row = ROW._replace(schedule='tests.test_optim:floor')
  assert optim.rates(row, 99)[-1] == pytest.approx(2e-4, rel=1e-3)
  for name in (
    'step_down',
    'tests.test_optim:below_zero',
    'tests.test_optim:no_schedule',
  ):
    with says(InputError, f'config.train.schedule {name}'):
      optim.find_schedule(name)  # before any work
    with says(InputError, f'config.train.schedule {name}'):
      optim.rates(ROW._replace(schedule=name), 7)


PARAMS = {'w': np.array([[1.0, -2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)}
GRADS = {'w': np.array([[1.0, -2.0, 0.5], [-1.0, 1.0, 2.0]], np.float32)}


@pytest.mark.parametrize(
  ('name', 'decays'),
  [
    ('adamw', True),
    ('optax:lion', True),
    ('optax:lamb', True),
    ('optax:sgd', False),
    ('optax:adam', False),
    ('optax.contrib:muon', True),
  ],
)
def test_an_optimizer_with_settings_of_each_row(name, decays):
  """As optax with plain numbers, after two updates of two rows."""
  optimizer = optim.find_optimizer(name)
  rate = np.float32([0.1, 0.2])
  decay = np.float32([0.0, 0.3]) if decays else np.zeros(2, np.float32)
  state = optim.begin(optimizer, PARAMS, decay)
  assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(state))

  @jax.jit
  @jax.vmap
  def update(grads, state, params, rate, decay):
    change, state = optim.make(optimizer, rate, decay).update(
      grads, state, params
    )
    return optax.apply_updates(params, change), state

  got = PARAMS
  for _ in range(2):
    got, state = update(GRADS, state, got, rate, decay)
  for r in range(2):
    settings = {'weight_decay': float(decay[r])} if decays else {}
    plain = optimizer(learning_rate=float(rate[r]), **settings)
    want = {'w': jnp.asarray(PARAMS['w'][r])}
    own = plain.init(want)
    for _ in range(2):
      change, own = plain.update({'w': GRADS['w'][r]}, own, want)
      want = optax.apply_updates(want, change)
    np.testing.assert_allclose(got['w'][r], want['w'], rtol=1e-5, atol=1e-6)


def branches(learning_rate):
  return optax.sgd(learning_rate if learning_rate > 0 else 1.0)


def test_optimizers_that_cannot_be_used():
  with pytest.raises(InputError, match='cannot be used'):  # cut in its path
    optim.find_optimizer('tests.test_optim:branches')
  for name in (
    'adamwe', 'optax:no_such', 'optax:cosine_similarity',
  ):  # fmt: skip
    with says(InputError, f'config.train.optimizer {name}'):
      optim.find_optimizer(name)


def test_a_decay_that_nobody_would_see():
  optim.check_decay(optax.adamw, [ROW._replace(weight_decay=0.1)])
  optim.check_decay(optax.sgd, [ROW])
  with says(InputError, 'weight_decay'):
    optim.check_decay(optax.sgd, [ROW, ROW._replace(weight_decay=0.1)])


def test_the_first_state_of_adam_is_what_optax_makes():
  """It is made without compiling."""
  made = optim.begin(optax.adamw, PARAMS, np.zeros(2))
  for r in range(2):
    want = optax.adamw(0.1).init({'w': PARAMS['w'][r]})
    mine = jax.tree.map(lambda leaf, r=r: leaf[r], made)
    assert jax.tree.structure(mine) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(want)):
      assert a.dtype == b.dtype
      np.testing.assert_array_equal(a, b)
