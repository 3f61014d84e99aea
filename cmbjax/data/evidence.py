"""A scan and candidate positions to all channels that a network sees.

Rule: derived channels are made of the SWI, its brain mask and its grid alone;
each is one function here, on the grid of the SWI's patches, 0..1, and 0 where
it is not known.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax.data import patches
from cmbjax.errors import InputError
from cmbjax.imaging import registration, resample, symmetry, vesselness

_TIMES = 3  # as far as a wide patch reaches beyond a usual one
# Nearer to the middle a lesion would be its own partner.
_OFF_MIDDLE_MM = 3.0
_MNI_FIRST_MM = np.array([0.0, -110.0, -75.0])  # |x|, y, z
_MNI_LAST_MM = np.array([80.0, 80.0, 85.0])


class Sites(NamedTuple):
  """Where patches are cut."""

  centres: np.ndarray  # int [N, 3], voxel indices
  grid_mm: tuple[float, float, float]  # voxel sizes of the SWI's patches


@dataclasses.dataclass(frozen=True)
class Evidence:
  """One scan, its slice axis last; what is found of all of it is found once.

  Attributes:
    swi: [X, Y, Z] float32 0..1.
    mask: bool [X, Y, Z], the brain.
    spacing_mm: voxel sizes.
    affine: [4, 4] voxel index to world mm.
    beside: measured channels, as `swi`.
  """

  swi: np.ndarray
  mask: np.ndarray
  spacing_mm: tuple[float, float, float]
  affine: np.ndarray
  beside: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def plane(self) -> symmetry.MirrorPlane:
    """Between the halves of the brain."""
    return symmetry.find_plane(self.swi, self.mask, self.affine)

  @functools.cached_property
  def registered(self) -> registration.Registration:
    """To MNI.

    Raises:
      InputError: there is too little brain.
    """
    return registration.register(self.swi, self.mask, self.affine)

  @functools.cached_property
  def vessels(self) -> vesselness.Vesselness:
    """The map of `imaging.vesselness`."""
    return vesselness.of_image(self.swi, self.mask, self.spacing_mm)

  def patches(
    self,
    centres: np.ndarray,
    *,
    channels: Sequence[str] = ('swi',),
    grid_mm: tuple[float, float, float] | None = None,
  ) -> np.ndarray:
    """Patches of every channel.

    Args:
      centres: int [N, 3], voxel indices.
      channels: the SWI first, see `reconstruct.channels`.
      grid_mm: voxel sizes of the patches; None: as the scan's.

    Returns:
      [N, 24, 24, 12], or [N, 24, 24, 12, C] of more than one channel.
    """
    centres = np.asarray(centres).reshape(-1, 3)
    images = {'swi': self.swi, **self.beside}
    sites = Sites(centres, grid_mm or self.spacing_mm)
    parts = []
    for name in channels:
      if name in DERIVED:
        found = DERIVED[name](self, sites)
      elif grid_mm is None:
        found = patches.cut(images[name], centres)
      else:
        found = patches.resample(
          images[name], centres, self.spacing_mm, grid_mm=grid_mm
        )
      parts.append(found if found.ndim == 5 else found[..., None])
    return parts[0][..., 0] if len(parts) == 1 else np.concatenate(parts, -1)


def wide(scan: Evidence, sites: Sites) -> np.ndarray:
  """The same place at three times the size: 24 x 24 x 48 mm are seen.

  Returns:
    float32 [N, 24, 24, 12].
  """
  wider = _TIMES * np.array(sites.grid_mm, float)
  # Means of whole blocks once, not of each patch.
  factors = tuple((wider / scan.spacing_mm + 1e-6).astype(int).clip(1))
  coarse = resample.block_mean(scan.swi, factors)
  return _of_blocks(coarse, factors, scan, sites._replace(grid_mm=tuple(wider)))


def mirror(scan: Evidence, sites: Sites) -> np.ndarray:
  """The place of the other half of the brain, as in a mirror.

  Nuclei with iron have a partner there, microbleeds do not. 0 where the plane
  is not known, near the plane, and where the other place is not brain.

  Returns:
    float32 [N, 24, 24, 12].
  """
  centres = sites.centres
  found = np.zeros((len(centres), *patches.PATCH), np.float32)
  if not scan.plane.known or not len(centres):
    return found
  matrix = np.linalg.inv(scan.affine) @ scan.plane.matrix @ scan.affine
  other = centres @ matrix[:3, :3].T + matrix[:3, 3]
  index = np.rint(other).astype(int)
  last = np.array(scan.swi.shape) - 1
  there = ((index >= 0) & (index <= last)).all(1)
  there &= scan.mask[tuple(np.clip(index, 0, last).T)]
  moved = (other - centres) @ scan.affine[:3, :3].T
  there &= np.linalg.norm(moved, axis=1) >= 2 * _OFF_MIDDLE_MM
  found[there] = patches.resample(
    scan.swi,
    centres[there],
    scan.spacing_mm,
    grid_mm=sites.grid_mm,
    onto=matrix,
  )
  return found


def vessels(scan: Evidence, sites: Sites) -> np.ndarray:
  """How much each voxel looks like a dark vessel.

  Returns:
    float32 [N, 24, 24, 12].
  """
  return _of_blocks(*scan.vessels, scan, sites)


def place(scan: Evidence, sites: Sites) -> np.ndarray:
  """Where in the brain: distance from the middle, along, and up, in MNI.

  Returns:
    float32 [N, 24, 24, 12, 3], the same in all of a patch.
  """
  shape = (len(sites.centres), *patches.PATCH, 3)
  try:
    known = scan.registered.trusted
  except InputError:  # a piece of a brain
    known = False
  if not known:
    return np.zeros(shape, np.float32)
  world = sites.centres @ scan.affine[:3, :3].T + scan.affine[:3, 3]
  mni = scan.registered.to_mni(world)
  mni[:, 0] = abs(mni[:, 0])  # patches are mirrored while networks learn
  part = (mni - _MNI_FIRST_MM) / (_MNI_LAST_MM - _MNI_FIRST_MM)
  part = np.clip(part, 0, 1).astype(np.float32)
  return np.broadcast_to(part[:, None, None, None], shape)


DERIVED: dict[str, Callable[[Evidence, Sites], np.ndarray]] = {
  'wide': wide,
  'mirror': mirror,
  'vessels': vessels,
  'place': place,
}


def _of_blocks(image, factors, scan, sites):
  """Patches of an image whose voxels are blocks of the scan's."""
  factors = np.array(factors)
  middle = (sites.centres - (factors - 1) / 2) / factors
  sides = tuple(factors * scan.spacing_mm)
  return patches.resample(image, middle, sides, grid_mm=sites.grid_mm)
