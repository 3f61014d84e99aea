"""What a person points at to the scans in it.

A file, a folder of NIfTI files, a BIDS data set or a DICOM folder. Rule: one
subject whose files cannot be distinguished does not stop the others.
"""

import dataclasses
import pathlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import (
  bids,
  choice,
  filename,
  flat,
  named_image,
  roles,
  sidecars,
)
from cmbjax.intake.owner import PATTERN, Owner
from cmbjax.intake.scan_files import ScanFiles

DETECT_OPTIONS = frozenset({PATTERN, '--phase', '--mask', '--series'})
_ABSENT = (
  'has no anat/*_swi, *_T2starw, *_MEGRE or *_GRE; check the names of its files'
)
_LONGEST = 160  # letters of a name; file systems end at 255, endings included


class FoundScans(NamedTuple):
  """The scans of an input."""

  kind: str  # 'file', 'folder', 'bids' or 'dicom'
  scans: tuple[ScanFiles, ...]
  broken: tuple[tuple[str, str], ...]  # (name, why) of unusable scans
  left_out: tuple[str, ...] = ()  # subjects, sessions or files without a scan
  files: tuple[tuple[pathlib.Path, str], ...] = ()  # of no scan, and why
  notes: tuple[str, ...] = ()  # what has to be said of the choice


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
  options: Collection[str] = DETECT_OPTIONS,
) -> FoundScans:
  """Finds the scans of `source`.

  Args:
    source: a NIfTI file, a folder of them, a BIDS or DICOM folder.
    phase: of one magnitude file.
    mask: brain mask, for one scan only.
    participants, sessions: labels to keep, with or without 'sub-', 'ses-'.
    swi_pattern: shell pattern of the SWI's name.
    work: where converted DICOM series go; None: do not convert.
    series: numbers of the DICOM series to take.
    options: that the calling command has: advice names no others.

  Raises:
    NoInputError: nothing to analyse.
    InputError: options that do not fit, or names that are there twice.
  """
  if not doors.is_there(source):
    raise NoInputError(f'{source}: no such file or folder; check the name.')
  if not source.is_dir():
    found = FoundScans('file', (_one_file(source, phase, options),), ())
  elif phase:
    raise InputError('--phase: goes with one magnitude file, not a folder.')
  elif any(p.is_dir() for p in source.glob('sub-*')):
    found = _bids(source, participants, swi_pattern, options)
  else:
    found = _folder(source, work, series, swi_pattern, options)
  for name, given, kinds in (
    ('--series', series, ('dicom',)),
    (PATTERN, swi_pattern, ('bids', 'folder')),
  ):
    if given and found.kind not in kinds:
      raise InputError(
        f'{name}: is for {_KINDS[kinds[0]]}, and {source} is none; leave it '
        'out.'
      )
  if found.kind == 'bids' and bids.is_simulated(source):
    found = found._replace(scans=tuple(map(_simulated, found.scans)))
  given = (participants, sessions, swi_pattern)
  found = _keep(found, source, participants, sessions)
  if not found.scans and not found.broken:
    raise _nothing_left(source, *given)
  return found if mask is None else _masked(found, mask)


_KINDS = {'dicom': 'a DICOM folder', 'bids': 'a folder of NIfTI files'}


def _simulated(scan):
  """The data set says it, so each of its scans does."""
  fields = scan.sidecar | {'Simulated': True}
  return dataclasses.replace(scan, sidecar=fields)


def _one_file(path, phase, options):
  if not filename.IMAGE.search(path.name):
    raise InputError(
      f'{path}: is not a NIfTI file (.nii, .nii.gz); convert it first, or '
      'give the folder of the DICOM series.'
    )
  for other in phase:
    if not doors.is_there(other):
      raise NoInputError(f'{other}: no such file; check --phase.')
  fields = sidecars.read(path)
  image = named_image.with_role(named_image.describe(path), fields)
  if image.role in (roles.PHASE, roles.REAL, roles.IMAGINARY) and not phase:
    raise InputError(
      f'{path}: is a {image.role} image by its name or JSON; give the folder '
      'that holds its partner too, or the finished SWI.'
    )
  if image.role not in roles.SCAN:
    raise InputError(
      f'{path}: is not an SWI by its name or JSON, but '
      f'{choice.WHY[image.role]}; '
      'give the SWI, or rename the file if it is one.'
    )
  return _scan_of(image, fields, tuple(phase), options)


def _scan_of(image, fields, phase, options):
  """One file, or a magnitude and its phase, as a scan."""
  path = image.path
  lone = _phase_beside(path) if not phase else None
  plain = image.role in (roles.SWI, roles.UNKNOWN) and not (phase or lone)
  label = image.label or filename.plain(filename.stem(path))
  if not label:
    raise InputError(
      f'{path}: its name has no letter or digit to call the subject by; rename '
      'it.'
    )
  session = filename.plain(image.session or '')
  who = Owner(f'sub-{label}', f'ses-{session}' if session else None)
  fix = ' (give it with --phase)' if '--phase' in options else ''
  return ScanFiles(
    subject=who.subject,
    session=who.session,
    name=who.name,
    swi=path if plain else None,
    magnitude=() if plain else (path,),
    phase=phase,
    mask=None,
    sidecar=fields,
    facts={path: fields} | {p: sidecars.read(p) for p in phase},
    left_out=((lone, f'only {path.name} was given'),) if lone else (),
    notes=(f'its phase {lone.name} was not used{fix}',) if lone else (),
  )


def _phase_beside(path):
  """What dcm2niix writes beside a magnitude."""
  ending = path.name[len(filename.stem(path)) :]
  phase = path.with_name(f'{filename.stem(path)}_ph{ending}')
  return phase if doors.is_there(phase) else None


def _folder(source, work, series, pattern, options):
  """NIfTI files, else DICOM."""
  found = flat.find(source, pattern=pattern, options=options)
  if found.scans or found.broken or found.files:
    if not found.scans and not found.broken and not pattern:
      path, why = found.files[0]
      more = f' and {len(found.files) - 1} more' if found.files[1:] else ''
      raise NoInputError(
        f'{source}: holds no scan: {path.name} ({why.rstrip(".")})'
        f'{more}; give the SWI, or magnitude and phase.'
      )
    phases = [p.name for p, _ in found.files if _is_phase(p)]
    return FoundScans(
      'folder',
      found.scans,
      found.broken,
      tuple(phases),
      found.files,
      found.notes,
    )
  from cmbjax.intake import dicom, dicom_series

  if not dicom_series.is_dicom(source):
    ways = 'a folder of NIfTI files or a BIDS data set (sub-* folders)'
    if '--series' in options:
      ways = (
        'a NIfTI file, a folder of them, a BIDS data set (sub-* folders) or a '
        'DICOM folder'
      )
    raise NoInputError(f'{source}: holds no scan; give {ways}.')
  if work is None and '--series' not in options:
    raise InputError(
      f'{source}: is a DICOM folder; convert it first (cmbjax detect does, '
      'and leaves the images below OUT/sourcedata), and give the result.'
    )
  if work is None:
    raise InputError(
      f'{source}: is a DICOM folder, which has to be converted before its '
      'scans are known; leave --dry-run out.'
    )
  broken: dict[str, str] = {}
  scans = dicom.convert(source, work, series=series, failures=broken)
  return FoundScans('dicom', tuple(scans), tuple(broken.items()))


def _is_phase(path):
  return named_image.describe(path).role in (
    roles.PHASE, roles.REAL, roles.IMAGINARY
  )  # fmt: skip


def _bids(source, participants, swi_pattern, options):
  """All scans; of those whose files are ambiguous, the reason."""
  failures: dict[str, str] = {}
  empty: list[str] = []
  scans = bids.find_scans(
    source,
    participants=participants,
    swi_pattern=swi_pattern,
    failures=failures,
    without=empty,
    options=options,
  )
  broken = list(failures.items())
  tried = {scan.name for scan in scans} | set(failures)
  if participants:  # asked for by name
    without = {_subject(n) for n in empty} - {_subject(n) for n in tried}
    broken += [(name, f'{name} {_ABSENT}.') for name in sorted(without)]
    empty = [name for name in empty if _subject(name) not in without]
  beside = tuple(
    (path, 'outside of the sub-* folders')
    for path in sorted(source.glob('*.nii*'))
    if filename.IMAGE.search(path.name) and not files.is_hidden(path)
  )
  return FoundScans('bids', tuple(scans), tuple(broken), tuple(empty), beside)


def _subject(name):
  return name.split('_ses-')[0]


def _nothing_left(source, participants, sessions, pattern) -> NoInputError:
  """Names the options that were given, and no others."""
  given = [
    name
    for name, value in (
      ('--participant-label', participants),
      ('--session-label', sessions),
      (PATTERN, pattern),
    )
    if value
  ]
  about = f'{", ".join(given)} and ' if given else ''
  return NoInputError(
    f'{source}: no scan is left; check {about}the names of the files.'
  )


def _keep(found, source, participants, sessions):
  """The scans that were asked for; every name once."""
  scans = found.scans
  if participants and found.kind != 'bids':
    wanted = {'sub-' + p.removeprefix('sub-') for p in participants}
    bad = {_subject(name) for name, _ in found.broken}
    _all_there(source, wanted, {s.subject for s in scans} | bad)
    scans = tuple(s for s in scans if s.subject in wanted)
    broken = tuple(row for row in found.broken if _subject(row[0]) in wanted)
    found = found._replace(broken=broken)
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
  long = tuple(scan for scan in scans if len(scan.name) > _LONGEST)
  scans = tuple(scan for scan in scans if len(scan.name) <= _LONGEST)
  scans, twice = _once(scans)
  broken = (*found.broken, *map(_cut, long), *twice)
  return found._replace(scans=scans, broken=broken)


def _once(scans):
  """(scans of a name of their own, [(name, why)] of the others)."""
  by_name: dict[str, list[ScanFiles]] = {}
  for scan in scans:  # some file systems take sub-A and sub-a for one
    by_name.setdefault(scan.name.lower(), []).append(scan)
  twice = []
  for same in by_name.values():
    if len(same) > 1:
      paths = ', '.join(str(s.swi or s.magnitude[0]) for s in same)
      why = f'{paths} would be called the same; rename one of them.'
      twice.append((same[0].name, f'{same[0].name}: {why}'))
  return tuple(s for s in scans if len(by_name[s.name.lower()]) == 1), twice


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
  if not doors.is_there(mask):
    raise NoInputError(f'{mask}: no such file; check --mask.')
  (scan,) = found.scans
  return found._replace(scans=(dataclasses.replace(scan, mask=mask),))
