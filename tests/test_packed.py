"""Packed images are read to their checksum, or refused."""

import gzip
import io

import nibabel as nib
import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.imaging import packed, volume
from tests import spoilt_readers
from tests.messages import says

ARRAY = np.random.default_rng(0).integers(0, 900, (20, 18, 40)).astype(np.int16)


def _image(array=ARRAY):
  return nib.Nifti1Image(array, np.diag([1, 1, 2, 1])).to_bytes()


def _written(path, data):
  path.write_bytes(data)
  return path


def test_no_flipped_bit_changes_a_voxel_without_a_word(tmp_path):
  path = tmp_path / 'a.nii.gz'
  good = gzip.compress(_image(), mtime=0)
  # The first 10 bytes are gzip's header: times and systems mean nothing.
  places = [*range(10, len(good) - 8, 61), *range(len(good) - 8, len(good))]
  for place in places:
    data = bytearray(good)
    data[place] ^= 1 << place % 8
    path.write_bytes(data)
    with pytest.raises(InputError):
      volume.load(path)
  assert len(places) > 300


@pytest.mark.parametrize('place', [-8, -4])
def test_a_wrong_trailer_is_said(tmp_path, place):
  """Of the checksum and of the length; the voxels before them are right."""
  data = bytearray(gzip.compress(_image(), mtime=0))
  data[place] ^= 1
  path = _written(tmp_path / 'a.nii.gz', data)
  for scaled in (True, False):
    with says(InputError, 'a.nii.gz'):
      volume.load(path, scaled=scaled)


def test_no_cut_is_read(tmp_path):
  good = gzip.compress(_image(), mtime=0)
  for length in range(1, len(good), 211):
    with pytest.raises(InputError):
      volume.load(_written(tmp_path / 'a.nii.gz', good[:length]))


@pytest.mark.parametrize(
  ('after', 'note'),
  [
    (b'', ()),
    (bytes(1000), ()),  # a tape is filled with zeros
    (b'\r\n', '2 bytes that are not gzip follow its end and were not read'),
    (b'\x1f', '1 bytes that are not gzip follow its end and were not read'),
    (bytes(9) + b'--x', '3 bytes that are not gzip follow its end and were '
     'not read'),
    (
      gzip.compress(b'12345', mtime=0),
      '5 bytes follow its voxels and were not read',
    ),
  ],
)  # fmt: skip
def test_what_follows_is_said(tmp_path, after, note):
  path = _written(tmp_path / 'a.nii.gz', gzip.compress(_image()) + after)
  found = volume.load(path)
  np.testing.assert_array_equal(found.array, ARRAY)
  assert found.notes == ((f'a.nii.gz: {note}',) if note else ())


def test_what_follows_unpacked_voxels_is_said_too(tmp_path):
  path = _written(tmp_path / 'a.nii', _image() + b'123')
  note = 'a.nii: 3 bytes follow its voxels and were not read'
  assert volume.load(path).notes == (note,)


def test_members_are_one_image(tmp_path):
  """As pigz and bgzip write, and `cat a.gz b.gz`."""
  data = _image()
  parts = [data[start : start + 1000] for start in range(0, len(data), 1000)]
  path = _written(tmp_path / 'a.nii.gz', b''.join(map(gzip.compress, parts)))
  np.testing.assert_array_equal(volume.load(path).array, ARRAY)
  broken = bytearray(path.read_bytes())
  broken[-7] ^= 1  # in the checksum of the last one
  path.write_bytes(broken)
  with says(InputError, 'a.nii.gz'):
    volume.load(path)


def test_a_bomb_behind_the_voxels_ends(tmp_path):
  path = tmp_path / 'a.nii.gz'
  path.write_bytes(gzip.compress(_image()) + 40 * gzip.compress(bytes(1 << 23)))
  with spoilt_readers.limited(5), says(InputError, 'a.nii.gz'):
    volume.load(path)


def test_what_is_not_packed_is_said(tmp_path):
  with says(InputError, 'a.nii.gz'):
    volume.load(_written(tmp_path / 'a.nii.gz', _image()))


@pytest.mark.parametrize('kind', [np.uint8, np.int16, '>i4', np.float64])
@pytest.mark.parametrize('name', ['a.nii.gz', 'a.NII.GZ', 'a.mgz', 'a.img'])
def test_voxels_are_those_of_nibabel(tmp_path, name, kind):
  array = np.random.default_rng(1).integers(0, 250, (9, 8, 130)).astype(kind)
  if name == 'a.mgz':
    array = array.astype(np.float32)
    image = nib.MGHImage(array, np.eye(4))
  elif name == 'a.img':
    image = nib.Nifti1Pair(array, np.eye(4))
  else:
    image = nib.Nifti1Image(array, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
  nib.save(image, tmp_path / name)
  found = volume.load(tmp_path / name)
  wanted = np.asanyarray(nib.load(tmp_path / name).dataobj)
  np.testing.assert_array_equal(found.array, wanted)
  assert found.notes == ()


def test_an_mgz_is_read_to_its_checksum(tmp_path):
  path = tmp_path / 'a.mgz'
  nib.save(nib.MGHImage(ARRAY.astype(np.float32), np.eye(4)), path)
  data = bytearray(path.read_bytes())
  data[-6] ^= 1
  with says(InputError, 'a.mgz'):
    volume.load(_written(path, data))


def test_a_stream_goes_forward_in_any_steps():
  data = np.random.default_rng(2).bytes(3 << 20) + bytes(3 << 20)
  stream = packed.Packed(io.BytesIO(gzip.compress(data, 1)))
  assert stream.read(5) == data[:5]
  assert stream.seek(1 << 20) == stream.tell() == 1 << 20
  assert stream.read(2 << 20) == data[1 << 20 : 3 << 20]
  with pytest.raises(io.UnsupportedOperation):
    stream.seek(0)
  assert stream.rest(10 << 20) == 3 << 20
  assert stream.read(1) == b''
  assert stream.seek(10 << 20) == 6 << 20
