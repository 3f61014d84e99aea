"""Random readers whose server is killed; run by a test.

Rule: the client remembers what every answer said. After a kill the journal,
up to the last revision that was answered, must say the same, and hold at most
the one action whose answer never came.
"""

import dataclasses
import http.client
import pathlib
import random
import signal
import threading
import time

import numpy as np

from cmbjax.review.log import journal
from tests import review_server

SILENT = ('open', 'close')


@dataclasses.dataclass
class Count:
  """What happened over all kills."""

  kills: int = 0
  acknowledged: int = 0
  unanswered: int = 0  # actions on their way when the server was killed
  kept: int = 0  # of those: on the disk nevertheless
  half_lines: int = 0  # cut short by the kill


class Reader:
  """A person who clicks at random, and remembers what the page was told."""

  def __init__(self, client, rng):
    self.client, self.rng = client, rng
    self.opened()

  def opened(self):
    state = self.client.get('/api/cases/0')
    self.rev = state['rev']
    self.items = {item['item']: item for item in state['items']}
    status, data, _ = self.client.ask('GET', '/api/cases/0/labels')
    assert status == 200
    self.dim = state['dim']
    self.labels = np.frombuffer(data, '<u2').copy()

  def action(self):
    """A random action, mostly one that is allowed."""
    rng, number = self.rng, self.rng.choice([*self.items, 1])
    kind = rng.choice(
      ['verdict'] * 4 + ['edit'] * 4 + ['undo'] * 2
      + ['redo', 'add', 'grow', 'comment', 'note', 'move', 'remove', 'view']
    )  # fmt: skip
    place = [rng.randrange(n) for n in self.dim]
    fields = {
      'verdict': {'value': rng.choice(['accept', 'reject', 'unsure', None])},
      'edit': {'set': self.ball(place), 'clear': []},
      'add': {'ijk': place, 'grow': rng.random() < 0.5},
      'grow': {'ijk': place, 'radius_mm': 3.0},
      'comment': {'value': 'é' * rng.randrange(400)},
      'note': {'value': str(rng.random())},
      'move': {'ijk': place},
      'view': {'what': 'sweep', 'slices': 3},
    }.get(kind, {})
    with_item = ('verdict', 'edit', 'grow', 'comment', 'move', 'remove')
    if kind in with_item:
      fields['item'] = number
    return {'event': kind, 'ms': rng.randrange(3000), **fields}

  def ball(self, place):
    """Linear indices of a brush stroke, x fastest."""
    axes = [
      range(max(p - 3, 0), min(p + 4, n)) for p, n in zip(place, self.dim)
    ]
    x, y, _ = self.dim
    return [
      i + x * (j + y * k) for i in axes[0] for j in axes[1] for k in axes[2]
    ]

  def take(self, answer):
    """An answer that came: from now on it must not be lost."""
    self.rev = answer['rev']
    for item in answer['items']:
      self.items[item['item']] = item
    for number in answer['removed']:
      self.items.pop(number, None)
    for index, value in answer['labels']:
      self.labels[index] = value


def check(folder, reader, unanswered, count):
  """Compares the journal with what the reader was told."""
  data = (folder / journal.EVENTS).read_bytes()
  count.half_lines += not data.endswith(b'\n')
  then = journal.read(folder, until=reader.rev)
  assert then.rev == reader.rev, 'an acknowledged line is gone'
  items = {item['item']: item for item in then.view_items(('score', 'id'))}
  assert items == reader.items, 'the items differ'
  labels = then.labels().ravel(order='F')
  np.testing.assert_array_equal(labels, reader.labels)
  later = [
    line['event']
    for line in journal.lines(folder)
    if line['rev'] > reader.rev and line['event'] not in SILENT
  ]
  assert len(later) <= 1, 'more than one line nobody asked for'
  if later:
    assert unanswered is not None
    assert later == [unanswered['event']]
  count.unanswered += unanswered is not None
  count.kept += len(later)


def session(server, reader, count, *, most_s):
  """Acts until the server is gone; the action that got no answer, if any."""
  pause = reader.rng.uniform(0, most_s)
  killer = threading.Timer(pause, server.process.send_signal, [signal.SIGKILL])
  killer.start()
  unanswered = None
  try:
    while True:
      action = reader.action()
      unanswered = action
      status, answer = server.client.act(rev=reader.rev, **action)
      unanswered = None
      assert status in (200, 400), answer
      if status == 200:
        count.acknowledged += 1
        reader.take(answer)
      time.sleep(reader.rng.choice([0, 0, 0.005]))
  except (OSError, http.client.HTTPException):
    killer.join()
    server.client.link.close()
    server.process.communicate(timeout=30)
  return unanswered


def run(
  folder: pathlib.Path,
  *,
  kills: int,
  seed: int,
  most_s: float = 0.5,
  kind=review_server.Server,
) -> Count:
  """Kills a real server `kills` times between and during random actions.

  Args:
    folder: an empty one.
    kills: how often.
    seed: of the actions.
    most_s: the server lives up to so long after its case was opened.
    kind: how it is started, `Server` or `Forked`.

  Raises:
    AssertionError: something that was acknowledged is gone.
  """
  folder = pathlib.Path(folder)
  image, labels, _ = review_server.write_scan(folder)
  rng, count, reader = random.Random(seed), Count(), None
  own = folder / 'reviews' / 'anna' / 'sub-01'
  for _ in range(kills):
    server = kind(
      image, '--labels', labels, '--reviews', own.parent.parent,
      '--rater', 'anna',
    )  # fmt: skip
    try:
      if reader is None:
        reader = Reader(server.client, rng)
      else:
        reader.client = server.client
        reader.opened()
      unanswered = session(server, reader, count, most_s=most_s)
      check(own, reader, unanswered, count)
    finally:
      if server.process.poll() is None:
        server.end(signal.SIGKILL)
    count.kills += 1
  return count
