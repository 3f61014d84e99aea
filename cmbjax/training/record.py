"""What was run, with what, on what: the record beside every result."""

import datetime
import importlib.metadata
import pathlib
import platform
import subprocess

import cmbjax

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


def environment() -> dict:
  """Versions, devices and the git commit of this program; no paths."""
  import jax

  return {
    'cmbjax': cmbjax.__version__,
    'git': _git_commit(),
    'python': platform.python_version(),
    'packages': {name: _version(name) for name in PACKAGES},
    'devices': [d.device_kind for d in jax.devices()],
    'backend': jax.default_backend(),
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
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
        timeout=10,
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
