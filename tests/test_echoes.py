"""Tests of imaging/echoes.py: formulas at uneven echo spacing."""

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.imaging import echoes, phase
from tests.messages import says

TIMES_S = (0.0027, 0.0104, 0.0132, 0.0209)


@pytest.mark.parametrize(
  ('how', 'expected'), [('SNR', 5.0), ('average', 3.5), ('last', 4.0)]
)
def test_magnitudes(how, expected):
  signal = np.array([3, 4], np.float32).reshape(1, 1, 1, 2)
  assert echoes.combine_magnitude(signal, how)[0, 0, 0] == expected


@pytest.mark.parametrize(
  ('how', 'expected'),
  [('echo 1', 3.0), ('echo 2', 4.0), ('closest 11', 3.0), ('closest 18', 4.0)],
)
def test_magnitude_of_one_echo(how, expected):
  signal = np.array([3, 4], np.float32).reshape(1, 1, 1, 2)
  found = echoes.combine_magnitude(signal, how, echo_times_s=(0.01, 0.02))
  assert found[0, 0, 0] == expected


def test_air_below_zero_is_no_signal_at_any_time():
  signal = np.full((1, 1, 2, 2), 4, np.float32)
  signal[..., 1, :] = (-0.5, 2)  # a resampled magnitude
  found = echoes.at_time(signal, (0.01, 0.02), 0.015)
  assert found.tolist() == [[[4, 0]]]


@pytest.mark.parametrize('time_ms', [2.7, 5, 10.4, 12, 16, 20.9])
def test_simulated_single_echo_is_exact_for_one_decay(time_ms):
  rate = np.array([20.0, 40.0, 90.0]).reshape(3, 1, 1, 1)
  signal = 7 * np.exp(-rate * np.array(TIMES_S)).astype(np.float32)
  found = echoes.combine_magnitude(
    signal, f'SE {time_ms}', echo_times_s=TIMES_S
  )
  expected = 7 * np.exp(-rate[..., 0] * time_ms / 1000)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
  ('how', 'message'),
  [
    ('echo 3', ''),
    ('echo 1.5', '1.5'),
    ('echo', 'SNR'),
    ('SE -4', 'SNR'),
    ('SE nan', 'SNR'),
    ('SE 30', ''),
  ],
)
def test_impossible_combinations_are_refused(how, message):
  signal = np.ones((2, 2, 2, 2), np.float32)
  with says(InputError, message):
    echoes.combine_magnitude(signal, how, echo_times_s=(0.01, 0.02))
  if how == 'SE 30':
    with says(InputError):
      echoes.combine_magnitude(signal, how)


def test_unknown_combination_is_refused():
  with says(InputError, 'SNR'):
    echoes.combine_magnitude(np.ones((1, 1, 1, 2)), 'mean')


@pytest.mark.parametrize(
  ('echo', 'field', 'expected'),
  [
    (0.008, 7.0, np.pi / 2),
    (0.016, 7.0, np.pi),
    (0.0209, 7.0, np.pi),
    (0.008, None, np.pi / 2),
    (0.0104, 3.0, np.pi * 0.0104 / 0.0209),  # longest echo is the reference
  ],
)
def test_threshold_masks_at_one_frequency(echo, field, expected):
  found = echoes.mask_threshold_rad(echo, longest_s=0.0209, field_t=field)
  assert found == pytest.approx(expected)


def test_mean_frequency_of_wrapping_echoes():
  hz = np.array([-45.0, -30.0, 5.0, 20.0], np.float32).reshape(4, 1, 1)
  mean = echoes.MeanFrequency()
  for time in TIMES_S[1:]:
    angle = phase.wrap((2 * np.pi * time * hz).astype(np.float32))
    mean.add(np.exp(-time / 0.03) * np.ones_like(hz), angle, time)
  assert mean.mean_time_s == pytest.approx(np.mean(TIMES_S[1:]))
  np.testing.assert_allclose(
    mean.phase() / (2 * np.pi * mean.mean_time_s), hz, rtol=1e-4
  )


def test_mean_frequency_where_there_is_no_signal_is_zero():
  mean = echoes.MeanFrequency()
  mean.add(np.zeros((1, 1, 1)), np.ones((1, 1, 1)), 0.01)
  assert mean.phase() == 0


def test_mean_frequency_predicts_the_phase_of_a_late_echo():
  times = (0.006, 0.009, 0.030)  # 45 Hz turn by 0.95 between the last two
  hz = np.array([-45.0, 20.0, 45.0], np.float32).reshape(3, 1, 1)
  mean = echoes.MeanFrequency()
  for time in times:
    angle = phase.wrap((2 * np.pi * time * hz).astype(np.float32))
    mean.add(np.ones_like(hz), angle, time)
  found = mean.phase() / (2 * np.pi * mean.mean_time_s)
  np.testing.assert_allclose(found, hz, rtol=1e-4)
