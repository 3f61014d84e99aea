"""A head's image to the plane between its halves, with how sure that is.

Rule: the image decides, not the template: what is told apart by its partner on
the other side needs the plane to a few millimetres. Axes have to be named
rightly; how the head is turned and where it is may be anything.

The plane is where the brain, without its receive field, is most like its own
mirror image (correlation over the brain and a rim round it, coarse to fine);
Ardekani et al., IEEE TMI 1997; Prima et al., IEEE TMI 2002.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import registration

LEAST_LIKENESS = 0.35  # whole heads: .7; one half in two: .1 to .3
LEAST_OVERLAP = 0.9
LEAST_WIDTH_MM = 90.0  # one half is as wide as 75
_BLUR_MM = 3.0  # standard deviation; sulci have no exact partner
_STEP_MM = 5.0  # of the voxels that take part
_TURNS_DEG = (-24, -16, -8, 0, 8, 16, 24)  # of the head, to both sides
_SHIFTS_MM = (-12, -6, 0, 6, 12)  # of the plane from the brain's middle
_LEAST_SEEN = 0.4  # of the places, on both sides
_FINEST = 0.02  # deg and mm


class MirrorPlane(NamedTuple):
  """The plane between the halves of a brain.

  Attributes:
    normal: [3], of length 1, from left to right in world axes.
    offset_mm: of the plane along it.
    likeness: correlation of what is inside of the brain with its mirror
      image, -1..1; of a plane elsewhere it is about 0.
    overlap: Dice coefficient of the brain with its mirror image.
    width_mm: of the brain, across the plane.
  """

  normal: np.ndarray
  offset_mm: float
  likeness: float
  overlap: float
  width_mm: float

  @property
  def known(self) -> bool:
    """Whether a place and its mirror image are the two sides of one place."""
    return (
      self.likeness >= LEAST_LIKENESS
      and self.overlap >= LEAST_OVERLAP
      and self.width_mm >= LEAST_WIDTH_MM
    )

  @property
  def matrix(self) -> np.ndarray:
    """[4, 4], world mm to the world mm of the other side; its own inverse."""
    whole = np.eye(4)
    whole[:3, :3] -= 2 * np.outer(self.normal, self.normal)
    whole[:3, 3] = 2 * self.offset_mm * self.normal
    return whole

  def mirrored(self, world_mm) -> np.ndarray:
    """World mm [..., 3] to those of the other side."""
    world_mm = np.asarray(world_mm, float)
    return world_mm @ self.matrix[:3, :3].T + self.matrix[:3, 3]


class _Half(NamedTuple):
  """A coarse image, and its voxels that take part."""

  image: np.ndarray  # [X, Y, Z] 0 outside of the brain, about 1 inside
  soft: np.ndarray  # [X, Y, Z] share of the brain
  affine: np.ndarray  # [4, 4] voxel index to world mm
  index: np.ndarray  # [4, N] homogeneous
  value: np.ndarray  # [N] of the image there


def find_plane(image, mask, affine) -> MirrorPlane:
  """The plane between the halves of a brain.

  Args:
    image: [X, Y, Z] SWI or magnitude.
    mask: [X, Y, Z] bool brain.
    affine: [4, 4] voxel index to world mm.

  Returns:
    The plane; `known` is False where the image shows none, as half a head.
  """
  from scipy import optimize  # late: most scans are read without it

  (value, soft, affine), step = registration.flattened(image, mask, affine)
  if not (soft > 0.5).any():
    return MirrorPlane(np.array([1.0, 0, 0]), 0.0, 0.0, 0.0, 0.0)
  smooth = ndimage.gaussian_filter(value, _BLUR_MM / step)
  coarse, fine = (
    _taking_part(smooth, soft, affine, step, mm) for mm in (10.0, _STEP_MM)
  )
  middle = affine[:3, :3] @ np.argwhere(soft > 0.5).mean(0) + affine[:3, 3]
  starts = [
    (yaw, roll, shift)
    for yaw in _TURNS_DEG
    for roll in _TURNS_DEG
    for shift in _SHIFTS_MM
  ]
  start = max(starts, key=lambda turn: _likeness(coarse, turn, middle))
  simplex = np.array(start) + np.vstack([np.zeros(3), 4.0 * np.eye(3)])
  best = optimize.minimize(
    lambda turn: -_likeness(fine, turn, middle),
    start,
    method='Nelder-Mead',
    options={'initial_simplex': simplex, 'xatol': _FINEST, 'fatol': 1e-5},
  ).x
  return _measured(fine, _plane(best, middle))


def _taking_part(image, soft, affine, step, spacing_mm) -> _Half:
  """Every so many voxels in the brain and round it."""
  stride = [max(1, round(spacing_mm / s)) for s in step]
  thin = tuple(slice((k - 1) // 2, None, k) for k in stride)
  near = ndimage.maximum_filter(soft, 5)[thin] > 0.5
  index = np.argwhere(near) * stride + [one.start for one in thin]
  index = np.vstack([index.T, np.ones(len(index))])
  return _Half(image, soft, affine, index, image[thin][near])


def _plane(turn, middle) -> MirrorPlane:
  """The plane turned by (yaw, roll) deg and moved by mm from the middle."""
  yaw, roll = np.deg2rad(turn[:2])
  normal = np.array(
    [np.cos(yaw) * np.cos(roll), np.sin(yaw) * np.cos(roll), np.sin(roll)]
  )
  return MirrorPlane(normal, float(normal @ middle + turn[2]), 0.0, 0.0, 0.0)


def _other_side(half: _Half, plane: MirrorPlane) -> np.ndarray:
  """Voxel indices [3, N] of the mirror images of all places."""
  whole = np.linalg.inv(half.affine) @ plane.matrix @ half.affine
  return whole[:3] @ half.index


def _likeness(half: _Half, turn, middle) -> float:
  place = _other_side(half, _plane(turn, middle))
  other = _sampled(half.image, place)
  seen = np.isfinite(other)
  if seen.mean() < _LEAST_SEEN:
    return -1.0
  return _correlation(half.value[seen], other[seen])


def _sampled(image, place):
  """Values at voxel indices [3, N]; NaN beyond the image.

  A slab of a turned head does not hold all that is on the other side.
  """
  return ndimage.map_coordinates(image, place, order=1, cval=np.nan)


def _measured(half: _Half, plane: MirrorPlane) -> MirrorPlane:
  """How much alike the halves are, by their shape and by what is in them."""
  place = _other_side(half, plane)
  other, soft = _sampled(half.image, place), _sampled(half.soft, place)
  here = half.soft[tuple(half.index[:3].astype(int))] > 0.5
  across = plane.normal @ (half.affine @ half.index)[:3, here]
  there = soft > 0.5
  # At the rim both fall to 0, whatever is inside.
  both = here & there & (half.value > 0.6) & (other > 0.6)
  here &= np.isfinite(soft)
  overlap = 2 * (here & there).sum() / max(here.sum() + there.sum(), 1)
  return plane._replace(
    likeness=_correlation(half.value[both], other[both]),
    overlap=float(overlap),
    width_mm=float(np.ptp(across)),
  )


def _correlation(one, other) -> float:
  one, other = (
    part - part.mean() if part.size else part for part in (one, other)
  )
  size = float(np.sqrt((one**2).sum() * (other**2).sum()))
  return float((one * other).sum()) / size if size > 0 else 0.0
