"""Cohort folders: layout, truth, resume, the same subject in any cohort."""

import argparse
import json
import pathlib
import shutil
import types

import nibabel as nib
import numpy as np
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import volume
from cmbjax.simulate import (
  check,
  cohort,
  protocols,
  simulate_command,
  subject_files,
)
from tests.messages import says

SLAB_MM = 12.0


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  out = tmp_path_factory.mktemp('ccm')
  return cohort.simulate(
    'ccm_3t', subjects=1, first=2, out=out, seed=5, jobs=1, slab_mm=SLAB_MM
  )


def _anat(folder, name):
  return folder / 'sub-CCM002' / 'anat' / f'sub-CCM002_{name}'


def _truth(folder, name):
  truth = folder / 'derivatives' / 'truth' / 'sub-CCM002' / 'anat'
  return truth / f'sub-CCM002_{name}'


def test_layout_and_sidecars(folder):
  top = json.loads((folder / 'dataset_description.json').read_text())
  assert top['Simulated'] is True
  assert top['GeneratedBy'][0]['Name'] == 'cmbjax simulate'
  facts = json.loads(_anat(folder, 'swi.json').read_text())
  assert facts['EchoTime'] == 0.020
  assert facts['MagneticFieldStrength'] == 3.0
  assert facts['Simulated'] is True
  phase = json.loads(_anat(folder, 'part-phase_T2starw.json').read_text())
  assert phase['Units'] == 'rad'
  rows = (folder / 'participants.tsv').read_text().splitlines()
  assert len(rows) == 2
  assert rows[1].startswith('sub-CCM002\t')


def test_the_sidecar_names_the_echoes_of_the_swi(tmp_path):
  """Without the first of several, which is an angiogram."""
  image = np.ones((4, 4, 4), np.float32)
  scan = types.SimpleNamespace(
    magnitude=[image] * 4, phase=[image] * 4, swi=image, brain=image > 0,
    affine=np.eye(4), facts={}, bare=False,
  )  # fmt: skip
  four = protocols.get_protocol('btumor_7t_4echo')
  subject_files.write_images(tmp_path, 'a', scan, protocol=four, made={})
  facts = json.loads((tmp_path / 'a_swi.json').read_text())
  assert facts['EchoTime'] == [0.0104, 0.0132, 0.0209]
  path = tmp_path / 'a_echo-2_part-mag_MEGRE.json'
  assert json.loads(path.read_text())['EchoTime'] == 0.0104


def test_images_share_one_grid_and_have_sane_values(folder):
  swi = volume.load(_anat(folder, 'swi.nii.gz'))
  magnitude = volume.load(_anat(folder, 'part-mag_T2starw.nii.gz'))
  phase = volume.load(_anat(folder, 'part-phase_T2starw.nii.gz'))
  brain = volume.load(_truth(folder, 'label-brain_mask.nii.gz'))
  assert volume.same_grid(swi, magnitude)
  assert volume.same_grid(swi, phase)
  assert volume.same_grid(swi, brain)
  np.testing.assert_allclose(swi.spacing_mm, (1, 1, 1.5), atol=1e-4)
  assert abs(phase.array).max() <= np.pi + 1e-6
  assert abs(phase.array).max() > 3.1
  inside = brain.array > 0
  # 99.5 % of the brain lies below the top, about 0.5 % at it.
  assert 0.003 < (swi.array[inside] == 255).mean() < 0.008
  assert magnitude.array[inside].mean() > 5 * magnitude.array[~inside].mean()


def test_truth_lies_on_dark_voxels_at_the_places_of_the_table(folder):
  swi = volume.load(_anat(folder, 'swi.nii.gz'))
  labels = volume.load(_truth(folder, 'seg-cmb_dseg.nii.gz'))
  brain = volume.load(_truth(folder, 'label-brain_mask.nii.gz')).array > 0
  lines = _truth(folder, 'seg-cmb_dseg.tsv').read_text().splitlines()
  header = lines[0].split('\t')
  assert header[:8] == (
    ['index', 'name', 'x', 'y', 'z', 'volume_mm3', 'diameter_mm', 'type']
  )
  rows = [dict(zip(header, line.split('\t'))) for line in lines[1:]]
  assert len(rows) >= 3
  assert {int(r['index']) for r in rows} == set(np.unique(labels.array)) - {0}
  usual = np.median(swi.array[brain])
  darkest = []
  for row in rows:
    voxels = np.argwhere(labels.array == int(row['index']))
    world = labels.to_world(voxels).mean(0)
    wanted = [float(row[axis]) for axis in 'xyz']
    np.testing.assert_allclose(world, wanted, atol=0.01)
    assert float(row['volume_mm3']) == pytest.approx(1.5 * len(voxels), 1e-3)
    darkest.append(swi.array[tuple(voxels.T)].min() / usual)
  assert max(darkest) < 0.95
  assert np.mean(np.array(darkest) < 0.7) > 0.7


def test_same_subject_again_byte_for_byte(folder, tmp_path):
  """In another cohort of another size, made by two processes."""
  stale = tmp_path / '.partial-sub-CCM002-1'  # of a run that was killed
  stale.mkdir()
  other = cohort.simulate(
    'ccm_3t', subjects=2, first=1, out=tmp_path, seed=5, jobs=2,
    slab_mm=SLAB_MM,
  )  # fmt: skip
  assert not stale.exists()
  for path in sorted((folder / 'sub-CCM002').rglob('*.*')):
    twin = other / path.relative_to(folder)
    assert path.read_bytes() == twin.read_bytes()
  first = nib.load(
    other / 'sub-CCM001' / 'anat' / 'sub-CCM001_swi.nii.gz'
  ).get_fdata()
  second = nib.load(_anat(folder, 'swi.nii.gz')).get_fdata()
  assert (first != second).mean() > 0.1


def test_what_is_there_is_kept_and_other_settings_are_refused(folder):
  path = _anat(folder, 'swi.nii.gz')
  before = path.stat().st_mtime_ns
  cohort.simulate(
    'ccm_3t', subjects=1, first=2, out=folder, seed=5, slab_mm=SLAB_MM
  )
  assert path.stat().st_mtime_ns == before
  with says(InputError):
    cohort.simulate(
      'ccm_3t', subjects=1, first=2, out=folder, seed=6, slab_mm=SLAB_MM
    )
  with says(InputError, 'btumor_7t'):
    cohort.simulate('btumor_7t', subjects=1, out=folder, seed=5)


def _again(folder, **change):
  how = {'subjects': 1, 'first': 2, 'seed': 5, 'jobs': 1, 'slab_mm': SLAB_MM}
  return cohort.simulate('ccm_3t', out=folder, **how | change)


def _bytes_of(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 16
  path.write_bytes(bytes(data))


@pytest.mark.parametrize(
  ('name', 'harm'),
  [
    ('*_swi.nii.gz', pathlib.Path.unlink),
    ('*_part-mag_T2starw.nii.gz', _flip),
    ('*_seg-cmb_dseg.nii.gz', _flip),
    ('*_seg-cmb_dseg.tsv', pathlib.Path.unlink),
    ('*_swi.json', lambda path: path.write_text('{"EchoTime": 0.03}')),
  ],
  ids=['no SWI', 'magnitude', 'truth', 'no table', 'sidecar'],
)
def test_a_damaged_subject_is_the_same_again_with_a_word(
  folder, tmp_path, capsys, name, harm
):
  """A lost SWI would be made of magnitude and phase, with other numbers."""
  copy = tmp_path / 'copy'
  shutil.copytree(folder, copy)
  before = _bytes_of(copy)
  (path,) = copy.rglob(name)
  harm(path)
  capsys.readouterr()
  _again(copy)
  said = capsys.readouterr().err
  assert said.count('note: ') == 1
  assert f'{copy / "sub-CCM002"}: is damaged ({path.relative_to(copy)}' in said
  assert _bytes_of(copy) == before
  _again(copy)
  assert 'note: ' not in capsys.readouterr().err


def test_a_damaged_subject_that_comes_out_otherwise_is_refused(
  folder, tmp_path, monkeypatch
):
  """Other numbers under the old name would train everything again, unsaid."""
  copy = tmp_path / 'copy'
  shutil.copytree(folder, copy)
  _flip(next(copy.rglob('*_swi.nii.gz')))
  harmed = _bytes_of(copy)
  write = subject_files._write_nifti
  monkeypatch.setattr(
    subject_files,
    '_write_nifti',
    lambda s, image, *a, **k: write(s, image // 2, *a),
  )
  with says(InputError):
    _again(copy)
  assert _bytes_of(copy) == harmed


def test_other_settings_are_no_damage(folder, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(folder, copy)
  next(copy.rglob('*_swi.json')).unlink()
  with says(InputError):
    _again(copy, seed=6)


def test_a_subject_without_its_list_is_the_same_again(folder, tmp_path, capsys):
  copy = tmp_path / 'copy'
  shutil.copytree(folder, copy)
  before = _bytes_of(copy)
  shutil.rmtree(copy / '.hashes')
  _again(copy)
  assert 'sub-CCM002.json is missing' in capsys.readouterr().err
  assert _bytes_of(copy) == before
  shutil.rmtree(copy / '.hashes')
  with says(InputError):
    _again(copy, seed=6)


@pytest.mark.parametrize(
  ('name', 'change'),
  [
    ('', {'subjects': 0}),
    ('', {'seed': -1}),
    ('', {'jobs': 0}),
    ('', {'first': 0}),
    ('slab_mm', {'slab_mm': 2.0}),
    ('slab_mm', {'slab_mm': float('nan')}),
    ('', {'cohort': 'btumor_9t'}),
  ],
)
def test_wrong_numbers_are_named(tmp_path, name, change):
  wanted = {'cohort': 'ccm_3t', 'subjects': 1, 'seed': 1, **change}
  with says(InputError, name):
    cohort.simulate(wanted.pop('cohort'), out=tmp_path, **wanted)
  assert not list(tmp_path.iterdir())


def test_check_compares_with_real_lesions(folder):
  result = check.check(folder)
  lines = _truth(folder, 'seg-cmb_dseg.tsv').read_text().splitlines()
  rows = [dict(zip(lines[0].split('\t'), l.split('\t'))) for l in lines[1:]]
  sizes = [float(r['diameter_mm']) for r in rows if 'popcorn' not in r['type']]
  np.testing.assert_allclose(
    result.diameter_mm, np.quantile(sizes, check.QUANTILES)
  )
  assert result.per_subject == len(rows)
  assert sum(result.shares.values()) == pytest.approx(1)
  assert 0 < result.intensity[2] < 0.8
  assert 'Simulated cohort ccm_3t' in result.text
  assert 'diameter mm, real' in result.text


def test_check_refuses_what_is_not_simulated(tmp_path):
  with says(NoInputError):
    check.check(tmp_path)
  (tmp_path / 'dataset_description.json').write_text('{"Name": "real"}')
  with says(InputError):
    check.check(tmp_path)


@pytest.mark.parametrize(
  'name', ['seg-cmb_dseg.nii.gz', 'seg-cmb_dseg.tsv', 'swi.nii.gz']
)
def test_check_names_a_damaged_file(folder, tmp_path, name):
  copy = tmp_path / 'copy'
  shutil.copytree(folder, copy)
  (path,) = copy.rglob(f'*_{name}')
  path.write_bytes(path.read_bytes()[:40])
  with says(InputError, path.name):
    check.check(copy)


def test_command_checks_and_names_what_is_missing(folder, capsys):
  parser = argparse.ArgumentParser()
  simulate_command.add_arguments(parser)
  assert simulate_command.run(parser.parse_args(['--check', str(folder)])) == 0
  assert 'quantile' in capsys.readouterr().out
  with says(InputError, '--subjects'):
    simulate_command.run(parser.parse_args(['--cohort', 'ccm_3t']))


def test_command_simulates(folder, capsys):
  parser = argparse.ArgumentParser()
  simulate_command.add_arguments(parser)
  words = f'--cohort ccm_3t --subjects 1 --first 2 --seed 5 --slab {SLAB_MM}'
  arguments = parser.parse_args([*words.split(), '--out', str(folder)])
  before = _anat(folder, 'swi.nii.gz').stat().st_mtime_ns
  assert simulate_command.run(arguments) == 0  # all there: nothing is redone
  assert _anat(folder, 'swi.nii.gz').stat().st_mtime_ns == before
  assert str(folder) in capsys.readouterr().err


def test_axes_of_a_rod_by_hand():
  affine = np.diag([1.0, 0.5, 2.0, 1.0])
  index = np.argwhere(np.ones((5, 2, 1)))  # 5 x 1 x 2 mm
  found = subject_files._shape(index @ affine[:3, :3], affine)
  np.testing.assert_allclose(found, [2 / 5, 1 / 5])
