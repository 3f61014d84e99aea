"""Two processes with four devices each, and what one process does alone."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.training import hosts
from tests import on_hosts, ports

HERE = pathlib.Path(__file__).parent


def begin(devices, *arguments):
  flags = (
    f'--xla_force_host_platform_device_count={devices} '
    '--xla_backend_optimization_level=0'
  )
  return subprocess.Popen(
    [sys.executable, str(HERE / 'on_hosts.py'), *map(str, arguments)],
    env={**os.environ, 'XLA_FLAGS': flags, 'PYTHONPATH': str(HERE.parent)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(*processes):
  try:
    for process in processes:
      _, errors = process.communicate(timeout=300)
      assert process.returncode == 0, errors[-3000:]
  finally:  # one that waits for a dead one would wait for ever
    for process in processes:
      process.kill()


def test_two_processes_predict_the_same(tmp_path):
  """As eight devices of one, and as one that goes on where they were cut."""
  with ports.hold() as held:
    address = f'localhost:{ports.number(held)}'
    finish(*(begin(4, tmp_path / 'two', address, 2, i) for i in range(2)))
  finish(begin(8, tmp_path / 'one'))
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
  'given', [('host:1', 0, -1), ('', 2, 0), ('host:1', 2, 2)]
)
def test_a_part_of_the_three(given):
  with pytest.raises(InputError, match='--coordinator, --processes and'):
    hosts.join(*given)


def test_a_batch_script_of_slurm_is_one_process(monkeypatch):
  """Only srun starts several; a salloc shell has their number all the same."""
  monkeypatch.setenv('SLURM_NTASKS', '4')
  monkeypatch.delenv('SLURM_STEP_ID', raising=False)
  hosts.join()
  assert hosts.count() == 1
