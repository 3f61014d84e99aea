"""An SWI to the same, divided by the local brain.

Rule: what is dark on purpose (lesions, veins, fluid) weighs little in what it
is divided by.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cmbjax.candidates.gates import Gates
from cmbjax.imaging import slabs


def flatten(
  image: np.ndarray,
  spacing_mm: Sequence[float],
  mask: np.ndarray,
  *,
  gates: Gates,
) -> np.ndarray:
  """Divides by the local brain, so that coil sensitivity drops out.

  The local brain is a masked Gaussian of the voxels between half and
  `gates.clip` times the brain's median: lesions, veins and fluid weigh
  little. It works on blocks of about 4 mm, which are as smooth and far
  cheaper.

  Args:
    image: [X, Y, Z], 0 or more.
    spacing_mm: voxel sizes.
    mask: [X, Y, Z] bool, the brain.
    gates: `clip` and the width of the Gaussian.

  Returns:
    [X, Y, Z] float32 in 0..clip; 1 outside the mask.
  """
  median = _median(image[mask])
  if median <= 0:
    return np.ones(image.shape, np.float32)
  factors = [_block(side) for side in spacing_mm]
  sigma = [
    gates.background_mm / (side * factor)
    for side, factor in zip(spacing_mm, factors)
  ]
  weight, total = (
    ndimage.gaussian_filter(blocks, sigma, mode='constant', truncate=3)
    for blocks in _usual(image, mask, median, factors, clip=gates.clip)
  )
  # A little of the median everywhere: where nothing is known, the median.
  faint = np.float32(1e-3 * max(float(weight.max()), 1e-6))
  local = (total + faint * median) / (weight + faint)
  flat = np.empty(image.shape, np.float32)
  for rows in slabs.of(image.shape[0]):
    part = image[rows] / _stretch(local, factors, image.shape, rows)
    part = np.minimum(part, np.float32(gates.clip))
    flat[rows] = np.where(mask[rows], part, np.float32(1))
  return flat


def brain_box(
  mask: np.ndarray,
  spacing_mm: Sequence[float],
  gates: Gates,
  *,
  also: np.ndarray | None = None,
) -> tuple[slice, slice, slice] | None:
  """The box round the brain with room for voting and growing; None: no brain.

  Args:
    mask: [X, Y, Z] bool, the brain.
    spacing_mm: voxel sizes.
    gates: how far a candidate reaches.
    also: [N, 3] voxels that are in it too; the box then holds whole blocks,
      so `flatten` gives in it what it gives in all of the image.
  """
  margin = max(gates.growth_mm, gates.shell_mm[1])
  box = []
  for axis, (side, size) in enumerate(zip(spacing_mm, mask.shape)):
    others = tuple(a for a in range(3) if a != axis)
    found = np.flatnonzero(mask.any(others))
    if not len(found):
      return None
    room, block = int(np.ceil(margin / side)), 1
    if also is not None:
      block = _block(side)
      found = np.sort([*found, *also[:, axis]])
      room = max(room, block)
    first = max(int(found[0]) - room, 0) // block * block
    last = min(-(-(int(found[-1]) + room + 1) // block) * block, size)
    box.append(slice(first, last))
  return tuple(box)


def _median(inside):
  inside = inside[inside > 0]
  # In place: a large brain is copied often enough.
  return float(np.median(inside, overwrite_input=True)) if inside.size else 0.0


def _block(side_mm):
  """Voxels of about 4 mm."""
  return max(1, round(4 / side_mm))


def _usual(image, mask, median, factors, *, clip):
  """Number of usual voxels of each block, and the sum of their values."""
  parts = []
  for rows in slabs.of(image.shape[0], factors[0]):
    part = image[rows]
    usual = mask[rows] & (part > 0.5 * median) & (part < clip * median)
    values = usual.astype(np.float32), np.where(usual, part, np.float32(0))
    parts.append([_block_sums(one, factors) for one in values])
  return [np.concatenate(blocks) for blocks in zip(*parts)]


def _block_sums(values, factors):
  """Sums over blocks; the last ones may be cut short."""
  for axis, factor in enumerate(factors):
    starts = np.arange(0, values.shape[axis], factor)
    values = np.add.reduceat(values, starts, axis)
  return values


def _stretch(blocks, factors, shape, rows=slice(None)):
  """Blocks back to voxels, linear between block centres; rows of x only."""
  for axis, (factor, size) in enumerate(zip(factors, shape)):
    voxel = np.arange(size)[rows if axis == 0 else slice(None)]
    at = np.clip((voxel - (factor - 1) / 2) / factor, 0, blocks.shape[axis] - 1)
    low = at.astype(int)
    high = np.minimum(low + 1, blocks.shape[axis] - 1)
    part = (at - low).astype(np.float32)
    part = part.reshape([-1 if a == axis else 1 for a in range(3)])
    blocks = blocks.take(low, axis) * (1 - part) + blocks.take(high, axis) * (
      part
    )
  return blocks.astype(np.float32)
