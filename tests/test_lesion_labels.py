"""Label images of people to lesions: by value, by part, or refused."""

import json

import numpy as np
import pytest
from scipy import ndimage

from cmbjax import cli
from cmbjax.data import cohort, lesion_labels
from cmbjax.errors import InputError
from cmbjax.imaging import volume
from tests import small_cohorts
from tests.messages import says

ONE = small_cohorts.phantom(
  5, num_lesions=12, num_mimics=0, shape=(96, 96, 24), spacing_mm=(0.7, 0.7, 2)
)
COUNT = 12
MASK = ONE.lesions > 0
NAME = 'sub-01_seg-cmb_dseg'


def lesions_of(tmp_path, array, name=NAME, *, table='', judged=False, **fields):
  path = tmp_path / f'{name}.nii.gz'
  array = np.asarray(array)
  if array.dtype == np.int64:  # nibabel wants a smaller one
    array = array.astype(np.int32)
  small_cohorts.save(path, array, ONE.affine)
  if table:
    path.with_name(f'{name}.tsv').write_text(table)
  if fields:
    path.with_name(f'{name}.json').write_text(json.dumps(fields))
  image = small_cohorts.save(tmp_path / 'swi.nii.gz', ONE.swi, ONE.affine)
  return lesion_labels.read(path, volume.load(image), judged=judged)


def classes(*counts):
  """Values 1, 2, ... of so many lesions each."""
  value = np.repeat(np.arange(1, len(counts) + 1), counts)
  return np.concatenate([[0], value])[ONE.lesions].astype(np.uint8)


def of_values(array, values):
  """Number of lesions of the phantom that these values hold."""
  return len(np.unique(ONE.lesions[np.isin(array, values)]))


def lut(*names):
  rows = [f'{n}\t{name}' for n, name in enumerate(names, 1)]
  return '\n'.join(['index\tname', *rows, ''])


@pytest.mark.parametrize(
  ('array', 'table', 'name'),
  [
    (classes(12), '', NAME),
    (classes(12), lut('microbleed'), NAME),
    (classes(8, 4), '', NAME),
    (classes(8, 4), lut('definite', 'possible'), NAME),
    (classes(11, 1), '', NAME),
    (classes(4, 4, 4), '', NAME),
    (classes(5, 5, 1, 1), lut('lobar', 'deep', 'CMB other', 'MB'), NAME),
    (classes(2, 1, 3, 1, 2, 1, 2), lut(*['cerebellar CMB'] * 7), NAME),
    (classes(12) * 255, '', 'sub-01_label-CMB_mask'),
    (classes(8, 4), '', 'sub-01_label-CMB_mask'),
    (classes(8, 4), '', 'anna_label'),
    (MASK * 7.0, '', 'anna_seg'),
  ],
)
def test_classes_are_counted_by_part(tmp_path, array, table, name):
  found = lesions_of(tmp_path, array, name, table=table)
  assert found.counted_by == lesion_labels.COMPONENT
  assert found.numbers.tolist() == list(range(1, COUNT + 1))
  assert 'each connected part is one lesion' in found.said[0]
  pairs = {(a, b) for a, b in zip(found.labels.flat, ONE.lesions.flat)}
  assert len(pairs) == COUNT + 1  # background, and lesions one to one


@pytest.mark.parametrize(
  'table',
  [
    '',
    'index\tname\tx\ty\tz\n1\tcmb-001\t0\t0\t0\n',
    lut(*(f'cmb-{n:03d}' for n in range(1, 13))),
    lut(*['microbleed'] * 12),
    'index;name;diameter_mm\n1;a;2,5\n',
  ],
)
@pytest.mark.parametrize('name', [NAME, 'sub-01_label-CMB_mask', 'anna_cmbs'])
def test_numbered_lesions_are_counted_by_value(tmp_path, table, name):
  array = ONE.lesions.astype(np.int16) * 3
  if table.startswith('index\tname\n'):
    names = [line.split('\t')[1] for line in table.splitlines()[1:]]
    rows = [f'{3 * n}\t{name}' for n, name in enumerate(names, 1)]
    table = '\n'.join(['index\tname', *rows])
  found = lesions_of(tmp_path, array, name, table=table)
  assert found.counted_by == lesion_labels.VALUE
  np.testing.assert_array_equal(found.labels, array)
  assert 'each value is one lesion' in found.said[0]


def test_a_place_in_the_table_keeps_parts_together(tmp_path):
  """As `detect`, `simulate` and `review export` write their lesions."""
  array = classes(8, 4)
  table = 'index\tname\tx\ty\tz\n1\ta\t0\t0\t0\n2\tb\t0\t0\t0\n'
  found = lesions_of(tmp_path, array, table=table)
  assert found.numbers.tolist() == [1, 2]
  assert found.ours


def test_fragments_of_a_lesion_are_near(tmp_path):
  array = ONE.lesions.copy()
  array[ONE.lesion_voxels[0][0]] = 0  # cut in two, a voxel apart
  assert ndimage.label(array == 1, np.ones((3, 3, 3)))[1] == 2
  found = lesions_of(tmp_path, array)
  assert found.counted_by == lesion_labels.VALUE
  assert len(found.numbers) == COUNT


def test_lesions_of_two_classes_that_touch_are_two(tmp_path):
  array = classes(6, 6)
  i = ONE.lesion_voxels[0][0]
  half = (ONE.lesions == 1) & (np.arange(96)[:, None, None] < i)
  found = lesions_of(tmp_path, np.where(half, 2, array))
  assert len(found.numbers) == COUNT + 1
  assert len(found.said) == 1


def test_core_and_rim_are_one(tmp_path):
  core = np.zeros_like(MASK)
  core[tuple(ONE.lesion_voxels.T)] = True
  found = lesions_of(tmp_path, MASK.astype(int) + core)
  assert len(found.numbers) == COUNT
  assert 'touch' in found.said[1]


@pytest.mark.parametrize(
  ('fields', 'count'),
  [
    ({'LabelValues': 'lesions'}, 3),
    ({'LabelValues': 'classes'}, 12),
    ({'MicrobleedValues': [1, 3]}, 8),
    ({'MicrobleedValues': [2]}, 4),
  ],
)
@pytest.mark.parametrize('whole', [True, False])
def test_the_json_decides(tmp_path, fields, count, whole):
  """The one beside, or that of the data set."""
  if whole:
    path = tmp_path / 'dataset_description.json'
    path.write_text(json.dumps(fields))
    fields = {}
  found = lesions_of(tmp_path, classes(4, 4, 4), **fields)
  assert len(found.numbers) == count
  assert 'JSON' in ' '.join(found.said)


@pytest.mark.parametrize(
  'names',
  [
    ('microbleed', 'mimic', 'definite CMB'),
    ('CMB', 'vein', 'mb'),
    ('possible microhaemorrhage', 'not a microbleed', 'microbleeds'),
    ('cerebral micro-bleed', 'false positive', 'CMBs'),
  ],
)
def test_what_is_called_something_else_is_left_out(tmp_path, names):
  found = lesions_of(tmp_path, classes(4, 5, 3), table=lut(*names))
  assert len(found.numbers) == 7
  assert f'2 ({names[1]})' in found.said[1]


@pytest.mark.parametrize(
  'labels',
  [
    {'background': 0, 'CMB': 1, 'calcification': 2},
    {'0': 'background', '1': 'CMB', '2': 'calcification'},
  ],
)
def test_names_of_nnu_net(tmp_path, labels):
  (tmp_path / 'labelsTr').mkdir()
  (tmp_path / 'dataset.json').write_text(json.dumps({'labels': labels}))
  found = lesions_of(tmp_path / 'labelsTr', classes(7, 5), 'cmb_001')
  assert len(found.numbers) == 7


def smooth():
  """1 inside, less at the rim: no voxel of 0.5 and more is outside."""
  blurred = ndimage.gaussian_filter(MASK.astype(np.float32), 0.8)
  return np.where(MASK, np.maximum(blurred, 0.6), np.minimum(blurred, 0.4))


def distance():
  """mm to the rim, positive inside."""
  spacing = (0.7, 0.7, 2)
  inside = ndimage.distance_transform_edt(MASK, spacing)
  return inside - ndimage.distance_transform_edt(~MASK, spacing)


@pytest.mark.parametrize(
  ('array', 'words'),
  [
    (smooth(), 'probabilities (0 to 1)'),
    (smooth() * 100 / smooth().max(), 'probabilities (0 to 100)'),
    (np.rint(smooth() * 255 / smooth().max()).astype(np.uint8), '(0 to 255)'),
    (np.rint(smooth() * 100 / smooth().max()).astype(np.uint8), '(0 to 100)'),
    (MASK * 1.04 - 0.03, 'probabilities (0 to 1)'),  # splines
    (np.where(MASK, smooth(), np.nan), 'probabilities (0 to 1)'),
    (distance(), 'above 0'),
    (-distance(), 'below 0'),
  ],
)
@pytest.mark.parametrize('name', [NAME, 'anna_mask'])
def test_maps_become_masks_in_one_way(tmp_path, array, words, name):
  found = lesions_of(tmp_path, array.astype(array.dtype), name)
  np.testing.assert_array_equal(found.labels > 0, MASK)
  assert len(found.numbers) == COUNT
  assert words in found.said[1]


@pytest.mark.parametrize(
  ('array', 'values'),
  [
    (smooth() * 0.99 / smooth().max() * 120, 'percent'),
    (smooth() * 254.5, '0-255'),
    (np.rint(distance() * 9), 'distance, positive inside'),
    (np.rint(-distance() * 9), 'distance, negative inside'),
  ],
)
def test_the_json_says_what_a_map_is(tmp_path, array, values):
  with says(InputError, f'{NAME}.nii.gz {values}'):
    lesions_of(tmp_path, array)
  found = lesions_of(tmp_path, array, LabelValues=values)
  assert len(found.numbers) == COUNT


def brain_with(value):
  return np.where(MASK, value, ONE.brain.astype(int))


def large(count):
  """So many balls of 12 mm, and the microbleeds."""
  grid = np.stack(np.indices(MASK.shape), -1)
  array = MASK.copy()
  for place in ((20, 20, 6), (70, 70, 6), (20, 70, 18), (70, 20, 18))[:count]:
    away = (grid - place) * (0.7, 0.7, 2)
    array |= np.linalg.norm(away, axis=-1) < 6
  return array


@pytest.mark.parametrize(
  ('array', 'name', 'table', 'named'),
  [
    (~MASK, 'sub-01_label-CMB_mask', '', 'MicrobleedValues'),
    (ONE.brain, NAME, '', 'MicrobleedValues'),
    (ONE.brain & ~MASK, NAME, '', 'MicrobleedValues'),
    (brain_with(2), NAME, '', 'MicrobleedValues'),
    (large(4), NAME, '', 'LesionType'),  # white matter lesions
    (MASK, 'sub-01_label-lesion_mask', '', 'LesionType'),
    (MASK, 'sub-01_label-L_mask', '', 'LesionType'),
    (MASK, 'anna_WMH', '', 'LesionType'),
    (MASK, 'anna_stroke_seg', '', 'LesionType'),
    (classes(12), NAME, lut('WMH'), 'MicrobleedValues'),
    (classes(6, 6), NAME, lut('CMB', 'green'), 'MicrobleedValues'),
    (classes(6, 6), NAME, lut('CMB'), 'MicrobleedValues'),
    (classes(12), NAME, lut('Segment'), 'LabelValues'),
    (classes(12), NAME, 'index\tdiameter_mm\n1\t6.9\n', 'LabelValues'),
    (classes(2, *[1] * 10), NAME, '', 'LabelValues'),
    (smooth() * 0.3, NAME, '', '0.5'),
    (smooth() * 30, NAME, '', 'LabelValues'),
    (np.rint(smooth() * 80).astype(int), NAME, '', 'LabelValues'),
    (ONE.swi - 100.5, NAME, '', 'LabelValues'),
  ],
)
def test_what_may_not_be_microbleeds_is_refused(
  tmp_path, array, name, table, named
):
  with says(InputError, f'{name}.nii.gz {named}'):
    lesions_of(tmp_path, array, name, table=table)


@pytest.mark.parametrize(
  ('array', 'name', 'fields', 'count'),
  [
    (~MASK, NAME, {'MicrobleedValues': [0]}, 12),
    (brain_with(2), NAME, {'MicrobleedValues': [2]}, 12),
    (large(3), NAME, {'LesionType': 'microbleeds'}, None),
    (MASK, 'sub-01_label-lesion_mask', {'LesionType': 'microbleeds'}, 12),
    (MASK, 'anna_WMH', {'LesionType': 'microbleeds'}, 12),
    (classes(2, *[1] * 10), NAME, {'LabelValues': 'classes'}, 12),
    (classes(2, *[1] * 10), NAME, {'LabelValues': 'lesions'}, 11),
  ],
)
def test_the_word_that_accepts_it(tmp_path, array, name, fields, count):
  found = lesions_of(tmp_path, array, name, **fields)
  if count is not None:
    assert len(found.numbers) == count


@pytest.mark.parametrize(
  'fields',
  [
    {'LabelValues': 'both'},
    {'MicrobleedValues': []},
    {'MicrobleedValues': ['1']},
    {'LesionType': 'WMH'},
  ],
)
def test_words_that_are_not_known(tmp_path, fields):
  with says(InputError, f'{NAME}.nii.gz {next(iter(fields))}'):
    lesions_of(tmp_path, MASK, **fields)


def test_one_large_bleed_among_many_is_no_reason(tmp_path):
  assert len(lesions_of(tmp_path, large(1)).numbers) > 5


def test_a_person_who_looks_is_told_instead(tmp_path):
  name = 'sub-01_label-lesion_mask'
  found = lesions_of(tmp_path, MASK, name, judged=True)
  assert len(found.numbers) == COUNT
  assert 'name' in found.said[1]


# The commands say it.


def write(root, array, *, ending='seg-cmb_dseg', table=''):
  small_cohorts.write_scan(root, 'sub-01', ONE)
  path = small_cohorts.label_path(root, 'sub-01', ending=f'{ending}.nii.gz')
  small_cohorts.save(path, array, ONE.affine)
  if table:
    path.with_name(path.name.replace('.nii.gz', '.tsv')).write_text(table)
  return root


def test_a_cohort_is_counted_so(tmp_path):
  root = write(tmp_path, classes(8, 4), table=lut('definite', 'possible'))
  (scan,) = cohort.read_cohort(root).scans
  truth = cohort.load_scan(scan).truth
  assert truth.lesions.tolist() == list(range(1, COUNT + 1))
  assert truth.counted_by == lesion_labels.COMPONENT
  mark = cohort.scan_fingerprint(scan)
  scan.truth.path.with_name(f'{NAME}.json').write_text(
    '{"LabelValues": "lesions"}'
  )
  assert cohort.scan_fingerprint(scan) != mark
  assert len(cohort.load_scan(scan).truth.lesions) == 2


def test_build_prints_how_lesions_are_counted(tmp_path, capsys):
  root = write(tmp_path / 'in', classes(12), table=lut('microbleed'))
  words = ['build', 'own', f'--manual_dir={root}', f'--data_dir={tmp_path}/d']
  for _ in range(2):  # built, then found
    assert cli.main(words) == 0
    said = capsys.readouterr().err
    assert 'truth of 1 of 1 scans (sub-01): each connected part' in said


def test_sentences_of_many_scans_are_put_together():
  of = {f'sub-{n}': ('a',) if n else ('a', 'b') for n in range(5)}
  assert lesion_labels.together(of) == [
    'truth of 5 of 5 scans (sub-0, sub-1, sub-2, ...): a.',
    'truth of 1 of 5 scans (sub-0): b.',
  ]
