"""`cmbjax detect`, then `cmbjax evaluate`, on phantoms."""

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from cmbjax import cli
from tests import small_cohorts
from tests.messages import printed


@pytest.fixture(scope='module')
def cohort(tmp_path_factory):
  folder = tmp_path_factory.mktemp('cohort')
  made = small_cohorts.write_cohort(folder, subjects=3, simulated=True)
  for subject in made:
    table = small_cohorts.label_path(folder, subject, ending='seg-cmb_dseg.tsv')
    rows = ['index\tdiameter_mm\tregion', '1\t1.8\tthalamus', '2\t2.4\tinsula']
    table.write_text('\n'.join(rows) + '\n')
  return folder


@pytest.fixture(scope='module')
def detected(cohort, tmp_path_factory):
  out = tmp_path_factory.mktemp('out')
  words = ['--weights', 'none', '--no-report', '--no-regions', '--write-steps']
  assert cli.main(['detect', str(cohort), str(out), *words, '--jobs=1']) == 0
  return out


def evaluate(*words):
  return cli.main(['evaluate', *map(str, words)])


def test_both_rules_stand_in_one_table(detected, cohort, tmp_path, capsys):
  """Every ball is found, and every dark ball that is none is false."""
  assert evaluate(detected, cohort, '--out', tmp_path) == 0
  text = capsys.readouterr().out
  assert '3 simulated scans of 3 subjects; all detections' in text
  assert max(map(len, text.splitlines())) <= 100
  (line,) = [row for row in text.splitlines() if 'Precision' in row]
  assert line.split() == [
    'Precision',
    *['60', '%', 'n/a', '(3', 'subjects)'] * 2,
  ]
  (line,) = [row for row in text.splitlines() if 'Median F1' in row]
  assert line.endswith('0.75 n/a (3 scans)')
  found = json.loads((tmp_path / 'evaluation.json').read_text())
  assert found['simulated'] is True
  for rule in ('touch', 'valdo'):
    scores = found['rules'][rule]
    assert (scores['lesions'], scores['hit'], scores['false']) == (9, 9, 6)
    assert scores['pooled']['precision']['value'] == pytest.approx(0.6)
    middle = scores['median_of_scans']
    assert middle['f1']['value'] == pytest.approx(2 * 3 / (2 * 3 + 2))
    assert (middle['f1']['count'], middle['f1']['low']) == (3, None)
    assert middle['count_difference']['value'] == 2
    assert scores['parts']['size']['below 2 mm']['count'] == 3
    assert scores['parts']['region']['insula']['value'] == 1
    assert scores['parts']['region']['unknown']['count'] == 3
  assert found['counts']['bias']['value'] == 2
  assert np.sum(found['grades']['true_by_found']) == 3
  lines = (tmp_path / 'evaluation_lesions.csv').read_text().splitlines()
  rows = list(csv.DictReader(lines))
  assert [row['what'] for row in rows].count('lesion') == 9
  assert [row['touch'] for row in rows].count('false') == 6
  lines = (tmp_path / 'evaluation.csv').read_text().splitlines()
  assert {row['rule'] for row in csv.DictReader(lines)} == {
    'touch',
    'valdo',
    '',
  }


def test_candidates_before_the_networks(detected, cohort, tmp_path, capsys):
  words = ('--only', 'candidates', '--out', tmp_path)
  assert evaluate(detected, cohort, *words) == 0
  assert 'candidates that passed all gates' in capsys.readouterr().out
  assert evaluate(detected, cohort, '--only=definite', '--out', tmp_path) == 0
  found = json.loads((tmp_path / 'evaluation.json').read_text())
  assert found['rules']['touch']['detections'] == 0  # nobody judged them
  assert found['rules']['touch']['pooled']['precision']['value'] is None
  assert found['rules']['touch']['pooled']['sensitivity']['value'] == 0


def test_points_are_matched_too(detected, cohort, tmp_path):
  """The centre of a ball is a voxel of its outline."""
  other = tmp_path / 'points'
  for n, subject in enumerate(('sub-01', 'sub-02', 'sub-03'), 1):
    one = small_cohorts.phantom(n)
    anat = small_cohorts.write_scan(other, subject, one)
    world = nib.affines.apply_affine(one.affine, one.lesion_voxels)
    rows = ['\t'.join(f'{value:.2f}' for value in row) for row in world]
    text = '\n'.join(['x\ty\tz', *rows]) + '\n'
    (anat / f'{subject}_cmb.tsv').write_text(text)
  assert evaluate(detected, other, '--out', tmp_path) == 0
  found = json.loads((tmp_path / 'evaluation.json').read_text())
  assert found['simulated'] is False
  assert found['rules']['touch']['hit'] == found['rules']['valdo']['hit'] == 9


def test_centres_are_compared_in_mm(detected, tmp_path):
  """A truth 8 voxels of 0.5 mm beside its balls: near, and no touch."""
  other = tmp_path / 'beside'
  made = small_cohorts.write_cohort(other, subjects=3)
  for subject, one in made.items():
    path = small_cohorts.label_path(other, subject)
    small_cohorts.save(path, np.roll(one.lesions, 8, 0), one.affine)
  assert evaluate(detected, other, '--out', tmp_path) == 0
  found = json.loads((tmp_path / 'evaluation.json').read_text())
  assert found['rules']['touch']['hit'] == 0
  assert found['rules']['valdo']['hit'] == 9


def test_another_person_of_the_same_label_is_said(
  detected, cohort, tmp_path, capsys
):
  """Two cohorts may both have a sub-01, on one grid."""
  copy, other = tmp_path / 'copy', tmp_path / 'other'
  shutil.copytree(cohort, copy)
  assert evaluate(detected, copy, '--out', tmp_path) == 0
  assert 'was detected in' not in capsys.readouterr().err
  shutil.copytree(cohort, other)
  path = other / 'sub-02' / 'anat' / 'sub-02_swi.nii.gz'
  image = nib.load(path)
  small_cohorts.save(path, np.flip(image.get_fdata(), 0), image.affine)
  assert evaluate(detected, other, '--out', tmp_path) == 0
  said = capsys.readouterr().err
  assert 'note: sub-02: was detected in' in said
  assert 'note: sub-01: was detected in' not in said


def test_a_result_of_another_input_is_not_written_over(
  detected, cohort, tmp_path, capsys
):
  """sub-01 of a second cohort, or anna a year later, into the same folder."""
  out, other = tmp_path / 'out', tmp_path / 'other'
  shutil.copytree(cohort, other)
  words = ['--weights=none', '--no-report', '--no-regions', '--jobs=1']

  def detect(source, *more):
    words_of_one = ['--participant-label', '01', *words, *more]
    return cli.main(['detect', str(source), str(out), *words_of_one])

  assert detect(cohort) == 0
  table = out / 'group_cmb.tsv'
  before = table.read_text()
  assert detect(cohort, '--write-steps') == 0  # of the same image
  path = other / 'sub-01' / 'anat' / 'sub-01_swi.nii.gz'
  image = nib.load(path)
  small_cohorts.save(path, np.flip(image.get_fdata(), 0), image.affine)
  capsys.readouterr()
  assert detect(other) == 2
  printed(capsys.readouterr().err, 'sub-01 --overwrite')
  assert table.read_text().split('\t')[:9] == before.split('\t')[:9]
  assert detect(other, '--overwrite') == 0


def test_a_scan_without_result_is_not_one_without_lesions(
  detected, cohort, tmp_path, capsys
):
  more = tmp_path / 'more'
  small_cohorts.write_cohort(more, subjects=4)
  assert evaluate(detected, more) == 2
  assert '1 of 4 scans have no result (sub-04)' in capsys.readouterr().err
  assert evaluate(detected, more, '--partial', '--out', tmp_path) == 0
  assert '1 scans have no result and are left out' in capsys.readouterr().err
  found = json.loads((tmp_path / 'evaluation.json').read_text())
  assert found['scans_without_result'] == ['sub-04']


def test_mistakes_are_one_line(detected, cohort, tmp_path, capsys):
  assert evaluate(tmp_path / 'nothing', cohort) == 3
  printed(capsys.readouterr().err)
  (tmp_path / 'empty').mkdir()
  assert evaluate(tmp_path / 'empty', cohort) == 3
  printed(capsys.readouterr().err)
  other = tmp_path / 'other'
  small_cohorts.write_cohort(other, subjects=3, shape=(60, 60, 16))
  assert evaluate(detected, other) == 2
  printed(capsys.readouterr().err)


def test_the_wrong_way_round_is_said(detected, cohort, capsys):
  assert evaluate(cohort, detected) == 2
  printed(capsys.readouterr().err, 'OUT COHORT')


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('logs/sub-02.json', '{}', 'has no digest'),
    ('logs/sub-02.json', '{bad', 'not valid JSON'),
    ('sub-02/anat/*_dseg.tsv', 'index\n1\n', 'is not a table of'),
    ('sub-02/anat/*_dseg.tsv', 'index\n', 'lists other lesions than'),
    ('sub-02/anat/*_dseg.tsv', None, 'not found; run'),
  ],
)
def test_damaged_results_are_named(
  detected, cohort, tmp_path, capsys, name, text, message
):
  """A lost or cut table must not read as a scan without detections."""
  copy = tmp_path / 'copy'
  shutil.copytree(detected, copy)
  (path,) = [p for p in copy.glob(name) if 'candidates' not in p.name]
  path.unlink() if text is None else path.write_text(text)
  assert evaluate(copy, cohort) == 2
  assert message in capsys.readouterr().err
