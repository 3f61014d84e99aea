"""Echoes to their weighted sum, one echo in memory at a time.

Rule: an echo is used up before the next one is read, so that a scan of many
echoes takes little more memory than one of a single echo.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import echoes as echoes_lib
from cmbjax.imaging import magnitude as magnitude_module
from cmbjax.imaging import polarity, slabs
from cmbjax.imaging.phase import high_pass
from cmbjax.imaging.phase_mask import phase_mask
from cmbjax.imaging.swi_options import SwiOptions


class Echoes(Protocol):
  """A scan that gives one echo when it is asked for it."""

  @property
  def shape(self) -> tuple[int, int, int, int, int]:
    """X, Y, Z, E, C."""

  def magnitude(self, number: int) -> np.ndarray:
    """Of an echo, from 0: [X, Y, Z, C], any real numbers."""

  def phase(self, number: int) -> np.ndarray:
    """Of an echo, from 0: [X, Y, Z, C], rad."""


class Given:
  """Echoes of arrays [X, Y, Z, E, C] that are in memory anyway."""

  def __init__(self, magnitude: np.ndarray, phase: np.ndarray):
    self.shape = magnitude.shape
    self._arrays = magnitude, phase

  def magnitude(self, number: int) -> np.ndarray:
    return self._arrays[0][..., number, :]

  def phase(self, number: int) -> np.ndarray:
    return self._arrays[1][..., number, :]


class Turned:
  """The same echoes with one axis in the place of z, and z in its place."""

  def __init__(self, echoes: Echoes, axis: int):
    self._echoes, self._axis = echoes, axis
    sides = list(echoes.shape)
    sides[axis], sides[2] = sides[2], sides[axis]
    self.shape = tuple(sides)

  def magnitude(self, number: int) -> np.ndarray:
    return np.swapaxes(self._echoes.magnitude(number), self._axis, 2)

  def phase(self, number: int) -> np.ndarray:
    return np.swapaxes(self._echoes.phase(number), self._axis, 2)


def coil_sum(magnitude: np.ndarray) -> np.ndarray:
  """[X, Y, Z, C] to [X, Y, Z]; of one coil as it is."""
  if magnitude.shape[-1] == 1:
    return magnitude[..., 0]
  return echoes_lib.root_sum_of_squares(np.asarray(magnitude, np.float32))


def receive_field(
  echoes: Echoes,
  used: Sequence[int],
  mask: np.ndarray,
  spacing_mm: tuple[float, float, float],
  kind: str,
) -> np.ndarray:
  """What the mean of echoes is to be divided by, see `magnitude.sensitivity`.

  Args:
    echoes: of the scan.
    used: numbers of echoes, from 1.
    mask: bool [X, Y, Z], brain.
    spacing_mm: voxel sizes.
    kind: one of `magnitude.SENSITIVITIES`, but 'off'.
  """
  total = None
  for echo in used:
    total = _plus(total, coil_sum(echoes.magnitude(echo - 1)))
  return magnitude_module.sensitivity(
    _over(total, len(used)), mask, spacing_mm, kind
  )


class Weighted:
  """Adds echoes one by one; which sign veins have is known after the last.

  Until then there are two sums, one of each sign.
  """

  def __init__(
    self,
    options: SwiOptions,
    spacing_mm: tuple[float, float, float],
    mask: np.ndarray,
    *,
    sigma_mm: float,
    times: Sequence[float] | None,
    field_t: float | None,
    sensitivity: np.ndarray | None,
    usual_sign: int | None,
    wanted: Collection[str],
  ):
    """Nothing added yet.

    Args:
      options: how an SWI is made.
      spacing_mm: voxel sizes.
      mask: bool [X, Y, Z], brain.
      sigma_mm: width of the high-pass.
      times: seconds, of the echoes that will be added; None: not known.
      field_t: None where it is not known.
      sensitivity: a receive field to divide by; None: none.
      usual_sign: of a phase that does not show it; None: a guess.
      wanted: 'magnitude' and 'phase', if they are.
    """
    if options.phase_sign not in (None, 1, -1):
      raise InputError(
        f'phase_sign: found {options.phase_sign}; give 1, -1 or auto.'
      )
    self._options, self._spacing_mm, self._mask = options, spacing_mm, mask
    self._sigma_mm, self._times, self._field_t = sigma_mm, times, field_t
    self._sensitivity, self._wanted = sensitivity, wanted
    self._usual_sign = usual_sign
    self._votes: list[polarity.Polarity] = []
    self._sums: dict[int, np.ndarray] = {}
    self._mean = self._shown = None
    self._frequency = echoes_lib.MeanFrequency()
    self._mags: list[np.ndarray] = []

  def add(self, echoes: Echoes, number: int, *, last: bool) -> None:
    """One echo.

    Args:
      echoes: of the scan.
      number: of the echo, from 0.
      last: no other one follows.
    """
    mag, local = self._combined_coils(echoes, number)
    self._votes.append(
      polarity.detect(mag, local, self._spacing_mm, self._mask)
    )
    mag = self._flattened(mag)
    is_mean = self._options.mode == 'freq' and not self._is_one(last)
    if is_mean:
      self._frequency.add(mag, local, self._times[len(self._votes) - 1])
      self._mags.append(mag)
      return
    if 'magnitude' in self._wanted:
      self._mean = _plus(self._mean, mag)
    sign = self.polarity.sign if last else self._options.phase_sign
    if last and 'phase' in self._wanted:
      self._shown = local if sign > 0 else -local
    for one in (sign,) if sign else (1, -1):
      total = self._sums.get(one)
      # A lone echo is weighted in place.
      free = total is None and last and 'phase' not in self._wanted
      self._sums[one] = self._weighted(
        mag, local, one, total, out=local if free else None
      )

  @property
  def polarity(self) -> polarity.Polarity:
    """The sign that was asked for, else measured in the echoes so far, else
    (not clear) the usual."""
    found = polarity.combine(self._votes)
    sign = self._options.phase_sign
    if sign is None and not found.certain:
      sign = self._usual_sign
    return found if sign is None else found._replace(sign=sign)

  def images(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """(SWI, magnitude, phase) of all echoes together; None: not wanted."""
    sign, count = self.polarity.sign, len(self._votes)
    if not self._mags:
      image = _over(self._sums[sign], count)
      mean = None if self._mean is None else _over(self._mean, count)
      return image, mean, self._shown
    mag = echoes_lib.combine_magnitude(
      np.stack(self._mags, -1),
      self._options.mag_combine,
      echo_times_s=self._times,
    )
    shown = self._frequency.phase()
    shown = shown if sign > 0 else -shown
    return self._masked(mag, shown, np.pi), mag, shown

  def _is_one(self, last: bool) -> bool:
    return last and len(self._votes) == 1

  def _combined_coils(self, echoes, number):
    """Magnitude and high-passed phase [X, Y, Z] of one echo."""
    mag, phase = echoes.magnitude(number), echoes.phase(number)
    total = None
    for coil in range(mag.shape[-1]):
      part = mag[..., coil]
      angle = high_pass(
        part,
        phase[..., coil],
        self._spacing_mm,
        kind=self._options.high_pass,
        sigma_mm=self._sigma_mm,
        mask=self._mask,
        boundary=self._options.boundary,
      )
      if mag.shape[-1] > 1:
        turned = part * np.exp(1j * angle)
        total = turned if total is None else total + turned
    return coil_sum(mag), angle if total is None else np.angle(total)

  def _flattened(self, mag):
    """After the receive field and the softplus scaling, if wanted."""
    if self._sensitivity is not None:
      mag = np.asarray(mag, np.float32) / self._sensitivity
    if self._options.softplus:
      mag = magnitude_module.softplus(mag, self._mask)
    return mag

  def _limit(self):
    """The phase at which the mask of the echo added last reaches 0."""
    if not self._times or len(self._times) < 2:
      return np.pi
    return echoes_lib.mask_threshold_rad(
      self._times[len(self._votes) - 1],
      longest_s=self._times[-1],
      field_t=self._field_t,
    )

  def _weighted(self, mag, local, sign, total, *, out):
    """`total` and one echo more; `out` may be the phase itself."""
    whole = self._options.mask_range == 'robust' or (
      self._options.mask_kind.endswith('tanh')  # they look at all voxels
    )
    if total is None:
      total = np.empty(local.shape, np.float32, order='F') if out is None else (
        out
      )  # fmt: skip
      adds = False
    else:
      adds = True
    size = local.shape[2]
    for part in [slice(0, size)] if whole else slabs.of(size):
      phase = local[..., part]
      image = self._masked(
        mag[..., part],
        phase if sign > 0 else -phase,
        self._limit(),
        inside=self._mask[..., part],
      )
      if adds:
        total[..., part] += image
      else:
        total[..., part] = image
    return total

  def _masked(self, mag, local, limit, *, inside=None):
    options = self._options
    weight = phase_mask(
      local,
      options.mask_kind,
      power=options.mask_power,
      threshold_rad=options.mask_threshold_rad or limit,
      reach=options.mask_range,
      inside=self._mask if inside is None else inside,
    )
    weight *= np.asarray(mag, np.float32)
    return weight


def _plus(total, image):
  """Single precision; `total` is used up."""
  if total is None:
    return np.array(image, np.float32, order='F')
  total += np.asarray(image, np.float32)
  return total


def _over(total, count):
  """The mean; `total` is used up."""
  if count > 1:
    total /= np.float32(count)
  return total
