"""SIGTERM is heard where it can be, and a program ends without delay."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from cmbjax.training import preemption

ROOT = pathlib.Path(__file__).parents[1]


def python(code):
  return subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )


def test_what_is_registered_is_done_and_written():
  """Output that nobody flushed, too; only taking Python apart is left out."""
  done = python(
    'import atexit, sys\n'
    'from cmbjax.training import preemption\n'
    'class Late:\n'
    '  def __del__(self): print("taken apart")\n'
    'late = Late()\n'
    'def main():\n'
    '  atexit.register(print, "registered")\n'
    '  sys.stdout.write("whole. ")\n'
    '  return 3\n'
    'preemption.exit_with(main)\n'
  )
  assert (done.returncode, done.stdout) == (3, 'whole. registered\n')


def test_a_real_error_keeps_its_traceback():
  done = python(
    'from cmbjax.training import preemption\n'
    'preemption.exit_with(lambda: 1 / 0)\n'
  )
  assert done.returncode == 1
  assert 'ZeroDivisionError' in done.stderr


def test_noted_inside_and_at_once_elsewhere():
  with preemption.listening():
    with preemption.deferred():
      os.kill(os.getpid(), signal.SIGTERM)
      assert preemption.requested()
    with pytest.raises(preemption.Stopped):
      os.kill(os.getpid(), signal.SIGTERM)
  assert not preemption.requested()
