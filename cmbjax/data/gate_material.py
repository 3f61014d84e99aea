"""Cohorts with a truth to the learned gate of the candidate stage.

Rule: scans are read as `detect` reads them, with its brain mask, and a person
is in one fold only. Every scan is searched twice, so that no more than its
best places are in memory: the second step learns from what the first keeps.
"""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import spatial

from cmbjax.candidates import learn, learned
from cmbjax.candidates.gates import Gates
from cmbjax.data import cohort as cohorts
from cmbjax.data import persons, tables
from cmbjax.data.cohort import LoadedScan
from cmbjax.progress import Progress

ON_MM = 1.5  # a place this near to a voxel of a lesion shows it
APART_MM = 3.0  # one farther than this from all of them shows none
# A click is of the middle, more or less.
ON_POINT_MM, APART_POINT_MM = tables.POINT_REACH_MM, 6.0
_SHARE = 0.15  # of the places without a lesion, for the first step
_FIRST = 30  # scans of the first step: it has few weights


def learn_gate(
  folders: Sequence[pathlib.Path],
  *,
  seed: int,
  recall: float,
  jobs: int | None = None,
) -> learn.Learned:
  """Fits the gate to all labelled scans of some cohorts.

  Args:
    folders: cohorts, as `cohort.read_cohort` reads them.
    seed: of what is drawn.
    recall: share of all lesions that pass, on scans that were left out.
    jobs: threads; None: one per core.

  Raises:
    InputError: a scan that cannot be used, or too few subjects with lesions.
  """
  scans = [s for folder in folders for s in _scans(pathlib.Path(folder))]
  work = {'seed': seed, 'jobs': jobs}
  some = scans[:: max(1, round(len(scans) / _FIRST))]
  loose = learn.fit_loose(list(_rows(some, None, 'dark places', **work)))
  rows = list(_rows(scans, loose, 'grown places', **work))
  return learn.fit(rows, loose, seed=seed, recall=recall)


def _scans(folder) -> list[cohorts.Scan]:
  cohort = cohorts.read_cohort(folder)
  cohorts.refuse_broken(cohort, 'take it out of the cohort')
  cohorts.check_files(cohort.scans)
  return list(cohort.scans)


def _rows(scans, loose, about, *, seed, jobs) -> Iterator[learn.Rows]:
  """Rows of each scan for the first step (no `loose` yet) or the second."""
  with Progress(f'gate: {about}', len(scans)) as progress:
    for number, scan in enumerate(scans):
      loaded = cohorts.load_scan(scan)
      places = learned.find(
        loaded.swi, loaded.spacing_mm, loaded.mask, gates=Gates(), jobs=jobs
      )
      if loose is None:
        rng = np.random.default_rng([seed, number])
        features, lesion, apart, place = _of_places(places, loaded, rng)
      else:
        features, lesion, apart, place = _of_grown(places, loaded, loose, jobs)
      yield learn.Rows(
        persons.person_of(scan.subject, scan.files.sidecar),
        features,
        lesion,
        apart,
        place * np.asarray(loaded.spacing_mm),
        len(loaded.truth.lesions),
        float(loaded.mask.sum() * np.prod(loaded.spacing_mm) / 1e6),
      )
      progress.advance(note=scan.name)


def _of_places(places, loaded, rng):
  """All places that show a lesion, and some that show none."""
  lesion, apart = shown(places.place + places.start, loaded)
  used = (lesion > 0) | (apart & (rng.random(len(apart)) < _SHARE))
  features = {name: part[used] for name, part in places.features.items()}
  return features, lesion[used], apart[used], places.place[used]


def _of_grown(places, loaded, loose, jobs):
  """The places that the first step keeps; a region that touches shows it."""
  chosen = learned.best(places, loose)
  features, regions = learned.grow(places, chosen, gates=Gates(), jobs=jobs)
  start = places.start.astype(np.int32)
  _, apart = shown(places.place[chosen] + start, loaded)
  centre = np.rint(features['core_centre']).astype(np.int32) + start
  lesion = tables.lesion_of(centre, [r + start for r in regions], loaded)
  seen = learned.inputs(places, chosen, features, loose)
  return seen, lesion, apart, centre


def shown(
  place: np.ndarray, loaded: LoadedScan
) -> tuple[np.ndarray, np.ndarray]:
  """Which lesion N places show (0: none), and whether they are far from all.

  Args:
    place: [N, 3] voxels.
    loaded: the scan, with a label image or points.

  Returns:
    int [N] and bool [N]; neither is so of a place beside a lesion.
  """
  truth, sides = loaded.truth, np.asarray(loaded.spacing_mm)
  if not len(truth.lesions) or not len(place):
    return np.zeros(len(place), int), np.ones(len(place), bool)
  if truth.labels is None:
    inverse = np.linalg.inv(loaded.affine)
    voxel = truth.points_mm @ inverse[:3, :3].T + inverse[:3, 3]
    number, on_mm, apart_mm = truth.lesions, ON_POINT_MM, APART_POINT_MM
  else:
    voxel = np.argwhere(truth.labels)
    number, on_mm, apart_mm = truth.labels[tuple(voxel.T)], ON_MM, APART_MM
  away, nearest = spatial.cKDTree(voxel * sides).query(place * sides)
  return np.where(away <= on_mm, number[nearest], 0), away > apart_mm
