"""Verdicts of the static page become a journal, or are refused in one line."""

import copy
import json
import re

import numpy as np
import pytest

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.review.cases import sources
from cmbjax.review.export import cohort as export
from cmbjax.review.export import verdicts_import
from cmbjax.review.log import journal
from cmbjax.review.log.geometry import View
from tests import readings
from tests.messages import says

EXPORTED = '2026-03-01T11:00:00.000Z'
_DATA = re.compile(r'<script type="application/json"[^>]*>(.*?)</script>', re.S)


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  return readings.detected(tmp_path_factory.mktemp('detected'))[0]


@pytest.fixture(scope='module')
def cases(results):
  return sources.find(results).cases


@pytest.fixture(scope='module')
def blank(results):
  """What the page of the first scan would save before any verdict."""
  scan = json.loads(_DATA.search((results / 'sub-01.html').read_text())[1])
  nothing = {'verdict': None, 'mimic': None, 'comment': '', 'time': None}
  rows = [row | nothing | {'ms': 0} for row in scan.pop('lesions')]
  scan.pop('file')
  return scan | {
    'rater': 'ann',
    'started': '2026-03-01T10:00:00.000Z',
    'exported': EXPORTED,
    'lesions': rows,
    'events': [],
  }


@pytest.fixture
def page(blank):
  return Page(copy.deepcopy(blank))


class Page:
  """As a reader uses the page: changes the state, notes the event."""

  def __init__(self, content):
    self.content = content
    self.rows = {row['id']: row for row in content['lesions']}
    self._second = 0

  def change(self, name, field, value, *, ms=0):
    self._second += 1
    time = f'2026-03-01T10:00:{self._second:02d}.250Z'
    row = self.rows[name]
    event = {'time': time, 'id': name, 'field': field, 'undo': False}
    self.content['events'].append(event | {'old': row[field], 'new': value})
    row |= {field: value, 'time': time, 'ms': row['ms'] + ms}
    if field == 'verdict' and value != 'reject' and row['mimic']:
      self.change(name, 'mimic', None)

  def accept_all(self):
    for name in self.rows:
      if name.startswith('lesion-'):
        self.change(name, 'verdict', 'accept', ms=1500)

  def save(self, folder, name='sub-01_verdicts.json'):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(self.content))
    return path

  @property
  def dropped(self):
    return next(n for n in self.rows if n.startswith('candidate-'))


def bring(page, cases, folder, **how):
  path = page.save(folder)
  (made,) = verdicts_import.bring([path], cases, folder / 'reviews', **how)
  return journal.read(made)


def by_id(record):
  return {item.id: item for item in record.items.values() if item.id}


def test_verdicts_times_and_milliseconds_are_those_of_the_reader(
  page, cases, tmp_path
):
  page.change('lesion-001', 'verdict', 'reject', ms=700)
  page.change('lesion-001', 'mimic', 'vessel')
  page.change('lesion-002', 'verdict', 'unsure', ms=800)
  page.change('lesion-001', 'verdict', 'accept', ms=900)
  page.change('lesion-003', 'verdict', 'reject', ms=100)
  page.change('lesion-003', 'mimic', 'calcification')
  page.change('lesion-002', 'comment', 'faint <b>')
  record = bring(page, cases, tmp_path)
  found = by_id(record)
  assert [found[f'lesion-00{n}'].verdict for n in range(1, 5)] == [
    'accept',
    'unsure',
    'reject',
    None,
  ]
  assert found['lesion-001'].mimic is None
  assert found['lesion-003'].mimic == 'calcification'
  assert found['lesion-002'].comment == 'faint <b>'
  assert [found[f'lesion-00{n}'].ms for n in range(1, 5)] == [1600, 800, 100, 0]
  assert record.status == 'in progress'
  lines = journal.lines(tmp_path / 'reviews' / 'ann' / 'sub-01')
  assert lines[0]['imported']['file'] == 'sub-01_verdicts.json'
  assert lines[1]['time'] == '2026-03-01T10:00:05.250+00:00'
  assert [line['event'] for line in lines[1:]] == ['verdict'] * 3 + ['comment']


def test_all_read_is_completed_and_can_be_exported(page, cases, tmp_path):
  page.accept_all()
  record = bring(page, cases, tmp_path)
  assert record.status == 'completed'
  assert record.header['simulated'] is True
  root = tmp_path / 'reviews'
  out = export.write_cohort(cases, root, 'ann', tmp_path / 'cohort')
  assert (out / 'sub-01').is_dir()


@pytest.mark.parametrize('value', ['accept', 'unsure'])
def test_a_rejected_candidate_becomes_an_addition_with_an_outline(
  page, cases, tmp_path, value
):
  page.accept_all()
  page.change(page.dropped, 'verdict', value, ms=300)
  page.change(page.dropped, 'comment', 'is one')
  record = bring(page, cases, tmp_path)
  (new,) = [item for item in record.items.values() if item.id is None]
  assert new.verdict == value
  assert new.comment == f'{page.dropped}; is one'
  assert new.ms == 300
  voxels = record.voxels(new.number)
  image = volume.load(cases[0].image)
  view = View.of(image)
  wanted = page.rows[page.dropped]['centre_mm']
  centre = view.to_world(view.ijk_of(voxels).mean(0))
  assert np.linalg.norm(centre - wanted) < 1.5
  inside = image.array.ravel(order='F')[voxels]
  assert np.median(inside) < 0.6 * np.median(image.array[image.array > 0])


def test_a_candidate_that_both_reject_adds_nothing(page, cases, tmp_path):
  page.accept_all()
  page.change(page.dropped, 'verdict', 'reject')
  record = bring(page, cases, tmp_path)
  assert all(item.id for item in record.items.values())


def test_the_command_line_s_name_wins(page, cases, tmp_path):
  page.content['rater'] = ''
  record = bring(page, cases, tmp_path, rater='Dr. Bob')
  assert record.header['rater'] == 'DrBob'
  assert (tmp_path / 'reviews' / 'DrBob' / 'sub-01').is_dir()


def _set(path, value):
  """A change of one field; dots go down, numbers into lists."""

  def change(content):
    *way, last = [int(p) if p.isdigit() else p for p in path.split('.')]
    for step in way:
      content = content[step]
    content[last] = value

  return change


def _copy_first(content):
  content['lesions'].append(dict(content['lesions'][0]))


def _drop_verdict(content):
  del content['lesions'][0]['verdict']


def _drop_first(content):
  del content['lesions'][0]


@pytest.mark.parametrize(
  ('change', 'text'),
  [
    (_set('schema', 'cmbjax-verdicts-2'), ''),
    (_set('scan', 'sub-99'), ''),
    (_set('scan', ['sub-01']), ''),
    (_set('result', 'f' * 16), ''),
    (_set('rater', '  '), ''),
    (_set('rater', 7), ''),
    (_set('exported', 'today'), ''),
    (_set('lesions', {}), ''),
    (_set('lesions.0', 'x'), ''),
    (_set('lesions.0.id', 'lesion-099'), '001'),
    (_set('lesions.0.verdict', 'maybe'), 'maybe'),
    (_set('lesions.0.mimic', 'ghost'), 'ghost'),
    (_set('lesions.0.mimic', 'vessel'), ''),
    (_set('lesions.0.comment', 5), ''),
    (_set('lesions.0.comment', 'x' * 5001), 'xxx'),
    (_set('lesions.0.comment', '\ud800'), ''),
    (_set('lesions.0.ms', -1), ''),
    (_set('lesions.0.ms', True), 'True'),
    (_set('lesions.0.time', 'x'), ''),
    (_set('lesions.0.time', '9999-12-31T23:59:59-14:00'), '9999'),
    (_set('exported', '0001-01-01T00:00:00+14:00'), ''),
    (_drop_verdict, '001'),
    (_set('lesions.0.centre_mm', [1, 2]), 'centre_mm'),
    (_set('lesions.0.centre_mm', [1.5, 2.5, 10**400]), 'centre_mm'),
    (_set('lesions.0.centre_mm', [1.5, 2.5, 1e9]), 'centre_mm'),
    (_copy_first, '001'),
    (_drop_first, '001'),
  ],
)
def test_what_does_not_fit_is_refused_in_one_line(
  page, cases, tmp_path, change, text
):
  page.accept_all()
  page.content['lesions'][0] |= {'verdict': None}
  change(page.content)
  path = page.save(tmp_path)
  with says(InputError, text) as found:
    verdicts_import.bring([path], cases, tmp_path / 'reviews')
  assert '\n' not in str(found.value)
  assert str(found.value).startswith(str(path))
  assert not list((tmp_path / 'reviews').rglob('*.jsonl'))


@pytest.mark.parametrize(
  ('row', 'text'),
  [
    ({'id': 'lesion-099', 'status': 'definite'}, '099'),
    ({'id': 'candidate-0999', 'status': 'definite'}, ''),
    ({'id': '../x', 'status': 'rejected'}, ''),
    (
      {'id': 'candidate-0999', 'status': 'rejected', 'centre_mm': [900, 0, 0]},
      '',
    ),
  ],
)
def test_lesions_that_are_not_in_the_result(page, cases, tmp_path, row, text):
  page.content['lesions'].append(page.content['lesions'][0] | row)
  with says(InputError, text):
    bring(page, cases, tmp_path)


def test_a_review_that_is_there_is_never_touched(page, cases, tmp_path):
  page.accept_all()
  bring(page, cases, tmp_path)
  path = tmp_path / 'reviews' / 'ann' / 'sub-01' / journal.EVENTS
  before = path.read_bytes()
  with says(InputError):
    bring(page, cases, tmp_path)
  assert path.read_bytes() == before


def test_two_files_of_one_scan_and_a_bad_one_among_good(page, cases, tmp_path):
  page.accept_all()
  one, two = page.save(tmp_path), page.save(tmp_path, 'again.json')
  root = tmp_path / 'reviews'
  with says(InputError):
    verdicts_import.bring([one, two], cases, root)
  bad = tmp_path / 'bad.json'
  bad.write_text('{"schema": ')
  with says(InputError, 'JSON'):
    verdicts_import.bring([one, bad], cases, root)
  assert not list(root.rglob('*.jsonl'))


def test_results_without_hash_are_refused(page, cases, results, tmp_path):
  beside = cases[0].labels.with_name(
    cases[0].labels.name.replace('.nii.gz', '.json')
  )
  fields = files.read_json(beside)
  try:
    files.write_json(
      beside, {k: v for k, v in fields.items() if k != 'ResultHash'}
    )
    with says(InputError):
      bring(page, cases, tmp_path)
  finally:
    files.write_json(beside, fields)


def test_the_page_and_the_label_image_name_one_result(blank, cases):
  beside = cases[0].labels.with_name(
    cases[0].labels.name.replace('.nii.gz', '.json')
  )
  assert files.read_json(beside)['ResultHash'] == blank['result']


JUNK = (None, True, -1, 1e308, '', 'x', '\ud800', [], ['lesion-001'], {}, 2**70)


def _spoil(rng, content):
  """Something somewhere in the file is something else."""
  while True:
    keys = list(content) if isinstance(content, dict) else range(len(content))
    key = keys[rng.integers(len(keys))]
    inner = content[key]
    if not isinstance(inner, dict | list) or not inner or rng.random() < 0.1:
      content[key] = JUNK[rng.integers(len(JUNK))]
      return
    content = inner


def test_spoiled_files_are_taken_or_refused_in_one_line(page, cases, tmp_path):
  page.accept_all()
  page.change('lesion-002', 'verdict', 'reject')
  page.change('lesion-002', 'mimic', 'vessel')
  rng, refused = np.random.default_rng(7), {}
  for n in range(60):
    content = copy.deepcopy(page.content)
    for _ in range(rng.integers(1, 3)):
      _spoil(rng, content)
    folder = tmp_path / str(n)
    folder.mkdir()
    path = folder / 'verdicts.json'
    path.write_text(json.dumps(content))
    try:
      verdicts_import.bring([path], cases, folder / 'reviews')
    except InputError as error:
      refused[folder] = str(error)
  assert 10 < len(refused) < 60
  for folder, text in refused.items():
    assert '\n' not in text
    assert not list(folder.rglob('*.jsonl'))
