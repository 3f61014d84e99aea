"""Complex signal to an SWI, in the ways that scanners differ.

Rule: the same functions make the whole scan and the noise-free surroundings
of a deposit, by which it is decided whether it can be seen.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import phase as phase_filters


class Reconstruction(NamedTuple):
  """One way to make an SWI.

  Attributes:
    phase: (signal [X, Y, Z], protocol) to the high-passed phase in rad, veins
      negative.
    near: the same for a box out of the slices.
    swi: (magnitude, phase, protocol, echo) to the SWI of one echo; that of a
      scan is the mean over `protocol.swi_echoes`.
  """

  phase: Callable[..., np.ndarray]
  near: Callable[..., np.ndarray]
  swi: Callable[..., np.ndarray]


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
  threshold = np.pi
  if len(protocol.echo_times_s) > 1:
    threshold *= min(1.0, protocol.echo_times_s[echo] / 0.016)
  weight = phase_hp / np.float32(threshold)
  weight += 1
  np.clip(weight, 0, 1, out=weight)
  weight *= weight
  weight *= weight
  weight *= magnitude
  return weight


HOMODYNE = Reconstruction(_homodyne, _homodyne_near, echo_swi)
