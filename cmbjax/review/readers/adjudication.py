"""Disagreements of readers to a review of those alone, by a third reader.

Rule: the adjudicator's own work is never overwritten; a review that nobody
has touched may be prepared again.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from cmbjax import doors, files
from cmbjax.errors import InputError
from cmbjax.review.log import composed, events, folders, journal
from cmbjax.review.log.items import MODEL, Candidate
from cmbjax.review.log.record import ReviewRecord
from cmbjax.review.readers import places
from cmbjax.review.readers.places import MarkedPlace

NOTE = 'adjudication.json'


def check_name(root: pathlib.Path, name: str, raters: Sequence[str]) -> str:
  """The adjudicator's label.

  Raises:
    InputError: a reader of the same scans, or somebody with reviews of their
      own here.
  """
  label = folders.rater_label(name)
  if label in raters:
    raise InputError(
      f'adjudicate: {label} is one of the readers; name somebody else.'
    )
  note = root / label / NOTE
  if doors.is_there(note):
    known = files.read_object(note).get('adjudicates')
    if known != list(raters):
      raise InputError(
        f'adjudicate: {label} decides between {" and ".join(known or [])} '
        'here; choose another name.'
      )
  elif not _decides(root, label, raters):
    raise InputError(
      f'adjudicate: {label} has own reviews in {root}; choose another name, '
      f'for example {label}Third.'
    )
  return label


def _decides(root: pathlib.Path, name: str, raters: Sequence[str]) -> bool:
  """Whether all reviews here were prepared for these readers; none is fine.

  So a merge that was stopped half-way can be run again.
  """
  headers = [
    journal.lines(folders.folder_of(root, name, case))[0]
    for case in folders.cases(root, name)
  ]
  return all(h.get('adjudicates') == list(raters) for h in headers)


def write_note(
  root: pathlib.Path, name: str, raters: Sequence[str], *, matching_mm: float
) -> None:
  """Says what the reviews of this reader are."""
  about = {'adjudicates': list(raters), 'matching_mm': matching_mm}
  files.write_json(root / name / NOTE, about)


def prepare(
  root: pathlib.Path,
  name: str,
  records: Mapping[str, ReviewRecord],
  disagreements: Sequence[MarkedPlace],
  *,
  finished: Mapping[str, bool],
  show_verdicts: bool,
  time: str,
) -> ReviewRecord:
  """The adjudicator's review of one case, begun when there is none.

  What the adjudicator has begun stays as it is, also when the readers have
  changed their minds since; disagreements that came later are then not in it.

  Args:
    root: folder of the reviews.
    name: the adjudicator.
    records: rater to record.
    disagreements: what is to be decided; none is fine.
    finished: as `places.outcome` takes it.
    show_verdicts: put the readers' verdicts into the comments.
    time: UTC, of the readers' last action; so that nothing hangs on now.
  """
  first = records[min(records)]
  folder = folders.folder_of(root, name, first.header['case'])
  header = composed.header_of(
    first,
    _candidates(disagreements),
    rater=name,
    blind=('score',) if show_verdicts else ('score', 'id', 'rater'),
  )
  header |= {'adjudicates': sorted(records), 'time': time}
  actions = _prepared(header, disagreements, finished, time, show_verdicts)
  header['prepared'] = len(actions)
  if doors.is_there(folder / journal.EVENTS):
    found = journal.read(folder)
    if journal.lines(folder)[0] == header or not _untouched(folder):
      return found
  with folders.hold(root, name):
    return composed.write(folder, header, actions)


def _prepared(header, disagreements, finished, time, show_verdicts):
  """What is in the journal before the adjudicator opens it."""
  base = {'ms': 0, 'time': time}
  if not disagreements:
    return [base | {'event': 'status', 'value': 'completed'}]
  if not show_verdicts:
    return []
  number = {i.id: i.number for i in ReviewRecord(header).items.values()}
  return [
    base
    | {
      'event': 'comment',
      'item': number[place.key],
      'value': _said(place, finished),
    }
    for place in disagreements
  ]


def _candidates(disagreements: Sequence[MarkedPlace]) -> list[Candidate]:
  taken = np.zeros(0, np.int64)
  found = []
  for place in disagreements:
    marks = [place.marks[name] for name in sorted(place.marks)]
    accepting = [m for m in marks if m.verdict == 'accept'] or marks
    voxels = np.setdiff1d(places.outline(accepting), taken)
    taken = np.union1d(taken, voxels)
    item = next(
      (m.item for m in marks if m.item.origin == MODEL), marks[0].item
    )
    found.append(
      Candidate(
        id=place.key,
        index=item.index,
        ijk=tuple(int(v) for v in item.ijk),
        voxels=voxels,
        score=item.score,
        status=item.status,
        region=item.region,
      )
    )
  return found


def _said(place: MarkedPlace, finished: Mapping[str, bool]) -> str:
  """'a: accept (definite); b: reject (vessel)'."""
  parts = []
  for name in sorted(finished):
    verdict = places.said_by(place, name, finished=finished[name])
    mark = place.marks.get(name)
    more = mark and (mark.item.certainty or mark.item.mimic)
    parts.append(f'{name}: {verdict}' + (f' ({more})' if more else ''))
  return '; '.join(parts)


def _untouched(folder: pathlib.Path) -> bool:
  """Whether a journal holds nothing but what was prepared."""
  header, *lines = journal.lines(folder)
  own = lines[header.get('prepared', 0) :]
  return 'adjudicates' in header and all(
    not events.of(line).is_work for line in own
  )
