"""Killed at any moment, run again: the same numbers, bit for bit."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cmbjax.training import checkpoint, logs, loop, optim, preemption, replicas
from cmbjax.training.runner import Runner
from tests import killed
from tests.test_replicas import Tiny, job_of, largest, start

HERE = pathlib.Path(__file__).parent
EPOCHS = 16


def begin(folder):
  return subprocess.Popen(
    [sys.executable, str(HERE / 'killed.py'), str(folder), str(EPOCHS)],
    env={**os.environ, 'PYTHONPATH': str(HERE.parent)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def lines(folder):
  path = folder / 'epochs.jsonl'
  return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(process, folder, count):
  """Until so many epochs are logged."""
  end = time.monotonic() + 300
  while lines(folder) < count:
    assert time.monotonic() < end
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.002)


def test_killed_and_terminated(tmp_path):
  process = begin(tmp_path / 'a')
  wait_for(process, tmp_path / 'a', 2)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  process = begin(tmp_path / 'a')
  wait_for(process, tmp_path / 'a', 5)
  process.send_signal(signal.SIGTERM)
  out, errors = process.communicate(timeout=60)
  assert process.returncode == 0, errors
  assert not out
  assert list((tmp_path / 'a' / 'checkpoints').glob('epoch-*.json'))
  assert lines(tmp_path / 'a') < EPOCHS
  resumed = killed.train(tmp_path / 'a', EPOCHS)
  assert resumed == killed.train(tmp_path / 'b', EPOCHS)


@pytest.mark.parametrize(
  ('backend', 'optimizer'),
  [('vmap', 'adamw'), ('map', 'adamw'), ('loop', 'optax:lion')],
)
def test_a_stop_within_an_epoch_is_exact(
  toy, tmp_path, monkeypatch, backend, optimizer
):
  """After every single step, with each schedule; the rest comes later."""
  rows = job_of(len(killed.SCHEDULES)).replicas
  rows = tuple(
    row._replace(schedule=name, warmup=0.3, patience=1, min_delta=9.0)
    for row, name in zip(rows, killed.SCHEDULES)
  )
  job = job_of(epochs=3, replicas=rows)
  options = {
    'fingerprint': 'f',
    'start': lambda: start(job),
  }
  patches = replicas.on_device(*toy)
  runner = Runner(
    Tiny(), backend=backend, optimizer=optim.find_optimizer(optimizer)
  )
  whole = loop.train(job, patches, runner, folder=tmp_path / 'a', **options)
  asked = iter([False, True])
  monkeypatch.setattr(preemption, 'requested', lambda: next(asked, True))
  stops = 0
  weights = None
  while weights is None:
    asked = iter([False, True])
    try:
      weights = loop.train(
        job, patches, runner, folder=tmp_path / 'b', **options
      )
    except preemption.Stopped:
      stops += 1
    if stops > 3:
      monkeypatch.setattr(preemption, 'requested', lambda: False)
  assert stops > 3
  assert largest(whole, weights) == 0
  logged = [logs.read(tmp_path / name / 'epochs.jsonl') for name in 'ab']
  assert logged[0] == logged[1]
  first, _, last = (row['learning_rate'] for row in logged[0])
  for name, before, after in zip(killed.SCHEDULES, first, last):
    assert (before == after) == (name == 'constant'), name


def test_restored_on_another_number_of_rows(toy, tmp_path):
  """The rows that fill up a program are not saved."""
  job = job_of(epochs=2)
  patches = replicas.on_device(*toy)
  options = {'fingerprint': 'f', 'start': lambda: start(job)}
  loop.train(
    job_of(epochs=1),
    patches,
    Runner(Tiny(), backend='vmap', width=2),
    folder=tmp_path / 'a',
    **options,
  )
  resumed, straight = (
    loop.train(job, patches, Runner(Tiny(), backend=b), folder=f, **options)
    for b, f in (('shard', tmp_path / 'a'), ('vmap', tmp_path / 'b'))
  )
  assert largest(resumed, straight) < 1e-6


def test_a_signal_outside_training_ends_at_once():
  with preemption.listening(), pytest.raises(preemption.Stopped):
    signal.raise_signal(signal.SIGTERM)
  with preemption.listening():
    assert not preemption.requested()
    with preemption.deferred():
      signal.raise_signal(signal.SIGTERM)
      assert preemption.requested()
  assert not preemption.requested()


def test_checkpoints_of_other_jobs_are_removed(tmp_path):
  state = {'x': np.arange(3)}
  checkpoint.Checkpoints(tmp_path, fingerprint='a').save(1, state)
  other = checkpoint.Checkpoints(tmp_path, fingerprint='b')
  assert other.restore(state) is None
  assert not list(tmp_path.iterdir())


def test_the_newest_epoch_is_the_largest_number(tmp_path):
  """Sorted as text, 10000 comes before 9999 and was removed at once."""
  (tmp_path / 'epoch-notes').mkdir()
  kept = checkpoint.Checkpoints(tmp_path, fingerprint='a')
  for epoch in (9999, 10000, 10001):
    kept.save(epoch, {'x': np.full(3, epoch)})
  names = {path.stem for path in tmp_path.iterdir()}
  assert names == {'epoch-10000', 'epoch-10001', 'epoch-notes'}
  found = kept.restore({'x': np.zeros(3, int)})
  assert found.epoch == 10001
  np.testing.assert_array_equal(found.state['x'], 10001)
