"""A folder that one process at a time works in."""

import errno
import threading

import pytest

from cmbjax import locks
from cmbjax.errors import InputError
from tests.messages import says


def test_one_run_per_folder(tmp_path):
  with (
    locks.alone_in(tmp_path),
    says(InputError),
    locks.alone_in(tmp_path),
  ):
    pass
  with locks.alone_in(tmp_path):
    pass


def test_a_build_waits_for_another(tmp_path):
  order = []

  def second():
    with locks.alone_in(tmp_path, wait=True):
      order.append('second')

  with locks.alone_in(tmp_path):
    other = threading.Thread(target=second)
    other.start()
    other.join(0.3)
    order.append('first')
  other.join(10)
  assert order == ['first', 'second']


@pytest.mark.parametrize('wait', [True, False])
def test_on_a_disk_without_locks_only_a_build_goes_on(
  tmp_path, monkeypatch, wait
):
  def never(self):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr('filelock.FileLock.acquire', never)
  done = []

  def work():
    with locks.alone_in(tmp_path, wait=wait):
      done.append(True)

  if wait:
    work()
  else:
    with says(InputError, 'No'):
      work()
  assert done == [True] * wait
