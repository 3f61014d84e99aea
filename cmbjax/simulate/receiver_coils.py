"""An array of coils round the head, with the noise that acceleration makes.

Rule: sensitivities are drawn once per scan; bias, phase and g-factor follow
from them and are not drawn.
"""

import numpy as np

from cmbjax.simulate import physics, receiver
from cmbjax.simulate.receiver import Receiver, SmoothMap

_HELMET_MM = (112.0, 132.0, 118.0)  # semi-axes, round the middle of the field
_MOST_G = 2.5  # more, and a site takes fewer lines away
_HEAD_MM = (65.0, 80.0, 65.0)  # semi-axes of where SNR is measured


def draw_coils(rng, protocol, extent) -> Receiver:
  """Family 'coils': 8 to 32 loops, combined; acceleration 1 to 3 along x or y.

  Args:
    rng: numpy generator.
    protocol: how the person is scanned.
    extent: the part of the field of view that is simulated.
  """
  # Six: so that the nodes fold by two and by three.
  axes, step_mm = receiver.nodes_mm(protocol, extent, multiple=6)
  coils = _sensitivities(rng, axes, protocol.field_t)
  total = np.sqrt((abs(coils) ** 2).sum(0))
  inside = sum((a / s) ** 2 for a, s in zip(axes, _HEAD_MM)) < 1
  total /= np.median(total[inside])
  noise = g_factor(coils, axis=rng.integers(2), times=int(rng.integers(1, 4)))
  # Prescan normalisation divides signal and noise, wholly or in part.
  left = rng.choice([1.0, rng.uniform(0.1, 0.6)])
  noise = np.minimum(noise, _MOST_G) * total ** (left - 1)
  phase = np.exp(1j * np.angle(coils.sum(0)))

  def smooth(nodes):
    return SmoothMap(nodes, step_mm=step_mm, protocol=protocol, extent=extent)

  def add(rng, shape, sigma):
    out = physics.complex_noise(rng, shape, sigma)
    out *= smooth(noise / np.median(noise[inside])).fine()
    return out

  return Receiver(
    smooth(total**left), smooth(phase), add, _draw_encoding(rng, protocol)
  )


def _sensitivities(rng, axes, field_t):
  """Complex [N, x, y, z]: fields of loops, with a phase that rises with B0."""
  count = int(rng.integers(8, 33))
  turn = np.arange(count) * np.pi * (3 - np.sqrt(5)) + rng.uniform(0, 2 * np.pi)
  high = np.linspace(-0.35, 0.95, count) + rng.normal(0, 0.03, count)
  flat = np.sqrt(1 - np.clip(high, -1, 1) ** 2)
  places = np.stack([flat * np.cos(turn), flat * np.sin(turn), high], 1)
  places = places * _HELMET_MM * rng.uniform(0.95, 1.15)
  radius = rng.uniform(35, 70)  # mm
  out = []
  for place in places:
    away = sum((a - c) ** 2 for a, c in zip(axes, place))
    size = (radius**2 / (away + radius**2)) ** 1.5
    slope = rng.normal(0, 0.0015 * field_t, 3)  # rad/mm
    angle = sum(s * a for s, a in zip(slope, axes))  # 0 in the middle
    out.append(size * np.exp(1j * angle) * rng.uniform(0.8, 1.2))
  return np.stack(out).astype(np.complex64)


def g_factor(coils, *, axis, times) -> np.ndarray:
  """Noise of SENSE over that of all lines [x, y, z]; 1 or more.

  Args:
    coils: complex sensitivities [N, x, y, z], noise equal and uncorrelated.
    axis: 0 or 1, along which lines are left out.
    times: how many pixels fold onto one; divides that axis.

  Source: Pruessmann et al., MRM 1999, equation 23 without sqrt(R).
  """
  folded = np.moveaxis(coils, axis + 1, 1)
  count, size, *rest = folded.shape
  folded = folded.reshape(count, times, size // times, *rest)
  gram = np.einsum('nf...,ng...->...fg', folded.conj(), folded)
  # A grain, as where two pixels look alike to all coils nothing is unfolded.
  trace = np.trace(gram, axis1=-2, axis2=-1).real[..., None, None]
  gram = gram + 1e-4 * trace * np.eye(times)
  inverse = np.linalg.inv(gram)
  product = np.einsum('...ff,...ff->...f', inverse, gram).real
  g = np.moveaxis(np.sqrt(product), -1, 0).reshape(size, *rest)
  return np.moveaxis(g, 0, axis).astype(np.float32)


def _draw_encoding(rng, protocol):
  """`Receiver.encode`: breathing, drifts, and an edge of k-space that rings."""
  axis = int(rng.integers(2))  # along which lines are encoded
  smooth_edge = rng.random() < 0.4
  restless = rng.random() < 0.5
  most_mm = rng.uniform(0.1, 0.6)

  def encode(rng, signal, protocol, workers):
    """Every echo gets the same generator, so the same motion."""
    kx, ky = np.meshgrid(
      *(np.fft.fftfreq(n) for n in signal.shape[:2]), indexing='ij', sparse=True
    )
    weight = edge((kx, ky), protocol.resolution, hamming=smooth_edge)
    if restless:
      order = np.argsort(np.argsort((kx, ky)[axis].ravel()))
      moved = (
        _walk(rng, order.size, most_mm)[:, order]
        / np.array(protocol.voxel_mm[:2])[:, None]
      )
      shape = (kx, ky)[axis].shape
      dx, dy = (one.reshape(shape) for one in moved)
      weight = weight * np.exp(-2j * np.pi * (dx * kx + dy * ky))
    return receiver.filtered(signal, weight, workers)

  del protocol
  return encode


def _walk(rng, count, most_mm):
  """Place [2, count] in mm over time: a drift, and breathing on top of it."""
  time = np.linspace(0, 1, count)
  drift = np.cumsum(rng.normal(0, 1, (2, count)), 1)
  drift -= drift[:, count // 2][:, None]  # the middle of k-space is at rest
  drift *= most_mm / abs(drift).max()
  breath = np.sin(2 * np.pi * (rng.uniform(40, 90) * time + rng.random()))
  return drift + rng.uniform(0, 0.08) * breath


def edge(frequencies, shares, *, hamming) -> np.ndarray:
  """Which part of k-space is acquired [X, Y]: an ellipse, hard or tapered.

  Args:
    frequencies: of both axes, cycles per voxel, open grids.
    shares: of each axis that is acquired.
    hamming: tapered; else it rings.
  """
  far = sum((2 * k / s) ** 2 for k, s in zip(frequencies, shares))
  if hamming:
    taper = 0.54 + 0.46 * np.cos(np.pi * np.sqrt(np.minimum(far, 1)))
    return np.where(far <= 1, taper, 0)
  # Corners are acquired up to a radius of 1.2: shutters are rarely full.
  return np.where(far <= 1.44, 1.0, 0.0)
