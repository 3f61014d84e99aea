"""Independent work to processes, which end with the one that started them."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cmbjax.errors import InputError


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
    InputError: a process was killed.
  """
  if jobs == 1:
    yield from map(work, items)
    return
  # spawn: a fork would copy the locks of threads that JAX has started.
  pool = concurrent.futures.ProcessPoolExecutor(
    jobs,
    mp_context=multiprocessing.get_context('spawn'),
    initializer=_begin,
  )
  try:
    futures = [pool.submit(work, item) for item in items]
    for future in concurrent.futures.as_completed(futures):
      yield future.result()
    pool.shutdown()
  except concurrent.futures.process.BrokenProcessPool as error:
    raise InputError(
      f'jobs: one of {jobs} processes was killed, most likely for memory '
      f'({gigabytes:g} GB each); run it again with fewer.'
    ) from error
  except BaseException:
    _stop(pool)
    raise


def _begin() -> None:
  """Initializer of a pool: Ctrl-C is for the parent, which ends its children.

  A parent that is killed, by a scheduler or for memory, closes no pool: its
  processes would finish their work and then wait for more for ever. So each
  ends when its parent does.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()
  if parent is not None:
    threading.Thread(target=_wait, args=(parent,), daemon=True).start()


def _wait(parent) -> None:
  parent.join()
  os._exit(1)


def _stop(pool) -> None:
  """Ends a `ProcessPoolExecutor` at once, with what it is doing."""
  processes = list((getattr(pool, '_processes', None) or {}).values())
  pool.shutdown(wait=False, cancel_futures=True)
  for process in processes:
    process.terminate()
