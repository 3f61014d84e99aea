"""The plateau schedule cuts where Keras cuts, for each replica on its own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmbjax.training import optim

RULE = optim.Plateau(factor=0.1, patience=2, min_delta=1e-4, min_scale=1e-2)


def scales(values, rule=RULE):
  """values [epochs, R] -> scales [epochs, R]."""
  values = np.asarray(values, np.float32)
  state = optim.plateau_init(values.shape[1])
  out = []
  for row in values:
    state = optim.plateau_step(rule, state, row)
    out.append(np.asarray(state.scale))
  return np.array(out)


def keras(values, *, factor, patience, min_delta, min_scale):
  """Reference: keras.callbacks.ReduceLROnPlateau(mode='min', cooldown=0)."""
  best, wait, scale, out = np.inf, 0, 1.0, []
  for value in values:
    if np.isfinite(value) and value < best - min_delta:
      best, wait = value, 0
    else:
      wait += 1
      if wait >= patience:
        scale, wait = max(scale * factor, min_scale), 0
    out.append(scale)
  return out


def test_a_flat_loss_is_cut_at_every_second_epoch_down_to_the_floor():
  got = scales([[1.0]] * 8)[:, 0]
  np.testing.assert_allclose(
    got, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01], rtol=1e-6
  )


@pytest.mark.parametrize('seed', range(5))
def test_agrees_with_keras_on_random_losses(seed):
  rng = np.random.default_rng(seed)
  values = rng.normal(1, 0.3, (40, 3)).cumsum(0) / np.arange(1, 41)[:, None]
  got = scales(values)
  for r in range(3):
    np.testing.assert_allclose(
      got[:, r],
      keras(values[:, r].astype(np.float32), **RULE._asdict()),
      rtol=1e-5,
    )


def test_negative_losses_are_cut_too():
  assert scales([[-1.0]] * 4)[-1, 0] == pytest.approx(0.1)


def test_nan_is_a_bad_epoch_and_poisons_nothing():
  got = scales([[1.0], [np.nan], [np.inf], [0.5], [0.4]])[:, 0]
  np.testing.assert_allclose(got, [1, 1, 0.1, 0.1, 0.1], rtol=1e-6)


def test_replicas_do_not_see_each_other():
  values = np.stack([np.ones(6), np.linspace(1, 0, 6)], 1)
  both = scales(values)
  np.testing.assert_array_equal(both[:, :1], scales(values[:, :1]))
  np.testing.assert_array_equal(both[:, 1:], scales(values[:, 1:]))
  assert both[-1, 1] == 1.0


def with_settings(state, rate, decay=0.0):
  settings = {'learning_rate': jnp.float32(rate)}
  settings |= {'weight_decay': jnp.float32(decay)}
  return state._replace(hyperparams=state.hyperparams | settings)


def test_adam_takes_its_rate_from_the_state():
  optimizer = optim.adam()
  params = {'w': jnp.ones(3)}
  grads = {'w': jnp.array([1.0, -2.0, 0.5])}
  state = with_settings(optimizer.init(params), 0.1)
  change, state = optimizer.update(grads, state, params)
  reference = optax.adam(0.1)
  expected, _ = reference.update(grads, reference.init(params), params)
  np.testing.assert_allclose(change['w'], expected['w'], rtol=1e-6)
  change, _ = optimizer.update(grads, with_settings(state, 0.0), params)
  np.testing.assert_array_equal(change['w'], 0)


def test_weight_decay_is_decoupled():
  optimizer, params = optim.adam(), {'w': jnp.array([1.0, -2.0, 3.0])}
  grads = {'w': jnp.array([1.0, -2.0, 0.5])}
  state = with_settings(optimizer.init(params), 0.1, 0.3)
  change, _ = optimizer.update(grads, state, params)
  reference = optax.adamw(0.1, weight_decay=0.3)
  expected, _ = reference.update(grads, reference.init(params), params)
  np.testing.assert_allclose(change['w'], expected['w'], rtol=1e-6)


def test_every_setting_may_differ_per_replica():
  rule = optim.Plateau(
    factor=np.array([0.1, 0.5]),
    patience=np.array([2, 3]),
    min_delta=np.array([1e-4, 1e-4]),
    min_scale=np.array([1e-2, 0.3]),
  )
  got = scales(np.ones((9, 2)), rule)
  for r in range(2):
    one = optim.Plateau(*(field[r] for field in rule))
    want = keras(np.ones(9), **one._asdict())
    np.testing.assert_allclose(got[:, r], want, rtol=1e-6)


def test_the_first_state_is_what_the_optimizer_makes():
  """Of two replicas with their own settings, made without compiling."""
  params = {'a': np.ones((2, 3), np.float32), 'b': np.ones(2, np.float32)}
  rate, decay = np.array([0.1, 0.2]), np.array([0.0, 0.3])
  made = optim.begin(params, rate, decay)
  for r in range(2):
    own = jax.tree.map(lambda leaf, r=r: leaf[r], params)
    expected = with_settings(optim.adam().init(own), rate[r], decay[r])
    found = jax.tree.map(lambda leaf, r=r: leaf[r], made)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
      assert a.dtype == b.dtype
      np.testing.assert_array_equal(a, b)
