"""One loaded scan to its table of labelled candidates, and to a small file.

Rule: a candidate is a microbleed ('cmb') when

* label image: its region, grown by one voxel (26 neighbours), touches a truth
  lesion; of several, the one with most contacts;
* points: its region holds a point, or its centre is within 3 mm of one; of
  several, the nearest;
* finished review: it is a component of the accepted mask.

Every other candidate that passed the gates is a 'mimic'. A lesion that no
candidate is labelled with is missed.
"""

import base64
import collections
import itertools
import json
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np

from cmbjax import doors, files, sealed
from cmbjax.candidates import stages
from cmbjax.candidates.gates import Gates
from cmbjax.data import patches, persons
from cmbjax.data import truth as truth_lib
from cmbjax.data.cohort import LoadedScan, Scan
from cmbjax.data.truth import Truth
from cmbjax.errors import InputError
from cmbjax.intake import facts as json_facts
from cmbjax.reconstruct.scan_image import echo_time_s

POINT_REACH_MM = 3.0
NEVER_PROPOSED = 'never proposed'
SHOWN = (16, 16, 8)  # voxels of the picture of a missed lesion

_NEIGHBOURS = np.array(list(itertools.product((-1, 0, 1), repeat=3)), np.int32)


class CandidateTable(NamedTuple):
  """The N candidates of one scan that passed the gates, best score first."""

  centre: np.ndarray  # [N, 3] int32, voxel index, slice axis last
  score: np.ndarray  # [N] float32
  lesion: np.ndarray  # [N] int32, truth lesion, 0 for a mimic
  facts: dict[str, Any]  # of the whole scan, for the metadata; JSON types

  @property
  def label(self) -> np.ndarray:
    """int8 [N], 1 = cmb."""
    return (self.lesion > 0).astype(np.int8)


def make_table(
  scan: Scan, loaded: LoadedScan, *, gates: Gates, jobs: int = 1
) -> CandidateTable:
  """Detects and labels the candidates of one scan.

  For a finished review the candidates are the components of its two masks;
  the score is then their darkness, 1 - mean SWI.

  Args:
    scan: its files and labels.
    loaded: its arrays.
    gates: of the candidate stage.
    jobs: threads.
  """
  if loaded.truth.kind == 'candidates':
    centre, score, lesion = _reviewed(loaded)
    dropped, why = {}, {}
  else:
    found = stages.propose(
      loaded.swi, loaded.spacing_mm, loaded.mask, gates=gates, jobs=jobs
    )
    reached = lesion_of(found.centre, found.regions, loaded)
    why = _why_missed(reached, found.reason, found.score)
    dropped = dict(collections.Counter(text for text in found.reason if text))
    centre, score = found.centre[found.kept], found.score[found.kept]
    lesion = reached[found.kept]
  facts = {
    'scan': scan.name,
    'subject': scan.subject,
    'person': persons.person_of(scan.subject, scan.files.sidecar),
    'truth': loaded.truth.kind,
    'counted_by': loaded.truth.counted_by,
    'said': list(loaded.truth.said),
    'notes': list(loaded.notes),
    'num_candidates': len(centre),
    'num_lesions': len(loaded.truth.lesions),
    'lesions': _lesions(loaded),
    'missed': _missed(loaded, lesion, why),
    'dropped': dict(sorted(dropped.items())),
    'spacing_mm': list(loaded.spacing_mm),
    'field_t': _number(scan, json_facts.FIELD),
    'echo_time_s': _echo_time(scan),
    **image_facts(loaded.swi, loaded.spacing_mm, loaded.mask),
    'image': files.digest(np.ascontiguousarray(loaded.swi).tobytes()),
  }
  return CandidateTable(centre, score, lesion, facts)


def image_facts(
  swi: np.ndarray, spacing_mm: tuple[float, float, float], mask: np.ndarray
) -> dict[str, float]:
  """How large the brain is and how much dark structures stand out.

  Args:
    swi: [X, Y, Z] 0..1.
    spacing_mm: voxel sizes.
    mask: bool [X, Y, Z], the brain.

  Returns:
    mask_ml, and contrast = 1 - 2nd percentile / median inside the mask.
  """
  inside = swi[mask]
  low, middle = 0, 0
  if inside.size:  # a copy already, so it may be sorted
    low, middle = np.percentile(inside, [2, 50], overwrite_input=True)
  return {
    'mask_ml': float(inside.size * np.prod(spacing_mm) / 1000),
    'contrast': float(1 - low / middle) if middle > 0 else 0.0,
  }


def lesion_of(
  centre: np.ndarray, regions: list[np.ndarray], loaded: LoadedScan
) -> np.ndarray:
  """The truth lesion that each candidate shows, int32 [N]; 0 for none.

  Args:
    centre: [N, 3] voxel indices.
    regions: N int [n, 3] voxel indices.
    loaded: the scan, with a label image or points.
  """
  if not len(centre):
    return np.zeros(0, np.int32)
  # The centre belongs to its region, even where that is empty.
  regions = [np.vstack([c, r]) for c, r in zip(centre, regions)]
  owner = np.repeat(np.arange(len(regions)), [len(r) for r in regions])
  voxels = np.vstack(regions)
  if loaded.truth.labels is None:
    return _nearest_point(centre, owner, voxels, loaded)
  return _most_contacts(len(centre), owner, voxels, loaded.truth.labels)


def save_table(path: pathlib.Path, table: CandidateTable) -> None:
  """Writes a table, whole or not at all, with its digest."""
  facts = np.frombuffer(json.dumps(table.facts).encode(), np.uint8)
  sealed.write_arrays(path, table._asdict() | {'facts': facts})


def load_table(path: pathlib.Path) -> CandidateTable | None:
  """Reads a table; None when there is none, or, with a word, a damaged one."""
  if not doors.is_there(path):
    return None
  try:
    stored = sealed.read_arrays(path)
  except InputError as error:
    print(f'note: {error} The scan is searched again.', file=sys.stderr)
    return None
  facts = json.loads(stored.pop('facts').tobytes())
  return CandidateTable(**stored, facts=facts)


def _most_contacts(count, owner, voxels, labels):
  """Counts contacts (candidate, lesion) over all 27 neighbours."""
  limits = np.asarray(labels.shape) - 1
  pairs = []
  for step in _NEIGHBOURS:
    place = voxels + step
    inside = ((place >= 0) & (place <= limits)).all(1)
    touched = labels[tuple(place[inside].T)]
    hit = touched > 0
    pairs.append(np.stack([owner[inside][hit], touched[hit]], 1))
  pair, contacts = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
  result = np.zeros(count, np.int32)
  order = np.lexsort((-pair[:, 1], contacts))  # the last one written wins
  result[pair[order, 0]] = pair[order, 1]
  return result


def _nearest_point(centre, owner, voxels, loaded):
  truth, affine = loaded.truth, loaded.affine
  result = np.zeros(len(centre), np.int32)
  if not len(truth.lesions):
    return result
  world = centre @ affine[:3, :3].T + affine[:3, 3]
  away = np.linalg.norm(world[:, None] - truth.points_mm[None], axis=-1)
  inverse = np.linalg.inv(affine)
  place = np.rint(truth.points_mm @ inverse[:3, :3].T + inverse[:3, 3])
  within = away <= POINT_REACH_MM  # readers click beside the centre
  for number, point in enumerate(place.astype(int)):
    within[owner[(voxels == point).all(1)], number] = True
  nearest = np.where(within, away, np.inf).argmin(1)
  found = within.any(1)
  result[found] = truth.lesions[nearest[found]]
  return result


def _reviewed(loaded):
  """Components of both masks; accepted ones keep their number."""
  parts = []
  for labels, accepted in (
    (loaded.truth.labels, True),
    (loaded.truth.rejected, False),
  ):
    number = labels[labels > 0]
    count = int(number.max(initial=0))
    size = np.bincount(number, minlength=count + 1)[1:]
    light = np.bincount(number, loaded.swi[labels > 0], count + 1)[1:]
    lesion = np.arange(1, count + 1) * accepted
    middle = np.rint(truth_lib.centres(labels)[1:])
    parts.append((middle, 1 - light / size, lesion))
  centre, score, lesion = (np.concatenate(some) for some in zip(*parts))
  order = np.lexsort((*centre.T, -score))
  return (
    centre[order].astype(np.int32),
    score[order].astype(np.float32),
    lesion[order].astype(np.int32),
  )


def _lesions(loaded):
  """A row for every true lesion."""
  truth = loaded.truth
  return [
    {
      'lesion': int(number),
      'diameter_mm': _diameter(truth, number),
      'region': truth.region_of(number),
      'centre_mm': [round(float(value), 2) for value in place],
    }
    for number, place in zip(truth.lesions, truth.centres_mm(loaded.affine))
  ]


def _missed(loaded, shown, why):
  """A row for every lesion that no candidate is labelled with.

  It says which gate stopped its best candidate and the score that had, and
  holds what a network would have seen, so that a person can look at it.
  """
  truth, rows = loaded.truth, []
  inverse = np.linalg.inv(loaded.affine)
  for number, place in zip(truth.lesions, truth.centres_mm(loaded.affine)):
    if number in shown:
      continue
    reason, score = why.get(int(number), (NEVER_PROPOSED, None))
    voxel = np.rint(inverse[:3, :3] @ place + inverse[:3, 3]).astype(int)
    rows.append(
      {
        'lesion': int(number),
        'diameter_mm': _diameter(truth, number),
        'why': reason,
        'score': score,
        'patch': _text_of(patches.cut(loaded.swi, voxel)[0]),
      }
    )
  return rows


def _text_of(patch) -> str:
  """The middle of a patch as text: base64 of uint8 [16, 16, 8]."""
  sides = [(have - seen) // 2 for have, seen in zip(patch.shape, SHOWN)]
  part = patch[tuple(slice(at, at + n) for at, n in zip(sides, SHOWN))]
  pixels = np.rint(255 * np.clip(part, 0, 1)).astype(np.uint8)
  return base64.b64encode(pixels.tobytes()).decode()


def image_of(text: str) -> np.ndarray:
  """What `patch` of a missed lesion holds: float32 [16, 16, 8], 0..1."""
  pixels = np.frombuffer(base64.b64decode(text), np.uint8)
  return pixels.reshape(SHOWN) / np.float32(255)


def _why_missed(reached, reasons, scores):
  """Lesion -> the gate that stopped its best candidate, and its score."""
  why = {}
  for number, reason, score in zip(reached.tolist(), reasons, scores):
    if number and reason:
      why.setdefault(number, (reason, round(float(score), 4)))
  return why


def _diameter(truth: Truth, number) -> float | None:
  size = truth.diameter_mm[np.searchsorted(truth.lesions, number)]
  return round(float(size), 3) if np.isfinite(size) else None


def _echo_time(scan):
  """As `cmbjax detect` has it, which compares with it."""
  _number(scan, json_facts.ECHO)  # what is not believed is refused
  return echo_time_s(scan.files)


def _number(scan, field):
  value = scan.files.sidecar.get(field)
  if isinstance(value, (list, dict)):
    return None
  found, why = json_facts.number(value, field)
  if why:
    raise InputError(f'{scan.name}: {why}.')
  return found
