"""Scalars, speed and memory of a training; libraries only when asked for."""

import json
import types

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.training import loop, replicas, watch, writers
from cmbjax.training.runner import Runner
from tests.test_replicas import Tiny, job_of, start


class Recorder:
  """Stands for a library: notes every call."""

  def __init__(self):
    self.calls = []

  def __getattr__(self, name):
    def call(*args, **kwargs):
      self.calls.append((name, args, kwargs))
      return self

    return call


def test_a_training_is_watched(toy, tmp_path):
  seen = []

  class Writer:
    def scalars(self, step, values):
      seen.append((step, values))

  job = job_of(epochs=2)
  loop.train(
    job,
    replicas.on_device(*toy),
    Runner(Tiny(), backend='vmap'),
    folder=tmp_path / 'models' / 'x',
    fingerprint='f',
    start=lambda: start(job),
    observer=watch.Observer(
      tmp_path, writers=[Writer()], profile=tmp_path / 'profile'
    ),
  )
  rows = watch.read_speed(tmp_path)
  assert [row['epoch'] for row in rows] == [0, 1]
  assert rows[0]['jobs'] == ['x']
  assert rows[1]['networks'] == 3
  assert rows[1]['patches_per_second'] > 0
  assert 0.01 < rows[1]['host_memory_gb'] < 100
  assert [step for step, _ in seen] == [0, 1]
  log = (tmp_path / 'models' / 'x' / 'epochs.jsonl').read_text().splitlines()
  wanted = json.loads(log[1])['validation_loss'][1]
  assert seen[1][1]['validation_loss/x/fold-1/seed-0'] == pytest.approx(wanted)
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


def test_a_missing_library_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(
    writers, '_MODULES', {'tensorboard': 'no_such_library_of_ours'}
  )
  with pytest.raises(InputError, match=r'no_such_library.*cmbjax\[tensorb'):
    writers.open_writers(('tensorboard',), tmp_path, title='x', config={})
  with pytest.raises(InputError, match="holds 'paper'"):
    writers.open_writers(('paper',), tmp_path, title='x', config={})
  assert writers.open_writers((), tmp_path, title='x', config={}) == []


@pytest.mark.parametrize('name', writers.WRITERS)
def test_what_a_library_is_told(name, tmp_path, monkeypatch):
  library = Recorder()
  load = types.SimpleNamespace(
    import_module=lambda module: library,
    util=types.SimpleNamespace(find_spec=lambda module: library),
  )
  monkeypatch.setattr(writers, 'importlib', load)
  (writer,) = writers.open_writers(
    (name,), tmp_path, title='study', config={'train.epochs': 3}
  )
  writer.scalars(4, {'loss/a': 0.5, 'rate/7t@x=1/b': 2.0})
  writer.close()
  told = str(library.calls)
  for part in ('study', 'train.epochs', 'loss/a', '0.5', '4', '2.0'):
    assert part in told


def test_event_files_read_back(tmp_path):
  pytest.importorskip('tensorboardX')
  (writer,) = writers.open_writers(
    ('tensorboard',), tmp_path, title='study', config={'a': 1}
  )
  writer.scalars(7, {'loss': 0.25})
  writer.close()
  (path,) = (tmp_path / 'logs' / 'tensorboard').glob('events.*')
  data = path.read_bytes()
  assert b'loss' in data
  assert np.float32(0.25).tobytes() in data


def test_a_summary_says_the_spread():
  text = watch.summary(np.array([0.3, 0.5, 0.4]), 1234.5)
  assert text == 'validation loss 0.400 (0.300 to 0.500), 1,234 patches/s'
  assert (
    watch.summary(np.array([0.3]), 9) == 'validation loss 0.300, 9 patches/s'
  )


def test_a_summary_of_networks_that_diverge():
  """One of three must not hide how the others do."""
  text = watch.summary(np.array([0.3, np.nan, 0.5]), 10)
  assert '0.400 (0.300 to 0.500), not finite in 1 of 3, 10 p' in text
  assert 'loss not finite, 10 p' in watch.summary(np.full(2, np.nan), 10)
