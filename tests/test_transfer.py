"""Transfer by name: three lists, and no silent difference."""

import jax
import jax.numpy as jnp
import numpy as np

from cmbjax import models
from cmbjax.errors import InputError
from cmbjax.training.replicas import Weights
from cmbjax.training.transfer import transfer
from tests.messages import says


def weights(value, **extra):
  params = {
    'stage': {'kernel': jnp.full((2, 3), value), 'bias': jnp.full(3, value)},
    **extra,
  }
  return Weights(params, {'stage': {'mean': jnp.full(3, value)}})


def test_all_names_agree():
  done = transfer(weights(0.0), weights(1.0))
  assert sorted(done.loaded) == [
    'batch_stats/stage/mean',
    'params/stage/bias',
    'params/stage/kernel',
  ]
  assert (done.at_init, done.unused) == ([], [])
  np.testing.assert_array_equal(done.weights.params['stage']['kernel'], 1)
  np.testing.assert_array_equal(done.weights.batch_stats['stage']['mean'], 1)


def test_three_lists():
  target = weights(0.0, head={'kernel': jnp.zeros(2)})
  source = weights(1.0, old={'kernel': jnp.ones(5)})
  done = transfer(target, source)
  assert len(done.loaded) == 3
  assert done.at_init == ['params/head/kernel']
  assert done.unused == ['params/old/kernel']
  np.testing.assert_array_equal(done.weights.params['head']['kernel'], 0)
  text = str(done)
  assert 'left at init (1): params/head/kernel' in text
  assert 'unused in the checkpoint (1)' in text


def test_every_leaf_of_a_real_network():
  """Each has another value, and each is loaded or named."""
  network = models.get_model('resnet_v3')
  shapes = jax.eval_shape(
    lambda: network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 8, 1)))
  )
  paths, form = jax.tree.flatten(Weights(**shapes))
  target = form.unflatten([np.zeros(leaf.shape) for leaf in paths])
  source = form.unflatten(
    [np.full(leaf.shape, n + 1.0) for n, leaf in enumerate(paths)]
  )
  done = transfer(target, source)
  assert len(done.loaded) == len(paths)
  for n, leaf in enumerate(jax.tree.leaves(done.weights)):
    np.testing.assert_array_equal(leaf, n + 1.0)
  del source.params['stage_b']['unit_0']['shortcut']['bias']
  done = transfer(target, source)
  assert done.at_init == ['params/stage_b/unit_0/shortcut/bias']
  assert len(done.loaded) == len(paths) - 1
  left = [not np.any(leaf) for leaf in jax.tree.leaves(done.weights)]
  assert sum(left) == 1


def test_a_shape_mismatch_shows_both_shapes():
  source = weights(1.0)
  source.params['stage']['kernel'] = jnp.ones((4, 3))
  with says(InputError):
    transfer(weights(0.0), source)


def test_nothing_in_common_is_an_error():
  with says(InputError):
    transfer(weights(0.0), Weights({'x': jnp.ones(1)}, {}))
