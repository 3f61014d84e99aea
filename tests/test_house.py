"""The house rules that a machine can check."""

import ast
import pathlib
import re
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
  'candidates': FOUNDATION | {'imaging', 'models'},
  'data': FOUNDATION | {'imaging', 'candidates'},
  'training': FOUNDATION | {'data', 'models'},
  'evaluation': FOUNDATION,
  'weights': FOUNDATION | {'training'},
  'report': FOUNDATION | {'evaluation'},
  'review': FOUNDATION
  | {'imaging', 'candidates', 'data', 'evaluation', 'report'},
  'detect': FOUNDATION
  | {
    'imaging',
    'candidates',
    'data',
    'models',
    'training',
    'evaluation',
    'report',
  }
  | {'weights'},
  'study': FOUNDATION
  | {'simulate', 'candidates', 'data', 'models', 'training', 'evaluation'}
  | {'report', 'detect', 'weights'},
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


def test_benchmarks_run_without_the_tests():
  for path in ROOT.parent.glob('benchmarks/*.py'):
    assert not re.search(
      r"""(import|from) tests\b|'tests['/]""", path.read_text()
    ), path.name


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


# Rooms whose functions are called from Python, not by a command alone.
LIBRARY = (
  *('candidates', 'data', 'detect', 'evaluation', 'imaging', 'models'),
  'report',
  *('simulate', 'study', 'training'),
)


def without_args(source):
  """Public functions of three or more arguments without a section Args.

  One without any docstring overrides another, which has it.
  """
  todo = [ast.parse(source)]
  while todo:
    for node in ast.iter_child_nodes(todo.pop()):
      if getattr(node, 'name', '_').startswith('_'):
        continue
      if isinstance(node, ast.ClassDef):
        todo.append(node)
      elif isinstance(node, ast.FunctionDef):
        a, text = node.args, ast.get_docstring(node)
        names = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
        names = [n.arg for n in names if n and n.arg not in ('self', 'cls')]
        if len(names) >= 3 and text and '\nArgs:\n' not in text:
          yield node.name


def test_many_arguments_are_explained():
  lacking = [
    f'{path.relative_to(ROOT)}: {name}'
    for path in SOURCES
    if room_of(path) in LIBRARY and not path.stem.endswith('_command')
    for name in without_args(path.read_text())
  ]
  assert lacking == []


def test_arguments_without_an_explanation_are_seen():
  made = 'class A:\n  def b(self, {}):\n    "Doc."\n  def _c(x, y, z): "D."'
  assert list(without_args(made.format('x, *y, z'))) == ['b']
  assert list(without_args(made.format('x, y'))) == []
