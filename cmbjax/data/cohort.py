"""A cohort folder to its scans, each with a truth, and one scan to arrays.

Read are what `cmbjax simulate` writes, a person's BIDS folder with a label
image or a table of points per scan, images with a label image beside each, and
the folders of the published CMB labeler. Rule: nothing downstream knows which
one it was, and one scan that cannot be used does not stop the others.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax import delimited, doors, files, sealed
from cmbjax.data import lesion_labels, persons
from cmbjax.data.truth import Truth, load_truth
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import swi
from cmbjax.intake import bids, dry_run, explain, lupolab
from cmbjax.intake import scans as scans_lib
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.intake.scans import FoundScans
from cmbjax.intake.truth_files import TruthFiles, find_truth
from cmbjax.reconstruct import scan_image
from cmbjax.reconstruct.channels import ONLY_SWI, measured


@dataclasses.dataclass(frozen=True)
class Scan:
  """One scan and its truth, as files."""

  subject: str  # 'sub-01'
  name: str  # 'sub-01' or 'sub-01_ses-1', unique in the cohort
  files: ScanFiles
  truth: TruthFiles

  def paths(
    self, channels: Sequence[str] = ONLY_SWI
  ) -> tuple[pathlib.Path, ...]:
    """All files that the arrays of this scan come from."""
    own = self.files
    flat = [own.swi, own.mask, *scan_image.signal_files(own, channels)]
    return (*(path for path in flat if path is not None), *self.truth.paths)


@dataclasses.dataclass(frozen=True)
class CohortFolder:
  """The labelled scans below one folder.

  Attributes:
    folder: where it is.
    simulated: dataset_description.json says that scans are not of people.
    scans: sorted by name.
    unlabelled: names of scans that have no truth and are left out.
    broken: (name, why) of scans that cannot be used.
    notes: what has to be said of the choice, as of persons that may be one.
  """

  folder: pathlib.Path
  simulated: bool
  scans: tuple[Scan, ...]
  unlabelled: tuple[str, ...] = ()
  broken: tuple[tuple[str, str], ...] = ()
  notes: tuple[str, ...] = ()


class LoadedScan(NamedTuple):
  """One scan, its slice axis last."""

  swi: np.ndarray  # [X, Y, Z] float32 0..1
  spacing_mm: tuple[float, float, float]
  affine: np.ndarray  # [4, 4] voxel index to world mm
  mask: np.ndarray  # bool [X, Y, Z], the brain
  truth: Truth
  beside: Mapping[str, np.ndarray] = {}  # measured channels, as `swi`
  notes: tuple[str, ...] = ()  # what was chosen, repaired, or is not sure


def read_cohort(folder: str | pathlib.Path) -> CohortFolder:
  """Finds all scans that have a truth. Reads names, no voxels.

  Raises:
    NoInputError: no such folder, no scan, or no scan with a truth.
    InputError: no scan can be used, or a subject is there twice.
  """
  folder = pathlib.Path(folder)
  found, truths = find(folder)
  scans = tuple(
    Scan(scan.subject, scan.name, scan, truths[scan.name])
    for scan in found.scans
    if truths[scan.name]
  )
  if not scans and found.broken:
    raise InputError(found.broken[0][1])
  if not scans:
    raise NoInputError(
      f'{folder}: none of its {len(found.scans)} scans has a truth; put '
      'derivatives/NAME/sub-*/anat/sub-*_seg-cmb_dseg.nii.gz (or '
      '*_label-CMB_mask.nii.gz, or a *_cmb.tsv of points) beside them; outside '
      'BIDS, NAME_label.nii.gz or NAME_cmb.csv beside NAME.nii.gz.'
    )
  _check_subjects(folder, [scan.subject for scan in scans])
  unlabelled = tuple(s.name for s in found.scans if not truths[s.name])
  return CohortFolder(
    folder,
    bids.is_simulated(folder),
    scans,
    unlabelled,
    found.broken,
    found.notes,
  )


def find(
  folder: pathlib.Path,
) -> tuple[FoundScans, dict[str, TruthFiles | None]]:
  """All scans, and name -> truth of each that can be used.

  Raises:
    NoInputError: no such folder, or no scan.
  """
  if not folder.is_dir():
    raise NoInputError(f'{folder}: no such folder; check the path.')
  broken: dict[str, str] = {}
  if not _is_bids(folder) and lupolab.is_lupolab(folder):
    pairs = lupolab.find_scans(folder, failures=broken)
    made = tuple(scan for scan, _ in pairs)
    truths = {scan.name: truth for scan, truth in pairs}
    return FoundScans('labeler', made, tuple(broken.items())), truths
  found = scans_lib.find(folder, options=())
  truths = {}
  for scan in found.scans:
    try:
      truths[scan.name] = find_truth(folder, scan)
    except InputError as error:
      broken[scan.name] = str(error)
  kept = tuple(scan for scan in found.scans if scan.name in truths)
  broken = (*found.broken, *broken.items())
  return found._replace(scans=kept, broken=broken), truths


def dry_run_of(folder: pathlib.Path) -> int:
  """Prints what `read_cohort` would take for what; returns the exit code."""
  found, truths = find(folder)
  return dry_run.show(explain.rows(folder, found, truths), found)


def tell_left_out(cohort: CohortFolder) -> None:
  """Says on the standard error which scans are not used, and why."""
  for note in cohort.notes:
    print(f'note: {cohort.folder}: {note}', file=sys.stderr)
  if cohort.unlabelled:
    print(
      f'note: {cohort.folder}: {len(cohort.unlabelled)} scans have no truth '
      f'and are left out ({", ".join(cohort.unlabelled[:5])}'
      f'{", ..." if len(cohort.unlabelled) > 5 else ""}).',
      file=sys.stderr,
    )
  for _, why in cohort.broken:
    print(f'note: left out: {why}', file=sys.stderr)


def refuse_broken(cohort: CohortFolder, choice: str) -> None:
  """Refuses a cohort of which some scans cannot be used.

  Args:
    cohort: as `read_cohort` gives it.
    choice: what else can be done, for the message.

  Raises:
    InputError: says which, why, and what to do.
  """
  if cohort.broken:
    count = len(cohort.broken)
    more = f' (and {count - 1} more)' if count > 1 else ''
    raise InputError(
      f'{cohort.folder}: {count} of {count + len(cohort.scans)} scans cannot '
      f'be used{more}: {cohort.broken[0][1]} Correct this, or {choice}.'
    )


def load_scan(scan: Scan, channels: Sequence[str] = ONLY_SWI) -> LoadedScan:
  """Reads one scan: SWI (reconstructed where there is none), mask and truth.

  Args:
    scan: its files.
    channels: 'swi', then what else is read, see `channels.CHANNELS`.

  Raises:
    InputError: a damaged file, one that is not on the scan's grid, or a
      channel that is not there.
  """
  found = scan_image.load_image(scan.files, channels)
  _refuse(scan, found.lacking)
  image, mask = found.volume, found.mask
  with scan_image.named(image.path):
    unit = swi.scale_to_unit(image.array, mask)
  return LoadedScan(
    unit,
    image.spacing_mm,
    image.affine,
    mask,
    load_truth(scan.truth, image),
    found.beside,
    (*scan.files.notes, *found.notes),
  )


def check_files(scans: Sequence[Scan]) -> None:
  """Refuses scans whose files are named but not here; reads no voxels.

  Raises:
    InputError: names the first such file, and what to do.
  """
  for path in (path for scan in scans for path in scan.paths()):
    doors.open_file(path).close()


def check_channels(scan: Scan, channels: Sequence[str]) -> None:
  """Refuses a scan without the files of a channel; reads names only.

  Raises:
    InputError: names the scan, the channel and what to do.
  """
  _refuse(scan, scan_image.absent(scan.files, measured(channels)))


def scan_fingerprint(scan: Scan, channels: Sequence[str] = ONLY_SWI) -> str:
  """16 hex digits over what the scan's files hold and are called.

  Raises:
    InputError: one of them cannot be read.
  """
  content = [[p.name, sealed.sha256(p)] for p in scan.paths(channels)]
  fields = ('EchoTime', 'MagneticFieldStrength', 'Units')
  signals = scan_image.signal_files(scan.files, channels)
  read = [scan.files.sidecar, *(scan.files.facts.get(p, {}) for p in signals)]
  facts = [[some.get(name) for name in fields] for some in read]
  person = persons.person_of(scan.subject, scan.files.sidecar)
  said = lesion_labels.words_of(scan.truth.path)
  return files.digest([person, scan.name, content, facts, said])


def _refuse(scan: Scan, lacking: Mapping[str, str]) -> None:
  for name, why in lacking.items():
    raise InputError(
      f'{scan.name}: channel {name!r} cannot be had ({why}); put '
      '*_part-mag_T2starw and *_part-phase_T2starw on its grid beside it, '
      f'leave the scan out, or take {name!r} out of config.channels.'
    )


def _is_bids(folder):
  return (
    any(folder.glob('sub-*/anat/'))
    or any(folder.glob('sub-*/ses-*/anat/'))
    or any(folder.glob('sub-*/swi/'))
  )


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
  if not doors.is_there(table):
    return
  names = [row.cells[0] for row in delimited.read(table).rows]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise InputError(
      f'{table}: {twice[0]} is listed {names.count(twice[0])} times; a '
      'subject has one row.'
    )
