"""What a person points at to scans."""

import numpy as np
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import scans
from tests import small_cohorts
from tests.messages import says


def touch(folder, *names):
  folder.mkdir(parents=True, exist_ok=True)
  for name in names:
    (folder / name).write_bytes(b'')
  return folder


def names(found):
  return [scan.name for scan in found.scans]


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('sub-01_swi.nii.gz', 'sub-01'),
    ('sub-01_ses-2_run-1_swi.nii', 'sub-01_ses-2'),
    ('Patient 7 (left).nii.gz', 'sub-Patient7left'),
    ('swi_0042.NII.GZ', 'sub-0042'),
    ('Jürgen Groß.nii', 'sub-JurgenGro'),
    ('mag.nii.gz', 'sub-mag'),
  ],
)
def test_a_file_is_called_by_its_name(tmp_path, name, expected):
  touch(tmp_path, name)
  found = scans.find(tmp_path / name)
  assert names(found) == [expected]
  (scan,) = found.scans
  assert (scan.swi, *scan.magnitude)[-1 if 'mag' in name else 0] == (
    tmp_path / name
  )


def test_no_label_is_forgotten_and_no_name_too_long(tmp_path):
  touch(tmp_path, 'a.nii', 'b.nii', f'{"x" * 230}.nii')
  found = scans.find(tmp_path)
  assert names(found) == ['sub-a', 'sub-b']
  ((name, why),) = found.broken
  assert len(name) < 180
  assert 'too long' in why
  with says(InputError):
    scans.find(tmp_path, participants=['a', 'c'])


def test_no_session_is_forgotten(tmp_path):
  touch(tmp_path / 'sub-1' / 'ses-a' / 'anat', 'sub-1_ses-a_swi.nii')
  with says(InputError):
    scans.find(tmp_path, sessions=['a', 'b'])


def test_magnitude_with_phase(tmp_path):
  touch(tmp_path, 'a_mag.nii', 'a_ph.nii')
  phase = [tmp_path / 'a_ph.nii']
  (scan,) = scans.find(tmp_path / 'a_mag.nii', phase=phase).scans
  assert scan.swi is None
  assert (scan.magnitude, scan.phase) == (
    (tmp_path / 'a_mag.nii',),
    tuple(phase),
  )
  with says(NoInputError, '--phase'):
    scans.find(tmp_path / 'a_mag.nii', phase=[tmp_path / 'none.nii'])
  with says(InputError):
    scans.find(tmp_path, phase=phase)


def test_a_bids_magnitude_without_phase_stays_a_magnitude(tmp_path):
  name = 'sub-01_part-mag_T2starw.nii.gz'
  touch(tmp_path, name)
  (scan,) = scans.find(tmp_path / name).scans
  assert scan.swi is None
  assert scan.magnitude == (tmp_path / name,)


def test_a_flat_folder(tmp_path):
  touch(
    tmp_path,
    'p1_swi.nii.gz',
    'p1_minIP.nii.gz',
    'p1_brain_mask.nii.gz',
    'p2_mag.nii',
    'p2_phase.nii',
    'p3_magnitude.nii',
    'notes.txt',
  )
  found = scans.find(tmp_path)
  assert names(found) == ['sub-p1', 'sub-p2', 'sub-p3']
  assert found.scans[1].phase == (tmp_path / 'p2_phase.nii',)
  assert found.scans[2].magnitude == (tmp_path / 'p3_magnitude.nii',)


def test_what_macos_lays_beside_a_file_is_no_scan(tmp_path):
  flat = touch(tmp_path / 'flat', 'a.nii', '._a.nii', '.b.nii')
  assert names(scans.find(flat)) == ['sub-a']
  anat = tmp_path / 'bids' / 'sub-01' / 'anat'
  touch(anat, 'sub-01_swi.nii.gz', '._sub-01_swi.nii.gz', '._sub-01_swi.json')
  for pattern in (None, '*_swi.*'):
    (scan,) = scans.find(tmp_path / 'bids', swi_pattern=pattern).scans
    assert scan.swi == anat / 'sub-01_swi.nii.gz'


def test_two_files_of_one_name_are_a_question(tmp_path):
  touch(tmp_path, 'p-1.nii', 'p_1.nii.gz')
  (scan,) = scans.find(touch(tmp_path, 'p2.nii')).scans
  assert scan.name == 'sub-p2'
  ((name, why),) = scans.find(tmp_path).broken
  assert name == 'sub-p1'
  assert 'p-1.nii' in why
  assert 'p_1.nii.gz' in why


def test_the_swi_goes_before_what_it_was_made_from(tmp_path):
  touch(
    tmp_path,
    'sub-01_part-mag_T2starw.nii.gz',
    'sub-01_part-phase_T2starw.nii.gz',
    'sub-01_swi.nii.gz',
    'sub-02_part-mag_T2starw.nii.gz',
    'sub-02_part-phase_T2starw.nii.gz',
  )
  first, second = scans.find(tmp_path).scans
  assert first.swi == tmp_path / 'sub-01_swi.nii.gz'
  assert second.swi is None
  assert second.phase == (tmp_path / 'sub-02_part-phase_T2starw.nii.gz',)


@pytest.fixture
def bids_folder(tmp_path):
  for number in (1, 2, 3):
    touch(tmp_path / f'sub-0{number}' / 'anat', f'sub-0{number}_swi.nii.gz')
  return tmp_path


def test_participants(bids_folder):
  assert names(scans.find(bids_folder)) == ['sub-01', 'sub-02', 'sub-03']
  some = scans.find(bids_folder, participants=['02', 'sub-03'])
  assert names(some) == ['sub-02', 'sub-03']
  with says(InputError):
    scans.find(bids_folder, participants=['09'])


def test_an_ambiguous_subject_does_not_stop_the_others(bids_folder):
  touch(bids_folder / 'sub-02' / 'anat', 'sub-02_acq-b_swi.nii.gz')
  touch(bids_folder / 'sub-04' / 'anat')
  found = scans.find(bids_folder)
  assert names(found) == ['sub-01', 'sub-03']
  ((name, why),) = found.broken
  assert name == 'sub-02'
  assert 'acq-b' in why
  some = scans.find(bids_folder, participants=['01'])
  assert names(some) == ['sub-01']
  assert not some.broken
  with says(InputError):
    scans.find(bids_folder, participants=['09'])


def test_a_subject_that_was_asked_for_is_not_forgotten(bids_folder):
  touch(bids_folder / 'sub-04' / 'anat', 'sub-04_T1w.nii.gz')
  assert not scans.find(bids_folder).broken
  found = scans.find(bids_folder, participants=['01', '04'])
  assert names(found) == ['sub-01']
  assert [name for name, _ in found.broken] == ['sub-04']
  touch(bids_folder / 'sub-02' / 'anat', 'sub-02_acq-b_swi.nii.gz')
  found = scans.find(bids_folder, participants=['02', '04'])
  assert [name for name, _ in found.broken] == ['sub-02', 'sub-04']


def test_an_ambiguous_session_does_not_stop_the_others(tmp_path):
  for name in ('ses-1', 'ses-2', 'ses-3'):
    touch(tmp_path / 'sub-01' / name / 'anat', f'sub-01_{name}_swi.nii')
  touch(tmp_path / 'sub-01' / 'ses-2' / 'anat', 'sub-01_ses-2_run-2_swi.nii')
  touch(tmp_path / 'sub-02' / 'anat', 'sub-02_a_swi.nii', 'sub-02_b_swi.nii')
  found = scans.find(tmp_path)
  assert names(found) == ['sub-01_ses-1', 'sub-01_ses-3']
  assert [name for name, _ in found.broken] == ['sub-01_ses-2', 'sub-02']
  assert '--swi-pattern' in found.broken[0][1]
  some = scans.find(tmp_path, sessions=['1'])
  assert (names(some), some.broken) == (['sub-01_ses-1'], ())
  with says(InputError):
    scans.find(tmp_path, sessions=['2', '9'])


def test_who_has_no_scan_is_said(bids_folder, tmp_path):
  touch(bids_folder / 'sub-04' / 'anat', 'sub-04_T1w.nii.gz')
  touch(bids_folder / 'sub-05' / 'ses-1' / 'anat', 'sub-05_ses-1_swi.nii.gz')
  touch(bids_folder / 'sub-05' / 'ses-2' / 'anat')
  assert scans.find(bids_folder).left_out == ('sub-04', 'sub-05_ses-2')
  some = scans.find(bids_folder, sessions=['1', '2'])
  assert some.left_out == ('sub-05_ses-2',)
  folder = touch(tmp_path / 'flat', 'a_mag.nii', 'a_ph.nii', 'b_phase.nii')
  found = scans.find(folder)
  assert (names(found), found.left_out) == (['sub-a'], ('b_phase.nii',))


def test_a_simulated_data_set_says_so_of_each_scan(bids_folder):
  (first, *_) = scans.find(bids_folder).scans
  assert 'Simulated' not in first.sidecar
  about = bids_folder / 'dataset_description.json'
  about.write_text('{"Simulated": true}')
  assert all(s.sidecar['Simulated'] for s in scans.find(bids_folder).scans)


def test_sessions(tmp_path):
  for session in ('ses-1', 'ses-2'):
    touch(
      tmp_path / 'sub-01' / session / 'anat', f'sub-01_{session}_swi.nii.gz'
    )
  assert names(scans.find(tmp_path)) == ['sub-01_ses-1', 'sub-01_ses-2']
  some = scans.find(tmp_path, sessions=['2'])
  assert names(some) == ['sub-01_ses-2']
  with says(NoInputError):
    scans.find(tmp_path, sessions=['3'])


def test_a_mask_is_for_one_scan(bids_folder, tmp_path):
  mask = small_cohorts.save(
    tmp_path / 'm.nii.gz', np.ones((2, 2, 2), np.uint8), np.eye(4)
  )
  (scan,) = scans.find(bids_folder, participants=['01'], mask=mask).scans
  assert scan.mask == mask
  with says(InputError):
    scans.find(bids_folder, mask=mask)
  with says(NoInputError, '--mask'):
    scans.find(bids_folder, participants=['01'], mask=tmp_path / 'none.nii')


def test_nothing_there(tmp_path):
  with says(NoInputError):
    scans.find(tmp_path / 'none')
  with says(NoInputError):
    scans.find(touch(tmp_path / 'empty'))
  with says(InputError, 'NIfTI'):
    scans.find(touch(tmp_path, 'a.txt') / 'a.txt')
