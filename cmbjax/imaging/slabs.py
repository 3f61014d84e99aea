"""An axis to slabs, so that a step needs little memory beside its result.

Rule: a slab holds whole blocks, so that a result does not depend on slabs.
"""

from collections.abc import Iterator

_ROWS = 32  # voxels along the axis


def of(size: int, multiple: int = 1) -> Iterator[slice]:
  """Slices that together cover 0..size once.

  Args:
    size: of the axis.
    multiple: each slab but the last is so many voxels long, or several times.
  """
  step = multiple * max(1, _ROWS // multiple)
  for start in range(0, size, step):
    yield slice(start, min(start + step, size))
