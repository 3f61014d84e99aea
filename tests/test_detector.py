"""Candidates: recall on a slab, gates with reasons, nothing lost."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.candidates import background, detector, growing
from cmbjax.candidates.detector import Gates, flatten, propose
from cmbjax.candidates.gates import judge, score
from tests.messages import says

SPACING = (0.5, 0.5, 2.0)


def slab(seed, *, shape=(140, 140, 20), num_blobs=20, num_tubes=70):
  """Dark balls and tubes in noise: image, ball centres in voxels [n, 3]."""
  rng = np.random.default_rng(seed)
  fine = np.ones((shape[0], shape[1], 4 * shape[2]), np.float32)
  size = np.array(shape) * SPACING
  for _ in range(num_tubes):
    at, step = rng.uniform(0, size), rng.normal(size=3)
    radius, value = rng.uniform(0.25, 0.7), rng.uniform(0.1, 0.5)
    for _ in range(rng.integers(15, 40)):
      step = step / np.linalg.norm(step)
      paint(fine, at, radius, value)
      at, step = at + 0.5 * step, step + rng.normal(0, 0.1, 3)
  centres = []
  while len(centres) < num_blobs:
    at = rng.uniform(6, size - 6)
    if all(np.linalg.norm(at - other) > 7 for other in centres):
      centres.append(at)
      paint(fine, at, rng.uniform(0.9, 2.5), rng.uniform(0.05, 0.35))
  image = ndimage.gaussian_filter(fine, (0.6, 0.6, 1.5))
  image = image.reshape(*shape, 4).mean(3)
  image *= np.linspace(0.8, 1.2, shape[0], dtype=np.float32)[:, None, None]
  image += 0.03 * rng.standard_normal(shape, np.float32)
  return 0.6 * image, np.reshape(centres, (-1, 3)) / SPACING - 0.5


def paint(fine, at, radius, value):
  side = np.array((0.5, 0.5, 0.5))
  low = np.clip((at - radius) // side, 0, fine.shape).astype(int)
  high = np.clip((at + radius) // side + 2, 0, fine.shape).astype(int)
  part = tuple(slice(a, b) for a, b in zip(low, high))
  axes = np.ogrid[part]
  away = sum(((a + 0.5) * 0.5 - c) ** 2 for a, c in zip(axes, at))
  fine[part] = np.where(
    away <= radius**2, np.minimum(fine[part], value), fine[part]
  )


def ball(radius_mm, *, spacing=SPACING, shape=(41, 41, 17), value=0.2):
  """One dark ball in the middle of ones."""
  axes = np.ogrid[tuple(slice(0, n) for n in shape)]
  away = sum(((a - n // 2) * s) ** 2 for a, n, s in zip(axes, shape, spacing))
  image = np.where(away <= radius_mm**2, value, 1).astype(np.float32)
  return image


def everywhere(image):
  return np.ones(image.shape, bool)


def test_recall_on_a_fixed_slab():
  image, centres = slab(3)
  found = propose(image, SPACING, everywhere(image))
  kept = found.centre[found.kept]
  away = np.linalg.norm((kept[:, None] - centres) * SPACING, axis=2)
  hit = away.min(0) < 3
  assert hit.sum() >= 0.95 * len(centres)
  false = (away.min(1) >= 3).sum()
  assert false < 10
  # The gates do some work: the tubes gave candidates that are dropped.
  assert (~found.kept).sum() > 5


def test_table_is_whole_and_sorted():
  image, _ = slab(4, num_blobs=5, num_tubes=20)
  found = propose(image, SPACING, everywhere(image))
  n = len(found)
  assert n > 5
  assert found.centre.shape == (n, 3)
  assert found.centre.dtype == np.int32
  assert found.score.dtype == np.float32
  assert (np.diff(found.score) <= 0).all()
  assert len(found.reason) == len(found.category) == len(found.regions) == n
  assert all(
    (text == '') == kept for text, kept in zip(found.reason, found.kept)
  )
  assert set(found.category) <= {'single slice', 'travelling', 'hard'}
  for name, values in found.features.items():
    assert values.shape == (n,), name
    assert values.dtype == np.float32, name
    assert np.isfinite(values).all(), name
  for region, centre in zip(found.regions, found.centre):
    assert region.dtype == np.int32
    assert (region >= 0).all()
    assert (region < image.shape).all()
    middle = region.mean(0)
    assert np.abs(middle - centre).max() <= 5 / 0.5  # the growth sphere


def test_same_bits_for_any_number_of_threads():
  image, _ = slab(5, num_blobs=5, num_tubes=20)
  first = propose(image, SPACING, everywhere(image), jobs=1)
  again = propose(image, SPACING, everywhere(image), jobs=3)
  assert np.array_equal(first.centre, again.centre)
  assert np.array_equal(first.score, again.score)
  assert first.reason == again.reason
  for name in first.features:
    assert np.array_equal(first.features[name], again.features[name])


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_flips_give_the_same_kept_candidates(axis):
  image, _ = slab(6, num_blobs=6, num_tubes=10)
  found = propose(image, SPACING, everywhere(image))
  flipped = propose(np.flip(image, axis), SPACING, everywhere(image))
  kept = found.centre[found.kept].astype(float)
  other = flipped.centre[flipped.kept].astype(float)
  other[:, axis] = image.shape[axis] - 1 - other[:, axis]
  away = np.abs(kept[:, None] - other).max(2)
  # A middle half-way between voxels may round to the other side.
  assert (away.min(1) <= 1).mean() > 0.95
  assert abs(len(kept) - len(other)) <= 1


@pytest.mark.parametrize(
  'image',
  [np.full((20, 22, 6), 0.5, np.float32), np.zeros((20, 22, 6), np.float32)],
)
def test_nothing_there_is_an_empty_table(image):
  found = propose(image, SPACING, everywhere(image))
  assert len(found) == 0
  assert found.centre.shape == (0, 3)
  assert found.regions == found.reason == found.category == []


def test_empty_mask_is_an_empty_table():
  image, _ = slab(7, num_blobs=0, num_tubes=5)
  found = propose(image, SPACING, np.zeros(image.shape, bool))
  assert len(found) == 0
  assert found.kept.dtype == bool


def test_shapes_must_agree():
  image = ball(1.5)
  with says(ValueError):
    propose(image, SPACING, everywhere(image)[1:])


@pytest.mark.parametrize('spacing', [SPACING, (1.0, 1.0, 1.5), (0.5, 0.8, 1.0)])
def test_a_ball_is_kept_and_measured(spacing):
  image = ball(2.0, spacing=spacing)
  found = propose(image, spacing, everywhere(image))
  assert found.kept.sum() == 1
  first = int(np.flatnonzero(found.kept)[0])
  assert tuple(found.centre[first]) == (20, 20, 8)
  volume = (image < 0.5).sum() * np.prod(spacing)
  got = {name: float(v[first]) for name, v in found.features.items()}
  assert got['volume_mm3'] == pytest.approx(volume)
  assert got['diameter_mm'] == pytest.approx((6 * volume / np.pi) ** (1 / 3))
  assert got['contrast'] == pytest.approx(0.8, abs=0.03)
  assert got['solidity'] > 0.75
  assert got['circularity'] > 0.65


def test_a_tube_is_rejected_with_a_reason():
  image = np.ones((60, 60, 13), np.float32)
  image[:, 29:32, 6] = 0.2
  found = propose(image, SPACING, everywhere(image))
  assert not found.kept.any()
  through = np.ones((40, 40, 17), np.float32)
  through[19:22, 19:22, :] = 0.2
  found = propose(through, SPACING, everywhere(through))
  # At the ends of the scan its length cannot be seen.
  inner = (found.centre[:, 2] >= 4) & (found.centre[:, 2] <= 12)
  assert inner.any()
  assert not found.kept[inner].any()


def test_score_is_the_product_by_hand():
  names = 'response blobness roundness circularity flatness core_flatness'
  features = {name: np.array([0.5, 1.0]) for name in names.split()}
  features['crowding'] = np.array([0.48, 0.98])  # and 0.02 more
  features['core_touches_sphere'] = np.array([0.0, 1.0])
  expected = [0.5**5 / 0.5 / 0.5, 2 / 3]
  found = score(features, (0.5, 0.5, 2.0))
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_first_failed_gate_is_the_reason():
  features = {
    'edge_mm': [1.0, 6.0, 6.0, 6.0],
    'contrast': [0.1, 0.9, 0.9, 0.9],
    'diameter_mm': [3.0, 3.0, 3.0, 3.0],
    'core_touches_sphere': [0.0, 1.0, 0.0, 0.0],
    'core_elongation': [1.0, 9.0, 9.0, 1.0],
    'core_num_slices': [3.0, 3.0, 3.0, 3.0],
    'core_area_pixels': [20.0, 20.0, 20.0, 4.0],
    'core_area_mm2': [5.0, 5.0, 5.0, 1.0],
    'core_feret_mm': [3.0, 3.0, 3.0, 3.0],
    'core_circularity': [0.9, 0.9, 0.9, 0.1],
    'core_eccentricity': [0.1, 0.1, 0.1, 0.99],
    'core_solidity': [0.9, 0.9, 0.9, 0.1],
    'score': [1.0, 1.0, 0.0, 1.0],
  }
  features = {name: np.array(values) for name, values in features.items()}
  assert judge(features, Gates()) == [
    'near the edge',
    'vessel',
    'low score',
    '',
  ]


def gated(spacing, *dark, mask=None):
  """Reasons, and features, of the seed in the middle of dark boxes."""
  image = np.ones((41, 41, 17), np.float32)
  for box, value in dark:
    image[box] = value
  features, _ = detector.grown(
    image,
    everywhere(image),
    seed=np.array([[20, 20, 8]], np.int32),
    spacing_mm=spacing,
    gates=Gates(),
    jobs=1,
  )
  features['score'] = np.ones(1)
  return judge(features, Gates()), features


def test_a_dot_in_two_thick_slices_is_no_vessel():
  """1 x 1 x 2 voxels of 0.8 x 0.8 x 3 mm: sides of 6 and 0.8 mm."""
  spacing = (0.8, 0.8, 3.0)
  two = (slice(20, 21), slice(20, 21), slice(8, 10))
  reason, features = gated(spacing, (two, 0.2))
  assert features['core_elongation'] == pytest.approx(7.5)
  assert features['core_touches_sphere'] == 1
  assert reason == ['']
  through = (*two[:2], slice(5, 12))
  assert gated(spacing, (through, 0.2))[0] == ['vessel']
  along = (slice(10, 31), slice(20, 22), slice(8, 10))
  reason, features = gated((0.8, 0.8, 1.0), (along, 0.2))
  assert reason == ['vessel']


def test_a_width_of_one_voxel_shows_no_shape():
  """A row of 9 voxels: 9 to 1 by its pixels, but the width is not known."""
  spacing = (0.5, 0.5, 2.0)
  row = (slice(16, 25), slice(20, 21), slice(8, 9))
  reason, features = gated(spacing, (row, 0.2))
  assert features['core_eccentricity'] == pytest.approx((1 - 1 / 81) ** 0.5)
  assert reason == ['']
  wide = (slice(13, 28), slice(20, 22), slice(8, 9))  # 15 to 2
  assert gated(spacing, (wide, 0.2))[0] == ['elongated']


def test_the_outline_of_a_core_is_that_of_its_seeds_slice():
  """A dot of 3 x 3 pixels under a vessel: the larger slice is the vessel."""
  dot = (slice(19, 22), slice(19, 22), slice(8, 9))
  vessel = (slice(13, 28), slice(20, 22), slice(9, 10))
  reason, features = gated((0.5, 0.5, 2.0), (dot, 0.2), (vessel, 0.25))
  assert features['area_pixels'] == 30
  assert features['core_area_pixels'] == 9
  assert features['core_eccentricity'] == pytest.approx(0, abs=1e-3)
  assert reason == ['']


def test_gates_are_overridden_by_name():
  image = ball(1.5)
  strict = dataclasses.replace(Gates(), min_diameter_mm=9.0)
  found = propose(image, SPACING, everywhere(image), gates=strict)
  assert 'too small' in found.reason
  assert not found.kept.any()


def test_rim_of_the_mask():
  image = ball(1.5)
  mask = everywhere(image)
  mask[:18] = False
  wide = Gates(edge_mm=3.0)
  found = propose(image, SPACING, mask, gates=wide)
  assert 'near the edge' in found.reason
  assert not found.kept.any()


def test_room_round_the_mask_is_in_mm():
  """The shell ends at 6 mm: 12 voxels of 0.5 mm, 3 slices of 2 mm."""
  mask = np.zeros((60, 60, 20), bool)
  mask[20:40, 5:40, 8:11] = True
  box = background.brain_box(mask, (0.5, 0.5, 2.0), detector.Gates())
  assert box == (slice(8, 52), slice(0, 52), slice(5, 14))


def test_growing_by_hand():
  image = np.ones((30, 30, 9), np.float32)
  image[15, 15:18, 4] = (0.0, 0.4, 0.6)  # half-way to 1 is 0.5
  image[16, 16, 5] = 0.3  # a neighbour by its corner
  image[15, 20, 4] = 0.0  # dark but apart
  regions = growing.grow(
    image, everywhere(image), [[15, 15, 4]], (0.5, 0.5, 2.0)
  )
  assert {tuple(v) for v in regions.voxel} == {
    (15, 15, 4),
    (15, 16, 4),
    (16, 16, 5),
  }
  assert regions.background[0] == 1
  assert regions.darkest[0] == 0


def test_crowding_by_hand():
  image = np.ones((30, 30, 9), np.float32)
  image[15, 15, 4] = 0
  image[15, 20, 4] = 0  # 2.5 mm away: not in the shell
  image[15, 22:24, 4] = (0.2, 0.6)  # 3.5 and 4 mm; half-way is 0.5
  image[15, 25, 4] = 0  # 5 mm away: in the outer half
  regions = growing.grow(
    image, everywhere(image), [[15, 15, 4]], (0.5, 0.5, 2.0)
  )
  x, y, z = np.ogrid[-15:15, -15:15, -4:5]
  squares = (x / 2) ** 2 + (y / 2) ** 2 + (2.0 * z) ** 2
  shell = ((squares > 3**2) & (squares <= 4.5**2)).sum()
  np.testing.assert_allclose(regions.crowding, [1 / shell], rtol=1e-6)


def test_growing_stops_at_the_sphere_and_the_mask():
  image = np.ones((60, 20, 9), np.float32)
  image[:, 10, 4] = 0.1
  mask = everywhere(image)
  mask[:26] = False
  regions = growing.grow(image, mask, [[30, 10, 4]], (0.5, 0.5, 2.0))
  rows = regions.voxel[:, 0]
  assert rows.min() == 26
  assert rows.max() == 40  # 5 mm at 0.5 mm


def test_shape_of_a_rectangle_by_hand():
  image = np.ones((40, 40, 9), np.float32)
  image[18:24, 20:22, 4] = 0.1
  regions = growing.grow(
    image, everywhere(image), [[20, 20, 4]], (0.5, 0.5, 2.0)
  )
  found = growing.shapes(regions, (0.5, 0.5, 2.0), growth_mm=5.0)
  got = {name: values[0] for name, values in found.items()}
  assert got['area_pixels'] == 12
  assert got['volume_mm3'] == pytest.approx(12 * 0.5)
  # 3 x 1 mm: perimeter 8, area 3, diagonal sqrt 10.
  assert got['circularity'] == pytest.approx(4 * np.pi * 3 / 64, rel=1e-3)
  assert got['solidity'] == pytest.approx(1, rel=1e-3)
  assert got['feret_mm'] == pytest.approx(10**0.5, rel=5e-3)
  # Uniform rectangle: variances 9/12 and 1/12.
  assert got['eccentricity'] == pytest.approx((1 - 1 / 9) ** 0.5, rel=1e-3)
  assert got['num_slices'] == 1
  assert got['centroid_shift_mm'] == 0


def test_shift_from_slice_to_slice_by_hand():
  image = np.ones((40, 40, 9), np.float32)
  image[18:21, 20, 4] = 0.1
  image[20:23, 20, 5] = 0.2
  regions = growing.grow(
    image, everywhere(image), [[19, 20, 4]], (0.5, 0.5, 2.0)
  )
  found = growing.shapes(regions, (0.5, 0.5, 2.0), growth_mm=5.0)
  assert found['num_slices'][0] == 2
  assert found['centroid_shift_mm'][0] == pytest.approx(1.0)


def test_flatten_takes_out_a_bias_field():
  x = np.linspace(0.85, 1.15, 80, dtype=np.float32)[:, None, None]
  image = np.broadcast_to(x, (80, 80, 8)).copy()
  image[40, 40, 4] = 0.1
  flat = flatten(image, SPACING, everywhere(image), gates=Gates())
  assert flat[40, 40, 4] < 0.15
  flat[40, 40, 4] = 1
  assert np.ptp(image) / np.median(image) > 0.29
  assert np.abs(flat[10:-10] - 1).max() < 0.06


def test_darkest_near_prefers_the_nearest_of_equals():
  image = np.ones((9, 9, 3), np.float32)
  image[4, 6, 1] = image[4, 5, 1] = 0.2
  found = growing.darkest_near(
    image, np.array([[4, 4, 1]]), (0.5, 0.5, 2.0), reach_mm=1.0
  )
  assert found.tolist() == [[4, 5, 1]]


def test_the_background_is_the_lower_median_of_what_is_brain():
  values = np.array([[4, 1, 3, 2], [7, 5, 9, 0], [1, 2, 3, 4]], np.float32)
  valid = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]], bool)
  found = growing._masked_median(values, valid, np.float32([8, 8, 8]))
  assert found.tolist() == [2, 7, 8]


@pytest.mark.parametrize(('radius_mm', 'touches'), [(4.9, 1), (5.0, 0)])
def test_a_region_touches_where_its_next_voxel_lies_beyond(radius_mm, touches):
  image = np.ones((20, 12, 12), np.float32)
  image[6:11, 6, 6] = 0.1  # up to 4 mm from the seed
  regions = growing.grow(
    image, everywhere(image), [[6, 6, 6]], (1, 1, 1), growth_mm=radius_mm
  )
  found = growing.shapes(regions, (1, 1, 1), growth_mm=radius_mm)
  assert found['touches_sphere'].tolist() == [touches]


def test_blocks_are_stretched_between_their_middles():
  ramp = np.arange(24, dtype=np.float32)[:, None, None] * np.ones((1, 4, 2))
  blocks = background._block_sums(ramp, (4, 2, 1)) / 8
  found = background._stretch(blocks, (4, 2, 1), ramp.shape)
  np.testing.assert_allclose(found[2:-2], ramp[2:-2], atol=1e-5)
