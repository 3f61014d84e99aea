"""One series to its images by dcm2niix, and which of them are the scan.

Rule: voxels and affine are kept as they are; nothing in free text is.
"""

import gzip
import io
import os
import pathlib
import subprocess
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from cmbjax import files
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import nifti, phase_units
from cmbjax.intake import dicom_series, roles
from cmbjax.intake.dicom_series import KINDS, Series

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
# Two images that make one scan; the first pair that is whole is taken.
_PARTS = ((roles.MAGNITUDE, roles.PHASE), (roles.REAL, roles.IMAGINARY))
_SHORT = dict(zip((*_PARTS[0], *_PARTS[1]), ('mag', 'phase', 'real', 'imag')))
_PREFERRED = ('NORM', 'DIS3D', 'DIS2D')  # of two versions of one image


class Image(NamedTuple):
  """One volume that dcm2niix wrote."""

  kind: str
  path: pathlib.Path
  fields: dict[str, Any]
  series: Series
  shape: tuple[int, ...]
  affine: np.ndarray


def converted(tool: str, series: Series, folder: pathlib.Path) -> list[Image]:
  """What dcm2niix makes of exactly the files of one series.

  Args:
    tool: path of dcm2niix.
    series: it may share its folder with others.
    folder: does not exist yet; what is written is in it and beside it.

  Raises:
    InputError: nothing came out.
  """
  folder.mkdir()
  result = folder.with_name(folder.name + '-out')
  result.mkdir()
  for number, header in enumerate(series.headers):
    (folder / f'{number:06d}.dcm').symlink_to(header.path.resolve())
  call = [tool, '-b', 'y', '-ba', 'y', '-z', 'n', '-f', 'x', '-c', '', '-m']
  call += ['n', '-x', 'n', '-w', '2', '-p', 'y', '-o', str(result), str(folder)]
  # An empty home: no file of a user's defaults changes what comes out.
  environment = {**os.environ, 'HOME': str(folder.parent)}
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
  return _with_kinds(images, series.first.description)


def _without_paths(text, folder) -> str:
  return text.replace(str(folder.parent), '').strip()


def _image(path, series) -> Image:
  beside = path.with_suffix('.json')
  try:
    fields = files.read_object(beside) if beside.is_file() else {}
  except InputError as error:
    raise InputError(
      f'{series}: its header has text that is in no known encoding; export '
      'the series again.'
    ) from error
  image = nifti.open_image(path)
  types = fields.get('ImageType') or series.first.types
  fields |= {'ImageType': list(types)}
  return Image('', path, fields, series, tuple(image.shape), image.affine)


def _with_kinds(images, description) -> list[Image]:
  """What each shows; what is no volume is not used, whatever it shows."""
  kinds = dicom_series.kinds_of(
    [(i.fields['ImageType'], i.path.stem[1:].strip('_')) for i in images],
    description,
  )
  result = []
  for image, kind in zip(images, kinds):
    if len(image.shape) != 3:
      kind = 'several volumes'
    elif min(image.shape) < 2:
      kind = 'single slice'
    result.append(image._replace(kind=kind))
  return result


def choose(images) -> list[tuple[Image, str]]:
  """(image, rest of its name) of the one scan of an examination.

  Raises:
    NoInputError: nothing of use.
    InputError: two acquisitions that are as good.
  """
  grids: list[list[Image]] = []
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
  grids = [g for g in grids if _is_scan({i.kind for i in g})]
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


def _is_scan(kinds) -> bool:
  return bool(kinds & {roles.SWI, roles.MAGNITUDE}) or set(_PARTS[1]) <= kinds


def _worth(grid) -> tuple[int, int]:
  kinds = {i.kind for i in grid}
  named = any(
    'sw' in i.series.first.description.lower()
    or any(t.startswith('SW') for t in i.series.first.types)
    for i in grid
  )
  is_whole = any(kinds >= set(pair) for pair in _PARTS)
  return (roles.SWI in kinds) * 2 + is_whole, int(named)


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


def _named(grid) -> list[tuple[Image, str]]:
  swi = [i for i in grid if i.kind == roles.SWI]
  result = [(_better(swi), 'swi')] if swi else []
  kinds = {i.kind for i in grid}
  pair = next((p for p in _PARTS if kinds >= set(p)), _PARTS[0])
  first, second = (
    _one_per_echo([i for i in grid if i.kind == kind]) for kind in pair
  )
  paired = list(first) == list(second)
  if second and not paired and not swi:
    raise InputError(
      f'has {len(first)} echoes of {pair[0]} and {len(second)} of {pair[1]}; '
      'export as many of each.'
    )
  for kind, images in zip(pair, (first, second)):
    for number, image in enumerate(images.values() if paired else (), 1):
      stem = f'part-{_SHORT[kind]}_T2starw'
      if len(images) > 1:
        stem = f'echo-{number}_part-{_SHORT[kind]}_MEGRE'
      result.append((image, stem))
  if not paired and not swi:
    result.append((list(first.values())[-1], 'T2starw'))
  return result


def _one_per_echo(images) -> dict[float, Image]:
  """Echo time -> image, in the order of time."""
  by_echo: dict[float, list[Image]] = {}
  for image in images:
    time = round(float(image.fields.get('EchoTime') or 0), 5)
    by_echo.setdefault(time, []).append(image)
  return {time: _better(by_echo[time]) for time in sorted(by_echo)}


def _better(images) -> Image:
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


def write(image: Image, stem: str | os.PathLike, facts: dict) -> None:
  """Voxels and affine as they are; of the header, nothing in free text.

  Args:
    image: of `choose`.
    stem: path without its endings.
    facts: further fields of the sidecar.
  """
  raw = image.path.read_bytes()
  header = nib.Nifti1Header.from_fileobj(io.BytesIO(raw))
  start = int(header['vox_offset'])
  fields = {n: image.fields[n] for n in _FIELDS if n in image.fields}
  if fields.get('EchoTime') == 0:  # "not known"
    del fields['EchoTime']
  if image.kind == roles.PHASE:
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
  array = np.asanyarray(nifti.open_image(image.path).dataobj.get_unscaled())
  maker = {'Manufacturer': image.series.first.manufacturer}
  unit = phase_units.unit_of(array * slope + start, maker)
  if not unit.certain:
    return 'arbitrary'
  header['scl_slope'] = slope * unit.factor
  header['scl_inter'] = start * unit.factor + unit.shift
  return 'rad'
