"""Several echoes and coils to one image, at any echo spacing.

Rule: every weighted sum takes the echo times themselves; nothing assumes that
echoes are equally far apart.
"""

from collections.abc import Sequence

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging.phase import wrap

MAG_COMBINES = ('SNR', 'average', 'last', 'echo N', 'SE MS', 'closest MS')

# The echo time at which a linear mask reaches 0 at pi, times the field: 16 ms
# at 7 T, the single-echo protocol of the reference study.
_REFERENCE_T_S = 0.016 * 7.0


def combine_magnitude(
  magnitude: np.ndarray,
  how: str = 'SNR',
  *,
  echo_times_s: Sequence[float] | None = None,
) -> np.ndarray:
  """[X, Y, Z, E] to [X, Y, Z].

  Args:
    magnitude: all echoes.
    how: 'SNR' (root sum of squares), 'average', 'last', 'echo N' (from 1),
      'closest MS' (the echo nearest to a time in ms) or 'SE MS' (the signal a
      single echo would have had at a time in ms, see `at_time`).
    echo_times_s: E numbers, for the last two.

  Raises:
    InputError: no such way, echo or time.
  """
  name, value = parse_combination(how)
  if how == 'SNR':
    return root_sum_of_squares(magnitude)
  if how == 'average':
    return magnitude.mean(-1, dtype=np.float32)
  if how == 'last':
    return magnitude[..., -1]
  if name == 'echo':
    if value not in range(1, magnitude.shape[-1] + 1):
      raise InputError(
        f'mag-combine: found echo {value:g} of {magnitude.shape[-1]} echoes.'
      )
    return magnitude[..., int(value) - 1]
  if echo_times_s is None or len(echo_times_s) != magnitude.shape[-1]:
    raise InputError(f'mag-combine: {how} needs the time of every echo.')
  if name == 'closest':
    times = np.asarray(echo_times_s)
    return magnitude[..., int(np.abs(times - value / 1000).argmin())]
  return at_time(magnitude, echo_times_s, value / 1000)


def at_time(
  magnitude: np.ndarray, echo_times_s: Sequence[float], time_s: float
) -> np.ndarray:
  """Signal [X, Y, Z] between two echoes, by exponential decay.

  Exact for one T2* at any echo spacing: the geometric mean of the echoes on
  either side, weighted by how near they are.

  Args:
    magnitude: [E, X, Y, Z].
    echo_times_s: [E], rising.
    time_s: at or between two of them.

  Raises:
    InputError: the time lies outside of the echoes.
  """
  times = np.asarray(echo_times_s, np.float64)
  if not times[0] <= time_s <= times[-1]:
    raise InputError(
      f'mag-combine: found a time of {1000 * time_s:g} ms; the echoes used '
      f'reach from {1000 * times[0]:g} to {1000 * times[-1]:g} ms.'
    )
  last = int(np.clip(np.searchsorted(times, time_s), 1, len(times) - 1))
  part = (time_s - times[last - 1]) / (times[last] - times[last - 1])
  # Resampling pushes some air below 0, of which there is no root.
  before, after = (np.maximum(magnitude[..., e], 0) for e in (last - 1, last))
  return (before ** (1 - part) * after**part).astype(np.float32)


def parse_combination(how: str) -> tuple[str, float | None]:
  """'SE 16' to ('SE', 16.0), 'SNR' to ('SNR', None).

  Raises:
    InputError: not one of `MAG_COMBINES`.
  """
  if how in ('SNR', 'average', 'last'):
    return how, None
  name, _, rest = how.partition(' ')
  try:
    value = float(rest)
  except ValueError:
    value = 0.0
  if name not in ('echo', 'SE', 'closest') or not 0 < value < np.inf:
    raise InputError(
      f'mag-combine: found {how!r}; give one of {", ".join(MAG_COMBINES)}.'
    )
  return name, value


def root_sum_of_squares(magnitude: np.ndarray) -> np.ndarray:
  """Over the last axis, float32."""
  return np.sqrt(np.einsum('...c,...c->...', magnitude, magnitude))


def mask_threshold_rad(
  echo_time_s: float, *, longest_s: float, field_t: float | None
) -> float:
  """Phase at which the mask of one echo reaches 0.

  Short echoes mask at the same frequency offset as the reference echo, so
  their smaller phase counts as much; beyond the reference it is pi.

  Args:
    echo_time_s: of the echo.
    longest_s: the longest echo time of the scan.
    field_t: None where it is not known.
  """
  reference = _REFERENCE_T_S / (field_t or 7.0)
  return float(np.pi * min(1.0, echo_time_s / min(reference, longest_s)))


class MeanFrequency:
  """Adds echoes one by one to the phase that one echo would have shown.

  Each echo's phase is first unwrapped against the one before (times the ratio
  of echo times), then phi / TE is averaged with weights |S| TE.

  Source: Quinn et al. 2014 (AJNR 35:38), frequency-based combination.
  """

  def __init__(self):
    self._last = None
    self._total = self._weight = np.float32(0)
    self._times: list[float] = []

  def add(
    self, magnitude: np.ndarray, phase: np.ndarray, echo_time_s: float
  ) -> None:
    """One echo: arrays [X, Y, Z], high-passed phase in rad.

    Args:
      magnitude: [X, Y, Z].
      phase: [X, Y, Z] rad, high-passed.
      echo_time_s: of this echo.
    """
    time = np.float32(echo_time_s)
    if self._last is not None:
      # Phase grows with time, so predict it; plain differences would wrap
      # where the spacing is uneven.
      guess = self._last * (time / np.float32(self._times[-1]))
      phase = guess + wrap(phase - guess)
    self._last = phase
    self._times.append(echo_time_s)
    weight = magnitude * time
    self._total = self._total + weight * (phase / time)
    self._weight = self._weight + weight

  @property
  def mean_time_s(self) -> float:
    return float(np.mean(self._times))

  def phase(self) -> np.ndarray:
    """Mean frequency times mean echo time, rad."""
    safe = np.where(self._weight > 0, self._weight, 1)
    return self._total / safe * np.float32(self.mean_time_s)
