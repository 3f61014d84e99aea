"""What was placed and what was drawn to label images and their tables.

Rule: a voxel belongs to the first that claims it; lesions go before mimics.
"""

from typing import NamedTuple

import numpy as np

from cmbjax.simulate import tubes


class Finding(NamedTuple):
  """One row of a truth table."""

  index: int
  kind: str
  region: str
  centre_mm: np.ndarray  # [3], grid mm, of the deposit
  moment: float  # ppm mm3
  contrast: float  # 0..1, noise-free, relative to the surroundings


def paint(found, extent, keep):
  """Instance labels of what was placed, and their rows.

  Args:
    found: what was placed, first come first served.
    extent: the part of the field of view that is simulated.
    keep: slice of z without the margins of a slab.
  """
  labels = np.zeros(extent.shape, np.uint16)
  rows = []
  for item in found:
    view = labels[item.box]
    fresh = item.voxels & (view == 0)
    inside = np.zeros(extent.shape[2], bool)
    inside[keep] = True
    fresh &= inside[item.box[2]]
    if not fresh.any():
      continue
    view[fresh] = len(rows) + 1
    rows.append(
      Finding(
        len(rows) + 1, item.deposit.kind, item.region, item.deposit.centre_mm,
        item.deposit.moment, item.contrast,
      )
    )  # fmt: skip
  return np.ascontiguousarray(labels[:, :, keep]), rows


def paint_mimics(world, others, keep):
  """Objects first, then one label per kind of vessel, then the rim.

  Args:
    world: the person.
    others: mimics that were placed.
    keep: slice of z without the margins of a slab.
  """
  protocol, extent = world.protocol, world.extent
  labels, rows = paint(others, extent, keep)
  veins, arteries, rim = world.drawn
  drawn = tubes.stack([veins, arteries])
  kinds = sorted(set(drawn.kind.tolist()))
  trace = tubes.trace(drawn, kinds, extent.shape, protocol.voxel_mm)
  trace = trace[:, :, keep]
  fresh = (trace > 0) & (labels == 0)
  labels[fresh] = trace[fresh] + len(rows)
  artery = set(arteries.kind.tolist())
  count = len(rows)
  if rim is not None:
    free = rim[:, :, keep] & (labels == 0)
    labels[free] = count + len(kinds) + 1
  for number, kind in enumerate(kinds, start=1):
    place = 'artery' if kind in artery else 'vein'
    rows.append(
      Finding(count + number, f'{place}: {kind}', '', np.full(3, np.nan), 0, 0)
    )
  if rim is not None:
    number, place = len(rows) + 1, world.tumour.centre_mm
    rows.append(Finding(number, 'resection rim', '', place, 0, 0))
  return labels, rows
