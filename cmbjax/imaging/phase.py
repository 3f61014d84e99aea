"""Wrapped MR phase to the local phase that veins and microbleeds leave.

Rule: arrays are RAS ordered with slices along z; every width is in mm; in the
result veins are negative once `vein_sign` has been applied.
"""

import numpy as np
import scipy.fft

from cmbjax.errors import InputError

HOMODYNE_SIGMA_MM = {1.5: 3.8, 3.0: 3.0, 7.0: 1.9}
"""Field strength in T to the width of the homodyne window (w 48, 64, 96 at
240 mm)."""

# A Hann window of full width w cycles per field of view smooths an image as a
# Gaussian of sigma = 0.75 FOV / w does, so it ends at 0.375 / sigma per mm.
_HANN_EDGE = 0.375
_WORKERS = 2


def default_sigma_mm(field_t: float | None) -> float:
  """The homodyne width for a field strength; 3 mm when it is not known."""
  if not field_t:
    return HOMODYNE_SIGMA_MM[3.0]
  nearest = min(HOMODYNE_SIGMA_MM, key=lambda f: abs(f - field_t))
  return HOMODYNE_SIGMA_MM[nearest]


def homodyne(
  signal: np.ndarray, spacing_mm: tuple[float, float, float], *, sigma_mm: float
) -> np.ndarray:
  """Phase left after division by a Hann low-pass of each axial slice.

  Every slice is first freed of its mean phase slope and curvature, so the
  result does not depend on a linear or quadratic background (a shifted echo,
  a shim), which a window centred on k = 0 alone would only attenuate.

  Args:
    signal: complex [X, Y, Z], one echo of one coil.
    spacing_mm: voxel sizes.
    sigma_mm: width of the Gaussian that the window resembles. Objects larger
      than about twice this lose contrast.

  Returns:
    float32 [X, Y, Z] in radians, -pi..pi.

  Raises:
    InputError: the window would be as wide as the matrix, which leaves no
      phase.

  Source: Noll et al. 1991; Haacke et al. 2004 (SWI).
  """
  signal = np.asarray(signal, np.complex64)
  flat = signal * np.conj(background(signal))
  low = low_pass(flat, spacing_mm, sigma_mm=sigma_mm)
  np.conjugate(low, out=low)
  low *= flat
  return np.angle(low)


def low_pass(
  signal: np.ndarray, spacing_mm: tuple[float, float, float], *, sigma_mm: float
) -> np.ndarray:
  """Complex [X, Y, Z] smoothed by a Hann window in k-space, slice by slice."""
  _check_sigma(sigma_mm, spacing_mm)
  result = scipy.fft.fft2(signal, axes=(0, 1), workers=_WORKERS)
  for axis in (0, 1):
    size = signal.shape[axis]
    frequency = np.abs(scipy.fft.fftfreq(size, spacing_mm[axis]))
    relative = np.minimum(frequency * sigma_mm / _HANN_EDGE, 1)
    window = (0.5 + 0.5 * np.cos(np.pi * relative)).astype(np.float32)
    result *= window.reshape([-1 if a == axis else 1 for a in range(3)])
  return scipy.fft.ifft2(
    result, axes=(0, 1), workers=_WORKERS, overwrite_x=True
  )


def background(signal: np.ndarray) -> np.ndarray:
  """Unit phasor [X, Y, Z] of each slice's mean phase slope and curvature.

  Phase differences of neighbours carry the slope, differences of those the
  curvature; both are averaged as phasors (weighted by signal), so nothing
  needs to be unwrapped.
  """
  curve_x, curve_y, twist = _curvature(signal)
  x = np.arange(signal.shape[0], dtype=np.float32)[:, None]
  y = np.arange(signal.shape[1], dtype=np.float32)[:, None]
  x, y = x - x.mean(), y - y.mean()
  slope_x = _mean_step(signal, 0, curve_x * (x + 0.5), twist * y)
  slope_y = _mean_step(signal, 1, twist * x, curve_y * (y + 0.5))
  along_x = _phasor(slope_x * x + 0.5 * curve_x * x**2)  # X Z
  along_y = _phasor(slope_y * y + 0.5 * curve_y * y**2)  # Y Z
  result = along_x[:, None] * along_y[None]
  if np.any(twist):
    result *= _phasor(x[:, :, None] * y[None] * twist)
  return result


def _curvature(signal):
  """Mean second phase differences [Z] along x, along y and across."""
  if min(signal.shape[:2]) < 3:
    return (np.zeros(signal.shape[2], np.float32),) * 3
  a = signal[:-2:2, :-2:2]
  x1, x2 = signal[1:-1:2, :-2:2], signal[2::2, :-2:2]
  y1, y2 = signal[:-2:2, 1:-1:2], signal[:-2:2, 2::2]
  both = signal[1:-1:2, 1:-1:2]
  return tuple(
    np.angle(np.einsum('xyz,xyz,xyz,xyz->z', *four)).astype(np.float32)
    for four in (
      (x2, np.conj(x1), np.conj(x1), a),
      (y2, np.conj(y1), np.conj(y1), a),
      (both, np.conj(x1), np.conj(y1), a),
    )
  )


def _mean_step(signal, axis, phase_x, phase_y):
  """Mean first phase difference [Z] along `axis` beyond the given phases."""
  if signal.shape[axis] < 2:
    return np.zeros(signal.shape[2], np.float32)
  ends = (slice(1, None), slice(None, -1))
  later, earlier = (
    signal[ends[i]] if axis == 0 else signal[:, ends[i]] for i in (0, 1)
  )
  phase_x = np.broadcast_to(phase_x, (signal.shape[0], signal.shape[2]))
  phase_y = np.broadcast_to(phase_y, (signal.shape[1], signal.shape[2]))
  total = np.einsum(
    'xyz,xyz,xz,yz->z',
    later,
    np.conj(earlier),
    _phasor(-phase_x[: later.shape[0]]),
    _phasor(-phase_y[: later.shape[1]]),
  )
  return np.angle(total).astype(np.float32)


def _phasor(phase):
  return np.exp(1j * phase).astype(np.complex64)


def _check_sigma(sigma_mm, spacing_mm):
  least = 0.75 * max(spacing_mm[:2])
  if not sigma_mm > least:
    raise InputError(
      f'sigma_mm: found {sigma_mm:g}; the homodyne window would be as wide as '
      f'the matrix and leave no phase; give more than {least:g} mm.'
    )
