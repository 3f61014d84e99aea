"""Metrics by candidate, scan and subject by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from cmbjax.errors import InputError
from cmbjax.evaluation import breakdown, levels, metrics
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from tests.evaluation_data import check_interval, make
from tests.messages import says


def small():
  """Subject a: scans a1 (a lesion hit twice, a mimic), a2 (clean, a mimic
  kept); subject b: b1 (two lesions, one lost, one never proposed)."""
  rows = (
    ('a1', 'a', 1, 1, 0.9),
    ('a1', 'a', 1, 1, 0.05),
    ('a1', 'a', 0, 0, 0.02),
    ('a2', 'a', 0, 0, 0.4),
    ('b1', 'b', 1, 1, 0.08),
    ('b1', 'b', 0, 0, 0.1),
  )
  scan, subject, label, lesion, p = (np.array(c) for c in zip(*rows))
  key = np.array([f'{s}/{s}/{i}' for i, s in enumerate(scan)])
  cohort = np.full(len(key), 'c')
  return (
    Predictions(key, subject, scan, cohort, label, lesion, p),
    ScanCounts(
      np.array(['a1', 'a2', 'b1']),
      np.array(['a', 'a', 'b']),
      np.array([1, 0, 2]),
      np.array([0, 0, 1]),
    ),
  )


def test_every_level_by_hand():
  found = {k: i.value for k, i in levels.evaluate(*small()).items()}
  assert found == pytest.approx(
    {
      'patch_sensitivity': 1 / 3,  # 0.05 and 0.08 are lost
      'patch_specificity': 2 / 3,  # 0.1 is not above 0.1
      'patch_precision': 1 / 2,
      'patch_f1': 2 / (1 + 1 + 3),
      'scan_sensitivity': 1 / 2,  # a1, not b1
      'scan_specificity': 0.0,  # a2
      'scan_auc': 1 / 2,  # 0.9 above 0.4, 0.1 not
      'subject_sensitivity': (1 + 0) / 2,
      'subject_precision': 1 / 2,  # of a alone; b keeps nothing
      'subject_f1': (2 / 3 + 0) / 2,
      'subject_fp_per_scan': (1 / 2 + 0) / 2,
    }
  )


@pytest.mark.parametrize('seed', range(3))
def test_patches_equal_sklearn(seed):
  p, scans = make(6, 30, seed=seed)
  found = levels.evaluate(p, scans, threshold=0.3)
  called = (p.probability > 0.3).astype(int)
  for name, score in (
    ('patch_sensitivity', sk.recall_score),
    ('patch_precision', sk.precision_score),
    ('patch_f1', sk.f1_score),
  ):
    assert found[name].value == pytest.approx(score(p.label, called))
  specificity = sk.recall_score(p.label, called, pos_label=0)
  assert found['patch_specificity'].value == pytest.approx(specificity)
  whole = metrics.evaluate(p, scans, threshold=0.3)
  assert found['patch_specificity'] == whole['fp_removed']


def test_scan_auc_equals_sklearn():
  p, scans = make(12, 8, seed=2, rate=0.12)
  true = np.maximum(scans.num_lesions - 1, 0)  # only those proposed
  scans = scans._replace(num_lesions=true, num_missed=0 * true)
  best = levels.scan_likelihood(p, scans)
  by_hand = [p.probability[p.scan == s].max() for s in scans.scan]
  np.testing.assert_allclose(best, by_hand)
  found = levels.evaluate(p, scans)['scan_auc']
  assert found.value == pytest.approx(sk.roc_auc_score(true > 0, best))
  assert found.low < found.value < found.high


def test_a_scan_without_candidates_is_called_clean():
  p, scans = small()
  found = levels.evaluate(tables.select(p, p.scan != 'a2'), scans)
  assert found['scan_specificity'].value == 1.0
  assert levels.scan_likelihood(p, scans).tolist() == [0.9, 0.4, 0.1]


def test_no_scans_is_an_error():
  p, scans = small()
  nothing = ScanCounts(*(np.asarray(c)[:0] for c in scans))
  with says(InputError):
    levels.evaluate(tables.select(p, np.zeros(6, bool)), nothing)


@pytest.mark.parametrize('method', ['jackknife', 'bootstrap'])
@pytest.mark.parametrize('seed', range(20))
def test_any_small_table_gives_ordered_numbers_or_a_reason(seed, method):
  """Ties, one class, empty scans and one subject, all at random."""
  rng = np.random.default_rng(seed)
  p, scans = make(
    int(rng.integers(1, 5)),
    int(rng.integers(1, 6)),
    seed=seed,
    rate=float(rng.choice([0.0, 0.3, 1.0])),
    ties=bool(seed % 2),
  )
  keep = rng.random(len(p.key)) < 0.7
  p = tables.select(p, keep)
  options = {'method': method, 'draws': 30}
  found = dict(levels.evaluate(p, scans, **options))
  for i, one in enumerate(breakdown.by_likelihood(p, scans, **options)):
    found |= {f'{i} share': one.share, f'{i} of': one.of_lesions}
    found |= {f'{i} rate': one.fp_per_scan}
  for name, one in found.items():
    check_interval(one, name)


@pytest.mark.parametrize('ties', [False, True])
def test_bins_of_likelihood_add_up(ties):
  p, scans = make(6, 40, seed=4, ties=ties)
  bins = breakdown.by_likelihood(p, scans)
  assert sum(one.candidates for one in bins) == len(p.key)
  assert sum(one.microbleeds for one in bins) == np.sum(p.label)
  reached = np.sum(scans.num_lesions - scans.num_missed)
  assert sum(one.lesions for one in bins) == reached
  rate = sum(one.fp_per_scan.value for one in bins)
  assert rate == pytest.approx(np.sum(p.label == 0) / 6)
  # The first bin is what the reference threshold removes.
  whole = metrics.evaluate(p, scans)
  first, *rest = bins
  kept = sum(one.fp_per_scan.value for one in rest)
  assert kept == pytest.approx(whole['fp_per_scan'].value)
  found = sum(one.of_lesions.value for one in rest)
  assert found == pytest.approx(whole['sensitivity_lesions'].value)
  assert first.high == metrics.THRESHOLD


def test_a_bin_holds_its_upper_end_and_the_first_one_zero():
  p, scans = make(1, 4, rate=0.0)
  p = p._replace(probability=np.array([0.0, 0.1, 0.25, 1.0]))
  bins = breakdown.by_likelihood(p, scans)
  assert [one.candidates for one in bins] == [2, 1, 0, 0, 0, 1]
  assert bins[2].share.note == 'no candidates'


@pytest.mark.parametrize('clean', [1, 7])
def test_perfect_scans_are_as_sure_as_the_rarer_kind(clean):
  """One scan of a kind says little, however many the other has."""
  names = np.array([f'sub-{i}' for i in range(8)])
  lesions = (np.arange(8) >= clean).astype(int)
  none = np.zeros(8, int)
  p = Predictions(
    key=np.char.add(names, '/0'), subject=names, scan=names, cohort=names,
    label=lesions, lesion=lesions, probability=0.2 + 0.6 * lesions,
  )  # fmt: skip
  found = levels.evaluate(p, ScanCounts(names, names, lesions, none))
  assert found['scan_auc'].value == 1.0
  assert found['scan_auc'].low == pytest.approx(0.025)  # of one unit
