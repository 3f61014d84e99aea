"""How far readers agree, from their journals to numbers and a page."""

import dataclasses
import html.parser
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from cmbjax.errors import InputError, NoInputError
from cmbjax.evaluation import agreement as counts_lib
from cmbjax.evaluation import intervals
from cmbjax.evaluation.agreement import BlandAltman
from cmbjax.evaluation.raters import Spread
from cmbjax.review.log import composed, journal
from cmbjax.review.readers import agreement, figures, merge, numbers
from cmbjax.review.readers import report as agreement_report
from tests import browser, readings
from tests.messages import says

NEW = (6, 15, 3)
FAR = (20, 4, 9)


def many(root, readers=('ann', 'bob'), subjects=6, *, seed=0, ratings=True):
  """Readers who mostly see the same; times and ratings as they come."""
  rng = np.random.default_rng(seed)
  for n in range(1, subjects + 1):
    truth = rng.random(3) < 0.6
    for name in readers:
      said = [
        'accept' if seen != (rng.random() < 0.15) else 'reject'
        for seen in truth
      ]
      extra = [readings.added(NEW)] if rng.random() < 0.6 else []
      if ratings:
        extra += [
          readings.action('rating', k, value=int(rng.integers(1, 11)), ms=2500)
          for k in (1, 2, 3)
        ]
      readings.read(root, name, said, case=f'sub-{n:02d}', extra=extra)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp('reviews')
  many(folder)
  return folder


def test_tables_and_sums_by_hand(tmp_path):
  """Two patients: 1 of 3 candidates apart, one joint and one own addition."""
  readings.read(tmp_path, 'ann', ['accept', 'accept', 'reject'], extra=[
    readings.added(NEW), readings.added(FAR)
  ])  # fmt: skip
  readings.read(tmp_path, 'bob', ['accept', 'reject', 'reject'], extra=[
    readings.added((7, 15, 3))
  ])  # fmt: skip
  for name in ('ann', 'bob'):
    readings.read(tmp_path, name, ['accept', 'unsure', 'reject'], case='sub-02')
  found = agreement.measure(tmp_path)
  (pair,) = found.pairs
  assert pair.both_or_none.table.tolist() == [[2, 1], [0, 2]]
  assert pair.verdicts.table.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 1]]
  assert pair.both_or_none.observed.value == pytest.approx(4 / 5)
  # chance: (3/5)(2/5) + (2/5)(3/5) = 12/25.
  assert pair.both_or_none.kappa.value == pytest.approx((20 - 12) / (25 - 12))
  assert pair.found == (3, 2, 0)
  assert pair.positive.value == pytest.approx(6 / 8)
  assert [some.tolist() for some in pair.counts.counts] == [[4, 1], [2, 1]]
  assert pair.counts.bland_altman.bias == 1.0
  ann = found.readers[0]
  assert ann.verdicts == {'accept': 5, 'reject': 2, 'unsure': 1}
  assert (ann.cases, ann.completed, ann.added) == (2, 2, 2)
  assert found.simulated


def test_outlines_by_hand(tmp_path):
  """Nobody drew on 1; on 2 ann took one of nine voxels away; 4 moved."""
  own = np.sort(readings.cube(readings.CENTRES[1]))
  erase = readings.action('edit', 2, set=[], clear=own[:1])
  readings.read(tmp_path, 'ann', ['accept', None, 'reject'], extra=[
    erase, readings.verdict(2, 'accept'), readings.added(NEW)
  ])  # fmt: skip
  readings.read(tmp_path, 'bob', ['accept', 'accept', 'reject'], extra=[
    readings.added((7, 15, 3))
  ])  # fmt: skip
  some = agreement.measure(tmp_path).pairs[0].outlines
  assert (some.lesions, some.edited) == (3, 2)
  two, four = 2 * 8 / 17, 2 * 6 / 18
  assert some.dice.value == pytest.approx((1 + two + four) / 3)
  assert some.dice_edited.value == pytest.approx((two + four) / 2)
  assert some.volume_ratio.value == pytest.approx(math.sqrt(8 / 9))
  gone = np.hypot(1 / 8, 1 / 8)  # a corner of nine voxels of 1 mm
  assert some.distance_mm.value == pytest.approx((gone + 1) / 2)


def test_hidden_repeats_are_the_reader_against_himself(tmp_path):
  header = readings.header('ann', repeat=100)
  said = {}
  for row in header['items']:
    first = row['repeat_of'] is None
    value = 'reject' if not first and row['id'] == 'lesion-002' else 'accept'
    said[row['item']] = value
  actions = [readings.verdict(n, value) for n, value in said.items()]
  folder = tmp_path / 'ann' / 'sub-01'
  composed.write(folder, header, [*actions, readings.done()])
  (ann,) = agreement.measure(tmp_path).readers
  assert ann.again.table.tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]
  assert ann.again.observed.value == pytest.approx(2 / 3)
  assert ann.verdicts['accept'] == 3  # each candidate once
  assert ann.again.kappa.note


def test_what_candidates_add_to_a_first_reader(tmp_path):
  """Alone: 1 and a place of its own; then 2 as well, and one is dropped."""
  for case, drops in (('sub-01', True), ('sub-02', False), ('sub-03', False)):
    extra = [
      readings.added(readings.CENTRES[0]),
      readings.added(NEW),
      readings.action('done'),
      readings.verdict(1002, 'accept'),
      readings.verdict(1003, 'reject'),
    ]
    extra += [readings.verdict(2, 'unsure')] if drops else []
    readings.read(
      tmp_path, 'ann', [], case=case, extra=extra, mode='first-reader'
    )
  readings.read(tmp_path, 'bob', ['accept'] * 3)
  found = agreement.measure(tmp_path)
  ann, bob = found.readers
  assert bob.gain is None
  assert ann.gain[:5] == (3, 6, 8, 3, 1)
  values = [one.value for one in ann.gain.per_scan]
  assert values == pytest.approx([2, 8 / 3, 1, 1 / 3])
  aided = ann.gain.per_scan[1]
  assert intervals.missing(aided) == 'n/a (3 subjects)'
  assert ann.added == 3  # the others are candidates
  assert found.pairs[0].found == (2, 0, 1)  # bob took the third, too
  rows = {
    (row['readers'], row['statistic']): row for row in numbers.rows(found)
  }
  row = rows['ann', 'Added with candidates, lesions per scan']
  assert (row['value'], row['of']) == (1, 3)
  text = agreement_report.page(found)
  assert 'With and without candidates' in text
  assert 'n/a (3 subjects)</span>' in text
  assert '8 lesions, ' in text
  as_json = numbers.as_json(found, [], 5)
  assert as_json['readers'][0]['unaided']['added'] == 3


def test_times_are_those_of_the_log(tmp_path):
  extra = [
    readings.verdict(n, 'accept') | {'ms': ms}
    for n, ms in ((1, 1000), (2, 3000), (3, 8000))
  ]
  readings.read(tmp_path, 'ann', [], extra=extra)
  (ann,) = agreement.measure(tmp_path).readers
  assert ann.decision_s == Spread(3.0, 2.0, 5.5, 3)
  assert ann.case_s == Spread(12.0, 12.0, 12.0, 1)


def test_ratings_follow_the_likelihood(tmp_path):
  """Likelihoods 0.9, 0.6, 0.2 get 9, 7, 1 in every scan: one order."""
  for n in range(1, 5):
    readings.read(tmp_path, 'ann', ['accept'] * 3, case=f'sub-{n:02d}', extra=[
      readings.action('rating', k, value=v) for k, v in ((1, 9), (2, 7), (3, 1))
    ])  # fmt: skip
  (ann,) = agreement.measure(tmp_path).readers
  assert ann.rating[:2] == (1.0, None)
  assert len(ann.ratings) == 12
  assert ann.ratings[0] == (9, 0.9)


def test_counts_only_where_both_are_through(tmp_path):
  readings.read(tmp_path, 'ann', ['accept'] * 3)
  readings.read(tmp_path, 'bob', ['accept', 'reject', None], finish=False)
  found = agreement.measure(tmp_path)
  (pair,) = found.pairs
  assert (pair.scans, pair.completed, pair.counts) == (1, 0, None)
  assert pair.verdicts.table.sum() == 2
  assert pair.positive.note == 'no scan that both completed'
  assert found.icc.value is None


def test_three_readers_have_three_pairs_and_one_icc(tmp_path):
  many(tmp_path, ('ann', 'bob', 'cy'), 5)
  found = agreement.measure(tmp_path)
  assert [(p.first, p.second) for p in found.pairs] == [
    ('ann', 'bob'),
    ('ann', 'cy'),
    ('bob', 'cy'),
  ]
  names = ('ann', 'bob', 'cy')
  table = [
    [
      agreement._accepted(journal.read(tmp_path / name / f'sub-0{k}'))
      for name in names
    ]
    for k in range(1, 6)
  ]
  assert found.icc == counts_lib.icc(np.array(table))
  assert found.scans == 5


def test_adjudicators_and_merged_folders_are_no_readers(tmp_path):
  many(tmp_path, subjects=2)
  merge.run_merge(tmp_path, ['ann', 'bob'], adjudicate='carl')
  assert agreement.readers_of(tmp_path) == ['ann', 'bob']
  with says(NoInputError):
    agreement.measure(tmp_path / 'nowhere')
  with says(NoInputError):
    agreement.measure(tmp_path, ['dan'])
  with says(InputError):
    agreement.measure(tmp_path, ['?'])


class _Page(html.parser.HTMLParser):
  """Element names, ids, links, and texts of a page."""

  def __init__(self, text):
    super().__init__()
    self.names, self.ids, self.links, self.words = [], set(), [], []
    self._style = False
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.names.append(tag)
    self._style = tag == 'style'
    values = dict(attrs)
    self.ids.add(values.get('id'))
    self.links += [v for k, v in attrs if k in ('href', 'src')]

  def handle_data(self, data):
    if not self._style:
      self.words.append(data)

  @property
  def text(self):
    return ' '.join(' '.join(self.words).split())


def written(root, out, raters=None):
  path = agreement_report.write(root, raters, out)
  return _Page(path.read_text(encoding='utf-8')), out


def test_files_of_the_report(root, tmp_path):
  page, out = written(root, tmp_path / 'a')
  assert sorted(p.name for p in out.iterdir()) == [
    'agreement.html',
    'agreement.json',
    'agreement.tsv',
    'places.tsv',
  ]
  assert 'How far two readers agree on simulated scans' in page.text
  assert 'Simulated data.' in page.text
  assert all(link.startswith('#') for link in page.links)
  assert {link[1:] for link in page.links} <= page.ids
  assert not {'script', 'img', 'link'} & set(page.names)
  head, *lines = (out / 'agreement.tsv').read_text().splitlines()
  rows = [dict(zip(head.split('\t'), line.split('\t'))) for line in lines]
  names = {row['statistic'] for row in rows}
  for wanted in (
    "Cohen's kappa, accept or reject",
    "Gwet's AC1, accept or reject",
    'positive agreement',
    'ICC(2,1) of counts',
    'weighted kappa of grades',
    'Dice',
    'seconds per decision',
    'Spearman of rating and likelihood',
  ):
    assert wanted in names
  places = (out / 'places.tsv').read_text().splitlines()
  assert places[0].split('\t')[-2:] == ['said_by_ann', 'said_by_bob']
  assert len(places) - 1 == len(agreement.measure(root).places)


def test_json_has_the_numbers_of_the_table(root, tmp_path):
  _, out = written(root, tmp_path / 'a')
  found = json.loads((out / 'agreement.json').read_text())
  assert found['schema'] == numbers.SCHEMA
  assert found['simulated'] is True
  (pair,) = found['pairs']
  assert sum(map(sum, pair['table'])) == 18
  (kappa,) = [
    row
    for row in found['statistics']
    if row['statistic'] == "Cohen's kappa, accept or reject"
  ]
  (measured,) = agreement.measure(root).pairs
  assert kappa['value'] == measured.both_or_none.kappa.value
  assert kappa['of'] == 18


def test_what_has_no_interval_has_a_note_and_nothing_is_nan(tmp_path):
  """One scan, one reader; one scan, two readers; nothing in common."""
  one, two, apart = (tmp_path / name for name in ('one', 'two', 'apart'))
  readings.read(one, 'ann', ['accept'] * 3)
  for name in ('ann', 'bob'):
    readings.read(two, name, ['accept', 'reject', 'unsure'])
    readings.read(apart, name, [None] * 3, case=f'sub-{name}', finish=False)
  for root in (one, two, apart):
    page, out = written(root, root / 'report')
    text = (out / 'agreement.json').read_text()
    assert 'NaN' not in text
    assert 'nan' not in page.text.lower().split()
    for row in json.loads(text)['statistics']:
      if row['low'] is None:
        assert row['note'], row
  alone = _Page((one / 'report' / 'agreement.html').read_text())
  assert 'agreement needs two' in alone.text


def test_hostile_names_stay_text(tmp_path):
  """Names of candidates come from tables of anybody."""
  first = readings.candidates()[0]
  some = [dataclasses.replace(first, id='<b>\t<script>alert(1)</script>')]
  for name, value in (('ann', 'accept'), ('bob', 'reject')):
    readings.read(tmp_path, name, [value], some=some)
  page, out = written(tmp_path, tmp_path / 'report')
  assert not {'script', 'b'} & set(page.names)
  assert '<script>alert(1)</script>' in page.text
  lines = (out / 'places.tsv').read_text().splitlines()
  assert [len(line.split('\t')) for line in lines] == [7, 7]


def test_the_same_numbers_for_names_in_any_order(root, tmp_path):
  one, two = tmp_path / '1', tmp_path / '2'
  agreement_report.write(root, ['ann', 'bob'], one)
  agreement_report.write(root, ['bob', 'ann', 'bob'], two)
  for name in ('agreement.tsv', 'places.tsv'):
    assert (one / name).read_text() == (two / name).read_text()


def axes():
  return Figure().add_subplot()


def test_drawings_hold_all_that_they_draw():
  first, second = np.array([0, 3, 3, 12]), np.array([1, 3, 3, 9])
  limits = BlandAltman(0.5, -3.0, 4.0)
  counts, gaps, rated = axes(), axes(), axes()
  figures.draw_counts(counts, (first, second), ('a$x$', 'b'))
  figures.draw_differences(gaps, (first, second), limits, ('a', 'b'))
  figures.draw_ratings(rated, [(1, 0.0), (10, 1.0)])
  assert counts.get_xlabel() == r'a\$x\$'
  assert [text.get_text() for text in counts.texts] == ['2']  # piled
  assert len(counts.collections) == len(gaps.collections) == 3
  assert len(gaps.lines) == 4  # zero, bias and both limits
  for ax in (counts, gaps, rated):
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    for dots in ax.collections:
      for x, y in dots.get_offsets():
        assert left < x < right
        assert low < y < high
  undefined = BlandAltman(0.5, None, None)
  figures.draw_differences(gaps, (first, second), undefined, ('a', 'b'))
  times = axes()
  figures.draw_times(times, [('a', Spread(3.0, 2.0, 5.0, 4))])
  (bar,) = times.patches
  assert (bar.get_x(), bar.get_width()) == (2.0, 3.0)


@browser.needed
def test_page_fits_and_asks_for_nothing(page, root, tmp_path):
  path = agreement_report.write(root, None, tmp_path)
  for width in (1280, 400):
    browser.check_file(page, path, width=width)


def test_none_of_it_needs_jax():
  code = (
    'import sys; from cmbjax.review.export import cohort, verdicts_import; '
    'from cmbjax.review.readers import merge, report; '
    'assert "jax" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
