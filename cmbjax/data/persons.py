"""Who was scanned: the names by which people are kept apart.

Rule: a label means one person among real scans, unless labels are per cohort;
simulated people of two seeds are two, though both are called sub-7T001.
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
  # JSON's true is an int for Python.
  known = isinstance(seed, int) and not isinstance(seed, bool)
  return simulated(subject, seed if known else None)


def simulated(subject: str, seed: int | None) -> str:
  """The name of a simulated person; None: the seed is not known."""
  return f'{subject}@{_UNKNOWN if seed is None else seed}'


def of_cohort(person: str, cohort: str) -> str:
  """'cohort:sub-01': the name by which a real person is kept.

  Whom a simulation made is known by the seed, in whatever cohort.
  """
  return person if '@' in person else f'{cohort}:{person}'


def in_both(
  some: Iterable[str], others: Iterable[str], *, shared: bool = True
) -> list[str]:
  """Sorted persons of `some` who are, or may be, among `others`.

  A simulated person whose seed is not known may be anyone of that label, and a
  real one whose cohort is not known ('sub-01') may be of any cohort.

  Args:
    some: names by `person_of`, or `of_cohort` of them.
    others: the same.
    shared: one label is one person in all cohorts.
  """

  def are_one(one: str, other: str) -> bool:
    (label, seed, cohort), (label_2, seed_2, cohort_2) = map(
      _parts, (one, other)
    )
    if label != label_2 or (seed is None) != (seed_2 is None):
      return False
    if seed is not None:
      return seed == seed_2 or _UNKNOWN in (seed, seed_2)
    return shared or cohort == cohort_2 or not (cohort and cohort_2)

  by_label: dict[str, list[str]] = {}
  for name in set(others):
    by_label.setdefault(_parts(name)[0], []).append(name)
  return sorted(
    name
    for name in set(some)
    if any(are_one(name, o) for o in by_label.get(_parts(name)[0], ()))
  )


def _parts(name: str) -> tuple[str, str | None, str]:
  """Label, seed (None for a real person) and cohort ('' where not known)."""
  cohort, _, rest = name.rpartition(':')
  label, at, seed = rest.partition('@')
  return label, seed if at else None, cohort
