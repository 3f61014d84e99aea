"""Phase as a file holds it to radians.

Rule: what the scanner says goes before what the voxels show, and of these the
many before the few: no single voxel, no padding and no range that is only
partly filled decides the scale.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import slabs

_TURN = 2 * np.pi
_NEAR_RAD = 0.1
_WIDEST_RAD = 300.0  # no unwrapped phase reaches this
_PLAIN_RAD = 7.0  # above it numbers without a unit are not wrapped radians
_UNWRAPPED_RAD = 60.0
_WIDEST_DEGREES = 400.0
_MOST_TURNS = 1.5  # that a wrapped phase may seem to have, by its unit
_SAMPLE = 1_000_000  # voxels
_PADDING = 0.02  # part of an image that one extreme value has to fill
_OUTLIERS = 0.01  # percent
_TAIL = 0.1  # percent at either end that may be anything
_SAME_END = 0.01  # of the range: the extremes go no farther than the many
_FULL_RANGE_PART = 0.02
_BINS = 50
_FILLED = 0.15  # of what a bin holds on average
_LEAST_WRAPS = 20
_SLICES = 16

_ADVICE = 'put "Units": "rad" in its JSON file if it is in radians'


class PhaseUnit(NamedTuple):
  """rad = (stored - centre) * pi / half."""

  name: str
  centre: float
  half: float
  note: str = ''  # what has to be said; '' where it is in radians
  certain: bool = True

  @property
  def factor(self) -> float:
    """Radians per unit."""
    return np.pi / self.half

  @property
  def shift(self) -> float:
    """Radians that a stored 0 means."""
    return -self.centre * np.pi / self.half


class _Range(NamedTuple):
  """What scanners write for one turn."""

  low: float
  high: float
  centre: float
  half: float


_RAD = PhaseUnit('rad', 0.0, np.pi)
_TWELVE_BITS = _Range(0, 4095, 2048, 2048)
_SIEMENS = _Range(-4096, 4094, 0, 4096)  # with its slope of 2
_MILLIRADIANS = _Range(-3142, 3142, 0, 1000 * np.pi)  # Philips, GE
_SIGNED = (
  _Range(-2048, 2047, 0, 2048),
  _MILLIRADIANS,
  _SIEMENS,
  _Range(-32768, 32767, 0, 32768),
)
_UNSIGNED = (
  _Range(0, 255, 128, 128),
  _Range(0, 1023, 512, 512),
  _TWELVE_BITS,
  _Range(0, 65535, 32768, 32768),
)
_DEGREES = _Range(-180, 180, 0, 180)
_FULL_RANGES = (
  *_SIGNED,
  *_UNSIGNED,
  _DEGREES,
  _Range(0, 360, 180, 180),
  _Range(0, 6283, 1000 * np.pi, 1000 * np.pi),
)
_UNIT_RANGES = (  # a filtered phase in radians may end there by chance
  _Range(-1, 1, 0, 1),
  _Range(0, 1, 0.5, 0.5),
)
_DECLARED = {
  'rad': _RAD,
  'radian': _RAD,
  'radians': _RAD,
  'deg': PhaseUnit('degrees', 0, 180),
  'degree': PhaseUnit('degrees', 0, 180),
  'degrees': PhaseUnit('degrees', 0, 180),
  'mrad': PhaseUnit('milliradians', 0, 1000 * np.pi),
  'milliradian': PhaseUnit('milliradians', 0, 1000 * np.pi),
  'milliradians': PhaseUnit('milliradians', 0, 1000 * np.pi),
}
_NO_PHASE = ('hz', 'hertz', 'ppm', 'ppb', 't', 'ut', 'tesla', 'rad/s')


def to_radians(
  scaled: np.ndarray,
  *,
  unscaled: np.ndarray | None = None,
  fields: Mapping[str, Any] | None = None,
) -> tuple[np.ndarray, str]:
  """Phase as a file holds it to radians, and what was done, in words.

  Args:
    scaled: phase after the header's scale factor, any shape.
    unscaled: before it; None: the same.
    fields: of its JSON file: Units and Manufacturer count.

  Returns:
    (float32 phase, note); the note is '' when nothing had to be done.

  Raises:
    InputError: the phase is constant, or a field map.

  Source of the order of rules: MriResearchTools.jl (Eckstein et al.); the
  many instead of the extremes are ours.
  """
  if is_turn(scaled):
    return np.asarray(scaled, np.float32), ''
  unit = unit_of(scaled, fields)
  if unscaled is not None and unit.note:
    raw = _Seen.of(unscaled)
    if _is_turn(raw.low, raw.high):
      return np.asarray(unscaled, np.float32), (
        'the scale factor in the phase header is wrong and was ignored'
      )
    full = None if unit.certain else _full_range(raw, unscaled)
    if full:
      scaled, unit = unscaled, _of_range(full)
  return _applied(scaled, unit)


def unit_of(
  image: np.ndarray, fields: Mapping[str, Any] | None = None
) -> PhaseUnit:
  """The unit of a phase image.

  Args:
    image: any shape, after the header's scale factor.
    fields: of its JSON file.

  Raises:
    InputError: the phase is constant, or its unit is that of a field map.
  """
  fields, seen = fields or {}, _Seen.of(image)
  declared = str(fields.get('Units') or '').strip().lower()
  if declared in _NO_PHASE:
    raise InputError(
      f'phase: its JSON file says "Units": "{fields["Units"]}", which is a '
      'field map; give the phase image of this scan.'
    )
  if _is_turn(seen.low, seen.high):
    return _RAD
  if declared in _DECLARED:
    unit = _DECLARED[declared]
    other = _contradicts(seen, image, unit)
    if other:
      return _of_range(other)._replace(
        note=f'phase has the range {other.low:g}..{other.high:g} of one turn '
        f'and was rescaled from it; its JSON file says "Units": '
        f'"{fields["Units"]}", which is wrong'
      )
    if seen.widest * unit.factor < _WIDEST_RAD:
      return unit._replace(note=_said(unit))
  full = _full_range(seen, image)
  if full:
    return _of_range(full)
  return _by_maker(seen, str(fields.get('Manufacturer') or '').lower()) or (
    _guess(seen, image)
  )


def _contradicts(seen, image, unit) -> _Range | None:
  """The range that a wrapped image fills, where its declared unit would make
  many turns of it: no unwrapped phase ends there and jumps by all of it."""
  if seen.high - seen.low < _MOST_TURNS * 2 * unit.half:
    return None
  full = _full_range(seen, image)
  return full if full and _is_wrapped(seen, image) else None


def is_turn(image: np.ndarray) -> bool:
  """Whether the smallest and the largest voxel are a turn in radians apart."""
  return _is_turn(float(image.min()), float(image.max()))


class _Seen(NamedTuple):
  """The many voxels of an image."""

  values: np.ndarray  # a sample without padding
  low: float
  high: float
  core: tuple[float, float]  # without the tails
  padding: tuple[float, ...]  # values that were left out

  @property
  def widest(self) -> float:
    return max(-self.low, self.high)

  @property
  def is_whole(self) -> bool:
    return bool((self.values == np.rint(self.values)).all())

  @classmethod
  def of(cls, image: np.ndarray) -> '_Seen':
    values = np.ravel(image, order='K')
    values = values[:: max(values.size // _SAMPLE, 1) | 1].astype(np.float64)
    ends = float(values.min()), float(values.max())
    if ends[0] == ends[1]:
      raise InputError(
        f'phase: every voxel is {ends[0]:g}; give the phase image of this scan.'
      )
    padding = ()
    for value in (*ends, 0.0):
      rest = values[values != value]
      is_padding = len(rest) < (1 - _PADDING) * len(values)
      if is_padding and len(rest) and np.ptp(rest) > 0:
        values, padding = rest, (*padding, value)
    low, high = core = tuple(np.percentile(values, (_TAIL, 100 - _TAIL)))
    ends = float(values.min()), float(values.max())
    near = _SAME_END * (high - low)
    if ends[0] >= low - near or low == high:
      low = ends[0]
    if ends[1] <= high + near or low == high:
      high = ends[1]
    return cls(values, float(low), float(high), core, padding)

  def is_filled(self) -> bool:
    """Whether there are as many voxels at both ends as between: wrapped."""
    counts, _ = np.histogram(self.values, _BINS, (self.low, self.high))
    return min(counts[0], counts[-1]) >= _FILLED * counts.mean()


def _by_maker(seen, maker) -> PhaseUnit | None:
  """A range that is only partly filled, where the scanner is known."""
  if not seen.is_whole and seen.widest <= _PLAIN_RAD:
    return None
  near = 1 + _FULL_RANGE_PART
  is_signed = seen.low < 0
  found = None
  if 'siemens' in maker:
    found = _SIEMENS if is_signed else _TWELVE_BITS
  elif 'philips' in maker:
    found = _MILLIRADIANS if is_signed else _TWELVE_BITS
  elif maker.startswith('ge') and is_signed:
    found = _MILLIRADIANS
  if found is None or seen.widest > found.high * near:
    return None
  return _of_range(found)


def _guess(seen, image) -> PhaseUnit:
  """Nothing is declared, and no range that is known is filled."""
  shown = f'{seen.low:.4g}..{seen.high:.4g}'
  if _is_wrapped(seen, image):
    half = (seen.high - seen.low) / 2
    return PhaseUnit(
      'unknown',
      seen.low + half,
      half,
      f'phase has an unknown unit; its range {seen.low:g}..{seen.high:g} was '
      f'taken for -pi..pi; {_ADVICE}',
      certain=False,
    )
  if not seen.is_whole and seen.widest <= _UNWRAPPED_RAD:
    return _RAD._replace(
      note=f'phase has no unit; its range {shown} was taken for radians',
      certain=seen.widest <= np.pi * 1.01,
    )
  found = _smallest_that_holds(seen)
  return _of_range(found)._replace(
    note=f'phase has no unit and its range {shown} no known limits; it was '
    f'taken for a part of {found.low:g}..{found.high:g} (-pi..pi); convert it '
    'to radians and put "Units": "rad" in its JSON file if that is wrong',
    certain=False,
  )


def _smallest_that_holds(seen) -> _Range:
  ranges = _SIGNED if seen.low < 0 else _UNSIGNED
  if not seen.is_whole and seen.widest <= _WIDEST_DEGREES:
    return _DEGREES
  if seen.is_whole and seen.low < 0 and not (seen.values % 2).any():
    ranges = (_SIEMENS, _SIGNED[-1])  # its slope of 2 makes even numbers
  low, high = np.percentile(seen.values, (_OUTLIERS, 100 - _OUTLIERS))
  fitting = [r for r in ranges if r.low <= low and high <= r.high]
  widest = max(abs(low), abs(high))
  return fitting[0] if fitting else _Range(-widest, widest, 0, widest)


def _is_wrapped(seen, image) -> bool:
  """Whether the range is one turn, whatever its unit: neighbours are often
  nearly the whole of it apart; seldom half of it, but for noise, which is at
  the ends as often as between."""
  if image.ndim > 2:
    start = max(image.shape[2] // 2 - _SLICES // 2, 0)
    image = image[:, :, start : start + _SLICES]
  inside = ~np.isin(image, seen.padding)
  image = np.where(inside, image, np.nan).astype(np.float32)
  image /= np.float32(seen.high - seen.low)
  far = half = 0
  for axis in range(min(image.ndim, 2)):
    step = np.abs(np.diff(image, axis=axis))
    far += int(((step > 0.8) & (step < 1.05)).sum())
    half += int(((step > 0.4) & (step < 0.6)).sum())
  return far >= _LEAST_WRAPS and (far > half or seen.is_filled())


def _applied(image, unit) -> tuple[np.ndarray, str]:
  """The phase in radians, 0 where the file has padding or an outlier."""
  if unit.name == 'rad':
    return np.asarray(image, np.float32), unit.note
  result = np.empty_like(image, np.float32)
  note, count = unit.note, 0
  may_be_more = unit.name in ('degrees', 'milliradians')  # unwrapped
  limited = not may_be_more and (unit.certain or unit.name == 'unknown')
  for rows in slabs.of(image.shape[-1]):
    array = np.subtract(image[..., rows], unit.centre, dtype=np.float64)
    array *= unit.factor
    if limited:
      outside = np.abs(array) > np.pi * (1 + 2 * _FULL_RANGE_PART)
      count += int(outside.sum())
      array[outside] = 0
    result[..., rows] = array
  if count:
    what = '1 voxel beyond it was' if count == 1 else (
      f'{count:,} voxels beyond it were'
    )  # fmt: skip
    note += f'; {what} taken for 0'
  return result, note


def _of_range(found) -> PhaseUnit:
  name = f'{found.low:g}..{found.high:g}'
  note = f'phase {name} was rescaled to -pi..pi'
  return PhaseUnit(name, found.centre, found.half, note)


def _said(unit) -> str:
  return '' if unit.name == 'rad' else f'phase in {unit.name} was rescaled'


def _full_range(seen, image) -> _Range | None:
  for found in _FULL_RANGES:
    if _ends_at(seen, found):
      return found
  for found in _UNIT_RANGES:
    if _ends_at(seen, found) and _is_wrapped(seen, image):
      return found
  return None


def _ends_at(seen, found) -> bool:
  near = _FULL_RANGE_PART * (found.high - found.low)
  return any(
    abs(low - found.low) <= near and abs(high - found.high) <= near
    for low, high in ((seen.low, seen.high), seen.core)
  )


def _is_turn(low, high) -> bool:
  return abs(high - low - _TURN) <= _NEAR_RAD
