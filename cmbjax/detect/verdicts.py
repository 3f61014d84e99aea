"""Candidates to verdicts: what the networks say, and at which point it counts.

Rule: thresholds are strict (above is positive), and two candidates in one
dark spot are one lesion.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax.candidates import detector, segmentation
from cmbjax.data import evidence, patches
from cmbjax.detect.classifier import Classifier
from cmbjax.detect.result import DEFINITE, POSSIBLE, REJECTED

GRIDS_MM = {'native': None, 'resampled': patches.RESAMPLED_MM}
BELOW, SAME = 'likelihood', 'same as a better one'
_SADDLE = 0.6  # of the way from darkest to half maximum: `Gates.core_level`
# Outside of a sphere the field along B0 falls with the cube of the distance: at
# 1.5 radii it is a third of that at the pole, and no dark lobe is farther out.
_LOBE = 0.75  # of the diameter; two lesions as near as that would overlap
_IN_LINE = np.cos(np.deg2rad(35))  # grids and noise turn a lobe this far


class Verdicts(NamedTuple):
  """What the networks say of N candidates; NaN for those they never saw."""

  likelihood: np.ndarray  # [N] mean over networks
  spread: np.ndarray  # [N] standard deviation over networks
  probability: np.ndarray  # [N] calibrated
  status: tuple[str, ...]  # N of definite, possible, rejected
  reason: tuple[str, ...]  # N, why rejected; '' where not


def operating_point(
  classifier: Classifier | None,
  name: str,
  threshold: float | None = None,
) -> dict[str, Any]:
  """Name, threshold and definite_threshold; strictly above is positive.

  Args:
    classifier: None: there are no likelihoods.
    name: of the operating point.
    threshold: a likelihood instead of it.

  Raises:
    InputError: the weights do not have this point.
  """
  if classifier is None:
    return {'name': 'none', 'threshold': None, 'definite_threshold': None}
  if threshold is not None:
    name, low, rule = 'threshold', threshold, 'given by the user'
  else:
    low, rule = classifier.threshold(name), classifier.rules[name]
  return {
    'name': name,
    'threshold': low,
    # Nothing is definite that is not possible.
    'definite_threshold': max(low, classifier.points['high_precision']),
    'rule': rule,
    'weights': classifier.name,
    'networks': len(classifier.table),
    'channels': list(classifier.channels),
    'mirrored': classifier.mirrored,
    'fingerprint': classifier.fingerprint,
    'trained_on_simulated': classifier.simulated,
    'calibrated_on': _site(classifier.site),
  }


def _site(site: Mapping[str, Any]) -> str | None:
  """Whose reviews chose the points, where `cmbjax calibrate` did."""
  if not site:
    return None
  return f'{site["scans"]} scans reviewed by {site["rater"]}'


def judge(
  scan: evidence.Evidence,
  proposed: detector.Candidates,
  classifier: Classifier | None,
  point: Mapping[str, Any],
  *,
  b0: Sequence[float] = (0, 0, 1),
) -> Verdicts:
  """Verdicts on all candidates; those that a gate dropped are rejected.

  Args:
    scan: its SWI, and all channels that the networks see.
    proposed: N candidates.
    classifier: None: all that passed the gates are possible.
    point: as `operating_point` gives it.
    b0: unit vector of the main field along x, y, z of the voxels.
  """
  count = len(proposed)
  likelihood, spread, probability = (np.full(count, np.nan) for _ in range(3))
  status = np.where(proposed.kept, POSSIBLE, REJECTED).astype(object)
  reason = list(proposed.reason)
  kept = np.flatnonzero(proposed.kept)
  if classifier is not None:
    each = classifier.likelihood(
      scan.patches(
        proposed.centre[kept],
        channels=classifier.channels,
        grid_mm=GRIDS_MM[classifier.patches],
      )
    )  # [K, N]
    likelihood[kept], spread[kept] = each.mean(0), each.std(0)
    probability[kept] = classifier.probability(likelihood[kept])
    # NaN is above nothing.
    status[~(likelihood > point['threshold'])] = REJECTED
    status[likelihood > point['definite_threshold']] = DEFINITE
    for n in kept:
      reason[n] = BELOW if status[n] == REJECTED else ''
  for n in duplicates(
    scan.swi, scan.spacing_mm, proposed, likelihood, status != REJECTED, b0=b0
  ):
    status[n], reason[n] = REJECTED, SAME
  return Verdicts(likelihood, spread, probability, tuple(status), tuple(reason))


def order_of(likelihood: np.ndarray, score: np.ndarray) -> np.ndarray:
  """Most likely first; of equal ones (or without networks) by score."""
  sure = np.where(np.isnan(likelihood), 0, likelihood)
  return np.lexsort((np.arange(len(sure)), -score, -sure))


def duplicates(
  unit: np.ndarray,
  spacing_mm: tuple[float, float, float],
  proposed: detector.Candidates,
  likelihood: np.ndarray,
  found: np.ndarray,
  *,
  b0: Sequence[float] = (0, 0, 1),
) -> list[int]:
  """Of candidates in one dark spot, all but the most likely one.

  Two share a spot when the straight way between them (of less than 10 mm)
  stays as dark as the core of the better one. Two lesions that only touch
  have a brighter saddle between them. So have a lesion and a lobe of its own
  dipole, but these are in line with B0 and nearer than two lesions can be.

  Args:
    unit: [X, Y, Z] SWI.
    spacing_mm: voxel sizes.
    proposed: N candidates.
    likelihood: [N].
    found: [N] bool, those that would become lesions.
    b0: unit vector of the main field along x, y, z of the voxels.
  """
  order = [n for n in order_of(likelihood, proposed.score) if found[n]]
  place = proposed.centre * np.asarray(spacing_mm)
  gone: set[int] = set()
  for i, n in enumerate(order):
    if n in gone:
      continue
    values = unit[tuple(proposed.regions[n].T)]
    low = float(values.min())
    # Not the maximum: one bright voxel at the rim would widen the core.
    limit = low + _SADDLE * float(np.percentile(values, 95) - low)
    rest = np.array(order[i + 1 :], int)
    away = np.linalg.norm(place[rest] - place[n], axis=1)
    for other in rest[away < segmentation.LARGEST_MM].tolist():
      way = _between(proposed.centre[n], proposed.centre[other])
      is_dark = unit[tuple(way.T)].max() <= limit
      if is_dark or _is_lobe(proposed, n, other, place=place, b0=b0):
        gone.add(other)
  return sorted(gone)


def _is_lobe(proposed, first, second, *, place, b0) -> bool:
  """Whether one of two candidates is in the dipole of the other."""
  diameter = proposed.features['diameter_mm'][[first, second]].max()
  apart = place[second] - place[first]
  away = np.linalg.norm(apart)
  in_line = abs(apart @ np.asarray(b0)) >= _IN_LINE * away
  return bool(away <= _LOBE * diameter and in_line)


def _between(first: np.ndarray, last: np.ndarray) -> np.ndarray:
  """Voxels [n, 3] on the straight line from one to the other."""
  # Half a voxel at most from one to the next, so that none is passed over.
  steps = int(np.abs(last - first).max()) + 1
  part = np.linspace(0, 1, 2 * steps + 1)[:, None]
  return np.rint(first + part * (last - first)).astype(int)
