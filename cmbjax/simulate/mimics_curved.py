"""Family 'curved' of mimics: strands along Bezier curves, in any substance.

Rule: held out, so it shares nothing with the others but the physics; one
table says what there is, where, and how much.
"""

from typing import NamedTuple

import numpy as np

from cmbjax.simulate import lesions, placement, spots, tissue_atlas

_STRANDS = 14  # spheres of a curve


class Substance(NamedTuple):
  """One kind of strand; pairs of numbers are lowest and highest.

  Attributes:
    kind: its name in the truth.
    home: where it is found, see `_home`.
    number: in a whole head.
    chi_ppm: relative to the tissue around.
    density: share of the signal that is left.
    radius_mm: of the middle; the ends are points.
    length_mm: between the ends.
    curl: 0 straight .. 1 a hook.
    twin: chance of a partner in the other hemisphere.
  """

  kind: str
  home: str
  number: tuple[int, int]
  chi_ppm: tuple[float, float]
  density: tuple[float, float]
  radius_mm: tuple[float, float]
  length_mm: tuple[float, float]
  curl: float
  twin: float = 0.0


SUBSTANCES = (
  Substance(
    'calcified thread', 'tissue', (0, 6), (-1.3, -0.15), (0.2, 0.7),
    (0.4, 1.4), (1.5, 7.0), 0.4,
  ),
  Substance(
    'calcified sheet', 'midline', (0, 4), (-1.0, -0.2), (0.2, 0.6),
    (0.6, 1.4), (4.0, 14.0), 0.5,
  ),
  Substance(
    'calcified nucleus', 'iron', (0, 2), (-0.8, -0.1), (0.4, 0.8),
    (0.6, 1.6), (3.0, 9.0), 0.8, 0.9,
  ),
  Substance(
    'iron streak', 'iron', (1, 7), (0.05, 0.2), (1.0, 1.0), (0.6, 1.5),
    (1.5, 5.0), 0.6, 0.8,
  ),
  Substance(
    'plexus grain', 'ventricle', (0, 5), (-0.8, 0.4), (0.3, 0.8), (0.5, 1.6),
    (1.0, 5.0), 0.6, 0.5,
  ),
  Substance(
    'arterial loop', 'fluid', (3, 12), (1e-6, 1e-5), (0.05, 0.6), (0.4, 1.2),
    (4.0, 14.0), 1.0,
  ),
  Substance(
    'curled vein', 'ribbon', (6, 24), (0.2, 0.5), (0.8, 1.0), (0.35, 0.9),
    (4.0, 12.0), 1.0,
  ),
  Substance(
    'vein stump', 'tissue', (4, 16), (0.2, 0.5), (0.8, 1.0), (0.3, 0.7),
    (4.0, 9.0), 0.3,
  ),
)  # fmt: skip


def place_curved(rng, world) -> list[placement.PlacedDeposit]:
  """Strands of all substances, and tumour blood.

  Args:
    rng: numpy generator.
    world: the person; what is placed is not drawn into it.
  """
  share = world.share
  found = placement.place_tumour_blood(rng, world)
  for substance in SUBSTANCES:
    first, last = substance.number
    count = round(rng.integers(first, last + 1) * share)
    home = np.flatnonzero(_home(world, substance.home)) if count else ()
    if not len(home):
      continue
    for node in rng.choice(home, count):
      found += _put_strand(rng, world, substance, node)
  return found


def _home(world, name):
  """bool [X, Y, Z] of the 2 mm grid: where a substance may be."""
  head, half = world.head, (slice(None, None, 2),) * 3
  inside, fluid = head.mask[half], head.csf[half] > 0.4
  edge = world.placer.edge_mm
  deep = edge > 12
  regions = head.region[half]
  ribbon = regions == tissue_atlas.REGIONS.index('cortex')
  ribbon |= regions == tissue_atlas.REGIONS.index('cerebellum')
  allowed = {
    'tissue': inside & ~fluid & (edge > 3),
    'midline': inside & (abs(head.mni[0][half]) < 1.5),
    'iron': head.iron_ppm[half] > 0.03,
    'ventricle': inside & fluid & deep,
    'fluid': fluid & ~deep & (edge > 3),
    'ribbon': inside & ribbon,
  }[name]
  z = 2 * np.arange(allowed.shape[2])
  low, high = world.low_high_mm
  return allowed & (z >= low) & (z <= high)


def _put_strand(rng, world, substance, node):
  """One strand at a node of the 2 mm grid, and its twin."""
  shape = world.placer.edge_mm.shape
  place = 2.0 * np.stack(np.unravel_index(node, shape)) + rng.uniform(-1, 1, 3)
  strand = _draw_strand(rng, substance, place)
  strands = [strand]
  if rng.random() < substance.twin:
    strands.append(_reflect(rng, world.head, strand))
  found = []
  for one in strands:
    middle = one.centre_mm
    if world.placer.is_free(middle, radius_mm=1.5):
      region = spots.region_of(world, middle)
      found += placement.put_mimic(world, one, region=region)
      world.placer.take(middle, radius_mm=1.5)
  return found


def _draw_strand(rng, substance, place_mm) -> lesions.Deposit:
  """A cubic Bezier curve whose thickness is that of a spindle."""
  length = rng.uniform(*substance.length_mm)
  end = rng.normal(0, 1, 3)
  end *= length / np.linalg.norm(end)
  pulls = substance.curl * length * rng.normal(0, 0.6, (2, 3))
  corners = np.array([0 * end, end / 3 + pulls[0], 2 * end / 3 + pulls[1], end])
  t = np.linspace(0.06, 0.94, _STRANDS)[:, None]
  powers = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
  curve = sum(p * c for p, c in zip(powers, corners))
  radii = rng.uniform(*substance.radius_mm) * np.sqrt(np.sin(np.pi * t[:, 0]))
  # Spheres overlap: iron by the length of the curve, as in a tube.
  step = np.linalg.norm(np.gradient(curve, axis=0), axis=1)
  chi = rng.uniform(*substance.chi_ppm) * np.minimum(step / (4 / 3 * radii), 1)
  spheres = np.column_stack([curve - curve.mean(0) + place_mm, radii])
  return lesions.Deposit(
    substance.kind, spheres.astype(np.float32), chi.astype(np.float32),
    rng.uniform(*substance.density),
  )  # fmt: skip


def _reflect(rng, head, strand) -> lesions.Deposit:
  """The same in the other hemisphere, a little off, more or less of it."""
  mni = head.to_mni(strand.spheres[:, :3])
  mni[:, 0] *= -1
  mni += rng.normal(0, 1.2, 3).astype(np.float32)
  spheres = np.column_stack([head.from_mni(mni), strand.spheres[:, 3]])
  factor = np.float32(rng.uniform(0.5, 1.5))
  return strand._replace(
    spheres=spheres.astype(np.float32), chi_ppm=factor * strand.chi_ppm
  )
