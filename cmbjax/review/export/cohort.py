"""A reader's labels to a cohort folder that training reads.

Accepted items and additions are microbleeds, rejected ones false positives,
and what the reader left unsure is in neither. Of a scan without candidates (or
whose reader never saw them) only lesions are known; then training proposes
the others itself. Rule: the folder is whole or not there, and was read as
training reads it before it gets its name.
"""

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import cmbjax
from cmbjax import doors, files
from cmbjax.data import cohort
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import volume
from cmbjax.intake import bids, truth_files
from cmbjax.progress import Progress
from cmbjax.review.cases import case as cases_lib
from cmbjax.review.cases.case import Case
from cmbjax.review.export import images
from cmbjax.review.export import labels as labels_lib
from cmbjax.review.export.labels import Labels, Part
from cmbjax.review.log import folders, journal
from cmbjax.review.log.items import MODEL, READER, measure
from cmbjax.review.log.reader_mask import tsv
from cmbjax.review.log.record import ReviewRecord
from cmbjax.review.readers import places

TRUTH = 'derivatives/truth'
COLUMNS = {
  'x': 'Centre of the outline, mm, RAS world',
  'y': 'Centre of the outline, mm, RAS world',
  'z': 'Centre of the outline, mm, RAS world',
  'volume_mm3': 'Voxels times voxel volume; of a lesion without outline n/a',
  'diameter_mm': 'Diameter of a sphere of that volume',
  'verdict': 'accept or reject',
  'certainty': 'definite, probable or possible',
  'mimic': 'What a rejected candidate is instead',
  'region': 'lobar, deep, infratentorial or unknown; of an addition of which '
  'the reader did not say it, by registration to MNI152',
  'origin': 'model, reader, or reader_after_model (added after the candidates '
  'were shown)',
  'unaided': 'Whether the reader marked it with no candidate in sight',
  'source_id': 'Name of the candidate where it was proposed',
  'score': 'Likelihood that the networks gave',
  'rating': "The reader's own, 1 to 10",
  'comment': "The reader's words",
}

# Why an item is in neither label image; the first two are columns.
_SAID = {
  'unsure': 'unsure',
  'unread': 'without a verdict',
  'not_shown': 'not shown because of --least',
  'rejected_under_a_lesion': 'rejected under an accepted lesion',
}
_PARTICIPANTS = {
  'microbleeds': 'Lesions that the reader accepted or added',
  'rejected': 'Candidates that the reader rejected',
  'unsure': 'Left unsure; in no label image',
  'unread': 'Left without a verdict; in no label image',
}


def write_cohort(
  cases: Sequence[Case],
  root: pathlib.Path,
  rater: str,
  out: pathlib.Path,
  *,
  link: str = 'hard',
  grow_missing: bool = False,
) -> pathlib.Path:
  """Writes the completed reviews of a reader as a BIDS cohort.

  Args:
    cases: of the source that was reviewed.
    root: folder of the reviews.
    rater: reader, or a folder that `merge.run_merge` wrote.
    out: the cohort, a folder that is not there yet.
    link: how images get there: 'hard' (a copy where that is impossible),
      'copy' or 'symbolic'.
    grow_missing: outline accepted lesions that have none; else they are an
      error.

  Returns:
    `out`.

  Raises:
    NoInputError: no review of this reader, or none that is completed.
    InputError: a check failed, or `out` is not free.
  """
  root, out = pathlib.Path(root), pathlib.Path(out)
  if link not in images.LINKS:
    raise InputError(
      f'link: found {link!r}, allowed are {", ".join(images.LINKS)}.'
    )
  rater = folders.reader_or_merge(root, rater)
  finished, left_out = _finished(cases, root, rater)
  with (
    files.new_folder(out) as folder,
    Progress('export', len(finished)) as progress,
  ):
    for case, record in finished:
      loaded = cases_lib.load(case)
      _check_image(case, record, loaded)
      labels = labels_lib.collect(
        record, loaded.image, grow_missing=grow_missing
      )
      labels = labels_lib.with_regions(labels, case, loaded.image)
      images.write(folder, case, link)
      images.write_mask(folder, case, loaded.image)
      about = _about(record, case, rater, root / rater / case.name)
      for one in _label_files(labels):
        _write_labels(
          folder, case, one, like=loaded.image, record=record, about=about
        )
      progress.advance(note=case.name)
    _write_top(folder, finished, rater, left_out)
    _check_cohort(folder, finished)
  return out


def left_out(
  cases: Sequence[Case], root: pathlib.Path, rater: str
) -> dict[str, str]:
  """Names of cases that an export leaves out, and why."""
  root = pathlib.Path(root)
  rater, out = folders.reader_or_merge(root, rater), {}
  for case in cases:
    found = journal.summary(root / rater / case.name)
    if found is None:
      out[case.name] = 'not begun'
    elif found['status'] != 'completed':
      out[case.name] = found['status']
  return out


def describe(out: pathlib.Path) -> list[str]:
  """What the labels of an export leave out of each scan, as sentences."""
  said = []
  for path in sorted(out.glob(f'{TRUTH}/**/*_seg-cmb_dseg.json')):
    counts = files.read_json(path)['LeftOut']
    some = [f'{n} {_SAID[why]}' for why, n in counts.items() if n]
    if some:
      name = path.name.partition('_seg-')[0]
      said.append(f'{name}: neither accepted nor rejected: {", ".join(some)}')
  return said


def _finished(cases, root, rater):
  """(case, record) of what is completed, and why others are left out."""
  finished, out = [], {}
  for case in cases:
    folder = root / rater / case.name
    if not doors.is_there(folder / journal.EVENTS):
      out[case.name] = 'not begun'
      continue
    record = journal.read(folder)
    if 'adjudicates' in record.header:
      raise InputError(
        f'{rater}: holds disagreements only; export the merged folder '
        'instead, which `cmbjax review merge` writes.'
      )
    if record.status != 'completed':
      out[case.name] = record.status
      continue
    finished.append((case, record))
  if not finished:
    why = ', '.join(f'{name} ({text})' for name, text in out.items())
    raise NoInputError(
      f'{root / rater}: no review is completed: {why}; finish one first.'
    )
  return finished, out


def _check_image(case, record, loaded) -> None:
  for what, now in (
    ('image', loaded.image_sha256),
    ('label image', loaded.labels_sha256),
  ):
    field = 'image_sha256' if what == 'image' else 'labels_sha256'
    if (record.header[field] or '') != (now or ''):
      raise InputError(
        f'{case.name}: its {what} is not the one that was reviewed; restore '
        'it, or review it again.'
      )


def _about(record, case, rater, folder) -> dict[str, Any]:
  """Who said so, of what, and how."""
  header = record.header
  times = [line['time'] for line in journal.lines(folder) if line.get('time')]
  merged = header.get('merged') or {}
  readers = merged.get('raters') or [header['rater']]
  return {
    'Manual': True,
    'Rater': rater,
    'Readers': list(readers),
    'Adjudicator': merged.get('adjudicator'),
    'FirstTime': min(times, default=None),
    'LastTime': max(times, default=None),
    'Sources': [header['source']] if header['source'] else [],
    'SpatialReference': 'orig',
    'ImageSHA256': header['image_sha256'],
    'LabelsSHA256': header['labels_sha256'],
    'Model': header['model'],
    'Mode': header['mode'],
    'Blind': list(header['blind']),
    'Order': header['order'],
    'Seed': header['seed'],
    'Least': header.get('least'),
    'ReviewedWith': header['cmbjax'],
    'Simulated': bool(case.simulated or header['simulated']),
    'GeneratedBy': [
      {'Name': 'cmbjax review export', 'Version': cmbjax.__version__}
    ],
    'Note': record.note,
  }


class _LabelFile(NamedTuple):
  name: str
  parts: tuple[Part, ...]
  what: str
  left_out: dict[str, int]


def _label_files(labels: Labels) -> tuple[_LabelFile, _LabelFile]:
  what = 'Microbleeds that the reader accepted or added.'
  bled = _LabelFile('cmb', labels.accepted, what, labels.left_out)
  what = 'Candidates that the reader rejected.'
  return bled, _LabelFile('mimic', labels.rejected, what, labels.left_out)


def _write_labels(
  folder: pathlib.Path,
  case: Case,
  made: _LabelFile,
  *,
  like: volume.Volume,
  record: ReviewRecord,
  about: Mapping[str, Any],
) -> None:
  """A label image with its table and what is to be known of it."""
  anat = files.make_folder(images.anat(folder, TRUTH, case))
  flat = np.zeros(record.view.size, np.uint16)
  for number, part in enumerate(made.parts, 1):
    flat[part.voxels] = number
  stem = anat / f'{case.name}_seg-{made.name}_dseg'
  array = flat.reshape(record.view.shape, order='F')
  volume.save(f'{stem}.nii.gz', array, like)
  rows = [_row(n, made.name, p, record) for n, p in enumerate(made.parts, 1)]
  table = tsv(['index', 'name', *COLUMNS], rows)
  files.write_text(f'{stem}.tsv', table)
  known = {key: {'Description': text} for key, text in COLUMNS.items()}
  counts = {'Lesions': len(made.parts), 'LeftOut': made.left_out}
  says = {'Description': made.what, **about, **counts, **known}
  # Without candidates, or where they stayed hidden, only lesions are known.
  says[truth_files.ALL_CANDIDATES] = not record.hidden and any(
    item.origin == MODEL for item in record.items.values()
  )
  files.write_json(f'{stem}.json', says)


def _row(number, name, part: Part, record) -> dict[str, Any]:
  item, view = part.item, record.view
  size = measure(part.voxels, view)
  world = places.centre(item, part.voxels, view)
  shown = {'volume_mm3': size.volume_mm3, 'diameter_mm': size.diameter_mm}
  return {
    'index': number,
    'name': f'{name}-{number:03d}',
    **dict(zip('xyz', (f'{value:.3f}' for value in world))),
    **({k: f'{v:.3f}' for k, v in shown.items()} if part.outlined else {}),
    'verdict': item.verdict,
    'certainty': item.certainty,
    'mimic': item.mimic,
    'region': item.region,
    'origin': item.origin,
    'unaided': str(item.found_as is not None or item.origin == READER).lower(),
    'source_id': item.id,
    'score': None if item.score is None else f'{item.score:.6g}',
    'rating': item.rating,
    'comment': item.comment,
  }


def _write_top(folder, finished, rater, out) -> None:
  simulated = any(c.simulated or r.header['simulated'] for c, r in finished)
  made = {'Name': 'cmbjax review export', 'Version': cmbjax.__version__}
  top = {'GeneratedBy': [made], 'Rater': rater, 'LeftOut': dict(out)}
  if simulated:
    top['Simulated'] = True
  name = 'Simulated scans' if simulated else 'Scans'
  name += f' with microbleeds as read by {rater}'
  bids.write_description(folder, name, extra=top)
  bids.write_description(
    folder / TRUTH, f'{name}: labels', kind='derivative', extra=top
  )
  files.write_text(folder / '.bidsignore', '*_swi.*\n')
  files.write_text(folder / 'README', _README.format(name=name, rater=rater))
  _write_participants(folder, finished)


def _write_participants(folder, finished) -> None:
  """How many lesions a subject has, and how many nobody decided."""
  rows: dict[str, collections.Counter] = {}
  for case, record in finished:
    said = [mark.verdict or 'unread' for mark in labels_lib.seen(record)]
    rows.setdefault(case.subject, collections.Counter()).update(said)
  counted = dict(zip(_PARTICIPANTS, ('accept', 'reject', 'unsure', 'unread')))
  table = [
    {'participant_id': subject}
    | {column: rows[subject][verdict] for column, verdict in counted.items()}
    for subject in sorted(rows)
  ]
  text = tsv(['participant_id', *_PARTICIPANTS], table)
  files.write_text(folder / 'participants.tsv', text)
  about = {k: {'Description': f'{v}.'} for k, v in _PARTICIPANTS.items()}
  files.write_json(folder / 'participants.json', about)


_README = """{name}, written by cmbjax review export.

The images are those that were reviewed, voxel by voxel. Under
derivatives/truth, seg-cmb holds what {rater} accepted or added, seg-mimic what
{rater} rejected; together they are all candidates of a scan, where there were
some (AllCandidatesReviewed). What was left unsure, or not shown because of
--least, is in neither.
"""


def _check_cohort(folder, finished) -> None:
  """Reads the folder as training will."""
  read = cohort.read_cohort(folder)
  kinds = ('candidates', 'labels')
  there = {scan.name for scan in read.scans if scan.truth.kind in kinds}
  wanted = {case.name for case, _ in finished}
  if there != wanted:
    missing = ', '.join(sorted(wanted - there))
    raise InputError(f'export: {missing} cannot be read back; report this.')
