"""No process of a pool outlives the one that started it."""

import os
import signal
import subprocess
import sys
import time

import pytest

POOL = """
import concurrent.futures, multiprocessing, os, time
from cmbjax import workers

if __name__ == '__main__':
  pool = concurrent.futures.ProcessPoolExecutor(
    2, mp_context=multiprocessing.get_context('spawn'),
    initializer=workers.begin,
  )
  numbers = {pool.submit(os.getpid).result()}
  print(*numbers, flush=True)
  pool.submit(time.sleep, 60)
  time.sleep(60)
"""


@pytest.mark.parametrize('sent', [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_when_their_parent_is_killed(tmp_path, sent):
  script = tmp_path / 'pool.py'
  script.write_text(POOL)
  parent = subprocess.Popen(
    [sys.executable, script], stdout=subprocess.PIPE, text=True
  )
  try:
    (worker,) = map(int, parent.stdout.readline().split())
    os.kill(worker, 0)
    parent.send_signal(sent)
    parent.wait()
    deadline = time.monotonic() + 20
    while _lives(worker) and time.monotonic() < deadline:
      time.sleep(0.05)
    assert not _lives(worker)
  finally:
    parent.kill()
    parent.stdout.close()
    parent.wait()


def _lives(process: int) -> bool:
  try:
    with open(f'/proc/{process}/stat') as file:
      return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
  except FileNotFoundError:
    return False
