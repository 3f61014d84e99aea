"""Public layouts and tables of points, from files to examples."""

import json
import re
import zipfile

import nibabel as nib
import numpy as np
import openpyxl
import pytest

from cmbjax import cli
from cmbjax.data import (
  cohort,
  examples,
  importers,
  point_table,
  truth,
  workbook,
)
from cmbjax.data.import_sources import ImportOptions
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import volume
from tests import small_cohorts
from tests.messages import printed, says
from tests.small_cohorts import phantom, save

NAMES = ('anna', 'berta', 'carla')


def write_valdo(root, *, masked=True, **how):
  """Three subjects of Task2/, NaN outside the brain, and one without truth."""
  made = {}
  for number in (101, 102, 203, 204):
    one, folder = phantom(number, **how), root / f'sub-{number}'
    start = f'sub-{number}_space-T2S'
    image = np.where(one.brain, one.swi, np.nan).astype(np.float32)
    middle = '_desc-masked' if masked else ''
    save(folder / f'{start}{middle}_T2S.nii.gz', image, one.affine)
    save(folder / f'{start}_desc-masked_T1.nii.gz', one.swi, one.affine)
    if number != 204:
      mask = (one.lesions > 0).astype(np.float64)
      save(folder / f'{start}_CMB.nii.gz', mask, one.affine)
      made[f'sub-{number}'] = one
  return made


def write_flat(root, *, affine=None):
  made = {}
  for number, name in enumerate(NAMES):
    one = phantom(number)
    own = one.affine if affine is None else affine
    save(root / f'{name}.nii.gz', one.swi, own)
    made[f'sub-{name}'] = one
  return made


def world(one, points=None):
  voxels = one.lesion_voxels if points is None else points
  return nib.affines.apply_affine(one.affine, voxels)


def rows_of(made, *, convert=world, who=lambda name: name):
  return [
    (who(name.removeprefix('sub-')), *(float(v) for v in place))
    for name, one in made.items()
    for place in convert(one)
  ]


def write_table(path, rows, *, header=('scan', 'x', 'y', 'z'), delimiter=','):
  lines = [delimiter.join(map(str, row)) for row in (header, *rows)]
  path.write_text('\n'.join(lines) + '\n')
  return path


def lesions_of(folder):
  """Scan name -> sorted centres of its truth in mm."""
  result = {}
  for scan in cohort.read_cohort(folder).scans:
    image = volume.load(scan.files.swi or scan.files.magnitude[0])
    found = truth.load_truth(scan.truth, image)
    if found.points_mm is not None:
      points = found.points_mm
    else:
      places = [np.argwhere(found.labels == n).mean(0) for n in found.lesions]
      points = nib.affines.apply_affine(image.affine, places)
    result[scan.name] = sorted(np.round(points, 3).tolist())
  return result


def assert_lesions(folder, made, *, atol=0.6):
  found = lesions_of(folder)
  assert set(found) == set(made)
  for name, one in made.items():
    np.testing.assert_allclose(
      found[name], sorted(world(one).tolist()), atol=atol
    )


def test_lupolab_gives_the_same_examples_as_its_own_folder(tmp_path):
  made = small_cohorts.write_lupolab(tmp_path / 'in')
  for name, one in made.items():
    own = name.removeprefix('sub-')
    save(tmp_path / 'in' / own / f'{own}_brain.nii', one.brain, one.affine)
  call = ['import', str(tmp_path / 'in'), str(tmp_path / 'out')]
  assert cli.main([*call, '--layout', 'lupolab']) == 0
  built = [
    examples.load(examples.build('mine', tmp_path / which, tmp_path / 'data'))
    for which in ('in', 'out')
  ]
  for first, second in zip(*built):
    np.testing.assert_array_equal(first, second)
  assert built[1].label.sum() == 9
  scans = cohort.read_cohort(tmp_path / 'out').scans
  assert {s.truth.kind for s in scans} == {'candidates'}


def test_valdo(tmp_path):
  made = write_valdo(tmp_path / 'Task2')
  done = importers.import_cohort(
    tmp_path / 'Task2',
    tmp_path / 'out',
    ImportOptions('valdo', facts=(('MagneticFieldStrength', 3),)),
  )
  assert done.done == ('sub-101', 'sub-102', 'sub-203', 'sub-204')
  assert done.unlabelled == ('sub-204',)
  assert not done.failed
  assert_lesions(tmp_path / 'out', made)
  found = cohort.read_cohort(tmp_path / 'out')
  assert found.unlabelled == ('sub-204',)
  assert not found.simulated
  assert found.scans[0].files.sidecar['MagneticFieldStrength'] == 3
  table = (tmp_path / 'out/participants.tsv').read_text().splitlines()
  assert table[1:] == ['sub-101\t3', 'sub-102\t3', 'sub-203\t3', 'sub-204\tn/a']
  original = tmp_path / 'Task2/sub-101/sub-101_space-T2S_desc-masked_T2S.nii.gz'
  copy = tmp_path / 'out/sub-101/anat/sub-101_T2starw.nii.gz'
  assert copy.read_bytes() == original.read_bytes()


def test_valdo_is_built(tmp_path):
  write_valdo(tmp_path / 'Task2', shape=(96, 90, 24))
  importers.import_cohort(
    tmp_path / 'Task2', tmp_path / 'out', ImportOptions('valdo')
  )
  folder = examples.build('valdo', tmp_path / 'out', tmp_path / 'data')
  assert examples.load(folder).label.sum() >= 7  # of 9; no mask was given
  assert examples.load_scans(folder).num_lesions.tolist() == [3, 3, 3]


def csv(path, rows):
  return write_table(path.with_suffix('.csv'), rows)


def tsv(path, rows):
  return write_table(path.with_suffix('.tsv'), rows, delimiter='\t')


def german_csv(path, rows):
  """As a German Excel writes it."""
  rows = [[str(c).replace('.', ',') for c in row] for row in rows]
  header = ('Scan', 'X (mm)', 'Y (mm)', 'Z (mm)')
  return write_table(
    path.with_suffix('.csv'), rows, header=header, delimiter=';'
  )


def xlsx(path, rows):
  """Columns and rows left out, two sheets, and a wrong size of the first."""
  book = openpyxl.Workbook()
  book.active.append(['scan', None, 'x', 'y', 'z', 'note'])
  book.active.append([])
  for who, *place in rows:
    book.active.append([who, None, *place])
  book.create_sheet('other').append(['nothing'])
  path = path.with_suffix('.xlsx')
  book.save(path)
  with zipfile.ZipFile(path) as old:
    parts = {name: old.read(name) for name in old.namelist()}
  with zipfile.ZipFile(path, 'w') as new:
    for name, data in parts.items():
      size = rb'<dimension ref="A1"'
      new.writestr(name, re.sub(rb'<dimension ref="[A-Z0-9:]+"', size, data))


@pytest.mark.parametrize('write', [csv, tsv, german_csv, xlsx])
def test_points_in_mm(tmp_path, write):
  made = write_flat(tmp_path / 'in')
  write(tmp_path / 'in' / 'points', rows_of(made))
  options = ImportOptions('points')
  importers.import_cohort(tmp_path / 'in', tmp_path / 'out', options)
  assert_lesions(tmp_path / 'out', made, atol=2e-3)


def test_of_mm_and_voxels_in_one_table_mm_count(tmp_path):
  made = write_flat(tmp_path / 'in')
  rows = [(*row, 1, 2, 3) for row in rows_of(made)]
  header = ('scan', 'x', 'y', 'z', 'i', 'j', 'k')  # as `detect` writes it
  write_table(tmp_path / 'in' / 'points.csv', rows, header=header)
  options = ImportOptions('points')
  importers.import_cohort(tmp_path / 'in', tmp_path / 'out', options)
  assert_lesions(tmp_path / 'out', made, atol=2e-3)


def test_points_in_lps_and_the_hint(tmp_path):
  made = write_flat(tmp_path / 'in')
  rows = rows_of(made, convert=lambda one: world(one) * (-1, -1, 1))
  write_table(tmp_path / 'in' / 'points.csv', rows)
  options = ImportOptions('points', axes='lps')
  importers.import_cohort(tmp_path / 'in', tmp_path / 'out', options)
  assert_lesions(tmp_path / 'out', made, atol=2e-3)


def test_what_may_be_wrong_with_points_outside(tmp_path):
  one = phantom(1)
  affine = one.affine.copy()
  affine[:3, 3] = (40, 50, 20)  # all of the image at x, y, z > 0
  save(tmp_path / 'in/a.nii.gz', one.swi, affine)
  here = nib.affines.apply_affine(affine, one.lesion_voxels)
  for points, hint in (
    (here * (-1, -1, 1), 'try --axes lps'),
    (one.lesion_voxels, 'call the columns i j k'),
    (here + 500, 'check units'),
  ):
    rows = [('a', *p) for p in points.tolist()]
    write_table(tmp_path / 'in/points.csv', rows)
    made = importers.import_cohort(
      tmp_path / 'in', tmp_path / 'out', ImportOptions('points')
    )
    assert hint in made.failed['sub-a']
    assert not (tmp_path / 'out/sub-a').exists()


@pytest.mark.parametrize('first', [0, 1])
def test_points_as_voxels_of_the_file(tmp_path, first):
  """i j k are of the file's own order, whatever that is."""
  made = {}
  for number, name in enumerate(NAMES):
    one = phantom(number)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = one.swi.shape[0] - 1
    save(tmp_path / 'in' / f'{name}.nii', one.swi[::-1], one.affine @ flip)
    made[f'sub-{name}'] = one
  last = phantom(0).swi.shape[0] - 1

  def native(one):
    return one.lesion_voxels * (-1, 1, 1) + (last, 0, 0) + first

  header = ('file', 'i', 'j', 'k')
  rows = rows_of(made, convert=native, who=lambda name: f'data/{name}.nii')
  write_table(tmp_path / 'in' / 'points.csv', rows, header=header)
  options = ImportOptions('points', first_index=first)
  importers.import_cohort(tmp_path / 'in', tmp_path / 'out', options)
  assert_lesions(tmp_path / 'out', made, atol=2e-3)


def test_points_for_a_bids_folder_with_sessions(tmp_path):
  scans = [('sub-01', 'ses-1', 4), ('sub-01', 'ses-2', 5), ('sub-02', None, 6)]
  rows = []
  for subject, session, seed in scans:
    one = phantom(seed)
    small_cohorts.write_scan(tmp_path / 'in', subject, one, session=session)
    places = world(one)[: 2 if session else 0]
    rows += [(subject, (session or '')[4:], *p) for p in places.tolist()]
    if not session:
      rows.append((2, '', 'n/a', 'n/a', 'n/a'))  # by number; nothing found
  header = ('participant_id', 'session', 'x', 'y', 'z')
  write_table(tmp_path / 'table.tsv', rows, header=header, delimiter='\t')
  importers.import_cohort(
    tmp_path / 'in',
    tmp_path / 'out',
    ImportOptions('points', table=tmp_path / 'table.tsv'),
  )
  found = lesions_of(tmp_path / 'out')
  assert {name: len(some) for name, some in found.items()} == {
    'sub-01_ses-1': 2,
    'sub-01_ses-2': 2,
    'sub-02': 0,
  }
  loaded = cohort.read_cohort(tmp_path / 'out').scans[0]
  assert loaded.files.sidecar['EchoTime'] == 0.016
  # The brain mask went along.
  np.testing.assert_array_equal(cohort.load_scan(loaded).mask, phantom(4).brain)


@pytest.mark.parametrize(
  ('unlisted', 'labelled'), [('unlabelled', 2), ('empty', 3)]
)
def test_scans_that_the_table_does_not_name(tmp_path, unlisted, labelled):
  made = write_flat(tmp_path / 'in')
  rows = [r for r in rows_of(made) if r[0] != 'berta']
  write_table(tmp_path / 'in' / 'points.csv', rows)
  importers.import_cohort(
    tmp_path / 'in',
    tmp_path / 'out',
    ImportOptions('points', unlisted=unlisted),
  )
  assert len(cohort.read_cohort(tmp_path / 'out').scans) == labelled


def test_prefix_and_link(tmp_path):
  made = write_flat(tmp_path / 'in')
  write_table(tmp_path / 'in' / 'points.csv', rows_of(made))
  options = ImportOptions('points', prefix='NEW', link=True)
  importers.import_cohort(tmp_path / 'in', tmp_path / 'out', options)
  found = cohort.read_cohort(tmp_path / 'out')
  subjects = [scan.subject for scan in found.scans]
  assert subjects == ['sub-NEWanna', 'sub-NEWberta', 'sub-NEWcarla']
  path = found.scans[0].files.swi
  assert path.is_symlink()
  assert path.resolve() == (tmp_path / 'in/anna.nii.gz').resolve()


def test_one_broken_scan_then_only_that_one_again(tmp_path, capsys):
  made = write_valdo(tmp_path / 'in')
  start = 'sub-102_space-T2S'
  whole = (tmp_path / f'in/sub-102/{start}_CMB.nii.gz').read_bytes()
  (tmp_path / f'in/sub-102/{start}_CMB.nii.gz').write_bytes(whole[:200])
  call = ['import', str(tmp_path / 'in'), str(tmp_path / 'out')]
  call += ['--layout', 'valdo']
  assert cli.main(call) == 1
  said = capsys.readouterr()
  printed(said.err, '102')
  printed(said.err, 'x60x16')
  assert '3 imported, 1 of them without a truth, 1 failed' in said.out
  assert not (tmp_path / 'out/sub-102').exists()
  assert not list((tmp_path / 'out').glob('.partial-*'))
  (tmp_path / f'in/sub-102/{start}_CMB.nii.gz').write_bytes(whole)
  assert cli.main(call) == 0
  assert '1 imported, 3 were there' in capsys.readouterr().out
  assert_lesions(tmp_path / 'out', made)


def test_a_changed_source_is_imported_again(tmp_path):
  made = write_flat(tmp_path / 'in')
  table = tmp_path / 'in' / 'points.csv'
  write_table(table, rows_of(made))
  importers.import_cohort(
    tmp_path / 'in', tmp_path / 'out', ImportOptions('points')
  )
  write_table(table, rows_of(made)[1:])
  again = importers.import_cohort(
    tmp_path / 'in', tmp_path / 'out', ImportOptions('points')
  )
  assert again.done == ('sub-anna',)
  assert len(lesions_of(tmp_path / 'out')['sub-anna']) == 2


def test_a_changed_sidecar_or_suffix_is_imported_again(tmp_path):
  save(tmp_path / 'in/a.nii', phantom(1).swi, phantom(1).affine)
  write_table(tmp_path / 'in/points.csv', [('a', '', '', '')])
  call = tmp_path / 'in', tmp_path / 'out'
  importers.import_cohort(*call, ImportOptions('points'))
  (tmp_path / 'in/a.json').write_text('{"EchoTime": 0.02}')
  assert importers.import_cohort(*call, ImportOptions('points')).done == (
    'sub-a',
  )
  facts = json.loads((tmp_path / 'out/sub-a/anat/sub-a_swi.json').read_text())
  assert facts['EchoTime'] == 0.02
  importers.import_cohort(*call, ImportOptions('points', suffix='T2starw'))
  names = {p.name for p in (tmp_path / 'out/sub-a/anat').glob('*.nii')}
  assert names == {'sub-a_T2starw.nii'}


def test_masks_that_cannot_be(tmp_path):
  write_valdo(tmp_path / 'in')
  one = phantom(1)
  folder = tmp_path / 'in'
  name = 'sub-{0}/sub-{0}_space-T2S_CMB.nii.gz'
  save(
    folder / name.format(101),
    1 - (one.lesions > 0).astype(np.uint8),
    one.affine,
  )
  save(folder / name.format(102), one.lesions[:-1], one.affine)
  save(folder / name.format(203), one.lesions * 0.5, one.affine)
  made = importers.import_cohort(
    folder, tmp_path / 'out', ImportOptions('valdo')
  )
  assert 'looks inverted' in made.failed['sub-101']
  assert 'has shape 63x60x16, but its scan' in made.failed['sub-102']
  assert 'expected whole numbers' in made.failed['sub-203']
  assert made.done == ('sub-204',)


def test_a_labeler_scan_without_a_mask_is_told(tmp_path):
  small_cohorts.write_lupolab(tmp_path / 'in')
  (tmp_path / 'in/P2/P2_swi_nonproj_false_positives.nii').unlink()
  made = importers.import_cohort(
    tmp_path / 'in', tmp_path / 'out', ImportOptions('lupolab')
  )
  assert made.done == ('sub-P1', 'sub-P3')
  ((_, why),) = made.failed.items()
  assert 'found 0 masks named *false_positives*' in why


@pytest.mark.parametrize(
  ('header', 'row'),
  [
    (('scan', 'x', 'y'), ('anna', 1, 2)),
    (('what', 'x', 'y', 'z'), ('anna', 1, 2, 3)),
    (('scan', 'x', 'y', 'z'), ('nobody', 1, 2, 3)),
    (('scan', 'x', 'y', 'z'), ('anna', 1, 'left', 3)),
    (('scan', 'x', 'y', 'z'), ('anna', 1, 2, 'inf')),
    (('scan', 'x', 'y', 'z'), ('', 1, 2, 3)),
    (('scan', 'x', 'y', 'z'), ('anna', 1, 2)),
  ],
)
def test_tables_that_cannot_be(tmp_path, header, row):
  write_flat(tmp_path / 'in')
  write_table(tmp_path / 'in' / 'points.csv', [row], header=header)
  with says(InputError):
    importers.import_cohort(
      tmp_path / 'in', tmp_path / 'out', ImportOptions('points')
    )
  assert not (tmp_path / 'out' / 'sub-anna').exists()


@pytest.mark.parametrize(
  ('text', 'named'),
  [
    ('scan,x,y,z,comment\nimgA,1,2,3,"5 mm\nimgA,4,5,6,ok\n', 'row 2'),
    ('scan,x,y,z\nimgA,1,2,3\nimgA,,,\n', 'row 3'),  # and without a lesion
    ('scan;x;y;z\nimgA;1,5;2;3;4\n', 'row 2'),
    ('scan,x,y,z\nimgA,1,5,2,0,3,0\n', 'row 2'),
    ('scan,x,x,y,z\nimgA,1,2,3,4\n', 'x'),
    ('scan;x (LPS);y;z\nimgA;1;2;3\n', '--axes lps'),
    ('scan;x;y;z\nimgA;1.234,5;2;3\n', 'row 2'),
  ],
)
def test_no_row_of_a_text_is_lost_or_guessed(tmp_path, text, named):
  write_flat(tmp_path / 'in')
  (tmp_path / 'in/points.csv').write_text(text)
  with says(InputError, f'points.csv {named}'):
    importers.import_cohort(
      tmp_path / 'in', tmp_path / 'out', ImportOptions('points')
    )


def test_classes_of_a_mask_are_counted_and_said(tmp_path, capsys):
  write_valdo(tmp_path / 'in')
  path = tmp_path / 'in/sub-101/sub-101_space-T2S_CMB.nii.gz'
  one = phantom(101, num_lesions=4)
  save(path, np.array([0, 1, 2, 1, 2])[one.lesions].astype('u1'), one.affine)
  call = ['import', f'{tmp_path}/in', f'{tmp_path}/out', '--layout', 'valdo']
  cli.main(call)
  said = capsys.readouterr().err
  assert 'sub-101' in said
  assert 'each connected part is one lesion (values are in several' in said
  found = cohort.read_cohort(tmp_path / 'out').scans[0]
  assert len(cohort.load_scan(found).truth.lesions) == 4
  path.with_name('sub-101_space-T2S_CMB.json').write_text(
    '{"LabelValues": "lesions"}'
  )
  cli.main(call)  # what the JSON says is read again
  assert len(cohort.load_scan(found).truth.lesions) == 2


def test_damaged_workbooks_give_a_sentence(tmp_path):
  path = tmp_path / 'points.xlsx'
  xlsx(path, [('anna', 1.0, 2.0, 3.0)])
  assert point_table.read(path).points['anna', ''].values.tolist() == [
    [1, 2, 3]
  ]
  whole = path.read_bytes()
  rng = np.random.default_rng(0)
  refused = 0
  for number in range(60):
    data = bytearray(whole)
    if number % 2:
      data = data[: int(rng.integers(len(data)))]
    else:
      place = int(rng.integers(len(data) - 8))
      data[place : place + 8] = rng.bytes(8)
    path.write_bytes(bytes(data))
    try:
      point_table.read(path)
    except InputError:
      refused += 1
  assert refused > 40
  with zipfile.ZipFile(path, 'w') as book:
    book.writestr('xl/workbook.xml', '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
  with says(InputError):
    point_table.read(path)


def edited(path, part, change):
  with zipfile.ZipFile(path) as old:
    parts = {name: old.read(name) for name in old.namelist()}
  with zipfile.ZipFile(path, 'w') as new:
    for name, data in (parts | {part: change(parts.get(part, b''))}).items():
      new.writestr(name, data)


@pytest.mark.parametrize(
  ('old', 'new'), [(b'<row r="4"', b'<row r="3"'), (b'r="E3"', b'r="A3"')]
)
def test_no_row_or_cell_is_passed_over(tmp_path, old, new):
  path = tmp_path / 'points.xlsx'
  xlsx(path, [('anna', 1.0, 2.0, 3.0), ('berta', 1.0, 2.0, 3.0)])
  edited(path, 'xl/worksheets/sheet1.xml', lambda data: data.replace(old, new))
  with says(InputError):
    point_table.read(path)


def test_a_picture_in_a_workbook_may_have_a_doctype(tmp_path):
  path = tmp_path / 'points.xlsx'
  xlsx(path, [('anna', 1.0, 2.0, 3.0)])
  edited(path, 'xl/media/image1.svg', lambda _: b'<!DOCTYPE svg><svg/>')
  assert list(point_table.read(path).points) == [('anna', '')]


@pytest.mark.parametrize(
  ('limit', 'value'),
  [('_MOST_BYTES', 999), ('_MOST_ROWS', 2)],
)
def test_workbooks_that_are_too_large(tmp_path, monkeypatch, limit, value):
  xlsx(tmp_path / 'points', [('anna', 1.0, 2.0, 3.0)])
  monkeypatch.setattr(workbook, limit, value)
  with says(InputError):
    point_table.read(tmp_path / 'points.xlsx')


def test_wrong_use(tmp_path):
  (tmp_path / 'in').mkdir()
  for layout in ('lupolab', 'valdo', 'points'):
    with says(NoInputError, str(tmp_path / 'in')):
      importers.import_cohort(
        tmp_path / 'in', tmp_path / 'out', ImportOptions(layout)
      )
  with says(NoInputError):
    importers.import_cohort(
      tmp_path / 'x', tmp_path / 'out', ImportOptions('valdo')
    )
  write_valdo(tmp_path / 'in')
  with says(InputError):
    importers.import_cohort(
      tmp_path / 'in', tmp_path / 'in' / 'out', ImportOptions('valdo')
    )
  with says(InputError, "'../'"):
    importers.import_cohort(
      tmp_path / 'in', tmp_path / 'out', ImportOptions('valdo', prefix='../')
    )
  small_cohorts.write_cohort(tmp_path / 'other')
  with says(InputError):
    importers.import_cohort(
      tmp_path / 'in', tmp_path / 'other', ImportOptions('valdo')
    )


def test_simulated_stays_simulated(tmp_path):
  small_cohorts.write_cohort(tmp_path / 'in', simulated=True)
  rows = [(f'sub-0{n}', *world(phantom(n))[0].tolist()) for n in (1, 2, 3)]
  write_table(tmp_path / 'in' / 'points.csv', rows)
  importers.import_cohort(
    tmp_path / 'in', tmp_path / 'out', ImportOptions('points')
  )
  assert cohort.read_cohort(tmp_path / 'out').simulated


def test_the_copy_has_the_voxels_and_says_where_it_is_from(tmp_path):
  made = write_flat(tmp_path / 'in')
  write_table(tmp_path / 'in' / 'points.csv', rows_of(made))
  importers.import_cohort(
    tmp_path / 'in', tmp_path / 'out', ImportOptions('points')
  )
  for name, one in made.items():
    found = volume.load(tmp_path / f'out/{name}/anat/{name}_swi.nii.gz')
    np.testing.assert_array_equal(found.array, one.swi)
  top = json.loads((tmp_path / 'out/dataset_description.json').read_text())
  assert top['GeneratedBy'][0]['Name'] == 'cmbjax import'
