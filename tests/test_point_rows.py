"""Rows of tables that readers make by hand, by program and with R or Excel."""

import numpy as np
import openpyxl
import pytest

from cmbjax.data import point_table, truth
from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.intake.truth_files import TruthFiles
from tests import small_cohorts
from tests.messages import says


def read(tmp_path, text, name='points.csv'):
  path = tmp_path / name
  path.write_text(text)
  return point_table.read(path)


def places(table, who='anna', session=''):
  return table.points[who, session].values.tolist()


def workbook(tmp_path, **sheets):
  book = openpyxl.Workbook()
  book.remove(book.active)
  for title, rows in sheets.items():
    sheet = book.create_sheet(title)
    for row in rows:
      sheet.append(row)
  path = tmp_path / 'points.xlsx'
  book.save(path)
  return path


HEADER = ['subject', 'x', 'y', 'z']


@pytest.mark.parametrize(
  ('columns', 'in_mm'),
  [
    ('X (mm),Y (mm),Z (mm)', True),
    ('x_mm,y_mm,z_mm', True),
    ('X (voxel),Y (voxel),Z (voxel)', False),
    ('x[px],y[px],z[px]', False),
    ('x_vox,y_vox,z_vox', False),
    ('x (voxels, from 0),y (voxels, from 0),z (voxels, from 0)', None),
    ('x index,y index,z index', False),
  ],
)
def test_the_header_says_what_the_numbers_are(tmp_path, columns, in_mm):
  if in_mm is None:
    columns = columns.replace(', from', ' from')
    in_mm = False
  table = read(tmp_path, f'subject,{columns}\nanna,1,2,3\n')
  assert table.in_mm is in_mm
  assert places(table) == [[1, 2, 3]]


def test_another_unit_is_not_taken_for_mm(tmp_path):
  with says(InputError, 'points.csv (cm)'):
    read(tmp_path, 'subject,x (cm),y (cm),z (cm)\nanna,1,2,3\n')


@pytest.mark.parametrize(
  ('column', 'cell'),
  [
    ('type', 'mimic'),
    ('Class', 'calcification'),
    ('verdict', 'rejected'),
    ('is CMB', '0'),
    ('accepted', 'no'),
    ('excluded', 'yes'),
    ('false positive', 'x'),
  ],
)
def test_a_row_that_is_no_microbleed_is_not_counted(tmp_path, column, cell):
  with says(InputError, 'points.csv 3'):
    read(tmp_path, f'subject,x,y,z,{column}\nanna,1,2,3,\nanna,4,5,6,{cell}\n')


def test_rows_of_what_a_microbleed_may_be_are_counted(tmp_path):
  text = (
    'subject,x,y,z,type,excluded,rater\n'
    'anna,1,2,3,definite,no,A\nanna,4,5,6,CMB,0,A\n'
  )
  assert len(places(read(tmp_path, text))) == 2


def test_two_readers_of_one_scan_are_not_added_up(tmp_path):
  with says(InputError, 'points.csv anna'):
    read(tmp_path, 'subject,rater,x,y,z\nanna,A,1,2,3\nanna,B,1,2,3.4\n')


def test_a_row_that_is_there_twice_is_one_microbleed(tmp_path):
  with says(InputError, 'points.csv row 3'):
    read(tmp_path, 'subject,x,y,z\nanna,1,2,3\nanna,1.0,2,3\n')


def test_the_truth_table_of_a_scan_is_judged_alike(tmp_path):
  small_cohorts.save(tmp_path / 'a.nii.gz', np.ones((9, 9, 9)), np.eye(4))
  scan = volume.load(tmp_path / 'a.nii.gz')
  path = tmp_path / 'sub-01_desc-cmb_points.tsv'
  path.write_text('i\tj\tk\ttype\n1\t1\t1\tCMB\n2\t2\t2\tmimic\n')
  with says(InputError, 'sub-01_desc-cmb_points.tsv 3'):
    truth.load_truth(TruthFiles('points', path), scan)


@pytest.mark.parametrize('nothing', ['NA', '#N/A', '-', 'None', ''])
def test_what_programs_write_for_nothing(tmp_path, nothing):
  table = read(tmp_path, f'subject;x;y;z\nanna;{";".join([nothing] * 3)}\n')
  assert places(table) == []


def test_the_minus_of_a_word_processor(tmp_path):
  table = read(tmp_path, 'subject,x,y,z\nanna,\u22121.5,\u20132,-3\n')
  assert places(table) == [[-1.5, -2, -3]]


def test_names_of_rows_that_r_writes_without_a_header(tmp_path):
  text = '"subject"\t"x"\t"y"\t"z"\n"1"\t"anna"\t1\t2\t3\n"2"\t"bob"\t4\t5\t6\n'
  table = read(tmp_path, text, 'points.txt')
  assert places(table) == [[1, 2, 3]]
  assert places(table, 'bob') == [[4, 5, 6]]


def test_session_1_is_that_of_ses_01(tmp_path):
  table = read(tmp_path, 'subject,session,x,y,z\n1,1,1,2,3\n1,2,4,5,6\n')
  scans = [('sub-01', 'ses-01', []), ('sub-01', 'ses-02', [])]
  found = point_table.match(tmp_path / 'points.csv', table, scans)
  assert found[1].values.tolist() == [[4, 5, 6]]


def test_the_sheet_that_holds_the_table_is_read(tmp_path):
  path = workbook(
    tmp_path, README=[['of our study']], points=[HEADER, ['anna', 1, 2, 3]]
  )
  assert places(point_table.read(path)) == [[1, 2, 3]]


def test_a_sheet_for_each_person_is_not_read_in_part(tmp_path):
  path = workbook(
    tmp_path,
    anna=[HEADER, ['anna', 1, 2, 3]],
    bob=[HEADER, ['bob', 1, 2, 3]],
  )
  with says(InputError, 'points.xlsx anna bob'):
    point_table.read(path)


def test_a_formula_that_nothing_worked_out_is_no_empty_cell(tmp_path):
  path = workbook(tmp_path, points=[HEADER, ['anna', '=1+1', '=2', '=3']])
  with says(InputError, 'points.xlsx row 2'):
    point_table.read(path)
