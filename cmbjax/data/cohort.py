"""A cohort folder to its scans, each with a truth, and one scan to arrays.

Three layouts are read: what `cmbjax simulate` writes, a person's BIDS folder
with a label image or a table of points per scan, and the folders of the
published CMB labeler. Rule: nothing downstream knows which one it was.
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax import files
from cmbjax.data import channels as channels_lib
from cmbjax.data import lupolab, persons
from cmbjax.data.channels import ONLY_SWI
from cmbjax.data.truth import Truth, check_grid, load_truth
from cmbjax.data.truth_files import TruthFiles, find_truth
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import bids, brain, signal, swi, volume

SMALLEST_MM = 10.0  # longest side; below it the header is not in mm


@dataclasses.dataclass(frozen=True)
class Scan:
  """One scan and its truth, as files."""

  subject: str  # 'sub-01'
  name: str  # 'sub-01' or 'sub-01_ses-1', unique in the cohort
  files: bids.ScanFiles
  truth: TruthFiles

  def paths(
    self, channels: Sequence[str] = ONLY_SWI
  ) -> tuple[pathlib.Path, ...]:
    """All files that the arrays of this scan come from."""
    own = self.files
    flat = [own.swi, own.mask, *signal_files(own, channels)]
    return (*(path for path in flat if path is not None), *self.truth.paths)


@dataclasses.dataclass(frozen=True)
class CohortFolder:
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


class LoadedScan(NamedTuple):
  """One scan in RAS voxel order."""

  swi: np.ndarray  # [X, Y, Z] float32 0..1
  spacing_mm: tuple[float, float, float]
  affine: np.ndarray  # [4, 4] voxel index to world mm
  mask: np.ndarray  # bool [X, Y, Z], the brain
  truth: Truth
  beside: tuple[np.ndarray, ...] = ()  # further channels, as `swi`


class ScanImage(NamedTuple):
  """The SWI of one scan, and where it is from."""

  volume: volume.Volume  # not scaled
  mask: np.ndarray  # bool [X, Y, Z], the brain
  made: str  # 'given', 'reconstructed' or 'magnitude' (no phase: no SWI)
  notes: tuple[str, ...]  # what was repaired, and what is not sure
  beside: Mapping[str, np.ndarray] = {}  # [X, Y, Z] 0..1
  lacking: Mapping[str, str] = {}  # channel: why it is not there


def read_cohort(folder: str | pathlib.Path) -> CohortFolder:
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
  return CohortFolder(folder, bids.is_simulated(folder), scans, unlabelled)


def load_scan(scan: Scan, channels: Sequence[str] = ONLY_SWI) -> LoadedScan:
  """Reads one scan: SWI (reconstructed where there is none), mask and truth.

  Args:
    scan: its files.
    channels: 'swi', then what else is read, see `channels.CHANNELS`.

  Raises:
    InputError: a damaged file, one that is not on the scan's grid, or a
      channel that is not there.
  """
  found = load_image(scan.files, channels)
  _refuse(scan, found.lacking)
  image, mask = found.volume, found.mask
  with named(image.path):
    unit = swi.scale_to_unit(image.array, mask)
  return LoadedScan(
    unit,
    image.spacing_mm,
    image.affine,
    mask,
    load_truth(scan.truth, image),
    tuple(found.beside.values()),
  )


def load_image(
  found: bids.ScanFiles, channels: Sequence[str] = ONLY_SWI
) -> ScanImage:
  """The SWI of a scan, made where there is none, and its brain mask.

  Further channels are what the SWI is made of, or would be: the high-passed
  phase (of several echoes the last one's) and the magnitude (their mean,
  without the first; without any phase the last one), scaled as the SWI. A
  channel that cannot be had is in `lacking`, and the SWI is there all the
  same.

  Raises:
    InputError: a damaged file, or one that is not on the scan's grid.
  """
  image, mask, made, notes, rebuilt = _image(found)
  if found.mask is not None:
    given = volume.load(found.mask)
    check_grid(given, image)
    mask, notes = given.array > 0, (*notes, *given.notes)
  elif mask is None:
    with named(image.path):
      mask = brain.brain_mask(image.array, image.spacing_mm)
  result = ScanImage(image, mask, made, notes)
  if len(channels) == 1:
    return result
  return _with_channels(result, found, channels[1:], rebuilt)


def check_channels(scan: Scan, channels: Sequence[str]) -> None:
  """Refuses a scan without the files of a channel; reads names only.

  Raises:
    InputError: names the scan, the channel and what to do.
  """
  _refuse(scan, _absent(scan.files, channels[1:]))


def scan_fingerprint(scan: Scan, channels: Sequence[str] = ONLY_SWI) -> str:
  """16 hex digits over what the scan's files hold and are called."""
  paths = scan.paths(channels)
  states = [path.stat() for path in paths]
  content = [
    [path.name, state.st_size, _content(path, state.st_size, state.st_mtime_ns)]
    for path, state in zip(paths, states)
  ]
  fields = ('EchoTime', 'MagneticFieldStrength', 'Units')
  signals = signal_files(scan.files, channels)
  sidecars = [scan.files.sidecar, *map(bids.sidecar, signals)]
  facts = [[some.get(name) for name in fields] for some in sidecars]
  person = persons.person_of(scan.subject, scan.files.sidecar)
  return files.digest([person, scan.name, content, facts])


@functools.cache
def _content(path: pathlib.Path, size: int, changed_ns: int) -> str:
  """Digest of one file; size and time are there to notice a new content."""
  return files.digest(path)


def _image(found: bids.ScanFiles) -> tuple:
  """The SWI: as given, else reconstructed, else (no phase) the magnitude.

  Also the brain mask and all images, where it was reconstructed.
  """
  if found.swi is not None:
    given = _of_a_head(volume.load(found.swi))
    return given, None, 'given', given.notes, None
  if found.phase is None:
    longest = _of_a_head(volume.load(bids.as_paths(found.magnitude)[-1]))
    return longest, None, 'magnitude', longest.notes, None
  made, grid, notes = _reconstruct(found)
  image = dataclasses.replace(grid, array=made.swi)
  return image, made.mask, 'reconstructed', notes, made


def _of_a_head(image: volume.Volume) -> volume.Volume:
  """The image, unless its header makes it smaller than any piece of one."""
  shape = image.array.shape[:3]
  sides = [n * side for n, side in zip(shape, image.spacing_mm)]
  if max(sides) < SMALLEST_MM:
    size = ' x '.join(f'{side:.3g}' for side in sides)
    raise InputError(
      f'{image.path}: shows {size} mm, which is no head; check the voxel sizes '
      'of its header, which cmbjax takes for mm.'
    )
  return image


@contextlib.contextmanager
def named(path: pathlib.Path | None) -> Iterator[None]:
  """What is wrong with an image is said with the name of its file."""
  try:
    yield
  except InputError as error:
    if path is None or str(path) in str(error):
      raise
    raise InputError(f'{path}: {error}') from error


def _reconstruct(
  found: bids.ScanFiles, image: ScanImage | None = None
) -> tuple[swi.Swi, volume.Volume, tuple[str, ...]]:
  """Magnitude and phase to all that an SWI is made of; on the grid of
  `image` and with its mask, where one is given."""
  read = signal.read(bids.as_paths(found.magnitude), bids.as_paths(found.phase))
  if image is not None:
    check_grid(read.grid, image.volume)
  with named(bids.as_paths(found.magnitude)[0]):
    made = swi.reconstruct(
      read.magnitude,
      read.phase,
      _of_a_head(read.grid).spacing_mm,
      echo_times_s=read.echo_times_s,
      field_t=read.field_t,
      mask=None if image is None else image.mask,
    )
  notes = tuple(read.notes)
  if not made.polarity.certain:
    notes += ('the sign of the phase is not clear; veins were taken as dark',)
  return made, read.grid, notes


def _with_channels(
  image: ScanImage,
  found: bids.ScanFiles,
  wanted: Sequence[str],
  rebuilt: swi.Swi | None,
) -> ScanImage:
  """The same with further channels; `rebuilt` is what the SWI was made with."""
  lacking, notes = _absent(found, wanted), ()
  wanted = [name for name in wanted if name not in lacking]
  if not wanted:
    return image._replace(lacking=lacking)
  try:
    if rebuilt is None and found.phase is not None:
      rebuilt, _, notes = _reconstruct(found, image)
    if rebuilt is None:
      given = volume.load(bids.as_paths(found.magnitude)[-1])
      check_grid(given, image.volume)
      magnitude, notes = given.array, given.notes
    else:
      magnitude = rebuilt.magnitude
    make = {
      'phase': lambda: channels_lib.of_phase(rebuilt.phase),
      'magnitude': lambda: swi.scale_to_unit(magnitude, image.mask),
    }
    beside = {name: make[name]() for name in wanted}
  except InputError as error:
    why = str(error).rstrip('.')
    return image._replace(lacking=lacking | dict.fromkeys(wanted, why))
  notes = tuple(dict.fromkeys((*image.notes, *notes)))  # a file read twice
  return image._replace(notes=notes, beside=beside, lacking=lacking)


def _absent(found: bids.ScanFiles, wanted: Sequence[str]) -> dict[str, str]:
  """Channels without a file, and why they cannot be had."""
  files_of = {'phase': found.phase, 'magnitude': found.magnitude}
  if found.magnitude is None:  # a phase alone is not high-passed
    files_of['phase'] = None
  return {
    name: f'there is no {name} beside the SWI'
    for name in wanted
    if files_of[name] is None
  }


def _refuse(scan: Scan, lacking: Mapping[str, str]) -> None:
  for name, why in lacking.items():
    raise InputError(
      f'{scan.name}: channel {name!r} cannot be had ({why}); put '
      '*_part-mag_T2starw and *_part-phase_T2starw on its grid beside it, '
      f'leave the scan out, or take {name!r} out of config.channels.'
    )


def signal_files(
  found: bids.ScanFiles, channels: Sequence[str] = ONLY_SWI
) -> tuple[pathlib.Path, ...]:
  """Magnitude and phase where they are read: without an SWI, or as channels."""
  if found.swi is not None and len(channels) == 1:
    return ()
  return (*bids.as_paths(found.magnitude), *bids.as_paths(found.phase))


def echo_time_s(found: bids.ScanFiles) -> float | None:
  """Mean echo time of what the SWI of a scan was made from; None: not known.

  Of several echoes that is all but the first one, and without a phase the
  last one, which is taken for an SWI.
  """
  times = found.sidecar.get('EchoTime')
  if found.swi is None and isinstance(found.magnitude, tuple):
    used = slice(-1, None) if found.phase is None else slice(1, None)
    times = [bids.sidecar(p).get('EchoTime') for p in found.magnitude[used]]
  times = times if isinstance(times, list) else [times]
  known = [float(time) for time in times if files.is_number(time)]
  return sum(known) / len(known) if known else None


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
  if not table.is_file():
    return
  rows = files.read_rows(table)[1:]
  names = [row[0].strip() for row in rows if ''.join(row).strip()]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise InputError(
      f'{table}: {twice[0]} is listed {names.count(twice[0])} times; a '
      'subject has one row.'
    )
