"""A seeded sample of spoilt files: a value or one sentence, never a traceback.

CMBJAX_TEST_TIMES=100 in the environment spoils a hundred times as many.
"""

import errno
import gzip
import os
import random
import zipfile
import zlib

import nibabel as nib
import numpy as np
import pytest

from cmbjax import cli, errors, files
from cmbjax.data import point_table
from cmbjax.errors import InputError
from cmbjax.imaging import regions, volume
from cmbjax.intake import dicom_series
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct import scan_image
from cmbjax.review.log import folders, journal
from cmbjax.study import config
from tests import readings, spoilt_readers
from tests.messages import printed, says

TIMES = int(os.environ.get('CMBJAX_TEST_TIMES', '1'))
SAMPLE = {one.name: 1 for one in spoilt_readers.READERS} | {
  'images': 120,
  'magnitude and phase': 60,
  'tables of points': 120,
  'predictions': 30,
  'atlas': 10,
  'logs and caches': 60,
}


@pytest.mark.parametrize('name', sorted(SAMPLE))
def test_spoilt_files_are_read_or_refused(name, tmp_path):
  rng = random.Random(zlib.crc32(name.encode()))
  reader, refused = spoilt_readers.by_name(name), 0
  count = SAMPLE[name] * TIMES
  for one in spoilt_readers.attempts(reader, tmp_path, rng, count):
    assert not one.crash, f'{one.path} ({one.how}): {one.crash}'
    refused += bool(one.said)
  assert refused or count < 9 or name == 'logs and caches'


@pytest.mark.parametrize(
  'read',
  [files.read_bytes, files.read_text, files.read_json, files.read_arrays],
)
def test_a_pipe_is_refused_at_once(read, tmp_path):
  path = tmp_path / 'pipe.json'
  os.mkfifo(path)
  with (
    spoilt_readers.limited(5, 5),
    says(InputError),
  ):
    read(path)


_LONG = 'x' * 300  # no file system of ours has it


@pytest.mark.parametrize(
  'words',
  ['detect {} out', 'evaluate {} c', 'report {}', 'review {}', 'compare {}'],
)
def test_a_name_that_no_file_can_have(words, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert cli.main(words.format(_LONG).split()) == 2
  (said,) = capsys.readouterr().err.splitlines()
  assert 'too long' in said
  assert not any(tmp_path.iterdir())


def test_other_errors_of_the_system_stay_errors():
  assert errors.told(OSError(errno.ENOENT, 'is a bug', 'a')) is None
  assert errors.told(OSError(errno.EACCES, 'without a name')) is None


@pytest.mark.parametrize('code', [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_what_the_system_says_of_a_place_is_one_sentence(code, capsys):
  def work():
    raise OSError(code, os.strerror(code), '/some/place')

  assert errors.exit_code(work) == 2
  printed(capsys.readouterr().err, '/some/place')


def test_a_member_that_is_no_array_is_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as made:
    made.writestr('a', b'text')
  with says(InputError):
    files.read_arrays(tmp_path / 'a.npz')


def test_what_the_fuzzer_found(tmp_path):
  """Numbers too long for Python, an encoding that is none, a long list."""
  (tmp_path / 'a.csv').write_text(f'subject,x,y,z\n{"1" * 5000},1,2,3\n')
  with pytest.raises(InputError):
    point_table.match(
      tmp_path / 'a.csv',
      point_table.read(tmp_path / 'a.csv'),
      [('sub-01', None, ())],
    )
  spoilt_readers.by_name('tables of points').make(tmp_path)
  with zipfile.ZipFile(tmp_path / 'd.xlsx') as old:
    members = {name: old.read(name) for name in old.namelist()}
  with zipfile.ZipFile(tmp_path / 'd.xlsx', 'w') as new:
    for name, data in members.items():
      head = b'<?xml version="1.0" encoding="mTF-8"?>'
      new.writestr(name, head + data.split(b'?>', 1)[-1])
  with says(InputError):
    point_table.read(tmp_path / 'd.xlsx')
  with says(InputError):
    config.check_overrides(config.load('configs/smoke.py'), ['--config.=1'])


def test_a_header_that_promises_too_much_is_refused(tmp_path):
  path = tmp_path / 'huge.nii'
  nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)
  data = bytearray(path.read_bytes())
  data[42:48] = np.array([32767] * 3, '<i2').tobytes()
  path.write_bytes(bytes(data))
  for read in (volume.load, volume.grid_of):
    with says(InputError):
      read(path)


def test_infinite_voxels_are_said(tmp_path):
  array = np.ones((4, 5, 6), np.float32)
  array[0, 0, :2], array[1, 1, 1] = np.inf, np.nan
  nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / 'a.nii')
  found = volume.load(tmp_path / 'a.nii')
  assert found.notes == ('a.nii: 2 voxels are infinite and were taken for 0',)
  assert found.array.sum() == 4 * 5 * 6 - 3


def _with_fields(path, **fields):
  """Writes a scan whose header holds some fields that mean nothing."""
  header = nib.Nifti1Image(np.ones((4, 5, 6)), np.eye(4)).header
  header['vox_offset'], header['magic'] = 352, 'n+1'
  for name, value in fields.items():
    header[name] = value
  data = header.binaryblock + bytes(4) + np.ones((6, 5, 4)).tobytes()
  path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)


@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz'])
def test_a_repaired_header_is_said_and_not_logged(name, tmp_path, capfd):
  path = tmp_path / name
  _with_fields(path, sform_code=77, qform_code=-3, bitpix=8)
  found = volume.load(path)
  assert found.notes == (
    f'{name}: its header was repaired: bitpix 8 was taken for 64, qform_code '
    '-3 was taken for 0, sform_code 77 was taken for 0',
  )
  assert not found.placed
  _with_fields(path, pixdim=[0, -2, 0, 1, np.nan, 0, 0, 0])
  assert volume.load(path).notes == (
    f'{name}: its header was repaired: pixdim[0] 0 was taken for 1, pixdim[1] '
    '-2 was taken for 2, pixdim[2] 0 was taken for 1',
  )
  _with_fields(path)
  assert volume.load(path).notes == ()
  _with_fields(path, magic=b'xyz')
  with says(InputError, 'NIfTI'):
    volume.load(path)
  assert capfd.readouterr() == ('', '')


def test_what_nibabel_says_to_others_stays(tmp_path, caplog):
  _with_fields(tmp_path / 'a.nii', sform_code=77)
  volume.load(tmp_path / 'a.nii')
  assert not caplog.messages
  nib.load(tmp_path / 'a.nii')
  assert caplog.messages == ['sform_code 77 not valid; setting to 0']


def test_every_file_of_a_scan_tells_its_repairs_once(tmp_path):
  paths = [tmp_path / f'{name}.nii' for name in ('image', 'mag', 'mask')]
  for path in paths:
    _with_fields(path, sform_code=77, pixdim=[1, 30, 30, 20, 0, 0, 0, 0])
  image, magnitude, mask = paths
  for given, said in ((image, paths), (None, paths[1:])):
    scan = ScanFiles('sub-1', None, '1', given, (magnitude,), (), mask, {})
    notes = scan_image.load_image(scan, ('swi', 'magnitude')).notes
    told = sorted(note.split(':')[0] for note in notes)
    assert told == [path.name for path in said]


def test_a_folder_with_a_pipe_is_no_dicom_and_does_not_wait(tmp_path):
  os.mkfifo(tmp_path / 'image.dcm')
  (tmp_path / 'gone.dcm').symlink_to(tmp_path / 'nowhere')
  assert not dicom_series.is_dicom(tmp_path)


def test_an_atlas_of_another_space_or_a_scan_is_refused(tmp_path):
  labels = np.zeros((20, 20, 20), np.uint8)
  labels[5:15, 5:15, 5:15] = 3
  affine = np.diag([4.0, 4.0, 4.0, 1.0])
  affine[:3, 3] = 900
  nib.save(nib.Nifti1Image(labels, affine), tmp_path / 'far.nii')
  with says(InputError):
    regions.load_atlas(tmp_path / 'far.nii')
  noise = np.random.default_rng(0).integers(1, 200, (20, 20, 20))
  affine[:3, 3] = -40
  nib.save(nib.Nifti1Image(noise.astype(np.int16), affine), tmp_path / 's.nii')
  with says(InputError):
    regions.load_atlas(tmp_path / 's.nii')


def test_a_journal_changed_by_hand_is_refused(tmp_path):
  readings.read(tmp_path, 'ann', ['accept', 'reject', 'unsure'])
  folder = folders.folder_of(tmp_path, 'ann', 'sub-01')
  path = folder / journal.EVENTS
  text = path.read_text()
  for word in ('perhaps', 'reject'):  # also what a reader might have said
    spoilt = text.replace('"verdict":"accept"', f'"verdict":"{word}"')
    path.write_text(spoilt)
    with says(InputError):
      journal.read(folder)
  path.write_text(text)
  journal.read(folder)
  (folder / journal.STATE).write_text('{"case": {"status": "completed"}}')
  path.write_text('')
  with says(InputError):
    journal.read(folder)
