"""Hand-written gradients inside shard_map, with JAX's check of axes on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from cmbjax.models import axes, convolution, normalization

SHARD, WHOLE = PartitionSpec('data'), PartitionSpec()


@pytest.fixture(scope='module')
def mesh():
  return Mesh(np.array(jax.devices()[:1]), ('data',))


def test_outside_nothing_happens():
  x = jnp.ones(3)
  assert axes.alike(x)[0] is x


@pytest.mark.parametrize('form', ['auto', 'composed', 'native'])
@pytest.mark.parametrize('replicated', [True, False])
def test_gradients(mesh, form, replicated):
  """Parameters that are replicated, or that vary as the batch does."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 4, 4, 2, 8)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 8, 8)), jnp.float32)
  bias = jnp.asarray(rng.normal(size=8), jnp.float32)

  def gradients(x, kernel, bias):
    def loss(x, kernel, bias):
      y = convolution.convolve(x, kernel, bias, form=form)
      y, _, _ = normalization.normalize(y, 1 + bias, bias, 1e-3)
      return (y**3).sum()

    return jax.grad(loss, (0, 1, 2))(x, kernel, bias)

  spec = WHOLE if replicated else SHARD
  sharded = jax.shard_map(
    gradients,
    mesh=mesh,
    in_specs=(SHARD, spec, spec),
    out_specs=(SHARD, spec, spec),
  )
  got = jax.jit(sharded)(x, kernel, bias)
  want = jax.jit(gradients)(x, kernel, bias)
  for a, b in zip(got, want):
    assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


def test_a_split_batch_is_normalized_as_a_whole(mesh):
  """The sums over the axis; more devices are in test_mesh.py."""
  x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3, 3, 2, 5)))
  params = jnp.linspace(0.5, 2, 5), jnp.linspace(-1, 1, 5)

  def gradients(axis):
    def run(x, scale, bias):
      def loss(*args):
        y, *_ = normalization.normalize(*args, 1e-3, data_axis=axis)
        return (y**3).sum()

      return jax.grad(loss, (0, 1, 2))(x, scale, bias)

    return run

  spec = (SHARD, WHOLE, WHOLE)
  split = jax.shard_map(
    gradients('data'), mesh=mesh, in_specs=spec, out_specs=spec
  )
  got, want = jax.jit(split)(x, *params), gradients(None)(x, *params)
  for a, b in zip(got, want):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
