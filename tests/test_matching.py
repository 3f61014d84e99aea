"""Both matching rules on small hand-made volumes, and counts per scan."""

import numpy as np

from cmbjax.errors import InputError
from cmbjax.evaluation import matching
from tests.messages import says


def volume(*boxes):
  out = np.zeros((12, 12, 8), np.uint16)
  for value, (x, y, z) in enumerate(boxes, 1):
    out[x, y, z] = value
  return out


A = (slice(1, 3), slice(1, 3), slice(1, 3))
B = (slice(7, 9), slice(7, 9), slice(4, 6))
FAR = (slice(10, 12), slice(0, 2), slice(6, 8))


def test_touch_counts_hits_misses_and_false_positives():
  detected = volume((2, 2, 2), FAR)
  found = matching.touch(detected, volume(A, B))
  assert found.hit.tolist() == [True, False]
  assert sorted(found.false.tolist()) == [False, True]


def test_components_touch_with_their_sides_whatever_their_labels():
  diagonal, row = volume((1, 1, 1), (2, 2, 2)), volume((1, 1, 1), (2, 1, 1))
  assert len(matching.valdo(diagonal, diagonal, (1, 1, 1)).hit) == 2
  assert len(matching.valdo(row, row, (1, 1, 1)).hit) == 1


def test_instance_labels_stay_apart_where_they_touch():
  two = volume((1, 1, 1), (2, 1, 1))
  two[two == 2] = 7  # labels need not be consecutive
  found = matching.touch(two, volume((2, 1, 1)))
  assert found.detection.tolist() == [1, 7]
  assert found.false.tolist() == [True, False]
  assert matching.touch(volume(), two).detection.size == 0


def test_valdo_uses_millimetres_and_a_strict_bound():
  detected, truth = volume((0, 0, 0)), volume((0, 0, 5))
  near = matching.valdo(detected, truth, (1, 1, 0.99))
  at_bound = matching.valdo(detected, truth, (1, 1, 1))
  assert near.hit.tolist() == [True]
  assert at_bound.hit.tolist() == [False]
  assert at_bound.false.tolist() == [True]


def test_valdo_is_one_to_one_and_takes_the_nearest_first():
  # Two detections 1 and 2 mm from one lesion: the nearer one has it.
  detected = volume((3, 5, 5), (6, 5, 5))
  truth = volume((5, 5, 5))
  found = matching.valdo(detected, truth, (1, 1, 1))
  assert found.hit.tolist() == [True]
  assert found.false.tolist() == [True, False]
  # Touch has no hit here at all: the rules are different.
  assert not matching.touch(detected, truth).hit.any()


def test_shapes_must_be_equal():
  with says(InputError):
    matching.touch(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
