"""Memory that a program gave back is kept for its next large array.

Rule: called once, at the very start of a program; never on import. A thread
that has its own arena keeps it.

A training step needs some tens of megabytes for its duration. glibc gives
threads arenas of 64 MB and maps what is larger again each time, so the kernel
clears those pages in every step: at batch 64 that is a third of all the time.
"""

import ctypes
import os

# What each does is in mallopt(3); a variable that is set wins.
_OPTIONS = {
  'MALLOC_ARENA_MAX': (-8, 1),  # one arena, which can grow without limit
  'MALLOC_MMAP_THRESHOLD_': (-3, 1 << 30),
  'MALLOC_TRIM_THRESHOLD_': (-1, (1 << 31) - 1),
}


def keep_pages() -> None:
  """Sets the options of glibc's malloc; does nothing where it is another."""
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (OSError, AttributeError, TypeError):
    return
  for name, option in _OPTIONS.items():
    if name not in os.environ:
      mallopt(*option)
