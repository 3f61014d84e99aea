"""SIGTERM to an orderly end: save, say so, exit 0.

Rule: inside `deferred` the signal only leaves a note, which the training asks
for after every step; elsewhere it ends the program at once, because every
other stage begins again where it was. It is said once: what a stage tidies up
on its way out is not interrupted by a second signal.
"""

import atexit
import contextlib
import functools
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
_raised = threading.Event()
_AGAIN_S = 0.05  # the finalizer that swallowed it has then returned


def requested() -> bool:
  """Whether the end was asked for."""
  return _noted.is_set()


@contextlib.contextmanager
def listening() -> Iterator[None]:
  """Handles SIGTERM until the block ends, in the main thread."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  handler, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
  timers: list[threading.Timer] = []
  _noted.clear()
  _raised.clear()
  try:  # twice, because the signal may land between any two of these lines
    try:
      sys.unraisablehook = functools.partial(_forgotten, hook, timers)
      signal.signal(signal.SIGTERM, _note)
      yield
    finally:
      _raised.set()
  finally:
    for timer in timers:
      timer.cancel()
      timer.join()
    signal.signal(signal.SIGTERM, handler)
    sys.unraisablehook = hook
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
  atexit.register(lambda: leave(code))  # the first one is called last
  code = main()
  sys.exit(code)


def leave(code: int) -> NoReturn:
  """Ends the process here, with all that was printed."""
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError):
      stream.flush()
  os._exit(code)


def ask() -> None:
  """Does what SIGTERM would do, from another thread; only in `listening`."""
  if signal.getsignal(signal.SIGTERM) is _note:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)


def _note(signum, frame) -> None:
  del signum, frame
  _noted.set()
  if not (_deferred.is_set() or _raised.is_set()):
    _raised.set()
    raise Stopped


def _forgotten(hook, timers, raised) -> None:
  """Python drops what is raised in a finalizer: so it is said again, later."""
  if not isinstance(raised.exc_value, Stopped):
    hook(raised)
    return
  _raised.clear()
  main = threading.main_thread().ident
  timers.append(
    threading.Timer(_AGAIN_S, signal.pthread_kill, (main, signal.SIGTERM))
  )
  timers[-1].start()
