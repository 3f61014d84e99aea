"""A wheel for one platform, which carries winograd.cc as libraries.

  CMBJAX_PLATFORM_WHEEL=1 python -m build --wheel

Rule: without the variable nothing happens, and the wheel is pure Python.
"""

import importlib.util
import os
import pathlib
import platform
import re
import sys
import tempfile

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# From the standard library of C++ only symbols of old systems are left, and
# the sections that name the build machine go.
LINK = [
  '-static-libstdc++',
  '-static-libgcc',
  '-ffunction-sections',
  '-Wl,--gc-sections,--exclude-libs,ALL',
  '-s',
]
# The oldest jaxlib that cmbjax works with: XLA takes libraries that were
# compiled against an older interface, not those against a newer one.
JAXLIB = 'jaxlib>=0.10.2,<0.11'


class CustomBuildHook(BuildHookInterface):
  """Compiles a library for each variant of `cmbjax.models.kernel`."""

  def dependencies(self):
    return [JAXLIB] if _wanted() else []  # for its headers

  def initialize(self, version, build_data):
    if not _wanted() or self.target_name != 'wheel':
      return
    root, machine = pathlib.Path(self.root), platform.machine()
    kernel = _kernel(root)
    if sys.platform != 'linux' or machine not in kernel.VARIANTS:
      raise SystemExit(
        f'CMBJAX_PLATFORM_WHEEL: no libraries for {sys.platform} {machine}; '
        'unset it to build the wheel for every platform.'
      )
    self._folder = tempfile.TemporaryDirectory()
    libraries = []
    for name in kernel.VARIANTS[machine]:
      path = pathlib.Path(self._folder.name) / f'{name}.so'
      source = os.path.relpath(kernel.SOURCE, root)
      words = [*kernel.command(name), *LINK, source, '-o', str(path)]
      print(' '.join(words), file=sys.stderr)
      try:
        kernel.run(words)
      except kernel.Unavailable as error:
        raise SystemExit(f'CMBJAX_PLATFORM_WHEEL: {error}') from error
      build_data['force_include'][str(path)] = (
        f'cmbjax/models/compiled/{path.name}'
      )
      libraries.append(path)
    build_data['pure_python'] = False
    build_data['tag'] = f'py3-none-{_platform(libraries)}_{machine}'

  def finalize(self, version, build_data, artifact_path):
    if folder := getattr(self, '_folder', None):
      folder.cleanup()


def _wanted() -> bool:
  return os.environ.get('CMBJAX_PLATFORM_WHEEL', '0') == '1'


def _kernel(root):
  """The module alone: the package around it needs JAX."""
  sys.path.insert(0, str(root))
  path = root / 'cmbjax' / 'models' / 'kernel.py'
  spec = importlib.util.spec_from_file_location('kernel', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _platform(libraries) -> str:
  """'manylinux_2_N' of the newest symbol of glibc that a library asks for.

  musl has none of its versions, and there the name would not be true.
  """
  if platform.libc_ver()[0] != 'glibc':
    return 'linux'
  asked = b''.join(path.read_bytes() for path in libraries)
  versions = [int(n) for n in re.findall(rb'GLIBC_2\.(\d+)', asked)]
  return f'manylinux_2_{max([17, *versions])}'
