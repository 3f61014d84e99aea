"""Thousands of spoilt requests: never a bug, never a change."""

import json
import random

import pytest

from tests.review_server import HOST, PORT, TOKEN, Local

EVENTS = '/api/cases/0/events'
READS = (
  '/api/session',
  '/api/cases/0',
  '/api/cases/0/voxels/swi',
  '/api/cases/0/labels',
)


@pytest.fixture
def same(tmp_path):
  """Fails when a test has changed the review."""
  here = Local(tmp_path)
  here.case()
  before = here.log.read_bytes()
  yield here
  assert here.log.read_bytes() == before


def status(answer):
  assert answer.status_code != 500, answer.get_data()
  return answer.status_code


GOOD = [
  {'rev': 0, 'event': 'verdict', 'item': 1, 'value': 'accept', 'ms': 3},
  {'rev': 0, 'event': 'edit', 'item': 1, 'set': [5, 6], 'clear': [7]},
  {'rev': 0, 'event': 'add', 'ijk': [5, 6, 7], 'grow': True},
  {'rev': 0, 'event': 'grow', 'item': 2, 'ijk': [5, 6, 7], 'radius_mm': 4.0},
  {'rev': 0, 'event': 'view', 'what': 'sweep', 'slices': 4, 'ms': 7},
  {'rev': 0, 'event': 'comment', 'item': 1, 'value': 'text'},
]
ODD = [
  None, True, -1, 0, 2**31, 2**63, 1e308, 0.5, '', 'x', '\x00', '🧠', [], {},
  [[]], {'a': {}}, [None], 'accept', 'undo', '../..', [1, 2, 3], 'é' * 999,
]  # fmt: skip


def mutated(rng):
  """A body that differs from a good one in some way."""
  fields = dict(rng.choice(GOOD))
  for _ in range(rng.randint(1, 3)):
    name = rng.choice([*fields, 'item', 'value', 'extra'])
    if rng.random() < 0.2:
      fields.pop(name, None)
    else:
      fields[name] = rng.choice(ODD)
  fields['rev'] = rng.choice([-1, 10**9, None, 'x', *ODD])  # never current
  data = json.dumps(fields).encode()
  if rng.random() < 0.4:
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
      data[rng.randrange(len(data))] = rng.randrange(256)
    data = bytes(data)
  return data[: rng.choice([None, len(data) // 2])]


def mutated_path(rng):
  path = rng.choice([EVENTS, '/api/cases/0/save', '/api/session', *READS])
  letters = list(path)
  for _ in range(rng.randint(0, 3)):
    place = rng.randrange(2, len(letters))  # '//x' would be a host
    letters.insert(place, rng.choice('/.%0aé?\\#&'))
  return ''.join(letters)


def mutated_headers(rng):
  pool = {
    'Host': ['evil', HOST, '', f'{HOST}:1'],
    'Origin': ['null', f'http://{HOST}', 'x'],
    'Content-Type': ['text/html', 'application/json', 'application/json;;', ''],
    'Content-Encoding': ['gzip', 'identity', 'x'],
    'x-cmb-token': ['', 'x', TOKEN, TOKEN * 50],
    'Cookie': ['a=b', f'cmb-token-{PORT}={TOKEN}', ';;;=', '\xff'],
    'Range': ['bytes=0-1', 'bytes=9-', 'x'],
    'If-None-Match': ['*', 'x'],
    'Sec-Fetch-Site': ['same-origin', 'cross-site', 'é'],
    'X-Forwarded-Host': ['evil.example'],
    'Accept': ['image/*', '\x7f'],
    'Expect': ['100-continue', 'x'],
  }
  names = rng.sample(sorted(pool), rng.randint(0, 4))
  return {name: rng.choice(pool[name]) for name in names}


def test_two_thousand_mutated_requests(same):
  rng = random.Random(20)
  seen = {}
  for _ in range(2000):
    method = rng.choice(['POST', 'POST', 'POST', 'GET', 'HEAD', 'PUT'])
    path, headers = mutated_path(rng), mutated_headers(rng)
    data = mutated(rng) if method in ('POST', 'PUT') else None
    kind = {'Content-Type': 'application/json'} if data is not None else {}
    answer = same.ask(method, path, data=data, headers=kind | headers)
    code = status(answer)
    answer.close()
    if method in ('POST', 'PUT'):
      if code == 200:  # an untouched `save` writes no event
        assert '/save' in path
      seen[code] = seen.get(code, 0) + 1
  assert {400, 403, 404, 415} <= set(seen)
  assert max(seen) < 500


def test_mutated_actions_on_the_present_state(tmp_path):
  """What is accepted here is a good action; all else changes nothing."""
  here, rng = Local(tmp_path), random.Random(21)
  rev = here.case()['rev']
  codes = {}
  for _ in range(800):
    fields = dict(rng.choice(GOOD))
    name = rng.choice([n for n in fields if n != 'rev'])
    fields[name] = rng.choice(ODD)
    fields['rev'] = rev
    before = here.log.stat().st_size
    answer = here.post(EVENTS, fields)
    codes[status(answer)] = codes.get(status(answer), 0) + 1
    if answer.status_code == 200:
      rev = answer.get_json()['rev']
    else:
      assert here.log.stat().st_size == before, fields
  assert codes[400] > 400
  assert codes[200] > 20
  assert set(codes) == {200, 400}
