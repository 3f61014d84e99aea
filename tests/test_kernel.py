"""The compiled library is loaded only as it was built, and by its owner."""

import os
import platform
import subprocess
import sys

import pytest

from cmbjax.models import kernel, winograd
from tests.messages import says

FAKE = """#!/bin/sh
# A compiler that writes its arguments where the library should be.
echo "$@" >> {log}
[ "$1" = --version ] && echo 1 && exit
while [ "$1" != -o ]; do shift; done
echo library > "$2"
"""


@pytest.fixture
def calls(monkeypatch, tmp_path):
  """How often a compiler, which is quick, was asked for a library."""
  fake, log = tmp_path / 'c++', tmp_path / 'log'
  fake.write_text(FAKE.format(log=log))
  fake.chmod(0o755)
  monkeypatch.setenv('CXX', str(fake))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(kernel, 'CARRIED', tmp_path / 'none')
  return lambda: log.read_text().count(' -o ')


def test_is_compiled_once(calls):
  library = kernel.built()
  assert library.read_text() == 'library\n'
  assert kernel.built() == library
  assert calls() == 1
  assert not library.parent.stat().st_mode & 0o022


@pytest.mark.parametrize('damage', ['cut', 'changed', 'no sum', 'a link'])
def test_damaged_library_is_compiled_again(calls, damage, tmp_path):
  library = kernel.built()
  if damage == 'cut':
    os.truncate(library, 3)
  elif damage == 'changed':
    library.write_text('librarY\n')
  elif damage == 'no sum':
    library.with_name(library.name + '.sha256').unlink()
  else:
    library.rename(tmp_path / 'elsewhere')
    library.symlink_to(tmp_path / 'elsewhere')
  assert kernel.built().read_text() == 'library\n'
  assert not library.is_symlink()
  assert calls() == 2


def test_folder_that_others_can_write_is_emptied(calls):
  library = kernel.built()
  library.parent.chmod(0o775)
  kernel.built()
  assert calls() == 2
  assert not library.parent.stat().st_mode & 0o022


def test_folder_of_another_user_is_refused(calls, monkeypatch):
  kernel.built()
  monkeypatch.setattr(os, 'getuid', lambda: 12345)
  with says(kernel.Unavailable):
    kernel.built()


def test_library_of_another_user_is_compiled_again(calls, monkeypatch):
  library, lstat = kernel.built(), type(kernel.SOURCE).lstat

  def owned(path):
    found = list(lstat(path))
    found[4] += path == library  # st_uid
    return os.stat_result(found)

  monkeypatch.setattr(type(kernel.SOURCE), 'lstat', owned)
  kernel.built()
  assert calls() == 2


def test_two_processes_compile_once(calls):
  code = (
    'import pathlib; from cmbjax.models import kernel; '
    'kernel.CARRIED = pathlib.Path("none"); print(kernel.built())'
  )
  both = [
    subprocess.Popen(
      [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True
    )
    for _ in range(2)
  ]
  paths = {process.communicate(timeout=120)[0] for process in both}
  assert len(paths) == 1
  assert calls() == 1


@pytest.mark.skipif(not winograd.available(), reason='no library here')
@pytest.mark.e2e
def test_a_cut_library_ends_no_process(tmp_path):
  """A cut file was a SIGBUS when it was loaded as it is."""
  code = (
    'import pathlib; from cmbjax.models import kernel, winograd; '
    'kernel.CARRIED = pathlib.Path("none"); '
    'assert winograd.available(); print(kernel.built())'
  )

  def load():
    done = subprocess.run(
      [sys.executable, '-c', code],
      env={**os.environ, 'XDG_CACHE_HOME': str(tmp_path)},
      capture_output=True,
      text=True,
      timeout=300,
      check=True,
    )
    return done.stdout.strip()

  library = load()
  size = os.path.getsize(library)
  os.truncate(library, size // 2)
  assert load() == library
  assert os.path.getsize(library) == size


@pytest.mark.skipif(not winograd.available(), reason='no library here')
def test_a_carried_library_that_does_not_fit_is_passed_over(
  monkeypatch, tmp_path
):
  """As one for another interface of XLA: it does not register."""
  path = tmp_path / 'x86-64-v4.so'
  path.write_text('no library')
  assert 'x86-64-v4.so does not fit' in winograd._register(path)
  monkeypatch.setattr(kernel, 'carried', lambda: path)
  assert not winograd._load.__wrapped__()


def test_the_best_carried_library_is_taken(monkeypatch, tmp_path):
  monkeypatch.setattr(platform, 'machine', lambda: 'x86_64')
  monkeypatch.setattr(kernel, 'CARRIED', tmp_path)
  for name in kernel.VARIANTS['x86_64']:
    (tmp_path / f'{name}.so').write_text('')
  v3, v4 = (
    kernel.VARIANTS['x86_64'][name] for name in ('x86-64-v3', 'x86-64-v4')
  )
  for flags, want in ((v4, 'x86-64-v4.so'), (v3, 'x86-64-v3.so')):
    monkeypatch.setattr(kernel, '_cpu_lines', lambda *_, f=flags: f'flags: {f}')
    assert kernel.carried() == tmp_path / want
  monkeypatch.setattr(kernel, '_cpu_lines', lambda *_: 'flags: sse2 avx')
  assert kernel.carried() is None


@pytest.mark.parametrize(('off', 'lines'), [('1', 1), ('0', 0)])
def test_what_is_lost_is_said_once(off, lines, tmp_path):
  """Without a compiler; not where it was switched off."""
  code = (
    'import jax.numpy as jnp, pathlib; '
    'from cmbjax.models import convolution, kernel; '
    'kernel.CARRIED = pathlib.Path("none"); '
    'x = jnp.ones((1, 4, 4, 2, 8)); k = jnp.ones((3, 3, 3, 8, 8)); '
    '[convolution.convolve(x, k) for _ in range(2)]'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    env={
      **os.environ,
      'CXX': '/nowhere/c++',
      'CMBJAX_COMPILE': off,
      'XDG_CACHE_HOME': str(tmp_path),
    },
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  said = [l for l in done.stderr.splitlines() if 'third of the speed' in l]
  assert len(said) == lines
  assert all('install a C++ compiler' in line for line in said)
