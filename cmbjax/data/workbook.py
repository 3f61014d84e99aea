"""A workbook (.xlsx) to the cells of the sheet that holds a table.

Rule: no row, cell or sheet that counts is passed over in silence.
"""

import contextlib
import pathlib
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence

from cmbjax import doors
from cmbjax.errors import InputError, shown

_MOST_BYTES = 200_000_000  # of an unpacked workbook
_MOST_ROWS = 1 << 20  # of a sheet, as of Excel; a row may claim any number
# Of a row its number, of a cell its column.
_PLACE = re.compile(rb'<(?:\w+:)?(row|c)\b[^>]*?\sr=["\']([A-Z]+|\d+)')


def read(
  path: pathlib.Path, *, is_table: Callable[[Sequence[str]], bool]
) -> list[list[str]]:
  """The sheet of a workbook: numbers as text, formulas as results.

  Args:
    path: of an .xlsx.
    is_table: whether cells are the header of the table that is looked for.

  Returns:
    The rows of the only sheet that has such a header; of the first one if none
    has.

  Raises:
    InputError: it cannot be read, several sheets hold such a table, or
      formulas have no result.
  """
  try:
    _check_workbook(path)
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # remarks on styles and validations
      return _sheet(path, is_table)
  except InputError:
    raise
  except Exception as error:  # whatever openpyxl makes of a damaged file
    raise InputError(
      f'{path}: is not a readable workbook; save it as .xlsx or .csv again.'
    ) from error


def _sheet(path, is_table) -> list[list[str]]:
  import openpyxl  # late: only workbooks need it

  with (
    doors.open_file(path) as handle,
    contextlib.closing(
      openpyxl.load_workbook(handle, read_only=True, data_only=True)
    ) as book,
  ):
    found = {sheet.title: _rows(sheet) for sheet in book.worksheets}
  titles = [t for t, rows in found.items() if is_table(_header(rows))]
  if len(titles) > 1:
    listed = shown(', '.join(titles[:6]))
    raise InputError(
      f'{path}: {len(titles)} of its sheets hold such a table ({listed}); put '
      'all rows into one sheet, or save the right one as .csv.'
    )
  title = titles[0] if titles else next(iter(found))
  _check_results(path, title, found[title])
  return [['' if c is None else str(c) for c in row] for row in found[title]]


def _rows(sheet) -> list[tuple]:
  """All cells; a chart sheet has none."""
  if not hasattr(sheet, 'iter_rows'):
    return []
  # Some programs write a wrong size of the sheet, which would hide rows.
  sheet.reset_dimensions()
  rows = []
  for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
    if number > _MOST_ROWS:
      raise ValueError(number)
    rows.append(row)
  return rows


def _header(rows) -> list[str]:
  first = next((row for row in rows if any(c is not None for c in row)), ())
  return ['' if cell is None else str(cell) for cell in first]


def _check_results(path, title, rows) -> None:
  """A formula that no program has worked out yet reads as an empty cell."""
  import openpyxl

  with (
    doors.open_file(path) as handle,
    contextlib.closing(openpyxl.load_workbook(handle, read_only=True)) as book,
  ):
    formulas = [
      (number, cell, formula)
      for number, (row, written) in enumerate(zip(rows, _rows(book[title])), 1)
      for cell, formula in zip(row, written)
      if isinstance(formula, str) and formula.startswith('=')
    ]
  # Of a workbook that was worked out, one may be empty by itself.
  if formulas and all(cell is None for _, cell, _ in formulas):
    number, _, formula = formulas[0]
    raise InputError(
      f'{path}: row {number} holds a formula without a result '
      f'({shown(formula)}); open it in a spreadsheet and save it again, or '
      'save it as .csv.'
    )


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
