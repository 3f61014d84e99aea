"""Outlined detections of whole scans against the truth, by both rules.

Rule: touch and VALDO are shown beside each other and never added up; every
true lesion counts, and so does every scan, empty ones too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.evaluation import (
  agreement,
  breakdown,
  intervals,
  matching,
  statistics,
)
from cmbjax.evaluation.agreement import CountAgreement
from cmbjax.evaluation.intervals import Interval
from cmbjax.evaluation.matching import Matched

TOUCH, VALDO = 'touch', 'valdo'
RULES = {
  TOUCH: 'an outline that shares a voxel with a lesion hits it',
  VALDO: '6-connected components (an outline in parts is several); each '
  'belongs to its nearest lesion, centres of mass closer than 5 mm, and of '
  'several on one lesion only the nearest hits it',
}
POOLED = ('sensitivity', 'precision', 'f1', 'fp_per_scan')
PER_SUBJECT = ('sensitivity', 'precision', 'f1')
# What the VALDO challenge shows of a team, as median and quartiles.
PER_SCAN = ('f1', 'count_difference')


class ScoredScan(NamedTuple):
  """One scan with what is known of its lesions.

  Attributes:
    name: unique.
    subject: the unit of every interval.
    matched: rule -> result.
    lesion: [L] int, labels of the true lesions, ascending.
    diameter_mm: [L], NaN where not known.
    region: [L] str, '' where not known.
    num_found: detected lesions, as the scan's table lists them.
  """

  name: str
  subject: str
  matched: dict[str, Matched]
  lesion: np.ndarray
  diameter_mm: np.ndarray
  region: np.ndarray
  num_found: int


class Scores(NamedTuple):
  """All scans, by one rule.

  Attributes:
    rule: 'touch' or 'valdo'.
    num_objects: true objects.
    num_hit: of these.
    num_detections: detected objects.
    num_false: of these.
    pooled: sums over all scans, see `POOLED`.
    per_subject: mean over subjects, see `PER_SUBJECT`, and how many subjects
      have one. F1 is that of subjects with lesions, as in the challenge.
    per_scan: median over scans, its quartiles as bounds, see `PER_SCAN`, and
      how many scans have one: F1 those with lesions, the absolute difference
      of the counts all of them.
    parts: 'size' and 'region' -> group -> (sensitivity, lesions).
  """

  rule: str
  num_objects: int
  num_hit: int
  num_detections: int
  num_false: int
  pooled: dict[str, Interval]
  per_subject: dict[str, tuple[Interval, int]]
  per_scan: dict[str, tuple[Interval, int]]
  parts: dict[str, dict[str, tuple[Interval, int]]]


def match(
  detected: np.ndarray,
  truth: np.ndarray,
  spacing_mm: tuple[float, float, float],
) -> dict[str, Matched]:
  """Both rules on one scan.

  Args:
    detected: [X, Y, Z] int, 0 or the label of a detection.
    truth: [X, Y, Z] int, 0 or the label of a lesion.
    spacing_mm: voxel size.

  Raises:
    InputError: when the shapes differ.
  """
  return {
    TOUCH: matching.touch(detected, truth),
    VALDO: matching.valdo(detected, truth, spacing_mm),
  }


def evaluate(scans: Sequence[ScoredScan], rule: str, **how) -> Scores:
  """Scores of all scans by one rule, with intervals over subjects.

  Args:
    scans: at least one.
    rule: 'touch' or 'valdo'.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.

  Raises:
    InputError: without scans.
  """
  if not scans:
    raise InputError('evaluation: there are no scans.')
  matched = [scan.matched[rule] for scan in scans]
  names, at = np.unique([scan.subject for scan in scans], return_inverse=True)
  sums = _sums(matched, rule)
  by_subject = {
    name: np.bincount(at, values, minlength=len(names))
    for name, values in sums.items()
  }
  pooled, per_subject = _ratios(by_subject, len(names), how)
  return Scores(
    rule=rule,
    num_objects=int(sums['lesions'].sum()),
    num_hit=int(sums['hits'].sum()),
    num_detections=sum(len(m.false) for m in matched),
    num_false=int(sums['false'].sum()),
    pooled=pooled,
    per_subject=per_subject,
    per_scan=_per_scan(sums),
    parts=_parts(scans, matched, how),
  )


def _sums(matched: Sequence[Matched], rule: str) -> dict[str, np.ndarray]:
  """Counts of each scan; `useful` are the true positives of precision and F1.

  Two detections at the same distance are two true positives in the challenge.
  By touch a lesion is one, however many outlines are on it.
  """
  sums = {
    'scans': [1 for _ in matched],
    'lesions': [len(m.hit) for m in matched],
    'hits': [m.hit.sum() for m in matched],
    'detections': [len(m.false) for m in matched],
    'false': [m.false.sum() for m in matched],
  }
  sums = {name: np.array(values, float) for name, values in sums.items()}
  two = rule == VALDO
  sums['useful'] = sums['detections'] - sums['false'] if two else sums['hits']
  return sums


def _f1_parts(sums) -> tuple[np.ndarray, np.ndarray]:
  """Its numerator and denominator: 2 TP and 2 TP + FP + FN."""
  top = 2 * sums['useful']
  return top, top + sums['false'] + sums['lesions'] - sums['hits']


def _per_scan(sums) -> dict[str, tuple[Interval, int]]:
  """F1 and |found - true| over scans, as the challenge takes them.

  A scan without lesions has no F1 there, whatever was found in it: what is
  false in it is seen in the difference of the counts alone.
  """
  some = sums['lesions'] > 0
  top, bottom = _f1_parts(sums)
  values = {
    'f1': top[some] / bottom[some],
    'count_difference': np.abs(sums['detections'] - sums['lesions']),
  }
  return {name: (_median(x), len(x)) for name, x in values.items()}


def _median(values) -> Interval:
  """With quartiles (not an interval)."""
  if not len(values):
    return Interval(None, None, None, 'no scan has lesions')
  low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
  if intervals.too_few(len(values)):
    return Interval(middle, None, None, intervals.too_few(len(values), 'scan'))
  return Interval(middle, low, high, 'quartiles of the scans')


def _ratios(sums, size, how):
  resampled = statistics.resampling(size, **how)
  hits, false, lesions = sums['hits'], sums['false'], sums['lesions']
  useful = sums['useful']
  pairs = {
    'sensitivity': (hits, lesions, 'no lesions'),
    'precision': (useful, useful + false, 'nothing was detected'),
    'f1': (*_f1_parts(sums), 'no lesions, nothing detected'),
    'fp_per_scan': (false, sums['scans'], 'no scans'),
  }
  pooled, per_subject = {}, {}
  for name, (top, bottom, empty) in pairs.items():
    pooled[name] = statistics.ratio_interval(
      top, bottom, resampled, proportion=name != 'fp_per_scan', empty=empty
    )
    if name in PER_SUBJECT:
      used = bottom > 0
      if name == 'f1':  # with false detections alone it would be 0
        used, empty = lesions > 0, 'no lesions'
      share = top[used] / bottom[used]
      mean = statistics.mean_interval(
        share, proportion=True, empty=empty, **how
      )
      per_subject[name] = mean, int(used.sum())
  return pooled, per_subject


def _parts(scans, matched, how):
  """Sensitivity by size and region of the lesion that an object shows."""
  columns = {'diameter_mm': [], 'region': [], 'subject': [], 'hit': []}
  for scan, found in zip(scans, matched):
    at = np.searchsorted(scan.lesion, found.lesion)
    columns['diameter_mm'] += scan.diameter_mm[at].tolist()
    columns['region'] += scan.region[at].tolist()
    columns['subject'] += [scan.subject] * len(at)
    columns['hit'] += found.hit.tolist()
  return breakdown.sensitivities(
    np.array(columns['diameter_mm'], float),
    np.array(columns['region'], str),
    np.array(columns['subject'], str),
    np.array(columns['hit'], float),
    threshold=0.5,
    **how,
  )


def counts(scans: Sequence[ScoredScan], **how) -> CountAgreement:
  """Number of detected against true lesions per scan; of no rule."""
  return agreement.of_counts(
    np.array([scan.num_found for scan in scans], int),
    np.array([len(scan.lesion) for scan in scans], int),
    np.array([scan.subject for scan in scans]),
    **how,
  )
