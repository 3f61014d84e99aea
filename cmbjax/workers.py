"""What a process of a pool does when the one that started it is gone."""

import multiprocessing
import os
import threading


def leave_with_parent() -> None:
  """Initializer of a pool: this process ends when its parent does.

  A parent that is killed, by a scheduler or for memory, closes no pool: its
  processes would finish their work and then wait for more for ever.
  """
  parent = multiprocessing.parent_process()
  if parent is not None:
    threading.Thread(target=_wait, args=(parent,), daemon=True).start()


def _wait(parent) -> None:
  parent.join()
  os._exit(1)
