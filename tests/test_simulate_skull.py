"""Round the brain: shells in their order, signals, fields, contrast."""

import dataclasses

import numpy as np
import pytest

from cmbjax.simulate import anatomy, physics, protocols, skull

PROTOCOL = protocols.get_protocol('btumor_3t')


@pytest.fixture(scope='module')
def head():
  return anatomy.draw_head(
    np.random.default_rng(7), full_mm=(176.0, 216.0, 168.0), start_mm=60.0,
    depth_mm=50.0,
  )  # fmt: skip


@pytest.fixture(scope='module')
def plan(head):
  return skull.draw_plan(np.random.default_rng(3), head)


@pytest.fixture(scope='module')
def around(plan, head):
  return skull.draw_surroundings(plan, head, PROTOCOL)


def _column(plan, num=61):
  """Points from the side of the brain straight outward, above the muscle."""
  depth = np.linspace(0, 30, num).astype(np.float32)
  mni = np.stack([70 + depth, 0 * depth - 50, 0 * depth + 35])
  quiet = tuple(np.zeros_like(depth) for _ in range(3))
  return depth, skull.shares(mni, depth, depth, quiet, plan)


def test_shares_are_complete(plan):
  rng = np.random.default_rng(0)
  mni = rng.uniform((-90, -120, -90), (90, 100, 90), (4000, 3)).T
  mni = mni.astype(np.float32)
  depth = rng.uniform(0, 60, 4000).astype(np.float32)
  noise = tuple(rng.standard_normal((3, 4000)).astype(np.float32))
  live, found = skull.shares(mni, depth, depth, noise, plan)
  assert 500 < len(live) < 4000
  total = sum(found.values())
  np.testing.assert_allclose(total, 1, atol=1e-4)
  assert min(v.min() for v in found.values()) >= 0


def test_from_brain_to_air_come_fluid_bone_fat_skin(plan):
  depth, (live, found) = _column(plan)
  order = []
  for name in ('fluid', 'bone', 'fat', 'skin'):
    place = depth[live][found[name] > 0.6]
    assert len(place), name
    order.append(place.mean())
  assert order == sorted(order)
  assert depth[live][-1] < 25  # then there is nothing any more
  bone = depth[live][found['bone'] + found['marrow'] > 0.5]
  assert 3 < bone.max() - bone.min() < 10  # mm


def test_brain_touches_no_air_and_air_lies_round_the_head(plan):
  chi = skull.susceptibility(plan)
  assert (chi[plan.brain] == 0).all()
  near = (plan.depth < skull._NEAR_MM - 1) & ~plan.brain
  assert chi[near].max() < 0.5
  assert chi[0, 0, -1] == pytest.approx(9.2)
  assert chi.min() == pytest.approx(-2.1, abs=0.01)


def test_skull_is_dark_and_scalp_is_bright(around, head):
  assert around.density.shape == head.mask.shape
  assert (around.density[head.mask] < 1e-3).mean() > 0.99
  outside = around.density[~head.mask]
  assert (outside < 0.002).mean() > 0.3
  grey = physics.spoiled_echo(
    physics.TISSUES[3.0]['grey'], repetition_time_s=0.046, flip_deg=20
  )
  assert np.quantile(outside, 0.98) > 1.5 * grey
  assert around.shift_ppm.min() == pytest.approx(-3.35, abs=0.01)
  assert around.shift_ppm.max() <= 0


def test_fat_moves_along_the_readout_with_the_field(plan, head):
  strong = dataclasses.replace(PROTOCOL, field_t=7.0)
  middle = []
  for protocol in (PROTOCOL, strong):
    found = skull.draw_surroundings(plan, head, protocol)
    lipid = found.density * found.shift_ppm
    index = np.argwhere(lipid)
    middle.append(np.average(index, axis=0, weights=lipid[tuple(index.T)]))
  assert middle[0][1] - middle[1][1] == pytest.approx(2.0, abs=0.7)  # mm
  assert middle[0][0] == pytest.approx(middle[1][0], abs=0.7)


@pytest.mark.parametrize('name', ['btumor_7t', 'btumor_3t', 'ccm_3t'])
def test_grey_and_white_matter_are_nearly_equal(name):
  """As on real SWI magnitudes; fluid is not black."""
  protocol = protocols.get_protocol(name)
  level = {}
  for tissue in ('grey', 'white', 'csf'):
    values = physics.TISSUES[protocol.field_t][tissue]
    level[tissue] = physics.spoiled_echo(
      values, repetition_time_s=protocol.repetition_time_s,
      flip_deg=protocol.flip_deg,
    ) * np.exp(-protocol.echo_times_s[0] * values.r2s)  # fmt: skip
  assert 0.9 < level['white'] / level['grey'] < 1.06
  assert 0.5 < level['csf'] / level['grey'] < 1.3


def test_relaxation_lies_between_fields():
  fat = skull.tissue_of('fat', 5.0)
  assert fat.t1_s == pytest.approx(0.41)
  assert skull.tissue_of('skin', 1.5).r2s > 0
