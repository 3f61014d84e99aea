"""Small reviews for the tests of `cmbjax.review`, and hostile random readers.

  python -m tests.review_records FOLDER KILLS

lets processes append random events to journals in FOLDER, kills them at random
moments and looks whether all that they acknowledged is there. It prints the
kills, the acknowledged events, and those on disk that were not acknowledged.
"""

import os
import pathlib
import signal
import sys
import time

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.review.log import geometry, journal
from cmbjax.review.log.items import (
  CERTAINTIES,
  MIMICS,
  REGIONS,
  VERDICTS,
  Candidate,
)
from cmbjax.review.log.opening import Terms, new_header
from cmbjax.review.log.record import ReviewRecord

SHAPE = (12, 10, 8)
AFFINE = np.array(
  [[-0.5, 0, 0, 3], [0, 0.5, 0, -2], [0, 0, 2, 7], [0, 0, 0, 1.0]]
)


def view(shape=SHAPE, affine=AFFINE):
  """Of an image in memory, its first axis from left to right in the file."""
  return geometry.View.of(volume.from_array(np.zeros(shape, np.uint8), affine))


def box(first, last, grid=None):
  """Linear indices of the voxels first..last, both inside."""
  sides = [np.arange(a, b + 1) for a, b in zip(first, last)]
  ijk = np.stack(np.meshgrid(*sides, indexing='ij'), -1).reshape(-1, 3)
  return np.sort((grid or _GRID).index_of(ijk))


_GRID = view()


def candidates(count=3):
  """Small boxes apart from each other; the last is the most likely."""
  found = []
  for n in range(count):
    first = (1 + 4 * (n % 3), 1 + 3 * (n // 3 % 3), 2 + 3 * (n // 9))
    last = tuple(np.add(first, (1, 1, 1)))
    found.append(
      Candidate(
        id=f'lesion-{n + 1:03d}',
        index=n + 1,
        ijk=first,
        voxels=box(first, last),
        score=0.1 + 0.8 * n / max(count, 1),
        status='definite',
        region='lobar',
      )
    )
  return found


def header(count=3, **changed):
  """First line of a journal with `count` candidates."""
  known = {
    'grid': _GRID.to_json(),
    'rater': 'anna',
    'case': 'sub-01',
    'source': 'sub-01_swi.nii.gz',
    'image_sha256': 'a' * 64,
    'labels_sha256': 'b' * 64,
  }
  terms = {'order': 'position'}
  for name in Terms._fields:
    if name in changed:
      terms[name] = changed.pop(name)
  return new_header(
    candidates(count), **(known | changed), terms=Terms(**terms)
  )


def record(count=3, **changed):
  """The state before any event."""
  return ReviewRecord(header(count, **changed))


def random_action(rng, state):
  """Something a reader might do now; now and then it is refused."""
  numbers = [item.number for item in state.shown()] or [1]
  item = int(rng.choice(numbers))
  some = rng.integers(0, state.view.size, (2, int(rng.integers(1, 40))))
  ijk = [int(rng.integers(0, n)) for n in state.view.shape]
  near = state.voxels(item)[:5] if item in state.items else some[0]
  ms = int(rng.integers(0, 5000))
  actions = [
    {'event': 'verdict', 'item': item, 'value': _pick(rng, VERDICTS)},
    {'event': 'certainty', 'item': item, 'value': _pick(rng, CERTAINTIES)},
    {'event': 'mimic', 'item': item, 'value': _pick(rng, MIMICS)},
    {'event': 'rating', 'item': item, 'value': int(rng.integers(1, 11))},
    {'event': 'region', 'item': item, 'value': str(rng.choice(REGIONS))},
    {'event': 'comment', 'item': item, 'value': f'π {ms}'},
    {'event': 'note', 'value': f'note {ms}'},
    {'event': 'add', 'ijk': ijk, 'set': some[0].tolist()},
    {'event': 'remove', 'item': item},
    {'event': 'move', 'item': item, 'ijk': ijk},
    {'event': 'edit', 'item': item, 'set': some[0].tolist()},
    {'event': 'edit', 'item': item, 'clear': near.tolist()},
    {
      'event': 'grow',
      'item': item,
      'ijk': ijk,
      'set': np.setdiff1d(some[0], near),
      'clear': near,
      'tool': {'name': 'grow', 'radius_mm': 3.5},
    },
    {'event': 'view', 'what': 'sweep', 'slices': 3},
    {'event': 'undo'},
    {'event': 'redo'},
  ]
  return actions[int(rng.integers(len(actions)))] | {'ms': ms}


def act(rng, target, count):
  """`count` random actions on a record or journal; how many were taken."""
  state = getattr(target, 'record', target)
  taken = 0
  for _ in range(count):
    try:
      target.apply(random_action(rng, state))
      taken += 1
    except InputError:
      continue
  return taken


def _pick(rng, names):
  return (*names, None)[int(rng.integers(len(names) + 1))]


def _read_forever(folder: pathlib.Path, seed: int, out: int) -> None:
  """Never returns: it is killed."""
  kept = journal.Journal.open(folder, header())
  rng = np.random.default_rng(seed)
  while True:
    try:
      change = kept.apply(random_action(rng, kept.record))
    except InputError:
      continue
    os.write(out, b'%d\n' % change.line['rev'])


def _kill_often(root: pathlib.Path, kills: int) -> tuple[int, int]:
  """Acknowledged events, and those on disk that nobody heard of."""
  rng = np.random.default_rng(0)
  acknowledged = unconfirmed = 0
  for kill in range(kills):
    folder = root / 'anna' / f'sub-{kill // 10:02d}'  # ten sessions each
    ear, mouth = os.pipe()
    child = os.fork()
    if not child:
      os.close(ear)
      _read_forever(folder, kill, mouth)
    os.close(mouth)
    # After so many events; every second one perhaps while it opens the journal.
    heard, wanted = b'', int(rng.integers(1, 20)) if kill % 2 else 0
    while heard.count(b'\n') < wanted:
      piece = os.read(ear, 1 << 16)
      assert piece, 'it ended before it was killed'
      heard += piece
    time.sleep(rng.uniform(0, 0.005 if wanted else 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(ear, 'rb') as rest:
      said = [int(line) for line in (heard + rest.read()).splitlines()]
    acknowledged += len(said)
    if not said:
      continue
    found = journal.read(folder)
    assert found.rev >= said[-1], f'{found.rev} of {said[-1]} on disk'
    assert {line['rev'] for line in journal.lines(folder)} >= set(said)
    unconfirmed += found.rev - said[-1]
  return acknowledged, unconfirmed


if __name__ == '__main__':
  print(sys.argv[2], *_kill_often(pathlib.Path(sys.argv[1]), int(sys.argv[2])))
