"""A small file system in memory, for tests of full and sealed disks."""

import contextlib
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def mounted(place: pathlib.Path, options: str) -> Iterator[pathlib.Path]:
  """Mounts one at `place`; skips where we may not."""
  place.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(place)]
  if (
    shutil.which('mount') is None
    or subprocess.run(mount, capture_output=True, check=False).returncode
  ):
    pytest.skip('cannot mount a file system here')
  try:
    yield place
  finally:
    subprocess.run(['umount', '-l', str(place)], check=True)
