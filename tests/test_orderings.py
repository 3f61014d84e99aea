"""Verdicts on the paper's orderings, one family, and what they lack."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from cmbjax.evaluation import claims, intervals, permutation, power
from cmbjax.evaluation import orderings as lib
from cmbjax.evaluation.compare import PAIRED, UNPAIRED
from cmbjax.evaluation.permutation import Test
from cmbjax.evaluation.statistics import Interval
from tests.claims import CLAIMS, ROWS
from tests.evaluation_data import make, rescored


def judge(kind, gap, p=0.01, sizes=(20,), **family):
  claim = claims.Claim('', ('a', 't'), ('b', 't'), kind)
  design = PAIRED if len(sizes) == 1 else UNPAIRED
  return claims.judge(claim, Test(gap, p, design), sizes, level=0.95, **family)


def judged_of(found, scans, **options):
  options = {'claims': CLAIMS, 'numbers': ROWS} | options
  return lib.orderings(found, scans, **options)


def test_verdicts_need_interval_and_p():
  above, below = Interval(0.1, 0.02, 0.2), Interval(-0.1, -0.2, -0.02)
  spans = Interval(0.1, -0.02, 0.2)
  assert judge('above', above)[0] == claims.REPRODUCED
  assert judge('above', below)[0] == claims.NOT_REPRODUCED
  assert judge('above', above, p=0.2)[0] == claims.UNDECIDED
  verdict, reason, needed, _ = judge('above', spans, p=0.1)
  assert verdict == claims.UNDECIDED
  # Error 0.22 / 4.186, d = 0.425: n = 46 for a t test (G*Power 3.1).
  assert needed == 46
  assert reason == (
    'points the claimed way; to decide on a difference as seen takes about '
    '46 subjects, here are 20'
  )
  reason = judge('above', spans)[1]  # p says yes, the interval no
  assert 'the interval and the permutation do not agree' in reason
  missing = Interval(None, None, None, 'no mimics')
  assert judge('above', missing)[:3] == (claims.UNDECIDED, 'no mimics', None)
  none = judge('above', Interval(0.0, -0.1, 0.1), p=1.0)
  assert none[:3] == (claims.UNDECIDED, 'no difference at all', None)


def test_not_above_is_an_equivalence_claim():
  assert judge('not above', Interval(0, -0.1, 0.01))[0] == claims.REPRODUCED
  wide = judge('not above', Interval(0, -0.1, 0.1))
  assert wide[1].startswith('a gain above 0.02 is not excluded; to decide on')
  # The margin is what has to be resolved: d = 0.02 / 0.2137.
  assert wide[2] == 898
  # A loss of 0.02 is 0.04 below the margin: about a quarter as many.
  lower = judge('not above', Interval(-0.02, -0.12, 0.08))
  assert lower[2] == power.subjects_needed(
    0.04, power.error_of(-0.12, 0.08, 20), 20
  )
  assert lower[2] < wide[2] / 3
  clear = Interval(0.1, 0.05, 0.2)
  assert judge('not above', clear)[0] == claims.NOT_REPRODUCED


def test_few_subjects_are_never_decided():
  above = Interval(0.1, 0.02, 0.2)
  verdict, reason, needed, _ = judge('above', above, p=None, sizes=(4,))
  assert needed == 6  # fewer could not give p below 0.05 at all
  assert verdict == claims.UNDECIDED
  assert reason.startswith('4 subjects are too few: no p below 0.12')
  # Nor do fewer than four have an interval; of one there is nothing to swap.
  for size, start in ((3, '3 subjects are too few: no p'), (1, 'n/a (1 ')):
    unknown = Interval(0.1, None, None, intervals.too_few(size))
    assert judge('above', unknown, sizes=(size,))[1].startswith(start)


@pytest.mark.parametrize(
  ('true', 'error_of_one'), [(0.02, 0.1), (0.05, 0.2), (0.3, 1.0)]
)
def test_subjects_needed_find_the_difference_four_times_in_five(
  true, error_of_one
):
  """Differences per subject are drawn; the z test is done at that number."""
  pilot = 12
  error = error_of_one / np.sqrt(pilot)
  count = power.subjects_needed(true, error, pilot)
  assert count > pilot
  rng = np.random.default_rng(0)
  means = rng.normal(true, error_of_one / np.sqrt(count), 20_000)
  found = np.mean(np.abs(means) > 1.96 * error_of_one / np.sqrt(count))
  assert found == pytest.approx(0.8, abs=0.02)


def test_subjects_needed_are_the_published_ones():
  """One-sample t test, two-sided 5 %, power 0.8: G*Power 3.1 and R's pwr."""
  pilot = 10
  error = 1 / np.sqrt(pilot)  # the spread of one subject is 1
  for effect, count in ((0.2, 199), (0.5, 34), (0.8, 15), (-1.0, 10)):
    assert power.subjects_needed(effect, error, pilot) == count
  assert power.subjects_needed(1.0, error, pilot, power=0.9) == 13
  # 2^(1-6) = 0.03 is the first p below 5 % that swapping can give.
  assert power.subjects_needed(9.0, 0.1, 10) == 6
  # Of two groups of four, 2 of 70 divisions are as extreme as can be.
  assert power.subjects_needed(9.0, 0.1, 10, paired=False) == 4


@pytest.mark.parametrize(('effect', 'count'), [(0.5, 64), (0.8, 26), (1.0, 17)])
def test_power_of_two_groups_is_the_published_one(effect, count):
  """Cohen 1988, table 2.4.1: subjects per group for power 0.8 at 5 %."""

  def power_of(n):
    return power.found(effect * math.sqrt(n / 2), n, 0.95, paired=False)

  assert power_of(count - 1) < 0.8 <= power_of(count)


def test_a_claim_must_hold_in_its_family():
  above = Interval(0.1, 0.02, 0.2)
  family = {'p_holm': 0.109, 'family': 4, 'num_claims': 15}
  verdict, reason, needed, least = judge('above', above, p=0.027, **family)
  assert verdict == claims.UNDECIDED
  assert reason.startswith(
    'points the claimed way; p 0.027 alone, 0.109 after Holm over 15 claims; '
    'to decide'
  )
  error = 0.18 / (2 * stats.t.ppf(0.975, 19))
  options = {'level': 1 - 0.05 / 4}
  assert needed == power.subjects_needed(0.1, error, 20, **options)
  assert least == pytest.approx(power.detectable(error, 20, **options))
  alone = judge('above', above, p=0.027, p_holm=0.04, family=4, num_claims=15)
  assert alone == (claims.REPRODUCED, 'the interval lies above 0', None, None)
  # Equivalence is read off the interval and is no part of the family.
  close = judge('not above', Interval(0, -0.1, 0.01), p=0.9, **family)
  assert close.verdict == claims.REPRODUCED


def test_too_few_subjects_for_the_family_are_told_so():
  above = Interval(0.1, 0.02, 0.2)
  family = {'p_holm': 0.12, 'family': 15, 'num_claims': 15}
  found = judge('above', above, p=0.0078, sizes=(8,), **family)
  assert found.reason == (
    '8 subjects are too few: no p below 0.0078 is possible, and Holm asks for '
    '0.0033 of 15 open claims'
  )
  assert found.needed >= 10  # 2^(1-10) is the first below 0.0033


def test_the_verdict_of_a_study_follows_holm_and_not_p_alone():
  """Weak differences: some p alone are small, none survives the family."""
  found, scans = {}, {}
  for i, test in enumerate(('btumor_7t', 'btumor_3t', 'ccm_3t')):
    p, scans[test] = make(9, 30, seed=i)
    for key, number in ROWS.items():
      if key[1] == test:
        found[key] = rescored(p, seed=number, noise=1.0)
  judged = judged_of(found, scans, draws=200)
  tested = [one for one in judged if one.p is not None]
  assert len(tested) == 15
  assert [one.p_holm for one in tested] == permutation.holm(
    [one.p for one in tested]
  )
  alone = [one for one in tested if one.p <= 0.05 < one.p_holm]
  assert alone  # the test is about these
  for one in alone:
    assert one.verdict == claims.UNDECIDED
  for one in tested:
    if one.verdict != claims.UNDECIDED and 'not above' not in one.rows:
      assert one.p_holm <= 0.05
    assert one.num_subjects == 9
    if one.verdict == claims.UNDECIDED and one.difference.value:
      assert one.needed > 9
    assert one.bootstrap.value == pytest.approx(one.difference.value)
    assert one.bootstrap.low < one.bootstrap.high


@pytest.mark.parametrize(('true', 'level'), [(0.5, 0.95), (0.8, 1 - 0.05 / 15)])
def test_swapping_finds_the_difference_four_times_in_five(true, level):
  """The permutation itself, at the number of subjects that the formula says.

  Differences per subject have mean `true` and standard deviation 1.
  """
  count = power.subjects_needed(true, 1 / np.sqrt(12), 12, level=level)
  rng = np.random.default_rng(1)
  repeats = 500
  found = [
    permutation.sign_flip(rng.normal(true, 1, count), draws=1999, seed=i)
    <= 1 - level
    for i in range(repeats)
  ]
  assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_what_is_detectable_needs_as_many_subjects_as_there_are():
  error = 0.03
  for level in (0.95, 0.99):
    least = power.detectable(error, 25, level=level)
    assert power.subjects_needed(1.001 * least, error, 25, level=level) == 25
    more = power.subjects_needed(least * 0.99, error, 25, level=level)
    assert more > 25
  shift = power.detectable(1.0, 12)
  assert power.found(shift, 12, 0.95) == pytest.approx(0.8)
  assert power.found(0.0, 12, 0.95) == pytest.approx(0.05)


@pytest.mark.parametrize('size', [1, 2, 3, 5])
def test_the_smallest_p_is_that_of_all_permutations(size):
  gap = np.ones(size)
  assert permutation.sign_flip(gap) == pytest.approx(power.smallest_p(size))
  both = 2 / math.comb(2 * size, size)
  assert power.smallest_p(size, size) == pytest.approx(both)


@pytest.mark.parametrize('sizes', [(2, 4), (3, 3), (4, 1)])
def test_the_smallest_p_of_two_groups_is_that_of_all_divisions(sizes):
  total = sum(sizes)
  value = np.arange(total) >= sizes[0]  # all of one group above the other
  gaps = [
    abs(value[list(some)].mean() - np.delete(value, some).mean())
    for some in itertools.combinations(range(total), sizes[0])
  ]
  extreme = np.mean(np.isclose(gaps, 1))
  assert power.smallest_p(*sizes) == pytest.approx(extreme)


def test_few_subjects_beside_many_are_not_too_few():
  """3 and 12 can be divided in 455 ways: p of .003 is possible."""
  above = Interval(0.1, 0.02, 0.2)
  alone = judge('above', above, p=0.0028, sizes=(3, 12))
  assert alone.verdict == claims.REPRODUCED
  family = {'p_holm': 0.06, 'num_claims': 15}
  found = judge('above', above, p=0.02, sizes=(3, 12), family=3, **family)
  assert found.reason.startswith('points the claimed way; p 0.020 alone')
  found = judge('above', above, p=0.02, sizes=(3, 12), family=30, **family)
  assert found.reason == (
    '3 and 12 subjects are too few: no p below 0.0022 is possible, and Holm '
    'asks for 0.0017 of 30 open claims'
  )


def test_fewest_subjects_for_a_level():
  assert power.fewest(0.05) == 6
  assert power.fewest(0.05 / 15) == 10
  assert power.fewest(0.05, paired=False) == 4
  assert power.fewest(1.0) == 1


def study(num_subjects=14, per_scan=60):
  """Ten rows in which every ordering of the paper holds by a wide margin."""
  lift = {1: 6, 2: 3, 3: 1, 4: 4.5, 5: 2, 6: 2, 7: 0.3, 8: 6, 9: 4.5, 10: 3}
  found, scans = {}, {}
  for i, test in enumerate(('btumor_7t', 'btumor_3t', 'ccm_3t')):
    p, scans[test] = make(num_subjects, per_scan, seed=i, lift=0.0)
    for key, number in ROWS.items():
      if key[1] == test:
        noise = 1.0 if number not in (4, 9) else 0.2
        found[key] = rescored(p, seed=9, noise=noise, lift=lift[number])
  return found, scans


def test_orderings_of_a_study_in_which_they_hold():
  found, scans = study()
  judged = judged_of(found, scans, draws=400)
  assert len(judged) == len(CLAIMS)
  of = {one.rows: one for one in judged}
  assert of['row 9 not above row 4'].difference.value == 0
  wrong = [
    one.rows
    for one in judged
    if one.verdict != claims.REPRODUCED and one.metric == 'auc'
  ]
  assert wrong == []
  assert of['row 1 above row 2'].design == UNPAIRED
  assert of['row 1 above row 2'].fp_difference is None
  assert of['row 4 above row 6'].fp_difference.value is not None
  for one in judged:
    assert one.p is None or one.p_holm >= one.p


def test_reversed_strategies_are_not_reproduced():
  found, scans = study()
  swapped = dict(found)
  for test in ('btumor_3t', 'ccm_3t'):
    a, b = ('finetuned', test), ('scratch', test)
    swapped[a], swapped[b] = found[b], found[a]
  judged = judged_of(swapped, scans, draws=400)
  of = {one.rows: one.verdict for one in judged}
  assert of['row 4 above row 6'] == claims.NOT_REPRODUCED
  assert of['row 5 above row 7'] == claims.NOT_REPRODUCED


def test_orderings_show_the_difference_of_every_seed():
  found, scans = study(7, 30)
  by_seed = {
    key: np.stack([p.probability, p.probability[::-1]])
    for key, p in found.items()
    if key[0] != 'scratch'
  }
  judged = judged_of(found, scans, by_seed=by_seed, draws=100)
  of = {one.rows: one for one in judged}
  one = of['row 9 above row 2']
  assert len(one.by_seed) == 2
  assert one.by_seed[0] == pytest.approx(one.difference.value)
  assert one.by_seed[1] != pytest.approx(one.difference.value)
  assert of['row 4 above row 6'].by_seed == ()  # scratch has no seeds here


def test_claims_without_their_rows_are_left_out():
  found, scans = study(7, 30)
  some = {key: found[key] for key in found if key[0] in ('7t', 'finetuned')}
  judged = judged_of(some, scans, draws=100)
  rows = {one.rows for one in judged}
  assert rows == {
    'row 1 above row 2',
    'row 4 above row 2',
    'row 5 above row 3',
    'row 2 above row 3',
    'row 4 above row 5',
  }
