"""Tests of reconstruct/echo_files.py: files to one echo at a time."""

import weakref

import nibabel as nib
import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.imaging import slices, volume
from cmbjax.reconstruct import echo_files, signal
from tests.messages import says

AFFINE = np.diag([-0.5, 0.5, 0.5, 1.0])  # counts from left to right


def _write(path, array, affine=AFFINE):
  nib.save(nib.Nifti1Image(array, affine), path)
  return path


@pytest.fixture
def three(tmp_path):
  """Files of three echoes, magnitudes as whole numbers; and the arrays."""
  rng = np.random.default_rng(9000)
  mags = rng.integers(0, 4000, (3, 8, 9, 10)).astype(np.int16)
  turns = rng.uniform(-np.pi, np.pi, (3, 8, 9, 10)).astype(np.float32)
  turns[:, 0, 0, :2] = np.float32([-np.pi, np.pi])
  return (
    [_write(tmp_path / f'm{n}.nii', a) for n, a in enumerate(mags)],
    [_write(tmp_path / f'p{n}.nii.gz', a) for n, a in enumerate(turns)],
    mags[:, ::-1],
    turns[:, ::-1],
  )


def test_one_file_is_in_memory(three, monkeypatch):
  loaded, alive = [], []
  original = echo_files.load

  def load(path, **known):
    part = path.name[0]
    alive.append(sum(ref() is not None for p, ref in loaded if p == part))
    image = original(path, **known)
    loaded.append((part, weakref.ref(image)))
    return image

  monkeypatch.setattr(echo_files, 'load', load)
  scan = signal.read(*three[:2], echo_times_s=(0.01, 0.02, 0.03))
  for number in range(3):
    scan.echoes.magnitude(number)
    scan.echoes.phase(number)
  assert len(alive) > 12
  assert max(alive) == 0


def test_echoes_are_those_of_the_files(three):
  scan = signal.read(*three[:2], echo_times_s=(0.03, 0.01, 0.02))
  assert scan.echoes.shape == (8, 9, 10, 3, 1)
  for place, number in enumerate((1, 2, 0)):  # in the order of time
    magnitude, phase = scan.echoes.magnitude(place), scan.echoes.phase(place)
    assert magnitude.dtype == np.int16
    np.testing.assert_array_equal(magnitude[..., 0], three[2][number])
    np.testing.assert_array_equal(phase[..., 0], three[3][number])
    np.testing.assert_array_equal(scan.phase[..., place], three[3][number])
  assert scan.magnitude.dtype == np.float32


def test_voxels_in_the_order_of_another_volume(tmp_path):
  array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
  affine = np.diag([2.0, 0.5, 0.5, 1.0])  # sagittal slices
  m = _write(tmp_path / 'm.nii', array, affine)
  turn = (array / 119 * 2 * np.pi).astype(np.float32)
  p = _write(tmp_path / 'p.nii', turn, affine)
  scan = signal.read([m], [p])
  like = slices.last(volume.load(m))
  scan.echoes.lay(like)
  assert scan.echoes.shape == (*like.array.shape, 1, 1)
  assert like.array.shape[2] == 4
  np.testing.assert_array_equal(scan.echoes.magnitude(0)[..., 0], like.array)


def test_a_damaged_file_is_found_at_once(three):
  three[1][2].write_bytes(three[1][2].read_bytes()[:-30])
  with says(InputError, 'p2.nii.gz'):
    signal.read(*three[:2], echo_times_s=(0.01, 0.02, 0.03))


def test_a_unit_is_brought_to_radians_whenever_it_is_read(tmp_path, three):
  raw = np.rint(three[3] / np.pi * 4096).clip(-4096, 4094).astype(np.int16)
  paths = [_write(tmp_path / f'r{n}.nii', a) for n, a in enumerate(raw)]
  scan = signal.read(three[0], paths, echo_times_s=(0.01, 0.02, 0.03))
  assert len(scan.notes) == 3  # each is said once
  for _ in range(2):
    for number in range(3):
      found = scan.echoes.phase(number)[..., 0]
      expected = raw[number][::-1] * (np.pi / 4096)
      np.testing.assert_allclose(found, expected, atol=1e-5)
