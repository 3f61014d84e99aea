"""A table of lesion positions (csv, tsv or xlsx) to points per scan.

Rule: every row is used or refused with its number; no row is skipped.
"""

import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax import delimited
from cmbjax.data import point_rows, workbook
from cmbjax.errors import InputError, NoInputError, shown

WHO = (
  'scan', 'name', 'image', 'file', 'filename', 'file_name', 'image_id',
  'scan_id', 'participant_id', 'subject', 'subject_id', 'sub', 'patient',
  'patient_id', 'case', 'case_id', 'id',
)  # fmt: skip
SESSION = ('session', 'session_id', 'ses', 'timepoint', 'visit')
# Cells of a scan without a lesion; R writes NA, workbooks #N/A.
_NOTHING = ('', 'n/a', 'nan', 'na', '#n/a', 'none', 'null', '-', '<na>')
# What is in brackets behind x, y or z.
_OF_VOXELS = r'(^|[^a-z])(vox(el)?s?|vx|px|pix(el)?s?|ind(ex|ices))([^a-z]|$)'
_NOT_MM = r'(^|[^a-z])(cm|m|\u00b5m|um|inch|in)([^a-z]|$)'


class Points(NamedTuple):
  """The rows of one scan."""

  values: np.ndarray  # [M, 3]; M = 0: listed, without a lesion
  rows: tuple[int, ...]  # their numbers in the file, the header being 1


class PointTable(NamedTuple):
  """All rows, by who."""

  in_mm: bool  # x y z; else i j k
  points: dict[tuple[str, str], Points]  # (who, session or '')
  in_lps: bool = False  # its header says so


def read(path: pathlib.Path) -> PointTable:
  """Reads a table with a column of scans and x y z (mm) or i j k (voxels).

  Where both are there, x y z count. A row with a scan but no coordinates says
  that the scan has no lesion. Of a workbook the sheet that has these
  columns is read.

  Raises:
    NoInputError: no such file.
    InputError: unreadable, columns missing, or a row without three numbers.
  """
  if not os.path.lexists(path):
    raise NoInputError(f'{path}: no such file; check the name of the table.')
  table = _table(path)
  in_lps = any(re.search(r'\blps|_lps', name) for name in table.header)
  table = table._replace(header=[_plain(cell) for cell in table.header])
  header = table.header
  who, session = table.column(*WHO), table.column(*SESSION)
  axes = next((a for a in ('xyz', 'ijk') if {*a} <= {*header}), None)
  if who is None or axes is None:
    raise InputError(
      f'{path}: has the columns {shown(", ".join(header)) or "(none)"}; '
      f'give one of {", ".join(WHO[:6])}, ... and x y z (mm) or i j k (voxels).'
    )
  columns = [table.column(name) for name in axes]
  found: dict[tuple[str, str], list[tuple[delimited.TableRow, list]]] = {}
  empty: dict[tuple[str, str], int] = {}
  for row in table.rows:
    name = row.cells[who]
    if not name:
      raise InputError(
        f'{path}: row {row.number} names no scan; fill or remove it.'
      )
    key = (name, row.cells[session] if session is not None else '')
    points = found.setdefault(key, [])
    if all(row.cells[c].lower() in _NOTHING for c in columns):
      empty[key] = row.number
    else:
      points.append((row, numbers(table, row, columns)))
  for key, row in empty.items():
    if found[key]:
      raise InputError(
        f'{path}: row {row} says that {shown(key[0])} has no lesion, row '
        f'{found[key][0][0].number} has one of it; correct or remove one of '
        'them.'
      )
  for key, some in found.items():
    point_rows.check(table, some, ' '.join(filter(None, key)))
  points = {key: _points(some) for key, some in found.items()}
  return PointTable(axes == 'xyz', points, in_lps)


def numbers(
  table: delimited.TextTable, row: delimited.TableRow, columns: Sequence[int]
) -> list[float]:
  """The three coordinates of a row.

  Args:
    table: that it is in, for messages.
    row: one of its rows.
    columns: three of them.

  Raises:
    InputError: they are not three finite numbers.
  """
  comma = table.decimal_comma
  try:
    return [
      delimited.number(row.cells[column], decimal_comma=comma)
      for column in columns
    ]
  except ValueError:
    raise InputError(
      f'{table.path}: row {row.number} ({shown(" ".join(row.cells))}) has no '
      'three numbers in its coordinate columns; correct or remove the row.'
    ) from None


def match(
  path: pathlib.Path,
  table: PointTable,
  scans: Sequence[tuple[str, str | None, Iterable[str]]],
) -> dict[int, Points]:
  """Which scan each key of the table speaks of.

  Args:
    path: of the table, for messages.
    table: what was read.
    scans: (subject, session, other names such as file names) of each scan.

  Returns:
    Number of the scan -> its points.

  Raises:
    InputError: a key that fits no scan, or several.
  """
  names = [
    {_letters(n) for n in (subject, subject.removeprefix('sub-'), *others)}
    for subject, _, others in scans
  ]
  result, unknown = {}, []
  for (who, session), points in table.points.items():
    wanted = _letters(pathlib.PurePath(who.replace('\\', '/')).name)
    fits = [n for n, some in enumerate(names) if wanted in some]
    fits = fits or [n for n, s in enumerate(scans) if _same_number(who, s[0])]
    if session:
      fits = [n for n in fits if _same_session(session, scans[n][1])]
    if len(fits) != 1 or fits[0] in result:
      unknown.append((who, session, len(fits)))
    else:
      result[fits[0]] = points
  if unknown:
    who, session, count = unknown[0]
    more = f' (and {len(unknown) - 1} more)' if len(unknown) > 1 else ''
    has = 'no scan' if count == 0 else f'{max(count, 2)} scans or rows'
    raise InputError(
      f'{path}: {shown(f"{who} {session}")} fits {has}{more}; name '
      'scans as their files or subjects are, with a session column where a '
      f'subject has several. Scans: {", ".join(s[0] for s in scans[:5])}'
      f'{", ..." if len(scans) > 5 else ""}.'
    )
  return result


def _table(path) -> delimited.TextTable:
  ending = path.suffix.lower()
  if ending in ('.csv', '.tsv', '.txt'):
    return delimited.read(path)
  if ending not in ('.xlsx', '.xlsm'):
    raise InputError(f'{path}: is not a table; give .csv, .tsv or .xlsx.')
  # Cells of text may have a decimal comma.
  rows = workbook.read(path, is_table=_has_columns)
  return delimited.of_rows(path, rows, decimal_comma=True)


def _has_columns(cells: Sequence[str]) -> bool:
  """Whether a header is that of a table of points."""
  names = {_plain(cell) for cell in cells}
  return bool(names & set(WHO)) and any({*a} <= names for a in ('xyz', 'ijk'))


def _plain(cell) -> str:
  """'X (mm)' to 'x', 'X (voxel)' to 'i'; of another unit it stays as it is."""
  unit = re.search(r'[\[(](.*?)[\])]', cell)
  text = re.sub(r'[\[(].*?[\])]', '', cell).strip().lower()
  text = re.sub(r'[\s-]+', '_', text)
  text = re.sub('^([xyz])_(mm|world|ras|lps)$', r'\1', text)
  about = re.fullmatch('([xyz])(?:_(.*))?', text)
  if about and (unit or about[2]):
    words = f'{unit[1] if unit else ""} {about[2] or ""}'
    if re.search(_OF_VOXELS, words):
      return 'ijk'['xyz'.index(about[1])]
    if re.search(_NOT_MM, words):
      return cell
  return text


def _points(some) -> Points:
  values = np.array([v for _, v in some], float).reshape(-1, 3)
  return Points(values, tuple(row.number for row, _ in some))


def _letters(text) -> str:
  """For comparing: without folders, endings, case and punctuation."""
  name = re.sub(r'\.(nii(\.gz)?|dcm|mat)$', '', str(text).strip().lower())
  name = re.sub(r'^(\d+)\.0+$', r'\1', name)  # workbooks: 12.0
  return re.sub('[^a-z0-9]', '', name)


def _same_session(given, session) -> bool:
  own = session or ''
  given = re.sub(' 00:00:00$', '', given)  # a day in a workbook
  names = (_letters(own), _letters(own.removeprefix('ses-')))
  return _letters(given) in names or _same_digits(given, names[1])


def _same_number(who, subject) -> bool:
  """'7' is sub-007."""
  return _same_digits(who, subject.removeprefix('sub-'))


def _same_digits(one, other) -> bool:
  digits = re.fullmatch(r'0*(\d{1,99})(\.0+)?', one.strip())
  own = re.fullmatch(r'0*(\d{1,99})', other)
  return bool(digits and own and int(digits[1]) == int(own[1]))
