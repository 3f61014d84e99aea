"""What was acknowledged is on the disk, whatever happens."""

import dataclasses
import errno
import json
import multiprocessing
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.review.log import folders, journal, lines, reader_mask
from cmbjax.review.log.journal import DiskFull, Journal
from cmbjax.review.log.record import Stale
from tests import mounted
from tests import review_records as reviews
from tests.messages import says

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
  return tmp_path / 'anna' / 'sub-01'


def accept(item=1, **more):
  return {'event': 'verdict', 'item': item, 'value': 'accept'} | more


def raw(folder):
  return (folder / journal.EVENTS).read_bytes()


# From the log to the state.


@pytest.mark.parametrize('seed', range(6))
def test_state_from_the_log_is_the_live_state(folder, seed):
  rng = np.random.default_rng(seed)
  kept = Journal.open(folder, reviews.header(5, repeat=20))
  assert reviews.act(rng, kept, 60) > 15
  if seed % 2:  # a second session
    kept.close()
    kept = Journal.open(folder, reviews.header(5))
    reviews.act(rng, kept, 30)
  kept.save()
  again = journal.read(folder)
  assert again.snapshot() == kept.record.snapshot()
  np.testing.assert_array_equal(again.labels(), kept.record.labels())
  # The snapshot is a cache of just that.
  cached = json.loads((folder / journal.STATE).read_text())
  assert cached == json.loads(json.dumps(again.state()))
  assert journal.summary(folder) == again.case_json()
  kept.close()
  (folder / journal.STATE).unlink()
  assert journal.summary(folder) == journal.read(folder).case_json()


def test_lines_tell_who_when_and_what(folder):
  kept = Journal.open(folder, reviews.header())
  kept.apply(accept(2, ms=812))
  kept.apply(
    {
      'event': 'edit',
      'item': 2,
      'set': [0, 1, 2, 7],
      'tool': {'name': 'brush', 'mm': 3},
    }
  )
  kept.close()
  first, verdict, edit, close = journal.lines(folder)
  assert first['rater'] == 'anna'
  assert first['schema'] == 'cmbjax-review-1'
  assert len(first['items']) == 3
  assert first['host'] == socket.gethostname()
  assert verdict['ms'] == 812
  assert verdict['old']['verdict'] is None
  assert verdict['new']['verdict'] == 'accept'
  assert edit['set'] == [[0, 3], [7, 1]]
  assert edit['tool'] == {'name': 'brush', 'mm': 3}
  assert len(edit['voxels_sha256']) == 16
  assert [line['rev'] for line in (first, verdict, edit, close)] == [0, 1, 2, 3]
  assert all(line['time'].endswith('+00:00') for line in (first, edit, close))


def test_a_second_session_says_so(folder):
  Journal.open(folder, reviews.header()).close()
  kept = Journal.open(folder, reviews.header(blind=['id']))
  line = journal.lines(folder)[-1]
  assert (line['event'], line['new']['blind']) == ('open', ['id'])
  assert kept.notices == ()
  kept.close()
  kept.close()
  with says(InputError):
    kept.apply(accept())


def test_until(folder):
  kept = Journal.open(folder, reviews.header(2, mode='first-reader'))
  kept.apply({'event': 'add', 'ijk': [6, 6, 7]})  # at no candidate
  kept.apply({'event': 'done'})
  kept.apply({'event': 'remove', 'item': 1})
  record = journal.read(folder)
  unaided = journal.read(folder, until=record.done_rev - 1)
  assert [item.number for item in unaided.shown()] == [1]
  assert [item.number for item in record.shown()] == [1001, 1002]
  kept.close()


def test_what_was_found_unaided_can_be_read_again(folder):
  kept = Journal.open(folder, reviews.header(2, mode='first-reader'))
  place = reviews.candidates(2)[0].ijk
  mine = reviews.box(place, place)
  kept.apply({'event': 'add', 'ijk': place, 'set': mine})
  kept.apply({'event': 'done'})
  kept.apply({'event': 'edit', 'item': 1001, 'clear': mine})
  kept.apply({'event': 'undo'})
  kept.save()
  kept.close()
  record = journal.read(folder)
  assert record.snapshot() == kept.record.snapshot()
  assert [item.number for item in record.shown()] == [1001, 1002]
  unaided = journal.read(folder, until=record.done_rev - 1)
  assert [item.number for item in unaided.shown()] == [1]
  np.testing.assert_array_equal(unaided.voxels(1), mine)
  table = (folder / 'sub-01_rater-anna_dseg.tsv').read_text().splitlines()
  assert len(table) == 3
  assert 'found unaided' in table[1]


def test_least_shows_what_is_likely(folder):
  kept = Journal.open(folder, reviews.header(3, least=0.3))  # .1, .37, .63
  assert kept.notices == (
    '1 candidates below 0.3 are not shown (--least); they stay without a '
    'verdict.',
  )
  record = kept.record
  assert [item.id for item in record.shown()] == ['lesion-002', 'lesion-003']
  assert [row['id'] for row in record.header['below']] == ['lesion-001']
  assert (
    not record.labels().ravel(order='F')[reviews.candidates(3)[0].voxels].any()
  )
  for number in (1, 2):
    kept.apply({'event': 'verdict', 'item': number, 'value': 'accept'})
  assert record.case_json()['first_unread'] is None
  kept.close()
  again = Journal.open(folder, reviews.header(3))
  assert '1 candidates' in again.notices[0]
  assert '--least 0.3, which stays; all is for new' in again.notices[1]
  again.close()


def test_least_and_first_readers(folder):
  header = reviews.header(3, least=0.3, mode='first-reader')
  kept = Journal.open(folder, header)
  assert kept.notices[0].startswith('Candidates below 0.3')  # no number
  kept.apply({'event': 'add', 'ijk': reviews.candidates(3)[0].ijk})
  kept.apply({'event': 'done'})
  kept.close()
  again = Journal.open(folder, header)
  assert again.notices[0].startswith('1 candidates below 0.3')
  again.close()


def test_least_by_status():
  some = reviews.candidates(3)
  some[0] = dataclasses.replace(some[0], status='possible')
  some[1] = dataclasses.replace(some[1], status=None, score=None)
  rest = {k: reviews.header(0)[k] for k in ('grid', 'rater', 'case', 'source')}
  rest['image_sha256'] = ''
  for least, count in (('definite', 2), (0.0, 3), (0.99, 1), (None, 3)):
    header = reviews.new_header(some, terms=reviews.Terms(least=least), **rest)
    assert len(header['items']) == count
    assert len(header['below']) == 3 - count
    record = reviews.ReviewRecord(header)
    assert max(reader_mask.indices(record).values()) <= 3
    record.apply({'event': 'add', 'ijk': [6, 6, 5]})
    assert max(reader_mask.indices(record).values()) == 4


def test_how_it_was_begun_stays(folder):
  header = reviews.header(4, order='random', seed=5, blind=['mask'])
  Journal.open(folder, header).close()
  kept = Journal.open(folder, reviews.header(4, order='likelihood', repeat=10))
  assert len(kept.notices) == 4
  text = ' '.join(kept.notices)
  assert '--order random, which stays; likelihood' in text
  assert '--seed 5' in text
  assert '--repeat 0' in text
  assert 'masks hidden, which stays' in text
  ids = [item.id for item in kept.record.shown()]
  assert ids == [row['id'] for row in header['items']]
  kept.close()


def test_stale_and_odd_revisions(folder):
  kept = Journal.open(folder, reviews.header())
  kept.apply(accept(1, rev=0))
  before = raw(folder)
  with pytest.raises(Stale) as caught:
    kept.apply(accept(2, rev=0))
  assert caught.value.rev == 1
  for odd in ('1', 1.0, True, -1, 10**30):
    with says(InputError):
      kept.apply(accept(2, rev=odd))
  assert raw(folder) == before
  kept.close()


def test_two_tabs_at_once(folder):
  """Of requests based on one revision exactly one is taken."""
  kept = Journal.open(folder, reviews.header())
  outcome = []

  def tab(name):
    for _ in range(10):
      rev = kept.record.rev
      try:
        kept.apply({'event': 'note', 'value': f'{name} {rev}', 'rev': rev})
        outcome.append(rev)
      except Stale:
        continue

  tabs = [threading.Thread(target=tab, args=(n,)) for n in range(4)]
  for one in tabs:
    one.start()
  for one in tabs:
    one.join()
  assert sorted(outcome) == list(range(len(outcome)))
  assert journal.read(folder).snapshot() == kept.record.snapshot()
  kept.close()


# Killed, cut, damaged.


def test_a_hundred_kills_lose_nothing():
  """kill -9 at random moments; only what was not acknowledged may go."""
  memory = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None  # quick
  with tempfile.TemporaryDirectory(dir=memory) as root:
    run = subprocess.run(
      [sys.executable, '-m', 'tests.review_records', root, '100'],
      capture_output=True,
      text=True,
      timeout=300,
      cwd=ROOT,
      check=False,
    )
  assert run.returncode == 0, run.stderr
  kills, acknowledged, unconfirmed = map(int, run.stdout.split())
  assert kills == 100
  assert acknowledged > 300
  assert 0 <= unconfirmed <= kills  # at most the one that was on its way


def test_cut_anywhere_in_the_last_line(folder):
  kept = Journal.open(folder, reviews.header(1))
  kept.apply(accept())
  size = len(raw(folder))
  kept.apply({'event': 'comment', 'item': 1, 'value': 'π – one voxel'})
  whole = raw(folder)
  kept._file.closed = True  # killed: it never says so
  for end in range(size, len(whole)):
    (folder / journal.EVENTS).write_bytes(whole[:end])
    assert journal.read(folder).rev == 1
  again = Journal.open(folder, reviews.header(1))
  assert 'never confirmed' in again.notices[0]
  again.apply(accept(1, value='unsure'))
  again.close()
  found = journal.read(folder)
  assert found.items[1].verdict == 'unsure'
  assert [line['rev'] for line in journal.lines(folder)] == [0, 1, 2, 3, 4]


def test_zeros_after_a_power_cut_are_dropped(folder):
  Journal.open(folder, reviews.header(1)).close()
  whole = raw(folder)
  (folder / journal.EVENTS).write_bytes(whole + b'\0' * 4096)
  kept = Journal.open(folder, reviews.header(1))
  kept.apply(accept())
  assert b'\0' not in raw(folder)
  kept.close()


@pytest.mark.parametrize('length', [0, 1, 100])
def test_a_journal_that_was_hardly_begun_is_begun_again(folder, length):
  Journal.open(folder, reviews.header(1)).close()
  (folder / journal.EVENTS).write_bytes(raw(folder)[:length])
  with says(NoInputError):
    journal.read(folder)
  assert journal.summary(folder) is None
  kept = Journal.open(folder, reviews.header(1))
  assert kept.record.rev == 0
  kept.close()


def spoil(text, number, change):
  lines = text.decode().splitlines()
  lines[number - 1] = change(lines[number - 1])
  return ('\n'.join(lines) + '\n').encode()


def without_key(key):
  def change(line):
    known = json.loads(line)
    known.pop(key)
    return json.dumps(known)

  return change


@pytest.mark.parametrize(
  'change',
  [
    lambda line: line[: len(line) // 2],
    lambda line: '',
    lambda line: '\0' * len(line),
    lambda line: '[1, 2]',
    lambda line: '5',
    lambda line: line + line,
    lambda line: line.replace('"rev":2', '"rev":9'),
    lambda line: line.replace('"item":1', '"item":9'),
    lambda line: line.replace('"edit"', '"dance"'),
    lambda line: line.replace('[[0,3]]', '[[0,4]]'),
    lambda line: line.replace('[[0,3]]', '[[959,3]]'),
    lambda line: line.replace('[[0,3]]', '{}').replace('"set"', '"clear"'),
    lambda line: line.replace('[[0,3]]', '5'),
    lambda line: line.replace('"time":"2', '"time":"1'),  # any letter
    without_key('rev'),
    without_key('item'),
    without_key('set'),
    without_key('event'),
  ],
)
def test_a_damaged_line_in_the_middle_is_named(folder, change):
  kept = Journal.open(folder, reviews.header(1))
  kept.apply({'event': 'note', 'value': 'x'})
  kept.apply({'event': 'edit', 'item': 1, 'set': [0, 1, 2]})
  kept.apply({'event': 'note', 'value': 'y'})
  kept.close()
  text = spoil(raw(folder), 3, change)
  (folder / journal.EVENTS).write_bytes(text)
  for reading in (
    lambda: journal.read(folder),
    lambda: Journal.open(folder, reviews.header(1)),
  ):
    with says(InputError, 'events.jsonl'):
      reading()
  assert raw(folder) == text


@pytest.mark.parametrize(
  'change',
  [
    lambda line: '{}',
    lambda line: line.replace('cmbjax-review-1', 'cmbjax-review-2'),
    without_key('grid'),
    without_key('items'),
    without_key('mode'),
  ],
)
def test_a_damaged_first_line_is_named(folder, change):
  Journal.open(folder, reviews.header(1)).close()
  (folder / journal.EVENTS).write_bytes(spoil(raw(folder), 1, change))
  with says(InputError):
    journal.read(folder)


def test_a_journal_without_seals_is_of_another_version(folder):
  Journal.open(folder, reviews.header(1)).close()
  path = folder / journal.EVENTS
  found = [json.loads(line) for line in raw(folder).splitlines()]
  path.write_text(
    ''.join(
      json.dumps({k: one[k] for k in one if k != 'seal'}) + '\n'
      for one in found
    )
  )
  with says(InputError):
    journal.read(folder)


def test_snapshots_may_be_anything(folder):
  kept = Journal.open(folder, reviews.header(1))
  kept.apply(accept())
  kept.close()
  right = journal.summary(folder)
  for text in ('', '{', '[]', '{"case": 5}', '{"case": {"rev": 0}}', 'null'):
    (folder / journal.STATE).write_text(text)
    assert journal.summary(folder) == right
    assert journal.read(folder).case_json() == right


def test_a_snapshot_comes_every_20_events_and_with_a_status(folder):
  kept = Journal.open(folder, reviews.header(1))
  for n in range(19):
    kept.apply({'event': 'note', 'value': str(n)})
  assert not (folder / journal.STATE).exists()
  kept.apply({'event': 'note', 'value': 'twenty'})
  assert json.loads((folder / journal.STATE).read_text())['case']['rev'] == 20
  kept.apply({'event': 'status', 'value': 'completed'})
  cached = json.loads((folder / journal.STATE).read_text())
  assert cached['case']['status'] == 'completed'
  kept.close()
  # Long lines: the last revision is found without reading all.
  kept = Journal.open(folder, reviews.header(1))
  kept.apply({'event': 'note', 'value': 'x' * 9000})
  kept.apply({'event': 'note', 'value': 'y' * 10_000})
  assert lines.last(folder / journal.EVENTS)['rev'] == kept.record.rev
  kept.close()


def test_another_program_that_writes_is_found_out(folder):
  kept = Journal.open(folder, reviews.header(1))
  kept.apply(accept())
  with (folder / journal.EVENTS).open('ab') as other:
    other.write(b'{}\n')
  before = raw(folder)
  with says(InputError):
    kept.apply(accept(1, value='unsure'))
  assert kept.record.items[1].verdict == 'accept'
  assert raw(folder) == before


def test_a_file_that_was_exchanged_is_found_out(folder):
  """As an editor saves: our handle would write to a file without a name."""
  kept = Journal.open(folder, reviews.header(1))
  path = folder / journal.EVENTS
  (folder / 'copy').write_bytes(path.read_bytes())
  (folder / 'copy').rename(path)
  with says(InputError):
    kept.apply(accept())
  with says(InputError):
    kept.close()
  with says(InputError):
    kept.apply(accept())


def test_an_interrupt_never_writes_a_revision_twice(folder, monkeypatch):
  """Ctrl-C between the disk and the state, then an orderly end."""
  kept = Journal.open(folder, reviews.header(1))

  def interrupted(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(kept.record, 'fold', interrupted)
  with pytest.raises(KeyboardInterrupt):
    kept.apply(accept())
  monkeypatch.undo()
  with says(InputError):
    kept.apply(accept(1, value='unsure'))
  kept.close()
  again = Journal.open(folder, reviews.header(1))
  assert again.record.items[1].verdict == 'accept'
  assert [line['rev'] for line in journal.lines(folder)] == [0, 1, 2]
  again.close()


def test_the_live_header_is_that_of_the_file(folder):
  kept = Journal.open(folder, reviews.header(2))
  assert journal.lines(folder)[0] == json.loads(json.dumps(kept.record.header))
  kept.close()


def test_a_folder_that_is_deleted_meanwhile_is_found_out(folder):
  kept = Journal.open(folder, reviews.header(1))
  shutil.rmtree(folder)
  with says(InputError):
    kept.apply(accept())


# Full disks.


def assert_nothing_happened(kept, before, state):
  assert raw(kept.folder) == before
  assert kept.record.snapshot() == state
  assert journal.read(kept.folder).snapshot() == state


@pytest.mark.parametrize('code', ['ENOSPC', 'EDQUOT', 'EIO', 'EFBIG'])
@pytest.mark.parametrize('written', [0, 10])
def test_a_failing_write_changes_nothing(folder, monkeypatch, code, written):
  kept = Journal.open(folder, reviews.header(1))
  kept.apply(accept())
  before, state = raw(folder), kept.record.snapshot()
  write = os.write

  def failing(handle, data):
    if written and len(data) > written and failing.first:
      failing.first = False
      return write(handle, data[:written])
    raise OSError(getattr(errno, code), 'it is full')

  failing.first = True
  monkeypatch.setattr(os, 'write', failing)
  what = 'look after the disk' if code == 'EIO' else 'free some space'
  with says(DiskFull, f'{what}'):
    kept.apply({'event': 'edit', 'item': 1, 'set': [0, 1]})
  assert_nothing_happened(kept, before, state)
  monkeypatch.undo()
  kept.apply({'event': 'edit', 'item': 1, 'set': [0, 1]})
  assert journal.read(folder).snapshot() == kept.record.snapshot()
  kept.close()


def test_a_failing_sync_changes_nothing(folder, monkeypatch):
  kept = Journal.open(folder, reviews.header(1))
  before, state = raw(folder), kept.record.snapshot()

  def failing(handle):
    raise OSError(errno.EIO, 'bad disk')

  monkeypatch.setattr(os, 'fsync', failing)
  with says(DiskFull):
    kept.apply(accept())
  monkeypatch.undo()
  assert_nothing_happened(kept, before, state)
  kept.close()


def test_what_cannot_even_be_cut_back_is_cut_back_later(folder, monkeypatch):
  kept = Journal.open(folder, reviews.header(1))
  before, write = raw(folder), os.write

  def half(handle, data):
    write(handle, data[:20])
    raise OSError(errno.ENOSPC, 'it is full')

  def never(*_):
    raise OSError(errno.EIO, 'not now')

  monkeypatch.setattr(os, 'write', half)
  monkeypatch.setattr(os, 'ftruncate', never)
  for _ in range(2):
    with pytest.raises(DiskFull):
      kept.apply(accept())
  monkeypatch.undo()
  assert len(raw(folder)) == len(before) + 20
  assert journal.read(folder).rev == 0  # readers drop it, too
  kept.apply(accept())
  assert raw(folder)[: len(before)] == before
  assert journal.read(folder).snapshot() == kept.record.snapshot()
  kept.close()


_LIMITED = """
import resource, sys, pathlib
from cmbjax.review.log import journal
from tests import review_records as reviews
folder = pathlib.Path(sys.argv[1])
kept = journal.Journal.open(folder, reviews.header(1))
path = folder / journal.EVENTS
room = path.stat().st_size + 700
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
taken = 0
try:
  for n in range(100):
    kept.apply({'event': 'note', 'value': f'note {n}'})
    taken += 1
except journal.DiskFull:
  size = path.stat().st_size
limit = (resource.RLIM_INFINITY,) * 2
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
kept.apply({'event': 'note', 'value': 'room again'})
print(taken, size <= room, journal.read(folder).note, kept.record.rev)
"""


def test_a_real_limit(folder):
  """RLIMIT_FSIZE: the system writes a part of the line, then refuses."""
  run = subprocess.run(
    [sys.executable, '-c', _LIMITED, str(folder)],
    capture_output=True,
    text=True,
    timeout=60,
    cwd=ROOT,
    check=False,
  )
  assert run.returncode == 0, run.stderr
  taken, within, *note, rev = run.stdout.split()
  assert 2 < int(taken) < 20
  assert within == 'True'
  assert note == ['room', 'again']
  assert int(rev) == int(taken) + 1


@pytest.fixture
def small_disk(tmp_path):
  """A real file system of 64 kB, where we may mount one."""
  with mounted.mounted(tmp_path / 'disk', 'size=64k') as place:
    yield place


def test_a_disk_that_is_full(small_disk):
  folder = small_disk / 'anna' / 'sub-01'
  kept = Journal.open(folder, reviews.header(1))
  notes = ({'event': 'note', 'value': f'{n} ' * 300} for n in range(1000))
  with pytest.raises(DiskFull):
    any(kept.apply(note) is None for note in notes)
  state = kept.record.snapshot()
  assert journal.read(folder).snapshot() == state
  filler = small_disk / 'filler'
  filler.write_bytes(b'x' * (os.statvfs(small_disk).f_bavail * 4096))
  with pytest.raises(DiskFull):
    Journal.open(small_disk / 'anna' / 'sub-02', reviews.header(9))
  with says(InputError):
    kept.save()
  filler.unlink()
  for one in folder.glob(journal.STATE):
    one.unlink()
  kept.apply(accept())
  assert journal.read(folder).snapshot() == kept.record.snapshot()
  kept.close()


# Locks, names and modes.


def _hold(root, ready, end):
  with folders.hold(root, 'anna'):
    ready.set()
    end.wait(20)


def test_one_server_per_rater(tmp_path):
  context = multiprocessing.get_context('spawn')
  ready, end = context.Event(), context.Event()
  other = context.Process(target=_hold, args=(tmp_path, ready, end))
  other.start()
  try:
    assert ready.wait(30)
    # Its number and computer change, so they are in no table.
    with (
      pytest.raises(
        InputError, match=f'anna.* {other.pid} .*{socket.gethostname()}'
      ),
      folders.hold(tmp_path, 'anna'),
    ):
      pass
    with folders.hold(tmp_path, 'bert') as folder:
      assert folder == tmp_path / 'bert'
    # Others may read all the same.
    assert folders.readers(tmp_path) == []
  finally:
    other.kill()
    other.join()
  with folders.hold(tmp_path, 'anna') as folder:
    about = json.loads((folder / folders.LOCK).read_text())
  assert about == {'pid': os.getpid(), 'host': socket.gethostname()}


@pytest.mark.parametrize('text', ['', '{', '[]', '{"pid": "x"}', '\xff'])
def test_a_lock_that_says_nothing_still_holds(tmp_path, text):
  with folders.hold(tmp_path, 'anna') as folder:
    (folder / folders.LOCK).write_bytes(text.encode('latin-1'))
    with (
      says(InputError),
      folders.hold(tmp_path, 'anna'),
    ):
      pass


def test_a_disk_without_locks_says_so(tmp_path, monkeypatch):
  def never(*_):
    raise OSError(errno.ENOLCK, 'no locks available')

  monkeypatch.setattr('fcntl.flock', never)
  with (
    says(InputError),
    folders.hold(tmp_path, 'anna'),
  ):
    pass


def test_a_root_that_is_a_file(tmp_path):
  (tmp_path / 'x').write_text('')
  with (
    says(InputError),
    folders.hold(tmp_path / 'x', 'anna'),
  ):
    pass


@pytest.mark.parametrize(('mask', 'mode'), [(0o002, 0o664), (0o077, 0o600)])
def test_modes_follow_the_umask(folder, mask, mode):
  old = os.umask(mask)
  try:
    with folders.hold(folder.parents[1], 'anna'):
      kept = Journal.open(folder, reviews.header(1))
      kept.apply(accept())
      kept.save()
      kept.close()
  finally:
    os.umask(old)
  files = [path for path in folder.parent.rglob('*') if path.is_file()]
  assert len(files) == 5
  assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}
  directories = stat.S_IMODE(folder.stat().st_mode)
  assert directories == 0o777 & ~mask


def test_rater_labels():
  assert folders.rater_label('anna') == 'anna'
  assert folders.rater_label('Anna-Marie O.') == 'AnnaMarieO'
  assert folders.rater_label('../../etc') == 'etc'
  for name in ('', '..', 'ä', '/', 'Jörg', 'Jürg', 'Ørsted', 'anna²'):
    with says(InputError, '--rater'):
      folders.rater_label(name)


@pytest.mark.parametrize(
  'name', ['', '.', '..', '.lock', 'a/b', '../x', '/etc', 'a\0b', 'a\n', 'ä']
)
def test_names_do_not_lead_elsewhere(tmp_path, name):
  for names in ((name, 'sub-01'), ('anna', name)):
    with says(InputError):
      folders.folder_of(tmp_path, *names)


def test_who_has_reviewed_what(tmp_path):
  for rater, case in (('b', 'sub-02'), ('a', 'sub-01'), ('a', 'sub-01_ses-1')):
    folder = folders.folder_of(tmp_path, rater, case)
    Journal.open(folder, reviews.header(1, rater=rater, case=case)).close()
  (tmp_path / 'c').mkdir()
  (tmp_path / 'c' / '.lock').touch()
  assert folders.readers(tmp_path) == ['a', 'b']
  assert folders.cases(tmp_path, 'a') == ['sub-01', 'sub-01_ses-1']
  assert folders.cases(tmp_path, 'c') == []
  with says(NoInputError):
    journal.read(tmp_path / 'c' / 'sub-01')
  assert journal.summary(tmp_path / 'c' / 'sub-01') is None


# Another image, other labels.


def test_another_image_or_grid_is_refused(folder):
  kept = Journal.open(folder, reviews.header(1))
  kept.apply(accept())
  kept.close()
  before = raw(folder)
  moved = reviews.AFFINE.copy()
  moved[2, 3] += 5
  for changed in (
    {'image_sha256': 'c' * 64},
    {'grid': reviews.view(affine=moved).to_json()},
    {'case': 'sub-02'},
    {'rater': 'bert'},
  ):
    with says(InputError, '--reviews'):
      Journal.open(folder, reviews.header(1, **changed))
  smaller = reviews.header(0, grid=reviews.view((11, 10, 8)).to_json())
  with says(InputError):
    Journal.open(folder, smaller)
  assert raw(folder) == before


def test_labels_that_changed(folder):
  other = reviews.header(2, labels_sha256='d' * 64)
  kept = Journal.open(folder, reviews.header(1))
  kept.apply({'event': 'view', 'ms': 100})  # looked, said nothing
  kept.close()
  looked = raw(folder)
  kept = Journal.open(folder, other)  # so nothing is lost by beginning anew
  assert len(kept.record.shown()) == 2
  assert 'unread-1.jsonl' in kept.notices[0]
  assert (folder / 'unread-1.jsonl').read_bytes() == looked
  kept.apply(accept())
  kept.close()
  before = raw(folder)
  with says(InputError, '--reviews'):
    Journal.open(folder, reviews.header(1))
  assert raw(folder) == before
  again = Journal.open(folder, other)
  assert again.record.items[1].verdict == 'accept'
  again.close()


def test_no_jax():
  code = (
    'import sys; from cmbjax.review.log import journal; '
    'assert "jax" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)
