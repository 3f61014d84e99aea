"""What is not used, or not what it is called, is said everywhere."""

import json
import os
import pathlib
import socket

import pytest

from cmbjax import cli
from cmbjax.data import cohort, lesion_labels
from cmbjax.detect import derivatives
from cmbjax.errors import InputError
from cmbjax.intake import dicom, dicom_series, explain, scans, truth_files
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.review.cases import case as cases
from cmbjax.review.cases import sources
from tests import messages, scan_results, small_cohorts
from tests.messages import says


def as_folder(path):
  path.mkdir()


def as_full_folder(path):
  path.mkdir()
  (path / path.stem).write_bytes(b'')


def as_pipe(path):
  os.mkfifo(path)


def as_socket(path, monkeypatch):
  monkeypatch.chdir(path.parent)  # its whole path would be too long
  with socket.socket(socket.AF_UNIX) as one:
    one.bind(path.name)


@pytest.fixture
def root(tmp_path):
  """Three subjects with a truth."""
  small_cohorts.write_cohort(tmp_path / 'in', subjects=3)
  return tmp_path / 'in'


def swi_of(root, subject='sub-01'):
  return root / subject / 'anat' / f'{subject}_swi.nii.gz'


@pytest.mark.parametrize('place', [as_folder, as_full_folder, as_pipe])
def test_what_is_no_file_is_a_broken_scan(root, place):
  swi_of(root).unlink()
  place(swi_of(root))
  found = scans.find(root)
  assert [scan.name for scan in found.scans] == ['sub-02', 'sub-03']
  ((name, why),) = found.broken
  assert name == 'sub-01'
  with says(InputError, str(swi_of(root))):
    raise InputError(why)
  assert cohort.read_cohort(root).broken == ((name, why),)
  (row,) = [r for r in explain.rows(root, found) if r.person == 'sub-01']
  assert swi_of(root).name in row.left_out


def test_a_socket_is_a_broken_scan(root, monkeypatch):
  swi_of(root).unlink()
  as_socket(swi_of(root), monkeypatch)
  ((name, why),) = scans.find(root).broken
  assert name == 'sub-01'
  assert 'a socket' in why


@pytest.mark.parametrize('name', ['sub-01/sub-01_swi.nii', 'sub-01/swi'])
def test_a_folder_anywhere_in_a_subject(tmp_path, name):
  folder = tmp_path / name
  image = folder if folder.suffix else folder / 'sub-01_SWI.NII.GZ'
  image.mkdir(parents=True)
  ((_, why),) = scans.find(tmp_path).broken
  assert image.name in why


def test_a_folder_for_a_mask_breaks_its_scan(root):
  mask = swi_of(root).with_name('sub-01_label-brain_mask.nii.gz')
  mask.mkdir()
  ((_, why),) = scans.find(root, participants=['01']).broken
  assert mask.name in why


def test_outside_bids_a_folder_of_an_image_is_a_person_or_broken(tmp_path):
  (tmp_path / 'anna_swi.nii.gz').mkdir()
  (tmp_path / 'bob_swi.nii').write_bytes(b'')
  (tmp_path / 'eve_swi.nii').mkdir()
  (tmp_path / 'eve_swi.nii' / 'eve_swi.nii').write_bytes(b'')
  found = scans.find(tmp_path)
  assert [name for name, _ in found.broken] == ['sub-anna']
  assert len(found.scans) == 2


def files_of(folder, *names):
  for name in names:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')
  return folder


@pytest.mark.parametrize(
  ('images', 'table', 'name'),
  [
    (['a_swi.nii', 'b_swi.nii'], 'a_cmb.tsv', 'sub-a'),
    (['a_swi.nii', 'b_swi.nii'], 'a_swi_CMBs.csv', 'sub-a'),
    (['a_swi.nii', 'b_swi.nii'], 'b_points.csv', 'sub-b'),
    (['p_01.nii.gz', 'p_02.nii.gz'], 'p_02-microbleeds.tsv', 'sub-p02'),
    (['a/swi.nii', 'b/swi.nii'], 'a/cmb.tsv', 'sub-a'),
    (['a/swi.nii', 'b/swi.nii'], 'b/b_points.tsv', 'sub-b'),
    (['all/a/swi.nii', 'all/b/swi.nii'], 'all/b/points.csv', 'sub-b'),
    (['a/ses-1/swi.nii', 'a/ses-2/swi.nii'], 'a/ses-2/cmb.tsv', 'sub-a_ses-2'),
    (['a_mag.nii', 'a_phase.nii', 'b_swi.nii'], 'a_cmb.csv', 'sub-a'),
    (['swi.nii'], 'cmb.csv', 'sub-swi'),
  ],
)
def test_tables_of_points_are_of_the_scan_beside(tmp_path, images, table, name):
  found = scans.find(files_of(tmp_path, *images, table))
  truths = {s.name: truth_files.find_truth(tmp_path, s) for s in found.scans}
  assert len(truths) > 1 or images == ['swi.nii']
  own = truths.pop(name)
  assert (own.kind, own.path) == ('points', tmp_path / table)
  assert not any(truths.values())


def test_what_is_no_table_of_points_of_a_scan(tmp_path):
  """A table of labels, of a study, and of somebody else."""
  images = ['a_swi.nii', 'a_cmb.nii', 'b_swi.nii']
  tables = ['a_cmb.tsv', 'study_cmb.csv', 'c_points.tsv', 'b_scores.tsv']
  found = scans.find(files_of(tmp_path, *images, *tables))
  first, second = found.scans
  assert truth_files.find_truth(tmp_path, first).kind == 'labels'
  assert truth_files.find_truth(tmp_path, second) is None


def test_two_tables_are_a_question(tmp_path):
  files_of(tmp_path, 'a_swi.nii', 'a_cmb.tsv', 'a_cmbs.csv')
  (scan,) = scans.find(tmp_path).scans
  with says(InputError, 'a_cmb.tsv a_cmbs.csv'):
    truth_files.find_truth(tmp_path, scan)


def test_points_beside_flat_scans_are_read(tmp_path):
  one = small_cohorts.phantom(1)
  small_cohorts.save(tmp_path / 'anna_swi.nii.gz', one.swi, one.affine)
  rows = [';'.join(map(str, place)) for place in one.lesion_voxels]
  (tmp_path / 'anna_cmb.csv').write_text('\n'.join(['i;j;k', *rows, '']))
  (scan,) = cohort.read_cohort(tmp_path).scans
  truth = cohort.load_scan(scan).truth
  assert len(truth.lesions) == len(one.lesion_voxels)
  (case,) = sources.find(tmp_path).cases
  assert case.points == tmp_path / 'anna_cmb.csv'


def test_a_mask_of_microbleeds_goes_before_one_of_lesions(root):
  truths = [
    small_cohorts.label_path(root, 'sub-01', ending=f'label-{name}_mask.nii.gz')
    for name in ('CMB', 'lesion')
  ]
  for path in truths:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')
  for path in truths[0].parent.glob('*_dseg.*'):
    path.unlink()
  (scan,) = scans.find(root, participants=['01']).scans
  truth = truth_files.find_truth(root, scan)
  assert (truth.kind, truth.path) == ('mask', truths[0])
  assert truth.left_out == (
    (truths[1], f'{truths[0].name} was taken for the truth'),
  )
  found = scans.find(root, participants=['01'])
  (row,) = explain.rows(root, found, {scan.name: truth})
  assert f'{truths[1].name} (' in row.left_out


def test_bytes_behind_a_truth_are_said(root):
  (scan, *_) = cohort.read_cohort(root).scans
  path = scan.truth.path
  path.write_bytes(path.read_bytes() + b'more')
  said = cohort.load_scan(scan).truth.said
  assert any(f'{path.name}: 4 bytes' in sentence for sentence in said)


def test_the_result_says_what_was_left_out(tmp_path):
  root = pathlib.Path('/data/bids')
  anat = root / 'sub-01' / 'anat'
  left = (
    (anat / 'sub-01_minIP.nii.gz', 'a projection'),
    (root / 'derivatives/x/sub-01/anat/sub-01_mask.nii', 'on another grid'),
  )
  scan = ScanFiles(
    'sub-01', None, 'sub-01', anat / 'sub-01_swi.nii.gz', (), (), None, {},
    left_out=left,
  )  # fmt: skip
  assert scan.unused() == (
    ('sub-01/anat/sub-01_minIP.nii.gz', 'a projection'),
    ('derivatives/x/sub-01/anat/sub-01_mask.nii', 'on another grid'),
  )
  flat = ScanFiles(
    'sub-a', None, 'sub-a', None, (root / 'a_mag.nii',), (), None, {},
    left_out=((root / 'a_t1.nii', 'of another kind of MRI'),),
  )  # fmt: skip
  assert flat.unused() == (('a_t1.nii', 'of another kind of MRI'),)


def test_detect_and_evaluate_write_what_was_chosen(root, tmp_path):
  minip = swi_of(root).with_name('sub-01_minIP.nii.gz')
  minip.write_bytes(b'')
  out = tmp_path / 'out'
  words = ['--weights', 'none', '--no-report', '--no-regions', '--jobs=1']
  assert cli.main(['detect', str(root), str(out), *words]) == 0
  (path,) = out.glob('sub-01/anat/*_dseg.json')
  assert {
    'File': f'sub-01/anat/{minip.name}', 'Reason': 'a projection',
  } in json.loads(path.read_text())['FilesLeftOut']  # fmt: skip
  assert cli.main(['evaluate', str(out), str(root)]) == 0
  rows = json.loads((out / 'evaluation.json').read_text())['per_scan']
  assert [row['true_counted_by'] for row in rows] == [lesion_labels.VALUE] * 3
  assert all('each value is one lesion' in row['true_how'][0] for row in rows)


def test_a_review_has_the_mask_and_facts_of_the_intake(root, monkeypatch):
  path = swi_of(root).with_suffix('').with_suffix('.json')
  path.write_text(json.dumps({'EchoTime': 0.03}))
  case = sources.find(root, participants=['01']).cases[0]
  (scan,) = scans.find(root, participants=['01']).scans
  assert case.mask == scan.mask
  assert case.mask is not None
  assert case.facts[case.image]['EchoTime'] == 0.03
  path.unlink()  # nobody asks again
  assert cases.load(case).image.array.size


def test_a_mask_that_detect_had_is_that_of_its_review(root, tmp_path):
  out = tmp_path / 'out'
  words = ['--weights', 'none', '--no-report', '--no-regions', '--jobs=1']
  assert cli.main(['detect', str(root), str(out), *words]) == 0
  case = sources.find(out, participants=['01']).cases[0]
  (scan,) = scans.find(root, participants=['01']).scans
  assert case.mask.resolve() == scan.mask.resolve()
  scan.mask.unlink()
  case = sources.find(out, participants=['01']).cases[0]
  assert case.mask is None
  assert any(scan.mask.name in notice for notice in case.notices)


@pytest.mark.parametrize(
  ('names', 'text'),
  [
    (['001.dcm'], '1: 001.dcm'),
    (['DICOM/PA1/SE3/IM0007', 'IMG00012.IMA'],
     '2: DICOM/PA1/SE3/IM0007, IMG00012.IMA'),
    ([f'{n:03d}.dcm' for n in range(5)],
     '5, such as 000.dcm, 001.dcm, 002.dcm'),
    (['Muster_Erika.dcm'], '1'),
    (['Muster/IM0001'], '1'),
    (['19520229/001.dcm', '4711/001.dcm', 'HOSP4711.dcm'], '3'),
    (['im19520229', 'pa123456'], '2'),
    (['Erika.dcm', '7.dcm'], '2, such as 7.dcm'),
    (['1.2.840.113619.2.5'], '1'),
  ],
)  # fmt: skip
def test_only_names_of_programs_are_repeated(tmp_path, names, text):
  paths = [tmp_path / name for name in names]
  assert dicom_series.listed(tmp_path, paths) == text


@pytest.mark.parametrize('content', [b'zz-no-hex', b'abc', b'\xff\xfe'])
def test_a_spoilt_key_is_named(tmp_path, content):
  (tmp_path / dicom.KEY_FILE).write_bytes(content)
  scan = ScanFiles(
    'sub-a', None, 'sub-a', tmp_path / 'a.nii', (), (), None,
    {'SourceSeries': 'x'},
  )  # fmt: skip
  with says(InputError, dicom.KEY_FILE):
    dicom.source_files(tmp_path, tmp_path, scan)


def test_a_test_that_is_skipped_keeps_its_row():
  table = messages.Table()
  name = next(iter(table._known))
  with pytest.raises(AssertionError):
    table.finish(name)
  table.skip(name)
  table.finish(name)
  table.start(name)
  with pytest.raises(AssertionError):
    table.finish(name)


def test_nothing_left_out_is_an_empty_list():
  sidecar = derivatives._sidecar(scan_results.make())
  assert sidecar['FilesLeftOut'] == []
