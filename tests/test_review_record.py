"""The state of a review is a fold over its lines, and undo loses nothing."""

import json
import time

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.review.log import items
from cmbjax.review.log.items import BLINDS, Candidate
from cmbjax.review.log.opening import new_header
from cmbjax.review.log.record import ReviewRecord
from tests import review_records as reviews
from tests.messages import says


def lines_of(state):
  """Collects the lines that a record takes in from now on, as JSON."""
  lines, fold = [], state.fold

  def listening(line, *rest):
    change = fold(line, *rest)
    lines.append(json.loads(json.dumps(line)))
    return change

  state.fold = listening
  return lines


def what_is(state):
  """The state without what undo leaves alone: revisions and times."""
  found = state.snapshot()
  rows = [row for row in found['items'] if row['present']]
  for row in rows:
    row['ms'] = None
    row['voxels'] = found['voxels'][str(row['number'])]
  return rows, state.note, state.labels().copy()


def assert_same(one, other):
  assert one[:2] == other[:2]
  np.testing.assert_array_equal(one[2], other[2])


# Undo, redo and rebuilding, for random readers.


@pytest.mark.parametrize('seed', range(30))
def test_undo_all_redo_all_and_rebuild(seed):
  rng = np.random.default_rng(seed)
  more = {'repeat': 40} if seed % 3 else {}
  state = reviews.record(int(rng.integers(0, 9)), **more)
  lines = lines_of(state)
  first = what_is(state)
  assert reviews.act(rng, state, 80) > 20
  state.apply({'event': 'note', 'value': 'the end'})  # nothing to redo
  last, spent = what_is(state), state.ms

  done = 0
  while state.undoable:
    state.apply({'event': 'undo'})
    done += 1
  assert done > 0
  assert_same(what_is(state), first)
  while state.redoable:
    state.apply({'event': 'redo'})
  assert_same(what_is(state), last)
  assert state.ms == spent  # time is never taken back

  again = ReviewRecord(json.loads(json.dumps(state.header)))
  for line in lines:
    again.fold(line)
  assert again.snapshot() == state.snapshot()
  np.testing.assert_array_equal(again.labels(), state.labels())


@pytest.mark.parametrize('seed', range(10))
def test_labels_and_items_agree(seed):
  rng = np.random.default_rng(seed)
  state = reviews.record(
    6, mode='first-reader' if seed % 2 else 'second-reader'
  )
  reviews.act(rng, state, 60)
  if state.hidden:
    state.apply({'event': 'done'})
    reviews.act(rng, state, 60)
  flat = state.labels().ravel(order='F')
  for item in state.items.values():
    own = np.flatnonzero(flat == item.number)
    np.testing.assert_array_equal(own, item.voxels)
    assert item.present or not own.size
  assert state.labels().flags.f_contiguous
  assert not state.labels().flags.writeable


@pytest.mark.parametrize('seed', range(10))
def test_what_the_page_is_told_keeps_it_right(seed):
  """A page that only applies the answers has the labels of the server."""
  rng = np.random.default_rng(seed)
  state = reviews.record(5)
  page = state.labels().ravel(order='F').copy()
  known = {item['item']: item for item in state.view_items()}
  for _ in range(80):
    action = reviews.random_action(rng, state)
    if action['event'] == 'edit':  # the page paints before it asks
      page[np.asarray(action.get('set', []), int)] = action['item']
      page[np.asarray(action.get('clear', []), int)] = 0
    try:
      answer = state.answer(state.apply(action))
    except InputError:
      page = state.labels().ravel(order='F').copy()  # it loads again
      continue
    for index, value in json.loads(json.dumps(answer['labels'])):
      page[index] = value
    for item in answer['items']:
      known[item['item']] = item
    for number in answer['removed']:
      known.pop(number)
    np.testing.assert_array_equal(page, state.labels().ravel(order='F'))
    now = {item['item']: item for item in state.view_items()}
    assert known == now
    assert answer['rev'] == state.rev


def test_a_new_action_ends_redo():
  state = reviews.record()
  state.apply({'event': 'verdict', 'item': 1, 'value': 'accept'})
  state.apply({'event': 'undo'})
  assert state.case_json()['can_redo']
  state.apply({'event': 'rating', 'item': 2, 'value': 7})
  assert not state.case_json()['can_redo']
  with says(InputError):
    state.apply({'event': 'redo'})


def test_an_action_without_effect_is_no_step_of_undo():
  state = reviews.record()
  state.apply({'event': 'rating', 'item': 1, 'value': 7})
  state.apply({'event': 'undo'})
  state.apply({'event': 'rating', 'item': 1, 'value': None, 'ms': 90})
  state.apply({'event': 'edit', 'item': 1, 'clear': [0]})
  assert state.case_json()['can_redo']
  assert not state.case_json()['can_undo']
  assert state.items[1].ms == 90
  state.apply({'event': 'redo'})
  assert state.items[1].rating == 7


def test_undo_leaves_time_alone():
  state = reviews.record()
  state.apply({'event': 'verdict', 'item': 1, 'value': 'accept', 'ms': 1234})
  state.apply({'event': 'view', 'item': 1, 'slices': 5, 'ms': 66.9})
  state.apply({'event': 'undo'})
  assert state.items[1].verdict is None
  assert state.items[1].ms == 1300
  assert state.ms == 1300
  assert state.views == {'sweep': {'slices': 5, 'ms': 66}}


# Verdicts and what belongs to them.


def test_a_verdict_brings_and_ends_its_details():
  state = reviews.record()
  item = state.items[1]

  def say(**action):
    state.apply({'event': 'verdict', 'item': 1} | action)
    return item.verdict, item.certainty, item.mimic

  assert say(value='accept', certainty='definite')[1] == 'definite'
  assert say(value='accept') == ('accept', 'definite', None)
  assert say(value='reject', mimic='vessel') == ('reject', None, 'vessel')
  assert say(value='reject', mimic='iron') == ('reject', None, 'iron')
  assert say(value='unsure') == ('unsure', None, None)
  assert say(value=None) == (None, None, None)
  for _ in range(2):
    state.apply({'event': 'undo'})
  assert (item.verdict, item.certainty, item.mimic) == ('reject', None, 'iron')


def test_status_and_counts():
  state = reviews.record()
  case = state.case_json()
  assert (case['status'], case['read'], case['items']) == ('not started', 0, 3)
  assert case['first_unread'] == 1
  state.apply({'event': 'view', 'ms': 10})
  assert state.status == 'not started'
  for number in (1, 2):
    state.apply({'event': 'verdict', 'item': number, 'value': 'unsure'})
  case = state.case_json()
  assert (case['status'], case['read']) == ('in progress', 2)
  assert case['first_unread'] == 3
  state.apply({'event': 'status', 'value': 'completed'})
  state.apply({'event': 'undo'})  # of the verdict: a status is not undone
  assert state.status == 'completed'
  assert state.items[2].verdict is None
  state.apply({'event': 'status', 'value': 'flagged'})
  assert state.case_json()['status'] == 'flagged'


# Outlines.


def test_a_voxel_keeps_its_owner():
  state = reviews.record(2)
  theirs, free = state.voxels(2), reviews.box((5, 5, 5), (5, 5, 6))
  wanted = np.concatenate([theirs[:3], free])
  change = state.apply({'event': 'edit', 'item': 1, 'set': wanted.tolist()})
  assert change.refused == 3
  assert change.items == (1,)
  told = dict(zip(change.voxels.tolist(), change.labels.tolist()))
  assert told == dict.fromkeys(theirs[:3].tolist(), 2) | dict.fromkeys(
    free.tolist(), 1
  )
  np.testing.assert_array_equal(state.voxels(2), theirs)
  cleared = state.apply({'event': 'edit', 'item': 1, 'clear': theirs[:2]})
  assert cleared.labels.tolist() == [2, 2]
  np.testing.assert_array_equal(state.voxels(2), theirs)


def test_voxels_of_a_rejected_item_may_be_taken_and_come_back():
  state = reviews.record(2)
  theirs = state.voxels(2)
  state.apply({'event': 'verdict', 'item': 2, 'value': 'reject'})
  change = state.apply({'event': 'edit', 'item': 1, 'set': theirs.tolist()})
  assert change.refused == 0
  assert change.items == (1, 2)
  assert state.item_json(2)['flags'] == ['no outline']
  state.apply({'event': 'undo'})
  np.testing.assert_array_equal(state.voxels(2), theirs)
  assert not np.isin(theirs, state.voxels(1)).any()
  state.apply({'event': 'redo'})
  assert state.voxels(2).size == 0


def test_an_accepted_item_without_voxels_keeps_its_point():
  state = reviews.record(1)
  place = state.items[1].ijk
  state.apply({'event': 'verdict', 'item': 1, 'value': 'accept'})
  state.apply({'event': 'edit', 'item': 1, 'clear': state.voxels(1)})
  shown = state.item_json(1)
  assert (shown['voxels'], shown['volume_mm3']) == (0, 0)
  assert shown['diameter_mm'] == 0
  assert shown['flags'] == ['no outline']
  assert tuple(shown['ijk']) == place
  assert shown['verdict'] == 'accept'


def test_add_remove_and_numbers():
  state = reviews.record(2)
  free = reviews.box((6, 6, 5), (7, 7, 5))
  added = state.apply({'event': 'add', 'ijk': [6, 6, 5], 'set': free})
  assert added.items == (3,)
  shown = state.item_json(3)
  assert shown['origin'] == 'reader_after_model'
  assert (shown['verdict'], shown['voxels']) == ('accept', 4)
  assert (shown['id'], shown['score'], shown['status']) == (None,) * 3
  removed = state.apply({'event': 'remove', 'item': 3})
  assert removed.removed == (3,)
  assert removed.labels.tolist() == [0] * 4
  assert [item.number for item in state.shown()] == [1, 2]
  state.apply({'event': 'undo'})
  np.testing.assert_array_equal(state.voxels(3), free)
  state.apply({'event': 'undo'})
  assert not state.is_shown(3)
  # A number never means two lesions.
  again = state.apply({'event': 'add', 'ijk': [1, 1, 1]})
  assert again.items == (4,)
  with says(InputError):
    state.apply({'event': 'remove', 'item': 1})


def test_without_candidates_an_addition_was_unaided():
  state = reviews.record(0)
  state.apply({'event': 'add', 'ijk': [1, 1, 1]})
  assert state.items[1].origin == 'reader'


def test_move():
  state = reviews.record(1)
  before = state.voxels(1)
  state.apply({'event': 'move', 'item': 1, 'ijk': [4, 5, 6]})
  shown = state.item_json(1)
  assert shown['ijk'] == [4, 5, 6]
  # Voxel as shown (4, 5, 6) is (7, 5, 6) in the file: x runs to the left.
  assert shown['mm'] == [-0.5 * 7 + 3, 0.5 * 5 - 2, 2 * 6 + 7]
  np.testing.assert_array_equal(state.voxels(1), before)
  state.apply({'event': 'undo'})
  assert state.items[1].ijk == (1, 1, 2)


# Sizes, by hand: voxels of 0.5 x 0.5 x 2 mm are 0.5 mm3.


def test_volume_and_diameter():
  state = reviews.record(1)
  shown = state.item_json(1)
  assert shown['voxels'] == 8
  assert shown['volume_mm3'] == 4
  assert shown['diameter_mm'] == pytest.approx((6 * 4 / np.pi) ** (1 / 3), 1e-4)
  state.apply({'event': 'edit', 'item': 1, 'clear': state.voxels(1)[:6]})
  shown = state.item_json(1)
  assert shown['volume_mm3'] == 1
  assert shown['diameter_mm'] == 1.2407


def test_a_sheared_voxel_has_the_volume_of_its_determinant():
  affine = np.diag([1.0, 1, 2, 1])
  affine[0, 1] = 0.2  # does not change the volume
  grid = reviews.view(affine=affine)
  size = items.measure(np.array([700]), grid)
  assert size.volume_mm3 == pytest.approx(2)


def test_flags():
  grid = reviews.view((60, 60, 60), np.diag([0.5, 0.5, 0.5, 1]))
  far = np.stack(np.meshgrid(*[np.arange(60)] * 3, indexing='ij'), -1)
  away = np.linalg.norm((far - 30) * 0.5, axis=-1)

  def flags(found):
    voxels = np.sort(grid.index_of(np.argwhere(found)))
    return items.measure(voxels, grid).flags

  assert flags(away < 2) == ()
  assert flags(away < 5.2) == ('large',)
  assert flags(away < 4.8) == ()
  vessel = np.zeros((60, 60, 60), bool)
  vessel[30:32, 30:32, 20:36] = True  # 1 x 1 x 8 mm
  assert flags(vessel) == ('elongated',)
  assert flags(np.roll(vessel, 24, 2)) == ('edge', 'elongated')
  disc = np.zeros((60, 60, 60), bool)
  disc[20:34, 20:34, 30] = True  # flat, not long
  assert flags(disc) == ()
  corner = np.zeros((60, 60, 60), bool)
  corner[0, 30, 30] = True
  assert flags(corner) == ('edge',)
  thick = reviews.view((12, 10, 8), np.diag([0.3, 0.3, 3, 1]))
  assert items.measure(thick.index_of([[5, 5, 5]]), thick).flags == ()


def test_thick_slices_alone_make_nothing_elongated():
  grid = reviews.view((20, 20, 20), np.diag([0.5, 0.5, 2, 1]))
  found = np.zeros((20, 20, 20), bool)

  def flags(found):
    return items.measure(np.sort(grid.index_of(np.argwhere(found))), grid).flags

  found[8:14, 8:14, 5:7] = True  # 3 x 3 mm on two slices: 2 to 4 mm high
  assert flags(found) == ()
  found[8:14, 8:14, 7] = True  # on three: 4 to 6 mm
  assert flags(found) == ()
  found[8:14, 8:14, 8:10] = True  # on five: 8 to 10 mm, whatever it is
  assert flags(found) == ('elongated',)


# Order, repeats and what is hidden.


def test_orders():
  def ids(**changed):
    header = reviews.header(9, **changed)
    return [row['id'] for row in header['items']]

  likely = [f'lesion-{n:03d}' for n in range(9, 0, -1)]
  assert ids(order='likelihood') == likely
  place = [tuple(c.ijk[::-1]) for c in reviews.candidates(9)]
  assert ids(order='position') == [
    f'lesion-{n + 1:03d}' for n in sorted(range(9), key=lambda n: place[n])
  ]
  shuffled = ids(order='random', seed=3)
  assert sorted(shuffled) == sorted(likely)
  assert shuffled == ids(order='random', seed=3)
  others = [
    ids(order='random', seed=4),
    ids(order='random', seed=3, rater='bert'),
    ids(order='random', seed=3, case='sub-02'),
  ]
  assert all(other != shuffled for other in others)


def test_random_order_is_fair():
  """Each candidate comes first about equally often (chi-squared, 8 df)."""
  first = [
    reviews.header(9, order='random', seed=seed)['items'][0]['index']
    for seed in range(180)
  ]
  counts = np.bincount(first, minlength=10)[1:]
  assert ((counts - 20) ** 2 / 20).sum() < 26.1  # p = 0.001


@pytest.mark.parametrize('percent', [1, 20, 100])
@pytest.mark.parametrize('count', [1, 2, 9])
def test_hidden_repeats(percent, count):
  for seed in range(20):
    state = reviews.record(count, order='random', seed=seed, repeat=percent)
    pairs = state.repeats
    assert len(pairs) == max(1, round(count * percent / 100))
    for number, original in pairs.items():
      assert number > original
      one, two = state.item_json(number), state.item_json(original)
      assert one['id'] == two['id']
      assert one['repeat'] is two['repeat'] is False
      assert one['outline'] == two['outline'] == original
      assert one['volume_mm3'] == two['volume_mm3'] > 0
      assert not (state.labels() == number).any()
    apart = [number - original for number, original in pairs.items()]
    assert min(apart) >= min(len(pairs), count / 2)


def test_first_reader():
  state = reviews.record(3, mode='first-reader')
  assert state.hidden
  assert state.view_items() == []
  assert not state.labels().any()
  assert state.case_json()['items'] == 0
  with says(InputError, '1001'):
    state.apply({'event': 'verdict', 'item': 1001, 'value': 'accept'})

  hidden = state.voxels(1001)
  mine = np.concatenate([hidden[:3], reviews.box((6, 6, 5), (6, 6, 5))])
  state.apply({'event': 'add', 'ijk': [6, 6, 5], 'set': np.sort(mine)})
  assert state.items[1].origin == 'reader'  # its number tells nothing
  state.apply({'event': 'comment', 'item': 1, 'value': 'seen unaided'})

  change = state.apply({'event': 'done'})
  assert change.items == (1001, 1002, 1003)
  assert change.removed == (1,)  # the same lesion as 1001, counted once
  assert not state.is_shown(1)
  assert state.items[1001].found_as == 1
  assert state.items[1001].verdict == 'accept'
  assert state.items[1001].comment == 'seen unaided'
  assert state.items[1001].origin == 'model'
  assert 'found unaided' in state.item_json(1001)['flags']
  assert state.items[1002].verdict is None
  np.testing.assert_array_equal(state.voxels(1001), np.sort(mine))
  told = dict(zip(change.voxels.tolist(), change.labels.tolist()))
  flat = state.labels().ravel(order='F')
  assert told == {int(v): int(flat[v]) for v in np.flatnonzero(flat > 1000)}
  assert state.done_rev == 3
  assert not state.case_json()['can_undo']  # the unaided reading stays

  state.apply({'event': 'add', 'ijk': [0, 0, 0]})
  assert state.items[1004].origin == 'reader_after_model'
  with says(InputError):
    state.apply({'event': 'done'})


def test_a_first_reader_counts_a_lesion_once():
  for blind in ((), ('mask',)):
    state = reviews.record(3, mode='first-reader', blind=blind, repeat=30)
    (again,) = state.repeats
    source = reviews.candidates(3)
    state.apply({'event': 'add', 'ijk': source[0].ijk, 'ms': 700})
    mine = reviews.box((8, 1, 2), (10, 1, 3))  # part of the third, and more
    state.apply({'event': 'add', 'ijk': [9, 1, 2], 'set': mine})
    state.apply({'event': 'verdict', 'item': 2, 'value': 'unsure'})
    state.apply({'event': 'add', 'ijk': [9, 9, 7]})  # far from all
    state.apply({'event': 'done'})
    by_id = {i.id: i for i in state.shown() if i.number not in (again,)}
    one, three = by_id['lesion-001'], by_id['lesion-003']
    assert (one.found_as, one.verdict, one.ms) == (1, 'accept', 700)
    assert (three.found_as, three.verdict) == (2, 'unsure')
    np.testing.assert_array_equal(three.voxels, mine)
    assert three.ijk == (9, 1, 2)
    left = [] if blind else source[0].voxels
    np.testing.assert_array_equal(one.voxels, left)  # had no outline of his
    assert state.items[3].present  # no candidate is there
    assert state.items[again].verdict is None
    accepted = [i for i in state.shown() if i.verdict == 'accept']
    assert len(accepted) == 2
    state.apply({'event': 'verdict', 'item': one.number, 'value': 'reject'})
    state.apply({'event': 'undo'})
    assert state.items[one.number].verdict == 'accept'
    with says(InputError):
      state.apply({'event': 'undo'})


def test_done_keeps_a_rating_and_nothing_before_it_is_done_again():
  state = reviews.record(3, mode='first-reader')
  state.apply({'event': 'add', 'ijk': reviews.candidates(3)[0].ijk})
  state.apply({'event': 'rating', 'item': 1, 'value': 7})
  state.apply({'event': 'note', 'value': 'a slip'})
  state.apply({'event': 'undo'})
  state.apply({'event': 'done'})
  assert state.items[1001].rating == 7
  assert not state.case_json()['can_redo']
  with says(InputError):
    state.apply({'event': 'redo'})


def test_pairs_that_cannot_be_are_refused():
  for pair in ([1001, 1002], [1, 1], [2, 1001]):
    state = reviews.record(3, mode='first-reader')
    state.apply({'event': 'add', 'ijk': [6, 6, 5]})
    line = {'rev': 2, 'time': '', 'event': 'done', 'found': [pair]}
    with pytest.raises((InputError, KeyError)):
      state.fold(line)


def test_done_is_for_first_readers():
  with says(InputError):
    reviews.record().apply({'event': 'done'})


def test_blinding():
  state = reviews.record(2)
  seen = state.item_json(1)
  assert (seen['score'], seen['status'], seen['id']) == (
    0.1,
    'definite',
    'lesion-001',
  )

  def hidden(*blind):
    shown = state.item_json(1, blind)
    return {name for name in shown if shown[name] is None and seen[name]}

  assert hidden('score') == {'score', 'status'}
  assert hidden('model') == {'status'}
  assert hidden('id') == {'id'}
  assert hidden(*BLINDS) == {'score', 'status', 'id'}
  text = json.dumps(state.view_items(('score', 'id')))
  assert 'lesion-001' not in text
  assert 'definite' not in text


def test_hidden_masks_are_not_there_at_all():
  state = reviews.record(2, blind=['mask'])
  assert not state.labels().any()
  assert state.item_json(1)['flags'] == ['no outline']
  state.apply({'event': 'edit', 'item': 1, 'set': [5, 6]})
  assert state.item_json(1)['voxels'] == 2


def test_one_index_of_two_label_images_goes_to_the_first():
  one, two = reviews.candidates(2)
  two = Candidate(**(vars(two) | {'index': 1, 'score': 0.99}))
  known = reviews.header(0)
  header = new_header(
    [one, two],
    **{key: known[key] for key in ('grid', 'rater', 'case', 'source')},
    image_sha256='a',
  )
  assert [row['id'] for row in header['items']] == ['lesion-002', 'lesion-001']
  assert [row['index'] for row in header['items']] == [0, 1]


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'mode': 'third'}, '--mode'),
    ({'blind': ['age']}, '--blind'),
    ({'order': 'fair'}, '--order'),
    ({'seed': -1}, '--seed'),
    ({'seed': 1.5}, '--seed 1.5'),
    ({'repeat': 101}, '--repeat 101'),
    ({'repeat': float('nan')}, '--repeat'),
  ],
)
def test_wrong_options(changed, message):
  with says(InputError, message):
    reviews.header(**changed)


@pytest.mark.parametrize(
  'changed',
  [
    {'voxels': np.array([960])},
    {'voxels': np.array([-1])},
    {'ijk': (12, 0, 0)},
    {'ijk': (0, -1, 0)},
    {'region': 'left'},
    {'voxels': reviews.box((5, 1, 2), (5, 1, 2))},
  ],
)
def test_wrong_candidates(changed):
  known = reviews.candidates(2)
  wrong = Candidate(**(vars(known[0]) | changed))
  more = reviews.header(0)
  more = {key: more[key] for key in ('grid', 'rater', 'case', 'source')}
  with says(InputError):
    new_header([wrong, known[1]], **more, image_sha256='a')


def test_a_score_that_is_no_number_is_none():
  one = Candidate('a', 1, (0, 0, 0), np.array([0]), score=float('nan'))
  known = reviews.header(0)
  known = {key: known[key] for key in ('grid', 'rater', 'case', 'source')}
  header = new_header([one], **known, image_sha256='a')
  assert header['items'][0]['score'] is None


def test_an_event_on_a_large_scan_costs_little():
  """No work on the whole volume: 512 x 512 x 144, 300 candidates."""
  shape = (512, 512, 144)
  grid = reviews.view(shape, np.diag([0.4, 0.4, 1.2, 1]))
  rng = np.random.default_rng(0)
  found = []
  for n in range(300):
    first = (5 + 25 * (n % 20), 5 + 30 * (n // 20), int(rng.integers(1, 130)))
    voxels = reviews.box(first, np.add(first, (4, 4, 3)), grid)
    found.append(Candidate(f'lesion-{n + 1:03d}', n + 1, first, voxels))
  known = reviews.header(0)
  known = {key: known[key] for key in ('rater', 'case', 'source')}
  header = new_header(found, grid=grid.to_json(), **known, image_sha256='a')
  state = ReviewRecord(header)
  ball = np.add(np.argwhere(np.ones((15, 15, 6))), (100, 80, 60))
  stroke = np.sort(grid.index_of(ball)).tolist()
  actions = [
    {'event': 'verdict', 'item': 5, 'value': 'accept', 'ms': 900},
    {'event': 'edit', 'item': 5, 'set': stroke, 'tool': {'name': 'brush'}},
    {'event': 'edit', 'item': 5, 'clear': stroke[:500]},
    {'event': 'add', 'ijk': [3, 3, 3], 'set': [5, 6]},
    {'event': 'undo'},
    {'event': 'redo'},
    {'event': 'comment', 'item': 7, 'value': 'x'},
  ]
  spent = []
  for _ in range(5):
    for action in actions:
      start = time.process_time()
      state.answer(state.apply(action))
      spent.append(time.process_time() - start)
  assert np.median(spent) < 0.005
  assert len(state.voxels(5)) > 100
