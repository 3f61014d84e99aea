"""Commands that may reach this machine only, and what they tried beyond it."""

import os
import pathlib

RECORD = 'CMBJAX_TEST_ATTEMPTS'


def environment(record: pathlib.Path, **more: str) -> dict[str, str]:
  """For a process and all its children: Python's sockets stay on loopback.

  `sitecustomize.py` beside this file is imported when they begin.
  """
  paths = [str(pathlib.Path(__file__).parent), os.environ.get('PYTHONPATH')]
  path = os.pathsep.join(filter(None, paths))
  return os.environ | {'PYTHONPATH': path, RECORD: str(record)} | more


def attempts(record: pathlib.Path) -> list[str]:
  """One line for each attempt; the first of each process says it was watched.

  Raises:
    AssertionError: no process was watched.
  """
  lines = record.read_text().splitlines() if record.exists() else []
  assert 'watched' in lines, f'{record}: no process was watched'
  return [line for line in lines if line != 'watched']
