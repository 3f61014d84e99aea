"""Agreement of readers against published tables, hand values, scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score, f1_score

from cmbjax.evaluation import raters

# Gwet (2014), Handbook of Inter-Rater Reliability, table of two abstractors;
# values, standard errors and intervals as the R package irrCAC prints them.
ABSTRACTORS = np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]])
KAPPA = (0.7964094, 0.680, 0.913)
AC1 = (0.8493305, 0.764, 0.935)


def columns(table):
  """A table of counts back to two columns of verdicts."""
  first, second = np.indices(table.shape).reshape(2, -1)
  return np.repeat(first, table.ravel()), np.repeat(second, table.ravel())


def names(count):
  return np.array([f'sub-{n:03d}' for n in range(count)])


def judge(table, subject=None, **how):
  first, second = columns(np.asarray(table))
  subject = names(len(first)) if subject is None else subject
  return raters.verdicts(
    first, second, subject, num_categories=len(table), **how
  )


def test_kappa_and_ac1_equal_the_published_table():
  found = judge(ABSTRACTORS)
  assert found.table.tolist() == ABSTRACTORS.tolist()
  assert found.observed.value == pytest.approx(0.89)
  for interval, (value, low, high) in ((found.kappa, KAPPA), (found.ac1, AC1)):
    assert interval.value == pytest.approx(value, abs=5e-8)
    # Theirs is the normal approximation, ours the jackknife.
    assert interval[1:3] == pytest.approx((low, high), abs=0.006)


def test_bootstrap_and_jackknife_say_nearly_the_same():
  jackknife = judge(ABSTRACTORS)
  bootstrap = judge(ABSTRACTORS, method='bootstrap', draws=4000, seed=1)
  for name in ('kappa', 'ac1', 'observed'):
    one, other = getattr(jackknife, name), getattr(bootstrap, name)
    assert one.value == other.value
    assert other[1:3] == pytest.approx(one[1:3], abs=0.02)


def test_kappa_of_cohen_by_hand():
  """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: (0.7 - 0.5) / (1 - 0.5)."""
  found = judge([[20, 5], [10, 15]])
  assert found.kappa.value == pytest.approx(0.4)
  # pi = (25 + 30) / 100, chance = 2 pi (1 - pi) = 0.495.
  assert found.ac1.value == pytest.approx((0.7 - 0.495) / 0.505)
  assert found.specific[0].value == pytest.approx(40 / 55)
  assert found.specific[1].value == pytest.approx(30 / 45)


def test_ac1_does_not_fall_with_a_rare_category():
  """118 yes/yes, 5 and 2 apart, 0 no/no: kappa < 0 at 94 % agreement."""
  found = judge([[118, 5], [2, 0]])
  assert found.observed.value == pytest.approx(118 / 125)
  assert found.kappa.value == pytest.approx(-0.0234, abs=1e-4)
  assert found.ac1.value == pytest.approx(0.9408, abs=1e-4)


def test_kappa_equals_sklearn_for_random_tables():
  rng = np.random.default_rng(4)
  for _ in range(20):
    a, b = rng.integers(0, 3, (2, 40))
    found = raters.verdicts(a, b, names(40), num_categories=3)
    assert found.kappa.value == pytest.approx(cohen_kappa_score(a, b))


def test_stacked_tables_are_judged_one_by_one():
  tables = np.random.default_rng(0).integers(1, 9, (5, 3, 3))
  for coefficient in (raters.cohen_kappa, raters.gwet_ac1):
    singly = [float(coefficient(table)) for table in tables]
    assert coefficient(tables) == pytest.approx(singly)


def test_a_patient_with_all_lesions_widens_the_interval():
  """The same items; ten of each patient agree or disagree together."""
  first = np.tile([0, 0, 0, 1, 1, 1, 0, 1], 10)
  second = np.repeat([[0, 0, 0, 1, 1, 1, 1, 0]], 10, 0).ravel()
  alone = raters.verdicts(first, second, names(80), num_categories=2)
  subject = np.tile(names(8), 10)
  together = raters.verdicts(first, second, subject, num_categories=2)
  assert together.kappa.value == alone.kappa.value
  width = [i.high - i.low for i in (alone.kappa, together.kappa)]
  assert width[1] > 1.5 * width[0]


@pytest.mark.parametrize(
  ('table', 'kappa', 'ac1'),
  [
    (np.zeros((3, 3), int), 'nothing that both', 'nothing that both'),
    (np.diag([9, 0, 0]), 'one and the same', 'perfect'),
    (np.diag([4, 5, 0]), 'perfect', 'perfect'),
  ],
)
def test_what_is_not_defined_has_a_reason(table, kappa, ac1):
  found = judge(table)
  for interval, note in ((found.kappa, kappa), (found.ac1, ac1)):
    assert note in interval.note
    assert interval.low is None
    assert interval.high is None
    assert interval.value is None or interval.value == 1.0


def test_one_patient_gets_numbers_and_no_interval():
  subject = np.full(100, 'sub-01')
  found = judge(ABSTRACTORS, subject)
  for interval in (found.kappa, found.ac1):
    assert interval.value is not None
    assert interval.low is None
    assert interval.note == 'n/a (1 subject): an interval needs 4 or more'
  one = raters.mean(np.array([0.5, 0.7]), subject[:2])
  assert one == (
    0.6,
    None,
    None,
    'n/a (1 subject): an interval needs 4 or more',
  )


def test_two_patients_who_agree_in_all_have_no_interval_either():
  verdict = np.array([0, 1, 1, 0])
  found = raters.verdicts(
    verdict, verdict, np.array(['a', 'a', 'b', 'b']), num_categories=2
  )
  assert found.kappa == (1.0, None, None, NOTE_OF_TWO)
  same = raters.mean(np.full(4, 0.5), np.array(['a', 'a', 'b', 'b']))
  assert same == (0.5, None, None, NOTE_OF_TWO)


NOTE_OF_TWO = 'n/a (2 subjects): an interval needs 4 or more'


def test_a_ratio_that_could_be_a_hundred_times_more_has_no_interval():
  wild = raters.geometric_mean(np.array([1e-4, 1.0, 1.0, 1e4]), names(4))
  assert wild.value == pytest.approx(1.0)
  assert wild.low is None
  assert 'beyond 100 times' in wild.note


def test_positive_agreement_is_the_f1():
  rng = np.random.default_rng(1)
  a, b = rng.random((2, 60)) < 0.5
  at = np.arange(60) % 6
  sums = [np.bincount(at, some, 6) for some in (a & b, a & ~b, ~a & b)]
  found = raters.positive_agreement(*sums)
  assert found.value == pytest.approx(f1_score(a, b))
  assert found.low < found.value < found.high


def test_positive_agreement_without_lesions_or_patients():
  zero = np.zeros(3)
  for sums in ([zero] * 3, [zero[:0]] * 3):
    found = raters.positive_agreement(*sums)
    assert found == (None, None, None, 'nobody marked a lesion')
  apart = raters.positive_agreement(zero, zero + 2, zero + 1)
  assert apart.value == 0
  assert apart.high > 0


def test_spearman_equals_scipy_and_fisher():
  rng = np.random.default_rng(5)
  x = rng.integers(1, 11, 80)
  y = x + rng.normal(0, 3, 80)
  found = raters.spearman(x, y, names(80))
  assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
  z = np.arctanh(found.value)
  # Bonett and Wright (2000): SE of z is sqrt((1 + r^2 / 2) / (n - 3)).
  half = 1.96 * np.sqrt((1 + found.value**2 / 2) / 77)
  ends = np.tanh([z - half, z + half])
  assert found[1:3] == pytest.approx(ends, abs=0.05)


def test_spearman_of_few_stays_below_one_on_fishers_scale():
  x = np.arange(9.0)
  y = x + np.array([0, 2, 0, -2, 0, 0, 1.5, 0, -1])
  found = raters.spearman(x, y, names(9))
  z = np.arctanh(found.value)
  assert -1 < found.low < found.value < found.high < 1
  assert z - np.arctanh(found.low) == pytest.approx(np.arctanh(found.high) - z)


def test_spearman_edge_cases():
  line = np.arange(5.0)
  assert raters.spearman(line, line**3, names(5))[:3] == (1.0, None, None)
  assert raters.spearman(line, -line, names(5))[:2] == (-1.0, None)
  flat = raters.spearman(line, line * 0, names(5))
  assert flat.value is None
  assert 'one value only' in flat.note
  assert 'three items' in raters.spearman(line[:2], line[:2], names(2)).note


def test_mean_over_patients_is_student_for_one_lesion_each():
  values = np.random.default_rng(2).normal(3, 1, 12)
  found = raters.mean(values, names(12))
  assert found.value == pytest.approx(values.mean())
  error = values.std(ddof=1) / np.sqrt(12)
  half = (found.high - found.low) / 2
  assert 1.96 * error < half < 3 * error  # t of fewer freedoms than 11
  ratio = raters.geometric_mean(np.array([2.0, 0.5, 2.0, 0.5]), names(4))
  assert ratio.value == pytest.approx(1.0)
  assert raters.mean(np.zeros(0), names(0)).value is None


@pytest.mark.parametrize(('scale', 'high'), [('logit', 1), ('log', np.inf)])
def test_means_near_an_end_stay_in_range(scale, high):
  values = np.array([0.99, 0.98, 0.999, 0.9])
  if scale == 'log':
    values = 1 - values
  found = raters.mean(values, names(4), scale=scale)
  assert found.value == pytest.approx(values.mean())
  assert 0 < found.low < found.value < found.high < high
  same = raters.mean(np.ones(4), names(4), scale=scale)
  assert same == (
    1,
    None,
    None,
    'no variation between patients, so no interval',
  )


def test_dice_by_hand():
  assert raters.dice(np.array([1, 2, 3]), np.array([2, 3, 4, 5])) == 4 / 7
  assert raters.dice(np.array([1]), np.array([2])) == 0


def test_spread_by_hand():
  assert raters.spread([1, 2, 3, 4, 5]) == (3, 2, 4, 5)
  assert raters.spread([]) == (None, None, None, 0)
