"""Sensitivity at fixed FP per scan against drawing subjects by hand."""

import itertools

import numpy as np
import pytest

from cmbjax.evaluation import froc, metrics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from tests.evaluation_data import make

RATES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('seed', range(4))
def test_values_are_those_of_the_curve(ties, seed):
  p, scans = make(5, 25, seed=seed, ties=ties)
  found = froc.sensitivities(p, scans, rates=RATES, draws=50)
  curve = metrics.sensitivity_at(metrics.froc(p, scans), RATES)
  for rate, value in curve.items():
    assert found[rate].value == pytest.approx(value), rate


@pytest.mark.parametrize(('count', 'rate'), [(29, 0.29), (57, 0.57)])
def test_a_rate_is_met_whatever_its_product_is_rounded_to(count, rate):
  """0.29 times 100 scans is a little less than 29."""
  assert rate * 100 < count
  names = np.array([f'sub-{i:03d}' for i in range(100)])
  likely = np.linspace(0.9, 0.1, 100)  # mimics
  p = Predictions(
    key=np.append(np.char.add(names, '/0'), 'sub-000/1'),
    subject=np.append(names, 'sub-000'),
    scan=np.append(names, 'sub-000'),
    cohort=np.full(101, 'c'),
    label=np.append(np.zeros(100, int), 1),
    lesion=np.append(np.zeros(100, int), 1),
    probability=np.append(likely, (likely[count - 1] + likely[count]) / 2),
  )
  lesions = np.append(1, np.zeros(99, int))
  scans = ScanCounts(names, names, lesions, 0 * lesions)
  assert metrics.sensitivity_at(metrics.froc(p, scans), (rate,)) == {rate: 1.0}
  once = np.ones((1, 100))
  assert froc.sensitivity_draws(p, scans, once, (rate,))[0, 0] == 1.0


def drawn(p, scans, times):
  """The test set with subject i `times[i]` times, under new names."""
  rows, lists, names = [], [], []
  for i, subject in enumerate(np.unique(scans.subject)):
    for copy in range(times[i]):
      index = np.flatnonzero(p.subject == subject)
      rows.append(index)
      names += [f'{subject}-{copy}'] * len(index)
      at = np.flatnonzero(scans.subject == subject)
      lists.append((at, [f'{subject}-{copy}'] * len(at)))
  rows, names = np.concatenate(rows), np.array(names)
  at = np.concatenate([one for one, _ in lists])
  copies = np.concatenate([name for _, name in lists])
  key = np.char.add(np.char.add(names, '/'), np.arange(len(rows)).astype(str))
  p = tables.select(p, rows)._replace(key=key, subject=names, scan=names)
  some = [np.asarray(column)[at] for column in scans]
  return p, ScanCounts(*some)._replace(scan=copies, subject=copies)


@pytest.mark.parametrize('ties', [False, True])
def test_draws_equal_repeating_the_subjects(ties):
  p, scans = make(4, 20, seed=3, ties=ties)
  for times in ([1, 1, 1, 1], [0, 2, 1, 1], [3, 0, 0, 1], [0, 4, 0, 0]):
    weights = np.array([times], float)
    found = froc.sensitivity_draws(p, scans, weights, RATES)[:, 0]
    q, more = drawn(p, scans, times)
    by_hand = metrics.sensitivity_at(metrics.froc(q, more), RATES)
    np.testing.assert_allclose(found, list(by_hand.values()))


def test_blocks_of_draws_change_nothing(monkeypatch):
  p, scans = make(6, 20, seed=1)
  whole = froc.sensitivities(p, scans, draws=60)
  monkeypatch.setattr(froc, '_CHUNK', 500)
  assert froc.sensitivities(p, scans, draws=60) == whole


@pytest.mark.parametrize('ties', [False, True])
def test_looking_at_few_mimics_first_changes_nothing(monkeypatch, ties):
  p, scans = make(6, 30, seed=4, ties=ties)
  rng = np.random.default_rng(0)
  weights = rng.multinomial(6, np.full(6, 1 / 6), size=200).astype(float)
  for rates in ((0.0, 0.2), (0.2, 1.0, 3.0)):
    whole = froc.sensitivity_draws(p, scans, weights, rates)
    with monkeypatch.context() as patch:
      patch.setattr(froc, '_MORE', 1)
      few = froc.sensitivity_draws(p, scans, weights, rates)
    np.testing.assert_array_equal(few, whole)


def test_order_of_candidates_and_scans_does_not_matter():
  p, scans = make(6, 20, seed=2, ties=True)
  rng = np.random.default_rng(0)
  order, other = rng.permutation(len(p.key)), rng.permutation(len(scans.scan))
  mixed = ScanCounts(*(np.asarray(column)[other] for column in scans))
  found = froc.sensitivities(tables.select(p, order), mixed, draws=40)
  assert found == froc.sensitivities(p, scans, draws=40)


def test_more_false_positives_never_find_less():
  p, scans = make(12, 30, seed=5)
  found = list(froc.sensitivities(p, scans, draws=200).values())
  for a, b in itertools.pairwise(found):
    assert a.value <= b.value
    assert a.low <= b.low
    assert a.high <= b.high


def test_nothing_to_find_and_nothing_found_say_so():
  p, scans = make(4, 10, rate=0.0)
  none = scans._replace(num_lesions=0 * scans.num_lesions)
  none = none._replace(num_missed=0 * scans.num_missed)
  found = froc.sensitivities(p, none)
  assert {one.note for one in found.values()} == {'no lesions in this test set'}
  found = froc.sensitivities(p, scans, draws=20)  # no candidate hits
  assert {one.value for one in found.values()} == {0.0}
  assert all('none at all' in one.note for one in found.values())
  empty = tables.select(p, np.zeros(len(p.key), bool))
  found = froc.sensitivities(empty, scans, draws=20)
  assert {one.value for one in found.values()} == {0.0}
  one, alone = make(1, 20)
  found = froc.sensitivities(one, alone)
  assert {one.note for one in found.values()} == {
    'n/a (1 subject): an interval needs 4 or more'
  }
  nothing = ScanCounts(*(np.asarray(c)[:0] for c in scans))
  assert froc.sensitivities(empty, nothing)[1.0].note == 'no scans'


def test_lesions_of_one_subject_have_no_interval():
  p, scans = make(3, 20, seed=1)
  mine = p.subject != 'sub-000'
  label = np.where(mine, 0, p.label)
  p = p._replace(label=label, lesion=np.where(mine, 0, p.lesion))
  lesions = np.where(scans.subject == 'sub-000', scans.num_lesions, 0)
  scans = scans._replace(
    num_lesions=lesions, num_missed=np.minimum(lesions, scans.num_missed)
  )
  found = froc.sensitivities(p, scans, draws=50)[4.0]
  assert found.value is not None
  assert found.low is None
  assert found.note == 'rests on one subject, so no interval'
