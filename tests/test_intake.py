"""Which file is the scan, whose facts it has, and what is asked instead."""

import json

import numpy as np
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import roles, scans, sidecars, truth_files
from tests import small_cohorts
from tests.messages import said, says


def touch(folder, *names, **facts):
  """Empty images; `facts` are the fields of a JSON beside all of them."""
  for name in names:
    path = folder / f'{name}.nii.gz'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')
    if facts:
      path.with_name(path.name[:-7] + '.json').write_text(json.dumps(facts))
  return folder


def anat(folder, *names):
  return touch(folder, *(f'sub-01/anat/sub-01_{name}' for name in names))


def only(folder, **options):
  (scan,) = scans.find(folder, **options).scans
  return scan


def stems(paths):
  return [path.name[:-7] for path in paths]


def why(folder, **options):
  found = scans.find(folder, **options)
  assert not found.scans
  ((_, text),) = found.broken
  return text


@pytest.mark.parametrize(
  ('name', 'role'),
  [
    ('SWI_TOTAL_MAG_TE2', roles.MAGNITUDE),
    ('anna_T2star_pha', roles.PHASE),
    ('swan_7_imaginary', roles.IMAGINARY),
    ('12_swi_mIP', roles.PROJECTION),
    ('anna_swi_mnip', roles.PROJECTION),
    ('anna_SWImIP', roles.PROJECTION),
    ('anna_SWI_BrainExtractionMask', roles.BRAIN_MASK),
    ('anna_swi_brain_mask', roles.BRAIN_MASK),
    ('hdbet_mask_anna', roles.BRAIN_MASK),
    ('anna_swi_seg', roles.LESIONS),
    ('p1_cmbs', roles.LESIONS),
    ('anna_wmh_mask', roles.LABELS),
    ('mask_ventricles', roles.LABELS),
    ('T1_in_swi_space', roles.OTHER),
    ('t2_flair', roles.OTHER),
    ('anna_tof', roles.OTHER),
    ('anna_ct', roles.OTHER),
    ('swi2t1', roles.SWI),
    ('sSWIp_4', roles.SWI),
    ('Ven_BOLD_HR', roles.SWI),
    ('t2_swi_tra_p2', roles.SWI),
    ('anna_qsm', roles.MAP),
    ('Sepia_Chimap', roles.MAP),
    ('anna_R2star_map', roles.MAP),
    ('unwrapped_phase', roles.FILTERED),
    # Words of a person or of a study are no roles.
    ('CMB_001', roles.UNKNOWN),
    ('CMB_001_swi', roles.SWI),
    ('PD_03_swi', roles.SWI),
    ('PH_7', roles.UNKNOWN),
    ('EPI_001_swi', roles.SWI),
    ('FA_12_SWI', roles.SWI),
    ('brain_tumor_seg', roles.LESIONS),
    ('head_mask', roles.LABELS),
    ('t2_fl2d_hemo', roles.UNKNOWN),
    ('qsm_9_e1', roles.UNKNOWN),
  ],
)
def test_words_of_a_name(name, role):
  assert roles.of_words(roles.words(name)) == role


@pytest.mark.parametrize(
  ('types', 'description', 'role'),
  [
    (['ORIGINAL', 'PRIMARY', 'M', 'NORM'], 'Mag_Images', roles.MAGNITUDE),
    (['ORIGINAL', 'PRIMARY', 'P'], 'Pha_Images', roles.PHASE),
    (['DERIVED', 'PRIMARY', 'MNIP'], 'mIP_Images(SW)', roles.PROJECTION),
    (['ORIGINAL', 'PRIMARY', 'M', 'SWI'], 'SWI_Images', roles.SWI),
    (['ORIGINAL', 'PRIMARY', 'PHASE MAP'], '', roles.PHASE),
    (['DERIVED', 'SECONDARY', 'REAL'], 'Ax SWAN', roles.REAL),
    (['ORIGINAL', 'PRIMARY', 'P'], 'FILT_PHA: Ax SWAN', roles.FILTERED),
    ([], 'T2*', roles.UNKNOWN),
  ],
)
def test_words_of_a_scanner(types, description, role):
  assert roles.of_header(types, description) == role


def test_series_of_one_protocol_are_told_apart_by_their_json(tmp_path):
  for number, kind, about in (
    (7, 'M', 'Mag_Images'), (8, 'P', 'Pha_Images'),
    (9, 'MNIP', 'mIP_Images(SW)'), (10, 'SWI', 'SWI_Images'),
  ):  # fmt: skip
    types = ['ORIGINAL', 'PRIMARY', kind]
    name = f'ann_t2_swi_tra_20230101_{number}'
    touch(tmp_path, name, ImageType=types, SeriesDescription=about)
  scan = only(tmp_path)
  assert (scan.name, scan.swi.name[:-7][-2:]) == ('sub-ann_ses-20230101', '10')
  assert stems((*scan.magnitude, *scan.phase)) == [
    'ann_t2_swi_tra_20230101_7',
    'ann_t2_swi_tra_20230101_8',
  ]
  assert 'one person' in scans.find(tmp_path).notes[0]
  # Of another examination they are other persons.
  touch(tmp_path, 'ann_t2_swi_tra_20230101_10', PatientID='x')
  touch(tmp_path, 'ann_t2_swi_tra_20230101_7', PatientID='y', ImageType=['M'])
  assert len(scans.find(tmp_path).scans) > 1


def test_numbered_persons_are_not_series(tmp_path):
  touch(tmp_path, 'swi_1', 'swi_2', 'swi_3')
  assert [s.name for s in scans.find(tmp_path).scans] == [
    'sub-1', 'sub-2', 'sub-3',
  ]  # fmt: skip


def test_a_folder_around_all_persons_is_none(tmp_path):
  touch(tmp_path / 'a', 'cohort/p1/2020/swi', 'cohort/p2/2020/swi')
  assert [s.name for s in scans.find(tmp_path / 'a').scans] == [
    'sub-p1_ses-2020', 'sub-p2_ses-2020',
  ]  # fmt: skip
  touch(tmp_path / 'b', 'P1/2020-01-02/swi', 'P1/2021-01-02/swi')
  assert {s.subject for s in scans.find(tmp_path / 'b').scans} == {'sub-P1'}


def test_folders_that_may_be_persons_or_sessions_are_a_question(tmp_path):
  touch(tmp_path, 'rome/p1/swi', 'rome/p2/swi', 'bonn/p3/swi')
  found = scans.find(tmp_path)
  assert [scan.name for scan in found.scans] == ['sub-bonn_ses-p3']
  assert [name for name, _ in found.broken] == [
    'sub-rome_ses-p1', 'sub-rome_ses-p2',
  ]  # fmt: skip
  said(found.broken[0][1], 'p1 p2')


@pytest.mark.parametrize(
  ('names', 'swi', 'magnitude'),
  [
    (['a', 'a_ph', 'a_real', 'a_imaginary'], None, 'a'),
    (['a_5', 'a_5_Eq', 'a_5_ROI1'], 'a_5', None),
    (['a_swi', 'a_swi_cmb', 'a_swi_brain'], 'a_swi', None),
    (['train/a_swi', 'train/a_t1', 'train/a_dwi'], 'train/a_swi', None),
    (['A_SWI', 'a_mag'], 'A_SWI', 'a_mag'),
    (['a swi', 'a t1'], 'a swi', None),
  ],
)
def test_further_names(tmp_path, names, swi, magnitude):
  scan = only(touch(tmp_path, *names))
  assert scan.swi == (swi and tmp_path / f'{swi}.nii.gz')
  assert stems(scan.magnitude) == ([magnitude] if magnitude else [])
  assert len(scan.left_out) == len(names) - len(
    [p for p in (scan.swi, *scan.magnitude, *scan.phase) if p]
  )


def test_a_letter_that_dcm2niix_adds_is_no_person(tmp_path):
  said(why(touch(tmp_path, 'swan_5', 'swan_5a')))


def test_a_day_is_a_session(tmp_path):
  touch(tmp_path, 'a_20200102_swi', 'a_20210203_swi', '20200102_swi')
  assert [s.name for s in scans.find(tmp_path).scans] == [
    'sub-20200102', 'sub-a_ses-20200102', 'sub-a_ses-20210203',
  ]  # fmt: skip


def test_persons_that_may_be_one_are_said(tmp_path):
  touch(tmp_path, 'anna_swi', 'anna_2_swi', 'bob_swi', 'cyd_swi', 'dan_swi')
  found = scans.find(tmp_path)
  assert len(found.scans) == 5
  (note,) = found.notes
  assert 'anna, anna 2' in note


@pytest.mark.parametrize(
  'names',
  [
    ('anna_run-1_swi', 'anna_run-2_swi'),
    ('anna_swi_v1', 'anna_swi_v2'),
    ('P1/a_swi', 'P1/b_swi'),
    ('P1/mag', 'P1/phase', 'P1/mag_e2'),
    ('imagesTr/c_0000', 'imagesTr/c_0001'),
    ('swi/anna', 'SWI_Images/anna'),
    ('a_mag', 'a_gre_mag', 'a_phase'),
  ],
)
def test_two_readings_are_a_question(tmp_path, names):
  touch(tmp_path, *names, 'other_swi')
  found = scans.find(tmp_path)
  assert [scan.name for scan in found.scans] == ['sub-other']
  ((_, text),) = found.broken
  said(text)


def test_nnunet_says_what_its_channels_are(tmp_path):
  touch(tmp_path, 'imagesTr/c_0000', 'imagesTr/c_0001', 'labelsTr/c')
  (tmp_path / 'dataset.json').write_text(
    '{"channel_names": {"0": "T1", "1": "SWI"}}'
  )
  scan = only(tmp_path)
  assert (scan.name, scan.swi.name) == ('sub-c', 'c_0001.nii.gz')
  truth = truth_files.find_truth(tmp_path, scan)
  assert truth.path == tmp_path / 'labelsTr/c.nii.gz'
  plain = only(touch(tmp_path / 'plain', 'case_0000'))
  assert plain.name == 'sub-case'


@pytest.mark.parametrize(
  ('names', 'word'),
  [
    (['part-phase_swi'], 'phase'),
    (['part-real_T2starw'], 'real'),
    (['acq-a_part-mag_GRE', 'acq-b_part-phase_GRE'], 'acq-b'),
    (['run-1_part-mag_swi', 'run-2_part-mag_swi'], 'run-1 run-2'),
    (['echo-1_part-mag_MEGRE', 'echo-2_part-mag_MEGRE',
      'echo-1_part-phase_MEGRE'], 'echo-2'),
    (['swi', 'label-brain_mask', 'desc-brain_mask'], 'label-brain'),
  ],
)  # fmt: skip
def test_a_bids_scan_that_is_not_clear(tmp_path, names, word):
  said(why(anat(tmp_path, *names)), word)


def test_advice_names_only_options_of_the_command(tmp_path):
  anat(tmp_path, 'run-1_swi', 'run-2_swi')
  assert '--swi-pattern' in why(tmp_path)
  assert '--swi-pattern' not in why(tmp_path, options=())
  assert only(tmp_path, swi_pattern='*run-2*').swi.name.count('run-2')


def test_a_pattern_may_name_a_magnitude(tmp_path):
  for run in (1, 2):
    anat(
      tmp_path, f'run-{run}_part-mag_T2starw', f'run-{run}_part-phase_T2starw'
    )
  scan = only(tmp_path, swi_pattern='*run-2_part-mag*')
  assert 'run-2_part-phase' in scan.phase[0].name
  said(why(tmp_path, swi_pattern='*run-2_part-phase*'), '--swi-pattern')


def test_options_that_are_not_used_are_refused(tmp_path):
  touch(tmp_path, 'a_swi')
  for options in ({'swi_pattern': '*'}, {'series': [3]}):
    with says(InputError):
      scans.find(tmp_path / 'a_swi.nii.gz', **options)


@pytest.mark.parametrize(
  ('name', 'facts'),
  [
    ('sub-01_part-phase_T2starw', {}),
    ('anna_minIP', {}),
    ('anna_swi_brain_mask', {}),
    ('x', {'ImageType': ['ORIGINAL', 'PRIMARY', 'P']}),
    ('x_swi', {'ImageType': ['DERIVED', 'PRIMARY', 'MNIP']}),
    ('anna_t1w', {}),
  ],
)
def test_a_file_that_is_no_swi(tmp_path, name, facts):
  touch(tmp_path, name, **facts)
  with says(InputError, name):
    scans.find(tmp_path / f'{name}.nii.gz')


def test_a_phase_beside_one_file_is_said(tmp_path):
  touch(tmp_path, 'gre_5', 'gre_5_ph')
  scan = only(tmp_path / 'gre_5.nii.gz')
  assert (scan.swi, stems(scan.magnitude), scan.phase) == (None, ['gre_5'], ())
  said(*scan.notes, '--phase')


def test_nothing_but_a_phase(tmp_path):
  with says(NoInputError, 'anna_phase'):
    scans.find(touch(tmp_path, 'anna_phase'))


def facts_of(folder):
  return {s.name: s.sidecar.get('A') for s in scans.find(folder).scans}


def test_no_scan_has_the_facts_of_another_person(tmp_path):
  for name in ('anna_swi', 'bob_swi', 'cyd.b_swi'):
    touch(tmp_path, name, A=name)
  touch(tmp_path, 'dan_swi')
  (tmp_path / 'swi.json').write_text('{"A": "everybody"}')
  assert facts_of(tmp_path) == {
    'sub-anna': 'anna_swi',
    'sub-bob': 'bob_swi',
    'sub-cydb': 'cyd.b_swi',
    'sub-dan': None,
  }


def test_in_bids_only_what_every_part_fits_is_inherited(tmp_path):
  anat(tmp_path, 'swi')
  inherited = {
    'swi.json': True,
    'task_swi.json': False,  # no part of BIDS: it fits nobody
    'acq-a_swi.json': False,
    'T2starw.json': False,
    'sub-01/sub-01_swi.json': True,
    'sub-01/anat/sub-02_swi.json': False,
  }
  for number, name in enumerate(inherited):
    (tmp_path / name).write_text(json.dumps({str(number): True}))
  expected = {str(n) for n, yes in enumerate(inherited.values()) if yes}
  assert set(only(tmp_path).sidecar) == expected
  image = tmp_path / 'sub-01/anat/sub-01_swi.nii.gz'
  assert sidecars.read(image) == {}  # outside a data set: none is inherited
  (tmp_path / 'dataset_description.json').write_text('{}')
  assert set(sidecars.read(image)) == expected


def test_a_bad_json_stops_one_scan(tmp_path):
  touch(tmp_path, 'anna_swi', 'bob_mag', 'bob_phase', 'cyd')
  for name in ('anna_swi', 'bob_phase', 'cyd'):
    (tmp_path / f'{name}.json').write_text('{')
  touch(tmp_path, 'dan_swi')
  found = scans.find(tmp_path)
  assert [scan.name for scan in found.scans] == ['sub-dan']
  assert [name for name, _ in found.broken] == [
    'sub-anna',
    'sub-bob',
    'sub-cyd',
  ]


def test_every_image_has_its_facts(tmp_path):
  for name, time in (('a_e1', 0.01), ('a_e2', 0.02)):
    touch(tmp_path, name, f'{name}_ph', EchoTime=time)
  scan = only(tmp_path)
  images = (*scan.magnitude, *scan.phase)
  assert [scan.facts[p]['EchoTime'] for p in images] == [0.01, 0.02] * 2


def mask(path, shape, step=1.0):
  affine = np.diag([step, step, step, 1])
  return small_cohorts.save(path, np.ones(shape, np.uint8), affine)


def test_masks_of_another_space_or_grid_are_left_out(tmp_path):
  image = mask(tmp_path / 'sub-01/anat/sub-01_swi.nii.gz', (8, 8, 8))
  derived = tmp_path / 'derivatives/fmriprep/sub-01/anat'
  for name, shape in (
    ('space-MNI152NLin2009cAsym_desc-brain_mask', (8, 8, 8)),
    ('desc-brain_mask', (4, 4, 4)),
    ('acq-t1_desc-brain_mask', (8, 8, 8)),
  ):
    mask(derived / f'sub-01_{name}.nii.gz', shape)
  scan = only(tmp_path)
  assert (scan.swi, scan.mask) == (image, None)
  assert sorted(reason for _, reason in scan.left_out) == [
    'in another space (MNI152NLin2009cAsym)',
    'of another image',
    'on another grid',
  ]
  own = mask(derived / 'sub-01_label-brain_mask.nii.gz', (8, 8, 8))
  assert only(tmp_path).mask == own


def test_the_truth_of_one_run_is_not_that_of_the_other(tmp_path):
  anat(tmp_path, 'run-1_swi', 'run-2_swi', 'run-2_label-CMB_mask')
  for run, there in ((1, False), (2, True)):
    scan = only(tmp_path, swi_pattern=f'*run-{run}_swi*')
    assert bool(truth_files.find_truth(tmp_path, scan)) == there


def test_two_truths_are_a_question(tmp_path):
  touch(tmp_path, 'a_swi', 'a_label', 'a_seg', 'b_swi', 'b_mask', 'b_cmbs')
  first, second = scans.find(tmp_path).scans
  with says(InputError, 'a_label a_seg'):
    truth_files.find_truth(tmp_path, first)
  assert truth_files.find_truth(tmp_path, second).path.name == 'b_cmbs.nii.gz'


def test_results_below_the_input_are_no_scans(tmp_path):
  touch(tmp_path, 'a_swi', 'out/sub-a/anat/sub-a_desc-x_swi')
  (tmp_path / 'out/dataset_description.json').write_text('{}')
  found = scans.find(tmp_path)
  assert [scan.name for scan in found.scans] == ['sub-a']
  ((path, reason),) = found.files
  assert path == tmp_path / 'out'
  assert 'by itself' in reason
