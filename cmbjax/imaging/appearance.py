"""An image to what it shows, asked of its voxels, and made right where sure.

Rule: only what is certain changes or refuses an image. What is doubtful is a
sentence that names the sign of it, because a good scan that is refused is as
bad as a wrong result.
"""

from typing import NamedTuple

import numpy as np

INTENSITY = 'intensity'  # of an SWI or magnitude: air dark, nothing below 0
PHASE = 'phase'
LABELS = 'labels'
PROJECTION = 'projection'  # through several slices, each slice one of them
OVERFLOWED = 'overflowed'  # whole numbers that passed the end of their type
SHIFTED = 'shifted'  # z-scored, or scaled so that air is below 0
INVERTED = 'inverted'  # dark is bright

_PLACES = 8  # pairs of neighbouring slices that are looked at
_FRAME = 0.05  # of each side: air, in an image of a whole head
_BLANK = 0.5  # of the frame has one value: air that a program painted
_FEW_VOXELS = 1000  # of which nothing can be said
_MOST_LABELS = 256
_FLAT = 0.8  # of neighbours are equal inside of labels; 0.1 in 8-bit images
_EQUAL_SLICES = 0.15  # of voxels equal the next slice's: a running minimum
_REPEATED = 0.95
_NOISE = 0.15  # of the range; even noise over a turn has 0.29, an SWI 0.04
_TURN = 0.85  # of the range between neighbours
_TURNS = 0.0002  # of neighbours; of 20 simulated SWIs none had 0.00002
_EVEN = 0.05  # of the range, by which the two ends differ from one another
_NEAR_PI = 2.9
_DEPTH = 0.04  # of the range; interpolation reaches less below 0
_AIR = 0.35  # of the range, from air to the darkest voxels; magnitudes: 0.2
_DARK_AIR = 0.2  # of the range: air of an image is not above it
_STEPS = {1: 256, 2: 65536}  # bytes of a signed number: its whole range
_FULL = 0.85  # of the type is used: what is above would not fit
_APART = 1.3  # times as far as they would be if put back; a phase has 1.0
_SHALLOW = 0.08  # of the whole range: these would be the very brightest,
_SELDOM = 0.03  # and in a phase are 0.05
_BRIGHTER = 0.2  # of the range
_FLOOR = 0.35  # of the middle's median: darker there is in every SWI
_OF_BRAIN = 0.75  # brighter than this, the frame is in the brain
_CLIPPED = 0.1  # of the middle has the largest value
_FEW_LEVELS = 24


class Appearance(NamedTuple):
  """What an image shows.

  Attributes:
    kind: one of the words above.
    certain: False: `kind` is the nearest word, and `signs` say why not sure.
    signs: what was seen, as parts of a sentence; () of a plain image.
    low: what black is in the image, where it is 'shifted'; white where it is
      'inverted'; how much is added to what is below 0 where 'overflowed'.
    blank: the value painted round the head; None: nothing was.
  """

  kind: str
  certain: bool = True
  signs: tuple[str, ...] = ()
  low: float = 0.0
  blank: float | None = None


class _Sample(NamedTuple):
  """Pairs of neighbouring slices, and what was measured in them."""

  pairs: np.ndarray  # float32 [X, Y, P, 2]
  middle: np.ndarray  # the half of it (along x and y) in the middle
  frame: np.ndarray  # [N], near the sides
  blank: float | None
  low: float
  high: float  # robust range of what is not blank

  @property
  def span(self) -> float:
    return self.high - self.low


def look(
  array: np.ndarray,
  spacing_mm: tuple[float, float, float],
  *,
  mask: np.ndarray | None = None,
) -> Appearance:
  """What an image shows, from a few slices: 0.2 s for 480 x 480 x 72.

  Args:
    array: [X, Y, Z], the slice axis last, as the file has it: whole numbers
      stay whole.
    spacing_mm: voxel sizes.
    mask: bool [X, Y, Z], what is outside is not looked at; None: all.

  Returns:
    The kind and its signs; 'intensity' where there is too little to see.
  """
  del spacing_mm  # every sign so far is one of voxels
  sample = _sample(array, mask)
  if sample is None or sample.span <= 0:
    return _one_value(array)
  for ask in (_labels, _projection, _overflow, _phase, _inversion, _shift):
    found = ask(sample, array.dtype)
    if found is not None:
      return found._replace(blank=sample.blank)
  return Appearance(INTENSITY, True, _doubts(sample), blank=sample.blank)


def repaired(array: np.ndarray, seen: Appearance) -> np.ndarray:
  """The image as it would have been; `array` itself where nothing is wrong.

  Args:
    array: [X, Y, Z].
    seen: what `look` says of it.

  Returns:
    [X, Y, Z]; float32, air dark and nothing below 0, where it was changed.
  """
  if seen.kind == OVERFLOWED:
    whole = array.astype(np.float32)
    return np.where(whole < 0, whole + np.float32(seen.low), whole)
  if seen.kind not in (SHIFTED, INVERTED):
    return array
  whole = array.astype(np.float32)
  turned = whole - seen.low if seen.kind == SHIFTED else seen.low - whole
  result = np.maximum(turned, 0, dtype=np.float32)
  if seen.blank is not None:
    result[whole == np.float32(seen.blank)] = 0
  return result


def _sample(array, mask):
  """Eight pairs of slices, spread over the middle of the image."""
  depth = array.shape[2]
  starts = np.unique(
    np.linspace(0.15 * depth, 0.85 * depth - 1, _PLACES).clip(0).astype(int)
  )
  ends = np.minimum(starts + 1, depth - 1)
  pairs = np.stack([array[:, :, starts], array[:, :, ends]], -1)
  pairs = pairs.astype(np.float32)
  if mask is not None:
    seen = np.stack([mask[:, :, starts], mask[:, :, ends]], -1)
    pairs[~seen] = 0
  x, y = pairs.shape[:2]
  wide, tall = max(1, int(_FRAME * x)), max(1, int(_FRAME * y))
  sides = (pairs[:wide], pairs[-wide:], pairs[:, :tall], pairs[:, -tall:])
  frame = np.concatenate([side.ravel() for side in sides])
  middle_one = float(np.median(frame))  # what half of the frame has, it is
  painted = (frame == middle_one).mean() > _BLANK
  blank = middle_one if painted else None
  known = _known(pairs, blank)
  if known.size < _FEW_VOXELS:
    return None
  low, high = np.percentile(
    known[:: max(1, known.size // 300_000)], (0.1, 99.9)
  )
  middle = pairs[x // 4 : max(1, x - x // 4), y // 4 : max(1, y - y // 4)]
  return _Sample(pairs, middle, frame, blank, float(low), float(high))


def _one_value(array):
  """What is to be said where (nearly) all of an image is one value."""
  few = np.unique(array[:: max(1, array.shape[0] // 64)])
  if 1 < few.size <= 8:
    return Appearance(LABELS, True, (f'it holds {few.size} values only',))
  return Appearance(INTENSITY)


def _steps(middle, blank):
  """Differences [N] of neighbours along x that are both not blank."""
  first, second = middle[:-1], middle[1:]
  steps = second - first
  if blank is None:
    return steps.ravel()
  return steps[(first != blank) & (second != blank)]


def _known(values, blank):
  """Values [N] that are not blank."""
  return values.ravel() if blank is None else values[values != blank]


def _corners(pairs):
  """The four corners of the slices, a tenth of each side."""
  x, y = (max(4, n // 10) for n in pairs.shape[:2])
  return pairs[:x, :y], pairs[:x, -y:], pairs[-x:, :y], pairs[-x:, -y:]


def _roughness(values, span):
  """Median difference of voxels three apart, as a part of the range."""
  if values.shape[0] < 4:
    return 0.0
  return float(np.median(np.abs(values[3:] - values[:-3]))) / span


def _labels(sample, dtype):
  """Few whole numbers, and neighbours have the same one."""
  known = _known(sample.pairs, sample.blank)
  steps = _steps(sample.pairs, sample.blank)
  if not steps.size or (steps == 0).mean() < _FLAT:
    return None
  levels = np.unique(known).size
  if levels > _MOST_LABELS or (known != np.rint(known)).any():
    return None
  sign = f'it holds {levels} whole numbers, in patches of one number'
  return Appearance(LABELS, dtype.kind in 'iub', (sign,))  # else a phantom


def _projection(sample, dtype):
  """A minimum over several slices: a voxel often equals that of the next one.

  The same minimum is then in both. Of slices that were repeated some equal the
  next one wholly, and others do not at all.
  """
  del dtype
  if sample.pairs.shape[2] < 3:
    return None
  shares, across = _equal_shares(sample)
  if len(shares) < 3 or min(shares) < _EQUAL_SLICES + 3 * across:
    return None
  if min(shares) > _REPEATED:
    return None
  return Appearance(
    PROJECTION,
    True,
    (
      f'{np.median(shares):.0%} of its voxels have exactly the value of the '
      f'next slice, against {across:.0%} within a slice',
    ),
  )


def _equal_shares(sample):
  """How often a voxel equals that of the next slice [P], and the next in x."""
  shares, across = [], []
  for place in range(sample.middle.shape[2]):
    one, other = np.moveaxis(sample.middle[:, :, place], -1, 0)
    inner = (one > sample.low) & (one < sample.high)
    inner &= one != (np.nan if sample.blank is None else sample.blank)
    if inner.sum() < _FEW_VOXELS:
      continue
    shares.append(float((one == other)[inner].mean()))
    across.append(float((one[1:] == one[:-1])[inner[1:]].mean()))
  return shares, float(np.mean(across)) if across else 0.0


def _overflow(sample, dtype):
  """Bright voxels that passed the end of a signed type, and are below 0.

  Neighbours on both sides of 0 are then nearly the whole range apart. In a
  phase they are as often near to each other.
  """
  step = _step(sample, dtype)
  if not step or np.abs(sample.pairs).max() > step / 2:
    return None
  if sample.pairs.max() < _FULL * step / 2:
    return None
  known = _known(sample.pairs, sample.blank)
  shallow = (known < 0) & (known > -_SHALLOW * step)
  one, other = sample.pairs[1:], sample.pairs[:-1]
  apart = np.abs(one - other)[(one < 0) != (other < 0)]
  if apart.size < 20 or shallow.mean() > _SELDOM:
    return None
  if apart.sum() < _APART * (step - apart).sum():
    return None
  sign = f'bright voxels are below 0, {step} too low'
  return Appearance(OVERFLOWED, True, (sign,), float(step))


def _step(sample, dtype):
  """The range of the whole numbers that an image has, 256 or 65536; None."""
  if dtype.kind == 'i':
    return _STEPS.get(dtype.itemsize)
  few = sample.pairs[::4, ::4]
  whole = dtype.kind == 'f' and bool((few == np.rint(few)).all())
  return _STEPS[2] if whole else None


def _phase(sample, dtype):
  """Noise over the whole range in air; where no air is seen, whole turns."""
  del dtype
  if sample.blank is None:
    air = min(_roughness(one, sample.span) for one in _corners(sample.pairs))
    if air > max(_NOISE, 3 * _roughness(sample.middle, sample.span)):
      sign = 'its air holds noise over the whole range of its values'
      return Appearance(PHASE, True, (sign,))
    frame = (float(np.median(sample.frame)) - sample.low) / sample.span
    if not _DARK_AIR < frame < 1 - _DARK_AIR:
      return None  # dark air, as a scan of -1 to 1 has
  steps = _steps(sample.middle, sample.blank)
  turns = (np.abs(steps) > _TURN * sample.span).mean() if steps.size else 0
  even = abs(sample.low + sample.high) < _EVEN * sample.span
  signs = ()
  if turns > _TURNS:
    signs += (f'{turns:.2%} of neighbours differ by its whole range',)
  if even:
    signs += (
      f'its values are as far below 0 as above ({sample.low:.3g} to '
      f'{sample.high:.3g})',
    )
  # A z-score has a long tail of dark veins, and windowed images have jumps.
  radians = sample.blank is not None and _NEAR_PI < sample.high <= np.pi + 0.01
  if not even or not (radians or turns > _TURNS):
    return None
  return Appearance(PHASE, True, signs)


def _shift(sample, dtype):
  """Values on both sides of 0, as z-scores have."""
  known = _known(sample.pairs, sample.blank)
  few = known[:: max(1, known.size // 100_000)]
  fifth = float(np.percentile(few, 5))
  # Air is black, but not where a program painted it far below everything.
  farthest = sample.low - _AIR * sample.span
  painted = sample.blank is not None and farthest < sample.blank < sample.low
  low = sample.blank if painted else sample.low
  if min(fifth, low if painted else fifth) > -_DEPTH * sample.span:
    return None
  below = (
    float((few < 0).mean()) if not painted else float((sample.pairs < 0).mean())
  )
  signs = (f'{below:.0%} of its values are below 0',)
  between = sample.blank is not None and not painted
  # A type that is used to both ends may have overflowed all the same.
  step = _step(sample, dtype)
  ends = _FULL * step / 2 if step else np.inf
  full = sample.high > ends and sample.low < -ends
  frame = float(np.median(sample.frame)) - low
  middle = _known(sample.middle, sample.blank)
  typical = float(np.median(middle)) - low if middle.size else 0.0
  airless = sample.blank is None and frame > _OF_BRAIN * typical
  certain = not (between or full or airless)
  return Appearance(SHIFTED, certain, signs, float(low))


def _inversion(sample, dtype):
  """Air, with its noise, is much brighter than the brain."""
  del dtype
  air = float(np.median(sample.frame))
  brain = float(np.percentile(sample.middle[::3, ::3], 90))
  if sample.blank is not None or air < brain + _BRIGHTER * sample.span:
    return None
  sign = 'its air is brighter than the brain'
  return Appearance(INVERTED, True, (sign,), sample.high)


def _doubts(sample):
  """Signs of an image that may not be what it seems."""
  signs = []
  middle = _known(sample.middle, sample.blank)
  if middle.size < _FEW_VOXELS:
    return ()
  typical = float(np.median(middle[::3]))
  floor = sample.low if sample.blank is None else min(sample.low, sample.blank)
  has_air = float(np.median(sample.frame)) < _OF_BRAIN * typical
  if has_air and floor > _FLOOR * typical:
    signs.append(
      f'its darkest voxels have {floor / typical:.0%} of the brightness of the '
      'brain'
    )
  clipped = float((middle >= middle.max()).mean())
  if clipped > _CLIPPED:
    signs.append(f'{clipped:.0%} of the brain has the largest value')
  levels = np.unique(middle[:100_000]).size
  if levels < _FEW_LEVELS:
    signs.append(f'it has only {levels} grey levels')
  shares, _ = _equal_shares(sample)
  if shares and max(shares) > _REPEATED:
    signs.append('some of its slices are repeated')
  return tuple(signs)
