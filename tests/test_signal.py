"""Tests of imaging/signal.py: phase units, GE slices, files, echo order."""

import json

import nibabel as nib
import numpy as np
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import phase, phase_units
from cmbjax.reconstruct import echo_files, signal
from tests import heads
from tests.messages import says

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


@pytest.fixture(scope='module')
def truth():
  rng = np.random.default_rng(3)
  values = rng.uniform(-np.pi, np.pi, (8, 9, 10)).astype(np.float32)
  values[0, 0, :2] = -np.pi, np.pi
  return values


def _write(path, array, *, slope=None, **fields):
  image = nib.Nifti1Image(array, AFFINE)
  if slope is not None:
    image.header.set_slope_inter(slope, 0)
  path.parent.mkdir(parents=True, exist_ok=True)
  nib.save(image, path)
  if fields:
    sidecar = path.with_name(path.name.split('.')[0] + '.json')
    sidecar.write_text(json.dumps(fields))
  return path


def _close(found, truth, atol):
  # Scale and wrapping must fit; a constant offset carries no information.
  turn = np.exp(1j * (found.astype(float) - truth))
  np.testing.assert_allclose(
    np.abs(np.angle(turn * np.conj(turn.mean()))).max(), 0, atol=atol
  )


def test_radians_stay(truth):
  found, note = phase_units.to_radians(truth)
  np.testing.assert_array_equal(found, truth)
  assert note == ''


@pytest.mark.parametrize('span', [6.2, 6.0, 1.3])
def test_a_range_that_is_partly_filled_is_not_stretched(span):
  values = np.linspace(0.0, span, 27).reshape(3, 3, 3)
  found, note = phase_units.to_radians(values)
  np.testing.assert_allclose(found, values, atol=1e-6)
  assert ('no unit' in note) == (span < 6.2)


def test_wrong_header_scale_is_ignored(truth):
  found, note = phase_units.to_radians(truth * 0.00117, unscaled=truth)
  np.testing.assert_array_equal(found, truth)
  assert 'scale factor' in note


@pytest.mark.parametrize(
  ('name', 'encode'),
  [
    ('12 bits', lambda p: np.rint((p / np.pi + 1) * 2047.5)),
    ('Siemens', lambda p: np.rint((p / np.pi) * 4095 - 1)),
    ('milliradians', lambda p: np.rint(1000 * p)),
    ('degrees', np.rad2deg),
    ('unknown', lambda p: 17 + 5 * p),
  ],
)
def test_scanner_units(truth, name, encode):
  found, note = phase_units.to_radians(encode(truth))
  _close(found, truth, 4e-3)
  assert np.abs(found).max() < np.pi + 0.01
  assert note
  assert ('unknown' in note) == (name == 'unknown')


def test_cut_12_bit_range_is_not_stretched(truth):
  raw = np.clip(np.rint((truth / np.pi + 1) * 2047.5), 30, 4060)
  found, _ = phase_units.to_radians(raw)
  inner = (raw > 30) & (raw < 4060)
  _close(found[inner], truth[inner], 4e-3)


def test_declared_radians_are_believed(truth):
  for factor in (0.3, 5.0):  # filtered, unwrapped
    found, note = phase_units.to_radians(
      truth * factor, fields={'Units': 'rad'}
    )
    np.testing.assert_allclose(found, truth * factor)
    assert note == ''


@pytest.mark.parametrize(
  ('declared', 'factor', 'named'),
  [
    ('deg', 4096 / np.pi, '-4096..4094'),  # 22 turns, were it degrees
    ('rad', 180 / np.pi, '-180..180'),
    ('rad', 2048 / np.pi, '-2048..2047'),
  ],
)
def test_a_unit_that_makes_many_turns_of_one_is_not_believed(
  declared, factor, named
):
  x = np.linspace(-20, 20, 200)[:, None, None] + np.linspace(0, 3, 64)[:, None]
  wrapped = phase.wrap(np.repeat(x, 4, 2)).astype(np.float32)
  found, note = phase_units.to_radians(
    wrapped * np.float32(factor), fields={'Units': declared}
  )
  _close(found, wrapped, 4e-3)
  assert named in note
  if declared == 'deg':
    assert 'wrong' in note


def test_unwrapped_degrees_are_believed():
  values = np.linspace(-900, 900, 4000).reshape(50, 20, 4)
  found, note = phase_units.to_radians(values, fields={'Units': 'deg'})
  np.testing.assert_allclose(found, np.deg2rad(values), atol=1e-4)
  assert 'degrees' in note


def test_constant_phase_is_refused():
  with says(InputError):
    phase_units.to_radians(np.full((2, 2, 2), 3.0))


def test_zeros_stay_zeros(truth):
  holed = np.where(np.arange(10) < 4, 0, truth)
  found, _ = phase_units.to_radians(holed)
  assert not found[..., :4].any()


def test_alternating_slices_are_found_and_undone():
  head = heads.draw()
  flipped = head.phase.copy()
  flipped[:, :, 1::2] += np.pi
  flipped = -phase.wrap(flipped)
  assert signal.alternates(head.magnitude, flipped)
  assert not signal.alternates(head.magnitude, head.phase)
  straight = echo_files.straighten(flipped)
  assert np.abs(phase.wrap(straight - head.phase)).max() < 1e-5


@pytest.mark.parametrize('fix', ['auto', 'on', 'off'])
def test_read_fixes_ge(tmp_path, fix):
  head = heads.draw()
  flipped = head.phase.copy()
  flipped[:, :, 1::2] += np.pi
  m = _write(tmp_path / 'm.nii', head.magnitude)
  p = _write(tmp_path / 'p.nii', phase.wrap(flipped))
  scan = signal.read([m], [p], fix_ge=fix)
  assert any('GE' in n for n in scan.notes) == (fix != 'off')
  assert signal.alternates(scan.magnitude[..., 0], scan.phase[..., 0]) == (
    fix == 'off'
  )


def test_files_of_echoes_are_put_in_the_order_of_time(tmp_path, truth):
  # The labels say 1, 2, 3; the times say 3, 1, 2.
  m, p = [], []
  for label, time in ((1, 0.021), (2, 0.007), (3, 0.014)):
    m.append(
      _write(
        tmp_path / f'sub-1_echo-{label}_part-mag_MEGRE.nii',
        np.full((8, 9, 10), float(label)),
        EchoTime=time,
        MagneticFieldStrength=7,
      )
    )
    p.append(
      _write(
        tmp_path / f'sub-1_echo-{label}_part-phase_MEGRE.nii',
        np.roll(truth, label, 2),
      )
    )
  scan = signal.read(m, p)
  assert scan.echo_times_s == (0.007, 0.014, 0.021)
  assert scan.magnitude[0, 0, 0].tolist() == [2, 3, 1]
  for place, label in enumerate((2, 3, 1)):
    _close(scan.phase[..., place], np.roll(truth, label, 2), 1e-6)
  assert scan.field_t == 7
  assert any('order' in n for n in scan.notes)


def test_magnitudes_and_phases_in_different_orders_are_refused(tmp_path, truth):
  mags, phases = [], []
  for number, time in enumerate((0.010, 0.020), start=1):
    for part, paths in (('mag', mags), ('phase', phases)):
      path = tmp_path / f'{part}{number}.nii'
      _write(path, abs(truth), EchoTime=time)
      paths.append(path)
  with says(InputError):
    signal.read(mags, phases[::-1])


def test_one_file_of_echoes_needs_no_times(tmp_path, truth):
  m = _write(tmp_path / 'm.nii.gz', np.ones((8, 9, 10, 3), np.float32))
  p = _write(tmp_path / 'p.nii.gz', np.stack([truth] * 3, -1))
  scan = signal.read([m], [p])
  assert scan.magnitude.shape == (8, 9, 10, 3)
  assert scan.echo_times_s is None
  assert scan.field_t is None


def test_real_and_imaginary_give_magnitude_and_phase(tmp_path, truth):
  size = np.linspace(0.5, 2, truth.size).reshape(truth.shape)
  r = _write(tmp_path / 'r.nii', (size * np.cos(truth)).astype(np.float32))
  i = _write(tmp_path / 'i.nii', (size * np.sin(truth)).astype(np.float32))
  scan = signal.read([r], [i], cartesian=True)
  np.testing.assert_allclose(scan.magnitude[..., 0], size, rtol=1e-5)
  assert np.abs(phase.wrap(scan.phase[..., 0] - truth)).max() < 1e-4


def test_fourth_axis_can_be_coils(tmp_path, truth):
  m = _write(tmp_path / 'm.nii', np.ones((8, 9, 10, 4), np.float32))
  p = _write(tmp_path / 'p.nii', np.stack([truth] * 4, -1))
  assert signal.read([m], [p], coils=True).magnitude.shape == (8, 9, 10, 1, 4)
  five = np.ones((8, 9, 10, 2, 4), np.float32)
  m = _write(tmp_path / 'm5.nii', five)
  p = _write(tmp_path / 'p5.nii', five * truth[..., None, None])
  assert signal.read([m], [p]).magnitude.shape == five.shape
  with says(InputError):
    signal.read([m], [p], coils=True)


def test_file_per_echo_may_hold_coils_last(tmp_path, truth):
  rng = np.random.default_rng(0)
  mags = rng.random((2, 8, 9, 10, 4)).astype(np.float32)
  m, p = [], []
  for echo in range(2):
    m.append(_write(tmp_path / f'm{echo}.nii', mags[echo]))
    p.append(_write(tmp_path / f'p{echo}.nii', np.stack([truth] * 4, -1)))
  scan = signal.read(m, p, coils=True, echo_times_s=(0.02, 0.01))
  assert scan.magnitude.shape == (8, 9, 10, 2, 4)
  np.testing.assert_array_equal(scan.magnitude[..., 0, 3], mags[1, ..., 3])
  np.testing.assert_array_equal(scan.magnitude[..., 1, 0], mags[0, ..., 0])
  with says(InputError, '--coils'):
    signal.read(m, p, echo_times_s=(0.02, 0.01))


def test_an_axis_of_one_echo_does_not_matter(tmp_path, truth):
  m = _write(tmp_path / 'm.nii', np.ones((8, 9, 10, 1), np.float32))
  p = _write(tmp_path / 'p.nii', truth)
  assert signal.read([m], [p]).magnitude.shape == (8, 9, 10, 1)


def test_slips_of_the_person_are_named(tmp_path, truth):
  m = _write(tmp_path / 'm.nii', np.ones((8, 9, 10), np.float32))
  p = _write(tmp_path / 'p.nii', truth)
  with says(InputError):
    signal.read([p], [m])
  with says(InputError):
    signal.read([m], [m])
  three = _write(tmp_path / 'm3.nii', np.ones((8, 9, 10, 3), np.float32))
  turns = _write(tmp_path / 'p3.nii', np.stack([truth] * 3, -1))
  with says(InputError):
    signal.read([m, three], [p, turns])
  for field_t in (-3.0, 0.0, 3000.0, float('nan')):
    with says(InputError):
      signal.read([m], [p], field_t=field_t)


def test_header_scale_of_zero_means_one(tmp_path, truth):
  m = _write(tmp_path / 'm.nii', np.ones((8, 9, 10), np.float32))
  p = _write(tmp_path / 'p.nii', truth)
  raw = bytearray(p.read_bytes())
  raw[112:116] = np.float32(0).tobytes()  # scl_slope
  p.write_bytes(raw)
  scan = signal.read([m], [p])
  np.testing.assert_allclose(scan.phase[..., 0], truth)


def test_the_same_voxels_at_another_place_are_named(tmp_path, truth):
  m = _write(tmp_path / 'm.nii', np.ones((8, 9, 10), np.float32))
  p = tmp_path / 'p.nii'
  moved = AFFINE + np.eye(4, k=3)
  nib.save(nib.Nifti1Image(truth, moved), p)
  with says(InputError, 'p.nii affine'):
    signal.read([m], [p])


def test_echo_times_in_ms_are_said_to_be(tmp_path, truth):
  m = _write(tmp_path / 'm.nii', np.ones((8, 9, 10), np.float32), EchoTime=28)
  p = _write(tmp_path / 'p.nii', truth)
  with says(InputError, 'EchoTime m.nii seconds'):
    signal.read([m], [p])


def test_facts_that_are_words_are_said(tmp_path, truth):
  m = _write(
    tmp_path / 'm.nii',
    np.ones((8, 9, 10), np.float32),
    EchoTime='0.028',
    MagneticFieldStrength='3T',
  )
  p = _write(tmp_path / 'p.nii', truth)
  scan = signal.read([m], [p])
  assert (scan.echo_times_s, scan.field_t) == ((0.028,), None)
  assert any(
    "MagneticFieldStrength in its JSON is '3T'" in n for n in scan.notes
  )


def test_missing_slice_is_named(tmp_path, truth):
  m = _write(tmp_path / 'm.nii', np.ones((8, 9, 10), np.float32))
  p = _write(tmp_path / 'p.nii', truth[..., :9])
  with says(InputError, 'p.nii'):
    signal.read([m], [p])


def test_missing_echo_is_named(tmp_path, truth):
  m = _write(tmp_path / 'm.nii', np.ones((8, 9, 10, 3), np.float32))
  p = _write(tmp_path / 'p.nii', np.stack([truth] * 2, -1))
  with says(InputError):
    signal.read([m], [p])


def test_missing_file_is_named(tmp_path, truth):
  p = _write(tmp_path / 'p.nii', truth)
  with says(NoInputError, 'm.nii'):
    signal.read([tmp_path / 'm.nii'], [p])
  with says(InputError):
    signal.read([p, p], [p])


@pytest.mark.parametrize(
  ('times', 'message'),
  [
    ((0.01,), ''),
    ((10.0, 20.0), '0.5'),
    ((0.01, 0.01), ''),
    ((0.01, -0.02), ''),
  ],
)
def test_wrong_echo_times(tmp_path, truth, times, message):
  m = _write(tmp_path / 'm.nii', np.ones((8, 9, 10, 2), np.float32))
  p = _write(tmp_path / 'p.nii', np.stack([truth] * 2, -1))
  with says(InputError, message):
    signal.read([m], [p], echo_times_s=times)


def test_real_crop_is_in_radians_despite_its_header(real_data):
  m, p = (real_data(f'real_gre_crop/{n}.nii') for n in ('Mag', 'Phase'))
  scan = signal.read([m], [p], echo_times_s=(0.004, 0.008, 0.012))
  assert scan.magnitude.shape == (51, 51, 41, 3)
  assert np.ptp(scan.phase) == pytest.approx(2 * np.pi, abs=0.01)
  assert any('scale factor' in n for n in scan.notes)
