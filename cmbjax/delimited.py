"""The text of a table (csv, tsv, txt) to its rows, and cells to such text.

Rule: every row is there with its number, or the table is refused with one;
what cells mean is known to those who ask for the table.
"""

import codecs
import csv
import io
import math
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cmbjax import files
from cmbjax.errors import InputError, shown

_SEPARATORS = '\t;|,'  # of equally frequent ones the first
_TITLES = re.compile('sep=(.)', re.IGNORECASE)  # a first line of Excel


class TableRow(NamedTuple):
  """One row that is not empty."""

  number: int  # in the file: the header is 1, empty rows count
  cells: list[str]  # as many as the header has, stripped


class TextTable(NamedTuple):
  """A table, its header apart."""

  path: pathlib.Path
  header: list[str]  # lower case, stripped
  rows: list[TableRow]
  decimal_comma: bool  # ',' does not separate cells: it may be in a number

  def column(self, *names: str) -> int | None:
    """Where the first of these names is; None without one.

    Raises:
      InputError: two columns have that name.
    """
    for name in names:
      if self.header.count(name) > 1:
        raise InputError(
          f'{self.path}: has {self.header.count(name)} columns {name!r}; keep '
          'one of them.'
        )
      if name in self.header:
        return self.header.index(name)
    return None

  def dicts(self) -> list[dict[str, str]]:
    """Name to cell of each row, '' for 'n/a'; names have one column each.

    Raises:
      InputError: two columns have one name.
    """
    for name in filter(None, self.header):
      self.column(name)
    return [
      {
        name: '' if cell.lower() == 'n/a' else cell
        for name, cell in zip(self.header, row.cells)
        if name
      }
      for row in self.rows
    ]


def read(path: str | os.PathLike) -> TextTable:
  """Reads a table whose cells are separated by tabs, ';', ',' or '|'.

  UTF-8 or, with its mark, UTF-16; lines may end in any way. A cell in quotes
  may hold separators and ends of lines. A short row is filled with ''.

  Raises:
    InputError: it cannot be read, a quote is not closed, or a row has more
      cells than the header; names the row.
  """
  path = pathlib.Path(path)
  lines = list(io.StringIO(_text(path), newline=''))
  first = _TITLES.fullmatch(lines[0].strip()) if lines else None
  lines = ['\n', *lines[1:]] if first else lines
  separator = first[1] if first else _separator(path, lines)
  return of_rows(
    path, _records(path, lines, separator), decimal_comma=separator != ','
  )


def of_rows(
  path: pathlib.Path, rows: Iterable[Sequence[str]], *, decimal_comma: bool
) -> TextTable:
  """All cells of a table, the header first, to what `read` gives.

  Raises:
    InputError: a row has more cells than the header.
  """
  numbered = [
    (number, [cell.strip() for cell in cells])
    for number, cells in enumerate(rows, 1)
    if any(cell.strip() for cell in cells)
  ]
  header, below = (numbered[0][1], numbered[1:]) if numbered else ([], [])
  if decimal_comma and _names_rows(header, below):
    header = ['', *header]
  return TextTable(
    path,
    [name.lower() for name in header],
    [TableRow(n, _fitted(path, n, cells, len(header))) for n, cells in below],
    decimal_comma,
  )


def _names_rows(header, below) -> bool:
  """Whether R put 1, 2, 3, ... before the rows, and nothing before the header.

  With commas for both cells and decimals it could not be told.
  """
  return (
    len(header) >= 4
    and bool(below)
    and all(
      len(cells) == len(header) + 1 and cells[0] == str(count)
      for count, (_, cells) in enumerate(below, 1)
    )
  )


def number(text: str, *, decimal_comma: bool) -> float:
  """The finite number in a cell.

  Raises:
    ValueError: it is not one, or its comma may be of thousands.
  """
  text = re.sub(
    '^[\u2212\u2013]', '-', text.strip()
  )  # signs of word processors
  if decimal_comma and text.count(',') == 1 and '.' not in text:
    text = text.replace(',', '.')
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(text)
  return value


def write(path: str | os.PathLike, rows: Iterable[Sequence[str]]) -> None:
  """Writes cells with tabs, for `read`."""
  files.write_text(path, ''.join(line(row) + '\n' for row in rows))


def line(cells: Iterable[str]) -> str:
  """Cells with tabs; those that need quotes to be read back have them."""
  return '\t'.join(
    '"' + cell.replace('"', '""') + '"'
    if cell.startswith('"') or re.search('[\t\r\n]', cell)
    else cell
    for cell in cells
  )


def _text(path) -> str:
  data = files.read_bytes(path)
  if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    try:
      return data.decode('utf-16')
    except UnicodeDecodeError:
      pass
  elif b'\0' not in data:
    return files.read_text(path)
  raise InputError(
    f'{path}: is not text in UTF-8 (it looks like UTF-16, or like no text); '
    'save it as UTF-8.'
  )


def _separator(path, lines) -> str:
  """The most frequent one of the header, outside of quotes."""
  header = next((line for line in lines if line.strip()), '')
  plain = re.sub('"[^"]*"', '', header)
  if path.suffix.lower() == '.tsv' and '\t' in plain:
    return '\t'
  most = max(_SEPARATORS, key=plain.count)
  return most if most in plain else '\t'


def _records(path, lines, separator) -> list[list[str]]:
  """The cells of all rows, empty ones too."""
  reader = csv.reader(lines, delimiter=separator, strict=True)
  found: list[list[str]] = []
  columns = 0
  try:
    for cells in reader:
      if columns:
        _check_quoted(path, len(found) + 1, cells, separator, columns)
      found.append(cells)
      columns = columns or (len(cells) if any(map(str.strip, cells)) else 0)
  except csv.Error as error:
    raise InputError(
      f'{path}: row {len(found) + 1} cannot be read as cells ({error}); close '
      'or remove its quote, and save the table again.'
    ) from error
  return found


def _check_quoted(path, row, cells, separator, columns) -> None:
  """A quote that was forgotten ends at the next one, rows later."""
  for cell in cells:
    lines = re.split('\r\n|\r|\n', cell)
    if len(lines) > 1 and cell.count(separator) >= max(columns - 1, 1):
      raise InputError(
        f'{path}: row {row} has a quote that is closed {len(lines) - 1} lines '
        'later, and whole rows in between; close or remove it.'
      )


def _fitted(path, row, cells, columns) -> list[str]:
  """The cells below the header's names."""
  if any(cells[columns:]):
    raise InputError(
      f'{path}: row {row} ({shown(" ".join(cells))}) has {len(cells)} cells, '
      f'the header has {columns}; put cells that hold a separator in quotes.'
    )
  return cells[:columns] + [''] * (columns - len(cells))
