"""Scans matched by both rules, to pooled and per-subject scores by hand."""

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.evaluation import breakdown, detections, intervals
from tests.evaluation_data import check_interval
from tests.messages import says

SPACING_MM = (1.0, 1.0, 2.0)


def image(*spots, shape=(20, 20, 10)):
  out = np.zeros(shape, np.int32)
  for label, places in enumerate(spots, 1):
    for place in places:
      out[place] = label
  return out


def scan(name, detected, truth, *, subject=None, sizes=None, regions=None):
  lesion = np.unique(truth[truth > 0])
  found = np.unique(detected[detected > 0])
  return detections.ScoredScan(
    name=name,
    subject=subject or name,
    matched=detections.match(detected, truth, SPACING_MM),
    lesion=lesion,
    diameter_mm=np.array(sizes or [2.5] * len(lesion), float),
    region=np.array(regions or [''] * len(lesion), str),
    num_found=len(found),
  )


A, B, C = [(2, 2, 2)], [(10, 10, 5)], [(17, 3, 8)]
NEAR_A = [(4, 2, 2)]  # 2 mm off: VALDO hits, touch does not


@pytest.fixture
def three():
  """Hit and false; near only; a scan without lesions and detections."""
  return [
    scan('s1', image(A, C), image(A, B), sizes=[1.5, 2.0]),
    scan('s2', image(NEAR_A), image(A), sizes=[12.0], regions=['insula']),
    scan('s3', image(), image()),
  ]


def test_pooled_scores_by_hand(three):
  touch = detections.evaluate(three, 'touch')
  assert (touch.num_objects, touch.num_hit, touch.num_false) == (3, 1, 2)
  assert touch.num_detections == 3
  values = {name: one.value for name, one in touch.pooled.items()}
  assert values == pytest.approx(
    {
      'sensitivity': 1 / 3,
      'precision': 1 / 3,
      'f1': 1 / 3,
      'fp_per_scan': 2 / 3,
    }
  )
  valdo = detections.evaluate(three, 'valdo')
  values = {name: one.value for name, one in valdo.pooled.items()}
  assert values == pytest.approx(
    {
      'sensitivity': 2 / 3,
      'precision': 2 / 3,
      'f1': 2 / 3,
      'fp_per_scan': 1 / 3,
    }
  )


def test_mean_over_subjects_leaves_out_the_undefined(three):
  valdo = detections.evaluate(three, 'valdo')
  f1, count = valdo.per_subject['f1']
  assert count == 2  # s3 has neither lesions nor detections
  assert f1.value == pytest.approx((0.5 + 1) / 2)
  assert intervals.missing(f1) == 'n/a (2 subjects)'
  more = [scan(f's{n}', image(A, C), image(A, B)) for n in range(4, 7)]
  f1, count = detections.evaluate(three + more, 'valdo').per_subject['f1']
  assert count == 5
  assert 0 <= f1.low <= f1.value <= f1.high <= 1


def test_a_scan_without_lesions_has_no_f1(three):
  """As in the challenge: neither 0 with a false detection nor 1 without."""
  before = detections.evaluate(three, 'valdo')
  three[2] = scan('s3', image(A, B, C), image())
  after = detections.evaluate(three, 'valdo')
  assert after.per_subject['f1'] == before.per_subject['f1']
  assert after.per_scan['f1'] == before.per_scan['f1']
  # It is seen in the counts, and in all that is pooled: 1 + 3 false of 3 + 3.
  assert before.per_scan['count_difference'][0].value == 0
  assert after.pooled['precision'].value == pytest.approx(2 / 6)
  clean = detections.evaluate([three[2]], 'valdo')
  assert clean.per_subject['f1'][0].note == 'no lesions'
  assert clean.per_scan['f1'] == ((None, None, None, 'no scan has lesions'), 0)
  assert clean.per_scan['count_difference'][0].value == 3


def test_median_and_quartiles_of_scans_by_hand():
  """F1 1, 1/2, 1/2, 0 and none; counts 0, 0, 0, 1 and 3 apart."""
  half = image(A, C), image(A, B)
  scans = [
    scan('s1', image(A), image(A)),
    scan('s2', *half),
    scan('s3', *half),
    scan('s4', image(), image(B)),
    scan('s5', image(A, B, C), image()),
  ]
  for rule in detections.RULES:
    found = detections.evaluate(scans, rule).per_scan
    f1, count = found['f1']
    assert (f1[:3], count) == ((0.5, 0.375, 0.625), 4)
    assert f1.note == 'quartiles of the scans'
    assert found['count_difference'][0][:3] == (0, 0, 1)
    assert found['count_difference'][1] == 5
  few = detections.evaluate(scans[:2], 'valdo').per_scan['f1'][0]
  assert few[:3] == (0.75, None, None)
  assert intervals.missing(few) == 'n/a (2 scans)'


def test_valdo_counts_two_at_the_same_distance_and_touch_a_lesion_once():
  truth = image(A, B)
  tied = image([(1, 2, 2)], [(3, 2, 2)])
  valdo = detections.evaluate([scan('s', tied, truth)], 'valdo')
  assert (valdo.num_hit, valdo.num_false) == (1, 0)
  assert valdo.pooled['f1'].value == pytest.approx(2 * 2 / (2 * 2 + 1))
  assert valdo.pooled['sensitivity'].value == 0.5
  # Two outlines on one large lesion.
  large = image([(x, 2, 2) for x in range(5)], B)
  touch = detections.evaluate([scan('s', tied, large)], 'touch')
  assert touch.pooled['f1'].value == pytest.approx(2 / (2 + 1))


def test_scans_of_one_subject_are_one_unit():
  scans = [
    scan('a_ses-1', image(A), image(A), subject='a'),
    scan('a_ses-2', image(), image(A), subject='a'),
    scan('b', image(A), image(A)),
  ]
  found = detections.evaluate(scans, 'touch')
  assert found.per_subject['sensitivity'][0].value == pytest.approx(0.75)
  assert found.pooled['sensitivity'].value == pytest.approx(2 / 3)


def test_parts_hold_every_lesion_in_order(three):
  parts = detections.evaluate(three, 'touch').parts
  assert {name: n for name, (_, n) in parts['size'].items()} == {
    'below 2 mm': 1,
    '2 to 3 mm': 1,
    '10 mm and more': 1,
  }
  assert parts['size']['below 2 mm'][0].value == 1
  assert list(parts['region']) == ['insula', 'unknown']


def test_counts_per_scan(three):
  found = detections.counts(three)
  assert found.counts[0].tolist() == [2, 1, 0]
  assert found.counts[1].tolist() == [2, 1, 0]
  assert found.icc.value == 1.0
  assert found.kappa.value == 1.0
  assert found.same_grade.value == 1.0
  assert found.grades[0, 0] == 1
  assert found.grades[1, 1] == 2


def test_valdo_joins_labels_that_touch_and_splits_those_in_parts():
  """One component of two labels; one label in two components."""
  truth = image([(5, 5, 5), (6, 5, 5)], [(7, 5, 5)], [(1, 1, 1), (1, 1, 9)])
  found = detections.match(image(), truth, SPACING_MM)
  assert sorted(found['valdo'].lesion) == [1, 3, 3]
  assert found['touch'].lesion.tolist() == [1, 2, 3]
  assert not found['valdo'].hit.any()


def test_one_subject_and_no_scan():
  one = [scan('s1', image(A), image(A))]
  found = detections.evaluate(one, 'touch')
  assert found.pooled['precision'].value == 1
  assert found.per_subject['f1'][0].low is None
  with says(InputError):
    detections.evaluate([], 'touch')


@pytest.mark.parametrize('seed', range(6))
def test_any_scans_give_ordered_numbers_or_a_reason(seed):
  rng = np.random.default_rng(seed)

  def random():
    count = int(rng.integers(0, 4))
    return image(
      *[[tuple(rng.integers(0, (20, 20, 10)))] for _ in range(count)]
    )

  scans = [scan(f's{n}', random(), random()) for n in range(rng.integers(1, 6))]
  for rule in detections.RULES:
    found = detections.evaluate(scans, rule)
    numbers = [*found.pooled.values()]
    numbers += [value for value, _ in found.per_subject.values()]
    for one in numbers:
      check_interval(one, rule)
    assert sum(n for _, n in found.parts.get('size', {}).values()) in (
      0,
      found.num_objects,
    )


def test_size_classes_start_at_their_lower_end():
  sizes = breakdown.size_of(np.array([0.1, 2.0, 2.99, 3.0, 5.0, 10.0, np.nan]))
  assert sizes.tolist() == [
    'below 2 mm',
    '2 to 3 mm',
    '2 to 3 mm',
    '3 to 5 mm',
    '5 to 10 mm',
    '10 mm and more',
    'unknown',
  ]


def test_nothing_known_leaves_the_heading_out():
  nan, text = np.full(3, np.nan), np.array(['', '', ''])
  who = np.array(['a', 'a', 'b'])
  assert breakdown.sensitivities(nan, text, who, np.ones(3)) == {}
