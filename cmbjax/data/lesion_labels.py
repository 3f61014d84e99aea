"""The values of a label image to lesions.

Rule: every value is one lesion, or every connected part is; the JSON and the
table beside decide, else the places of the values, and the choice is a
sentence. What does not look like microbleeds needs a word in the JSON.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage, sparse, spatial
from scipy.sparse import csgraph

from cmbjax import delimited, doors, files
from cmbjax.data import label_names, label_values
from cmbjax.errors import InputError
from cmbjax.imaging import slices, volume
from cmbjax.intake.truth_files import json_beside, table_beside

TOUCHING = np.ones((3, 3, 3), bool)  # 26 neighbours
VALUE, COMPONENT = 'value', 'component'
_COUNTED = {
  VALUE: 'each value is one lesion',
  COMPONENT: 'each connected part is one lesion',
}

# What a JSON may say.
KEY = label_values.KEY
CHOSEN = 'MicrobleedValues'  # a list of whole numbers
ACCEPTED = 'LesionType'  # 'microbleeds': whatever the name or the size
_WORDS = (KEY, CHOSEN, ACCEPTED)
LESIONS, CLASSES = 'lesions', 'classes'
_NAMES = 'labels'  # of nnU-Net's dataset.json
_MIMICS = '_seg-mimic'  # ours: what readers rejected
_ALLOWED = (LESIONS, CLASSES, *label_values.CONTINUOUS)

_MOST_MARKED = 0.5  # of all voxels: else background is marked
_LARGEST_MM = 20.0  # of a sphere of that volume; microbleeds have 10 at most
_LARGE_MM, _MANY_LARGE, _MOST_LARGE = 10.0, 3, 0.2
_FEW_VALUES = 3  # as many classes as people use; more may be lesions
_NEAR_MM = 2.0
_MOST_FRAGMENTED = 20_000  # voxels: more are not one lesion in pieces
_NESTED_FROM = 4  # parts; half of them touch another value: core and rim


class CountedLesions(NamedTuple):
  """The lesions of one image."""

  labels: np.ndarray  # int32 [X, Y, Z], 0 = none
  numbers: np.ndarray  # int32 [L], ascending: what `labels` holds
  counted_by: str  # VALUE or COMPONENT
  said: tuple[str, ...]  # how they are counted, then what else was done
  listed: bool  # the table beside is a table of these lesions
  ours: bool  # a table of places and nothing else to say, as ours have


class _Words(NamedTuple):
  """What the JSON and the table beside an image say."""

  values: str | None
  chosen: tuple[int, ...] | None
  accepted: bool
  table: delimited.TextTable | None
  names: dict[int, str]  # of values


def read(
  path: pathlib.Path, grid: volume.Volume, *, judged: bool = False
) -> CountedLesions:
  """The lesions of a label image on the grid of a scan.

  Args:
    path: a label image, a mask, a probability map or signed distances.
    grid: what it has to be on.
    judged: a person will look at each lesion, so that a name that says
      another kind of lesion is said instead of refused.

  Raises:
    InputError: another grid, values without a meaning or with two, or what
      cannot be microbleeds; says which word in the JSON would decide.
  """
  loaded = volume.load(path)
  array = slices.array_like(loaded, grid)
  words = _words(path)
  continuous = words.values in label_values.CONTINUOUS
  labels, note = label_values.whole(
    path, array, words.values if continuous else None
  )
  notes = [*loaded.notes, *([note] if note else [])]
  if not words.accepted and label_names.is_of_other_lesions(path):
    sentence = 'its name does not say that these are microbleeds'
    if not judged:
      raise InputError(
        f'{path}: {sentence}; if they are, say "{ACCEPTED}": "microbleeds" in '
        'its JSON.'
      )
    notes.append(sentence)
  labels, note = _chosen(path, labels, words)
  notes += [note] if note else []
  if (labels > 0).mean() > _MOST_MARKED:
    raise InputError(
      f'{path}: marks {(labels > 0).mean():.0%} of all voxels; it looks '
      f'inverted, so correct it, or say "{CHOSEN}": [0] in its JSON.'
    )
  spacing_mm = grid.spacing_mm
  counted_by, why, listed = _decide(path, labels, words, spacing_mm)
  if counted_by == COMPONENT:
    labels, touching = _parts(labels)
    notes += [touching] if touching else []
  numbers = np.array(_values(labels), np.int32)
  if not (words.accepted or _has_places(words.table)):
    _check_sizes(path, labels, numbers, spacing_mm)
  said = (f'{_COUNTED[counted_by]} ({why})', *notes)
  ours = len(said) == 1 and _has_places(words.table)
  return CountedLesions(labels, numbers, counted_by, said, listed, ours)


def components(mask: np.ndarray) -> np.ndarray:
  """Connected components (26 neighbours) of mask > 0, int32 from 1."""
  labels, _ = ndimage.label(mask > 0, structure=TOUCHING)
  return labels.astype(np.int32)


def together(
  of: Mapping[str, tuple[str, ...]], *, about: str = 'truth of '
) -> list[str]:
  """Sentences on many scans: what was said of which of them.

  Args:
    of: name of a scan -> what was said of it.
    about: how each sentence begins.
  """
  scans: dict[str, list[str]] = {}
  for name, said in of.items():
    for sentence in said:
      scans.setdefault(sentence, []).append(name)
  return [
    f'{about}{len(names)} of {len(of)} scans ({", ".join(names[:3])}'
    f'{", ..." if len(names) > 3 else ""}): {sentence}.'
    for sentence, names in scans.items()
  ]


def words_of(path: pathlib.Path) -> dict[str, Any]:
  """What is said of the values of an image outside of it and its table.

  The JSON beside goes first, then the nearest dataset_description.json above.

  Raises:
    InputError: one of them cannot be read.
  """
  above = (p / 'dataset_description.json' for p in path.parents)
  places = [next(filter(doors.is_there, above), None), json_beside(path)]
  said: dict[str, Any] = {}
  for place in filter(None, places):
    content = files.read_object(place)
    said |= {name: content[name] for name in _WORDS if name in content}
  if path.parent.name.startswith('labels'):  # nnU-Net
    about = path.parent.parent / 'dataset.json'
    if doors.is_there(about):
      said[_NAMES] = files.read_object(about).get('labels')
  return said


def _words(path) -> _Words:
  said = words_of(path)
  values, chosen = said.get(KEY), said.get(CHOSEN)
  if values is not None and values not in _ALLOWED:
    raise InputError(
      f'{path}: its JSON says "{KEY}": {values!r}, allowed are '
      f'{", ".join(map(repr, _ALLOWED))}.'
    )
  if chosen is not None and not (
    isinstance(chosen, list) and chosen and all(type(n) is int for n in chosen)
  ):
    raise InputError(
      f'{path}: its JSON says "{CHOSEN}": {chosen!r}, expected a list of whole '
      'numbers such as [1, 2].'
    )
  kind = said.get(ACCEPTED)
  if kind not in (None, 'microbleeds'):
    raise InputError(
      f'{path}: its JSON says "{ACCEPTED}": {kind!r}; only "microbleeds" can '
      'be read.'
    )
  beside = table_beside(path)
  table = delimited.read(beside) if beside else None
  if table is not None and table.column(*label_names.INDEX) is None:
    table = None
  names = _names(table, said.get(_NAMES))
  chosen = None if chosen is None else tuple(chosen)
  return _Words(values, chosen, kind is not None, table, names)


def _names(table, labels) -> dict[int, str]:
  """Value -> name, of the table, else of nnU-Net's dataset.json."""
  found: list = []
  if table is not None and table.column('name') is not None:
    index, name = table.column(*label_names.INDEX), table.column('name')
    found = [(row.cells[index], row.cells[name]) for row in table.rows]
  elif table is None and isinstance(labels, dict):
    # Version 1 has {"1": "CMB"}, version 2 {"CMB": 1}.
    found = [(a, b) if a.isdecimal() else (b, a) for a, b in labels.items()]
  return {
    int(n): str(name) for n, name in found if str(n).isdecimal() and int(n) > 0
  }


def _chosen(path, labels, words) -> tuple[np.ndarray, str]:
  """Only the values that are microbleeds, by the JSON or by their names."""
  if words.chosen is not None:
    taken = np.isin(labels, words.chosen)
    if 0 in words.chosen:  # a number for what was background
      labels = np.where(labels == 0, int(labels.max(initial=0)) + 1, labels)
    listed = ', '.join(map(str, words.chosen))
    note = f'only the values {listed} count, as the JSON says'
    return np.where(taken, labels, 0).astype(np.int32), note
  if words.accepted or _has_places(words.table) or _MIMICS in path.name:
    return labels, ''
  kinds = {n: label_names.kind(name) for n, name in words.names.items()}
  other = [n for n in _values(labels) if kinds.get(n) == label_names.OTHER]
  unknown = [n for n in _values(labels) if kinds.get(n) is None]
  called = label_names.MICROBLEED in kinds.values()
  classes = called and not label_names.lists_lesions(words.table)
  doubtful = unknown if classes else [] if called else other
  if doubtful:
    name = words.names.get(doubtful[0], 'no row')
    raise InputError(
      f'{path}: its table has {name!r} for the value {doubtful[0]}; say which '
      f'values are microbleeds: "{CHOSEN}": [1, 2] in its JSON.'
    )
  if not other:
    return labels, ''
  left = ', '.join(f'{n} ({words.names[n]})' for n in other)
  labels = np.where(np.isin(labels, other), 0, labels).astype(np.int32)
  return labels, f'values that are not microbleeds are left out: {left}'


def _decide(path, labels, words, spacing_mm) -> tuple[str, str, bool]:
  """VALUE or COMPONENT, why, and whether rows of the table are lesions."""
  table = words.table
  if words.values in (LESIONS, CLASSES):
    by = VALUE if words.values == LESIONS else COMPONENT
    return by, 'as the JSON says', by == VALUE
  if _has_places(table):
    return VALUE, 'its table has a place for each', True
  classes = not label_names.lists_lesions(table) and any(
    label_names.kind(name) for name in words.names.values()
  )
  listed = table is not None and not classes
  values = _values(labels)
  if len(values) == 1 and not listed:
    return COMPONENT, 'there is one value for all', False
  several = _scattered(labels, values, spacing_mm)
  if not several:
    return VALUE, 'each value is in one place', not classes
  if classes:
    return COMPONENT, 'values have names of classes', False
  few = len(values) <= _FEW_VALUES or 2 * len(several) >= len(values)
  if listed or not few:
    raise InputError(
      f'{path}: {len(several)} of {len(values)} values are in several places, '
      f'such as {several[0]}, '
      + ('but its table has a row for each' if listed else 'the others in one')
      + f'; say in its JSON "{KEY}": "{LESIONS}" (each value is one lesion) or '
      f'"{CLASSES}" (each connected part is one).'
    )
  return COMPONENT, 'values are in several places each, as classes are', False


def _has_places(table) -> bool:
  """Whether a table lists lesions: a place for each, as all of ours do."""
  return table is not None and any(
    {*axes} <= {*table.header} for axes in ('xyz', 'ijk')
  )


def _values(labels) -> list[int]:
  # 'K': as they are in memory, which is five times quicker.
  return (np.flatnonzero(np.bincount(labels.ravel('K'))[1:]) + 1).tolist()


def _scattered(labels, values, spacing_mm) -> list[int]:
  """Values with parts that are apart, not fragments of one lesion."""
  place = np.argwhere(labels)
  number = labels[tuple(place.T)]
  place = place[np.argsort(number, kind='stable')]
  ends = np.cumsum(np.bincount(number))[values]
  # Less than 2 mm or three voxels apart are fragments.
  near = [2 * max(1, round(_NEAR_MM / 2 / side)) + 1 for side in spacing_mm]
  some = np.split(place, ends[:-1])
  return [n for n, own in zip(values, some) if not _is_together(own, near)]


def _is_together(place, near) -> bool:
  """Whether voxels [N, 3] are one place, with steps of `near` at most."""
  if len(place) > _MOST_FRAGMENTED:
    place = place - place.min(0)
    room = np.zeros(place.max(0) + 1, bool)
    room[tuple(place.T)] = True
    return ndimage.label(room, TOUCHING)[1] == 1
  tree = spatial.KDTree(place / near)
  one, two = tree.query_pairs(1, p=np.inf, output_type='ndarray').T
  joined = sparse.coo_array((np.ones(len(one)), (one, two)), [len(place)] * 2)
  return csgraph.connected_components(joined, directed=False)[0] == 1


def _parts(labels) -> tuple[np.ndarray, str]:
  """Connected parts; values that touch stay apart unless most of them do.

  Where a definite lesion touches a possible one they are two. Where every
  other part touches another value they are core and rim.
  """
  both = components(labels)
  where = np.nonzero(both)
  part, value = both[where].astype(np.int64), labels[where]
  pairs = np.unique(part << 32 | value)
  mixed, sides = np.unique(pairs >> 32, return_counts=True)
  mixed = mixed[sides > 1].tolist()
  if not mixed:
    return both, ''
  apart, count = both.copy(), int(both.max())
  boxes = ndimage.find_objects(both)
  for number in mixed:
    box = boxes[number - 1]
    own = np.where(both[box] == number, labels[box], 0)
    for one in _values(own):
      pieces, more = ndimage.label(own == one, TOUCHING)
      apart[box] = np.where(pieces > 0, pieces + count, apart[box])
      count += more
  count -= len(mixed)  # their first numbers are of no voxel now
  touching = count - (int(both.max()) - len(mixed))
  if count >= _NESTED_FROM and 2 * touching >= count:
    return both, 'values that touch are parts of one lesion, as most do'
  kept = np.array([0, *_values(apart)])
  return np.searchsorted(kept, apart).astype(np.int32), ''


def _check_sizes(path, labels, numbers, spacing_mm) -> None:
  if not len(numbers):
    return
  volume_mm3 = np.bincount(labels[labels > 0])[numbers] * np.prod(spacing_mm)
  size_mm = np.cbrt(6 / np.pi * volume_mm3)
  large = int((size_mm > _LARGE_MM).sum())
  if size_mm.max() <= _LARGEST_MM and (
    large < _MANY_LARGE or large <= _MOST_LARGE * len(numbers)
  ):
    return
  raise InputError(
    f'{path}: {large} of {len(numbers)} lesions are larger than '
    f'{_LARGE_MM:g} mm, one like a ball of {size_mm.max():.0f} mm '
    f'(number {numbers[size_mm.argmax()]}), as in a mask of the brain, '
    'of white matter lesions or of a stroke; give another mask, or say in its '
    f'JSON which values are microbleeds ("{CHOSEN}": [2]), or that all are '
    f'("{ACCEPTED}": "microbleeds").'
  )
