"""Complex signal to an SWI, in the ways that scanners differ.

Rule: a family draws a `Reconstruction` once per scan. It makes the whole scan
and the noise-free surroundings of a deposit, by which it is decided whether
it can be seen.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import phase as phase_filters


class Reconstruction(NamedTuple):
  """One way to make an SWI.

  Attributes:
    phase: (signal [X, Y, Z], protocol) to the high-passed phase in rad, veins
      negative; or to what `swi` takes in its place.
    near: the same for a box out of the slices.
    swi: (magnitude, phase, protocol, echo) to the SWI of one echo; that of a
      scan is the mean over `protocol.swi_echoes`.
    keeps_phase: False: a scan that holds neither phase nor echoes.
  """

  phase: Callable[..., np.ndarray]
  near: Callable[..., np.ndarray]
  swi: Callable[..., np.ndarray]
  keeps_phase: bool = True


def draw_homodyne(rng, protocol) -> Reconstruction:
  """Family 'homodyne': Hann window in k-space, negative mask, power 4."""
  del rng, protocol
  return Reconstruction(_homodyne, _homodyne_near, echo_swi)


def draw_weighted(rng, protocol) -> Reconstruction:
  """Family 'weighted': homodyne phase, and masks as vendors differ.

  Powers of 2 to 6, masks over negative phase or both signs that reach 0 at
  half a turn or earlier, and echoes that count by a power of their time (GE's
  SWAN leans on late ones).
  """
  times = np.array(protocol.echo_times_s)[list(protocol.swi_echoes)]
  lean = times ** rng.uniform(0, 1)
  weigh = functools.partial(
    _weighted,
    power=int(rng.integers(2, 7)),
    both=rng.random() < 0.3,
    reach=rng.uniform(0.6, 1.0),
    lean=dict(zip(protocol.swi_echoes, lean / lean.mean())),
  )
  return Reconstruction(_homodyne, _homodyne_near, weigh)


def draw_unwrapped(rng, protocol) -> Reconstruction:
  """Family 'unwrapped': Laplacian unwrapping, Gaussian high-pass, tanh mask.

  As CLEAR-SWI does (Eckstein et al., 2021), in three dimensions or slice by
  slice, with a filter of 0.8 to 1.3 times the usual width.
  """
  phase = functools.partial(
    unwrapped,
    sigma_mm=protocol.homodyne_sigma_mm * rng.uniform(0.8, 1.3),
    by_slice=rng.random() < 0.5,
  )
  weigh = functools.partial(_smooth_step, middle=rng.uniform(0.12, 0.3))
  return Reconstruction(phase, phase, weigh)


def draw_magnitude(rng, protocol) -> Reconstruction:
  """Family 'magnitude': a T2*-weighted image, of which no phase was kept."""
  del rng, protocol
  return Reconstruction(_without_phase, _without_phase, _as_it_is, False)


def _homodyne(signal, protocol):
  return phase_filters.homodyne(
    signal, protocol.voxel_mm, sigma_mm=protocol.homodyne_sigma_mm
  )


def _homodyne_near(signal, protocol):
  sigma = [protocol.homodyne_sigma_mm / v for v in protocol.voxel_mm[:2]]
  low = ndimage.gaussian_filter(signal, (*sigma, 0))
  return np.angle(signal * low.conj())


def echo_swi(magnitude, phase_hp, protocol, echo):
  """SWI of one echo; short echoes mask at the same frequency as 16 ms.

  Args:
    magnitude: [X, Y, Z].
    phase_hp: rad, high-passed; veins negative.
    protocol: how it was scanned.
    echo: index of the echo.
  """
  weight = phase_hp / np.float32(_threshold_rad(protocol, echo))
  weight += 1
  np.clip(weight, 0, 1, out=weight)
  weight *= weight
  weight *= weight
  weight *= magnitude
  return weight


def _threshold_rad(protocol, echo) -> float:
  """Where the mask of an echo reaches 0."""
  if len(protocol.echo_times_s) == 1:
    return np.pi
  return np.pi * min(1.0, protocol.echo_times_s[echo] / 0.016)


def _weighted(magnitude, phase_hp, protocol, echo, *, power, both, reach, lean):
  threshold = np.float32(reach * _threshold_rad(protocol, echo))
  weight = (-abs(phase_hp) if both else phase_hp) / threshold
  weight += 1
  np.clip(weight, 0, 1, out=weight)
  return weight**power * magnitude * np.float32(lean[echo])


def unwrapped(signal, protocol, *, sigma_mm, by_slice) -> np.ndarray:
  """Local phase of a signal [X, Y, Z], rad, however often it wraps.

  Args:
    signal: complex.
    protocol: how it was scanned.
    sigma_mm: of the Gaussian low-pass in plane, which counts voxels by their
      magnitude, so that noise in air leaves the edge of the brain alone.
    by_slice: every slice is unwrapped alone.
  """
  spacing = (
    *protocol.voxel_mm[:2],
    np.inf if by_slice else protocol.voxel_mm[2],
  )
  smooth = phase_filters.laplacian_unwrap(np.angle(signal), spacing)
  total = abs(signal)
  low = smooth * total
  sigma = (*(sigma_mm / v for v in protocol.voxel_mm[:2]), 0)
  for image in (low, total):  # in place: a head has 30 million voxels
    ndimage.gaussian_filter(image, sigma, truncate=3, output=image)
  low /= np.maximum(total, np.finfo(np.float32).tiny, out=total)
  smooth -= low
  return smooth


def _smooth_step(magnitude, phase_hp, protocol, echo, *, middle):
  """A mask of 0.88 at phase 0 that falls to 0.5 at `middle` of its reach."""
  scale = np.float32(middle * _threshold_rad(protocol, echo))
  return magnitude * ((1 + np.tanh(1 + phase_hp / scale)) / 2)


def _without_phase(signal, protocol):
  del signal, protocol


def _as_it_is(magnitude, phase_hp, protocol, echo):
  del phase_hp, protocol, echo
  return magnitude
