"""A small drawn head with veins, for the tests of the imaging room."""

from typing import NamedTuple

import numpy as np

SPACING_MM = (1.0, 1.0, 2.0)


class Head(NamedTuple):
  magnitude: np.ndarray  # float32 [X, Y, Z], brain about 1
  phase: np.ndarray  # float32 rad, veins negative
  brain: np.ndarray  # bool
  veins: np.ndarray  # bool


def draw(seed: int = 0, *, shape=(96, 112, 24), noise: float = 0.02) -> Head:
  """Ellipsoid brain, a scalp ring round it, twelve straight dark veins."""
  rng = np.random.default_rng([seed, 17])
  x, y, z = np.meshgrid(
    *[
      (np.arange(n, dtype=np.float32) - n / 2) * s
      for n, s in zip(shape, SPACING_MM)
    ],
    indexing='ij',
  )
  radius = np.sqrt((x / 36) ** 2 + (y / 44) ** 2 + (z / 22) ** 2)
  brain = radius < 1
  scalp = (radius > 1.16) & (radius < 1.24)
  veins = np.zeros(shape, bool)
  for _ in range(12):
    place = rng.uniform(-1, 1, 3) * (18, 24, 8)
    way = rng.normal(size=3) * (1, 1, 0.7)
    way /= np.linalg.norm(way)
    offset = [a - p for a, p in zip((x, y, z), place)]
    along = sum(o * w for o, w in zip(offset, way))
    apart = sum(o**2 for o in offset) - along**2
    veins |= (apart < 1.2**2) & (np.abs(along) < 12)
  magnitude = np.where(brain, 1.0, 0.0) + np.where(scalp, 0.8, 0.0)
  magnitude = np.where(veins, 0.55, magnitude)
  phase = np.where(veins, -1.2, 0.0)
  signal = magnitude * np.exp(1j * phase)
  signal += noise * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
  return Head(
    np.abs(signal).astype(np.float32),
    np.angle(signal).astype(np.float32),
    brain,
    veins,
  )
