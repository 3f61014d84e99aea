"""Tests of imaging/bids.py: names, inheritance, the finder's order."""

import json

import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import bids, filename, sidecars
from tests.messages import says


def _touch(root, *names):
  for name in names:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _json(path, **fields):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(fields))


def test_names_to_entities():
  found = filename.entities('x/sub-01_ses-a_echo-2_part-mag_MEGRE.nii.gz')
  assert found.values == {
    'sub': '01',
    'ses': 'a',
    'echo': '2',
    'part': 'mag',
  }
  assert (found.suffix, found.extension) == ('MEGRE', '.nii.gz')
  assert found.get('run') is None
  assert found.without('echo', 'part') == (('sub', '01'), ('ses', 'a'))


def test_names_that_are_not_bids_have_no_entities():
  assert filename.entities('scan.nii').values == {}
  assert filename.entities('scan').extension == ''


def test_nearer_sidecars_go_first(tmp_path):
  image = tmp_path / 'sub-01/anat/sub-01_acq-x_T2starw.nii.gz'
  _touch(tmp_path, 'sub-01/anat/sub-01_acq-x_T2starw.nii.gz')
  _json(tmp_path / 'dataset_description.json', Name='n', BIDSVersion='1')
  _json(tmp_path / 'T2starw.json', EchoTime=0.01, FlipAngle=15, A=1)
  _json(tmp_path / 'acq-x_T2starw.json', A=2)
  _json(tmp_path / 'acq-y_T2starw.json', EchoTime=9)
  _json(tmp_path / 'swi.json', EchoTime=8)
  _json(tmp_path / 'sub-01/sub-01_T2starw.json', EchoTime=0.02)
  _json(tmp_path / 'sub-01/anat/sub-01_acq-x_T2starw.json', EchoTime=0.03)
  expected = {'EchoTime': 0.03, 'FlipAngle': 15, 'A': 2}
  assert sidecars.read(image, root=tmp_path) == expected
  assert sidecars.read(image) == expected  # finds the top by itself


def test_sidecars_of_a_name_without_folders(tmp_path, monkeypatch):
  _touch(tmp_path, 'sub-01/anat/sub-01_T2starw.nii.gz')
  _json(tmp_path / 'dataset_description.json', Name='n', BIDSVersion='1')
  _json(tmp_path / 'T2starw.json', EchoTime=0.01)
  monkeypatch.chdir(tmp_path / 'sub-01/anat')
  assert sidecars.read('sub-01_T2starw.nii.gz') == {'EchoTime': 0.01}


def test_sidecar_beside_a_file_outside_bids(tmp_path):
  _touch(tmp_path, 'scan.nii')
  _json(tmp_path / 'scan.json', EchoTime=0.02)
  assert sidecars.read(tmp_path / 'scan.nii') == {'EchoTime': 0.02}


def test_broken_sidecar_is_named(tmp_path):
  _touch(tmp_path, 'sub-1_swi.nii')
  (tmp_path / 'sub-1_swi.json').write_text('{')
  with says(InputError, 'sub-1_swi.json'):
    sidecars.read(tmp_path / 'sub-1_swi.nii')
  (tmp_path / 'sub-1_swi.json').write_text('[1]')
  with says(InputError, 'JSON'):
    sidecars.read(tmp_path / 'sub-1_swi.nii')


@pytest.mark.parametrize(
  ('names', 'swi', 'magnitude', 'num_phases'),
  [
    (['anat/S_swi.nii.gz', 'swi/S_swi.nii.gz'], 'anat/S_swi.nii.gz', None, 0),
    (['swi/S_SWI.nii', 'anat/S_acq-swi_T2starw.nii'], 'swi/S_SWI.nii', None, 0),
    (
      ['anat/S_acq-SWI_T2starw.nii.gz', 'anat/S_T2starw.nii.gz'],
      'anat/S_acq-SWI_T2starw.nii.gz',
      'anat/S_T2starw.nii.gz',
      0,
    ),
    (['anat/S_rec-mySwi_T2starw.nii'], 'anat/S_rec-mySwi_T2starw.nii', None, 0),
    (
      [
        'anat/S_part-mag_T2starw.nii.gz',
        'anat/S_part-phase_T2starw.nii.gz',
        'anat/S_T2starw.nii.gz',
      ],
      None,
      'anat/S_part-mag_T2starw.nii.gz',
      1,
    ),
    (
      [
        'anat/S_acq-swi_part-mag_T2starw.nii.gz',
        'anat/S_acq-swi_part-phase_T2starw.nii.gz',
      ],
      None,
      'anat/S_acq-swi_part-mag_T2starw.nii.gz',
      1,
    ),
    (
      ['anat/S_swi.nii', 'anat/S_minIP.nii', 'anat/S_desc-mip_swi.nii'],
      'anat/S_swi.nii',
      None,
      0,
    ),
  ],
)
def test_the_order_of_the_finder(tmp_path, names, swi, magnitude, num_phases):
  full = [f'sub-01/{n.replace("S_", "sub-01_")}' for n in names]
  _touch(tmp_path, *full)
  (scan,) = bids.find_scans(tmp_path)
  place = lambda n: n and tmp_path / f'sub-01/{n.replace("S_", "sub-01_")}'  # noqa: E731
  assert scan.swi == place(swi)
  assert scan.magnitude == ((place(magnitude),) if magnitude else ())
  assert len(scan.phase) == num_phases


def test_echoes_are_sorted_by_time_not_by_label(tmp_path):
  for echo, time in ((1, 0.02), (2, 0.01), (10, 0.03)):
    for part in ('mag', 'phase'):
      stem = f'sub-01/anat/sub-01_echo-{echo}_part-{part}_MEGRE'
      _touch(tmp_path, stem + '.nii.gz')
      _json(tmp_path / (stem + '.json'), EchoTime=time)
  (scan,) = bids.find_scans(tmp_path)
  labels = [filename.entities(p).get('echo') for p in scan.magnitude]
  assert labels == ['2', '1', '10']
  assert [filename.entities(p).get('echo') for p in scan.phase] == labels
  assert {filename.entities(p).get('part') for p in scan.phase} == {'phase'}
  assert scan.sidecar == {'EchoTime': 0.01}


def test_sessions_masks_and_participants(tmp_path):
  _touch(
    tmp_path,
    'sub-02/ses-b/anat/sub-02_ses-b_swi.nii.gz',
    'sub-02/ses-a/anat/sub-02_ses-a_swi.nii.gz',
    'sub-01/anat/sub-01_swi.nii.gz',
    'derivatives/mine/sub-01/anat/sub-01_label-brain_mask.nii.gz',
    'derivatives/mine/sub-02/ses-a/anat/sub-02_ses-a_desc-brain_mask.nii.gz',
    'derivatives/truth/sub-01/anat/sub-01_label-brain_mask.nii.gz',
  )
  _json(tmp_path / 'swi.json', MagneticFieldStrength=3)
  scans = bids.find_scans(tmp_path)
  assert [s.name for s in scans] == ['sub-01', 'sub-02_ses-a', 'sub-02_ses-b']
  assert [s.session for s in scans] == [None, 'ses-a', 'ses-b']
  assert [s.mask and s.mask.parts[-5 if s.session else -4] for s in scans] == [
    'mine',
    'mine',
    None,
  ]  # the truth is not an input
  assert all(s.sidecar == {'MagneticFieldStrength': 3} for s in scans)
  for label in ('02', 'sub-02'):
    chosen = bids.find_scans(tmp_path, participants=[label])
    assert {s.subject for s in chosen} == {'sub-02'}
  with says(InputError):
    bids.find_scans(tmp_path, participants=['9'])


def test_two_candidates_are_an_error_that_lists_them(tmp_path):
  _touch(
    tmp_path,
    'sub-01/anat/sub-01_run-1_swi.nii.gz',
    'sub-01/anat/sub-01_run-2_swi.nii.gz',
  )
  with says(InputError, 'run-1_swi run-2_swi') as caught:
    bids.find_scans(tmp_path)
  assert caught.value.exit_code == 2
  (scan,) = bids.find_scans(tmp_path, swi_pattern='*run-2*')
  assert scan.swi.name == 'sub-01_run-2_swi.nii.gz'


def test_two_magnitudes_are_an_error_that_lists_them(tmp_path):
  _touch(
    tmp_path,
    'sub-01/anat/sub-01_acq-a_part-mag_T2starw.nii.gz',
    'sub-01/anat/sub-01_acq-b_part-mag_T2starw.nii.gz',
  )
  with says(InputError):
    bids.find_scans(tmp_path)
  # Beside an SWI they are not needed, so none is chosen and none is asked for.
  _touch(tmp_path, 'sub-01/anat/sub-01_swi.nii.gz')
  (scan,) = bids.find_scans(tmp_path)
  assert scan.magnitude == ()


def test_what_may_be_a_mask_is_not_called_a_scan(tmp_path):
  _touch(
    tmp_path,
    'sub-01/anat/sub-01_swi.nii.gz',
    'sub-01/anat/sub-01_label-brain_mask.nii.gz',
    'sub-01/anat/sub-01_desc-brain_mask.nii.gz',
  )
  with says(InputError):
    bids.find_scans(tmp_path)


@pytest.mark.parametrize('names', [[], ['sub-01/anat/sub-01_T1w.nii.gz']])
def test_nothing_found_says_so(tmp_path, names):
  _touch(tmp_path, *names)
  with says(NoInputError, str(tmp_path)) as caught:
    bids.find_scans(tmp_path)
  assert caught.value.exit_code == 3
  with says(NoInputError):
    bids.find_scans(tmp_path / 'absent')


def test_description(tmp_path):
  path = bids.write_description(
    tmp_path, 'mine', kind='derivative', extra={'Simulated': True}
  )
  fields = json.loads(path.read_text())
  assert fields['Name'] == 'mine'
  assert fields['DatasetType'] == 'derivative'
  assert fields['GeneratedBy'][0]['Name'] == 'cmbjax'
  assert fields['Simulated'] is True
  raw = json.loads(bids.write_description(tmp_path / 'r', 'r').read_text())
  assert raw['DatasetType'] == 'raw'
  assert 'GeneratedBy' not in raw
  with says(InputError):
    bids.write_description(tmp_path, 'x', kind='derived')
