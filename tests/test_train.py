"""Where a training starts, and by what the points of a sweep are compared."""

import dataclasses
import types
from unittest import mock

import numpy as np
import pytest

from cmbjax import sealed
from cmbjax.errors import InputError
from cmbjax.study import config as configs
from cmbjax.study import networks, predict, resolve, sweep, train
from cmbjax.study.plan import Plan, Planned
from cmbjax.study.spec import Recipe, Strategy
from cmbjax.training import checkpoint, inference, logs, loop, replicas
from cmbjax.training.replicas import Patches, Replica, Weights
from tests.messages import says

LABEL = np.array([1, 0, 0, 0, 1, 1, 0, 0], np.int8)
FOLD_OF = np.array([0, 0, 0, 0, 1, 1, 1, 1])


def job_of(strategy, rows):
  table = tuple(Replica(strategy, fold, seed, 1e-3) for fold, seed in rows)
  return loop.Job(strategy, table, np.arange(8), FOLD_OF, 1, 4)


def planned(name, rows, *, mark='', starts='', **settings):
  config = configs.load('configs/finetune.py')
  config.train.update(settings)
  recipe = Recipe(
    name,
    Strategy(name, ('btumor_3t',), starts),
    config,
    None,
    job_of(name, rows).replicas,
    1,
  )
  return Planned(recipe, mark, mark or name, None, None, 0)


def first_weights(one, rows, material=None, source=None):
  job = job_of(one.recipe.name, rows)
  return train.first_weights(None, one, job, material, source)


def shop_of(tmp_path, overwrite=False):
  """A workshop without examples."""
  shop = train.Workshop.__new__(train.Workshop)
  shop.workdir, shop.overwrite, shop.material = tmp_path, overwrite, None
  shop.patches, shop.runner = Patches(None, LABEL), lambda config: None
  return shop


def weights_of(rows):
  """Each row knows which one it is, and has the bias of an output."""
  params = {'where': np.arange(rows) + 100.0, 'bias': np.zeros((rows, 1))}
  return Weights(params, {})


@pytest.fixture
def fresh(monkeypatch):
  monkeypatch.setattr(
    replicas,
    'first_weights',
    lambda network, table, channels: weights_of(len(table)),
  )


@pytest.mark.parametrize(
  ('of_source', 'of_job', 'begins'),
  [
    # Fold k goes on from fold k, and seed s from seed s where there is one.
    ([(0, 0), (1, 0)], [(1, 0), (0, 0)], [1, 0]),
    ([(0, 0), (1, 0), (0, 5), (1, 5)], [(0, 5), (1, 0)], [2, 1]),
    # Fewer seeds than are trained now: they take turns.
    ([(0, 0), (1, 0)], [(1, 1), (0, 2)], [1, 0]),
    ([(0, 8), (0, 9), (1, 8)], [(0, 0), (0, 1), (1, 3)], [0, 1, 2]),
    # Fewer folds: any of them, by seed.
    ([(0, 0), (1, 1)], [(4, 1), (4, 0)], [1, 0]),
  ],
)
def test_a_fold_goes_on_from_its_own(fresh, of_source, of_job, begins):
  source = networks.Trained(
    weights_of(len(of_source)), job_of('7t', of_source).replicas, 'f'
  )
  one = planned('finetuned', of_job, starts='7t')
  found = first_weights(one, of_job, source=source)
  np.testing.assert_array_equal(found.params['where'] - 100, begins)


def test_the_first_output_is_the_share_of_what_a_row_trains_on(fresh):
  """The fold that is held out has no say in it."""
  examples = types.SimpleNamespace(label=LABEL)
  material = types.SimpleNamespace(examples=examples)
  rows = [(0, 0), (1, 0)]
  one = planned('7t', rows, output_bias='prior')
  found = first_weights(one, rows, material)
  # Without fold 0: 2 of 4; without fold 1: 1 of 4.
  np.testing.assert_allclose(
    found.params['bias'][:, 0], [0, np.log(1 / 3)], atol=1e-6
  )
  plain = planned('7t', [(0, 0)], output_bias='zero')
  zero = first_weights(plain, [(0, 0)], material)
  np.testing.assert_array_equal(zero.params['bias'], 0)


def test_likelihoods_of_other_networks_are_never_taken(tmp_path):
  """Given weights have one fingerprint, whatever runs them."""
  shop, asked = types.SimpleNamespace(workdir=tmp_path, patches=None), []
  for key, value in (
    ('name', 'smoke'),
    ('model.dtype', 'bfloat16'),
    ('evaluation.mirrored', True),
    ('name', 'again'),
  ):
    config = configs.load('configs/smoke.py')
    config.update_from_flattened_dict({key: value})
    with mock.patch.object(predict, '_over_images') as made:
      made.return_value = np.zeros((1, 3))
      predict._kept(shop, '7t-ccm_3t', ['mark'], config, None)
      asked.append(made.called)
  assert asked == [True, True, True, True]
  with mock.patch.object(predict, '_over_images') as made:
    predict._kept(shop, '7t-ccm_3t', ['mark'], config, None)
  assert not made.called


def test_held_out_loss_is_the_mean_cross_entropy(monkeypatch, tmp_path):
  likelihood = np.linspace(0.05, 0.9, 8)
  likelihood[0] = 0.0  # a microbleed: the logarithm is cut off
  monkeypatch.setattr(inference, 'out_of_fold', lambda *_, **__: likelihood)
  monkeypatch.setattr(train, 'make_job', lambda *_: job_of('7t', [(0, 0)]))
  shop = shop_of(tmp_path)
  shop.material = types.SimpleNamespace(
    examples=types.SimpleNamespace(label=LABEL)
  )
  mine = networks.Trained(None, (), 'f')
  found = sweep.held_out_loss(planned('7t', [(0, 0)]), mine, shop)
  each = [
    -np.log(max(p if y else 1 - p, 1e-12)) for p, y in zip(likelihood, LABEL)
  ]
  assert found == pytest.approx(np.mean(each))


def plan_of(some):
  """{(strategy, point): training} as a plan."""
  return Plan(
    some, tuple({p.fingerprint: p for p in some.values()}.values()), ()
  )


def test_the_point_with_the_smallest_loss_is_chosen(monkeypatch, tmp_path):
  """Of each strategy for itself; nothing is compared without a sweep."""
  loss = {'a1': 0.5, 'a2': 0.3, 'a3': 0.4, 'b1': 0.2, 'b2': 0.6}
  monkeypatch.setattr(
    sweep, 'held_out_loss', lambda one, *_: loss[one.fingerprint]
  )
  monkeypatch.setattr(sweep, 'learned', lambda _: True)
  written, published = [], []
  monkeypatch.setattr(sweep, 'write_table', lambda *a: written.append(a))
  monkeypatch.setattr(
    sweep, 'publish', lambda _, name, mark: published.append((name, mark))
  )
  points = {
    ({'a': '7t', 'b': 'scratch'}[m[0]], m[1]): planned(
      {'a': '7t', 'b': 'scratch'}[m[0]], [(0, 0)], mark=m
    )
    for m in loss
  }
  rest = dict.fromkeys(loss), shop_of(tmp_path)
  chosen = sweep.choose(plan_of(points), *rest)
  assert {n: p.fingerprint for n, p in chosen.items()} == {
    '7t': 'a2',
    'scratch': 'b1',
  }
  assert published == [('7t', 'a2'), ('scratch', 'b1')]
  assert written[0][2] == loss
  alone = {key: p for key, p in points.items() if key[1] == '1'}
  chosen = sweep.choose(plan_of(alone), *rest)
  assert {p.fingerprint for p in chosen.values()} == {'a1', 'b1'}
  assert len(written) == 1


@pytest.mark.parametrize('diverged', [False, True])
def test_a_training_that_diverged_is_never_chosen(
  tmp_path, monkeypatch, diverged
):
  """Its weights are those that it began with, and may well look better."""
  shop, points = shop_of(tmp_path), {}
  for name, loss in (('good', 0.5), ('wild', None if diverged else 0.4)):
    points['finetuned', name] = planned('finetuned', [(0, 0)], mark=name)
    folder = shop.folder(points['finetuned', name])
    log = logs.EpochLog(folder / 'epochs.jsonl', keep_epochs=0)
    log.add(epoch=0, validation_loss=[loss])
    stored(folder, name)
  seen = {'good': 0.5, 'wild': 0.1}
  monkeypatch.setattr(
    sweep, 'held_out_loss', lambda one, *_: seen[one.fingerprint]
  )
  monkeypatch.setattr(sweep, 'publish', lambda *_: None)
  chosen = sweep.choose(plan_of(points), dict.fromkeys(seen), shop)
  assert chosen['finetuned'].variant == ('good' if diverged else 'wild')
  assert (',inf,' in (tmp_path / 'sweep.csv').read_text()) == diverged
  monkeypatch.setattr(sweep, 'learned', lambda _: False)
  with says(InputError):
    sweep.choose(plan_of(points), dict.fromkeys(seen), shop)


def test_a_point_that_diverged_alone_does_not_end_the_sweep(capsys):
  """It did where its program was another one than that of the others."""
  state = types.SimpleNamespace(best_value=np.array([np.inf, np.inf]))
  job = job_of('finetuned', [(0, 0), (1, 0)])
  with says(InputError):
    loop._check_finite([job], state)
  loop._check_finite([dataclasses.replace(job, variant='loss=bad')], state)
  assert capsys.readouterr().err.count('was never a finite number') == 2


def stored(folder, mark):
  weights = Weights({'a': {'kernel': np.ones((1, 2), np.float32)}}, {})
  rows = [Replica('7t', 0, 0, 1e-3)._asdict()]
  known = {'model': 'm', 'subjects': [], 'replicas': rows}
  if (folder / train.LOG).is_file():
    known['log'] = sealed.sha256(folder / train.LOG)
  checkpoint.save_weights(folder, weights, known | {'fingerprint': mark})


def test_networks_of_another_training_are_not_replaced(tmp_path, capsys):
  """Of other scans, say: the same settings, and other networks."""
  one = planned('7t', [(0, 0)], mark='mine')
  folder = tmp_path / 'models' / '7t@mine'
  assert train._finished(one, shop_of(tmp_path)) is None
  stored(folder, 'mine')
  assert train._finished(one, shop_of(tmp_path)).fingerprint == 'mine'
  stored(folder, 'other')
  with says(InputError, '7t@mine --overwrite'):
    train._finished(one, shop_of(tmp_path))
  assert checkpoint.read_record(folder)['fingerprint'] == 'other'
  assert train._finished(one, shop_of(tmp_path, overwrite=True)) is None
  assert 'are replaced' in capsys.readouterr().err


def test_damaged_networks_are_trained_again_with_a_word(tmp_path, capsys):
  one = planned('7t', [(0, 0)], mark='mine')
  folder = tmp_path / 'models' / '7t@mine'
  stored(folder, 'mine')
  inside = (p for p in (folder / 'weights').rglob('*') if p.is_file())
  data = max(inside, key=lambda p: p.stat().st_size)
  data.write_bytes(data.read_bytes()[:-3])
  assert train._finished(one, shop_of(tmp_path)) is None
  assert 'is damaged; its networks are trained again' in capsys.readouterr().err


def test_weights_of_other_code_of_the_stage_are_taken_with_a_word(
  tmp_path, capsys
):
  stored(tmp_path, 'mine')
  recipe = planned('7t', [(0, 0)]).recipe
  for code, said in (('', False), ('before', True)):
    known = checkpoint.read_record(tmp_path) | {'candidates_code': code}
    networks.load_given(
      dataclasses.replace(recipe, folder=tmp_path, known=known)
    )
    assert ('other code of frst' in capsys.readouterr().err) == said


@pytest.mark.parametrize('whole', [False, True])
def test_a_kill_while_weights_are_saved_loses_nothing(
  tmp_path, monkeypatch, whole
):
  """The others would find checkpoints that are not theirs, and be refused."""
  group = [planned('7t', [(0, 0)], mark=mark) for mark in 'abc']
  shop, trained = shop_of(tmp_path), []
  stored(shop.folder(group[0]), 'a')
  if whole:
    checkpoint.Checkpoints(
      train._common(shop, 0) / 'checkpoints',
      fingerprint=train._mark(group),
    ).save(1, {'x': np.ones(2, np.float32)})

  def note(missing, *_):
    trained.extend(one.fingerprint for one in missing)
    return [networks.Trained(None, (), one.fingerprint) for one in missing]

  monkeypatch.setattr(train, '_train_group', note)
  some = {('7t', one.variant): one for one in group}
  plan = plan_of(some)._replace(calls=(tuple(group),))
  assert set(train.train_all(plan, shop, {})) == set('abc')
  assert trained == (list('abc') if whole else list('bc'))


def test_checkpoints_of_another_training_are_not_deleted(tmp_path):
  folder = tmp_path / 'checkpoints'
  state = {'x': np.ones(2, np.float32)}
  checkpoint.Checkpoints(folder, fingerprint='other').save(3, state)
  with says(InputError):
    train._check_unfinished(folder, 'mine', overwrite=False)
  assert checkpoint.fingerprints(folder) == {'other'}
  train._check_unfinished(folder, 'other', overwrite=False)
  train._check_unfinished(folder, 'mine', overwrite=True)


def test_a_log_that_was_changed_is_left_out(tmp_path, capsys):
  log = logs.EpochLog(tmp_path / train.LOG, keep_epochs=0)
  log.add(epoch=0, validation_loss=[0.5])
  stored(tmp_path, 'mine')
  assert train.epochs_of(tmp_path)[0]['validation_loss'] == [0.5]
  (tmp_path / train.LOG).write_text('{"epoch": 0, "validation_loss": [0.1]}\n')
  assert train.epochs_of(tmp_path) == []
  assert 'was changed after the training' in capsys.readouterr().err
  (tmp_path / train.LOG).unlink()
  assert train.epochs_of(tmp_path) == []
  assert 'is missing' in capsys.readouterr().err


def test_trainings_together_take_no_folder_of_a_strategy(tmp_path, monkeypatch):
  """One called together-0 was deleted when it had just been trained."""
  group = [planned('together-0', [(0, 0)]), planned('other', [(0, 0)])]
  shop = shop_of(tmp_path)
  shop.runner = lambda config: types.SimpleNamespace(network=None)

  def trained(jobs, *_, checkpoints, logs, **__):
    checkpoints.mkdir(parents=True)
    for folder in logs:
      folder.mkdir(parents=True, exist_ok=True)
      (folder / train.LOG).write_text('')
    return [weights_of(1) for _ in jobs]

  monkeypatch.setattr(loop, 'train_together', trained)
  monkeypatch.setattr(train, 'make_job', lambda one, _: None)
  monkeypatch.setattr(
    train,
    '_weights_record',
    lambda one, *_: {
      'model': 'm',
      'subjects': [],
      'replicas': [row._asdict() for row in one.recipe.rows],
      'fingerprint': one.fingerprint,
    },
  )
  train._train_group(group, [None, None], shop, 0, None)
  for one in group:
    checkpoint.load_weights(shop.folder(one))
  assert len(list((tmp_path / 'models').iterdir())) == 2


def given(tmp_path, model, **known):
  """A study of nothing but given weights."""
  config = configs.load('configs/finetune.py')
  config.pretrained = ''
  config.study.strategies.mine = configs._fields(
    Strategy('Mine', weights=str(tmp_path / 'mine'))
  )
  config.strategies = ('mine',)
  rows = [Replica('mine', 0, 0, 1e-3)._asdict()]
  record = {'model': model, 'subjects': [], 'replicas': rows}
  record |= {'patches': 'native', 'channels': ['swi'], 'candidates': 'frst'}
  record |= {'model_code': '', 'candidates_code': '', 'persons': []}
  record |= {'fingerprint': 'x', **known}
  weights = Weights({'a': np.ones((1, 2), np.float32)}, {})
  checkpoint.save_weights(tmp_path / 'mine', weights, record)
  return resolve.points(config)


def test_a_network_whose_code_changed_is_said(tmp_path, capsys):
  """Its weights fit, and its likelihoods were those of another network."""
  model = 'tests.own_parts:Small'
  (point,) = given(tmp_path, model)
  config = point.study.given[0].config
  code = networks.code_of(config)
  assert len(code) == 16
  for known, said in ((code, False), ('before', True)):
    (point,) = given(tmp_path, model, model_code=known)
    networks.check_given(point.study)
    assert ('is not the code' in capsys.readouterr().err) is said


def test_given_weights_of_another_version_are_one_sentence(tmp_path):
  given(tmp_path, 'resnet_v4')
  path = tmp_path / 'mine' / 'weights.json'
  record = sealed.read_json(path)
  del record['persons']
  sealed.write_json(path, {k: record[k] for k in record if k != sealed.SEAL})
  config = configs.load('configs/finetune.py')
  config.pretrained = str(path.parent)
  with says(InputError, 'weights.json persons'):
    resolve.points(config)


def test_a_log_that_cannot_tell_makes_no_winner(tmp_path):
  """Nobody knows then whether its weights are more than its first ones."""
  log = logs.EpochLog(tmp_path / train.LOG, keep_epochs=0)
  log.add(epoch=0, validation_loss=[0.5])
  stored(tmp_path, 'mine')
  assert sweep.learned(tmp_path)
  (tmp_path / train.LOG).unlink()
  assert not sweep.learned(tmp_path)
