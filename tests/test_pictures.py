"""Crops, outlines and projections show each voxel where it is."""

import io
import re

import matplotlib.image
import numpy as np
import pytest

from cmbjax.report import pictures
from cmbjax.report.pictures import AXIAL, CORONAL, PLANES, SAGITTAL


def test_png_is_read_back():
  grey = np.random.default_rng(0).integers(0, 256, (3, 7), dtype=np.uint8)
  read = matplotlib.image.imread(io.BytesIO(pictures.png(grey)))
  assert np.array_equal(np.round(255 * read), grey)


def test_grey_levels():
  image = np.array([[-1, 0, 0.5, 1, 2, np.nan, np.inf]])
  assert pictures.to_grey(image).tolist() == [[0, 0, 128, 255, 255, 0, 255]]
  few = pictures.to_grey(np.linspace(0, 1, 1000)[None], levels=4)
  assert np.unique(few).tolist() == [0, 85, 170, 255]


@pytest.mark.parametrize(
  ('plane', 'ahead'),
  [
    (AXIAL, [(1, 0, 0), (0, 1, 0)]),
    (CORONAL, [(1, 0, 0), (0, 0, 1)]),
    (SAGITTAL, [(0, 1, 0), (0, 0, 1)]),
  ],
)
def test_right_is_left_front_is_left_and_up_is_up(plane, ahead):
  """One step along +x (or +y) goes left, along the other axis up."""
  image = np.zeros((9, 9, 9))
  centre = np.array([4, 4, 4])
  spacing = (1.0, 1.0, 2.0)
  for step, (dx, dy) in zip(ahead, ((-1, 0), (0, -1))):
    image[:] = 0
    image[tuple(centre + step)] = 1
    crop = pictures.crop(image, centre, spacing, plane, field_mm=9)
    row, column = np.argwhere(crop.grey == 255)[0]
    side = (crop.width / crop.grey.shape[1], crop.height / crop.grey.shape[0])
    x = crop.left + (column + 0.5) * side[0]
    y = crop.top + (row + 0.5) * side[1]
    expected = (dx * side[0], dy * side[1])
    assert (x, y) == pytest.approx(expected)


@pytest.mark.parametrize('plane', PLANES)
@pytest.mark.parametrize('centre', [(0, 0, 0), (29, 19, 9), (15, 10, 5)])
def test_crops_keep_native_voxels_and_are_cut_not_padded(plane, centre):
  rng = np.random.default_rng(1)
  image, spacing = rng.random((30, 20, 10)), (0.5, 0.7, 2.0)
  crop = pictures.crop(image, centre, spacing, plane, field_mm=8)
  assert crop.width == pytest.approx(crop.grey.shape[1] * spacing[plane.right])
  assert crop.height == pytest.approx(crop.grey.shape[0] * spacing[plane.up])
  # The voxel of the lesion is round (0, 0).
  column = int(-crop.left / spacing[plane.right])
  row = int(-crop.top / spacing[plane.up])
  assert crop.grey[row, column] == round(255 * image[centre])


def test_slab_is_the_minimum_over_an_odd_number_of_slices():
  image = np.ones((5, 5, 21))
  image[2, 2, 12], image[2, 1, 13] = 0.2, 0.1
  slab = pictures.crop(
    image, (2, 2, 10), (1, 1, 2), AXIAL, field_mm=5, slab_mm=10
  )
  assert pictures.slab_reach(10, 2) == 2
  assert pictures.slab_reach(10, 30) == 0
  assert slab.grey.min() == 51  # two slices away; three away is not seen
  assert (slab.grey < 255).sum() == 1


def test_border_of_a_square_and_of_a_hole():
  frame = pictures.Picture(np.zeros((3, 3)), 0, 0, 6.0, 3.0)
  inside = np.zeros((3, 3), bool)
  inside[1, 1] = True
  path = pictures.border(inside, frame)
  assert sorted(re.findall(r'M[^M]+', path)) == [
    'M2.00 1.00h2.00',
    'M2.00 1.00v1.00',
    'M2.00 2.00h2.00',
    'M4.00 1.00v1.00',
  ]
  length = {'h': 0.0, 'v': 0.0}
  for way, size in re.findall(
    r'([hv])([\d.]+)', pictures.border(~inside, frame)
  ):
    length[way] += float(size)
  assert length == {'h': 2 * 6 + 2 * 2, 'v': 2 * 3 + 2 * 1}
  assert pictures.border(np.zeros((3, 3), bool), frame) == ''


def test_outline_tells_its_lesion_from_others():
  labels = np.zeros((20, 20, 5), np.uint16)
  labels[9:12, 9:12, 2], labels[4:6, 9:12, 2] = 7, 300
  own, others = pictures.outline(
    labels, (10, 10, 2), (1, 1, 1), AXIAL, field_mm=18, index=7
  )
  assert (
    own == 'M-1.50 -1.50h3.00M-1.50 1.50h3.00M-1.50 -1.50v3.00M1.50 -1.50v3.00'
  )
  assert others.count('M') == 4
  own, others = pictures.outline(
    labels, (10, 10, 2), (1, 1, 1), AXIAL, field_mm=18, index=0
  )
  assert own == ''
  assert others.count('M') == 8


def test_frame_places_voxels_like_its_pictures():
  mask = np.zeros((60, 70, 30), bool)
  mask[20:40, 20:50, 5:25] = True
  image = np.where(mask, 0.5, 0).astype(np.float32)
  spot = (25, 45, 20)
  image[spot] = 0
  brain = pictures.frame(mask, (1.0, 1.0, 1.0), margin_mm=3)
  assert brain.size(AXIAL) == (26, 36)
  x, y = brain.place(spot, AXIAL)
  found = [
    (first, stop, picture)
    for first, stop, picture in pictures.slabs(image, brain)
    if first <= spot[2] < stop
  ]
  assert len(found) == 1
  grey = found[0][2].grey
  assert grey[int(y), int(x)] == 0
  inner = grey[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3]
  assert (inner == 0).sum() == 1


def test_slabs_show_every_slice_once():
  for slices in (1, 7, 20, 21, 72, 160):
    mask = np.ones((6, 6, slices), bool)
    brain = pictures.frame(mask, (1, 1, 1))
    spans = [s[:2] for s in pictures.slabs(mask.astype(float), brain)]
    shown = [z for first, stop in reversed(spans) for z in range(first, stop)]
    assert shown == list(range(slices))
    assert len(spans) <= 20


@pytest.mark.parametrize('plane', PLANES)
def test_glass_covers_the_frame_at_any_voxel_size(plane):
  mask = np.ones((31, 27, 9), bool)
  image = np.random.default_rng(0).random(mask.shape)
  brain = pictures.frame(mask, (0.4, 0.7, 3.0))
  picture = pictures.glass(image, mask, brain, plane)
  width, height = brain.size(plane)
  assert picture.left <= 0
  assert picture.top <= 0
  assert picture.left + picture.width == pytest.approx(width)
  assert picture.top + picture.height == pytest.approx(height)


def test_an_empty_mask_makes_whole_pictures():
  empty = np.zeros((10, 12, 4), bool)
  image = np.full(empty.shape, np.nan)
  brain = pictures.frame(empty, (1, 1, 1))
  assert brain.size(AXIAL) == (10, 12)
  for plane in PLANES:
    assert not pictures.glass(image, empty, brain, plane).grey.any()
