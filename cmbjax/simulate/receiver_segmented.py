"""A fast scan of echo trains: the receiver that is held out.

Rule: nothing here is made of coils or polynomials: standing waves of transmit,
noise whose neighbours are alike, lines that are left out on one side, and a
ghost of alternate lines.
"""

import numpy as np

from cmbjax.simulate import physics, receiver
from cmbjax.simulate.receiver import Receiver, SmoothMap

_LIGHT_MM_T = 800.0  # wavelength in tissue times field: 27 cm at 3 T
_LEAST = 0.2  # of the bias


def draw_segmented(rng, protocol, extent) -> Receiver:
  """Family 'segmented'.

  Args:
    rng: numpy generator.
    protocol: how the person is scanned.
    extent: the part of the field of view that is simulated.
  """
  axes, step_mm = receiver.nodes_mm(protocol, extent)

  def smooth(nodes):
    return SmoothMap(nodes, step_mm=step_mm, protocol=protocol, extent=extent)

  waves, angles = (
    _waves(rng, axes, _LIGHT_MM_T / protocol.field_t) for _ in range(2)
  )
  bias = 1 + rng.uniform(0.1, 0.15 + 0.04 * protocol.field_t) * waves
  bias = np.maximum(bias * _hole(rng, axes), _LEAST)
  alike = rng.uniform(0.1, 0.6, 2)

  def add(rng, shape, sigma):
    return correlated_noise(rng, shape, sigma, alike=alike)

  return Receiver(
    smooth(bias), smooth(np.exp(1j * angles)), add, _draw_trains(rng)
  )


def _waves(rng, axes, length_mm):
  """Sum of four standing waves of deviation about 1, on nodes."""
  total = 0.0
  for _ in range(4):
    way = rng.normal(0, 1, 3)
    way /= np.linalg.norm(way)
    place = sum(w * a for w, a in zip(way, axes)) / length_mm
    total = total + np.cos(2 * np.pi * (place + rng.random()))
  return (total / np.sqrt(2)).astype(np.float32)


def _hole(rng, axes):
  """Signal that is lost above the nose and the ears, 0..1 on nodes."""
  out = 1.0
  for middle in ((0, 62, -38), (48, -12, -48), (-48, -12, -48)):
    size = rng.uniform(6, 15)
    away = sum((a - m) ** 2 for a, m in zip(axes, middle))
    out = out * (1 - rng.uniform(0.3, 0.95) * np.exp(-away / (2 * size**2)))
  return out


def correlated_noise(rng, shape, sigma, *, alike) -> np.ndarray:
  """Complex noise [X, Y, Z] in which a voxel is like the next in x and y.

  Args:
    rng: numpy generator.
    shape: of the result.
    sigma: standard deviation of each part.
    alike: per axis, how much of the neighbour a voxel takes, 0..1.
  """
  noise = physics.complex_noise(rng, shape, sigma)
  for axis, share in enumerate(alike):
    other = np.roll(noise, 1, axis)
    other *= np.float32(share)
    noise += other
    noise /= np.float32(np.sqrt(1 + share**2))
  return noise


def _draw_trains(rng):
  """`Receiver.encode`: half-scan and blur along y, a ghost of half a field."""
  taken = rng.uniform(0.65, 1.0)  # of the lines along y
  blur = rng.uniform(0, 1.2)  # decay of signal over a train
  ghost = rng.uniform(0, 0.06)  # rad between alternate lines

  def encode(rng, signal, protocol, workers):
    del rng
    weight = train_weight(
      signal.shape[:2], taken=taken, blur=blur, ghost=ghost
    ) * np.where(
      abs(np.fft.fftfreq(signal.shape[0])) <= protocol.resolution[0] / 2, 1, 0
    ).reshape(-1, 1)
    return receiver.filtered(signal, weight, workers)

  return encode


def train_weight(shape, *, taken, blur, ghost) -> np.ndarray:
  """k-space of an image [X, Y] of ones in the order of the transform.

  Args:
    shape: X, Y.
    taken: share of the lines along y, from one end on.
    blur: decay from the middle of k-space to its end.
    ghost: phase in rad of odd against even lines, half of it either way.
  """
  line = np.rint(np.fft.fftfreq(shape[1]) * shape[1]).astype(int)
  row = np.exp(-blur * abs(2 * line / shape[1]))
  row = row * np.exp(1j * ghost / 2 * np.where(line % 2, 1, -1))
  row[line >= (taken - 0.5) * shape[1]] = 0
  return np.broadcast_to(row, shape)
