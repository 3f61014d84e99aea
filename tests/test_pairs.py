"""Tests of reconstruct/pairs.py: magnitude and phase the wrong way round."""

import json

import nibabel as nib
import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.reconstruct import signal
from tests.messages import says

SHAPE = (48, 40, 20)
M, P = ({'ImageType': ['ORIGINAL', 'PRIMARY', t]} for t in 'MP')
REAL, IMAGINARY = (
  {'ImageType': ['ORIGINAL', t]} for t in ('REAL', 'IMAGINARY')
)


@pytest.fixture(scope='module')
def scan():
  """A bright box in air, and a phase that is noise in the air."""
  rng = np.random.default_rng(4)
  magnitude = np.full(SHAPE, 20.0) + rng.uniform(0, 20, SHAPE)
  magnitude[8:40, 8:32] += np.linspace(300, 900, 24)[:, None]
  phase = rng.uniform(-np.pi, np.pi, SHAPE)
  return magnitude.astype(np.float32), phase.astype(np.float32)


def _write(path, array, fields=None):
  nib.save(nib.Nifti1Image(np.asarray(array, np.float32), np.eye(4)), path)
  path.with_suffix('.json').write_text(json.dumps(fields or {}))
  return path


@pytest.mark.parametrize(
  'encode',
  [
    lambda p: p,
    lambda p: np.rint((p / np.pi + 1) * 2047.5),
    lambda p: p + np.pi,
    lambda p: np.rad2deg(p),
  ],
)
def test_voxels_say_that_they_are_swapped(tmp_path, scan, encode):
  m = _write(tmp_path / 'm.nii', scan[0])
  p = _write(tmp_path / 'p.nii', encode(scan[1]))
  right, swapped = signal.read([m], [p]), signal.read([p], [m])
  np.testing.assert_array_equal(swapped.magnitude, right.magnitude)
  np.testing.assert_array_equal(swapped.phase, right.phase)
  assert not any('wrong way round' in note for note in right.notes)
  assert any('by their voxels' in note for note in swapped.notes)


def test_json_files_say_that_they_are_swapped(tmp_path, scan):
  smooth = np.where(scan[0] > 100, 1000 + 4 * np.arange(20), 0)  # no wraps
  m = _write(tmp_path / 'm.nii', scan[0], M)
  p = _write(tmp_path / 'p.nii', smooth, P | {'Manufacturer': 'Siemens'})
  found = signal.read([p], [m])
  np.testing.assert_array_equal(found.magnitude[..., 0], scan[0])
  assert any('by the ImageType' in note for note in found.notes)
  given = {m: P, p: M}  # the caller's fields count, not the files
  with says(InputError, 'ImageType'):
    signal.read([_write(tmp_path / 'n.nii', scan[1] + 4, M)], [m], fields={
      tmp_path / 'n.nii': M, m: {}})  # fmt: skip
  assert any(
    'ImageType' in n for n in signal.read([m], [p], fields=given).notes
  )


def test_one_json_file_that_disagrees_is_a_refusal(tmp_path, scan):
  m = _write(tmp_path / 'm.nii', scan[0], P)
  p = _write(tmp_path / 'p.nii', scan[1])
  with says(InputError, 'm.nii'):
    signal.read([m], [p])


def test_the_same_for_both_says_nothing(tmp_path, scan):
  m = _write(tmp_path / 'm.nii', scan[0], P)
  p = _write(tmp_path / 'p.nii', scan[1], P)
  assert signal.read([m], [p]).notes == ()


def test_real_and_imaginary_parts(tmp_path, scan):
  r = _write(tmp_path / 'r.nii', scan[0] * np.cos(scan[1]), REAL)
  i = _write(tmp_path / 'i.nii', scan[0] * np.sin(scan[1]), IMAGINARY)
  right = signal.read([r], [i], cartesian=True)
  swapped = signal.read([i], [r], cartesian=True)
  np.testing.assert_array_equal(swapped.phase, right.phase)
  assert any('wrong way round' in note for note in swapped.notes)
  with says(InputError, 'r.nii'):
    signal.read([r], [i])


def test_filtered_phase_is_said(tmp_path, scan):
  m = _write(tmp_path / 'm.nii', scan[0], M | {'SeriesDescription': 'SWI_Mag'})
  p = _write(
    tmp_path / 'p.nii', scan[1], P | {'SeriesDescription': 'FILT_PHA: SWAN'}
  )
  assert any('high-passed already' in n for n in signal.read([m], [p]).notes)
