"""Places in an SWI to numbers that say what is round each of them.

Darkness is sampled on rings in mm, in the slice and above and below it, and
what is kept of a ring does not change when the scan is turned in plane or
mirrored. Rule: the same shape in mm gives about the same numbers in any voxel.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cmbjax.candidates.radial_symmetry import over

ANGLES = 12
# Height over the slice -> radii, both in mm.
RINGS = {
  0.0: (0.7, 1.2, 1.8, 2.5, 3.5, 5.0, 7.0),
  1.5: (0.8, 1.6, 2.5, 4.0),
  3.0: (1.5, 3.0),
  4.5: (2.0,),
}
# Rings of which the share inside the brain is kept.
RIM = ((0.0, 2.5), (0.0, 5.0), (3.0, 3.0))
_BATCH = 2048  # places that are sampled at once
_TURN = 2 * np.pi * np.arange(ANGLES) / ANGLES
# One dark side, as where a vessel joins; two opposite ones, as on a vessel.
_ONE, _TWO = np.exp(1j * _TURN) / ANGLES, np.exp(2j * _TURN) / ANGLES
_OF_RING = ('mean', 'most', 'least', 'one', 'two')


def describe(
  image: np.ndarray,
  mask: np.ndarray,
  place: np.ndarray,
  spacing_mm: Sequence[float],
  *,
  jobs: int | None = None,
) -> dict[str, np.ndarray]:
  """Name to [N] float32 of N places; always the same names in one order.

  Args:
    image: [X, Y, Z] float32, as `background.flatten` gives it.
    mask: [X, Y, Z] bool, the brain.
    place: [N, 3] voxels.
    spacing_mm: voxel sizes.
    jobs: threads.
  """

  def one(n: int):
    part = place[n * _BATCH : (n + 1) * _BATCH]
    return _describe(image, mask, part, np.asarray(spacing_mm))

  parts = over(one, max(1, -(-len(place) // _BATCH)), jobs)
  return {
    name: np.concatenate([part[name] for part in parts]).astype(np.float32)
    for name in parts[0]
  }


def _describe(image, mask, place, sides):
  found = {'centre': 1 - _sample(image, place, sides, 0.0, 0.0)[:, 0]}
  for height, radii in RINGS.items():
    heights = (height, -height) if height else (height,)
    if height:
      ends = [1 - _sample(image, place, sides, h, 0.0)[:, 0] for h in heights]
      _put_pair(found, f'{height:g} centre', *ends)
    rings = [
      [_ring(1 - _sample(image, place, sides, h, r)) for r in radii]
      for h in heights
    ]
    if height:
      _put_both(found, height, radii, *rings)
    else:
      _put_plane(found, radii, rings[0])
  for height, radius in RIM:
    shares = [
      _sample(mask, place, sides, h, radius).mean(1)
      for h in dict.fromkeys((height, -height))
    ]
    found[f'{height:g}/{radius:g} inside'] = np.mean(shares, 0)
  return found


def _sample(image, place, sides, height_mm, radius_mm):
  """Values [N, ANGLES] on a ring round each place; [N, 1] of radius 0."""
  turn = _TURN if radius_mm else _TURN[:1]
  away = np.stack(
    [
      radius_mm * np.cos(turn),
      radius_mm * np.sin(turn),
      np.full(len(turn), height_mm),
    ],
    1,
  )
  at = (place[:, None] + away / sides).reshape(-1, 3).T
  values = ndimage.map_coordinates(
    image, at, order=1, mode='nearest', output=np.float32
  )
  return values.reshape(len(place), len(turn))


def _ring(dark):
  """Five numbers of a ring, and the complex ones that have directions."""
  one, two = dark @ _ONE, dark @ _TWO
  values = (dark.mean(1), dark.max(1), dark.min(1), abs(one), abs(two))
  return dict(zip(_OF_RING, values)), one, two


def _put_plane(found, radii, rings):
  """The rings of the slice, and whether neighbours point the same way."""
  for radius, (values, _, _) in zip(radii, rings):
    for name, value in values.items():
      found[f'0/{radius:g} {name}'] = value
  for radius, inner, outer in zip(radii, rings, rings[1:]):
    found[f'0/{radius:g} one on'] = _agree(inner[1], outer[1])
    found[f'0/{radius:g} two on'] = _agree(inner[2], outer[2])


def _put_both(found, height, radii, above, below):
  """Rings above and below: an oblique vessel is on opposite sides."""
  for radius, up, down in zip(radii, above, below):
    name = f'{height:g}/{radius:g}'
    for kind in _OF_RING:
      _put_pair(found, f'{name} {kind}', up[0][kind], down[0][kind])
    found[f'{name} one across'] = _agree(up[1], down[1])
    found[f'{name} two across'] = _agree(up[2], down[2])


def _put_pair(found, name, up, down):
  """Mean and difference, which do not know up from down."""
  found[f'{name} mean'] = (up + down) / 2
  found[f'{name} apart'] = abs(up - down) / 2


def _agree(one, other):
  """Positive where two directions agree; as large as what it compares."""
  product = (one * other.conj()).real
  return np.sign(product) * np.sqrt(abs(product))
