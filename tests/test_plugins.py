"""Own parts: which file is taken, and what tells two versions apart."""

import importlib
import sys

import pytest

from cmbjax import plugins

NAME = 'part_of_a_test'


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
  monkeypatch.setattr(plugins, 'home', None)
  yield
  for name in [n for n in sys.modules if n.startswith(NAME)]:
    del sys.modules[name]


def found(folder, name=f'{NAME}:part'):
  plugins.home = folder
  return plugins.find(name, key='key', known={})


def write(folder, text, name=NAME):
  folder.mkdir(exist_ok=True)
  (folder / f'{name}.py').write_text(text)
  return folder


def test_each_config_gets_the_part_of_its_own_folder(tmp_path):
  first = write(tmp_path / 'a', 'part = 1\n')
  second = write(tmp_path / 'b', 'part = 2\n')
  assert found(first) == 1
  assert found(second) == 2
  assert found(first) == 1


def test_a_module_is_looked_for_in_the_order_of_the_rule(tmp_path, monkeypatch):
  names = ('own', 'installed', 'current')
  own, installed, current = (
    write(tmp_path / name, f'part = {name!r}\n') for name in names
  )
  monkeypatch.chdir(current)
  monkeypatch.setattr(sys, 'path', [str(installed), *sys.path])
  assert found(own) == 'own'
  assert found(None) == 'installed'
  sys.path.remove(str(installed))
  assert found(None) == 'current'


@pytest.mark.parametrize(
  'text',
  [
    'import functools\npart = functools.partial(print, sep="{}")\n',
    'from functools import cache as part\nx = "{}"\n',
    f'import {NAME}_2\npart = print\n',
    f'from {NAME}_2 import part\n',
  ],
)
def test_every_change_of_a_part_is_seen(tmp_path, text):
  sources = set()
  for version in 'ab':
    folder = write(tmp_path / version, text.format(version))
    write(folder, f'def part(): return "{version}"\n', f'{NAME}_2')
    part = found(folder)
    sources.add(plugins.source(f'{NAME}:part', part))
    for name in [n for n in sys.modules if n.startswith(NAME)]:
      del sys.modules[name]  # each in a process of its own
  assert len(sources) == 2


def test_a_part_that_is_built_in_has_no_source():
  assert plugins.source('part', print) == ''


def test_a_part_may_be_in_the_config_file(tmp_path, monkeypatch):
  """As from a wheel, where nothing else makes `configs` importable."""
  importlib.import_module('ml_collections')  # before it cannot be found
  monkeypatch.setattr(sys, 'path', [p for p in sys.path if 'wheel' in p])
  monkeypatch.chdir(tmp_path)
  folder = write(tmp_path / 'configs', 'from configs import base as part\n')
  before = {name for name in sys.modules if name.startswith('configs')}
  assert found(folder).get_config().seed == 0
  assert {n for n in sys.modules if n.startswith('configs')} == before
