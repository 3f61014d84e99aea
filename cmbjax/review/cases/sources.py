"""What a person wants to review to cases.

The results of `cmbjax detect`, a BIDS data set (with labels or without), the
folders of the published CMB labeler, or one NIfTI file. Rule: names and
headers are read, no voxels; a scan that cannot be used does not stop the
others, and which file holds the candidates is never a silent choice.
"""

import dataclasses
import fnmatch
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import volume
from cmbjax.intake import bids, filename, lupolab, sidecars, truth_files
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.review.cases import results, scans
from cmbjax.review.cases.case import Case

REVIEWS = 'sourcedata/review'
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
    source: results of `cmbjax detect`, a BIDS or CMB labeler folder, a NIfTI.
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
  _check_options(source, images, labels, swi_pattern)
  if _is_out(source):
    made, bad = results.cases(source, images)
  elif source.is_file():
    made, bad = [_one_file(source)], []
  elif _is_data_set(source):
    made, bad = _data_set(source, participants, swi_pattern, own=labels is None)
  elif lupolab.is_lupolab(source):
    made, bad = _lupolab(source)
  else:
    raise NoInputError(
      f'{source}: holds nothing to review; give results of cmbjax detect, a '
      'BIDS data set (sub-* folders) or one NIfTI file.'
    )
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


def _check_options(source, images, labels, swi_pattern) -> None:
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
  bids_like = _is_data_set(source) and not _is_out(source)
  if swi_pattern is not None and not bids_like:
    raise InputError(
      f'--swi-pattern: is for a BIDS data set, and {source} is none; leave it '
      'out.'
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


def _one_file(path) -> Case:
  if not _IMAGE.search(path.name):
    raise InputError(
      f'{path}: is not a NIfTI file (.nii, .nii.gz); convert it first.'
    )
  entities = filename.entities(path)
  label = entities.get('sub') or re.sub(
    '[^A-Za-z0-9]', '', _IMAGE.sub('', path.name)
  )
  session = f'ses-{entities.get("ses")}' if entities.get('ses') else None
  subject = f'sub-{label or "1"}'
  scan = ScanFiles(
    subject=subject,
    session=session,
    name=f'{subject}_{session}' if session else subject,
    swi=path,
    magnitude=(),
    phase=(),
    mask=None,
    sidecar=sidecars.read(path),
  )
  return scans.case_of(scan)


def _beside(path) -> pathlib.Path:
  """Where the reviews of one file go: not among the files of a data set."""
  for folder in path.resolve().parents:
    if doors.is_there(folder / 'dataset_description.json'):
      return folder / _OWN / REVIEWS
  return path.resolve().parent / 'review'


# BIDS data sets.


def _data_set(root, participants, swi_pattern, *, own):
  """(cases, sentences on those that cannot be used)."""
  made, bad = [], []
  simulated = _is_simulated(root)
  for scan in _scans(root, participants, swi_pattern, bad):
    try:
      held = _held(root, scan) if own else {}
    except InputError as error:
      bad.append(f'{str(error).removesuffix(".")}; or name one by --labels.')
      continue
    facts = {'simulated': True} if simulated else {}
    made.append(scans.case_of(scan, **held, **facts))
  return made, bad


def _scans(root, participants, swi_pattern, bad):
  failures: dict[str, str] = {}
  scans = bids.find_scans(
    root,
    participants=participants,
    swi_pattern=swi_pattern,
    failures=failures,
    options=('--swi-pattern',),
  )
  bad += failures.values()
  return scans


def _is_simulated(root):
  path = root / 'dataset_description.json'
  content = files.read_object(path) if doors.is_there(path) else {}
  return content.get('Simulated') is True


def _held(root, scan) -> dict[str, Any]:
  """The candidates of a scan: a truth, else our detection, else any labels."""
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


def _is_lesions(path, name):
  """Whether a file is a label image or mask of this scan, not of its brain."""
  if not _IMAGE.search(path.name) or not path.name.startswith(f'{name}_'):
    return False
  entities = filename.entities(path)
  about = [entities.get(key) or '' for key in ('label', 'desc', 'seg')]
  return entities.suffix in ('dseg', 'mask') and not any(
    _BRAIN.search(text) or text in ('mimic', 'candidates') for text in about
  )


def _lupolab(folder):
  failures: dict[str, str] = {}
  made = [
    scans.case_of(scan, labels=held.path, others=(held.rejected,))
    for scan, held in lupolab.find_scans(folder, failures=failures)
  ]
  return made, list(failures.values())


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
