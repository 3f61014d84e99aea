"""Fields of bodies that have a formula, to compare simulated ones with."""

import numpy as np


def sphere_field_ppm(offset_mm, radius_mm, chi_ppm, b0_direction) -> np.ndarray:
  """Field of a uniform sphere: 0 inside (Lorentz), a dipole outside.

  Args:
    offset_mm: [..., 3] from its centre.
  """
  offset_mm = np.asarray(offset_mm)
  squared = (offset_mm**2).sum(-1)
  along = offset_mm @ np.asarray(b0_direction, offset_mm.dtype)
  safe = np.maximum(squared, radius_mm**2)
  value = (3 * along**2 / safe - 1) * safe**-1.5
  value *= chi_ppm * radius_mm**3 / 3
  return np.where(squared > radius_mm**2, value, 0)


def cylinder_field_ppm(
  offset_mm, radius_mm, chi_ppm, *, axis, b0_direction
) -> np.ndarray:
  """Field of an endless cylinder through the origin (Haacke et al., 1999)."""
  offset_mm = np.asarray(offset_mm, float)
  axis = np.asarray(axis, float) / np.linalg.norm(axis)
  b = np.asarray(b0_direction, float)
  cosine = axis @ b
  across = offset_mm - (offset_mm @ axis)[..., None] * axis
  squared = (across**2).sum(-1)
  inside = chi_ppm / 6 * (3 * cosine**2 - 1)
  b_across = b - cosine * axis
  # sin^2(theta) cos(2 phi) = 2 (b.u)^2 - sin^2(theta), u = across / |across|.
  safe = np.maximum(squared, radius_mm**2)
  outside = 2 * (across @ b_across) ** 2 / safe - (1 - cosine**2)
  outside = chi_ppm / 2 * outside * radius_mm**2 / safe
  return np.where(squared > radius_mm**2, outside, inside)
