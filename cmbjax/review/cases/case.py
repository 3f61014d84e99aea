"""One scan under review: its images, its candidates, and what is known of it.

Rule: names are found first and voxels are read when a case is opened, so that
hundreds of cases cost nothing; every array is in RAS voxel order.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

from cmbjax import delimited, doors, sealed
from cmbjax.data import lesion_labels, truth
from cmbjax.errors import InputError
from cmbjax.imaging import brain, phase, phase_units, regions, slices, volume
from cmbjax.intake import truth_files
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct import scan_image, signal
from cmbjax.review.cases import grow
from cmbjax.review.log.items import REGIONS, Candidate

_SCORES = ('likelihood', 'score', 'probability')  # columns, the first there is
_LONGEST = 500  # characters of evidence; ours have 200
_NONE = np.zeros(0, np.int64)
MAGNITUDE = 'Magnitude'  # label of a sequence


class Sequence(NamedTuple):
  """One image that can be shown."""

  name: str  # in URLs: 'swi', 'phase' or 'magnitude'
  label: str  # for people
  path: pathlib.Path | None  # None: made from `Case.signal` when opened


@dataclasses.dataclass(frozen=True)
class Case:
  """One scan, as files.

  Attributes:
    name: 'sub-01' or 'sub-01_ses-1'; unique among the cases of a source.
    subject, session: 'sub-01', 'ses-1' or None.
    sequences: the one that is judged ('swi') first.
    labels: label image or mask of the candidates; None: see `points`.
    others: further label images whose lesions are candidates too, such as
      the rejected ones of an earlier review.
    points: table of points, where there is no label image; None: nothing.
    simulated: the scan is not of a person.
    protocol: field_t and echo_time_s, None where unknown.
    fingerprint: of the networks that found the candidates; '' where none.
    source: names of the image files, without folders.
    signal: magnitude and phase, to make the SWI (where its path is None) and
      the high-pass phase from.
    mask: of the brain, where one came with the scan.
    facts: the JSON fields of the images.
    notices: sentences that the reader should see.
  """

  name: str
  subject: str
  session: str | None
  sequences: tuple[Sequence, ...]
  labels: pathlib.Path | None = None
  others: tuple[pathlib.Path, ...] = ()
  points: pathlib.Path | None = None
  simulated: bool = False
  protocol: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
  fingerprint: str = ''
  source: str = ''
  signal: ScanFiles | None = None
  mask: pathlib.Path | None = None
  facts: Mapping[pathlib.Path, dict[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  notices: tuple[str, ...] = ()

  @property
  def image(self) -> pathlib.Path | None:
    """The file that is judged; None when it is made from `signal`."""
    return self.sequences[0].path

  @property
  def is_magnitude(self) -> bool:
    """Whether a magnitude is judged, for want of an SWI."""
    return self.sequences[0].label == MAGNITUDE

  @property
  def reference(self) -> pathlib.Path:
    """A file on the grid of what is judged."""
    return self.image or last(self.signal.magnitude)

  @functools.cached_property
  def rows(self) -> tuple[Mapping[str, str], ...]:
    """The tables beside the labels or of points, texts as they are there."""
    images = [p for p in (self.labels, *self.others) if p is not None]
    tables = [*(_beside(path, '.tsv') for path in images), self.points]
    return tuple(
      row for path in tables if path for row in delimited.read(path).dicts()
    )


class Loaded(NamedTuple):
  """The voxels and candidates of one case."""

  image: volume.Volume  # what is judged
  candidates: tuple[Candidate, ...]
  notices: tuple[str, ...]
  image_sha256: str
  labels_sha256: str | None  # None where there are no candidates


def load(case: Case) -> Loaded:
  """Reads the image that is judged, and the candidates.

  Raises:
    InputError: a file is damaged, or labels are on another grid.
  """
  with futures.ThreadPoolExecutor(1) as pool:  # beside the image
    reading = pool.submit(_read_labels, case)
    image, notices = read_image(case)
    image_sha256 = sha256(*_image_files(case))
    found, said = reading.result()
  if case.points is not None:
    found = _of_points(case.points, image)
  return Loaded(
    image,
    tuple(_apart(_unique(found))),
    (*case.notices, *notices, *said),
    image_sha256,
    sha256(*_label_files(case)) or None,
  )


def _read_labels(case) -> tuple[list[Candidate], list[str]]:
  """The candidates, and how they were told apart."""
  like, found, said = volume.grid_of(case.reference), [], []
  for path in (case.labels, *case.others):
    if path is not None:
      last_one = max((one.index for one in found), default=0)
      lesions = lesion_labels.read(path, like, judged=True)
      found += _of_labels(path, lesions, like, last=last_one)
      said += [] if lesions.ours else [f'{path.name}: {_sentence(lesions)}.']
  return found, said


def _sentence(lesions) -> str:
  return '; '.join(lesions.said)


def read_image(case: Case) -> tuple[volume.Volume, tuple[str, ...]]:
  """The image that is judged, and what has to be said about it."""
  if case.image is None:
    made = scan_image.load_image(case.signal)
    return slices.in_ras(made.volume), (
      'The SWI was made from magnitude and phase.',
      *(f'{note[:1].upper()}{note[1:]}.' for note in made.notes),
    )
  image, why = scan_image.righted(volume.load(case.image))
  image = slices.in_ras(image)
  notes = tuple(f'{note}.' for note in image.notes)
  if why:
    notes += (f'The image shows {why}.',)
  if image.placed:
    return image, notes
  return image, (
    *notes,
    'The header does not say how the voxels lie in the head; left and right '
    'are guesses.',
  )


def read_sequence(case: Case, name: str, image: volume.Volume) -> np.ndarray:
  """Another image [X, Y, Z] on the grid of `image`; phase in radians.

  Phase is freed of its slow part where there is a magnitude to do so: a
  wrapped phase tells a reader nothing.

  Raises:
    InputError: a damaged file, or another grid.
    KeyError: there is no such sequence.
  """
  (found,) = [s for s in case.sequences if s.name == name] or [None]
  if found is None:
    raise KeyError(name)
  scan = case.signal
  if name not in ('phase', 'magnitude') or scan is None:
    return _plain(case, found, image)
  try:
    read = signal.read(
      [last(scan.magnitude)],
      [last(scan.phase)],
      fields=scan.facts,
      cartesian=scan.cartesian,
    )
  except InputError:
    if scan.cartesian or name == 'phase':
      raise
    return _plain(case, found, image)  # not the magnitude's fault
  volume.check_grid(read.grid, image)
  if name == 'phase':
    return _local(read, image)
  whole = read.magnitude  # of one echo, perhaps of several coils
  one = whole[(slice(None),) * 3 + (0,) * (whole.ndim - 3)]
  return volume.in_order(one, read.grid, image)


def _plain(case, found, image) -> np.ndarray:
  """What one file holds [X, Y, Z]; phase in radians."""
  read = volume.load(found.path)
  volume.check_grid(read, image)
  if found.name != 'phase':
    return read.array
  fields = case.facts.get(found.path, {})
  return phase_units.to_radians(read.array, fields=fields)[0]


def _local(read, image) -> np.ndarray:
  """The phase of a signal without its slow part, in the order of `image`."""
  seen = slices.last(read.grid)
  if read.is_filtered:
    return volume.in_order(phase.wrap(read.phase[..., 0]), read.grid, image)
  whole = read.magnitude[..., 0] * np.exp(1j * read.phase[..., 0])
  local = phase.homodyne(
    volume.in_order(whole, read.grid, seen),
    seen.spacing_mm,
    sigma_mm=phase.default_sigma_mm(read.field_t),
  )
  return volume.in_order(local, seen, image)


def sha256(*paths: pathlib.Path) -> str:
  """64 hex digits over the content of files, in order; '' of none."""
  if not paths:
    return ''
  total = hashlib.sha256()
  for path in paths:
    total.update(bytes.fromhex(sealed.sha256(path)))
  return total.hexdigest()


def _image_files(case):
  if case.image is not None:
    return (case.image,)
  return (*case.signal.magnitude, *case.signal.phase)


def _label_files(case):
  return tuple(
    p for p in (case.labels, *case.others, case.points) if p is not None
  )


def _of_labels(path, lesions, image, *, last) -> list[Candidate]:
  """The lesions of one image; their indices follow `last`."""
  table = _beside(path, '.tsv') if lesions.listed else None
  rows = delimited.read(table).dicts() if table else []
  rows = {int(r['index']): r for r in rows if r.get('index', '').isdecimal()}
  flat = lesions.labels.ravel(order='F')  # x runs fastest, as in a journal
  where = np.flatnonzero(flat)
  number = flat[where]
  order = np.argsort(number, kind='stable')
  value, first = np.unique(number[order], return_index=True)
  places = np.split(where[order], first[1:]) if len(value) else []
  found = dict(zip(value.tolist(), places))
  kind = 'mimic' if '_seg-mimic' in path.name else 'lesion'
  result = []
  for number in sorted(found.keys() | _outside(rows, image)):
    own, row = found.get(number, _NONE), rows.get(number, {})
    place = _middle(own, image) if len(own) else _voxel(_world(row), image)
    name = f'{kind}-{number:03d}'
    result.append(_candidate(row, name, last + number, place, own))
  return result


def _outside(rows, image):
  """Rows that have a place in the image, whether or not they have voxels."""
  known = {n: _world(row) for n, row in rows.items() if n > 0}
  return {n for n, mm in known.items() if mm and _voxel(mm, image) is not None}


def _of_points(path, image) -> list[Candidate]:
  """A point each, with the outline that grows from there."""
  found = truth.load_truth(truth_files.TruthFiles('points', path), image)
  result, spacing_mm = [], image.spacing_mm
  for number, (mm, row) in enumerate(
    zip(found.points_mm, delimited.read(path).dicts()), 1
  ):
    place = _voxel(mm, image)
    own = grow.grow(image.array, spacing_mm, place).voxels
    result.append(_candidate(row, f'lesion-{number:03d}', 0, place, own))
  return result


def _middle(own, image) -> tuple[int, int, int]:
  """The voxel of an outline that is nearest to its centre."""
  index = np.stack(np.unravel_index(own, image.array.shape, order='F'), 1)
  away = ((index - index.mean(0)) * image.spacing_mm) ** 2
  return tuple(map(int, index[away.sum(1).argmin()]))


def _candidate(row, name, index, ijk, voxels) -> Candidate:
  scores = (_number(row.get(column)) for column in _SCORES)
  score = next((s for s in scores if s is not None and 0 <= s <= 1), None)
  status = row.get('status', '').lower()
  return Candidate(
    id=row.get('name') or name,
    index=index,
    ijk=ijk,
    voxels=voxels,
    score=score,
    status=status if status in ('definite', 'possible') else None,
    region=_location(row),
    evidence=row.get('evidence', '')[:_LONGEST],
  )


def _location(row) -> str:
  given = row.get('location', '').lower()
  if given not in REGIONS:
    given = row.get('region', '').lower()
  return given if given in REGIONS else regions.location_of(given)


def _unique(candidates):
  """Tables of people may call two lesions the same."""
  seen: dict[str, int] = {}
  for one in candidates:
    seen[one.id] = seen.get(one.id, 0) + 1
    if seen[one.id] > 1:
      one = dataclasses.replace(one, id=f'{one.id}-{seen[one.id]}')
    yield one


def _apart(candidates):
  """A voxel of two belongs to the first."""
  found = list(candidates)
  flat = np.concatenate([_NONE, *(one.voxels for one in found)])
  _, first = np.unique(flat, return_index=True)
  own = np.zeros(len(flat), bool)
  own[first] = True
  ends = np.cumsum([0, *(len(one.voxels) for one in found)])
  for one, start, end in zip(found, ends, ends[1:]):
    mine = np.sort(flat[start:end][own[start:end]])
    yield dataclasses.replace(one, voxels=mine)


def _world(row):
  found = [_number(row.get(axis)) for axis in 'xyz']
  return None if None in found else tuple(found)


def _voxel(mm, image):
  """RAS voxel of a place; None outside the image."""
  index = np.rint(image.to_index(mm)).astype(int)
  inside = ((index >= 0) & (index < image.array.shape[:3])).all()
  return tuple(map(int, index)) if inside else None


def _number(text) -> float | None:
  try:
    return delimited.number(text or '', decimal_comma=True)
  except (ValueError, OverflowError):
    return None


def _beside(path, extension):
  found = path.with_name(path.name.split('.')[0] + extension)
  return found if doors.is_there(found) else None


def last(paths: tuple[pathlib.Path, ...]) -> pathlib.Path | None:
  return paths[-1] if paths else None


def brain_of(image: volume.Volume, path: pathlib.Path | None) -> np.ndarray:
  """The brain on the grid of an image: bool [X, Y, Z].

  Args:
    image: what was judged.
    path: mask beside it; None: it is found.

  Raises:
    InputError: a mask that is damaged or on another grid, or no brain found.
  """
  if path is None:
    seen = slices.last(image)
    found = brain.brain_mask(seen.array, seen.spacing_mm)
    return volume.in_order(found, seen, image)
  return slices.array_like(volume.load(path), image) > 0
