"""Magnitude and phase to a susceptibility-weighted image (SWI).

Rule: veins and microbleeds come out darker than in the magnitude, never
brighter; the phase sign is chosen so, and the choice is on record.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import echoes, polarity, resample, slices
from cmbjax.imaging import magnitude as magnitude_module
from cmbjax.imaging.brain import brain_mask
from cmbjax.imaging.phase import default_sigma_mm, high_pass
from cmbjax.imaging.phase_mask import phase_mask
from cmbjax.imaging.swi_options import MODES, SwiOptions


class Swi(NamedTuple):
  """One reconstruction; arrays are [X, Y, Z] on the grid that was given."""

  swi: np.ndarray  # float32, in units of the magnitude
  min_ip: np.ndarray  # float32
  magnitude: np.ndarray  # float32, of the echoes that were used
  phase: np.ndarray  # float32 rad, high-passed, veins negative
  mask: np.ndarray  # bool, brain
  tof: np.ndarray | None  # float32, magnitude of the first of several echoes
  polarity: polarity.Polarity
  sigma_mm: float
  echoes: tuple[int, ...]  # the echoes used, from 1
  slice_axis: int


def scale_to_unit(
  image: np.ndarray, mask: np.ndarray, *, out: np.ndarray | None = None
) -> np.ndarray:
  """Brain intensities to 0..1: the 99.5th percentile inside becomes 1.

  Args:
    image: [X, Y, Z], an SWI.
    mask: bool [X, Y, Z].
    out: float32 [X, Y, Z], where the result goes; None: a new array.

  Returns:
    float32 [X, Y, Z], clipped to 0..1, also outside the mask.

  Raises:
    InputError: the mask is empty or the brain holds no signal.
  """
  factor = np.float32(unit_factor(image, mask))
  unit = np.divide(
    image, factor, out=out, dtype=np.float32, casting='same_kind'
  )
  return np.clip(unit, 0, 1, out=unit)


def unit_factor(image: np.ndarray, mask: np.ndarray) -> float:
  """The intensity that `scale_to_unit` maps to 1."""
  inside = np.asarray(image)[np.asarray(mask, bool)]
  inside = inside.astype(np.float32, copy=False)
  if not inside.size:
    raise InputError('brain mask: holds no voxel; give another mask.')
  top = float(np.percentile(inside, 99.5))
  if not top > 0:
    raise InputError(
      f'image: its brightest brain tissue is {top:g}, expected above 0; check '
      'image and mask.'
    )
  return top


def resampled(
  made: Swi,
  spacing_mm: tuple[float, float, float],
  new_mm: tuple[float, float, float],
  *,
  mip_mm: float,
) -> Swi:
  """The same scan with voxels of `new_mm`, each the mean of what it covers.

  The minimum projection is made again from the new SWI; a voxel belongs to
  the brain when half of it does.

  Args:
    made: what `reconstruct` gave.
    spacing_mm: its voxel sizes.
    new_mm: voxel sizes of the result.
    mip_mm: thickness of the minimum projection.
  """
  # A phase near pi and one near -pi are alike, so their phasors are averaged.
  parts = np.sin(made.phase), np.cos(made.phase)
  swi_, mag, sine, cosine, mask, tof = (
    None if a is None else resample.to_spacing(a, spacing_mm, new_mm)
    for a in (made.swi, made.magnitude, *parts, made.mask, made.tof)
  )
  axis = made.slice_axis
  return made._replace(
    swi=swi_,
    min_ip=min_ip(swi_, new_mm[axis], thickness_mm=mip_mm, axis=axis),
    magnitude=mag,
    phase=np.arctan2(sine, cosine),
    mask=mask >= 0.5,
    tof=tof,
  )


def min_ip(
  image: np.ndarray, spacing_mm: float, *, thickness_mm: float, axis: int = 2
) -> np.ndarray:
  """Minimum over a slab centred on each slice; the shape stays.

  Args:
    image: [X, Y, Z].
    spacing_mm: of the slices, along `axis`.
    thickness_mm: of the slab, to the nearest odd number of slices.

  Raises:
    InputError: the thickness is not positive.
  """
  if not 0 < thickness_mm < np.inf:
    raise InputError(
      f'mip_mm: found {thickness_mm:g}; give a finite thickness above 0 mm.'
    )
  either_side = max(round((thickness_mm / spacing_mm - 1) / 2), 0)
  result = np.array(image)
  size = image.shape[axis]
  source, target = np.moveaxis(image, axis, 2), np.moveaxis(result, axis, 2)
  for shift in range(1, min(either_side, size - 1) + 1):
    for here, there in (
      (slice(shift, None), slice(None, -shift)),
      (slice(None, -shift), slice(shift, None)),
    ):
      np.minimum(target[..., here], source[..., there], out=target[..., here])
  return result


def reconstruct(
  magnitude: np.ndarray,
  phase: np.ndarray,
  spacing_mm: tuple[float, float, float],
  options: SwiOptions | None = None,
  *,
  echo_times_s: Sequence[float] | None = None,
  field_t: float | None = None,
  mask: np.ndarray | None = None,
  sensitivity: np.ndarray | None = None,
  usual_sign: int | None = None,
) -> Swi:
  """Magnitude and wrapped phase to an SWI, a minimum projection and a TOF.

  Every coil is high-passed on its own before coils are added, so no coil phase
  needs to be known. Of several echoes the first is kept as time-of-flight
  image and the others make the SWI.

  Args:
    magnitude: [X, Y, Z], [X, Y, Z, E] or [X, Y, Z, E, C].
    phase: rad, the same shape.
    spacing_mm: voxel sizes along x, y, z.
    options: None: the defaults of `SwiOptions`.
    echo_times_s: E ascending numbers; needed for more than one echo.
    field_t: field strength, which sets the width of the high-pass.
    mask: bool [X, Y, Z], brain; None: `brain_mask` of the first echo.
    sensitivity: [X, Y, Z], a receive field to divide by; None: by `options`.
    usual_sign: of a phase that does not show it; None: a guess.

  Raises:
    InputError: options that do not fit the data.
  """
  options = options or SwiOptions()
  magnitude, phase = _five_axes(magnitude, phase)
  axis = slices.axis_of(spacing_mm)
  # Filters and projection work along the acquired slices.
  magnitude, phase, mask, sensitivity = _swapped(
    (magnitude, phase, mask, sensitivity), axis
  )
  spacing_mm = tuple(spacing_mm[{axis: 2, 2: axis}.get(i, i)] for i in range(3))
  # Slice after slice in memory: everything below is quicker so.
  magnitude, phase = np.asfortranarray(magnitude), np.asfortranarray(phase)
  sigma = _sigma(options, field_t)
  used = _used_echoes(options, magnitude.shape[3], echo_times_s)
  mask = _brain(mask, magnitude, spacing_mm)
  mags, local = _combined_coils(
    magnitude, phase, used=used, spacing_mm=spacing_mm, options=options,
    sigma_mm=sigma, mask=mask,
  )  # fmt: skip
  found = _polarity(mags, local, spacing_mm, mask, options, usual_sign)
  local = local if found.sign > 0 else [-p for p in local]
  times = [echo_times_s[e - 1] for e in used] if echo_times_s else None
  mags = _flattened(mags, mask, spacing_mm, options, sensitivity)
  image, mag, shown = _weighted(
    mags, local, times=times, field_t=field_t, mask=mask, options=options
  )
  projection = min_ip(image, spacing_mm[2], thickness_mm=options.mip_mm)
  tof = _coil_sum(magnitude[..., 0, :]) if magnitude.shape[3] > 1 else None
  arrays = _swapped((image, projection, mag, shown, mask, tof), axis)
  return Swi(*arrays, found, sigma, used, axis)


def _swapped(arrays, axis):
  """Each array with one axis in the place of z, and z in its place."""
  if axis == 2:
    return arrays
  return [None if a is None else np.swapaxes(a, axis, 2) for a in arrays]


def _five_axes(magnitude, phase):
  """Both as float32 [X, Y, Z, E, C]."""
  magnitude = np.asarray(magnitude, np.float32)
  phase = np.asarray(phase, np.float32)
  if magnitude.shape != phase.shape or not 3 <= magnitude.ndim <= 5:
    raise InputError(
      f'magnitude {magnitude.shape} and phase {phase.shape} must have one '
      'shape of 3 to 5 axes.'
    )
  more = (..., *[None] * (5 - magnitude.ndim))
  return magnitude[more], phase[more]


def _sigma(options, field_t):
  """The width of the high-pass, after a look at the other options."""
  echoes.parse_combination(options.mag_combine)
  if options.sigma_mm is None:
    return default_sigma_mm(field_t)
  if not 0 < options.sigma_mm < np.inf:
    raise InputError(
      f'filter size: found {options.sigma_mm:g}; give mm above 0.'
    )
  return options.sigma_mm


def _used_echoes(options, num_echoes, echo_times_s):
  """Numbers from 1 of the echoes that make the SWI."""
  if options.mode not in MODES:
    raise InputError(
      f'mode: found {options.mode!r}; give one of {", ".join(MODES)}.'
    )
  used = options.echoes or tuple(range(min(2, num_echoes), num_echoes + 1))
  if not all(1 <= e <= num_echoes for e in used) or len(set(used)) < len(used):
    raise InputError(
      f'echoes: found {", ".join(map(str, used))}; the scan has echoes 1 to '
      f'{num_echoes}, name each once.'
    )
  if echo_times_s is not None and len(echo_times_s) != num_echoes:
    raise InputError(
      f'echo times: found {len(echo_times_s)} for {num_echoes} echoes; give '
      'one for each.'
    )
  if len(used) > 1 and echo_times_s is None:
    raise InputError(
      f'echo times: none found for {num_echoes} echoes; put one for each, in '
      'seconds, in the JSON file of the magnitude, for example "EchoTime": '
      '[0.0027, 0.0104, 0.0132, 0.0209].'
    )
  return tuple(used)


def _coil_sum(magnitude):
  """[X, Y, Z, C] to [X, Y, Z]."""
  if magnitude.shape[-1] == 1:
    return magnitude[..., 0]
  return echoes.root_sum_of_squares(magnitude)


def _combined_coils(
  magnitude, phase, *, used, spacing_mm, options, sigma_mm, mask
):
  """Magnitudes and high-passed phases [X, Y, Z], one of each per echo."""
  mags, local = [], []
  for echo in used:
    total = None
    for coil in range(magnitude.shape[4]):
      part = magnitude[..., echo - 1, coil]
      angle = high_pass(
        part,
        phase[..., echo - 1, coil],
        spacing_mm,
        kind=options.high_pass,
        sigma_mm=sigma_mm,
        mask=mask,
        boundary=options.boundary,
      )
      if magnitude.shape[4] > 1:
        turned = part * np.exp(1j * angle)
        total = turned if total is None else total + turned
    mags.append(_coil_sum(magnitude[..., echo - 1, :]))
    local.append(angle if total is None else np.angle(total))
  return mags, local


def _brain(mask, magnitude, spacing_mm):
  if mask is None:
    mask = brain_mask(_coil_sum(magnitude[..., 0, :]), spacing_mm)
  return np.asfortranarray(mask, bool)


def _polarity(mags, local, spacing_mm, mask, options, usual):
  """The sign that was asked for, else measured, else (not clear) the usual."""
  asked = options.phase_sign
  if asked not in (None, 1, -1):
    raise InputError(f'phase_sign: found {asked}; give 1, -1 or auto.')
  votes = [polarity.detect(m, p, spacing_mm, mask) for m, p in zip(mags, local)]
  found = polarity.combine(votes)
  if asked is None and not found.certain:
    asked = usual
  return found if asked is None else found._replace(sign=asked)


def _flattened(mags, mask, spacing_mm, options, sensitivity):
  """Magnitudes after the receive field and the softplus scaling, if wanted."""
  if sensitivity is None and options.sensitivity != 'off':
    sensitivity = magnitude_module.sensitivity(
      _mean(mags), mask, spacing_mm, options.sensitivity
    )
  if sensitivity is not None:
    mags = [m / sensitivity for m in mags]
  if options.softplus:
    mags = [magnitude_module.softplus(m, mask) for m in mags]
  return mags


def _weighted(mags, local, *, times, field_t, mask, options):
  """(SWI, magnitude, phase) of all used echoes together."""
  if options.mode == 'freq' and len(mags) > 1:
    mean = echoes.MeanFrequency()
    for m, p, t in zip(mags, local, times):
      mean.add(m, p, t)
    mag = echoes.combine_magnitude(
      np.stack(mags, -1), options.mag_combine, echo_times_s=times
    )
    shown = mean.phase()
    return _masked(mag, shown, options, mask, np.pi), mag, shown
  images = []
  for number, (m, p) in enumerate(zip(mags, local)):
    limit = np.pi
    if len(mags) > 1:
      limit = echoes.mask_threshold_rad(
        times[number], longest_s=times[-1], field_t=field_t
      )
    images.append(_masked(m, p, options, mask, limit))
  return _mean(images), _mean(mags), local[-1]


def _masked(magnitude, local, options, mask, limit):
  weight = phase_mask(
    local,
    options.mask_kind,
    power=options.mask_power,
    threshold_rad=options.mask_threshold_rad or limit,
    reach=options.mask_range,
    inside=mask,
  )
  weight *= magnitude
  return weight


def _mean(arrays):
  total = arrays[0]
  for array in arrays[1:]:
    total = total + array
  return total if len(arrays) == 1 else total / np.float32(len(arrays))
