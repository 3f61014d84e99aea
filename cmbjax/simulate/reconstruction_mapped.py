"""Phase to susceptibility to an SWI: the reconstruction that is held out.

Rule: it shares no filter and no mask with the others: a complex Gaussian takes
the background away, the dipole is inverted, and what is paramagnetic darkens,
without the field around it.
"""

import functools

import numpy as np
from scipy import fft, ndimage

from cmbjax.simulate import physics
from cmbjax.simulate.reconstruction import Reconstruction

_TRUNCATION = 0.19  # of the dipole in k-space, Shmueli et al., 2009
_NOISE_PPM = 0.06  # below it nothing darkens: division amplifies noise
_PAD = 8  # voxels between one border and the other


def draw_mapped(rng, protocol) -> Reconstruction:
  """Family 'mapped': true SWI (Liu et al., MRM 2014), from a susceptibility.

  Args:
    rng: numpy generator.
    protocol: how the person is scanned.
  """
  del protocol
  chi = functools.partial(susceptibility_ppm, widen=rng.uniform(1.0, 1.5))
  weigh = functools.partial(
    _darken, top_ppm=rng.uniform(0.35, 0.8), power=int(rng.integers(1, 4))
  )
  return Reconstruction(chi, chi, weigh)


def susceptibility_ppm(signal, protocol, *, widen) -> np.ndarray:
  """Susceptibility [X, Y, Z] in ppm times echo over the last echo.

  Field along z, as where nobody reads the tilt of a scan.

  Args:
    signal: complex [X, Y, Z].
    protocol: how it was scanned.
    widen: of the high-pass, times the usual width.

  Source: thresholded k-space division, Shmueli et al., MRM 2009.
  """
  sigma = [
    widen * protocol.homodyne_sigma_mm / v for v in protocol.voxel_mm[:2]
  ]
  low = ndimage.gaussian_filter(signal, (*sigma, 0), truncate=3)
  magnitude = abs(signal)
  # What is dark has no phase to trust; its noise would streak into the rest.
  sure = magnitude / np.float32(0.4 * np.percentile(magnitude[::4, ::4], 75))
  np.minimum(sure, 1, out=sure)
  local = np.angle(signal * low.conj()) * sure
  shape = [fft.next_fast_len(n + _PAD, real=True) for n in local.shape]
  kernel = physics.dipole_kernel(shape, protocol.voxel_mm, (0, 0, 1))
  small = abs(kernel) < _TRUNCATION
  kernel[small] = np.copysign(np.float32(_TRUNCATION), kernel[small])
  spectrum = fft.rfftn(local, s=shape)
  spectrum /= kernel
  spectrum[0, 0, 0] = 0
  chi = fft.irfftn(spectrum, s=shape, overwrite_x=True)
  chi = chi[tuple(slice(n) for n in local.shape)]
  last = protocol.echo_times_s[-1]
  return chi / np.float32(physics.phase_per_ppm(protocol.field_t, last))


def _darken(magnitude, chi_ppm, protocol, echo, *, top_ppm, power):
  """From 1 above noise to 0 at `top_ppm`, to a power, times magnitude."""
  share = protocol.echo_times_s[echo] / protocol.echo_times_s[-1]
  over = chi_ppm / np.float32(share) - np.float32(_NOISE_PPM)
  weight = 1 - over / np.float32(top_ppm - _NOISE_PPM)
  return np.clip(weight, 0, 1) ** power * magnitude
