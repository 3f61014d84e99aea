"""Nothing of cmbjax looks beyond this machine: every module, as it is imported.

The verbs and a study are watched where they are tested, in tests/e2e.
"""

import pathlib
import subprocess
import sys

import pytest

from tests import offline

ROOT = pathlib.Path(__file__).parents[1]
_TRIES = {
  'name': "socket.getaddrinfo('example.org', 80)",
  'address': "socket.create_connection(('192.0.2.1', 80), 1)",
  'datagram': "socket.socket(type=2).sendto(b'x', ('192.0.2.1', 9))",
  'page': "urllib.request.urlopen('http://192.0.2.1/', timeout=1)",
}
_IMPORTS = """
import importlib, pkgutil, cmbjax
count = 0
for one in pkgutil.walk_packages(cmbjax.__path__, 'cmbjax.'):
  try:
    importlib.import_module(one.name)
    count += 1
  except ImportError as error:  # of an extra that is not installed
    assert not str(error.name).startswith('cmbjax'), error
assert count > 100, count
"""


def run(record, text):
  return subprocess.run(
    [sys.executable, '-c', text],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
    cwd=ROOT,
    env=offline.environment(record),
  )


@pytest.mark.parametrize('kind', sorted(_TRIES))
def test_the_watch_sees_and_refuses(kind, tmp_path):
  text = f'import socket, urllib.request\n{_TRIES[kind]}'
  done = run(tmp_path / 'record', text)
  assert 'no network is allowed' in done.stderr
  (tried,) = offline.attempts(tmp_path / 'record')
  assert tried.endswith(('192.0.2.1', 'example.org'))


def test_loopback_is_left_alone(tmp_path):
  text = """
import multiprocessing, socket
server = socket.create_server(('127.0.0.1', 0))
link = socket.create_connection(server.getsockname())
link.sendall(b'x')
assert server.accept()[0].recv(1) == b'x'
socket.socketpair()
"""
  done = run(tmp_path / 'record', text)
  assert not done.returncode, done.stderr
  assert offline.attempts(tmp_path / 'record') == []


def test_imports_reach_for_nothing(tmp_path):
  done = run(tmp_path / 'record', _IMPORTS)
  assert not done.returncode, done.stderr
  assert offline.attempts(tmp_path / 'record') == []
