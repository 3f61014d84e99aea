"""Magnitude images to flatter ones: receive field and bright vessels.

Rule: dark lesions and veins keep their contrast to the tissue round them; only
what is smooth over centimetres, or brighter than tissue, changes.
"""

import numpy as np
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.imaging import resample

SENSITIVITIES = ('off', 'gaussian', 'boxsegment')

_WIDE_MM = 15.0
_BOX_MM = 7.0
_MOST_OF_VIEW = 0.1  # the smoothing of 'boxsegment' stays below this part
_COARSE_MM = 2.0  # a receive field is smooth
_BOXES = 15  # along each axis, with as many again half a box further on
_MAIN_QUANTILE = 0.9
_MAIN_WIDTH = 0.1
_AGREE = 2
_FILL, _FILL_WEIGHT, _WEIGHT = 3.0, 0.2, 1.2
_SOFT_QUANTILE, _SOFT_PART = 0.8, 0.5


def softplus(magnitude: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Presses dark noise towards 0 and leaves tissue linear; float32.

  out = sp(x) - sp(0), sp(x) = log(1 + exp(f (x - o))) / f, with o half of the
  80 % quantile of the brain and f = 2 / o.

  Args:
    magnitude: [X, Y, Z], 0 or more.
    mask: bool [X, Y, Z], brain.

  Source: Eckstein et al. 2021 (CLEAR-SWI), its softplus scaling.
  """
  offset = _SOFT_PART * _quantile(magnitude, mask, _SOFT_QUANTILE)
  factor = np.float32(2 / offset)

  def soft(x):
    a = factor * (x - np.float32(offset))
    return (np.log1p(np.exp(-np.abs(a))) + np.maximum(a, 0)) / factor

  return (soft(np.asarray(magnitude, np.float32)) - soft(np.float32(0))).astype(
    np.float32
  )


def sensitivity(
  magnitude: np.ndarray,
  mask: np.ndarray,
  spacing_mm: tuple[float, float, float],
  kind: str = 'gaussian',
) -> np.ndarray:
  """The receive field, median 1 in the brain, to divide a magnitude by.

  Args:
    magnitude: [X, Y, Z].
    mask: bool [X, Y, Z], brain.
    spacing_mm: voxel sizes.
    kind: 'gaussian' (the magnitude smoothed over 15 mm within the brain) or
      'boxsegment' (the brightest tissue of many small boxes, smoothed over
      7 mm; follows steeper fields but may draw border lines).

  Returns:
    float32 [X, Y, Z], above 0 everywhere.

  Raises:
    InputError: unknown kind, or a mask without signal.

  Source of 'boxsegment': Eckstein, Trattnig and Robinson 2019 (ISMRM 27:4781).
  """
  if kind not in SENSITIVITIES[1:]:
    raise InputError(
      f'sensitivity correction: found {kind!r}; give one of '
      f'{", ".join(SENSITIVITIES)}.'
    )
  factors = [max(1, round(_COARSE_MM / s)) for s in spacing_mm]
  step = np.array(spacing_mm) * factors
  weight = resample.block_mean(mask.astype(np.float32), factors)
  total = resample.block_mean(magnitude * mask, factors)
  coarse = total / np.maximum(weight, 1e-6)
  inside = weight > 0.5
  if not inside.any() or not coarse[inside].max() > 0:
    raise InputError(
      'sensitivity correction: the brain mask holds no signal; give another '
      'mask.'
    )
  find = _wide if kind == 'gaussian' else _boxsegment
  field = find(coarse, inside, step)
  field = field / np.float32(np.median(field[inside]))
  # Far from the brain there is nothing to measure; the edge goes on.
  return np.maximum(
    resample.stretch(field, factors, magnitude.shape), np.float32(0.2)
  )


def main_tissue(
  image: np.ndarray, mask: np.ndarray, *, boxes: int = _BOXES
) -> np.ndarray:
  """Voxels near the 90 % quantile of at least two of the boxes they lie in.

  Args:
    image: [X, Y, Z].
    mask: bool [X, Y, Z]; only its voxels count.
    boxes: along each axis; as many again lie half a box further on.

  Returns:
    bool [X, Y, Z].
  """
  size = [max(1, round(n / boxes)) for n in image.shape]
  half = [max(s // 2, 1) for s in size]
  count = [-(-n // h) for n, h in zip(image.shape, half)]
  pad = [
    (0, (c - 1) * h + s - n)
    for c, h, s, n in zip(count, half, size, image.shape)
  ]
  values = np.pad(
    np.where(mask, image, -np.inf), pad, constant_values=-np.inf
  ).astype(np.float32)
  windows = np.lib.stride_tricks.sliding_window_view(values, size)
  windows = windows[:: half[0], :: half[1], :: half[2]]
  level = _quantiles(windows.reshape(*count, -1), _MAIN_QUANTILE)
  votes = np.zeros(values.shape, np.uint8)
  for offset in np.ndindex(*size):
    near = np.abs(windows[..., *offset] - level) < _MAIN_WIDTH * level
    places = tuple(
      slice(o, o + (c - 1) * h + 1, h) for o, c, h in zip(offset, count, half)
    )
    votes[places] += near
  return votes[tuple(map(slice, image.shape))] >= _AGREE


def _quantiles(values, part):
  """Quantile along the last axis of what is finite; 0 where nothing is."""
  values = np.sort(values, -1)
  count = np.isfinite(values).sum(-1)
  place = values.shape[-1] - count + part * np.maximum(count - 1, 0)
  low = np.minimum(place.astype(int), values.shape[-1] - 1)
  high = np.minimum(low + 1, values.shape[-1] - 1)
  below, above = (
    np.take_along_axis(values, i[..., None], -1)[..., 0] for i in (low, high)
  )
  empty = count == 0
  below, above = (np.where(empty, 0, v) for v in (below, above))
  return below + (place - low) * (above - below)


def _wide(coarse, inside, step):
  return _masked_smooth(coarse, inside, _WIDE_MM / step)


def _boxsegment(coarse, inside, step):
  view = np.array(coarse.shape) * step
  sigma = np.minimum(_BOX_MM, _MOST_OF_VIEW * view) / step
  main = main_tissue(coarse, inside)
  field = _masked_smooth(coarse, main, np.sqrt(1 - 0.7**2) * sigma)
  mean = np.float32(coarse[inside].mean())
  odd = (field < mean / 4) | (field > 10 * mean) | ~np.isfinite(field)
  field = np.where(odd, _FILL * mean, field)
  weight = np.where(odd, _FILL_WEIGHT, _WEIGHT).astype(np.float32)
  return _smooth(field * weight, 0.7 * sigma) / _smooth(weight, 0.7 * sigma)


def _masked_smooth(image, inside, sigma):
  weight = _smooth(inside.astype(np.float32), sigma)
  return _smooth(np.where(inside, image, 0), sigma) / np.maximum(weight, 1e-3)


def _smooth(image, sigma):
  return ndimage.gaussian_filter(image, sigma, truncate=3)


def _quantile(image, mask, part):
  inside = image[mask]
  level = float(np.quantile(inside, part)) if inside.size else 0.0
  if not level > 0:
    raise InputError(
      'softplus scaling: the brain mask holds no signal; give another mask.'
    )
  return level
