"""A magnitude and a phase to whether they show one head at one place.

Rule: what is certainly no phase is refused; a phase that fits better when it
is turned round is said, with the way in which it fits.
"""

import itertools

import numpy as np

from cmbjax.errors import InputError

_BRIGHT = 70  # percentile: in brighter voxels a phase is no magnitude
_COPY = 0.9  # correlation there; of 12 simulated pairs none had 0.3
_FEWEST = 500
_SLICES = 12
_BLOCK = 5  # voxels, over which neighbours of a phase agree, or do not
# Between how well a phase fits, and how well turned round: simulated pairs
# have -0.03 and less, and those that are turned 0.03 and more.
_BETTER = 0.02
_LEAST = 0.3
_WAYS = ('left to right', 'back to front', 'bottom to top')


def check_is_phase(path, partner, magnitude, phase) -> None:
  """Refuses a second magnitude.

  Args:
    path: of the phase, for messages.
    partner: of the magnitude.
    magnitude: any shape.
    phase: the same shape, as it is in its file.

  Raises:
    InputError: it is the same picture.
  """
  if magnitude.shape != phase.shape:
    return
  step = max(1, magnitude.size // 500_000) | 1
  one, other = (np.ravel(a, 'K')[::step] for a in (magnitude, phase))
  if magnitude.strides != phase.strides:
    one, other = (np.ravel(a)[::step] for a in (magnitude, phase))
  bright = one > np.percentile(one, _BRIGHT)
  if bright.sum() < _FEWEST:
    return
  alike = _correlation(one[bright], other[bright])
  if alike > _COPY:
    raise InputError(
      f'{path}: shows the same as its magnitude {partner} (correlation '
      f'{alike:.2f}), so it is no phase; give the phase image of this scan.'
    )


def turned(magnitude: np.ndarray, phase: np.ndarray) -> str:
  """What is said of a phase that lies the other way round; '' of others.

  Where there is signal, a phase is smooth; where there is none, it is noise,
  or painted. So how smooth it is has the shape of the head.

  Args:
    magnitude: [X, Y, Z], in RAS order.
    phase: [X, Y, Z] rad.
  """
  if min(magnitude.shape[:2]) < 8 * _BLOCK or magnitude.shape[2] < 2:
    return ''
  half = np.linspace(0, (magnitude.shape[2] - 1) // 2, _SLICES // 2)
  low = np.unique(half.astype(int))
  slices = np.unique([*low, *(magnitude.shape[2] - 1 - low)])
  bright = np.asarray(magnitude[:, :, slices], np.float32)
  bright = bright / max(float(np.percentile(bright, 90)), 1e-20)
  bright = np.log1p(20 * _blocks(np.maximum(bright, 0)))
  smooth = _smoothness(np.asarray(phase[:, :, slices], np.float32))
  fits = {
    axes: abs(_correlation(bright, np.flip(smooth, axes)))
    for count in range(4)
    for axes in itertools.combinations(range(3), count)
  }
  best = max(fits, key=fits.get)
  if fits[best] < max(_LEAST, fits[()] + _BETTER):
    return ''
  ways = ' and '.join(_WAYS[axis] for axis in best)
  return (
    f'the phase fits its magnitude better when it is turned round from {ways} '
    f'({fits[best]:.2f} against {fits[()]:.2f}), so one of the two files is '
    'probably the wrong way round, and the SWI made from them is wrong; '
    'convert both again in one way'
  )


def _smoothness(phase):
  """How much neighbours agree, 0 to 1, in blocks [X', Y', Z]."""
  turns = np.exp(1j * phase).astype(np.complex64)
  total = 0
  for axis in (0, 1):
    steps = turns * np.conj(np.roll(turns, 1, axis))
    total = total + np.abs(_blocks(steps))
  return total / 2


def _blocks(array):
  """Means of blocks in plane, as many on either side of the middle."""
  for axis in (0, 1):
    size = array.shape[axis]
    count, rest = divmod(size, _BLOCK)
    kept = np.take(array, range(rest // 2, rest // 2 + count * _BLOCK), axis)
    parts = list(kept.shape)
    parts[axis : axis + 1] = [count, _BLOCK]
    array = kept.reshape(parts).mean(axis + 1)
  return array


def _correlation(one, other) -> float:
  one, other = (np.ravel(a).astype(np.float64) for a in (one, other))
  one, other = one - one.mean(), other - other.mean()
  scale = np.sqrt((one**2).sum() * (other**2).sum())
  return float((one * other).sum() / scale) if scale > 0 else 0.0
