"""What a person points at to the scans in it.

A file, a folder of NIfTI files, a BIDS data set or a DICOM folder. Rule: one
subject whose files cannot be distinguished does not stop the others.
"""

import dataclasses
import pathlib
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from cmbjax import files
from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import bids, filename, sidecars
from cmbjax.intake.scan_files import ScanFiles

_NIFTI = re.compile(r'\.nii(\.gz)?$', re.IGNORECASE)
# 'swi' is in the names of projections and masks too.
_NOT_A_SCAN = re.compile(
  r'(^|[_-])(m(in)?ip|mask|dseg|probseg|label|seg)([_.-]|$)', re.IGNORECASE
)
_SWI = re.compile(r'(^|[_-])swi([_.-]|$)', re.IGNORECASE)
_PHASE = re.compile(r'(^|[_-])(part-phase|phase|pha|ph)([_.-]|$)', re.I)
_MAGNITUDE = re.compile(r'(^|[_-])(part-mag|magnitude|mag)([_.-]|$)', re.I)
_ABSENT = (
  'has no anat/*_swi, *_T2starw or *_MEGRE; check the names of its files'
)
_LONGEST = 160  # letters of a name; file systems end at 255, endings included


class FoundScans(NamedTuple):
  """The scans of an input."""

  kind: str  # 'file', 'folder', 'bids' or 'dicom'
  scans: tuple[ScanFiles, ...]
  broken: tuple[tuple[str, str], ...]  # (name, why) of unusable scans
  left_out: tuple[str, ...] = ()  # subjects, sessions or files without a scan


def find(
  source: pathlib.Path,
  *,
  phase: Sequence[pathlib.Path] = (),
  mask: pathlib.Path | None = None,
  participants: Sequence[str] = (),
  sessions: Sequence[str] = (),
  swi_pattern: str | None = None,
  work: pathlib.Path | None = None,
  series: Sequence[int] = (),
) -> FoundScans:
  """Finds the scans of `source`.

  Args:
    source: a NIfTI file, a flat folder of them, a BIDS or DICOM folder.
    phase: of one magnitude file.
    mask: brain mask, for one scan only.
    participants, sessions: labels to keep, with or without 'sub-', 'ses-'.
    swi_pattern: shell pattern of the SWI's name.
    work: where converted DICOM series go; None: do not convert.

  Raises:
    NoInputError: nothing to analyse.
    InputError: options that do not fit, or names that are there twice.
  """
  if not source.exists():
    raise NoInputError(f'{source}: no such file or folder; check the name.')
  if source.is_file():
    found = FoundScans('file', (_one_file(source, phase),), ())
  elif phase:
    raise InputError('--phase: goes with one magnitude file, not a folder.')
  elif any(p.is_dir() for p in source.glob('sub-*')):
    found = _bids(source, participants, swi_pattern)
  else:
    found = _folder(source, work, series)
  if series and found.kind != 'dicom':
    raise InputError(
      f'--series: is for a DICOM folder, and {source} is none; leave it out.'
    )
  if found.kind == 'bids' and bids.is_simulated(source):
    found = found._replace(scans=tuple(map(_simulated, found.scans)))
  found = _keep(found, source, participants, sessions)
  return found if mask is None else _masked(found, mask)


def _simulated(scan):
  """The data set says it, so each of its scans does."""
  fields = scan.sidecar | {'Simulated': True}
  return dataclasses.replace(scan, sidecar=fields)


def _one_file(path, phase):
  if not _NIFTI.search(path.name):
    raise InputError(
      f'{path}: is not a NIfTI file (.nii, .nii.gz); convert it first, or '
      'give the folder of the DICOM series.'
    )
  for other in phase:
    if not other.is_file():
      raise NoInputError(f'{other}: no such file; check --phase.')
  return _scan_of(path, tuple(phase))


def _scan_of(path, phase=()):
  """One file, or a magnitude and its phase, as a scan."""
  session = filename.entities(path).get('ses')
  subject = f'sub-{_label(path)}'
  name = f'{subject}_ses-{session}' if session else subject
  magnitude_only = not phase and _is_magnitude(path)
  plain = not phase and not magnitude_only
  return ScanFiles(
    subject=subject,
    session=f'ses-{session}' if session else None,
    name=name,
    swi=path if plain else None,
    magnitude=() if plain else (path,),
    phase=tuple(phase),
    mask=None,
    sidecar=sidecars.read(path),
  )


def _is_magnitude(path):
  return filename.entities(path).get('part') == 'mag'


def _label(path):
  """The BIDS subject, else the letters and digits of the name."""
  given = filename.entities(path).get('sub')
  text = given if given else _NIFTI.sub('', path.name)
  text = unicodedata.normalize('NFKD', text)  # of an umlaut the letter stays
  # A file may be called mag.nii and nothing else.
  odd = '[^A-Za-z0-9]'
  label = re.sub(odd, '', _MAGNITUDE.sub('_', text)) or re.sub(odd, '', text)
  if not label:
    raise InputError(
      f'{path}: its name has no letter or digit to call the subject by; rename '
      'it.'
    )
  return label


def _folder(source, work, series):
  """Flat NIfTI files, else DICOM."""
  images = sorted(
    p
    for p in source.iterdir()
    if _NIFTI.search(p.name) and not files.is_hidden(p)
  )
  if images:
    scans = _best(list(_pair(images)))
    return FoundScans('folder', scans, (), _lone_phases(images, scans))
  from cmbjax.intake import dicom, dicom_series

  if not dicom_series.is_dicom(source):
    raise NoInputError(
      f'{source}: holds no scan; give a NIfTI file, a folder of them, a BIDS '
      'data set (sub-* folders) or a DICOM folder.'
    )
  if work is None:
    raise InputError(
      f'{source}: is a DICOM folder, which has to be converted before its '
      'scans are known; leave --dry-run out.'
    )
  broken: dict[str, str] = {}
  scans = dicom.convert(source, work, series=series, failures=broken)
  return FoundScans('dicom', tuple(scans), tuple(broken.items()))


def _pair(images):
  """Scans of a flat folder; magnitude and phase of one name belong together."""
  images = [p for p in images if not _NOT_A_SCAN.search(p.name)]
  phases = {}
  for path in images:
    if _PHASE.search(path.name):
      phases.setdefault(_PHASE.sub('_', path.name), []).append(path)
  for path in images:
    if not _PHASE.search(path.name):
      partner = phases.get(_MAGNITUDE.sub('_', path.name), [])
      is_signal = _MAGNITUDE.search(path.name) and len(partner) == 1
      yield _scan_of(path, tuple(partner) if is_signal else ())


def _lone_phases(images, scans):
  """Names of phases that no magnitude goes with."""
  used = {path for scan in scans for path in scan.phase}
  scanned = {scan.swi for scan in scans}
  return tuple(
    p.name
    for p in images
    if _PHASE.search(p.name) and not _NOT_A_SCAN.search(p.name)
    and p not in used | scanned
  )  # fmt: skip


def _best(scans):
  """Where a name has several files and one of them is the SWI, that one.

  Magnitude and phase of its name stay with it: networks may want to see them.
  """
  is_swi = [s.swi is not None and bool(_SWI.search(s.swi.name)) for s in scans]
  named = [scan.name for scan, yes in zip(scans, is_swi) if yes]
  signals: dict[str, list] = {}
  for scan in scans:
    if scan.magnitude and scan.phase:
      signals.setdefault(scan.name, []).append(scan)
  return tuple(
    _joined(scan, signals.get(scan.name, [])) if yes else scan
    for scan, yes in zip(scans, is_swi)
    if yes or named.count(scan.name) != 1
  )


def _joined(scan, signals):
  """An SWI with its magnitude and phase, where there is one pair."""
  if len(signals) != 1:  # which one belongs to the SWI is not known
    return scan
  (signal,) = signals
  return dataclasses.replace(
    scan, magnitude=signal.magnitude, phase=signal.phase
  )


def _bids(source, participants, swi_pattern):
  """All scans; of those whose files are ambiguous, the reason."""
  failures: dict[str, str] = {}
  scans = bids.find_scans(
    source,
    participants=participants,
    swi_pattern=swi_pattern,
    failures=failures,
  )
  broken = list(failures.items())
  tried = {scan.name for scan in scans} | set(failures)
  empty = [n for n in bids.folders_of(source, participants) if n not in tried]
  if participants:  # asked for by name
    without = {_subject(n) for n in empty} - {_subject(n) for n in tried}
    broken += [(name, f'{name} {_ABSENT}.') for name in sorted(without)]
    empty = [name for name in empty if _subject(name) not in without]
  return FoundScans('bids', tuple(scans), tuple(broken), tuple(empty))


def _subject(name):
  return name.split('_ses-')[0]


def _keep(found, source, participants, sessions):
  """The scans that were asked for; every name once."""
  scans = found.scans
  if participants and found.kind != 'bids':
    wanted = {'sub-' + p.removeprefix('sub-') for p in participants}
    _all_there(source, wanted, {s.subject for s in scans})
    scans = tuple(s for s in scans if s.subject in wanted)
  if sessions:
    wanted = {'ses-' + s.removeprefix('ses-') for s in sessions}
    broken = {name: _session(name) for name, _ in found.broken}
    known = {scan.session for scan in scans} | set(broken.values())
    known |= {_session(name) for name in found.left_out}
    _all_there(source, wanted, known - {None})
    scans = tuple(s for s in scans if s.session in wanted)
    asked = {'sub-' + p.removeprefix('sub-') for p in participants}
    kept = {n for n, s in broken.items() if s in wanted or n in asked}
    found = found._replace(
      broken=tuple(row for row in found.broken if row[0] in kept),
      left_out=tuple(n for n in found.left_out if _session(n) in wanted),
    )
  if not scans and not found.broken:
    raise NoInputError(
      f'{source}: no scan is left; check --participant-label and '
      '--session-label, and the names of the files.'
    )
  long = tuple(scan for scan in scans if len(scan.name) > _LONGEST)
  scans = tuple(scan for scan in scans if len(scan.name) <= _LONGEST)
  # Lower case: some file systems take sub-A and sub-a for one.
  names = [scan.name.lower() for scan in scans]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    same = [s for s in scans if s.name.lower() == twice[0]]
    paths = ', '.join(str(s.swi or s.magnitude[0]) for s in same)
    raise InputError(
      f'{source}: {paths} would both be called {twice[0]}; rename one, or give '
      'the files one by one.'
    )
  return found._replace(scans=scans, broken=(*found.broken, *map(_cut, long)))


def _session(name):
  """Of 'sub-01_ses-a' the session, of 'sub-01' None."""
  _, known, session = name.partition('_ses-')
  return f'ses-{session}' if known else None


def _all_there(source, wanted, there):
  """A label with a slip in it must not be forgotten in silence."""
  missing = sorted(wanted - there)
  if missing and wanted & there:
    raise InputError(
      f'{source}: has no {", ".join(missing)}; it has '
      f'{", ".join(sorted(there)[:10])}.'
    )


def _cut(scan):
  """A name that leaves no room for the endings of its results."""
  path = scan.swi or scan.magnitude[0]
  why = f'{path}: its name is too long for the names of results; shorten it.'
  return f'{scan.name[: _LONGEST - 1]}-', why


def _masked(found, mask):
  if len(found.scans) != 1:
    raise InputError(
      f'--mask: is for one scan, {len(found.scans)} were found; put masks '
      'beside the scans (*_label-brain_mask.nii.gz).'
    )
  if not mask.is_file():
    raise NoInputError(f'{mask}: no such file; check --mask.')
  (scan,) = found.scans
  return found._replace(scans=(dataclasses.replace(scan, mask=mask),))
