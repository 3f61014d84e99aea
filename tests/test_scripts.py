"""scripts/workstation.sh and colab.py; those for Slurm are in e2e/."""

import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time
import types

import pytest

from tests.messages import says

SCRIPTS = pathlib.Path(__file__).parents[1] / 'scripts'
# In the place of Python: says what it was given, and does what DO says.
PYTHON = r"""#!/usr/bin/env bash
given=$*
index=${given##*--process=}
trap 'sleep 0.2; echo "saved $index" >>"$NOTES"; exit 0' TERM
echo "$given" >>"$NOTES"
if [[ $DO == crash && $index == 1 ]]; then exit 3; fi
if [[ $DO == end ]]; then exit 0; fi
while true; do sleep 0.05; done
"""


@pytest.fixture
def begin(tmp_path):
  """Starts workstation.sh with two processes; the file where they note."""
  (tmp_path / 'python').write_text(PYTHON)
  (tmp_path / 'python').chmod(0o755)
  notes = tmp_path / 'notes'
  notes.touch()

  def call(do):
    return subprocess.Popen(
      [str(SCRIPTS / 'workstation.sh'), 'configs/smoke.py:paper', '--a=b c'],
      env={
        **os.environ,
        'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}',
        'NOTES': str(notes),
        'PROCESSES': '2',
        'DO': do,
      },
    ), notes

  return call


def test_two_processes_are_told_of_each_other(begin):
  process, notes = begin('end')
  assert process.wait(60) == 0
  common = '-m cmbjax.main --config=configs/smoke.py:paper --a=b c '
  common += (
    '--workdir=runs/smoke-paper --coordinator=localhost:29500 --processes=2'
  )
  assert sorted(notes.read_text().splitlines()) == [
    f'{common} --process=0',
    f'{common} --process=1',
  ]


def test_a_request_to_stop_waits_for_all_to_save(begin):
  process, notes = begin('wait')
  while notes.read_text().count('--process=') < 2:
    assert process.poll() is None
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  assert process.wait(60) == 0
  assert {'saved 0', 'saved 1'} <= set(notes.read_text().splitlines())


def test_one_that_dies_does_not_leave_the_others_waiting(begin):
  process, _ = begin('crash')
  assert process.wait(60) == 3


@pytest.mark.parametrize('source', ['', 'git+https://x/cmbjax.git'])
def test_colab_keeps_the_run_on_drive(source, monkeypatch, tmp_path):
  """As a pasted cell, whose arguments are those of the kernel."""
  cell = tmp_path / 'cell.py'
  text = (SCRIPTS / 'colab.py').read_text()
  assert "SOURCE = ''\n" in text
  cell.write_text(text.replace("SOURCE = ''\n", f'SOURCE = {source!r}\n'))
  mounted, called = [], []
  colab = types.ModuleType('google.colab')
  colab.drive = types.SimpleNamespace(mount=mounted.append)
  monkeypatch.setitem(sys.modules, 'google', types.ModuleType('google'))
  monkeypatch.setitem(sys.modules, 'google.colab', colab)
  arguments = ['kernel.py', '-f', 'kernel-1.json', '--config.seed=1']
  monkeypatch.setattr(sys, 'argv', arguments)

  def run(command, check):
    called.append(command)
    return subprocess.CompletedProcess(command, 0)

  monkeypatch.setattr(subprocess, 'run', run)
  if not source:  # nothing is guessed: a name may be another's package
    with says(SystemExit, 'SOURCE'):
      runpy.run_path(str(cell), run_name='__main__')
    assert mounted == called == []
    return
  runpy.run_path(str(cell), run_name='__main__')
  assert mounted == ['/content/drive']
  install, study = called
  assert install[1:] == ['-m', 'pip', 'install', '--quiet', source]
  assert study[1:] == [
    '-m',
    'cmbjax.main',
    '--config=configs/finetune.py',
    f'--workdir={pathlib.Path("/content/drive/MyDrive/cmbjax/finetune")}',
    '--config.seed=1',
  ]


def test_colab_script_elsewhere_says_how_it_ended(monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['colab.py'])
  monkeypatch.setattr(
    subprocess, 'run', lambda c, check: subprocess.CompletedProcess(c, 2)
  )
  with pytest.raises(SystemExit) as ended:
    runpy.run_path(str(SCRIPTS / 'colab.py'), run_name='__main__')
  assert ended.value.code == 2
