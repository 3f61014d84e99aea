"""The labelling rule by hand, and tables on disk."""

import numpy as np
import pytest

from cmbjax.candidates.detector import Gates
from cmbjax.data import cohort, tables
from cmbjax.data.truth import Truth
from tests import small_cohorts

SHAPE = (30, 30, 20)


def loaded(*, labels=None, points_mm=None, rejected=None, kind='labels'):
  lesions = np.unique(labels[labels > 0]) if labels is not None else None
  if points_mm is not None:
    kind, lesions = 'points', np.arange(1, len(points_mm) + 1)
    points_mm = np.array(points_mm, float).reshape(-1, 3)
  truth = Truth(
    kind,
    lesions.astype(np.int32),
    np.full(len(lesions), np.nan, np.float32),
    labels,
    points_mm,
    rejected,
  )
  affine = np.diag([1.0, 1.0, 2.0, 1.0])
  swi = np.full(SHAPE, 0.8, np.float32)
  return cohort.LoadedScan(swi, (1, 1, 2), affine, swi > 0, truth)


def lesion_of(centre, region, one):
  centres = np.array([centre], np.int32)
  (found,) = tables.lesion_of(centres, [np.array(region, np.int32)], one)
  return int(found)


@pytest.mark.parametrize(
  ('region', 'expected'),
  [
    ([[10, 10, 10]], 4),  # on it
    ([[12, 11, 11]], 4),  # a corner touches (26 neighbours)
    ([[13, 10, 10]], 0),  # a gap of one voxel
    ([[13, 10, 10], [20, 20, 10], [9, 9, 9]], 4),  # one voxel is enough
  ],
)
def test_a_region_that_touches_a_lesion_is_a_microbleed(region, expected):
  labels = np.zeros(SHAPE, np.int32)
  labels[10:12, 10, 10] = 4
  one = loaded(labels=labels)
  assert lesion_of([25, 25, 15], region, one) == expected


def test_contrast_is_that_of_the_2nd_percentile_to_the_median():
  swi = np.arange(101.0).reshape(101, 1, 1)
  facts = tables.image_facts(swi, (1, 1, 2), swi >= 0)
  assert facts == pytest.approx({'mask_ml': 0.202, 'contrast': 1 - 2 / 50})


def test_why_a_lesion_is_missed_is_said_of_its_best_candidate():
  reached, scores = np.array([3, 3, 0, 5]), np.array([0.9, 0.4, 0.3, 0.2])
  reasons = ['vessel', 'too small', 'low score', '']
  found = tables._why_missed(reached, reasons, scores)
  assert found == {3: ('vessel', 0.9)}


def test_centres_lie_between_voxels():
  labels = np.zeros(SHAPE, np.int32)
  labels[10:12, 4, 6:9] = 4
  labels[20, 20, 3:5] = 9
  found = loaded(labels=labels).truth.centres_mm(np.diag([1.0, 1, 2, 1]))
  assert found.tolist() == [[10.5, 4, 14], [20, 20, 7]]


def test_the_centre_counts_as_part_of_the_region():
  labels = np.zeros(SHAPE, np.int32)
  labels[10, 10, 10] = 1
  one = loaded(labels=labels)
  assert lesion_of([11, 10, 10], [[20, 20, 10]], one) == 1
  assert lesion_of([12, 10, 10], [[20, 20, 10]], one) == 0


def test_of_two_lesions_the_one_with_most_contacts():
  labels = np.zeros(SHAPE, np.int32)
  labels[5:8, 10, 10] = 1
  labels[12:14, 10, 10] = 2
  one = loaded(labels=labels)
  long = [[x, 10, 10] for x in range(6, 13)]
  assert lesion_of([9, 10, 10], long, one) == 1
  assert lesion_of([9, 10, 10], long[3:], one) == 2


def test_a_tie_goes_to_the_lower_number():
  labels = np.zeros(SHAPE, np.int32)
  labels[5, 10, 10], labels[9, 10, 10] = 7, 3
  one = loaded(labels=labels)
  region = [[6, 10, 10], [7, 10, 10], [8, 10, 10]]
  assert lesion_of([7, 10, 10], region, one) == 3


def test_regions_at_the_border_do_not_wrap_around():
  labels = np.zeros(SHAPE, np.int32)
  labels[-1] = 1
  one = loaded(labels=labels)
  assert lesion_of([0, 5, 5], [[0, 5, 5]], one) == 0


def test_points_reach_three_millimetres():
  region = [[5, 5, 5]]
  for away, expected in ((2.9, 1), (3.0, 1), (3.1, 0)):
    one = loaded(points_mm=[[10 + away, 10, 20]])
    assert lesion_of([10, 10, 10], region, one) == expected
  one = loaded(points_mm=[[10, 10, 24]])  # 2 voxels, but 4 mm
  assert lesion_of([10, 10, 10], region, one) == 0


def test_a_point_inside_the_region_counts_at_any_distance():
  one = loaded(points_mm=[[15, 10, 20]])
  region = [[x, 10, 10] for x in range(8, 16)]
  assert lesion_of([10, 10, 10], region, one) == 1


def test_of_two_points_the_nearest():
  one = loaded(points_mm=[[12, 10, 20], [9, 10, 20]])
  assert lesion_of([10, 10, 10], [[10, 10, 10]], one) == 2


def test_no_candidates_and_no_lesions():
  empty = loaded(labels=np.zeros(SHAPE, np.int32))
  assert tables.lesion_of(np.zeros((0, 3), int), [], empty).shape == (0,)
  assert lesion_of([3, 3, 3], [[3, 3, 3]], empty) == 0
  assert lesion_of([3, 3, 3], [[3, 3, 3]], loaded(points_mm=[])) == 0


def test_a_finished_review_gives_its_components():
  accepted, rejected = np.zeros((2, *SHAPE), np.int32)
  accepted[4:7, 5, 5] = 1
  accepted[20, 20, 10:13] = 2
  rejected[10:12, 3:5, 8] = 1
  one = loaded(labels=accepted, rejected=rejected, kind='candidates')
  one.swi[accepted == 2] = 0.1
  one.swi[rejected == 1] = 0.5
  table = tables.make_table(_scan(), one, gates=Gates())
  assert table.centre.tolist() == [[20, 20, 11], [10, 4, 8], [5, 5, 5]]
  np.testing.assert_allclose(table.score, [0.9, 0.5, 0.2], atol=1e-6)
  assert table.lesion.tolist() == [2, 0, 1]
  assert table.label.tolist() == [1, 0, 1]
  assert table.facts['num_lesions'] == 2
  assert table.facts['missed'] == []


def test_missed_lesions_are_listed_with_size_and_reason(tmp_path):
  """One lesion is invisible, one is stopped by a gate, one is found."""
  made = small_cohorts.write_cohort(tmp_path, subjects=1, num_mimics=0)
  one = made['sub-01']
  lesions = one.lesions.copy()
  lesions[30:32, 30:32, 8] = 9  # nothing dark is there
  path = small_cohorts.label_path(tmp_path, 'sub-01')
  small_cohorts.save(path, lesions, one.affine)
  (scan,) = cohort.read_cohort(tmp_path).scans
  inside = cohort.load_scan(scan)
  (hidden,) = _missed(scan, inside, Gates()).values()
  picture = tables.image_of(hidden.pop('patch'))
  assert hidden == {
    'lesion': 9,
    'diameter_mm': pytest.approx((6 / np.pi * 2) ** (1 / 3), abs=1e-3),
    'why': 'never proposed',
    'score': None,
  }
  around = inside.swi[31 - 8 : 31 + 8, 31 - 8 : 31 + 8, 8 - 4 : 8 + 4]
  shifted = inside.swi[30 - 8 : 30 + 8, 30 - 8 : 30 + 8, 8 - 4 : 8 + 4]
  assert any(
    np.allclose(picture, one, atol=0.5 / 255 + 1e-6)
    for one in (around, shifted)  # the centre lies between two voxels
  )
  strict = _missed(scan, inside, Gates(max_diameter_mm=1.1, min_contrast=0.1))
  assert sorted(strict) == [1, 2, 3, 9]
  assert all(row['score'] > 0 for n, row in strict.items() if n < 9)
  assert {row['why'] for n, row in strict.items() if n < 9} == {
    next(reason for reason in _reasons(scan, inside) if reason)
  }


def test_tables_survive_the_disk_and_damage_is_noticed(tmp_path):
  facts = {'scan': 'a', 'missed': [{'lesion': 1, 'diameter_mm': None}]}
  table = tables.CandidateTable(
    np.array([[1, 2, 3]], np.int32),
    np.array([0.5], np.float32),
    np.array([4], np.int32),
    facts,
  )
  path = tmp_path / 'deep' / 'a.npz'
  tables.save_table(path, table)
  again = tables.load_table(path)
  for left, right in zip(again[:3], table[:3]):
    np.testing.assert_array_equal(left, right)
    assert left.dtype == right.dtype
  assert again.facts == facts
  path.write_bytes(path.read_bytes()[:-40])
  assert tables.load_table(path) is None
  assert tables.load_table(tmp_path / 'none.npz') is None


def _missed(scan, inside, gates):
  table = tables.make_table(scan, inside, gates=gates)
  found = set(table.lesion.tolist()) - {0}
  missed = {row['lesion']: row for row in table.facts['missed']}
  assert len(found) + len(missed) == table.facts['num_lesions']
  assert not found & set(missed)
  return missed


def _reasons(scan, inside):
  strict = Gates(max_diameter_mm=1.1, min_contrast=0.1)
  return tables.make_table(scan, inside, gates=strict).facts['dropped']


def _scan():
  """A scan of which only names are asked."""
  from cmbjax.intake.scan_files import ScanFiles

  files = ScanFiles('sub-1', None, 'sub-1', None, (), (), None, {})
  return cohort.Scan('sub-1', 'sub-1', files, None)
