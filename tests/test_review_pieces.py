"""Voxels of a mask to lesions, beside scipy on the whole image."""

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.review.cases import pieces

SHAPES = [(9, 8, 7), (1, 12, 9), (30, 1, 4), (20, 17, 1), (2, 2, 2), (1, 1, 1)]


def as_scipy_says(mask, index):
  labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
  return labels[tuple(index.T)]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('most', [0, 1])  # as a whole, or by its voxels
def test_random_masks_are_numbered_as_scipy_does(monkeypatch, shape, most):
  monkeypatch.setattr(pieces, '_MOST', most)
  rng = np.random.default_rng([*shape, most])
  for part in (0.01, 0.05, 0.1, 0.2, 0.5, 0.9, 1.0) * 4:
    mask = rng.random(shape) < part
    index = rng.permutation(np.argwhere(mask))
    found = pieces.connected(index, shape)
    np.testing.assert_array_equal(found, as_scipy_says(mask, index))


def test_the_faces_of_the_image_do_not_touch():
  shape = (20, 20, 20)
  index = np.array([[0, 0, 19], [0, 1, 0], [0, 19, 5], [1, 0, 5], [19, 9, 9]])
  assert len(np.unique(pieces.connected(index, shape))) == 5


def test_corners_touch():
  index = np.array([[3, 3, 3], [2, 4, 2], [6, 6, 6]])
  assert pieces.connected(index, (50, 50, 50)).tolist() == [1, 1, 2]


@pytest.mark.parametrize('order', 'CF')
def test_values_of_one_component_are_numbered_as_on_the_whole_image(order):
  rng = np.random.default_rng(5)
  for part in (0.02, 0.1, 0.3):
    labels = rng.integers(1, 4, (14, 13, 12))
    labels *= rng.random(labels.shape) < part
    labels = np.asarray(labels, order=order)
    number, where = pieces.inside(labels)
    assert (np.diff(where) > 0).all()
    np.testing.assert_array_equal(number, labels.ravel(order='F')[where])
    index = np.stack(np.unravel_index(where, labels.shape, order='F'), 1)
    pairs = np.stack([as_scipy_says(labels > 0, index), number], 1)
    _, wanted = np.unique(pairs, axis=0, return_inverse=True)
    found = pieces.apart(number, where, labels.shape)
    np.testing.assert_array_equal(found, wanted.reshape(-1) + 1)
