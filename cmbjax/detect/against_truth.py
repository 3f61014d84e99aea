"""Derivatives of `cmbjax detect` and a cohort's truth to scores.

Rule: a scan that was not detected is never taken for one without lesions.
"""

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cmbjax import doors, sealed
from cmbjax.data import cohort as cohorts
from cmbjax.data import truth as truth_lib
from cmbjax.detect import derivatives
from cmbjax.detect.result import DEFINITE
from cmbjax.errors import InputError, NoInputError
from cmbjax.evaluation import agreement, detections
from cmbjax.imaging import volume
from cmbjax.progress import Progress

ONLY = {
  '': 'all detections',
  'definite': 'definite detections',
  'counted': 'detections that are not too large',
  'candidates': 'candidates that passed all gates, before the networks',
}


class MatchedScans(NamedTuple):
  """All scans of a cohort that were detected, matched with their truth.

  Attributes:
    scans: one each.
    likelihood: scan name -> label of a detection -> likelihood or None.
    missing: names of scans without a result.
    simulated: the cohort is.
    only: which detections were taken; '' for all.
    said: scan name -> how the lesions of its truth are counted.
    counted_by: scan name -> 'value', 'component' or 'point'.
  """

  scans: tuple[detections.ScoredScan, ...]
  likelihood: dict[str, dict[int, float | None]]
  missing: tuple[str, ...]
  simulated: bool
  only: str
  said: Mapping[str, tuple[str, ...]] = {}
  counted_by: Mapping[str, str] = {}


class Evaluation(NamedTuple):
  """Scores by rule, and the counts per scan."""

  found: MatchedScans
  scores: dict[str, detections.Scores]
  counts: agreement.CountAgreement
  method: str


def read(
  folder: pathlib.Path,
  cohort: pathlib.Path,
  *,
  only: str = '',
  partial: bool = False,
) -> MatchedScans:
  """Matches every labelled scan of a cohort with its detections.

  Args:
    folder: what `cmbjax detect` wrote.
    cohort: the scans with their truth.
    only: which detections are taken, one of `ONLY`.
    partial: leave out scans without a result.

  Raises:
    NoInputError: no folder, or no scan of the cohort has a result.
    InputError: some scans have none, or a grid differs.
  """
  if not folder.is_dir():
    raise NoInputError(f'{folder}: no such folder; run `cmbjax detect` first.')
  # Swapped, each detection would be taken for a true lesion.
  if derivatives.is_ours(cohort) and not derivatives.is_ours(folder):
    raise InputError(
      f'{cohort}: holds results of `cmbjax detect`, {folder} does not; give '
      'OUT first, then COHORT.'
    )
  labelled = cohorts.read_cohort(cohort)
  # As those without a result below: perhaps just these are the hard ones.
  if not partial:
    cohorts.refuse_broken(labelled, 'leave such scans out with --partial')
  cohorts.tell_left_out(labelled)
  ending = '_seg-cmb_dseg.nii.gz'
  if only == 'candidates':
    ending = '_seg-candidates_dseg.nii.gz'
  pairs = [(s, _label_image(folder, s, ending)) for s in labelled.scans]
  missing = tuple(scan.name for scan, path in pairs if path is None)
  if len(missing) == len(pairs):
    raise NoInputError(
      f'{folder}: has no result of any of the {len(pairs)} scans of {cohort}; '
      'give the folder that `cmbjax detect` wrote'
      + (' with --write-steps.' if only == 'candidates' else '.')
    )
  # Those that failed may be the hard ones: without them scores are better.
  if missing and not partial:
    raise InputError(
      f'{folder}: {len(missing)} of {len(pairs)} scans have no result '
      f'({", ".join(missing[:5])}); run `cmbjax detect` again, or leave them '
      'out with --partial.'
    )
  done = [(scan, path) for scan, path in pairs if path is not None]
  _tell_of_others(folder, cohort, [scan for scan, _ in done])
  scans, likelihood, said, counted_by = _match_all(done, only)
  return MatchedScans(
    scans, likelihood, missing, labelled.simulated, only, said, counted_by
  )


def _match_all(done, only):
  scans, likelihood, said, counted_by = [], {}, {}, {}
  with Progress('evaluate', len(done)) as progress:
    for scan, path in done:
      image = volume.load(path)
      truth = truth_lib.load_truth(scan.truth, image)
      said[scan.name] = truth.said
      counted_by[scan.name] = truth.counted_by
      one, likelihood[scan.name] = _match(scan, path, only, image, truth)
      scans.append(one)
      progress.advance(note=scan.name)
  return tuple(scans), likelihood, said, counted_by


def _tell_of_others(folder, cohort, scans) -> None:
  for scan in scans:
    if other := _another_image(folder, scan):
      print(
        f'note: {scan.name}: was detected in {other}, whose voxels are not '
        f'those of {scan.files.swi or scan.files.magnitude[0]}; check that '
        f'{folder} and {cohort} are of the same people.',
        file=sys.stderr,
      )


def _another_image(folder, scan) -> pathlib.Path | None:
  """What a scan was detected in, if that is there and shows something else.

  In two cohorts sub-01 may be two people whose scans are on one grid.
  """
  known = sealed.read_json(folder / 'logs' / f'{scan.name}.json')
  kind = 'swi' if scan.files.swi else 'magnitude'
  named = (known.get('images') or {}).get(kind) or []
  mine = scan.files.swi or scan.files.magnitude[0]
  there = folder / named[0] if named else mine
  if not doors.is_there(there) or there.resolve() == mine.resolve():
    return None
  try:
    one, two = volume.load(there, num_dims=5), volume.load(mine, num_dims=5)
  except InputError:  # what was detected in is not needed any more
    return None
  same = one.array.shape == two.array.shape and np.array_equal(
    one.array, two.array, equal_nan=True
  )
  return None if same else pathlib.Path(os.path.normpath(there))


def _label_image(folder, scan, ending) -> pathlib.Path | None:
  """The label image of a scan that is done; a failed one has no files."""
  record = folder / 'logs' / f'{scan.name}.json'
  known = sealed.read_json(record) if doors.is_there(record) else {}
  for name in known.get('files', []):
    if name.endswith(ending) and doors.is_there(folder / name):
      return folder / name
  return None


def _match(
  scan, path, only, image, truth
) -> tuple[detections.ScoredScan, dict]:
  labels, rates = _taken(path, image.array.astype(np.int32), only)
  lesions = truth.labels
  if lesions is None:
    lesions = _spots(truth, image)
  true = detections.ScoredScan(
    name=scan.name,
    subject=scan.subject,
    matched=detections.match(labels, lesions, image.spacing_mm),
    lesion=truth.lesions,
    diameter_mm=np.asarray(truth.diameter_mm, float),
    region=np.array([truth.region_of(n) for n in truth.lesions], str),
    num_found=len(rates),
  )
  return true, rates


def _taken(path, labels, only):
  """Labels of the detections that are taken, and their likelihoods."""
  if only == 'candidates':
    index = np.unique(labels)
    return labels, dict.fromkeys(index[index > 0].tolist())
  table = path.with_name(path.name.removesuffix('.nii.gz') + '.tsv')
  listed = derivatives.read_lesions(table)
  taken = [x for x in listed if only != 'definite' or x.status == DEFINITE]
  taken = [x for x in taken if only != 'counted' or x.counted]
  rates = {lesion.index: lesion.likelihood for lesion in taken}
  # Else a cut table would make lesions vanish from the score.
  indices = {lesion.index for lesion in listed}
  if indices != set(np.unique(labels[labels > 0]).tolist()):
    raise InputError(
      f'{table}: lists other lesions than {path.name} holds; run `cmbjax '
      'detect --overwrite` again.'
    )
  # Detections that are not taken must not touch a lesion either.
  return np.where(np.isin(labels, list(rates)), labels, 0), rates


def _spots(truth, image) -> np.ndarray:
  """Points as one voxel each: what there is to touch."""
  labels = np.zeros(image.array.shape[:3], np.int32)
  index = np.rint(image.to_index(truth.points_mm)).astype(int)
  for number, place in zip(truth.lesions, index):
    if labels[tuple(place)]:  # the second would hide the first
      raise InputError(
        f'truth of {image.path.name}: two points lie in one voxel '
        f'({", ".join(map(str, place))}); remove one of them.'
      )
    labels[tuple(place)] = number
  return labels


def evaluate(found: MatchedScans, *, method: str = 'jackknife') -> Evaluation:
  """Scores by both rules, and the agreement of the counts."""
  return Evaluation(
    found=found,
    scores={
      rule: detections.evaluate(found.scans, rule, method=method)
      for rule in detections.RULES
    },
    counts=detections.counts(found.scans, method=method),
    method=method,
  )
