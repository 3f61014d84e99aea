"""Tests of imaging/magnitude.py: softplus by hand, fields that are known."""

import math

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.imaging import magnitude
from tests.messages import says

SPACING = (2.0, 2.0, 2.0)


def _scene(contrast=0.0):
  """(true field, tissue, mask): a ball of two tissues under a ramp."""
  shape = (60, 64, 50)
  x, y, z = np.meshgrid(
    *[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing='ij'
  )
  mask = x**2 + y**2 + z**2 < 0.8
  field = np.exp(0.7 * x - 0.4 * y)
  rng = np.random.default_rng(0)
  darker = np.sin(9 * x) * np.sin(8 * y) * np.sin(7 * z) > 0.2
  tissue = np.where(darker, 1 - contrast, 1.0)
  tissue = tissue + 0.02 * rng.normal(size=shape)
  return field, np.float32(np.where(mask, tissue, 0)), mask


def test_softplus_by_hand():
  image = np.array([0, 1, 2, 3, 4, 10], np.float32).reshape(6, 1, 1)
  mask = np.ones(image.shape, bool)
  offset = 0.5 * np.quantile(image, 0.8)
  factor = 2 / offset
  soft = np.log(1 + np.exp(factor * (image - offset))) / factor
  expected = soft - soft[0]
  found = magnitude.softplus(image, mask)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert found.dtype == np.float32
  assert found[0, 0, 0] == 0


def test_softplus_is_linear_where_tissue_is_bright():
  image = np.linspace(50, 5000, 100, dtype=np.float32).reshape(-1, 1, 1)
  found = magnitude.softplus(image, image < 60)
  np.testing.assert_allclose(np.diff(found[20:], axis=0), 50, rtol=1e-3)
  assert np.isfinite(found).all()


def test_softplus_needs_signal():
  with says(InputError):
    magnitude.softplus(np.zeros((3, 3, 3)), np.ones((3, 3, 3), bool))
  with says(InputError):
    magnitude.softplus(np.ones((3, 3, 3)), np.zeros((3, 3, 3), bool))


@pytest.mark.parametrize('kind', ['gaussian', 'boxsegment'])
def test_field_is_found(kind):
  field, tissue, mask = _scene(contrast=0.25 if kind == 'boxsegment' else 0.0)
  found = magnitude.sensitivity(field * tissue, mask, SPACING, kind)
  assert found.dtype == np.float32
  assert found.shape == field.shape
  assert np.median(found[mask]) == pytest.approx(1, rel=0.02)
  inner = np.zeros(mask.shape, bool)
  inner[12:-12, 12:-12, 12:-12] = mask[12:-12, 12:-12, 12:-12]
  ratio = (found / field)[inner]
  spread = np.percentile(ratio, 95) / np.percentile(ratio, 5)
  before = np.percentile(field[inner], 95) / np.percentile(field[inner], 5)
  assert spread < 1 + 0.35 * (before - 1)


def test_a_small_dark_lesion_keeps_its_contrast():
  field, tissue, mask = _scene()
  tissue[30:32, 32:34, 25:27] *= 0.3
  image = field * tissue
  for kind in ('gaussian', 'boxsegment'):
    flat = image / magnitude.sensitivity(image, mask, SPACING, kind)
    inside = flat[30:32, 32:34, 25:27].mean()
    around = np.median(flat[27:35, 29:37, 22:30])
    assert inside / around == pytest.approx(0.3, abs=0.05)


def test_main_tissue_is_the_brighter_one():
  field, tissue, mask = _scene()
  coin = np.random.default_rng(1).random(mask.shape) < 0.5
  tissue = np.where(coin, 0.6, 1) * tissue
  main = magnitude.main_tissue(field * tissue, mask)
  bright = mask & (tissue > 0.8)
  assert main.any()
  assert (main & bright).sum() > 0.95 * main.sum()
  assert (main & bright).sum() > 0.5 * bright.sum()


def test_main_tissue_by_hand():
  # One box along y and z, two voxels each; along x boxes of 2, half-way 1.
  image = np.full((4, 1, 1), 1.0)
  image[2] = 0.5
  mask = np.ones(image.shape, bool)
  found = magnitude.main_tissue(image, mask, boxes=2)[:, 0, 0]
  # Boxes 01, 12, 23, 3: each takes what is within 10 % of nearly its largest.
  assert found.tolist() == [False, True, False, True]


def test_wrong_kinds_and_empty_masks_are_refused():
  image = np.ones((8, 8, 8), np.float32)
  with says(InputError):
    magnitude.sensitivity(image, image > 0, SPACING, 'bias')
  with says(InputError):
    magnitude.sensitivity(image, image < 0, SPACING)


@pytest.mark.parametrize('shape', [(40, 40, 1), (5, 5, 5)])
def test_thin_and_tiny_images_have_a_field(shape):
  image = np.ones(shape, np.float32)
  for kind in ('gaussian', 'boxsegment'):
    found = magnitude.sensitivity(image, image > 0, SPACING, kind)
    np.testing.assert_allclose(found, 1, atol=0.02)


def test_quantiles_of_what_is_finite():
  none = -np.inf
  rows = np.array(
    [[3, 1, 2, none], [5, none, none, none], [none] * 4, [4, 3, 2, 1]]
  )
  found = magnitude._quantiles(rows, 0.9)
  expected = [np.quantile([1, 2, 3], 0.9), 5, 0, np.quantile(range(1, 5), 0.9)]
  np.testing.assert_allclose(found, expected)


def test_both_smoothings_of_boxsegment_are_one_of_7_mm():
  image = np.ones((80, 60, 60), np.float32)
  image[40:] = 1.04  # within 10 %: all of it is main tissue
  found = magnitude.sensitivity(image, image > 0, SPACING, 'boxsegment')
  line = found[:, 30, 30] / found[5, 30, 30]
  x = SPACING[0] * (np.arange(80) - 39.5)
  edge = 0.5 + 0.5 * np.array([math.erf(v / 7 / 2**0.5) for v in x])
  np.testing.assert_allclose(line[20:60], 1 + 0.04 * edge[20:60], atol=1e-3)
