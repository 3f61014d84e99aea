"""The size of a scan to the memory that it takes, and to processes."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest

from cmbjax import workers
from cmbjax.detect import batch, memory
from cmbjax.imaging import volume
from cmbjax.intake import scans
from tests import small_cohorts


@pytest.fixture
def free(monkeypatch):
  """Sets the free memory of this machine, in GB, and its cores."""

  def give(gigabytes, cores=8):
    monkeypatch.setattr(workers, 'memory_gb', lambda: (64.0, gigabytes))
    monkeypatch.setattr(workers, 'cores', lambda: cores)

  return give


def header_only(path, shape):
  """A file whose voxels are a hole: gigabytes that take no disk."""
  header = nib.Nifti1Header()
  header.set_data_dtype(np.int16)
  header.set_data_shape(shape)
  header['vox_offset'], header['magic'] = 352, b'n+1'
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('wb') as handle:
    handle.write(header.binaryblock)
    handle.truncate(352 + 2 * int(np.prod(shape, dtype=np.int64)))
  return path


def given(tmp_path, shapes):
  """A data set of scans of these shapes, as the command finds it."""
  for number, shape in enumerate(shapes, 1):
    anat = tmp_path / 'in' / f'sub-{number:02d}' / 'anat'
    header_only(anat / f'sub-{number:02d}_swi.nii', shape)
  about = {'Name': 'x', 'BIDSVersion': '1.8.0'}
  (tmp_path / 'in/dataset_description.json').write_text(json.dumps(about))
  return scans.find(tmp_path / 'in').scans


def settings(tmp_path):
  return batch.Settings(out=tmp_path / 'out', weights=None, classify=False)


def test_a_whole_head_of_149_million_voxels_fits_into_three_gigabytes(tmp_path):
  (scan,) = given(tmp_path, [(512, 640, 455)])
  assert 2.5 < memory.gigabytes(scan) < 3.0


def test_an_ordinary_scan_takes_one(tmp_path):
  (scan,) = given(tmp_path, [(480, 480, 72)])
  assert 0.8 < memory.gigabytes(scan) < 1.2


def test_an_swi_that_is_made_takes_as_much_as_its_search(tmp_path):
  shape = (512, 512, 200)
  (scan,) = given(tmp_path, [shape])
  one = memory.gigabytes(scan)
  parts = [header_only(tmp_path / name, shape) for name in ('m.nii', 'p.nii')]
  made = dataclasses.replace(
    scan, swi=None, magnitude=(parts[0],), phase=(parts[1],)
  )
  assert memory.gigabytes(made) == one
  beside = memory.gigabytes(made, ('swi', 'phase', 'magnitude'))
  assert beside == pytest.approx(one + 8 * np.prod(shape) / 1e9)


def test_files_of_echoes_are_read_one_by_one(tmp_path):
  shape = (512, 512, 200)
  (scan,) = given(tmp_path, [shape])
  parts = [header_only(tmp_path / f'{n}.nii', shape) for n in range(10)]
  five = dataclasses.replace(
    scan, swi=None, magnitude=tuple(parts[:5]), phase=tuple(parts[5:])
  )
  assert memory.gigabytes(five) < memory.gigabytes(scan) + 0.5
  four = header_only(tmp_path / 'four.nii', (*shape, 4))
  held = dataclasses.replace(five, magnitude=(four,), phase=(four,))
  assert memory.gigabytes(held) > memory.gigabytes(five) + 1


def test_a_file_without_a_header_has_a_usual_size(tmp_path):
  (scan,) = given(tmp_path, [(4, 4, 4)])
  scan.swi.write_bytes(b'nothing')
  assert memory.gigabytes(scan) == 2.0
  scan.swi.unlink()
  assert memory.gigabytes(scan) == 2.0


@pytest.mark.parametrize(
  ('gigabytes', 'jobs'), [(1.0, 1), (6.0, 2), (9.0, 3), (40.0, 4)]
)
def test_large_scans_get_fewer_processes(tmp_path, free, gigabytes, jobs):
  found = given(tmp_path, [(512, 640, 455)] * 6)
  free(gigabytes)
  share = batch.affordable(None, found, settings(tmp_path))
  assert (share.jobs, share.threads) == (jobs, 8 // jobs)
  if jobs > 1:
    assert 2.5 < share.gigabytes < 3.0


def test_only_as_many_large_ones_count_as_may_meet(tmp_path, free):
  found = given(tmp_path, [(512, 640, 455)] + [(256, 256, 60)] * 7)
  free(5.0)
  assert batch.affordable(None, found, settings(tmp_path)).jobs == 3
  free(40.0)
  assert batch.affordable(None, found, settings(tmp_path)).jobs == 4


def test_who_gives_jobs_gets_them(tmp_path, free):
  found = given(tmp_path, [(512, 640, 455)] * 6)
  free(1.0)
  assert batch.affordable(5, found, settings(tmp_path)).jobs == 5
  assert batch.affordable(50, found, settings(tmp_path)).jobs == 6


def test_one_scan_needs_no_guess(tmp_path, free, monkeypatch):
  found = given(tmp_path, [(64, 64, 8)])
  free(8.0)
  monkeypatch.setattr(memory, 'gigabytes', None)
  share = batch.affordable(None, found, settings(tmp_path))
  assert share == (1, 8, 0)
  assert batch.affordable(None, [], settings(tmp_path)).jobs == 1


def test_without_a_count_of_free_memory_cores_decide(tmp_path, free):
  found = given(tmp_path, [(512, 640, 455)] * 6)
  free(None)
  assert batch.affordable(None, found, settings(tmp_path)).jobs == 4


def test_scaled_whole_numbers_are_read_in_single_precision(tmp_path):
  array = np.arange(-60, 60, dtype=np.int16).reshape(4, 5, 6)
  image = nib.Nifti1Image(array, small_cohorts.affine_of())
  image.header.set_slope_inter(0.0123, -7.7)
  for name in ('a.nii', 'a.nii.gz'):
    nib.save(image, tmp_path / name)
    expected = np.asanyarray(nib.load(tmp_path / name).dataobj)
    found = volume.load(tmp_path / name).array
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))
