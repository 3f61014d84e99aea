"""Who was scanned: the names by which people are kept apart.

Rule: a label means one person among real scans; simulated people of two seeds
are two, though both are called sub-7T001.
"""

from collections.abc import Iterable, Mapping
from typing import Any

_UNKNOWN = '?'  # seed of a simulated scan whose files do not tell it


def person_of(subject: str, sidecar: Mapping[str, Any]) -> str:
  """'sub-01', or 'sub-7T001@5000' when simulated with seed 5000.

  Args:
    subject: its label. BIDS allows letters and digits, so no label holds '@'.
    sidecar: of its image.
  """
  if sidecar.get('Simulated') is not True:
    return subject
  seed = sidecar.get('SimulationSeed')
  known = isinstance(seed, int) and not isinstance(seed, bool)
  return simulated(subject, seed if known else None)


def simulated(subject: str, seed: int | None) -> str:
  """The name of a simulated person; None: the seed is not known."""
  return f'{subject}@{_UNKNOWN if seed is None else seed}'


def in_both(some: Iterable[str], others: Iterable[str]) -> list[str]:
  """Sorted persons of `some` who are, or may be, among `others`.

  A simulated person whose seed is not known may be anyone of that label.
  """
  some, others = set(some), set(others)
  with_unknown = others | {_of_unknown_seed(name) for name in others}
  return sorted(
    name
    for name in some
    if name in with_unknown or _of_unknown_seed(name) in others
  )


def _of_unknown_seed(name: str) -> str:
  label, at, _ = name.partition('@')
  return f'{label}@{_UNKNOWN}' if at else name
