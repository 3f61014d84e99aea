"""Long work that says how far it is and how long it still takes.

Rule: one moving line on a terminal, plain lines (at most one in ten seconds)
everywhere else, nothing on standard output.
"""

import os
import sys
import threading
import time
from typing import Any, TextIO

_SECONDS_BETWEEN_LINES = 10.0
_BAR = 24  # signs, which leave room for the words on 80 columns


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
    stream: where it is said; None: standard error.
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
    self._bar = None
    self._start = time.monotonic()
    self._last = -float('inf')

  def __enter__(self) -> 'Progress':
    if self._done < self._total:
      if self._stream.isatty():
        self._bar = self._moving()
      else:
        self._say('')
    return self

  def __exit__(self, *_) -> None:
    if self._bar is not None:
      self._bar.close()

  def advance(self, count: int = 1, *, note: str = '') -> None:
    """`count` more pieces are done; `note` is shown behind the numbers."""
    self._done += count
    if self._bar is None:
      self._say(note)
      return
    for name, value in self._shape().items():
      setattr(self._bar, name, value)
    self._bar.set_description_str(self._line(note), refresh=False)
    self._bar.update(count)  # draws ten times in a second at most
    if self._done >= self._total:
      self._bar.refresh()

  def _say(self, note: str) -> None:
    """A plain line, unless the last one is fresh."""
    now = time.monotonic()
    if self._done >= self._total or now - self._last >= _SECONDS_BETWEEN_LINES:
      self._last = now
      self._stream.write(self._line(note) + '\n')
      self._stream.flush()

  def _line(self, note: str) -> str:
    spent, fresh = time.monotonic() - self._start, self._done - self._first
    line = f'{self._label} {self._done}/{self._total}'
    if self._done >= self._total:
      line += f' in {readable(spent)}'
    elif fresh:
      left = spent / fresh * (self._total - self._done)
      line += f', {readable(left)} left'
    return f'{line}, {note}' if note else line

  def _moving(self):
    """The line of a terminal."""
    from tqdm import tqdm  # late: `--help` does without

    class MovingLine(tqdm):  # a class of ours: others may use tqdm as it is
      monitor_interval = 0  # no thread

    # Its own lock is shared by processes, and tqdm would start one for it.
    MovingLine.set_lock(threading.RLock())
    return MovingLine(
      desc=self._line(''),
      total=self._total,
      initial=self._done,
      file=self._stream,
      ascii='.#',
      miniters=1,  # not fewer draws because the first pieces were quick
      nrows=24,  # some terminals say 0, and tqdm would then draw nothing
      **self._shape(),
    )

  def _shape(self) -> dict[str, Any]:
    """The line fits the width that the terminal has now."""
    try:
      columns = os.get_terminal_size(self._stream.fileno()).columns or 80
    except (OSError, ValueError):
      columns = 80
    bar = min(_BAR, columns // 3)
    # A full line would wrap.
    return {'ncols': columns - 1, 'bar_format': f'[{{bar:{bar}}}] {{desc}}'}
