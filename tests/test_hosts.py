"""Two processes with four devices each, and what one process does alone."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cmbjax import locks
from cmbjax.errors import InputError
from cmbjax.training import hosts
from tests import on_hosts, ports
from tests.messages import says

HERE = pathlib.Path(__file__).parent
TRAINS = (str(HERE / 'on_hosts.py'),)
STUDIES = ('-m', 'cmbjax.main', '--config=configs/smoke.py')
TOLD = 'cmbjax: '


def begin(devices, *arguments):
  flags = (
    f'--xla_force_host_platform_device_count={devices} '
    '--xla_backend_optimization_level=0'
  )
  return subprocess.Popen(
    [sys.executable, *map(str, arguments)],
    env={**os.environ, 'XLA_FLAGS': flags, 'PYTHONPATH': str(HERE.parent)},
    cwd=HERE.parent,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(*processes):
  """Exit codes and standard errors; from the first end to the last, 30 s."""
  ended = []
  try:
    while any(process.poll() is None for process in processes):
      if any(process.poll() is not None for process in processes):
        ended.append(time.monotonic())
        if ended[-1] - ended[0] > 30:
          left = [i for i, one in enumerate(processes) if one.poll() is None]
          raise AssertionError(f'processes {left} go on alone')
      time.sleep(0.1)
    return (
      [process.returncode for process in processes],
      [process.communicate()[1] for process in processes],
    )
  finally:
    for process in processes:
      process.kill()
      process.communicate()


def train_two(out, faults=('', '')):
  """The codes and errors of two processes of on_hosts.py."""
  with ports.hold() as held:
    address = f'localhost:{ports.number(held)}'
    return finish(
      *(begin(4, *TRAINS, out, address, 2, i, faults[i]) for i in range(2))
    )


def study_two(workdir, *, other=''):
  """The same of two processes of one study; `other`: a flag of the second."""
  with ports.hold() as held:
    common = (
      *STUDIES,
      f'--workdir={workdir}',
      f'--coordinator=localhost:{ports.number(held)}',
      '--processes=2',
    )
    return finish(
      begin(1, *common, '--process=0'),
      begin(1, *common, '--process=1', *([other] if other else [])),
    )


def sentence(errors):
  """The only one, without what the progress says."""
  lines = [line for line in errors.splitlines() if not line.startswith('train')]
  assert len(lines) == 1, errors
  assert lines[0].startswith(TOLD)
  return lines[0].removeprefix(TOLD)


LATE = """
import os, signal, sys
import jax
from cmbjax.training import hosts, preemption

shutdown = jax.distributed.shutdown

def late():
  if sys.argv[3] == '1':  # the other one waits for this one by now
    os.kill(os.getpid(), signal.SIGTERM)
  shutdown()

def main():
  jax.distributed.shutdown = late
  with preemption.listening(), hosts.together(
    sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
  ):
    pass
  return 0

preemption.exit_with(main)
"""


def test_a_request_to_end_when_all_is_done_keeps_nobody_waiting():
  with ports.hold() as held:
    address = f'localhost:{ports.number(held)}'
    codes, errors = finish(
      *(begin(1, '-c', LATE, address, 2, i) for i in range(2))
    )
  assert codes == [0, 0], errors


def test_two_processes_predict_the_same(tmp_path):
  """As eight devices of one, and as one that goes on where they were cut."""
  codes, errors = train_two(tmp_path / 'two')
  assert codes == [0, 0], errors
  codes, errors = finish(begin(8, *TRAINS, tmp_path / 'one'))
  assert codes == [0], errors
  one, two = (
    dict(np.load(tmp_path / name / 'predictions.npz'))
    for name in ('one', 'two')
  )
  assert set(two) == {'scratch', 'finetuned', 'frozen'}
  for name in two:
    np.testing.assert_array_equal(one[name], two[name])
  shutil.rmtree(tmp_path / 'two' / 'common' / 'epoch-0002')
  resumed = on_hosts.predictions(tmp_path / 'two')  # on one device
  for name in two:
    np.testing.assert_allclose(resumed[name], two[name], atol=1e-6)


def test_one_process_needs_nothing():
  assert hosts.count() == 1
  assert hosts.is_writer()
  assert hosts.agree(True)
  assert not hosts.agree(False)
  assert hosts.first('x', lambda: 3) == 3
  hosts.barrier('x')
  tree = hosts.fetch({'a': np.arange(3)})
  np.testing.assert_array_equal(tree['a'], [0, 1, 2])


@pytest.mark.parametrize(
  ('faults', 'code'),
  [
    (('', 'sentence'), 2),
    (('sentence', 'waits'), 2),
    (('early waits', 'early sentence'), 2),
    (('', 'early sentence'), 2),
  ],
)
def test_a_mistake_in_one_ends_both(faults, code, tmp_path):
  """With its sentence and its code, also where the other hears nothing."""
  codes, errors = train_two(tmp_path, faults)
  assert codes == [code, code], errors
  by = 0 if 'sentence' in faults[0] else 1
  assert sentence(errors[by]) == on_hosts.SENTENCE
  said = f'process {by} of 2: {on_hosts.SENTENCE}'
  assert sentence(errors[1 - by]) == said


def test_a_bug_in_one_ends_both(tmp_path):
  codes, errors = train_two(tmp_path, ('', 'bug'))
  assert codes == [1, 1], errors
  assert errors[1].count('ZeroDivisionError: of a test') == 1
  said = 'process 1 of 2: ZeroDivisionError: of a test'
  assert sentence(errors[0]) == said


@pytest.mark.parametrize('when', ['', 'early '])
def test_one_that_is_killed_ends_both(when, tmp_path):
  codes, errors = train_two(tmp_path, ('', f'{when}sigkill'))
  assert codes == [1, -signal.SIGKILL], errors
  assert 'process 1 of 2 on' in sentence(errors[0])
  assert 'killed' in errors[0]


def test_when_the_first_is_killed_the_other_says_so(tmp_path):
  """JAX has lost its service, and may write of it first."""
  codes, errors = train_two(tmp_path, ('sigkill', ''))
  assert codes == [-signal.SIGKILL, 1], errors
  assert 'process 0 of 2 on localhost: ended' in errors[1]


def test_one_that_is_asked_to_end_saves_with_the_other(tmp_path):
  codes, errors = train_two(tmp_path, ('', 'sigterm'))
  assert codes == [0, 0], errors
  assert [p.name for p in (tmp_path / 'common').glob('*/')] == ['epoch-0001']
  assert not (tmp_path / 'predictions.npz').exists()
  codes, errors = train_two(tmp_path)
  assert codes == [0, 0], errors
  assert 'epoch 1/2' in errors[0]
  assert (tmp_path / 'predictions.npz').exists()


def test_processes_with_other_settings_end(tmp_path):
  """It was trained with two learning rates, and one was written down."""
  key = 'config.train.learning_rate'
  codes, errors = study_two(tmp_path / 'run', other=f'--{key}=0.01')
  assert codes == [2, 2], errors
  assert sentence(errors[0]) == sentence(errors[1])
  assert sentence(errors[0]).startswith(
    f'{key}: is 0.01 in process 1 and 0.0001 in process 0; start all'
  )
  assert not (tmp_path / 'run').exists()


def test_a_setting_that_one_refuses_ends_both(tmp_path):
  key = 'config.train.learning_rate'
  codes, errors = study_two(tmp_path / 'run', other=f'--{key}=-1')
  assert codes == [2, 2], errors
  assert sentence(errors[1]).startswith(key)
  assert sentence(errors[0]) == f'process 1 of 2: {sentence(errors[1])}'


def test_a_folder_that_another_run_uses_ends_both(tmp_path):
  with locks.alone_in(tmp_path):
    codes, errors = study_two(tmp_path)
  assert codes == [2, 2], errors
  assert sentence(errors[0]).startswith(f'{tmp_path}: another run is using it')
  assert sentence(errors[1]) == f'process 0 of 2: {sentence(errors[0])}'


@pytest.mark.parametrize(
  'given', [('host:1', 0, -1), ('', 2, 0), ('host:1', 2, 2)]
)
def test_a_part_of_the_three(given):
  with (
    says(InputError, '--coordinator --processes'),
    hosts.together(*given),
  ):
    raise AssertionError


def test_a_batch_script_of_slurm_is_one_process(monkeypatch):
  """Only srun starts several; a salloc shell has their number all the same."""
  monkeypatch.setenv('SLURM_NTASKS', '4')
  monkeypatch.delenv('SLURM_STEP_ID', raising=False)
  with hosts.together():
    assert hosts.count() == 1


@pytest.mark.parametrize(
  ('nodes', 'first'),
  [
    ('node7', 'node7'),
    ('a-1,b-2', 'a-1'),
    ('node[001-015],x', 'node001'),
    ('gpu[03,07-09]', 'gpu03'),
  ],
)
def test_the_first_node_of_slurm(nodes, first, monkeypatch):
  """As JAX finds it, which has its service there."""
  monkeypatch.setenv('SLURM_STEP_NODELIST', nodes)
  monkeypatch.setenv('SLURM_JOB_ID', '4097')
  assert hosts._slurm_address() == f'{first}:61441'
