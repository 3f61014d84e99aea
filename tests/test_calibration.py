"""Calibration against scikit-learn and analytic cases."""

import numpy as np
import pytest
from scipy import special
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from cmbjax.errors import InputError
from cmbjax.evaluation import calibration, statistics
from cmbjax.evaluation import predictions as tables
from tests.evaluation_data import make
from tests.messages import says


@pytest.fixture
def scored():
  p, _ = make(20, 50, seed=1)
  return p.probability, p.label


def test_reliability_and_brier_equal_sklearn(scored):
  share, likelihood = calibration_curve(scored[1], scored[0], n_bins=10)
  found = calibration.reliability(*scored)
  np.testing.assert_allclose(found.likelihood, likelihood)
  np.testing.assert_allclose(found.share, share)
  assert sum(found.count) == len(scored[0])
  assert calibration.brier(*scored) == pytest.approx(
    brier_score_loss(scored[1], scored[0])
  )


def test_ece_by_hand():
  p = np.array([0.05, 0.05, 0.95, 1.0])
  # Bin 0: |.05 - .5| with weight 1/2; bin 9: |.975 - 1| with weight 1/2.
  y = np.array([0, 1, 1, 1])
  assert calibration.ece(p, y) == pytest.approx((0.45 + 0.025) / 2)
  assert calibration.ece(p[:0], y[:0]) is None
  assert calibration.brier(p[:0], y[:0]) is None


def test_scores_have_intervals_around_their_values():
  p, _ = make(10, 30, seed=2)
  found = calibration.scores(p, draws=200)
  for name, by_hand in (('brier', calibration.brier), ('ece', calibration.ece)):
    assert found[name].value == by_hand(p.probability, p.label)
    assert found[name].low < found[name].high
  empty = tables.select(p, np.zeros(len(p.key), bool))
  assert calibration.scores(empty)['ece'].note == 'no candidates'


@pytest.mark.parametrize('method', ['jackknife', 'bootstrap'])
@pytest.mark.parametrize('seed', range(12))
def test_scores_stay_between_0_and_1(seed, method):
  """Also where calibration is almost perfect, or everything is wrong."""
  p, _ = make(4, 12, seed=seed)
  rate = np.full(len(p.key), p.label.mean() + 1e-4)
  likelihoods = (rate, 1.0 - p.label, p.label.astype(float), p.probability)
  for likelihood in likelihoods:
    found = calibration.scores(
      p._replace(probability=likelihood), method=method, draws=40
    )
    for name, one in found.items():
      assert 0 <= one.value <= 1, name
      if one.low is None:
        assert one.note, name
      else:
        assert 0 <= one.low <= one.high <= 1, name
        if method == 'jackknife':
          assert one.low <= one.value <= one.high, name


def test_intervals_are_those_of_leaving_each_subject_out():
  p, _ = make(7, 25, seed=5)
  found = calibration.scores(p)
  subjects = np.unique(p.subject)
  for name, scale in (('brier', 'logit'), ('ece', 'plain')):
    of = getattr(calibration, name)
    left_out = np.array(
      [of(p.probability[m], p.label[m]) for m in p.subject != subjects[:, None]]
    )
    value = of(p.probability, p.label)
    expected = statistics.jackknife_interval(
      value, left_out, level=0.95, scale=scale
    )
    assert found[name] == pytest.approx(expected)


def test_ece_draws_equal_resampling_by_hand():
  """All weight on one subject gives the error of that subject alone."""
  p, _ = make(1, 200, seed=3)
  alone = calibration.scores(p, draws=5)['ece']
  assert alone.value == pytest.approx(calibration.ece(p.probability, p.label))
  assert alone.low is None


def test_temperature_recovers_a_known_one():
  rng = np.random.default_rng(0)
  logit = rng.normal(0, 2, 20000)
  label = (rng.random(20000) < special.expit(logit)).astype(int)
  sharpened = special.expit(3 * logit)
  found = calibration.fit_temperature(sharpened, label)
  assert found == pytest.approx(3, rel=0.05)
  back = calibration.apply_temperature(sharpened, found)
  assert calibration.ece(back, label) < 0.01
  # The same as logistic regression on the logit without intercept.
  clipped = np.clip(sharpened, 1e-6, 1 - 1e-6)
  reference = LogisticRegression(C=np.inf, fit_intercept=False)
  reference.fit(special.logit(clipped)[:, None], label)
  assert 1 / found == pytest.approx(reference.coef_[0, 0], rel=1e-3)


def test_temperature_one_changes_nothing_and_order_is_kept(scored):
  same = calibration.apply_temperature(scored[0], 1.0)
  np.testing.assert_allclose(same, scored[0], atol=1e-6)
  hot = calibration.apply_temperature(scored[0], 4.0)
  assert np.all(np.argsort(hot) == np.argsort(scored[0]))
  ends = calibration.apply_temperature(np.array([0.0, 1.0]), 2.0)
  assert np.all(np.isfinite(ends))


def test_isotonic_equals_sklearn(scored):
  p = np.round(scored[0], 2)  # ties
  reference = IsotonicRegression(y_min=0, y_max=1, out_of_bounds='clip')
  reference.fit(p, scored[1])
  fitted = calibration.fit_isotonic(p, scored[1])
  grid = np.linspace(0, 1, 101)
  np.testing.assert_allclose(
    calibration.apply_isotonic(grid, fitted), reference.predict(grid), atol=1e-9
  )


def test_one_class_cannot_be_fitted(scored):
  for fit in (calibration.fit_temperature, calibration.fit_isotonic):
    with says(InputError):
      fit(scored[0], np.zeros(len(scored[0]), int))
