"""Processes that meet by TCP alone, without JAX."""

import os
import pathlib
import socket
import subprocess
import sys
import threading

import pytest

from cmbjax.errors import InputError
from cmbjax.training import line
from tests import ports
from tests.messages import says

ROOT = pathlib.Path(__file__).parents[1]
# Process INDEX of COUNT; then does what the last argument says.
PROGRAM = """
import os, signal, sys, time
from cmbjax import errors
from cmbjax.training import line, preemption

address, index, count, patience, todo = sys.argv[1:]
line.MEET_S = float(patience)

def work():
  one = line.Line(address, int(count), int(index))
  try:
    one.meet()
    exec(todo)
    one.end()
    one.close()
  except BaseException as error:
    raise one.leave(error)
  return 0

def main():
  with preemption.listening():
    try:
      return errors.exit_code(work)
    except preemption.Stopped:
      print('stopped', file=sys.stderr)
      return 0

preemption.exit_with(main)
"""


def run(*each, count=None, patience=60, numbers=None):
  """Code and standard error of each process, by what each is to do."""
  count = len(each) if count is None else count
  with ports.hold() as held:
    address = f'localhost:{ports.number(held)}'
    processes = [
      subprocess.Popen(
        [
          *(sys.executable, '-c', PROGRAM, address),
          *map(str, (numbers[i] if numbers else i, count, patience, todo)),
        ],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
      )
      for i, todo in enumerate(each)
    ]
    try:
      errors = [one.communicate(timeout=60)[1] for one in processes]
      return [one.returncode for one in processes], errors
    finally:
      for one in processes:
        one.kill()


def test_every_process_gets_all_values():
  todo = 'assert one.gather("x", one.index * 2) == [0, 2, 4]'
  assert run(*[todo] * 3) == ([0, 0, 0], [''] * 3)


def test_others_wait_for_one_that_takes_its_time():
  todo = 'time.sleep(2 * (one.index == 1)); one.gather("x")'
  assert run(todo, todo, patience=20) == ([0, 0], ['', ''])


def test_a_failure_of_one_reaches_all_others():
  fails = 'raise errors.NoInputError("x.nii: is missing.")'
  codes, errors = run('one.gather("a")', fails, 'one.gather("a")')
  assert codes == [3, 3, 3]
  said = 'process 1 of 3: x.nii: is missing.'
  assert errors == [
    f'cmbjax: {said}\n',
    'cmbjax: x.nii: is missing.\n',
    f'cmbjax: {said}\n',
  ]


def test_the_main_thread_is_interrupted_in_its_work():
  fails = 'one.gather("a"); time.sleep(1); raise errors.InputError("no.")'
  tidies = (
    'one.gather("a")\n'
    'try: time.sleep(50)\nfinally: print("tidied", file=sys.stderr)'
  )
  codes, errors = run(tidies, fails)
  assert codes == [2, 2]
  assert errors[0] == 'tidied\ncmbjax: process 1 of 2: no.\n'


def test_a_request_to_end_reaches_all():
  codes, errors = run('one.gather("a")', 'os.kill(os.getpid(), signal.SIGTERM)')
  assert (codes, errors) == ([0, 0], ['stopped\n', 'stopped\n'])


@pytest.mark.parametrize('killed', [0, 1, 2])
def test_a_process_that_is_killed(killed):
  todo = ['one.gather("a")'] * 3
  todo[killed] = 'os.kill(os.getpid(), signal.SIGKILL)'
  codes, errors = run(*todo)
  assert sorted(codes) == [-9, 1, 1]
  for i, text in enumerate(errors):
    if i != killed:
      assert text.startswith(f'cmbjax: process {killed} of 3 on ')
      assert text.count('\n') == 1


def test_different_places_of_the_program():
  codes, errors = run('one.gather("a")', 'one.gather("b")')
  assert codes == [1, 1]
  assert errors[0] == errors[1]
  assert "['a', 'b']" in errors[0]


def test_one_that_does_not_come():
  codes, errors = run('', '', count=3, patience=3)
  assert codes == [2, 2]
  assert errors[0].startswith('cmbjax: process 2 of 3 did not come within 3 s')
  assert 'process 2 of 3 did not come' in errors[1]


def test_the_first_does_not_come():
  codes, (error,) = run('', count=2, patience=1, numbers=[1])
  assert codes == [2]
  assert 'process 0 of 2 at localhost:' in error
  assert 'Connection refused' in error


def test_the_same_number_twice():
  codes, errors = run('', '', '', numbers=[0, 1, 1])
  assert codes == [2, 2, 2]
  assert all('has --processes 3 and this number already' in e for e in errors)


def test_a_port_that_another_program_has():
  with socket.create_server(('localhost', 0)) as other:
    one = line.Line(f'localhost:{ports.number(other)}', 2, 0)
    with says(InputError):
      one.meet()


@pytest.mark.parametrize(
  'address', ['node1', 'node1:', ':80', 'node1:x', 'node1:0', 'node1:65536']
)
def test_an_address_that_is_none(address):
  with says(InputError, 'HOST:PORT'):
    line.Line(address, 2, 0)


@pytest.mark.parametrize('words', [b'', b'GET / HTTP/1.1\r\n\r\n', b'{}\n'])
def test_a_stranger_is_sent_away(words, monkeypatch):
  """A scanner of ports is no process of the run."""
  monkeypatch.setattr(line, 'MEET_S', 5.0)
  with ports.hold() as held:
    port = ports.number(held)
    first, second = (line.Line(f'localhost:{port}', 2, i) for i in range(2))
    thread = threading.Thread(target=first.meet)
    thread.start()
    while True:
      try:
        stranger = socket.create_connection(('localhost', port))
        break
      except OSError:
        pass
    with stranger:
      stranger.sendall(words)
      stranger.shutdown(socket.SHUT_WR)
      assert stranger.recv(100) == b''
    second.meet()
    thread.join()
    ends = [threading.Thread(target=one.end) for one in (first, second)]
    for end in ends:
      end.start()
    for end in ends:
      end.join()
    for one in (first, second):
      one.close()
