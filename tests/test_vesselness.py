"""The vessel map against dots, tubes and sheets in voxels of several sizes."""

import numpy as np
import pytest

from cmbjax.imaging import curvature, vesselness

GRIDS_MM = [(0.5, 0.5, 2.0), (0.8, 0.8, 3.0), (0.9, 0.9, 0.9)]


def drawn(spacing_mm, axes, *, width_mm=1.0, size_mm=36):
  """Dark where `axes` are near the middle; (image, its middle voxel)."""
  shape = tuple(int(size_mm / side) for side in spacing_mm)
  middle = np.array(shape) // 2
  away = (np.stack(np.indices(shape), -1) - middle) * spacing_mm
  square = (away[..., axes] ** 2).sum(-1)
  image = 0.9 - 0.6 * np.exp(-square / (2 * width_mm**2))
  return image.astype(np.float32), middle


def at_middle(image, middle, spacing_mm, mask=None):
  mask = np.ones(image.shape, bool) if mask is None else mask
  found = vesselness.of_image(image, mask, spacing_mm)
  return found.image[tuple(middle // found.factors)]


@pytest.mark.parametrize('spacing_mm', GRIDS_MM)
def test_tubes_are_told_from_dots_and_sheets(spacing_mm):
  """A dot in two thick slices is not a tube along them."""
  tubes = [
    at_middle(*drawn(spacing_mm, axes), spacing_mm)
    for axes in ([1, 2], [0, 2], [0, 1])
  ]
  assert min(tubes) > 0.6
  others = [
    at_middle(*drawn(spacing_mm, axes, width_mm=width), spacing_mm)
    for axes in ([0, 1, 2], [0])
    for width in (0.8, 1.2)
  ]
  assert max(others) < 0.1


def test_bright_tubes_are_no_veins():
  image, middle = drawn(GRIDS_MM[0], [1, 2])
  assert at_middle(1.8 - image, middle, GRIDS_MM[0]) == 0


def test_the_rim_of_the_brain_is_not_dark():
  spacing_mm = (0.8, 0.8, 1.6)
  image, middle = drawn(spacing_mm, [0, 1])
  away = (np.stack(np.indices(image.shape), -1) - middle) * spacing_mm
  ball = (away**2).sum(-1) < 14**2
  found = vesselness.of_image(np.full(ball.shape, 0.8), ball, spacing_mm)
  assert found.factors == (1, 1, 1)
  assert found.image.max() < 1e-3
  # And a vein that reaches it stays a vein.
  vein = vesselness.of_image(np.where(ball, image, 0), ball, spacing_mm)
  middle[2] -= 6
  assert vein.image[tuple(middle)] > 0.6
  assert not vein.image[~ball].any()


def test_no_brain():
  found = vesselness.of_image(
    np.ones((8, 8, 8)), np.zeros((8, 8, 8), bool), (0.5, 0.5, 1)
  )
  assert found.image.shape == (4, 4, 8)
  assert not found.image.any()


def test_eigenvalues_equal_lapack():
  rng = np.random.default_rng(0)
  full = rng.normal(size=(500, 3, 3)).astype(np.float32)
  full = full + full.transpose(0, 2, 1)
  full[0], full[1] = 0, 2 * np.eye(3)
  i, j = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
  found = curvature.eigenvalues([full[:, a, b] for a, b in zip(i, j)])
  expected = np.linalg.eigvalsh(full.astype(float))
  np.testing.assert_allclose(np.stack(found, -1), expected, atol=2e-3)
