"""A folder of DICOM files to a BIDS folder of scans without names.

Rule: no name, number or date of a person is in anything that is written. A
subject is called by a keyed digest; the key lies in the result's
`.dicom-key`, so that a second run gives the same names. Delete it before the
folder is given away.
"""

import contextlib
import gzip
import importlib.util
import io
import os
import pathlib
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from cmbjax import files
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import bids, dicom_series, volume
from cmbjax.imaging.bids import ScanFiles
from cmbjax.imaging.dicom_series import (
  KINDS,
  MISSING,
  Header,
  Series,
  is_dicom,
)

__all__ = ['KINDS', 'convert', 'is_dicom', 'source_files']

VERSION = 1  # of what is written
KEY_FILE = '.dicom-key'

_SECONDS = 900  # for one series
# What describes the machine, not the person or the day.
_FIELDS = (
  'Modality',
  'Manufacturer',
  'ManufacturersModelName',
  'MagneticFieldStrength',
  'ImagingFrequency',
  'MRAcquisitionType',
  'ScanningSequence',
  'SequenceVariant',
  'ImageType',
  'EchoTime',
  'EchoNumber',
  'RepetitionTime',
  'FlipAngle',
  'SliceThickness',
  'SpacingBetweenSlices',
  'PixelBandwidth',
  'ParallelReductionFactorInPlane',
  'PartialFourier',
  'ConversionSoftware',
  'ConversionSoftwareVersion',
)
_PREFERRED = ('NORM', 'DIS3D', 'DIS2D')  # of two versions of one image


class _Image(NamedTuple):
  """One volume that dcm2niix wrote."""

  kind: str
  path: pathlib.Path
  fields: dict[str, Any]
  series: Series
  shape: tuple[int, ...]
  affine: np.ndarray


def convert(
  folder: str | os.PathLike,
  out: str | os.PathLike,
  *,
  series: Sequence[int] = (),
  failures: dict[str, str] | None = None,
) -> list[ScanFiles]:
  """Converts the susceptibility-weighted scans below a DICOM folder.

  Magnitude, phase and finished SWI of each examination are told apart by
  ImageType and the names that GE, Siemens and Philips give them, and those on
  one grid belong together. A person with several examinations gets sessions,
  in the order of time.

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
    problems['damaged files'] = (
      f'damaged DICOM files were left out ({damaged}); export them again.'
    )
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
  """
  path = pathlib.Path(converted, KEY_FILE)
  mark = scan.sidecar.get('SourceSeries')
  key = bytes.fromhex(path.read_text()) if path.is_file() else b''
  for series in dicom_series.read_folder(folder)[0]:
    if _mark(key, series) == mark:
      return tuple(
        h.path for h in series.headers if _shown(h) == _main_kind(scan)
      )
  raise NoInputError(
    f'{folder}: holds no series that {scan.name} was converted from; give the '
    'same DICOM folder again.'
  )


def _shown(header: Header) -> str:
  return dicom_series.kind_of(header.types, header.description)


def _main_kind(scan):
  return 'swi' if scan.swi is not None else 'magnitude'


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
  path = out / KEY_FILE
  try:
    return bytes.fromhex(path.read_text())
  except FileNotFoundError:
    key = secrets.token_bytes(16)
  except (OSError, ValueError) as error:
    raise InputError(
      f'{path}: cannot be read; restore it, or convert to another folder.'
    ) from error
  files.write_text(path, key.hex() + '\n')
  path.chmod(0o600)
  return key


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
  with (
    tempfile.TemporaryDirectory(prefix='.partial-', dir=out) as work,
    _no_user_defaults() as environment,
  ):
    images = [
      image
      for number, series in enumerate(chosen)
      for image in _run(
        tool, series, pathlib.Path(work, f'in{number}'), environment
      )
    ]
    ready = pathlib.Path(work, 'ready', 'anat')
    for image, stem in _choose(images, chosen):
      facts = {'SourceSeries': _mark(key, image.series), 'SourceMark': mark}
      _write(image, ready / f'{name}_{stem}', facts)
    shutil.rmtree(target, ignore_errors=True)
    if not session:  # a second examination came or went
      target.parent.mkdir(parents=True, exist_ok=True)
    else:
      shutil.rmtree(out / subject / 'anat', ignore_errors=True)
      target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(ready.parent, target)


def _is_done(target, mark) -> bool:
  sidecars = list(target.glob('anat/*.json'))
  return bool(sidecars) and all(
    files.read_object(p).get('SourceMark') == mark for p in sidecars
  )


def _mark(key, series: Series) -> str:
  return dicom_series.label(key, series.first.series, length=16)


@contextlib.contextmanager
def _no_user_defaults() -> Iterator[dict[str, str]]:
  """An environment whose home has no file of defaults."""
  with tempfile.TemporaryDirectory() as home:
    yield {**os.environ, 'HOME': home}


def _run(tool, series: Series, folder, environment) -> list[_Image]:
  """dcm2niix on exactly the files of one series."""
  folder.mkdir()
  result = folder.with_name(folder.name + '-out')
  result.mkdir()
  for number, header in enumerate(series.headers):
    (folder / f'{number:06d}.dcm').symlink_to(header.path.resolve())
  call = [tool, '-b', 'y', '-ba', 'y', '-z', 'n', '-f', 'x', '-c', '', '-m']
  call += ['n', '-x', 'n', '-w', '2', '-p', 'y', '-o', str(result), str(folder)]
  try:
    done = subprocess.run(
      call, capture_output=True, env=environment, timeout=_SECONDS, check=False
    )
  except (OSError, subprocess.TimeoutExpired) as error:
    raise InputError(
      f'{series}: dcm2niix did not finish ({type(error).__name__}); install '
      'it again or convert the series by hand.'
    ) from error
  images = [_image(path, series) for path in sorted(result.glob('*.nii'))]
  if not images:
    text = done.stdout.decode(errors='replace').splitlines()
    about = next((t for t in text if 'rror' in t or 'arning' in t), 'no image')
    raise InputError(
      f'{series}: dcm2niix could not convert it '
      f'({_without_paths(about, folder)}); export the series again.'
    )
  return images


def _without_paths(text, folder) -> str:
  return text.replace(str(folder.parent), '').strip()


def _image(path, series) -> _Image:
  beside = path.with_suffix('.json')
  try:
    fields = files.read_object(beside) if beside.is_file() else {}
  except InputError as error:
    raise InputError(
      f'{series}: its header has text that is in no known encoding; export '
      'the series again.'
    ) from error
  image = volume.open_image(path)
  ending = path.stem.removeprefix('x').strip('_')
  types = fields.get('ImageType') or series.first.types
  kind = dicom_series.kind_of(types, series.first.description, ending=ending)
  shape = tuple(image.shape)
  if len(shape) != 3 or min(shape) < 2:
    kind = 'single slice' if len(shape) == 3 else 'several volumes'
  return _Image(kind, path, fields, series, shape, image.affine)


def _choose(images, chosen) -> list[tuple[_Image, str]]:
  """(image, rest of its name) of the one scan of an examination.

  Raises:
    NoInputError: nothing of use.
    InputError: two acquisitions that are as good.
  """
  grids: list[list[_Image]] = []
  for image in images:
    if image.kind not in KINDS:
      continue
    for grid in grids:
      if image.shape == grid[0].shape and np.allclose(
        image.affine, grid[0].affine, atol=1e-2
      ):
        grid.append(image)
        break
    else:
      grids.append([image])
  grids = [g for g in grids if {i.kind for i in g} - {'phase'}]
  if not grids:
    raise NoInputError(
      'has no volume of magnitude or SWI ('
      + '; '.join(f'{i.series}: {i.kind}' for i in images[:12])
      + '); export magnitude and phase, or the SWI.'
    )
  best = max(map(_worth, grids))
  first, *others = [g for g in grids if _worth(g) == best]
  if others:
    _ask(first + [i for g in others for i in g])
  return _named(first)


def _worth(grid) -> tuple[int, int]:
  kinds = {i.kind for i in grid}
  named = any(
    'sw' in i.series.first.description.lower()
    or any(t.startswith('SW') for t in i.series.first.types)
    for i in grid
  )
  return ('swi' in kinds) * 2 + ({'magnitude', 'phase'} <= kinds), int(named)


def _ask(images):
  listed = dict.fromkeys(str(i.series) for i in images)
  if len(listed) == 1:
    raise InputError(
      f'{next(iter(listed))}: its images do not belong together (dcm2niix made '
      f'{len(images)} volumes of them); export the series again.'
    )
  raise InputError(
    f'has {len(listed)} series that could be the scan ({"; ".join(listed)}); '
    'name the right ones (--series), or move the others away.'
  )


def _named(grid) -> list[tuple[_Image, str]]:
  swi = [i for i in grid if i.kind == 'swi']
  result = [(_better(swi), 'swi')] if swi else []
  parts = {
    kind: _one_per_echo([i for i in grid if i.kind == kind])
    for kind in ('magnitude', 'phase')
  }
  echoes = list(parts['magnitude'])
  paired = list(parts['phase']) == echoes
  if parts['phase'] and not paired and not swi:
    raise InputError(
      f'has {len(echoes)} echoes of magnitude and {len(parts["phase"])} of '
      'phase; export as many of each.'
    )
  for kind, short in (('magnitude', 'mag'), ('phase', 'phase')):
    for number, echo in enumerate(echoes if paired else (), 1):
      stem = f'part-{short}_T2starw'
      if len(echoes) > 1:
        stem = f'echo-{number}_part-{short}_MEGRE'
      result.append((parts[kind][echo], stem))
  if not paired and not swi:
    last = parts['magnitude'][echoes[-1]]
    result.append((last, 'T2starw'))
  return result


def _one_per_echo(images) -> dict[float, _Image]:
  """Echo time -> image, in the order of time."""
  by_echo: dict[float, list[_Image]] = {}
  for image in images:
    time = round(float(image.fields.get('EchoTime') or 0), 5)
    by_echo.setdefault(time, []).append(image)
  return {time: _better(by_echo[time]) for time in sorted(by_echo)}


def _better(images) -> _Image:
  """The one of several versions that was corrected most.

  Raises:
    InputError: two are as good.
  """
  rank = [
    [t in i.fields.get('ImageType', ()) for t in _PREFERRED] for i in images
  ]
  best = [i for i, r in zip(images, rank) if r == max(rank)]
  if len(best) > 1:
    _ask(best)
  return best[0]


def _write(image: _Image, stem, facts) -> None:
  """Voxels and affine as they are; of the header, nothing in free text."""
  raw = image.path.read_bytes()
  header = nib.Nifti1Header.from_fileobj(io.BytesIO(raw))
  start = int(header['vox_offset'])
  fields = {n: image.fields[n] for n in _FIELDS if n in image.fields}
  if fields.get('EchoTime') == 0:  # "not known"
    del fields['EchoTime']
  if image.kind == 'phase':
    fields['Units'] = _to_radians(header, image)
  clean = nib.Nifti1Header(header.binaryblock, header.endianness)
  for name in ('descrip', 'aux_file', 'db_name', 'intent_name'):
    clean[name] = b''
  clean['vox_offset'] = 352
  clean.set_xyzt_units('mm', 'sec')
  data = clean.binaryblock + bytes(4) + raw[start:]
  files.write_bytes(f'{stem}.nii.gz', gzip.compress(data, 1, mtime=0))
  files.write_json(f'{stem}.json', fields | facts)


def _to_radians(header, image) -> str:
  """Corrects the scale factor of a phase image; returns its unit."""
  slope, start = (float(header[n]) for n in ('scl_slope', 'scl_inter'))
  slope = slope if slope and np.isfinite(slope) else 1.0
  start = start if np.isfinite(start) else 0.0
  array = np.asanyarray(volume.open_image(image.path).dataobj.get_unscaled())
  low, high = (
    float(array.min()) * slope + start,
    float(array.max()) * slope + start,
  )
  widest, maker = max(-low, high), image.series.first.manufacturer.lower()
  if widest <= np.pi * 1.01:
    factor, shift = 1.0, 0.0
  elif 'siemens' in maker and low >= 0 and high <= 4095:
    factor, shift = np.pi / 2048, -np.pi
  elif 'siemens' in maker and widest <= 4096:
    factor, shift = np.pi / 4096, 0.0
  elif widest <= 3200 and ('ge ' in maker or 'philips' in maker):
    factor, shift = 1e-3, 0.0  # milliradians
  else:
    return 'arbitrary'
  header['scl_slope'] = slope * factor
  header['scl_inter'] = start * factor + shift
  return 'rad'


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
