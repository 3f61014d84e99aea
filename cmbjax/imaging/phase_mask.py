"""High-passed phase to weights that darken veins and microbleeds.

Rule: a weight is 0 to 1, so an SWI is never brighter than its magnitude.
"""

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging.swi_options import MASK_KINDS


def phase_mask(
  phi: np.ndarray,
  kind: str = 'negative',
  *,
  power: float = 4.0,
  threshold_rad: float = np.pi,
) -> np.ndarray:
  """Weights in 0..1 that darken voxels by their phase.

  Args:
    phi: high-passed phase in rad, any shape; veins negative.
    kind: 'negative' darkens negative phase, 'positive' positive, 'triangular'
      both.
    power: how often the weight is multiplied.
    threshold_rad: the phase at which the weight reaches 0.

  Returns:
    float32, the shape of `phi`.

  Raises:
    InputError: unknown kind, or a number that is not positive.

  Source: Haacke et al. 2004.
  """
  if kind not in MASK_KINDS:
    raise InputError(
      f'mask kind: found {kind!r}; give one of {", ".join(MASK_KINDS)}.'
    )
  if not 0 < power < np.inf or not 0 < threshold_rad < np.inf:
    raise InputError(
      f'phase mask: found power {power:g} and threshold {threshold_rad:g}; '
      'give finite numbers above 0.'
    )
  drop = {'positive': phi, 'triangular': np.abs(phi)}.get(kind, -phi)
  weight = drop * np.float32(-1 / threshold_rad)
  weight += 1
  np.clip(weight, 0, 1, out=weight)
  if power == 4:  # numpy's power is ten times slower than two squares
    weight *= weight
    weight *= weight
    return weight.astype(np.float32, copy=False)
  return (weight**power).astype(np.float32)
