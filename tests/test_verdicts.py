"""Verdicts by hand: strict thresholds, and two candidates in one dark spot."""

import types

import numpy as np
import pytest

from cmbjax.candidates.detector import Candidates
from cmbjax.data import evidence
from cmbjax.detect import outlines, verdicts

SPACING = (1.0, 1.0, 2.0)
POINT = {'threshold': 0.2, 'definite_threshold': 0.6}
SHAPE = (30, 30, 14)


def candidates(centres, *, kept=None):
  """Each with a region of its own voxel and the next one along x."""
  centres = np.array(centres, np.int32)
  count = len(centres)
  kept = np.ones(count, bool) if kept is None else np.array(kept)
  return Candidates(
    centre=centres,
    score=np.linspace(1, 0.5, count, dtype=np.float32),
    kept=kept,
    reason=['' if k else 'too small' for k in kept],
    features={'diameter_mm': np.full(count, 2.0, np.float32)},
    category=['hard'] * count,
    regions=[np.stack([c, np.add(c, (1, 0, 0))]) for c in centres],
  )


def networks(*rows):
  """Networks with these likelihoods [K, N]."""
  each = np.array(rows, float)
  return types.SimpleNamespace(
    patches='native',
    channels=('swi',),
    likelihood=lambda patches: each,
    probability=lambda mean: mean / 2,
  )


def judge(unit, proposed, classifier, **more):
  scan = evidence.Evidence(unit, unit > 0, SPACING, np.eye(4))
  return verdicts.judge(scan, proposed, classifier, POINT, **more)


def test_a_likelihood_on_a_threshold_is_not_above_it():
  proposed = candidates(
    [(4, 4, 4), (25, 4, 4), (4, 25, 4), (25, 25, 4), (15, 15, 10), (9, 9, 12)],
    kept=[True] * 5 + [False],
  )
  classifier = networks([0.1, 0.2, 0.5, 0.7, np.nan], [0.3, 0.3, 0.7, 0.9, 0.9])
  found = judge(np.ones(SHAPE, np.float32), proposed, classifier)
  assert found.likelihood[:4] == pytest.approx([0.2, 0.25, 0.6, 0.8])
  assert found.spread[:4] == pytest.approx([0.1, 0.05, 0.1, 0.1])
  assert found.probability[:4] == pytest.approx([0.1, 0.125, 0.3, 0.4])
  assert np.isnan(found.likelihood[4:]).all()
  assert found.status == (
    'rejected', 'possible', 'possible', 'definite', 'rejected', 'rejected'
  )  # fmt: skip
  assert found.reason == (
    'likelihood', '', '', '', 'likelihood', 'too small'
  )  # fmt: skip


@pytest.mark.parametrize(
  ('saddle', 'length', 'same'),
  [(0.3, 6, True), (0.5, 6, False), (0.3, 9, True), (0.3, 10, False)],
)
def test_one_dark_spot_is_one_lesion(saddle, length, same):
  """The core of the better one ends at 0.6 of its range, 0.4 here."""
  unit = np.ones(SHAPE, np.float32)
  unit[5 : 6 + length, 15, 6] = saddle
  unit[5, 15, 6] = unit[5 + length, 15, 6] = 0.1
  proposed = candidates([(5, 15, 6), (5 + length, 15, 6)])
  proposed.regions[0][1] = (0, 0, 0)
  unit[0, 0, 0] = 0.1 + 0.5 / 0.95  # the 95th percentile of the region: 0.6
  found = judge(unit, proposed, networks([0.9, 0.7]))
  assert found.reason == ('', verdicts.SAME if same else '')


@pytest.mark.parametrize(
  ('apart', 'b0', 'same'),
  [
    ((0, 0, 2), (0, 0, 1), True),  # 4 of 6 mm, in line
    ((2, 0, 2), (0, 0, 1), True),  # 27 degrees from it, 4.5 mm
    ((0, 0, 3), (0, 0, 1), False),  # 6 mm: it is another lesion
    ((3, 0, 2), (0, 0, 1), False),  # 37 degrees
    ((0, 4, 0), (0, 0, 1), False),  # beside it
    ((0, 4, 0), (0, -1, 0), True),  # slices along the field
  ],
)
def test_a_lobe_of_a_dipole_is_its_lesion(apart, b0, same):
  unit = np.ones(SHAPE, np.float32)  # the saddle is as bright as the brain
  centres = np.array([(15, 15, 6), np.add((15, 15, 6), apart)])
  unit[tuple(centres.T)] = 0.1
  proposed = candidates(centres)
  proposed.features['diameter_mm'][:] = (2, 6)  # the lesion may come second
  found = judge(unit, proposed, networks([0.9, 0.7]), b0=b0)
  assert found.reason == ('', verdicts.SAME if same else '')


def test_order_is_by_likelihood_then_score():
  likelihood = np.array([0.5, np.nan, 0.9, 0.5])
  score = np.array([1.0, 5.0, 0.1, 2.0])
  assert verdicts.order_of(likelihood, score).tolist() == [2, 3, 0, 1]


def test_the_box_of_a_rejected_one_has_the_size_of_its_voxels():
  image = types.SimpleNamespace(
    spacing_mm=SPACING, to_world=lambda index: np.asarray(index) * 1.0
  )
  proposed = candidates([(4, 4, 4)])
  names = ('volume_mm3', 'diameter_mm', 'feret_mm', 'contrast')
  proposed.features.update({name: np.ones(1) for name in names})
  found = judge(np.ones(SHAPE, np.float32), proposed, networks([0.1]))
  lesion = outlines._rejected(0, image, proposed, found, 'candidate-0001')
  assert lesion.extent_mm == (2, 1, 2)
  assert lesion.index == 0
