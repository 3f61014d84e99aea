"""What a head with details looks like in the maps and among the mimics."""

import dataclasses

import numpy as np
import pytest

from cmbjax.simulate import (
  families,
  grids,
  labels,
  physics,
  protocols,
  scan,
  tissue,
)
from cmbjax.simulate import world as world_lib

USUAL = protocols.get_protocol('ccm_3t')


@pytest.fixture(scope='module', params=['folded', 'procedural'])
def world(request):
  protocol = dataclasses.replace(
    USUAL, families=families.CLASSIC._replace(anatomy=request.param)
  )
  return world_lib.build_world(
    scan.Streams(9020, 'details', 1), protocol, slab_mm=12.0
  )


def _on_fine_grid(world, image):
  return grids.refine(
    image.astype(np.float32), world.extent.fine_shape,
    step=world.protocol.fine_mm,
  )  # fmt: skip


def test_fluid_has_the_signal_that_its_factor_says(world):
  head, protocol = world.head, world.protocol
  fluid = _on_fine_grid(world, head.csf) > 0.99
  # Away from veins, falx and surroundings.
  fluid &= _on_fine_grid(world, head.details.void) < 0.01
  fluid &= _on_fine_grid(world, head.mask) > 0.99
  usual = physics.spoiled_echo(
    protocol.tissue('csf'),
    repetition_time_s=protocol.repetition_time_s,
    flip_deg=protocol.flip_deg,
  )
  found = np.median(world.maps.density[fluid]) / usual
  # T1 differs between people by up to 7 %.
  assert found == pytest.approx(head.details.fluid, rel=0.1)


def test_a_falx_takes_signal_away(world):
  head = world.head
  falx = head.details.kinds.index('falx') + 1
  dark = _on_fine_grid(world, head.details.labels == falx) > 0.8
  beside = (_on_fine_grid(world, head.csf) > 0.95) & (
    _on_fine_grid(world, head.details.void) < 0.01
  )
  density = world.maps.density
  assert dark.sum() > 20
  assert np.median(density[dark]) < 0.85 * np.median(density[beside])


def test_structures_are_mimics_with_their_kind(world):
  keep = slice(world.extent.margin, world.extent.shape[2] - world.extent.margin)
  image, rows = labels.paint_mimics(world, [], keep)
  assert [row.index for row in rows] == list(range(1, len(rows) + 1))
  name = {row.index: row.kind for row in rows}
  details = world.head.details
  # Labels agree at the nearest node of the head's own grid.
  place = np.argwhere(image > 0)[::23]
  checked = 0
  for x, y, z in place:
    kind = name[image[x, y, z]]
    if kind in details.kinds:
      mm = np.array((x, y, z + keep.start)) * world.protocol.voxel_mm
      near = tuple(np.rint(mm).astype(int))
      assert details.kinds[details.labels[near] - 1] == kind
      checked += 1
  assert checked > 10
  assert {'nucleus: putamen', 'falx'} <= set(name.values())


def test_arteries_are_bright_early_and_dark_late(world):
  """Inflow brightens, the decay of flowing blood takes the signal."""
  one = np.ones((1, 1, 1), np.float32)
  density, r2s = one.copy(), 20 * one
  details = world.head.details
  tissue._blend_vessels(density, r2s, 0 * one, one, world.protocol, details)
  assert density[0, 0, 0] == pytest.approx(1 + details.inflow)
  assert r2s[0, 0, 0] == pytest.approx(details.flow_r2s)
