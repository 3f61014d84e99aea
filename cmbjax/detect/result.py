"""What one scan came to: its lesions, its candidates and how sure we are.

Rule: plain data. The id of a lesion is its name in the label image, in every
table and in the report, and its index is its value in the label image.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

DEFINITE, POSSIBLE, REJECTED = 'definite', 'possible', 'rejected'
STATUSES = (DEFINITE, POSSIBLE, REJECTED)
UNKNOWN = 'unknown'  # a region or location that is not known


class Signs(NamedTuple):
  """What the image shows of a place, see `detect.evidence_words`.

  Attributes:
    polarity: 'paramagnetic', 'diamagnetic' or 'unknown', by the phase.
    polarity_certainty: 0..1, how much the phase is that of a small ball.
    tubularity: 0..1, how dark it goes on at both ends.
    one_end: 0..1, the same at the darker end.
    parenchyma: 0..1, share of what is round it that looks like brain.
    outside: 0..1, share of it outside of the brain mask.
    partner: 'found', 'none', 'midline' (its own mirror image) or 'unknown'.
    partner_mm: from the mirrored place to the partner; None without one.
    beside: 'fluid', the name of an iron-rich nucleus, or ''.
    why: one sentence on the verdict.
    evidence: the same as these numbers, in words, for and against.
  """

  polarity: str
  polarity_certainty: float
  tubularity: float
  one_end: float
  parenchyma: float
  outside: float
  partner: str
  partner_mm: float | None
  beside: str
  why: str = ''
  evidence: str = ''


@dataclasses.dataclass(frozen=True)
class Lesion:
  """One outlined candidate.

  Attributes:
    index: its value in the label image; 0 for a rejected one, which is in no
      image.
    id: 'lesion-001', the same in mask, table and report; 'candidate-0007' for
      a rejected one.
    candidate: its row in the table of candidates, from 1.
    centre_mm: (x, y, z) RAS world, the centre of mass of the outline.
    centre_index: voxel of the RAS-ordered array, where its patch was cut.
    status: 'definite', 'possible' or 'rejected'.
    likelihood: mean over the networks; None without networks.
    spread: standard deviation over the networks.
    probability: calibrated likelihood.
    volume_mm3, diameter_mm: of the outline; the equivalent sphere's diameter.
    feret_mm: longest in plane, of the largest slice.
    extent_mm: size of the bounding box along x, y, z of the voxel axes.
    contrast: (local brain - darkest) / local brain, 0..1.
    category: 'single slice', 'travelling' or 'hard'.
    region, location: 'unknown' where no region map could be made; location
      is 'lobar', 'deep', 'infratentorial' or 'unknown'.
    region_certain: False near a border between locations, or not known.
    side: 'left', 'right', 'midline' or 'unknown'.
    margin_mm: distance to the next location; None where not known.
    signs: what is for and against it; None for most rejected ones.
    counted: False where it is too large to be a microbleed.
    note: why not counted, and other remarks; '' mostly.
  """

  index: int
  id: str
  candidate: int
  centre_mm: tuple[float, float, float]
  centre_index: tuple[int, int, int]
  status: str
  likelihood: float | None
  spread: float | None
  probability: float | None
  volume_mm3: float
  diameter_mm: float
  feret_mm: float
  extent_mm: tuple[float, float, float]
  contrast: float
  category: str
  region: str = UNKNOWN
  location: str = UNKNOWN
  region_certain: bool = False
  counted: bool = True
  note: str = ''
  side: str = UNKNOWN
  margin_mm: float | None = None
  signs: Signs | None = None


@dataclasses.dataclass(frozen=True)
class ScanResult:
  """One scan, analysed.

  Attributes:
    name: 'sub-01' or 'sub-01_ses-1'; file names start with it.
    subject, session: 'sub-01', 'ses-1' or None.
    source: names of the input files, without folders.
    simulated: the scan is not of a person.
    protocol: field_t, echo_time_s (None where not known), spacing_mm
      (x, y, z), manufacturer, model, made ('given', 'reconstructed' or
      'magnitude': what the SWI is).
    lesions: definite and possible ones, most likely first (index 1, 2, ...),
      then the rejected ones.
    candidates: column name to [N] array; see `candidate_table.columns`.
    counts: definite, possible, counted, too_large, rejected, candidates,
      proposed, volume_mm3, by_region, by_location, and grade, aria_h (of the
      definite ones), the same with_possible, pattern, pattern_certain,
      strictly_lobar; None where nobody judged the candidates.
    warnings: the domain check, as sentences; empty when all is usual.
    operating_point: name, threshold, definite_threshold, networks,
      fingerprint.
    seconds: stage to wall-clock seconds.
    software: name to version.
    swi: [X, Y, Z] float32 0..1, RAS voxel order.
    labels: [X, Y, Z] uint16, 0 outside lesions.
    mask: [X, Y, Z] bool, the brain.
    spacing_mm: voxel sizes of these arrays.
    affine: [4, 4] voxel index to world mm.
    left_out: (path, why) of files of the scan that are not used, the path as
      seen from its data set or folder.
    top_rejected: the rejected candidates nearest to being found, with id,
      centre_mm, score, likelihood (or None) and reason. Filled where nothing
      was found or the scan is unusual, so that no result is silently empty.
  """

  name: str
  subject: str
  session: str | None
  source: str
  simulated: bool
  protocol: Mapping[str, Any]
  lesions: tuple[Lesion, ...]
  candidates: Mapping[str, np.ndarray]
  counts: Mapping[str, Any]
  warnings: tuple[str, ...]
  operating_point: Mapping[str, Any]
  seconds: Mapping[str, float]
  software: Mapping[str, str]
  swi: np.ndarray
  labels: np.ndarray
  mask: np.ndarray
  spacing_mm: tuple[float, float, float]
  affine: np.ndarray
  left_out: tuple[tuple[str, str], ...] = ()
  top_rejected: tuple[Mapping[str, Any], ...] = ()

  @property
  def found(self) -> tuple[Lesion, ...]:
    """The definite and possible lesions, in the order of their index."""
    return tuple(x for x in self.lesions if x.status != REJECTED)

  @property
  def rejected(self) -> tuple[Lesion, ...]:
    """The rejected ones, most likely first."""
    return tuple(x for x in self.lesions if x.status == REJECTED)
