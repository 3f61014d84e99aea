"""Deposits: exactness of their local effect, sizes, places, labels."""

import numpy as np
import pytest

from cmbjax.simulate import (
  anatomy,
  lesions,
  physics,
  tissue_atlas,
  tubes,
  vessels,
)
from tests import analytic_fields

B0 = np.array([0.0, 0.2, 0.98]) / np.hypot(0.2, 0.98)


def test_effect_equals_a_dense_average_of_phasors():
  """Against 0.0625 mm samples of the analytic field, box by box."""
  spacing, shape = (0.5, 0.5, 1.0), (24, 24, 12)
  sphere = np.array([[6.1, 5.9, 6.2, 0.55]], np.float32)
  deposit = lesions.Deposit('sphere', sphere, np.array([1.2]))
  effect = lesions.effect(
    deposit, shape, spacing, b0=B0, field_t=7.0, echo_times_s=(0.016,)
  )
  found = np.ones(shape, complex)
  found[effect.box] = effect.factors[0]
  gaps = []
  for index in ((12, 12, 6), (13, 12, 6), (12, 12, 8), (15, 12, 6), (9, 10, 5)):
    axes = [
      i * s + ((np.arange(n) + 0.5) / n - 0.5) * s
      for i, s, n in zip(index, spacing, (8, 8, 16))
    ]
    points = np.stack(np.meshgrid(*axes, indexing='ij'), -1) - sphere[0, :3]
    field = analytic_fields.sphere_field_ppm(points, 0.55, 1.2, B0)
    inside = (points**2).sum(-1) < 0.55**2
    wanted = np.exp(1j * physics.phase_per_ppm(7.0, 0.016) * field)
    wanted *= np.exp(-0.016 * physics.R2_PRIME * 7 * 1.2 * inside)
    gaps.append(abs(found[index] - wanted.mean()))
  # Near the surface the phase turns faster than any sampling follows.
  assert max(gaps) < 0.08
  assert np.mean(gaps) < 0.03


def test_effect_outside_the_grid_is_none():
  sphere = np.array([[-60.0, 5, 5, 0.3]], np.float32)
  deposit = lesions.Deposit('sphere', sphere, np.array([1.0]))
  effect = lesions.effect(
    deposit, (8, 8, 8), (1, 1, 1), b0=B0, field_t=3.0, echo_times_s=(0.02,)
  )
  assert effect is None


def test_microbleeds_keep_their_moment_and_place():
  rng = np.random.default_rng(0)
  for moment in (0.1, 1.5, 20.0):
    for _ in range(20):
      centre = rng.uniform(20, 60, 3)
      deposit = lesions.draw_microbleed(rng, centre, moment=moment)
      assert deposit.moment == pytest.approx(moment, rel=1e-4)
      radius = (3 * moment / (4 * np.pi * deposit.chi_ppm[0])) ** (1 / 3)
      assert np.linalg.norm(deposit.centre_mm - centre) < 0.8 * radius


def test_moments_follow_the_stated_distribution():
  rng = np.random.default_rng(1)
  moments = [lesions.draw_moment(rng) for _ in range(4000)]
  low, high = lesions.MOMENT_RANGE
  assert min(moments) >= low
  assert max(moments) <= high
  assert np.median(moments) == pytest.approx(lesions.MOMENT_MEDIAN, rel=0.05)


def test_popcorn_is_large_and_has_bright_cores():
  rng = np.random.default_rng(2)
  counts, bright = [], []
  for _ in range(30):
    deposit = lesions.draw_popcorn(rng, np.zeros(3))
    counts.append(len(deposit.spheres))
    bright.append((deposit.chi_ppm < 0.06).mean())
    reach = np.sqrt((deposit.spheres[:, :3] ** 2).sum(1)).max()
    assert reach < 9.5
  assert min(counts) >= 5
  assert max(counts) <= 30
  assert 0.25 < np.mean(bright) < 0.55


def test_calcification_is_diamagnetic_and_dark():
  rng = np.random.default_rng(3)
  deposit = lesions.draw_calcification(rng, np.zeros(3))
  assert deposit.moment < 0
  assert 0.2 <= deposit.density <= 0.6


def test_label_is_the_half_way_region_joined_to_the_core():
  without = np.full((20, 20, 6), 100.0)
  with_ = without.copy()
  with_[8:12, 8:12, 2:4] = 10  # the lesion
  with_[7, 8:12, 2:4] = 60  # less than half-way
  with_[1, 1, 1] = 0  # something else, not joined
  core = np.zeros(without.shape, bool)
  core[9:11, 9:11, 2:4] = True
  mask, contrast = lesions.label_contrast(without, with_, core, visible=0.25)
  wanted = np.zeros(without.shape, bool)
  wanted[8:12, 8:12, 2:4] = True
  np.testing.assert_array_equal(mask, wanted)
  assert contrast == pytest.approx(0.9)
  assert (
    lesions.label_contrast(without, without * 0.9, core, visible=0.11) is None
  )


@pytest.fixture(scope='module')
def head():
  return anatomy.draw_head(
    np.random.default_rng(7), full_mm=(176.0, 216.0, 168.0)
  )


def test_placer_follows_the_region_shares_and_keeps_distances(head):
  rng = np.random.default_rng(8)
  placer = lesions.Placer(head, low_mm=0, high_mm=168)
  names, places = [], []
  for _ in range(250):
    spot = placer.draw(rng)
    places.append(spot[0])
    names.append(spot[1])
    placer.take(spot[0])
  gaps = np.sqrt(((np.array(places)[:, None] - np.array(places)) ** 2).sum(-1))
  assert gaps[np.triu_indices(250, 1)].min() >= 6.0 - 1e-3
  for name, share in lesions.REGION_SHARES.items():
    assert names.count(name) / 250 == pytest.approx(share, abs=0.10)
  index = np.rint(places).astype(int)
  assert head.mask[tuple(index.T)].all()


def test_dose_concentrates_lesions(head):
  rng = np.random.default_rng(9)
  middle = np.array([88.0, 140.0, 100.0])
  dose = lesions.dose_weight(head, middle, reach_mm=40.0)
  placer = lesions.Placer(head, low_mm=0, high_mm=168, dose=dose)
  far = [np.linalg.norm(placer.draw(rng)[0] - middle) for _ in range(200)]
  plain = lesions.Placer(head, low_mm=0, high_mm=168)
  usual = [np.linalg.norm(plain.draw(rng)[0] - middle) for _ in range(200)]
  assert (np.array(far) < 44).mean() > 1.5 * (np.array(usual) < 44).mean()


def test_warp_and_its_inverse_agree(head):
  points = np.random.default_rng(0).uniform(-50, 50, (300, 3))
  points = points.astype(np.float32)
  np.testing.assert_allclose(
    head.to_mni(head.from_mni(points)), points, atol=0.02
  )


def test_head_is_a_head(head):
  assert 1.4e6 < head.mask.sum() < 2.3e6  # mm3
  shares = (head.grey + head.white + head.csf)[head.mask]
  np.testing.assert_allclose(shares.mean(), 1, atol=0.02)
  assert np.linalg.norm(head.b0) == pytest.approx(1, abs=1e-6)
  edges = head.mask.copy()
  edges[1:-1, 1:-1, 1:-1] = False
  assert not edges.any()  # the field of view holds it


def test_deposited_volume_is_that_of_the_tube():
  points = np.zeros((1, 60, 3), np.float32)
  points[0, :, 2] = 5 + 0.5 * np.arange(60)
  points[0, :, :2] = 10.2
  tube = tubes.Tubes(
    points, np.full((1, 60), 0.3, np.float32), np.array(['vein'])
  )
  share = tubes.deposit(
    np.random.default_rng(0), tube, (40, 40, 45), (0.5, 0.5, 1.0)
  )
  volume = share.sum() * 0.25
  assert volume == pytest.approx(np.pi * 0.09 * 30, rel=0.03)
  assert share.max() <= 1
  labels = tubes.trace(tube, ['vein'], (40, 40, 45), (0.5, 0.5, 1.0))
  assert labels[20, 20, 10:30].all()
  assert labels.sum() < 45 * 9 * 3


def test_veins_of_the_depth_run_toward_the_ventricle():
  atlas = tissue_atlas.load()
  tubes = vessels.draw_veins(np.random.default_rng(5), atlas)
  deep = tubes.kind == 'medullary'
  assert deep.sum() > 150
  first = tubes.points_mm[deep, 0]
  last = np.stack([p[np.isfinite(p[:, 0])][-1] for p in tubes.points_mm[deep]])

  def distance(points):
    index = np.rint((points - atlas.origin_mm) / 2).astype(int)
    return atlas.ventricle_mm[tuple(index.T)]

  assert (distance(last) < distance(first)).mean() > 0.9
