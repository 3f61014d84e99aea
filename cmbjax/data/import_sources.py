"""A data set as it was downloaded to the scans in it.

Four layouts are known: the folders of the published CMB labeler, task 2 of the
VALDO challenge (2021), and images as the intake finds them, with a table of
positions or with label images beside them. Rule: one scan that cannot be used
does not stop the others.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cmbjax import doors
from cmbjax.data import point_table
from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import (
  explain,
  lupolab,
  named_image,
  owner,
  roles,
  scans,
  sidecars,
  truth_files,
)
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.intake.scans import FoundScans
from cmbjax.intake.truth_files import TruthFiles

LAYOUTS = ('lupolab', 'valdo', 'points', 'pairs')
_OWN_NAMES = (
  'points',
  'pairs',
)  # found by the intake, whatever they are called
OPTIONS = frozenset({owner.PATTERN})  # of those that find scans


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
  participants: tuple[str, ...] = ()  # labels to keep; points and pairs
  sessions: tuple[str, ...] = ()
  swi_pattern: str | None = None  # shell pattern of the name of the SWI


class SourceScan(NamedTuple):
  """One scan of the source."""

  subject: str  # with the prefix
  scan: ScanFiles
  images: tuple[tuple[pathlib.Path, str], ...]  # (file, rest of its name)
  held: TruthFiles | None  # label images or masks
  points: np.ndarray | None  # [M, 3] as in the table
  in_mm: bool = True  # the points; else voxels

  @property
  def session(self) -> str | None:
    return self.scan.session

  @property
  def mask(self) -> pathlib.Path | None:
    return self.scan.mask

  @property
  def name(self) -> str:
    return f'{self.subject}_{self.session}' if self.session else self.subject

  @property
  def truth(self) -> tuple[pathlib.Path, ...]:
    """Masks: lesions, rejected candidates."""
    held = self.held
    paths = (held.path, held.rejected) if held else ()
    return tuple(path for path in paths if path is not None)


class ImportPlan(NamedTuple):
  """What is to be imported."""

  items: tuple[SourceScan, ...]
  found: FoundScans  # with what cannot be used, and what is left out

  def rows(self, source: pathlib.Path) -> list[explain.ScanRow]:
    """The table of --dry-run."""
    truths = {item.scan.name: item.held for item in self.items}
    points = {
      item.scan.name: f'{len(item.points)} points'
      for item in self.items
      if item.points is not None
    }
    names = [item.scan.name for item in self.items]
    table = explain.rows(source, self.found, truths)
    return [
      row._replace(truth=points.get(name, row.truth))
      for name, row in zip(names, table)
    ] + table[len(names) :]


def find(source: pathlib.Path, options: ImportOptions) -> ImportPlan:
  """All scans of a data set.

  Args:
    source: the folder.
    options: how it is laid out.

  Raises:
    NoInputError: no scan of this layout in it.
    InputError: a table that does not fit, or options that do not.
  """
  found, truths = _FINDERS[options.layout](source, options)
  items = []
  for scan in found.scans:
    subject = f'sub-{options.prefix}{scan.subject.removeprefix("sub-")}'
    stem = options.suffix if found.kind == 'folder' else 'swi'
    images = tuple(_images(scan, stem))
    items.append(SourceScan(subject, scan, images, truths.get(scan.name), None))
  if options.layout == 'points':
    items = _with_points(source, items, options)
  if options.layout == 'pairs' and options.unlisted == 'empty':
    items = [
      item if item.truth else item._replace(points=np.zeros((0, 3)))
      for item in items
    ]
  return ImportPlan(tuple(items), found)


def _images(scan: ScanFiles, stem: str) -> Iterator[tuple[pathlib.Path, str]]:
  """Files of a scan, and what they are called in BIDS."""
  if scan.swi is not None:
    yield scan.swi, stem
  parts = ('real', 'imag') if scan.cartesian else ('mag', 'phase')
  for part, some in zip(parts, (scan.magnitude, scan.phase)):
    for number, path in enumerate(some, 1):
      if len(some) > 1:
        yield path, f'echo-{number}_part-{part}_MEGRE'
      elif scan.phase or scan.swi:
        yield path, f'part-{part}_T2starw'
      else:
        yield path, 'T2starw'


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
  for name, given in (
    ('--participant-label', options.participants),
    ('--session-label', options.sessions),
    (owner.PATTERN, options.swi_pattern),
    ('--suffix', options.suffix != 'swi'),
  ):
    if given and options.layout not in _OWN_NAMES:
      raise InputError(
        f'{name}: goes with --layout {" and ".join(_OWN_NAMES)}; leave it out '
        f'for {options.layout}.'
      )
  if not re.fullmatch('[0-9A-Za-z]*', options.prefix):
    raise InputError(
      f'prefix: found {options.prefix!r}; give letters and digits only.'
    )


def _find_lupolab(source, options) -> tuple[FoundScans, dict]:
  if not lupolab.is_lupolab(source):
    raise NoInputError(
      f'{source}: holds no scan of the CMB labeler; give the folder above '
      'its *scaled*.nii, *finalcorrected*.nii and *false_positives*.nii.'
    )
  failed: dict[str, str] = {}
  found = lupolab.find_scans(source, failures=failed)
  scans_of = tuple(scan for scan, _ in found)
  return (
    FoundScans('labeler', scans_of, tuple(failed.items())),
    {scan.name: truth for scan, truth in found},
  )


_VALDO_IMAGE = re.compile(
  r'(?P<who>sub-?[0-9A-Za-z]+)_space-T2S(_desc-masked)?_T2S\.nii(\.gz)?'
)


def _find_valdo(source, options) -> tuple[FoundScans, dict]:
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
  made, failed, truths = [], {}, {}
  for subject, images in found.items():
    masked = [p for p in images if '_desc-masked_' in p.name]
    images = masked or images
    if len(images) > 1:
      listed = ', '.join(str(p.relative_to(source)) for p in images)
      failed[subject] = f'found {len(images)} images ({listed}); keep one.'
      continue
    try:
      made.append(_of_valdo(subject, images[0]))
    except InputError as error:
      failed[subject] = str(error)
      continue
    start = f'{images[0].name.split("_")[0]}_space-T2S_CMB'
    masks = [images[0].with_name(start + end) for end in ('.nii', '.nii.gz')]
    masks = [path for path in masks if doors.is_there(path)]
    if len(masks) > 1:
      listed = ', '.join(str(p.relative_to(source)) for p in masks)
      failed[subject] = f'found {len(masks)} masks ({listed}); keep one.'
      made.pop()
    elif masks:
      truths[subject] = TruthFiles('mask', masks[0])
  found = FoundScans('valdo', tuple(made), tuple(failed.items()))
  return found, truths


def _of_valdo(subject, path) -> ScanFiles:
  fields = sidecars.read(path)
  return ScanFiles(
    subject, None, subject, None, (path,), (), None, fields,
    facts={path: fields},
  )  # fmt: skip


def _find_images(source, options) -> tuple[FoundScans, dict]:
  """As every command finds them."""
  found = scans.find(
    source,
    participants=options.participants,
    sessions=options.sessions,
    swi_pattern=options.swi_pattern,
    options=OPTIONS,
  )
  return found, {}


def _find_pairs(source, options) -> tuple[FoundScans, dict]:
  """Images, and the label image that goes with each by its name."""
  found, _ = _find_images(source, options)
  kept, truths, broken = [], {}, list(found.broken)
  for scan in found.scans:
    try:
      truth = truth_files.find_truth(source, scan)
      if truth is not None and truth.kind == 'points':
        raise InputError(
          f'{truth.path}: is a table of points; build, evaluate and review '
          'read it as it is, and --layout points imports one table for all.'
        )
    except InputError as error:
      broken.append((scan.name, str(error)))
      continue
    kept.append(scan)
    truths[scan.name] = truth
  _check_lone(source, found, options)
  if not any(truths.values()) and not broken:
    raise NoInputError(
      f'{source}: no label image goes with any of its {len(kept)} scans '
      f'({", ".join(scan.name for scan in kept[:5])}); call it as its scan '
      'with _label, _seg, _mask or _cmb behind, or put it below labelsTr.'
    )
  return found._replace(scans=tuple(kept), broken=tuple(broken)), truths


def _check_lone(source, found, options) -> None:
  """An unmatched label image may belong to a scan that then counts as empty."""
  lone = [
    path
    for path, _ in found.files
    if named_image.describe(path).role == roles.LESIONS
  ]
  if lone and options.unlisted == 'empty':
    listed = ', '.join(str(p.relative_to(source)) for p in lone[:5])
    raise InputError(
      f'{source}: {len(lone)} of its label images go with no scan ({listed}); '
      'call each as its scan, or leave --unlisted empty out.'
    )


def _with_points(source, items, options) -> list[SourceScan]:
  path = options.table or _only_table(source)
  table = point_table.read(path)
  if table.in_lps and options.axes != 'lps':
    raise InputError(f'{path}: its columns are called lps; give --axes lps.')
  known = [
    (
      item.scan.subject,
      item.scan.session,
      [item.subject, item.name, *(image.name for image, _ in item.images)],
    )
    for item in items
  ]
  points = point_table.match(path, table, known)
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


_FINDERS = {
  'lupolab': _find_lupolab,
  'valdo': _find_valdo,
  'points': _find_images,
  'pairs': _find_pairs,
}
