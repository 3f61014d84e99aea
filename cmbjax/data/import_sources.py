"""A data set as it was downloaded to the scans in it.

Three layouts are known: the folders of the published CMB labeler, task 2 of
the VALDO challenge (2021), and images with a table of positions. Rule: one
scan that cannot be used does not stop the others.
"""

import dataclasses
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from cmbjax.data import point_table
from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import bids, filename, lupolab
from cmbjax.intake.scan_files import ScanFiles

LAYOUTS = ('lupolab', 'valdo', 'points')


AXES = ('ras', 'lps')


UNLISTED = ('unlabelled', 'empty')


@dataclasses.dataclass(frozen=True)
class ImportOptions:
  """How to import; see `cmbjax import --help`."""

  layout: str
  table: pathlib.Path | None = None  # points; None: the only one in SOURCE
  axes: str = 'ras'  # of x y z
  first_index: int = 0  # of i j k
  unlisted: str = 'unlabelled'  # scans that the table does not name
  suffix: str = 'swi'  # what images without a BIDS name are
  facts: tuple[tuple[str, Any], ...] = ()  # for every JSON
  prefix: str = ''  # of subject labels
  link: bool = False


class SourceScan(NamedTuple):
  """One scan of the source."""

  subject: str
  session: str | None
  images: tuple[tuple[pathlib.Path, str], ...]  # (file, rest of its name)
  mask: pathlib.Path | None
  truth: tuple[pathlib.Path, ...]  # masks: lesions, rejected candidates
  points: np.ndarray | None  # [M, 3] as in the table
  in_mm: bool = True  # the points; else voxels

  @property
  def name(self) -> str:
    return f'{self.subject}_{self.session}' if self.session else self.subject


def find(
  source: pathlib.Path, options: ImportOptions, failed: dict[str, str]
) -> list[SourceScan]:
  """All scans of a data set.

  Args:
    source: the folder.
    options: how it is laid out.
    failed: gets name -> sentence of scans that cannot be used.

  Raises:
    NoInputError: no scan of this layout in it.
    InputError: a table that does not fit, or two scans of one name.
  """
  start = f'sub-{options.prefix}'
  items = [
    item._replace(subject=start + item.subject.removeprefix('sub-'))
    for item in _FINDERS[options.layout](source, options, failed)
  ]
  if options.layout == 'points':
    items = _with_points(source, items, options)
  _check_names(source, items, failed)
  return items


def check(options: ImportOptions) -> None:
  """Refuses options that are not known; called from Python they may be.

  Raises:
    InputError: names the option and what is allowed.
  """
  for name, allowed in (
    ('layout', LAYOUTS),
    ('axes', AXES),
    ('unlisted', UNLISTED),
    ('first_index', (0, 1)),
    ('suffix', ('swi', 'T2starw')),
  ):
    value = getattr(options, name)
    if value not in allowed:
      listed = ', '.join(map(str, allowed))
      raise InputError(f'{name}: found {value!r}, allowed are {listed}.')
  if not re.fullmatch('[0-9A-Za-z]*', options.prefix):
    raise InputError(
      f'prefix: found {options.prefix!r}; give letters and digits only.'
    )


def _find_lupolab(source, options, failed) -> list[SourceScan]:
  if not lupolab.is_lupolab(source):
    raise NoInputError(
      f'{source}: holds no scan of the CMB labeler; give the folder above '
      'its *scaled*.nii, *finalcorrected*.nii and *false_positives*.nii.'
    )
  found = lupolab.find_scans(source, failures=failed)
  return [
    SourceScan(
      scan.subject,
      scan.session,
      ((scan.swi, 'swi'),),
      scan.mask,
      (truth.path, truth.rejected),
      None,
    )
    for scan, truth in found
  ]


_VALDO_IMAGE = re.compile(
  r'(?P<who>sub-?[0-9A-Za-z]+)_space-T2S(_desc-masked)?_T2S\.nii(\.gz)?'
)


def _find_valdo(source, options, failed) -> list[SourceScan]:
  """sub-101/sub-101_space-T2S_desc-masked_T2S.nii.gz, ..._CMB.nii.gz."""
  found: dict[str, list[pathlib.Path]] = {}
  for path in sorted(source.rglob('*_T2S.nii*')):
    match = _VALDO_IMAGE.fullmatch(path.name)
    if match and not path.is_dir():
      who = re.sub('^sub-?', '', match['who'])
      found.setdefault(f'sub-{who}', []).append(path)
  if not found:
    raise NoInputError(
      f'{source}: holds no scan of VALDO task 2; give the folder above its '
      'sub-*/sub-*_space-T2S_desc-masked_T2S.nii.gz.'
    )
  items = []
  for subject, images in found.items():
    masked = [p for p in images if '_desc-masked_' in p.name]
    images = masked or images
    if len(images) > 1:
      listed = ', '.join(str(p.relative_to(source)) for p in images)
      failed[subject] = f'found {len(images)} images ({listed}); keep one.'
      continue
    start = images[0].name.split('_')[0]
    truth = [
      path
      for ending in ('.nii.gz', '.nii')
      if (
        path := images[0].with_name(f'{start}_space-T2S_CMB{ending}')
      ).is_file()
    ]
    items.append(
      SourceScan(
        subject, None, ((images[0], 'T2starw'),), None, tuple(truth[:1]), None
      )
    )
  return items


def _find_images(source, options, failed) -> list[SourceScan]:
  """A BIDS data set, else all NIfTI files below, one scan each."""
  if any(p.is_dir() for p in source.glob('sub-*')):
    return [_of_bids(scan) for scan in bids.find_scans(source)]
  images = lupolab.images_below(source)
  if not images:
    raise NoInputError(
      f'{source}: holds no NIfTI image (.nii, .nii.gz); give the folder of '
      'the images.'
    )
  items = []
  for path in images:
    given = filename.entities(path).get('sub')
    label = re.sub('[^0-9A-Za-z]', '', given or path.name.split('.nii')[0])
    images = ((path, options.suffix),)
    items.append(
      SourceScan(f'sub-{label or "x"}', None, images, None, (), None)
    )
  return items


def _of_bids(scan: ScanFiles) -> SourceScan:
  images = [(scan.swi, 'swi')] if scan.swi is not None else []
  for part, some in (('mag', scan.magnitude), ('phase', scan.phase)):
    for number, path in enumerate(some, 1):
      stem = f'part-{part}_T2starw' if scan.phase else 'T2starw'
      if len(some) > 1:
        stem = f'echo-{number}_part-{part}_MEGRE'
      images.append((path, stem))
  return SourceScan(
    scan.subject, scan.session, tuple(images), scan.mask, (), None
  )


def _with_points(source, items, options) -> list[SourceScan]:
  path = options.table or _only_table(source)
  table = point_table.read(path)
  if table.in_lps and options.axes != 'lps':
    raise InputError(f'{path}: its columns are called lps; give --axes lps.')
  scans = [
    (
      item.subject.replace(f'sub-{options.prefix}', 'sub-', 1),
      item.session,
      [item.subject, item.name, *(image.name for image, _ in item.images)],
    )
    for item in items
  ]
  points = point_table.match(path, table, scans)
  empty = np.zeros((0, 3)) if options.unlisted == 'empty' else None
  return [
    item._replace(
      points=points[n].values if n in points else empty, in_mm=table.in_mm
    )
    for n, item in enumerate(items)
  ]


def _only_table(source) -> pathlib.Path:
  found = [
    path
    for path in sorted(source.iterdir())
    if path.suffix.lower() in ('.csv', '.tsv', '.xlsx', '.xlsm')
    and path.name != 'participants.tsv'
    and not path.name.startswith(('~', '.'))  # open in a spreadsheet
  ]
  if len(found) != 1:
    listed = ', '.join(p.name for p in found) or 'none'
    raise InputError(
      f'{source}: holds {len(found)} tables ({listed}), expected one; name it '
      'with --table.'
    )
  return found[0]


def _check_names(source, items, failed):
  if not items and not failed:
    raise NoInputError(f'{source}: holds no scan.')
  names = [item.name.lower() for item in items]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    files_of = [i.images[0][0] for i in items if i.name.lower() == twice[0]]
    raise InputError(
      f'{source}: {", ".join(str(p.relative_to(source)) for p in files_of)} '
      f'would all be called {twice[0]}; rename files or folders.'
    )


_FINDERS = {
  'lupolab': _find_lupolab,
  'valdo': _find_valdo,
  'points': _find_images,
}
