"""Independent work to processes.

Rule: they end with the process that started them, however that one ends.
"""

import concurrent.futures
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cmbjax import plugins
from cmbjax.errors import InputError

_PATIENCE_S = 5.0  # for a process that is asked to end


def spread(
  work: Callable[[Any], Any], items: Iterable, jobs: int, *, gigabytes: float
) -> Iterator[Any]:
  """Results of `work` over `items`, as they come.

  Args:
    work: can be pickled; so can its results.
    items: each goes to one call.
    jobs: processes; 1: this one, in order.
    gigabytes: that one call needs, for the message.

  Raises:
    InputError: a process was killed, or none could begin.
  """
  if jobs == 1:
    yield from _in_order(work, items)
    return
  # spawn: a fork would copy the locks of threads that JAX has started.
  context = multiprocessing.get_context('spawn')
  begun = context.Event()
  pool = concurrent.futures.ProcessPoolExecutor(
    jobs,
    mp_context=context,
    initializer=_begin,
    initargs=(begun, plugins.home),
  )
  try:
    futures = _submit(pool, work, items)
    for future in concurrent.futures.as_completed(futures):
      yield future.result()
    pool.shutdown()
  except concurrent.futures.process.BrokenProcessPool as error:
    if not begun.is_set():
      raise InputError(
        f'jobs: none of {jobs} processes could begin, as each runs your '
        "script anew; put what it does under if __name__ == '__main__': in a "
        'file, or give 1 job.'
      ) from error
    raise InputError(
      f'jobs: one of {jobs} processes was killed, most likely for memory '
      f'({gigabytes:g} GB each); run it again with fewer.'
    ) from error
  except BaseException:
    _stop(pool)
    raise


def cores() -> int:
  """Cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # Linux only
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def fit(gigabytes: float) -> int:
  """Processes that fit into the free memory, 1 to one per core.

  Args:
    gigabytes: that one of them needs.
  """
  free = memory_gb()[1]
  if free is None:
    return cores()
  return max(1, min(cores(), int(free / gigabytes)))


def memory_gb() -> tuple[float | None, float | None]:
  """All memory and what is free of it, in 1e9 bytes; None where not known."""
  try:  # Linux only
    text = pathlib.Path('/proc/meminfo').read_text()
    kib = dict(line.split()[:2] for line in text.splitlines())
    total, free = (
      1024 * int(kib[name]) / 1e9 for name in ('MemTotal:', 'MemAvailable:')
    )
  except (OSError, KeyError):
    return None, None
  return total, free


def _in_order(work, items):
  """One after the other; Ctrl-C ends it after the item at hand at latest.

  Python forgets a KeyboardInterrupt that lands in a finalizer or a callback of
  C code, so whether there was one is also asked between two items.
  """
  heard = []

  def note(number, frame):
    heard.append(number)
    signal.default_int_handler(number, frame)

  usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
  listens = usual and threading.current_thread() is threading.main_thread()
  if listens:
    signal.signal(signal.SIGINT, note)
  try:
    for item in items:
      result = work(item)
      if heard:
        raise KeyboardInterrupt
      yield result
  finally:
    if listens:
      signal.signal(signal.SIGINT, signal.default_int_handler)


def _submit(pool, work, items):
  try:
    return [pool.submit(work, item) for item in items]
  except RuntimeError as error:
    if 'bootstrapping' not in str(error):
      raise
    sys.exit(1)  # a child that runs an unguarded script: the parent says so


def _begin(begun, home: pathlib.Path | None = None) -> None:
  """Initializer of a pool: Ctrl-C is for the parent, which ends its children.

  A parent that is killed, by a scheduler or for memory, closes no pool: its
  processes would finish their work and then wait for more for ever. So each
  ends when its parent does.
  """
  begun.set()
  plugins.home = home  # an own part is found there as it is here
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()
  if parent is not None:
    threading.Thread(target=_wait, args=(parent,), daemon=True).start()


def _wait(parent) -> None:
  parent.join()
  os._exit(1)


def _stop(pool) -> None:
  """Ends a `ProcessPoolExecutor` at once, with what it is doing.

  A second Ctrl-C of somebody impatient is not heard meanwhile: it would end in
  a trace of Python's own clearing up.
  """
  processes = list((getattr(pool, '_processes', None) or {}).values())
  # Python allows handlers of signals in the main thread only.
  is_main = threading.current_thread() is threading.main_thread()
  usual = signal.getsignal(signal.SIGINT) or signal.SIG_DFL
  if is_main:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
      process.terminate()
    for process in processes:
      process.join(_PATIENCE_S)
  finally:
    if is_main:
      signal.signal(signal.SIGINT, usual)
