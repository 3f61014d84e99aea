"""How many deposits a person has, and where.

Rule: a microbleed that nobody could see on the SWI is not placed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cmbjax.simulate import families, lesions


class PlacedDeposit(NamedTuple):
  deposit: lesions.Deposit
  effect: lesions.Effect
  region: str
  box: tuple[slice, slice, slice]
  voxels: np.ndarray
  contrast: float


class LesionFamily(NamedTuple):
  """One way to draw microbleeds.

  Attributes:
    draw: (rng, centre_mm) to a deposit.
    spot: (rng, world, radius_mm=) to a free place [3] in grid mm and its
      region; None where there is no room.
    controls: share of the people who have 0 to 2; where it is 0, everyone
      has at least one.
    visible: least contrast of one that counts, see `lesions.label_contrast`.
  """

  draw: Callable[..., lesions.Deposit]
  spot: Callable[..., tuple[np.ndarray, str] | None]
  controls: float = 0.0
  visible: float = 0.25


def spot_by_region(rng, world, *, radius_mm):
  """A free place by the real shares of the regions, 3 mm from the rim.

  Args:
    rng: numpy generator.
    world: the person.
    radius_mm: of what will be put there.
  """
  return world.placer.draw(rng, radius_mm=radius_mm)


SPHERES = LesionFamily(lesions.draw_microbleed, spot_by_region)


def lesion_count(quantile: float, mean: float, *, dispersion=1.2) -> int:
  """Quantile of the negative binomial distribution of counts.

  Args:
    quantile: 0..1.
    mean: expected number.
    dispersion: of the counts; the smaller, the more people differ.
  """
  chance = dispersion / (dispersion + mean)
  share = below = chance**dispersion
  count = 0
  while below < quantile and count < 20 * mean + 20:
    share *= (count + dispersion) / (count + 1) * (1 - chance)
    below += share
    count += 1
  return count


def spread_quantile(number: int, shift: float) -> float:
  """Van der Corput's sequence, base 2, shifted: fills 0..1 evenly.

  So the first few subjects of a cohort already have its usual mean, though
  subject n depends on nothing but n.
  """
  value, step = 0.0, 0.5
  while number:
    value += step * (number & 1)
    number, step = number >> 1, step / 2
  return (value + shift) % 1.0


def place_lesions(rng, world, *, quantile) -> list[PlacedDeposit]:
  """Visible microbleeds, drawn until their number is reached.

  Args:
    rng: numpy generator.
    world: the person.
    quantile: 0..1, of the subject within the counts of its cohort.
  """
  protocol = world.protocol
  if not protocol.mean_lesions:
    return []
  family = families.find('lesions', protocol.families.lesions)
  share = world.share
  placed = []
  count = lesion_count(quantile, protocol.mean_lesions * share)
  control = family.controls > 0 and rng.random() < family.controls
  if control:
    count = int(rng.integers(0, 3))
  elif protocol.disease == 'cavernous malformation':
    for _ in range(max(1, round(rng.integers(1, 6) * share))):
      _try(rng, world, SPHERES._replace(draw=lesions.draw_popcorn), placed, 9.0)
  if not family.controls:
    count = max(count, 1)
  for _ in range(4 * count):
    if len(placed) >= count:
      break
    _try(rng, world, family, placed, 3.0)
  return placed


def _try(rng, world, family, placed, radius_mm) -> None:
  """Draws one deposit and keeps it when it can be seen."""
  spot = family.spot(rng, world, radius_mm=radius_mm)
  if spot is None:
    return
  deposit = family.draw(rng, spot[0])
  effect = world.effect(deposit)
  seen = effect and world.appearance(deposit, effect, visible=family.visible)
  if seen:
    world.placer.take(spot[0], radius_mm=radius_mm)
    placed.append(PlacedDeposit(deposit, effect, spot[1], *seen))


def place_mimics(rng, world) -> list[PlacedDeposit]:
  """Deposits that are not microbleeds; labelled where they show."""
  place = families.find('mimics', world.protocol.families.mimics)
  return place(rng, world)


def place_calcified(rng, world) -> list[PlacedDeposit]:
  """Family 'calcified': calcifications and tumour blood.

  Args:
    rng: numpy generator.
    world: the person; what is placed is not drawn into it.
  """
  found = []
  fixed = [((0, -26, 3), 2.4), ((18, -42, 12), 1.6), ((-18, -42, 12), 1.6)]
  for place, radius in fixed:
    if rng.random() < 0.75:
      jitter = rng.normal(0, 1.2, 3)
      centre = world.head.from_mni((np.array(place) + jitter)[None])[0]
      radius *= rng.uniform(0.5, 1.2)
      deposit = lesions.draw_calcification(rng, centre, radius_mm=radius)
      found += put_mimic(world, deposit)
  if rng.random() < 0.4:
    place = np.array([[0, rng.uniform(0, 50), rng.uniform(45, 70)]])
    centre = world.head.from_mni(place)[0]
    found += put_mimic(world, lesions.draw_calcification(rng, centre))
  for _ in range(rng.integers(1, 6)):
    spot = world.placer.draw(rng)
    if spot is not None:
      world.placer.take(spot[0])
      found += put_mimic(
        world, lesions.draw_calcification(rng, spot[0]), region=spot[1]
      )
  return found + place_tumour_blood(rng, world)


def place_tumour_blood(rng, world) -> list[PlacedDeposit]:
  """Blood of the person's tumour, where it bled."""
  tumour = world.tumour
  if tumour is None or not tumour.bloody:
    return []
  centre = tumour.centre_mm
  if tumour.cavity_mm is not None:  # what was not resected, beside it
    away = rng.normal(0, 1, 3)
    centre = centre + away / np.linalg.norm(away) * (tumour.cavity_mm + 4)
  return put_mimic(world, lesions.draw_tumour_blood(rng, centre))


def put_mimic(world, deposit, *, region='outside') -> list[PlacedDeposit]:
  """A deposit that is not a microbleed, as one item; none outside the slab.

  Args:
    world: the person.
    deposit: what is put there.
    region: where it is.
  """
  low, high = world.low_high_mm
  if not low <= deposit.centre_mm[2] <= high:
    return []
  effect = world.effect(deposit)
  if effect is None:
    return []
  box, _ = world.window(deposit)
  core = world.core(deposit, box)
  return [PlacedDeposit(deposit, effect, region, box, core, 0.0)]
