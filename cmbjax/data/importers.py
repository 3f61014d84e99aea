"""Public data sets and tables of points to a cohort folder as we write it.

Three sources are known: the folders of the published CMB labeler, task 2 of
the VALDO challenge (2021), and images with a table of positions. Rule: images
go over voxel by voxel; a scan is there with its truth or not at all, and one
bad scan does not stop the others.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import cmbjax
from cmbjax import files
from cmbjax.data import lupolab, point_table
from cmbjax.data.truth import centres, check_grid, components, load_labels
from cmbjax.data.truth_files import ALL_CANDIDATES
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import bids, volume
from cmbjax.progress import Progress

LAYOUTS = ('lupolab', 'valdo', 'points')
AXES = ('ras', 'lps')
UNLISTED = ('unlabelled', 'empty')
VERSION = 1  # of what is written

_TRUTH = 'derivatives/truth'
_MASKS = 'derivatives/masks'  # a mask in the truth's folder is not used
_MARK = 'ImportMark'
_COLUMNS = ('index', 'name', 'x', 'y', 'z', 'volume_mm3', 'diameter_mm')


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

  @property
  def name(self) -> str:
    return f'{self.subject}_{self.session}' if self.session else self.subject


class Imported(NamedTuple):
  """What came of it."""

  done: tuple[str, ...]  # names written now
  kept: tuple[str, ...]  # were there already
  unlabelled: tuple[str, ...]  # of both, those without a truth
  failed: dict[str, str]  # name -> sentence


def import_cohort(
  source: str | os.PathLike, out: str | os.PathLike, options: ImportOptions
) -> Imported:
  """Writes a cohort folder; scans that are there already are kept.

  Args:
    source: the data set as it was downloaded.
    out: the cohort folder.
    options: which layout, and what the files do not say.

  Returns:
    Names of the scans, and why some failed.

  Raises:
    NoInputError: no such folder, or no scan of this layout in it.
    InputError: options or a table that do not fit.
  """
  source, out = pathlib.Path(source), pathlib.Path(out)
  _check(source, out, options)
  failed: dict[str, str] = {}
  items = _prefixed(_FINDERS[options.layout](source, options, failed), options)
  in_mm = None
  if options.layout == 'points':
    items, in_mm = _with_points(source, items, options)
  _check_names(source, items, failed)
  done, kept, unlabelled = [], [], []
  _write_top(source, out, options)
  with Progress(f'import {options.layout}', len(items)) as progress:
    for item in items:
      try:
        fresh = _import_one(item, out, options, in_mm=in_mm)
      except InputError as error:
        failed[item.name] = str(error)
        progress.advance(note=f'{item.name} failed')
        continue
      (done if fresh else kept).append(item.name)
      if not item.truth and item.points is None:
        unlabelled.append(item.name)
      progress.advance(note=item.name)
  _write_participants(out)
  return Imported(tuple(done), tuple(kept), tuple(unlabelled), failed)


def _check(source, out, options):
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
  if not source.is_dir():
    raise NoInputError(f'{source}: no such folder; check the path.')
  ours, theirs = out.resolve(), source.resolve()
  if ours == theirs or theirs in ours.parents or ours in theirs.parents:
    raise InputError(
      f'{out}: lies in the source {source}, or the other way round; choose a '
      'folder elsewhere.'
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
    if match and path.is_file():
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
  images = sorted(
    path
    for path in source.rglob('*.nii*')
    if path.name.endswith(('.nii', '.nii.gz'))
    and path.is_file()
    and not files.is_hidden(path)
  )
  if not images:
    raise NoInputError(
      f'{source}: holds no NIfTI image (.nii, .nii.gz); give the folder of '
      'the images.'
    )
  items = []
  for path in images:
    given = bids.entities(path).get('sub')
    label = re.sub('[^0-9A-Za-z]', '', given or path.name.split('.nii')[0])
    images = ((path, options.suffix),)
    items.append(
      SourceScan(f'sub-{label or "x"}', None, images, None, (), None)
    )
  return items


def _of_bids(scan: bids.ScanFiles) -> SourceScan:
  images = [(scan.swi, 'swi')] if scan.swi is not None else []
  parts = [('mag', scan.magnitude), ('phase', scan.phase)]
  for part, some in parts:
    some = () if some is None else some if isinstance(some, tuple) else (some,)
    for number, path in enumerate(some, 1):
      stem = f'part-{part}_T2starw' if scan.phase is not None else 'T2starw'
      if len(some) > 1:
        stem = f'echo-{number}_part-{part}_MEGRE'
      images.append((path, stem))
  return SourceScan(
    scan.subject, scan.session, tuple(images), scan.mask, (), None
  )


_FINDERS = {
  'lupolab': _find_lupolab,
  'valdo': _find_valdo,
  'points': _find_images,
}


def _prefixed(items, options) -> list[SourceScan]:
  return [
    item._replace(
      subject=f'sub-{options.prefix}{item.subject.removeprefix("sub-")}'
    )
    for item in items
  ]


def _with_points(source, items, options) -> tuple[list[SourceScan], bool]:
  path = options.table or _only_table(source)
  table = point_table.read(path)
  start = len(options.prefix)
  scans = [
    (
      f'sub-{item.subject[4 + start :]}',
      item.session,
      [item.subject, item.name, *(image.name for image, _ in item.images)],
    )
    for item in items
  ]
  points = point_table.match(path, table, scans)
  empty = np.zeros((0, 3)) if options.unlisted == 'empty' else None
  return [
    item._replace(points=points[n].values if n in points else empty)
    for n, item in enumerate(items)
  ], table.in_mm


def _only_table(source) -> pathlib.Path:
  found = [
    path
    for path in sorted(source.iterdir())
    if path.suffix.lower() in ('.csv', '.tsv', '.xlsx', '.xlsm')
    and path.name != 'participants.tsv'
    and not path.name.startswith(('~', '.'))
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


def _import_one(
  item: SourceScan, out, options: ImportOptions, *, in_mm
) -> bool:
  """Whether it was written now; False: it is there already."""
  mark = _mark_of(item, options)
  raw = out.joinpath(item.subject, item.session or '')
  truth = out.joinpath(_TRUTH, item.subject, item.session or '')
  labelled = bool(item.truth) or item.points is not None
  if _is_done(raw, truth, mark, labelled=labelled):
    return False
  with _work_folder(out, item.name) as work:
    (work / 'raw' / 'anat').mkdir(parents=True)
    _write_images(item, work / 'raw' / 'anat', options, mark)
    scan = _first_volume(item)
    if labelled:
      _write_truth(item, work / 'truth' / 'anat', options, scan, in_mm=in_mm)
    if item.mask is not None:
      _write_mask(item, work / 'masks' / 'anat', scan, out)
    masks = out.joinpath(_MASKS, item.subject, item.session or '')
    try:
      # The images come last: where they are, the truth is too.
      for name, target in (('masks', masks), ('truth', truth), ('raw', raw)):
        shutil.rmtree(target, ignore_errors=True)
        if (work / name).is_dir():
          target.parent.mkdir(parents=True, exist_ok=True)
          os.replace(work / name, target)
    except OSError as error:
      raise InputError(
        f'{raw}: cannot be written ({error.strerror or error}); free some '
        'space or choose another folder.'
      ) from error
  return True


def _mark_of(item: SourceScan, options) -> str:
  paths = [p for p, _ in item.images] + [*item.truth]
  paths += [item.mask] if item.mask is not None else []
  states = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
  states += [[stem, bids.sidecar(p)] for p, stem in item.images]
  points = None if item.points is None else item.points.tolist()
  kept = [options.axes, options.first_index, options.link]
  kept += [[*pair] for pair in options.facts]
  return files.digest(VERSION, item.name, states, points, kept)


def _is_done(raw, truth, mark, *, labelled) -> bool:
  sidecars = list(raw.glob('anat/*.json'))
  return (
    bool(sidecars)
    and all(files.read_object(p).get(_MARK) == mark for p in sidecars)
    and (not labelled or truth.is_dir())
  )


@contextlib.contextmanager
def _work_folder(out, name) -> Iterator[pathlib.Path]:
  for stale in out.glob(f'.partial-{name}-*'):
    shutil.rmtree(stale, ignore_errors=True)
  work = out / f'.partial-{name}-{os.getpid()}'
  files.make_folder(work)
  try:
    yield work
  finally:
    shutil.rmtree(work, ignore_errors=True)


def _write_images(item: SourceScan, folder, options, mark) -> None:
  for path, stem in item.images:
    volume.load(path, num_dims=5)  # whole and readable
    ending = '.nii.gz' if path.name.endswith('.gz') else '.nii'
    target = folder / f'{item.name}_{stem}{ending}'
    if options.link:
      target.symlink_to(path.resolve())
    else:
      with files.whole(target) as temporary:
        shutil.copyfile(path, temporary)
    facts = bids.sidecar(path) | dict(options.facts) | {_MARK: mark}
    if '_part-phase' in f'_{stem}':
      facts.setdefault('Units', 'arbitrary')
    files.write_json(folder / f'{item.name}_{stem}.json', facts)


def _first_volume(item: SourceScan) -> volume.Volume:
  """The grid that truth and mask must be on."""
  scan = volume.load(item.images[0][0], num_dims=5)
  first = scan.array[(slice(None),) * 3 + (0,) * (scan.array.ndim - 3)]
  return dataclasses.replace(scan, array=first)


def _write_mask(item: SourceScan, folder, scan, out) -> None:
  mask = volume.load(item.mask)
  check_grid(mask, scan)
  path = folder / f'{item.name}_label-brain_mask.nii.gz'
  volume.save(path, mask.array > 0, scan)
  about = {'Type': 'Brain', 'Description': 'As it came with the data.'}
  files.write_json(folder / f'{item.name}_label-brain_mask.json', about)
  bids.write_description(out / _MASKS, 'Brain masks', kind='derivative')


def _write_truth(item: SourceScan, folder, options, scan, *, in_mm) -> None:
  stem = folder / f'{item.name}_seg-cmb_dseg'
  if item.points is not None:
    _write_points(item, stem, options, scan, in_mm=in_mm)
    return
  labels = [_labels(path, scan) for path in item.truth]
  if len(labels) == 2 and ((labels[0] > 0) & (labels[1] > 0)).any():
    raise InputError(
      f'{item.truth[0]}: overlaps {item.truth[1].name}; a candidate is either '
      'accepted or rejected, so correct one of the masks.'
    )
  for name, some in zip(('cmb', 'mimic'), labels):
    stem = folder / f'{item.name}_seg-{name}_dseg'
    volume.save(f'{stem}.nii.gz', some.astype(np.uint16), scan)
    files.write_text(f'{stem}.tsv', _table(name, some, scan))
    about = {'Description': _ABOUT[name], **_EXPLAINED}
    files.write_json(
      f'{stem}.json',
      {**about, 'Manual': True, ALL_CANDIDATES: len(labels) == 2},
    )


def _labels(path, scan) -> np.ndarray:
  """Connected components of a mask, int32 [X, Y, Z]."""
  mask = load_labels(path, scan) > 0
  if mask.mean() > 0.5:
    raise InputError(
      f'{path}: marks {mask.mean():.0%} of all voxels; it looks inverted, so '
      'check it.'
    )
  labels = components(mask)
  if labels.max(initial=0) > np.iinfo(np.uint16).max:
    raise InputError(
      f'{path}: has {labels.max()} separate parts; give a mask of lesions.'
    )
  return labels


def _table(name, labels, scan) -> str:
  lines = ['\t'.join(_COLUMNS)]
  size = np.bincount(labels[labels > 0], minlength=1)
  for index, centre in enumerate(centres(labels)[1:], 1):
    world = scan.to_world(centre)
    volume_mm3 = size[index] * float(np.prod(scan.spacing_mm))
    cells = [str(index), f'{name}-{index:03d}', *(f'{v:.2f}' for v in world)]
    cells += [f'{volume_mm3:.2f}', f'{np.cbrt(6 * volume_mm3 / np.pi):.2f}']
    lines.append('\t'.join(cells))
  return '\n'.join(lines) + '\n'


def _write_points(item: SourceScan, stem, options, scan, *, in_mm) -> None:
  points = np.asarray(item.points, float)
  if in_mm:
    world = points * (-1, -1, 1) if options.axes == 'lps' else points
  else:
    native = points - options.first_index
    affine = scan.native.affine
    world = native @ affine[:3, :3].T + affine[:3, 3]
  outside = ~_inside(world, scan)
  if outside.any():
    row = int(np.flatnonzero(outside)[0])
    where = ' '.join(f'{v:g}' for v in points[row])
    raise InputError(
      f'{item.images[0][0]}: {int(outside.sum())} of {len(points)} points '
      f'lie outside, the first at {where}; {_guess(points, scan, in_mm)}.'
    )
  lines = ['\t'.join(_COLUMNS[:5])]
  for index, place in enumerate(world, 1):
    cells = [str(index), f'cmb-{index:03d}', *(f'{v:.3f}' for v in place)]
    lines.append('\t'.join(cells))
  files.write_text(f'{stem}.tsv', '\n'.join(lines) + '\n')
  explained = {name: _EXPLAINED[name] for name in _COLUMNS[2:5]}
  files.write_json(f'{stem}.json', {**explained, 'Manual': True})


def _guess(points, scan, in_mm) -> str:
  """What may be wrong with points that lie outside."""
  if in_mm and _inside(points * (-1, -1, 1), scan).all():
    return 'with x and y negated all lie inside, so try --axes lps'
  affine = scan.native.affine
  if in_mm and _inside(points @ affine[:3, :3].T + affine[:3, 3], scan).all():
    return 'as voxels all lie inside, so call the columns i j k'
  return 'check units, order and sign of the columns'


def _inside(world, scan) -> np.ndarray:
  index = np.rint(scan.to_index(world))
  return ((index >= 0) & (index < scan.array.shape[:3])).all(-1)


_ABOUT = {
  'cmb': 'Microbleeds: connected parts (26 neighbours) of the mask that came '
  'with the data.',
  'mimic': 'Candidates that the readers rejected: connected parts (26 '
  'neighbours) of the mask that came with the data.',
}
_EXPLAINED = {
  'x': {'Description': 'Centre, RAS world.', 'Units': 'mm'},
  'y': {'Description': 'Centre, RAS world.', 'Units': 'mm'},
  'z': {'Description': 'Centre, RAS world.', 'Units': 'mm'},
  'volume_mm3': {'Description': 'Voxels times voxel volume.', 'Units': 'mm^3'},
  'diameter_mm': {
    'Description': 'Diameter of a sphere of this volume.',
    'Units': 'mm',
  },
}
_NAMES = {
  'lupolab': 'Scans of the CMB labeler',
  'valdo': 'VALDO 2021 task 2',
  'points': 'Scans with points',
}


def _write_top(source, out, options) -> None:
  top = {
    'GeneratedBy': [{'Name': 'cmbjax import', 'Version': cmbjax.__version__}],
    'Layout': options.layout,
  }
  path = out / 'dataset_description.json'
  if path.is_file():
    found = files.read_object(path)
    if found.get('Layout') != options.layout:
      raise InputError(
        f'{out}: holds {found.get("Name", "another data set")!r}, not an '
        f'import of {options.layout}; choose another folder.'
      )
  elif out.is_dir() and any(out.glob('sub-*')):
    raise InputError(
      f'{out}: holds scans that were not imported; choose another folder.'
    )
  if _is_simulated(source):
    top['Simulated'] = True
  name = _NAMES[options.layout]
  bids.write_description(out, name, extra=top)
  bids.write_description(
    out / _TRUTH, f'{name}: truth', kind='derivative', extra=top
  )
  files.write_text(out / '.bidsignore', '*_swi.*\n.partial-*\n')
  files.write_text(out / 'README', _README.format(name=name))


def _is_simulated(source) -> bool:
  path = source / 'dataset_description.json'
  content = files.read_object(path) if path.is_file() else {}
  return content.get('Simulated') is True


_README = """{name}, brought into BIDS by cmbjax import.

The images are those of the source, voxel by voxel. What its readers marked is
under derivatives/truth. The terms of the source hold for this folder too.
"""


def _write_participants(out) -> None:
  """One line per subject that is there; n/a: without a truth."""
  lines = ['participant_id\tmicrobleeds']
  for folder in sorted(p for p in out.glob('sub-*') if p.is_dir()):
    tables: Sequence[pathlib.Path] = sorted(
      (out / _TRUTH / folder.name).rglob('*_seg-cmb_dseg.tsv')
    )
    rows = [len(files.read_text(t).splitlines()) - 1 for t in tables]
    lines.append(f'{folder.name}\t{sum(rows) if rows else "n/a"}')
  files.write_text(out / 'participants.tsv', '\n'.join(lines) + '\n')
  about = {'Description': 'Lesions in the truth; n/a: there is no truth.'}
  files.write_json(out / 'participants.json', {'microbleeds': about})
