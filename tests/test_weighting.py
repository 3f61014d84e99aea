"""Tests of imaging/weighting.py: echo by echo is the same as all at once."""

import tracemalloc
import weakref

import numpy as np
import pytest

from cmbjax.imaging import phase, swi, weighting
from cmbjax.imaging.swi_options import SwiOptions
from tests import heads

TIMES_S = (0.005, 0.0104, 0.0132, 0.0209)
SPACING = heads.SPACING_MM


@pytest.fixture(scope='module')
def head():
  return heads.draw()


class Counted:
  """Echoes that are made when asked for; knows which are still in memory."""

  def __init__(self, head, count=4, sign=1):
    self.shape = (*head.phase.shape, count, 1)
    self._head, self._sign, self.alive, self.most = head, sign, {}, 0

  def magnitude(self, number):
    return self._kept(
      number, self._head.magnitude * np.float32(0.9**number), 'magnitude'
    )

  def phase(self, number):
    grown = self._sign * self._head.phase * TIMES_S[number % 4] / TIMES_S[-1]
    return self._kept(number, phase.wrap(grown), 'phase')

  def _kept(self, number, array, name):
    self.alive = {k: ref for k, ref in self.alive.items() if ref() is not None}
    array = np.asarray(array, np.float32)
    self.alive[number, name] = weakref.ref(array)
    self.most = max(self.most, len({one for one, _ in self.alive}))
    return array[..., None]


def _whole(echoes):
  """All echoes of a `Counted`, [X, Y, Z, E]."""
  numbers = range(echoes.shape[3])
  return [
    np.stack([read(n)[..., 0] for n in numbers], -1)
    for read in (echoes.magnitude, echoes.phase)
  ]


@pytest.mark.parametrize('sign', [1, -1])
@pytest.mark.parametrize(
  'options',
  [
    SwiOptions(),
    SwiOptions(mask_kind='tanh'),
    SwiOptions(mask_range='robust'),
    SwiOptions(phase_sign=-1),
    SwiOptions(mode='freq', mag_combine='SNR'),
  ],
)
def test_what_is_not_wanted_changes_nothing(head, options, sign):
  echoes = Counted(head, sign=sign)
  known = {'echo_times_s': TIMES_S, 'field_t': 7.0}
  lean = swi.from_echoes(echoes, SPACING, options, beside=(), **known)
  rich = swi.reconstruct(*_whole(echoes), SPACING, options, **known)
  np.testing.assert_array_equal(lean.swi, rich.swi)
  np.testing.assert_array_equal(lean.mask, rich.mask)
  assert lean.polarity == rich.polarity
  assert lean.min_ip is None
  assert lean.tof is None
  assert rich.min_ip is not None
  assert rich.tof is not None


def test_several_echoes_are_the_mean_of_each_alone(head):
  """An independent sum: each echo weighted alone, by the sign of all."""
  echoes = Counted(head, sign=-1)
  found = swi.from_echoes(echoes, SPACING, echo_times_s=TIMES_S, field_t=7.0)
  assert found.polarity.sign == -1
  total = np.zeros(head.phase.shape)
  for n in (1, 2, 3):
    one = phase.high_pass(
      echoes.magnitude(n)[..., 0], echoes.phase(n)[..., 0], SPACING,
      sigma_mm=found.sigma_mm,
    )  # fmt: skip
    limit = np.pi * min(1, TIMES_S[n] / 0.016)
    weight = np.clip(1 - one / limit, 0, 1) ** 4
    total += weight * echoes.magnitude(n)[..., 0] / 3
  np.testing.assert_allclose(found.swi, total, rtol=2e-4, atol=1e-4)


def test_one_echo_at_a_time_is_in_memory(head):
  echoes = Counted(head)
  swi.from_echoes(echoes, SPACING, echo_times_s=TIMES_S, beside=())
  assert echoes.most == 1


def test_more_echoes_take_no_more_memory(head):
  peaks = []
  for count in (3, 9):
    echoes = Counted(head, count)
    times = 0.005 + 0.002 * np.arange(count)
    tracemalloc.start()
    swi.from_echoes(echoes, SPACING, echo_times_s=list(times), beside=())
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert peaks[1] - peaks[0] < 0.5 * head.phase.nbytes


def test_whole_numbers_are_used_in_single_precision(head):
  whole = np.rint(head.magnitude / head.magnitude.max() * 4000)
  first, second = (
    swi.reconstruct(whole.astype(dtype), head.phase, SPACING)
    for dtype in (np.int16, np.float32)
  )
  for name in ('swi', 'magnitude', 'phase', 'min_ip'):
    one, other = getattr(first, name), getattr(second, name)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, other)


def test_arrays_of_a_person_are_not_changed(head):
  before = head.magnitude.copy(), head.phase.copy()
  given = weighting.Given(
    head.magnitude[..., None, None], head.phase[..., None, None]
  )
  swi.from_echoes(given, SPACING, beside=())
  np.testing.assert_array_equal(head.magnitude, before[0])
  np.testing.assert_array_equal(head.phase, before[1])
