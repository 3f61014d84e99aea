"""Heads in contrasts other than SWI, from the tissue of the simulator.

Rule: shares of grey, white and fluid of a drawn head, each with a usual value
of that contrast; there are no dark veins, as in a spin echo.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import resample
from cmbjax.simulate import anatomy


class Look(NamedTuple):
  """Signal of each tissue, and how it is scanned."""

  grey: float
  white: float
  fluid: float
  scalp: float
  bone: float = 0.05
  vessels: float = 0.0  # added where an agent fills them
  spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)


LOOKS = {
  'T1': Look(0.65, 1.0, 0.2, 1.2),
  'T1 with agent': Look(0.65, 1.0, 0.2, 1.2, vessels=1.0),
  'T2': Look(0.6, 0.45, 1.6, 0.7, spacing_mm=(1.0, 1.0, 4.0)),
  'PD': Look(1.0, 0.8, 1.0, 0.9, spacing_mm=(1.0, 1.0, 3.0)),
  'FLAIR': Look(0.95, 0.75, 0.12, 0.8, spacing_mm=(1.0, 1.0, 3.0)),
  'EPI': Look(0.8, 0.68, 1.3, 0.1, spacing_mm=(2.0, 2.0, 3.0)),
  'CT': Look(1.04, 1.03, 1.005, 1.0, bone=1.9),
}


def draw_tissue(seed: int) -> anatomy.SimulatedHead:
  """A whole head on a grid of 1 mm."""
  rng = np.random.default_rng([seed, 41])
  return anatomy.draw_head(rng, full_mm=(176.0, 216.0, 168.0))


def draw(head: anatomy.SimulatedHead, look: Look, seed: int = 0):
  """(image float32 [X, Y, Z], spacing in mm, bool brain)."""
  rng = np.random.default_rng([seed, 43])
  # Shares are means over people: sharper, as of one person.
  shares = [np.clip(s, 0, 1) ** 2 for s in (head.grey, head.white, head.csf)]
  total = np.maximum(sum(shares), 1e-9)
  values = (look.grey, look.white, look.fluid)
  image = sum(s * v for s, v in zip(shares, values)) / total
  far = ndimage.distance_transform_edt(~head.mask)
  image = np.where(head.mask, image, 0)
  for low, high, value in (
    (0, 2, look.fluid),
    (2, 8, look.bone),
    (8, 13, look.scalp),
  ):
    image = np.where((far > low) & (far <= high), value, image)
  noise = ndimage.gaussian_filter(rng.normal(size=image.shape), 2.0)
  lines = np.abs(noise) < 0.02 * noise.std()  # thin sheets stand for vessels
  image = image + look.vessels * (lines & head.mask)
  x = np.linspace(-1, 1, image.shape[0])[:, None, None]
  image = np.abs(
    image * (1 + 0.15 * x) + 0.02 * rng.normal(size=image.shape)
  ).astype(np.float32)
  image, brain = (
    resample.to_spacing(a, (1.0, 1.0, 1.0), look.spacing_mm)
    for a in (image, head.mask.astype(np.float32))
  )
  return image, look.spacing_mm, brain > 0.5
