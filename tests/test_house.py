"""The house rules that a machine can check."""

import ast
import pathlib
import subprocess
import sys

import pytest

import cmbjax

ROOT = pathlib.Path(cmbjax.__file__).parent
FOUNDATION = {'errors', 'files', 'progress', 'beam', 'workers', '__init__'}
FOUNDATION |= {'plugins', 'sealed'}
ALLOWED = {  # room -> rooms that it may import
  'errors': set(),
  'beam': {'errors', 'files'},
  'files': {'errors'},
  'sealed': {'errors', 'files'},
  'progress': set(),
  'plugins': {'errors'},
  'workers': {'errors', 'plugins'},
  'imaging': FOUNDATION,
  'models': FOUNDATION,
  'simulate': FOUNDATION | {'imaging'},
  'detect': FOUNDATION | {'imaging', 'models'},
  'data': FOUNDATION | {'imaging', 'detect'},
  'training': FOUNDATION | {'data', 'models'},
  'evaluation': FOUNDATION,
  'weights': FOUNDATION | {'training'},
  'report': FOUNDATION | {'evaluation'},
  'review': FOUNDATION | {'imaging', 'detect', 'data', 'evaluation', 'report'},
  'lesions': FOUNDATION
  | {'imaging', 'detect', 'data', 'models', 'training', 'evaluation', 'report'}
  | {'weights'},
  'study': FOUNDATION
  | {'simulate', 'detect', 'data', 'models', 'training', 'evaluation'}
  | {'report', 'lesions', 'weights'},
}


def room_of(path):
  first = path.relative_to(ROOT).parts[0]
  return first.removesuffix('.py')


def imported_rooms(path):
  rooms = set()
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
      names = [f'{node.module}.{alias.name}' for alias in node.names]
    for name in names:
      parts = name.split('.')
      if parts[0] == 'cmbjax' and len(parts) > 1 and parts[1] != '__version__':
        rooms.add(parts[1])
  return rooms


SOURCES = sorted(ROOT.rglob('*.py'))


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: p.stem)
def test_imports_go_one_way(path):
  room = room_of(path)
  if room in ALLOWED:
    wrong = imported_rooms(path) - ALLOWED[room] - {room}
    assert not wrong, f'{room} must not import {sorted(wrong)}'


def test_only_checkpoint_imports_orbax():
  users = [p.name for p in SOURCES if 'orbax.checkpoint' in p.read_text()]
  assert users == ['checkpoint.py']


def test_rooms_are_small_and_named():
  for path in SOURCES:
    assert path.stat().st_size < 24_000, f'{path.name} wants to be two nouns'
    assert path.stem not in ('utils', 'helpers', 'common')


def test_help_starts_without_jax():
  code = (
    'import sys; from cmbjax import cli; cli.parser();'
    'assert "jax" not in sys.modules and "tensorflow" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


def test_nothing_of_ours_needs_tensorflow():
  code = (
    'import sys; from cmbjax import study;'
    'assert "tensorflow" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
