"""Everything that we call BIDS passes the BIDS validator."""

import pytest

from cmbjax import cli
from cmbjax.data import import_sources, importers
from tests import small_cohorts
from tests.bids_validator import assert_valid, errors_and_warnings
from tests.small_cohorts import phantom


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  """Two subjects of `cmbjax simulate`, written from phantoms."""
  root = tmp_path_factory.mktemp('valid') / 'raw'
  small_cohorts.write_as_simulated(root)
  return root


def test_simulated_cohort(raw):
  assert_valid(raw)
  assert_valid(raw / 'derivatives' / 'truth')


def test_the_validator_finds_what_is_wrong(raw, tmp_path):
  """So that the other tests can fail."""
  small_cohorts.write_as_simulated(tmp_path)
  (tmp_path / 'sub-CCM001' / 'anat' / 'sub-CCM001_notes.txt').write_text('x')
  errors, _ = errors_and_warnings(tmp_path)
  assert [code for code, _, _ in errors] == ['NOT_INCLUDED']


def test_detect_derivatives(raw, tmp_path):
  """With every file that `detect` can write."""
  call = ['detect', str(raw), str(tmp_path / 'out'), '--weights', 'none']
  call += ['--no-regions', '--write-candidates', '--write-steps']
  assert cli.main(call) == 0
  errors, warnings = errors_and_warnings(tmp_path / 'out')
  assert errors == []
  codes = {code for code, _, _ in warnings}
  assert 'TSV_ADDITIONAL_COLUMNS_UNDEFINED' not in codes
  assert 'TSV_COLUMN_TYPE_REDEFINED' not in codes


def test_derivatives_inside_the_data_set(tmp_path):
  small_cohorts.write_as_simulated(tmp_path)
  out = tmp_path / 'derivatives' / 'cmbjax'
  call = ['detect', str(tmp_path), str(out), '--weights', 'none']
  assert cli.main([*call, '--no-regions']) == 0
  assert_valid(tmp_path)
  assert errors_and_warnings(out)[0] == []


def test_imported_cohorts(tmp_path):
  small_cohorts.write_lupolab(tmp_path / 'lupolab')
  one = phantom(1)
  for name in ('a', 'b'):
    path = tmp_path / 'points' / f'{name}.nii.gz'
    small_cohorts.save(path, one.swi, one.affine)
  middle = one.affine[:3, :3] @ one.lesion_voxels[0] + one.affine[:3, 3]
  row = ','.join(f'{v:.2f}' for v in middle)
  (tmp_path / 'points' / 't.csv').write_text(f'scan,x,y,z\na,{row}\nb,,,\n')
  for layout in ('lupolab', 'points'):
    out = tmp_path / f'{layout}-out'
    importers.import_cohort(
      tmp_path / layout,
      out,
      import_sources.ImportOptions(
        layout, suffix='swi' if layout == 'lupolab' else 'T2starw'
      ),
    )
    assert_valid(out)
    assert_valid(out / 'derivatives' / 'truth')


def test_converted_dicom(tmp_path):
  pytest.importorskip('pydicom')
  pytest.importorskip('dcm2niix')
  from cmbjax.intake import dicom
  from tests import dicom_series

  for number, kind in enumerate(('mag', 'phase', 'swi'), 1):
    array = dicom_series.voxels(number, top=4095)
    dicom_series.write_series(tmp_path / 'in', array, kind=kind, number=number)
  dicom.convert(tmp_path / 'in', tmp_path / 'out')
  assert_valid(tmp_path / 'out')
