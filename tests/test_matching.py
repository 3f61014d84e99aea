"""Both matching rules on small hand-made volumes, and counts per scan."""

import numpy as np
import pytest

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


def test_valdo_takes_the_nearest_of_several_detections():
  # Two detections 1 and 2 mm from one lesion: the nearer one has it.
  detected = volume((3, 5, 5), (6, 5, 5))
  truth = volume((5, 5, 5))
  found = matching.valdo(detected, truth, (1, 1, 1))
  assert found.hit.tolist() == [True]
  assert found.false.tolist() == [True, False]
  # Touch has no hit here at all: the rules are different.
  assert not matching.touch(detected, truth).hit.any()


def f1(found):
  """2 TP / (2 TP + FP + FN), true positives counted in detections."""
  true, false = np.sum(~found.false), np.sum(found.false)
  return 2 * true / (2 * true + false + np.sum(~found.hit))


def test_valdo_gives_a_detection_to_its_nearest_lesion_alone():
  """By hand: the third detection is 2 mm from a taken lesion, 3 from a free.

  One to one it would hit the free one: three of three, F1 1.000. The code of
  the challenge says FP and FN: 2 * 2 / (2 * 2 + 1 + 1).
  """
  truth = volume((2, 2, 2), (2, 9, 2), (7, 9, 2))
  detected = volume((2, 2, 2), (2, 9, 2), (4, 9, 2))
  found = matching.valdo(detected, truth, (1, 1, 1))
  assert dict(zip(found.lesion.tolist(), found.hit.tolist())) == {
    1: True,
    2: True,
    3: False,
  }
  assert dict(zip(found.detection.tolist(), found.false.tolist())) == {
    1: False,
    2: False,
    3: True,
  }
  assert f1(found) == pytest.approx(2 / 3)


@pytest.mark.parametrize('spacing', [1.0, 0.8, np.float32(0.7)])
def test_valdo_takes_two_detections_at_the_same_distance_for_two_hits(spacing):
  """As the challenge: 2 * 2 / (2 * 2 + 0 + 1), the other lesion is missed."""
  truth = volume((5, 5, 5), (1, 1, 1))
  detected = volume((3, 5, 5), (7, 5, 5))
  found = matching.valdo(detected, truth, (spacing,) * 3)
  assert found.false.tolist() == [False, False]
  assert sorted(found.hit.tolist()) == [False, True]
  assert f1(found) == pytest.approx(4 / 5)


def test_valdo_gives_a_detection_midway_to_the_first_lesion_of_the_array():
  """Not defined in the challenge: it depends on how the file is stored."""
  truth, detected = volume((3, 5, 5), (7, 5, 5)), volume((5, 5, 5))
  found = matching.valdo(detected, truth, (1, 1, 1))
  assert found.hit.tolist() == [True, False]
  turned = matching.valdo(detected[::-1], truth[::-1], (1, 1, 1))
  assert turned.lesion[turned.hit].tolist() == [2]


def test_valdo_of_an_empty_image():
  some, none = volume((5, 5, 5), (1, 1, 1)), volume()
  assert matching.valdo(none, some, (1, 1, 1)).hit.tolist() == [False] * 2
  assert matching.valdo(some, none, (1, 1, 1)).false.tolist() == [True] * 2
  assert matching.valdo(none, none, (1, 1, 1)).hit.size == 0


def parts_by_flood(image):
  """Centres of 6-connected parts, in the order of the array, voxel by voxel."""
  todo, centres = set(map(tuple, np.argwhere(image).tolist())), []
  for start in sorted(todo):
    if start not in todo:
      continue
    todo.remove(start)
    part, edge = [start], [start]
    while edge:
      x, y, z = edge.pop()
      for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        for sign in (-1, 1):
          near = (x + sign * step[0], y + sign * step[1], z + sign * step[2])
          if near in todo:
            todo.remove(near)
            part.append(near)
            edge.append(near)
    centres.append([sum(axis) / len(part) for axis in zip(*part)])
  return centres


def counts_by_hand(detected, truth, spacing):
  """TP, FP and FN as the challenge counts them, one detection at a time."""
  lesions, takers = parts_by_flood(truth), {}
  detections = parts_by_flood(detected)
  for centre in detections:
    gaps = [
      round(sum(((a - b) * s) ** 2 for a, b, s in zip(centre, c, spacing)), 9)
      for c in lesions
    ]
    if gaps and min(gaps) < 25:
      takers.setdefault(gaps.index(min(gaps)), []).append(min(gaps))
  true = sum(gaps.count(min(gaps)) for gaps in takers.values())
  return true, len(detections) - true, len(lesions) - len(takers)


@pytest.mark.parametrize('seed', range(60))
def test_valdo_equals_counting_one_by_one(seed):
  """Crowded grids, so that lesions are shared, tied and out of reach."""
  rng = np.random.default_rng(seed)
  spacing = rng.choice([0.5, 0.8, 1.0, 3.0], 3)
  detected, truth = (
    (rng.random((12, 12, 8)) < rng.choice([0.0, 0.004, 0.02, 0.3])).astype(int)
    for _ in range(2)
  )
  found = matching.valdo(detected, truth, spacing)
  counts = np.sum(~found.false), np.sum(found.false), np.sum(~found.hit)
  assert counts == counts_by_hand(detected, truth, spacing)


def test_shapes_must_be_equal():
  with says(InputError):
    matching.touch(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))
