"""SIGTERM to an orderly end: save, say so, exit 0.

Rule: inside `deferred` the signal only leaves a note, which the training asks
for after every step; elsewhere it ends the program at once, because every
other stage begins again where it was.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn


class Stopped(BaseException):
  """The program was asked to end, and what was done is saved."""


_noted = threading.Event()
_deferred = threading.Event()


def requested() -> bool:
  """Whether the end was asked for."""
  return _noted.is_set()


@contextlib.contextmanager
def listening() -> Iterator[None]:
  """Handles SIGTERM until the block ends, in the main thread."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  _noted.clear()
  before = signal.signal(signal.SIGTERM, _note)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
    _noted.clear()  # the next training was not asked to end


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """A block that asks `requested` itself."""
  _deferred.set()
  try:
    yield
  finally:
    _deferred.clear()


def exit_with(main: Callable[[], int]) -> NoReturn:
  """Runs a whole program and ends the process with the code it returns.

  Everything that is registered for the end is still done; only the taking
  apart of the interpreter is left out, which costs half a second after all
  is saved. Call it before JAX is imported: what is registered later is done.
  """
  code = 1  # a traceback

  def leave():
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(OSError, ValueError):
        stream.flush()
    os._exit(code)

  atexit.register(leave)  # the first one is called last
  code = main()
  sys.exit(code)


def _note(signum, frame) -> None:
  del signum, frame
  _noted.set()
  if not _deferred.is_set():
    raise Stopped
