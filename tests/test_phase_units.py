"""Tests of imaging/phase_units.py: the scale by the scanner and by the many."""

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.imaging import phase_units
from tests.messages import says

SHAPE = (48, 40, 20)
MAKERS = {
  'S': {'Manufacturer': 'Siemens'},
  'P': {'Manufacturer': 'Philips Medical Systems'},
  'G': {'Manufacturer': 'GE MEDICAL SYSTEMS'},
  '': {},
}


@pytest.fixture(scope='module')
def noisy():
  """Wrapped phase with noise, as a whole head with air has it."""
  rng = np.random.default_rng(4)
  return rng.uniform(-np.pi, np.pi, SHAPE).astype(np.float32)


@pytest.fixture(scope='module')
def smooth():
  """Phase of a part of the range, 0 outside of a box."""
  x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing='ij')
  inside = (abs(x) < 0.8) & (abs(y) < 0.8)
  return np.where(inside, 1.2 * np.sin(2 * x + y) * z, 0).astype(np.float32)


def _with(image, value, at=(20, 20, 10)):
  image = image.copy()
  image[at] = value
  return image


def _siemens(phase):
  return np.clip(2 * np.rint(phase / np.pi * 2048), -4096, 4094)


def _off(found, truth):
  return np.abs(np.angle(np.exp(1j * (found.astype(float) - truth))))


@pytest.mark.parametrize(
  ('encode', 'worst'),
  [
    (lambda p: _with(_siemens(p), 32767), '-4096..4094'),
    (lambda p: _with(_siemens(p), 4400), '-4096..4094'),
    (lambda p: _with(np.rint((p / np.pi + 1) * 2047.5), 60000), '0..4095'),
    (lambda p: _with(np.rint(1000 * p), -9999), '-3142..3142'),
    (lambda p: _with(np.rad2deg(p), 1e6), '-180..180'),
    (lambda p: _with(p, 3.5), ''),
    (lambda p: p / np.pi, '-1..1'),
    (lambda p: (p / np.pi + 1) / 2, '0..1'),
  ],
)
def test_one_voxel_does_not_decide(noisy, encode, worst):
  found, note = phase_units.to_radians(encode(noisy))
  off = _off(found, noisy)
  off[20, 20, 10] = 0
  assert off.max() < 5e-3
  assert worst in note


@pytest.mark.parametrize('padding', [-32768, 0, -4096])
def test_padding_does_not_decide(noisy, padding):
  inside = np.zeros(SHAPE, bool)
  inside[8:40, 8:32] = True
  image = np.where(inside, _siemens(noisy), padding)
  found, _ = phase_units.to_radians(image, fields=MAKERS['S'])
  assert _off(found, noisy)[inside].max() < 5e-3


@pytest.mark.parametrize(
  ('maker', 'encode'),
  [
    ('S', _siemens),
    ('S', lambda p: np.rint(p / np.pi * 2048) + 2048),
    ('P', lambda p: np.rint(1000 * p)),
    ('G', lambda p: np.rint(1000 * p)),
    ('S', lambda p: p),
    ('', lambda p: p),
    ('', _siemens),  # even numbers
  ],
)
def test_a_range_that_is_not_filled_is_not_stretched(smooth, maker, encode):
  found, note = phase_units.to_radians(encode(smooth), fields=MAKERS[maker])
  assert _off(found, smooth).max() < 5e-3
  assert note


def test_what_is_not_sure_is_said_with_what_every_command_can_do(smooth):
  unit = phase_units.unit_of(np.rint(smooth * 500))
  assert not unit.certain
  assert '"Units": "rad"' in unit.note
  assert '--' not in unit.note


@pytest.mark.parametrize(
  ('units', 'factor'),
  [('rad', 1), ('radians', 1), ('deg', 180 / np.pi), ('mrad', 1000)],
)
def test_declared_units(smooth, units, factor):
  found, _ = phase_units.to_radians(smooth * factor, fields={'Units': units})
  np.testing.assert_allclose(found, smooth, atol=1e-5)


def test_a_field_map_is_refused(smooth):
  with says(InputError, 'Hz'):
    phase_units.to_radians(smooth * 40, fields={'Units': 'Hz'})


def test_voxels_out_of_range_are_counted_over_all_slabs():
  long = np.random.default_rng(9000).uniform(-np.pi, np.pi, (8, 9, 120))
  raw = np.rint(long / np.pi * 2048).clip(-2048, 2047)
  raw[0, 0, [1, 40, 100]] = 30000
  found, note = phase_units.to_radians(raw.astype(np.int16))
  assert '; 3 voxels beyond it were taken for 0' in note
  assert (found[0, 0, [1, 40, 100]] == 0).all()
  inside = np.abs(raw) < 3000
  np.testing.assert_allclose(
    found[inside], raw[inside] * (np.pi / 2048), atol=1e-6
  )
