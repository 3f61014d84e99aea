"""Several readers' reviews to one: what they agree on, and what is left.

Rule: nobody's review is changed. What is written is made from theirs alone,
so that a second run writes the same bytes, and the order of names is nothing.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import cmbjax
from cmbjax import doors, files
from cmbjax.errors import NoInputError
from cmbjax.review.log import folders, journal
from cmbjax.review.log.items import MODEL
from cmbjax.review.log.lines import EVENTS
from cmbjax.review.log.reader_mask import tsv
from cmbjax.review.log.record import ReviewRecord
from cmbjax.review.readers import adjudication, consensus, places
from cmbjax.review.readers.consensus import SETTLED, Settled
from cmbjax.review.readers.places import AGREED, DISAGREED, PENDING, MarkedPlace

SCHEMA = 'cmbjax-merge-1'
_COLUMNS = ('case', 'place', 'x', 'y', 'z', 'outcome', 'verdict')


def run_merge(
  root: pathlib.Path,
  raters: Sequence[str],
  *,
  adjudicate: str | None = None,
  matching_mm: float = places.MATCHING_MM,
  show_verdicts: bool = False,
) -> pathlib.Path:
  """Merges reviews; with `adjudicate`, prepares and takes in a third one.

  Writes root/merge_A_B[-ADJUDICATOR]/: a journal per scan (agreed and settled
  items have a verdict, all others none), disagreements.tsv and merge.json.

  Args:
    root: folder of the reviews.
    raters: at least two names with a folder there.
    adjudicate: gets a review of the disagreements only; what it says already
      counts.
    matching_mm: farthest apart that two additions may be to be one place.
    show_verdicts: the adjudicator sees what the readers said, as a comment.

  Returns:
    The merged folder.

  Raises:
    NoInputError: a reader without reviews, or no scan that all have begun.
    InputError: names that do not fit, or readers of different candidates.
  """
  root = pathlib.Path(root)
  raters = folders.check_raters(root, raters)
  if adjudicate is not None:
    adjudicate = adjudication.check_name(root, adjudicate, raters)
  folder = root / folder_name(raters, adjudicate)
  how = {'matching_mm': matching_mm, 'show_verdicts': show_verdicts}
  cases = {
    case: _merged(folder / case, raters, adjudicate, **how)
    for case in shared_cases(root, raters)
  }
  if adjudicate is not None:
    adjudication.write_note(root, adjudicate, raters, matching_mm=matching_mm)
  for path in folder.glob(f'*/{EVENTS}'):
    if path.parent.name not in cases:  # it was shared by all once
      path.unlink()
  rows = [row for case in cases.values() for row in case.rows]
  head = [*_COLUMNS, *(f'said_by_{name}' for name in raters), 'comments']
  files.write_text(folder / 'disagreements.tsv', tsv(head, rows))
  about = {
    'schema': SCHEMA,
    'raters': list(raters),
    'adjudicator': adjudicate,
    'matching_mm': matching_mm,
    'cmbjax': cmbjax.__version__,
    'cases': {name: case.counts for name, case in cases.items()},
  }
  files.write_json(folder / 'merge.json', about)
  return folder


class _Case(NamedTuple):
  """What came of one case, for the tables."""

  counts: dict[str, Any]
  rows: list[dict[str, Any]]  # of the places that were not agreed on


def _merged(
  folder: pathlib.Path,
  raters: Sequence[str],
  adjudicate: str | None,
  *,
  matching_mm: float,
  show_verdicts: bool,
) -> _Case:
  """Writes the journal of one case, and the adjudicator's of its rest."""
  root, case = folder.parent.parent, folder.name
  records = {name: journal.read(root / name / case) for name in raters}
  found = places.of_records(records, matching_mm=matching_mm)
  finished = {name: one.is_completed for name, one in records.items()}
  settled = [Settled(one, *places.outcome(one, finished)) for one in found]
  if adjudicate is not None and all(finished.values()):
    third = adjudication.prepare(
      root,
      adjudicate,
      records,
      [one.place for one in settled if one.outcome == DISAGREED],
      finished=finished,
      show_verdicts=show_verdicts,
      time=_last_time(root, raters, case),
    )
    settled = _with_third(settled, third, adjudicate)
  names = [*raters, adjudicate] if adjudicate else raters
  consensus.write(
    folder,
    records[min(records)],
    settled,
    raters=raters,
    adjudicate=adjudicate,
    time=_last_time(root, names, case),
  )
  late = sorted(name for name, done in finished.items() if not done)
  open_or_settled = (s for s in settled if s.outcome in (DISAGREED, SETTLED))
  return _Case(
    _counted(settled) | {'not_completed_by': late},
    [_row(case, one, finished) for one in open_or_settled],
  )


def folder_name(raters: Sequence[str], adjudicate: str | None = None) -> str:
  """'merge_a_b' or 'merge_a_b-carl': no name that a reader can have."""
  name = 'merge_' + '_'.join(sorted(raters))
  return f'{name}-{adjudicate}' if adjudicate else name


def shared_cases(root: pathlib.Path, raters: Sequence[str]) -> list[str]:
  """Names of the cases that all have begun.

  Raises:
    NoInputError: there is none.
  """
  begun = [set(folders.cases(root, name)) for name in raters]
  shared = sorted(set.intersection(*begun))
  if not shared:
    raise NoInputError(
      f'{root}: no scan was read by all of {", ".join(raters)}; let them read '
      'the same scans first.'
    )
  return shared


def _last_time(root, raters, case) -> str:
  """When one of them last wrote; instead of now, so that a second run
  writes the same."""
  lines = (
    line
    for name in raters
    if doors.is_there(root / name / case / EVENTS)
    for line in journal.lines(root / name / case)
  )
  return max((line.get('time') or '' for line in lines), default='')


def _with_third(settled, third: ReviewRecord, name: str) -> list[Settled]:
  """Takes over what the adjudicator has said, and what she added."""
  marks = places.marks(third, name)
  said = {mark.item.id: mark for mark in marks if mark.item.origin == MODEL}
  found = []
  for one in settled:
    mark = said.get(one.place.key)
    if one.outcome == DISAGREED and mark is not None and mark.verdict:
      one = one._replace(outcome=SETTLED, verdict=mark.verdict, by=mark)
    found.append(one)
  for mark in marks:
    if mark.item.origin != MODEL:
      key = f'added-{name}-{mark.item.number:03d}'
      place = MarkedPlace(key, False, {name: mark})
      outcome = SETTLED if mark.verdict else DISAGREED  # she took it back
      found.append(Settled(place, outcome, mark.verdict or '', mark))
  return found


def _counted(settled: Sequence[Settled]) -> dict[str, int]:
  outcomes = (AGREED, SETTLED, DISAGREED, PENDING)
  return {
    name: sum(one.outcome == name for one in settled) for name in outcomes
  }


def _row(case, one: Settled, finished) -> dict[str, Any]:
  said = {
    f'said_by_{name}': places.said_by(one.place, name, finished=done)
    for name, done in finished.items()
  }
  return {
    'case': case,
    'place': one.place.key,
    **dict(zip('xyz', (round(v, 2) for v in one.place.mm))),
    'outcome': one.outcome,
    'verdict': one.verdict,
    **said,
    'comments': consensus.comments(one),
  }


def describe(folder: pathlib.Path) -> list[str]:
  """What came of a merge, as sentences.

  Args:
    folder: as `run_merge` returned it.
  """
  about = files.read_object(folder / 'merge.json')
  cases = about['cases'].values()
  total = {
    name: sum(case[name] for case in cases)
    for name in (AGREED, SETTLED, DISAGREED, PENDING)
  }
  names, third = ' and '.join(about['raters']), about['adjudicator']
  said = [f'{names} agree on {total[AGREED]} places in {len(cases)} scans.']
  if third:
    said.append(f'{third} has decided {total[SETTLED]} more.')
  if total[DISAGREED]:
    by = (
      f'{third} decides with --rater {third}' if third else '--adjudicate NAME'
    )
    said.append(f'{total[DISAGREED]} are open: {by}.')
  if total[PENDING]:
    said.append(f'{total[PENDING]} were not read by all of them yet.')
  return said
