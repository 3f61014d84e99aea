"""A scan like those trained on is silent; every other says in what."""

import types

import numpy as np
import pytest

from cmbjax.data import tables
from cmbjax.detect import domain

SCANS = types.SimpleNamespace(
  spacing_mm=np.array([[0.5, 0.5, 2.0]] * 3),
  field_t=np.array([3.0, 3.0, np.nan]),
  echo_time_s=np.array([0.02, 0.028, np.nan]),
  contrast=np.array([0.5, 0.55, 0.6]),
  mask_ml=np.array([1200.0, 1400.0, 1500.0]),
  num_candidates=np.array([120, 100, 150]),
)
USUAL = {
  'spacing_mm': (0.5, 0.5, 2.0),
  'field_t': 3.0,
  'echo_time_s': 0.024,
  'contrast': 0.52,
  'mask_ml': 1300.0,
  'candidates_per_litre': 90.0,
}


def test_ranges_by_hand():
  found = domain.ranges(SCANS)
  assert found['spacing_mm'] == [[0.5, 0.5], [0.5, 0.5], [2.0, 2.0]]
  assert found['field_t'] == [3.0]
  assert found['echo_time_s'] == [0.02, 0.028]
  assert found['candidates_per_litre'] == [
    pytest.approx(100 / 1.4, abs=1e-4),
    100.0,
  ]
  assert found['scans'] == 3


def test_a_fact_that_no_scan_has_is_left_out():
  scans = types.SimpleNamespace(**vars(SCANS))
  scans.echo_time_s = np.full(3, np.nan)
  scans.field_t = np.full(3, np.nan)
  found = domain.ranges(scans)
  assert 'echo_time_s' not in found
  assert found['field_t'] == []
  assert domain.warnings(USUAL | {'field_t': 7.0}, found) == ()


def test_patches_without_a_brain_say_nothing_of_brains():
  scans = types.SimpleNamespace(**vars(SCANS))
  scans.mask_ml = np.zeros(3)
  found = domain.ranges(scans)
  assert 'mask_ml' not in found
  assert 'candidates_per_litre' not in found
  assert domain.warnings(USUAL | {'candidates_per_litre': 1e4}, found) == ()


def test_facts_of_an_image_by_hand():
  """Half of 100 voxels of 1 ml are brain: 10 dark ones, the rest bright."""
  swi = np.full((10, 10, 1), 0.8, np.float32)
  swi[0] = 0.2
  mask = np.zeros((10, 10, 1), bool)
  mask[:5] = True
  facts = tables.image_facts(swi, (10.0, 10.0, 10.0), mask)
  assert facts['mask_ml'] == pytest.approx(50)
  assert facts['contrast'] == pytest.approx(1 - 0.2 / 0.8)
  assert tables.image_facts(swi, (1.0, 1.0, 1.0), mask & False) == {
    'mask_ml': 0.0,
    'contrast': 0.0,
  }


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'spacing_mm': (1.0, 1.0, 1.5)}, 'voxels of 1 x 1 x 1.5'),
    ({'field_t': 7.0}, 'the field of 7 T'),
    ({'field_t': None}, 'field strength is not known'),
    ({'echo_time_s': 0.005}, 'echo time of 5 ms'),
    ({'contrast': 0.1}, 'stand out less'),
    ({'contrast': 0.95}, 'stand out more'),
    ({'mask_ml': 200.0}, 'mask is small'),
    ({'mask_ml': 4000.0}, 'mask is large'),
    ({'candidates_per_litre': 5.0}, 'few candidates'),
    ({'candidates_per_litre': 900.0}, 'many candidates'),
  ],
)
def test_each_fact_has_its_sentence(change, words):
  known = domain.ranges(SCANS)
  assert domain.warnings(USUAL, known) == ()
  (text,) = domain.warnings(USUAL | change, known)
  assert words in text


@pytest.mark.parametrize(
  ('name', 'within', 'beyond'),
  [
    ('echo_time_s', (0.0155, 0.0363), (0.0153, 0.0365)),  # 0.02, 0.028; 1.3
    ('field_t', (2.75, 3.28), (2.7, 3.32)),  # 3; 1.1
    ('contrast', (0.36, 0.74), (0.34, 0.76)),  # 0.5, 0.6; 0.15
    ('mask_ml', (605, 2195), (595, 2205)),  # half of 1200; 2200
    ('candidates_per_litre', (29, 249), (28, 251)),  # 71, 100; 2.5
  ],
)
def test_how_far_from_the_training_is_still_alike(name, within, beyond):
  known = domain.ranges(SCANS)
  for value in within:
    assert domain.warnings(USUAL | {name: value}, known) == ()
  for value in beyond:
    assert len(domain.warnings(USUAL | {name: value}, known)) == 1


def test_without_a_domain_only_brains_are_checked():
  assert domain.warnings(USUAL | {'field_t': None}, {}) == ()
  (text,) = domain.warnings(USUAL | {'mask_ml': 8.0}, {})
  assert '8 ml' in text


def table_of(likelihood, score):
  count = len(score)
  return {
    'candidate': np.arange(1, count + 1),
    'x_mm': np.arange(count) * 1.0,
    'y_mm': np.zeros(count),
    'z_mm': np.zeros(count),
    'score': np.asarray(score, float),
    'status': np.full(count, 'rejected'),
    'reason': np.array(
      ['vessel' if np.isnan(v) else 'likelihood' for v in likelihood]
    ),
    'likelihood': np.asarray(likelihood, float),
  }


def test_the_nearest_misses_come_first():
  nan = np.nan
  rows = domain.top_rejected(
    table_of([nan, 0.05, nan, 0.09], [9, 1, 5, 2]), limit=3
  )
  assert [r['id'] for r in rows] == [
    'candidate-0004',
    'candidate-0002',
    'candidate-0001',
  ]
  assert [r['likelihood'] for r in rows] == [0.09, 0.05, None]
  assert rows[2]['reason'] == 'vessel'


def test_found_ones_are_never_listed_as_rejected():
  some = table_of([0.9, 0.05], [1, 1])
  some['status'][0] = 'possible'
  assert [r['id'] for r in domain.top_rejected(some)] == ['candidate-0002']


def test_one_kind_fills_the_places_of_the_other():
  rows = domain.top_rejected(table_of([0.1] * 6, range(6)), limit=4)
  assert len(rows) == 4
  rows = domain.top_rejected(table_of([np.nan] * 6, range(6)), limit=4)
  assert [r['id'] for r in rows] == [f'candidate-000{n}' for n in (6, 5, 4, 3)]
