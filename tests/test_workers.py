"""No process of a pool outlives the one that started it."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from cmbjax import plugins, workers
from cmbjax.errors import InputError
from tests.messages import says

WORK = """
import os, time
from cmbjax import workers

def work(item):
  os.write(1, b'%d\\n' % os.getpid())
  time.sleep(60)

if __name__ == '__main__':
  list(workers.spread(work, range(2), 2, gigabytes=1))
"""


@pytest.mark.parametrize('sent', [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_when_their_parent_is_killed(tmp_path, sent):
  script = tmp_path / 'work.py'
  script.write_text(WORK)
  parent = subprocess.Popen(
    [sys.executable, script], stdout=subprocess.PIPE, text=True
  )
  try:
    children = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(map(_lives, children))
    parent.send_signal(sent)
    parent.wait()
    deadline = time.monotonic() + 120
    while any(map(_lives, children)) and time.monotonic() < deadline:
      time.sleep(0.05)
    assert not any(map(_lives, children))
  finally:
    parent.kill()
    parent.stdout.close()
    parent.wait()


LOST = """
import os, signal, sys
from cmbjax import workers

class Last:
  def __del__(self):
    os.kill(os.getpid(), signal.SIGINT)

def work(item):
  print(item, flush=True)
  last = Last() if item == 1 else None

try:
  list(workers.spread(work, range(4), 1, gigabytes=1))
except KeyboardInterrupt:
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  sys.exit(130)
"""


def test_an_interrupt_that_python_forgets_is_heard(tmp_path):
  script = tmp_path / 'work.py'
  script.write_text(LOST)
  done = subprocess.run(
    [sys.executable, script], capture_output=True, text=True, check=False
  )
  assert 'Exception ignored' in done.stderr
  assert (done.returncode, done.stdout.split()) == (130, ['0', '1'])


def test_a_second_interrupt_does_not_disturb_the_end():
  class Process:
    def terminate(self):
      os.kill(os.getpid(), signal.SIGINT)

    def join(self, timeout):
      assert timeout

  class Pool:
    def __init__(self):
      self._processes = {1: Process()}

    def shutdown(self, **_):
      pass

  before = signal.getsignal(signal.SIGINT)
  workers._stop(Pool())
  assert signal.getsignal(signal.SIGINT) is before


def test_where_the_system_does_not_tell_all_cores_count(monkeypatch):
  assert 1 <= workers.fit(0.001) == workers.cores()
  assert workers.fit(1e9) == 1  # however little memory there is
  monkeypatch.delattr(os, 'sched_getaffinity', raising=False)
  monkeypatch.setattr(os, 'cpu_count', lambda: 7)
  assert workers.cores() == 7
  monkeypatch.setattr(pathlib.Path, 'read_text', _not_linux)
  assert workers.fit(1e9) == 7


def test_processes_fit_into_the_free_memory(monkeypatch):
  monkeypatch.setattr(workers, 'cores', lambda: 16)
  monkeypatch.setattr(workers, 'memory_gb', lambda: (100.0, 9.0))
  assert workers.fit(2.0) == 4
  assert workers.fit(0.5) == 16


def _not_linux(path):
  raise FileNotFoundError(path)


def test_results_come_and_a_killed_process_is_named():
  assert list(workers.spread(abs, [-1, 2], 1, gigabytes=1)) == [1, 2]
  assert sorted(workers.spread(abs, [-1, 2, -3], 2, gigabytes=1)) == [1, 2, 3]
  with says(InputError):
    list(workers.spread(os._exit, [3], 2, gigabytes=1))
  with pytest.raises(TypeError):
    list(workers.spread(abs, ['x'], 2, gigabytes=1))


@pytest.mark.parametrize('how', ['file', 'stdin'])
def test_a_script_without_a_guard_is_told_of_it(tmp_path, how):
  text = WORK.partition("if __name__ == '__main__':")[0]
  text += """
from cmbjax.errors import InputError
try:
  list(workers.spread(abs, range(2), 2, gigabytes=1))
except InputError as error:
  print(error)
"""
  script = tmp_path / 'work.py'
  script.write_text(text)
  done = subprocess.run(
    [sys.executable, script if how == 'file' else '-'],
    input=None if how == 'file' else text,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.count("if __name__ == '__main__':") == 1
  assert 'memory' not in done.stdout
  if how == 'file':
    assert done.stderr == ''


def _lives(process: int) -> bool:
  try:
    with open(f'/proc/{process}/stat') as file:
      return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
  except FileNotFoundError:
    return False


def home_of(_):
  return plugins.home


def test_processes_look_for_own_parts_where_their_parent_does(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(plugins, 'home', tmp_path)
  assert list(workers.spread(home_of, [1], 2, gigabytes=1)) == [tmp_path]
