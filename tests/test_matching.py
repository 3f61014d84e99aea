"""Both matching rules on small hand-made volumes, and counts per scan."""

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.evaluation import matching


def volume(*boxes, dtype=bool):
  out = np.zeros((12, 12, 8), dtype)
  for value, (x, y, z) in enumerate(boxes, 1):
    out[x, y, z] = value if dtype is not bool else True
  return out


A = (slice(1, 3), slice(1, 3), slice(1, 3))
B = (slice(7, 9), slice(7, 9), slice(4, 6))
FAR = (slice(10, 12), slice(0, 2), slice(6, 8))


def test_touch_counts_hits_misses_and_false_positives():
  detected = volume((2, 2, 2), FAR)
  found = matching.touch(detected, volume(A, B))
  assert found.lesion_hit.tolist() == [True, False]
  assert sorted(found.detection_false.tolist()) == [False, True]


def test_touch_joins_diagonal_voxels_and_valdo_does_not():
  diagonal = volume((1, 1, 1), (2, 2, 2))
  assert matching.objects(diagonal, connectivity=26)[1] == 1
  assert matching.objects(diagonal, connectivity=6)[1] == 2


def test_instance_labels_stay_apart_where_they_touch():
  two = volume((1, 1, 1), (2, 1, 1), dtype=np.uint16)
  two[two == 2] = 7  # labels need not be consecutive
  labels, count = matching.objects(two, connectivity=26)
  assert count == 2
  assert labels[2, 1, 1] == 2
  assert matching.objects(np.zeros((3, 3, 3), int), connectivity=6)[1] == 0


def test_valdo_uses_millimetres_and_a_strict_bound():
  detected, truth = volume((0, 0, 0)), volume((0, 0, 5))
  near = matching.valdo(detected, truth, (1, 1, 0.99))
  at_bound = matching.valdo(detected, truth, (1, 1, 1))
  assert near.lesion_hit.tolist() == [True]
  assert at_bound.lesion_hit.tolist() == [False]
  assert at_bound.detection_false.tolist() == [True]


def test_valdo_is_one_to_one_and_takes_the_nearest_first():
  # Two detections 1 and 2 mm from one lesion: the nearer one has it.
  detected = volume((3, 5, 5), (6, 5, 5))
  truth = volume((5, 5, 5))
  found = matching.valdo(detected, truth, (1, 1, 1))
  assert found.lesion_hit.tolist() == [True]
  assert found.detection_false.tolist() == [True, False]
  # Touch has no hit here at all: the rules are different.
  assert not matching.touch(detected, truth).lesion_hit.any()


def test_likelihoods_are_cut_at_one_half():
  soft = np.zeros((4, 4, 4), np.float32)
  soft[0, 0, 0], soft[2, 2, 2] = 0.5, 0.49
  assert matching.objects(soft, connectivity=6)[1] == 1


def test_shapes_must_be_equal():
  with pytest.raises(InputError, match=r'shape \(2, 2, 2\)'):
    matching.touch(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
