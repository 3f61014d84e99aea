"""Public data sets and tables of points to a cohort folder as we write it.

Rule: images go over voxel by voxel; a scan is there with its truth or not at
all, and one bad scan does not stop the others.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

import cmbjax
from cmbjax import delimited, doors, files
from cmbjax.data import import_sources, lesion_labels, truth
from cmbjax.data.import_sources import ImportOptions, SourceScan
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import appearance, mask_values, slices, volume
from cmbjax.intake import bids
from cmbjax.intake.truth_files import ALL_CANDIDATES, table_beside
from cmbjax.progress import Progress

VERSION = 2  # of what is written

_TRUTH = 'derivatives/truth'
_MASKS = 'derivatives/masks'  # a mask in the truth's folder is not used
_MARK = 'ImportMark'
_COLUMNS = ('index', 'name', 'x', 'y', 'z', 'volume_mm3', 'diameter_mm')


class Imported(NamedTuple):
  """What came of it."""

  done: tuple[str, ...]  # names written now
  kept: tuple[str, ...]  # were there already
  unlabelled: tuple[str, ...]  # of both, those without a truth
  failed: dict[str, str]  # name -> sentence
  said: dict[str, tuple[str, ...]]  # of those written now: their lesions


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
  planned = plan(source, out, options)
  items, failed = planned.items, dict(planned.found.broken)
  done, kept, unlabelled, said = [], [], [], {}
  _write_top(source, out, options)
  with Progress(f'import {options.layout}', len(items)) as progress:
    for item in items:
      try:
        found = _import_one(item, out, options)
      except InputError as error:
        failed[item.name] = str(error)
        progress.advance(note=f'{item.name} failed')
        continue
      (kept if found is None else done).append(item.name)
      said |= {item.name: found} if found else {}
      if not item.truth and item.points is None:
        unlabelled.append(item.name)
      progress.advance(note=item.name)
  _write_participants(out)
  return Imported(tuple(done), tuple(kept), tuple(unlabelled), failed, said)


def plan(
  source: pathlib.Path, out: pathlib.Path, options: ImportOptions
) -> import_sources.ImportPlan:
  """What would be imported; writes nothing.

  Args:
    source: the data set as it was downloaded.
    out: the cohort folder.
    options: which layout, and what the files do not say.

  Raises:
    As `import_cohort`.
  """
  import_sources.check(options)
  _check_apart(source, out)
  return import_sources.find(source, options)


def _check_apart(source, out):
  if not source.is_dir():
    raise NoInputError(f'{source}: no such folder; check the path.')
  ours, theirs = out.resolve(), source.resolve()
  if ours == theirs or theirs in ours.parents or ours in theirs.parents:
    raise InputError(
      f'{out}: lies in the source {source}, or the other way round; choose a '
      'folder elsewhere.'
    )


def _import_one(item: SourceScan, out, options) -> tuple[str, ...] | None:
  """What is said of its lesions; None: it is there already."""
  mark = _mark_of(item, options)
  raw = out.joinpath(item.subject, item.session or '')
  truth = out.joinpath(_TRUTH, item.subject, item.session or '')
  labelled = bool(item.truth) or item.points is not None
  if _is_done(raw, truth, mark, labelled=labelled):
    return None
  said = ()
  with _work_folder(out, item.name) as work:
    files.make_folder(work / 'raw' / 'anat')
    _write_images(item, work / 'raw' / 'anat', options, mark)
    scan = _first_volume(item)
    _check_shown(item, scan)
    if labelled:
      said = _write_truth(item, work / 'truth' / 'anat', options, scan)
    if item.mask is not None:
      _write_mask(item, work / 'masks' / 'anat', scan, out)
    masks = out.joinpath(_MASKS, item.subject, item.session or '')
    try:
      # The images come last: where they are, the truth is too.
      for name, target in (('masks', masks), ('truth', truth), ('raw', raw)):
        shutil.rmtree(target, ignore_errors=True)
        if (work / name).is_dir():
          files.make_folder(target.parent)
          os.replace(work / name, target)
    except OSError as error:
      raise InputError(
        f'{raw}: cannot be written ({error.strerror or error}); free some '
        'space or choose another folder.'
      ) from error
  return said


def _mark_of(item: SourceScan, options) -> str:
  paths = [p for p, _ in item.images] + [*item.truth]
  paths += [item.mask] if item.mask is not None else []
  # Not their bytes: gigabytes would be read to find that nothing changed.
  found = [(p.name, doors.state_of(p)) for p in paths]
  states = [[name, one.st_size, one.st_mtime_ns] for name, one in found]
  states += [[stem, item.scan.facts.get(p, {})] for p, stem in item.images]
  states += [
    [doors.state_of(table).st_mtime_ns, doors.state_of(table).st_size]
    for table in filter(None, map(table_beside, item.truth))
  ]
  states += [lesion_labels.words_of(path) for path in item.truth]
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
      files.copy(path, target)
    facts = item.scan.facts.get(path, {}) | dict(options.facts) | {_MARK: mark}
    if '_part-phase' in f'_{stem}':
      facts.setdefault('Units', 'arbitrary')
    files.write_json(folder / f'{item.name}_{stem}.json', facts)


def _first_volume(item: SourceScan) -> volume.Volume:
  """The grid that truth and mask must be on."""
  scan = volume.load(item.images[0][0], num_dims=5)
  first = scan.array[(slice(None),) * 3 + (0,) * (scan.array.ndim - 3)]
  return dataclasses.replace(scan, array=first)


def _check_shown(item: SourceScan, scan) -> None:
  """Refuses what is certainly no SWI: it would be a person without lesions."""
  path = item.images[0][0]
  if path in (*item.scan.magnitude, *item.scan.phase) and item.scan.phase:
    return  # its parts are looked at when they are put together
  seen = appearance.look(slices.last(scan).array, scan.spacing_mm)
  if seen.certain and seen.kind in _NO_SWI:
    raise InputError(
      f'{path}: shows {_NO_SWI[seen.kind]} ({", ".join(seen.signs)}); give the '
      'SWI, and move this file away or rename it.'
    )


def _write_mask(item: SourceScan, folder, scan, out) -> None:
  mask = mask_values.read(item.mask)
  volume.check_grid(mask, scan)
  path = folder / f'{item.name}_label-brain_mask.nii.gz'
  volume.save(path, mask.array, scan)
  about = {'Type': 'Brain', 'Description': 'As it came with the data.'}
  files.write_json(folder / f'{item.name}_label-brain_mask.json', about)
  bids.write_description(out / _MASKS, 'Brain masks', kind='derivative')


def _write_truth(item: SourceScan, folder, options, scan) -> tuple[str, ...]:
  """Writes it; says how the lesions of masks were told apart."""
  stem = folder / f'{item.name}_seg-cmb_dseg'
  if item.points is not None:
    _write_points(item, stem, options, scan)
    return ()
  found = [_labels(path, scan) for path in item.truth]
  labels = [one.labels for one in found]
  if len(labels) == 2 and ((labels[0] > 0) & (labels[1] > 0)).any():
    raise InputError(
      f'{item.truth[0]}: overlaps {item.truth[1].name}; a candidate is either '
      'accepted or rejected, so correct one of the masks.'
    )
  for name, one in zip(('cmb', 'mimic'), found):
    stem = folder / f'{item.name}_seg-{name}_dseg'
    volume.save(f'{stem}.nii.gz', one.labels.astype(np.uint16), scan)
    delimited.write(f'{stem}.tsv', [_COLUMNS, *_rows(name, one.labels, scan)])
    about = {'Description': f'{_ABOUT[name]} {"; ".join(one.said)}.'}
    files.write_json(
      f'{stem}.json',
      {**about, **_EXPLAINED, 'Manual': True, ALL_CANDIDATES: len(found) == 2},
    )
  return found[0].said


def _labels(path, scan) -> lesion_labels.CountedLesions:
  """The lesions of a mask, numbered from 1."""
  found = lesion_labels.read(path, scan)
  if len(found.numbers) > np.iinfo(np.uint16).max:
    raise InputError(
      f'{path}: has {len(found.numbers)} separate parts; give a mask of '
      'lesions.'
    )
  return found._replace(labels=truth.numbered(found))


def _rows(name, labels, scan) -> Iterator[list[str]]:
  """Cells of `_COLUMNS`, a row for each label."""
  size = np.bincount(labels[labels > 0], minlength=1)
  for index, centre in enumerate(truth.centres(labels)[1:], 1):
    world = scan.to_world(centre)
    volume_mm3 = size[index] * float(np.prod(scan.spacing_mm))
    cells = [str(index), f'{name}-{index:03d}', *(f'{v:.2f}' for v in world)]
    cells += [f'{volume_mm3:.2f}', f'{np.cbrt(6 * volume_mm3 / np.pi):.2f}']
    yield cells


def _write_points(item: SourceScan, stem, options, scan) -> None:
  points = np.asarray(item.points, float)
  if item.in_mm:
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
      f'lie outside, the first at {where}; {_guess(points, scan, item.in_mm)}.'
    )
  rows = [
    [str(index), f'cmb-{index:03d}', *(f'{v:.3f}' for v in place)]
    for index, place in enumerate(world, 1)
  ]
  delimited.write(f'{stem}.tsv', [_COLUMNS[:5], *rows])
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


_NO_SWI = {
  appearance.PHASE: 'a phase',
  appearance.LABELS: 'labels',
  appearance.PROJECTION: 'a projection through several slices',
}
_ABOUT = {
  'cmb': 'Microbleeds of the mask that came with the data:',
  'mimic': 'Candidates that the readers rejected, of a mask:',
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
  'pairs': 'Scans with label images',
}


def _write_top(source, out, options) -> None:
  top = {
    'GeneratedBy': [{'Name': 'cmbjax import', 'Version': cmbjax.__version__}],
    'Layout': options.layout,
  }
  path = out / 'dataset_description.json'
  if doors.is_there(path):
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
  if bids.is_simulated(source):
    top['Simulated'] = True
  name = _NAMES[options.layout]
  bids.write_description(out, name, extra=top)
  bids.write_description(
    out / _TRUTH, f'{name}: truth', kind='derivative', extra=top
  )
  files.write_text(out / '.bidsignore', '*_swi.*\n.partial-*\n')
  files.write_text(out / 'README', _README.format(name=name))


_README = """{name}, brought into BIDS by cmbjax import.

The images are those of the source, voxel by voxel. What its readers marked is
under derivatives/truth. The terms of the source hold for this folder too.
"""


def _write_participants(out) -> None:
  """One line per subject that is there; n/a: without a truth."""
  lines = [['participant_id', 'microbleeds']]
  for folder in sorted(p for p in out.glob('sub-*') if p.is_dir()):
    tables: Sequence[pathlib.Path] = sorted(
      (out / _TRUTH / folder.name).rglob('*_seg-cmb_dseg.tsv')
    )
    rows = [len(delimited.read(t).rows) for t in tables]
    lines.append([folder.name, str(sum(rows)) if rows else 'n/a'])
  delimited.write(out / 'participants.tsv', lines)
  about = {'Description': 'Lesions in the truth; n/a: there is no truth.'}
  files.write_json(out / 'participants.json', {'microbleeds': about})
