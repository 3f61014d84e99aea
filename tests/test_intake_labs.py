"""Folders as laboratories and public studies leave them: whose is what."""

import pytest

from cmbjax.errors import InputError
from cmbjax.intake import scans, truth_files
from cmbjax.review.cases import sources
from tests.messages import said
from tests.test_intake import anat, stems, touch, why


def names(folder):
  found = scans.find(folder)
  assert not found.broken
  return [scan.name for scan in found.scans]


def truth(folder):
  (scan,) = scans.find(folder).scans
  found = truth_files.find_truth(folder, scan)
  return found and found.path.name.split('.')[0]


@pytest.mark.parametrize(
  ('files', 'expected'),
  [
    # UK Biobank: field, instance, array behind the number of the person.
    (
      [
        '1000021_20251_2_0/SWI',
        '1000021_20251_3_0/SWI',
        '1000033_20251_2_0/SWI',
      ],
      ['sub-1000021_ses-2', 'sub-1000021_ses-3', 'sub-1000033_ses-2'],
    ),
    (
      [
        'ADNI_002_S_0413_MR_Axial_T2_Star__br_raw_20170621133012345_2_S571_I8',
        'ADNI_002_S_0413_MR_Axial_T2_Star__br_raw_20190827_S871_I9',
      ],
      ['sub-002S0413_ses-20170621', 'sub-002S0413_ses-20190827'],
    ),
    (
      [
        'OAS30001_MR_d0129/anat5/NIFTI/sub-OAS30001_sess-d0129_run-01_swi',
        'OAS30001_MR_d2430/anat5/NIFTI/sub-OAS30001_sess-d2430_run-01_swi',
      ],
      ['sub-OAS30001_ses-d0129', 'sub-OAS30001_ses-d2430'],
    ),
    (  # XNAT
      [
        f'P001_MR{n}/scans/7-SWI_Images/resources/NIFTI/files/7' for n in (1, 2)
      ],
      ['sub-P001_ses-MR1', 'sub-P001_ses-MR2'],
    ),
    (
      ['anna_pre_swi', 'anna_post_swi'],
      ['sub-anna_ses-post', 'sub-anna_ses-pre'],
    ),
    (['p1/ses1/swi', 'p1/session2/swi'], ['sub-p1_ses-1', 'sub-p1_ses-2']),
    # Of which the plain image is there too.
    (['anna_swi', 'anna_swi (1)', 'bob_swi'], ['sub-anna', 'sub-bob']),
    (['anna_swi', 'anna_swi - Kopie', 'anna_swi_reorient'], ['sub-anna']),
    (['swi (1)', 'swi (2)'], ['sub-1', 'sub-2']),
    (['anna/swi', 'anna/swi_bet', 'anna/swi_bet_mask'], ['sub-anna']),
    # Initials that are names of maps.
    (['FA_swi', 'MD_swi', 'CT_swi'], ['sub-CT', 'sub-FA', 'sub-MD']),
  ],
)
def test_persons_and_sessions(tmp_path, files, expected):
  assert names(touch(tmp_path, *files)) == expected


@pytest.mark.parametrize(
  ('files', 'expected'),
  [
    (['anna/swi', 'anna/cmb'], 'cmb'),
    (['p1/2019/swi', 'p1/2019/microbleeds_final'], 'microbleeds_final'),
    (['anna_swi', 'anna_swi_cmb_r1'], 'anna_swi_cmb_r1'),
    (['swi/anna', 'lesion_masks/anna', 'T1/anna', 'FLAIR/anna'], 'anna'),
    (['SWI/anna', 'CMB/anna'], 'anna'),
    (['anna_swi', 'anna_swi_Maske', 'anna_swi_mimic'], 'anna_swi_Maske'),
    (['anna_swi', 'anna_swi_label', 'anna_swi_label_fp'], 'anna_swi_label'),
    (['Dataset101_X/imagesTr/a_0000', 'Dataset101_X/labelsTr/a'], 'a'),
    (['imagesTr/a_0000', 'labelsTr/a', 'predictions/a', 'labelsPr/a'], 'a'),
  ],
)
def test_the_truth_of_a_scan(tmp_path, files, expected):
  assert truth(touch(tmp_path, *files)) == expected


def test_time_points_are_no_kinds_of_images(tmp_path):
  touch(tmp_path, 'T1/anna_swi', 'T2/anna_swi')
  assert all(scan.swi for scan in scans.find(tmp_path).scans)


def test_dcm2niix_in_a_folder_of_the_person(tmp_path):
  for number, kind in (
    (5, 'Mag_Images'),
    (6, 'Pha_Images'),
    (7, 'mIP_Images(SW)'),
    (8, 'SWI_Images'),
  ):
    name = f'anna/anna_swi3d_20190102030405_{number}'
    touch(tmp_path, name, SeriesDescription=kind)
  (scan,) = scans.find(tmp_path).scans
  assert scan.name == 'sub-anna_ses-20190102030405'
  found = [scan.swi, *scan.magnitude, *scan.phase]
  assert [stem[-1] for stem in stems(found)] == ['8', '5', '6']


@pytest.mark.parametrize(
  ('files', 'persons'),
  [
    (['anna_6m_swi', 'anna_12m_swi'], 'anna 12m, anna 6m'),
    (['001_M00_swi', '001_M06_swi'], '001 m00, 001 m06'),
    (['anna_swi', 'wanna_swi'], 'anna, wanna'),
    (['anna_swi', 'anna_swi_x', 'anna_swi_y'], 'anna, anna x, anna y'),
    (['anna_1_swi', 'anna_2_swi', 'bob_1_swi', 'bob_2_swi'], 'anna 1, anna 2'),
  ],
)
def test_persons_that_may_be_one_are_said(tmp_path, files, persons):
  notes = scans.find(touch(tmp_path, *files)).notes
  assert f'taken for different persons: {persons}' in notes


def test_numbered_persons_are_no_remark(tmp_path):
  touch(tmp_path, *(f'study_{n}_swi' for n in range(9)))
  assert not scans.find(tmp_path).notes


@pytest.mark.parametrize(
  'name', ['sub-01/anat/sub-02_swi', 'sub-01/ses-1/anat/sub-01_ses-2_swi']
)
def test_a_file_in_the_folder_of_another_is_of_nobody(tmp_path, name):
  said(why(touch(tmp_path, name)), name)


def test_a_number_that_is_written_twice_is_one(tmp_path):
  assert names(touch(tmp_path, 'sub-1/anat/sub-01_swi')) == ['sub-1']


@pytest.mark.parametrize(
  ('made', 'expected'),
  [
    (['manual/sub-01/anat/sub-01_label-microbleeds_mask'], 'microbleeds'),
    (['manual/sub-01/anat/sub-01_desc-cmb_mask'], 'desc-cmb'),
    (['manual/sub-01/swi/sub-01_label-CMB_mask'], 'label-CMB'),
    (
      [
        'manual/sub-01/anat/sub-01_space-MNI_seg-cmb_dseg',
        'manual/sub-01/anat/sub-01_space-orig_seg-cmb_dseg',
      ],
      'orig',
    ),
    (
      [
        'a/sub-01/anat/sub-01_label-lesion_mask',
        'b/sub-01/anat/sub-01_label-CMB_mask',
      ],
      'label-CMB',
    ),
    (['manual/sub-01/anat/sub-01_seg-cmbmimic_dseg'], None),
    (['manual/sub-01/anat/sub-01_seg-cmbcandidates_dseg'], None),
  ],
)
def test_a_truth_of_bids(tmp_path, made, expected):
  anat(tmp_path, 'swi')
  touch(tmp_path / 'derivatives', *made)
  found = truth(tmp_path)
  assert (expected in found) if expected else found is None


def test_results_of_ours_are_no_truth_wherever_they_are(tmp_path):
  anat(tmp_path, 'swi')
  name = 'derivatives/v2/sub-01/anat/sub-01_space-orig_seg-cmb_dseg'
  touch(tmp_path, name, Protocol={'made': 'given'})
  assert truth(tmp_path) is None
  touch(tmp_path, name, Protocol={'made': 'given'}, Manual=True)
  assert truth(tmp_path) is not None


def test_a_mask_of_the_t1_goes_behind_that_of_the_scan(tmp_path):
  touch(tmp_path, 'anna/swi', 'anna/t1_brain_mask', 'anna/brainmask')
  (scan,) = scans.find(tmp_path).scans
  assert scan.mask.name == 'brainmask.nii.gz'


def test_two_readers_in_one_folder_are_a_question(tmp_path):
  touch(tmp_path, 'anna_swi', 'anna_swi_cmb_r1', 'anna_swi_cmb_r2')
  (scan,) = scans.find(tmp_path).scans
  with pytest.raises(InputError, match='2 files could be its truth'):
    truth_files.find_truth(tmp_path, scan)


def test_magnitude_and_phase_of_another_run_are_not_those_of_the_swi(tmp_path):
  anat(tmp_path, 'run-2_swi')
  anat(tmp_path, 'run-1_part-mag_T2starw', 'run-1_part-phase_T2starw')
  (scan,) = scans.find(tmp_path).scans
  assert (scan.magnitude, scan.phase) == ((), ())
  anat(tmp_path, 'run-2_part-mag_T2starw', 'run-2_part-phase_T2starw')
  (scan,) = scans.find(tmp_path).scans
  assert [p.name[7:12] for p in (*scan.magnitude, *scan.phase)] == ['run-2'] * 2


@pytest.mark.parametrize('name', ['bob_swi.img', 'bob.seg.nrrd', 'bob_swi.mgz'])
def test_images_that_are_not_nifti_are_said(tmp_path, name):
  touch(tmp_path, 'anna_swi')
  (tmp_path / name).write_bytes(b'')
  found = scans.find(tmp_path).files
  assert found == ((tmp_path / name, 'not NIfTI; convert it'),)


@pytest.mark.parametrize('folder', ['old', 'QC', 'bob'])
def test_an_image_of_another_person_in_a_folder_is_of_nobody(tmp_path, folder):
  touch(tmp_path, 'anna_swi', f'{folder}/anna_swi')
  found = scans.find(tmp_path)
  assert [scan.name for scan in found.scans] == ['sub-anna']
  ((_, text),) = found.broken
  said(text, f'{folder}/anna_swi')


def test_folders_of_groups_are_not_persons_with_sessions(tmp_path):
  touch(tmp_path, 'AD/001/swi', 'AD/002/swi', 'CN/003/swi', 'CN/004/swi')
  found = scans.find(tmp_path)
  assert not found.scans
  assert len(found.broken) == 4
  said(found.broken[0][1], '001 002')


def test_a_copy_in_another_space_is_not_a_second_scan(tmp_path):
  anat(tmp_path, 'swi', 'space-T1w_swi')
  (scan,) = scans.find(tmp_path).scans
  assert scan.swi.name == 'sub-01_swi.nii.gz'


def test_images_and_masks_in_folders_of_short_names(tmp_path):
  assert truth(touch(tmp_path, 'imgs/001', 'msks/001')) == '001'


def test_tissues_of_fmriprep_are_no_candidates_of_a_review(tmp_path):
  anat(tmp_path, 'swi')
  below = 'derivatives/fmriprep/sub-01/anat'
  touch(tmp_path, f'{below}/sub-01_dseg', f'{below}/sub-01_desc-aseg_dseg')
  _, held = sources.find_scans(tmp_path)
  assert held['sub-01'] == {}
  touch(tmp_path, 'derivatives/mine/sub-01/anat/sub-01_desc-x_mask')
  _, held = sources.find_scans(tmp_path)
  assert held['sub-01']['labels'].name == 'sub-01_desc-x_mask.nii.gz'
