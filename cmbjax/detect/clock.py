"""Steps of a chain to the seconds that each took.

Rule: wall-clock time, as a person waits for it.
"""

import contextlib
import time
from collections.abc import Iterator


class Clock:
  """Wall-clock seconds of each stage."""

  def __init__(self):
    self.seconds: dict[str, float] = {}

  @contextlib.contextmanager
  def __call__(self, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    self.seconds[stage] = round(time.perf_counter() - start, 3)
