"""Rows of a table of positions that do not count as a lesion.

Rule: a row that says it is not a microbleed, or one that another row holds
already, is refused with its number; none is counted and none is skipped.
"""

import re
from collections.abc import Sequence

from cmbjax import delimited
from cmbjax.data import label_names
from cmbjax.errors import InputError, shown

_KINDS = (
  'type', 'class', 'kind', 'verdict', 'status', 'label', 'lesion_type',
  'finding', 'diagnosis', 'decision', 'rating',
)  # fmt: skip
_INCLUDED = (
  'cmb', 'is_cmb', 'microbleed', 'is_microbleed', 'accepted', 'included',
  'include', 'valid', 'true_positive', 'tp',
)  # fmt: skip
_EXCLUDED = (
  'excluded', 'exclude', 'rejected', 'mimic', 'is_mimic', 'false_positive',
  'fp', 'artefact', 'artifact',
)  # fmt: skip
_READERS = ('rater', 'reader', 'observer', 'annotator', 'rater_id', 'reader_id')
_YES = ('1', '1.0', 'yes', 'y', 'true', 'x', 'ja', 'oui', 'si')
_NO = ('0', '0.0', 'no', 'n', 'false', 'nein', 'non')


def check(
  table: delimited.TextTable,
  rows: Sequence[tuple[delimited.TableRow, Sequence[float]]],
  scan: str = '',
) -> None:
  """Refuses what would be counted as a lesion and is none.

  Args:
    table: that they are in.
    rows: of one scan, with their three coordinates.
    scan: what the table calls it, for messages.

  Raises:
    InputError: a row says that it is not a microbleed, two rows are at the very
      same place, or rows are of several readers.
  """
  header = [re.sub(r'[\s-]+', '_', name) for name in table.header]
  for row, _ in rows:
    for name, cell in zip(header, row.cells):
      if _denies(name, cell.strip()):
        raise InputError(
          f'{table.path}: row {row.number} has {shown(cell)!r} in its column '
          f'{name!r}, so it is not a microbleed; remove such rows, '
          'or that column.'
        )
  _check_readers(table, header, [row for row, _ in rows], scan)
  seen: dict[tuple, int] = {}
  for row, place in rows:
    first = seen.setdefault(tuple(place), row.number)
    if first != row.number:
      where = ' '.join(f'{value:g}' for value in place)
      raise InputError(
        f'{table.path}: row {row.number} is at the place of row {first} '
        f'({where}); keep one row for each microbleed.'
      )


def _denies(name, cell) -> bool:
  if name in _KINDS:
    return label_names.kind(cell) == label_names.OTHER
  if name in _INCLUDED:
    return cell.lower() in _NO
  return name in _EXCLUDED and cell.lower() in _YES


def _check_readers(table, header, rows, scan) -> None:
  """One microbleed that two readers marked is one."""
  for name in _READERS:
    if header.count(name) != 1:
      continue
    at = header.index(name)
    readers = sorted({row.cells[at] for row in rows})
    if len(readers) > 1:
      whose = f' of {shown(scan)}' if scan else ''
      raise InputError(
        f'{table.path}: its rows{whose} are of {len(readers)} readers '
        f'({shown(", ".join(readers[:5]))}); keep those of one, or what they '
        'agreed on.'
      )
