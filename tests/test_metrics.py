"""Metrics against scikit-learn, hand values and their definitions."""

import numpy as np
import pytest
from sklearn import metrics as sk

from cmbjax.errors import InputError
from cmbjax.evaluation import metrics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from tests.evaluation_data import check_interval, make
from tests.messages import says


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('seed', range(5))
def test_auc_and_average_precision_equal_sklearn(ties, seed):
  p, scans = make(seed=seed, ties=ties)
  found = metrics.evaluate(p, scans, draws=50)
  auc = sk.roc_auc_score(p.label, p.probability)
  ap = sk.average_precision_score(p.label, p.probability)
  assert found['auc'].value == pytest.approx(auc, abs=1e-12)
  assert found['average_precision'].value == pytest.approx(ap, abs=1e-12)
  assert metrics.auc(p.probability, p.label) == pytest.approx(auc, abs=1e-12)
  assert metrics.average_precision(p.probability, p.label) == pytest.approx(
    ap, abs=1e-12
  )


@pytest.mark.parametrize('ties', [False, True])
def test_roc_equals_sklearn(ties):
  p, _ = make(ties=ties, seed=2)
  fpr, tpr, _ = sk.roc_curve(p.label, p.probability, drop_intermediate=False)
  roc = metrics.roc(p.probability, p.label)
  np.testing.assert_allclose(np.interp(fpr, *roc)[1:-1].max(), tpr[1:-1].max())
  assert np.trapezoid(roc.tpr, roc.fpr) == pytest.approx(
    np.trapezoid(tpr, fpr), abs=1e-12
  )
  points = set(zip(fpr.round(12), tpr.round(12)))
  assert set(zip(roc.fpr.round(12), roc.tpr.round(12))) <= points
  assert len(roc.fpr) < len(fpr)


def test_every_ratio_by_hand():
  """Two scans; 5 lesions; one lesion hit twice; one never proposed."""
  scan = np.array(['a', 'a', 'a', 'a', 'b', 'b', 'b'])
  p = Predictions(
    key=np.array([f'{s}/{i}' for i, s in enumerate(scan)]),
    subject=scan,
    scan=scan,
    cohort=np.full(7, 'c'),
    label=np.array([1, 1, 1, 0, 1, 0, 0]),
    lesion=np.array([1, 1, 2, 0, 1, 0, 0]),
    probability=np.array([0.9, 0.8, 0.1, 0.2, 0.5, 0.11, 0.05]),
  )
  scans = ScanCounts(
    np.array(['a', 'b']),
    np.array(['a', 'b']),
    np.array([3, 2]),
    np.array([1, 1]),
  )
  found = metrics.evaluate(p, scans, draws=20)
  # Hits: a/1 and b/1. a/2 has exactly 0.1, which is not strictly above.
  assert found['sensitivity_candidates'].value == pytest.approx(2 / 3)
  assert found['sensitivity_lesions'].value == pytest.approx(2 / 5)
  assert found['detector_sensitivity'].value == pytest.approx(3 / 5)
  assert found['precision'].value == pytest.approx(2 / 4)
  assert found['f1'].value == pytest.approx(2 * 2 / (2 * 2 + 2 + 3))
  assert found['fp_per_scan'].value == pytest.approx(1.0)
  assert found['fp_removed'].value == pytest.approx(1 / 3)


def test_both_methods_agree_where_there_are_many_subjects():
  p, scans = make(150, 30, seed=1)
  one = metrics.evaluate(p, scans)
  two = metrics.evaluate(p, scans, method='bootstrap', draws=1000)
  # One miss in every subject is less spread than chance; units are capped.
  del one['detector_sensitivity']
  for name, interval in one.items():
    width = interval.high - interval.low
    for a, b in zip(interval[:3], two[name][:3]):
      assert abs(a - b) < 0.15 * width, name


@pytest.mark.parametrize('method', ['jackknife', 'bootstrap'])
def test_perfect_separation_still_has_an_interval(method):
  p, scans = make(6, 20)
  p = p._replace(probability=0.2 + 0.6 * p.label)
  for name in ('auc', 'average_precision'):
    found = metrics.evaluate(p, scans, method=method, draws=50)[name]
    assert found.value == found.high == 1.0
    assert 0.8 < found.low < 1.0
    assert 'exact bound' in found.note


@pytest.mark.parametrize('method', ['jackknife', 'bootstrap'])
def test_a_ranking_that_is_always_wrong_has_an_interval(method):
  p, scans = make(6, 20)
  p = p._replace(probability=0.8 - 0.6 * p.label)
  found = metrics.evaluate(p, scans, method=method, draws=50)['auc']
  assert found.value == found.low == 0.0
  assert 0.0 < found.high < 0.2
  assert 'exact bound' in found.note


@pytest.mark.parametrize('rare', [0, 1])
def test_perfect_separation_is_as_sure_as_the_rarer_class(rare):
  """Two candidates of one class say little, however many the other has."""
  p, scans = make(20, 20, rate=0.5)
  first = np.flatnonzero(p.label == rare)[:2]
  keep = p.label != rare
  keep[first] = True
  p = tables.select(p, keep)
  p = p._replace(probability=0.2 + 0.6 * p.label)
  # Both are of one subject: 2 / 1.1 units.
  assert len(set(p.subject[p.label == rare])) == 1
  for name in ('auc', 'average_precision'):
    found = metrics.evaluate(p, scans)[name]
    assert found.value == 1.0
    assert found.low == pytest.approx(0.025 ** (1.1 / 2))


def test_order_of_candidates_and_scans_does_not_matter():
  p, scans = make(seed=4)
  rng = np.random.default_rng(0)
  q = tables.select(p, rng.permutation(len(p.key)))
  order = rng.permutation(len(scans.scan))
  other = ScanCounts(*(c[order] for c in scans))
  first = metrics.evaluate(p, scans, draws=100)
  second = metrics.evaluate(q, other, draws=100)
  for name, interval in first.items():
    np.testing.assert_allclose(interval[:3], second[name][:3], rtol=1e-12)


def test_ranking_metrics_ignore_rising_transforms():
  p, scans = make(seed=5)
  q = p._replace(probability=p.probability**3)
  first = metrics.evaluate(p, scans, draws=100)
  second = metrics.evaluate(q, scans, draws=100)
  for name in ('auc', 'average_precision'):
    np.testing.assert_allclose(first[name][:3], second[name][:3], rtol=1e-12)


def test_scan_without_candidates_counts_in_the_denominators():
  p, scans = make(seed=6)
  empty = ScanCounts(
    *(
      np.append(column, extra)
      for column, extra in zip(scans, ('sub-900', 'sub-900', 5, 5))
    )
  )
  before = metrics.evaluate(p, scans, draws=20)
  after = metrics.evaluate(p, empty, draws=20)
  for name, denominator in (('fp_per_scan', 6), ('sensitivity_lesions', None)):
    ratio = after[name].value / before[name].value
    total = scans.num_lesions.sum()
    share = 6 / 7 if denominator else total / (total + 5)
    assert ratio == pytest.approx(share)
  assert after['auc'].value == before['auc'].value


def test_one_class_gives_a_note_instead_of_nan():
  p, scans = make(rate=0.0)
  found = metrics.evaluate(p, scans, draws=20)
  assert found['auc'].value is None
  assert found['auc'].note == 'no microbleeds among the candidates'
  assert found['sensitivity_candidates'].note == 'no lesion has a candidate'
  assert found['sensitivity_lesions'].value == 0.0
  assert found['sensitivity_lesions'].high > 0  # exact bound, not 0..0
  assert metrics.auc(p.probability, p.label) is None
  assert metrics.average_precision(p.probability, p.label) is None
  assert metrics.roc(p.probability, p.label) is None


def test_no_candidates_no_lesions_and_no_scans():
  p, scans = make()
  none = tables.select(p, np.zeros(len(p.key), bool))
  clean = scans._replace(
    num_lesions=0 * scans.num_lesions, num_missed=0 * scans.num_missed
  )
  found = metrics.evaluate(none, clean, draws=20)
  undefined = {k for k, v in found.items() if v.value is None}
  assert undefined == set(found) - {'fp_per_scan'}
  assert all(found[name].note for name in undefined)
  assert found['fp_per_scan'].value == 0.0
  assert metrics.froc(none, clean) is None
  assert metrics.sensitivity_at(None, (1.0,)) == {1.0: None}
  with says(InputError):
    metrics.evaluate(none, ScanCounts(*(c[:0] for c in scans)))


def test_one_subject_has_values_but_no_interval():
  p, scans = make(1, 30)
  for name, interval in metrics.evaluate(p, scans, draws=20).items():
    assert interval.value is not None, name
    assert interval.low is None
    assert interval.note == 'n/a (1 subject): an interval needs 4 or more'


def test_froc_agrees_with_evaluate_at_every_threshold():
  p, scans = make(seed=7, ties=True)
  curve = metrics.froc(p, scans)
  assert np.all(np.diff(curve.fp_per_scan) >= 0)
  for i in range(len(curve.threshold)):
    found = metrics.evaluate(p, scans, threshold=curve.threshold[i], draws=2)
    assert curve.sensitivity[i] == found['sensitivity_lesions'].value
    assert curve.fp_per_scan[i] == found['fp_per_scan'].value
  missed = scans.num_missed.sum() / scans.num_lesions.sum()
  assert curve.sensitivity[-1] == pytest.approx(1 - missed)


def test_sensitivity_at_fixed_rates():
  curve = metrics.Froc(np.array([0, 0.5, 2.0]), np.array([0.1, 0.4, 0.9]), None)
  assert metrics.sensitivity_at(curve, (0.4, 0.5, 1, 2, 99)) == {
    0.4: 0.1,
    0.5: 0.4,
    1: 0.4,
    2: 0.9,
    99: 0.9,
  }


def test_sensitivity_by_size_counts_lesions_never_reached():
  group = np.array(['small', 'small', 'large', 'large'])
  likelihood = np.array([np.nan, 0.05, 0.9, 0.2])
  subject = np.array(['a', 'b', 'a', 'b'])
  found = metrics.sensitivity_by(group, subject, likelihood, draws=50)
  assert list(found) == ['small', 'large']
  assert found['small'][0].value == 0.0
  assert found['small'][1] == 2
  assert found['large'][0].value == 1.0


def test_a_lesion_at_the_threshold_is_not_found():
  group, subject = np.full(4, 'g'), np.array(['a', 'a', 'b', 'b'])
  likelihood = np.array([0.1, 0.11, 0.1, 0.3])
  found = metrics.sensitivity_by(group, subject, likelihood, threshold=0.1)
  assert found['g'][0].value == 0.5


@pytest.mark.parametrize('method', ['jackknife', 'bootstrap'])
@pytest.mark.parametrize('seed', range(40))
def test_any_small_table_gives_ordered_numbers_or_a_reason(seed, method):
  """1-4 subjects, 0-6 candidates each, ties, one class: never NaN."""
  rng = np.random.default_rng(seed)
  p, scans = make(
    int(rng.integers(1, 5)),
    int(rng.integers(1, 7)),
    seed=seed,
    rate=rng.choice([0, 0.1, 0.5, 1]),
    lift=rng.choice([0, 2, 30]),
    ties=bool(rng.integers(2)),
  )
  p = tables.select(p, rng.random(len(p.key)) < 0.8)
  for name, one in metrics.evaluate(
    p, scans, method=method, draws=60, seed=seed
  ).items():
    check_interval(one, name, inside=method == 'jackknife')
    assert one.low is None or one.low >= 0, name
    assert one.low is None or name == 'fp_per_scan' or one.high <= 1, name
