"""A head image to whether its brain looks like an SWI, or like what else.

Rule: two numbers must agree before an image is called something else, and the
sentence names both. Names are the nearest usual contrast, not a finding.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import resample

_STEP_MM = 1.0  # in plane: veins of 2 mm are seen, noise is averaged
_SLICES = 12  # enough to be sure, few enough to be quick
_PART = (0.25, 0.8)  # of the slices with brain: above the base, below the top
_DEEP_MM = 12.0  # from the edge: sulci and the mask's own faults are not asked
_TISSUE_MM, _NEAR_MM, _FAR_MM = 2.0, 4.0, 20.0  # widths of means
_DARKER, _BRIGHTER = 0.75, 1.25  # of the tissue near: veins, vessels, fluid
_FEWEST = 2000  # voxels of 1 mm in plane
# Of 19 simulated SWIs and T2*-weighted magnitudes (1.5 to 7 T; the fluid of a
# 1.5 T scan is brightest: 1.36) none is beyond two of these.
_DARK_FLUID = 0.55
_BRIGHT_FLUID, _VERY_BRIGHT_FLUID = 1.25, 1.6
_GREY_WHITE = 0.32
_FEW_DARK = 0.3  # % of deep brain; SWIs have .9 and more
_MANY_BRIGHT = 0.9  # %
_FAINT = 0.75


class Contrast(NamedTuple):
  """What deep brain looks like; fractions are of the tissue round it.

  Attributes:
    darkest, brightest: 1st and 99th percentile of tissue, means over 2 mm.
    spread: from the 10th to the 90th percentile of the same.
    dark, bright: percent of fine structures below .75 and above 1.25.
    finest: the 0.5th percentile of fine structures.
  """

  darkest: float
  brightest: float
  spread: float
  dark: float
  bright: float
  finest: float


def measure(
  image: np.ndarray, spacing_mm: tuple[float, float, float], mask: np.ndarray
) -> Contrast | None:
  """Looks at a dozen slices, 0.2 s; None where there is too little brain.

  Args:
    image: [X, Y, Z], air dark, the slice axis last.
    spacing_mm: voxel sizes.
    mask: bool [X, Y, Z], the brain.
  """
  filled = np.flatnonzero(mask.any((0, 1)))
  if not filled.size:
    return None
  low, high = (filled[0] + p * np.ptp(filled) for p in _PART)
  chosen = np.unique(np.linspace(low, high, _SLICES).round().astype(int))
  factors = [max(1, round(_STEP_MM / s)) for s in spacing_mm[:2]] + [1]
  step = np.array(spacing_mm[:2]) * factors[:2]
  inside = mask[:, :, chosen]
  share = resample.block_mean(inside, factors)
  values = resample.block_mean(
    np.where(inside, image[:, :, chosen], 0), factors
  )
  tissue, near, far = (
    _mean(values, share, width / step)
    for width in (_TISSUE_MM, _NEAR_MM, _FAR_MM)
  )
  deep = np.stack(
    [
      ndimage.distance_transform_edt(np.pad(s > 0.9, 1), sampling=step)
      for s in np.moveaxis(share, 2, 0)
    ],
    2,
  )[1:-1, 1:-1]
  deep = (deep > _DEEP_MM) & (near > 0) & (far > 0)
  if deep.sum() < _FEWEST:
    return None
  wide, fine = tissue[deep] / far[deep], values[deep] / near[deep]
  darkest, lower, upper, brightest = np.percentile(wide, (1, 10, 90, 99))
  return Contrast(
    float(darkest),
    float(brightest),
    float(upper - lower),
    100 * float((fine < _DARKER).mean()),
    100 * float((fine > _BRIGHTER).mean()),
    float(np.percentile(fine, 0.5)),
  )


def unlike_swi(
  image: np.ndarray, spacing_mm: tuple[float, float, float], mask: np.ndarray
) -> str:
  """What an image looks like instead of an SWI, with its signs.

  Args:
    image, spacing_mm, mask: as for `measure`.

  Returns:
    A sentence; '' for an SWI, or where there is too little brain to see.
  """
  seen = measure(image, spacing_mm, mask)
  return _named(seen) if seen else ''


def _named(seen: Contrast) -> str:
  near = f'{seen.bright:.1f} % of it is much brighter than what is near'
  if seen.darkest < _DARK_FLUID and seen.bright > _MANY_BRIGHT:
    name = 'T1-weighted' if seen.spread > _GREY_WHITE else 'FLAIR'
    return (
      f'the image looks {name}: parts of the deep brain have only '
      f'{seen.darkest:.0%} of the brightness round them, and {near}'
    )
  veinless = seen.dark < _FEW_DARK and seen.finest > _FAINT
  bright = seen.bright > _MANY_BRIGHT and seen.brightest > (
    _BRIGHT_FLUID if veinless else _VERY_BRIGHT_FLUID
  )
  if bright:
    name = 'EPI' if veinless else 'T2-weighted'
    return (
      f'the image looks {name}: parts of the deep brain have '
      f'{seen.brightest:.0%} of the brightness round them, and {near}'
    )
  if veinless:
    return (
      f'the image looks PD-weighted or like CT: only {seen.dark:.2f} % of the '
      'deep brain is darker than what is near, and the darkest places still '
      f'have {seen.finest:.0%} of its brightness, so veins are not seen'
    )
  return ''


def _mean(values, share, sigma):
  """Means [X, Y, N] within the brain of each slice."""
  smooth = [
    ndimage.gaussian_filter(a, (*sigma, 0), truncate=3) for a in (values, share)
  ]
  return smooth[0] / np.maximum(smooth[1], 0.05)
