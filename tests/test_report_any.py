"""A report of strategies and cohorts that no paper has."""

import dataclasses
import re

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.evaluation import claims, compare, orderings, prediction_files
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.evaluation.claims import Claim
from cmbjax.report import (
  figure_files,
  looks,
  methods,
  pages,
  printed,
  rows,
  storage,
  study_page,
  tables,
  texts,
)
from cmbjax.report.rows import make_row
from tests.claims import COHORT_LABELS, LABELS
from tests.evaluation_data import make, rescored, table
from tests.messages import says
from tests.test_report import Page, read_csv, study_of

PAPER_WORDS = r'(?i)paper|Figure \d|Chen|ISMRM|fine-tun'
NAMES = ('probe', 'late', 'early')


def tables_of(names=NAMES, tests=('clinic', 'ward')):
  out = []
  for j, test in enumerate(tests):
    p, scans = make(7, 20, seed=j)
    for i, name in enumerate(names):
      q = rescored(p, seed=i)
      out.append(
        predictions_lib.PredictionTable(
          name,
          test,
          q,
          scans,
          q.probability[None],
          strategy_label=f'{name.title()} training',
          test_label=f'The {test}',
        )
      )
  return out


def cohort(name, simulated=False):
  label = f'The {name}'
  return tables.CohortRow(name, 7, 7, 40, 100, 50, 7, simulated, '', label)


def any_study(**more):
  made = tables_of()
  fields = {
    'title': 'mine',
    'simulated': False,
    'cohorts': [cohort('clinic'), cohort('ward')],
    'rows': [make_row(one, draws=20) for one in made],
    'learning': [
      {'strategy': name, 'fold': 0, 'seed': 0, 'epoch': 0}
      | {'validation_loss': 0.5, 'learning_rate': 1e-3}
      for name in NAMES
    ],
    'record': {'threshold': 0.1, 'model': 'mine:Net', 'candidates': 'my:blobs'},
    'pairs': compare.all_pairs(made, draws=20),
    'strategies': [
      tables.StrategyRow(name, f'{name.title()} training', f'learns {i}')
      for i, name in enumerate(NAMES)
    ],
  }
  return tables.StudyTables(**fields | more)


@pytest.fixture(scope='module')
def study():
  return any_study()


@pytest.fixture(scope='module')
def folder(study, tmp_path_factory):
  out = tmp_path_factory.mktemp('report')
  study_page.write(study, out)
  return out


def test_rows_without_numbers_are_whole_rows_everywhere(study, folder):
  text = printed.print_rows(study)
  page = (folder / 'report.html').read_text(encoding='utf-8')
  Page(page)
  lines = read_csv(folder / 'results.csv')
  for row in study.rows:
    auc = f'{row.metrics["auc"].value:.3f}'
    (line,) = (
      one
      for one in text.splitlines()
      if row.strategy_label in one and row.test_label in one and auc in one
    )
    assert not line.startswith(texts.DASH)
    assert f'<span class="value">{auc}' in page
    assert f'{row.strategy_label}  {auc}' in page  # legend of the ROC curves
    mine = [
      one
      for one in lines
      if (one['strategy'], one['test']) == (row.strategy, row.test)
    ]
    assert {one['row'] for one in mine} == {''}
    assert len(mine) > 20
  assert {row.test_label for row in study.rows} == {'The clinic', 'The ward'}
  assert 'Row ' not in text.splitlines()[2]
  assert '>Row<' not in page
  assert (folder / 'figure3_rows.png').is_file()


def test_a_number_beside_none_keeps_its_column(study):
  first = dataclasses.replace(study.rows[2], number=8)
  some = any_study(rows=[study.rows[0], first])
  lines = printed.print_rows(some).splitlines()
  assert lines[2].startswith('Row  Strategy')
  assert lines[4].startswith('8    Early training')
  assert lines[5].startswith('–    Probe training')


def test_no_word_of_a_paper_without_one(study, folder):
  page = (folder / 'report.html').read_text(encoding='utf-8')
  visible = re.sub(r'<style>.*?</style>', '', page, flags=re.DOTALL)
  for text in (printed.print_rows(study), re.sub(r'<[^>]+>', ' ', visible)):
    assert not re.search(PAPER_WORDS, text), re.search(PAPER_WORDS, text)
  assert 'id="orderings"' not in page
  assert 'claim' not in methods.paragraph(study)


def test_own_claims_are_claims_and_those_of_a_paper_are_its():
  made = tables_of()
  found = orderings.orderings(
    {(t.strategy, t.test): t.predictions for t in made},
    {t.test: t.scans for t in made},
    claims=[
      Claim('Probing is best', ('probe', 'ward'), ('late', 'ward')),
      Claim('Wards are worse', ('probe', 'clinic'), ('probe', 'ward')),
      Claim('Not here', ('probe', 'ward'), ('nobody', 'ward')),
    ],
    labels={(t.strategy, t.test): t.label for t in made},
    numbers={('probe', 'clinic'): 3, ('probe', 'ward'): None},
    draws=20,
  )
  assert [one.rows for one in found] == [
    'Probe training on The ward above Late training on The ward',
    'row 3 above Probe training on The ward',
  ]
  own = any_study(orderings=found)
  assert '\nClaims (difference, p after Holm):' in printed.print_rows(own)
  assert methods.lead(own)[-1].startswith('Of 2 claims, ')
  assert 'Not better' not in methods.family(own)
  assert 'removes many' not in methods.family(own)
  assert '>Claims<' in study_page.page(own)
  theirs = dataclasses.replace(own, paper='Doe 2030')
  assert "The paper's orderings (" in printed.print_rows(theirs)
  assert methods.lead(theirs)[-1].startswith('Of 2 orderings of the paper, ')


def test_row_numbers_are_said_to_be_those_of_the_paper(study):
  text = 'Row numbers are those of Doe 2030.'
  row = dataclasses.replace(study.rows[0], number=2)
  assert text in methods.reading(any_study(rows=[row], paper='Doe 2030'))
  assert 'Row numbers' not in methods.reading(any_study(paper='Doe 2030'))
  assert 'Row numbers' not in methods.reading(any_study(rows=[row]))


@pytest.mark.parametrize('margin', [0.02, 0.05])
def test_the_margin_of_a_claim_is_used_and_said(margin):
  p, scans = make(14, 60, seed=1)
  q = rescored(p, seed=1, noise=0.5, lift=0.3)
  found = orderings.orderings(
    {('a', 't'): q, ('b', 't'): p},
    {'t': scans},
    claims=[
      Claim('Not better', ('a', 't'), ('b', 't'), 'not above', margin=margin)
    ],
  )
  (one,) = found
  assert one.margin == margin
  assert 0 < one.difference.low < 0.02 < one.difference.high < 0.05
  expected = {0.02: claims.NOT_REPRODUCED, 0.05: claims.REPRODUCED}
  assert one.verdict == expected[margin]
  text = methods.family(any_study(orderings=found))
  assert f'excludes a gain above {margin:g}; this is read off its' in text


@pytest.mark.parametrize(
  ('claim', 'named'),
  [
    (Claim('x', ('a', 't'), ('b', 't'), 'over'), "'over'"),
    (Claim('x', ('a', 't')), 'second'),
    (Claim('x', ('a', 't'), ('b', 't'), 'many removed'), 'second'),
    (Claim('x', ('a', 't'), ('b', 't'), margin=-1), 'margin -1'),
  ],
)
def test_a_claim_that_says_nothing_is_refused(claim, named):
  with says(InputError, f"'x' {named}"):
    orderings.orderings({}, {}, claims=[claim])


def test_strategies_and_parts_are_described_from_data(study):
  text = methods.paragraph(study)
  assert (
    'Strategies: Probe training learns 0; Late training learns 1; Early '
    'training learns 2.'
  ) in text
  assert 'A network (mine:Net) rated each candidate' in text
  assert 'by a method of our own (my:blobs), and labelled' in text
  usual = {'model': 'resnet_v4', 'folds': 5}
  text = methods.paragraph(any_study(record=usual))
  assert 'A residual network (resnet_v4)' in text
  assert '2-D fast radial symmetry' in text
  page = study_page.page(study)
  assert '<dt>Late training</dt><dd>learns 1</dd>' in page


def test_colours_go_by_the_order_of_the_config_and_stay_for_the_paper():
  look = looks.Look(LABELS, COHORT_LABELS)
  assert [look.strategy_colour(name) for name in LABELS] == [
    '#b23a3a',
    '#2d7a4c',
    '#6b63ad',
    '#45525f',
  ]
  assert [look.test_colour(name) for name in COHORT_LABELS] == [
    '#2f6694',
    '#a8650f',
    '#83438f',
  ]
  assert [look.line(name).get('dashes') for name in LABELS] == [
    None,
    None,
    (4, 2),
    (1.2, 1.4),
  ]
  turned = looks.Look(dict(reversed(LABELS.items())), {})
  assert turned.strategy_colour('combined') == '#b23a3a'


def test_many_strategies_and_test_sets_look_different():
  names = {f'strategy {i}': '' for i in range(21)}
  look = looks.Look(names, names)
  lines = [look.line(name) for name in names]
  seen = {(one['color'], one.get('dashes')) for one in lines}
  assert len(seen) == 21
  assert len({look.test_colour(name) for name in list(names)[:7]}) == 7
  css = pages._source('report.css')
  for name in names:
    assert f'.{look.test_class(name)} ' in css


def test_test_sets_come_in_the_order_of_the_cohorts(study):
  look = looks.look_of(study)
  assert list(look.tests.values()) == ['The clinic', 'The ward']
  backwards = list(reversed(study.rows))
  assert list(look.by_test(backwards)) == ['clinic', 'ward']
  other = any_study(cohorts=[cohort('ward'), cohort('clinic')])
  assert list(looks.look_of(other).by_test(study.rows)) == ['ward', 'clinic']


def test_a_label_that_is_not_given_is_the_name():
  p, scans = make(3, 8)
  bare = predictions_lib.PredictionTable(
    'probe', 'ward', p, scans, p.probability[None]
  )
  assert bare.label == 'probe on ward'
  row = make_row(bare, draws=20)
  assert (row.strategy_label, row.test_label) == ('probe', 'ward')
  assert tables.StrategyRow('probe').label == 'probe'
  assert cohort('ward').label == 'The ward'
  nameless = dataclasses.replace(cohort('ward'), label='')
  assert nameless.label == 'ward'
  study = any_study(rows=[row], strategies=[], cohorts=[], learning=[])
  page = study_page.page(study)
  Page(page)
  assert '<th scope="row">probe</th>' in page


def test_labels_survive_the_disk(study, folder, tmp_path):
  again = storage.read_json(folder)
  assert [r.strategy_label for r in again.rows] == [
    r.strategy_label for r in study.rows
  ]
  for name in ('strategies', 'cohorts', 'metrics', 'removed_by', 'paper'):
    assert getattr(again, name) == getattr(study, name), name
  assert study_page.page(again) == (folder / 'report.html').read_text(
    encoding='utf-8'
  )
  one = table('7t')
  prediction_files.write(tmp_path / 'predictions.npz', [one])
  (read,) = prediction_files.read(tmp_path)
  assert read.label == one.label == '7T on 3T_Btumor'


def test_labels_that_would_be_cut_to_one_are_not_cut():
  made = [
    one._replace(strategy_label=f'A strategy with a long name, {i}')
    for i, one in enumerate(tables_of()[:2])
  ]
  study = any_study(rows=[make_row(one, draws=20) for one in made])
  text = printed.print_rows(study)
  for one in made:
    assert one.strategy_label in text
  alone = any_study(rows=study.rows[:1])
  assert 'A strategy with a …' in printed.print_rows(alone)


def test_what_a_strategy_removes_is_told_with_both_likelihoods(tmp_path):
  """The candidate has to be kept before and removed after, as it is drawn."""
  before = table('7t')
  p = before.predictions
  lower = p._replace(probability=p.probability / 4)
  turned = predictions_lib.select(lower, np.arange(len(p.key))[::-1])
  after = before._replace(strategy='probe', predictions=turned)
  image = np.random.default_rng(0).random((4, 4, 2))
  asked = []

  def image_of(key):
    asked.append(key)
    return image

  found = rows.removed(before, after, image_of, threshold=0.1, most=3)
  assert len(found) == 3
  assert asked == [one.key for one in found]
  of = dict(zip(p.key.tolist(), p.probability.tolist()))
  label = dict(zip(p.key.tolist(), p.label.tolist()))
  for one in found:
    assert label[one.key] == 0
    assert one.before == of[one.key] > 0.1
    assert one.after == pytest.approx(of[one.key] / 4)
    assert one.after <= 0.1
  study = any_study(removed=found, removed_by=('Early', 'Probing', 'Wards'))
  text = study_page.page(study)
  assert 'Mimics of Wards that Early calls microbleeds' in text
  red, green = re.findall(r'class="c-(?:before|after)">([\d.]+)<', text)[:2]
  assert float(red) > 0.1 >= float(green)
  assert (
    'False candidates of Early on Wards that Probing removes'
    in study_page.page(study)
  )
  figure_files.save_all(study, tmp_path)
  assert (tmp_path / 'figure4_removed.png').is_file()
  unnamed = any_study(removed=found)
  assert 'Mimics of one test set that one strategy' in study_page.page(unnamed)


def test_text_in_labels_is_escaped():
  made = tables_of(('<b>x</b>',), ('<i>y</i>',))
  study = any_study(
    rows=[make_row(one, draws=20) for one in made],
    strategies=[tables.StrategyRow('<b>x</b>', '<b>x</b>', '<u>z</u>')],
    cohorts=[cohort('<i>y</i>')],
    learning=[],
    pairs=[],
    removed=[tables.Patch('k', np.zeros((2, 2, 2)), '', 0.5, 0.05)],
    removed_by=('<b>x</b>', '<b>x</b>', '<i>y</i>'),
    paper='<s>p</s>',
  )
  page = study_page.page(study)
  Page(page)
  for tag in ('<b>x', '<i>y', '<u>z', '<s>p', '<B>X', '<I>Y'):
    assert tag not in page


def test_a_study_of_the_paper_has_its_words():
  page = study_page.page(study_of())
  assert 'Row numbers are those of A Paper 2019.' in page
  assert 'The paper&#39;s orderings (simulated data)' in page
  assert 'that became candidates (as in the paper)' in page


def test_the_table_of_cohorts_counts_candidates_and_lesions_apart():
  row = tables.CohortRow('ward', 3, 4, 20, 100, 12, 5, True, '3 T', 'The ward')
  page = study_page.page(any_study(cohorts=[row]))
  cell = r'data-head="([^"]+)"><span>([^<]*)</span>'
  page = re.search(r'<section id="cohorts".*?</section>', page, re.S)[0]
  assert dict(re.findall(cell, page)) == {
    'Subjects': '3',
    'Scans': '4',
    'CMB (per scan)': '20 (5.0)',
    'FP (per scan)': '100 (25.0)',
    'CMB / FP': '0.20',
    'Lesions': '12',
    'Never proposed': '5 (42 %)',
    'Protocol': '3 T, simulated',
  }


def test_signs_of_a_label_are_drawn_as_they_are(tmp_path):
  name, test = '_$x^2$ and $', 'a $ward_1$'
  made = [
    one._replace(strategy_label=name, test_label=test)
    for one in tables_of(('probe',), ('ward',))
  ]
  study = any_study(
    title='a $study$',
    rows=[make_row(one, draws=20) for one in made],
    strategies=[tables.StrategyRow('probe', name)],
    cohorts=[dataclasses.replace(cohort('ward'), label=test)],
    pairs=[],
  )
  study_page.write(study, tmp_path)
  drawn = (tmp_path / 'figure5_roc.svg').read_text()
  auc = study.rows[0].metrics['auc'].value
  assert f'{name}  {auc:.3f}</text>' in drawn  # in the legend
  for figure, text in (
    ('figure5_roc', test),
    ('figure2_cohorts', test),
    ('figure3_rows', f'{name} on {test}'),
    ('froc', name),
    ('learning', name),
    ('froc', 'a $study$'),
  ):
    assert f'{text}</text>' in (tmp_path / f'{figure}.svg').read_text(), figure
