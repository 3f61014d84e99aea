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
  """Objects first, then one label per kind of vessel, then the rim, then
  what else the head has that may look like a deposit.

  Args:
    world: the person.
    others: mimics that were placed.
    keep: slice of z without the margins of a slab.
  """
  protocol, extent = world.protocol, world.extent
  labels, rows = paint(others, extent, keep)
  veins, arteries, rim = world.drawn
  details = world.head.details
  spaces = [] if details is None else [details.spaces]
  drawn = tubes.stack([veins, arteries, *spaces])
  kinds = sorted(set(drawn.kind.tolist()))
  trace = tubes.trace(drawn, kinds, extent.shape, protocol.voxel_mm)
  trace = trace[:, :, keep]
  fresh = (trace > 0) & (labels == 0)
  labels[fresh] = trace[fresh] + len(rows)
  names = {kind: f'artery: {kind}' for kind in set(arteries.kind.tolist())}
  names |= {kind: kind for tube in spaces for kind in set(tube.kind.tolist())}
  count = len(rows)
  if rim is not None:
    free = rim[:, :, keep] & (labels == 0)
    labels[free] = count + len(kinds) + 1
  for number, kind in enumerate(kinds, start=1):
    rows.append(_nowhere(count + number, names.get(kind, f'vein: {kind}')))
  if rim is not None:
    number, place = len(rows) + 1, world.tumour.centre_mm
    rows.append(Finding(number, 'resection rim', '', place, 0, 0))
  if details is not None:
    _paint_structures(world, labels, rows, keep)
  return labels, rows


def _nowhere(number, kind) -> Finding:
  """A row of something that has no single place."""
  return Finding(number, kind, '', np.full(3, np.nan), 0, 0)


def _paint_structures(world, labels, rows, keep) -> None:
  """Nuclei, plexus, falx, ...: what is free of other labels is theirs."""
  details, voxel = world.head.details, world.protocol.voxel_mm
  last = np.array(details.labels.shape) - 1
  index = [
    np.minimum(np.rint(np.arange(n) * v), m).astype(int)
    for n, v, m in zip(world.extent.shape, voxel, last)
  ]
  index[2] = index[2][keep]
  found = details.labels[np.ix_(*index)]
  free = (found > 0) & (labels == 0)
  for number in np.unique(found[free]):
    labels[free & (found == number)] = len(rows) + 1
    rows.append(_nowhere(len(rows) + 1, details.kinds[number - 1]))
