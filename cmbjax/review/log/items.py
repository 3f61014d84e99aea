"""One item of the reader's list: its fields, their values, and its size.

Rule: what a page may be told is decided here, in `shown_json`, and nowhere
else.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax.review.log.geometry import View, encode_runs

SCHEMA = 'cmbjax-review-1'
VERDICTS = ('accept', 'reject', 'unsure')
CERTAINTIES = ('definite', 'probable', 'possible')
MIMICS = (
  'vessel',
  'calcification',
  'cavernoma',
  'partial_volume',
  'artefact',
  'iron',
  'haemorrhagic_lesion',
  'other',
)
REGIONS = ('lobar', 'deep', 'infratentorial', 'unknown')
STATUSES = ('not started', 'in progress', 'completed', 'flagged')
BLINDS = ('score', 'mask', 'model', 'id', 'rater', 'evidence')
JUDGED = ('verdict', 'certainty', 'mimic')  # a verdict sets all three
ORDERS = ('likelihood', 'random', 'position')
MODES = ('second-reader', 'first-reader')
MODEL, READER, AFTER = 'model', 'reader', 'reader_after_model'
UNAIDED = 'found unaided'  # a flag

LARGE_MM = 10.0  # above it is no microbleed (Gregoire 2009, MARS)
# What looks like a vessel: shorter ones are often two voxels of thick slices.
_LONG_MM, _LONG_RATIO = 5.0, 2.0


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A lesion as the source of the review has it, before any reader.

  Attributes:
    id: its name there, as 'lesion-001'.
    index: its label in the source's label image; 0 where it has none.
    ijk: its point, voxel as shown.
    voxels: [n] linear indices as shown, x fastest, any order.
    score: likelihood 0..1 or None.
    status: 'definite', 'possible' or None.
    region: one of REGIONS.
    evidence: what the image shows there, in words; '' where nobody looked.
  """

  id: str
  index: int
  ijk: tuple[int, int, int]
  voxels: np.ndarray
  score: float | None = None
  status: str | None = None
  region: str = 'unknown'
  evidence: str = ''


class Size(NamedTuple):
  """What voxels measure."""

  volume_mm3: float
  diameter_mm: float  # of the sphere of that volume
  flags: tuple[str, ...]  # of 'no outline', 'edge', 'large', 'elongated'


@dataclasses.dataclass
class Item:
  """One item of the list that the reader goes through.

  Attributes:
    number: the label of its voxels in `ReviewRecord.labels`; the order of
      the numbers is the order shown.
    origin: MODEL, READER or AFTER.
    ijk: its point, voxel as shown.
    id, index, score, status, evidence: of the candidate; None, 0, None, None,
      '' where the reader added it.
    repeat_of: number of the item that this one silently repeats, or None. It
      begins as that one began, and what is drawn on either leaves the other
      as it is.
    found_as: of a candidate, number of the addition as which a first reader
      had marked it before he saw it, or None.
    present: False once removed (or its addition undone).
    voxels: [n] sorted linear indices.
    ms: time that the reader spent on it; undo never takes time back.
  """

  number: int
  origin: str
  ijk: tuple[int, int, int]
  id: str | None = None
  index: int = 0
  score: float | None = None
  status: str | None = None
  region: str = 'unknown'
  verdict: str | None = None
  certainty: str | None = None
  mimic: str | None = None
  rating: int | None = None
  comment: str = ''
  evidence: str = ''
  ms: int = 0
  repeat_of: int | None = None
  found_as: int | None = None
  present: bool = True
  voxels: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int64)
  )

  @property
  def locked(self) -> bool:
    """Whether its outline and point stay as they are for now."""
    return self.verdict == 'reject'

  def flags(self, size: Size) -> list[str]:
    """What the reader should be told of it."""
    found = [] if self.found_as is None else [UNAIDED]
    return [*size.flags, *found]

  def state(self) -> dict[str, Any]:
    """All fields as JSON but the voxels."""
    known = {n: value for n, value in vars(self).items() if n != 'voxels'}
    return known | {'ijk': list(self.ijk)}

  def shown_json(
    self, view: View, size: Size, blind: Sequence[str] = ()
  ) -> dict[str, Any]:
    """The item as the page gets it; what is blinded is null.

    Args:
      view: grid of the case.
      size: of its voxels.
      blind: some of BLINDS.
    """
    mm, again = view.to_world(self.ijk), self.repeat_of
    hide_status = 'score' in blind or 'model' in blind
    hide_evidence = 'evidence' in blind or 'model' in blind
    return {
      'item': self.number,
      'outline': again or self.number,
      'origin': self.origin,
      'ijk': list(self.ijk),
      'mm': [round(float(v), 4) + 0.0 for v in mm],  # + 0: no -0.0
      'verdict': self.verdict,
      'certainty': self.certainty,
      'mimic': self.mimic,
      'rating': self.rating,
      'region': self.region,
      'score': None if 'score' in blind else self.score,
      'status': None if hide_status else self.status,
      'id': None if 'id' in blind else self.id,
      'evidence': None if hide_evidence else self.evidence,
      'volume_mm3': round(size.volume_mm3, 4),
      'diameter_mm': round(size.diameter_mm, 4),
      'voxels': len(self.voxels),
      'runs': None if again is None else encode_runs(self.voxels),
      'flags': self.flags(size),
      'comment': self.comment,
      'ms': self.ms,
      'locked': self.locked,
      'repeat': False,  # always: the reader must not know
    }


def measure(voxels: np.ndarray, view: View) -> Size:
  """Volume, equivalent diameter (6 V / pi)^(1/3) and warnings.

  'edge': touches the border of the image. 'large': diameter above 10 mm.
  'elongated': its inertia ellipsoid is at least 5 mm long and twice as long
  as it is wide, as a vessel. One voxel of that length does not count,
  because a slice is also marked by what only begins in it.

  Args:
    voxels: [n] linear indices.
    view: grid of the case.
  """
  if not len(voxels):
    return Size(0.0, 0.0, ('no outline',))
  volume = len(voxels) * view.voxel_mm3
  diameter = float(np.cbrt(6 * volume / np.pi))
  ijk = view.ijk_of(voxels)
  low, high = ijk.min(0), ijk.max(0)
  flags = []
  if (low == 0).any() or (high == np.asarray(view.shape) - 1).any():
    flags.append('edge')
  if diameter > LARGE_MM:
    flags.append('large')
  some = ijk[:: 1 + len(ijk) // 20_000]  # as good, and quick
  if _elongated(some, view):
    flags.append('elongated')
  return Size(volume, diameter, tuple(flags))


def _elongated(ijk: np.ndarray, view: View) -> bool:
  """A uniform ellipsoid is 2 sqrt(5) standard deviations long.

  Thick slices alone must not make a vessel: on slices of 2 mm a ball of 3 mm
  marks two or three.
  """
  axes = view.affine[:3, :3]
  mm = (ijk - ijk[0]) @ axes.T
  away = mm - mm.mean(0)
  # Voxels have a size of their own: that of a uniform box.
  spread = away.T @ away / len(mm) + axes @ axes.T / 12
  squares, ways = np.linalg.eigh(spread)
  lengths = 2 * np.sqrt(5 * np.maximum(squares, 0))
  surely = lengths[2] - np.abs(ways[:, 2] @ axes).sum()
  return bool(surely >= _LONG_MM and surely >= _LONG_RATIO * lengths[1])
