"""The receiver of a scanner: bias, phase of its coils, noise, k-space.

Rule: a family draws a `Receiver` once per scan; the noise of all echoes is
that of one receiver.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from scipy import fft

from cmbjax.imaging import slabs
from cmbjax.simulate import grids, physics


class Receiver(NamedTuple):
  """How one scan is received.

  Attributes:
    bias: factors that broadcast to [X, Y, Z] without the margins of a slab.
    offset: the same, complex of size 1: the phase of the combined coils.
    noise: (rng, shape, sigma) to complex noise [X, Y, Z].
    encode: (rng, signal, protocol, workers) to what k-space makes of it.
  """

  bias: Iterable[np.ndarray]
  offset: Iterable[np.ndarray]
  noise: Callable[..., np.ndarray]
  encode: Callable[..., np.ndarray]


class SmoothMap:
  """A map on coarse nodes; fine only while it is used, once per echo.

  Args:
    nodes: real or complex [x, y, z], from the first voxel on.
    step_mm: between nodes, per axis.
    protocol: how the person is scanned.
    extent: the part of the field of view that is simulated.
  """

  def __init__(self, nodes, *, step_mm, protocol, extent):
    self._nodes = nodes
    self._step = np.divide(protocol.voxel_mm, step_mm)
    self._shape = (*extent.shape[:2], extent.shape[2] - 2 * extent.margin)

  def __iter__(self):
    yield self.fine()

  def fine(self) -> np.ndarray:
    """[X, Y, Z] without the margins of a slab, float32 or complex64."""
    whole = np.iscomplexobj(self._nodes)
    out = np.empty(self._shape, np.complex64 if whole else np.float32)
    parts = [(out.real, self._nodes.real)]
    if whole:
      parts.append((out.imag, self._nodes.imag))
    for slab in slabs.of(self._shape[2]):  # what is between stays small
      shape = (*self._shape[:2], slab.stop - slab.start)
      first = (0, 0, slab.start * self._step[2])
      for target, nodes in parts:
        target[..., slab] = grids.refine(
          nodes, shape, step=self._step, offset=first
        )
    return out


def nodes_mm(protocol, extent, *, step_mm=8.0, multiple=1):
  """Places of the nodes of a `SmoothMap`, and their distances.

  Args:
    protocol: how the person is scanned.
    extent: the part of the field of view that is simulated.
    step_mm: about how far apart.
    multiple: nodes along x and y are a multiple of it, and fill the field of
      view without its far edge, as voxels do.

  Returns:
    (x, y, z as open grids, mm from the middle of the field of view; the three
    distances in mm).
  """
  length = np.array(protocol.field_of_view_mm)
  start = np.array([0, 0, extent.start_mm])
  start[2] += extent.margin * protocol.voxel_mm[2]
  depth = extent.depth_mm - 2 * extent.margin * protocol.voxel_mm[2]
  count = [multiple * round(n / step_mm / multiple) for n in length[:2]]
  step = (length[0] / count[0], length[1] / count[1], step_mm)
  count.append(int(np.ceil(depth / step_mm)) + 1)
  axes = [
    first + size * np.arange(n) - whole / 2
    for first, size, n, whole in zip(start, step, count, length)
  ]
  return np.meshgrid(*axes, indexing='ij', sparse=True), step


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
  kx, ky = (np.fft.fftfreq(n).astype(np.float32) for n in signal.shape[:2])
  line = np.fft.fftshift(np.arange(len(kx)))  # order of acquisition
  weight = np.ones(signal.shape[:2], np.complex64)
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
  return filtered(signal, weight, workers)


def filtered(signal, weight, workers) -> np.ndarray:
  """An image with its k-space in plane multiplied; overwrites it.

  Args:
    signal: complex [X, Y, Z].
    weight: [X, Y], in the order of the transform.
    workers: threads of the Fourier transforms.
  """
  spectrum = fft.fft2(signal, axes=(0, 1), workers=workers, overwrite_x=True)
  spectrum *= weight[..., None].astype(np.complex64)
  return fft.ifft2(spectrum, axes=(0, 1), workers=workers, overwrite_x=True)
