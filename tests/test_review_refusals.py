"""Whatever a page sends: it is taken, or refused in one clear sentence."""

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.review.log import checks, opening
from cmbjax.review.log.items import MIMICS
from cmbjax.review.log.record import ReviewRecord
from tests import review_records as reviews
from tests.messages import says


def nested(depth):
  found = []
  for _ in range(depth):
    found = [found]
  return found


LONG = 'x' * (checks.LONGEST_TEXT + 1)


@pytest.mark.parametrize(
  ('action', 'message'),
  [
    (None, 'JSON'),
    ([], 'JSON'),
    ({}, 'None'),
    ({'event': []}, ''),
    ({'event': 'open'}, "'open'"),
    ({'event': 'close'}, "'close'"),
    ({'event': 'verdict', 'item': 9, 'value': 'accept'}, ''),
    (
      {'event': 'verdict', 'item': True, 'value': 'accept'},
      'True',
    ),
    (
      {'event': 'verdict', 'item': '1', 'value': 'accept'},
      "'1'",
    ),
    (
      {'event': 'verdict', 'item': 1.0, 'value': 'accept'},
      '1.0',
    ),
    ({'event': 'verdict', 'item': [1], 'value': None}, ''),
    ({'event': 'verdict', 'value': 'accept'}, ''),
    (
      {'event': 'verdict', 'item': 1, 'value': 'maybe'},
      "'maybe'",
    ),
    (
      {'event': 'verdict', 'item': 1, 'value': ['accept']},
      '',
    ),
    (
      {'event': 'verdict', 'item': 1, 'value': 'accept', 'mimic': 'vessel'},
      '',
    ),
    (
      {'event': 'verdict', 'item': 1, 'value': 'reject', 'mimic': 'ghost'},
      "'ghost'",
    ),
    (
      {
        'event': 'verdict',
        'item': 1,
        'value': 'reject',
        'certainty': 'possible',
      },
      '',
    ),
    ({'event': 'certainty', 'item': 1, 'value': 'definite'}, ''),
    ({'event': 'certainty', 'item': 1, 'value': 'sure'}, "'sure'"),
    ({'event': 'mimic', 'item': 1, 'value': 'iron'}, ''),
    ({'event': 'rating', 'item': 1, 'value': 0}, ''),
    ({'event': 'rating', 'item': 1, 'value': 11}, ''),
    ({'event': 'rating', 'item': 1, 'value': True}, 'True'),
    ({'event': 'rating', 'item': 1, 'value': 5.0}, '5.0'),
    ({'event': 'region', 'item': 1, 'value': 'left'}, ''),
    ({'event': 'region', 'item': 1, 'value': None}, 'None'),
    ({'event': 'comment', 'item': 1, 'value': 5}, ''),
    ({'event': 'comment', 'item': 1, 'value': LONG}, '10001'),
    ({'event': 'note', 'value': '\ud800'}, ''),
    ({'event': 'note'}, ''),
    ({'event': 'add'}, ''),
    ({'event': 'add', 'ijk': [1, 2]}, ''),
    ({'event': 'add', 'ijk': [1, 2, 8]}, ''),
    ({'event': 'add', 'ijk': [1, -2, 3]}, ''),
    ({'event': 'add', 'ijk': [1, 2.0, 3]}, ''),
    ({'event': 'add', 'ijk': [1, True, 3]}, ''),
    ({'event': 'add', 'ijk': [1, 2, 3], 'set': [960]}, '960'),
    ({'event': 'remove', 'item': 1}, ''),
    ({'event': 'move', 'item': 1, 'ijk': 'abc'}, "'abc'"),
    ({'event': 'edit', 'item': 1}, ''),
    ({'event': 'edit', 'item': 1, 'set': [960]}, '960'),
    ({'event': 'edit', 'item': 1, 'set': [-1]}, ''),
    (
      {'event': 'edit', 'item': 1, 'set': [10**40]},
      '1000',
    ),
    ({'event': 'edit', 'item': 1, 'set': [1.5]}, ''),
    ({'event': 'edit', 'item': 1, 'set': [True]}, ''),
    ({'event': 'edit', 'item': 1, 'set': [[1]]}, ''),
    ({'event': 'edit', 'item': 1, 'set': [None]}, ''),
    ({'event': 'edit', 'item': 1, 'set': {'1': 1}}, ''),
    ({'event': 'edit', 'item': 1, 'set': '12'}, ''),
    ({'event': 'edit', 'item': 1, 'clear': [960]}, '960'),
    ({'event': 'edit', 'item': 1, 'set': [3], 'clear': [3]}, ''),
    (
      {'event': 'edit', 'item': 1, 'set': [1] * (checks.MOST_VOXELS + 1)},
      '500001 500000',
    ),
    (
      {'event': 'edit', 'item': 1, 'set': [1], 'tool': 'brush'},
      'JSON',
    ),
    (
      {'event': 'edit', 'item': 1, 'set': [1], 'tool': {'mm': float('nan')}},
      '',
    ),
    (
      {'event': 'edit', 'item': 1, 'set': [1], 'tool': {'name': 'x' * 3000}},
      '',
    ),
    (
      {'event': 'edit', 'item': 1, 'set': [1], 'tool': {'at': [[1]]}},
      '',
    ),
    (
      {'event': 'edit', 'item': 1, 'set': [1], 'tool': {'mm': 10**5000}},
      '',
    ),
    (
      {'event': 'rating', 'item': 1, 'value': 10**5000},
      '',
    ),
    (
      {'event': 'rating', 'item': 1, 'value': nested(100_000)},
      '',
    ),
    ({'event': 'edit', 'item': 3, 'set': [1]}, ''),
    ({'event': 'grow', 'item': 3, 'ijk': [1, 1, 1]}, ''),
    ({'event': 'move', 'item': 3, 'ijk': [1, 1, 1]}, ''),
    ({'event': 'status', 'value': 'not started'}, ''),
    ({'event': 'status', 'value': None}, ''),
    ({'event': 'view', 'slices': -1}, ''),
    ({'event': 'view', 'slices': 2.5}, '2.5'),
    ({'event': 'view', 'what': '<b>'}, "'<b>'"),
    ({'event': 'view', 'item': 77}, ''),
    ({'event': 'redo'}, ''),
    ({'event': 'note', 'value': 'x', 'ms': -1}, ''),
    ({'event': 'note', 'value': 'x', 'ms': '5'}, "'5'"),
    ({'event': 'note', 'value': 'x', 'ms': True}, 'True'),
    ({'event': 'note', 'value': 'x', 'ms': float('inf')}, ''),
  ],
  ids=lambda value: None if isinstance(value, str) else checks.short(value),
)
def test_refusals(action, message):
  state = reviews.record(3)
  state.apply({'event': 'verdict', 'item': 3, 'value': 'reject'})
  before = state.snapshot()
  with says(InputError, message) as caught:
    state.apply(action)
  assert state.snapshot() == before
  assert len(str(caught.value)) < 300
  assert '\n' not in str(caught.value)


def test_nothing_to_undo():
  with says(InputError):
    reviews.record().apply({'event': 'undo'})


def test_a_night_is_counted_as_one_day():
  state = reviews.record()
  state.apply({'event': 'note', 'value': 'x', 'ms': 10**12})
  assert state.ms == 86_400_000


def test_a_first_reader_adds_at_most_as_many_as_there_are_numbers():
  state = reviews.record(1, mode='first-reader')
  for _ in range(opening.UNAIDED):
    state.apply({'event': 'add', 'ijk': [0, 0, 0]})
  with says(InputError):
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
  with says(InputError):
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
