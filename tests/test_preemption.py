"""SIGTERM is heard where it can be, and a program ends without delay."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from cmbjax.training import preemption

ROOT = pathlib.Path(__file__).parents[1]


def python(code, *words):
  return subprocess.run(
    [sys.executable, '-c', code, *words],
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


FORGOTTEN = """
import os, signal, sys, threading, weakref
from cmbjax.training import preemption

class Thing:
  pass

def last(_):
  os.kill(os.getpid(), signal.SIGTERM)

def main():
  usual = sys.unraisablehook
  try:
    with preemption.listening():
      thing = Thing()
      watch = weakref.ref(thing, last)
      del thing
      if sys.argv[1] == 'goes on':
        threading.Event().wait(60)
        return 1
  except preemption.Stopped:
    print('heard')
  assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
  assert sys.unraisablehook is usual
  return 0

preemption.exit_with(main)
"""


@pytest.mark.parametrize(
  ('then', 'said'), [('goes on', 'heard\n'), ('ends', '')]
)
def test_a_signal_in_a_callback_of_the_collector_is_heard(then, said):
  """Python drops the exception there, and would write of it."""
  done = python(FORGOTTEN, then)
  assert (done.returncode, done.stdout, done.stderr) == (0, said, '')


def test_another_error_in_a_callback_is_still_shown():
  done = python(
    'from cmbjax.training import preemption\n'
    'class Bad:\n'
    '  def __del__(self): 1 / 0\n'
    'with preemption.listening():\n'
    '  Bad()\n'
  )
  assert done.returncode == 0
  assert 'ZeroDivisionError' in done.stderr


EVERYWHERE = """
import os, signal, sys
from cmbjax.training import preemption

def mine(*_): pass
signal.signal(signal.SIGTERM, mine)
hook, point, points = sys.unraisablehook, 0, []
sys._getframe().f_trace_opcodes = True  # before the first trace: Python 3.12

def trace(frame, event, _):
  if frame.f_code.co_filename != preemption.__file__: return None
  frame.f_trace_opcodes = True
  if event == 'opcode':  # no signal lands between a yield and its return
    points.append(frame.f_lasti)
    if len(points) == point:
      os.kill(os.getpid(), signal.SIGTERM)
  return trace

while len(points) >= point:
  point, points = point + 1, []
  sys.settrace(trace)
  try:
    with preemption.listening():
      pass
  except preemption.Stopped:
    pass
  sys.settrace(None)
  assert signal.getsignal(signal.SIGTERM) is mine, point
  assert sys.unraisablehook is hook, point
  assert not preemption.requested(), point
print(point)
"""


def test_wherever_the_signal_lands_nothing_stays_behind():
  """Before and after every single step of `listening`."""
  done = python(EVERYWHERE)
  assert (done.returncode, done.stderr) == (0, ''), done.stderr
  assert int(done.stdout) > 50


def test_a_second_signal_does_not_disturb_the_tidying_up():
  with preemption.listening():
    with pytest.raises(preemption.Stopped):
      os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.requested()
