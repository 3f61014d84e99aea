"""The exact words of every message that a test provokes, in one table.

A test names the file or key that a message has to name, and its kind; the words
are in messages.json, by test. After a sentence was changed on purpose,

  python -m pytest --messages=write

writes the table again, and the difference is to be read.
"""

import contextlib
import json
import os
import pathlib
import re
import socket

import pytest

TABLE = pathlib.Path(__file__).with_name('messages.json')
ROOT = TABLE.parents[1]
# What differs from one run or machine to the next.
_CHANGING = (
  (re.compile(r'(/[^\s\'",;:()]*)?/pytest-\d+(/popen-gw\d+)?/[^\s\'",;:()/]+'),
   'TMP'),
  (re.compile(re.escape(str(ROOT))), 'ROOT'),
  (re.compile(r'tmppytest\w+'), 'TMP'),  # a path as a name of a reader
  (re.compile(r'\b[0-9a-f]{32}\b'), 'HASH'),  # names of Orbax's files
  (re.compile(r'\b(?!f{16})[0-9a-f]{16}\b'), 'DIGEST'),  # of our code
  (re.compile(r'\.py:\d+'), '.py:N'),
  (re.compile(r'\bsub-[a-z2-7]{8}(?![a-z0-9])'), 'sub-KEY'),  # random
  (re.compile(r'\b(process|port:?) \d{3,}'), r'\1 N'),
  (re.compile(rf' on {re.escape(socket.gethostname())}\b'), ' on HOST'),
)  # fmt: skip


class Table:
  """Sentences by test; `write` collects instead of comparing."""

  def __init__(self):
    self.write = False
    self._known = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    self.met: dict[str, list[str]] = {}
    self._skipped: set[str] = set()

  def check(self, sentence: str) -> None:
    """The next sentence of the test that runs is that of the table."""
    test = os.environ['PYTEST_CURRENT_TEST'].rpartition(' (')[0]
    for pattern, name in _CHANGING:
      sentence = pattern.sub(name, sentence)
    met = self.met.setdefault(test, [])
    met.append(sentence)
    if not self.write:
      known = self._known.get(test, [])[len(met) - 1 : len(met)]
      why = f'said: {sentence}\ntests/messages.json: {" ".join(known)}'
      assert [sentence] == known, why

  def finish(self, test: str) -> None:
    """No sentence of the table was left out."""
    if not self.write and test not in self._skipped:
      known = self._known.get(test, [])
      assert len(self.met.get(test, [])) == len(known), known

  def start(self, test: str) -> None:
    """A test that runs again (a second phase, a repeat) starts at its first."""
    self.met.pop(test, None)
    self._skipped.discard(test)

  def skip(self, test: str) -> None:
    """A test that was skipped keeps its row, whatever it said before."""
    self.met.pop(test, None)
    self._skipped.add(test)

  def save(self) -> None:
    """Keeps the rows of tests that did not run."""
    rows = self._known | self.met
    text = json.dumps(dict(sorted(rows.items())), indent=1, ensure_ascii=False)
    TABLE.write_text(text + '\n', encoding='utf-8')


table = Table()


@contextlib.contextmanager
def says(kind: type[BaseException], named: str = ''):
  """As pytest.raises; the message has every word of `named`, and the table."""
  with pytest.raises(kind) as caught:
    yield caught
  said(str(caught.value), named)


def said(text: str, named: str = '') -> None:
  """A message is that of the table, and has every word of `named`."""
  for name in named.split():
    assert name in text, f'{name} is not named in: {text}'
  table.check(text)


def printed(text: str, named: str = '') -> None:
  """What a command said at its end, the line `cmbjax: ...`, as `said`."""
  (line,) = [row for row in text.splitlines() if row.startswith('cmbjax: ')]
  said(line.removeprefix('cmbjax: '), named)
