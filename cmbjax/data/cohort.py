"""A cohort folder to its scans, each with a truth, and one scan to arrays.

Three layouts are read: what `cmbjax simulate` writes, a person's BIDS folder
with a label image or a table of points per scan, and the folders of the
published CMB labeler. Rule: nothing downstream knows which one it was.
"""

import dataclasses
import functools
import pathlib
from typing import NamedTuple

import numpy as np

from cmbjax import files
from cmbjax.data import lupolab, persons
from cmbjax.data.truth import (
  Truth,
  TruthFiles,
  check_grid,
  find_truth,
  load_truth,
)
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import bids, brain, signal, swi, volume


@dataclasses.dataclass(frozen=True)
class Scan:
  """One scan and its truth, as files."""

  subject: str  # 'sub-01'
  name: str  # 'sub-01' or 'sub-01_ses-1', unique in the cohort
  files: bids.ScanFiles
  truth: TruthFiles

  @property
  def paths(self) -> tuple[pathlib.Path, ...]:
    """All files that the arrays of this scan come from."""
    own = self.files
    flat = [own.swi, own.mask, *_signal(own)]
    return (*(path for path in flat if path is not None), *self.truth.paths)


@dataclasses.dataclass(frozen=True)
class Cohort:
  """The labelled scans below one folder.

  Attributes:
    folder: where it is.
    simulated: dataset_description.json says that scans are not of people.
    scans: sorted by name.
    unlabelled: names of scans that have no truth and are left out.
  """

  folder: pathlib.Path
  simulated: bool
  scans: tuple[Scan, ...]
  unlabelled: tuple[str, ...] = ()

  @property
  def subjects(self) -> tuple[str, ...]:
    """Sorted, each once."""
    return tuple(sorted({scan.subject for scan in self.scans}))


class LoadedScan(NamedTuple):
  """One scan in RAS voxel order."""

  swi: np.ndarray  # [X, Y, Z] float32 0..1
  spacing_mm: tuple[float, float, float]
  affine: np.ndarray  # [4, 4] voxel index to world mm
  mask: np.ndarray  # bool [X, Y, Z], the brain
  truth: Truth


class Image(NamedTuple):
  """The SWI of one scan, and where it is from."""

  volume: volume.Volume  # not scaled
  mask: np.ndarray  # bool [X, Y, Z], the brain
  made: str  # 'given', 'reconstructed' or 'magnitude' (no phase: no SWI)
  notes: tuple[str, ...]  # what was repaired, and what is not sure


def read_cohort(folder: str | pathlib.Path) -> Cohort:
  """Finds all scans that have a truth. Reads names, no voxels.

  Raises:
    NoInputError: no such folder, no scan, or no scan with a truth.
    InputError: ambiguous files, or a subject that is there twice.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise NoInputError(f'{folder}: no such folder; check the path.')
  if _is_bids(folder):
    pairs = [(s, find_truth(folder, s)) for s in bids.find_scans(folder)]
  elif lupolab.is_lupolab(folder):
    pairs = lupolab.find_scans(folder)
  else:
    raise NoInputError(
      f'{folder}: holds no scan; give a BIDS folder (sub-*/anat/*_swi.nii.gz) '
      'or the folders of the CMB labeler (*scaled*.nii, *false_positives*.nii).'
    )
  scans = tuple(Scan(s.subject, s.name, s, t) for s, t in pairs if t)
  if not scans:
    raise NoInputError(
      f'{folder}: none of its {len(pairs)} scans has a truth; put '
      'derivatives/NAME/sub-*/anat/sub-*_seg-cmb_dseg.nii.gz (or '
      '*_label-CMB_mask.nii.gz, or a *_cmb.tsv of points) beside them.'
    )
  _check_subjects(folder, [scan.subject for scan in scans])
  unlabelled = tuple(s.name for s, t in pairs if not t)
  return Cohort(folder, _is_simulated(folder), scans, unlabelled)


def load_scan(scan: Scan) -> LoadedScan:
  """Reads one scan: SWI (reconstructed where there is none), mask and truth.

  Raises:
    InputError: a damaged file, or one that is not on the scan's grid.
  """
  image, mask, _, _ = load_image(scan.files)
  truth = load_truth(scan.truth, image)
  scaled = swi.scale_to_unit(image.array, mask)
  return LoadedScan(scaled, image.spacing_mm, image.affine, mask, truth)


def load_image(found: bids.ScanFiles) -> Image:
  """The SWI of a scan, made where there is none, and its brain mask.

  Raises:
    InputError: a damaged file, or one that is not on the scan's grid.
  """
  image, mask, made, notes = _image(found)
  if found.mask is not None:
    given = volume.load(found.mask)
    check_grid(given, image)
    mask = given.array > 0
  elif mask is None:
    mask = brain.brain_mask(image.array, image.spacing_mm)
  return Image(image, mask, made, notes)


def scan_fingerprint(scan: Scan) -> str:
  """16 hex digits over what the scan's files hold and are called."""
  states = [path.stat() for path in scan.paths]
  content = [
    [path.name, state.st_size, _content(path, state.st_size, state.st_mtime_ns)]
    for path, state in zip(scan.paths, states)
  ]
  fields = ('EchoTime', 'MagneticFieldStrength', 'Units')
  sidecars = [scan.files.sidecar, *map(bids.sidecar, _signal(scan.files))]
  facts = [[some.get(name) for name in fields] for some in sidecars]
  person = persons.person_of(scan.subject, scan.files.sidecar)
  return files.digest([person, scan.name, content, facts])


@functools.cache
def _content(path: pathlib.Path, size: int, changed_ns: int) -> str:
  """Digest of one file; size and time are there to notice a new content."""
  return files.digest(path)


def _image(found: bids.ScanFiles) -> tuple:
  """The SWI: as given, else reconstructed, else (no phase) the magnitude.

  Also the brain mask, where the reconstruction made one.
  """
  if found.swi is not None:
    return volume.load(found.swi), None, 'given', ()
  if found.phase is None:
    longest = _files(found.magnitude)[-1]
    return volume.load(longest), None, 'magnitude', ()
  read = signal.read(_files(found.magnitude), _files(found.phase))
  made = swi.reconstruct(
    read.magnitude,
    read.phase,
    read.grid.spacing_mm,
    echo_times_s=read.echo_times_s,
    field_t=read.field_t,
  )
  image = dataclasses.replace(read.grid, array=made.swi)
  notes = tuple(read.notes)
  if not made.polarity.certain:
    notes += ('the sign of the phase is not clear; veins were taken as dark',)
  return image, made.mask, 'reconstructed', notes


def _signal(found: bids.ScanFiles) -> tuple[pathlib.Path, ...]:
  """The files that an SWI is made from; none when there is an SWI."""
  if found.swi is not None:
    return ()
  return (*_files(found.magnitude), *_files(found.phase))


def _files(some) -> tuple[pathlib.Path, ...]:
  """ScanFiles gives None, one path, or one per echo."""
  if some is None:
    return ()
  return some if isinstance(some, tuple) else (some,)


def _is_bids(folder):
  return (
    any(folder.glob('sub-*/anat/'))
    or any(folder.glob('sub-*/ses-*/anat/'))
    or any(folder.glob('sub-*/swi/'))
  )


def _is_simulated(folder):
  path = folder / 'dataset_description.json'
  content = files.read_json(path) if path.is_file() else {}
  return isinstance(content, dict) and content.get('Simulated') is True


def _check_subjects(folder, subjects):
  """A subject is there once: no spellings that differ in case only."""
  spelt = {}
  for subject in subjects:
    other = spelt.setdefault(subject.lower(), subject)
    if other != subject:
      raise InputError(
        f'{folder}: {other} and {subject} differ in case only; give each '
        'subject one name.'
      )
  table = folder / 'participants.tsv'
  if not table.is_file():
    return
  try:
    rows = table.read_text(encoding='utf-8-sig').splitlines()[1:]
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(
      f'{table}: cannot be read as UTF-8 text; save it as UTF-8.'
    ) from error
  names = [row.split('\t')[0].strip() for row in rows if row.strip()]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise InputError(
      f'{table}: {twice[0]} is listed {names.count(twice[0])} times; a '
      'subject has one row.'
    )
