"""Thresholds and calibration from out-of-fold predictions, by hand."""

import json

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.evaluation import calibration, operating_points
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from tests.evaluation_data import make
from tests.messages import says


def predictions_of(probability, label, lesion=None):
  """One scan; microbleeds hit lesion 1, 2, ... unless told otherwise."""
  label = np.asarray(label)
  lesion = np.cumsum(label) * label if lesion is None else np.asarray(lesion)
  count = len(label)
  name = np.full(count, 'sub-1')
  key = np.array([f'sub-1/sub-1/{n:04d}' for n in range(count)])
  return Predictions(
    key, name, name, name, label, lesion, np.asarray(probability, float)
  )


def scans_of(num_lesions):
  one = np.array(['sub-1'])
  return ScanCounts(one, one, np.array([num_lesions]), np.array([0]))


def test_points_by_hand():
  """Precision 1 above .6; best F1 takes one mimic more; 0.1 takes all."""
  p = [0.95, 0.9, 0.85, 0.6, 0.5, 0.3, 0.2]
  y = [1, 1, 1, 0, 1, 0, 0]
  found = operating_points.points(predictions_of(p, y), scans_of(4))
  assert found['high_sensitivity']['threshold'] == 0.1
  assert found['high_sensitivity']['sensitivity'] == 1
  assert found['high_sensitivity']['precision'] == pytest.approx(4 / 7)
  assert found['high_sensitivity']['fp_per_scan'] == 3
  # F1 with 4 of 4 and one mimic is 8 / 9, with 3 of 3 it is 6 / 7.
  assert 0.3 <= found['balanced']['threshold'] < 0.5
  assert found['balanced']['precision'] == pytest.approx(4 / 5)
  assert 0.6 <= found['high_precision']['threshold'] < 0.85
  assert found['high_precision']['precision'] == 1
  assert found['high_precision']['sensitivity'] == pytest.approx(3 / 4)


def test_missed_lesions_count_against_sensitivity():
  p = predictions_of([0.9, 0.2], [1, 0])
  found = operating_points.points(p, scans_of(10))
  assert found['balanced']['sensitivity'] == pytest.approx(0.1)


def test_two_candidates_in_one_lesion_are_one_hit():
  p = predictions_of([0.9, 0.8, 0.05], [1, 1, 0], [1, 1, 0])
  found = operating_points.points(p, scans_of(1))
  assert found['balanced']['sensitivity'] == 1
  assert found['balanced']['precision'] == 1


def test_points_never_fall():
  for seed in range(5):
    found = operating_points.points(*make(8, 30, seed=seed, lift=0.5))
    low, middle, high = (
      found[n]['threshold']
      for n in ('high_sensitivity', 'balanced', 'high_precision')
    )
    assert 0.1 == low <= middle <= high < 1


def test_an_impossible_precision_falls_back_and_says_so():
  p = predictions_of([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 0])
  found = operating_points.points(p, scans_of(1))
  assert found['high_precision']['rule'].startswith('best F0.5')


def test_no_lesions_is_an_error():
  with says(InputError):
    operating_points.points(predictions_of([0.5], [0]), scans_of(0))


def test_calibration_is_the_one_that_holds_on_other_folds():
  """Overconfident likelihoods: a temperature well above 1 wins over none."""
  rng = np.random.default_rng(0)
  truth = rng.normal(0, 1.5, 3000)
  label = (rng.random(3000) < 1 / (1 + np.exp(-truth))).astype(int)
  sure = 1 / (1 + np.exp(-3 * truth))
  fold_of = np.arange(3000) % 5
  found = operating_points.fit(sure, label, fold_of)
  assert found['kind'] in ('temperature', 'isotonic')
  assert found['brier'][found['kind']] < found['brier']['none'] - 0.005
  hot = calibration.fit_temperature(sure, label)
  assert hot == pytest.approx(3, rel=0.1)
  mended = operating_points.calibrated(sure, found)
  assert calibration.ece(mended, label) < 0.03 < calibration.ece(sure, label)


def test_an_isotonic_step_function_survives_json():
  rng = np.random.default_rng(1)
  p, y = rng.random(400), rng.integers(0, 2, 400)
  whole = calibration.fit_isotonic(p, y)
  small = operating_points._fit('isotonic', p, y)
  assert len(small['knot']) < len(whole.knot)
  again = json.loads(json.dumps(small))
  at = np.linspace(0, 1, 101)
  np.testing.assert_allclose(
    operating_points.calibrated(at, again),
    calibration.apply_isotonic(at, whole),
    atol=1e-12,
  )


def test_few_of_a_class_get_one_parameter_at_most():
  p, scans = make(3, 10, seed=2)
  found = operating_points.choose(p, scans, fold_of=np.arange(len(p.key)) % 3)
  assert 'isotonic' not in found['calibration']['brier']
  assert found['out_of_fold']['scans'] == 3
  assert json.loads(json.dumps(found)) == found


def test_one_class_cannot_be_calibrated():
  found = operating_points.fit(
    np.array([0.2, 0.4]), np.array([0, 0]), np.array([0, 1])
  )
  assert found['kind'] == 'none'


def test_unknown_kind_is_named():
  with says(InputError):
    operating_points.calibrated(np.array([0.5]), {'kind': 'magic'})


def test_no_fold_calibrates_itself():
  """The scores are those of fits on the other folds, by hand."""
  rng = np.random.default_rng(2)
  likelihood = rng.uniform(0.01, 0.99, 200)
  label = (rng.random(200) < likelihood**2).astype(int)
  fold_of = np.arange(200) % 4
  found = operating_points.fit(likelihood, label, fold_of)['brier']
  for kind in ('temperature', 'isotonic'):
    fit = getattr(calibration, f'fit_{kind}')
    apply = getattr(calibration, f'apply_{kind}')
    value = np.empty(200)
    for fold in range(4):
      out = fold_of == fold
      value[out] = apply(likelihood[out], fit(likelihood[~out], label[~out]))
    expected = calibration.brier(value, label)
    assert found[kind] == pytest.approx(expected), kind


def test_precision_of_groups_is_cross_fitted():
  """Two folds; in each, the threshold of the other one is used."""
  count = 40
  fold = np.repeat([0, 1], 2 * count)
  label = np.tile(np.repeat([1, 0], count), 2)
  # Fold 0: microbleeds above .6, mimics below .5. Fold 1: all mimics at .7.
  value = np.concatenate([
    np.linspace(0.6, 0.9, count), np.linspace(0.1, 0.5, count),
    np.linspace(0.8, 0.9, count), np.full(count, 0.7),
  ])  # fmt: skip
  scan = np.array(['a', 'b'])[fold]
  keys = np.array([f'{s}/{n}' for n, s in enumerate(scan)])
  lesion = np.where(label == 1, np.arange(len(label)) + 1, 0)
  predictions = Predictions(keys, scan, scan, scan, label, lesion, value)
  names = np.array(['a', 'b'])
  scans = ScanCounts(names, names, np.full(2, count), np.zeros(2, int))
  found = operating_points.precision_by(
    predictions, scans, fold_of=fold, group=np.array([3.0, 7.0]), least=10
  )
  # The threshold of fold 0 lets all of fold 1 pass: half of it is right. That
  # of fold 1 lets only true ones of fold 0 pass.
  assert found == {3.0: 1.0, 7.0: 0.5}
  few = operating_points.precision_by(
    predictions, scans, fold_of=fold, group=np.array([3.0, 7.0]), least=50
  )
  assert list(few) == [7.0]
