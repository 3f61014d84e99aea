"""The places where microbleeds hide: beside a vein, at the rim, in the cortex.

Rule: a place is inside the brain, in the slab, and free; whether a lesion
shows there is decided later.
"""

import numpy as np

from cmbjax.simulate import tissue_atlas

_TRIES = 12
_CHOICES = 200  # places that are drawn at once and weighted by dose
VEIN_MM = (0.3, 3.0)  # centre of a lesion to the wall of the vein
RIM_MM = (1.5, 4.0)  # centre of a lesion to outside the brain


def draw(rng, world, *, radius_mm, shares):
  """A free place by kind, then by the dose of radiation.

  Args:
    rng: numpy generator.
    world: the person.
    radius_mm: of what will be put there.
    shares: of 'region', 'vein', 'rim' and 'cortex'; see `KINDS`.

  Returns:
    [3] grid mm and the name of the region, or None after many tries.
  """
  kind = list(shares)[rng.choice(len(shares), p=list(shares.values()))]
  if kind != 'region':
    for _ in range(_TRIES):
      place = KINDS[kind](rng, world)
      if place is None:
        break
      region = region_of(world, place)
      low, high = world.placer.low_high_mm
      inside = region != 'outside' and low <= place[2] <= high
      if inside and world.placer.is_free(place, radius_mm=radius_mm):
        return place.astype(np.float32), region
  return world.placer.draw(rng, radius_mm=radius_mm)


def region_of(world, place_mm) -> str:
  """Name of the region at a place [3] in grid mm."""
  region = world.head.region
  node = np.rint(place_mm).astype(int)
  if (node < 0).any() or (node >= region.shape).any():
    return 'outside'
  return tissue_atlas.REGIONS[region[tuple(node)]]


def beside_vein(rng, world):
  """Beside a vein of any size, from overlapping it to 2 mm of clear tissue."""
  veins = world.drawn.veins
  radius = veins.radius_mm.reshape(-1)
  low, high = world.placer.low_high_mm
  z = veins.points_mm[..., 2].reshape(-1)
  alive = np.flatnonzero(np.isfinite(radius) & (z >= low) & (z <= high))
  if not alive.size:
    return None
  # The next point of a tube gives its direction; NaN at its end.
  points = veins.points_mm.reshape(-1, 3)
  some = rng.choice(alive, _CHOICES)
  chosen = some[_by_dose(rng, world, points[some])]
  along = points[min(chosen + 1, len(points) - 1)] - points[chosen]
  along = along if np.isfinite(along).all() else np.zeros(3)
  away = np.cross(along, rng.normal(0, 1, 3))
  if not away.any():
    away = rng.normal(0, 1, 3)
  away /= np.linalg.norm(away)
  gap = rng.uniform(*VEIN_MM)
  return points[chosen] + (radius[chosen] + gap) * away


def at_rim(rng, world):
  """In tissue right under the surface of the brain."""
  edge = world.placer.edge_mm
  place = _somewhere(rng, world, (edge > 0) & (edge <= RIM_MM[1] + 1))
  if place is None:
    return None
  for _ in range(_TRIES):
    moved = place + rng.uniform(-1, 1, 3)
    fluid = world.head.csf[tuple(np.rint(moved).astype(int))]
    if RIM_MM[0] <= depth_mm(world.head, moved) <= RIM_MM[1] and fluid < 0.5:
      return moved
  return None


def in_cortex(rng, world):
  """In the grey ribbon itself, at any depth of 1.5 mm or more."""
  head, half = world.head, (slice(None, None, 2),) * 3
  names = ('cortex', 'cerebellum')
  ribbon = np.isin(
    head.region[half], [tissue_atlas.REGIONS.index(n) for n in names]
  )
  ribbon &= (head.grey[half] > 0.6) & (world.placer.edge_mm > 2)
  place = _somewhere(rng, world, ribbon)
  return None if place is None else place + rng.uniform(-0.7, 0.7, 3)


KINDS = {'vein': beside_vein, 'rim': at_rim, 'cortex': in_cortex}


def depth_mm(head, place_mm) -> float:
  """Distance from a place [3] in the brain to outside it, at most 6 mm."""
  node = np.rint(place_mm).astype(int)
  low = np.maximum(node - 7, 0)
  box = tuple(slice(a, b) for a, b in zip(low, node + 8))
  outside = np.argwhere(~head.mask[box]) + low
  if not len(outside):
    return 6.0
  far = np.sqrt(((outside - place_mm) ** 2).sum(1).min())
  return min(float(far) - 0.5, 6.0)  # its border is half a node nearer


def _somewhere(rng, world, allowed):
  """A node of the 2 mm grid, in grid mm, by dose; None: there is none."""
  low, high = world.placer.low_high_mm
  z = 2 * np.arange(allowed.shape[2])
  index = np.flatnonzero(allowed & (z >= low) & (z <= high))
  if not index.size:
    return None
  some = rng.choice(index, _CHOICES)
  places = 2.0 * np.stack(np.unravel_index(some, allowed.shape), 1)
  return places[_by_dose(rng, world, places)]


def _by_dose(rng, world, places_mm) -> int:
  """Which of places [N, 3] in grid mm, by the weight there."""
  weight = world.placer.weight
  node = np.rint(places_mm / 2).astype(int)
  node = np.clip(node, 0, np.array(weight.shape) - 1)
  p = weight[tuple(node.T)].astype(float)
  return int(rng.choice(len(p), p=p / p.sum()))
