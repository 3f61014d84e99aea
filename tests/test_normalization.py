"""Batch normalization against Flax's, values, statistics and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmbjax.models import normalization


@pytest.fixture(scope='module')
def case():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  x = 3 + 2 * draw(4, 5, 3, 2, 6)
  params = {'scale': draw(6), 'bias': draw(6)}
  stats = {'mean': draw(6), 'var': 1 + draw(6) ** 2}
  return x, {'params': params, 'batch_stats': stats}, draw(*x.shape)


def _ours(train, **kwargs):
  return normalization.BatchNorm(train, **kwargs)


def _flax(train, **kwargs):
  return nn.BatchNorm(not train, **{'epsilon': 1e-3, **kwargs})


def _run(norm, x, variables, weight):
  """Result, new statistics, gradients of x and of the parameters."""

  def loss(x, params):
    y, new = norm.apply(
      {**variables, 'params': params}, x, mutable=['batch_stats']
    )
    return (y * weight).sum(), (y, new)

  return jax.grad(loss, (0, 1), has_aux=True)(x, variables['params'])


def _assert_same(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('momentum', [0.99, 0.5])
def test_equals_flax(case, train, momentum):
  make = {'momentum': momentum}
  got = jax.jit(lambda *a: _run(_ours(train, **make), *a))(*case)
  want = jax.jit(lambda *a: _run(_flax(train, **make), *a))(*case)
  _assert_same(got, want)


def test_under_vmap(case):
  replicas = jax.tree.map(lambda a: jnp.stack([a, 2 * a, a + 1]), case)
  run = jax.jit(jax.vmap(lambda *a: _run(_ours(True), *a)))(*replicas)
  for index in range(3):
    take = lambda tree, i=index: jax.tree.map(lambda a: a[i], tree)  # noqa: E731
    _assert_same(take(run), _run(_flax(True), *take(replicas)))


def test_first_variables(case):
  x = case[0]
  got = _ours(True).init(jax.random.key(0), x)
  _assert_same(got, _flax(True).init(jax.random.key(0), x))


def test_hand_values():
  """Values 0 and 2: mean 1, variance 1, so -1 and 1 without epsilon."""
  x = jnp.asarray([0.0, 2.0]).reshape(2, 1, 1, 1, 1)
  y, mean, var = normalization.normalize(x, jnp.ones(1), jnp.zeros(1), 0.0)
  np.testing.assert_allclose(np.ravel(y), [-1, 1], rtol=1e-6)
  assert (mean[0], var[0]) == (1, 1)


def test_bfloat16_statistics_are_float32(case):
  norm = _ours(True, dtype=jnp.bfloat16)
  y, new = norm.apply(
    case[1], case[0].astype(jnp.bfloat16), mutable=['batch_stats']
  )
  assert y.dtype == jnp.bfloat16
  assert new['batch_stats']['mean'].dtype == jnp.float32


def test_frozen_is_the_running_statistics_in_training(case):
  """Values, statistics and gradients of evaluation; 0 changes nothing."""
  x, variables, weight = case
  free = _run(_ours(True), x, variables, weight)
  for flag, want in (
    (1.0, _run(_ours(False), x, variables, weight)),
    (0, free),
  ):
    marked = {**variables, 'frozen': {'norm': jnp.float32(flag)}}
    gradients, (y, new) = _run(_ours(True), x, marked, weight)
    _assert_same(gradients, want[0])
    _assert_same(y, want[1][0])
    stats = variables['batch_stats'] if flag else free[1][1]['batch_stats']
    for name, value in new['batch_stats'].items():
      np.testing.assert_array_equal(value, stats[name])


def test_a_layer_of_flax_heeds_it_too(case):
  """Its values in training; without the mark it is what it was."""
  x, variables, _ = case
  norm = _flax(True)
  free = norm.apply(variables, x, mutable=['batch_stats'])[0]
  for flag, want in ((1.0, _flax(False).apply(variables, x)), (0.0, free)):
    marked = {**variables, 'frozen': {'norm': jnp.float32(flag)}}
    with nn.intercept_methods(normalization.heed_frozen):
      got, _ = norm.apply(marked, x, mutable=['batch_stats'])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
  with nn.intercept_methods(normalization.heed_frozen):
    got, _ = norm.apply(variables, x, mutable=['batch_stats'])
  np.testing.assert_array_equal(got, free)
