"""3x3x3 convolution on CPU in compiled C++, where there is a library for it.

Rule: nothing but speed depends on it. Without one, or for a shape that it
does not know, `supports` says no and the forms of `convolution` do the same
work. The environment variable `CMBJAX_COMPILE=0` switches it off.
"""

import ctypes
import functools
import os
import sys
import threading

import jax
import jax.numpy as jnp

from cmbjax.models import axes, kernel

# Of the published networks: 8 slices that pooling halves, and the channels of
# their stages. The C++ has a variant for each.
Z_SIZES = (2, 4, 8)
WIDTHS = (8, 16, 32)
_lock = threading.Lock()
_FORWARD, _GRADIENT = 'cmbjax_winograd_forward', 'cmbjax_winograd_gradient'
_SUMS = 'cmbjax_sums'
_OFF = 'switched off by CMBJAX_COMPILE=0'


def supports(shape, kernel_shape, dtype) -> bool:
  """Whether x [B, X, Y, Z, C] of this shape has a compiled way here.

  Args:
    shape: of x.
    kernel_shape: [X, Y, Z, C, O].
    dtype: of x.
  """
  return (
    len(shape) == 5
    and 0 not in shape
    and tuple(kernel_shape[:3]) == (3, 3, 3)
    and shape[3] in Z_SIZES
    and kernel_shape[3] <= max(WIDTHS)
    and kernel_shape[4] in WIDTHS
    and dtype == jnp.float32
    and available()
  )


def convolve(x, kernel, bias):
  """x [B, X, Y, Z, C] with kernel [3, 3, 3, C, O] plus bias [O].

  Args:
    x: float32.
    kernel: float32.
    bias: float32.
  """
  return _convolve(*axes.alike(x, kernel, bias))


@jax.custom_vjp
def _convolve(x, kernel, bias):
  return _forward(x, kernel, bias, swap=False)


def _convolve_forward(x, kernel, bias):
  return _forward(x, kernel, bias, swap=False), (x, kernel)


def _convolve_backward(saved, g):
  x, kernel = saved
  return _input_gradient(g, kernel), *_gradient(x, g)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _input_gradient(g, kernel):
  channels = kernel.shape[3]
  lanes = next(width for width in WIDTHS if width >= channels)
  kernel = jnp.pad(kernel, [(0, 0)] * 3 + [(0, lanes - channels), (0, 0)])
  zeros = jnp.zeros(lanes, g.dtype)
  return _forward(g, kernel, zeros, swap=True)[..., :channels]


def _forward(x, kernel, bias, *, swap):
  """With `swap`, the kernel [3, 3, 3, O, C] is flipped and transposed."""
  outputs = kernel.shape[3 if swap else 4]
  shape = jax.ShapeDtypeStruct((*x.shape[:-1], outputs), x.dtype)
  call = jax.ffi.ffi_call(_FORWARD, shape, vmap_method='sequential')
  y = call(*axes.alike(x, kernel, bias), swap=swap)
  return axes.alike(y, x)[0]


def _gradient(x, g):
  """Gradients of the kernel [3, 3, 3, C, O] and of the bias [O]."""
  shapes = (
    jax.ShapeDtypeStruct((3, 3, 3, x.shape[-1], g.shape[-1]), x.dtype),
    jax.ShapeDtypeStruct(g.shape[-1:], x.dtype),
  )
  call = jax.ffi.ffi_call(_GRADIENT, shapes, vmap_method='sequential')
  return axes.alike(*call(x, g), x)[:2]


def sums(x, y):
  """Sums [C] of x [B, X, Y, Z, C] and of x y, each over all axes but C."""
  shape = jax.ShapeDtypeStruct(x.shape[-1:], x.dtype)
  call = jax.ffi.ffi_call(_SUMS, (shape, shape), vmap_method='sequential')
  return axes.alike(*call(*axes.alike(x, y)), x)[:2]


def supports_sums(shape, dtype) -> bool:
  """Whether `sums` knows x [B, X, Y, Z, C] of this shape, here."""
  return (
    len(shape) == 5
    and 0 not in shape
    and shape[3] * shape[4] % 8 == 0
    and dtype == jnp.float32
    and jax.default_backend() == 'cpu'
    and available()
  )


def available() -> bool:
  """Finds (or compiles), loads and registers. False if it cannot."""
  return not why_not()


def why_not() -> str:
  """Why there is no compiled convolution here; '' if there is one."""
  with _lock:
    return _load()


@functools.cache
def warn() -> None:
  """Says once on stderr what is lost, unless it was switched off."""
  reason = why_not()
  if reason and reason != _OFF:
    print(
      f'cmbjax: no compiled convolution ({reason.splitlines()[0]:.200}): '
      'training runs at about a third of the speed; install a C++ compiler '
      "(g++ or clang++) or cmbjax's wheel for this platform.",
      file=sys.stderr,
      flush=True,
    )


@functools.cache
def _load() -> str:
  if os.environ.get('CMBJAX_COMPILE', '1') == '0':
    return _OFF
  try:
    carried = kernel.carried()
    if carried and not _register(carried):
      return ''
    return _register(kernel.built())
  except kernel.Unavailable as error:
    return str(error)


def _register(path) -> str:
  """Why this library cannot be used; '' if it now is."""
  jax.local_devices(backend='cpu')  # before it, registering is only put off
  try:
    library = ctypes.CDLL(str(path))
    for name, symbol in (
      (_FORWARD, library.CmbjaxForward),
      (_GRADIENT, library.CmbjaxGradient),
      (_SUMS, library.CmbjaxSums),
    ):
      capsule = jax.ffi.pycapsule(symbol)
      # XLA asks the symbol for its version of the interface, and refuses one
      # that it does not know.
      jax.ffi.register_ffi_target(name, capsule, platform='cpu')
  except (OSError, AttributeError, RuntimeError) as error:
    return f'{path.name} does not fit this system: {error}'
  return ''
