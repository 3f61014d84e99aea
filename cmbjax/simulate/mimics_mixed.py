"""Family 'mixed' of mimics: beads of calcium, pairs of iron, voids, veins.

Rule: whatever is put is a chain or a heap of spheres, is named by what it is,
and is never put on a lesion.
"""

import numpy as np

from cmbjax.simulate import lesions, placement, spots

# Number in a whole head, lowest and highest.
_BEADS, _PAIRS, _VOIDS, _PIECES = (3, 14), (3, 10), (4, 18), (20, 60)
_PALLIDUM_MNI = (17.0, -3.0, -2.0)  # inner part, where calcium gathers
_NO_FIELD = 1e-6  # ppm: signal is lost, the field is as before
_VEIN_PPM = (0.12, 0.48)  # the less, the less blood fills the vein's radius


def place_mixed(rng, world) -> list[placement.PlacedDeposit]:
  """Deposits of many kinds that are not microbleeds.

  Args:
    rng: numpy generator.
    world: the person; what is placed is not drawn into it.
  """
  share = world.share
  found = placement.place_tumour_blood(rng, world)
  found += _calcify_pallidum(rng, world) + _calcify_falx(rng, world)
  for count, put in (
    (_BEADS, _put_beads), (_PAIRS, _put_pair), (_VOIDS, _put_void),
    (_PIECES, _put_piece),
  ):  # fmt: skip
    for _ in range(round(rng.integers(*count) * share)):
      found += put(rng, world)
  return found


def _heap(rng, kind, centre_mm, *, radii, chi_ppm, reach_mm, density=1.0):
  """Spheres round a place."""
  offsets = rng.normal(0, reach_mm / 2, (len(radii), 3))
  spheres = np.column_stack([centre_mm + offsets, radii]).astype(np.float32)
  chi = np.full(len(radii), chi_ppm, np.float32)
  return lesions.Deposit(kind, spheres, chi, density)


def _chain(rng, kind, centre_mm, *, radius, chi_ppm, length_mm, density=1.0):
  """A bent chain of spheres that touch; thinner toward its ends."""
  count = int(np.clip(length_mm / (0.8 * radius), 3, 14))
  step = length_mm / count
  heading = _direction(rng)
  bend = rng.normal(0, 0.3, 3) * rng.exponential()
  points = np.zeros((count, 3))
  for number in range(1, count):
    heading = heading + bend * step / 2 + rng.normal(0, 0.08, 3)
    heading /= np.linalg.norm(heading)
    points[number] = points[number - 1] + step * heading
  points += centre_mm - points.mean(0)
  radii = radius * (1 - 0.35 * np.linspace(-1, 1, count) ** 2)
  # A chain of spheres holds what a tube of the same radius would.
  chi = chi_ppm * step / (4 / 3 * radii)
  spheres = np.column_stack([points, radii]).astype(np.float32)
  return lesions.Deposit(kind, spheres, chi.astype(np.float32), density)


def _direction(rng):
  """A random unit vector [3]."""
  vector = rng.normal(0, 1, 3)
  return vector / np.linalg.norm(vector)


def _mirrored(head, place_mm):
  """The place [3] of the other hemisphere."""
  mni = head.to_mni(place_mm[None].astype(np.float32))
  return head.from_mni(mni * np.array([-1, 1, 1], np.float32))[0]


def _put_at(world, deposit, *, radius_mm=1.5):
  """A deposit where there is room, and its region."""
  place = deposit.centre_mm
  if not world.placer.is_free(place, radius_mm=radius_mm):
    return []
  found = placement.put_mimic(
    world, deposit, region=spots.region_of(world, place)
  )
  if found:
    world.placer.take(place, radius_mm=radius_mm)
  return found


def _calcify_pallidum(rng, world):
  """Heaps of calcium on both sides, often unequal."""
  if rng.random() > 0.3:
    return []
  found, amount = [], rng.uniform(0.4, 1.0)
  for side in (-1, 1):
    centre = np.array(_PALLIDUM_MNI) * (side, 1, 1) + rng.normal(0, 1.2, 3)
    size = amount * rng.uniform(0.5, 1.2)
    deposit = _heap(
      rng,
      'calcified pallidum',
      world.head.from_mni(centre[None].astype(np.float32))[0],
      radii=rng.uniform(0.4, 1.1, 3 + int(9 * size)) * size**0.3,
      chi_ppm=-rng.uniform(0.15, 0.9),
      reach_mm=3.5 * size,
      density=rng.uniform(0.3, 0.8),
    )
    found += placement.put_mimic(world, deposit, region='basal ganglia')
  return found


def _calcify_falx(rng, world):
  """Flat plaques in the midline."""
  found = []
  for _ in range(rng.integers(0, 4)):
    along = rng.uniform(0, 1)
    middle = np.array([0, 60 - 100 * along, 35 + 30 * np.sin(np.pi * along)])
    count = int(rng.integers(5, 18))
    plate = rng.normal(0, 1, (count, 3)) * (0.4, rng.uniform(1, 4), 1.2)
    spheres = world.head.from_mni((middle + plate).astype(np.float32))
    radii = rng.uniform(0.5, 1.0, count)
    found += placement.put_mimic(
      world,
      lesions.Deposit(
        'falx calcification',
        np.column_stack([spheres, radii]).astype(np.float32),
        np.full(count, -rng.uniform(0.3, 1.2), np.float32),
        rng.uniform(0.2, 0.6),
      ),
    )
  return found


def _put_beads(rng, world):
  """A few grains of calcium in a row, poor in everything else."""
  spot = world.placer.draw(rng, radius_mm=1.5)
  if spot is None:
    return []
  deposit = _chain(
    rng,
    'calcification',
    spot[0],
    radius=np.exp(rng.uniform(np.log(0.5), np.log(1.4))),
    chi_ppm=-np.exp(rng.uniform(np.log(0.1), np.log(1.5))),
    length_mm=rng.uniform(0.8, 5),
    density=rng.uniform(0.2, 0.8),
  )
  return _put_at(world, deposit)


def _put_pair(rng, world):
  """Iron in a nucleus and its like on the other side."""
  iron = world.head.iron_ppm
  low, high = (int(z) for z in world.low_high_mm)
  slab = iron[::2, ::2, low:high:2]
  some = np.flatnonzero(slab > 0.03)
  if not some.size:
    return []
  index = np.unravel_index(rng.choice(some), slab.shape)
  place = 2.0 * np.array(index) + (0, 0, low) + rng.uniform(-1, 1, 3)
  chi, radius = rng.uniform(0.08, 0.25), rng.uniform(0.5, 1.2)
  found = []
  both = (place, _mirrored(world.head, place) + rng.normal(0, 1.0, 3))
  for centre in both[: 1 if rng.random() < 0.15 else 2]:
    deposit = _heap(
      rng,
      'iron spot',
      centre,
      radii=radius * rng.uniform(0.7, 1.0, rng.integers(2, 7)),
      chi_ppm=chi * rng.uniform(0.7, 1.3),
      reach_mm=1.3 * radius,
    )
    found += _put_at(world, deposit)
  return found


def _put_void(rng, world):
  """Fast blood in a small artery, without any field of its own."""
  head, (low, high) = world.head, world.low_high_mm
  low, high = int(low), int(high)
  part = (slice(None, None, 2), slice(None, None, 2), slice(low, high, 2))
  home = head.mask[part]
  if rng.random() < 0.5:
    home = home & (head.csf[part] > 0.4)
  else:
    home = home & (head.iron_ppm[part] > 0.02)
  some = np.flatnonzero(home)
  if not some.size:
    return []
  index = np.unravel_index(rng.choice(some), home.shape)
  place = 2.0 * np.array(index) + (0, 0, low) + rng.uniform(-1, 1, 3)
  deposit = _chain(
    rng,
    'flow void',
    place,
    radius=rng.uniform(0.35, 0.9),
    chi_ppm=_NO_FIELD,
    length_mm=rng.uniform(3, 12),
    density=rng.uniform(0.1, 0.6),
  )
  return _put_at(world, deposit)


def _put_piece(rng, world):
  """A short vein that begins and ends in tissue; some have a side arm."""
  spot = spots.draw(
    rng, world, radius_mm=1.5,
    shares={'region': 0.5, 'cortex': 0.3, 'rim': 0.1, 'vein': 0.1},
  )  # fmt: skip
  if spot is None:
    return []
  radius = np.exp(rng.uniform(np.log(0.25), np.log(0.9)))
  chi = rng.uniform(*_VEIN_PPM)
  trunk = _chain(
    rng, 'short vein', spot[0], radius=radius, chi_ppm=chi,
    length_mm=rng.uniform(4, 8) + 4 * radius,
  )  # fmt: skip
  if rng.random() < 0.35:
    arm = _chain(
      rng, '', spot[0], radius=0.75 * radius, chi_ppm=chi,
      length_mm=rng.uniform(2, 5),
    )  # fmt: skip
    joint = trunk.spheres[rng.integers(len(trunk.spheres)), :3]
    arm.spheres[:, :3] += joint - arm.spheres[0, :3]
    trunk = lesions.Deposit(
      'vein junction',
      np.concatenate([trunk.spheres, arm.spheres]),
      np.concatenate([trunk.chi_ppm, arm.chi_ppm]),
    )
  return _put_at(world, trunk)
