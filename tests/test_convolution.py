"""Every form of convolution against lax, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cmbjax.errors import InputError
from cmbjax.models import convolution, kernel, winograd
from tests.messages import says

SHAPES = {
  'odd sizes': ((2, 5, 4, 3, 3), (3, 3, 3, 3, 5)),
  'one channel': ((2, 4, 4, 2, 1), (3, 3, 3, 1, 4)),
  'pointwise': ((2, 4, 3, 2, 3), (1, 1, 1, 3, 5)),
  'smaller than the kernel': ((1, 2, 1, 1, 4), (3, 3, 3, 4, 4)),
  'uneven kernel': ((1, 4, 5, 6, 2), (3, 1, 5, 2, 3)),
}
COMPILED = {
  'eight slices': ((2, 5, 4, 8, 8), (3, 3, 3, 8, 8)),
  'four slices': ((3, 7, 2, 4, 8), (3, 3, 3, 8, 16)),
  'two slices, many tiles': ((9, 6, 7, 2, 5), (3, 3, 3, 5, 32)),
  'one channel of eight slices': ((1, 1, 3, 8, 1), (3, 3, 3, 1, 8)),
}


needs_compiler = pytest.mark.skipif(
  not winograd.available(), reason='no C++ compiler works here'
)
FORMS = ['auto', *convolution.FORMS]
if not winograd.available():
  FORMS.remove('winograd')


def _arrays(name, seed=0):
  rng = np.random.default_rng(seed)
  shape, kernel = {**SHAPES, **COMPILED}[name]

  def draw(shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  return draw(shape), draw(kernel), draw((*shape[:-1], kernel[-1]))


def _run(function, x, kernel, weight):
  """Value, input gradient and kernel gradient of a weighted sum."""

  def loss(x, kernel):
    y = function(x, kernel)
    return (y * weight).sum(), y

  gradients, y = jax.grad(loss, (0, 1), has_aux=True)(x, kernel)
  return y, *gradients


def _reference(x, kernel):
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, 1, 1),
    'SAME',
    dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'),
  )


def _assert_close(got, want, tolerance=1e-5):
  for a, b in zip(got, want, strict=True):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize(
  ('name', 'form'),
  [(name, form) for name in SHAPES for form in FORMS]
  + [(name, 'auto') for name in COMPILED],
)
def test_equals_lax(name, form):
  arrays = _arrays(name)

  def convolve(x, kernel):
    return convolution.convolve(x, kernel, form=form)

  got = jax.jit(lambda *a: _run(convolve, *a))(*arrays)
  _assert_close(got, jax.jit(lambda *a: _run(_reference, *a))(*arrays))


@pytest.mark.parametrize('form', FORMS)
def test_under_vmap(form):
  """Inputs and kernels both carry the replica axis."""
  alone = [_arrays('odd sizes', seed) for seed in range(3)]
  together = [jnp.stack(a) for a in zip(*alone)]

  def convolve(x, kernel):
    return convolution.convolve(x, kernel, form=form)

  got = jax.jit(jax.vmap(lambda *a: _run(convolve, *a)))(*together)
  for index, arrays in enumerate(alone):
    _assert_close([a[index] for a in got], _run(_reference, *arrays))


@needs_compiler
@pytest.mark.parametrize('slices', winograd.Z_SIZES)
@pytest.mark.parametrize('width', winograd.WIDTHS)
def test_winograd_shapes(slices, width):
  """Every compiled variant, with a bias, against lax."""
  rng = np.random.default_rng([slices, width])
  x = jnp.asarray(rng.normal(size=(2, 5, 6, slices, 19)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 19, width)), jnp.float32)
  bias = jnp.asarray(rng.normal(size=width), jnp.float32)
  weight = jnp.asarray(rng.normal(size=(2, 5, 6, slices, width)), jnp.float32)
  assert winograd.supports(x.shape, kernel.shape, x.dtype)

  def run(convolve):
    loss = jax.grad(lambda *a: (convolve(*a) * weight).sum(), (0, 1, 2))
    return jax.jit(lambda *a: (convolve(*a), *loss(*a)))(x, kernel, bias)

  want = run(lambda x, kernel, bias: _reference(x, kernel) + bias)
  _assert_close(run(winograd.convolve), want)


@needs_compiler
def test_winograd_is_deterministic():
  """Same bits whatever the threads do: exact resume depends on it."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(32, 16, 16, 8, 8)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 8, 8)), jnp.float32)
  bias = jnp.zeros(8)

  @jax.jit
  def run():
    return _run(lambda *a: winograd.convolve(*a, bias), x, kernel, x)

  first = run()
  for _ in range(20):
    for a, b in zip(first, run()):
      np.testing.assert_array_equal(a, b)


def test_without_compiler(monkeypatch):
  """Nothing but speed depends on the compiler."""
  monkeypatch.setattr(winograd, 'available', lambda: False)
  x, kernel, weight = _arrays('eight slices')
  _assert_close(
    _run(convolution.convolve, x, kernel, weight),
    _run(_reference, x, kernel, weight),
  )
  with says(InputError):
    convolution.convolve(x, kernel, form='winograd')


@pytest.mark.parametrize(
  ('name', 'value'),
  [('CMBJAX_COMPILE', '0'), ('CXX', '/nowhere/c++'), ('CXX', 'false')],
)
def test_compiler_that_does_not_work(monkeypatch, tmp_path, name, value):
  monkeypatch.setattr(kernel, 'CARRIED', tmp_path / 'none')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setenv(name, value)
  assert winograd._load.__wrapped__()  # says why not
  assert not list(tmp_path.rglob('*.so'))


def test_bfloat16_native():
  x, kernel, _ = (a.astype(jnp.bfloat16) for a in _arrays('odd sizes'))
  got = convolution.convolve(x, kernel, form='native')
  assert got.dtype == jnp.bfloat16
  want = _reference(x.astype(jnp.float32), kernel.astype(jnp.float32))
  _assert_close([got], [want], tolerance=2**-7)


def test_hand_value():
  """A kernel of ones counts the voxels of a window inside the volume."""
  y = convolution.convolve(jnp.ones((1, 3, 3, 3, 1)), jnp.ones((3, 3, 3, 1, 1)))
  assert y[0, 1, 1, 1, 0] == 27
  assert y[0, 0, 1, 1, 0] == 18
  assert y[0, 0, 0, 0, 0] == 8


def test_even_kernel():
  x, kernel = jnp.ones((1, 4, 4, 4, 2)), jnp.ones((2, 2, 2, 2, 3))

  def run(form):
    return _run(
      lambda x, k: convolution.convolve(x, k, form=form), x, kernel, 1.0
    )

  _assert_close(run('auto'), _run(_reference, x, kernel, 1.0))


def test_pooling():
  import flax.linen as nn

  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 4, 6, 2, 3)), jnp.float32)
  weight = jnp.asarray(rng.normal(size=(2, 2, 3, 1, 3)), jnp.float32)
  ours = convolution.max_pool

  def reference(x):
    return nn.max_pool(x, (2, 2, 2), (2, 2, 2))

  for function in (ours, jax.jit(jax.vmap(ours))):
    shaped = x if function is ours else x[None]

    def run(f, x):
      return jax.value_and_grad(lambda x: (f(x) * weight).sum())(x)

    value, gradient = run(function, shaped)
    want, want_gradient = run(reference, x)
    _assert_close([value, gradient.reshape(x.shape)], [want, want_gradient])


def test_pooling_needs_whole_blocks():
  with says(ValueError):
    convolution.max_pool(jnp.zeros((1, 5, 4, 4, 1)))


def test_max_pool_ties_share_the_gradient():
  gradient = jax.grad(lambda x: convolution.max_pool(x).sum())
  np.testing.assert_array_equal(gradient(jnp.ones((1, 2, 2, 2, 1))), 1 / 8)
