"""Forty scans in the spellings of laboratories, and what each file is."""

import json

import pytest

from cmbjax.intake import explain, scans, truth_files

# Name of a scan, then its files: the cell of the table that each belongs to.
# '!' is a reason in `left out`; a name without an ending is an image.
FLAT = {
  # dcm2niix
  'sub-5': {'magnitude': 'gre_5', 'phase': 'gre_5_ph'},
  'sub-71': {
    'magnitude': 'swan_71_real (real)',
    'phase': 'swan_71_imaginary (imaginary)',
  },
  'sub-qsm9': {
    'magnitude': 'qsm_9_e1, qsm_9_e2',
    'phase': 'qsm_9_e1_ph, qsm_9_e2_ph',
    'echoes': '2',
  },
  'sub-hem12': {
    'magnitude': 'hem_t2_swi_tra_12',
    'phase': 'hem_t2_swi_tra_12_ph',
  },
  'sub-ada': {  # the four of Siemens, told apart by the number of the series
    'swi': 'ada_SWI_Images_10',
    'magnitude': 'ada_Mag_Images_7',
    'phase': 'ada_Pha_Images_8',
    '!a projection': 'ada_mIP_Images(SW)_9',
  },
  # by hand
  'sub-anna': {
    'swi': 'anna_swi',
    'magnitude': 'anna_mag',
    'phase': 'anna_phase',
    '!a projection': 'anna_minIP',
  },
  'sub-BobK': {'swi': 'BobK_SWI', 'mask': 'BobK_SWI_brain_mask'},
  'sub-cyd': {'magnitude': 'cyd_magnitude', 'phase': 'cyd_pha'},
  'sub-dora': {'swi': 'dora_swi', 'truth': 'dora_label'},
  'sub-eli': {'swi': 'eli', 'truth': 'eli_Segmentation'},
  'sub-fay': {'swi': 'fay_swi', 'truth': 'fay_swi-label'},
  'sub-gus': {'swi': 'gus', 'truth': 'gus_cmbs', '!of another kind': 'gus_t1'},
  'sub-hal': {'swi': 'hal_swi', '!a map': 'hal_qsm', 'mask': 'hal_bet_mask'},
  'sub-ivy_ses-1': {'swi': 'ivy_ses-1_swi'},
  'sub-ivy_ses-2': {'swi': 'ivy_ses-2_swi', 'truth': 'ivy_ses-2_seg'},
  'sub-jo': {'swi': 'jo_swi', '!a processed copy': 'jo_swi_brain'},
  'sub-kim': {'swi': 'kim_swi', '!a filtered phase': 'kim_filtered_phase'},
  'sub-lou': {'swi': 'lou_swi', '!of another kind': 'lou_t2_flair'},
  'sub-mia': {'magnitude': 'mia_gre_mag', 'phase': 'mia_gre_pha'},
  # a folder for each
  'sub-P01': {
    'swi': 'P01/swi',
    'magnitude': 'P01/mag',
    'phase': 'P01/phase',
    'mask': 'P01/brainmask',
  },
  'sub-P02_ses-2013': {'swi': 'P02/2013/P02_swi'},
  'sub-P02_ses-2014': {'swi': 'P02/2014/P02_swi'},
  'sub-X7': {  # XNAT
    'swi': 'X7/scans/7-SWI_Images/resources/NIFTI/files/a',
    'magnitude': 'X7/scans/5-Mag_Images/resources/NIFTI/files/b',
    'phase': 'X7/scans/6-Pha_Images/resources/NIFTI/files/c',
  },
  'sub-1234567_ses-2': {  # UK Biobank
    'swi': '1234567_20251_2_0/SWI/SWI',
    'magnitude': '1234567_20251_2_0/SWI/SWI_TOTAL_MAG',
    'phase': '1234567_20251_2_0/SWI/SWI_TOTAL_PHA',
    '!a filtered phase': '1234567_20251_2_0/SWI/filtered_phase',
    '!of one coil': '1234567_20251_2_0/SWI/MAG_TE1/SWI_MAG_TE1_C01',
  },
  'sub-002S0413': {  # ADNI
    'magnitude': '002_S_0413/Axial_T2_Star/ADNI_002_S_0413_MR_T2_Star_Br',
  },
}

A, D = 'sub-{0}/anat/sub-{0}_', 'derivatives/{1}/sub-{0}/anat/sub-{0}_'
BIDS = {
  'sub-01': {
    'swi': A + 'swi',
    'magnitude': A + 'part-mag_swi',
    'phase': A + 'part-phase_swi',
    '!a projection': A + 'rec-mIP_swi',
  },
  'sub-02': {
    'magnitude': A + 'acq-swi_T2starw',
    'phase': A + 'acq-swi_part-phase_T2starw',
  },
  'sub-03': {
    'magnitude': A + 'echo-1_MEGRE, ' + A + 'echo-2_MEGRE',
    'phase': A + 'echo-1_part-phase_MEGRE, ' + A + 'echo-2_part-phase_MEGRE',
    'echoes': '2',
  },
  'sub-04': {
    'magnitude': A + 'part-real_T2starw (real)',
    'phase': A + 'part-imag_T2starw (imaginary)',
  },
  'sub-05': {
    'magnitude': A + 'acq-hr_run-1_part-mag_T2starw',
    'phase': A + 'run-1_acq-hr_part-phase_T2starw',
  },
  'sub-06': {'swi': A + 'swi', '!a projection': A + 'rec-mnip_swi'},
  'sub-07': {
    'magnitude': A + 'rec-norm_part-mag_T2starw',
    'phase': A + 'part-phase_T2starw',
  },
  'sub-08': {'magnitude': A + 'part-mag_GRE', 'phase': A + 'part-phase_GRE'},
  'sub-09': {'swi': A + 'swi', '!of another kind': A + 'T1w'},
  'sub-10': {'swi': A + 'swi', 'truth': A + 'label-CMB_mask'},
  'sub-11': {
    'swi': A + 'swi',
    '!in another space (MNI152)': D + 'space-MNI152_desc-brain_mask',
  },
  'sub-12': {'swi': A + 'acq-swi_T2starw', 'mask': A + 'label-brain_mask'},
  'sub-13': {'magnitude': A + 'T2star'},
  'sub-14': {'swi': 'sub-{0}/swi/sub-{0}_swi'},
  'sub-15': {'swi': 'sub-{0}/sub-{0}_swi'},  # no anat/
  'sub-16': {
    'magnitude': A + 'acq-mag_swi',
    'phase': A + 'acq-phase_swi',
  },
  'sub-17': {
    'magnitude': A + 'acq-qsm_part-mag_MEGRE',
    'phase': A + 'acq-qsm_part-phase_MEGRE',
    '!a map': A + 'Chimap',
  },
}


def placed(text, name):
  return text.format(name.removeprefix('sub-'), 'fmriprep')


def images(cell):
  """'a, b (real)' to ['a', 'b']; the names, without what is said of them."""
  return [part.split(' (')[0] if ' (' in part else part
          for part in cell.split(', ')]  # fmt: skip


@pytest.mark.parametrize(
  ('kind', 'table'), [('folder', FLAT), ('bids', BIDS)], ids=['flat', 'bids']
)
def test_every_cell_of_the_table_is_right(tmp_path, kind, table):
  for name, cells in table.items():
    for column, cell in cells.items():
      for image in images(placed(cell, name)) if column != 'echoes' else ():
        path = tmp_path / f'{image}.nii.gz'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')
  found = scans.find(tmp_path)
  assert found.kind == kind
  assert not found.broken
  truths = {s.name: truth_files.find_truth(tmp_path, s) for s in found.scans}
  rows = {
    '_'.join(cell for cell in row[:2] if cell != explain.NONE): row
    for row in explain.rows(tmp_path, found, truths)
  }
  assert sorted(rows) == sorted(table)
  for name, cells in table.items():
    row = rows[name]._asdict()
    for column in ('swi', 'magnitude', 'phase', 'mask', 'truth'):
      expected = ', '.join(
        f'{image}.nii.gz' for image in images(placed(cells[column], name))
      ) if column in cells else '-'  # fmt: skip
      shown = row[column].replace(' (real)', '').replace(' (imaginary)', '')
      assert shown == expected, (name, column)
      assert ('(real)' in row[column]) == ('(real)' in cells.get(column, ''))
    assert row['echoes'] == cells.get('echoes', '1'), name
    left = {c[1:]: placed(v, name) for c, v in cells.items() if c[0] == '!'}
    assert row['left_out'].count('.nii.gz (') == len(left), row['left_out']
    for why, image in left.items():
      assert f'{image}.nii.gz ({why}' in row['left_out'], name


def test_there_are_forty_scans():
  assert len(FLAT) + len(BIDS) >= 40


def test_what_is_of_no_scan_is_in_the_table_too(tmp_path):
  for name in ('a_swi', 'b_phase', 'c_t1w', 'd_run-1_swi', 'd_run-2_swi'):
    (tmp_path / f'{name}.nii').write_bytes(b'')
  (tmp_path / 'a_swi.json').write_text(json.dumps({'EchoTime': 0.02}))
  table = explain.rows(tmp_path, scans.find(tmp_path))
  assert [row.person for row in table] == ['sub-a', 'sub-d', '-']
  assert table[0].echoes == '20 ms'
  assert table[0].sidecar == 'a_swi.json'
  assert 'd_run-1_swi.nii' in table[1].left_out
  assert 'b_phase.nii (' in table[2].left_out
  assert 'c_t1w.nii (' in table[2].left_out
  text = explain.text(table).splitlines()
  assert text[0].startswith('person\tsession\tswi\tmagnitude')
  assert len(text) == 4
