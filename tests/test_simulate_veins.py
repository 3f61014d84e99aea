"""Veins as trees and as ridges of random fields: laws, connection, places."""

import numpy as np
import pytest
from scipy import ndimage, spatial

from cmbjax.simulate import anatomy, tubes, vein_ridges, vein_trees
from cmbjax.simulate.protocols import get_protocol

SLAB_MM = 56.0


@pytest.fixture(scope='module')
def head():
  """A slab of one person round the ventricles."""
  full = get_protocol('btumor_3t').field_of_view_mm
  rng = np.random.default_rng(3)
  return anatomy.draw_head(rng, full_mm=full, start_mm=58.0, depth_mm=SLAB_MM)


@pytest.fixture(scope='module', params=['trees', 'ridges'])
def drawn(request, head):
  draw = {'trees': vein_trees.draw_trees, 'ridges': vein_ridges.draw_ridges}
  draw = draw[request.param]
  return draw(np.random.default_rng(7), head), draw


def ends(veins, *, last):
  """First or last point [N, 3] of every tube."""
  alive = np.isfinite(veins.radius_mm)
  at = alive.sum(1) - 1 if last else np.zeros(len(alive), int)
  return veins.points_mm[np.arange(len(alive)), at]


def straight(length_mm, radius_mm, venous):
  line = np.arange(0, length_mm, tubes.STEP_MM)[:, None] * (0, 0, 1) + 10.0
  return tubes.Tubes(
    line[None].astype(np.float32), np.full((1, len(line)), radius_mm),
    np.array(['vein']), venous,
  )  # fmt: skip


def test_blood_that_kept_oxygen_weighs_less():
  tube = straight(20.0, 0.6, np.array([0.4], np.float32))
  share = tubes.deposit(
    np.random.default_rng(0), tube, (40, 40, 60), (0.5, 0.5, 1.0)
  )
  steps = tube.points_mm.shape[1]
  volume = np.pi * 0.6**2 * steps * tubes.STEP_MM
  np.testing.assert_allclose(share.sum() * 0.25, 0.4 * volume, rtol=1e-4)
  without = straight(20.0, 0.6, None)
  whole = tubes.deposit(
    np.random.default_rng(0), without, (40, 40, 60), (0.5, 0.5, 1.0)
  )
  assert whole.max() > 0.99
  assert share.max() < 0.45


def test_tubes_of_two_kinds_are_stacked():
  one = straight(20.0, 0.6, np.array([0.4], np.float32))
  other = straight(30.0, 0.6, None)
  assert tubes.stack([other, other]).venous is None
  np.testing.assert_array_equal(
    tubes.stack([one, other]).venous, np.float32([0.4, 1])
  )


def test_the_cubes_of_the_radii_add_up():
  #    4   3
  #     \ /
  #  2   1      0 is the outlet, 5 an outlet alone
  #   \ /
  #    0
  parent = np.array([0, 0, 0, 1, 1, 5])
  radius, thickest, order = vein_trees._murray(np.random.default_rng(0), parent)
  cubed = radius**3
  place = {node: number for number, node in enumerate(order.tolist())}
  assert all(place[n] < place[parent[n]] for n in (1, 2, 3, 4))
  np.testing.assert_allclose(cubed[1], cubed[3] + cubed[4])
  np.testing.assert_allclose(cubed[0], cubed[1] + cubed[2])
  assert thickest[[2, 3, 4, 5]].tolist() == [-1] * 4
  assert thickest[1] == (3 if radius[3] > radius[4] else 4)


def test_points_of_a_line_drain_along_it():
  points = np.arange(30.0)[:, None] * (1, 0, 0)
  outlet = np.arange(30) == 0
  parent = vein_trees._cheapest(
    np.random.default_rng(0), points, np.ones(30), outlet, 2.0
  )
  assert parent.tolist() == [0, *range(29)]


def test_a_way_goes_round_what_is_dear():
  x, y = np.meshgrid(np.arange(12.0), np.arange(7.0), indexing='ij')
  points = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1)
  wall = (points[:, 0] == 6) & (points[:, 1] < 6)
  outlet = (points[:, 0] == 0) & (points[:, 1] == 0)
  parent = vein_trees._cheapest(
    np.random.default_rng(0), points, np.where(wall, 300.0, 1.0), outlet, 1.5
  )
  here = int(np.flatnonzero((points[:, 0] == 11) & (points[:, 1] == 0))[0])
  way = [here]
  while parent[way[-1]] != way[-1]:
    way.append(int(parent[way[-1]]))
  assert outlet[way[-1]]
  assert not wall[way].any()


def test_the_same_seed_draws_the_same_veins(drawn, head):
  veins, draw = drawn
  again = draw(np.random.default_rng(7), head)
  for one, other in zip(veins, again):
    np.testing.assert_array_equal(one, other)
  assert draw(np.random.default_rng(8), head).venous.sum() != veins.venous.sum()


def test_veins_are_whole_and_in_the_head(drawn, head):
  veins, _ = drawn
  alive = np.isfinite(veins.radius_mm)
  # No gaps: what follows the end is all that is missing.
  assert (np.diff(alive.astype(int), axis=1) <= 0).all()
  np.testing.assert_array_equal(alive, np.isfinite(veins.points_mm[..., 0]))
  assert np.nanmin(veins.radius_mm) > 0
  assert np.nanmax(veins.radius_mm) < 5
  assert ((veins.venous >= 0.3) & (veins.venous <= 1)).all()
  step = np.sqrt((np.diff(veins.points_mm, axis=1) ** 2).sum(-1))
  assert np.nanmax(step) < 2.5 * tubes.STEP_MM
  inner = np.array(['net' in k or k == 'cortical' for k in veins.kind])
  points = veins.points_mm[inner][alive[inner]]
  away = ndimage.distance_transform_edt(~head.mask)
  index = np.rint(points).astype(int)
  index = np.clip(index, 0, np.array(head.mask.shape) - 1)
  assert away[tuple(index.T)].max() < 4


def test_trees_are_connected(head):
  veins = vein_trees.draw_trees(np.random.default_rng(7), head)
  tree = np.flatnonzero(veins.kind == 'cortical')
  last = ends(veins, last=True)[tree]
  depth = ndimage.distance_transform_edt(
    np.pad(head.mask, ((0, 0), (0, 0), (1, 1)), mode='edge')
  )[:, :, 1:-1]
  index = np.clip(np.rint(last).astype(int), 0, np.array(depth.shape) - 1)
  leaves = depth[tuple(index.T)] < 7
  alive = np.isfinite(veins.radius_mm)
  rows = np.broadcast_to(np.arange(len(alive))[:, None], alive.shape)[alive]
  near = spatial.cKDTree(veins.points_mm[alive]).query_ball_point(last, 2.0)
  joins = [any(rows[n] != own for n in found) for own, found in zip(tree, near)]
  assert np.mean(leaves | np.array(joins)) > 0.98
  assert np.mean(joins) > 0.8


def test_a_field_of_a_sphere_and_one_of_a_plane_meet_in_a_circle():
  x, y, z = np.indices((30, 30, 30)) * 2.0
  ball = np.sqrt((x - 30) ** 2 + (y - 30) ** 2 + (z - 30) ** 2) - 16
  fields = vein_ridges._Fields((
    (z - 25).astype(np.float32), ball.astype(np.float32)
  ))  # fmt: skip
  seed = np.array([[44.0, 30.0, 27.0], [30.0, 17.0, 22.0]])
  line = vein_ridges._follow(fields, seed, np.array([30.0, 20.0]))
  for one, length in zip(line, (30.0, 20.0)):
    one = one[np.isfinite(one[:, 0])]
    ring = np.hypot(one[:, 0] - 30, one[:, 1] - 30)
    np.testing.assert_allclose(one[:, 2], 25, atol=0.05)
    np.testing.assert_allclose(ring, np.sqrt(16**2 - 5**2), atol=0.25)
    walked = np.sqrt((np.diff(one, axis=0) ** 2).sum(1)).sum()
    np.testing.assert_allclose(walked, length, atol=1.2)


def test_a_curve_ends_where_it_meets_an_earlier_one():
  along = np.arange(-8, 8.1, tubes.STEP_MM)
  line = np.zeros((2, len(along), 3), np.float32)
  line[0, :, 0] = along
  line[1, :, 1] = along + 3  # crosses the first after 5 of its 16 mm
  pair = tubes.Tubes(
    line, np.ones(line.shape[:2]), np.array(['a', 'b']), np.ones(2)
  )
  joined = vein_ridges._join(pair, np.zeros((0, 3)))
  alive = np.isfinite(joined.radius_mm)
  assert alive[0].sum() == len(along)
  rest = joined.points_mm[1][alive[1], 1]
  assert rest.min() == pytest.approx(1.0, abs=0.6)
  assert rest.max() == pytest.approx(11.0)
  assert len(vein_ridges._join(pair, line[1]).kind) == 1


def test_a_caput_medusae_meets_in_one_point(head):
  place = vein_trees._look(head)
  parts = vein_trees._anomaly(np.random.default_rng(1), place)
  trunk, veins = parts[-1], tubes.stack(parts[:-1])
  centre = trunk.points_mm[0, 0]
  gap = np.sqrt(((ends(veins, last=True) - centre) ** 2).sum(1))
  assert (gap < 0.1).sum() > 2
  assert set(veins.kind) == set(trunk.kind) == {'anomaly'}
