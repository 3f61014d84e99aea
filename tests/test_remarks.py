"""What is said of an image: slices that hold nothing."""

import numpy as np
import pytest

from cmbjax.detect import remarks
from cmbjax.imaging import volume
from tests import heads


def _said(blank, *, stripped=False):
  head = heads.draw()
  array = np.where(head.brain, head.magnitude, 0) if stripped else (
    head.magnitude.copy()
  )  # fmt: skip
  array[:, :, blank] = 0
  mask = head.brain.copy()
  mask[:, :, blank] = False
  image = volume.from_array(array, np.diag([1.0, 1, 2, 1]))
  return [s for s in remarks.of_image(image, mask) if 'one value' in s]


@pytest.mark.parametrize(
  ('blank', 'count'), [([12], 1), (range(12, 24), 12), ([0, 1, 9, 10], 2)]
)
def test_blank_slices_in_a_brain_are_said(blank, count):
  said = _said(list(blank))
  assert len(said) == 1
  assert said[0].startswith(f'{count} of 24 slices')


def test_blank_slices_above_a_brain_are_as_they_should_be():
  assert not _said([])
  assert not _said([0, 1, 22, 23], stripped=True)


def _order_said(array):
  image = volume.from_array(array, np.diag([1.0, 1, 2, 1]))
  mask = array > 0.5
  return [s for s in remarks.of_image(image, mask) if 'in order' in s]


@pytest.mark.parametrize('first', [0, 1])
def test_slices_of_an_interleaved_scan_out_of_order(first):
  array = heads.draw().magnitude
  order = [*range(first, 24, 2), *range(1 - first, 24, 2)]
  said = _order_said(array[:, :, order])
  assert len(said) == 1
  assert 'interleaved' in said[0]


def test_slices_in_order():
  head = heads.draw(1)
  noise = np.random.default_rng(9003).normal(0, 0.3, head.magnitude.shape)
  for array in (
    head.magnitude,
    head.magnitude[:, :, ::-1],
    head.magnitude * head.brain,
    np.abs(head.magnitude + noise),
    np.repeat(head.magnitude, 2, 2),
    head.magnitude[:, :, :5],
    np.ones((20, 20, 12)),
  ):
    assert not _order_said(array)
