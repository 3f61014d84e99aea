"""Paired differences, verdicts on the paper's orderings, and the command."""

import argparse
import json

import numpy as np
import pytest
from sklearn import metrics as sk

from cmbjax.errors import InputError
from cmbjax.evaluation import compare, compare_command, predictions
from cmbjax.evaluation.statistics import Interval, Test
from tests.evaluation_data import make, rescored, table


def judge(kind, gap, p=0.01, size=20, design=compare.PAIRED):
  claim = compare.Claim('', ('a', 't'), ('b', 't'), kind)
  return compare._judge(
    claim, Test(gap, p, design), size, level=0.95, margin=0.02
  )


def test_paired_values_are_differences_of_each_alone():
  p, scans = make(8, 25, seed=1)
  q = rescored(p, seed=1)
  found = compare.paired(p, q, scans, draws=200)
  for name, score in (
    ('auc', sk.roc_auc_score),
    ('average_precision', sk.average_precision_score),
  ):
    by_hand = score(p.label, p.probability) - score(q.label, q.probability)
    assert found[name].difference.value == pytest.approx(by_hand)
  fp = [np.sum((t.label == 0) & (t.probability > 0.1)) for t in (p, q)]
  assert found['fp_per_scan'].difference.value == pytest.approx(
    (fp[0] - fp[1]) / 8
  )


def test_paired_turns_sign_when_the_order_is_swapped():
  p, scans = make(8, 25, seed=2)
  q = rescored(p, seed=1)
  one = compare.paired(p, q, scans, draws=300)
  two = compare.paired(q, p, scans, draws=300)
  for name, test in one.items():
    a, b = test.difference, two[name].difference
    np.testing.assert_allclose(a[:3], (-b.value, -b.high, -b.low), atol=1e-12)
    assert test.p == two[name].p


def test_equal_models_do_not_differ():
  p, scans = make(8, 25, seed=3)
  for name, test in compare.paired(p, p, scans, draws=100).items():
    assert test.difference[:3] == (0.0, 0.0, 0.0), name
    assert test.p in (1.0, None)


def test_a_better_model_is_found_and_monotone_changes_are_none():
  p, scans = make(16, 40, seed=4)
  better = rescored(p, seed=1, noise=0.1, lift=2.0)
  found = compare.paired(better, p, scans, draws=300)['auc']
  assert found.difference.low > 0
  assert found.p < 0.01
  squared = p._replace(probability=p.probability**2)
  same = compare.paired(p, squared, scans, draws=100)['auc']
  assert same.difference[:3] == (0.0, 0.0, 0.0)
  assert same.p == 1.0


def test_paired_on_one_class_and_one_subject_is_defined():
  p, scans = make(6, 20, rate=0.0)
  found = compare.paired(p, rescored(p, seed=1), scans, draws=50)
  assert found['auc'].difference.value is None
  assert found['auc'].difference.note == 'not defined for both strategies'
  p, scans = make(1, 30)
  alone = compare.paired(p, rescored(p, seed=1), scans, draws=50)['auc']
  assert alone.difference.value is not None
  assert alone.difference.low is None
  assert alone.p is None


def test_compare_labels_what_each_test_assumes():
  first = table('7t')
  q = rescored(first.predictions, seed=1)
  second = first._replace(strategy='finetuned', predictions=q)
  found = compare.compare(first, second, draws=100)
  assert found.tests['auc'].assumption == 'paired over subjects'
  assert found.tests['delong'].assumption == 'independent candidates'
  assert found.tests['mcnemar'].assumption == 'independent candidates'
  assert found.tests['delong'].difference.value == pytest.approx(
    found.tests['auc'].difference.value
  )
  with pytest.raises(InputError, match='equal folds'):
    compare.compare(first, second._replace(fold_hash='other'))


def test_verdicts_need_interval_and_p():
  above, below = Interval(0.1, 0.02, 0.2), Interval(-0.1, -0.2, -0.02)
  spans = Interval(0.1, -0.02, 0.2)
  assert judge('above', above)[0] == compare.REPRODUCED
  assert judge('above', below)[0] == compare.NOT_REPRODUCED
  assert judge('above', above, p=0.2)[0] == compare.UNDECIDED
  verdict, reason, needed = judge('above', spans, p=0.1)
  assert verdict == compare.UNDECIDED
  # 20 (2.80 * 0.22 / 3.92 / 0.1)^2 = 49.4
  assert needed == 50
  assert reason == (
    'points the claimed way; to decide on a difference as seen takes about '
    '50 subjects, here are 20'
  )
  reason = judge('above', spans)[1]  # p says yes, the interval no
  assert 'the interval and the permutation do not agree' in reason
  missing = Interval(None, None, None, 'no mimics')
  assert judge('above', missing) == (compare.UNDECIDED, 'no mimics', None)
  none = judge('above', Interval(0.0, -0.1, 0.1), p=1.0)
  assert none == (compare.UNDECIDED, 'no difference at all', None)


def test_not_above_is_an_equivalence_claim():
  assert judge('not above', Interval(0, -0.1, 0.01))[0] == compare.REPRODUCED
  wide = judge('not above', Interval(0, -0.1, 0.1))
  assert wide[1].startswith('a gain above 0.02 is not excluded; to decide on')
  # 20 (2.80 * 0.2 / 3.92 / 0.02)^2: the margin is what has to be resolved.
  assert wide[2] == 1022
  clear = Interval(0.1, 0.05, 0.2)
  assert judge('not above', clear)[0] == compare.NOT_REPRODUCED


def test_few_subjects_are_never_decided():
  above = Interval(0.1, 0.02, 0.2)
  verdict, reason, needed = judge('above', above, p=None, size=4)
  assert needed == 7  # 4 (2.80 * 0.18 / 3.92 / 0.1)^2 = 6.6
  assert verdict == compare.UNDECIDED
  assert reason.startswith('4 subjects are too few: no p below 0.12')


@pytest.mark.parametrize(
  ('true', 'error_of_one'), [(0.02, 0.1), (0.05, 0.2), (0.3, 1.0)]
)
def test_subjects_needed_find_the_difference_four_times_in_five(
  true, error_of_one
):
  """Differences per subject are drawn; the z test is done at that number."""
  pilot = 12
  error = error_of_one / np.sqrt(pilot)
  count = compare.subjects_needed(true, error, pilot)
  assert count > pilot
  rng = np.random.default_rng(0)
  means = rng.normal(true, error_of_one / np.sqrt(count), 20_000)
  found = np.mean(np.abs(means) > 1.96 * error_of_one / np.sqrt(count))
  assert found == pytest.approx(0.8, abs=0.02)


def test_subjects_needed_by_hand():
  # (1.960 + 0.842)^2 = 7.849: one standard deviation takes 8 subjects.
  assert compare.subjects_needed(1.0, 1 / np.sqrt(10), 10) == 8
  assert compare.subjects_needed(-1.0, 1 / np.sqrt(10), 10) == 8
  # 2^(1-6) = 0.03 is the first p below 5 % that swapping can give.
  assert compare.subjects_needed(9.0, 0.1, 10) == 6
  assert compare.subjects_needed(9.0, 0.1, 10, paired=False) == 2
  assert compare.subjects_needed(1.0, 1 / np.sqrt(10), 10, power=0.9) == 11


def study(num_subjects=14, per_scan=60):
  """Ten rows in which every ordering of the paper holds by a wide margin."""
  lift = {1: 6, 2: 3, 3: 1, 4: 4.5, 5: 2, 6: 2, 7: 0.3, 8: 6, 9: 4.5, 10: 3}
  found, scans = {}, {}
  for i, test in enumerate(('btumor_7t', 'btumor_3t', 'ccm_3t')):
    p, scans[test] = make(num_subjects, per_scan, seed=i, lift=0.0)
    for key, number in compare.ROWS.items():
      if key[1] == test:
        noise = 1.0 if number not in (4, 9) else 0.2
        found[key] = rescored(p, seed=9, noise=noise, lift=lift[number])
  return found, scans


def test_orderings_of_a_study_in_which_they_hold():
  found, scans = study()
  judged = compare.orderings(found, scans, draws=400)
  assert len(judged) == len(compare.CLAIMS)
  of = {one.rows: one for one in judged}
  assert of['row 9 not above row 4'].difference.value == 0
  wrong = [
    one.rows
    for one in judged
    if one.verdict != compare.REPRODUCED and one.metric == 'auc'
  ]
  assert wrong == []
  assert of['row 1 above row 2'].design == compare.UNPAIRED
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
  judged = compare.orderings(swapped, scans, draws=400)
  of = {one.rows: one.verdict for one in judged}
  assert of['row 4 above row 6'] == compare.NOT_REPRODUCED
  assert of['row 5 above row 7'] == compare.NOT_REPRODUCED


def test_orderings_show_the_difference_of_every_seed():
  found, scans = study(7, 30)
  by_seed = {
    key: np.stack([p.probability, p.probability[::-1]])
    for key, p in found.items()
    if key[0] != 'scratch'
  }
  judged = compare.orderings(found, scans, by_seed=by_seed, draws=100)
  of = {one.rows: one for one in judged}
  one = of['row 9 above row 2']
  assert len(one.by_seed) == 2
  assert one.by_seed[0] == pytest.approx(one.difference.value)
  assert one.by_seed[1] != pytest.approx(one.difference.value)
  assert of['row 4 above row 6'].by_seed == ()  # scratch has no seeds here


def test_claims_without_their_rows_are_left_out():
  found, scans = study(7, 30)
  some = {key: found[key] for key in found if key[0] in ('7t', 'finetuned')}
  judged = compare.orderings(some, scans, draws=100)
  rows = {one.rows for one in judged}
  assert rows == {
    'row 1 above row 2',
    'row 4 above row 2',
    'row 5 above row 3',
    'row 2 above row 3',
    'row 4 above row 5',
  }


def test_removed_by_lists_the_largest_drop_first():
  p, _ = make(1, 5)
  p = p._replace(
    label=np.array([0, 0, 0, 1, 0]), lesion=np.array([0, 0, 0, 1, 0])
  )
  before = p._replace(probability=np.array([0.5, 0.9, 0.05, 0.9, 0.8]))
  after = p._replace(probability=np.array([0.1, 0.05, 0.01, 0.01, 0.3]))
  assert compare.removed_by(before, after).tolist() == [1, 0]


def test_worst_errors_are_lost_lesions_then_kept_mimics():
  p, _ = make(1, 5)
  p = p._replace(
    label=np.array([1, 0, 1, 0, 1]),
    lesion=np.array([1, 0, 2, 0, 3]),
    probability=np.array([0.08, 0.3, 0.02, 0.7, 0.9]),
  )
  assert compare.worst_errors(p).tolist() == [2, 0, 3, 1]


def arguments(*words):
  parser = argparse.ArgumentParser()
  compare_command.add_arguments(parser)
  return parser.parse_args([str(word) for word in words])


def judged(one, p):
  """A table whose only seed said `p`."""
  return one._replace(predictions=p, by_seed=p.probability[None])


@pytest.fixture
def runs(tmp_path):
  first = table('7t')
  q = rescored(first.predictions, seed=1)
  second = judged(first._replace(strategy='finetuned'), q)
  third = judged(first, rescored(q, seed=2))
  predictions.write(tmp_path / 'a' / 'predictions.npz', [first, second])
  predictions.write(tmp_path / 'b' / 'predictions.npz', [third])
  return tmp_path


def test_command_compares_within_one_run_and_between_two(runs, capsys):
  out = runs / 'out.json'
  code = compare_command.run(arguments(runs / 'a', '--draws=50', '--out', out))
  assert code == 0
  assert '7t minus finetuned on btumor_3t (6 subjects)' in (
    text := capsys.readouterr().out
  )
  assert max(map(len, text.splitlines())) <= 100
  (one,) = json.loads(out.read_text())
  assert set(one['tests']) >= {'auc', 'fp_per_scan', 'delong', 'mcnemar'}
  compare_command.run(arguments(runs / 'a', runs / 'b', '--draws=50'))
  assert '7t minus 7t on btumor_3t' in capsys.readouterr().out
  predictions.write(
    runs / 'c' / 'predictions.npz',
    [t._replace(simulated=True) for t in predictions.read(runs / 'a')],
  )
  compare_command.run(arguments(runs / 'c', '--draws=50'))
  assert '(6 simulated subjects)' in capsys.readouterr().out
  words = ('--strategies', 'finetuned', '7t', '--draws=50')
  compare_command.run(arguments(runs / 'a', runs / 'b', *words))
  assert 'finetuned minus 7t' in capsys.readouterr().out


def test_command_compares_out_of_fold_with_out_of_fold_only(runs, capsys):
  tested = predictions.read(runs / 'a')
  fold_of = np.arange(len(tested[0].predictions.key)) % 2
  held = [
    t._replace(kind=predictions.OUT_OF_FOLD, fold_of=fold_of) for t in tested
  ]
  predictions.write(runs / 'd' / 'predictions.npz', tested + held)
  out = runs / 'd.json'
  compare_command.run(arguments(runs / 'd', '--draws=50', '--out', out))
  text = capsys.readouterr().out
  assert text.count('7t minus finetuned on btumor_3t') == 2
  assert '7t minus finetuned on btumor_3t, out of fold' in text
  assert 'AUC of the folds' in text
  plain, folds = json.loads(out.read_text())
  assert (plain['kind'], folds['kind']) == ('ensemble', 'out of fold')
  assert 'nadeau_bengio' not in plain['tests']
  found = folds['tests']['nadeau_bengio']
  assert found['assumption'] == 'normal fold differences'


def test_command_says_what_it_found_when_nothing_fits(runs):
  with pytest.raises(InputError, match='found 7t on btumor_3t, finetuned on'):
    compare_command.run(arguments(runs / 'a', '--test=ccm_3t'))
  with pytest.raises(InputError, match='one or two runs, not 3'):
    compare_command.run(arguments(*[runs / 'a'] * 3))
  with pytest.raises(InputError, match='not found; give the folder'):
    compare_command.run(arguments(runs / 'nothing'))


@pytest.mark.parametrize(
  'word', ['--draws=0', '--threshold=1.5', '--level=0', '--draws=x']
)
def test_command_refuses_numbers_out_of_range(runs, word, capsys):
  with pytest.raises((InputError, SystemExit)) as caught:
    compare_command.run(arguments(runs / 'a', word))
  text = capsys.readouterr().err + str(caught.value)
  assert word.split('=')[0] in text
  code = getattr(caught.value, 'exit_code', None) or caught.value.code
  assert code == 2
