"""Points of a sweep to a table, to programs, to a forecast."""

import json
import os
import pathlib

import pytest

from cmbjax.errors import InputError
from cmbjax.models import get_model
from cmbjax.study import config as configs
from cmbjax.study import cost, dryrun, resolve
from cmbjax.study import plan as plan_lib
from cmbjax.study import settings as settings_lib
from cmbjax.training import replicas
from tests.messages import says

NOWHERE = pathlib.Path('nowhere')
RATES = [
  {'train.learning_rate': r, 'train.finetune_learning_rate': r}
  for r in (1e-3, 1e-4, 1e-5)
]


@pytest.fixture
def config():
  return configs.load('configs/sweep.py')


def plan(config, sweep=()):
  """As the dry run makes it: examples are known by their cohorts alone."""
  points = resolve.points(config, sweep)
  return plan_lib.plan(points)


def test_sixty_trainings_of_one_config_line(config):
  planned = plan(config, configs.load_sweep('configs/sweep.py'))
  assert sum(len(one.recipe.rows) for one in planned.trainings) == 60
  first, second = planned.calls
  assert len({one.program for one in (*first, *second)}) == 1
  assert sum(len(one.recipe.rows) for one in first) == 45
  assert {one.recipe.name for one in second} == {'finetuned'}
  names = {one.name for one in planned.trainings}
  assert len(names) == 12
  assert '7t@learning_rate=0.0001' in names


def test_a_fine_tuning_goes_on_from_its_own_point(config):
  planned = plan(config, RATES)
  for point in resolve.points(config, RATES):
    tuned, source = (planned.at[s, point.name] for s in ('finetuned', '7t'))
    assert tuned.source == source.fingerprint
    rate = point.study.config.train.learning_rate
    assert source.recipe.rows[0].learning_rate == rate


def test_what_points_share_is_trained_once(config):
  sweep = [{'train.finetune_learning_rate': r} for r in (1e-3, 1e-4)]
  assert sorted(one.name for one in plan(config, sweep).trainings) == [
    '7t',
    'combined',
    'finetuned@finetune_learning_rate=0.0001',
    'finetuned@finetune_learning_rate=0.001',
    'scratch',
  ]


def test_no_two_trainings_share_the_folder_of_the_chosen_one(tmp_path):
  """`models/NAME` gets the best point: it may not be one of the points."""
  path = tmp_path / 'own.py'
  path.write_text(
    'from cmbjax.study import Strategy\n'
    'from configs import base\n'
    'def get_config(preset=""):\n'
    '  config = base.get_config(preset)\n'
    '  config.study.strategies.last = Strategy(\n'
    "    'Last', learns=('btumor_3t',), starts='finetuned')\n"
    "  config.strategies = ('last',)\n"
    '  return config\n'
  )
  sweep = [{'study.strategies.7t.epochs': epochs} for epochs in (1, 2)]
  names = [one.name for one in plan(configs.load(str(path)), sweep).trainings]
  assert sorted(names) == [
    f'{name}@7t.epochs={epochs}'
    for name in ('7t', 'finetuned', 'last')
    for epochs in (1, 2)
  ]


def test_a_sweep_of_one_strategy(config):
  sweep = [
    {'study.strategies.7t.epochs': e, 'study.strategies.7t.learning_rate': r}
    for e, r in ((3, 1e-3), (4, 1e-4))
  ]
  found = plan(config, sweep)
  names = {one.name for one in found.trainings}
  assert '7t@7t.epochs=3,7t.learning_rate=0.001' in names
  assert 'finetuned@7t.epochs=3,7t.learning_rate=0.001' in names  # its start
  assert {'scratch', 'combined'} <= names
  first = found.at['7t', '7t.epochs=3,7t.learning_rate=0.001'].recipe
  assert (first.epochs, first.rows[0].learning_rate) == (3, 1e-3)


def test_a_sweep_of_the_first_of_a_chain(config):
  """A training without its point in its name shares a folder with the best."""
  from cmbjax.study import Strategy

  config.study.strategies.third = configs._fields(
    Strategy('Third', ('btumor_3t',), starts='finetuned')
  )
  config.strategies = ('third',)
  found = plan(config, [{'study.strategies.7t.epochs': e} for e in (3, 4)])
  assert [one.variant for one in found.trainings] == 3 * [
    '7t.epochs=3',
    '7t.epochs=4',
  ]


@pytest.mark.parametrize(
  ('key', 'values', 'own'),
  [
    ('train.batch', (8, 16), {'settings': {'train.batch': 4}}),
    ('train.epochs', (2, 3), {'epochs': 5}),
    ('train.learning_rate', (1e-3, 1e-4), {'learning_rate': 1e-2}),
  ],
)
def test_what_a_strategy_sets_itself_is_not_in_its_name(
  config, key, values, own
):
  """It was called batch=8 where its batch was 4."""
  from cmbjax.study import Strategy

  config.study.strategies.mine = configs._fields(
    Strategy('Mine', ('btumor_3t',), **own)
  )
  config.strategies = ('mine', 'scratch')
  found = plan(config, [{key: value} for value in values])
  names = [one.name for one in found.trainings]
  short = key.removeprefix('train.')
  assert sorted(names) == [
    'mine',
    *sorted(f'scratch@{short}={value:g}' for value in values),
  ]


@pytest.mark.parametrize(
  ('key', 'values'),
  [
    ('model.name', ('resnet_v3', 'resnet_v4')),
    ('train.bn_momentum', (0.9, 0.99)),  # F8b: it looked like one program
    ('train.loss', ('cross_entropy', 'optax:hinge_loss')),
    ('train.batch', (8, 16)),
  ],
)
def test_another_program_is_another_call(config, key, values):
  sweep = [{key: value} for value in values]
  calls = plan(config, sweep).calls
  assert len(calls) == 4  # two programs, before and after pretraining
  for call in calls:
    assert len({settings_lib.get(o.recipe.config, key) for o in call}) == 1
  text = dryrun.describe(config, NOWHERE, sweep)
  assert '2 programs, 4 calls' in text
  for value in values:  # a column shows what differs
    assert str(value) in text.partition('Candidates')[0]


def test_trainings_that_wait_for_each_other(config):
  """Three waves: 7T, fine-tuned, and what starts from that."""
  from cmbjax.study import Strategy

  config.study.strategies.third = configs._fields(
    Strategy('Third', ('ccm_3t',), starts='finetuned')
  )
  config.strategies = ('third',)
  config.test_subjects.ccm_3t = 1
  config.simulate.subjects.ccm_3t = 6
  found = plan(config)
  assert [one.recipe.name for one in found.trainings] == [
    '7t',
    'finetuned',
    'third',
  ]
  assert [one.wave for one in found.trainings] == [0, 1, 2]
  assert len(found.calls) == 3


def test_everything_that_decides_is_in_the_fingerprint(config):
  """And nothing else: a free setting would train anew."""
  (recipe,) = resolve.study_of(
    configs.load('configs/pretrain.py')
  ).recipes.values()
  before = plan_lib.fingerprint(recipe, 'data', None)
  assert before == plan_lib.fingerprint(recipe, 'data', None)
  assert before != plan_lib.fingerprint(recipe, 'others', None)
  assert before != plan_lib.fingerprint(recipe, 'data', 'source')
  decides = {
    'model.name': 'resnet_v3',
    'model.dtype': 'bfloat16',
    'patches': 'resampled',
    'train.augmentation': 0.5,
    'train.augmenter': 'tests.own_parts:augmenter',
    'train.batch': 8,
    'train.bn_momentum': 0.9,
    'train.epochs': 3,
    'train.learning_rate': 1e-3,
    'train.loss': 'optax:hinge_loss',
    'train.min_learning_rate': 1e-7,
    'train.optimizer': 'optax:lion',
    'train.output_bias': 'prior',
    'train.plateau_factor': 0.5,
    'train.plateau_min_delta': 1e-3,
    'train.plateau_patience': 2,
    'train.positive_weight': 2.0,
    'train.schedule': 'cosine',
    'train.seeds': (1,),
    'train.stop_after': 3,
    'train.warmup': 0.2,
    'train.weight_decay': 0.1,
  }
  free = {
    'train.backend': 'map',
    'train.save_every_s': 1.0,
    'train.width': 2,
    'evaluation.threshold': 0.5,
    'train.finetune_epochs': 3,
    'name': 'other',
  }
  for key, value in {**decides, **free}.items():
    other = configs.load('configs/pretrain.py')
    other.update_from_flattened_dict({key: value})
    (changed,) = resolve.study_of(other).recipes.values()
    same = plan_lib.fingerprint(changed, 'data', None) == before
    assert same == (key in free), key


def test_no_sweep_is_one_point(config):
  (point,) = resolve.points(config, ())
  assert (point.name, point.overrides) == ('', {})
  assert configs.load_sweep('configs/study.py') == ()


@pytest.mark.parametrize(
  ('sweep', 'message'),
  [
    ([{'train.folds': 3}], "'train.folds'"),
    ([{'train.nope': 3}], "'train.nope'"),
    ([{'train.learning_rate': 'x'}], ''),
    ([{'train.learning_rate': -1.0}], 'learning_rate'),
    ([{'train.batch': 8}, {'train.batch': 8}], ''),
    ([{}], ''),
    ([{3: 4}], ''),
    ([{'train.finetune_frozen': 'x' * 200}], '180'),
  ],
)
def test_wrong_sweeps(config, sweep, message):
  with says(InputError, message):
    resolve.points(config, sweep)


def test_a_sweep_of_other_things(tmp_path):
  path = tmp_path / 'odd.py'
  path.write_text('def get_config(p):\n  pass\ndef sweep():\n  yield 3\n')
  with says(InputError):
    configs.load_sweep(str(path))


def test_a_frozen_expression_is_checked_first(config):
  config.train.finetune_frozen = 'stage_z'
  with says(InputError, 'stage_z'):
    dryrun.describe(config, 'nowhere')
  config.train.finetune_frozen = '('
  with says(InputError):
    resolve.study_of(config)


@pytest.mark.parametrize('network', ['simpler_cnn', 'fcnn'])
def test_a_start_from_another_network_is_checked_first(config, network):
  """It ended the run when the first one had been trained."""
  from cmbjax.study import Strategy

  config.study.strategies.mine = configs._fields(
    Strategy('Mine', ('btumor_3t',), '7t', settings={'model.name': network})
  )
  config.strategies = ('mine',)
  with says(InputError, f"mine.starts '7t' {network}"):
    dryrun.describe(config, NOWHERE)


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
  sweep = configs.load_sweep('configs/sweep.py')
  counts = {'btumor_7t': 700, 'btumor_3t': 600, 'ccm_3t': 700}
  first = plan(config, sweep).calls[0]
  alone = [one for one in first if one.recipe.name == '7t'][:1]
  for some, rows, measured_gb in ((alone, 5, 1.72), (first, 45, 1.69)):
    assert sum(len(one.recipe.rows) for one in some) == rows
    found = cost._memory(some, counts) / 1e9
    assert measured_gb / 2 < found < measured_gb * 2
  # 24 epochs of 5 networks at the 450 to 560 patches/s that were measured.
  seconds, _ = cost._seconds([alone], counts, NOWHERE)
  steps = cost.num_steps(alone[0], counts)
  seen = 5 * alone[0].recipe.epochs * steps * config.train.batch
  cores = os.cpu_count() or 1
  assert 0.5 < seen / (seconds - cost.COMPILE_S) / (250 * cores) < 2


def test_the_cost_of_the_published_network(config):
  found = cost.network(plan(config).trainings[0])
  assert found.parameters == 244_009
  assert found.forward_flops == pytest.approx(86.7e6, rel=0.01)


@pytest.mark.parametrize(
  ('slab_mm', 'number'), [(60.0, 700), (30.0, 350), (0.0, 1281)]
)
def test_candidates_of_a_slab_and_of_a_whole_head(config, slab_mm, number):
  """10 subjects of 7T less 3; whole heads had 183 candidates each."""
  config.simulate.slab_mm = slab_mm
  study = resolve.study_of(config)
  counts, said = cost.candidates(study, NOWHERE, {})
  assert counts['btumor_7t'] == number
  assert said == 'estimated from the number of scans'


def test_candidates_of_given_data_are_counted(config, tmp_path):
  folder = tmp_path / '1.2.0'
  folder.mkdir()
  info = {'splits': [{'shardLengths': ['40', '60']}]}
  (folder / 'dataset_info.json').write_text(json.dumps(info))
  config.cohorts.btumor_7t = str(folder)
  study = resolve.study_of(config)
  counts, said = cost.candidates(study, NOWHERE, {'btumor_7t': 5})
  assert counts['btumor_7t'] == 40  # 3 of 5 subjects are held out
  assert said == 'counted in btumor_7t, others estimated'


def test_a_damaged_data_set_of_before_stops_no_forecast(config, tmp_path):
  """The run makes it again, so it has to come as far as that."""
  folder = tmp_path / 'examples' / 'mark' / 'btumor_7t' / 'native' / '1.2.0'
  folder.mkdir(parents=True)
  (folder / 'dataset_info.json').write_text('{"splits": [{"sha')
  study = resolve.study_of(config)
  found = cost.candidates(study, tmp_path, {})
  assert found == cost.candidates(study, NOWHERE, {})


def test_what_no_memory_holds_is_refused(config, monkeypatch):
  monkeypatch.setattr(cost, 'memory_bytes', lambda: 1.2e9)
  with says(InputError, 'GB'):
    dryrun.describe(config, NOWHERE)


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
