"""High-passed phase to weights that darken veins and microbleeds.

Rule: a weight is 0 to 1, so an SWI is never brighter than its magnitude.
"""

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging.swi_options import MASK_KINDS, MASK_RANGES


def phase_mask(
  phi: np.ndarray,
  kind: str = 'negative',
  *,
  power: float = 4.0,
  threshold_rad: float = np.pi,
  reach: str = 'pi',
  inside: np.ndarray | None = None,
) -> np.ndarray:
  """Weights in 0..1 that darken voxels by their phase.

  Args:
    phi: high-passed phase in rad, any shape; veins negative.
    kind: 'negative' darkens negative phase, 'positive' positive,
      'triangular' both, 'threshold' as 'negative' (down to 0 at
      `threshold_rad`), 'tanh' a smooth step over negative phase and
      'negativetanh' over positive; 'cosine' is 'negative' with a round shape
      (Quinn et al. 2014).
    power: how often the weight is multiplied; for the tanh kinds the steepness.
    threshold_rad: the phase at which the weight reaches 0; not for tanh.
    reach: 'pi' (0 to `threshold_rad`) or 'robust': 1 to 0 over what the phase
      of the darkened side spans in this image (1 % and 99 % quantiles).
    inside: voxels that set the tanh scale and the robust span; None: all.

  Returns:
    float32, the shape of `phi`.

  Raises:
    InputError: unknown kind, or a number that is not positive.

  Source: Haacke et al. 2004 (linear masks); Eckstein et al. 2021 (CLEAR-SWI:
  tanh kinds, robust span).
  """
  _check(kind, power, threshold_rad, reach)
  if kind.endswith('tanh'):
    return _tanh_mask(phi if kind == 'negativetanh' else -phi, power, inside)
  drop = {'positive': phi, 'triangular': np.abs(phi)}.get(kind, -phi)
  start, width = 0.0, threshold_rad
  if reach == 'robust':
    start, width = _robust_span(drop, inside)
  weight = drop - np.float32(start)
  weight *= np.float32(-1 / width)
  weight += 1
  np.clip(weight, 0, 1, out=weight)
  if reach == 'robust':
    weight[drop <= 0] = 1
  if kind == 'cosine':
    weight = 0.5 - 0.5 * np.cos(np.float32(np.pi) * weight)
  if power == 4:  # numpy's power is ten times slower than two squares
    weight *= weight
    weight *= weight
    return weight.astype(np.float32, copy=False)
  return (weight**power).astype(np.float32)


def _check(kind, power, threshold_rad, reach):
  if reach not in MASK_RANGES:
    raise InputError(
      f'mask range: found {reach!r}; give one of {", ".join(MASK_RANGES)}.'
    )
  if kind not in MASK_KINDS:
    raise InputError(
      f'mask kind: found {kind!r}; give one of {", ".join(MASK_KINDS)}.'
    )
  if not 0 < power < np.inf or not 0 < threshold_rad < np.inf:
    raise InputError(
      f'phase mask: found power {power:g} and threshold {threshold_rad:g}; '
      'give finite numbers above 0.'
    )


def _robust_span(drop, inside):
  """Start and width of the side that is darkened, without its outliers."""
  chosen = drop > 0 if inside is None else (drop > 0) & inside
  if not chosen.any():
    return 0.0, np.pi
  low, high = np.quantile(drop[chosen], (0.01, 0.99))
  width = max(float(high - low) / 0.98, 1e-6)
  return float(low) - 0.01 * width, width


def _tanh_mask(x, steepness, inside):
  chosen = x > 0
  if inside is not None:
    chosen &= inside
    x = np.where(inside, x, 0)
  values = x[chosen]
  middle = float(np.median(values)) * 10 / steepness if values.size else 1.0
  return ((1 + np.tanh(1 - x / np.float32(middle))) / 2).astype(np.float32)
