"""Points of a sweep to a table, to programs, to a forecast."""

import os
import pathlib
import types

import numpy as np
import pytest

from cmbjax import config as configs
from cmbjax import dryrun, study, trainings
from cmbjax.errors import InputError
from cmbjax.models import get_model
from cmbjax.training import logs, loop, replicas

NOWHERE = pathlib.Path('nowhere')
RATES = [
  {'train.learning_rate': r, 'train.finetune_learning_rate': r}
  for r in (1e-3, 1e-4, 1e-5)
]


@pytest.fixture
def config():
  return configs.load('configs/sweep.py')


def made_up(config, material, strategy, *, variant=''):
  """A job without examples."""
  return loop.Job(
    strategy,
    configs.replica_rows(config, strategy),
    np.arange(4),
    np.arange(4) % 2,
    configs.epochs_of(config, strategy),
    config.train.batch,
    variant=variant,
  )


def plan(config, sweep, monkeypatch, given=()):
  monkeypatch.setattr(trainings, 'make_job', made_up)
  monkeypatch.setattr(
    trainings,
    'job_fingerprint',
    lambda config, material, job, source: (
      f'{job.replicas}{job.epochs}{job.batch}{config.model.name}'
      f'{source and source.fingerprint}'
    ),
  )
  return trainings.plan(configs.points(config, sweep), None, dict(given))


def test_sixty_trainings_of_one_config_line(config, monkeypatch):
  planned = plan(config, configs.load_sweep('configs/sweep.py'), monkeypatch)
  jobs = {one.fingerprint: one for one in planned.values()}
  assert sum(len(one.job.replicas) for one in jobs.values()) == 60
  first, second = trainings.programs(list(planned.values()))
  assert len({trainings.program_of(one) for one in (*first, *second)}) == 1
  assert sum(len(one.job.replicas) for one in first) == 45
  assert {one.job.strategy for one in second} == {'finetuned'}
  names = {one.job.name for one in jobs.values()}
  assert len(names) == 12
  assert '7t@learning_rate=0.0001' in names


def test_a_fine_tuning_goes_on_from_its_own_point(config, monkeypatch):
  planned = plan(config, RATES, monkeypatch)
  for point in configs.points(config, RATES):
    tuned, source = (planned[s, point.name] for s in ('finetuned', '7t'))
    assert tuned.source == source.fingerprint
    assert (
      source.job.replicas[0].learning_rate == point.config.train.learning_rate
    )


def test_what_points_share_is_trained_once(config, monkeypatch):
  sweep = [{'train.finetune_learning_rate': r} for r in (1e-3, 1e-4)]
  planned = plan(config, sweep, monkeypatch)
  jobs = {one.fingerprint: one.job.name for one in planned.values()}
  assert sorted(jobs.values()) == [
    '7t',
    'combined',
    'finetuned@finetune_learning_rate=0.0001',
    'finetuned@finetune_learning_rate=0.001',
    'scratch',
  ]


def test_another_network_is_another_program(config, monkeypatch):
  sweep = [{'model.name': n} for n in ('resnet_v3', 'resnet_v4')]
  groups = trainings.programs(list(plan(config, sweep, monkeypatch).values()))
  assert len(groups) == 4  # two networks, before and after pretraining
  names = [{one.config.model.name for one in group} for group in groups]
  assert all(len(name) == 1 for name in names)


def test_no_sweep_is_one_point(config):
  (point,) = configs.points(config, ())
  assert (point.name, point.overrides) == ('', {})
  assert configs.load_sweep('configs/study.py') == ()
  assert configs.variant(point, '7t') == ''


@pytest.mark.parametrize(
  ('sweep', 'message'),
  [
    ([{'train.folds': 3}], r"'train\.folds' cannot be swept"),
    ([{'train.nope': 3}], r"'train\.nope' cannot be swept"),
    ([{'train.learning_rate': 'x'}], r'sweep\(\): .*x'),
    ([{'train.learning_rate': -1.0}], r'learning_rate: is -1'),
    ([{'train.batch': 8}, {'train.batch': 8}], 'same point twice'),
    ([{}], 'same point twice, or an empty one'),
  ],
)
def test_wrong_sweeps(config, sweep, message):
  with pytest.raises(InputError, match=message):
    configs.points(config, sweep)


def test_a_sweep_of_other_things(tmp_path):
  path = tmp_path / 'odd.py'
  path.write_text('def get_config(p):\n  pass\ndef sweep():\n  yield 3\n')
  with pytest.raises(InputError, match='has to yield dicts'):
    configs.load_sweep(str(path))


def test_a_frozen_expression_is_checked_first(config):
  config.train.finetune_frozen = 'stage_z'
  with pytest.raises(InputError, match=r'frozen=.stage_z.*fits no'):
    dryrun.describe(config, 'nowhere')
  config.train.finetune_frozen = '('
  with pytest.raises(InputError, match='no regular expression'):
    configs.validate(config)


def test_the_forecast(config, tmp_path):
  text = dryrun.describe(
    config, tmp_path, configs.load_sweep('configs/sweep.py')
  )
  assert '60 trainings, 1 program, 2 calls' in text
  assert 'Call 1: 45 networks' in text
  assert 'Call 2: 15 networks' in text
  assert '244,009 parameters' in text
  assert text.count('\nfinetuned ') == 3
  (tmp_path / 'speed.jsonl').write_text(
    '{"epoch": 0, "patches_per_second": 1}\n'
    '{"epoch": 1, "patches_per_second": 500}\n{"epo'
  )
  assert 'measured here before: 500' in dryrun.describe(config, tmp_path)


def test_the_forecast_is_near_what_was_measured(config):
  """Two finished runs on 2 cores: 5 rows at once, and 45 of a sweep."""
  network = dryrun.cost('resnet_v4', 'float32')
  sweep = configs.load_sweep('configs/sweep.py')
  counts = {'btumor_7t': 700, 'btumor_3t': 600, 'ccm_3t': 700}
  many = list(dryrun.plan(configs.points(config, sweep), counts))
  first = [t for t in many if t.wave == 0]
  alone = [t for t in first if t.strategy == '7t'][:1]
  for some, rows, measured_gb in ((alone, 5, 1.72), (first, 45, 1.69)):
    assert sum(len(t.rows) for t in some) == rows
    found = dryrun._memory(some, network, counts) / 1e9
    assert measured_gb / 2 < found < measured_gb * 2
  # 24 epochs of 5 networks at the 450 to 560 patches/s that were measured.
  seconds, _ = dryrun._seconds(alone, {alone[0].program: network}, NOWHERE)
  seen = 5 * alone[0].epochs * alone[0].steps * alone[0].config.train.batch
  cores = os.cpu_count() or 1
  assert 0.5 < seen / (seconds - dryrun.COMPILE_S) / (250 * cores) < 2


def test_the_cost_of_the_published_network():
  found = dryrun.cost('resnet_v4', 'float32')
  assert found.parameters == 244_009
  assert found.forward_flops == pytest.approx(86.7e6, rel=0.01)


def test_frozen_names_of_the_real_network():
  """A stage is frozen with its statistics, nothing else."""
  import jax
  import jax.numpy as jnp

  network = get_model('resnet_v3')
  shapes = jax.eval_shape(
    lambda x: network.init(jax.random.key(0), x), jnp.zeros((1, 16, 16, 8, 1))
  )
  weights = replicas.Weights(shapes['params'], shapes['batch_stats'])
  rows = (
    replicas.Replica('x', 0, 0, 1e-4),
    replicas.Replica('x', 1, 0, 1e-4, frozen='^stage_a'),
  )
  may_change = replicas.trainable(rows, weights)
  stats = may_change.batch_stats
  assert stats['stage_a']['unit_0']['norm_0']['mean'].tolist() == [True, False]
  assert stats['stage_b']['unit_0']['norm_0']['mean'].tolist() == [True, True]
  flags = replicas.frozen_norms(jax.tree.map(jnp.asarray, may_change))
  assert flags['stage_a']['unit_1']['norm_1']['norm'].tolist() == [0, 1]


@pytest.mark.parametrize('diverged', [False, True])
def test_a_training_that_diverged_is_never_chosen(
  tmp_path, monkeypatch, diverged
):
  """Its weights are those that it began with, and may well look better."""
  config = configs.load('configs/smoke.py')
  planned = {}
  for name, loss in (('good', 0.5), ('wild', None if diverged else 0.4)):
    job = types.SimpleNamespace(
      strategy='finetuned',
      variant=name,
      name=f'finetuned@{name}',
      replicas=configs.replica_rows(config, 'finetuned')[:1],
      epochs=1,
      batch=16,
    )
    planned['finetuned', name] = trainings.Planned(job, config, name, None)
    log = logs.EpochLog(
      tmp_path / 'models' / job.name / 'epochs.jsonl', keep_epochs=0
    )
    log.add(epoch=0, validation_loss=[loss])
  seen = {'good': 0.5, 'wild': 0.1}
  monkeypatch.setattr(
    trainings, 'held_out_loss', lambda one, *_: seen[one.fingerprint]
  )
  monkeypatch.setattr(trainings, 'publish', lambda *_: None)
  chosen = study.choose(
    planned, dict.fromkeys(seen), None, lambda config: None, tmp_path
  )
  best = chosen['finetuned'].job.variant
  assert best == ('good' if diverged else 'wild')
  assert (',inf,' in (tmp_path / 'sweep.csv').read_text()) == diverged
