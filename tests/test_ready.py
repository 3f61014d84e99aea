"""A work folder belongs to one setting, and every check comes before work."""

import contextlib
import json
import shutil

import pytest

from cmbjax import main, sealed
from cmbjax.errors import InputError
from cmbjax.study import config as configs
from cmbjax.study import dryrun, ready, resolve, run
from cmbjax.weights import catalogue
from tests import small_cohorts
from tests.messages import says


@pytest.fixture
def config():
  return configs.load('configs/finetune.py')


def owned(workdir, config, sweep=()):
  """As a run leaves it that was stopped in its first epoch."""
  points = resolve.points(config, sweep)
  workdir.mkdir(parents=True, exist_ok=True)
  setting = ready.setting_of(points)
  (workdir / 'record.json').write_text(json.dumps({'setting': setting}))
  return workdir


@pytest.mark.parametrize(
  ('key', 'value', 'refused'),
  [
    ('train.learning_rate', 2e-3, '0.0001 0.002'),
    ('train.epochs', 25, '24 25'),
    ('evaluation.threshold', 0.2, '0.1 0.2'),
    ('seed', 1, '0 1'),
    ('strategies', ('7t',), 'finetuned'),
    ('study.strategies.scratch.epochs', 3, '0 3'),
    ('train.backend', 'map', ''),
    ('simulate.jobs', 1, ''),
    ('name', 'another', ''),
    ('study.claims', (), ''),
    ('study.strategies.scratch.label', 'Fresh', ''),
  ],
)
def test_a_folder_belongs_to_one_setting(config, tmp_path, key, value, refused):
  workdir = owned(tmp_path / 'run', config)
  config.update_from_flattened_dict({key: value})
  before = sorted(tmp_path.rglob('*'))
  for start in (run.study, dryrun.describe):
    if not refused and start is run.study:
      continue
    with (
      says(InputError, f'{key} {refused} --workdir --overwrite')
      if refused
      else contextlib.nullcontext()
    ):
      start(config, workdir)
  dryrun.describe(config, workdir, overwrite=True)
  assert sorted(tmp_path.rglob('*')) == before


def test_a_sweep_is_part_of_the_setting(config, tmp_path):
  rates = [{'train.learning_rate': r} for r in (1e-3, 1e-4)]
  workdir = owned(tmp_path / 'run', config, rates)
  dryrun.describe(config, workdir, rates)
  with says(InputError):
    dryrun.describe(config, workdir, rates[:1])
  with says(InputError):
    dryrun.describe(config, workdir)


@pytest.mark.parametrize('content', ['{}', '{"set', None])
def test_a_folder_whose_setting_is_not_known(config, tmp_path, content):
  (tmp_path / 'models').mkdir()
  if content is not None:
    (tmp_path / 'record.json').write_text(content)
  with says(InputError):
    dryrun.describe(config, tmp_path)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'cohorts.btumor_3t': 'EMPTY'}, 'EMPTY'),  # F8: a cohort without a scan
    ({'train.data_parallel': 2}, 'data_parallel'),
    ({'writers': ('mlflow',)}, ''),
    ({'pretrained': 'EMPTY'}, ''),
    ({'model.name': 'nowhere:Net'}, ''),
    ({'train.loss': 'no_such_loss'}, 'train.loss'),
    ({'train.schedule': 'no_such_schedule'}, 'train.schedule'),
    ({'candidates': 'no_such_stage'}, ''),
    ({'evaluation.metrics': ('no_such:metric',)}, 'evaluation.metrics'),
    ({'channels': ('swi', 'phase')}, ''),
  ],
)
def test_the_dry_run_makes_the_checks_of_the_run(
  config, tmp_path, values, message
):
  (tmp_path / 'EMPTY').mkdir()
  for key, value in values.items():
    value = str(tmp_path / value) if value == 'EMPTY' else value
    config.update_from_flattened_dict({key: value})
  for start in (dryrun.describe, run.study):
    with says(InputError, message):
      start(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_work_folder_that_is_none(config, tmp_path):
  (tmp_path / 'file').write_text('')
  with says(InputError):
    dryrun.describe(config, tmp_path / 'file')
  for start in (dryrun.describe, run.study):
    with says(InputError, 'bucket/run'):
      start(config, 'gs://bucket/run')


def test_the_preset_is_part_of_the_default_folder():
  for name, folder in (
    ('finetune', 'finetune'),
    ('finetune.py:paper', 'finetune-paper'),
  ):
    call = main.parse(
      [
        'main',
        f'--config=configs/{name}'.replace('finetune', 'finetune.py', 1)
        if ':' not in name
        else f'--config=configs/{name}',
      ]
    )
    assert call.workdir.as_posix() == f'runs/{folder}'


def test_bundled_weights_are_not_judged_on_people_they_learned_from(tmp_path):
  """Also where labels are per cohort: simulated people are known by seed."""
  folder = tmp_path / 'cohort'
  small_cohorts.write_cohort(
    folder, subjects=3, simulated=True, prefix='sub-7T0'
  )
  for path in folder.rglob('*.json'):
    facts = json.loads(path.read_text())
    if path.name != 'dataset_description.json':
      facts |= {'Simulated': True, 'SimulationSeed': 5000}
      path.write_text(json.dumps(facts))
  config = configs.load('configs/finetune.py')
  config.strategies = ('7t',)
  config.tests = ('btumor_7t',)
  config.cohorts.btumor_7t = str(folder)
  for shared in (True, False):
    config.shared_labels = shared
    with says(InputError, 'sub-7T001@5000'):
      dryrun.describe(config, tmp_path / 'run')


def test_each_strategy_is_checked_with_its_own_optimizer(tmp_path):
  config = configs.load('configs/study.py')
  config.pretrained = 'train'
  config.train.weight_decay = 0.1
  plain = (('train.optimizer', 'optax:sgd'), ('train.weight_decay', 0.0))
  config.study.strategies.finetuned.settings = plain
  config.strategies = ('7t', 'finetuned', 'scratch')
  ready.check(resolve.points(config), tmp_path)
  config.study.strategies.finetuned.settings = plain[:1]
  with says(InputError, 'weight_decay'):
    ready.check(resolve.points(config), tmp_path)


def test_the_network_of_given_weights_is_found_before_any_work(tmp_path):
  folder = tmp_path / 'given'
  shutil.copytree(catalogue.folder('7t'), folder)
  record = sealed.read_json(folder / 'weights.json')
  record['model'] = 'nowhere_at_all:Net'
  sealed.write_json(folder / 'weights.json', record)
  config = configs.load('configs/finetune.py')
  config.pretrained = str(folder)
  with says(InputError, 'nowhere_at_all:Net'):
    ready.check(resolve.points(config), tmp_path / 'run')


def test_processes_compare_all_settings(monkeypatch, tmp_path):
  """How rows are shared out decides what a process waits for."""
  seen = []

  def stop(values):
    seen.append(values)
    raise InputError('enough')

  monkeypatch.setattr(run.hosts, 'check_same', stop)
  config = configs.load('configs/smoke.py')
  with says(InputError):
    run.study(config, tmp_path / 'run')
  assert {'config.train.data_parallel', 'config.seed', 'git'} <= set(seen[0])
  assert 'config.simulate.jobs' not in seen[0]


def test_no_point_of_a_sweep_starts_from_another_network(config, tmp_path):
  sweep = [{'model.name': name} for name in ('resnet_v4', 'resnet_v3')]
  with says(InputError, 'resnet_v4 config.model.name'):
    ready.check(resolve.points(config, sweep), tmp_path)
