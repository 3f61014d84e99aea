"""Long work that says how far it is and how long it still takes.

Rule: one moving line on a terminal, plain lines (at most one in ten seconds)
everywhere else, nothing on standard output.
"""

import sys
import time
from typing import TextIO

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_DRAWS = 0.1
_BAR = 24


def readable(seconds: float) -> str:
  """95 -> '1:35', 4000 -> '1:06:40'."""
  minutes, rest = divmod(round(max(seconds, 0.0)), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02d}:{rest:02d}'
  return f'{minutes}:{rest:02d}'


class Progress:
  """Counts `total` equal pieces of work; use it as a context manager.

  Args:
    label: what is being done, for example 'simulate ccm'.
    total: number of pieces.
    done: pieces that were already there (not used for the time left).
  """

  def __init__(
    self,
    label: str,
    total: int,
    *,
    done: int = 0,
    stream: TextIO | None = None,
  ):
    self._label, self._total, self._done = label, total, done
    self._first = done
    self._stream = stream or sys.stderr
    self._live = self._stream.isatty()
    self._start = time.monotonic()
    self._last = -float('inf')
    self._width = 0

  def __enter__(self) -> 'Progress':
    if self._done < self._total:
      self._show('', force=True)
    return self

  def __exit__(self, *_) -> None:
    if self._live and self._width:
      self._stream.write('\n')
      self._stream.flush()

  def advance(self, count: int = 1, *, note: str = '') -> None:
    """`count` more pieces are done; `note` is shown behind the numbers."""
    self._done += count
    self._show(note, force=self._done >= self._total)

  def _show(self, note: str, *, force: bool) -> None:
    now = time.monotonic()
    pause = _SECONDS_BETWEEN_DRAWS if self._live else _SECONDS_BETWEEN_LINES
    if not force and now - self._last < pause:
      return
    self._last = now
    spent, fresh = now - self._start, self._done - self._first
    line = f'{self._label} {self._done}/{self._total}'
    if self._done >= self._total:
      line += f' in {readable(spent)}'
    elif fresh:
      left = spent / fresh * (self._total - self._done)
      line += f', {readable(left)} left'
    if note:
      line += f', {note}'
    if self._live:
      full = _BAR * self._done // max(self._total, 1)
      line = '[' + '#' * full + '.' * (_BAR - full) + '] ' + line
      padding = ' ' * max(self._width - len(line), 0)
      self._stream.write('\r' + line + padding)
      self._width = len(line)
    else:
      self._stream.write(line + '\n')
    self._stream.flush()
