"""A reader's completed cases to labelled likelihoods.

Accepted candidates are microbleeds, rejected ones mimics, and what the reader
added are lesions without a likelihood. Rule: what was not decided is counted,
never guessed; a case that cannot be used is named with the reason.
"""

import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.evaluation import site_points
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from cmbjax.review.cases import case as cases_lib
from cmbjax.review.cases import sources
from cmbjax.review.log import folders, journal
from cmbjax.review.log.items import MODEL
from cmbjax.review.log.record import ReviewRecord
from cmbjax.review.readers import places

_LABELS = '_seg-cmb_dseg.nii.gz'


class Reviewed(NamedTuple):
  """What a reader said of the candidates of some networks.

  Attributes:
    predictions: [N] likelihoods with the reader's labels.
    scans: [M] completed scans; lesions are those accepted and added.
    floor: likelihoods down to this were all shown, in every scan.
    fingerprint: of the networks, as `Classifier.fingerprint`.
    rater: the reader, or the folder of a merge.
    simulated: some scan is not of a person.
    undecided: candidates that were left unsure or without a verdict.
    left_out: case to why it is not used.
  """

  predictions: Predictions
  scans: ScanCounts
  floor: float
  fingerprint: str
  rater: str
  simulated: bool
  undecided: int
  left_out: dict[str, str]


class _Case(NamedTuple):
  """One completed case."""

  name: str
  subject: str
  rows: list[tuple[str, int, float]]  # candidate, accepted, likelihood
  added: int
  undecided: int
  floor: float
  fingerprint: str
  simulated: bool


def read(out: pathlib.Path, root: pathlib.Path, rater: str) -> Reviewed:
  """All completed cases of a reader.

  Args:
    out: the OUT of `cmbjax detect` that was reviewed.
    root: folder of the reviews.
    rater: reader, or a folder that `merge.run_merge` wrote.

  Raises:
    NoInputError: no such reader, or no case that can be used.
    InputError: a damaged journal, or candidates of different networks.
  """
  rater = folders.reader_or_merge(root, rater)
  found, left_out = [], {}
  for name in folders.cases(root, rater):
    try:
      found.append(_case(out, root / rater / name))
    except _Unusable as why:
      left_out[name] = str(why)
  if not found:
    named = ', '.join(f'{name} ({why})' for name, why in left_out.items())
    raise NoInputError(
      f'{root / rater}: no review can be used: {named}; finish one first.'
    )
  prints = sorted({case.fingerprint for case in found})
  if len(prints) > 1:
    raise InputError(
      f'{root / rater}: holds reviews of what {len(prints)} different networks '
      f'({", ".join(prints)}) found; detect all scans with one --weights and '
      'review those.'
    )
  return Reviewed(
    _predictions(found, out),
    _counts(found),
    max(case.floor for case in found),
    prints[0],
    rater,
    any(case.simulated for case in found),
    sum(case.undecided for case in found),
    left_out,
  )


def command(
  cases: Sequence[cases_lib.Case], root: pathlib.Path, rater: str
) -> str | None:
  """How to calibrate with what is reviewed by now; None: it is too little.

  From the snapshots of the journals alone, as a page asks often.

  Args:
    cases: of the source that is reviewed.
    root: folder of the reviews.
    rater: reader.
  """
  subjects, said = set(), []
  for case in cases:
    path = root / rater / case.name / journal.STATE
    if not case.fingerprint or not doors.is_there(path):
      continue
    try:
      state = files.read_object(path)
      if state['case']['status'] == 'completed':
        subjects.add(case.subject)
        said += [one['verdict'] for one in state['items'] if _counts_as(one)]
    except (InputError, KeyError, TypeError):  # only an offer
      continue
  known = {'subjects': len(subjects)}
  known |= {'lesions': said.count('accept'), 'mimics': said.count('reject')}
  if site_points.missing(known):
    return None
  words = ['cmbjax', 'calibrate', 'OUT', '--rater', rater]
  words += ['--out', 'weights/site']
  if root.parts[-2:] == pathlib.PurePath(sources.REVIEWS).parts:
    words[2] = str(root.parents[1])
  else:
    words += ['--reviews', str(root)]
  return shlex.join(words)


def _counts_as(item: Mapping[str, Any]) -> bool:
  """Whether an item of a snapshot is a candidate with a likelihood."""
  return (
    item['origin'] == MODEL
    and item['present']
    and item['repeat_of'] is None
    and item['score'] is not None
  )


class _Unusable(Exception):
  """Why a case says nothing about likelihoods."""


def _case(out, folder) -> _Case:
  record = journal.read(folder)
  header = record.header
  if 'adjudicates' in header:
    raise InputError(
      f'{folder.parent}: holds disagreements only; give the folder of the '
      'merge instead, which `cmbjax review merge` writes.'
    )
  if not record.is_completed:
    raise _Unusable(record.status)
  if not header['model']:
    raise _Unusable('its candidates are not of networks')
  if record.hidden:
    raise _Unusable('the candidates were never shown')
  point = _point(out, folder.name, header)
  rows, added, undecided = [], 0, 0
  for mark in places.marks(record, ''):
    item, verdict = mark.item, mark.verdict
    if item.origin != MODEL:
      added += verdict == 'accept'
    elif verdict in ('accept', 'reject') and item.score is not None:
      rows.append((item.id, int(verdict == 'accept'), item.score))
    else:
      undecided += 1
  return _Case(
    folder.name,
    header.get('subject') or folder.name.partition('_')[0],
    rows,
    added,
    undecided,
    _floor(record, point),
    header['model'],
    bool(header['simulated']),
  )


def _point(out, name, header) -> Mapping[str, Any]:
  """The operating point at which the reviewed candidates were found."""
  path = out / 'logs' / f'{name}.json'
  if not doors.is_there(path):
    raise _Unusable(f'its result is not below {out}')
  written = files.read_object(path).get('files') or []
  labels = [out / name for name in written if name.endswith(_LABELS)]
  if not labels or not doors.is_there(labels[0]):
    raise _Unusable(f'its result is not below {out}')
  if cases_lib.sha256(labels[0]) != header['labels_sha256']:
    raise _Unusable('it was detected again since it was reviewed')
  beside = labels[0].with_name(labels[0].name.replace('.nii.gz', '.json'))
  return files.read_object(beside).get('OperatingPoint') or {}


def _floor(record: ReviewRecord, point: Mapping[str, Any]) -> float:
  """Likelihoods above this were shown, whatever --least kept away."""
  least, low = record.header.get('least'), point.get('threshold') or 0.0
  if least == 'definite':
    least = point.get('definite_threshold')
  return max(float(low), float(least or 0.0))


def _predictions(found, out) -> Predictions:
  rows = [
    (f'{case.subject}/{case.name}/{name}', case.subject, case.name, *said)
    for case in found
    for name, *said in case.rows
  ]
  columns = [list(column) for column in zip(*rows)] or [[] for _ in range(5)]
  key, subject, scan = (np.array(column, str) for column in columns[:3])
  label, likelihood = np.array(columns[3], int), np.array(columns[4], float)
  lesion = np.arange(1, len(label) + 1) * label  # one each: they are outlined
  cohort = np.full(len(label), out.name)
  return Predictions(key, subject, scan, cohort, label, lesion, likelihood)


def _counts(found) -> ScanCounts:
  added = np.array([case.added for case in found], int)
  accepted = [sum(said for _, said, _ in case.rows) for case in found]
  return ScanCounts(
    np.array([case.name for case in found], str),
    np.array([case.subject for case in found], str),
    np.array(accepted, int) + added,
    added,
  )
