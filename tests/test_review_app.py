"""The HTTP contract of the review page, without a port."""

import errno
import json
import os
import threading
import time

import numpy as np
import pytest

from cmbjax import files
from cmbjax.review.cases import sources
from cmbjax.review.log import items, journal, opening
from cmbjax.review.server import app, desk, guard
from tests import review_server, small_cohorts
from tests.review_server import TOKEN, Local


@pytest.fixture
def here(tmp_path):
  return Local(tmp_path)


@pytest.fixture(scope='module')
def still(tmp_path_factory):
  """For tests that only read."""
  return Local(tmp_path_factory.mktemp('still'))


def good(answer):
  assert answer.status_code == 200, answer.get_data()
  return answer.get_json()


def voxels_of(local, name='swi'):
  answer = local.get(f'/api/cases/0/voxels/{name}')
  return np.frombuffer(answer.get_data(), '<i2'), answer.headers


def labels_of(local):
  data = local.get('/api/cases/0/labels').get_data()
  return np.frombuffer(data, '<u2').copy()


# Reading.


def test_the_session(still):
  session = good(still.get('/api/session'))
  assert session['rater'] == 'anna'
  assert session['mode'] == 'second-reader'
  assert session['blind'] == ['score', 'id']
  assert session['repeat'] is False
  assert session['mimics'] == list(items.MIMICS)
  (case,) = session['cases']
  assert (case['case'], case['name']) == (0, 'sub-01')


def test_the_session_before_a_case_was_opened(here):
  (case,) = good(here.get('/api/session'))['cases']
  assert case['status'] == 'not started'
  assert case['items'] is None  # nobody has read the labels yet
  good(here.get('/api/cases/0'))
  (case,) = good(here.get('/api/session'))['cases']
  assert case['items'] == 6


def test_the_case(still):
  case, phantom = still.case(), still.phantom
  assert case['dim'] == list(phantom.swi.shape)
  assert case['spacing'] == [0.5, 0.5, 2.0]
  np.testing.assert_allclose(case['affine'], phantom.affine, atol=1e-5)
  assert case['slab_axis'] == 2
  assert case['oblique_deg'] == 0
  assert case['rev'] == 0
  assert case['status'] == 'not started'
  assert len(case['items']) == 6
  assert case['items'][0]['item'] == 1
  assert case['items'][0]['score'] is None
  assert case['place'] is None


def test_voxels_are_the_image_x_fastest(still):
  data, headers = voxels_of(still)
  case = still.case()
  (sequence,) = case['sequences']
  image = data.reshape(case['dim'], order='F')
  image = image * sequence['slope'] + sequence['intercept']
  np.testing.assert_array_equal(image, still.phantom.swi.astype(np.int16))
  assert headers['Content-Length'] == str(2 * data.size)
  assert float(headers['x-cmb-slope']) == sequence['slope']
  window = [float(v) for v in headers['x-cmb-window'].split()]
  assert window == sequence['window']


def test_the_brain_is_the_mask_that_came_with_the_scan(still, tmp_path):
  assert still.get('/api/cases/0/brain').status_code in (200, 204)
  one = small_cohorts.phantom(3)
  anat = tmp_path / 'scans/sub-01/anat'
  small_cohorts.save(anat / 'sub-01_swi.nii.gz', one.swi, one.affine)
  path = anat / 'sub-01_label-brain_mask.nii.gz'
  small_cohorts.save(path, one.brain.astype(np.uint8), one.affine)
  found = sources.find(tmp_path / 'scans')
  table = desk.Desk(found.cases, tmp_path / 'r', 'anna')
  with table.use(0) as opened:
    brain = opened.brain()
  np.testing.assert_array_equal(brain, one.brain)
  assert (brain.dtype, brain.flags.f_contiguous) == (np.uint8, True)
  table.close()


def test_labels_are_item_numbers_x_fastest(still):
  labels = labels_of(still).reshape(still.case()['dim'], order='F')
  for item in still.case()['items']:
    assert labels[tuple(item['ijk'])] == item['item']
    assert (labels == item['item']).sum() == item['voxels']


def test_a_head_request_has_no_body(still):
  answer = still.ask('HEAD', '/api/cases/0/voxels/swi')
  assert answer.status_code == 200
  assert answer.get_data() == b''


def test_other_sequences_are_described_once_they_were_read(tmp_path):
  root, one = tmp_path / 'bids', small_cohorts.phantom(2)
  anat = small_cohorts.write_scan(root, 'sub-01', one)
  path = anat / 'sub-01_part-mag_T2starw.nii.gz'
  small_cohorts.save(path, one.swi / 7, one.affine)
  found = sources.find(root)
  local = Local.__new__(Local)
  local.desk = desk.Desk(found.cases, tmp_path / 'r', 'anna')
  local.app = app.make(local.desk, guard.Guard(8123, token=TOKEN))
  assert local.case()['sequences'][1]['slope'] is None
  data, headers = voxels_of(local, 'magnitude')
  sequence = local.case()['sequences'][1]
  assert sequence['slope'] == float(headers['x-cmb-slope'])
  image = data.reshape(one.swi.shape, order='F')
  image = image * sequence['slope'] + sequence['intercept']
  np.testing.assert_allclose(image, one.swi / 7, atol=sequence['slope'])


# Acting.


def test_a_verdict(here):
  here.case()
  answer = good(here.act('verdict', item=2, value='accept', ms=1234))
  (item,) = answer['items']
  assert (item['item'], item['verdict'], item['ms']) == (2, 'accept', 1234)
  assert answer['rev'] == 1
  assert answer['can_undo']
  line = json.loads(here.log.read_text().splitlines()[-1])
  assert (line['event'], line['item']) == ('verdict', 2)
  assert line['new']['verdict'] == 'accept'


def test_undo_and_redo(here):
  good(here.act('verdict', item=2, value='reject'))
  answer = good(here.act('undo'))
  assert answer['items'][0]['verdict'] is None
  assert answer['can_redo']
  assert good(here.act('redo'))['items'][0]['verdict'] == 'reject'


def test_an_edit_changes_the_labels_that_the_page_holds(here):
  labels = labels_of(here)
  free = np.flatnonzero(labels == 0)[:5].tolist()
  own = np.flatnonzero(labels == 3)[:2].tolist()
  tool = {'name': 'brush', 'mm': 3}
  answer = good(here.act('edit', item=3, set=free, clear=own, tool=tool))
  for index, value in answer['labels']:
    labels[index] = value
  np.testing.assert_array_equal(labels, labels_of(here))
  assert (labels[free] == 3).all()
  assert (labels[own] == 0).all()


def test_growing_replaces_the_outline_and_is_one_undo(here):
  item = here.case()['items'][0]
  before = labels_of(here)
  some = np.flatnonzero(before == 0)[-3:].tolist()  # a stroke far away
  good(here.act('edit', item=1, set=some))
  answer = good(here.act('grow', item=1, ijk=item['ijk'], radius_mm=5))
  labels = labels_of(here)
  assert (labels[some] == 0).all()
  assert (labels == 1).sum() == answer['items'][0]['voxels'] > 5
  line = json.loads(here.log.read_text().splitlines()[-1])
  assert line['tool']['radius_mm'] == 5
  good(here.act('undo'))
  assert (labels_of(here)[some] == 1).all()


def test_growing_leaves_the_other_lesions_alone(here):
  before = labels_of(here)
  other = here.case()['items'][1]
  answer = here.act('grow', item=1, ijk=other['ijk'])
  assert answer.status_code == 400
  assert 'another lesion' in answer.get_json()['error']
  np.testing.assert_array_equal(labels_of(here), before)


def test_growing_a_rejected_item_is_refused(here):
  item = here.case()['items'][0]
  good(here.act('verdict', item=1, value='reject'))
  answer = here.act('grow', item=1, ijk=item['ijk'])
  assert answer.status_code == 400


def test_an_addition_with_an_outline(here):
  here.case()
  place = [int(v) for v in here.phantom.lesion_voxels[0]]
  taken = here.act('add', ijk=place, grow=True)
  assert taken.status_code == 400  # there is a lesion already
  good(
    here.act(
      'edit', item=1, clear=np.flatnonzero(labels_of(here) == 1).tolist()
    )
  )
  answer = good(here.act('add', ijk=place, grow=True))
  (item,) = [i for i in answer['items'] if i['item'] == 7]
  assert item['voxels'] > 5
  assert item['origin'] == 'reader_after_model'
  assert item['verdict'] == 'accept'
  answer = good(here.act('remove', item=7))
  assert answer['removed'] == [7]


def test_where_nothing_is_dark_an_addition_is_a_point(here):
  here.case()
  inner = here.phantom.swi[24:40, 22:38, 6:10]
  bright = np.unravel_index(inner.argmax(), inner.shape)
  bright = [int(v) for v in np.add(bright, (24, 22, 6))]
  answer = good(here.act('add', ijk=bright, grow=True))
  (item,) = [i for i in answer['items'] if i['item'] == 7]
  assert item['voxels'] == 0
  assert 'no outline' in item['flags']
  answer = here.act('grow', item=7, ijk=bright)
  assert answer.status_code == 400
  assert 'darker' in answer.get_json()['error']


def test_save_writes_mask_and_table(here):
  good(here.act('verdict', item=1, value='accept'))
  names = good(here.post('/api/cases/0/save', {}))['files']
  folder = here.log.parent
  assert 'sub-01_rater-anna_dseg.nii.gz' in names
  assert all((folder / name).is_file() for name in names)


def test_a_completed_case_is_written(here):
  for item in here.case()['items']:
    good(here.act('verdict', item=item['item'], value='accept'))
  good(here.act('status', value='completed'))
  assert (here.log.parent / 'sub-01_rater-anna_dseg.nii.gz').is_file()
  (case,) = good(here.get('/api/session'))['cases']
  assert case['status'] == 'completed'


def test_settings_are_kept_for_the_reader(here):
  assert here.get('/api/session').get_json()['settings'] is None
  settings = {'keys': {'accept': ['q', 'é']}, 'prefs': {'smooth': True}}
  good(here.post('/api/settings', settings))
  assert here.get('/api/session').get_json()['settings'] == settings
  for body, status in (([], 400), ({'x': 'y' * 20_000}, 413)):
    assert here.post('/api/settings', body).status_code == status
  assert here.post('/api/settings', {}, token=False).status_code == 403
  assert here.get('/api/session').get_json()['settings'] == settings
  (here.root / 'anna' / 'settings.json').write_text('[broken')
  assert here.get('/api/session').get_json()['settings'] is None


def test_the_place_of_the_page_is_kept(here):
  place = {'zoom': 2.5, 'window': [0, 100], 'name': 'é'}
  good(here.post('/api/cases/0/place', place))
  assert here.case()['place'] == place
  before = here.log.read_bytes()
  good(here.post('/api/cases/0/place', {}))
  assert here.log.read_bytes() == before
  (here.log.parent / 'place.json').write_text('[broken')
  assert here.case()['place'] is None


def test_after_a_restart_all_is_as_it_was(here):
  good(here.act('verdict', item=2, value='unsure', ms=5))
  good(here.act('add', ijk=[1, 2, 3]))
  items, labels = here.case()['items'], labels_of(here)
  assert here.desk.close() == []
  again = desk.Desk(here.desk.cases, here.root, 'anna')
  here.desk, here.app = again, app.make(again, here.guard)
  assert here.case()['items'] == items
  np.testing.assert_array_equal(labels_of(here), labels)
  assert here.case()['can_undo']


def reopened(local):
  """The same review after a restart of its server."""
  local.desk.close()
  local.desk = desk.Desk(local.desk.cases, local.root, 'anna')
  local.app = app.make(local.desk, local.guard)
  local.case()


def test_a_page_goes_on_after_a_restart(here):
  """Opening and closing are in the journal, but part nobody from it."""
  rev = good(here.act('verdict', item=2, value='unsure'))['rev']
  reopened(here)
  assert here.case()['rev'] > rev
  answer = good(here.act('verdict', rev=rev, item=1, value='accept'))
  assert answer['rev'] > rev + 1
  assert here.act('note', rev=rev, value='x').status_code == 409


def test_another_tab_is_noticed_also_after_a_restart(here):
  rev = good(here.act('verdict', item=2, value='unsure'))['rev']
  good(here.act('verdict', item=2, value='accept'))
  reopened(here)
  answer = here.act('verdict', rev=rev, item=2, value='reject')
  assert answer.status_code == 409
  assert here.case()['items'][1]['verdict'] == 'accept'


def test_a_removal_that_is_sent_twice_is_stale_and_not_wrong(here):
  """Its answer was lost: a page has to hear that it was done."""
  number = len(here.case()['items']) + 1
  new = {'ijk': [1, 1, 1], 'set': [0], 'tool': {'name': 'brush', 'mm': 1.5}}
  rev = good(here.act('add', **new))['rev']
  good(here.act('remove', item=number, rev=rev))
  assert here.act('remove', item=number, rev=rev).status_code == 409
  assert here.act('remove', item=number).status_code == 400


def test_looking_in_another_tab_is_no_conflict(here):
  rev = here.case()['rev']
  good(here.act('view', what='sweep', slices=3))
  good(here.act('verdict', rev=rev, item=1, value='accept'))


def test_while_closing_nothing_is_taken(here):
  here.case()
  here.desk.closing = True
  answer = here.act('verdict', rev=0, item=1, value='accept')
  assert answer.status_code == 503


# First reader and blinding.


def test_a_first_reader_sees_nothing_before_done(tmp_path):
  here = Local(tmp_path, mode='first-reader')
  case = here.case()
  assert case['hidden']
  assert case['items'] == []
  assert not labels_of(here).any()
  good(here.act('add', ijk=[1, 2, 3]))
  answer = good(here.act('done'))
  assert not answer['case']['hidden']
  assert len(here.case()['items']) == 7
  assert len(np.unique(labels_of(here))) > 6


def test_what_is_blind_is_in_no_answer(tmp_path):
  image, labels, _ = review_server.write_scan(tmp_path)
  table = 'index\tname\tlikelihood\tstatus\n'
  table += '1\tthe-name\t0.8125\tdefinite\n'
  (tmp_path / 'sub-01_dseg.tsv').write_text(table)
  found = sources.find(image, labels=labels)
  for blind, words in ((('score', 'id', 'model'), 0), ((), 3)):
    own = desk.Desk(
      found.cases, tmp_path / str(words), 'a', opening.Terms(blind=blind)
    )
    local = Local.__new__(Local)
    local.desk, local.app = own, app.make(own, guard.Guard(8123, token=TOKEN))
    text = local.get('/api/cases/0').get_data(as_text=True)
    text += local.act('verdict', item=1, value='accept').get_data(as_text=True)
    seen = [w for w in ('the-name', '0.8125', 'definite"') if w in text]
    assert len(seen) == words


# Many cases.


@pytest.fixture
def many(tmp_path):
  root = tmp_path / 'bids'
  small_cohorts.write_cohort(root, subjects=6)
  found = sources.find(root)
  local = Local.__new__(Local)
  local.desk = desk.Desk(found.cases, tmp_path / 'r', 'anna')
  local.app = app.make(local.desk, guard.Guard(8123, token=TOKEN))
  return local


def test_only_a_few_cases_are_kept_open(many):
  for number in range(6):
    many.case(number)
    good(many.act('verdict', case=number, item=1, value='accept'))
  assert len(many.desk._open) == desk.MOST_OPEN
  for number in range(6):
    assert many.case(number)['items'][0]['verdict'] == 'accept'
  assert many.desk.close() == []
  assert not many.desk._open


def test_the_next_case_is_read_ahead_and_nothing_is_written(many, monkeypatch):
  monkeypatch.setattr(app, '_NEXT_AFTER_S', 0.0)
  read = []
  real = desk.cases_lib.load
  monkeypatch.setattr(
    desk.cases_lib, 'load', lambda case: read.append(case.name) or real(case)
  )
  many.get('/api/cases/0/voxels/swi')
  end = time.monotonic() + 120
  while 1 not in many.desk._ready and time.monotonic() < end:
    time.sleep(0.01)
  assert read == ['sub-01', 'sub-02']
  assert not (many.desk.root / 'anna' / 'sub-02').exists()
  assert many.case(1)['name'] == 'sub-02'
  assert read == ['sub-01', 'sub-02']  # not read again
  assert not many.desk._ready


def test_cases_that_are_put_away_are_closed_once(many):
  for number in (0, 1, 2, 3, 0, 1, 2, 3):
    many.case(number)
  lines = journal.lines(many.desk.root / 'anna' / 'sub-01')
  events = [line['event'] for line in lines]
  assert events == ['open', 'close', 'open', 'close']


def test_many_threads_on_few_places(many):
  """No line is lost, and no two journals are on one file."""
  wrong, taken = [], []

  def read(seed):
    rng = np.random.default_rng(seed)
    for _ in range(15):
      number = int(rng.integers(6))
      answer = many.act('note', case=number, value=f'{seed}')
      if answer.status_code == 200:
        taken.append(number)
      elif answer.status_code != 409:
        wrong.append(answer.get_data())

  threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert wrong == []
  assert many.desk.close() == []
  noted = 0
  for number in range(6):
    name = many.desk.cases[number].name
    lines = journal.lines(many.desk.root / 'anna' / name)
    assert [line['rev'] for line in lines] == list(range(len(lines)))
    noted += sum(line['event'] == 'note' for line in lines)
  assert noted == len(taken) > 0


def test_a_slow_sequence_does_not_hold_up_verdicts(here, monkeypatch):
  here.case()
  begun, go_on = threading.Event(), threading.Event()
  real = desk.geometry.to_int16

  def slow(array):
    begun.set()
    assert go_on.wait(300)
    return real(array)

  with here.desk.use(0) as opened:
    opened.shown.clear()
  monkeypatch.setattr(desk.geometry, 'to_int16', slow)
  thread = threading.Thread(target=here.get, args=('/api/cases/0/voxels/swi',))
  thread.start()
  assert begun.wait(20)
  try:  # answered while the other one waits
    good(here.act('verdict', rev=0, item=1, value='accept'))
    assert thread.is_alive()
  finally:
    go_on.set()
    thread.join()


def test_a_case_that_cannot_be_read_is_a_sentence(many):
  case = many.desk.cases[1]
  case.image.write_bytes(b'gone')
  answer = many.get('/api/cases/1')
  assert answer.status_code == 422
  assert 'not a readable NIfTI' in answer.get_json()['error']
  assert len(many.case(0)['items']) == 3  # the others go on
  assert good(many.get('/api/session'))['cases'][1]['status'] == 'not started'


def test_a_damaged_journal_does_not_hide_the_other_cases(many):
  good(many.act('verdict', case=2, item=1, value='accept'))
  many.desk.close()
  path = many.desk.root / 'anna' / 'sub-03' / journal.EVENTS
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(lines[0] + b'{broken\n' + b''.join(lines[1:]))
  (path.parent / journal.STATE).unlink()
  many.desk.closing = False
  rows = good(many.get('/api/session'))['cases']
  assert [row['problem'] is None for row in rows] == [
    True, True, False, True, True, True,
  ]  # fmt: skip
  assert rows[2]['status'] == 'flagged'
  assert many.get('/api/cases/2').status_code == 422


@pytest.mark.parametrize('cell', [b'\xff', b'x' * 140_000])
def test_one_spoilt_table_does_not_stop_the_others(tmp_path, cell):
  image, labels, _ = review_server.write_scan(tmp_path)
  (tmp_path / 'sub-01_dseg.tsv').write_bytes(b'index\tname\n1\t%s\n' % cell)
  found = sources.find(image, labels=labels)
  own = desk.Desk(found.cases, tmp_path / 'r', 'anna')
  (row,) = own.session()['cases']
  assert 'sub-01_dseg.tsv: ' in row['problem']
  assert 'cannot be read' in row['problem']
  assert (row['status'], row['items']) == ('flagged', None)
  assert own.start == 0


def test_a_first_reader_is_not_told_how_many_there_are(tmp_path):
  image, labels, _ = review_server.write_scan(tmp_path)
  table = 'index\tname\n1\ta\n2\tb\n'
  (tmp_path / 'sub-01_dseg.tsv').write_text(table)
  found = sources.find(image, labels=labels)
  for mode, count in (('first-reader', None), ('second-reader', 2)):
    options = opening.Terms(mode=mode)
    own = desk.Desk(found.cases, tmp_path / 'r', 'anna', options)
    assert own.session()['cases'][0]['items'] == count


def test_an_image_that_changed_is_refused(here):
  good(here.act('verdict', item=1, value='accept'))
  here.desk.close()
  path = here.desk.cases[0].image
  small_cohorts.save(path, here.phantom.swi + 1, here.phantom.affine)
  again = desk.Desk(here.desk.cases, here.root, 'anna')
  here.desk, here.app = again, app.make(again, here.guard)
  answer = here.get('/api/cases/0')
  assert answer.status_code == 422
  assert 'image' in answer.get_json()['error']


# A disk that is full.


@pytest.fixture
def full(monkeypatch):
  """Every write to a file fails as on a full disk, until told otherwise."""
  state = {'full': True}

  def maybe(real):
    def call(*arguments):
      if state['full']:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      return real(*arguments)

    return call

  monkeypatch.setattr(journal.os, 'write', maybe(os.write))
  return state


def test_a_full_disk_changes_nothing_and_says_so(here, full):
  full['full'] = False
  good(here.act('verdict', item=1, value='accept'))
  items, labels = here.case()['items'], labels_of(here)
  before = here.log.read_bytes()
  full['full'] = True
  for event, fields in (
    ('verdict', {'item': 2, 'value': 'reject'}),
    ('add', {'ijk': [1, 2, 3]}),
    ('undo', {}),
  ):
    answer = here.act(event, **fields)
    assert answer.status_code == 507
    assert 'space' in answer.get_json()['error']
  assert here.log.read_bytes() == before
  assert here.case()['items'] == items
  np.testing.assert_array_equal(labels_of(here), labels)
  full['full'] = False
  good(here.act('verdict', item=2, value='reject'))


def test_a_full_disk_while_saving(here, monkeypatch):
  good(here.act('verdict', item=1, value='accept'))

  def fails(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(files.os, 'replace', fails)
  answer = here.post('/api/cases/0/save', {})
  assert answer.status_code == 507
  assert 'space' in answer.get_json()['error']
  assert here.case()['items'][0]['verdict'] == 'accept'
