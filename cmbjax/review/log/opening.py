"""Candidates to the first line of a journal: what a reader is going to see.

Rule: order and repeats are drawn once, from named streams of one seed, and
are in that line; nothing draws them again.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import cmbjax
from cmbjax.errors import InputError
from cmbjax.review.log import geometry
from cmbjax.review.log.items import (
  BLINDS,
  MODES,
  ORDERS,
  REGIONS,
  SCHEMA,
  Candidate,
)

# Numbers kept for what a first reader adds unaided: if candidates began at 1,
# the number of the first addition would tell how many are hidden.
UNAIDED = 1000
MOST_ITEMS = 60_000  # labels are uint16, and the reader adds some


class Terms(NamedTuple):
  """How a reader reads.

  Attributes:
    mode: one of MODES.
    blind: some of BLINDS. With 'mask' the items begin without outline.
    order: one of ORDERS; 'random' depends on seed, rater and case.
    seed: of the order and the repeats.
    repeat: percent of the candidates that are shown twice.
    least: likelihood from which candidates are shown, or 'definite' for those
      of that status; one without likelihood or status is shown. The others
      are apart, under 'below', and are never judged.
  """

  mode: str = 'second-reader'
  blind: tuple[str, ...] = ('score', 'id')
  order: str = 'likelihood'
  seed: int = 0
  repeat: float = 0.0
  least: float | str | None = None


def new_header(
  candidates: Iterable[Candidate],
  *,
  grid: Mapping[str, Any],
  rater: str,
  case: str,
  source: str,
  image_sha256: str,
  labels_sha256: str | None = None,
  model: str | None = None,
  simulated: bool = False,
  terms: Terms | None = None,
) -> dict[str, Any]:
  """The first line of a journal: what the reader is going to see.

  Items are numbered 1..n in the order shown; for a first reader from 1001,
  so that the numbers of his additions do not tell how many there are.

  Args:
    candidates: of the source; none is fine.
    grid: `geometry.View.to_json()`.
    rater: BIDS label.
    case: name of the case.
    source: name of the image file, without folders.
    image_sha256: of the image.
    labels_sha256: of the label image, None without one.
    model: fingerprint of the model, None without one.
    simulated: whether the image is.
    terms: how the reader reads; None: as usual.

  Raises:
    InputError: an option is none of the allowed, a candidate is outside
      the image, or two candidates share a voxel.
  """
  terms, every = terms or Terms(), list(candidates)
  _check_terms(terms)
  _check_candidates(every, geometry.View.from_json(grid))
  return {
    'schema': SCHEMA,
    'rev': 0,
    'event': 'open',
    'rater': rater,
    'case': case,
    'source': source,
    'image_sha256': image_sha256,
    'labels_sha256': labels_sha256,
    'grid': dict(grid),
    'model': model,
    'cmbjax': cmbjax.__version__,
    'simulated': bool(simulated),
    **_as_json(terms),
    **_listed(every, terms, f'{rater}/{case}'),
  }


def _as_json(terms: Terms) -> dict[str, Any]:
  whole = {'blind': list(terms.blind), 'seed': int(terms.seed)}
  return terms._asdict() | whole | {'repeat': float(terms.repeat)}


def _listed(
  every: Sequence[Candidate], terms: Terms, name: str
) -> dict[str, Any]:
  """The items as they are shown, and what is below the least likelihood."""
  candidates = [one for one in every if _reaches(one, terms.least)]
  below = [one for one in every if not _reaches(one, terms.least)]
  # A stream each, so that neither shifts what the other one draws.
  order = _stream(terms.seed, f'order/{name}')
  places = _arranged(candidates, terms.order, order)
  again = _stream(terms.seed, f'repeat/{name}')
  shown = _with_repeats(places, terms.repeat, again)
  first = 1 + (UNAIDED if terms.mode == 'first-reader' else 0)
  return {
    'items': _items(candidates, shown, first),
    'below': [_row(one) for one in below],
  }


def _check_terms(terms: Terms) -> None:
  seed, repeat = terms.seed, terms.repeat
  for name, value, allowed in (
    ('mode', [terms.mode], MODES),
    ('blind', terms.blind, BLINDS),
    ('order', [terms.order], ORDERS),
  ):
    wrong = [one for one in value if one not in allowed]
    if wrong:
      raise InputError(f'--{name}: {wrong[0]} is none of {", ".join(allowed)}.')
  if not isinstance(seed, int | np.integer) or seed < 0:
    raise InputError(f'--seed: {seed} is not a whole number from 0.')
  if not 0 <= repeat <= 100:
    raise InputError(f'--repeat: {repeat} is not a percentage, 0 to 100.')


def _check_candidates(
  candidates: Sequence[Candidate], view: geometry.View
) -> None:
  if len(candidates) > MOST_ITEMS // 2:
    raise InputError(
      f'{len(candidates)} candidates are too many to review, at most '
      f'{MOST_ITEMS // 2}; detect with a higher threshold.'
    )
  for one in candidates:
    voxels = np.asarray(one.voxels)
    outside = voxels.size and not (
      voxels.min() >= 0 and voxels.max() < view.size
    )
    if outside or not view.contains(one.ijk):
      raise InputError(
        f'{one.id}: lies outside the image of {view.shape} voxels; labels '
        'and image do not belong together.'
      )
    if one.region not in REGIONS:
      raise InputError(
        f'{one.id}: region {one.region} is none of {", ".join(REGIONS)}.'
      )
  owned = [geometry.distinct(one.voxels) for one in candidates]
  together = np.sort(np.concatenate([np.zeros(0, np.int64), *owned]))
  if (together[1:] == together[:-1]).any():
    raise InputError(
      'two candidates share a voxel; give a label image, where none can.'
    )


def _stream(seed: int, name: str) -> np.random.Generator:
  return np.random.default_rng([int(seed), zlib.crc32(name.encode())])


def _arranged(
  candidates: Sequence[Candidate], order: str, rng: np.random.Generator
) -> list[int]:
  """Rows of the candidates in the order shown, ties as they come."""
  rows = range(len(candidates))
  if order == 'random':
    return rng.permutation(len(candidates)).tolist()
  if order == 'position':  # from the lowest slice up
    return sorted(rows, key=lambda row: tuple(candidates[row].ijk)[::-1])
  return sorted(rows, key=lambda row: -(_score(candidates[row]) or 0.0))


def _with_repeats(
  places: Sequence[int], percent: float, rng: np.random.Generator
) -> list[tuple[int, bool]]:
  """(row, whether again), each repeat half a list behind its original.

  What comes early is repeated rather: there is more room behind it. Else the
  end of the list would be nothing but repeats.
  """
  count = len(places)
  # At least one, so that a small list has a measure of agreement at all.
  again = round(count * percent / 100)
  if percent > 0 and count:
    again = max(again, 1)
  room = np.maximum(count / 2 - np.arange(count), 0)
  # Efraimidis & Spirakis (2006): weighted, without replacement.
  drawn = np.log(rng.uniform(size=count)) / np.maximum(room, 1e-9)
  chosen = np.argsort(-drawn, kind='stable')[:again]
  keyed = [(float(place), row, False) for place, row in enumerate(places)]
  # Half a list later the reader has seen enough others to judge it again
  # without remembering what he said.
  for place in chosen:
    late = place + count / 2 + rng.uniform(0, max(room[place], 0.5))
    keyed.append((float(late), places[place], True))
  keyed.sort(key=lambda one: (one[0], one[2]))
  return [(row, repeated) for _, row, repeated in keyed]


def _items(candidates, shown, first) -> list[dict[str, Any]]:
  number_of = {
    row: first + place
    for place, (row, repeated) in enumerate(shown)
    if not repeated
  }
  owner: dict[int, int] = {}
  for row, one in enumerate(candidates):
    # Several label images may use one index: then the first has it.
    owner.setdefault(int(one.index), row)
  items = []
  for place, (row, repeated) in enumerate(shown):
    one = candidates[row]
    own = not repeated and owner[int(one.index)] == row
    items.append(
      {
        'item': first + place,
        **_row(one),
        'repeat_of': number_of[row] if repeated else None,
      }
      | ({} if own else {'index': 0})
      | ({'voxels': []} if repeated else {})
    )
  return items


def _row(one: Candidate) -> dict[str, Any]:
  return {
    'id': one.id,
    'index': int(one.index),
    'ijk': [int(v) for v in one.ijk],
    'score': _score(one),
    'status': one.status,
    'region': one.region,
    'evidence': one.evidence,
    'voxels': geometry.encode_runs(geometry.distinct(one.voxels)),
  }


def _reaches(one: Candidate, least: float | str | None) -> bool:
  if least is None:
    return True
  if least == 'definite':
    return one.status in (None, 'definite')
  return one.score is None or one.score >= least


def _score(one: Candidate) -> float | None:
  """Finite or None; JSON has no NaN."""
  if one.score is None or not np.isfinite(one.score):
    return None
  return round(float(one.score), 6)
