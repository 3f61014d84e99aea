"""`cmbjax detect` from a DICOM folder: no names, and a segmentation back."""

import shutil

import numpy as np
import pytest

from cmbjax import cli
from cmbjax.imaging import volume
from tests.messages import printed
from tests.small_cohorts import phantom

hd = pytest.importorskip('highdicom')
pytest.importorskip('dcm2niix')

from tests import dicom_series as made_up  # noqa: E402

PEOPLE = ('HOSP4711', 'HOSP4712')
HOW = ['--weights', 'none', '--no-regions', '--no-report']


def write_people(root):
  """Bright brains with dark balls, one series each."""
  for number, person in enumerate(PEOPLE):
    one = phantom(number, shape=(96, 90, 24))
    slices = np.rint(one.swi).astype(np.uint16).transpose(2, 1, 0)
    made_up.write_series(
      root / f'Musterfrau{number}',
      np.ascontiguousarray(slices[:, ::-1, ::-1]),
      kind='swi',
      number=4,
      PatientID=person,
      StudyInstanceUID=f'1.2.{number + 1}',
    )
  return root


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  root = tmp_path_factory.mktemp('dicom')
  source, out = write_people(root / 'Musterfrau_Erika'), root / 'out'
  call = ['detect', str(source), str(out), *HOW]
  assert cli.main([*call, '--dry-run']) == 0
  assert not out.exists(), 'a dry run wrote something'
  assert cli.main([*call, '--dicom-seg']) == 0
  return source, out


def test_segmentation_is_the_label_image(done):
  _, out = done
  images = sorted(out.glob('sub-*/anat/*_seg-cmb_dseg.nii.gz'))
  assert len(images) == 2
  count = 0
  for path in images:
    labels = volume.load(path).array
    name = path.name.split('_')[0]
    table = path.with_name(path.name.replace('.nii.gz', '.tsv'))
    names = [r.split('\t')[1] for r in table.read_text().splitlines()[1:]]
    there = out / 'sourcedata' / 'dicom_seg' / f'{name}.dcm'
    assert there.is_file() == bool(names)
    if not names:
      continue
    seg = hd.seg.segread(there)
    numbers = range(1, seg.number_of_segments + 1)
    labelled = [seg.get_segment_description(n).segment_label for n in numbers]
    assert labelled == names
    assert seg.pixel_array.sum() == (labels > 0).sum()
    count += len(names)
  assert count >= 3


def test_names_are_in_the_segmentation_only(done):
  _, out = done
  for path in out.rglob('*'):
    if not path.is_file() or path.parent.name == 'dicom_seg':
      continue
    text = path.read_bytes() + str(path.relative_to(out)).encode()
    for secret in (b'Muster', b'Erika', b'HOSP471', b'20240229'):
      assert secret not in text, path


def test_nothing_is_done_twice(done, capsys):
  source, out = done
  assert cli.main(['detect', str(source), str(out), *HOW]) == 0
  assert '2 were done already' in capsys.readouterr().err


def test_one_bad_person_of_two(done, tmp_path, capsys):
  source = tmp_path / 'in'
  shutil.copytree(done[0], source)
  sorted((source / 'Musterfrau1').glob('*'))[9].unlink()
  assert cli.main(['detect', str(source), str(tmp_path / 'out'), *HOW]) == 1
  said = capsys.readouterr().err
  assert 'slices are missing' in said
  assert 'detect: 1 done, 1 failed' in said


def test_segmentation_of_nifti_is_refused(done, tmp_path, capsys):
  (image,) = list((done[1] / 'sourcedata').glob('sub-*/anat/*_swi.nii.gz'))[:1]
  call = ['detect', str(image), str(tmp_path / 'out'), *HOW, '--dicom-seg']
  assert cli.main(call) == 2
  printed(capsys.readouterr().err, 'DICOM')
  assert not (tmp_path / 'out').exists()


def test_series_by_number(done, tmp_path, capsys):
  source = tmp_path / 'in'
  shutil.copytree(done[0] / 'Musterfrau0', source)
  again = made_up.voxels(1, shape=(24, 90, 96))
  study = {'PatientID': PEOPLE[0], 'StudyInstanceUID': '1.2.1'}
  made_up.write_series(source, again, kind='swi', number=9, **study)
  call = ['detect', str(source), str(tmp_path / 'out'), *HOW]
  assert cli.main(call) == 1
  assert 'series 4' in (said := capsys.readouterr().err)
  assert '--series' in said
  assert cli.main([*call, '--series', '4']) == 0


def signal_of(one):
  """Magnitude and a smooth phase, rad; [slices, rows, columns]."""
  magnitude = np.rint(4 * one.swi).transpose(2, 1, 0)[:, ::-1, ::-1]
  waves = [np.sin(np.linspace(0, 3, n)) for n in magnitude.shape]
  phase = 1.5 * np.einsum('z,y,x->zyx', *waves) - 0.5
  return magnitude, phase


def coded(phase):
  """0..4095 for -pi..pi."""
  return np.rint((phase / np.pi + 1) * 2047.5).astype(np.uint16)


def write_siemens(folder, magnitude, phase, swi):
  for number, (kind, array) in enumerate(
    (('mag', magnitude), ('phase', phase), ('mip', swi[:, ::-1]), ('swi', swi)),
    1,
  ):
    array = coded(array) if kind == 'phase' else array.astype(np.uint16)
    made_up.write_series(folder, array, kind=kind, number=number)


def write_siemens_parts(folder, magnitude, phase, swi):
  del swi
  made_up.write_series(folder, magnitude.astype(np.uint16), kind='mag')
  made_up.write_series(folder, coded(phase), kind='phase', number=2)


def write_ge_complex(folder, magnitude, phase, swi):
  del swi
  parts = {'mag': magnitude, 'real': magnitude * np.cos(phase)}
  made_up.write_ge(folder, parts | {'imag': magnitude * np.sin(phase)})


def write_ge_flipped(folder, magnitude, phase, swi):
  """As GE writes it: every second slice is turned by pi."""
  turned = phase + np.pi * (np.arange(len(phase)) % 2)[:, None, None]
  write_ge_complex(folder, magnitude, turned, swi)


def write_philips(folder, magnitude, phase, swi):
  del swi
  both = {'SeriesInstanceUID': '1.7.1', 'vendor': 'philips', 'number': 5}
  magnitude = magnitude.astype(np.uint16)
  made_up.write_series(folder / 'm', magnitude, kind='mag', **both)
  made_up.write_series(folder / 'p', coded(phase), kind='phase', **both)


def write_enhanced(folder, magnitude, phase, swi):
  del swi
  stacks = {'mag': magnitude.astype(np.uint16), 'phase': coded(phase)}
  folder.mkdir()
  made_up.write_enhanced(folder / 'IM_0001', stacks)


@pytest.mark.parametrize(
  ('write', 'taken'),
  [
    (write_siemens, ('swi', 'part-mag_T2starw', 'part-phase_T2starw')),
    (write_siemens_parts, ('part-mag_T2starw', 'part-phase_T2starw')),
    (write_ge_complex, ('part-real_T2starw', 'part-imag_T2starw')),
    (write_ge_flipped, ('part-real_T2starw', 'part-imag_T2starw')),
    (write_philips, ('part-mag_T2starw', 'part-phase_T2starw')),
    (write_enhanced, ('part-mag_T2starw', 'part-phase_T2starw')),
  ],
)
def test_every_vendor_to_its_lesions(write, taken, tmp_path):
  """dcm2niix, then all of detect: the balls are where they were put."""
  one = phantom(3, shape=(96, 90, 24))
  magnitude, phase = signal_of(one)
  write(tmp_path / 'in', magnitude, phase, np.rint(magnitude / 4))
  out = tmp_path / 'out'
  assert cli.main(['detect', str(tmp_path / 'in'), str(out), *HOW]) == 0
  written = (out / 'sourcedata').glob('sub-*/anat/*.nii.gz')
  assert {p.name.split('_', 1)[1] for p in written} == {
    f'{name}.nii.gz' for name in taken
  }
  (path,) = out.glob('sub-*/anat/*_seg-cmb_dseg.nii.gz')
  labels = volume.load(path).array
  places = np.concatenate([one.lesion_voxels, one.mimic_voxels])
  found = labels[tuple(places.T)]
  assert (found > 0).sum() >= 4
  assert len(set(found[found > 0])) == (found > 0).sum()
