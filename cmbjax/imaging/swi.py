"""Magnitude and phase to a susceptibility-weighted image (SWI).

Rule: veins and microbleeds come out darker than in the magnitude, never
brighter; the phase sign is chosen so, and the choice is on record.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging.phase import (  # the names of this room
  HOMODYNE_SIGMA_MM,
  default_sigma_mm,
  homodyne,
)

__all__ = [
  'HOMODYNE_SIGMA_MM',
  'MASK_KINDS',
  'Options',
  'Swi',
  'default_sigma_mm',
  'homodyne',
  'phase_mask',
  'reconstruct',
  'scale_to_unit',
  'swi',
]

MASK_KINDS = (
  'negative',
  'positive',
  'triangular',
  'threshold',
  'tanh',
  'negativetanh',
)


@dataclasses.dataclass(frozen=True)
class Options:
  """How an SWI is made."""

  sigma_mm: float | None = None  # high-pass width; None: by field strength
  mask_kind: str = 'negative'
  mask_power: float = 4.0
  phase_sign: int = 1  # 1: veins are negative in the phase, -1: positive


class Swi(NamedTuple):
  """One reconstruction; arrays are [X, Y, Z] on the grid that was given."""

  swi: np.ndarray  # float32, in units of the magnitude
  magnitude: np.ndarray  # float32
  phase: np.ndarray  # float32 rad, high-passed, veins negative


def phase_mask(
  phi: np.ndarray,
  kind: str = 'negative',
  *,
  power: float = 4.0,
  threshold_rad: float = np.pi,
  inside: np.ndarray | None = None,
) -> np.ndarray:
  """Weights in 0..1 that darken voxels by their phase.

  Args:
    phi: high-passed phase in rad, any shape; veins negative.
    kind: 'negative' darkens negative phase, 'positive' positive,
      'triangular' both, 'threshold' as 'negative' (down to 0 at
      `threshold_rad`), 'tanh' a smooth step over negative phase and
      'negativetanh' over positive.
    power: how often the weight is multiplied; for the tanh kinds the steepness.
    threshold_rad: the phase at which the weight reaches 0; not for tanh.
    inside: voxels whose median phase sets the tanh scale; None: all.

  Returns:
    float32, the shape of `phi`.

  Raises:
    InputError: unknown kind, or a number that is not positive.

  Source: Haacke et al. 2004 (linear masks); Eckstein et al. 2022 (CLEAR-SWI,
  tanh).
  """
  if kind not in MASK_KINDS:
    raise InputError(
      f'mask kind: found {kind!r}; give one of {", ".join(MASK_KINDS)}.'
    )
  if not power > 0 or not threshold_rad > 0:
    raise InputError(
      f'phase mask: found power {power:g} and threshold {threshold_rad:g}; '
      'give numbers above 0.'
    )
  if kind.endswith('tanh'):
    return _tanh_mask(phi if kind == 'negativetanh' else -phi, power, inside)
  drop = {'positive': phi, 'triangular': np.abs(phi)}.get(kind, -phi)
  weight = np.clip(1 - drop * np.float32(1 / threshold_rad), 0, 1)
  if power == 4:  # numpy's power is ten times slower than two squares
    weight *= weight
    weight *= weight
    return weight.astype(np.float32, copy=False)
  return (weight**power).astype(np.float32)


def swi(
  magnitude: np.ndarray,
  phase_hp: np.ndarray,
  *,
  kind: str = 'negative',
  power: float = 4.0,
) -> np.ndarray:
  """Magnitude times phase mask, float32 [X, Y, Z]; veins negative."""
  weight = phase_mask(phase_hp, kind, power=power)
  weight *= magnitude
  return weight


def scale_to_unit(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Brain intensities to 0..1: the 99.5th percentile inside becomes 1.

  Args:
    image: [X, Y, Z], an SWI.
    mask: bool [X, Y, Z].

  Returns:
    float32 [X, Y, Z], clipped to 0..1, also outside the mask.

  Raises:
    InputError: the mask is empty or the brain holds no signal.
  """
  return np.clip(image / np.float32(unit_factor(image, mask)), 0, 1).astype(
    np.float32, copy=False
  )


def unit_factor(image: np.ndarray, mask: np.ndarray) -> float:
  """The intensity that `scale_to_unit` maps to 1."""
  inside = np.asarray(image)[np.asarray(mask, bool)]
  if not inside.size:
    raise InputError('brain mask: holds no voxel; give another mask.')
  top = float(np.percentile(inside, 99.5))
  if not top > 0:
    raise InputError(
      f'image: its brightest brain tissue is {top:g}, expected above 0; check '
      'image and mask.'
    )
  return top


def reconstruct(
  magnitude: np.ndarray,
  phase: np.ndarray,
  spacing_mm: tuple[float, float, float],
  options: Options = Options(),
  *,
  field_t: float | None = None,
) -> Swi:
  """Magnitude and wrapped phase [X, Y, Z] of one echo to an SWI."""
  sigma = options.sigma_mm or default_sigma_mm(field_t)
  magnitude = np.asarray(magnitude, np.float32)
  signal = magnitude * np.exp(1j * np.asarray(phase, np.float32))
  local = options.phase_sign * homodyne(signal, spacing_mm, sigma_mm=sigma)
  image = swi(
    magnitude, local, kind=options.mask_kind, power=options.mask_power
  )
  return Swi(image, magnitude, local)


def _tanh_mask(x, steepness, inside):
  chosen = x > 0
  if inside is not None:
    chosen &= inside
    x = np.where(inside, x, 0)
  values = x[chosen]
  middle = float(np.median(values)) * 10 / steepness if values.size else 1.0
  return ((1 + np.tanh(1 - x / np.float32(middle))) / 2).astype(np.float32)
