"""Tests of imaging/command.py: files in, files and settings out."""

import argparse
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.reconstruct import command
from tests import heads
from tests.messages import says

AFFINE = np.array(
  [[0, -1, 0, 40], [-1, 0, 0, 50], [0, 0, 2, -20], [0, 0, 0, 1]], float
)


def _run(*words):
  parser = argparse.ArgumentParser()
  command.add_arguments(parser)
  return command.run(parser.parse_args([str(w) for w in words]))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  head = heads.draw()
  folder = tmp_path_factory.mktemp('scan')
  for name, array in (('mag', head.magnitude), ('phase', head.phase)):
    path = folder / f'sub-1_part-{name}_T2starw.nii.gz'
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    fields = {'EchoTime': 0.016, 'MagneticFieldStrength': 7, 'Simulated': True}
    path.with_name(path.name[:-7] + '.json').write_text(json.dumps(fields))
  nib.save(
    nib.Nifti1Image(head.brain.astype(np.uint8), AFFINE), folder / 'mask.nii'
  )
  return folder


def test_one_echo_writes_images_and_settings(files, tmp_path, capsys):
  mag = files / 'sub-1_part-mag_T2starw.nii.gz'
  code = _run(
    *_scan(files),
    '--out',
    tmp_path,
    '--writesteps',
  )
  assert code == 0
  names = sorted(p.name for p in tmp_path.iterdir())
  assert names == [
    'sub-1_desc-combined_magnitude.nii.gz',
    'sub-1_desc-highpass_phase.nii.gz',
    'sub-1_label-brain_mask.nii.gz',
    'sub-1_minIP.nii.gz',
    'sub-1_settings.json',
    'sub-1_swi.json',
    'sub-1_swi.nii.gz',
  ]
  assert len(capsys.readouterr().out.splitlines()) == 5
  given, image = nib.load(mag), nib.load(tmp_path / 'sub-1_swi.nii.gz')
  np.testing.assert_allclose(image.affine, given.affine)
  assert image.shape == given.shape
  assert image.get_data_dtype() == np.uint8
  values = np.asarray(image.dataobj)
  inside = np.asarray(nib.load(files / 'mask.nii').dataobj) > 0
  assert (values[inside] == 255).mean() == pytest.approx(0.005, abs=0.004)
  settings = json.loads((tmp_path / 'sub-1_settings.json').read_text())
  assert settings['Options']['mask_power'] == 4
  assert settings['HighPassSigmaMm'] == 1.9
  assert settings['EchoTimes'] == [0.016]
  assert settings['PhaseSign']['Used'] == 1
  assert settings['PhaseSign']['Certain'] is True
  assert set(settings['Versions']) >= {'numpy', 'scipy', 'nibabel', 'python'}
  assert settings['GeneratedBy'][0]['Version']
  sidecar = json.loads((tmp_path / 'sub-1_swi.json').read_text())
  assert sidecar['EchoTime'] == 0.016
  assert sidecar['Simulated'] is True


def test_the_settings_make_the_same_image_again(files, tmp_path):
  words = [
    *_scan(files),
    '--phase-scaling-type',
    'tanh',
    '--filter-size',
    '2.5',
    '--phase-sign',
    '-1',
  ]
  for name in ('a', 'b'):
    assert _run(*words, '--out', tmp_path / name) == 0
  for file in (tmp_path / 'a').iterdir():
    if file.name.endswith('settings.json'):
      continue
    assert file.read_bytes() == (tmp_path / 'b' / file.name).read_bytes()
  settings = json.loads((tmp_path / 'a/sub-1_settings.json').read_text())
  assert settings['HighPassSigmaMm'] == 2.5
  assert settings['PhaseSign']['Used'] == -1
  assert settings['PhaseSign']['Measured'] is False
  assert any('goes against the image' in n for n in settings['Notes'])


def test_an_unknown_field_strength_is_said(files, tmp_path, capsys):
  for name in ('mag', 'phase'):
    path = tmp_path / f'{name}.nii.gz'
    given = files / f'sub-1_part-{name}_T2starw.nii.gz'
    path.write_bytes(given.read_bytes())
  words = ['-m', tmp_path / 'mag.nii.gz', '-p', tmp_path / 'phase.nii.gz']
  _run(*words, '--out', tmp_path / 'a')
  assert 'field strength is not known' in capsys.readouterr().err
  _run(*words, '--out', tmp_path / 'b', '--field', '7')
  assert 'field strength' not in capsys.readouterr().err


def test_a_repaired_header_is_one_note(files, tmp_path, capfd):
  data, path = bytearray((files / 'mask.nii').read_bytes()), tmp_path / 'm.nii'
  data[252] = 77  # qform_code
  path.write_bytes(data)
  assert _run(*_scan(files), '--mask', path, '--out', tmp_path) == 0
  lines = capfd.readouterr().err.splitlines()
  assert [line for line in lines if 'qform' in line] == [
    'note: m.nii: its header was repaired: qform_code 77 was taken for 0'
  ]


def test_own_mask_is_kept(files, tmp_path):
  _run(
    *_scan(files),
    '--mask',
    files / 'mask.nii',
    '--out',
    tmp_path,
  )
  mine, kept = (
    volume.load(p).array > 0
    for p in (files / 'mask.nii', tmp_path / 'sub-1_label-brain_mask.nii.gz')
  )
  np.testing.assert_array_equal(kept, mine)


def test_a_mask_of_another_grid_is_refused(files, tmp_path):
  other = tmp_path / 'other.nii'
  nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), AFFINE), other)
  with says(InputError, 'other.nii'):
    _run(
      *_scan(files),
      '--mask',
      other,
      '--out',
      tmp_path,
    )


def test_inputs_are_never_overwritten(files, tmp_path):
  mag = tmp_path / 'swi.nii.gz'
  mag.write_bytes((files / 'sub-1_part-mag_T2starw.nii.gz').read_bytes())
  before = mag.read_bytes()
  with says(InputError):
    _run(
      '--mag',
      mag,
      '--phase',
      files / 'sub-1_part-phase_T2starw.nii.gz',
      '--out',
      tmp_path,
    )
  assert mag.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == ['swi.nii.gz']


@pytest.mark.parametrize(
  'words', [['--mag', 'a'], ['--phase', 'a'], ['--mag', 'a', '--imag', 'b'], []]
)
def test_halves_of_a_signal_are_refused(tmp_path, words):
  with says(InputError, '--mag --phase'):
    _run(*words, '--out', tmp_path)


@pytest.mark.parametrize('times', [['0.016'], ['x'], ['[]'], ['4', '900']])
def test_echo_times_in_other_units_are_refused(tmp_path, times):
  with says(InputError, '--echo-times'):
    _run('-m', 'a', '-p', 'b', '-o', tmp_path, '-t', *times)


@pytest.mark.parametrize('times', [['4', '8', '12'], ['[4,8,12]']])
def test_real_scan_from_the_command(tmp_path, times, capsys, real_data):
  mag, angle = (real_data(f'real_gre_crop/{n}.nii') for n in ('Mag', 'Phase'))
  assert _run('-m', mag, '-p', angle, '-t', *times, '-o', tmp_path) == 0
  assert 'scale factor' in capsys.readouterr().err
  settings = json.loads((tmp_path / 'settings.json').read_text())
  assert settings['PhaseSign']['Used'] == -1
  assert settings['EchoesUsed'] == [2, 3]
  assert (tmp_path / 'TOF.nii.gz').is_file()
  shape = nib.load(mag).shape[:3]
  assert nib.load(tmp_path / 'minIP.nii.gz').shape == shape


def _scan(files):
  return [
    '--mag',
    files / 'sub-1_part-mag_T2starw.nii.gz',
    '--phase',
    files / 'sub-1_part-phase_T2starw.nii.gz',
  ]


def test_resampled_files_lie_where_the_scan_lies(files, tmp_path):
  _run(*_scan(files), '--out', tmp_path / 'a')
  _run(*_scan(files), '--resample', '2', '1', '4', '--out', tmp_path / 'b')
  first, second = (
    volume.load(tmp_path / f / 'sub-1_label-brain_mask.nii.gz') for f in 'ab'
  )
  assert second.spacing_mm == (2, 1, 4)
  centres = [
    v.to_world(np.argwhere(v.array > 0)).mean(0) for v in (first, second)
  ]
  np.testing.assert_allclose(*centres, atol=0.15)
  header = nib.load(tmp_path / 'b' / 'sub-1_swi.nii.gz')
  assert nib.aff2axcodes(header.affine) == nib.aff2axcodes(AFFINE)
  settings = json.loads((tmp_path / 'b/sub-1_settings.json').read_text())
  assert settings['VoxelMm'] == [2, 1, 4]


def test_sensitivity_from_a_file(files, tmp_path):
  field = np.linspace(0.5, 2, 96, dtype=np.float32)[:, None, None] * np.ones(
    (96, 112, 24), np.float32
  )
  nib.save(nib.Nifti1Image(field, AFFINE), tmp_path / 'field.nii')
  flag = '--mag-sensitivity-correction'
  _run(
    *_scan(files), flag, tmp_path / 'field.nii', '--writesteps',
    '--out', tmp_path / 'a',
  )  # fmt: skip
  name = 'sub-1_desc-combined_magnitude.nii.gz'
  found = np.asarray(nib.load(tmp_path / 'a' / name).dataobj)
  given = np.asarray(nib.load(files / 'sub-1_part-mag_T2starw.nii.gz').dataobj)
  np.testing.assert_allclose(found, given / field, rtol=1e-5)
  for value in ('x', files / 'mask.nii'):
    with says(InputError):
      _run(*_scan(files), flag, value, '--out', tmp_path / 'b')


@pytest.mark.parametrize(
  ('words', 'key', 'value'),
  [
    (['--mag-sensitivity-correction', 'on'], 'sensitivity', 'boxsegment'),
    (['--mag-softplus-scaling', 'on'], 'softplus', True),
    (['--phase-scaling-range', 'robust'], 'mask_range', 'robust'),
    (['--unwrapping-algorithm', 'laplacianslice'], 'high_pass', None),
    (['--mag-combine', 'SE', '16'], 'mag_combine', 'SE 16'),
  ],
)
def test_options_of_established_tools(files, tmp_path, words, key, value):
  _run(*_scan(files), *words, '--out', tmp_path)
  settings = json.loads((tmp_path / 'sub-1_settings.json').read_text())
  assert settings['Options'][key] == (value or words[1])
  ignored = any('--mag-combine has no effect' in n for n in settings['Notes'])
  assert ignored == (key == 'mag_combine')


def test_coils_of_two_echoes_in_two_files(files, tmp_path):
  head = heads.draw()
  words = {'mag': [], 'phase': []}
  for echo in (1, 2):
    for name, array in (('mag', head.magnitude), ('phase', head.phase)):
      path = tmp_path / f'{name}{echo}.nii'
      coils = np.stack([array, array * (1 if name == 'mag' else 0.999)], -1)
      nib.save(nib.Nifti1Image(coils, AFFINE), path)
      words[name].append(path)
  _run(
    '-m', *words['mag'], '-p', *words['phase'], '-t', '8', '16', '--coils',
    '-o', tmp_path / 'out', '--writesteps',
  )  # fmt: skip
  mag = np.asarray(
    nib.load(tmp_path / 'out' / 'desc-combined_magnitude.nii.gz').dataobj
  )
  np.testing.assert_allclose(mag, head.magnitude * np.sqrt(2), rtol=1e-5)
  settings = json.loads((tmp_path / 'out' / 'settings.json').read_text())
  assert settings['EchoesUsed'] == [2]
  sidecar = json.loads((tmp_path / 'out' / 'swi.json').read_text())
  assert sidecar['EchoTime'] == 0.016
  assert (tmp_path / 'out' / 'TOF.nii.gz').is_file()


@pytest.mark.parametrize(
  'words',
  [
    ['--mip-mm', '0'],
    ['--mip-mm', 'inf'],
    ['--phase-scaling-strength', 'inf'],
    ['--filter-size', '0'],
    ['--field', '3000'],
    ['--resample', '1', '1', '0'],
    ['--echoes', '2'],
    ['--phase-scaling-strength', 'nan'],
    ['--mag-combine', 'mean'],
  ],
)
def test_odd_numbers_are_refused_and_nothing_is_written(files, tmp_path, words):
  with says(InputError) as caught:
    _run(*_scan(files), *words, '--out', tmp_path)
  assert '\n' not in str(caught.value)
  assert not list(tmp_path.iterdir())


def test_damaged_voxels_and_single_slices_still_make_an_swi(tmp_path):
  head = heads.draw()
  mag, angle = head.magnitude.copy(), head.phase.copy()
  mag[40:45, 40:45, 10] = np.nan
  angle[:, :, 3] = np.nan
  for name, part in (('all', slice(None)), ('one', slice(12, 13))):
    for kind, array in (('m', mag), ('p', angle)):
      nib.save(
        nib.Nifti1Image(array[..., part, None], AFFINE),
        tmp_path / f'{kind}.nii',
      )
    out = tmp_path / name
    words = ['-m', tmp_path / 'm.nii', '-p', tmp_path / 'p.nii', '-o', out]
    assert _run(*words) == 0
    image = np.asarray(nib.load(out / 'swi.nii.gz').dataobj)
    assert image.shape == mag[..., part].shape
    assert image.max() == 255


def test_help_loads_nothing_heavy():
  code = (
    'import argparse, sys; from cmbjax.reconstruct import command;'
    'command.add_arguments(argparse.ArgumentParser());'
    'print([m for m in ("numpy", "scipy", "jax", "nibabel") if m in '
    'sys.modules])'
  )
  found = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert found.stdout.strip() == '[]'
