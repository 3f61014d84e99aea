"""Every setting of a study arrives where it is used, at the value it was given.

One tiny study of phantoms runs as a whole, with no setting at its default;
what the functions of the package are called with is written down. The value of
a setting is looked for there by the name that the receiver gives it.
"""

import functools
import inspect
import pathlib
import types

import jax.numpy as jnp
import numpy as np
import pytest

from cmbjax.data import augment, folds, sampler
from cmbjax.data import examples as examples_lib
from cmbjax.detect import points
from cmbjax.evaluation import (
  compare,
  metrics,
  orderings,
  prediction_files,
)
from cmbjax.models import contract
from cmbjax.report import rows, study_page
from cmbjax.simulate import cohort as simulator
from cmbjax.study import (
  Cohort,
  Strategy,
  gallery,
  material,
  networks,
  resolve,
  run,
  tabulate,
  train,
)
from cmbjax.study import config as configs
from cmbjax.study import predict as predict_lib
from cmbjax.study import settings as settings_lib
from cmbjax.training import (
  checkpoint,
  inference,
  loop,
  optim,
  replicas,
  watch,
  writers,
)
from cmbjax.training import runner as runner_lib
from tests import evaluation_data, own_parts, small_cohorts

METRIC = 'tests.own_parts:share_above_half'
SETTINGS = {
  'name': 'wired',
  'seed': 7,
  'shared_labels': False,
  'simulate.jobs': 1,
  'simulate.slab_mm': 24.0,
  'patches': 'resampled',
  'channels': ('swi', 'phase'),
  'model.name': 'tests.own_parts:Wired',
  'model.convolution': 'native',
  'model.dtype': 'bfloat16',
  'candidates': 'tests.own_parts:dark_spots',
  'strategies': ('first', 'second'),
  'tests': ('one', 'two'),
  'train.folds': 2,
  'train.seeds': (3,),
  'train.epochs': 2,
  'train.finetune_epochs': 1,
  'train.batch': 4,
  'train.optimizer': 'optax:adamw',
  'train.learning_rate': 2e-3,
  'train.min_learning_rate': 3e-6,
  'train.finetune_learning_rate': 5e-4,
  'train.schedule': 'warmup_cosine',
  'train.warmup': 0.2,
  'train.plateau_factor': 0.5,
  'train.plateau_patience': 2,
  'train.plateau_min_delta': 2e-3,
  'train.stop_after': 3,
  'train.loss': 'tests.own_parts:focal',
  'train.positive_weight': 2.0,
  'train.weight_decay': 1e-3,
  'train.output_bias': 'prior',
  'train.augmenter': 'tests.own_parts:augmenter',
  'train.augmentation': 0.25,
  'train.finetune_frozen': '^(?!head/)',
  'train.backend': 'map',
  'train.width': 1,
  'train.save_every_s': 5.0,
  'train.bn_momentum': 0.9,
  'writers': ('tensorboard',),
  'evaluation.threshold': 0.3,
  'evaluation.metrics': (METRIC,),
  'evaluation.batch': 32,
  'evaluation.mirrored': True,
  'evaluation.points_from': 'two',
  'evaluation.intervals': 'bootstrap',
  'evaluation.draws': 50,
  'evaluation.level': 0.9,
}
# Of a cohort each, or with a test of their own below.
ELSEWHERE = {'pretrained', 'train.data_parallel'}
OF_COHORTS = ('study.', 'cohorts.', 'simulate.subjects.', 'test_subjects.')
# How intervals are made.
HOW = {'method': 'bootstrap', 'draws': 50, 'seed': 7, 'level': 0.9}

# What is watched: where it is called from, and its name there.
WATCHED = [
  (simulator, 'simulate'),
  (examples_lib, 'build'),
  (examples_lib, 'load_as'),
  (material, 'names'),
  (folds, 'make_folds'),
  (networks, 'get_model'),
  (contract, 'own'),
  (replicas, 'find_loss'),
  (replicas, 'first_weights'),
  (replicas, 'with_output_bias'),
  (replicas, 'values_of'),
  (augment, 'find'),
  (augment, 'mirrored'),
  (optim, 'find_optimizer'),
  (optim, 'rates'),
  (optim, 'make'),
  (optim, 'plateau_step'),
  (runner_lib.Runner, '__init__'),
  (runner_lib.Runner, 'epoch'),
  (runner_lib.Runner, 'logits'),
  (runner_lib, 'Parts'),
  (loop, 'train_together'),
  (inference, 'validate'),
  (inference, 'predict'),
  (inference, 'out_of_fold_each'),
  (sampler, 'order'),
  (checkpoint, 'save_weights'),
  (loop, '_Saver'),
  (points, 'store'),
  (prediction_files, 'write'),
  (rows, 'make_row'),
  (rows, 'removed'),
  (compare, 'all_pairs'),
  (compare, 'worst_errors'),
  (orderings, 'orderings'),
  (metrics, 'own'),
  (writers, 'check'),
  (watch.Observer, '__init__'),
]


class Calls:
  """What each watched function was called with, by the names it uses."""

  def __init__(self):
    self.seen = {}

  def watch(self, patch, owner, name):
    function = getattr(owner, name)
    signature = inspect.signature(function)
    seen = self.seen.setdefault(f'{_short(owner)}.{name}', [])

    @functools.wraps(function)
    def note(*args, **kwargs):
      bound = signature.bind(*args, **kwargs)
      bound.apply_defaults()
      given = dict(bound.arguments)
      for kind in signature.parameters.values():
        if kind.kind is inspect.Parameter.VAR_KEYWORD:
          given |= given.pop(kind.name)
      seen.append(given)
      return function(*args, **kwargs)

    patch.setattr(owner, name, note)

  def of(self, name, *keys):
    """The values of some arguments in every call, each once."""
    found = []
    assert self.seen[name], f'{name} was not called'
    for call in self.seen[name]:
      values = tuple(call[key] for key in keys)
      if values not in found:
        found.append(values)
    return [one[0] for one in found] if len(keys) == 1 else found


def _short(owner):
  return owner.__name__.rpartition('.')[2]


def study_config():
  config = configs.load('configs/base.py')
  config.study.strategies = {
    'first': Strategy('First', learns=('one',)),
    'second': Strategy('Second', learns=('one',), starts='first'),
  }
  config.study.cohorts = {
    'one': Cohort('One', protocol='ccm_3t', subjects=9, test=0),
    'two': Cohort('Two', protocol='btumor_7t', subjects=9, test=0),
  }
  config.study.rows, config.study.claims = (), ()
  for name in list(config.cohorts):
    for table in (
      config.cohorts,
      config.simulate.subjects,
      config.test_subjects,
    ):
      del table[name]
  configs.lay_out(config)
  config.simulate.subjects.one, config.test_subjects.one = 4, 1
  config.simulate.subjects.two, config.test_subjects.two = 1, -1
  for key, value in SETTINGS.items():
    config.update_from_flattened_dict({key: value})
  return config


def phantom_scan(protocol, number, **_):
  """As `scan.make_scan`; no two people of the two cohorts are alike."""
  seed = number + (100 if '7t' in str(protocol.name) else 0)
  return small_cohorts.phantom_scan(seed)


@pytest.fixture(scope='module')
def ran(tmp_path_factory):
  """(what was called with what, tables, workdir) of one study."""
  calls, workdir = Calls(), tmp_path_factory.mktemp('wired') / 'run'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(simulator.scan_module, 'make_scan', phantom_scan)
    patch.setattr(writers, 'check', lambda names: None)
    opened = []
    patch.setattr(
      writers, 'open_writers', lambda *a, **k: opened.append((a, k)) or []
    )
    # Drawing takes as long as all the rest, and is tested elsewhere.
    patch.setattr(study_page, 'write', lambda _, folder: folder / 'a.html')
    for owner, name in WATCHED:
      calls.watch(patch, owner, name)
    found = run.study(study_config(), workdir)
  calls.opened = opened
  return calls, found, workdir


def test_no_setting_has_its_default():
  config, base = study_config(), configs.load('configs/base.py')
  same = {
    key
    for key in settings_lib.keys(base)
    if not key.startswith(OF_COHORTS)
    and settings_lib.get(base, key) == settings_lib.get(config, key)
  }
  assert same == ELSEWHERE


def test_scans_are_simulated_as_they_were_asked_for(ran):
  calls, _, workdir = ran
  found = calls.of(
    'cohort.simulate', 'cohort', 'subjects', 'seed', 'jobs', 'slab_mm', 'out'
  )
  assert found == [
    ('ccm_3t', 4, 7, 1, 24.0, workdir / 'cohorts' / 'one'),
    ('btumor_7t', 1, 7, 1, 24.0, workdir / 'cohorts' / 'two'),
  ]


def test_examples_are_built_as_they_were_asked_for(ran):
  calls, _, workdir = ran
  assert calls.of('examples.build', 'config', 'candidates', 'data_dir') == [
    ('resampled_phase', 'tests.own_parts:dark_spots', workdir / 'examples')
  ]
  assert calls.of('examples.load_as', 'config') == ['resampled_phase']
  assert calls.of('material.names', 'shared') == [False]


def test_folds_are_drawn_as_they_were_asked_for(ran):
  calls = ran[0]
  found = calls.of('folds.make_folds', 'num_folds', 'seed', 'num_test')
  assert (2, 7, {'one': 1, 'two': 1}) in found
  assert {(k, seed) for k, seed, _ in found} == {(2, 7)}


def test_the_network_is_made_as_it_was_asked_for(ran):
  calls = ran[0]
  wanted = SETTINGS['model.name'], 2
  assert calls.of('networks.get_model', 'name', 'channels') == [wanted]
  made = [c['network'] for c in calls.seen['Runner.__init__']]
  for one in made:
    inside = one.network
    assert type(inside) is own_parts.Wired
    assert (inside.convolution, inside.bn_momentum) == ('native', 0.9)
    assert inside.dtype == jnp.bfloat16
  assert calls.of('replicas.first_weights', 'channels') == [2]


def test_the_runner_is_made_as_it_was_asked_for(ran):
  calls = ran[0]
  assert calls.of('Runner.__init__', 'backend', 'width', 'data_parallel') == [
    ('map', 1, 1)
  ]
  assert calls.of('Runner.__init__', 'loss') == [own_parts.focal]
  assert calls.of('Runner.__init__', 'augmenter') == [own_parts.augmenter]
  assert calls.of('optim.find_optimizer', 'name') == ['optax:adamw']
  # And from there into the step.
  (parts,) = calls.of('runner.Parts', 'loss', 'augmenter')
  assert parts == (own_parts.focal, own_parts.augmenter)
  made = calls.of('Runner.__init__', 'optimizer')
  assert calls.of('optim.make', 'optimizer') == made


def test_devices_that_share_a_batch_are_asked_for(monkeypatch):
  seen = []
  monkeypatch.setattr(networks, 'Runner', lambda *_, **how: seen.append(how))
  config = study_config()
  config.train.data_parallel = 2
  networks.make_runner(config)
  assert [how['data_parallel'] for how in seen] == [2]


def row_of(strategy, fold, **changed):
  common = {
    'seed': 3,
    'min_learning_rate': 3e-6,
    'weight_decay': 1e-3,
    'patience': 2,
    'plateau_factor': 0.5,
    'min_delta': 2e-3,
    'positive_weight': 2.0,
    'augmentation': 0.25,
    'schedule': 'warmup_cosine',
    'warmup': 0.2,
  }
  return replicas.Replica(strategy, fold, **common | changed)


FIRST = tuple(row_of('first', k, learning_rate=2e-3) for k in (0, 1))
SECOND = tuple(
  row_of('second', k, learning_rate=5e-4, frozen='^(?!head/)') for k in (0, 1)
)


def test_every_row_trains_with_its_settings(ran):
  calls = ran[0]
  jobs = [jobs for (jobs,) in _each(calls, 'loop.train_together', 'jobs')]
  assert [len(some) for some in jobs] == [1, 1]
  (first,), (second,) = jobs
  assert (first.replicas, second.replicas) == (FIRST, SECOND)
  assert (first.epochs, first.batch, first.stop_after) == (2, 4, 3)
  assert (second.epochs, second.batch, second.stop_after) == (1, 4, 3)
  assert (first.strategy, second.strategy) == ('first', 'second')
  tables = [tuple(t) for (t,) in _each(calls, 'optim.plateau_step', 'table')]
  assert set(tables) == {FIRST, SECOND}


def _each(calls, name, *keys):
  return [tuple(call[key] for key in keys) for call in calls.seen[name]]


def test_the_step_gets_the_settings_of_its_row(ran):
  """What decides a step comes from the row, once more by hand."""
  calls = ran[0]
  epochs = calls.seen['Runner.epoch']
  assert len(epochs) == 3  # two of the first strategy, one of the second
  for call in epochs:
    values = call['values']
    for name, wanted in (
      ('positive_weight', 2.0),
      ('weight_decay', 1e-3),
      ('augmentation', 0.25),
    ):
      np.testing.assert_allclose(getattr(values, name), wanted)
    assert call['index'].shape[::2] == (2, 4)
  first, _, second = epochs
  assert first['values'].trainable is None
  may = second['values'].trainable.params
  assert may['head']['kernel'].all()
  assert not may['body']['kernel'].any()
  for number, row in ((0, FIRST[0]), (1, FIRST[0]), (2, SECOND[0])):
    steps = epochs[number]['rates'].shape[1]
    total = steps * (2 if number < 2 else 1)
    course = optim.rates(row, total)
    mine = course[(number % 2) * steps :][:steps]
    np.testing.assert_allclose(epochs[number]['rates'], [mine, mine])
    assert course.max() == pytest.approx(row.learning_rate, rel=0.3)
    assert course.min() < row.learning_rate


def test_batches_follow_the_seed_of_a_training(ran):
  calls = ran[0]
  found = calls.of('sampler.order', 'fold', 'epoch', 'seed', 'batch')
  assert sorted(found) == [(f, e, 3, 4) for f in (0, 1) for e in (0, 1)]


def test_fresh_weights_alone_get_the_bias_of_the_prior(ran):
  calls = ran[0]
  assert len(calls.seen['replicas.with_output_bias']) == 1


def test_training_is_watched_and_saved_as_it_was_asked_for(ran):
  calls, _, workdir = ran
  options = ('evaluation_batch', 'save_every_s', 'threshold')
  assert calls.of('loop.train_together', *options) == [(32, 5.0, 0.3)]
  assert calls.of('loop._Saver', 'every_s') == [5.0]
  assert calls.of('inference.validate', 'batch', 'threshold') == [(32, 0.3)]
  assert calls.of('Runner.logits', 'batch') == [32]
  ((names, folder), more), *rest = calls.opened
  assert (names, folder, rest) == (('tensorboard',), workdir, [])
  assert more['title'] == 'wired'
  assert more['config']['train.learning_rate'] == 2e-3
  assert calls.of('writers.check', 'names') == [('tensorboard',)]


def test_the_record_of_the_weights_tells_how_they_were_made(ran):
  _, _, workdir = ran
  for name, rows_, starts in (
    ('first', FIRST, ''),
    ('second', SECOND, 'first'),
  ):
    known = checkpoint.read_record(workdir / 'models' / name)
    assert [replicas.Replica(**row) for row in known['replicas']] == [*rows_]
    expected = {
      'strategy': name,
      'label': name.capitalize(),
      'model': 'tests.own_parts:Wired',
      'dtype': 'bfloat16',
      'bn_momentum': 0.9,
      'patches': 'resampled',
      'channels': ['swi', 'phase'],
      'candidates': 'tests.own_parts:dark_spots',
      'threshold': 0.3,
      'start': starts,
      'epochs': 1 if starts else 2,
      'batch': 4,
      'simulated': True,
    }
    assert {key: known[key] for key in expected} == expected
    assert len(known['persons']) == len(known['subjects']) == 3
    assert all(person.endswith('@7') for person in known['persons'])


def test_predictions_are_made_as_they_were_asked_for(ran):
  calls, _, workdir = ran
  assert calls.of('inference.predict', 'batch') == [32]
  assert calls.of('inference.out_of_fold_each', 'batch') == [32]
  assert calls.of('points.store', 'threshold', 'mirrored') == [(0.3, True)]
  kept = points.stored(workdir / 'models' / 'first')
  assert kept['points']['high_sensitivity']['threshold'] == 0.3
  # Chosen on the one test subject of the other cohort, whose networks learned
  # from the first.
  assert kept['out_of_fold']['subjects'] == 1
  assert kept['learned']['subjects'] == 3
  assert kept['cohorts'] == ['one']
  assert kept['points']['balanced']['rule'].endswith('which no network saw')
  # Two strategies on two test sets, and each once out of fold.
  assert len(calls.seen['augment.mirrored']) == 6
  assert len(calls.seen['inference.predict']) == 8 * 6


def test_intervals_are_made_as_they_were_asked_for(ran):
  calls, found, _ = ran
  how = tuple(HOW)
  wanted = (0.3, *HOW.values())
  for name in ('rows.make_row', 'compare.all_pairs', 'orderings.orderings'):
    assert calls.of(name, 'threshold', *how) == [wanted], name
  own = {METRIC: own_parts.share_above_half}
  assert calls.of('rows.make_row', 'own') == [own]
  assert calls.of('compare.all_pairs', 'own') == [own]
  assert calls.of('rows.removed', 'threshold') == [0.3]
  assert calls.of('compare.worst_errors', 'threshold') == [0.3]
  for key, value in (HOW | {'threshold': 0.3}).items():
    assert found.record[key] == value
  kept = next(t for (t,) in _each(calls, 'prediction_files.write', 'tables'))
  kept = {(t.strategy, t.test): t.predictions for t in kept if t.networks}
  for row in found.rows:
    p = kept[row.strategy, row.test]
    share = np.mean(p.probability > 0.5)
    assert row.own[METRIC].value == pytest.approx(share)


def test_the_report_is_about_this_study(ran):
  _, found, _ = ran
  assert (found.title, found.simulated, found.paper) == ('wired', True, '')
  assert [(r.strategy, r.test) for r in found.rows] == [
    (s, t) for s in ('first', 'second') for t in ('one', 'two')
  ]
  assert [r.strategy for r in found.held_out] == ['first', 'second']
  for row in (*found.rows, *found.held_out):
    assert row.strategy_label == row.strategy.capitalize()
    assert row.test_label == row.test.capitalize()
  record = found.record
  assert (record['model'], record['folds'], record['seeds']) == (
    'tests.own_parts:Wired',
    2,
    [3],
  )
  assert record['config']['train']['augmentation'] == 0.25
  told = {one.name: one.text for one in found.strategies}
  assert told == {
    'first': 'learns from One',
    'second': 'learns from One; starts from First; layers ^(?!head/) are '
    'frozen',
  }


def test_a_cohort_counts_candidates_and_lesions_apart(ran):
  _, found, workdir = ran
  one, two = found.cohorts
  assert (one.name, one.label, two.label) == ('one', 'One', 'Two')
  assert (one.num_subjects, one.num_scans) == (4, 4)
  assert (two.num_subjects, two.num_scans) == (1, 1)
  for row in found.cohorts:
    (built,) = (workdir / 'examples').glob(f'*/{row.name}/resampled_phase/*')
    examples = examples_lib.load(built)
    scans = examples_lib.load_scans(built)
    assert row.num_cmb == np.sum(examples.label == 1)
    assert row.num_fp == np.sum(examples.label == 0)
    assert row.num_lesions == scans.num_lesions.sum() == 3 * row.num_scans
    assert row.num_missed == scans.num_missed.sum()


def test_candidates_are_not_counted_as_lesions():
  """Two candidates of one lesion, and a lesion that none shows."""
  label = np.array([1, 1, 0, 0, 0], np.int8)
  facts = {
    name: np.zeros(2, np.float32) for name in examples_lib.Scans._fields
  } | {
    'cohort': np.array(['one', 'one']),
    'subject': np.array(['a', 'b']),
    'num_lesions': np.array([1, 6]),
    'num_missed': np.array([0, 5]),
    'truth': np.array(['labels'] * 2),
    'spacing_mm': np.ones((2, 3)),
    'simulated': np.zeros(2, bool),
  }
  rows_ = type('Rows', (), {'cohort': np.full(5, 'one'), 'label': label})
  some = material.Material(
    rows_, examples_lib.Scans(**facts), None, np.zeros(5), None
  )
  study = type('Study', (), {'labels': {'one': 'One'}})
  row = tabulate._cohort_row(study, some, 'one')
  assert (row.num_cmb, row.num_fp) == (2, 3)
  assert (row.num_lesions, row.num_missed) == (7, 5)
  assert (row.num_subjects, row.num_scans) == (2, 2)


def test_likelihoods_before_and_after_keep_their_sides(monkeypatch):
  """Figure 4: the start is before, and what learned from it is after."""
  before = evaluation_data.table('first', 'one')
  p = before.predictions
  high, low = np.where(p.label, 0.9, 0.8), np.where(p.label, 0.9, 0.1)
  before = before._replace(predictions=p._replace(probability=high))
  after = before._replace(
    strategy='second',
    strategy_label='Second',
    predictions=p._replace(probability=low),
  )
  study = resolve.study_of(study_config())
  monkeypatch.setattr(gallery, '_seen', lambda *_: np.zeros((16, 16, 8)))
  tested = {('first', 'one'): before, ('second', 'one'): after}
  labels, found = gallery.removed(study, None, tested)
  assert labels == (before.strategy_label, 'Second', before.test_label)
  assert len(found) == gallery.NUM_SHOWN
  assert {(one.before, one.after) for one in found} == {(0.8, 0.1)}


def test_likelihoods_of_other_images_are_not_taken_again(tmp_path):
  """predictions/*.npz of a run that was done without mirror images."""
  config, asked = study_config(), []
  shop = types.SimpleNamespace(
    workdir=tmp_path, patches=replicas.Patches(np.zeros((2, 24, 24, 12, 2)), 0)
  )

  def predict(patches):
    asked.append(patches)
    return np.full((1, 2), 0.5)

  for mirrored, calls in ((True, 8), (True, 8), (False, 9), (False, 9)):
    config.evaluation.mirrored = mirrored
    predict_lib._kept(shop, 'a', ['mark'], config, predict)
    assert len(asked) == calls
  predict_lib._kept(shop, 'a', ['another mark'], config, predict)
  assert len(asked) == 10
  config.model.dtype = 'float32'
  predict_lib._kept(shop, 'a', ['another mark'], config, predict)
  assert len(asked) == 11


def test_weights_name_people_of_the_cohorts_they_learned_from():
  """Somebody scanned in two cohorts was learned from in one of them."""
  names = np.array(['sub-01', 'sub-02', 'sub-01', 'sub-03'])
  cohort = np.array(['one', 'one', 'two', 'two'])
  facts = dict.fromkeys(examples_lib.Scans._fields, np.zeros(4))
  facts |= {'subject': names, 'person': names, 'cohort': cohort}
  some = types.SimpleNamespace(
    examples=types.SimpleNamespace(subject=names, cohort=cohort),
    scans=examples_lib.Scans(**facts),
  )
  job = types.SimpleNamespace(pool=np.array([0, 1]))
  assert train._people(job, some) == {
    'subjects': ['sub-01', 'sub-02'],
    'persons': ['one:sub-01', 'one:sub-02'],
  }


def test_operating_points_count_the_scans_that_were_learned_from(monkeypatch):
  """Of three scans one is in a fold of a cohort that was learned from."""
  names, seen = np.array(['a', 'b', 'c']), []
  monkeypatch.setattr(
    predict_lib.points,
    'store',
    lambda *_, scans, **__: seen.append(scans.scan.tolist()),
  )
  facts = dict.fromkeys(examples_lib.Scans._fields, np.zeros(3))
  facts |= {'scan': names, 'cohort': np.array(['one', 'one', 'two'])}
  scans = examples_lib.Scans(**facts)
  folds = types.SimpleNamespace(of=lambda _: np.array([0, -1, 0]))
  shop = types.SimpleNamespace(
    workdir=pathlib.Path(),
    material=types.SimpleNamespace(examples=scans, scans=scans, folds=folds),
  )
  recipe = resolve.study_of(study_config()).recipes['first']
  judge = predict_lib.Judge(
    'first',
    'First',
    types.SimpleNamespace(table=FIRST[:1], fingerprint='f'),
    recipe.config,
    types.SimpleNamespace(recipe=recipe),
  )
  job = types.SimpleNamespace(pool=np.arange(3), fold_of=np.zeros(3))
  predict_lib._store_points(shop, judge, job, np.full((1, 3), 0.5), None)
  assert seen == [['a']]
