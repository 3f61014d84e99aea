"""Count agreement against Shrout and Fleiss (1979) and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cmbjax.evaluation import agreement, intervals
from tests.evaluation_data import make

# Shrout and Fleiss (1979), Table 2: six targets, four judges.
JUDGES = (
  (9, 6, 8, 7, 10, 6),
  (2, 1, 4, 1, 5, 2),
  (5, 3, 6, 2, 6, 4),
  (8, 2, 8, 6, 9, 7),
)
RATINGS = np.array(JUDGES).T


def test_icc_equals_the_published_table():
  found = agreement.icc(RATINGS)
  assert found.value == pytest.approx(0.29, abs=0.005)
  # Interval of the same data as printed by irr::icc and psych::ICC.
  assert (found.low, found.high) == pytest.approx((0.019, 0.761), abs=0.002)


def test_consistency_equals_the_published_table():
  found = agreement.icc_consistency(RATINGS)
  # Table 4 of Shrout and Fleiss; interval as printed by psych::ICC.
  assert found.value == pytest.approx(0.71, abs=0.005)
  assert (found.low, found.high) == pytest.approx((0.34, 0.95), abs=0.006)


def test_consistency_is_one_for_a_constant_difference():
  x = np.array([[1, 4], [5, 8], [2, 5], [3, 6]])
  found = agreement.icc_consistency(x)
  assert (found.value, found.low) == (1.0, None)
  assert found.note == 'perfect consistency: no interval'
  assert agreement.icc(x).value < 1
  flat = agreement.icc_consistency(np.array([[0, 1], [0, 1], [0, 1]]))
  assert flat[:1] == (None,)
  assert flat.note == 'no variation between scans'
  assert agreement.icc_consistency(np.ones((1, 2))).value is None


# Fleiss and Cohen (1973, Educ Psychol Meas 33:613): with weights v = (i - j)^2
# the weighted kappa of two raters is the ICC(2,1) of the integer grades but
# for a term of order 1 / n.
def test_quadratic_kappa_is_the_icc_of_many_scans():
  rng = np.random.default_rng(3)
  a = rng.integers(0, 5, 4000)
  b = np.clip(a + rng.integers(-1, 3, 4000), 0, 4)
  kappa = agreement.weighted_kappa(a, b, num_grades=5)
  icc = agreement.icc(np.stack([a, b], 1)).value
  assert kappa == pytest.approx(icc, abs=1e-3)


def test_kappa_of_a_two_by_two_table_by_hand():
  """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: (0.7 - 0.5) / (1 - 0.5)."""
  a = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
  b = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
  # With two grades the weights are plain.
  found = agreement.weighted_kappa(a, b, num_grades=2)
  assert found == pytest.approx(0.4)


def test_icc_edge_cases():
  same = np.array([[1, 1], [4, 4], [9, 9]])
  assert agreement.icc(same)[:2] == (1.0, None)
  assert agreement.icc(np.ones((5, 2))).note == 'all counts are equal'
  assert agreement.icc(np.ones((1, 2))).value is None
  shift = agreement.icc(np.array([[0, 1]] * 4))
  assert shift[:2] == (0.0, None)
  assert shift.note == 'a constant difference: no interval'
  # A constant shift lowers absolute agreement below consistency.
  assert 0 < agreement.icc(same + np.array([0, 3])).value < 1


def test_weighted_kappa_equals_sklearn():
  rng = np.random.default_rng(0)
  a = rng.integers(0, 5, 60)
  b = np.clip(a + rng.integers(-1, 2, 60), 0, 4)
  found = agreement.weighted_kappa(a, b, num_grades=5)
  assert found == pytest.approx(cohen_kappa_score(a, b, weights='quadratic'))


def test_weighted_kappa_edge_cases():
  ones = np.ones(4, int)
  assert agreement.weighted_kappa(ones, ones, num_grades=5) is None
  assert agreement.weighted_kappa(ones[:0], ones[:0], num_grades=5) is None


def test_bland_altman_by_hand():
  # Differences 0, -2, 5, 1: mean 1, squares about it 1 + 9 + 16 + 0.
  first, second = np.array([1, 2, 6, 3]), np.array([1, 4, 1, 2])
  found = agreement.bland_altman(first, second)
  assert found.bias == pytest.approx(1.0)
  assert found.high - found.bias == pytest.approx(1.96 * np.sqrt(26 / 3))
  few = agreement.bland_altman(first[:3], second[:3])
  assert few == (1.0, None, None)
  assert agreement.bland_altman(np.zeros(0), np.zeros(0)).bias is None
  assert agreement.bland_altman(np.ones(1), np.zeros(1)) == (1.0, None, None)


def test_grades_at_their_edges():
  counts = [0, 1, 4, 5, 9, 10, 19, 20, 400]
  assert agreement.grade(counts).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_counts_per_scan_take_a_lesion_once():
  p, scans = make(2, 4)
  p = p._replace(
    label=np.array([1, 1, 0, 0, 1, 0, 0, 0]),
    lesion=np.array([2, 2, 0, 0, 1, 0, 0, 0]),
    probability=np.array([0.9, 0.8, 0.7, 0.1, 0.05, 0.3, 0.2, 0.0]),
  )
  scans = scans._replace(
    scan=scans.scan[::-1],
    subject=scans.subject[::-1],
    num_lesions=np.array([3, 4]),
  )
  found, true = agreement.counts(p, scans, threshold=0.1)
  assert scans.scan.tolist() == ['sub-001', 'sub-000']
  assert found.tolist() == [2, 2]
  assert true.tolist() == [3, 4]


def test_count_agreement_of_one_scan_has_notes_not_nan():
  p, scans = make(1, 20)
  found = agreement.count_agreement(p, scans, threshold=0.1)
  assert found.icc.value is None
  assert found.icc.note == 'needs two scans and two raters'
  assert found.bland_altman.low is None


def test_kappa_of_counts_has_an_interval_over_subjects():
  rng = np.random.default_rng(0)
  true = rng.integers(0, 30, 40)
  found = np.maximum(true + rng.integers(-3, 4, 40), 0)
  subject = np.array([f's{n // 2}' for n in range(40)])
  one = agreement.of_counts(found, true, subject)
  expected = cohen_kappa_score(
    agreement.grade(found), agreement.grade(true), weights='quadratic'
  )
  assert one.kappa.value == pytest.approx(expected)
  assert 0 < one.kappa.low < one.kappa.value < one.kappa.high <= 1
  drawn = agreement.of_counts(
    found, true, subject, method='bootstrap', draws=400
  )
  assert drawn.kappa.low == pytest.approx(one.kappa.low, abs=0.05)
  assert one.grades.sum() == 40
  assert np.trace(one.grades) / 40 == pytest.approx(one.same_grade.value)
  row = np.bincount(agreement.grade(true), minlength=5)
  np.testing.assert_array_equal(one.grades.sum(1), row)


def test_the_order_of_scans_does_not_matter():
  rng = np.random.default_rng(3)
  true = rng.integers(0, 30, 24)
  found = np.maximum(true + rng.integers(-6, 7, 24), 0)
  subject = np.array([f's{n // 3}' for n in range(24)])
  one = agreement.of_counts(found, true, subject)
  order = rng.permutation(24)
  other = agreement.of_counts(found[order], true[order], subject[order])
  for name in ('icc', 'consistency', 'kappa', 'same_grade'):
    expected = getattr(one, name)[:3]
    assert getattr(other, name)[:3] == pytest.approx(expected), name


def test_kappa_and_grades_without_an_answer_say_why():
  none = np.zeros(0, int)
  empty = agreement.of_counts(none, none, none.astype(str))
  assert empty.kappa == (None, None, None, 'all scans have one grade')
  assert empty.same_grade.note == 'no scans'
  same = agreement.of_counts(
    np.array([0, 3]), np.array([0, 3]), np.array(['a', 'b'])
  )
  assert same.kappa[:2] == (1.0, None)
  alone = agreement.of_counts(
    np.array([0, 7]), np.array([3, 7]), np.array(['a', 'a'])
  )
  assert alone.kappa.note == 'n/a (1 subject): an interval needs 4 or more'
  wrong = agreement.of_counts(
    np.array([30, 40, 30, 50]), np.array([2, 3, 4, 2]), np.array(list('abcd'))
  )
  assert wrong.kappa[:2] == (0.0, None)
  assert wrong.kappa.note == 'no variation between subjects, so no interval'


def test_two_and_three_scans_have_numbers_and_no_interval():
  """Neither of the ICC nor of the bias, and the words say of how many."""
  found, true = np.array([0, 9, 3, 14]), np.array([1, 7, 3, 20])
  who = np.array(['a', 'b', 'c', 'd'])
  for n in (2, 3):
    one = agreement.of_counts(found[:n], true[:n], who[:n])
    same = agreement.of_counts(true[:n], true[:n], who[:n])
    for some in (one.icc, one.consistency, agreement.bias(one), same.icc):
      assert some.value is not None
      assert some.low is some.high is None
      assert intervals.missing(some) == f'n/a ({n} scans)'
    assert intervals.missing(same.kappa) == f'n/a ({n} subjects)'
  four = agreement.of_counts(found, true, who)
  assert four.icc.low is not None
  assert agreement.bias(four).note == 'limits of agreement: 1.96 SD'


@pytest.mark.parametrize('seed', range(40))
def test_icc_of_two_or_three_scans_has_no_nan(seed):
  rng = np.random.default_rng(seed)
  x = rng.poisson(rng.gamma(1.0, 20.0, (2 + seed % 2, 1)), (2 + seed % 2, 2))
  found = agreement.icc(x)
  for number in found[:3]:
    assert number is None or np.isfinite(number)
