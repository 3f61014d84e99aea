"""Families of mimics: named, off the lesions, of the right substance."""

import dataclasses

import numpy as np
import pytest

from cmbjax.simulate import (
  families,
  labels,
  lesions,
  mimics_curved,
  mimics_mixed,
  placement,
  protocols,
  scan,
)
from cmbjax.simulate import world as world_lib

PROTOCOL = dataclasses.replace(
  protocols.get_protocol('btumor_3t'), disease='small vessel disease'
)
CALCIUM = (
  'calcification', 'calcified pallidum', 'falx calcification',
  'calcified thread', 'calcified sheet', 'calcified nucleus',
)  # fmt: skip
IRON = (
  'iron spot', 'short vein', 'vein junction', 'iron streak', 'curled vein',
  'vein stump',
)  # fmt: skip


@pytest.fixture(scope='module')
def world():
  return world_lib.build_world(
    scan.Streams(9020, PROTOCOL.name, 1), PROTOCOL, slab_mm=48.0
  )


def place(world, name, seed=0):
  """Lesions first, then the mimics of a family; both as placed."""
  chosen = families.CLASSIC._replace(mimics=name, lesions='speckled')
  protocol = dataclasses.replace(world.protocol, families=chosen)
  someone = dataclasses.replace(world, protocol=protocol)
  rng = np.random.default_rng(seed)
  bleeds = placement.place_lesions(rng, someone, quantile=0.5)
  return bleeds, placement.place_mimics(rng, someone)


@pytest.mark.parametrize('name', ['mixed', 'curved'])
def test_every_mimic_has_a_kind_of_a_known_substance(world, name):
  low, high = world.low_high_mm
  kinds = set()
  for seed in range(4):
    for item in place(world, name, seed)[1]:
      deposit = item.deposit
      kinds.add(deposit.kind)
      assert low <= deposit.centre_mm[2] <= high
      assert item.voxels.any()
      if deposit.kind in CALCIUM:
        assert (deposit.chi_ppm < 0).all()
        assert deposit.density < 0.9
      if deposit.kind in IRON:
        assert (deposit.chi_ppm > 0).all()
        assert deposit.density > 0.7
  assert len(kinds) >= 5
  assert 'microbleed' not in kinds
  assert kinds & set(CALCIUM)
  assert kinds & set(IRON)


@pytest.mark.parametrize('name', ['mixed', 'curved'])
def test_mimics_are_beside_lesions_never_on_them(world, name):
  bleeds, mimics = place(world, name)
  assert len(bleeds) > 3
  bulky = ('calcified pallidum', 'falx calcification')
  for bleed in bleeds:
    for mimic in mimics:
      gap = bleed.deposit.centre_mm - mimic.deposit.centre_mm
      assert mimic.deposit.kind in bulky or np.linalg.norm(gap) > 3.5


@pytest.mark.parametrize('name', ['mixed', 'curved'])
def test_the_same_stream_gives_the_same_mimics(world, name):
  (_, one), (_, again) = place(world, name), place(world, name)
  assert len(one) == len(again)
  for a, b in zip(one, again):
    np.testing.assert_array_equal(a.deposit.spheres, b.deposit.spheres)


def test_their_kinds_are_in_the_truth(world):
  _, mimics = place(world, 'mixed')
  margin = world.extent.margin
  keep = slice(margin, world.extent.shape[2] - margin)
  image, rows = labels.paint_mimics(world, mimics, keep)
  assert {row.kind for row in rows} >= {item.deposit.kind for item in mimics}
  assert {row.index for row in rows} >= set(np.unique(image)) - {0}


def test_a_chain_holds_the_iron_of_a_tube():
  """pi r2 L chi; thinner ends take about a fifth of it."""
  chain = mimics_mixed._chain(
    np.random.default_rng(0), '', np.zeros(3), radius=0.5, chi_ppm=0.4,
    length_mm=5.0,
  )  # fmt: skip
  assert chain.moment == pytest.approx(np.pi * 0.25 * 5 * 0.4, rel=0.3)
  steps = np.linalg.norm(np.diff(chain.spheres[:, :3], axis=0), axis=1)
  np.testing.assert_allclose(steps, 5 / len(chain.spheres), rtol=1e-3)


def test_short_veins_are_far_longer_than_wide(world):
  pieces = [
    item.deposit
    for seed in range(3)
    for item in place(world, 'mixed', seed)[1]
    if item.deposit.kind in ('short vein', 'vein junction')
  ]
  assert len(pieces) > 10
  for piece in pieces:
    points = piece.spheres[:, :3]
    length = np.linalg.norm(points[:, None] - points, axis=-1).max()
    assert length > 4 * piece.spheres[:, 3].max()


def test_a_flow_void_takes_signal_and_leaves_the_field():
  void = lesions.Deposit(
    'flow void',
    np.array([[6.0, 6.0, 6.0, 1.0]], np.float32),
    np.array([mimics_mixed._NO_FIELD], np.float32),
    density=0.25,
  )
  effect = lesions.effect(
    void, (24, 24, 12), (0.5, 0.5, 1), b0=(0, 0, 1), field_t=3.0,
    echo_times_s=(0.028,),
  )  # fmt: skip
  (factor,) = effect.factors
  assert abs(np.angle(factor)).max() < 1e-4
  assert abs(factor).min() == pytest.approx(0.25, abs=0.02)


def test_pairs_are_mirrored(world):
  _, mimics = place(world, 'curved', seed=2)
  centres = np.array([
    m.deposit.centre_mm for m in mimics if m.deposit.kind == 'iron streak'
  ])  # fmt: skip
  assert len(centres) > 2
  mni = world.head.to_mni(centres.astype(np.float32))
  gaps = mni[:, None] * (-1, 1, 1) - mni
  nearest = np.linalg.norm(gaps, axis=-1).min(1)
  assert (nearest < 5).mean() > 0.5


def test_a_strand_keeps_its_place_and_tapers():
  substance = mimics_curved.SUBSTANCES[0]
  strand = mimics_curved._draw_strand(
    np.random.default_rng(1), substance, np.array([30.0, 40.0, 50.0])
  )
  middle = strand.spheres[:, :3].mean(0)
  np.testing.assert_allclose(middle, (30, 40, 50), atol=1e-3)
  radii = strand.spheres[:, 3]
  assert radii.argmax() in (6, 7)
  np.testing.assert_allclose(radii, radii[::-1], rtol=1e-5)


def test_mirrored_twice_is_the_same_place(world):
  place_mm = np.array([60.0, 100.0, 30.0])
  other = mimics_mixed._mirrored(world.head, place_mm)
  assert np.linalg.norm(other - place_mm) > 20
  again = mimics_mixed._mirrored(world.head, other)
  np.testing.assert_allclose(again, place_mm, atol=0.3)
