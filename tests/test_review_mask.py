"""The reader's mask is on the grid of the file, voxel by voxel."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest

from cmbjax.imaging import volume
from cmbjax.review.log import geometry, reader_mask
from cmbjax.review.log.items import Candidate
from cmbjax.review.log.journal import Journal
from cmbjax.review.log.opening import new_header
from cmbjax.review.log.record import ReviewRecord
from tests import review_records as reviews
from tests.test_volume import ORDERS, affine_of


@pytest.fixture
def folder(tmp_path):
  return tmp_path / 'anna' / 'sub-01'


def accept(item=1, **more):
  return {'event': 'verdict', 'item': item, 'value': 'accept'} | more


def read_mask(paths):
  image = nib.load(paths[0])
  rows = [line.split('\t') for line in paths[1].read_text().splitlines()]
  table = [dict(zip(rows[0], row)) for row in rows[1:]]
  return image, np.asanyarray(image.dataobj), table


def test_an_addition_has_no_index_of_what_is_not_shown():
  header = reviews.header(3)
  (hidden,) = (row for row in header['items'] if row['index'] == 3)
  header['items'].remove(hidden)
  header['below'] = [hidden]
  state = ReviewRecord(header)
  added = state.apply({'event': 'add', 'ijk': [0, 0, 0]}).items[-1]
  assert reader_mask.indices(state)[added] == 4


def test_mask_and_table(folder):
  kept = Journal.open(folder, reviews.header(3, repeat=34, order='likelihood'))
  by_id = {
    item.id: item.number
    for item in kept.record.shown()
    if item.repeat_of is None
  }
  one, two, three = (by_id[f'lesion-{n:03d}'] for n in (1, 2, 3))
  kept.apply(accept(one, certainty='probable', ms=1500))
  kept.apply({'event': 'verdict', 'item': two, 'value': 'reject'})
  kept.apply({'event': 'verdict', 'item': three, 'value': 'unsure'})
  drawn = reviews.box((6, 6, 5), (7, 6, 5))
  added = kept.apply({'event': 'add', 'ijk': [6, 6, 5], 'set': drawn}).items[-1]
  text = 'a\ttab\n\0and\x85 <b>π</b>\u2028'
  kept.apply({'event': 'comment', 'item': added, 'value': text})
  kept.apply({'event': 'add', 'ijk': [0, 0, 0]})  # only a point
  paths = kept.save()
  assert [path.name for path in paths] == [
    'sub-01_rater-anna_dseg.nii.gz',
    'sub-01_rater-anna_dseg.tsv',
    'state.json',
  ]
  image, labels, table = read_mask(paths)
  assert labels.dtype == np.uint16
  assert image.header.get_slope_inter() == (None, None)
  np.testing.assert_allclose(image.affine, reviews.AFFINE)
  # In the file x runs to the left: shown (1..2) is (9..10) there.
  expected = np.zeros(reviews.SHAPE, int)
  expected[9:11, 1:3, 2:4] = 1
  expected[4:6, 6, 5] = 4
  np.testing.assert_array_equal(labels, expected)

  assert [row['index'] for row in table] == ['1', '2', '3', '4', '5']
  names = [row['name'] for row in table[:3]]
  assert names == ['lesion-001', 'lesion-002', 'lesion-003']
  verdicts = [row['verdict'] for row in table]
  assert verdicts == ['accept', 'reject', 'unsure', 'accept', 'accept']
  in_mask = [row['in_mask'] for row in table]
  assert in_mask == ['true', 'false', 'false', 'true', 'false']
  assert table[0]['seconds'] == '1.5'
  assert table[0]['volume_mm3'] == '4'
  assert table[3]['comment'] == 'a tab and <b>π</b>'
  assert table[3]['origin'] == 'reader_after_model'
  assert [table[3][axis] for axis in 'ijk'] == ['5', '6', '5']
  world = reviews.AFFINE @ [4.5, 6, 5, 1]
  place = [float(table[3][axis]) for axis in 'xyz']
  np.testing.assert_allclose(place, world[:3])
  kept.close()


@pytest.mark.parametrize('degrees', [0, 17])
def test_a_painted_voxel_is_that_voxel_in_the_mask(tmp_path, degrees):
  """All axis orders: painted where the page shows a value, found there."""
  for number, (order, flips) in enumerate(ORDERS):
    rng = np.random.default_rng(number)
    array = rng.permutation(120).reshape(4, 5, 6).astype(np.int16)
    affine = affine_of(order, flips, degrees)
    image = nib.Nifti1Image(array, None)
    image.header.set_sform(affine, 3)
    image.header.set_qform(affine, 0)
    path = tmp_path / f'{number}.nii'
    nib.save(nib.Nifti1Image(array, None, image.header), path)
    scan = volume.load(path)
    view = geometry.View.of(scan)
    header = new_header(
      [Candidate('lesion-001', 7, (0, 0, 0), np.zeros(0, int))],
      grid=json.loads(json.dumps(view.to_json())),
      rater='anna',
      case='sub-01',
      source=path.name,
      image_sha256='a',
    )
    state = ReviewRecord(header)
    sent = geometry.to_int16(scan.array).stored.ravel(order='F')
    wanted = [41, 77, 103]
    painted = np.flatnonzero(np.isin(sent, wanted))
    state.apply({'event': 'edit', 'item': 1, 'set': painted.tolist()})
    state.apply(accept())
    back = nib.Nifti1Image.from_bytes(reader_mask.image(state).to_bytes())
    labels = np.asanyarray(back.dataobj)
    assert sorted(array[labels == 7]) == wanted
    assert (labels > 0).sum() == 3
    assert back.header['sform_code'] == 3
    assert back.header['qform_code'] == 0
    np.testing.assert_array_equal(back.affine, nib.load(path).affine)
    middle = np.argwhere(labels == 7).mean(0)
    head, row = (
      line.split('\t') for line in reader_mask.table(state).splitlines()
    )
    place = [float(dict(zip(head, row))[axis]) for axis in 'xyz']
    np.testing.assert_allclose(
      place, affine[:3, :3] @ middle + affine[:3, 3], atol=1e-4
    )


def test_forms_without_code_stay_without(tmp_path):
  image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), None)
  image.header.set_zooms((0.5, 0.6, 2))
  nib.save(image, tmp_path / 'x.nii')
  scan = volume.load(tmp_path / 'x.nii')
  header = reviews.header(0, grid=geometry.View.of(scan).to_json())
  back = reader_mask.image(ReviewRecord(header))
  assert (back.header['qform_code'], back.header['sform_code']) == (0, 0)
  np.testing.assert_allclose(back.affine, nib.load(tmp_path / 'x.nii').affine)


@pytest.mark.parametrize('highest', [65_534, 65_535, 70_000])
def test_labels_too_high_for_16_bits(highest):
  header = reviews.header(2)
  header['items'][1]['index'] = highest
  state = ReviewRecord(header)
  state.apply(accept(2))
  mine = reviews.box((6, 6, 5), (6, 6, 5))
  state.apply({'event': 'add', 'ijk': [6, 6, 5], 'set': mine})
  back = nib.Nifti1Image.from_bytes(reader_mask.image(state).to_bytes())
  found, count = np.unique(np.asanyarray(back.dataobj), return_counts=True)
  assert found.tolist() == [0, highest, highest + 1]
  assert count.tolist()[1:] == [len(state.voxels(2)), 1]
  rows = reader_mask.table(state).splitlines()[1:]
  assert [int(row.split('\t')[0]) for row in rows] == [1, highest, highest + 1]


def test_the_same_review_gives_the_same_bytes(tmp_path):
  state = reviews.record(2)
  state.apply(accept())
  one = reader_mask.write(state, tmp_path / 'a')
  two = reader_mask.write(state, tmp_path / 'b')
  for first, second in zip(one, two):
    assert first.read_bytes() == second.read_bytes()
  assert gzip.decompress(one[0].read_bytes())[344:348] == b'n+1\0'


def test_close_writes_the_mask_of_a_completed_case_only(folder):
  kept = Journal.open(folder, reviews.header(1))
  kept.apply(accept())
  kept.close()
  assert not list(folder.glob('*.nii.gz'))
  kept = Journal.open(folder, reviews.header(1))
  kept.apply({'event': 'status', 'value': 'completed'})
  kept.close()
  assert len(list(folder.glob('*_dseg.nii.gz'))) == 1
