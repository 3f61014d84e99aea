"""Several readers' reviews to one: what they agree on, and what is left.

Rule: nobody's review is changed. What is written is made from theirs alone,
so that a second run writes the same bytes, and the order of names is nothing.
"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import cmbjax
from cmbjax import files
from cmbjax.errors import InputError, NoInputError
from cmbjax.review.log import checks, composed, folders, journal, reader_mask
from cmbjax.review.log.geometry import View, decode_runs
from cmbjax.review.log.items import MODEL, Candidate
from cmbjax.review.log.record import ReviewRecord
from cmbjax.review.readers import adjudication, places
from cmbjax.review.readers.places import AGREED, DISAGREED, PENDING, Place

SCHEMA = 'cmbjax-merge-1'
SETTLED = 'adjudicated'
_COLUMNS = ('case', 'place', 'x', 'y', 'z', 'outcome', 'verdict')


class Settled(NamedTuple):
  """One place and what came of it.

  Attributes:
    place: with the readers' marks.
    outcome: AGREED, SETTLED (by the adjudicator), DISAGREED or PENDING.
    verdict: 'accept', 'reject' or 'unsure'; '' for the last two outcomes.
    by: the adjudicator's mark, where that settled it.
  """

  place: Place
  outcome: str
  verdict: str
  by: places.Mark | None = None

  @property
  def decisive(self) -> list[places.Mark]:
    """The marks that accept it, the adjudicator's alone where there is one."""
    if self.by is not None:
      return [self.by]
    return [m for m in self.place.marks.values() if m.verdict == 'accept']


def run_merge(
  root: pathlib.Path,
  raters: Sequence[str],
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
  raters = check_raters(root, raters)
  if adjudicate is not None:
    adjudicate = adjudication.check_name(root, adjudicate, raters)
  folder = root / folder_name(raters, adjudicate)
  summary: dict[str, Any] = {}
  rows: list[dict[str, Any]] = []
  for case in shared_cases(root, raters):
    records = read_all(root, raters, case)
    found = places.of_records(records, matching_mm=matching_mm)
    finished = {r: is_finished(one) for r, one in records.items()}
    settled = [settle(place, finished) for place in found]
    open_ones = [s for s in settled if s.outcome == DISAGREED]
    if adjudicate is not None and all(finished.values()):
      third = adjudication.prepare(
        root,
        adjudicate,
        records,
        [s.place for s in open_ones],
        finished=finished,
        show_verdicts=show_verdicts,
        time=_last_time(root, raters, case),
      )
      settled = _with_third(settled, third, adjudicate)
    _write_case(folder / case, records, settled, root, raters, adjudicate)
    summary[case] = _counted(settled) | {
      'not_completed_by': sorted(r for r, done in finished.items() if not done)
    }
    rows += [
      _row(case, s, finished)
      for s in settled
      if s.outcome in (DISAGREED, SETTLED)
    ]
  if adjudicate is not None:
    adjudication.write_note(root, adjudicate, raters, matching_mm=matching_mm)
  for path in folder.glob(f'*/{journal.EVENTS}'):
    if path.parent.name not in summary:  # it was shared by all once
      path.unlink()
  head = [*_COLUMNS, *(f'said_by_{name}' for name in raters), 'comments']
  files.write_text(folder / 'disagreements.tsv', tsv(head, rows))
  about = {
    'schema': SCHEMA,
    'raters': list(raters),
    'adjudicator': adjudicate,
    'matching_mm': matching_mm,
    'cmbjax': cmbjax.__version__,
    'cases': summary,
  }
  files.write_json(folder / 'merge.json', about)
  return folder


def folder_name(raters: Sequence[str], adjudicate: str | None = None) -> str:
  """'merge_a_b' or 'merge_a_b-carl': no name that a reader can have."""
  name = 'merge_' + '_'.join(sorted(raters))
  return f'{name}-{adjudicate}' if adjudicate else name


def check_raters(
  root: pathlib.Path, raters: Sequence[str], *, least: int = 2
) -> list[str]:
  """The names, sorted, each once.

  Raises:
    InputError: fewer than `least`.
    NoInputError: one has no reviews below `root`.
  """
  names = sorted({folders.rater_label(name) for name in raters})
  if len(names) < least:
    raise InputError(
      f'raters: found {", ".join(names) or "none"}; give at least {least} '
      'different names.'
    )
  known = readers(root)
  for name in names:
    if name not in known:
      listed = ', '.join(known) or 'nobody'
      raise NoInputError(
        f'{root}: {name} has no reviews here; there are those of {listed}.'
      )
  return names


def readers(root: pathlib.Path) -> list[str]:
  """Names with reviews below `root`, without merged folders."""
  return [name for name in folders.raters(root) if name.isalnum()]


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


def read_all(
  root: pathlib.Path, raters: Sequence[str], case: str
) -> dict[str, ReviewRecord]:
  """Rater to record of one case."""
  return {
    name: journal.read(folders.folder_of(root, name, case)) for name in raters
  }


def is_finished(record: ReviewRecord) -> bool:
  """Whether the reader called the case completed (flagged ones are not)."""
  return record.status == 'completed'


def settle(place: Place, finished: Mapping[str, bool]) -> Settled:
  """What the readers alone say about a place."""
  return Settled(place, *places.outcome(place, finished))


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
      place = Place(key, False, {name: mark})
      outcome = SETTLED if mark.verdict else DISAGREED  # she took it back
      found.append(Settled(place, outcome, mark.verdict or '', mark))
  return found


def _counted(settled: Sequence[Settled]) -> dict[str, int]:
  outcomes = (AGREED, SETTLED, DISAGREED, PENDING)
  return {
    name: sum(one.outcome == name for one in settled) for name in outcomes
  }


def _write_case(folder, records, settled, root, raters, adjudicate) -> None:
  """The journal of one merged case."""
  first = records[min(records)]
  header = composed.header_of(
    first,
    candidates_of(first.header),
    rater='consensus',
    blind=(),
  )
  for name in ('least', 'below'):  # alike for all; nobody saw these
    header[name] = first.header.get(name) or header[name]
  header['merged'] = {'raters': list(raters), 'adjudicator': adjudicate}
  names = [*raters, adjudicate] if adjudicate else raters
  time = _last_time(root, names, first.header['case'])
  header['time'] = time
  actions = _actions(settled, header)
  if all(one.verdict for one in settled):
    actions.append({'event': 'status', 'value': 'completed', 'ms': 0})
  actions = [action | {'time': time} for action in actions]
  composed.write(folder, header, actions)


def candidates_of(header: Mapping[str, Any]) -> list[Candidate]:
  """The candidates of a journal as the source has them, by name.

  They stand in its first line with their outlines, shown or not.
  """
  size = View.from_json(header['grid']).size
  found = [
    Candidate(
      id=row['id'],
      index=row['index'],
      ijk=tuple(row['ijk']),
      voxels=decode_runs(row['voxels'], size),
      score=row['score'],
      status=row['status'],
      region=row['region'],
    )
    for row in header['items']
    if row['repeat_of'] is None
  ]
  return sorted(found, key=lambda one: one.id)


def _actions(settled, header) -> list[dict[str, Any]]:
  """What a reader would do to say the same, in an order that always works.

  Voxels are given up before they are taken, because one belongs to one item.
  """
  begun = ReviewRecord(header)
  number = {item.id: item.number for item in begun.items.values()}
  clear, reject, draw, accept, add = [], [], [], [], []
  for one in settled:
    key = one.place.key
    if not one.verdict:
      continue
    if not one.place.candidate:
      if one.verdict == 'accept':
        add += _addition(one, begun.view)
      continue
    item = number[key]
    base = {'item': item, 'ms': 0}
    if one.verdict == 'accept':
      old, new = begun.voxels(item), places.outline(one.decisive)
      new = new if len(new) else old  # nobody saw one, or all erased it
      gone, more = np.setdiff1d(old, new), np.setdiff1d(new, old)
      edit = base | {'event': 'edit', 'set': [], 'clear': []}
      clear += [edit | {'clear': gone.tolist()}] if gone.size else []
      draw += [edit | {'set': more.tolist()}] if more.size else []
      accept += _accepted(one, base)
    else:
      mimic = _common(one, 'mimic') if one.verdict == 'reject' else None
      said = {'event': 'verdict', 'value': one.verdict}
      said |= {'mimic': mimic} if mimic else {}
      reject += [base | said, *_details(one, base)]
  return [*clear, *reject, *draw, *accept, *add]


def _accepted(one: Settled, base) -> list[dict[str, Any]]:
  said = {'event': 'verdict', 'value': 'accept'}
  certainty = _certainty(one)
  said |= {'certainty': certainty} if certainty else {}
  return [base | said, *_details(one, base)]


def _details(one: Settled, base) -> list[dict[str, Any]]:
  """Region and comments, where there are any."""
  found = []
  region = _common(one, 'region')
  if region and region != 'unknown':
    found.append(base | {'event': 'region', 'value': region})
  text = comments(one)
  if len(text) > checks.LONGEST_TEXT:  # theirs are whole in their reviews
    text = text[: checks.LONGEST_TEXT - 4] + ' ...'
  if text:
    found.append(base | {'event': 'comment', 'value': text})
  return found


def _addition(one: Settled, view) -> list[dict[str, Any]]:
  """Adds the lesion, at the voxel of its outline next to the centre."""
  voxels = places.outline(one.decisive)
  ijk = one.decisive[0].item.ijk
  if len(voxels):
    own = view.ijk_of(voxels)
    away = ((own - own.mean(0)) * view.spacing_mm) ** 2
    ijk = own[away.sum(1).argmin()]
  action = {'event': 'add', 'ijk': [int(v) for v in ijk], 'ms': 0}
  if len(voxels):
    action |= {'set': voxels.tolist(), 'tool': {'name': 'merge'}}
  base = {'item': composed.LAST, 'ms': 0}
  certainty = _certainty(one)
  sure = {'event': 'certainty', 'value': certainty}
  return [action, *([base | sure] if certainty else []), *_details(one, base)]


def _certainty(one: Settled) -> str | None:
  """The least certain of what the readers said."""
  order = ('possible', 'probable', 'definite')
  said = [m.item.certainty for m in one.decisive if m.item.certainty]
  return min(said, key=order.index) if said else None


def _common(one: Settled, field: str) -> str | None:
  """What all who decided say alike; None where they differ."""
  marks = [one.by] if one.by else list(one.place.marks.values())
  said = {getattr(mark.item, field) for mark in marks}
  return said.pop() if len(said) == 1 else None


def comments(one: Settled) -> str:
  """'a: text; b: text', the adjudicator's last."""
  marks = [one.place.marks[name] for name in sorted(one.place.marks)]
  if one.by is not None and one.by not in marks:
    marks.append(one.by)
  said = [(m.rater, m.item.comment.strip()) for m in marks]
  return '; '.join(f'{name}: {text}' for name, text in said if text)


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
    'comments': comments(one),
  }


def tsv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
  """A BIDS table: tabs, 'n/a' for what is missing."""
  lines = ['\t'.join(names)]
  for row in rows:
    cells = ['' if row.get(n) is None else str(row[n]) for n in names]
    lines.append(
      '\t'.join(reader_mask.quoted(' '.join(c.split())) for c in cells)
    )
  return '\n'.join(lines) + '\n'


def _last_time(root, raters, case) -> str:
  folders = [root / name / case for name in raters]
  times = [
    composed.last_time(f) for f in folders if (f / journal.EVENTS).is_file()
  ]
  return max(times, default='')


def describe(folder: pathlib.Path) -> list[str]:
  """What came of a merge, as sentences.

  Args:
    folder: as `run_merge` returned it.
  """
  about = files.read_object(folder / 'merge.json')
  try:
    cases = about['cases'].values()
    total = {
      name: sum(int(case[name]) for case in cases)
      for name in (AGREED, SETTLED, DISAGREED, PENDING)
    }
    names, third = ' and '.join(about['raters']), about['adjudicator']
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise InputError(
      f'{folder / "merge.json"}: is not what a merge writes ({error!r}); merge '
      'again.'
    ) from error
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
