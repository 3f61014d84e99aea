"""A table of lesion positions (csv, tsv or xlsx) to points per scan.

Rule: every row is used or refused with its number; no row is skipped.
"""

import contextlib
import os
import pathlib
import re
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax import delimited, doors
from cmbjax.errors import InputError, NoInputError, shown

WHO = (
  'scan', 'name', 'image', 'file', 'filename', 'file_name', 'image_id',
  'scan_id', 'participant_id', 'subject', 'subject_id', 'sub', 'patient',
  'patient_id', 'case', 'case_id', 'id',
)  # fmt: skip
SESSION = ('session', 'session_id', 'ses', 'timepoint', 'visit')
_NOTHING = ('', 'n/a', 'nan')  # cells of a scan without a lesion
_MOST_BYTES = 200_000_000  # of an unpacked workbook
_MOST_ROWS = 1 << 20  # of a sheet, as of Excel; a row may claim any number
# Of a row its number, of a cell its column.
_PLACE = re.compile(rb'<(?:\w+:)?(row|c)\b[^>]*?\sr=["\']([A-Z]+|\d+)')


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
  that the scan has no lesion. The first sheet of a workbook is read.

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
  found: dict[tuple[str, str], list] = {}
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
      points.append((row.number, numbers(table, row, columns)))
  for key, row in empty.items():
    if found[key]:
      raise InputError(
        f'{path}: row {row} says that {shown(key[0])} has no lesion, row '
        f'{found[key][0][0]} has one of it; correct or remove one of them.'
      )
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
  return delimited.of_rows(path, _sheet(path), decimal_comma=True)


def _sheet(path) -> list[list[str]]:
  """The first sheet of a workbook: numbers as text, formulas as results."""
  try:
    _check_workbook(path)
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # remarks on styles and validations
      return _first_sheet(path)
  except InputError:
    raise
  except Exception as error:  # whatever openpyxl makes of a damaged file
    raise InputError(
      f'{path}: is not a readable workbook; save it as .xlsx or .csv again.'
    ) from error


def _first_sheet(path) -> list[list[str]]:
  import openpyxl  # late: only workbooks need it

  with (
    doors.open_file(path) as handle,
    contextlib.closing(
      openpyxl.load_workbook(handle, read_only=True, data_only=True)
    ) as book,
  ):
    sheet = book.worksheets[0]
    # Some programs write a wrong size of the sheet, which would hide rows.
    sheet.reset_dimensions()
    rows = []
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
      if number > _MOST_ROWS:
        raise ValueError(number)
      rows.append(['' if cell is None else str(cell) for cell in row])
  return rows


def _check_workbook(path) -> None:
  """Neither zip bombs nor entities reach the reader, and no row is lost."""
  with doors.open_file(path) as handle, zipfile.ZipFile(handle) as book:
    parts = book.infolist()
    if sum(part.file_size for part in parts) > _MOST_BYTES:
      raise InputError(f'{path}: unpacks to too much; save it as .csv.')
    for part in parts:
      if part.filename.startswith('xl/media/'):  # a picture may have a DOCTYPE
        continue
      data = book.read(part)
      wide = part.filename.endswith('.xml') and b'\0' in data
      # Never in a workbook; of UTF-16 nothing would be found.
      if wide or b'<!DOCTYPE' in data or b'<!ENTITY' in data:
        raise InputError(f'{path}: is not a plain workbook; save it as .csv.')
      if part.filename.startswith('xl/worksheets/'):
        _check_order(path, data)


def _check_order(path, sheet: bytes) -> None:
  """The reader passes over rows and cells that go back."""
  last: dict[bytes, tuple[int, bytes]] = {}
  for found in _PLACE.finditer(sheet):
    kind, name = found.groups()
    place = (len(name), name)  # '9' before '10', 'Z' before 'AA'
    if place <= last.get(kind, (0, b'')):
      raise InputError(f'{path}: its rows are not in order; save it as .csv.')
    last = {kind: place} if kind == b'row' else last | {kind: place}


def _plain(cell) -> str:
  """'X (mm)' to 'x'."""
  text = re.sub(r'[\[(].*?[\])]', '', cell).strip().lower()
  text = re.sub(r'[\s-]+', '_', text)
  return re.sub('^([xyz])_(mm|world|ras|lps)$', r'\1', text)


def _points(some) -> Points:
  values = np.array([v for _, v in some], float).reshape(-1, 3)
  return Points(values, tuple(number for number, _ in some))


def _letters(text) -> str:
  """For comparing: without folders, endings, case and punctuation."""
  name = re.sub(r'\.(nii(\.gz)?|dcm|mat)$', '', str(text).strip().lower())
  name = re.sub(r'^(\d+)\.0+$', r'\1', name)  # workbooks: 12.0
  return re.sub('[^a-z0-9]', '', name)


def _same_session(given, session) -> bool:
  own = session or ''
  return _letters(given) in (_letters(own), _letters(own.removeprefix('ses-')))


def _same_number(who, subject) -> bool:
  """'7' is sub-007."""
  digits = re.fullmatch(r'0*(\d{1,99})(\.0+)?', who.strip())
  own = re.fullmatch(r'sub-0*(\d{1,99})', subject)
  return bool(digits and own and int(digits[1]) == int(own[1]))
