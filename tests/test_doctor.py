"""The doctor names what is missing and the command that fixes it."""

import json
import shlex
import subprocess
import sys

import pytest

from cmbjax import doctor, workers
from tests import offline


def command(*options, **environment):
  return subprocess.run(
    [sys.executable, '-m', 'cmbjax.cli', 'doctor', *options],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
    env=environment,
  )


@pytest.mark.e2e
def test_command_prints_json_and_agrees_with_its_exit_code(tmp_path):
  record = tmp_path / 'record'
  new = offline.environment(record, XDG_CACHE_HOME=str(tmp_path / 'new'))
  done = command('--no-speed', '--json', **new)
  found = json.loads(done.stdout)
  states = {check['name']: check['state'] for check in found['checks']}
  assert states['Python'] == states['packages'] == 'fine'
  assert states['devices'] != 'missing'
  assert found['speed'] == {}
  assert done.returncode == int('missing' in states.values())
  assert 'Traceback' not in done.stderr
  assert offline.attempts(record) == []


def test_every_line_that_is_not_fine_has_a_mend():
  for check in doctor.checks():
    assert check.state in doctor.MARKS
    assert (check.state == doctor.FINE) != bool(check.fix) or (
      check.name == 'memory'
    ), check


def test_a_missing_package_is_named(monkeypatch):
  wanted = ['numpy>=1', 'nosuchpackage>=2', 'absl-py<0.1', "x; extra == 'y'"]
  monkeypatch.setattr(
    doctor.importlib.metadata, 'requires', lambda name: wanted
  )
  found = doctor._packages()
  assert found.state == doctor.MISSING
  assert 'nosuchpackage is missing' in found.found
  assert 'absl-py' in found.found
  assert 'wanted <0.1' in found.found
  assert 'x' not in found.found.split()


def test_little_space_and_little_memory(monkeypatch):
  class Usage:
    free = 1e9

  monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda path: Usage)
  assert doctor._disk().state == doctor.NOTE
  assert '5 GB' in doctor._disk().fix
  monkeypatch.setattr(doctor.workers, 'memory_gb', lambda: (8.0, 1.5))
  assert doctor._memory().found == '8.0 GB, 1.5 GB free'
  assert '--jobs 1' in doctor._memory().fix
  monkeypatch.setattr(doctor.workers, 'memory_gb', lambda: (None, None))
  assert doctor._memory().state == doctor.NOTE


def test_memory_is_what_the_system_says():
  total, free = doctor.workers.memory_gb()
  if total is not None:
    assert 0 < free <= total


def test_a_cache_that_is_a_file(monkeypatch, tmp_path):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  assert doctor._cache().state == doctor.NOTE
  assert 'XDG_CACHE_HOME' in doctor._cache().fix


def test_compiled_convolution_switched_off(monkeypatch, tmp_path):
  from cmbjax.models import winograd

  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setattr(winograd, 'available', lambda: False)
  assert 'g++' in doctor._convolution().fix
  monkeypatch.setenv('CMBJAX_COMPILE', '0')
  assert 'unset CMBJAX_COMPILE' in doctor._convolution().fix


def test_weights_that_are_damaged(monkeypatch):
  from cmbjax.detect import classifier
  from cmbjax.errors import InputError

  def load(folder):
    raise InputError('weights: arrays do not agree with the manifest.')

  monkeypatch.setattr(classifier, 'load', load)
  assert doctor._weights().state == doctor.MISSING
  assert 'manifest' in doctor._weights().found


def test_speed_is_positive():
  found = doctor.speed._networks(replicas_at_once=1, batch=4, steps=1)
  assert min(found.values()) > 0


def test_the_made_up_brain_has_dots():
  image, mask = doctor.speed._made_up_brain()
  assert image.shape == mask.shape == doctor.speed.SHAPE
  assert ((image < 0.35) & mask).sum() > 1000


def test_what_is_missing_is_one_command(monkeypatch):
  wanted = ['numpy>=1', 'nosuchpackage<3,>=2', 'absl-py<0.1']
  monkeypatch.setattr(
    doctor.importlib.metadata, 'requires', lambda name: wanted
  )
  words = shlex.split(doctor._packages().fix)
  assert words[:4] == ['python', '-m', 'pip', 'install']
  assert words[4:] == ['nosuchpackage<3,>=2', 'absl-py<0.1']


def test_a_package_that_cannot_be_imported_stops_no_other_check(monkeypatch):
  def devices():
    raise ImportError("No module named 'jax'")

  devices.__name__ = '_devices'
  bad = doctor.Check('packages', doctor.MISSING, 'jax is missing', 'install it')
  monkeypatch.setattr(doctor, '_devices', devices)
  monkeypatch.setattr(doctor, '_packages', lambda: bad)
  found = {check.name: check for check in doctor.checks()}
  assert found['devices'].state == doctor.MISSING
  assert found['devices'].fix == 'install it'
  assert found['browser'].state in doctor.MARKS
  monkeypatch.setattr(
    doctor, '_packages', lambda: doctor.Check('packages', doctor.FINE, '')
  )
  with pytest.raises(ImportError):
    list(doctor.checks())


def test_one_core(monkeypatch):
  import jax

  monkeypatch.setattr(workers, 'cores', lambda: 1)
  monkeypatch.setattr(doctor.shutil, 'which', lambda name: None)
  if jax.default_backend() == 'cpu':
    assert doctor._devices().state == doctor.NOTE
    assert '1 core' in doctor._devices().found


def test_no_browser(monkeypatch):
  def get():
    raise doctor.webbrowser.Error('could not locate runnable browser')

  monkeypatch.setattr(doctor.webbrowser, 'get', get)
  assert '--no-browser' in doctor._browser().fix


def test_dicom_wants_the_converter_too(monkeypatch):
  there = {'pydicom', 'highdicom'}
  monkeypatch.setattr(
    doctor.importlib.util, 'find_spec', lambda name: name in there or None
  )
  monkeypatch.setattr(doctor.shutil, 'which', lambda name: None)
  assert '[dicom]' in doctor._extras().fix
  monkeypatch.setattr(doctor.shutil, 'which', lambda name: f'/bin/{name}')
  assert '[dicom]' not in doctor._extras().fix


def test_without_a_cache_no_compiler_is_asked_for(monkeypatch, tmp_path):
  from cmbjax.models import winograd

  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  monkeypatch.delenv('CMBJAX_COMPILE', raising=False)
  monkeypatch.setattr(winograd, 'available', lambda: False)
  assert 'g++' not in doctor._convolution().fix
  assert 'XDG_CACHE_HOME' in doctor._convolution().fix
