"""Family 'speckled' of microbleeds: iron as a random field in an envelope.

Rule: what varies is how the iron is spread, solid, speckled, in a ring or
thin; its total follows the sizes of real microbleeds.
"""

import functools

import numpy as np

from cmbjax.simulate import lesions, placement, spots

_LARGE_MM = 1.8  # radius from which a core is speckled, or a ring
_MOST = 50  # spheres: more would cost time and change nothing
# Susceptibility in ppm of a deposit of 1 ppm mm3, its spread and its growth.
_CHI, _CHI_SPREAD, _CHI_POWER = 0.08, 0.55, 0.3
_FAINT = 0.15  # share that is spread thin
_WAVES = 6
_SOFT = 0.6  # of the radius: where a solid one has lost most of its iron


def draw_speckled(rng, centre_mm) -> lesions.Deposit:
  """Small spheres that fill a lobed ellipsoid, each with its own iron.

  Args:
    rng: numpy generator.
    centre_mm: [3] grid mm.
  """
  moment = 1.35 * lesions.draw_moment(rng)
  chi = _CHI * moment**_CHI_POWER * np.exp(rng.normal(0, _CHI_SPREAD))
  chi = np.clip(chi, 0.03, 2.0)
  if rng.random() < _FAINT:
    chi *= rng.uniform(0.3, 0.6)
  radius = (3 * moment / (4 * np.pi * chi)) ** (1 / 3)
  axes = radius * _draw_axes(rng)
  inside, spacing = _fill(rng, radius)
  lobes = _field(rng, inside, waves_per_radius=0.5)
  inside = inside[np.linalg.norm(inside, axis=1) + 0.15 * lobes < 1]
  if not len(inside):
    inside = np.zeros((1, 3))
  iron = _draw_iron(rng, inside, radius)
  turn, _ = np.linalg.qr(rng.normal(0, 1, (3, 3)))
  offsets = (inside * axes) @ turn
  radii = np.full(len(offsets), 0.8 * spacing * radius)
  volume = 4 / 3 * np.pi * radii**3
  iron *= moment / (iron * volume).sum()
  spheres = np.column_stack([centre_mm + offsets, radii]).astype(np.float32)
  return lesions.Deposit('microbleed', spheres, iron.astype(np.float32))


def _draw_axes(rng):
  """Semi-axes [3] whose product is 1; middle over longest about 0.75."""
  axes = np.exp(rng.normal(0, 0.22, 3))
  return axes / axes.prod() ** (1 / 3)


def _fill(rng, radius):
  """Points [N, 3] in the unit sphere, jittered nodes; and their spacing."""
  wanted = float(np.clip(7 * (radius / 0.6) ** 1.4, 6, _MOST))
  spacing = (4 / 3 * np.pi / wanted) ** (1 / 3)
  ticks = np.arange(-1.2, 1.2 + spacing, spacing)
  nodes = np.stack(np.meshgrid(ticks, ticks, ticks, indexing='ij'), -1)
  nodes = nodes.reshape(-1, 3)
  return nodes + rng.uniform(-0.4, 0.4, nodes.shape) * spacing, spacing


def _field(rng, points, *, waves_per_radius):
  """A smooth random field of unit variance at points [N, 3]; [N]."""
  waves = rng.normal(0, 2 * np.pi * waves_per_radius, (_WAVES, 3))
  phases = rng.uniform(0, 2 * np.pi, _WAVES)
  return np.sqrt(2 / _WAVES) * np.cos(points @ waves.T + phases).sum(1)


def _draw_iron(rng, points, radius):
  """Relative iron [N] of points [N, 3] in the unit sphere."""
  field = _field(rng, points, waves_per_radius=0.9)
  style = rng.random()
  if radius < _LARGE_MM or style < 0.4:
    far = (points**2).sum(1)
    return np.exp(0.4 * field - far / _SOFT**2)  # fades toward its edge
  if style < 0.75:
    return np.where(field > rng.uniform(-0.3, 0.4), 1.0, 0.25)
  depth = 1 - np.linalg.norm(points, axis=1)
  ring = np.exp(-((np.clip(depth - 0.15, 0, None) / 0.2) ** 2))
  return (ring + 0.04) * np.exp(0.3 * field)


SPECKLED = placement.LesionFamily(
  draw_speckled,
  functools.partial(
    spots.draw,
    shares={'region': 0.5, 'vein': 0.22, 'rim': 0.14, 'cortex': 0.14},
  ),
  controls=0.15,
  visible=lesions.MARKED,
)
