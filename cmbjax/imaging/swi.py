"""Magnitude and phase to a susceptibility-weighted image (SWI).

Rule: veins and microbleeds come out darker than in the magnitude, never
brighter; the phase sign is chosen so, and the choice is on record.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import echoes, polarity, resample, slices, weighting
from cmbjax.imaging.brain import brain_mask
from cmbjax.imaging.phase import default_sigma_mm
from cmbjax.imaging.swi_options import MODES, SwiOptions

BESIDE = ('min_ip', 'magnitude', 'phase', 'tof')  # the SWI and its mask


class Swi(NamedTuple):
  """One reconstruction; arrays are [X, Y, Z] on the grid that was given."""

  swi: np.ndarray  # float32, in units of the magnitude
  min_ip: np.ndarray | None  # float32
  magnitude: np.ndarray | None  # float32, of the echoes that were used
  phase: np.ndarray | None  # float32 rad, high-passed, veins negative
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
  **known: Any,
) -> Swi:
  """Magnitude and wrapped phase to an SWI, a minimum projection and a TOF.

  Args:
    magnitude: [X, Y, Z], [X, Y, Z, E] or [X, Y, Z, E, C].
    phase: rad, the same shape.
    spacing_mm: voxel sizes along x, y, z.
    options: None: the defaults of `SwiOptions`.
    **known: as of `from_echoes`.

  Raises:
    InputError: options that do not fit the data.
  """
  given = weighting.Given(*_five_axes(magnitude, phase))
  return from_echoes(given, spacing_mm, options, **known)


def from_echoes(
  signal: weighting.Echoes,
  spacing_mm: tuple[float, float, float],
  options: SwiOptions | None = None,
  *,
  echo_times_s: Sequence[float] | None = None,
  field_t: float | None = None,
  mask: np.ndarray | None = None,
  sensitivity: np.ndarray | None = None,
  usual_sign: int | None = None,
  beside: Collection[str] = BESIDE,
) -> Swi:
  """The same, echo by echo: no more than one of them is in memory.

  Every coil is high-passed on its own before coils are added, so no coil phase
  needs to be known. Of several echoes the first is kept as time-of-flight
  image and the others make the SWI.

  Args:
    signal: where echoes are from.
    spacing_mm: voxel sizes along x, y, z.
    options: None: the defaults of `SwiOptions`.
    echo_times_s: E ascending numbers; needed for more than one echo.
    field_t: field strength, which sets the width of the high-pass.
    mask: bool [X, Y, Z], brain; None: `brain_mask` of the first echo.
    sensitivity: [X, Y, Z], a receive field to divide by; None: by `options`.
    usual_sign: of a phase that does not show it; None: a guess.
    beside: which of `BESIDE` are wanted too; the others are None.

  Raises:
    InputError: options that do not fit the data.
  """
  options = options or SwiOptions()
  axis = slices.axis_of(spacing_mm)
  # Filters and projection work along the acquired slices.
  signal = weighting.Turned(signal, axis)
  mask, sensitivity = _swapped((mask, sensitivity), axis)
  spacing_mm = tuple(spacing_mm[{axis: 2, 2: axis}.get(i, i)] for i in range(3))
  sigma = _sigma(options, field_t)
  used = _used_echoes(options, signal.shape[3], echo_times_s)
  mask = _brain(mask, signal, spacing_mm)
  if sensitivity is None and options.sensitivity != 'off':
    sensitivity = weighting.receive_field(
      signal, used, mask, spacing_mm, options.sensitivity
    )
  made = weighting.Weighted(
    options, spacing_mm, mask, sigma_mm=sigma, field_t=field_t,
    times=[echo_times_s[e - 1] for e in used] if echo_times_s else None,
    sensitivity=sensitivity, usual_sign=usual_sign, wanted=beside,
  )  # fmt: skip
  for number, echo in enumerate(used):
    made.add(signal, echo - 1, last=number == len(used) - 1)
  image, mag, shown = made.images()
  projection = tof = None
  if 'min_ip' in beside:
    projection = min_ip(image, spacing_mm[2], thickness_mm=options.mip_mm)
  if 'tof' in beside and signal.shape[3] > 1:
    tof = np.asarray(weighting.coil_sum(signal.magnitude(0)), np.float32)
  arrays = _swapped((image, projection, mag, shown, mask, tof), axis)
  return Swi(*arrays, made.polarity, sigma, used, axis)


def _brain(mask, signal, spacing_mm):
  if mask is None:
    mask = brain_mask(weighting.coil_sum(signal.magnitude(0)), spacing_mm)
  return np.asfortranarray(mask, bool)


def _swapped(arrays, axis):
  """Each array with one axis in the place of z, and z in its place."""
  if axis == 2:
    return arrays
  return [None if a is None else np.swapaxes(a, axis, 2) for a in arrays]


def _five_axes(magnitude, phase):
  """Both as [X, Y, Z, E, C]; whole numbers stay so until they are used."""
  magnitude, phase = (
    a if a.dtype.kind in 'iu' else np.asarray(a, np.float32)
    for a in map(np.asarray, (magnitude, phase))
  )
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
