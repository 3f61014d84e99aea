"""Fields against formulas, signals against hand values, the blooming law."""

import numpy as np
import pytest
from scipy import fft

from cmbjax.simulate import lesions, physics
from tests import analytic_fields

B0 = np.array([0.0, 0.0, 1.0])


def _grid(size, spacing):
  axis = (np.arange(size) - size // 2) * spacing
  return np.stack(np.meshgrid(axis, axis, axis, indexing='ij'), -1)


def _occupied(points, spacing, distance):
  """Share of each voxel inside `distance(points) < 1`, 4^3 samples."""
  step = (np.arange(4) + 0.5) / 4 - 0.5
  total = 0.0
  for shift in np.stack(np.meshgrid(step, step, step), -1).reshape(-1, 3):
    total = total + (distance(points + shift * spacing) < 1)
  return total / 64


@pytest.mark.parametrize('b0', [(0, 0, 1), (0.0, 0.6, 0.8)])
def test_field_of_a_sphere(b0):
  points = _grid(64, 0.5)
  chi = _occupied(points, 0.5, lambda p: np.sqrt((p**2).sum(-1)) / 4)
  found = physics.field_ppm(chi, (0.5, 0.5, 0.5), b0)
  wanted = analytic_fields.sphere_field_ppm(points, 4.0, 1.0, b0)
  far = np.sqrt((points**2).sum(-1))
  outside = (far > 5) & (far < 9)
  inside = far < 3
  assert found.dtype == np.float32
  assert abs(found - wanted)[outside].max() < 0.025
  # The grid repeats; its mean field is taken away.
  assert abs(found[inside].mean()) < 0.012
  assert wanted[outside].max() > 0.3


def test_sphere_formula_by_hand():
  offset = np.array([[0, 0, 2.0], [2.0, 0, 0], [0, 0, 0.5]])
  value = analytic_fields.sphere_field_ppm(offset, 1.0, 3.0, B0)
  np.testing.assert_allclose(value, [2 / 8, -1 / 8, 0], atol=1e-12)


@pytest.mark.parametrize('angle', [0.0, 55.0, 90.0])
def test_field_of_a_cylinder(angle):
  """An endless cylinder along y on a grid that repeats along y."""
  angle = np.deg2rad(angle)
  b0 = np.array([0.0, np.cos(angle), np.sin(angle)])
  points = _grid(96, 0.5)[:, :4]
  chi = _occupied(
    points, 0.5, lambda p: np.sqrt(p[..., 0] ** 2 + p[..., 2] ** 2) / 3
  )
  found = physics.field_ppm(chi, (0.5, 0.5, 0.5), b0)
  wanted = analytic_fields.cylinder_field_ppm(
    points, 3.0, 1.0, axis=(0, 1, 0), b0_direction=b0
  )
  far = np.sqrt(points[..., 0] ** 2 + points[..., 2] ** 2)
  # D(0) = 0 takes the mean away: compare up to one constant.
  near = (far < 2) | ((far > 4) & (far < 8))
  gap = found - wanted
  assert abs(gap - gap[near].mean())[near].max() < 0.035
  inside = (3 * np.cos(angle) ** 2 - 1) / 6
  assert wanted[far < 2].min() == pytest.approx(inside)


def test_phase_of_a_vein_along_the_field():
  """Check values of the reference: 0.45 ppm, 3 T 28 ms and 7 T 16 ms."""
  field = analytic_fields.cylinder_field_ppm(
    np.zeros((1, 3)), 0.5, 0.45, axis=(0, 0, 1), b0_direction=B0
  )[0]
  assert field == pytest.approx(0.15)
  assert field * physics.phase_per_ppm(3, 0.028) == pytest.approx(-3.37, 0.01)
  assert field * physics.phase_per_ppm(7, 0.016) == pytest.approx(-4.49, 0.01)


def test_spoiled_echo_by_hand():
  tissue = physics.Tissue(0.71, 1.939, 30.1)
  value = physics.spoiled_echo(tissue, repetition_time_s=0.05, flip_deg=20)
  assert value == pytest.approx(0.0735, abs=2e-4)
  # At 90 degrees it is a saturation recovery.
  value = physics.spoiled_echo(tissue, repetition_time_s=0.05, flip_deg=90)
  assert value == pytest.approx(0.71 * (1 - np.exp(-0.05 / 1.939)))


def test_crop_keeps_a_slow_wave_and_its_place():
  fine = np.arange(48) * 0.5
  coarse = np.arange(24) * 1.0
  wave = np.exp(2j * np.pi * 3 * fine / 24)
  image = np.broadcast_to(wave[:, None, None], (48, 4, 6)).astype(np.complex64)
  out = physics.crop_kspace(image, (24, 4, 3))
  wanted = np.exp(2j * np.pi * 3 * coarse / 24)
  np.testing.assert_allclose(out[:, 1, 1], wanted, atol=1e-5)


def test_crop_equals_the_fourier_definition():
  rng = np.random.default_rng(0)
  image = rng.normal(size=(16, 6, 8)) + 1j * rng.normal(size=(16, 6, 8))
  out = physics.crop_kspace(image.astype(np.complex64), (8, 6, 8))
  spectrum = fft.fftshift(fft.fft(image, axis=0), axes=0)[4:12]
  wanted = fft.ifft(fft.ifftshift(spectrum, axes=0), axis=0) / 2
  np.testing.assert_allclose(out, wanted, atol=1e-5)


def test_noise_has_the_asked_width():
  noise = physics.complex_noise(np.random.default_rng(1), (40, 40, 40), 0.3)
  assert noise.real.std() == pytest.approx(0.3, rel=0.02)
  assert noise.imag.std() == pytest.approx(0.3, rel=0.02)
  assert abs(np.corrcoef(noise.real.ravel(), noise.imag.ravel())[0, 1]) < 0.02


def test_shim_removes_a_quadratic_field():
  axes = np.meshgrid(*[np.linspace(-1, 1, 12)] * 3, indexing='ij', sparse=True)
  x, y, z = axes
  field = 1 + x - 2 * y + 0.5 * z * z + x * y - 3 * y * z + 0 * z
  mask = (x**2 + y**2 + z**2) < 0.9
  left = physics.shim(field, mask, axes)
  assert abs(left).max() < 1e-5


def _bloom(moment, field_t, echo_s, *, voxel=(0.5, 0.5, 2.0), rng=None):
  """SWI of one sphere in even tissue: equivalent diameter at half maximum.

  No high-pass; the background phase is zero.
  """
  spacing = np.array((voxel[0], voxel[1], min(voxel[2], 1.0)))
  shape = (64, 64, 24)
  chi = 1.0
  radius = (3 * moment / (4 * np.pi * chi)) ** (1 / 3)
  centre = np.array(shape) * spacing / 2
  if rng is not None:
    centre = centre + rng.uniform(-0.5, 0.5, 3) * voxel
  deposit = lesions.Deposit(
    'sphere', np.array([[*centre, radius]], np.float32), np.array([chi])
  )
  effect = lesions.effect(
    deposit, shape, spacing, b0=B0, field_t=field_t, echo_times_s=(echo_s,)
  )
  signal = np.ones(shape, np.complex64)
  signal[effect.box] = effect.factors[0]
  ratio = round(voxel[2] / spacing[2])
  signal = physics.crop_kspace(signal, (64, 64, 24 // ratio))
  swi = abs(signal) * np.clip(1 + np.angle(signal) / np.pi, 0, 1) ** 4
  volume = (swi < 0.5).sum() * np.prod(voxel)
  return (6 * volume / np.pi) ** (1 / 3)


def test_blooming_follows_the_cube_root_law():
  """Diameter against M B0 TE: slope 1/3 at 0.5 mm in plane."""
  rng = np.random.default_rng(3)
  product, diameter = [], []
  for field_t, echo_s in ((7, 0.016), (3, 0.028)):
    for moment in (0.4, 0.9, 1.8, 3.5, 7.0, 14.0):
      sizes = [_bloom(moment, field_t, echo_s, rng=rng) for _ in range(3)]
      product.append(moment * field_t * echo_s)
      diameter.append(np.mean(sizes))
  slope, start = np.polyfit(np.log(product), np.log(diameter), 1)
  assert slope == pytest.approx(0.33, abs=0.03)
  assert np.exp(start) == pytest.approx(5.67, rel=0.08)


def test_longer_echo_blooms_more():
  """TE 20 to 40 ms at 0.5x0.5x2 mm; Liu 2012 measured 2.30 +- 1.20."""
  rng = np.random.default_rng(4)
  ratio = []
  for moment in (0.5, 1.5, 4.0):
    place = rng.integers(2**31)
    small, large = (
      _bloom(moment, 3.0, echo, rng=np.random.default_rng(place))
      for echo in (0.020, 0.040)
    )
    ratio.append((large / small) ** 3)
  assert 1.3 < np.mean(ratio) < 2.6
