"""DICOM folders, made up and (headers only) real, to scans without names."""

import gzip
import shutil
import subprocess

import numpy as np
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import volume
from cmbjax.intake import dicom, dicom_series, sidecars
from cmbjax.reconstruct import signal
from tests.messages import says

pydicom = pytest.importorskip('pydicom')
pytest.importorskip('dcm2niix')

from tests import dicom_series as made_up  # noqa: E402

SECRETS = (
  b'Muster', b'Erika', b'HOSP4711', b'1952', b'20240229', b'2024-02-29',
  b'10:1', b'101112', b'101500', b'Klinikum', b'ACC99', b'Dr^Who', b'1.2.3.4',
)  # fmt: skip


def siemens(folder, *, first=1, **own):
  """Magnitude, phase, projection and SWI, as syngo exports them."""
  made = {}
  for number, kind in enumerate(('mag', 'phase', 'mip', 'swi'), first):
    made[kind] = made_up.voxels(number, top=4095)
    if kind == 'phase':
      made[kind][1, 1, 1] = 0
    made_up.write_series(folder, made[kind], kind=kind, number=number, **own)
  return made


def ras(array):
  """[slices, rows, columns] to [X, Y, Z] in RAS order."""
  native = array.transpose(2, 1, 0)
  return volume.from_array(native, made_up.affine())


def test_siemens_series_are_told_apart(tmp_path):
  made = siemens(tmp_path / 'in')
  assert dicom_series.is_dicom(tmp_path / 'in')
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  assert scan.session is None
  assert scan.name == scan.subject
  for path, kind in ((scan.swi, 'swi'), (scan.magnitude[0], 'mag')):
    found, wanted = volume.load(path), ras(made[kind])
    np.testing.assert_array_equal(found.array, wanted.array)
    np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-3)
  fields = sidecars.read(scan.phase[0])
  assert fields['Units'] == 'rad'
  assert fields['EchoTime'] == pytest.approx(0.02)
  assert fields['MagneticFieldStrength'] == 3
  phase = volume.load(scan.phase[0]).array
  np.testing.assert_allclose(
    phase, (ras(made['phase']).array / 2048.0 - 1) * np.pi, atol=1e-4
  )
  assert signal.read(scan.magnitude, scan.phase).notes == ()


def test_philips_mixes_both_in_one_series(tmp_path):
  both = {'SeriesInstanceUID': '1.7.1', 'vendor': 'philips', 'number': 5}
  magnitude, phase = (made_up.voxels(n, top=4095) for n in (1, 2))
  made_up.write_series(tmp_path / 'm', magnitude, kind='mag', **both)
  made_up.write_series(tmp_path / 'p', phase, kind='phase', **both)
  (scan,) = dicom.convert(tmp_path, tmp_path.with_suffix('.out'))
  assert scan.swi is None
  found = volume.load(scan.phase[0]).array
  wanted = (ras(phase).array * (6284 / 4095) - 3142) / 1000
  np.testing.assert_allclose(found, wanted, atol=2e-3)
  np.testing.assert_array_equal(
    volume.load(scan.magnitude[0]).array, ras(magnitude).array
  )


def test_ge_swan_without_filtered_phase_and_projection(tmp_path):
  for number, kind in enumerate(('swi', 'filtered', 'mip'), 1):
    array = made_up.voxels(number)
    made_up.write_series(
      tmp_path / 'in', array, kind=kind, vendor='ge', number=number
    )
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  np.testing.assert_array_equal(
    volume.load(scan.swi).array, ras(made_up.voxels(1)).array
  )
  assert scan.phase == ()


@pytest.mark.parametrize('with_magnitude', [True, False])
def test_ge_real_and_imaginary_parts(tmp_path, with_magnitude):
  kinds = ['mag'] * with_magnitude + ['real', 'imag']
  parts = {
    kind: made_up.voxels(n, top=2000).astype(int) - 900 * (kind != 'mag')
    for n, kind in enumerate(kinds)
  }
  made_up.write_ge(tmp_path / 'in', parts)
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  assert scan.cartesian
  assert scan.swi is None
  for (path,), kind in ((scan.magnitude, 'real'), (scan.phase, 'imag')):
    np.testing.assert_array_equal(
      volume.load(path).array, ras(parts[kind]).array
    )
  files = dicom.source_files(tmp_path / 'in', tmp_path / 'out', scan)
  assert {p.parent.name for p in files} == {'real'}
  assert len(files) == 8


def test_ge_magnitude_with_phase_is_no_finished_swi(tmp_path):
  """Its series is called SWAN, as the image that GE makes at the end."""
  parts = {k: made_up.voxels(n) for n, k in enumerate(('mag', 'phase'))}
  made_up.write_ge(tmp_path / 'in', parts)
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  assert scan.swi is None
  assert (len(scan.magnitude), len(scan.phase)) == (1, 1)
  files = dicom.source_files(tmp_path / 'in', tmp_path / 'out', scan)
  assert {p.parent.name for p in files} == {'mag'}


def test_a_real_part_alone_is_no_scan(tmp_path):
  made_up.write_ge(tmp_path / 'in', {'real': made_up.voxels(1)})
  with says(InputError, 'real'):
    dicom.convert(tmp_path / 'in', tmp_path / 'out')


def test_ge_parts_of_several_echoes(tmp_path):
  for number, echo_ms in enumerate((24.0, 8.0), 1):
    parts = {
      kind: made_up.voxels(10 * number + n).astype(int) - 400
      for n, kind in enumerate(('real', 'imag'))
    }
    made_up.write_ge(
      tmp_path / 'in' / str(number), parts, EchoTime=echo_ms,
      SeriesInstanceUID='1.9.1', EchoNumbers=number,
    )  # fmt: skip
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  assert scan.cartesian
  assert [p.name.split('_', 1)[1] for p in (*scan.magnitude, *scan.phase)] == [
    f'echo-{n}_part-{kind}_MEGRE.nii.gz'
    for kind in ('real', 'imag')
    for n in (1, 2)
  ]
  np.testing.assert_array_equal(
    volume.load(scan.magnitude[0]).array,
    ras(made_up.voxels(20).astype(int) - 400).array,
  )


def test_echoes_get_numbers_in_the_order_of_time(tmp_path):
  for number, echo_ms in enumerate((24.0, 8.0, 16.0), 1):
    for kind in ('mag', 'phase'):
      made_up.write_series(
        tmp_path / 'in', made_up.voxels(number, top=4095), kind=kind,
        number=number + 10 * (kind == 'phase'), EchoTime=echo_ms,
        EchoNumbers=number, SeriesDescription=f'swi_{kind}',
      )  # fmt: skip
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  times = [sidecars.read(p)['EchoTime'] for p in scan.magnitude]
  np.testing.assert_allclose(times, [0.008, 0.016, 0.024])
  assert len(scan.phase) == 3
  np.testing.assert_array_equal(
    volume.load(scan.magnitude[0]).array,
    ras(made_up.voxels(2, top=4095)).array,
  )


def test_nothing_says_who_it_is(tmp_path):
  siemens(tmp_path / 'in' / 'Musterfrau_Erika_HOSP4711')
  dicom.convert(tmp_path / 'in', tmp_path / 'out')
  written = [p for p in (tmp_path / 'out').rglob('*') if p.is_file()]
  assert len(written) >= 10
  for path in written:
    content = path.read_bytes()
    if path.suffix == '.gz':
      content = gzip.decompress(content)[:400]
    name = str(path.relative_to(tmp_path)).encode()
    for secret in SECRETS:
      assert secret not in content + name, f'{path.name} says {secret}'
  assert (tmp_path / 'out' / dicom.KEY_FILE).stat().st_mode & 0o077 == 0


def test_names_are_the_same_again_and_other_elsewhere(tmp_path):
  siemens(tmp_path / 'in')
  first = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  stamp = first[0].swi.stat().st_mtime_ns
  again = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  assert [s.name for s in again] == [s.name for s in first]
  assert again[0].swi.stat().st_mtime_ns == stamp, 'was converted again'
  other = dicom.convert(tmp_path / 'in', tmp_path / 'elsewhere')
  assert other[0].subject != first[0].subject


def test_people_and_examinations_are_kept_apart(tmp_path):
  siemens(tmp_path / 'in' / 'a')
  later = {'StudyInstanceUID': '1.2.9', 'StudyDate': '20250101'}
  siemens(tmp_path / 'in' / 'b', first=11, **later)
  other = {'PatientID': 'X2', 'StudyInstanceUID': '1.3.1'}
  siemens(tmp_path / 'in' / 'c', first=21, **other)
  scans = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  assert len({s.subject for s in scans}) == 2
  sessions = sorted((s.session or '') for s in scans)
  assert sessions == ['', 'ses-01', 'ses-02']
  second = next(s for s in scans if s.session == 'ses-02')
  np.testing.assert_array_equal(
    volume.load(second.swi).array, ras(made_up.voxels(14, top=4095)).array
  )


def test_source_files_of_a_scan(tmp_path):
  siemens(tmp_path / 'in' / 'a')
  siemens(tmp_path / 'in' / 'b', PatientID='X2', StudyInstanceUID='1.3.1')
  scans = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  for scan in scans:
    found = dicom.source_files(tmp_path / 'in', tmp_path / 'out', scan)
    assert len(found) == 8
    assert {pydicom.dcmread(p).SeriesDescription for p in found} == {
      'SWI_Images'
    }
  own = [dicom.source_files(tmp_path / 'in', tmp_path / 'out', s)[0].parent
         for s in scans]  # fmt: skip
  assert {p.name for p in own} == {'a', 'b'}
  shutil.rmtree(tmp_path / 'in' / 'a')
  shutil.rmtree(tmp_path / 'in' / 'b')
  siemens(tmp_path / 'in' / 'a')  # other instance numbers
  with says(NoInputError):
    dicom.source_files(tmp_path / 'in', tmp_path / 'out', scans[0])


def test_one_bad_person_does_not_stop_the_others(tmp_path):
  siemens(tmp_path / 'in' / 'a')
  siemens(tmp_path / 'in' / 'b', PatientID='X2', StudyInstanceUID='1.3.1')
  bad = sorted((tmp_path / 'in' / 'b').glob('*_4_*.dcm'))[3]
  bad.write_bytes(bad.read_bytes()[:-500])
  failures = {}
  scans = dicom.convert(tmp_path / 'in', tmp_path / 'out', failures=failures)
  assert len(scans) == 1
  ((name, why),) = failures.items()
  assert name.startswith('sub-')
  assert name != scans[0].name
  assert 'cut short (image number 5)' in why
  assert 'Muster' not in why  # it may be logged
  with says(InputError):
    dicom.convert(tmp_path / 'in', tmp_path / 'out')
  assert not list((tmp_path / 'out').glob('.partial-*'))


def test_damaged_files_are_counted_and_not_named(tmp_path):
  siemens(tmp_path / 'in')
  bad = sorted((tmp_path / 'in').glob('*_4_*.dcm'))[-1]  # the lowest slice
  bad.write_bytes(bad.read_bytes()[:300])
  failures = {}
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out', failures=failures)
  assert scan.swi is not None
  assert failures == {
    'damaged files': 'damaged DICOM files were left out (1); export them again.'
  }


def test_missing_slice_is_noticed(tmp_path):
  siemens(tmp_path / 'in')
  sorted((tmp_path / 'in').glob('*_4_*.dcm'))[3].unlink()
  with says(InputError, '1.5'):
    dicom.convert(tmp_path / 'in', tmp_path / 'out')


def test_copies_count_once(tmp_path):
  made = siemens(tmp_path / 'in' / 'a')
  shutil.copytree(tmp_path / 'in' / 'a', tmp_path / 'in' / 'copy')
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  np.testing.assert_array_equal(
    volume.load(scan.swi).array, ras(made['swi']).array
  )


def test_a_repeated_scan_is_a_question(tmp_path):
  siemens(tmp_path / 'in')
  made_up.write_series(tmp_path / 'in', made_up.voxels(9), kind='swi', number=9)
  with says(InputError):
    dicom.convert(tmp_path / 'in', tmp_path / 'out')
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out', series=[9])
  np.testing.assert_array_equal(
    volume.load(scan.swi).array, ras(made_up.voxels(9)).array
  )


def test_other_sequences_are_listed(tmp_path):
  made_up.write_series(
    tmp_path / 'in', made_up.voxels(1), number=3, EchoTime=4.0,
    SeriesDescription='t1_mprage_sag',
  )  # fmt: skip
  with says(NoInputError, 't1_mprage_sag'):
    dicom.convert(tmp_path / 'in', tmp_path / 'out')
  with says(InputError):
    dicom.convert(tmp_path / 'in', tmp_path / 'out', series=[7])


def test_folders_without_images(tmp_path):
  with says(NoInputError):
    dicom.convert(tmp_path / 'nowhere', tmp_path / 'out')
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in' / 'notes.txt').write_text('nothing' * 40)
  assert not dicom_series.is_dicom(tmp_path / 'in')
  with says(NoInputError, 'MR'):
    dicom.convert(tmp_path / 'in', tmp_path / 'out')
  made_up.write_series(tmp_path / 'in', made_up.voxels(0), Modality='CT')
  with says(NoInputError, 'MR DICOM CT'):
    dicom.convert(tmp_path / 'in', tmp_path / 'out')


def test_without_the_packages(tmp_path, monkeypatch):
  siemens(tmp_path / 'in')
  monkeypatch.setattr(dicom.importlib.util, 'find_spec', lambda name: None)
  monkeypatch.setattr(dicom.shutil, 'which', lambda name: None)
  with says(InputError):
    dicom.convert(tmp_path / 'in', tmp_path / 'out')


def test_hostile_bytes_give_a_sentence(tmp_path):
  """Cut, overwritten and reordered files never give another error."""
  rng = np.random.default_rng(0)
  siemens(tmp_path / 'whole')
  for number in range(25):
    folder = tmp_path / f'in{number}'
    shutil.copytree(tmp_path / 'whole', folder)
    paths = sorted(folder.glob('*'))
    for path in rng.choice(paths, 3, replace=False):
      data = bytearray(path.read_bytes())
      place = int(rng.integers(132, 1500))
      if number % 3 == 0:
        data = data[: int(rng.integers(0, len(data)))]
      elif number % 3 == 1:
        data[place : place + 40] = rng.bytes(40)
      else:
        path.chmod(0o000)
      if number % 3 != 2:
        path.write_bytes(bytes(data))
    failures = {}
    try:
      dicom.convert(folder, tmp_path / f'out{number}', failures=failures)
    except InputError as error:
      failures['all'] = str(error)
    assert all('\n' not in text for text in failures.values())


@pytest.mark.parametrize(
  ('types', 'description', 'ending', 'kind'),
  [
    (['ORIGINAL', 'PRIMARY', 'M', 'ND'], 'Mag_Images swi3d', '', 'magnitude'),
    (['ORIGINAL', 'PRIMARY', 'P', 'ND'], 'Pha_Images swi3d', 'ph', 'phase'),
    (['DERIVED', 'PRIMARY', 'MNIP'], 'mIP_Images(SW)', '', 'projection'),
    (['ORIGINAL', 'PRIMARY', 'M', 'SWI'], 'SWI_Images', '', 'swi'),
    (['ORIGINAL', 'PRIMARY', 'M'], 't2_swi_tra_p2', '', 'magnitude'),
    (['DERIVED', 'PRIMARY', 'OTHER'], 'Ax SWAN', '', 'swi'),
    (['DERIVED', 'SECONDARY'], 'FILT_PHA: Ax SWAN', '', 'filtered phase'),
    (['ORIGINAL', 'PRIMARY', 'OTHER'], 'Ax SWAN', 'real', 'real'),
    (['ORIGINAL', 'PRIMARY', 'SW_P_FFE', 'SW_P'], '', 'ph', 'phase'),
    (['ORIGINAL', 'PRIMARY', 'SW_M_FFE', 'SW_M'], '', '', 'magnitude'),
    (['ORIGINAL', 'PRIMARY', 'SW_M_FFE'], 'SWIp', '', 'swi'),
    (
      ['ORIGINAL', 'PRIMARY', 'T1', 'MIXED', 'PHASE'],
      'QSM 7 echo',
      '',
      'phase',
    ),
    (['ORIGINAL', 'PRIMARY', 'T1', 'MIXED'], 'gre 7 echo', 'e1', 'magnitude'),
    (['DERIVED', 'PRIMARY', 'T2_STAR MAP'], 'T2Star_Images', '', 'map'),
    (['ORIGINAL', 'PRIMARY', 'M'], 'shrimp_gre', '', 'magnitude'),
  ],
)
def test_kinds_of(types, description, ending, kind):
  assert dicom_series.kinds_of([(types, ending)], description) == [kind]


def test_labels_need_the_key():
  one = dicom_series.label(b'key', 'HOSP4711')
  assert one == dicom_series.label(b'key', 'HOSP4711')
  assert one != dicom_series.label(b'other', 'HOSP4711')
  # Of the first version: nobody gets another name with an older key.
  assert dicom_series.label(b'k' * 32, '|12345') == 'kwmmhtaa'
  assert len({dicom_series.label(b'key', str(n)) for n in range(2000)}) == 2000
  assert one.isalnum()


def real_series(real_data, folder, *, slices=6):
  """The real Philips headers, repeated along the slice axis."""
  for name, first in (('001', 1), ('005', 521)):
    one = pydicom.dcmread(real_data(f'dicom_swi_headers/{name}.dcm'))
    start = np.array(one.ImagePositionPatient, float)
    turn = np.array(one.ImageOrientationPatient, float)
    normal = np.cross(turn[:3], turn[3:])
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(first)
    for index in range(slices):
      place = start + normal * index
      one.ImagePositionPatient = [f'{v:.10g}' for v in place]
      one.InstanceNumber = first + index
      one.SOPInstanceUID = pydicom.uid.generate_uid()
      one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
      stack = one['2001', '105f'].value[0]
      stack['2001', '102d'].value = slices
      pixels = rng.integers(0, 4096, (768, 768)).astype(np.uint16)
      one.PixelData = pixels.tobytes()
      one.save_as(folder / f'{name}_{index}.dcm')


def test_real_philips_headers(real_data, tmp_path):
  real_series(real_data, tmp_path / 'in')
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  read = signal.read(scan.magnitude, scan.phase)
  assert read.magnitude.shape == (768, 768, 6, 1)
  np.testing.assert_allclose(
    read.grid.spacing_mm, (0.29948, 0.29948, 1), atol=1e-4
  )
  assert abs(read.phase).max() == pytest.approx(np.pi, abs=2e-3)
  assert read.notes == ()
  assert 'EchoTime' not in scan.sidecar  # the file says 0
  assert 'MagneticFieldStrength' not in scan.sidecar


def test_real_single_slices_are_refused_with_a_list(real_data, tmp_path):
  path = real_data('dicom_swi_headers/001.dcm').parent
  with says(InputError, '501'):
    dicom.convert(path, tmp_path / 'out')


def test_agrees_with_the_tool_called_by_hand(tmp_path):
  """dcm2niix in its simplest form gives the same voxels in the same place."""
  import dcm2niix

  made_up.write_series(tmp_path / 'in', made_up.voxels(4), kind='swi', number=4)
  (tmp_path / 'hand').mkdir()
  call = [dcm2niix.bin, '-o', tmp_path / 'hand', tmp_path / 'in']
  subprocess.run(call, check=True, capture_output=True)
  (path,) = (tmp_path / 'hand').glob('*.nii')
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  ours, theirs = volume.load(scan.swi), volume.load(path)
  np.testing.assert_array_equal(ours.array, theirs.array)
  np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-6)


def test_enhanced_file_with_both_parts(tmp_path):
  """One file for all, whose ImageType speaks of the magnitude only."""
  stacks = {
    kind: made_up.voxels(number, top=4095)
    for number, kind in enumerate(('mag', 'phase'), 1)
  }
  (tmp_path / 'in').mkdir()
  made_up.write_enhanced(tmp_path / 'in' / 'IM_0001', stacks)
  (scan,) = dicom.convert(tmp_path / 'in', tmp_path / 'out')
  np.testing.assert_array_equal(
    volume.load(scan.magnitude[0]).array, ras(stacks['mag']).array
  )
  found = volume.load(scan.phase[0])
  wanted = (ras(stacks['phase']).array * (6284 / 4095) - 3142) / 1000
  np.testing.assert_allclose(found.array, wanted, atol=2e-3)
  np.testing.assert_allclose(found.affine, ras(stacks['mag']).affine, atol=1e-3)


def test_a_series_whose_images_disagree(tmp_path):
  siemens(tmp_path / 'in')
  for path in sorted((tmp_path / 'in').glob('*_4_*.dcm'))[:3]:
    one = made_up.read(path)
    one.EchoTime = 33.0
    one.save_as(path)
  with says(InputError):
    dicom.convert(tmp_path / 'in', tmp_path / 'out')
