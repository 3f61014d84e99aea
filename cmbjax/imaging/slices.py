"""Scans of any orientation to arrays whose last axis runs across the slices.

Rule: what works slice by slice (candidates, patches, outlines, the brain mask)
gets the slice axis last; what is written or shown is in RAS order.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from nibabel import orientations

from cmbjax.imaging import volume
from cmbjax.imaging.volume import Volume

_THICK = 1.2  # a voxel side this much longer than the others is the slice
_ALIKE = 0.15  # of the trace of a turn: as near to axial, whatever rounds off
_FEWEST_IN_ORDER = 8  # slices, to say anything of their order
_FARTHEST = 0.6  # of all slices: of fewer pairs nothing is known
_TURN_DEG = 1.0  # below it nothing is said of an angle


def axis_of(spacing_mm: Sequence[float]) -> int:
  """The axis with the thickest voxels; the last one when none is thicker."""
  longest = int(np.argmax(spacing_mm))
  return longest if spacing_mm[longest] > _THICK * spacing_mm[2] else 2


def last(image: Volume) -> Volume:
  """The same voxels with the slice axis last; `image` itself if it is so.

  The other two axes, and the ways in which all three count, make it the least
  turned from an axial scan. So a header that is turned changes no voxel's
  neighbours, and left stays left where it can.

  Args:
    image: in RAS order.
  """
  axis = axis_of(image.spacing_mm)
  if axis == 2:
    return image
  change = _least_turned(image.affine, axis)
  shape = image.array.shape[:3]
  affine = image.affine @ orientations.inv_ornt_aff(change, shape)
  array = orientations.apply_orientation(image.array, change)
  unknown = image.unknown
  if unknown is not None:
    unknown = orientations.apply_orientation(unknown, change)
  return dataclasses.replace(image, array=array, affine=affine, unknown=unknown)


def in_ras(image: Volume) -> Volume:
  """A volume of `last` back in RAS order; `image` itself if it is so."""
  native = volume.from_array(
    volume.to_native(image.array, image), image.native.affine
  )
  if np.allclose(native.affine, image.affine):
    return image
  return dataclasses.replace(image, array=native.array, affine=native.affine)


def array_like(image: Volume, like: Volume) -> np.ndarray:
  """The array [X, Y, Z, ...] of an image in the voxel order of another one.

  Raises:
    InputError: it is on another grid.
  """
  volume.check_grid(image, like)
  return volume.in_order(image.array, image, like)


def voxels_like(index: np.ndarray, image: Volume, like: Volume) -> np.ndarray:
  """Voxel indices in the order of another volume on the same grid.

  Args:
    index: [..., 3] of `image`.
    image: one order.
    like: the other one.

  Returns:
    int32 [..., 3].
  """
  change = np.linalg.inv(like.affine) @ image.affine
  place = np.asarray(index) @ change[:3, :3].T + change[:3, 3]
  return np.rint(place).astype(np.int32)


def sides_like(
  sides: Sequence[float], image: Volume, like: Volume
) -> tuple[float, ...]:
  """Sizes along the axes of one volume in the order of another one.

  Args:
    sides: three, along the axes of `image`.
    image: one order.
    like: the other one, on the same grid.
  """
  change = np.linalg.inv(like.affine) @ image.affine
  return tuple(sides[n] for n in np.abs(change[:3, :3]).argmax(1))


def name_of(image: Volume) -> str:
  """'axial', 'coronal' or 'sagittal', with the angle to it where tilted."""
  axis = axis_of(image.spacing_mm)
  normal = np.abs(image.affine[:3, axis]) / image.spacing_mm[axis]
  nearest = int(np.argmax(normal))
  angle = np.degrees(np.arccos(min(normal[nearest], 1)))
  name = ('sagittal', 'coronal', 'axial')[nearest]
  return name if angle < _TURN_DEG else f'{name}, tilted by {angle:.0f} degrees'


def order_of(array: np.ndarray) -> tuple[int, float]:
  """How far apart in the file slices are that are neighbours in the head.

  Args:
    array: [X, Y, Z], slices along the last axis.

  Returns:
    (1, 1.0) where neighbours in the file are the most alike; else the distance
    in the file of those that are, and the difference between these as a part
    of that between neighbours.
  """
  count = array.shape[2]
  step = [max(1, side // 96) for side in array.shape[:2]]
  plain = array[:: step[0], :: step[1]].reshape(-1, count).astype(np.float32)
  plain = plain - plain.mean(0)
  size = np.sqrt((plain**2).sum(0))
  full = size > 0
  if count < _FEWEST_IN_ORDER or full.sum() < count:
    return 1, 1.0
  plain /= size
  unlike = 1 - plain.T @ plain
  best, least = 1, 1.0
  for lag in range(2, int(_FARTHEST * count) + 1):
    apart = float(np.diagonal(unlike, lag).mean())
    beside = float(np.diagonal(unlike, 1)[: count - lag].mean())
    if apart < least * beside:
      best, least = lag, apart / beside
  return best, least


def _least_turned(affine: np.ndarray, axis: int) -> np.ndarray:
  """The change of order [3, 2] that brings `axis` last, see `last`."""
  sides = np.sqrt((affine[:3, :3] ** 2).sum(0))
  direction = affine[:3, :3] / sides
  others = [a for a in range(3) if a != axis]
  best, best_trace = None, -np.inf
  for pair in (others, others[::-1]):
    for signs in itertools.product((1, -1), repeat=3):
      order = [*pair, axis]
      turned = direction[:, order] * signs
      if np.linalg.det(turned) <= 0:  # a mirror image is no turn
        continue
      trace = np.trace(turned)
      if trace > best_trace + _ALIKE:
        best, best_trace = list(zip(order, signs)), trace
  change = np.empty((3, 2))
  for new, (old, sign) in enumerate(best):
    change[old] = new, sign
  return change
