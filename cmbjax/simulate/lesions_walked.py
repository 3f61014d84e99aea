"""Family 'walked' of microbleeds: blood that walks away from a leak.

Rule: held out, so it shares nothing with the others but the physics; its
own law of sizes was set by the same real ones.
"""

import functools

import numpy as np

from cmbjax.simulate import lesions, placement, spots

# Iron of one bleed in ppm mm3: most are alike, a quarter spreads far.
_MEDIAN, _SPREAD, _WIDE_SPREAD, _WIDE = 1.3, 0.65, 1.6, 0.25
_RANGE = (0.05, 50.0)
_REACH_MM = 1.0  # of a bleed of 1 ppm mm3


def draw_walked(rng, centre_mm) -> lesions.Deposit:
  """Clots along a path that is drawn back to where it began.

  Args:
    rng: numpy generator.
    centre_mm: [3] grid mm.
  """
  wide = rng.random() < _WIDE
  spread = rng.normal(0, _WIDE_SPREAD if wide else _SPREAD)
  moment = float(np.clip(_MEDIAN * np.exp(spread), *_RANGE))
  reach = _REACH_MM * moment**0.25 * np.exp(rng.normal(0.15, 0.35))
  steps = int(np.clip(rng.poisson(8 * reach), 4, 40))
  path = _walk(rng, steps)
  # What is carried farther holds less.
  load = rng.gamma(1.5, 1, steps) * np.exp(-np.arange(steps) / steps)
  path -= (path * load[:, None]).sum(0) / load.sum()
  size = np.sqrt((path**2).sum(1) @ load / load.sum())
  path *= reach / size
  radii = 0.75 * reach * np.exp(rng.normal(0, 0.3, steps))
  chi = moment * load / load.sum() / (4 / 3 * np.pi * radii**3)
  spheres = np.column_stack([centre_mm + path, radii]).astype(np.float32)
  return lesions.Deposit('microbleed', spheres, chi.astype(np.float32))


def _walk(rng, steps):
  """Places [steps, 3] of clots; now and then another branch begins."""
  axis = rng.normal(0, 1, 3)
  axis /= np.linalg.norm(axis)
  along = rng.uniform(0.0, 1.2)  # drift of the blood along its vessel
  out = np.zeros((steps, 3))
  for step in range(1, steps):
    start = out[step - 1]
    if rng.random() < 0.12:
      start = out[rng.integers(step)]
    move = rng.normal(0, 1, 3) + along * rng.normal(0, 1) * axis
    out[step] = 0.65 * start + move
  return out


WALKED = placement.LesionFamily(
  draw_walked,
  functools.partial(
    spots.draw,
    shares={'region': 0.45, 'vein': 0.25, 'rim': 0.2, 'cortex': 0.1},
  ),
  controls=0.15,
  visible=lesions.MARKED,
)
