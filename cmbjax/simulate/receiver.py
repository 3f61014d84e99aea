"""The receiver of a scanner: bias, phase of its coils, noise, k-space.

Rule: a family draws a `Receiver` once per scan; the noise of all echoes is
that of one receiver.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import fft

from cmbjax.simulate import physics


class Receiver(NamedTuple):
  """How one scan is received.

  Attributes:
    bias: factors that broadcast to [X, Y, Z] without the margins of a slab.
    offset: the same, complex of size 1: the phase of the combined coils.
    noise: (rng, shape, sigma) to complex noise [X, Y, Z].
    encode: (rng, signal, protocol, workers) to what k-space makes of it.
  """

  bias: Sequence[np.ndarray]
  offset: Sequence[np.ndarray]
  noise: Callable[..., np.ndarray]
  encode: Callable[..., np.ndarray]


def draw_polynomial(rng, protocol, extent) -> Receiver:
  """Family 'polynomial': exponentials of second-order polynomials.

  Args:
    rng: numpy generator.
    protocol: how the person is scanned.
    extent: the part of the field of view that is simulated.
  """
  bias, offset = _receive(rng, protocol, extent)
  return Receiver(bias, offset, physics.complex_noise, encode)


def _receive(rng, protocol, extent):
  """Bias field and smooth phase, each as three factors."""
  shape = extent.shape
  z = np.arange(extent.margin, shape[2] - extent.margin, dtype=np.float32)
  z = (z * protocol.voxel_mm[2] + extent.start_mm) * 2
  x, y, z = np.meshgrid(
    *(np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2]),
    z / np.float32(protocol.field_of_view_mm[2]) - 1,
    indexing='ij', sparse=True,
  )  # fmt: skip

  def polynomial(scale):
    w = rng.uniform(-1, 1, 9).astype(np.float32) * np.float32(scale)
    return (
      w[0] * x + w[1] * x * x + w[2] * x * y,
      w[3] * y + w[4] * y * y + w[5] * y * z,
      w[6] * z + w[7] * z * z + w[8] * x * z,
    )

  bias = [np.exp(part) for part in polynomial(protocol.bias)]
  offset = [np.exp(1j * part) for part in polynomial(1.5)]
  offset[0] = offset[0] * np.exp(1j * rng.uniform(-np.pi, np.pi))
  return bias, [part.astype(np.complex64) for part in offset]


def encode(rng, signal, protocol, workers):
  """What k-space does to an image [X, Y, Z]; lines are encoded along x.

  Translations between lines (0 to 3), a pulsation ghost of 0 to 3 %, and the
  outer part that is not acquired along x and y.

  Args:
    rng: numpy generator; every echo gets the same one.
    signal: complex [X, Y, Z], overwritten.
    protocol: how the person is scanned.
    workers: threads of the Fourier transforms.
  """
  spectrum = fft.fft2(signal, axes=(0, 1), workers=workers, overwrite_x=True)
  kx, ky = (np.fft.fftfreq(n).astype(np.float32) for n in signal.shape[:2])
  line = np.fft.fftshift(np.arange(len(kx)))  # order of acquisition
  weight = np.ones(spectrum.shape[:2], np.complex64)
  for _ in range(rng.integers(1, 4) if rng.random() < 0.4 else 0):
    start = rng.uniform(0.05, 0.95) * len(kx)
    shift = rng.normal(0, 0.25, 2) / protocol.voxel_mm[:2]
    ramp = np.exp(-2j * np.pi * (shift[0] * kx[:, None] + shift[1] * ky))
    weight *= np.where((line >= start)[:, None], ramp, 1)
  ghost = rng.uniform(0, 0.03) * np.exp(2j * np.pi * rng.random())
  beat = np.cos(2 * np.pi * rng.uniform(0.1, 0.5) * line)
  weight *= (1 + ghost * beat)[:, None]
  for axis, share in enumerate(protocol.resolution):
    far = 2 * abs((kx, ky)[axis])
    edge = np.clip((share - far) / 0.04 + 0.5, 0, 1)
    weight *= edge[:, None] if axis == 0 else edge
  spectrum *= weight[..., None].astype(np.complex64)
  return fft.ifft2(spectrum, axes=(0, 1), workers=workers, overwrite_x=True)
