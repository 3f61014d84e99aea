"""Tests of imaging/phase.py: filters against formulas and invariances."""

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.imaging import phase, swi_options
from tests import heads
from tests.messages import says

SPACING = heads.SPACING_MM


@pytest.fixture(scope='module')
def head():
  return heads.draw()


def _coordinates(shape):
  return np.meshgrid(
    *[np.arange(n, dtype=np.float32) - n // 2 for n in shape],
    indexing='ij',
    sparse=True,
  )


def _signal(head):
  return head.magnitude * np.exp(1j * head.phase)


@pytest.mark.parametrize('size', [96, 160])
def test_window_is_a_hann_in_mm_whatever_the_field_of_view(size):
  # The response to one wave is the window at its frequency: half at half of
  # 0.375 / sigma, nothing beyond.
  sigma, spacing = 3.0, 1.25
  x = np.arange(size) * spacing
  for cycles, expected in ((0.5, 0.5), (0.8, 0.5 + 0.5 * np.cos(0.8 * np.pi))):
    count = round(cycles * 0.375 / sigma * size * spacing)
    frequency = count / (size * spacing)
    relative = frequency * sigma / 0.375
    window = 0.5 + 0.5 * np.cos(np.pi * relative)
    assert window == pytest.approx(expected, abs=0.1)
    small = 0.01
    wave = small * np.cos(2 * np.pi * frequency * x)
    signal = np.exp(1j * wave)[:, None, None] * np.ones((1, size, 2))
    found = phase.homodyne(
      signal.astype(np.complex64), (spacing,) * 3, sigma_mm=sigma
    )
    # What the low-pass leaves out remains. Mirroring disturbs the edges only.
    middle = slice(size // 3, 2 * size // 3)
    gain = np.ptp(found[middle, size // 2, 0]) / np.ptp(wave[middle])
    assert gain == pytest.approx(1 - window, abs=0.02)


def test_homodyne_ignores_linear_and_quadratic_background(head):
  x, y, z = _coordinates(head.phase.shape)
  background = (
    0.3 * x
    - 0.2 * y
    + 0.4 * z
    + 0.004 * x**2
    - 0.003 * y**2
    + 0.01 * z**2
    + 0.002 * x * y
    + 0.003 * x * z
  )
  plain = phase.homodyne(_signal(head), SPACING, sigma_mm=3)
  moved = phase.homodyne(
    _signal(head) * np.exp(1j * background), SPACING, sigma_mm=3
  )
  change = np.abs(phase.wrap(moved - plain))
  assert change[head.brain].max() < 0.01  # rad
  assert np.median(plain[head.veins]) < -0.4  # and the veins are still there


def test_homodyne_ignores_a_constant_phase_of_each_slice(head):
  turn = np.exp(1j * np.arange(head.phase.shape[2]) * 2.0)
  plain = phase.homodyne(_signal(head), SPACING, sigma_mm=3)
  moved = phase.homodyne(_signal(head) * turn, SPACING, sigma_mm=3)
  assert np.abs(phase.wrap(moved - plain))[head.brain].max() < 1e-3


def test_homodyne_of_a_turned_phase_is_turned(head):
  plain = phase.homodyne(_signal(head), SPACING, sigma_mm=3)
  turned = phase.homodyne(np.conj(_signal(head)), SPACING, sigma_mm=3)
  change = np.abs(phase.wrap(turned + plain))
  assert change[head.brain].max() < 1e-3


def test_wider_filter_keeps_more_of_a_large_object():
  x, y, _ = _coordinates((128, 128, 2))
  disc = np.broadcast_to(np.where(x**2 + y**2 < 6**2, -1.0, 0), (128, 128, 2))
  centre = [
    phase.homodyne(np.exp(1j * disc), (1, 1, 1), sigma_mm=sigma)[64, 64, 0]
    for sigma in (2, 4, 8)
  ]
  assert 0.1 > centre[0] > centre[1] > centre[2] > -1.05


def test_homodyne_refuses_a_window_as_wide_as_the_matrix(head):
  with says(InputError, '0.75'):
    phase.homodyne(_signal(head), SPACING, sigma_mm=0.7)


@pytest.mark.parametrize('kind', swi_options.HIGH_PASSES)
def test_every_high_pass_shows_veins_and_removes_background(head, kind):
  x, y, z = _coordinates(head.phase.shape)
  smooth = 0.1 * x + 0.02 * y + 0.2 * z + 0.002 * (x**2 - y**2)
  wrapped = phase.wrap((head.phase + smooth).astype(np.float32))
  local = phase.high_pass(
    head.magnitude,
    wrapped,
    SPACING,
    kind=kind,
    sigma_mm=3,
    mask=head.brain,
  )
  assert local.dtype == np.float32
  rest = head.brain & ~head.veins
  assert np.median(local[head.veins]) < -0.4
  assert abs(np.median(local[rest])) < 0.1


def test_unknown_high_pass_is_refused(head):
  with says(InputError):
    phase.high_pass(
      head.magnitude, head.phase, SPACING, kind='romeo', sigma_mm=3
    )


@pytest.mark.parametrize('boundary', phase.BOUNDARIES)
def test_unwrapping_finds_a_smooth_phase_again(boundary):
  x, y, z = _coordinates((40, 48, 16))
  if boundary == 'mirror':
    truth = 0.5 * x + 0.02 * y**2 + 0.1 * z + 0.01 * x * y
  else:
    truth = 8 * np.cos(2 * np.pi * x / 40) * np.sin(2 * np.pi * y / 48) + 0 * z
  assert np.ptp(truth) > 4 * np.pi
  found = phase.laplacian_unwrap(
    phase.wrap(truth.astype(np.float32)), (1, 1, 2.5), boundary=boundary
  )
  np.testing.assert_allclose(
    found - found.mean(), truth - truth.mean(), atol=2e-3
  )


def test_slices_can_be_unwrapped_alone(head):
  turn = np.arange(head.phase.shape[2], dtype=np.float32) ** 2
  whole, part = (
    phase.high_pass(
      head.magnitude[..., z],
      phase.wrap(head.phase + turn)[..., z],
      SPACING,
      kind='laplacianslice',
      sigma_mm=3,
      mask=head.brain[..., z],
    )
    for z in (slice(None), slice(9, 10))
  )
  # Slices may differ by any constant; their neighbours change nothing.
  np.testing.assert_allclose(whole[..., 9:10], part, atol=2e-3)


def test_low_pass_is_a_sum_over_mirrored_waves():
  # Against the cosine transform as an explicit matrix, with an odd size.
  sizes, spacing, sigma = (14, 11), (1.5, 1.0), 2.5
  image = np.random.default_rng(0).random((3, *sizes)).astype(np.float32)
  found = phase._low_pass(image, (spacing[1], spacing[0], 2.0), sigma)
  smooth = []
  for size, step in zip(sizes, spacing):
    wave = np.arange(size)
    basis = np.cos(np.pi * (wave[:, None] + 0.5) * wave / size)
    basis /= np.sqrt((basis**2).sum(0))
    relative = np.minimum(wave / (2 * size * step) * sigma / 0.375, 1)
    smooth.append(basis * (0.5 + 0.5 * np.cos(np.pi * relative)) @ basis.T)
  expected = np.einsum('zyx,ya,xb->zab', image, *smooth)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_unknown_boundary_is_refused():
  with says(InputError):
    phase.laplacian_unwrap(np.zeros((4, 4, 4)), (1, 1, 1), boundary='zero')


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    (0.0, 0.0),
    (3.5, 3.5 - 2 * np.pi),
    (-4.0, 2 * np.pi - 4),
    (13.0, 13 - 4 * np.pi),
  ],
)
def test_wrap(given, expected):
  assert phase.wrap(np.float32(given)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
  ('field_t', 'sigma'),
  [(None, 3.0), (1.5, 3.8), (2.89, 3.0), (3.0, 3.0), (7.0, 1.9), (9.4, 1.9)],
)
def test_default_width_by_field(field_t, sigma):
  assert phase.default_sigma_mm(field_t) == sigma


def test_slices_are_independent(head):
  whole = phase.homodyne(_signal(head), SPACING, sigma_mm=3)
  part = phase.homodyne(_signal(head)[..., 9:14], SPACING, sigma_mm=3)
  change = np.abs(phase.wrap(part - whole[..., 9:14]))
  assert change[head.brain[..., 9:14]].max() < 1e-4


@pytest.mark.parametrize('kind', swi_options.HIGH_PASSES)
def test_x_and_y_have_their_own_voxel_sizes(head, kind):
  def local(turn, spacing_mm):
    arrays = (turn(a) for a in (head.magnitude, head.phase, head.brain))
    magnitude, angle, mask = arrays
    return turn(
      phase.high_pass(
        magnitude, angle, spacing_mm, kind=kind, sigma_mm=4, mask=mask
      )
    )

  along, across = (
    local(lambda a: a, (0.6, 1.8, 2.0)),
    local(lambda a: np.swapaxes(a, 0, 1), (1.8, 0.6, 2.0)),
  )
  away = np.abs(phase.wrap(along - across))[head.brain]
  assert np.quantile(away, 0.99) < 0.02


def test_unwrapping_is_the_least_squares_fit_of_weighted_steps():
  shape, spacing = (4, 3, 3), np.array((0.5, 1.0, 2.0))
  wrapped = np.random.default_rng(4).uniform(-3, 3, shape)
  number = np.arange(wrapped.size).reshape(shape)
  rows, steps = [], []
  for axis in range(3):  # a step counts by one over its squared length
    first = np.delete(number, -1, axis).ravel()
    last = np.delete(number, 0, axis).ravel()
    row = np.zeros((len(first), wrapped.size))
    row[range(len(first)), last], row[range(len(first)), first] = 1, -1
    step = phase.wrap(wrapped.ravel()[last] - wrapped.ravel()[first])
    rows.append(row / spacing[axis])
    steps.append(step / spacing[axis])
  expected, *_ = np.linalg.lstsq(
    np.concatenate(rows), np.concatenate(steps), rcond=None
  )
  found = phase.laplacian_unwrap(wrapped, tuple(spacing)).ravel()
  np.testing.assert_allclose(
    found - found.mean(), expected - expected.mean(), atol=1e-4
  )


def test_smoothing_is_as_wide_in_mm_along_x_as_along_y():
  slab = np.zeros((1, 61, 61), np.float32)
  slab[0, 30, 30] = 1
  found = phase._smooth(slab, (0.5, 2.0, 3.0), 3.0)[0]  # Y X
  y, x = ((np.arange(61) - 30) * side for side in (2.0, 0.5))
  wide = [found.sum(1) @ y**2, found.sum(0) @ x**2] / found.sum()
  np.testing.assert_allclose(wide**0.5, 3, rtol=0.03)
