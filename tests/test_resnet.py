"""The networks: exact counts, names, initial values, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from cmbjax import models
from cmbjax.errors import InputError
from cmbjax.models import convolution, resnet
from tests.messages import says

PATCH = (16, 16, 8, 1)

# Trainable values and BatchNorm statistics of the published code, as Keras
# counts them.
COUNTS = {
  'resnet_v1': (46_857, 160, 47_017),
  'resnet_v3': (157_177, 576, 157_753),
  'resnet_v4': (244_009, 864, 244_873),
  'resnet_v4_1': (62_085, 432, 62_517),
  'resnet_v5': (330_841, 1_152, 331_993),
  'resnet_v2': (45_177, 96, 45_273),
  'fcnn': (270_593, 0, 270_593),
  'simpler_cnn': (87_241, 0, 87_241),
  'simpler_cnn_v2': (87_241, 0, 87_241),
  'simpler_cnn_v3': (29_321, 0, 29_321),
}


def _shapes(name):
  model = models.get_model(name)
  x = jax.ShapeDtypeStruct((2, *PATCH), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), x)


def _count(tree):
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('name', COUNTS)
def test_counts(name):
  variables = _shapes(name)
  trainable, statistics, total = COUNTS[name]
  assert _count(variables['params']) == trainable
  assert _count(variables.get('batch_stats', {})) == statistics
  assert trainable + statistics == total


def test_every_model_is_counted():
  assert set(models.MODELS) == set(COUNTS)


def test_stage_counts():
  """Stage by stage, BatchNorm statistics counted in."""
  variables = _shapes('resnet_v4')

  def stage(name):
    return sum(_count(variables[c][name]) for c in variables)

  assert [stage(f'stage_{s}') for s in 'abc'] == [9_112, 80_592, 153_568]
  assert _count(variables['params']['head']) == 1_601


def test_names():
  """Transfer loads by these names."""
  params = _shapes('resnet_v4')['params']
  names = {'/'.join(p) for p in traverse_util.flatten_dict(params)}
  assert set(params) == {'stage_a', 'stage_b', 'stage_c', 'head'}
  assert {
    'stage_a/unit_0/conv_0/kernel',
    'stage_a/unit_0/norm_1/scale',
    'stage_b/unit_0/shortcut/bias',
    'stage_c/unit_2/conv_1/kernel',
    'head/dense_1/kernel',
    'head/logit/bias',
  } <= names
  assert not any('shortcut' in n and 'unit_0' not in n for n in names)


def test_unknown_name():
  with says(InputError, "'resnet_v9' resnet_v1 resnet_v4"):
    models.get_model('resnet_v9')
  with says(InputError, "'slow'"):
    models.get_model('resnet_v4', convolution='slow')


@pytest.fixture(scope='module')
def small():
  """A network of three units with its first values and two patches."""
  model = resnet.ResNet(((1, 4), (1, 8), (1, 16)))
  x = jax.random.uniform(jax.random.key(1), (2, *PATCH))
  options = {'xla_backend_optimization_level': 0}
  init = jax.jit(model.init, compiler_options=options)
  return model, init(jax.random.key(0), x), x


def test_keras_initial_values(small):
  _, variables, _ = small
  flat = traverse_util.flatten_dict(variables['params'], sep='/')
  kernel = flat['stage_c/unit_0/conv_1/kernel']  # [3, 3, 3, 16, 16]
  limit = np.sqrt(6 / (27 * 16 + 27 * 16))
  assert np.abs(kernel).max() <= limit
  assert np.isclose(kernel.std(), limit / np.sqrt(3), rtol=0.02)
  assert all(not np.any(v) for k, v in flat.items() if k.endswith('bias'))
  assert all(np.all(v == 1) for k, v in flat.items() if k.endswith('scale'))


def test_running_statistics(small):
  """Momentum 0.99 as Keras: mean moves by a hundredth of the batch's."""
  model, variables, x = small

  def run(model):
    return model.apply(
      variables,
      x,
      train=True,
      rngs={'dropout': jax.random.key(0)},
      mutable=['batch_stats'],
    )[1]['batch_stats']['stage_a']['unit_0']['norm_0']

  slow = jax.jit(lambda: run(model))()
  fast = jax.jit(lambda: run(model.clone(bn_momentum=0.9)))()
  kernel = variables['params']['stage_a']['unit_0']['conv_0']['kernel']
  batch = convolution.convolve(x, kernel, form='native').mean((0, 1, 2, 3))
  np.testing.assert_allclose(slow['mean'], 0.01 * batch, rtol=1e-4)
  np.testing.assert_allclose(fast['mean'], 0.1 * batch, rtol=1e-4)


def test_auto_equals_native(small):
  """Logits and gradients of the whole network."""
  model, variables, x = small

  def run(model):
    def loss(params):
      logits, _ = model.apply(
        {**variables, 'params': params},
        x,
        train=True,
        rngs={'dropout': jax.random.key(0)},
        mutable=['batch_stats'],
      )
      return jnp.square(logits - 1).sum(), logits

    return jax.jit(jax.grad(loss, has_aux=True))(variables['params'])

  got, want = run(model), run(model.clone(convolution='native'))
  assert got[1].shape == (2,)
  np.testing.assert_allclose(got[1], want[1], rtol=1e-4, atol=1e-5)
  scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(want[0]))
  for a, b in zip(jax.tree.leaves(got[0]), jax.tree.leaves(want[0])):
    assert np.abs(a - b).max() <= 1e-4 * scale


def test_dropout_and_train(small):
  """Dropout acts in training only; evaluation is repeatable."""
  model, variables, x = small
  apply = jax.jit(model.apply, static_argnames=('train', 'mutable'))
  noisy = [
    apply(
      variables,
      x,
      train=True,
      rngs={'dropout': jax.random.key(seed)},
      mutable=('batch_stats',),
    )[0]
    for seed in (0, 1)
  ]
  assert not np.allclose(*noisy)
  still = [apply(variables, x, train=False) for _ in range(2)]
  np.testing.assert_array_equal(*still)


def test_baselines_drop_what_they_were_published_with():
  """'simpler_cnn' nothing, 'simpler_cnn_v3' half of the features."""
  x = jax.random.normal(jax.random.key(0), (2, *PATCH))
  for name, drops in (('simpler_cnn', False), ('simpler_cnn_v3', True)):
    model = models.get_model(name)
    variables = model.init(jax.random.key(1), x)
    one, other = (
      model.apply(variables, x, train=True, rngs={'dropout': jax.random.key(k)})
      for k in (2, 3)
    )
    assert np.array_equal(one, other) == (not drops)


def test_dropout_scales_in_training_alone():
  """What is kept is doubled with rate 0.5; in evaluation all is as it is."""
  x = jnp.arange(1.0, 401).reshape(20, 20)
  drop = resnet.Dropout(0.5)
  key = jax.random.key(0)
  got = np.asarray(drop.apply({}, x, train=True, rngs={'dropout': key}))
  kept = got > 0
  np.testing.assert_array_equal(got[kept], 2 * np.asarray(x)[kept])
  assert 0.4 < kept.mean() < 0.6
  np.testing.assert_array_equal(drop.apply({}, x, train=False), x)


def test_evaluation_does_not_see_the_rate(small):
  model, variables, x = small
  plain = model.clone(dropout=0.0).apply(variables, x)
  np.testing.assert_array_equal(model.apply(variables, x), plain)


def test_bfloat16(small):
  """Activations in bfloat16, logits and parameters in float32."""
  model, variables, x = small
  model = model.clone(convolution='native', dtype=jnp.bfloat16)
  logits = jax.eval_shape(model.apply, variables, x)
  assert logits.dtype == jnp.float32
