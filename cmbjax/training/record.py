"""What was run, with what, on what: the record beside every result."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import cmbjax
from cmbjax import files
from cmbjax.models import winograd
from cmbjax.training import hosts, watch

PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
  'scipy',
  'nibabel',
  'nilearn',
  'tensorflow-datasets',
)


class RunRecord:
  """`record.json` of a run: what, with what, on what, and whether it is done.

  Args:
    path: the file.
    config: all settings.
  """

  def __init__(self, path: pathlib.Path, config: dict):
    self._path = pathlib.Path(path)
    self._content = {
      'status': 'incomplete',
      'config': config,
      'environment': environment(),
    }

  def write(self, **more: Any) -> None:
    """Adds entries and writes the file, in the first process."""
    self._content |= more
    self._content['memory_gb'] = watch.memory_gb()
    if hosts.is_writer():
      files.write_json(self._path, self._content)


def environment() -> dict:
  """Versions, devices and the git commit of this program; no paths."""
  import jax

  return {
    **versions(),
    'devices': [d.device_kind for d in jax.devices()],
    'processes': jax.process_count(),
    'backend': jax.default_backend(),
    'compiled_convolution': winograd.available(),
    'xla_flags': os.environ.get('XLA_FLAGS', ''),
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }


def versions() -> dict:
  """Of this program, Python and the packages that make the numbers."""
  return {
    'cmbjax': cmbjax.__version__,
    'git': _git_commit(),
    'python': platform.python_version(),
    'packages': {name: _version(name) for name in PACKAGES},
  }


def _version(name: str) -> str:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return 'not installed'


def _git_commit() -> str:
  """Short hash, with '+' when files differ; 'none' outside a checkout."""
  here = pathlib.Path(cmbjax.__file__).parent
  try:
    top, dirty = (
      subprocess.run(
        ['git', '-C', str(here), *command],
        capture_output=True,
        text=True,
        timeout=10,  # a checkout on a slow network drive
        check=True,
      ).stdout.strip()
      for command in (
        ['rev-parse', '--short', 'HEAD'],
        ['status', '--porcelain', '--untracked-files=no'],
      )
    )
  except (OSError, subprocess.SubprocessError):
    return 'none'
  return top + ('+' if dirty else '')
