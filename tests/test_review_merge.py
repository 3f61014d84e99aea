"""Merging reviews: places, outcomes, adjudication, the same bytes again."""

import csv
import dataclasses
import itertools

import numpy as np
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.review.log import composed, folders, journal
from cmbjax.review.readers import adjudication, merge, places
from tests import readings
from tests.messages import says

NEW = (6, 15, 3)  # voxels; far from all candidates
FAR = (20, 4, 9)


def contents(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.name != folders.LOCK
  }


def two_readers(root, **how):
  """They differ on lesion-002 and on what only b added."""
  a = [readings.added(NEW)]
  b = [readings.added((7, 15, 3)), readings.added(FAR)]
  readings.read(root, 'a', ['accept', 'accept', 'reject'], extra=a, **how)
  readings.read(root, 'b', ['accept', 'reject', 'reject'], extra=b, **how)


def merged(root, *raters, case='sub-01', **how):
  folder = merge.run_merge(root, raters or ('a', 'b'), **how)
  return journal.read(folder / case)


def said(record):
  """Name or place of all items to verdict."""
  return {
    item.id or tuple(item.ijk): item.verdict
    for item in record.items.values()
    if item.present
  }


def rows(folder):
  head, *lines = (folder / 'disagreements.tsv').read_text().splitlines()
  return [dict(zip(head.split('\t'), line.split('\t'))) for line in lines]


def number(record, name):
  return next(i.number for i in record.items.values() if i.id == name)


def decide(root, name, verdicts, *, extra=(), case='sub-01'):
  """The adjudicator's session: verdicts by name of the item."""
  folder = folders.folder_of(root, name, case)
  record = journal.read(folder)
  begun = record.header | {'prepared': 0}
  actions = [
    readings.verdict(number(record, key), value)
    for key, value in verdicts.items()
  ]
  composed.write(folder, begun, [*actions, *extra, readings.done()])


def test_agreed_items_and_disagreements(tmp_path):
  two_readers(tmp_path)
  record = merged(tmp_path)
  found = said(record)
  assert found['lesion-001'] == 'accept'
  assert found['lesion-002'] is None
  assert found['lesion-003'] == 'reject'
  assert list(found.values()).count('accept') == 2  # and the joint addition
  assert record.status == 'in progress'
  folder = tmp_path / 'merge_a_b'
  lines = rows(folder)
  assert [line['place'] for line in lines] == ['lesion-002', 'added-b-005']
  assert [line['said_by_a'] for line in lines] == ['accept', 'not marked']
  assert [line['said_by_b'] for line in lines] == ['reject', 'accept']
  assert merge.describe(folder)[0] == 'a and b agree on 3 places in 1 scans.'


def test_again_and_in_any_order_it_is_the_same_bytes(tmp_path):
  two_readers(tmp_path)
  readings.read(
    tmp_path, 'c', ['accept'] * 3, extra=[readings.added((6, 16, 3))]
  )
  before = {name: contents(tmp_path / name) for name in 'abc'}
  seen = []
  for order in itertools.permutations('abc'):
    folder = merge.run_merge(tmp_path, order)
    seen.append(contents(folder))
  assert folder.name == 'merge_a_b_c'
  assert all(one == seen[0] for one in seen)
  assert {name: contents(tmp_path / name) for name in 'abc'} == before


def test_outlines_that_both_drew_are_what_both_drew(tmp_path):
  own = np.sort(readings.cube(readings.CENTRES[0]))
  for rater, gone in (('a', own[:2]), ('b', own[1:3])):
    erase = readings.action('edit', 1, set=[], clear=gone)
    readings.read(tmp_path, rater, [None] * 3, extra=[
      erase, *(readings.verdict(n, 'accept') for n in (1, 2, 3))
    ])  # fmt: skip
  record = merged(tmp_path)
  assert (
    record.voxels(number(record, 'lesion-001')).tolist() == own[3:].tolist()
  )
  assert record.status == 'completed'


def test_an_outline_may_take_the_voxels_of_what_both_rejected(tmp_path):
  near = [(4, 4, 3), (8, 4, 3)]
  some = readings.candidates(near, (0.9, 0.8))
  other = np.sort(readings.cube(near[1]))
  for rater in 'ab':
    readings.read(tmp_path, rater, [], some=some, extra=[
      readings.verdict(2, 'reject'),
      readings.action('edit', 1, set=other, clear=[]),
      readings.verdict(1, 'accept'),
    ])  # fmt: skip
  record = merged(tmp_path)
  assert set(other) <= set(record.voxels(number(record, 'lesion-001')))


def test_what_one_has_not_read_is_no_disagreement(tmp_path):
  readings.read(tmp_path, 'a', ['accept'] * 3, extra=[readings.added(NEW)])
  readings.read(tmp_path, 'b', ['accept', None, 'reject'], finish=False)
  folder = merge.run_merge(tmp_path, 'ab')
  case = merge.files.read_json(folder / 'merge.json')['cases']['sub-01']
  assert case == {
    'agreed': 1,
    'adjudicated': 0,
    'disagreed': 1,
    'pending': 2,
    'not_completed_by': ['b'],
  }


def test_both_unsure_is_agreement_and_one_unsure_is_not(tmp_path):
  readings.read(tmp_path, 'a', ['unsure', 'unsure', 'reject'])
  readings.read(tmp_path, 'b', ['unsure', 'accept', 'reject'])
  found = said(merged(tmp_path))
  assert found['lesion-001'] == 'unsure'
  assert found['lesion-002'] is None


@pytest.mark.parametrize(
  ('second', 'same'), [((11, 15, 3), True), ((12, 15, 3), False)]
)
def test_additions_are_one_place_up_to_five_mm(tmp_path, second, same):
  """Voxels of 1 mm: the centres lie 5 and 6 mm apart."""
  readings.read(tmp_path, 'a', ['accept'] * 3, extra=[readings.added(NEW)])
  readings.read(tmp_path, 'b', ['accept'] * 3, extra=[readings.added(second)])
  merge.run_merge(tmp_path, 'ab')
  assert len(rows(tmp_path / 'merge_a_b')) == (0 if same else 2)


def test_far_centres_match_when_outlines_overlap(tmp_path):
  long = readings.VIEW.index_of(np.array([[x, 18, 1] for x in range(2, 20)]))
  short = readings.VIEW.index_of(np.array([[2, 18, 1], [3, 18, 1]]))
  for rater, at, voxels in (('a', (10, 18, 1), long), ('b', (2, 18, 1), short)):
    new = readings.added(at, voxels=voxels)
    readings.read(tmp_path, rater, ['accept'] * 3, extra=[new])
  record = merged(tmp_path)
  assert rows(tmp_path / 'merge_a_b') == []
  assert record.voxels(4).tolist() == short.tolist()


def mark(rater, mm, voxels=(), item=1):
  made = places.Item(item, places.MODEL, (0, 0, 0))
  return places.Mark(rater, made, mm, np.array(voxels, np.int64))


def test_assignment_is_of_all_pairs_not_greedy():
  """b2 is nearest to a1; taking it first would leave a2 alone."""
  a = [mark('a', (0, 0, 0)), mark('a', (4, 0, 0))]
  b = [mark('b', (-4, 0, 0)), mark('b', (1, 0, 0))]
  assert places.assign(a, b, matching_mm=5) == [(0, 0), (1, 1)]
  assert places.assign(b, a, matching_mm=5) == [(0, 0), (1, 1)]
  assert places.assign(a, [], matching_mm=5) == []


def test_an_addition_at_an_unread_candidate_is_its_reader_s_mark(tmp_path):
  """Only where that reader left the candidate alone."""
  x, y, z = readings.CENTRES[1]
  beside = readings.added((x, y + 3, z))
  readings.read(tmp_path, 'a', ['accept', None, 'reject'], extra=[beside])
  readings.read(tmp_path, 'b', ['accept', 'accept', 'reject'])
  assert said(merged(tmp_path))['lesion-002'] == 'accept'
  assert rows(tmp_path / 'merge_a_b') == []


def test_adjudicator_sees_disagreements_only_and_no_verdicts(tmp_path):
  two_readers(tmp_path)
  merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  record = journal.read(tmp_path / 'carl' / 'sub-01')
  assert set(said(record)) == {'lesion-002', 'added-b-005'}
  assert set(said(record).values()) == {None}
  assert [item.comment for item in record.items.values()] == ['', '']
  assert record.header['adjudicates'] == ['a', 'b']
  assert (tmp_path / 'carl' / adjudication.NOTE).is_file()
  fresh = record.voxels(number(record, 'added-b-005'))
  assert fresh.tolist() == np.sort(readings.cube(FAR)).tolist()


def test_verdicts_are_shown_when_asked(tmp_path):
  two_readers(tmp_path)
  merge.run_merge(tmp_path, 'ab', adjudicate='carl', show_verdicts=True)
  record = journal.read(tmp_path / 'carl' / 'sub-01')
  found = {item.id: item.comment for item in record.items.values()}
  assert found == {
    'lesion-002': 'a: accept; b: reject',
    'added-b-005': 'a: not marked; b: accept',
  }


def test_adjudication_gives_the_consensus(tmp_path):
  two_readers(tmp_path)
  merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  own = readings.added((20, 16, 1))
  decide(
    tmp_path,
    'carl',
    {'lesion-002': 'accept', 'added-b-005': 'reject'},
    extra=[own],
  )
  mine = contents(tmp_path / 'carl')
  record = merged(tmp_path, adjudicate='carl')
  found = said(record)
  assert found['lesion-002'] == 'accept'
  assert found[20, 16, 1] == 'accept'
  assert FAR not in found  # what the adjudicator rejected is not added
  assert record.status == 'completed'
  assert contents(tmp_path / 'carl') == mine
  folder = tmp_path / 'merge_a_b-carl'
  once = contents(folder)
  merge.run_merge(tmp_path, 'ba', adjudicate='carl')
  assert contents(folder) == once
  outcomes = {row['place']: row['outcome'] for row in rows(folder)}
  assert outcomes['lesion-002'] == outcomes['added-b-005'] == 'adjudicated'


def test_a_merge_is_as_old_as_the_last_word(tmp_path):
  two_readers(tmp_path)
  merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  late = '2031-01-02T09:00:00.000+00:00'
  last = readings.done() | {'time': late}
  decide(tmp_path, 'carl', {'lesion-002': 'accept'}, extra=[last])
  assert merged(tmp_path, adjudicate='carl').header['time'] == late
  assert merged(tmp_path).header['time'] < late
  assert merged(tmp_path).header['simulated'] is True  # as theirs are


def test_an_addition_without_a_verdict_is_said_to_be_open(tmp_path):
  two_readers(tmp_path)
  merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  back = readings.verdict(composed.LAST, None)
  decide(
    tmp_path,
    'carl',
    {'lesion-002': 'accept', 'added-b-005': 'reject'},
    extra=[readings.added((20, 16, 1)), back],
  )
  folder = merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  told = merge.describe(folder)
  assert 'carl has decided 2 more.' in told
  assert '1 are open: carl decides with --rater carl.' in told
  (row,) = [r for r in rows(folder) if r['outcome'] == 'disagreed']
  assert row['place'].startswith('added-carl-')


def test_an_untouched_adjudication_follows_a_touched_one_stays(tmp_path):
  two_readers(tmp_path)
  merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  readings.read(tmp_path, 'b', ['reject', 'reject', 'reject'])
  merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  record = journal.read(tmp_path / 'carl' / 'sub-01')
  assert set(said(record)) == {'lesion-001', 'lesion-002', 'added-a-004'}
  decide(tmp_path, 'carl', {'lesion-001': 'accept'})
  readings.read(tmp_path, 'b', ['accept', 'accept', 'accept'])
  merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  assert said(journal.read(tmp_path / 'carl' / 'sub-01'))['lesion-001']
  left = {
    row['place']: row['outcome'] for row in rows(tmp_path / 'merge_a_b-carl')
  }
  # lesion-003 is new since; what they agree on now is out.
  assert left == {'lesion-003': 'disagreed', 'added-a-004': 'disagreed'}


def test_a_scan_without_disagreement_is_completed_for_the_adjudicator(tmp_path):
  for rater in 'ab':
    readings.read(tmp_path, rater, ['accept'] * 3)
  merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  record = journal.read(tmp_path / 'carl' / 'sub-01')
  assert record.items == {}
  assert record.status == 'completed'


def test_certainty_region_and_comments_are_merged(tmp_path):
  for rater, sure, text in (('a', 'definite', ''), ('b', 'possible', 'faint')):
    readings.read(tmp_path, rater, ['accept'] * 3, extra=[
      readings.action('certainty', 1, value=sure),
      readings.action('region', 1, value='deep'),
      *([readings.action('comment', 1, value=text)] if text else []),
    ])  # fmt: skip
  record = merged(tmp_path)
  item = record.items[number(record, 'lesion-001')]
  assert (item.certainty, item.region, item.comment) == (
    'possible',
    'deep',
    'b: faint',
  )


def test_hidden_repeats_take_no_part(tmp_path):
  for rater in 'ab':
    readings.read(tmp_path, rater, [], extra=[
      readings.verdict(n, 'accept')
      for n in sorted(
        row['item'] for row in readings.header(rater, repeat=50)['items']
      )
    ], repeat=50)  # fmt: skip
  found = merged(tmp_path)
  assert len(found.items) == 3
  assert set(said(found).values()) == {'accept'}


@pytest.mark.parametrize(
  ('raters', 'how', 'error'),
  [
    (['a'], {}, InputError),
    (['a', 'a'], {}, InputError),
    (['a', 'x'], {}, NoInputError),
    (['a', 'b'], {'adjudicate': 'b'}, InputError),
    (['a', '??'], {}, InputError),
  ],
)
def test_names_that_do_not_fit(tmp_path, raters, how, error):
  two_readers(tmp_path)
  with says(error) as found:
    merge.run_merge(tmp_path, raters, **how)
  assert '\n' not in str(found.value)


def test_an_adjudicator_with_other_work_is_refused(tmp_path):
  two_readers(tmp_path)
  readings.read(tmp_path, 'c', ['accept'] * 3)
  with says(InputError):
    merge.run_merge(tmp_path, 'ab', adjudicate='c')
  merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  with says(InputError):
    merge.run_merge(tmp_path, 'ac', adjudicate='carl')


def test_other_candidates_or_images_are_refused(tmp_path):
  readings.read(tmp_path, 'a', ['accept'] * 3)
  readings.read(tmp_path, 'b', ['accept'], some=readings.candidates()[:1])
  with says(InputError):
    merge.run_merge(tmp_path, 'ab')
  other = readings.header('d') | {'image_sha256': 'ff' * 32}
  composed.write(tmp_path / 'd' / 'sub-01', other, [readings.done()])
  with says(InputError):
    merge.run_merge(tmp_path, 'ad')


def test_other_candidates_of_the_same_names_are_refused(tmp_path):
  """As after another detection; they share nothing but the numbers."""
  readings.read(tmp_path, 'a', ['accept'] * 3)
  moved = readings.candidates([NEW, *readings.CENTRES[1:]])
  readings.read(tmp_path, 'b', ['accept'] * 3, some=moved)
  drawn = readings.candidates()
  drawn[0] = dataclasses.replace(drawn[0], voxels=drawn[0].voxels[:4])
  readings.read(tmp_path, 'c', ['accept'] * 3, some=drawn)
  for pair in ('ab', 'ac'):
    with says(InputError):
      merge.run_merge(tmp_path, pair)
  how = {'order': 'random', 'seed': 3, 'blind': ('mask',), 'repeat': 50}
  readings.read(tmp_path, 'd', ['accept'] * 3, **how)
  merge.run_merge(tmp_path, 'ad')  # what was shown first does not matter


def test_comments_with_quotes_keep_the_rows_apart():
  said = ['"vessel, surely', 'plain "quoted" text', '"whole"', '', '"']
  rows = [{'index': n, 'comment': text} for n, text in enumerate(said)]
  text = merge.tsv(['comment', 'index'], rows)
  read = list(csv.reader(text.splitlines(), delimiter='\t'))[1:]
  wanted = [[text or 'n/a', str(n)] for n, text in enumerate(said)]
  assert read == wanted


def test_long_comments_of_all_readers_do_not_stop_a_merge(tmp_path):
  long = [readings.action('comment', 1, value='x' * 10_000)]
  for name in 'ab':
    readings.read(tmp_path, name, ['accept'] * 3, extra=long)
  record = merged(tmp_path)
  text = record.items[number(record, 'lesion-001')].comment
  assert len(text) == 10_000
  assert text.startswith('a: xxx')
  assert text.endswith('x ...')


def test_a_merge_that_was_stopped_can_be_run_again(tmp_path, monkeypatch):
  two_readers(tmp_path)
  with monkeypatch.context() as broken:
    broken.delattr(adjudication, 'write_note')
    with pytest.raises(AttributeError):
      merge.run_merge(tmp_path, 'ab', adjudicate='carl')
  assert (tmp_path / 'carl' / 'sub-01' / journal.EVENTS).is_file()
  decide(tmp_path, 'carl', {'lesion-002': 'accept', 'added-b-005': 'reject'})
  readings.read(tmp_path, 'c', ['accept'] * 3)
  with says(InputError):
    merge.run_merge(tmp_path, 'ac', adjudicate='carl')
  record = merged(tmp_path, adjudicate='carl')
  assert said(record)['lesion-002'] == 'accept'
  assert record.status == 'completed'


def test_no_scan_in_common(tmp_path):
  readings.read(tmp_path, 'a', ['accept'] * 3)
  readings.read(tmp_path, 'b', ['accept'] * 3, case='sub-02')
  with says(NoInputError):
    merge.run_merge(tmp_path, 'ab')


def test_the_outline_of_two_that_share_nothing_is_either():
  a, b = mark('a', (0, 0, 0), [1, 2]), mark('b', (0, 0, 0), [5])
  assert places.outline([a, b]).tolist() == [1, 2, 5]
  c = mark('c', (0, 0, 0), [2, 5])
  assert places.outline([a, b, c]).tolist() == [2, 5]
  assert places.outline([mark('a', (0, 0, 0))]).size == 0
