"""Whatever a page sends: it is taken, or refused in one clear sentence."""

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.review.log import checks, opening
from cmbjax.review.log.items import MIMICS
from cmbjax.review.log.record import ReviewRecord
from tests import review_records as reviews


def nested(depth):
  found = []
  for _ in range(depth):
    found = [found]
  return found


LONG = 'x' * (checks.LONGEST_TEXT + 1)


@pytest.mark.parametrize(
  ('action', 'message'),
  [
    (None, 'a JSON object'),
    ([], 'a JSON object'),
    ({}, 'event: None is none of'),
    ({'event': []}, 'event: .* is none of'),
    ({'event': 'open'}, "event: 'open' is none of"),
    ({'event': 'close'}, "event: 'close' is none of"),
    ({'event': 'verdict', 'item': 9, 'value': 'accept'}, 'item 9: there is'),
    (
      {'event': 'verdict', 'item': True, 'value': 'accept'},
      'item: True is not',
    ),
    (
      {'event': 'verdict', 'item': '1', 'value': 'accept'},
      "item: '1' is not",
    ),
    (
      {'event': 'verdict', 'item': 1.0, 'value': 'accept'},
      'item: 1.0 is not',
    ),
    ({'event': 'verdict', 'item': [1], 'value': None}, r'item: \[1\] is not'),
    ({'event': 'verdict', 'value': 'accept'}, 'item: is missing in verdict'),
    (
      {'event': 'verdict', 'item': 1, 'value': 'maybe'},
      "verdict: 'maybe' is none",
    ),
    (
      {'event': 'verdict', 'item': 1, 'value': ['accept']},
      'verdict: .* is none',
    ),
    (
      {'event': 'verdict', 'item': 1, 'value': 'accept', 'mimic': 'vessel'},
      'mimic: is asked only with the verdict reject',
    ),
    (
      {'event': 'verdict', 'item': 1, 'value': 'reject', 'mimic': 'ghost'},
      "mimic: 'ghost' is none of",
    ),
    (
      {
        'event': 'verdict',
        'item': 1,
        'value': 'reject',
        'certainty': 'possible',
      },
      'certainty: is asked only with the verdict accept or unsure',
    ),
    ({'event': 'certainty', 'item': 1, 'value': 'definite'}, 'not without one'),
    ({'event': 'certainty', 'item': 1, 'value': 'sure'}, "'sure' is none of"),
    ({'event': 'mimic', 'item': 1, 'value': 'iron'}, 'not without one'),
    ({'event': 'rating', 'item': 1, 'value': 0}, 'rating: 0 is not'),
    ({'event': 'rating', 'item': 1, 'value': 11}, 'rating: 11 is not'),
    ({'event': 'rating', 'item': 1, 'value': True}, 'rating: True is not'),
    ({'event': 'rating', 'item': 1, 'value': 5.0}, 'rating: 5.0 is not'),
    ({'event': 'region', 'item': 1, 'value': 'left'}, 'region: .* is none of'),
    ({'event': 'region', 'item': 1, 'value': None}, 'region: None is none of'),
    ({'event': 'comment', 'item': 1, 'value': 5}, 'comment: 5 is not a text'),
    ({'event': 'comment', 'item': 1, 'value': LONG}, 'has 10001 characters'),
    ({'event': 'note', 'value': '\ud800'}, 'half a character'),
    ({'event': 'note'}, 'value: is missing in note'),
    ({'event': 'add'}, 'ijk: is missing in add'),
    ({'event': 'add', 'ijk': [1, 2]}, 'ijk: .* is no voxel'),
    ({'event': 'add', 'ijk': [1, 2, 8]}, 'ijk: .* is no voxel'),
    ({'event': 'add', 'ijk': [1, -2, 3]}, 'ijk: .* is no voxel'),
    ({'event': 'add', 'ijk': [1, 2.0, 3]}, 'ijk: .* is no voxel'),
    ({'event': 'add', 'ijk': [1, True, 3]}, 'ijk: .* is no voxel'),
    ({'event': 'add', 'ijk': [1, 2, 3], 'set': [960]}, 'voxel 960 is outside'),
    ({'event': 'remove', 'item': 1}, 'not added by the reader'),
    ({'event': 'move', 'item': 1, 'ijk': 'abc'}, "ijk: 'abc' is no voxel"),
    ({'event': 'edit', 'item': 1}, 'needs voxels to set or to clear'),
    ({'event': 'edit', 'item': 1, 'set': [960]}, 'set: voxel 960 is outside'),
    ({'event': 'edit', 'item': 1, 'set': [-1]}, 'set: voxel -1 is outside'),
    (
      {'event': 'edit', 'item': 1, 'set': [10**40]},
      'set: voxel 1000.* outside',
    ),
    ({'event': 'edit', 'item': 1, 'set': [1.5]}, 'no whole number'),
    ({'event': 'edit', 'item': 1, 'set': [True]}, 'no whole number'),
    ({'event': 'edit', 'item': 1, 'set': [[1]]}, 'no whole number'),
    ({'event': 'edit', 'item': 1, 'set': [None]}, 'no whole number'),
    ({'event': 'edit', 'item': 1, 'set': {'1': 1}}, 'not a list of voxels'),
    ({'event': 'edit', 'item': 1, 'set': '12'}, 'not a list of voxels'),
    ({'event': 'edit', 'item': 1, 'clear': [960]}, 'clear: voxel 960 is'),
    ({'event': 'edit', 'item': 1, 'set': [3], 'clear': [3]}, 'both set and'),
    (
      {'event': 'edit', 'item': 1, 'set': [1] * (checks.MOST_VOXELS + 1)},
      'has 500001 voxels, at most 500000',
    ),
    (
      {'event': 'edit', 'item': 1, 'set': [1], 'tool': 'brush'},
      'tool: is not a small JSON object',
    ),
    (
      {'event': 'edit', 'item': 1, 'set': [1], 'tool': {'mm': float('nan')}},
      'tool: is not',
    ),
    (
      {'event': 'edit', 'item': 1, 'set': [1], 'tool': {'name': 'x' * 3000}},
      'tool: is not',
    ),
    (
      {'event': 'edit', 'item': 1, 'set': [1], 'tool': {'at': [[1]]}},
      'tool: is not',
    ),
    (
      {'event': 'edit', 'item': 1, 'set': [1], 'tool': {'mm': 10**5000}},
      'tool: is not',
    ),
    (
      {'event': 'rating', 'item': 1, 'value': 10**5000},
      'a value of type int is',
    ),
    (
      {'event': 'rating', 'item': 1, 'value': nested(100_000)},
      'rating: a value of type list is not',
    ),
    ({'event': 'edit', 'item': 3, 'set': [1]}, 'is rejected, so its outline'),
    ({'event': 'grow', 'item': 3, 'ijk': [1, 1, 1]}, 'clear the verdict first'),
    ({'event': 'move', 'item': 3, 'ijk': [1, 1, 1]}, 'clear the verdict first'),
    ({'event': 'status', 'value': 'not started'}, 'is none of in progress'),
    ({'event': 'status', 'value': None}, 'is none of in progress'),
    ({'event': 'view', 'slices': -1}, 'slices: -1 is not'),
    ({'event': 'view', 'slices': 2.5}, 'slices: 2.5 is not'),
    ({'event': 'view', 'what': '<b>'}, "what: '<b>' is not a short name"),
    ({'event': 'view', 'item': 77}, 'item 77: there is none'),
    ({'event': 'redo'}, 'nothing to redo'),
    ({'event': 'note', 'value': 'x', 'ms': -1}, 'ms: -1 is not a time'),
    ({'event': 'note', 'value': 'x', 'ms': '5'}, "ms: '5' is not a time"),
    ({'event': 'note', 'value': 'x', 'ms': True}, 'ms: True is not a time'),
    ({'event': 'note', 'value': 'x', 'ms': float('inf')}, 'ms: inf is not'),
  ],
  ids=lambda value: None if isinstance(value, str) else checks.short(value),
)
def test_refusals(action, message):
  state = reviews.record(3)
  state.apply({'event': 'verdict', 'item': 3, 'value': 'reject'})
  before = state.snapshot()
  with pytest.raises(InputError, match=message) as caught:
    state.apply(action)
  assert state.snapshot() == before
  assert len(str(caught.value)) < 300
  assert '\n' not in str(caught.value)


def test_nothing_to_undo():
  with pytest.raises(InputError, match='nothing to undo'):
    reviews.record().apply({'event': 'undo'})


def test_a_night_is_counted_as_one_day():
  state = reviews.record()
  state.apply({'event': 'note', 'value': 'x', 'ms': 10**12})
  assert state.ms == 86_400_000


def test_a_first_reader_adds_at_most_as_many_as_there_are_numbers():
  state = reviews.record(1, mode='first-reader')
  for _ in range(opening.UNAIDED):
    state.apply({'event': 'add', 'ijk': [0, 0, 0]})
  with pytest.raises(InputError, match='too many items'):
    state.apply({'event': 'add', 'ijk': [0, 0, 0]})


def test_all_mimics_are_taken():
  state = reviews.record(1)
  for mimic in MIMICS:
    state.apply(
      {'event': 'verdict', 'item': 1, 'value': 'reject', 'mimic': mimic}
    )
    assert state.items[1].mimic == mimic


def test_another_schema():
  header = reviews.header() | {'schema': 'cmbjax-review-9'}
  with pytest.raises(InputError, match=r'cmbjax-review-9.*cmbjax-review-1'):
    ReviewRecord(header)


@pytest.mark.parametrize(
  'line',
  [
    {'rev': 3, 'event': 'note', 'old': '', 'new': 'x'},
    {'rev': 1, 'event': 'edit', 'item': 1, 'set': [[16, 1]], 'clear': []},
    {'rev': 1, 'event': 'edit', 'item': 1, 'set': [], 'clear': [[0, 1]]},
    {'rev': 1, 'event': 'undo', 'undoes': 9},
    {'rev': 1, 'event': 'dance'},
    {
      'rev': 1,
      'event': 'edit',
      'item': 1,
      'set': [[0, 1]],
      'clear': [],
      'voxels_sha256': '0' * 16,
    },
  ],
)
def test_a_line_that_does_not_follow_is_refused(line):
  state = reviews.record(1)
  assert (state.owner(np.array([0, 16])) == 0).tolist() == [True, True]
  state.apply({'event': 'add', 'ijk': [4, 0, 0], 'set': [16]})
  later = line | {'rev': line['rev'] + 1}
  with pytest.raises(InputError):
    state.fold(later)
