"""A metric of the user in rows, pairs, page, files and `cmbjax compare`."""

import argparse
import json

import numpy as np
import pytest
from sklearn import metrics as sk

from cmbjax.errors import InputError
from cmbjax.evaluation import (
  compare,
  compare_command,
  metrics,
  own,
  prediction_files,
  statistics,
)
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.report import printed, storage, study_page, tables
from cmbjax.report.rows import make_row
from tests.evaluation_data import make, rescored, table
from tests.messages import says
from tests.test_report import out_of_fold, read_csv, study_of

SOURCE = """
import numpy as np

def auc(y, score, subject):
  from sklearn import metrics
  return metrics.roc_auc_score(y, score)

def subjects(y, score, subject):
  return len(set(subject.tolist()))

def sorts(y, score, subject):
  score.sort()
  return score[-1]

def fails(y, score, subject):
  return 1 / 0

def two(y, score, subject):
  return y[:2]

def word(y, score, subject):
  return 'high'

def late(y, score, subject):
  if len(y) > 100:
    raise ValueError('too many')
  return 0.5

def undefined(y, score, subject):
  return np.nan

def one_argument(y):
  return 0.5

def ends(y, score, subject):
  raise SystemExit(0)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
  """A module in the current folder; its name differs in every test."""
  monkeypatch.chdir(tmp_path)
  name = f'mine_{tmp_path.name}'
  (tmp_path / f'{name}.py').write_text(SOURCE)
  return name


def left_out(p, function):
  """The metric without each subject, by hand."""
  return np.array(
    [
      function(p.label[p.subject != s], p.probability[p.subject != s])
      for s in np.unique(p.subject)
    ]
  )


def test_a_metric_has_the_jackknife_interval_over_subjects(mine):
  p, scans = make(8, 25, seed=1)
  found = own.interval(metrics.own(f'{mine}:auc'), p, scans, level=0.9)
  value = sk.roc_auc_score(p.label, p.probability)
  assert found.value == pytest.approx(value)
  by_hand = statistics.jackknife_interval(
    value, left_out(p, sk.roc_auc_score), level=0.9, scale='plain'
  )
  np.testing.assert_allclose(found[:3], by_hand[:3])
  assert found.low < found.value < found.high


def test_a_difference_leaves_the_subject_out_of_both(mine):
  p, scans = make(8, 25, seed=1)
  q = rescored(p, seed=3)
  found = own.difference(metrics.own(f'{mine}:auc'), p, q, scans)
  gaps = [left_out(one, sk.roc_auc_score) for one in (p, q)]
  value = np.subtract(
    *(sk.roc_auc_score(one.label, one.probability) for one in (p, q))
  )
  by_hand = statistics.jackknife_interval(
    value, gaps[0] - gaps[1], level=0.95, scale='plain'
  )
  np.testing.assert_allclose(found[:3], by_hand[:3])


def test_subjects_without_candidates_count_as_subjects(mine):
  p, scans = make(6, 20)
  mine_only = p.subject != 'sub-003'
  some = predictions_lib.select(p, mine_only)
  every = own.interval(metrics.own(f'{mine}:auc'), some, scans)
  kept = scans._replace(
    **{k: v[scans.subject != 'sub-003'] for k, v in scans._asdict().items()}
  )
  fewer = own.interval(metrics.own(f'{mine}:auc'), some, kept)
  assert every.value == fewer.value
  assert every.low != fewer.low
  assert own.interval(metrics.own(f'{mine}:subjects'), p, scans).value == 6


def test_a_metric_cannot_change_what_it_is_given(mine):
  p, scans = make()
  before = p.probability.copy()
  own.interval(metrics.own(f'{mine}:sorts'), p, scans)
  np.testing.assert_array_equal(p.probability, before)


@pytest.mark.parametrize(
  ('name', 'said'),
  [
    ('fails', 'failed (ZeroDivisionError: division by zero)'),
    ('two', 'returned an array of shape (2,)'),
    ('word', 'failed (ValueError'),
    ('one_argument', 'failed (TypeError'),
    ('missing', 'cannot be imported'),
    ('ends', 'failed (SystemExit: 0)'),
  ],
)
def test_a_metric_that_cannot_work_ends_before_any_work(mine, name, said):
  with pytest.raises(InputError) as caught:
    metrics.own(f'{mine}:{name}')
  text = str(caught.value)
  assert text.startswith('config.evaluation.metrics: ')
  assert said in text
  assert f'{mine}:{name}' in text
  assert '\n' not in text


@pytest.mark.parametrize('name', ['f2', 2])
def test_a_name_that_is_no_plugin_is_refused(name):
  with says(InputError, f"'{name}' 'module:name'"):
    metrics.own(name)


@pytest.fixture
def study(mine):
  names = tuple(f'{mine}:{name}' for name in ('auc', 'late', 'undefined'))
  found = {name: metrics.own(name) for name in names}
  first = table('7t')
  second = first._replace(
    strategy='probe', predictions=rescored(first.predictions, seed=2)
  )
  rows = [make_row(one, own=found, draws=20) for one in (first, second)]
  held = [make_row(out_of_fold('probe', *first[2:4]), own=found, draws=20)]
  pairs = compare.all_pairs([first, second], own=found)
  return study_of(rows=rows, held_out=held, pairs=pairs, metrics=names)


def test_the_level_of_a_row_is_that_of_its_own_metrics(mine):
  one, metric = table('7t'), metrics.own(f'{mine}:auc')
  row = make_row(one, own={'auc': metric}, draws=20, level=0.5)
  wanted = own.interval(metric, one.predictions, one.scans, level=0.5)
  assert row.own['auc'] == wanted


def test_it_is_in_the_row_with_its_reason_where_it_is_not_defined(study):
  auc, late, undefined = study.rows[0].own.values()
  assert auc.value == pytest.approx(study.rows[0].metrics['auc'].value)
  assert late[:3] == undefined[:3] == (None, None, None)
  assert late.note == 'failed (ValueError: too many)'
  assert undefined.note == 'gives no finite number here'


def test_it_is_shown_wherever_a_row_is(study, tmp_path):
  study_page.write(study, tmp_path / 'out')
  auc = study.rows[1].own[study.metrics[0]]
  text = printed.print_rows(study)
  assert f'{auc.value:.3f} (' in text
  assert 'failed (ValueError: too many)' in text
  assert max(map(len, text.splitlines())) <= 120
  page = (tmp_path / 'out' / 'report.html').read_text()
  places = (study.rows, study.held_out, study.pairs)
  assert page.count('data-head="late"') == sum(map(len, places)) == 4
  assert 'Our own measures (auc, late and undefined) and their' in page
  assert 'failed (ValueError: too many)' in page
  lines = read_csv(tmp_path / 'out' / 'results.csv')
  mine = [one for one in lines if one['metric'] == study.metrics[0]]
  assert float(mine[1]['value']) == auc.value
  assert float(mine[1]['low']) == auc.low
  again = storage.read_json(tmp_path / 'out')
  assert again.rows[1].own == study.rows[1].own
  assert study_page.page(again) == page


def test_compare_shows_its_difference(mine, capsys):
  first = table('7t')
  q = rescored(first.predictions, seed=1)
  second = first._replace(
    strategy='probe', predictions=q, by_seed=q.probability[None]
  )
  prediction_files.write('run/predictions.npz', [first, second])
  parser = argparse.ArgumentParser()
  compare_command.add_arguments(parser)
  words = ['run', '--metric', f'{mine}:auc', '--out', 'out.json']
  assert compare_command.run(parser.parse_args(words)) == 0
  with open('out.json', encoding='utf-8') as handle:
    (one,) = json.load(handle)
  found = one['tests'][f'{mine}:auc']
  assert found['value'] == pytest.approx(one['tests']['auc']['value'])
  assert found['low'] < found['value'] < found['high']
  assert found['p'] is None
  text = capsys.readouterr().out
  line = next(x for x in text.splitlines() if x.startswith('  auc '))
  assert f'{found["value"]:+.3f}' in line
  with says(InputError, '--metric'):
    compare_command.run(parser.parse_args(['run', '--metric', 'f2']))


def test_two_of_one_name_are_told_apart():
  names = ['mine:f', 'theirs:f', 'mine:g']
  heads = [tables.own_head(name, names) for name in names]
  assert heads == ['mine:f', 'theirs:f', 'g']
