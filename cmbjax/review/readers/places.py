"""Several readers' records of one scan to the places that they marked.

Rule: the order of the readers changes nothing. Candidates are one place by
their name in the source; added lesions are one place when their centres are
within some millimetres or their outlines overlap, matched one to one.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log.items import MODEL, Item
from cmbjax.review.log.matching import MATCHING_MM, assign, centre
from cmbjax.review.log.record import ReviewRecord

AGREED, DISAGREED, PENDING = 'agreed', 'disagreed', 'pending'
NOT_MARKED = 'not marked'


class Mark(NamedTuple):
  """What one reader said at one place.

  Attributes:
    rater: who.
    item: as in the reader's record.
    mm: centre of the outline, else the point; RAS world.
    voxels: sorted linear indices; none without outline.
  """

  rater: str
  item: Item
  mm: tuple[float, float, float]
  voxels: np.ndarray

  @property
  def verdict(self) -> str | None:
    """'accept', 'reject', 'unsure' or None."""
    return self.item.verdict


class MarkedPlace(NamedTuple):
  """One place of one scan.

  Attributes:
    key: the candidate's name, or 'added-RATER-007'.
    candidate: False where readers added it.
    marks: rater to mark; of an addition, only those who made it.
  """

  key: str
  candidate: bool
  marks: Mapping[str, Mark]

  @property
  def mm(self) -> tuple[float, float, float]:
    """Mean of the readers' centres."""
    centres = [self.marks[name].mm for name in sorted(self.marks)]
    return tuple(float(value) for value in np.mean(centres, 0))


def marks(record: ReviewRecord, rater: str) -> list[Mark]:
  """All that a reader was shown or added, without the silent repeats."""
  found = []
  for item in record.items.values():
    if item.present and item.repeat_of is None:
      voxels = record.voxels(item.number)
      found.append(Mark(rater, item, centre(item, voxels, record.view), voxels))
  return found


def of_records(
  records: Mapping[str, ReviewRecord], *, matching_mm: float = MATCHING_MM
) -> list[MarkedPlace]:
  """All places of one scan: candidates in their order, then additions.

  An addition at a candidate that its own reader left without a verdict (as
  a first reader does) is that reader's mark of the candidate.

  Args:
    records: rater to record, of one case.
    matching_mm: farthest apart that two centres may be.

  Raises:
    InputError: the readers judged different images or candidates.
  """
  check_alike(records)
  raters = sorted(records)
  by_id: dict[str, dict[str, Mark]] = {}
  added: dict[str, list[Mark]] = {}
  for rater in raters:
    every = marks(records[rater], rater)
    own = {mark.item.id: mark for mark in every if mark.item.origin == MODEL}
    extra = _ordered(mark for mark in every if mark.item.origin != MODEL)
    unread = _ordered(mark for mark in own.values() if mark.verdict is None)
    pairs = assign(unread, extra, matching_mm=matching_mm)
    for i, j in pairs:
      own[unread[i].item.id] = extra[j]
    taken = {j for _, j in pairs}
    added[rater] = [mark for j, mark in enumerate(extra) if j not in taken]
    for name, mark in own.items():
      by_id.setdefault(name, {})[rater] = mark
  found = [MarkedPlace(key, True, by_id[key]) for key in sorted(by_id)]
  groups = _linked(added, matching_mm)
  return found + [MarkedPlace(_key(group), False, group) for group in groups]


def check_alike(records: Mapping[str, ReviewRecord]) -> None:
  """Refuses readers of different images or candidates.

  Raises:
    InputError: names the two readers.
  """
  for (one, a), (two, b) in itertools.pairwise(sorted(records.items())):
    case = a.header['case']
    if a.header['image_sha256'] != b.header['image_sha256']:
      raise InputError(
        f'{case}: {one} and {two} read different images; compare reviews of '
        'one and the same scan.'
      )
    if not a.view.same(b.view) or _begun(a) != _begun(b):
      raise InputError(
        f'{case}: {one} and {two} were shown different candidates; compare '
        'reviews of one and the same result, with the same --least.'
      )


def _begun(record: ReviewRecord) -> dict[str, tuple]:
  """The candidates that a reader began with: a name alone tells little, as
  a second detection calls other lesions the same."""
  return {
    row['id']: (tuple(row['ijk']), tuple(map(tuple, row['voxels'])))
    for row in record.header['items']
    if row['repeat_of'] is None
  }


def _ordered(some: Iterable[Mark]) -> list[Mark]:
  """By place, so that ties do not hang on the order of the readers."""
  return sorted(some, key=lambda mark: (mark.mm, mark.item.number))


def _linked(added, matching_mm) -> list[dict[str, Mark]]:
  """Pairwise matches of additions to groups with one mark of a reader."""
  group_of = {
    (rater, n): {rater: mark}
    for rater, some in added.items()
    for n, mark in enumerate(some)
  }
  pairs = []
  for one, two in itertools.combinations(sorted(added), 2):
    for i, j in assign(added[one], added[two], matching_mm=matching_mm):
      away = np.subtract(added[one][i].mm, added[two][j].mm)
      pairs.append((float(np.linalg.norm(away)), (one, i), (two, j)))
  for _, a, b in sorted(pairs):
    one, two = group_of[a], group_of[b]
    if one is not two and not one.keys() & two.keys():
      one.update(two)
      for key, group in group_of.items():
        if group is two:
          group_of[key] = one
  different = {id(group): group for group in group_of.values()}.values()
  groups = [dict(sorted(group.items())) for group in different]
  return sorted(groups, key=lambda g: next(iter(g.values())).mm)


def _key(group: Mapping[str, Mark]) -> str:
  rater = min(group)
  return f'added-{rater}-{group[rater].item.number:03d}'


def outcome(
  place: MarkedPlace, finished: Mapping[str, bool]
) -> tuple[str, str]:
  """Whether the readers agree, and on what.

  Args:
    place: of `of_records`.
    finished: rater to whether he has completed the case; then what he did not
      add, he did not see as a microbleed.

  Returns:
    AGREED and the verdict; DISAGREED and ''; or PENDING and '' while a
    reader has not come to it.
  """
  said = set()
  for rater, done in finished.items():
    verdict = said_by(place, rater, finished=done)
    if verdict is None:
      return PENDING, ''
    said.add(verdict)
  return (AGREED, said.pop()) if len(said) == 1 else (DISAGREED, '')


def said_by(place: MarkedPlace, rater: str, *, finished: bool) -> str | None:
  """A reader's verdict, NOT_MARKED for another's addition, None: not yet."""
  mark = place.marks.get(rater)
  if mark is not None:
    return mark.verdict
  return NOT_MARKED if finished else None


def outline(some: Sequence[Mark]) -> np.ndarray:
  """Voxels that more than half of the outlines hold; else at least half.

  Outlines of two readers give what both marked, or (where they share no
  voxel) what either marked. Sorted linear indices.
  """
  drawn = [mark.voxels for mark in some if len(mark.voxels)]
  if not drawn:
    return np.zeros(0, np.int64)
  voxels, count = np.unique(np.concatenate(drawn), return_counts=True)
  most = voxels[2 * count > len(drawn)]
  return most if len(most) else voxels[2 * count >= len(drawn)]
