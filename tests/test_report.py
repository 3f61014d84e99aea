"""The page is whole, honest and self-contained; files tell the same story."""

import csv
import dataclasses
import html.parser
import re

import numpy as np
import pytest
from matplotlib import axes

from cmbjax.errors import InputError, NoInputError
from cmbjax.evaluation import claims, compare, intervals, metrics, orderings
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.evaluation.statistics import Interval
from cmbjax.report import (
  breakdowns,
  cells,
  figure_files,
  figures,
  looks,
  methods,
  printed,
  storage,
  tables,
  texts,
)
from cmbjax.report import study_page as page_lib
from cmbjax.report.rows import learning_rows, make_row
from tests.claims import CLAIMS, COHORT_LABELS, LABELS, ROWS
from tests.evaluation_data import make, rescored, table
from tests.messages import says

VOID = {'meta', 'link', 'br', 'img', 'input', 'hr'}


class Page(html.parser.HTMLParser):
  """Checks nesting; collects ids, links and sources."""

  def __init__(self, text):
    super().__init__()
    self.open, self.ids, self.targets, self.images = [], [], [], []
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attributes):
    found = dict(attributes)
    self.ids += [found['id']] if 'id' in found else []
    for name in ('href', 'xlink:href', 'src', 'action', 'data'):
      if name in found:
        self.targets.append(found[name])
    if tag == 'img':
      self.images.append(found)
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.handle_starttag(tag, attributes)
    if tag not in VOID:
      self.open.pop()

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


def study_of(*, simulated=True, rows=None, **more):
  first = table('7t')
  q = rescored(first.predictions, seed=1, lift=1.0)
  second = first._replace(
    strategy='finetuned', strategy_label=LABELS['finetuned'], predictions=q
  )
  if rows is None:
    rows = [
      make_row(second, number=4, draws=50),
      make_row(first, number=2, draws=50),
    ]
  both = {(t.strategy, t.test): t.predictions for t in (first, second)}
  cohort = tables.CohortRow(
    *('btumor_3t', 6, 6, 30, 90, 36, 6, simulated, '3 T, TE 28 ms'),
    label=COHORT_LABELS['btumor_3t'],
  )
  learning = [
    {'strategy': '7t', 'fold': fold, 'seed': 0, 'epoch': epoch}
    | {'train_loss': 0.5, 'validation_loss': 0.6 / (epoch + 1)}
    | {'learning_rate': 1e-4}
    for fold in range(3)
    for epoch in range(4)
  ]
  image = np.random.default_rng(0).random((16, 16, 8))
  fields = {
    'title': 'finetune',
    'simulated': simulated,
    'cohorts': [cohort],
    'rows': rows,
    'learning': learning,
    'record': {'threshold': 0.1, 'level': 0.95, 'draws': 50, 'folds': 5},
    'orderings': orderings.orderings(
      both,
      {'btumor_3t': first.scans},
      claims=CLAIMS,
      numbers=ROWS,
      draws=50,
    ),
    'paper': 'A Paper 2019',
    'removed_by': ('7T', '7T fine-tuned on 3T', '3T_Btumor'),
    'removed': [tables.Patch('s/s/1', image, 'vein', 0.7, 0.04)],
    'misses': [tables.Patch('s/s/lesion 2', image[:0], '2 mm')],
  }
  return tables.StudyTables(**fields | more)


def read_csv(path):
  return list(csv.DictReader(path.read_text(encoding='utf-8').splitlines()))


@pytest.fixture(scope='module')
def study():
  return study_of()


@pytest.fixture(scope='module')
def folder(study, tmp_path_factory):
  out = tmp_path_factory.mktemp('report')
  assert page_lib.write(study, out) == out / 'report.html'
  return out


def test_page_is_one_file_that_asks_for_nothing(folder):
  text = (folder / 'report.html').read_text(encoding='utf-8')
  page = Page(text)
  assert len(page.ids) == len(set(page.ids))
  for target in page.targets:
    assert target.startswith(('#', 'data:image/png;base64,')), target
    if target.startswith('#'):
      assert target[1:] in page.ids
  assert not re.search(r'https?://|@import|<script', text)
  assert all(set(re.findall(r'url\((.)', text)) <= {'#'} for _ in [0])
  assert all(image.get('alt') for image in page.images)
  assert re.search(r'<html lang="en">', text)


def test_every_url_inside_the_drawings_exists_on_the_page(folder):
  text = (folder / 'report.html').read_text(encoding='utf-8')
  page = Page(text)
  for name in re.findall(r'url\(#([^)]+)\)', text):
    assert name in page.ids


def test_simulated_is_in_every_title(study, folder):
  text = (folder / 'report.html').read_text(encoding='utf-8')
  assert 'simulated data' in re.search(r'<title>(.*?)</title>', text)[1]
  assert 'simulated data' in re.search(r'<h1>(.*?)</h1>', text)[1]
  for head in re.findall(r'<h2[^>]*>(.*?)</h2>', text):
    assert 'simulated data' in head or head == 'Methods'
  assert printed.print_rows(study).startswith('finetune, simulated data\n')
  rows = read_csv(folder / 'results.csv')
  assert {row['simulated'] for row in rows} == {'yes'}


def test_real_data_are_not_called_simulated():
  real = study_of(simulated=False)
  assert 'simulated' not in page_lib.page(real).lower()
  assert 'simulated' not in printed.print_rows(real)


def test_rows_for_the_terminal_are_ordered_and_narrow(study):
  text = printed.print_rows(study)
  assert max(len(line) for line in text.splitlines()) <= 120
  lines = text.splitlines()
  first = next(i for i, line in enumerate(lines) if line.startswith('2 '))
  assert lines[first + 1].startswith('4 ')
  auc = study.rows[1].metrics['auc']
  assert f'{auc.value:.3f}' in lines[first]
  assert '95 % intervals over subjects' in text


def test_an_interval_of_two_subjects_is_not_shown_anywhere():
  study = study_of(rows=[make_row(table(num_subjects=2))], orderings=[])
  (row,) = study.rows
  auc = f'{row.metrics["auc"].value:.3f}'
  text = printed.print_rows(study)
  assert f'{auc} n/a a)' in text
  assert 'a) n/a (2 subjects): an interval needs 4 or more' in text
  assert max(map(len, text.splitlines())) <= 120
  page = page_lib.page(study)
  assert f'has AUC {auc} (no interval) and' in page
  assert '<span class="ci">n/a (2 subjects)</span>' in page


def test_undefined_numbers_are_a_dash_with_a_note():
  p, scans = make(rate=0.0)
  empty = predictions_lib.PredictionTable(
    '7t', 'ccm_3t', p, scans, p.probability[None], '', ''
  )
  row = make_row(empty, number=3, draws=20)
  assert row.roc is None
  study = study_of(rows=[row], orderings=[])
  text = printed.print_rows(study)
  assert '– a)' in text
  assert 'a) no microbleeds among the candidates' in text
  page = page_lib.page(study)
  Page(page)
  assert 'no microbleeds among the candidates' in page
  for output in (text, page):
    assert not re.search(r'\bnan\b', output, re.IGNORECASE)


def test_text_from_outside_is_escaped():
  evil = '<script>alert(1)</script>"&'
  rows = [dataclasses.replace(study_of().rows[0], strategy=evil, test=evil)]
  study = study_of(title=evil, rows=rows, record={'config': evil})
  page = page_lib.page(study)
  Page(page)
  assert '<script' not in page


def test_json_round_trip_gives_the_same_page(study, folder):
  again = storage.read_json(folder)
  assert storage.plain(again) == storage.plain(study)
  page = (folder / 'report.html').read_text(encoding='utf-8')
  assert page_lib.page(again) == page == page_lib.page(study)


def test_report_command(folder, tmp_path, capsys):
  import argparse

  from cmbjax.report import report_command

  parser = argparse.ArgumentParser()
  report_command.add_arguments(parser)
  words = [str(folder), '--out', str(tmp_path / 'new')]
  assert report_command.run(parser.parse_args(words)) == 0
  assert (tmp_path / 'new' / 'report.html').exists()
  assert '7T fine-tuned on 3T' in capsys.readouterr().out
  with says(NoInputError, 'results.json'):
    report_command.run(parser.parse_args([str(tmp_path)]))


def test_other_json_is_refused(tmp_path):
  (tmp_path / 'results.json').write_text('{"rows": []}')
  with says(InputError):
    storage.read_json(tmp_path)


def test_csv_holds_every_metric_of_every_row(study, folder):
  rows = read_csv(folder / 'results.csv')
  names = {(row['row'], row['metric']) for row in rows}
  for one in study.rows:
    for metric in (*tables.METRICS, 'brier', 'ece', 'average_precision', 'f1'):
      name = getattr(metric, 'name', metric)
      assert (str(one.number), name) in names
  auc = next(r for r in rows if (r['row'], r['metric']) == ('2', 'auc'))
  assert float(auc['value']) == study.rows[1].metrics['auc'].value
  assert float(auc['low']) == study.rows[1].metrics['auc'].low
  drawn = study.rows[1].bootstrap['auc']
  assert drawn[1:3] != study.rows[1].metrics['auc'][1:3]
  assert (float(auc['bootstrap_low']), float(auc['bootstrap_high'])) == (
    drawn[1:3]
  )


def test_figures_are_written_and_not_without_content(folder, tmp_path):
  names = {path.stem for path in folder.glob('*.png')}
  assert names == {
    'figure2_cohorts',
    'figure3_rows',
    'figure4_removed',
    'figure5_roc',
    'froc',
    'learning',
    'reliability',
  }
  assert (folder / 'figure5_roc.png').read_bytes()[:4] == b'\x89PNG'
  svg = {path.stem for path in folder.glob('*.svg')}
  assert svg == names - {'figure4_removed'}
  bare = study_of(
    rows=[], cohorts=[], learning=[], orderings=[], removed=[], misses=[]
  )
  page_lib.write(bare, tmp_path)
  assert not list(tmp_path.glob('*.png'))
  Page((tmp_path / 'report.html').read_text(encoding='utf-8'))


def test_what_was_removed_is_not_shown_as_the_threshold(tmp_path, monkeypatch):
  image = np.ones((4, 4, 2))
  near = tables.Patch('s/s/1', image, '', before=0.1004, after=0.0996)
  bare = study_of(rows=[], cohorts=[], learning=[], orderings=[], pairs=[])
  bare = dataclasses.replace(bare, removed=[near], misses=[near])
  text = page_lib.page(bare)
  assert text.count('>0.1004</b>') == text.count('>0.0996</b>') == 2
  drawn, write = [], axes.Axes.text

  def note(self, x, y, text, *more, **style):
    drawn.append(text)
    return write(self, x, y, text, *more, **style)

  monkeypatch.setattr(axes.Axes, 'text', note)
  figure_files.save_all(bare, tmp_path)
  assert drawn == ['s/s/1', '0.1004', '0.0996'] * 2  # two figures
  for name in ('froc.png', 'froc.svg', 'notes.png'):
    (tmp_path / name).write_text('of an earlier run')
  figure_files.save_all(dataclasses.replace(bare, removed=[]), tmp_path)
  left = sorted(path.name for path in tmp_path.iterdir())
  assert left == ['misses.png', 'notes.png']


def test_a_run_that_is_none_is_said(tmp_path):
  with says(NoInputError):
    storage.read_json(tmp_path)


def test_learning_rows_unroll_the_log():
  replicas = [
    type('Replica', (), {'strategy': s, 'fold': f, 'seed': 0})
    for s, f in (('7t', 0), ('scratch', 1))
  ]
  log = [{'epoch': 3, 'validation_loss': [0.5, None], 'train_loss': [1, 2]}]
  assert learning_rows(log, replicas) == [
    {'strategy': '7t', 'fold': 0, 'seed': 0, 'epoch': 3}
    | {'train_loss': 1, 'validation_loss': 0.5},
    {'strategy': 'scratch', 'fold': 1, 'seed': 0, 'epoch': 3}
    | {'train_loss': 2, 'validation_loss': None},
  ]


def test_patch_png_shows_slices_with_the_patients_right_on_the_left():
  import io

  import matplotlib.image

  image = np.zeros((4, 3, 2))
  image[3, 2, 0] = 1.0  # the right, anterior, lowest voxel
  png = figures.patch_png(image, scale=1, gap=1)
  shown = matplotlib.image.imread(io.BytesIO(png))
  assert shown.shape == (3, 9, 4)
  assert shown[0, 0, 0] == 1.0  # upper left of the first slice
  assert shown[..., 0].sum() == pytest.approx(1.0)
  assert np.all(shown[:, 4, 3] == 0)  # the gap is transparent


def test_counts_per_scan_are_compared_with_the_truth(study, folder):
  found = study.rows[0].agreement
  assert found['bias'].low < found['bias'].value < found['bias'].high
  text = (folder / 'report.html').read_text(encoding='utf-8')
  assert f'{found["icc"].value:.3f}' in text
  names = {row['metric'] for row in read_csv(folder / 'results.csv')}
  assert {'count_icc', 'count_kappa', 'count_bias'} <= names


def with_lesions(one):
  """The table with a size and a region for each of its lesions."""
  from cmbjax.evaluation.predictions import TrueLesions

  p, scans = one.predictions, one.scans
  rows = []
  for scan, subject, count in zip(scans.scan, scans.subject, scans.num_lesions):
    hit = sorted(set(p.lesion[(p.scan == scan) & (p.label == 1)].tolist()))
    rows += [(scan, subject, n, 1.9, 'thalamus', '') for n in hit]
    rest = [n for n in range(900, 900 + count - len(hit))]
    rows += [(scan, subject, n, 4.0, '', 'never proposed') for n in rest]
  columns = [np.array(column) for column in zip(*rows)]
  return one._replace(lesions=TrueLesions(*columns))


def test_parts_by_size_and_region_are_shown_and_written(tmp_path):
  one = with_lesions(table())
  row = make_row(one, draws=20)
  sizes = row.parts['size']
  assert list(sizes) == ['below 2 mm', '3 to 5 mm']
  assert sizes['3 to 5 mm'][0].value == 0  # never proposed
  assert sum(count for _, count in sizes.values()) == row.num_lesions
  total = sum(i.value * count for i, count in sizes.values())
  share = row.metrics['sensitivity_lesions'].value
  assert total == pytest.approx(share * row.num_lesions)
  study = study_of(rows=[row], orderings=[])
  page_lib.write(study, tmp_path)
  page = (tmp_path / 'report.html').read_text(encoding='utf-8')
  Page(page)
  assert 'Lesions by size and region' in page
  assert 'below 2 mm <span class="small">' in page
  found = read_csv(tmp_path / 'breakdown.csv')
  assert {line['by'] for line in found} == {'size', 'region'}
  assert {line['group'] for line in found if line['by'] == 'region'} == {
    'thalamus',
    'unknown',
  }
  assert storage.read_json(tmp_path).rows[0].parts == row.parts


def test_each_strategy_has_a_column_of_its_own_in_the_parts():
  """The second one finds nothing."""
  first = make_row(with_lesions(table()), draws=20)
  none = {
    by: {
      name: (Interval(0.0, None, None), n) for name, (_, n) in groups.items()
    }
    for by, groups in first.parts.items()
  }
  second = dataclasses.replace(first, strategy='none', parts=none)
  made = breakdowns.parts(study_of(rows=[first, second], orderings=[]))
  for part in made['parts']:
    for _, (_, cell) in part['table'].lines:
      assert cell.text == texts.number(0.0, 'percent')


def out_of_fold(strategy, p, scans):
  folds = (p.subject > 'sub-002').astype(int)
  return predictions_lib.PredictionTable(
    strategy,
    'btumor_3t',
    p,
    scans,
    p.probability[None],
    'f0',
    kind=predictions_lib.OUT_OF_FOLD,
    fold_of=folds,
    test_label=COHORT_LABELS['btumor_3t'],
  )


def test_out_of_fold_rows_and_pairs_are_shown(tmp_path):
  first = table('7t')
  p, scans = first.predictions, first.scans
  second = out_of_fold('scratch', rescored(p, seed=2), scans)
  third = out_of_fold('finetuned', p, scans)
  pairs = compare.all_pairs([first, second, third])
  assert [(one.first, one.second, one.kind) for one in pairs] == [
    ('scratch', 'finetuned', 'out of fold')
  ]
  test = pairs[0].tests['nadeau_bengio']
  assert test.assumption == 'normal fold differences'
  assert test.p is not None
  rows = [make_row(one, draws=20) for one in (second, third)]
  study = study_of(held_out=rows, pairs=pairs)
  page_lib.write(study, tmp_path)
  text = (tmp_path / 'report.html').read_text(encoding='utf-8')
  Page(text)
  assert 'id="held-out"' in text
  assert '3T_Btumor, out of fold' in text
  assert 'Nadeau-Bengio 0.' in text
  kinds = {line['kind'] for line in read_csv(tmp_path / 'results.csv')}
  assert kinds == {'ensemble', 'out of fold'}
  again = storage.read_json(tmp_path)
  assert again.pairs[0].tests['delong'] == pairs[0].tests['delong']
  assert again.held_out[1].kind == 'out of fold'


def test_seeds_are_averaged_and_their_spread_is_shown(tmp_path):
  one = table('7t')
  other = rescored(one.predictions, seed=5, noise=0.3).probability
  by_seed = np.stack([one.predictions.probability, other])
  p = one.predictions._replace(probability=by_seed.mean(0))
  one = one._replace(predictions=p, by_seed=by_seed)
  row = make_row(one, draws=20)
  assert len(row.seeds) == 2
  study = study_of(rows=[row], orderings=[])
  text = page_lib.page(study)
  Page(text)
  assert f'{row.seeds[0]:.3f}, {row.seeds[1]:.3f}' in text
  assert f'{np.std(row.seeds, ddof=1):.3f}' in text


def test_orderings_are_written_with_what_they_lack(study, folder):
  lines = read_csv(folder / 'orderings.csv')
  assert len(lines) == len(study.orderings)
  for line, one in zip(lines, study.orderings):
    assert line['verdict'] == one.verdict
    assert line['simulated'] == 'yes'
    assert line['subjects_needed'] == (
      '' if one.needed is None else f'{one.needed}'
    )


def test_scans_by_true_and_found_grade_are_shown(study, folder):
  text = (folder / 'report.html').read_text(encoding='utf-8')
  assert 'Scans by true and found grade' in text
  assert np.sum(study.rows[0].grades) == study.rows[0].num_scans
  assert '10 to 19' in text


STORED = {
  'points': {
    'high_sensitivity': {'threshold': 0.1, 'rule': 'of the reference'},
    'balanced': {'threshold': 0.4, 'rule': 'best F1 <out of fold>'},
  },
  'calibration': {'kind': 'temperature', 'temperature': 2.0},
}


@pytest.fixture(scope='module')
def with_points(tmp_path_factory):
  row = make_row(table('7t'), number=2, stored=STORED, draws=50)
  study = study_of(rows=[row])
  folder = tmp_path_factory.mktemp('points')
  page_lib.write(study, folder)
  return study, folder


def test_points_and_calibration_chosen_out_of_fold_are_scored(with_points):
  study, folder = with_points
  (row,) = study.rows
  p, scans = table('7t').predictions, table('7t').scans
  found = metrics.evaluate(p, scans, threshold=0.4)
  assert row.points['balanced'].metrics['f1'] == found['f1']
  logit = np.log(p.probability / (1 - p.probability))
  softer = 1 / (1 + np.exp(-logit / 2.0))
  assert row.calibration['brier_calibrated'].value == pytest.approx(
    np.mean((softer - p.label) ** 2)
  )
  page = (folder / 'report.html').read_text(encoding='utf-8')
  Page(page)
  assert 'best F1 &lt;out of fold&gt;' in page
  assert 'of the reference' not in page  # that is the table of results
  assert 'Brier, calibrated' in page
  lines = read_csv(folder / 'operating_points.csv')
  assert {one['point'] for one in lines} == {'high_sensitivity', 'balanced'}
  (line,) = (
    one
    for one in lines
    if (one['point'], one['metric']) == ('balanced', 'fp_per_scan')
  )
  assert float(line['value']) == pytest.approx(found['fp_per_scan'].value)
  assert storage.read_json(folder).rows[0] == row


def test_other_units_rates_and_likelihoods_are_shown_and_written(with_points):
  study, folder = with_points
  (row,) = study.rows
  page = (folder / 'report.html').read_text(encoding='utf-8')
  for head in ('By candidate', 'By lesion', 'By scan', 'By subject'):
    assert f'<summary>{head}</summary>' in page
  names = {one['metric'] for one in read_csv(folder / 'results.csv')}
  assert names >= {'patch_specificity', 'scan_auc', 'subject_f1'}
  assert names >= {'sensitivity_at_0.5', 'sensitivity_at_16'}
  lines = read_csv(folder / 'likelihood.csv')
  assert len(lines) == 3 * len(row.likelihoods)
  total = sum(
    int(one['candidates']) for one in lines if one['metric'] == 'share'
  )
  assert total == row.num_candidates
  for one in row.likelihoods:
    assert f'({one.microbleeds} of {one.candidates})' in page


def test_every_undefined_cell_of_every_csv_has_its_reason(tmp_path):
  p, scans = make(1, 3, rate=0.0)
  one = predictions_lib.PredictionTable(
    '7t', 'btumor_3t', p, scans, p.probability[None]
  )
  two = one._replace(strategy='finetuned')
  study = study_of(
    rows=[make_row(one, stored=STORED, draws=20)],
    pairs=compare.all_pairs([one, two]),
    orderings=orderings.orderings(
      {(t.strategy, t.test): t.predictions for t in (one, two)},
      {'btumor_3t': scans},
      claims=CLAIMS,
      draws=20,
    ),
  )
  page_lib.write(study, tmp_path)
  for path in tmp_path.glob('*.csv'):
    assert 'nan' not in path.read_text().lower()
    for line in read_csv(path):
      for name in ('value', 'difference', 'low'):
        if line.get(name) == '' and line.get('difference_of') != 'mcnemar':
          assert line['note'], (path.name, line)
  assert 'NaN' not in (tmp_path / 'results.json').read_text()


def test_pairs_are_written_with_what_each_test_assumes(tmp_path):
  first = table('7t')
  q = rescored(first.predictions, seed=1)
  second = first._replace(strategy='finetuned', predictions=q)
  storage.write_pairs(
    study_of(pairs=compare.all_pairs([first, second])), tmp_path / 'p.csv'
  )
  lines = {one['difference_of']: one for one in read_csv(tmp_path / 'p.csv')}
  assert lines['delong']['assumption'] == 'independent candidates'
  assert lines['auc']['p_holm'] == lines['auc']['p'] != ''
  assert lines['fp_per_scan']['p_holm'] == ''


def test_the_rule_of_the_family_is_said_and_what_the_undecided_lack(study):
  (one,) = study.orderings
  assert one.verdict == claims.UNDECIDED
  page = page_lib.page(study)
  assert 'p of at most 0.05 after Holm, whatever p is alone' in page
  assert 'one family of 1 test:' in page
  assert 'What the undecided claims lack' in page
  assert f'>{one.needed}<' in page
  assert 'one confirmatory family' in methods.paragraph(study)
  untested = one._replace(p=None)
  text = methods.family(dataclasses.replace(study, orderings=[untested]))
  assert 'No claim could be tested here. One is decided' in text
  none = dataclasses.replace(study, orderings=[])
  assert 'confirmatory' not in methods.paragraph(none)


def test_methods_paragraph_names_what_was_done(study):
  text = methods.paragraph(study)
  assert 'simulated susceptibility-weighted cohort' in text
  assert 'strictly above 0.1' in text
  assert 'leave out whole subjects (jackknife)' in text
  record = study.record | {'method': 'bootstrap'}
  drawn = dataclasses.replace(study, record=record)
  assert '50 bootstrap draws' in methods.paragraph(drawn)
  assert 'over all lesions, including those never proposed' in text


def test_one_is_singular(study):
  assert methods.counted(1, 'scan') == '1 scan'
  assert methods.counted(0, 'scan') == '0 scans'
  row = dataclasses.replace(study.rows[0], num_subjects=1, num_scans=1)
  assert '>1 subject, 1 scan, ' in page_lib.page(study_of(rows=[row]))


def test_a_single_epoch_has_a_whole_axis_and_no_loss_is_cut_off():
  from matplotlib.figure import Figure

  row = {'strategy': '7t', 'fold': 0, 'seed': 0, 'epoch': 0}
  ax = Figure().add_subplot()
  look = looks.Look({'7t': '7T'}, {})
  figures.draw_loss(ax, [row | {'validation_loss': 0.7}], look)
  assert [tick for tick in ax.get_xticks() if -0.5 < tick < 0.5] == [0]
  assert ax.get_ylim()[1] > 0.7


def test_numbers_and_bounds_as_text():
  assert texts.number(None, 'percent') == '–'
  assert texts.number(0.934, 'percent') == '93\N{NO-BREAK SPACE}%'
  assert texts.bounds(Interval(0.9, 0.85, 1.0), 'number') == '.850–1.000'
  assert texts.bounds(Interval(0.9, None, None), 'number') == ''
  few = Interval(0.9, None, None, intervals.too_few(2, 'scan'))
  assert texts.bounds(few, 'number') == 'n/a (2 scans)'
  assert cells.signed(few, 2) == cells.Cell('+0.90', 'n/a (2 scans)')
  below = Interval(0.2, -0.15, 0.5)
  assert texts.bounds(below, 'number') == '−.150 to .500'
  far = Interval(15.0, 10.25, 20.5)  # mm, whose zeros are not dropped
  assert texts.bounds(far, 'number') == '10.250–20.500'
  assert texts.number(-0.093, 'number') == '−0.093'
  assert cells.signed(Interval(-0.01, -0.02, 0.03), 2) == cells.Cell(
    '−0.01', '−0.02 to +0.03'
  )
  assert cells.signed(None, 2) == cells.Cell('–')


@pytest.mark.parametrize('seed', range(6))
def test_tiny_cohorts_make_a_whole_page(seed):
  rng = np.random.default_rng(seed)
  p, scans = make(
    int(rng.integers(1, 4)),
    int(rng.integers(1, 5)),
    seed=seed,
    rate=rng.choice([0, 0.5, 1]),
  )
  first = predictions_lib.PredictionTable(
    '7t', 'btumor_3t', p, scans, p.probability[None]
  )
  second = first._replace(
    strategy='finetuned', predictions=rescored(p, seed=seed)
  )
  both = {(t.strategy, t.test): t.predictions for t in (first, second)}
  study = study_of(
    rows=[make_row(t, draws=20) for t in (first, second)],
    orderings=orderings.orderings(
      both, {'btumor_3t': scans}, claims=CLAIMS, draws=20
    ),
  )
  page = page_lib.page(study)
  Page(page)
  for text in (page, printed.print_rows(study)):
    assert not re.search(r'\b(nan|inf|None)\b', text)
  storage.plain(study)


@pytest.mark.parametrize(
  ('likelihood', 'thresholds', 'text'),
  [
    (0.3, (0.1,), '0.30'),
    (0.0996, (0.1,), '0.0996'),
    (0.09996, (0.1,), '0.09996'),
    (0.1004, (0.1,), '0.1004'),
    (0.1, (0.1,), '0.10'),
    (0.4999, (0.1, 0.5), '0.4999'),
    (0.996, (0.1,), '1.00'),
    (0.0996, (), '0.10'),
    (float(np.float32(0.1)), (0.1,), '0.100000001'),
    (np.nextafter(0.1, 1), (0.1,), '0.100000000'),
  ],
)
def test_a_shown_likelihood_is_on_its_own_side(likelihood, thresholds, text):
  assert texts.likelihood_text(likelihood, *thresholds) == text
