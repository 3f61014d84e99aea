"""Jobs learn, stop, and go on after a cut with the same numbers."""

import json
import resource

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.training import checkpoint, hosts, inference, logs, loop, replicas
from cmbjax.training import runner as runner_lib
from cmbjax.training.runner import Course, Runner
from tests.messages import says
from tests.test_replicas import Tiny, job_of, largest, start


def run(job, toy, folder, **changes):
  settings = {'fingerprint': 'f', 'start': lambda: start(job)}
  return loop.train(
    job,
    replicas.on_device(*toy),
    Runner(Tiny(), backend='loop'),
    folder=folder,
    **{**settings, **changes},
  )


@pytest.fixture(scope='module')
def unbroken(toy, tmp_path_factory):
  folder = tmp_path_factory.mktemp('unbroken')
  job = job_of(epochs=6)
  return job, run(job, toy, folder), logs.read(folder / 'epochs.jsonl')


def test_it_learns_and_keeps_the_best_epoch(unbroken, toy):
  job, weights, rows = unbroken
  loss = np.array([row['validation_loss'] for row in rows])  # [epochs, R]
  assert loss[-1].mean() < 0.7 * loss[0].mean()
  runner = Runner(Tiny(), backend='loop')
  for r, replica in enumerate(job.replicas):
    held = job.pool[job.fold_of == replica.fold]
    p = inference.predict(replicas.on_device(*toy), weights, runner, held)[r]
    y = toy[1][held]
    value = -np.mean(np.log(np.where(y == 1, p, 1 - p)))
    assert value == pytest.approx(loss[:, r].min(), rel=1e-4)


@pytest.mark.parametrize('cut', [1, 4])
def test_resume_is_bitwise(unbroken, toy, tmp_path, cut):
  job, weights, rows = unbroken
  run(job_of(epochs=cut), toy, tmp_path)

  def never():
    return start(job)

  resumed = run(job, toy, tmp_path, start=never)
  assert largest(resumed, weights) == 0
  assert logs.read(tmp_path / 'epochs.jsonl') == rows


def test_another_fingerprint_starts_anew(unbroken, toy, tmp_path):
  job, _, rows = unbroken
  run(job_of(epochs=2, batch=4), toy, tmp_path)
  run(job, toy, tmp_path, fingerprint='other')
  assert logs.read(tmp_path / 'epochs.jsonl') == rows


def test_replicas_stop_when_nothing_gets_better(toy, tmp_path):
  table = tuple(r._replace(learning_rate=0.0) for r in job_of().replicas)
  job = job_of(replicas=table, epochs=9, stop_after=2)
  run(job, toy, tmp_path)
  rows = logs.read(tmp_path / 'epochs.jsonl')
  # BatchNorm statistics still move, so the loss does; all stop before 9.
  assert len(rows) < 9
  assert not all(rows[-1]['active']) or len(rows) >= 3


def test_rates_fall_per_replica(toy):
  job, runner = job_of(), Runner(Tiny(), backend='loop')
  state = loop.initial_state((job,), start(job), runner)
  everyone = np.ones(3, bool)
  for value in ([1, 1, 1], [1, 0.5, 1], [1, 0.4, 1]):
    value = np.array(value, np.float32)
    state = loop.end_epoch((job,), state, value, everyone, runner)
  rate = loop.rates_of((job,), state, 1)[:, 0]
  base = np.array([r.learning_rate for r in job.replicas])
  np.testing.assert_allclose(rate, base * [0.1, 1, 0.1], rtol=1e-5)
  np.testing.assert_array_equal(state.bad_epochs, [2, 0, 2])
  for _ in range(9):
    state = loop.end_epoch((job,), state, value, everyone, runner)
  floor = [r.min_learning_rate for r in job.replicas]
  np.testing.assert_allclose(loop.rates_of((job,), state, 2).T, [floor] * 3)


def test_a_schedule_is_as_long_as_its_own_job():
  """In the middle, a cosine is half-way down, whatever else is trained."""
  rows = tuple(r._replace(schedule='cosine') for r in job_of().replicas)
  jobs = tuple(job_of(replicas=rows, epochs=n) for n in (4, 2))
  weights = jax.tree.map(lambda a: np.concatenate([a, a]), start(jobs[0]))
  state = loop.initial_state(jobs, weights, Runner(Tiny(), backend='loop'))
  half = [(r.learning_rate + r.min_learning_rate) / 2 for r in rows]
  for epoch, mine in ((2, slice(0, 3)), (1, slice(3, 6))):
    rates = loop.rates_of(jobs, state, epoch)[mine, 0]
    np.testing.assert_allclose(rates, half, rtol=1e-5)


def second_step(learning_rate, steps):
  """An own schedule: only the second step of all changes weights."""
  return lambda count: jnp.where(count == 1, learning_rate, 0.0)


@pytest.mark.parametrize('backend', ['loop', 'map', 'vmap', 'shard'])
def test_each_step_has_its_own_rate(toy, backend):
  """Counted over the epochs, and of each row alone."""
  table = list(job_of().replicas)
  table[1] = table[1]._replace(schedule='tests.test_loop:second_step')
  job = job_of(replicas=tuple(table), epochs=2)
  runner = Runner(Tiny(), backend=backend, optimizer=optax.sgd)
  patches = replicas.on_device(*toy)
  state = loop.initial_state((job,), start(job), runner)
  values = loop.values_of((job,), start(job), runner)
  seen = [start(job).params]
  for epoch in range(2):
    active = np.arange(len(state.best_value)) < 3
    turn = {'values': values, 'epoch': epoch, 'active': active}
    state = loop.run_epoch((job,), state, patches, runner, **turn)
    state = state._replace(course=runner_lib.begin(len(active)))
    seen.append(hosts.fetch(state.learner.weights.params))
  first, one, two = (
    [row['Dense_0']['kernel'] for row in replicas.unstack(tree, 3)]
    for tree in seen
  )
  for r in range(3):
    assert not np.array_equal(first[r], one[r])
    assert np.array_equal(one[r], two[r]) == (r == 1)


def doubled(logits, label):
  return 2 * replicas.cross_entropy(logits, label)


def test_an_own_loss_steers_and_is_watched(unbroken, toy, tmp_path):
  """Twice the loss; with Adam the steps are the same but for rounding."""
  job, _, rows = unbroken
  loss = replicas.find_loss('tests.test_loop:doubled')
  loop.train(
    job,
    replicas.on_device(*toy),
    Runner(Tiny(), backend='loop', loss=loss),
    folder=tmp_path,
    fingerprint='f',
    start=lambda: start(job),
  )
  found = logs.read(tmp_path / 'epochs.jsonl')
  for name, times in (('train_loss', 2), ('validation_loss', 2)):
    np.testing.assert_allclose(
      found[0][name], np.multiply(times, rows[0][name]), rtol=2e-3
    )


def mean_loss(logits, label):
  return replicas.cross_entropy(logits, label).mean()


def test_a_loss_that_cannot_be_used():
  for name in (
    'hinge', 'tests.test_loop:mean_loss', 'tests.test_loop:second_step',
    'tests.test_loop:run',
  ):  # fmt: skip
    with says(InputError, f'config.train.loss {name}'):
      replicas.find_loss(name)


def test_auc_and_sensitivity_of_the_held_out_fold(unbroken, toy):
  """Logged of each epoch; here of the best one, from its likelihoods."""
  job, weights, rows = unbroken
  best = np.argmin([row['validation_loss'] for row in rows], 0)
  patches, runner = replicas.on_device(*toy), Runner(Tiny(), backend='loop')
  p = inference.predict(patches, weights, runner, job.pool)
  for r, replica in enumerate(job.replicas):
    held = job.fold_of == replica.fold
    y, mine = toy[1][job.pool[held]], p[r, held]
    above = mine[y == 1][:, None] - mine[y == 0]
    auc = np.mean((above > 0) + 0.5 * (above == 0))
    row = rows[best[r]]
    assert row['validation_auc'][r] == pytest.approx(auc, abs=1e-6)
    found = np.mean(mine[y == 1] > 0.1)
    assert row['validation_sensitivity'][r] == pytest.approx(found, abs=1e-6)


def test_the_threshold_of_the_sensitivity(toy):
  job, runner = job_of(), Runner(Tiny(), backend='loop')
  state = loop.initial_state((job,), start(job), runner)
  patches = replicas.on_device(*toy)
  found = [
    inference.validate(
      (job,), patches, runner, state, batch=8, threshold=t
    ).sensitivity
    for t in (0.0, 0.5, 1.0)
  ]
  assert (found[0] == 1).all()
  assert (found[2] == 0).all()
  assert ((found[1] > 0) & (found[1] < 1)).any()


def test_the_held_out_loss_has_the_class_weight_of_its_row(toy):
  """One network twice; its microbleeds weigh 1 and 4."""
  row = job_of().replicas[0]
  job = job_of(replicas=(row, row._replace(positive_weight=4.0)))
  patches, runner = replicas.on_device(*toy), Runner(Tiny(), backend='loop')
  state = loop.initial_state((job,), start(job), runner)
  loss = inference.validate((job,), patches, runner, state, batch=8).loss
  held = job.pool[job.fold_of == row.fold]
  y = toy[1][held]
  p = inference.predict(patches, start(job), runner, held)[0]
  wanted = [
    -np.mean(np.where(y == 1, weight * np.log(p), np.log(1 - p)))
    for weight in (1, 4)
  ]
  np.testing.assert_allclose(loss, wanted, rtol=1e-4)


def test_a_decay_that_the_optimizer_does_not_take(toy, tmp_path):
  table = tuple(r._replace(weight_decay=0.1) for r in job_of().replicas)
  job = job_of(replicas=table)
  runner = Runner(Tiny(), backend='loop', optimizer=optax.sgd)
  with says(InputError, 'weight_decay'):
    loop.train(
      *(job, replicas.on_device(*toy), runner),
      folder=tmp_path,
      fingerprint='f',
      start=lambda: start(job),
    )


def test_nan_is_never_the_best(toy):
  job, runner = job_of(), Runner(Tiny(), backend='loop')
  state = loop.initial_state((job,), start(job), runner)
  value = np.array([np.nan, 1.0, np.inf], np.float32)
  state = loop.end_epoch((job,), state, value, np.ones(3, bool), runner)
  np.testing.assert_array_equal(state.best_value, [np.inf, 1, np.inf])


def test_strategies_see_the_same_batches():
  one, other = job_of(strategy='a'), job_of(strategy='b', epochs=9)
  for epoch in (0, 5):
    np.testing.assert_array_equal(
      loop.epoch_order(one, epoch), loop.epoch_order(other, epoch)
    )
  order = loop.epoch_order(one, 0)
  assert order.shape == (3, 3, 8)
  assert set(one.fold_of[order[0].ravel()]) == {1}  # fold 0 is held out


def test_patches_of_an_epoch_that_goes_on():
  """The speed of a resumed epoch counts only what was done now."""
  jobs = (job_of(epochs=1),)
  num, steps = len(jobs[0].replicas), jobs[0].steps
  course = Course(np.arange(num) % 2, np.zeros(num))
  active = np.arange(num) != 0
  expected = sum(steps - r % 2 for r in range(1, num)) * jobs[0].batch
  assert loop.patches_left(jobs, course, active) == expected


def test_weights_come_back(tmp_path, unbroken):
  _, weights, _ = unbroken
  record = {'model': 'tiny', 'subjects': [], 'replicas': [], 'fingerprint': ''}
  checkpoint.save_weights(tmp_path / 'w', weights, record)
  assert checkpoint.read_record(tmp_path / 'w') == record
  back = checkpoint.load_weights(tmp_path / 'w')
  assert largest(back, weights) == 0
  assert jax.tree.structure(back) == jax.tree.structure(weights)


def flip_a_byte(folder):
  """In the largest file, where the arrays are."""
  path = max(
    (p for p in folder.rglob('*') if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def test_missing_and_damaged_weights(tmp_path, unbroken):
  with says(NoInputError, 'weights.json'):
    checkpoint.read_record(tmp_path)
  checkpoint.save_weights(tmp_path / 'w', unbroken[1], {})
  flip_a_byte(tmp_path / 'w' / 'weights')
  with says(InputError):
    checkpoint.load_weights(tmp_path / 'w')


def test_one_flipped_byte_goes_back_one_epoch(unbroken, toy, tmp_path, capfd):
  job, weights, rows = unbroken
  run(job_of(epochs=3), toy, tmp_path)
  flip_a_byte(tmp_path / 'checkpoints' / 'epoch-0003')
  (tmp_path / 'checkpoints' / 'epoch-0004').mkdir()  # cut short by a kill
  resumed = run(job, toy, tmp_path)
  assert 'epoch-0003: is damaged' in capfd.readouterr().err
  assert largest(resumed, weights) == 0
  assert logs.read(tmp_path / 'epochs.jsonl') == rows


def test_a_log_cut_short(tmp_path):
  path = tmp_path / 'epochs.jsonl'
  log = logs.EpochLog(path, keep_epochs=0)
  log.add(epoch=0, loss=np.array([1.0, np.nan]), active=np.array([True, False]))
  log.add(epoch=1, loss=np.float32(0.5), active=True)
  text = path.read_text()
  assert json.loads(text.splitlines()[0])['loss'] == [1.0, None]
  path.write_text(text + '{"epoch": 2, "lo')
  assert [r['epoch'] for r in logs.read(path)] == [0, 1]
  logs.EpochLog(path, keep_epochs=1)
  assert [r['epoch'] for r in logs.read(path)] == [0]


def test_a_network_that_diverges_is_named(toy, tmp_path, capfd):
  """It keeps its first weights; the others are what they are without it."""
  table = job_of().replicas
  wild = (table[0]._replace(learning_rate=1e30), *table[1:])
  job = job_of(replicas=wild, epochs=2)
  weights = run(job, toy, tmp_path / 'a')
  said = capfd.readouterr().err
  assert 'learning rate 1e+30: its held-out loss was never a finite' in said
  assert said.count('never a finite') == 1
  plain = run(job_of(epochs=2), toy, tmp_path / 'b')
  first = start(job)
  for r, expected in ((0, first), (1, plain), (2, plain)):
    own, other = (
      jax.tree.map(lambda leaf, r=r: np.asarray(leaf)[r], tree)
      for tree in (weights, expected)
    )
    assert largest(own, other) == 0


def test_a_job_that_diverges_ends(toy, tmp_path):
  table = tuple(r._replace(learning_rate=1e30) for r in job_of().replicas)
  with says(InputError, 'learning_rate'):
    run(job_of(replicas=table, epochs=1), toy, tmp_path)


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path):
  """The limit of a file's size stands in for the end of a disk."""
  weights = {'a': np.random.default_rng(0).random(100_000)}
  saved = checkpoint.Checkpoints(tmp_path, fingerprint='f')
  saved.save(1, weights)
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
  try:
    with says(InputError, '0002 File'):
      saved.save(2, weights)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert {p.stem for p in tmp_path.glob('epoch-*')} == {'epoch-0001'}
  assert saved.restore(weights).epoch == 1
