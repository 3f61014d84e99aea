"""What is built for strangers holds what they need; scripts/release.sh."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import tomllib

import pytest

from cmbjax.weights import catalogue
from tests import wheel as wheel_lib

ROOT = pathlib.Path(__file__).parents[1]
# Of the checkout only: what is not tracked, and what runs it.
KEPT_BACK = {'.ci', '.git', '.gitignore', 'pyproject.toml', 'PKG-INFO'}
TOP = {'cmbjax', 'tfds_builders'}
LISTS = (
  'import json, sys\n'
  'from hatchling.builders.wheel import WheelBuilder\n'
  'from hatchling.builders.sdist import SdistBuilder\n'
  'print(json.dumps([[f.distribution_path for f in '
  'b(sys.argv[1]).recurse_included_files()] '
  'for b in (WheelBuilder, SdistBuilder)]))'
)


def project():
  return tomllib.loads((ROOT / 'pyproject.toml').read_text())


def targets():
  return project()['tool']['hatch']['build']['targets']


@pytest.fixture(scope='module')
def listed():
  """The file lists of hatch, without building: of the wheel and the sdist."""
  pytest.importorskip('hatchling')
  done = subprocess.run(
    [sys.executable, '-c', LISTS, str(ROOT)],
    capture_output=True,
    text=True,
    check=True,
  )
  return [set(paths) for paths in json.loads(done.stdout)]


def test_the_sdist_names_what_is_there_and_forgets_nothing():
  named = set(targets()['sdist']['include'])
  assert all((ROOT / name).exists() for name in named)
  ignored = (ROOT / '.gitignore').read_text().split()
  there = {
    path.name
    for path in ROOT.iterdir()
    if not any(path.match(pattern.rstrip('/')) for pattern in ignored)
  }
  assert there - KEPT_BACK <= named


def test_every_licence_is_in_the_wheel():
  files = project()['project']['license-files']
  assert {'LICENSE', 'NOTICE'} <= set(files)
  assert all((ROOT / name).is_file() for name in files)


def test_what_is_left_out_of_the_wheel_are_the_tests_of_the_builders(listed):
  wheel, sdist = listed
  assert not [p for p in wheel if p.endswith('_test.py') or 'dummy_data' in p]
  assert not [p for p in wheel if p.split('/')[0] not in TOP]
  assert [p for p in sdist if p.endswith('_test.py')]
  assert 'cmbjax/configs/base.py' in wheel
  assert 'cmbjax/review/page/page.html' in wheel
  builders = {p for p in wheel if p.endswith('_dataset_builder.py')}
  assert len(builders) == len(list(ROOT.glob('tfds_builders/*/*_builder.py')))
  assert not [p for p in wheel | sdist if '__pycache__' in p]


def test_what_the_tests_copy_is_what_the_wheel_holds(listed, tmp_path):
  """`tests.wheel` does without hatchling where there is none."""
  wheel_lib.copy(tmp_path)
  copied = {
    str(path.relative_to(tmp_path))
    for path in tmp_path.rglob('*')
    if path.is_file()
  }
  assert copied == {p for p in listed[0] if '.dist-info/' not in p}


def test_the_wheel_and_the_sdist_hold_the_weights(listed):
  for name in catalogue.NAMES:
    inside = [p for p in catalogue.folder(name).rglob('*') if p.is_file()]
    here = {str(p.relative_to(ROOT)) for p in inside}
    assert here
    assert all(here <= paths for paths in listed)


def test_the_release_takes_no_folder_that_is_in_use(tmp_path):
  (tmp_path / 'env').mkdir()
  done = subprocess.run(
    [str(ROOT / 'scripts' / 'release.sh'), str(tmp_path)],
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert done.returncode == 2
  assert 'give a new folder' in done.stderr


@pytest.mark.parametrize('wanted', ['', '1'])
def test_only_the_platform_wheel_carries_libraries(
  monkeypatch, tmp_path, wanted
):
  """The hook itself, with a compiler that only writes the file."""
  pytest.importorskip('hatchling')
  spec = importlib.util.spec_from_file_location(
    'hatch_build', ROOT / 'hatch_build.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  fake = tmp_path / 'c++'
  fake.write_text(
    '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho GLIBC_2.28 > "$2"\n'
  )
  fake.chmod(0o755)
  monkeypatch.setenv('CXX', str(fake))
  monkeypatch.setenv('CMBJAX_PLATFORM_WHEEL', wanted)
  monkeypatch.setattr('sys.platform', 'linux')
  monkeypatch.setattr('platform.machine', lambda: 'x86_64')
  monkeypatch.setattr('platform.libc_ver', lambda: ('glibc', '2.36'))
  hook = module.CustomBuildHook(str(ROOT), {}, None, None, '', 'wheel')
  data = {'force_include': {}, 'pure_python': True}
  hook.initialize('standard', data)
  names = {path.split('/')[-1] for path in data['force_include'].values()}
  if wanted:
    assert names == {'x86-64-v4.so', 'x86-64-v3.so'}
    assert data['tag'] == 'py3-none-manylinux_2_28_x86_64'
    assert hook.dependencies() == [module.JAXLIB]
  else:
    assert data == {'force_include': {}, 'pure_python': True}
    assert not hook.dependencies()
  hook.finalize('standard', data, '')
