"""Tables of people to rows: all of them, or a sentence with a number."""

import pytest

from cmbjax import delimited
from cmbjax.errors import InputError
from tests.messages import says

ROWS = [['p01', '1.5', 'a, b'], ['p02', '-2', 'fine']]


def table_of(tmp_path, data, name='t.csv'):
  path = tmp_path / name
  path.write_bytes(data if isinstance(data, bytes) else data.encode())
  return delimited.read(path)


def text_of(separator, end):
  cells = [['scan', 'x', 'comment'], *ROWS]
  quoted = [[f'"{c}"' if ',' in c else c for c in row] for row in cells]
  return ''.join(separator.join(row) + end for row in quoted)


@pytest.mark.parametrize('separator', ['\t', ';', ',', '|'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r', '\n\n'])
@pytest.mark.parametrize('code', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_any_separator_end_of_line_and_code(tmp_path, separator, end, code):
  found = table_of(tmp_path, text_of(separator, end).encode(code))
  assert found.header == ['scan', 'x', 'comment']
  assert [row.cells for row in found.rows] == ROWS
  step = 2 if end == '\n\n' else 1
  assert [row.number for row in found.rows] == [1 + step, 1 + 2 * step]
  assert found.decimal_comma == (separator != ',')


@pytest.mark.parametrize('name', ['t.tsv', 't.csv', 't.txt'])
def test_a_first_line_of_excel_names_the_separator(tmp_path, name):
  found = table_of(tmp_path, 'sep=;\nscan;x,mm;y\np;1,5;2\n', name)
  assert found.header == ['scan', 'x,mm', 'y']
  assert found.rows == [delimited.TableRow(3, ['p', '1,5', '2'])]


@pytest.mark.parametrize(
  ('text', 'cells'),
  [
    ('a\tb\n"two\nlines"\t2\n', ['two\nlines', '2']),
    ('a\tb\n5" big\t2\n', ['5" big', '2']),  # inches, inside of a cell
    ('a\tb\n"say ""no"""\t2\n', ['say "no"', '2']),
    ('a\tb\nx\u2028y\t2\n', ['x\u2028y', '2']),  # ends no row
    ('a\tb\tc\nx\n', ['x', '', '']),
    ('a\tb\nx\t2\t\t\n', ['x', '2']),
    ('a,b\n"1,5","2"\n', ['1,5', '2']),
  ],
)
def test_cells(tmp_path, text, cells):
  (row,) = table_of(tmp_path, text).rows
  assert row == delimited.TableRow(2, cells)


@pytest.mark.parametrize(
  ('text', 'named'),
  [
    ('a\tb\nx\t"5 mm\ny\tok\n', 'row 2'),  # never closed
    ('a\tb\nx\t1\ny\t"5 mm\nz\t2\nu\t6 mm"\n', 'row 3'),  # closed by another
    ('a,b,c\nx,1,2\ny,"5 mm,3\nz,7",4\n', 'row 3'),
    ('a\tb\nx\t"5 mm" wide\n', 'row 2'),
    ('a,b\nx,1,5\n', 'row 2'),  # a decimal comma that separates
    ('a\tb\n\n1\t2\t3\n', 'row 3'),
    (b'a\0,\0b\0\n\0', 'UTF-8'),  # UTF-16 without its mark
    (b'\xff\xfea', 'UTF-8'),
    (b'a\tb\n\xe9\t1\n', 'UTF-8'),
  ],
)
def test_rows_are_refused_by_number(tmp_path, text, named):
  with says(InputError, f't.csv {named}'):
    table_of(tmp_path, text)


def test_two_columns_of_one_name(tmp_path):
  found = table_of(tmp_path, 'x,y,X\n1,2,3\n')
  assert found.column('z', 'y') == 1
  with says(InputError, 't.csv x'):
    found.column('x')
  with says(InputError, 't.csv x'):
    found.dicts()


def test_an_empty_file_has_no_columns(tmp_path):
  assert table_of(tmp_path, '').header == []
  assert table_of(tmp_path, '\n\n').rows == []


def test_dicts_know_what_is_not_applicable(tmp_path):
  found = table_of(tmp_path, 'a\tb\t\n1\tn/a\t\n')
  assert found.dicts() == [{'a': '1', 'b': ''}]


@pytest.mark.parametrize(
  ('text', 'value'),
  [('1,5', 1.5), ('1.5', 1.5), (' -2 ', -2.0), ('1e1', 10.0)],
)
def test_decimal_commas(text, value):
  assert delimited.number(text, decimal_comma=True) == value


@pytest.mark.parametrize('text', ['', '1,2,3', '1.234,5', 'nan', 'inf', 'a'])
def test_what_is_not_a_number(text):
  with pytest.raises(ValueError, match=r'float|could not|nan|inf'):
    delimited.number(text, decimal_comma=True)
  with pytest.raises(ValueError, match='could not'):
    delimited.number('1,5', decimal_comma=False)


def test_what_is_written_is_read_back(tmp_path):
  rows = [['a', 'b'], ['"5 mm', 'x\ty'], ['two\nlines', 'say "no"']]
  delimited.write(tmp_path / 't.tsv', rows)
  found = delimited.read(tmp_path / 't.tsv')
  assert [found.header, *(row.cells for row in found.rows)] == rows
