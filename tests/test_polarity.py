"""Tests of imaging/polarity.py: the tube rule, its eigenvalue, its doubts."""

import numpy as np
import pytest

from cmbjax.imaging import curvature, phase, polarity
from tests import heads

SPACING = heads.SPACING_MM


@pytest.mark.parametrize('sign', [1, -1])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_sign_is_found_on_drawn_veins(seed, sign):
  head = heads.draw(seed)
  local = phase.high_pass(
    head.magnitude, sign * head.phase, SPACING, sigma_mm=3
  )
  found = polarity.detect(head.magnitude, local, SPACING, head.brain)
  assert found.certain
  assert found.sign == sign
  assert found.median_rad * sign < -0.3


def test_a_dark_sheet_of_opposite_phase_does_not_win():
  head = heads.draw(1)
  sheet = np.zeros_like(head.brain)
  sheet[47:49] = head.brain[47:49]
  assert sheet.sum() > 2 * head.veins.sum()
  magnitude = np.where(sheet, 0.5, head.magnitude)
  local = np.where(sheet, 0.8, head.phase)
  dark = head.brain & (magnitude < 0.7)
  assert np.median(local[dark]) > 0  # the simple rule would fail
  found = polarity.detect(magnitude, local, SPACING, head.brain)
  assert found.certain
  assert found.sign == 1


def test_no_veins_no_certainty():
  rng = np.random.default_rng(5)
  shape = (48, 48, 12)
  noise = rng.normal(size=(2, *shape)).astype(np.float32)
  found = polarity.detect(
    1 + 0.02 * noise[0], 0.05 * noise[1], SPACING, np.ones(shape, bool)
  )
  assert not found.certain
  assert found.sign == 1


def test_empty_mask_is_a_doubt_not_a_crash():
  blank = np.ones((8, 8, 8), np.float32)
  found = polarity.detect(blank, blank, SPACING, np.zeros(blank.shape, bool))
  assert found == polarity.Polarity(1, 0.0, 0, False)


def test_echoes_vote_by_voxels():
  votes = [
    polarity.Polarity(1, -0.2, 60, True),
    polarity.Polarity(-1, 0.5, 300, True),
  ]
  found = polarity.combine(votes)
  assert found.sign == -1
  assert found.voxels == 360
  assert found.median_rad == pytest.approx((-0.2 * 60 + 0.5 * 300) / 360)


def test_middle_eigenvalue_equals_lapack():
  rng = np.random.default_rng(0)
  half = rng.normal(size=(400, 3, 3))
  full = half + np.swapaxes(half, 1, 2)
  full[0] = 0
  full[1] = 2 * np.eye(3)
  expected = np.linalg.eigvalsh(full)[:, 1]
  i, j = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
  found = curvature.middle_eigenvalue([full[:, a, b] for a, b in zip(i, j)])
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_few_voxels_give_no_sign():
  few, enough = (
    polarity.combine([polarity.Polarity(-1, 0.5, n, True, 0.8)])
    for n in (49, 50)
  )
  assert (few.sign, few.certain) == (1, False)
  assert (enough.sign, enough.certain) == (-1, True)


def test_hessian_of_a_quadric_in_mm():
  spacing = (0.2, 0.4, 0.3)
  x, y, z = np.meshgrid(
    *(s * np.arange(-20, 21) for s in spacing), indexing='ij'
  )
  image = 3 * x * x - y * y + 2 * z * z + 4 * x * y - 5 * x * z + 6 * y * z
  found = [h[20, 20, 20] for h in polarity._hessian(image, spacing)]
  scale = 0.5**2
  expected = np.array([6, -2, 4, 4, -5, 6]) * scale
  np.testing.assert_allclose(found, expected, atol=0.01)


def test_the_border_is_three_mm_on_every_axis():
  inside = polarity._erode(np.ones((20, 12, 7), bool), (0.5, 1.0, 2.0))
  place = np.argwhere(inside)
  assert place.min(0).tolist() == [6, 3, 1]
  assert place.max(0).tolist() == [13, 8, 5]


@pytest.mark.parametrize('seed', range(8))
def test_noise_is_never_certain(seed):
  """The middle of noise without its small values is far from 0."""
  head = heads.draw(seed)
  rng = np.random.default_rng(seed)
  noise = rng.uniform(-np.pi, np.pi, head.phase.shape).astype(np.float32)
  shifted = np.roll(head.phase, 6, 0)
  for other in (noise, shifted):
    local = phase.high_pass(head.magnitude, other, SPACING, sigma_mm=3)
    assert not polarity.detect(
      head.magnitude, local, SPACING, head.brain
    ).certain


def _tubes(*, along, across):
  """Dark tubes along z and x in a cube of 1 mm voxels, with their phases."""
  rng = np.random.default_rng(2)
  magnitude = np.ones((64, 64, 64), np.float32)
  local = np.zeros_like(magnitude)
  for k in range(8, 60, 13):
    for j in range(8, 60, 13):
      magnitude[k : k + 2, j : j + 2] = 0.5
      local[k : k + 2, j : j + 2] = along
  for k in range(14, 60, 6):
    for j in range(14, 60, 13):
      magnitude[:, j : j + 2, k : k + 2] = 0.5
      local[:, j : j + 2, k : k + 2] = across
  noise = 0.02 * rng.normal(size=(2, *local.shape)).astype(np.float32)
  return polarity.detect(
    magnitude + noise[0],
    local + noise[1],
    (1.0, 1.0, 1.0),
    np.ones(local.shape, bool),
  )


@pytest.mark.parametrize('sign', [1, -1])
def test_veins_across_the_field_do_not_win(sign):
  """Thin slices show their inside, whose phase is the other way round."""
  found = _tubes(along=-sign, across=0.9 * sign)
  assert found.contrast * sign > 0.35  # by the many it would be certain
  assert found.along_voxels > 50
  assert found.sign == sign
  assert not found.certain


def test_veins_of_both_ways_that_agree_are_certain():
  found = _tubes(along=-1, across=-0.9)
  assert found.certain
  assert found.sign == 1
  assert found.along < -0.35


def test_echoes_vote_by_veins_along_the_field_too():
  votes = [
    polarity.Polarity(-1, 0.5, 300, True, 0.6, -0.5, 200),
    polarity.Polarity(-1, 0.5, 300, True, 0.6, -0.3, 100),
  ]
  found = polarity.combine(votes)
  assert (found.sign, found.certain) == (1, False)
  assert found.along_voxels == 300
