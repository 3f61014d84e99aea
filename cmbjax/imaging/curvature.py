"""Second derivatives of an image to how it bends: eigenvalues by a formula.

Rule: no matrices are made; numpy.linalg.eigvalsh takes 18 times as long
(300,000 of them). The formula is that of Smith, Comm. ACM 4:168, 1961.
"""

import numpy as np

_THIRD = np.float32(2 * np.pi / 3)


def middle_eigenvalue(hessian) -> np.ndarray:
  """Second of the three eigenvalues of symmetric 3x3 matrices.

  Args:
    hessian: xx, yy, zz, xy, xz, yz, each of one shape.
  """
  mean, spread, angle = _parts(hessian)
  return mean + 2 * spread * np.cos(angle - _THIRD)


def eigenvalues(hessian) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """All three eigenvalues, smallest first; as `middle_eigenvalue`."""
  mean, spread, angle = _parts(hessian)
  high = mean + 2 * spread * np.cos(angle)
  low = mean + 2 * spread * np.cos(angle + _THIRD)
  return low, 3 * mean - high - low, high


def _parts(hessian):
  """Mean, spread and angle of the eigenvalues."""
  xx, yy, zz, xy, xz, yz = hessian
  mean = (xx + yy + zz) / 3
  xx, yy, zz = xx - mean, yy - mean, zz - mean
  off = xy**2 + xz**2 + yz**2
  spread = np.sqrt((xx**2 + yy**2 + zz**2 + 2 * off) / 6)
  determinant = (
    xx * (yy * zz - yz**2) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
  )
  cube = np.maximum(spread**3, np.finfo(np.float32).tiny)
  angle = np.arccos(np.clip(determinant / (2 * cube), -1, 1)) / 3
  return mean, spread, angle
