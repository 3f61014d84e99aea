"""Scalars, speed and memory of a training; libraries only when asked for."""

import os
import struct
import types

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.training import logs, loop, replicas, watch, writers
from cmbjax.training.runner import Runner
from tests.messages import says
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


class Seen:
  """A writer that keeps everything."""

  def __init__(self):
    self.begun, self.values, self.closed = [], [], 0

  def begin(self, name, first, fingerprint):
    self.begun.append((name, first, fingerprint))

  def scalars(self, name, step, values):
    self.values.append((name, step, values))

  def close(self):
    self.closed += 1


def watched(toy, folder, epochs, *opened):
  job = job_of(epochs=epochs)
  observer = watch.Observer(folder, writers=opened, profile=folder / 'profile')
  loop.train(
    job,
    replicas.on_device(*toy),
    Runner(Tiny(), backend='vmap'),
    folder=folder / 'models' / 'x',
    fingerprint='f',
    start=lambda: start(job),
    observer=observer,
  )
  observer.close()


def test_a_training_is_watched(toy, tmp_path):
  seen = Seen()
  watched(toy, tmp_path, 2, seen)
  rows = watch.read_speed(tmp_path)
  assert [row['epoch'] for row in rows] == [0, 1]
  assert rows[0]['jobs'] == ['x']
  assert rows[1]['networks'] == 3
  assert rows[1]['patches_per_second'] > 0
  assert 0.01 < rows[1]['host_memory_gb'] < 100
  names = ['x/fold-0/seed-0', 'x/fold-1/seed-0', 'x/fold-0/seed-1', 'x/speed']
  assert seen.begun == [(name, 0, 'f') for name in names]
  assert [v[:2] for v in seen.values] == [(n, e) for e in (0, 1) for n in names]
  log = logs.read(tmp_path / 'models' / 'x' / 'epochs.jsonl')
  for name, step, values in seen.values:
    if name == 'x/speed':
      assert values['patches_per_second'] > 0
      continue
    r = names.index(name)
    assert values == {tag: log[step][tag][r] for tag in watch.TAGS}
  assert seen.closed == 1
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


def test_a_training_that_goes_on_is_told_its_past(toy, tmp_path):
  """A kill loses what a library has not written yet."""
  watched(toy, tmp_path / 'a', 2)
  resumed, whole = Seen(), Seen()
  watched(toy, tmp_path / 'a', 4, resumed)
  watched(toy, tmp_path / 'b', 4, whole)

  def of(seen):
    return sorted(
      (name, step, sorted(values.items()))
      for name, step, values in seen.values
      if name != 'x/speed'
    )

  assert of(resumed) == of(whole)
  assert resumed.begun[:3] == whole.begun[:3]
  assert resumed.begun[3] == ('x/speed', 2, 'f')


class Failing(Seen):
  def scalars(self, name, step, values):
    raise OSError('no route to host')


def test_a_writer_that_fails_ends_no_training(toy, tmp_path, capfd):
  seen = Seen()
  watched(toy, tmp_path, 2, Failing(), seen)
  said = capfd.readouterr().err
  assert said.count('Failing: writes no more (no route to host)') == 1
  assert len(seen.values) == 8


def test_a_missing_library_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(
    writers, '_MODULES', {'tensorboard': 'no_such_library_of_ours'}
  )
  with says(InputError, 'no_such_library'):
    writers.open_writers(('tensorboard',), tmp_path, title='x', config={})
  with says(InputError, "'paper'"):
    writers.open_writers(('paper',), tmp_path, title='x', config={})
  assert writers.open_writers((), tmp_path, title='x', config={}) == []


def opened_with(library, name, folder, monkeypatch):
  load = types.SimpleNamespace(
    import_module=lambda module: library,
    util=types.SimpleNamespace(find_spec=lambda module: library),
  )
  monkeypatch.setattr(writers, 'importlib', load)
  (writer,) = writers.open_writers(
    (name,), folder, title='study', config={'train.epochs': 3}
  )
  return writer


class FakeWandb(Recorder):
  """Offline, or with an answer to `login`; runs stand at step 2."""

  def __init__(self, mode='offline', answer=True):
    super().__init__()
    self.settings = types.SimpleNamespace(mode=mode)
    self.step, self._answer = 2, answer

  def setup(self):
    return self

  def login(self, **settings):
    if isinstance(self._answer, Exception):
      raise self._answer
    return self._answer


def test_what_wandb_is_told(tmp_path, monkeypatch):
  """A run that goes on has the same id, and gets each step once."""
  library = FakeWandb()
  writer = opened_with(library, 'wandb', tmp_path, monkeypatch)
  for fingerprint in ('f', 'f', 'g'):
    writer.begin('7t/fold-0/seed-0', 0, fingerprint)
  for step in range(4):
    writer.scalars('7t/fold-0/seed-0', step, {'loss': 0.5})
  writer.close()
  begun = [kwargs for name, _, kwargs in library.calls if name == 'init']
  ids = [kwargs['id'] for kwargs in begun]
  assert ids[0] == ids[1] != ids[2]
  assert begun[0]['resume'] == 'allow'
  assert begun[0]['group'] == 'study'
  assert begun[0]['name'] == '7t/fold-0/seed-0'
  assert begun[0]['config'] == {'train.epochs': 3}
  logged = [
    kwargs['step'] for name, _, kwargs in library.calls if name == 'log'
  ]
  assert logged == [2, 3]
  assert library.calls[-1][0] == 'finish'


class FakeMlflow:
  """One experiment that remembers its runs."""

  def __init__(self):
    self.runs, self.logged, self.entities = {}, [], self

  def __getattr__(self, name):
    raise AssertionError(f'{name} is not faked')

  MlflowClient = Experiment = lambda self: self
  experiment_id = 'e'

  def search_experiments(self, max_results):
    return []

  def get_experiment_by_name(self, name):
    return self

  def search_runs(self, experiments, text, max_results):
    found = [r for mark, r in self.runs.items() if f"'{mark}'" in text]
    return [self._run(r) for r in found]

  def create_run(self, experiment, tags, run_name):
    self.runs[tags['cmbjax_id']] = run_name
    return self._run(run_name)

  def _run(self, name):
    metrics = {tag: 0 for run, tag, *_ in self.logged if run == name}
    return types.SimpleNamespace(
      info=types.SimpleNamespace(run_id=name),
      data=types.SimpleNamespace(metrics=metrics),
    )

  def log_param(self, run, key, value):
    self.param = (key, value)

  def get_metric_history(self, run, tag):
    mine = [one for one in self.logged if one[:2] == (run, tag)]
    return [types.SimpleNamespace(step=one[3]) for one in mine]

  def Metric(self, tag, value, now, step):
    return (tag, value, step)

  def log_batch(self, run, metrics):
    self.logged += [(run, *metric) for metric in metrics]

  def set_terminated(self, run):
    self.ended = run


def test_what_mlflow_is_told(tmp_path, monkeypatch):
  """Opened twice, as after a kill: one run, each step once."""
  library = FakeMlflow()
  for last in (2, 4):
    writer = opened_with(library, 'mlflow', tmp_path, monkeypatch)
    writer.begin('7t/fold-0/seed-0', 0, 'f')
    for step in range(last):
      writer.scalars('7t/fold-0/seed-0', step, {'loss': 0.5, 'auc': 0.9})
    writer.close()
  assert list(library.runs.values()) == ['7t/fold-0/seed-0']
  assert library.param == ('train.epochs', '3')
  steps = [one[-1] for one in library.logged if one[1] == 'loss']
  assert steps == [0, 1, 2, 3]
  assert library.ended == '7t/fold-0/seed-0'


@pytest.mark.parametrize(
  ('answer', 'words'),
  [
    (
      False,
      'API',
    ),
    (RuntimeError('401'), '401 WANDB_MODE=offline'),
  ],
)
def test_wrong_credentials_are_found_at_once(
  tmp_path, monkeypatch, answer, words
):
  with says(InputError, words):
    opened_with(FakeWandb('online', answer), 'wandb', tmp_path, monkeypatch)
  library = FakeWandb('offline', answer)  # needs none
  opened_with(library, 'wandb', tmp_path, monkeypatch)
  opened_with(FakeWandb('online', True), 'wandb', tmp_path, monkeypatch)


def test_a_server_out_of_reach_is_found_at_once(tmp_path, monkeypatch):
  class Unreachable(FakeMlflow):
    def search_experiments(self, max_results):
      assert os.environ['MLFLOW_HTTP_REQUEST_MAX_RETRIES'] == '1'
      raise ConnectionError('refused')

    def get_tracking_uri(self):
      return 'http://there'

  before = dict(os.environ)
  with says(InputError, 'TRACKING_URI'):
    opened_with(Unreachable(), 'mlflow', tmp_path, monkeypatch)
  assert dict(os.environ) == before


def events(path):
  """The events of one file: length, checksum, data, checksum."""
  from tensorboardX.proto.event_pb2 import Event

  data = path.read_bytes()
  while data:
    (length,) = struct.unpack('<Q', data[:8])
    yield Event.FromString(data[12 : 12 + length])
    data = data[16 + length :]


def shown_by_tensorboard(folder):
  """{tag: {step: value}} of one run, older files first, purged as it does."""
  found = {}
  for path in sorted(folder.glob('events.*'), key=lambda p: p.stat().st_mtime):
    for event in events(path):
      if event.HasField('session_log'):
        for steps in found.values():
          for step in [s for s in steps if s >= event.step]:
            del steps[step]
      for value in event.summary.value:
        if value.HasField('simple_value'):
          steps = found.setdefault(value.tag, {})
          assert event.step not in steps, 'a step comes twice'
          steps[event.step] = value.simple_value
  return found


def test_event_files_read_back(toy, tmp_path):
  """A folder for each training, with the numbers of the log, also resumed."""
  pytest.importorskip('tensorboardX')
  for epochs in (2, 4):
    (writer,) = writers.open_writers(
      ('tensorboard',), tmp_path, title='study', config={'a': 1}
    )
    watched(toy, tmp_path, epochs, writer)
  folder = tmp_path / 'logs' / 'tensorboard'
  log = logs.read(tmp_path / 'models' / 'x' / 'epochs.jsonl')
  for r, name in enumerate(('fold-0/seed-0', 'fold-1/seed-0', 'fold-0/seed-1')):
    found = shown_by_tensorboard(folder / 'x' / name)
    assert set(found) == set(watch.TAGS)
    for tag, steps in found.items():
      assert sorted(steps) == [0, 1, 2, 3]
      for step, value in steps.items():
        assert value == pytest.approx(log[step][tag][r], rel=1e-6)
  speed = shown_by_tensorboard(folder / 'x' / 'speed')
  assert sorted(speed['patches_per_second']) == [0, 1, 2, 3]
  (first, *_) = folder.glob('events.*')
  assert b'study' in first.read_bytes()


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
