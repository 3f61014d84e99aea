"""Replicas on 1, 4 and 8 devices, and batches split over two of them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from cmbjax.errors import InputError
from cmbjax.training.runner import Runner
from tests.messages import says
from tests.test_replicas import Tiny

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope='module')
def found():
  """What tests/on_devices.py prints; it needs its own process."""
  flags = '--xla_force_host_platform_device_count=8'
  flags += ' --xla_backend_optimization_level=0'  # compiles sooner
  done = subprocess.run(
    [sys.executable, str(HERE / 'on_devices.py')],
    env={**os.environ, 'XLA_FLAGS': flags, 'PYTHONPATH': str(HERE.parent)},
    capture_output=True,
    text=True,
    timeout=500,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('how', ['loop', 'shard 1', 'shard 4', 'shard 8'])
def test_together_equals_alone(found, how):
  """Scratch, fine-tuned and frozen rows of two lengths, after two epochs."""
  assert found[how] <= 1e-6


def test_a_split_batch_gives_the_same_numbers(found):
  """BatchNorm, dropout and augmentation are those of the whole batch."""
  assert found['split batch'] <= 1e-5


def test_nothing_crosses_between_replicas(found):
  """No collective at all; with a split batch only among its own devices."""
  assert found['collectives'] == 0
  assert found['groups'] == ['{{0,1},{2,3},{4,5},{6,7}}']


def test_devices_that_cannot_share():
  with says(InputError, 'data_parallel'):
    Runner(Tiny(), backend='shard', data_parallel=3)
  with says(InputError, 'data_parallel'):
    Runner(Tiny(), backend='vmap', data_parallel=2)
