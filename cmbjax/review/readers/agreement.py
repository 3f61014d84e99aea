"""The reviews of some readers to how far they agree, and how fast they read.

Rule: what a reader has not come to is no disagreement; lesions and counts are
compared on scans that both completed, verdicts on candidates that both judged.
"""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax import doors
from cmbjax.errors import NoInputError
from cmbjax.evaluation import agreement as counts_lib
from cmbjax.evaluation import raters as stats
from cmbjax.evaluation.statistics import Interval
from cmbjax.review.log import folders, journal, unaided
from cmbjax.review.log.geometry import decode_runs
from cmbjax.review.log.items import MODEL
from cmbjax.review.log.record import ReviewRecord
from cmbjax.review.readers import adjudication, places

VERDICTS = ('accept', 'reject', 'unsure')
_NO_SCAN = Interval(None, None, None, 'no scan that both completed')


class Reader(NamedTuple):
  """One reader.

  Attributes:
    name: who.
    cases, completed: scans begun and completed.
    verdicts: how many of each of VERDICTS, repeats not counted.
    added: lesions that he added.
    again: both readings of the hidden repeats; None without repeats.
    decision_s: seconds per item with a verdict.
    case_s: seconds per completed scan.
    rating: Spearman correlation of his ratings with the likelihood; None
      where he gave no rating.
    ratings: (rating, likelihood) pairs.
    gain: what a first reader found without and with candidates, or None.
  """

  name: str
  cases: int
  completed: int
  verdicts: dict[str, int]
  added: int
  again: stats.VerdictAgreement | None
  decision_s: stats.Spread
  case_s: stats.Spread
  rating: Interval | None
  ratings: tuple[tuple[int, float], ...]
  gain: unaided.Unaided | None = None


class Outlines(NamedTuple):
  """Outlines of lesions that both accepted.

  Attributes:
    lesions: with an outline of both.
    edited: of those, how many have an outline that at least one of the two
      drew or changed; the others are the program's own, twice.
    dice: mean over all.
    dice_edited: mean over the edited ones.
    volume_ratio: geometric mean, first / second, of the edited ones.
    distance_mm: mean between the centres, of the edited ones.
  """

  lesions: int
  edited: int
  dice: Interval
  dice_edited: Interval
  volume_ratio: Interval
  distance_mm: Interval


class Pair(NamedTuple):
  """Two readers.

  Attributes:
    first, second: names.
    scans: that both began; `completed`: that both completed.
    both_or_none: accept against reject, where both decided.
    verdicts: of VERDICTS, so with unsure.
    found: lesions accepted by both, by the first only, by the second only.
    positive: positive specific agreement on those.
    counts: lesions per scan; None without a scan.
    outlines: of lesions that both accepted.
  """

  first: str
  second: str
  scans: int
  completed: int
  both_or_none: stats.VerdictAgreement
  verdicts: stats.VerdictAgreement
  found: tuple[int, int, int]
  positive: Interval
  counts: counts_lib.CountAgreement | None
  outlines: Outlines


class Agreement(NamedTuple):
  """All readers.

  Attributes:
    readers: by name.
    pairs: every two of them.
    icc: ICC(2,1) of the counts of all readers, over scans that all completed.
    scans: how many those are.
    simulated: some of the scans are not of people.
    places: a row for each place of each scan, with all verdicts.
  """

  readers: tuple[Reader, ...]
  pairs: tuple[Pair, ...]
  icc: Interval
  scans: int
  simulated: bool
  places: tuple[Mapping[str, object], ...]


class _Scan(NamedTuple):
  """One scan as two readers have it."""

  subject: str
  finished: bool
  places: list[places.MarkedPlace]
  records: dict[str, ReviewRecord]


def measure(
  root: pathlib.Path,
  raters: Sequence[str] = (),
  *,
  matching_mm: float = places.MATCHING_MM,
  **how,
) -> Agreement:
  """Reads all journals and compares.

  Args:
    root: folder of the reviews.
    raters: names; none: everybody but adjudicators.
    matching_mm: farthest apart that two additions may be to be one place.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.

  Raises:
    NoInputError: nobody has reviews here, or a name is not known.
    InputError: readers were shown different candidates.
  """
  root = pathlib.Path(root)
  names = list(raters) or readers_of(root)
  if not names:
    raise NoInputError(f'{root}: holds no reviews; give the folder of some.')
  names = folders.check_raters(root, names, least=1)
  records = {
    name: {
      case: journal.read(folders.folder_of(root, name, case))
      for case in folders.cases(root, name)
    }
    for name in names
  }
  shared = sorted(set.intersection(*(set(r) for r in records.values())))
  complete = [
    case
    for case in shared
    if all(records[name][case].is_completed for name in names)
  ]
  table = np.array(
    [[_accepted(records[n][case]) for n in names] for case in complete]
  ).reshape(-1, len(names))
  every = [one for some in records.values() for one in some.values()]
  return Agreement(
    readers=tuple(
      _reader(n, records[n], how)._replace(gain=_gain(root, n, records[n], how))
      for n in names
    ),
    pairs=tuple(
      _pair(one, two, records, matching_mm, how)
      for one, two in itertools.combinations(names, 2)
    ),
    icc=counts_lib.icc(table, level=how.get('level', 0.95)),
    scans=len(complete),
    simulated=any(record.header['simulated'] for record in every),
    places=tuple(_rows(names, records, matching_mm)),
  )


def readers_of(root: pathlib.Path) -> list[str]:
  """Names of the readers, without those who only decide between others."""
  return [
    name
    for name in folders.readers(root)
    if not doors.is_there(root / name / adjudication.NOTE)
  ]


def _accepted(record: ReviewRecord) -> int:
  return sum(mark.verdict == 'accept' for mark in places.marks(record, ''))


def subject_of(case: str) -> str:
  """'sub-01_ses-1' to 'sub-01': the patient is the unit."""
  return case.split('_')[0]


def _reader(name, records: Mapping[str, ReviewRecord], how) -> Reader:
  marks = {case: places.marks(one, name) for case, one in records.items()}
  every = [mark for some in marks.values() for mark in some]
  judged = [mark for mark in every if mark.verdict]
  finished = [one for one in records.values() if one.is_completed]
  rated = [
    (mark.item.rating, mark.item.score, subject_of(case))
    for case, some in marks.items()
    for mark in some
    if mark.item.rating is not None and mark.item.score is not None
  ]
  columns = list(zip(*rated)) or [(), (), ()]
  return Reader(
    name=name,
    cases=len(records),
    completed=len(finished),
    verdicts={v: sum(m.verdict == v for m in judged) for v in VERDICTS},
    added=sum(mark.item.origin != MODEL for mark in every),
    again=_again(records, how),
    decision_s=stats.spread([m.item.ms / 1000 for m in judged if m.item.ms]),
    case_s=stats.spread([one.ms / 1000 for one in finished if one.ms]),
    rating=stats.spearman(*map(np.array, columns), **how) if rated else None,
    ratings=tuple((a, b) for a, b, _ in rated),
  )


def _gain(root, name, records, how) -> unaided.Unaided | None:
  readings = {}
  for case, record in records.items():
    if record.done_rev is not None and record.is_completed:
      folder = folders.folder_of(root, name, case)
      alone = journal.read(folder, until=record.done_rev - 1)
      readings[case] = alone, record
  return unaided.compare(readings, subject_of, **how)


def _again(records, how) -> stats.VerdictAgreement | None:
  """First reading against the hidden second one."""
  first, second, subject = [], [], []
  repeats = False
  for case, record in records.items():
    for number, original in record.repeats.items():
      repeats = True
      said = [record.items[n].verdict for n in (original, number)]
      if all(said):
        first.append(VERDICTS.index(said[0]))
        second.append(VERDICTS.index(said[1]))
        subject.append(subject_of(case))
  if not repeats:
    return None
  return stats.verdicts(
    np.array(first, int),
    np.array(second, int),
    np.array(subject, str),
    num_categories=len(VERDICTS),
    **how,
  )


def _pair(one, two, records, matching_mm, how) -> Pair:
  scans = []
  for case in sorted(records[one].keys() & records[two].keys()):
    both = {name: records[name][case] for name in (one, two)}
    scans.append(
      _Scan(
        subject_of(case),
        all(record.is_completed for record in both.values()),
        places.of_records(both, matching_mm=matching_mm),
        both,
      )
    )
  finished = [scan for scan in scans if scan.finished]
  sums, found = _found(finished, one, two)
  return Pair(
    first=one,
    second=two,
    scans=len(scans),
    completed=len(finished),
    both_or_none=_verdicts(scans, one, two, VERDICTS[:2], how),
    verdicts=_verdicts(scans, one, two, VERDICTS, how),
    found=found,
    positive=stats.positive_agreement(*sums, **how) if finished else _NO_SCAN,
    counts=_counts(finished, one, two, how),
    outlines=_outlines(scans, one, two, how),
  )


def _verdicts(scans, one, two, allowed, how) -> stats.VerdictAgreement:
  """On candidates; what a reader added has no second verdict."""
  first, second, subject = [], [], []
  for scan in scans:
    for place in scan.places:
      said = [place.marks[n].verdict for n in (one, two) if n in place.marks]
      if place.candidate and all(v in allowed for v in said):
        first.append(allowed.index(said[0]))
        second.append(allowed.index(said[1]))
        subject.append(scan.subject)
  return stats.verdicts(
    np.array(first, int),
    np.array(second, int),
    np.array(subject, str),
    num_categories=len(allowed),
    **how,
  )


def _took(place: places.MarkedPlace, name: str) -> bool:
  mark = place.marks.get(name)
  return mark is not None and mark.verdict == 'accept'


def _found(scans, one, two):
  """(sums per patient of both, first only, second only), and their totals."""
  names = sorted({scan.subject for scan in scans})
  sums = np.zeros((3, len(names)))
  for scan in scans:
    at = names.index(scan.subject)
    for place in scan.places:
      a, b = _took(place, one), _took(place, two)
      if a or b:
        sums[0 if a and b else 1 if a else 2, at] += 1
  return sums, tuple(int(total) for total in sums.sum(1))


def _counts(scans, one, two, how) -> counts_lib.CountAgreement | None:
  if not scans:
    return None
  found = [
    np.array([_accepted(scan.records[name]) for scan in scans], int)
    for name in (one, two)
  ]
  subject = np.array([scan.subject for scan in scans])
  return counts_lib.of_counts(*found, subject, **how)


def _outlines(scans, one, two, how) -> Outlines:
  rows, subject = [], []
  for scan in scans:
    source = {
      row['id']: decode_runs(row['voxels'], scan.records[one].view.size)
      for row in scan.records[one].header['items']
      if row['repeat_of'] is None
    }
    for place in scan.places:
      if not (_took(place, one) and _took(place, two)):
        continue
      a, b = place.marks[one], place.marks[two]
      if not len(a.voxels) or not len(b.voxels):
        continue
      begun = source.get(place.key)
      edited = begun is None or not (
        np.array_equal(begun, a.voxels) and np.array_equal(begun, b.voxels)
      )
      away = float(np.linalg.norm(np.subtract(a.mm, b.mm)))
      ratio = len(a.voxels) / len(b.voxels)
      rows.append((stats.dice(a.voxels, b.voxels), ratio, away, edited))
      subject.append(scan.subject)
  table = np.array(rows, float).reshape(-1, 4)
  subject, edited = np.array(subject, str), table[:, 3] > 0
  of_edited = subject[edited]
  dice, ratio, away = table[:, :3].T
  return Outlines(
    lesions=len(rows),
    edited=int(edited.sum()),
    dice=stats.mean(dice, subject, scale='logit', **how),
    dice_edited=stats.mean(dice[edited], of_edited, scale='logit', **how),
    volume_ratio=stats.geometric_mean(ratio[edited], of_edited, **how),
    distance_mm=stats.mean(away[edited], of_edited, scale='log', **how),
  )


def _rows(names, records, matching_mm):
  """All places of all scans with what each reader said."""
  for case in sorted(set().union(*records.values())):
    own = {n: records[n][case] for n in names if case in records[n]}
    done = {name: record.is_completed for name, record in own.items()}
    for place in places.of_records(own, matching_mm=matching_mm):
      yield {
        'case': case,
        'place': place.key,
        **dict(zip('xyz', (round(v, 2) for v in place.mm))),
        **{
          f'said_by_{name}': places.said_by(place, name, finished=done[name])
          if name in own
          else None
          for name in names
        },
      }
