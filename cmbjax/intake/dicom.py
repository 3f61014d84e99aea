"""A folder of DICOM files to a BIDS folder of scans without names.

Rule: no name, number or date of a person is in anything that is written. A
subject is called by a keyed digest; the key is in the result's
`.dicom-key`, so that a second run gives the same names. Delete it before the
folder is given away.
"""

import importlib.util
import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import bids, dicom_images, dicom_series, roles
from cmbjax.intake.dicom_series import MISSING, Series
from cmbjax.intake.scan_files import ScanFiles

VERSION = 1  # of what is written
KEY_FILE = '.dicom-key'
_DAMAGED = 'damaged DICOM files were left out ({}); export them again.'


def convert(
  folder: str | os.PathLike,
  out: str | os.PathLike,
  *,
  series: Sequence[int] = (),
  failures: dict[str, str] | None = None,
) -> list[ScanFiles]:
  """Converts the susceptibility-weighted scans below a DICOM folder.

  Magnitude and phase (or real and imaginary parts) and the finished SWI of
  each examination are distinguished by ImageType and the names that GE,
  Siemens and Philips give them, and those on one grid belong together. A person
  with several examinations gets sessions, in the order of time.

  Args:
    folder: any tree of DICOM files, of one or several people.
    out: result, a BIDS folder; scans that are there already are kept.
    series: numbers of the series to use; empty: chosen as above.
    failures: gets label -> sentence for each scan that could not be
      converted; None: the first of them is raised, after the others are done.

  Returns:
    The scans, as `bids.find_scans` gives them, sorted by name.

  Raises:
    NoInputError: no DICOM, or no series that fits; lists the series found.
    InputError: packages missing, damaged files, or a choice to be made.
  """
  out = pathlib.Path(out)
  found, damaged = dicom_series.read_folder(folder)
  tool = _find_tool(folder)
  key = _key(out)
  wanted = _wanted(folder, found, series)
  problems: dict[str, str] = {}
  if damaged:
    listed = dicom_series.listed(pathlib.Path(folder), damaged)
    problems['damaged files'] = _DAMAGED.format(listed)
  _write_top(out)
  names = []
  for subject, session, chosen in _by_examination(wanted, key):
    name = f'{subject}_{session}' if session else subject
    try:
      _convert_one(out, subject, session, chosen, key=key, tool=tool)
      names.append(name)
    except InputError as error:
      problems[name] = f'{name}: {error}'
  _write_participants(out)
  if failures is not None:
    failures.update(problems)
  elif problems:
    raise InputError(next(iter(problems.values())))
  if not names:
    return []
  labels = sorted({name.split('_')[0] for name in names})
  return [
    scan
    for scan in bids.find_scans(out, participants=labels)
    if scan.name in names
  ]


def source_files(
  folder: str | os.PathLike, converted: str | os.PathLike, scan: ScanFiles
) -> tuple[pathlib.Path, ...]:
  """The DICOM files that the main image of a converted scan was made from.

  Args:
    folder: with DICOM files.
    converted: where they were converted to.
    scan: the one of `converted`.

  Raises:
    NoInputError: no series below `folder` gave this scan.
    InputError: the key of `converted` cannot be read.
  """
  mark = scan.sidecar.get('SourceSeries')
  key = _key_there(pathlib.Path(converted)) or b''
  for series in dicom_series.read_folder(folder)[0]:
    if _mark(key, series) == mark:
      kinds = dicom_series.kinds_of(
        [(h.types, '') for h in series.headers], series.first.description
      )
      main = _main_kind(scan)
      return tuple(h.path for h, k in zip(series.headers, kinds) if k == main)
  raise NoInputError(
    f'{folder}: holds no series that {scan.name} was converted from; give the '
    'same DICOM folder again.'
  )


def _main_kind(scan) -> str:
  if scan.swi is not None:
    return roles.SWI
  return roles.REAL if scan.cartesian else roles.MAGNITUDE


def _find_tool(folder) -> str:
  """The program of the wheel, else one on the search path."""
  if importlib.util.find_spec('dcm2niix') is not None:
    import dcm2niix

    return dcm2niix.bin
  tool = shutil.which('dcm2niix')
  if tool is None:
    raise InputError(f'{folder}: {MISSING}')
  return tool


def _key(out) -> bytes:
  key = _key_there(out)
  if key is not None:
    return key
  path, key = out / KEY_FILE, secrets.token_bytes(16)
  files.write_text(path, key.hex() + '\n')
  path.chmod(0o600)
  return key


def _key_there(out: pathlib.Path) -> bytes | None:
  """The key of an earlier conversion; None: there is none.

  Raises:
    InputError: it cannot be read.
  """
  path = out / KEY_FILE
  if not doors.is_there(path):
    return None
  try:
    return bytes.fromhex(files.read_text(path))
  except ValueError as error:
    raise InputError(
      f'{path}: cannot be read; restore it, or convert to another folder.'
    ) from error


def _wanted(folder, found, numbers):
  if numbers:
    missing = set(numbers) - {s.first.number for s in found}
    if missing:
      raise InputError(
        f'{folder}: has no series {", ".join(map(str, sorted(missing)))}; it '
        f'has {_listed(found)}.'
      )
    return [s for s in found if s.first.number in numbers]
  wanted = [s for s in found if dicom_series.is_wanted(s)]
  if not wanted:
    raise NoInputError(
      f'{folder}: has no susceptibility-weighted or T2*-weighted gradient-echo '
      f'series; found {_listed(found)}. If one is, name it (--series).'
    )
  return wanted


def _listed(found: Sequence[Series]) -> str:
  shown = [str(s) for s in found[:12]]
  more = f' and {len(found) - 12} more' if len(found) > 12 else ''
  return '; '.join(shown) + more


def _by_examination(wanted, key) -> Iterator[tuple]:
  """(subject, session or None, series) in the order of people and time."""
  people: dict[str, dict[str, list[Series]]] = {}
  for series in wanted:
    studies = people.setdefault(series.first.patient, {})
    studies.setdefault(series.first.study, []).append(series)
  for person, studies in people.items():
    subject = 'sub-' + dicom_series.label(key, person)
    for number, chosen in enumerate(studies.values(), 1):
      session = f'ses-{number:02d}' if len(studies) > 1 else None
      yield subject, session, chosen


def _convert_one(out, subject, session, chosen, *, key, tool) -> None:
  name = f'{subject}_{session}' if session else subject
  target = out / subject / session if session else out / subject
  instances = sorted(h.instance for s in chosen for h in s.headers)
  mark = files.digest(VERSION, dicom_series.label(key, str(instances)), name)
  if _is_done(target, mark):
    return
  for series in chosen:
    dicom_series.check_whole(series)
  files.make_folder(out)
  with tempfile.TemporaryDirectory(prefix='.partial-', dir=out) as work:
    images = [
      image
      for number, series in enumerate(chosen)
      for image in dicom_images.converted(
        tool, series, pathlib.Path(work, f'in{number}')
      )
    ]
    ready = pathlib.Path(work, 'ready', 'anat')
    for image, stem in dicom_images.choose(images):
      facts = {'SourceSeries': _mark(key, image.series), 'SourceMark': mark}
      dicom_images.write(image, ready / f'{name}_{stem}', facts)
    shutil.rmtree(target, ignore_errors=True)
    if session:  # there was one examination before
      shutil.rmtree(out / subject / 'anat', ignore_errors=True)
    files.make_folder(target.parent)
    os.replace(ready.parent, target)


def _is_done(target, mark) -> bool:
  sidecars = list(target.glob('anat/*.json'))
  return bool(sidecars) and all(
    files.read_object(p).get('SourceMark') == mark for p in sidecars
  )


def _mark(key, series: Series) -> str:
  return dicom_series.label(key, series.first.series, length=16)


def _write_top(out) -> None:
  bids.write_description(
    out, 'Converted DICOM', extra={'GeneratedBy': [{'Name': 'cmbjax'}]}
  )
  files.write_text(out / '.bidsignore', '*_swi.*\n.partial-*\ndicom_seg\n')
  files.write_text(out / 'README', _README)


_README = f"""Scans converted from DICOM by cmbjax with dcm2niix.

Subjects are called by keyed digests of who they are. The key is in {KEY_FILE};
without it nobody can find out whether a person is among them. Delete it before
this folder leaves your site.
"""


def _write_participants(out) -> None:
  names = sorted(p.name for p in out.glob('sub-*') if p.is_dir())
  files.write_text(
    out / 'participants.tsv', '\n'.join(['participant_id', *names]) + '\n'
  )
