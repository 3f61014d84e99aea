"""How the processes of a pool end: with the one that started them."""

import multiprocessing
import os
import signal
import threading


def begin() -> None:
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


def stop(pool) -> None:
  """Ends a `ProcessPoolExecutor` at once, with what it is doing."""
  processes = list((getattr(pool, '_processes', None) or {}).values())
  pool.shutdown(wait=False, cancel_futures=True)
  for process in processes:
    process.terminate()
