"""The page is whole, honest and self-contained; files tell the same story."""

import csv
import dataclasses
import html.parser
import re

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.evaluation import compare
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.evaluation.statistics import Interval
from cmbjax.report import figures, methods, tables
from cmbjax.report import html as page_lib
from tests.evaluation_data import make, rescored, table

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
  second = first._replace(strategy='finetuned', predictions=q)
  if rows is None:
    rows = [
      tables.make_row(second, number=4, draws=50),
      tables.make_row(first, number=2, draws=50),
    ]
  both = {(t.strategy, t.test): t.predictions for t in (first, second)}
  cohort = tables.CohortRow(
    'btumor_3t', 6, 6, 30, 90, 36, 6, simulated, '3 T, TE 28 ms'
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
    'orderings': compare.orderings(both, {'btumor_3t': first.scans}, draws=50),
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
  assert tables.print_rows(study).startswith('finetune, simulated data\n')
  rows = read_csv(folder / 'results.csv')
  assert {row['simulated'] for row in rows} == {'yes'}


def test_real_data_are_not_called_simulated():
  real = study_of(simulated=False)
  assert 'simulated' not in page_lib.page(real).lower()
  assert 'simulated' not in tables.print_rows(real)


def test_rows_for_the_terminal_are_ordered_and_narrow(study):
  text = tables.print_rows(study)
  assert max(len(line) for line in text.splitlines()) <= 120
  lines = text.splitlines()
  first = next(i for i, line in enumerate(lines) if line.startswith('2 '))
  assert lines[first + 1].startswith('4 ')
  auc = study.rows[1].metrics['auc']
  assert f'{auc.value:.3f}' in lines[first]
  assert '95 % intervals over subjects' in text


def test_undefined_numbers_are_a_dash_with_a_note():
  p, scans = make(rate=0.0)
  empty = predictions_lib.Table(
    '7t', 'ccm_3t', p, scans, p.probability[None], '', ''
  )
  row = tables.make_row(empty, number=3, draws=20)
  assert row.roc is None
  study = study_of(rows=[row], orderings=[])
  text = tables.print_rows(study)
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
  again = tables.read_json(folder)
  assert tables.plain(again) == tables.plain(study)
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
  with pytest.raises(InputError, match=r'results\.json: cannot be read'):
    report_command.run(parser.parse_args([str(tmp_path)]))


def test_other_json_is_refused(tmp_path):
  (tmp_path / 'results.json').write_text('{"rows": []}')
  with pytest.raises(InputError, match='not a results file'):
    tables.read_json(tmp_path)


def test_csv_holds_every_metric_of_every_row(study, folder):
  rows = read_csv(folder / 'results.csv')
  names = {(row['row'], row['metric']) for row in rows}
  for one in study.rows:
    for metric in (*tables.METRICS, 'brier', 'ece', *tables.MORE_METRICS):
      name = getattr(metric, 'name', metric)
      assert (str(one.number), name) in names
  auc = next(r for r in rows if (r['row'], r['metric']) == ('2', 'auc'))
  assert float(auc['value']) == study.rows[1].metrics['auc'].value


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


def test_learning_rows_unroll_the_log():
  replicas = [
    type('Replica', (), {'strategy': s, 'fold': f, 'seed': 0})
    for s, f in (('7t', 0), ('scratch', 1))
  ]
  log = [{'epoch': 3, 'validation_loss': [0.5, None], 'train_loss': [1, 2]}]
  assert tables.learning_rows(log, replicas) == [
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


def test_parts_by_size_are_shown():
  from cmbjax.evaluation import metrics

  size = np.array(['below 2 mm', 'below 2 mm', '2 mm or more'])
  parts = metrics.sensitivity_by(
    size, np.array(['a', 'b', 'b']), np.array([np.nan, 0.5, 0.9])
  )
  row = tables.make_row(table(), parts={'size': parts})
  page = page_lib.page(study_of(rows=[row], orderings=[]))
  Page(page)
  assert 'Sensitivity of all lesions by size' in page
  assert '2 mm or more' in page


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
  figures.draw_loss(ax, [row | {'validation_loss': 0.7}])
  assert [tick for tick in ax.get_xticks() if -0.5 < tick < 0.5] == [0]
  assert ax.get_ylim()[1] > 0.7


def test_numbers_and_bounds_as_text():
  assert tables.number(None, 'percent') == '–'
  assert tables.number(0.934, 'percent') == '93\N{NO-BREAK SPACE}%'
  assert tables.bounds(Interval(0.9, 0.85, 1.0), 'number') == '.850–1.000'
  assert tables.bounds(Interval(0.9, None, None), 'number') == ''
  below = Interval(0.2, -0.15, 0.5)
  assert tables.bounds(below, 'number') == '−.150 to .500'
  assert page_lib.signed(Interval(-0.01, -0.02, 0.03), 2) == (
    '−0.01',
    '−0.02 to +0.03',
  )
  assert page_lib.signed(None, 2) == ('–', '')


@pytest.mark.parametrize('seed', range(6))
def test_tiny_cohorts_make_a_whole_page(seed):
  rng = np.random.default_rng(seed)
  p, scans = make(
    int(rng.integers(1, 4)),
    int(rng.integers(1, 5)),
    seed=seed,
    rate=rng.choice([0, 0.5, 1]),
  )
  first = predictions_lib.Table(
    '7t', 'btumor_3t', p, scans, p.probability[None]
  )
  second = first._replace(
    strategy='finetuned', predictions=rescored(p, seed=seed)
  )
  both = {(t.strategy, t.test): t.predictions for t in (first, second)}
  study = study_of(
    rows=[tables.make_row(t, draws=20) for t in (first, second)],
    orderings=compare.orderings(both, {'btumor_3t': scans}, draws=20),
  )
  page = page_lib.page(study)
  Page(page)
  for text in (page, tables.print_rows(study)):
    assert not re.search(r'\b(nan|inf|None)\b', text)
  tables.plain(study)
