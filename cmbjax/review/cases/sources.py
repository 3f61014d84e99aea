"""What a person wants to review to cases.

The results of `cmbjax detect`, a BIDS data set or a folder of NIfTI files (with
labels or without), the folders of the published CMB labeler, or one file. Rule:
names and headers are read, no voxels; a scan that cannot be used does not stop
the others, and which file holds the candidates is never a silent choice.
"""

import dataclasses
import fnmatch
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from cmbjax import doors
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import volume
from cmbjax.intake import (
  explain,
  filename,
  lupolab,
  named_image,
  owner,
  roles,
  truth_files,
)
from cmbjax.intake import scans as scans_lib
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.intake.scans import FoundScans
from cmbjax.intake.truth_files import TruthFiles
from cmbjax.review.cases import results, scans
from cmbjax.review.cases.case import Case

REVIEWS = 'sourcedata/review'
OPTIONS = frozenset({owner.PATTERN})  # of the command, to find scans
_OWN = 'derivatives/cmbjax'
_IMAGE = re.compile(r'\.nii(\.gz)?$', re.IGNORECASE)
# Masks of a data set that are not of lesions.
_BRAIN = re.compile(r'brain|detect|bet|tissue', re.IGNORECASE)


class Source(NamedTuple):
  """The cases of a source."""

  cases: tuple[Case, ...]
  reviews: pathlib.Path  # where readers' files go by default
  left_out: tuple[str, ...]  # sentences: who is not there, and why


def find(
  source: pathlib.Path,
  *,
  images: pathlib.Path | None = None,
  labels: pathlib.Path | None = None,
  participants: Sequence[str] = (),
  swi_pattern: str | None = None,
) -> Source:
  """Finds the cases of `source`.

  Args:
    source: results of `cmbjax detect`, a BIDS or CMB labeler folder, a folder
      of NIfTI files, or one.
    images: where the images of results are now, when they were moved.
    labels: label image, mask or table of points of one case, or a folder of
      them, instead of those of the source.
    participants: subject labels to keep, with or without 'sub-'.
    swi_pattern: shell pattern of the SWI's name, where a BIDS data set has
      several, such as two runs.

  Raises:
    NoInputError: nothing to review.
    InputError: options that do not fit, or no case can be used.
  """
  _check_options(source, images, labels)
  if _is_out(source):
    _refuse_pattern(source, swi_pattern)
    made, bad = results.cases(source, images)
  else:
    found, held = find_scans(
      source, participants=participants, swi_pattern=swi_pattern,
      own=labels is None,
    )  # fmt: skip
    bad = [why for _, why in found.broken]
    made = [
      scans.case_of(scan, notices=scan.notes, **held[scan.name])
      for scan in found.scans
    ]
  made = _wanted(source, made, participants)
  if labels is not None:
    made, more = _labelled(made, labels)
    bad += more
  good, more = _checked(made)
  bad += more
  if not good:
    why = bad[0] if bad else f'{source}: holds no scan to review.'
    raise (InputError if bad else NoInputError)(why)
  return Source(tuple(good), reviews_of(source), tuple(bad))


def rows(
  source: pathlib.Path, **options: Any
) -> tuple[list[explain.ScanRow], FoundScans]:
  """The table of --dry-run and what it is of; options as those of `find`.

  Raises:
    As `find`.
  """
  images, labels = options.pop('images'), options.pop('labels')
  _check_options(source, images, labels)
  if _is_out(source):
    _refuse_pattern(source, options['swi_pattern'])
    made, bad = results.cases(source, images)
    made = _wanted(source, made, options['participants'])
    broken = tuple(tuple(why.split(': ', 1)) for why in bad)
    found = FoundScans('results', tuple(map(_scan_of, made)), broken)
    held = {case.name: {'labels': case.labels} for case in made}
  else:
    found, held = find_scans(source, own=labels is None, **options)
  truths = {
    name: TruthFiles('labels', fields.get('labels') or fields['points'])
    for name, fields in held.items()
    if fields
  }
  return explain.rows(source, found, truths), found


def _scan_of(case) -> ScanFiles:
  """The files of a result, as a scan."""
  if case.signal is not None:
    return case.signal
  return ScanFiles(
    case.subject, case.session, case.name, case.image, (), (), None, {}
  )


def find_scans(
  source: pathlib.Path,
  *,
  participants: Sequence[str] = (),
  swi_pattern: str | None = None,
  own: bool = True,
) -> tuple[FoundScans, dict[str, dict[str, Any]]]:
  """The scans of a folder or file, and name -> fields of `Case` that say
  where its candidates are.

  Args:
    source: a file, a folder of NIfTI files, a BIDS or CMB labeler folder.
    participants: subject labels to keep, with or without 'sub-'.
    swi_pattern: shell pattern of the SWI's name.
    own: whether the candidates of the source are looked for.

  Raises:
    NoInputError: nothing to review.
    InputError: options that do not fit.
  """
  if not _is_data_set(source) and lupolab.is_lupolab(source):
    _refuse_pattern(source, swi_pattern)
    return _lupolab(source)
  found = scans_lib.find(
    source, participants=participants, swi_pattern=swi_pattern, options=OPTIONS
  )
  held, bad = {}, []
  for scan in found.scans:
    try:
      held[scan.name] = _held(source, scan) if own else {}
    except InputError as error:
      why = f'{str(error).removesuffix(".")}; or name one by --labels.'
      bad.append((scan.name, why))
  kept = tuple(scan for scan in found.scans if scan.name in held)
  return found._replace(scans=kept, broken=(*found.broken, *bad)), held


def _check_options(source, images, labels) -> None:
  for path, option in ((labels, '--labels'), (images, '--images')):
    if path is not None and not path.exists():
      raise NoInputError(f'{option}: {path} does not exist; check the name.')
  if not source.exists():
    raise NoInputError(f'{source}: no such file or folder; check the name.')
  if images is not None and not _is_out(source):
    raise InputError(
      f'--images: is for results of cmbjax detect, and {source} is none; '
      'give the data set itself.'
    )


def _refuse_pattern(source, swi_pattern) -> None:
  if swi_pattern is not None:
    raise InputError(
      f'--swi-pattern: is for a folder of NIfTI files, and {source} is none; '
      'leave it out.'
    )


def reviews_of(source: pathlib.Path) -> pathlib.Path:
  """Where the readers' folders of a source are by default.

  Raises:
    NoInputError: there is no such source.
  """
  if not source.exists():
    raise NoInputError(f'{source}: no such file or folder; check the name.')
  if source.is_file():
    return _beside(source)
  if _is_data_set(source) and not _is_out(source):
    return source / _OWN / REVIEWS
  return source / REVIEWS


def _is_out(source):
  return source.is_dir() and any(results.records(source))


def _is_data_set(source):
  return any(path.is_dir() for path in source.glob('sub-*'))


def _wanted(source, made, participants):
  wanted = {'sub-' + p.removeprefix('sub-') for p in participants}
  there = {case.subject for case in made}
  missing = sorted(wanted - there)
  if missing:
    raise InputError(
      f'{source}: has no {", ".join(missing)}; it has '
      f'{", ".join(sorted(there)[:8])}{" and more" if len(there) > 8 else ""}.'
    )
  return [case for case in made if not wanted or case.subject in wanted]


def _beside(path) -> pathlib.Path:
  """Where the reviews of one file go: not among the files of a data set."""
  for folder in path.resolve().parents:
    if doors.is_there(folder / 'dataset_description.json'):
      return folder / _OWN / REVIEWS
  return path.resolve().parent / 'review'


def _held(root, scan) -> dict[str, Any]:
  """The candidates of a scan: a truth, else our detection, else any labels."""
  if root.is_file():
    return {}
  found = truth_files.find_truth(root, scan)
  if found is not None and found.kind == 'points':
    return {'points': found.path}
  if found is not None:
    others = (found.rejected,) if found.rejected else ()  # judged before
    return {'labels': found.path, 'others': others}
  below = pathlib.Path(scan.subject, scan.session or '', 'anat')
  detected = sorted((root / _OWN / below).glob(f'{scan.name}_*cmb*_dseg.nii*'))
  if len(detected) == 1:
    return scans.detected(detected[0])
  folders = [*sorted((root / 'derivatives').glob('*/')), root]
  some = [p for folder in folders for p in sorted((folder / below).glob('*'))]
  fits = [p for p in some if _is_lesions(p, scan.name)]
  if len(fits) > 1:
    raise InputError(
      f'{scan.name}: {len(fits)} files could hold its candidates ('
      + ', '.join(str(p.relative_to(root)) for p in fits)
      + '); keep one of them.'
    )
  return {'labels': fits[0]} if fits else {}


# What these write are tissues and regions.
_ANATOMY = {'fmriprep', 'smriprep', 'freesurfer', 'fastsurfer', 'cat12'}


def _is_lesions(path, name):
  """Whether a file is a label image or mask of this scan, not of its brain."""
  if not _IMAGE.search(path.name) or not path.name.startswith(f'{name}_'):
    return False
  entities = filename.entities(path)
  about = [entities.get(key) or '' for key in ('label', 'desc', 'seg')]
  _, made, below = str(path.parent).rpartition('/derivatives/')
  program = re.split('[/_-]', below.lower())[0] if made else ''
  if named_image.describe(path).role == roles.LABELS or program in _ANATOMY:
    return False
  return entities.suffix in ('dseg', 'mask') and not any(
    _BRAIN.search(text) or text in ('mimic', 'candidates') for text in about
  )


def _lupolab(folder):
  failures: dict[str, str] = {}
  pairs = lupolab.find_scans(folder, failures=failures)
  made = tuple(scan for scan, _ in pairs)
  held = {
    scan.name: {'labels': truth.path, 'others': (truth.rejected,)}
    for scan, truth in pairs
  }
  return FoundScans('labeler', made, tuple(failures.items())), held


# Labels that were named.


def _labelled(made, labels):
  """Cases with the candidates of --labels."""
  if not labels.is_dir():
    if len(made) != 1:
      raise InputError(
        f'--labels: {labels} is one file, but there are {len(made)} cases; '
        'give a folder of label files.'
      )
    return [_given(made[0], labels)], []
  below = sorted(p for p in labels.rglob('*') if not p.is_dir())
  good, bad = [], []
  for case in made:
    fits = [p for p in below if _is_lesions(p, case.name)] or [
      p for p in below if fnmatch.fnmatch(p.name, f'{case.name}_*cmb*.tsv')
    ]
    if len(fits) == 1:
      good.append(_given(case, fits[0]))
    elif fits:
      bad.append(
        f'{case.name}: {len(fits)} files could hold its candidates ('
        + ', '.join(str(p.relative_to(labels)) for p in fits)
        + '); give a narrower --labels.'
      )
    else:
      bad.append(f'{case.name}: has no label file below {labels}.')
  return good, bad


def _given(case, path):
  bare = dataclasses.replace(
    case, labels=None, others=(), points=None, fingerprint=''
  )
  if path.suffix.lower() == '.tsv':
    return dataclasses.replace(bare, points=path)
  if not _IMAGE.search(path.name):
    raise InputError(
      f'--labels: {path} is no label image (.nii, .nii.gz) or table (.tsv).'
    )
  return dataclasses.replace(bare, **scans.detected(path))


def _checked(made):
  """Cases whose files fit together; further sequences that do not are out."""
  good, bad = [], []
  for case in made:
    try:
      good.append(_check(case))
    except InputError as error:
      bad.append(str(error))
  return good, bad


def _check(case) -> Case:
  if not re.fullmatch(r'[A-Za-z0-9_][A-Za-z0-9._-]*', case.name):
    raise InputError(
      f'{case.name}: is no name for the folder of its review; use letters, '
      'digits, - and _.'
    )
  like = volume.grid_of(case.reference)
  for path in (case.labels, *case.others):
    if path is not None:
      volume.check_grid(volume.grid_of(path), like)
  kept, notices = [case.sequences[0]], list(case.notices)
  for one in case.sequences[1:]:
    try:
      volume.check_grid(volume.grid_of(one.path), like)
      kept.append(one)
    except InputError:
      notices.append(
        f'{one.label} is left out: {one.path.name} is not on the grid of the '
        'image that is judged.'
      )
  return dataclasses.replace(
    case, sequences=tuple(kept), notices=tuple(notices)
  )
