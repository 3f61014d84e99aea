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
_NOISE = 0.18  # of the range; even noise over a turn has 0.29
_JUMP = 0.7  # of the range between neighbours: a wrap
_WRAPS = 0.004  # of neighbours in the middle
_NEGATIVE = 0.02  # of the middle; interpolation pushes less below 0
_DEPTH = 0.1  # of the range; interpolation reaches less below 0
_STEPS = {1: 256, 2: 65536}  # bytes of a signed number: its whole range
_FLOOR = 0.25  # of the middle's median: darker there is in every SWI
_CLIPPED = 0.1  # of the middle has the largest value
_FEW_LEVELS = 24
_TAILS = 3.0  # times as many bright spots as dark ones
_FAR = 4.0  # median deviations


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
  for ask in (_labels, _projection, _overflow, _phase, _shift, _inversion):
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
  if seen.kind not in (SHIFTED, INVERTED) or not seen.certain:
    return array
  whole = array.astype(np.float32)
  turned = whole - seen.low if seen.kind == SHIFTED else seen.low - whole
  result = np.maximum(turned, 0, dtype=np.float32)
  if seen.blank is not None:
    result[array == seen.blank] = 0
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
  values, counts = np.unique(frame, return_counts=True)
  most = int(counts.argmax())
  painted = counts[most] > _BLANK * frame.size
  blank = float(values[most]) if painted else None
  known = pairs.ravel()
  known = known if blank is None else known[known != blank]
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


def _steps(middle, blank, axis):
  """(difference [N], value [N]) of neighbours that are both not blank."""
  first = np.take(middle, range(middle.shape[axis] - 1), axis)
  second = np.take(middle, range(1, middle.shape[axis]), axis)
  if blank is None:
    return (second - first).ravel(), first.ravel()
  both = (first != blank) & (second != blank)
  return (second - first)[both], first[both]


def _labels(sample, dtype):
  """Few whole numbers, and neighbours have the same one."""
  del dtype
  known = sample.pairs.ravel()
  if sample.blank is not None:
    known = known[known != sample.blank]
  whole = known[:200_000]
  if (whole != np.rint(whole)).any():
    return None
  levels = np.unique(known).size
  steps, _ = _steps(sample.pairs, sample.blank, 0)
  if levels > _MOST_LABELS or not steps.size:
    return None
  flat = float((steps == 0).mean())
  if flat < _FLAT:
    return None
  return Appearance(
    LABELS,
    True,
    (
      f'it holds {levels} whole numbers, and {flat:.0%} of neighbours are equal',
    ),
  )


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
  """Bright voxels that passed the end of a signed type, and are below 0."""
  step = _STEPS.get(dtype.itemsize) if dtype.kind == 'i' else None
  if dtype.kind == 'f' and _whole_numbers(sample.pairs):
    step = _STEPS[2]
  if not step or (sample.pairs < 0).mean() < 1e-4:
    return None
  if sample.pairs.max() > step / 2 or sample.pairs.min() < -step / 2:
    return None
  jumps = _jumps(sample.pairs, 0.6 * step)
  after = np.where(sample.pairs < 0, sample.pairs + step, sample.pairs)
  left = _jumps(after, 0.6 * step)
  if jumps < 20 or left > 0.1 * jumps:
    return None
  return Appearance(
    OVERFLOWED,
    True,
    (f'bright voxels are below 0, {step} too low',),
    float(step),
  )


def _whole_numbers(pairs):
  few = pairs[::4, ::4]
  return bool((few == np.rint(few)).all())


def _jumps(pairs, least):
  return int((np.abs(np.diff(pairs, axis=0)) > least).sum())


def _phase(sample, dtype):
  """Noise over the whole range in air, or wraps in the middle."""
  del dtype
  air = 0.0
  if sample.blank is None:
    wide = max(1, int(_FRAME * sample.pairs.shape[0]))
    corner = np.concatenate([sample.pairs[:wide], sample.pairs[-wide:]])
    air = float(np.std(corner)) / sample.span
  steps, _ = _steps(sample.middle, sample.blank, 0)
  inside = float(np.median(np.abs(steps))) / sample.span if steps.size else 0
  wraps = (
    float((np.abs(steps) > _JUMP * sample.span).mean()) if steps.size else 0
  )
  signs = ()
  if air > _NOISE:
    signs += ('its air holds noise over the whole range of values',)
  if wraps > _WRAPS:
    signs += (f'{wraps:.1%} of neighbours differ by a whole turn',)
  del inside
  if not signs:
    return None
  return Appearance(PHASE, True, signs)


def _shift(sample, dtype):
  """Values on both sides of 0, as z-scores have."""
  del dtype
  middle = sample.middle.ravel()
  if sample.blank is not None:
    middle = middle[middle != sample.blank]
  below = float((middle < 0).mean()) if middle.size else 0.0
  if below < _NEGATIVE or -sample.low < _DEPTH * sample.span:
    return None
  low = sample.low
  if sample.blank is not None and sample.blank < low:
    low = sample.blank
  return Appearance(
    SHIFTED,
    True,
    (f'{below:.0%} of the voxels in its middle are below 0',),
    float(low),
  )


def _inversion(sample, dtype):
  """Air is as bright as the brightest tissue, and spots are bright."""
  del dtype
  middle = sample.middle.ravel()
  middle = middle if sample.blank is None else middle[middle != sample.blank]
  if not middle.size:
    return None
  air = float(np.median(sample.frame))
  if air < np.percentile(middle[::7], 90):
    return None
  bright, dark = _spots(sample)
  if bright < _TAILS * dark:
    return None
  white = max(air, sample.high)
  return Appearance(
    INVERTED,
    True,
    ('its air is brighter than the brain, and its veins are bright',),
    white,
  )


def _spots(sample):
  """Shares of the middle far brighter, and far darker, than neighbours 3
  voxels away."""
  middle = sample.middle
  if min(middle.shape[:2]) < 8:
    return 0.0, 0.0
  round_it = (
    middle[6:, 3:-3] + middle[:-6, 3:-3] + middle[3:-3, 6:] + middle[3:-3, :-6]
  ) / 4
  off = middle[3:-3, 3:-3] - round_it
  if sample.blank is not None:
    off = off[middle[3:-3, 3:-3] != sample.blank]
  off = off.ravel()
  if not off.size:
    return 0.0, 0.0
  off = off - np.median(off)
  far = _FAR * np.median(np.abs(off))
  return float((off > far).mean()), float((off < -far).mean())


def _doubts(sample):
  """Signs of an image that may not be what it seems."""
  signs = []
  middle = sample.middle.ravel()
  middle = middle if sample.blank is None else middle[middle != sample.blank]
  typical = float(np.median(middle)) if middle.size else 0.0
  floor = sample.low if sample.blank is None else min(sample.low, sample.blank)
  if floor > _FLOOR * typical > 0:
    signs.append(
      f'its darkest voxels have {floor / typical:.0%} of the brightness of the '
      'brain'
    )
  clipped = float((middle >= middle.max()).mean()) if middle.size else 0.0
  if clipped > _CLIPPED:
    signs.append(f'{clipped:.0%} of the brain has the largest value')
  levels = np.unique(middle[:100_000]).size
  if levels < _FEW_LEVELS:
    signs.append(f'it has only {levels} grey levels')
  shares, _ = _equal_shares(sample)
  if shares and max(shares) > _REPEATED:
    signs.append('slices are repeated')
  return tuple(signs)
