"""Places that readers settled to one journal, as a reader would have it.

Rule: what is agreed or settled has a verdict, all else none; voxels are given
up before they are taken, because one belongs to one item.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax.review.log import checks, composed
from cmbjax.review.log.geometry import View, decode_runs
from cmbjax.review.log.items import Candidate
from cmbjax.review.log.record import ReviewRecord
from cmbjax.review.readers import places
from cmbjax.review.readers.places import MarkedPlace

SETTLED = 'adjudicated'


class Settled(NamedTuple):
  """One place and what came of it.

  Attributes:
    place: with the readers' marks.
    outcome: AGREED, SETTLED (by the adjudicator), DISAGREED or PENDING.
    verdict: 'accept', 'reject' or 'unsure'; '' for the last two outcomes.
    by: the adjudicator's mark, where that settled it.
  """

  place: MarkedPlace
  outcome: str
  verdict: str
  by: places.Mark | None = None

  @property
  def decisive(self) -> list[places.Mark]:
    """The marks that accept it, the adjudicator's alone where there is one."""
    if self.by is not None:
      return [self.by]
    return [m for m in self.place.marks.values() if m.verdict == 'accept']


def write(
  folder: pathlib.Path,
  first: ReviewRecord,
  settled: Sequence[Settled],
  *,
  raters: Sequence[str],
  adjudicate: str | None,
  time: str,
) -> None:
  """The journal of one merged case.

  Args:
    folder: of that case.
    first: one of the readings.
    settled: all places.
    raters: who read.
    adjudicate: who decided the rest; None: nobody.
    time: UTC, of the last action; so that a second run writes the same.
  """
  header = composed.header_of(
    first,
    candidates_of(first.header),
    rater='consensus',
    blind=(),
  )
  for name in ('least', 'below'):  # alike for all; nobody saw these
    header[name] = first.header.get(name) or header[name]
  header['merged'] = {'raters': list(raters), 'adjudicator': adjudicate}
  header['time'] = time
  actions = _actions(settled, header)
  if all(one.verdict for one in settled):
    actions.append({'event': 'status', 'value': 'completed', 'ms': 0})
  actions = [action | {'time': time} for action in actions]
  composed.write(folder, header, actions)


def candidates_of(header: Mapping[str, Any]) -> list[Candidate]:
  """The candidates of a journal as the source has them, by name.

  They are in its first line with their outlines, shown or not.
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
      evidence=row.get('evidence', ''),
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
