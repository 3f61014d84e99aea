"""Susceptibility to field, tissue to signal, signal to a scan.

Rule: field in ppm of B0, phase = -2 pi f TE, so that veins along B0 are
negative. Every array is on the fine grid until `crop_kspace`.
"""

from typing import NamedTuple

import numpy as np
from scipy import fft

GAMMA_HZ_PER_T_PPM = 42.577478518  # proton, per ppm of B0
# Static dephasing of randomly placed deposits, 1/s per T and ppm: 2 pi gamma
# / (9 sqrt 3) in SI, gamma in rad/s; Yablonskiy and Haacke, MRM 1994.
R2_PRIME = 107.84


class Tissue(NamedTuple):
  """Relaxation of one tissue at one field."""

  density: float
  t1_s: float
  r2s: float


# T2*: Hametner (1.5 - 7 T) as in CLEAR-SWI; CSF and 3 T veins estimated. T1 at
# 7 T from there, at 3 T of Wansapura et al., 1999, at 1.5 T of Stanisz et al.,
# 2005. Density: water of grey and white matter, 0.82 and 0.70 (Whittall et
# al., 1997), without the 3 and 12 % in myelin, which are gone after 10 ms.
TISSUES = {
  7.0: {
    'grey': Tissue(0.80, 1.939, 30.1),
    'white': Tissue(0.62, 1.126, 37.3),
    'csf': Tissue(1.0, 4.0, 2.0),
    'vein': Tissue(0.9, 2.0, 135.0),
  },
  3.0: {
    'grey': Tissue(0.80, 1.331, 15.2),
    'white': Tissue(0.62, 0.832, 18.8),
    'csf': Tissue(1.0, 4.0, 2.0),
    'vein': Tissue(0.9, 1.6, 40.0),
  },
  1.5: {
    'grey': Tissue(0.80, 1.124, 11.9),
    'white': Tissue(0.62, 0.646, 15.1),
    'csf': Tissue(1.0, 4.0, 2.0),
    'vein': Tissue(0.9, 1.4, 20.0),
  },
}


def spoiled_echo(tissue: Tissue, *, repetition_time_s, flip_deg) -> float:
  """Steady-state spoiled gradient echo at TE 0 (Ernst and Anderson, 1966).

  Args:
    tissue: its density and T1.
    repetition_time_s: TR.
    flip_deg: flip angle.
  """
  angle = np.deg2rad(flip_deg)
  e1 = np.exp(-repetition_time_s / tissue.t1_s)
  return float(
    tissue.density * np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1)
  )


def phase_per_ppm(field_t: float, echo_time_s: float) -> float:
  """Phase in rad of a field offset of 1 ppm; negative by convention."""
  return -2 * np.pi * GAMMA_HZ_PER_T_PPM * field_t * echo_time_s


def dipole_kernel(shape, spacing_mm, b0_direction) -> np.ndarray:
  """Unit dipole in k-space, `rfftn` layout, float32, D(0) = 0.

  D = 1/3 - (k.b)^2 / |k|^2 with k in cycles/mm (Salomir 2003; Marques and
  Bowtell 2005).

  Args:
    shape: (X, Y, Z) of the image.
    spacing_mm: voxel sizes.
    b0_direction: unit vector in the grid frame.
  """
  b = np.asarray(b0_direction, np.float32)
  frequency = [
    np.fft.fftfreq(n, d).astype(np.float32)
    for n, d in zip(shape[:2], spacing_mm[:2])
  ]
  frequency.append(np.fft.rfftfreq(shape[2], spacing_mm[2]).astype(np.float32))
  kx, ky, kz = np.meshgrid(*frequency, indexing='ij', sparse=True)
  along = kx * b[0] + ky * b[1] + kz * b[2]
  squared = kx * kx + ky * ky + kz * kz
  squared[0, 0, 0] = 1.0
  along *= along
  along /= squared
  np.subtract(np.float32(1 / 3), along, out=along)
  along[0, 0, 0] = 0.0
  return along


def field_ppm(chi_ppm, spacing_mm, b0_direction, *, workers=1) -> np.ndarray:
  """Field offset [X, Y, Z] in ppm of a susceptibility map [X, Y, Z] in ppm.

  The grid wraps round: pad when strong sources lie at its border.

  Args:
    chi_ppm: [X, Y, Z].
    spacing_mm: voxel sizes.
    b0_direction: unit vector in the grid frame.
    workers: threads of the Fourier transform.
  """
  chi_ppm = np.asarray(chi_ppm, np.float32)
  spectrum = fft.rfftn(chi_ppm, workers=workers)
  spectrum *= dipole_kernel(chi_ppm.shape, spacing_mm, b0_direction)
  return fft.irfftn(
    spectrum, s=chi_ppm.shape, workers=workers, overwrite_x=True
  )


def crop_kspace(signal, shape, *, workers=1) -> np.ndarray:
  """Acquires a fine complex image [X, Y, Z] on a coarser grid of `shape`.

  Keeps the central k-space of each axis: sinc point spread, Gibbs ringing
  and intravoxel dephasing come with it. Voxel 0 keeps its centre.

  Args:
    signal: complex [X, Y, Z].
    shape: of the result; no axis longer than that of the signal.
    workers: threads of the Fourier transforms.
  """
  for axis, (have, want) in enumerate(zip(signal.shape, shape)):
    if have == want:
      continue
    spectrum = fft.fft(signal, axis=axis, workers=workers)
    low = [slice(None)] * 3
    high = [slice(None)] * 3
    low[axis] = slice(0, want - want // 2)
    high[axis] = slice(have - want // 2, have)
    spectrum = np.concatenate(
      [spectrum[tuple(low)], spectrum[tuple(high)]], axis
    )
    spectrum *= np.float32(want / have)
    signal = fft.ifft(spectrum, axis=axis, workers=workers, overwrite_x=True)
  return signal


def complex_noise(rng, shape, sigma) -> np.ndarray:
  """Complex Gaussian noise, `sigma` per component, complex64.

  Args:
    rng: numpy generator.
    shape: of the result.
    sigma: standard deviation of each part.
  """
  noise = np.empty(shape, np.complex64)
  parts = noise.view(np.float32).reshape(-1)
  rng.standard_normal(parts.size, np.float32, out=parts)
  parts *= np.float32(sigma)
  return noise


def shim(field, mask, axes) -> np.ndarray:
  """Removes the second-order polynomial that fits `field` inside `mask`.

  Args:
    field: [X, Y, Z] ppm.
    mask: [X, Y, Z] bool.
    axes: x, y, z as open grids ([X, 1, 1], ...) of order 1.
  """
  some = np.flatnonzero(mask.ravel())[::5]
  x, y, z = (np.broadcast_to(a, field.shape).ravel()[some] for a in axes)
  one = np.ones_like(x)
  basis = [one, x, y, z, x * x, y * y, z * z, x * y, x * z, y * z]
  w, *_ = np.linalg.lstsq(np.stack(basis, 1), field.ravel()[some], rcond=None)
  x, y, z = axes
  fit = w[0] + x * (w[1] + w[4] * x + w[7] * y + w[8] * z)
  fit = fit + y * (w[2] + w[5] * y + w[9] * z) + z * (w[3] + w[6] * z)
  return (field - fit).astype(np.float32)
