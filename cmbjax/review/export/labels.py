"""What a reader decided to labels: parts, each with voxels of its own.

Rule: an accepted lesion has an outline near its point, a rejected one has no
voxel of a lesion, and what was neither accepted nor rejected is counted.
"""

from typing import NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.review.cases import case as cases_lib
from cmbjax.review.cases import grow
from cmbjax.review.export import located
from cmbjax.review.log.geometry import decode_runs
from cmbjax.review.log.items import MODEL, Item
from cmbjax.review.log.record import ReviewRecord
from cmbjax.review.readers import places

NEAR_MM = 5.0  # from an item's point to its outline: else one is of another
_NOTHING = np.zeros(0, np.int64)


class Part(NamedTuple):
  """One item as it is written."""

  item: Item
  voxels: np.ndarray  # sorted linear indices, never empty
  outlined: bool  # False: only its point is known


class Labels(NamedTuple):
  """The labels of one scan."""

  accepted: tuple[Part, ...]  # label n is part n - 1
  rejected: tuple[Part, ...]
  left_out: dict[str, int]  # 'unsure' and 'unread' to how many


def collect(
  record: ReviewRecord, image: volume.Volume, *, grow_missing: bool = False
) -> Labels:
  """What the reader decided, as parts with voxels of their own.

  Outlines that were hidden from the reader are those of the source. A
  rejected item without outline is its point.

  Args:
    record: a completed review.
    image: what was reviewed.
    grow_missing: outline accepted items that have none.

  Raises:
    InputError: an accepted item has no outline, or one far from its point.
  """
  every = seen(record)
  own = {mark.item.number: mark.voxels for mark in every}
  if 'mask' in record.header['blind']:
    _unhide(record, own)
  taken = np.concatenate([_NOTHING, *own.values()])
  accepted, rejected = [], []
  for mark in every:
    item, voxels = mark.item, own[mark.item.number]
    if mark.verdict == 'accept':
      outlined = voxels
      if not len(voxels):
        outlined = _grown(record, item, image, taken, grow_missing)
        taken = np.union1d(taken, outlined)
      accepted.append(Part(item, outlined, True))
    elif mark.verdict == 'reject':
      rejected.append((item, voxels))
  bled = np.concatenate([_NOTHING, *(p.voxels for p in accepted)])
  mimics = []
  for item, voxels in rejected:
    voxels = np.setdiff1d(voxels, bled)  # it may be painted over
    point = np.array([record.view.index_of(item.ijk)], np.int64)
    if len(voxels):
      mimics.append(Part(item, voxels, True))
    elif not np.isin(point, taken).any():
      taken = np.union1d(taken, point)
      mimics.append(Part(item, point, False))
  said = [mark.verdict for mark in every]
  lost = len(rejected) - len(mimics)
  counts = {'unsure': said.count('unsure'), 'unread': said.count(None)}
  below = len(record.header.get('below', ()))
  counts |= {'not_shown': below} if below else {}
  counts |= {'rejected_under_a_lesion': lost} if lost else {}
  for part in (*accepted, *mimics):
    _check_near(record, part)
  return Labels(tuple(accepted), tuple(mimics), counts)


def _check_near(record: ReviewRecord, part: Part) -> None:
  view = record.view
  ijk = view.ijk_of(part.voxels)
  gaps = view.to_world(ijk) - view.to_world(np.asarray(part.item.ijk))
  away = float(np.sqrt((gaps**2).sum(1)).min())
  if away > NEAR_MM:
    raise InputError(
      f'{record.header["case"]}: the outline of item {part.item.number} is '
      f'{away:.1f} mm from its point; move the point, or the outline.'
    )


def seen(record) -> list[places.Mark]:
  """What the reader added, and the candidates that he was shown."""
  return [
    mark
    for mark in places.marks(record, '')
    if not (record.hidden and mark.item.origin == MODEL)
  ]


def with_regions(
  labels: Labels, case: cases_lib.Case, image: volume.Volume
) -> Labels:
  """The labels with the regions of what the reader added."""
  pairs = [(part.item, part.voxels) for part in labels.accepted]
  found = located.locate(pairs, image, case.mask)
  return labels._replace(
    accepted=tuple(
      part._replace(item=located.named(part.item, found))
      for part in labels.accepted
    )
  )


def _unhide(record, own) -> None:
  """Outlines of the source, for items that the reader drew nothing on."""
  numbers = {
    record.items[n].id: n for n in own if record.items[n].origin == MODEL
  }
  taken = np.concatenate([_NOTHING, *own.values()])
  for item in record.header['items']:
    number = numbers.get(item['id'])
    if number is not None and not len(own[number]):
      source = decode_runs(item['voxels'], record.view.size)
      own[number] = np.setdiff1d(source, taken)


def _grown(record, item, image, taken, grow_missing) -> np.ndarray:
  case = record.header['case']
  if not grow_missing:
    raise InputError(
      f'{case}: item {item.number} is accepted, but has no outline; grow or '
      'paint one, or let the export grow what is missing.'
    )
  free = np.ones(image.array.shape, bool)
  place = record.view.ijk_of(taken)
  free[tuple(place.T)] = False
  try:
    grown = grow.grow(
      image.array,
      image.spacing_mm,
      item.ijk,
      free=free.__getitem__,
      least_contrast=0.0,  # a reader has said that it is one
    )
  except InputError as error:
    raise InputError(f'{case}: item {item.number}: {error}') from error
  if not len(grown.voxels):
    raise InputError(
      f'{case}: item {item.number} is accepted, but has no outline, and '
      'nothing dark is there to grow; paint one, or take the verdict back.'
    )
  return grown.voxels
