"""Intervals and tests against brute force, scipy and published values."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from cmbjax.errors import InputError
from cmbjax.evaluation import intervals, permutation, ranking
from cmbjax.evaluation import statistics as lib
from tests.evaluation_data import make, rescored
from tests.messages import says


def subjects_of(p):
  names, at = np.unique(p.subject, return_inverse=True)
  return len(names), at


def test_bootstrap_draws_equal_sklearn_on_resampled_subjects():
  """Weights are the same as repeating the rows of the drawn subjects."""
  p, _ = make(5, 15, seed=1, ties=True)
  size, at = subjects_of(p)
  weights = lib.subject_weights(size, draws=30, seed=0)
  wins = ranking.pair_wins(p.probability, p.label, at, size)
  classes = [np.bincount(at[p.label == k], minlength=size) for k in (1, 0)]
  auc = ranking.auc_draws(wins, *classes, weights)
  ap = ranking.average_precision_draws(p.probability, p.label, at, weights)
  for w, found_auc, found_ap in zip(weights, auc, ap):
    rows = np.repeat(np.arange(len(at)), w[at].astype(int))
    truth = (p.label[rows], p.probability[rows])
    assert found_auc == pytest.approx(sk.roc_auc_score(*truth), abs=1e-12)
    assert found_ap == pytest.approx(
      sk.average_precision_score(*truth), abs=1e-12
    )


def test_average_precision_is_the_same_in_blocks(monkeypatch):
  p, _ = make(seed=2)
  size, at = subjects_of(p)
  weights = lib.subject_weights(size, draws=25, seed=0)
  whole = ranking.average_precision_draws(p.probability, p.label, at, weights)
  monkeypatch.setattr(ranking, '_CHUNK', 100)
  blocks = ranking.average_precision_draws(p.probability, p.label, at, weights)
  np.testing.assert_allclose(whole, blocks, rtol=1e-14)


def test_weights_are_whole_samples_and_repeatable():
  first = lib.subject_weights(7, draws=50, seed=3)
  assert np.all(first.sum(1) == 7)
  np.testing.assert_array_equal(first, lib.subject_weights(7, draws=50, seed=3))
  assert np.any(first != lib.subject_weights(7, draws=50, seed=4))


def test_percentile_interval_of_a_mean_is_close_to_students():
  """Hesterberg's widening turns the percentile into about a t interval."""
  values = np.random.default_rng(0).normal(size=16)
  weights = lib.subject_weights(16, draws=20000, seed=0)
  found = lib.percentile_interval(
    float(values.mean()), weights @ values / 16, level=0.95, num_subjects=16
  )
  low, high = stats.t.interval(0.95, 15, values.mean(), values.std(ddof=1) / 4)
  assert found.low == pytest.approx(low, abs=0.03)
  assert found.high == pytest.approx(high, abs=0.03)


def test_the_percentile_is_widened_as_published():
  """Hesterberg 2015: the level of n = 5 is 0.0005, not 0.0027, per tail."""
  n, draws = 5, np.arange(100_001) / 100_000
  found = lib.percentile_interval(0.5, draws, level=0.95, num_subjects=n)
  t = stats.t.ppf(0.025, n - 1) * np.sqrt(n / (n - 1))
  assert found.low == pytest.approx(stats.norm.cdf(t), abs=1e-5)
  assert found.high == pytest.approx(1 - stats.norm.cdf(t), abs=1e-5)


def test_of_two_groups_the_smaller_one_widens_the_percentile():
  draws = [np.linspace(0, 1, 2001), np.zeros(2001)]
  how = [lib.resampling(n, method='bootstrap', draws=2001) for n in (40, 4)]
  found = lib.difference_interval(0.5, draws, how)
  few = lib.percentile_interval(0.5, draws[0], level=0.95, num_subjects=4)
  assert found == few
  many = lib.percentile_interval(0.5, draws[0], level=0.95, num_subjects=40)
  assert few.low < many.low < many.high < few.high


def test_undefined_draws_are_left_out_and_noted():
  draws = np.where(np.arange(100) < 20, np.nan, 0.5)
  found = lib.percentile_interval(0.5, draws, level=0.95, num_subjects=9)
  assert found == (0.5, 0.5, 0.5, 'undefined in 20 % of the bootstrap draws')
  found = lib.percentile_interval(
    0.5, np.full(9, np.nan), level=0.95, num_subjects=9
  )
  assert found.low is None
  assert found.note == 'undefined in every bootstrap draw'
  how = lib.resampling(9, method='bootstrap', draws=100)
  assert lib.interval(None, draws, how).note == 'not defined'


def test_jackknife_of_a_mean_is_students_t():
  """Standard error s / sqrt(n); equal influences give all n - 1 freedom."""
  values = np.array([1.0, -1.0] * 8) + 3
  how = lib.resampling(16)
  left_out = how.weights @ values / 15
  found = lib.interval(3.0, left_out, how)
  low, high = stats.t.interval(0.95, 15, 3.0, values.std(ddof=1) / 4)
  assert found[:3] == pytest.approx((3.0, low, high))


def test_few_influential_subjects_cost_degrees_of_freedom():
  even, heavy = np.array([1.0, -1.0] * 8), np.array([9.0, -9.0] + [0.1] * 14)
  assert lib.spread(even)[1] == 15
  assert lib.spread(heavy)[1] == pytest.approx(4, abs=0.1)
  assert lib.spread(np.ones(7)) == (0.0, 6.0)


def test_one_influential_subject_leaves_two_degrees_of_freedom():
  """3 (sum d^2)^2 / sum d^4 - 2 is near 1 for a single outlier."""
  left_out = np.append(np.zeros(11), 1.0)
  error, freedom = lib.spread(left_out)
  assert freedom == 2
  assert error == pytest.approx(11 / 12)


def test_the_same_in_every_subject_is_no_interval_unless_it_is_zero():
  how = lib.resampling(5)
  zero = lib.interval(0.0, np.zeros(5), how)
  assert zero == (0.0, 0.0, 0.0, 'the same in every subject')
  shifted = lib.interval(0.3, np.full(5, 0.3), how)
  assert shifted.value == 0.3
  assert shifted.low is None
  assert shifted.note == 'no variation between subjects, so no interval'


def test_an_estimate_without_logit_takes_the_delta_method():
  """One subject makes all the errors: without it the AUC is 1."""
  left_out = np.array([1.0, 0.9, 0.88, 0.9, 0.92])
  found = lib.jackknife_interval(0.91, left_out, level=0.95, scale='logit')
  error, freedom = lib.spread(left_out)
  slope = 1 / (0.91 * 0.09)  # of the logit
  half = stats.t.ppf(0.975, freedom) * error * slope
  middle = np.log(0.91 / 0.09)
  ends = [1 / (1 + np.exp(-(middle + sign * half))) for sign in (-1, 1)]
  assert found[1:3] == pytest.approx(ends)


def test_jackknife_intervals_stay_in_their_range():
  how = lib.resampling(6)
  top, bottom = np.array([4, 5, 4, 5, 3, 4.0]), np.full(6, 5.0)
  share = lib.ratio_interval(top, bottom, how, proportion=True, empty='')
  assert 0 < share.low < share.value < share.high < 1
  assert share.high - share.value < share.value - share.low  # near 1
  rate = lib.ratio_interval(top, bottom, how, proportion=False, empty='')
  assert 0 < rate.low < rate.value
  assert rate.high - rate.value > rate.value - rate.low
  # One subject holds all misses: without it the share is 1, has no logit.
  top = np.array([5.0, 5, 5, 5, 5, 3])
  share = lib.ratio_interval(top, bottom, how, proportion=True, empty='')
  assert 0 < share.low < share.value < share.high < 1


def test_share_of_independent_units_is_about_clopper_and_pearson():
  """One unit per subject: the jackknife finds as many units as there are."""
  hit = (np.arange(400) < 370).astype(float)
  how = lib.resampling(400)
  found = lib.ratio_interval(hit, np.ones(400), how, proportion=True, empty='')
  exact = stats.binomtest(370, 400).proportion_ci(0.95, 'exact')
  assert found[1:3] == pytest.approx((exact.low, exact.high), abs=1e-3)


def test_a_share_of_few_subjects_is_korn_and_graubards():
  """Units that give the jackknife's error, times (z / t)^2."""
  top, bottom = np.array([9.0, 2, 7, 1, 8]), np.full(5, 10.0)
  how = lib.resampling(5)
  found = lib.ratio_interval(top, bottom, how, proportion=True, empty='')
  share = top.sum() / 50
  error = np.std(top / 10, ddof=1) / np.sqrt(5)
  shrink = stats.norm.ppf(0.975) / stats.t.ppf(0.975, 4)
  units = share * (1 - share) / error**2 * shrink**2
  hits, misses = share * units, (1 - share) * units
  assert found[1:3] == pytest.approx(
    (
      stats.beta.ppf(0.025, hits, misses + 1),
      stats.beta.ppf(0.975, hits + 1, misses),
    )
  )


def test_subjects_without_units_change_no_ratio():
  """Neither value nor interval, wherever they stand."""
  top, bottom = np.array([9.0, 2, 7, 1]), np.full(4, 10.0)
  for proportion in (True, False):
    options = {'proportion': proportion, 'empty': ''}
    alone = lib.ratio_interval(top, bottom, lib.resampling(4), **options)
    among = lib.ratio_interval(
      np.insert(top, (0, 2), 0), np.insert(bottom, (0, 2), 0),
      lib.resampling(6), **options
    )  # fmt: skip
    assert among == pytest.approx(alone)


def test_share_with_equal_subjects_uses_no_more_units_than_there_are():
  how = lib.resampling(10)
  found = lib.ratio_interval(
    np.full(10, 3.0), np.full(10, 4.0), how, proportion=True, empty=''
  )
  exact = stats.binomtest(30, 40).proportion_ci(0.95, 'exact')
  assert found[1:3] == pytest.approx((exact.low, exact.high))


def test_an_estimate_that_rests_on_one_subject_has_no_interval():
  how = lib.resampling(4)
  found = lib.interval(0.5, np.array([np.nan, 0.5, 0.5, 0.4]), how)
  assert found.low is None
  assert found.note == 'rests on one subject, so no interval'
  only = np.array([0.0, 3, 0, 0])
  found = lib.ratio_interval(only, only + only, how, proportion=True, empty='')
  assert found[:3] == (0.5, None, None)


@pytest.mark.parametrize('count', [1, 2, 3])
@pytest.mark.parametrize('method', ['jackknife', 'bootstrap'])
def test_three_subjects_and_fewer_have_no_interval(method, count):
  """Of no kind of number, and all say so in the same words."""
  how = {'method': method, 'draws': 50}
  drawn = lib.resampling(count, **how)
  top, bottom = np.array([1.0, 4, 2])[:count], np.full(count, 5.0)
  options = {'proportion': True, 'empty': ''}
  found = [
    lib.ratio_interval(top, bottom, drawn, **options),
    lib.ratio_interval(top, bottom, drawn, **options | {'proportion': False}),
    lib.mean_interval(top / bottom, **options, **how),
    lib.mean_interval(np.full(count, 0.4), **options, **how),
    lib.interval(0.3, drawn.weights @ top, drawn),
  ]
  many = lib.resampling(9, **how)
  draws = [some.weights[:, 0] for some in (drawn, many)]
  found.append(lib.difference_interval(0.3, draws, [drawn, many]))
  for one in found:
    assert one.value is not None
    assert one.low is one.high is None
    word = 'subject' if count == 1 else 'subjects'
    assert intervals.missing(one) == f'n/a ({count} {word})'


def test_two_scans_have_no_bound_of_a_million_false_positives():
  """Once 0.00 to 5772585.19, from 1 false positive in one and 9 in another."""
  rate = {'proportion': False, 'empty': ''}
  two = lib.ratio_interval(
    np.array([1.0, 9.0]), np.ones(2), lib.resampling(2), **rate
  )
  assert two == (
    5.0,
    None,
    None,
    'n/a (2 subjects): an interval needs 4 or more',
  )
  # One of twenty has nearly all: the logarithm of the rest is far away.
  one = np.append(np.ones(19), 1000.0)
  many = lib.ratio_interval(one, np.ones(20), lib.resampling(20), **rate)
  assert many.value == pytest.approx(50.95)
  assert many.low is None
  assert many.note.startswith('n/a (20 subjects): it reaches beyond 100 times')


def test_an_exact_bound_needs_no_spread_and_stays():
  none = lib.ratio_interval(
    np.zeros(2), np.ones(2), lib.resampling(2), proportion=False, empty=''
  )
  assert none.high == pytest.approx(-np.log(0.025) / 2)
  assert intervals.missing(none) == ''


def test_unknown_method_is_refused():
  with says(InputError):
    lib.resampling(5, method='wald')


def test_difference_of_two_groups_is_welchs():
  rng = np.random.default_rng(1)
  a, b = rng.normal(1, 1, 400), rng.normal(0, 3, 300)
  how = [lib.resampling(len(x)) for x in (a, b)]
  draws = [h.weights @ x / (len(x) - 1) for h, x in zip(how, (a, b))]
  value = float(a.mean() - b.mean())
  found = lib.difference_interval(value, draws, how)
  welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
  assert found[1:3] == pytest.approx(tuple(welch), abs=2e-3)
  how = [
    lib.resampling(len(x), method='bootstrap', seed=i)
    for i, x in enumerate((a, b))
  ]
  draws = [h.weights @ x / len(x) for h, x in zip(how, (a, b))]
  found = lib.difference_interval(value, draws, how)
  assert found[1:3] == pytest.approx(tuple(welch), abs=0.05)


@pytest.mark.parametrize('method', ['jackknife', 'bootstrap'])
def test_exact_bounds_where_nothing_or_everything_was_found(method):
  one_each = np.ones(20)
  how = lib.resampling(20, method=method, draws=10)
  options = {'proportion': True, 'empty': ''}
  none = lib.ratio_interval(0 * one_each, one_each, how, **options)
  every = lib.ratio_interval(one_each, one_each, how, **options)
  # One unit per subject: Clopper and Pearson, 0 and 20 of 20.
  exact = stats.binomtest(0, 20).proportion_ci(0.95, 'exact')
  assert none.high == pytest.approx(exact.high)
  assert every.low == pytest.approx(1 - exact.high)
  options['proportion'] = False
  rate = lib.ratio_interval(0 * one_each, one_each, how, **options)
  assert rate.high == pytest.approx(stats.chi2.ppf(0.975, 2) / 2 / 20)
  assert lib.effective_units(np.array([11.0, 0.0])) == pytest.approx(5.5)


def test_swap_contributions_equal_swapping_by_hand():
  p, _ = make(4, 12, seed=3, ties=True)
  q = rescored(p, seed=1)
  size, at = subjects_of(p)
  part = permutation.swap_contributions(
    p.probability, q.probability, p.label, at, size
  )
  ranks = [stats.rankdata(t.probability) for t in (p, q)]
  for signs in itertools.product((1, -1), repeat=size):
    swapped = np.array(signs)[at] < 0
    a = np.where(swapped, ranks[1], ranks[0])
    b = np.where(swapped, ranks[0], ranks[1])
    by_hand = sk.roc_auc_score(p.label, a) - sk.roc_auc_score(p.label, b)
    assert np.dot(signs, part) == pytest.approx(by_hand, abs=1e-12)


def test_sign_flip_equals_scipy_exactly():
  c = np.random.default_rng(5).normal(0.4, 1, 10)
  reference = stats.permutation_test(
    (c,), np.sum, permutation_type='samples', n_resamples=np.inf
  )
  assert permutation.sign_flip(c) == pytest.approx(reference.pvalue)


def test_sign_flip_by_random_signs_is_close_to_exact(monkeypatch):
  c = np.random.default_rng(6).normal(0.5, 1, 12)
  exact = permutation.sign_flip(c)
  monkeypatch.setattr(permutation, '_EXACT_SUBJECTS', 0)
  assert permutation.sign_flip(c, draws=20000) == pytest.approx(exact, abs=0.01)


def test_no_permutation_has_p_zero():
  """(b + 1) / (m + 1), Phipson and Smyth 2010."""
  assert permutation.sign_flip(np.ones(60), draws=199) == pytest.approx(1 / 200)
  score = np.concatenate([np.tile([0.9, 0.1], 20), np.tile([0.1, 0.9], 20)])
  label, at = np.tile([1, 0], 40), np.repeat(np.arange(40), 2)
  wins = ranking.pair_wins(score, label, at, 40)
  classes = [np.bincount(at[label == k], minlength=40) for k in (1, 0)]
  in_first = np.arange(40) < 20
  p = permutation.group_permutation(wins, *classes, in_first, draws=99)
  assert p == pytest.approx(1 / 100)


def test_estimated_contributions_widen_the_swapped_sums():
  # Sums 3, 1, -1, -3: widened by sqrt(3/2), 1 becomes 1.22 and stays below 3.
  assert permutation.sign_flip(np.ones(3), estimated=True) == pytest.approx(
    2 / 8
  )
  c = np.array([1.0, 1.0, 1.0, 0.25])
  # |sums| 3.25 2.75 and, twelve times, at most 1.25: 2.75 * 1.155 < 3.25.
  assert permutation.sign_flip(c, estimated=True) == pytest.approx(2 / 16)
  c[3] = 0.1  # 2.9 * 1.155 > 3.1: it counts now
  assert permutation.sign_flip(c) == pytest.approx(2 / 16)
  assert permutation.sign_flip(c, estimated=True) == pytest.approx(4 / 16)


def test_sign_flip_edge_cases():
  assert permutation.sign_flip(np.zeros(5)) == 1.0
  assert permutation.sign_flip(np.array([np.nan, 1.0])) is None
  assert permutation.sign_flip(np.ones(5)) == pytest.approx(2 / 2**5)


def test_group_permutation_finds_a_difference_and_only_then():
  easy, _ = make(12, 20, lift=4, seed=0)
  hard, _ = make(12, 20, lift=0.2, seed=1)
  again, _ = make(12, 20, lift=4, seed=2)
  for other, small in ((hard, True), (again, False)):
    score = np.concatenate([easy.probability, other.probability])
    label = np.concatenate([easy.label, other.label])
    at = np.repeat(np.arange(24), 20)
    wins = ranking.pair_wins(score, label, at, 24)
    classes = [np.bincount(at[label == k], minlength=24) for k in (1, 0)]
    p = permutation.group_permutation(
      wins, *classes, np.arange(24) < 12, draws=499
    )
    assert (p < 0.01) == small


def test_few_regroupings_are_all_counted():
  """4 and 4 subjects: 70 regroupings, so no p below 2 / 70 by any luck."""
  easy, _ = make(4, 20, lift=9, seed=0)
  hard, _ = make(4, 20, lift=-9, seed=1)
  score = np.concatenate([easy.probability, hard.probability])
  label = np.concatenate([easy.label, hard.label])
  at = np.repeat(np.arange(8), 20)
  wins = ranking.pair_wins(score, label, at, 8)
  classes = [np.bincount(at[label == k], minlength=8) for k in (1, 0)]
  for seed in range(3):
    p = permutation.group_permutation(
      wins, *classes, np.arange(8) < 4, seed=seed
    )
    assert p == pytest.approx(2 / 70)


def test_holm_by_hand():
  # Sorted .01 .02 .03 .04: 4 x .01, 3 x .02, then never smaller than before.
  found = permutation.holm([0.04, 0.01, None, 0.03, 0.02])
  assert found == pytest.approx([0.06, 0.04, None, 0.06, 0.06])
  assert permutation.holm([]) == []
