"""Tests of imaging/swi.py: masks by hand, signs, echoes, coils, real data."""

import matplotlib

from tests.messages import says

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.imaging import (
  magnitude,
  phase,
  phase_mask,
  swi,
  swi_options,
  volume,
)
from cmbjax.imaging.swi_options import SwiOptions
from cmbjax.reconstruct import signal
from tests import heads

SPACING = heads.SPACING_MM
TIMES_S = (0.0027, 0.0104, 0.0132, 0.0209)


@pytest.fixture(scope='module')
def head():
  return heads.draw()


def _echoes(head, *, sign=1, hz=-30.0):
  """Four echoes of a head whose veins are `hz` off; wraps at later echoes."""
  rng = np.random.default_rng(4)
  x = np.linspace(-1, 1, head.brain.shape[0], dtype=np.float32)[:, None, None]
  offset = np.where(head.veins, hz, 0) + 12 * x
  mags, phases = [], []
  for time in TIMES_S:
    decay = np.where(head.veins, np.exp(-time / 0.012), np.exp(-time / 0.03))
    body = np.where(head.magnitude > 0.2, decay, 0)
    clean = body * np.exp(2j * np.pi * sign * offset * time)
    noise = 0.01 * (rng.normal(size=(2, *body.shape)))
    noisy = clean + noise[0] + 1j * noise[1]
    mags.append(np.abs(noisy))
    phases.append(np.angle(noisy))
  return (
    np.stack(mags, -1).astype(np.float32),
    np.stack(phases, -1).astype(np.float32),
  )


def _darkening(image, magnitude, head):
  """How much darker veins are in an image than in the magnitude."""
  rest = head.brain & ~head.veins
  contrast = [
    np.median(a[head.veins]) / np.median(a[rest]) for a in (image, magnitude)
  ]
  return contrast[0] / contrast[1]


@pytest.mark.parametrize(
  ('kind', 'expected'),
  [  # at -pi, -pi/2, 0, pi/2, pi, with power 2
    ('negative', [0, 0.25, 1, 1, 1]),
    ('positive', [1, 1, 1, 0.25, 0]),
    ('triangular', [0, 0.25, 1, 0.25, 0]),
    ('threshold', [0, 0.25, 1, 1, 1]),
    ('cosine', [0, 0.25, 1, 1, 1]),
  ],
)
def test_masks_by_hand(kind, expected):
  phi = np.array([-1, -0.5, 0, 0.5, 1], np.float32) * np.pi
  found = phase_mask.phase_mask(phi, kind, power=2)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert found.dtype == np.float32


def test_linear_and_cosine_masks_differ_between():
  phi = np.float32([-np.pi / 4, -3 * np.pi / 4])
  np.testing.assert_allclose(
    phase_mask.phase_mask(phi, 'negative', power=1), [0.75, 0.25], atol=1e-6
  )
  np.testing.assert_allclose(
    phase_mask.phase_mask(phi, 'cosine', power=1),
    [0.5 + 0.5 * np.cos(np.pi / 4), 0.5 + 0.5 * np.cos(3 * np.pi / 4)],
    atol=1e-6,
  )


def test_threshold_moves_the_zero():
  phi = np.float32([-0.5, -1.0, -3.0])
  found = phase_mask.phase_mask(phi, 'threshold', power=1, threshold_rad=1.0)
  np.testing.assert_allclose(found, [0.5, 0, 0], atol=1e-6)


@pytest.mark.parametrize('power', [1, 3, 4, 4.5])
def test_power_repeats_the_mask(power):
  found = phase_mask.phase_mask(np.float32([-np.pi / 2]), power=power)
  assert found[0] == pytest.approx(0.5**power)


def test_tanh_masks_by_hand():
  phi = np.float32([-2, -1, -0.5, 0, 1])
  # x = -phi; the positive ones are 0.5, 1, 2: median 1, times 10 / 4.
  expected = (1 + np.tanh(1 + phi / 2.5)) / 2
  np.testing.assert_allclose(
    phase_mask.phase_mask(phi, 'tanh'), expected, rtol=1e-5
  )
  np.testing.assert_allclose(
    phase_mask.phase_mask(-phi, 'negativetanh'), expected, rtol=1e-5
  )
  assert phase_mask.phase_mask(phi, 'tanh')[3] == pytest.approx(0.88, abs=1e-2)
  inside = np.array([False, True, True, True, True])
  scaled = phase_mask.phase_mask(phi, 'tanh', inside=inside)  # median of 0.5, 1
  assert scaled[1] == pytest.approx((1 + np.tanh(1 - 1 / 1.875)) / 2)


@pytest.mark.parametrize('kind', ['negative', 'positive', 'triangular'])
def test_robust_masks_span_the_phase_of_the_image(kind):
  rng = np.random.default_rng(0)
  phi = rng.normal(size=(20, 20, 20)).astype(np.float32) * 0.2
  phi[0, 0, 0] = -3 if kind != 'positive' else 3  # an outlier sets nothing
  inside = np.ones(phi.shape, bool)
  inside[10:] = False
  found = phase_mask.phase_mask(
    phi, kind, power=2, reach='robust', inside=inside
  )
  side = {'negative': -phi, 'positive': phi, 'triangular': np.abs(phi)}[kind]
  low, high = np.quantile(side[inside & (side > 0)], (0.01, 0.99))
  span = (high - low) / 0.98
  start = low - 0.01 * span
  expected = np.clip(1 - (side - start) / span, 0, 1) ** 2
  expected[side <= 0] = 1
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert found[0, 0, 0] == 0
  with says(InputError):
    phase_mask.phase_mask(phi, kind, reach='wide')


@pytest.mark.parametrize(
  ('kind', 'options'),
  [
    ('tan', {}),
    ('negative', {'power': 0}),
    ('negative', {'threshold_rad': -1}),
  ],
)
def test_wrong_masks_are_refused(kind, options):
  with says(InputError):
    phase_mask.phase_mask(np.zeros(3), kind, **options)


def test_unit_scale_by_hand():
  image = np.arange(1001, dtype=np.float32).reshape(1001, 1, 1)
  mask = np.ones(image.shape, bool)
  mask[801:] = False
  found = swi.scale_to_unit(image, mask)
  assert found.dtype == np.float32
  assert swi.unit_factor(image, mask) == pytest.approx(0.995 * 800)
  assert found[398, 0, 0] == pytest.approx(0.5)
  assert found[1000, 0, 0] == 1
  assert found.min() == 0


def test_unit_scale_needs_signal():
  with says(InputError):
    swi.scale_to_unit(np.ones((2, 2, 2)), np.zeros((2, 2, 2), bool))
  with says(InputError):
    swi.scale_to_unit(np.zeros((2, 2, 2)), np.ones((2, 2, 2), bool))


@pytest.mark.parametrize(
  ('spacing', 'thickness', 'slices'),
  [(2.0, 10.0, 5), (1.0, 10.0, 9), (2.0, 14.0, 7), (2.0, 1.0, 1), (1, 99, 99)],
)
def test_min_ip_keeps_the_shape_and_is_centred(spacing, thickness, slices):
  rng = np.random.default_rng(0)
  image = rng.random((3, 4, 12)).astype(np.float32)
  found = swi.min_ip(image, spacing, thickness_mm=thickness)
  assert found.shape == image.shape
  half = slices // 2
  for z in range(12):
    window = image[..., max(z - half, 0) : z + half + 1]
    np.testing.assert_array_equal(found[..., z], window.min(2))


def test_min_ip_along_another_axis():
  image = np.random.default_rng(0).random((9, 4, 5))
  found = swi.min_ip(image, 1, thickness_mm=3, axis=0)
  turned = swi.min_ip(np.swapaxes(image, 0, 2), 1, thickness_mm=3)
  np.testing.assert_array_equal(found, np.swapaxes(turned, 0, 2))
  with says(InputError):
    swi.min_ip(image, 1, thickness_mm=0)


@pytest.mark.parametrize('high_pass', swi_options.HIGH_PASSES)
def test_veins_get_darker(head, high_pass):
  found = swi.reconstruct(
    head.magnitude, head.phase, SPACING, SwiOptions(high_pass=high_pass)
  )
  assert _darkening(found.swi, head.magnitude, head) < 0.6
  assert found.min_ip.shape == found.swi.shape == head.magnitude.shape
  assert found.swi.dtype == found.phase.dtype == np.float32
  assert np.all(found.swi <= head.magnitude)
  assert found.tof is None
  assert found.echoes == (1,)


def test_flipped_phase_gives_the_same_swi(head):
  first, second = (
    swi.reconstruct(head.magnitude, s * head.phase, SPACING) for s in (1, -1)
  )
  assert first.polarity.certain
  assert second.polarity.certain
  assert (first.polarity.sign, second.polarity.sign) == (1, -1)
  change = np.abs(first.swi - second.swi)[head.brain]
  assert change.max() < 1e-3
  np.testing.assert_allclose(
    first.phase[head.brain], second.phase[head.brain], atol=2e-3
  )


def test_a_given_sign_is_obeyed(head):
  wrong = swi.reconstruct(
    head.magnitude, head.phase, SPACING, SwiOptions(phase_sign=-1)
  )
  assert wrong.polarity.sign == -1
  assert wrong.polarity.median_rad < -0.3  # and the doubt is on record
  assert _darkening(wrong.swi, head.magnitude, head) > 0.9
  with says(InputError, 'phase_sign'):
    swi.reconstruct(
      head.magnitude, head.phase, SPACING, SwiOptions(phase_sign=2)
    )


def test_swi_does_not_depend_on_background_phase(head):
  x, y = (
    (np.arange(n, dtype=np.float32) - n / 2) for n in head.phase.shape[:2]
  )
  background = 0.3 * x[:, None] - 0.004 * y**2
  moved = phase.wrap(head.phase + background[..., None])
  first, second = (
    swi.reconstruct(head.magnitude, p, SPACING) for p in (head.phase, moved)
  )
  assert np.abs(first.swi - second.swi)[head.brain].max() < 0.01


def _orientations():
  axes = [(0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 2, 1)]
  signs = [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)]
  return [(a, s) for a in axes for s in signs]


@pytest.mark.parametrize('oblique', [False, True])
def test_sixteen_orientations_give_the_same_result(head, oblique):
  turn = np.eye(4)
  if oblique:
    a, b = np.deg2rad((17, -9))
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_z = [[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]
    turn[:3, :3] = np.array(about_x) @ about_z
  mag, angle = (a[::2, ::2] for a in (head.magnitude, head.phase))
  spacing = (2.0, 2.0, 2.0)
  expected = swi.reconstruct(mag, angle, spacing, SwiOptions(phase_sign=1))
  for axes, signs in _orientations():
    ras = np.diag([*spacing, 1.0])
    change = np.zeros((4, 4))  # native index to RAS index
    change[3, 3] = 1
    for native, (axis, sign) in enumerate(zip(axes, signs)):
      change[axis, native] = sign
      change[axis, 3] += 0 if sign > 0 else mag.shape[axis] - 1
    native = [
      np.flip(np.transpose(a, axes), [i for i, s in enumerate(signs) if s < 0])
      for a in (mag, angle)
    ]
    scans = [volume.from_array(a, turn @ ras @ change) for a in native]
    found = swi.reconstruct(
      scans[0].array,
      scans[1].array,
      scans[0].spacing_mm,
      SwiOptions(phase_sign=1),
    )
    np.testing.assert_array_equal(scans[0].array, mag)
    np.testing.assert_allclose(found.swi, expected.swi, atol=2e-6)
    back = volume.to_native(found.swi, scans[0])
    assert back.shape == native[0].shape


def test_slices_along_x_are_filtered_and_projected_along_x(head):
  plain = swi.reconstruct(head.magnitude, head.phase, SPACING)
  sagittal = swi.reconstruct(
    np.swapaxes(head.magnitude, 0, 2),
    np.swapaxes(head.phase, 0, 2),
    SPACING[::-1],
  )
  assert (plain.slice_axis, sagittal.slice_axis) == (2, 0)
  for name in ('swi', 'min_ip', 'phase', 'mask'):
    np.testing.assert_array_equal(
      np.swapaxes(getattr(sagittal, name), 0, 2), getattr(plain, name)
    )


@pytest.mark.parametrize('mode', swi_options.MODES)
@pytest.mark.parametrize('sign', [1, -1])
def test_uneven_echoes_make_one_swi_and_a_tof(head, mode, sign):
  mags, phases = _echoes(head, sign=sign)
  found = swi.reconstruct(
    mags,
    phases,
    SPACING,
    SwiOptions(mode=mode),
    echo_times_s=TIMES_S,
    field_t=7,
  )
  assert found.echoes == (2, 3, 4)
  assert found.polarity.sign == sign
  assert found.sigma_mm == 1.9
  np.testing.assert_array_equal(found.tof, mags[..., 0])
  np.testing.assert_allclose(
    found.magnitude, mags[..., 1:].mean(-1), rtol=1e-4, atol=1e-5
  )
  assert _darkening(found.swi, found.magnitude, head) < 0.5


def test_frequency_mode_equals_its_formula(head):
  mags, phases = _echoes(head)
  found = swi.reconstruct(
    mags,
    phases,
    SPACING,
    SwiOptions(mode='freq', phase_sign=1),
    echo_times_s=TIMES_S,
  )
  hz = -found.phase / (2 * np.pi * np.mean(TIMES_S[1:]))  # veins positive
  limit = 1000 / (2 * 1000 * np.mean(TIMES_S[1:]))
  mask = np.clip(1 - hz / limit, 0, 1)
  expected = mags[..., 1:].mean(-1) * mask**4
  np.testing.assert_allclose(found.swi, expected, atol=1e-4)


def test_post_average_equals_its_formula(head):
  mags, phases = _echoes(head)
  found = swi.reconstruct(
    mags,
    phases,
    SPACING,
    SwiOptions(phase_sign=1),
    echo_times_s=TIMES_S,
    field_t=7,
  )
  total = 0
  for echo in (1, 2, 3):
    local = phase.high_pass(
      mags[..., echo], phases[..., echo], SPACING, sigma_mm=1.9
    )
    limit = min(np.pi, np.pi * TIMES_S[echo] / 0.016)
    total = total + mags[..., echo] * np.clip(1 + local / limit, 0, 1) ** 4
  np.testing.assert_allclose(found.swi, total / 3, atol=1e-5)


def test_chosen_echoes_and_missing_times(head):
  mags, phases = _echoes(head)
  one = swi.reconstruct(mags, phases, SPACING, SwiOptions(echoes=(3,)))
  alone = swi.reconstruct(mags[..., 2], phases[..., 2], SPACING)
  np.testing.assert_allclose(one.swi, alone.swi, atol=1e-6)
  with says(InputError, 'EchoTime'):
    swi.reconstruct(mags, phases, SPACING)
  with says(InputError):
    swi.reconstruct(mags, phases, SPACING, SwiOptions(echoes=(5,)))
  with says(InputError):
    swi.reconstruct(mags, phases, SPACING, echo_times_s=(0.01, 0.02))
  with says(InputError):
    swi.reconstruct(mags, phases, SPACING, SwiOptions(mode='mean'))
  with says(InputError):
    swi.reconstruct(
      mags, phases, SPACING, SwiOptions(echoes=(2, 2)), echo_times_s=TIMES_S
    )
  for sigma in (0.0, -2.0, np.nan):
    with says(InputError):
      swi.reconstruct(
        mags[..., 0], phases[..., 0], SPACING, SwiOptions(sigma_mm=sigma)
      )
  with says(InputError):
    swi.reconstruct(
      mags[..., 0], phases[..., 0], SPACING, SwiOptions(mag_combine='mean')
    )
  with says(InputError):
    swi.reconstruct(mags, phases[..., 0], SPACING)


def test_coils_need_no_phase_offsets(head):
  rng = np.random.default_rng(2)
  x = np.linspace(-1, 1, head.brain.shape[0], dtype=np.float32)[:, None, None]
  y = np.linspace(-1, 1, head.brain.shape[1], dtype=np.float32)[None, :, None]
  parts = []
  for coil in range(4):
    profile = np.exp(-((x - np.cos(coil)) ** 2) - (y - np.sin(coil)) ** 2)
    offset = rng.uniform(-3, 3) + 2 * coil * x - y * coil
    parts.append(head.magnitude * profile * np.exp(1j * (head.phase + offset)))
  coils = np.stack(parts, -1)[:, :, :, None]  # X Y Z E C
  found = swi.reconstruct(
    np.abs(coils), np.angle(coils), SPACING, mask=head.brain
  )
  rss = np.sqrt((np.abs(coils[..., 0, :]) ** 2).sum(-1))
  np.testing.assert_allclose(found.magnitude, rss, rtol=1e-4)
  single = swi.reconstruct(head.magnitude, head.phase, SPACING)
  change = np.abs(found.phase - single.phase)[head.brain]
  assert np.median(change) < 0.05
  assert np.median(found.phase[head.veins]) < -0.4


def test_sensitivity_correction_flattens_a_bias(head):
  x = np.linspace(-1, 1, head.brain.shape[0], dtype=np.float32)[:, None, None]
  biased = head.magnitude * np.exp(0.6 * x)
  spread = []
  for kind in ('off', 'gaussian', 'boxsegment'):
    found = swi.reconstruct(
      biased,
      head.phase,
      SPACING,
      SwiOptions(sensitivity=kind, phase_sign=1),
      mask=head.brain,
    )
    rest = found.swi[head.brain & ~head.veins]
    low, high = np.percentile(rest, (10, 90))
    spread.append(high / low)
    assert _darkening(found.swi, biased, head) < 0.6
  assert max(spread[1:]) < 0.75 * spread[0]


def test_softplus_and_a_given_field_change_the_magnitude_only(head):
  plain, soft = (
    swi.reconstruct(
      head.magnitude,
      head.phase,
      SPACING,
      SwiOptions(phase_sign=1, softplus=on),
      mask=head.brain,
    )
    for on in (False, True)
  )
  np.testing.assert_array_equal(plain.phase, soft.phase)
  expected = magnitude.softplus(head.magnitude, head.brain)
  np.testing.assert_allclose(soft.magnitude, expected, rtol=1e-6)
  field = np.linspace(0.5, 2, 96, dtype=np.float32)[:, None, None] + 0 * (
    head.magnitude
  )
  flat = swi.reconstruct(
    head.magnitude * field,
    head.phase,
    SPACING,
    SwiOptions(phase_sign=1),
    mask=head.brain,
    sensitivity=field,
  )
  np.testing.assert_allclose(flat.magnitude, head.magnitude, rtol=1e-5)
  change = np.abs(flat.swi - plain.swi)[head.brain]
  assert np.median(change) < 0.01


def test_resampled_phase_does_not_wrap_to_zero(head):
  made = swi.reconstruct(head.magnitude, head.phase, SPACING)
  turned = np.full(made.phase.shape, 3.1, np.float32)
  turned[:, :, 1::2] = -3.1  # 0.08 rad apart
  thick = (*SPACING[:2], 2 * SPACING[2])
  found = swi.resampled(made._replace(phase=turned), SPACING, thick, mip_mm=12)
  np.testing.assert_allclose(np.abs(found.phase), np.pi, atol=1e-5)


@pytest.mark.parametrize('axis', [2, 0])
def test_resampled_to_thicker_slices(head, axis):
  arrays = [np.swapaxes(a, axis, 2) for a in (head.magnitude, head.phase)]
  spacing, new = list(SPACING), list(SPACING)
  if axis == 0:
    spacing.reverse()
    new.reverse()
  new[axis] = 4.0
  made = swi.reconstruct(*arrays, tuple(spacing))
  found = swi.resampled(made, tuple(spacing), tuple(new), mip_mm=12)
  moved = np.moveaxis(made.swi, axis, 2)
  expected = (moved[..., ::2] + moved[..., 1::2]) / 2
  np.testing.assert_allclose(
    np.moveaxis(found.swi, axis, 2), expected, rtol=1e-5
  )
  np.testing.assert_array_equal(
    found.min_ip, swi.min_ip(found.swi, 4.0, thickness_mm=12, axis=axis)
  )
  assert found.mask.dtype == bool
  assert found.mask.shape == found.swi.shape == found.phase.shape
  assert 2 * found.mask.sum() == pytest.approx(made.mask.sum(), rel=0.1)


def test_parallel_vein_has_the_phase_of_its_formula():
  # Inside a cylinder along B0: f = gamma B0 dchi / 3; the phase is -2 pi f TE.
  # Oxygen extraction leaves about 0.45 ppm at 3 T and 20 ms: -2.41 rad.
  chi_ppm, field_t, time_s = 0.45, 3.0, 0.020
  expected = -2 * np.pi * 42.577478518 * field_t * chi_ppm / 3 * time_s
  assert expected == pytest.approx(-2.407, abs=1e-3)
  x, y = np.meshgrid(*[np.arange(-60, 60) * 0.5] * 2, indexing='ij')
  vein = np.repeat((x**2 + y**2 < 1.0)[..., None], 8, 2)
  angle = np.float32(np.where(vein, expected, 0))
  body = np.ones(vein.shape, np.float32)
  made = swi.reconstruct(
    body,
    angle,
    (0.5, 0.5, 2.0),
    SwiOptions(phase_sign=1),
    field_t=field_t,
    mask=vein | True,
  )
  # A vein of 2 mm is far narrower than the filter: 1 % of it is taken away.
  found = made.phase[vein]
  np.testing.assert_allclose(found, expected, rtol=0.12)
  np.testing.assert_allclose(
    made.swi[vein], np.clip(1 + found / np.pi, 0, 1) ** 4, rtol=1e-4
  )
  assert np.median(made.swi[vein]) < 0.05


def test_background_that_wraps_leaves_no_zebra_stripes(head):
  # A shimmed head has slopes of several wraps; the window, centred on k = 0,
  # then leaves stripes of half a turn unless the slope is taken out first.
  x, y, z = (
    np.arange(n, dtype=np.float32).reshape(
      [-1 if a == i else 1 for a in range(3)]
    )
    - n / 2
    for i, n in enumerate(head.phase.shape)
  )
  for slope in (0.5, 1.5, 2.5):  # rad per voxel; up to 38 wraps
    background = slope * x + 0.6 * slope * y + 0.006 * x**2 + 0.5 * z
    moved = phase.wrap(head.phase + background)
    made = swi.reconstruct(
      head.magnitude, moved, SPACING, SwiOptions(phase_sign=1)
    )
    rest = head.brain & ~ndimage.binary_dilation(head.veins, iterations=3)
    # Stripes would darken half of the tissue; noise of 0.02 leaves 0.97.
    assert np.percentile(made.swi[rest], 1) > 0.75
    assert np.std(made.phase[rest]) < 0.15
    assert np.median(made.phase[head.veins]) < -0.4


def test_options_are_needed_only_once(head):
  # The short form for a phase that is filtered already.
  local = phase.high_pass(head.magnitude, head.phase, SPACING, sigma_mm=3)
  whole = swi.reconstruct(
    head.magnitude, head.phase, SPACING, SwiOptions(phase_sign=1)
  )
  np.testing.assert_allclose(
    head.magnitude * phase_mask.phase_mask(local), whole.swi, atol=1e-6
  )


@pytest.fixture(scope='module')
def crop(real_data):
  paths = [real_data(f'real_gre_crop/{n}.nii') for n in ('Mag', 'Phase')]
  return signal.read([paths[0]], [paths[1]], echo_times_s=(0.004, 0.008, 0.012))


@pytest.mark.parametrize('high_pass', swi_options.HIGH_PASSES)
@pytest.mark.parametrize('echo', [1, 2, 3])
def test_real_veins_are_positive_in_every_echo(crop, echo, high_pass):
  found = swi.reconstruct(
    crop.magnitude,
    crop.phase,
    crop.grid.spacing_mm,
    SwiOptions(echoes=(echo,), high_pass=high_pass, sigma_mm=2),
    echo_times_s=crop.echo_times_s,
  )
  assert found.polarity.certain
  assert found.polarity.sign == -1


@pytest.mark.parametrize('mode', swi_options.MODES)
def test_real_veins_get_darker_than_in_the_magnitude(crop, mode):
  found = swi.reconstruct(
    crop.magnitude,
    crop.phase,
    crop.grid.spacing_mm,
    SwiOptions(mode=mode),
    echo_times_s=crop.echo_times_s,
    field_t=7,
  )
  plain = swi.min_ip(found.magnitude, 1.0, thickness_mm=10)
  inner = (slice(8, -8), slice(8, -8), slice(4, -4))  # edges: no whole window
  relative = [a[inner] / np.median(a[inner]) for a in (found.min_ip, plain)]
  veins = relative[1] < np.percentile(relative[1], 5)
  tissue = relative[1] > np.percentile(relative[1], 40)
  assert np.median(relative[0][veins]) < 0.8 * np.median(relative[1][veins])
  assert np.median(relative[0][tissue]) > 0.9


def test_a_picture_of_the_real_scan_is_written(crop, tmp_path):
  found = swi.reconstruct(
    crop.magnitude,
    crop.phase,
    crop.grid.spacing_mm,
    echo_times_s=crop.echo_times_s,
    field_t=7,
  )
  panels = (found.magnitude, found.phase, found.swi, found.min_ip)
  figure, axes = plt.subplots(1, len(panels))
  for axis, panel in zip(axes, panels):
    axis.imshow(panel[:, :, 26].T, origin='lower', cmap='gray')
    axis.axis('off')
  figure.savefig(tmp_path / 'real.png')
  plt.close(figure)
  picture = plt.imread(tmp_path / 'real.png')
  assert picture.std() > 0.1
