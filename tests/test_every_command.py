"""Detect, import, build, evaluate and review take the same files for a scan."""

import json
import pathlib

import nibabel as nib
import numpy as np
import pytest

from cmbjax import cli
from cmbjax.data import cohort, importers
from cmbjax.data.import_sources import ImportOptions
from cmbjax.errors import InputError
from cmbjax.study import material
from cmbjax.study.spec import Cohort
from tests import small_cohorts
from tests.messages import printed, says
from tests.small_cohorts import phantom, save
from tests.test_importers import assert_lesions

COMMANDS = {  # to the words before and behind the folder of the scans
  'detect': (['detect'], ['{out}', '--weights', 'none', '--dry-run']),
  'points': (
    ['import'],
    ['{out}', '--layout', 'points', '--table', '{table}', '--dry-run'],
  ),
  'pairs': (['import'], ['{out}', '--layout', 'pairs', '--dry-run']),
  'build': (['build', 'mine', '--manual_dir'], ['--data_dir', '{out}']),
  'evaluate': (['evaluate', '{out}'], ['--dry-run']),
  'review': (['review'], ['--dry-run']),
}
TRUTH = ('pairs', 'build', 'evaluate', 'review')  # those that use one


def write_flat(root):
  """Two persons in one folder, as programs leave their files."""
  made = {}
  for number, name in enumerate(('anna', 'berta')):
    one = phantom(number)
    save(root / f'{name}_swi.nii.gz', one.swi, one.affine)
    save(root / f'{name}_swi_brain_mask.nii.gz', one.brain, one.affine)
    save(root / f'{name}_mIP.nii.gz', one.swi, one.affine)
    labels = (one.lesions > 0).astype(np.uint8)
    save(root / f'{name}_cmb.nii.gz', labels, one.affine)
    made[f'sub-{name}'] = one
  save(root / 'anna_phase.nii.gz', one.swi - 100, one.affine)
  save(root / 'anna_mag.nii.gz', one.swi, one.affine)
  return made


def call_of(command, source, tmp_path):
  table = tmp_path / 'points.csv'
  table.write_text('scan,x,y,z\nanna_swi,,,\nberta,,,\n')
  before, behind = COMMANDS[command]
  words = [*before, str(source), *behind]
  words += ['--dry-run'] if command == 'build' else []
  places = {'out': tmp_path / 'out', 'table': table}
  return [word.format(**places) for word in words]


def table_of(text):
  """Person -> column -> cell."""
  header, *rows = (line.split('\t') for line in text.splitlines())
  return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


@pytest.mark.parametrize('command', COMMANDS)
def test_one_folder_is_the_same_to_all(command, tmp_path, capsys):
  write_flat(tmp_path / 'in')
  assert cli.main(call_of(command, tmp_path / 'in', tmp_path)) == 0
  rows = table_of(capsys.readouterr().out)
  assert set(rows) == {'sub-anna', 'sub-berta'}
  for name in ('anna', 'berta'):
    row = rows[f'sub-{name}']
    assert row['swi'] == f'{name}_swi.nii.gz'
    assert row['mask'] == f'{name}_swi_brain_mask.nii.gz'
    assert f'{name}_mIP.nii.gz (a projection)' in row['left out']
    wanted = f'{name}_cmb.nii.gz' if command in TRUTH else '-'
    wanted = '0 points' if command == 'points' else wanted
    assert row['truth'] == wanted
  assert rows['sub-anna']['magnitude'] == 'anna_mag.nii.gz'
  assert rows['sub-anna']['phase'] == 'anna_phase.nii.gz'
  assert rows['sub-berta']['phase'] == '-'
  assert not (tmp_path / 'out').exists(), 'a dry run wrote something'


@pytest.mark.parametrize('command', COMMANDS)
def test_one_scan_with_two_readings_does_not_stop_the_others(
  command, tmp_path, capsys
):
  root = tmp_path / 'in'
  for number, subject in enumerate(('sub-01', 'sub-02')):
    one = phantom(number)
    small_cohorts.write_scan(root, subject, one)
    save(
      small_cohorts.label_path(root, subject),
      (one.lesions > 0).astype(np.uint8),
      one.affine,
    )
  anat = root / 'sub-02/anat'
  for run in (1, 2):
    path = anat / f'sub-02_run-{run}_swi.nii.gz'
    path.write_bytes((anat / 'sub-02_swi.nii.gz').read_bytes())
  (anat / 'sub-02_swi.nii.gz').unlink()
  call = call_of(command, root, tmp_path)
  if command == 'points':
    (tmp_path / 'points.csv').write_text('scan,x,y,z\nsub-01,,,\n')
  assert cli.main(call) == 1
  rows = table_of(capsys.readouterr().out)
  assert rows['sub-01']['swi'].endswith('sub-01_swi.nii.gz')
  why = rows['sub-02']['left out']
  assert 'run-1' in why
  assert 'run-2' in why
  # Only those that have the option name it.
  assert ('--swi-pattern' in why) == (command not in ('build', 'evaluate'))


def test_a_bad_sidecar_stops_one_scan_of_a_cohort(tmp_path, capsys):
  for number, subject in enumerate(('sub-01', 'sub-02', 'sub-03')):
    one = phantom(number)
    anat = small_cohorts.write_scan(tmp_path, subject, one)
    save(
      small_cohorts.label_path(tmp_path, subject),
      (one.lesions > 0).astype(np.uint8),
      one.affine,
    )
  (anat / 'sub-03_swi.json').write_text('{"EchoTime": ')
  shifted = nib.load(tmp_path / 'sub-02' / 'anat' / 'sub-02_swi.nii.gz')
  array = np.asarray(shifted.dataobj, np.float32) - 300
  save(pathlib.Path(shifted.get_filename()), array, shifted.affine)
  found = cohort.read_cohort(tmp_path)
  assert [scan.name for scan in found.scans] == ['sub-01', 'sub-02']
  ((name, _),) = found.broken
  assert name == 'sub-03'
  cohort.tell_left_out(found)
  assert 'sub-03_swi.json' in capsys.readouterr().err
  with says(InputError, 'sub-03_swi.json --partial'):
    cohort.refuse_broken(found, 'leave such scans out with --partial')
  given = Cohort('mine', folder=str(tmp_path), test='all')
  with says(InputError, 'sub-03_swi.json folder'):
    material._people_of(given, 0)
  words = ['build', 'btumor_3t', '--manual-dir', str(tmp_path)]
  words += ['--data-dir', str(tmp_path / 'data'), '--jobs', '1']
  assert cli.main(words) == 1
  said = capsys.readouterr().err
  assert 'sub-03_swi.json' in said
  assert '1 of 2 scans (sub-02): sub-02_swi.nii.gz' in said


def test_pairs_as_a_cohort_without_import(tmp_path):
  made = write_flat(tmp_path)
  assert_lesions(tmp_path, made)


# Import.


def test_pairs(tmp_path, capsys):
  made = write_flat(tmp_path / 'in')
  call = ['import', str(tmp_path / 'in'), str(tmp_path / 'out')]
  assert cli.main([*call, '--layout', 'pairs']) == 0
  assert '2 imported' in capsys.readouterr().out
  assert_lesions(tmp_path / 'out', made)
  names = sorted(p.name for p in (tmp_path / 'out').rglob('sub-anna*.nii.gz'))
  assert names == [
    'sub-anna_label-brain_mask.nii.gz',
    'sub-anna_part-mag_T2starw.nii.gz',
    'sub-anna_part-phase_T2starw.nii.gz',
    'sub-anna_seg-cmb_dseg.nii.gz',
    'sub-anna_swi.nii.gz',
  ]


@pytest.mark.parametrize(
  ('image', 'label'),
  [
    ('{}.nii.gz', '{}_label.nii.gz'),  # ITK-SNAP
    ('{}.nii.gz', '{}-label.nii.gz'),  # 3D Slicer
    ('{}.nii', '{}_seg.nii.gz'),
    ('{}_swi.nii.gz', '{}_swi_Segmentation.nii.gz'),
    ('{}_swi.nii.gz', '{}_cmbs.nii'),
    ('imagesTr/{}_0000.nii.gz', 'labelsTr/{}.nii.gz'),  # nnU-Net
    ('{}/swi.nii.gz', '{}/mask.nii.gz'),
  ],
)
def test_spellings_of_pairs(image, label, tmp_path):
  made = {}
  for number, name in enumerate(('dora', 'emil')):
    one = phantom(number)
    save(tmp_path / 'in' / image.format(name), one.swi, one.affine)
    labels = (one.lesions > 0).astype(np.uint8)
    save(tmp_path / 'in' / label.format(name), labels, one.affine)
    made[f'sub-{name}'] = one
  done = importers.import_cohort(
    tmp_path / 'in', tmp_path / 'out', ImportOptions('pairs')
  )
  assert not done.failed
  assert_lesions(tmp_path / 'out', made)


@pytest.mark.parametrize('name', ['lesions_anna', 'carla_final', 'x2'])
def test_labels_that_no_name_says_are_no_person(name, tmp_path):
  made = write_flat(tmp_path / 'in')
  one = made['sub-anna']
  labels = (one.lesions > 0).astype(np.uint8)
  save(tmp_path / f'in/{name}.nii.gz', labels, one.affine)
  done = importers.import_cohort(
    tmp_path / 'in', tmp_path / 'out', ImportOptions('pairs', unlisted='empty')
  )
  assert done.done == ('sub-anna', 'sub-berta')
  ((_, why),) = done.failed.items()
  assert 'shows labels' in why


def test_a_scan_with_two_label_images_fails_alone(tmp_path):
  made = write_flat(tmp_path / 'in')
  one = made['sub-anna']
  labels = (one.lesions > 0).astype(np.uint8)
  save(tmp_path / 'in/anna_cmbs.nii.gz', labels, one.affine)
  done = importers.import_cohort(
    tmp_path / 'in', tmp_path / 'out', ImportOptions('pairs')
  )
  assert done.done == ('sub-berta',)
  assert 'could be its truth' in done.failed['sub-anna']


@pytest.mark.parametrize(
  ('unlisted', 'unlabelled'), [('unlabelled', ('sub-berta',)), ('empty', ())]
)
def test_pairs_without_a_label(unlisted, unlabelled, tmp_path):
  write_flat(tmp_path / 'in')
  (tmp_path / 'in/berta_cmb.nii.gz').unlink()
  options = ImportOptions('pairs', unlisted=unlisted)
  done = importers.import_cohort(tmp_path / 'in', tmp_path / 'out', options)
  assert done.unlabelled == unlabelled


def test_a_label_of_nobody_makes_nobody_empty(tmp_path):
  write_flat(tmp_path / 'in')
  path = tmp_path / 'in/berta_cmb.nii.gz'
  path.rename(tmp_path / 'in/bertha_cmb.nii.gz')
  options = ImportOptions('pairs', unlisted='empty')
  with says(InputError, 'bertha_cmb.nii.gz'):
    importers.import_cohort(tmp_path / 'in', tmp_path / 'out', options)
  options = ImportOptions('pairs')
  done = importers.import_cohort(tmp_path / 'in', tmp_path / 'out', options)
  assert done.unlabelled == ('sub-berta',)


def test_chosen_persons(tmp_path):
  write_flat(tmp_path / 'in')
  options = ImportOptions('pairs', participants=('berta',))
  done = importers.import_cohort(tmp_path / 'in', tmp_path / 'out', options)
  assert done.done == ('sub-berta',)


def test_real_and_imaginary_parts_go_along(tmp_path):
  one = phantom(0)
  for part in ('real', 'imaginary'):
    save(tmp_path / f'in/gre_{part}.nii.gz', one.swi - 20, one.affine)
    facts = {'EchoTime': 0.02}
    (tmp_path / f'in/gre_{part}.json').write_text(json.dumps(facts))
  table = tmp_path / 'points.csv'
  table.write_text('scan,x,y,z\ngre_real,,,\n')
  done = importers.import_cohort(
    tmp_path / 'in', tmp_path / 'out', ImportOptions('points', table=table)
  )
  assert len(done.done) == 1
  (scan,) = cohort.read_cohort(tmp_path / 'out').scans
  assert scan.files.cartesian
  assert scan.files.sidecar['EchoTime'] == 0.02


@pytest.mark.parametrize(
  ('options', 'named'),
  [
    ({'participants': ('01',)}, '--participant-label'),
    ({'swi_pattern': '*'}, '--swi-pattern'),
    ({'suffix': 'T2starw'}, '--suffix'),
  ],
)
def test_options_of_other_layouts_are_refused(options, named, tmp_path):
  small_cohorts.write_lupolab(tmp_path / 'in')
  with says(InputError, named):
    importers.import_cohort(
      tmp_path / 'in', tmp_path / 'out', ImportOptions('lupolab', **options)
    )


def test_pairs_without_any_label(tmp_path, capsys):
  one = phantom(0)
  save(tmp_path / 'in/anna_swi.nii.gz', one.swi, one.affine)
  call = ['import', str(tmp_path / 'in'), str(tmp_path / 'out')]
  assert cli.main([*call, '--layout', 'pairs']) == 3
  printed(capsys.readouterr().err, 'sub-anna')
