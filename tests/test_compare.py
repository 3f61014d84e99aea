"""Paired differences of two tables, and the command."""

import argparse
import json
import re

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from cmbjax.errors import InputError
from cmbjax.evaluation import compare, compare_command, power, prediction_files
from cmbjax.evaluation.permutation import Test
from cmbjax.evaluation.predictions import OUT_OF_FOLD
from cmbjax.evaluation.statistics import Interval
from tests.evaluation_data import make, rescored, table
from tests.messages import says


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
  with says(InputError):
    compare.compare(first, second._replace(fold_hash='other'))


def test_folds_are_compared_as_of_one_cross_validation():
  """Each trains on K - 1 times what it is tested on."""
  first = table(num_subjects=9, per_scan=30)
  p = first.predictions
  fold_of = np.unique(p.subject, return_inverse=True)[1] % 4
  first = first._replace(kind=OUT_OF_FOLD, fold_of=fold_of)
  second = judged(first, rescored(p, seed=4, noise=1.5))._replace(strategy='b')
  found = compare.compare(first, second, draws=20).tests['nadeau_bengio']
  gap = np.array(
    [
      sk.roc_auc_score(p.label[m], p.probability[m])
      - sk.roc_auc_score(p.label[m], second.predictions.probability[m])
      for m in (fold_of == np.arange(4)[:, None])
    ]
  )
  error = np.sqrt(gap.var(ddof=1) * (1 / 4 + 1 / 3))
  half = stats.t.ppf(0.975, 3) * error
  ends = (gap.mean(), gap.mean() - half, gap.mean() + half)
  assert found.difference[:3] == pytest.approx(ends)
  assert found.p == pytest.approx(2 * stats.t.sf(abs(gap.mean()) / error, 3))


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
  prediction_files.write(tmp_path / 'a' / 'predictions.npz', [first, second])
  prediction_files.write(tmp_path / 'b' / 'predictions.npz', [third])
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
  said = f'7t of {runs / "a"} minus 7t of {runs / "b"} on btumor_3t'
  assert said in capsys.readouterr().out
  prediction_files.write(
    runs / 'c' / 'predictions.npz',
    [t._replace(simulated=True) for t in prediction_files.read(runs / 'a')],
  )
  compare_command.run(arguments(runs / 'c', '--draws=50'))
  assert '(6 simulated subjects)' in capsys.readouterr().out
  words = ('--strategies', 'finetuned', '7t', '--draws=50')
  compare_command.run(arguments(runs / 'a', runs / 'b', *words))
  assert re.search('finetuned of .* minus 7t of', capsys.readouterr().out)


def test_command_compares_out_of_fold_with_out_of_fold_only(runs, capsys):
  tested = prediction_files.read(runs / 'a')
  fold_of = np.arange(len(tested[0].predictions.key)) % 2
  held = [t._replace(kind=OUT_OF_FOLD, fold_of=fold_of) for t in tested]
  prediction_files.write(runs / 'd' / 'predictions.npz', tested + held)
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


def test_an_interval_of_three_subjects_is_not_shown():
  first = table(num_subjects=3, per_scan=30)
  p = rescored(first.predictions, seed=4, noise=1.5)
  second = judged(first, p)._replace(strategy='b')
  one = compare.compare(first, second, draws=20)
  text = compare_command.text([one], [one.tests['auc'].p])
  (line,) = [row for row in text.splitlines() if row.startswith('  AUC  ')]
  assert line.split()[2:5] == ['n/a', '(3', 'subjects)']
  assert 'an interval needs 4 or more' in text
  assert ' to ' not in line


def test_command_says_what_an_undecided_difference_would_take(runs, capsys):
  out = runs / 'out.json'
  compare_command.run(arguments(runs / 'a', '--out', out))
  text = capsys.readouterr().out
  (one,) = json.loads(out.read_text())
  gap = one['tests']['auc']
  error = power.error_of(gap['low'], gap['high'], 6)
  assert one['auc_subjects_needed'] == power.subjects_needed(
    gap['value'], error, 6
  )
  assert f'takes about {one["auc_subjects_needed"]:,} subjects, 6 find' in text
  clear = gap | {'low': 0.01, 'high': 0.02, 'value': 0.015, 'note': ''}
  del clear['p'], clear['assumption']
  test = Test(Interval(**clear), 0.03, compare.PAIRED)
  pair = compare.Comparison('a', 'b', 't', 6, {'auc': test})
  assert compare_command.undecided([pair], [0.03]) == {}
  # Decided alone, but not in its family of two.
  other = pair._replace(first='c')
  assert len(compare_command.undecided([pair, other], [0.06, 0.06])) == 2


def test_a_difference_of_nothing_lacks_nothing():
  test = Test(Interval(0.0, 0.0, 0.0), 1.0, compare.PAIRED)
  pair = compare.Comparison('a', 'b', 't', 6, {'auc': test})
  assert compare.lacking(pair) is None


def test_command_says_what_it_found_when_nothing_fits(runs):
  with says(InputError, 'btumor_3t'):
    compare_command.run(arguments(runs / 'a', '--test=ccm_3t'))
  with says(InputError):
    compare_command.run(arguments(*[runs / 'a'] * 3))
  with says(InputError):
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
