"""3x3x3 convolution on CPU in compiled C++, when the machine has a compiler.

Rule: nothing depends on it. Without a compiler, or for a shape that it does
not know, `supports` says no and the forms of `convolution` do the same work.

winograd.cc is compiled once per machine, for its own processor, into the
user's cache folder (`XDG_CACHE_HOME` or ~/.cache). The environment variable
`CMBJAX_COMPILE=0` switches it off.
"""

import ctypes
import functools
import logging
import os
import pathlib
import platform
import shutil
import subprocess
import threading

import jax
import jax.numpy as jnp
import jaxlib

from cmbjax import errors, files
from cmbjax.models import axes

SOURCE = pathlib.Path(__file__).with_suffix('.cc')
FLAGS = (
  '-std=c++17',
  '-O3',
  '-march=native',
  '-ffp-contract=fast',  # fused multiply-add, also where clang would not
  '-fPIC',
  '-shared',
  '-w',  # the headers of XLA are not ours
)
Z_SIZES = (2, 4, 8)
WIDTHS = (8, 16, 32)
_lock = threading.Lock()
_FORWARD, _GRADIENT = 'cmbjax_winograd_forward', 'cmbjax_winograd_gradient'
_SUMS = 'cmbjax_sums'


def supports(shape, kernel_shape, dtype) -> bool:
  """Whether x [B, X, Y, Z, C] of this shape has a compiled way here."""
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
  """x [B, X, Y, Z, C] with kernel [3, 3, 3, C, O] plus bias [O]."""
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
  """Compiles (once per machine), loads and registers. False if it cannot."""
  with _lock:
    return _load()


@functools.cache
def _load() -> bool:
  if os.environ.get('CMBJAX_COMPILE', '1') == '0':
    return False
  try:
    library = ctypes.CDLL(str(_build()))
    for name, symbol in (
      (_FORWARD, library.CmbjaxForward),
      (_GRADIENT, library.CmbjaxGradient),
      (_SUMS, library.CmbjaxSums),
    ):
      capsule = jax.ffi.pycapsule(symbol)
      jax.ffi.register_ffi_target(name, capsule, platform='cpu')
  except _FAILURES as error:
    logging.getLogger(__name__).info('No compiled convolution: %s', error)
    return False
  return True


class _Unavailable(Exception):
  """Why there is no library. Never leaves this module."""


_FAILURES = (
  OSError,  # the library does not load
  AttributeError,  # no jax.ffi, or a symbol is missing
  RuntimeError,  # no home folder
  errors.InputError,  # the cache folder cannot be written
  _Unavailable,
)


def _build() -> pathlib.Path:
  """The library for this processor, compiled unless it is in the cache."""
  compiler = os.environ.get('CXX') or next(
    filter(None, map(shutil.which, ('c++', 'g++', 'clang++'))), None
  )
  if compiler is None:
    raise _Unavailable('no C++ compiler was found')
  compiler = compiler.split()
  command = [*compiler, *FLAGS, '-I', jax.ffi.include_dir()]
  version = _run([*compiler, '--version'])
  key = files.digest(SOURCE, command, version, _processor(), jaxlib.__version__)
  library = _cache_folder() / f'winograd-{key}.so'
  if not library.exists():
    with files.whole(library) as temporary:
      _run([*command, str(SOURCE), '-o', str(temporary)])
  return library


def _run(command) -> str:
  try:
    done = subprocess.run(
      command, capture_output=True, text=True, timeout=300, check=True
    )
  except (OSError, subprocess.SubprocessError) as error:
    reason = getattr(error, 'stderr', None) or error
    raise _Unavailable(f'{command[0]}: {reason}') from error
  return done.stdout


def _cache_folder() -> pathlib.Path:
  root = os.environ.get('XDG_CACHE_HOME')
  root = pathlib.Path(root) if root else pathlib.Path.home() / '.cache'
  return root / 'cmbjax'


def _processor() -> str:
  """What '-march=native' depends on: a home may be shared by machines."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return platform.processor() or platform.machine()
  wanted = ('model name', 'flags', 'Features', 'CPU part')
  return ' '.join(sorted({l for l in lines if l.startswith(wanted)}))
