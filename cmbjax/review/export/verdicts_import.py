"""Verdicts that a reader gave on the static page to a journal like any other.

Rule: verdicts belong to one result; a file about another scan or result, a
second one of the same scan, or one that was altered is refused, and nothing
is written unless all files are good.
"""

import datetime
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax import doors, files
from cmbjax.errors import InputError
from cmbjax.review.cases import case as cases_lib
from cmbjax.review.cases import grow
from cmbjax.review.cases.case import Case
from cmbjax.review.log import composed, folders, journal
from cmbjax.review.log.geometry import View
from cmbjax.review.log.items import MIMICS, VERDICTS
from cmbjax.review.log.opening import Terms, new_header
from cmbjax.review.log.record import ReviewRecord

SCHEMA = 'cmbjax-verdicts-1'
_DROPPED = 'candidate-'  # names what no network took for a lesion
_MOST_COMMENT = 5_000  # letters
_MOST_MS = 30 * 24 * 3600 * 1000  # a page left open over a holiday
_MOST_MM = 1e5  # of a place in a scanner's room


class _File(NamedTuple):
  """One file that fits its scan."""

  path: pathlib.Path
  case: Case
  rater: str
  content: Mapping[str, Any]


def bring(
  paths: Sequence[pathlib.Path],
  cases: Sequence[Case],
  root: pathlib.Path,
  rater: str | None = None,
) -> list[pathlib.Path]:
  """Writes a journal for each file of verdicts.

  Times and milliseconds are those of the file. A candidate that the networks
  rejected and the reader accepted (or was unsure of) becomes an addition with
  an outline that is grown round its place.

  Args:
    paths: files that the page of a scan saved.
    cases: of the source, with the label images that detect wrote.
    root: folder of the reviews.
    rater: whose they are; None: as each file says.

  Returns:
    The folders of the journals.

  Raises:
    InputError: says which file does not fit, and why.
  """
  root = pathlib.Path(root)
  by_name = {case.name: case for case in cases}
  found = [_read(pathlib.Path(path), by_name, rater) for path in paths]
  targets: dict[pathlib.Path, pathlib.Path] = {}
  for one in found:
    folder = folders.folder_of(root, one.rater, one.case.name)
    if folder in targets:
      raise InputError(
        f'{one.path}: is about {one.case.name} by {one.rater}, and so is '
        f'{targets[folder]}; give one of them.'
      )
    if (folder / journal.EVENTS).exists():
      raise InputError(
        f'{one.path}: {one.rater} has a review of {one.case.name} already; '
        'import it under another name with --rater.'
      )
    targets[folder] = one.path
  ready = [_composed(one) for one in found]
  for one, folder, made in zip(found, targets, ready):
    with folders.hold(root, one.rater):
      files.write_bytes(folder / journal.EVENTS, made.data)
  return list(targets)


def _read(path, by_name, rater) -> _File:
  content = files.read_json(path)
  if not isinstance(content, dict) or content.get('schema') != SCHEMA:
    schema = content.get('schema') if isinstance(content, dict) else None
    raise InputError(
      f'{path}: is of schema {str(schema)[:40]!r}, expected {SCHEMA!r}; give '
      'a file that the page of a scan saved.'
    )
  scan = content.get('scan')
  case = by_name.get(scan) if isinstance(scan, str) else None
  if case is None:
    raise InputError(
      f'{path}: is about scan {str(scan)[:60]!r}, which is not among the '
      f'{len(by_name)} scans here; give the results it was made from.'
    )
  _check_result(path, case, content.get('result'))
  name = rater if rater is not None else content.get('rater')
  if not isinstance(name, str) or not name.strip():
    raise InputError(f'{path}: does not say who read it; give --rater NAME.')
  _check_content(path, content)
  return _File(path, case, folders.rater_label(name), content)


def _check_result(path, case: Case, result) -> None:
  """The hash in the file against that of the label image."""
  beside = None
  if case.labels is not None:
    beside = case.labels.with_name(case.labels.name.split('.')[0] + '.json')
  fields = (
    files.read_object(beside) if beside and doors.is_there(beside) else {}
  )
  known = fields.get('ResultHash')
  if not known:
    raise InputError(
      f'{path}: {case.name} does not say which result it is; its labels are '
      'no result of this version of cmbjax detect.'
    )
  if result != known:
    raise InputError(
      f'{path}: is about another result of {case.name} ({str(result)[:16]}, '
      f'here is {known}); the scan was analysed again since.'
    )


def _check_content(path, content) -> None:
  lesions = content.get('lesions')
  if not isinstance(lesions, list):
    raise InputError(f'{path}: holds no list of lesions.')
  seen = set()
  for row in lesions:
    name = row.get('id') if isinstance(row, dict) else None
    if not isinstance(name, str):
      raise InputError(f'{path}: a lesion has no id.')
    if name in seen:
      raise InputError(f'{path}: holds {name[:40]} twice.')
    seen.add(name)
    _check_row(path, name[:40], row)
  exported = content.get('exported')
  if not _is_time(exported):
    raise InputError(f'{path}: exported is {exported!r}, expected a UTC time.')


def _check_row(path, name, row) -> None:
  ms, mm = row.get('ms', 0), row.get('centre_mm')
  for field, good, wanted in (
    ('verdict', row.get('verdict') in (None, *VERDICTS), VERDICTS),
    ('mimic', row.get('mimic') in (None, *MIMICS), MIMICS),
    ('comment', _is_text(row.get('comment', '')), ('text',)),
    ('time', row.get('time') is None or _is_time(row['time']), ('UTC time',)),
    (
      'ms',
      type(ms) in (int, float) and 0 <= ms <= _MOST_MS,
      ('milliseconds',),
    ),
    ('centre_mm', _is_point(mm), ('three numbers',)),
  ):
    if not good:
      raise InputError(
        f'{path}: {name} has {field} {str(row.get(field))[:40]!r}, allowed is '
        f'{", ".join(wanted)}.'
      )
  if 'verdict' not in row:
    raise InputError(f'{path}: {name} has no verdict, not even null.')
  if row.get('mimic') and row.get('verdict') != 'reject':
    raise InputError(f'{path}: {name} has a mimic, but is not rejected.')


def _is_text(value) -> bool:
  return isinstance(value, str) and len(value) <= _MOST_COMMENT


def _is_point(value) -> bool:
  return (
    isinstance(value, list)
    and len(value) == 3
    and all(files.is_number(v) and abs(v) <= _MOST_MM for v in value)
  )


def _is_time(value) -> bool:
  try:
    moment = datetime.datetime.fromisoformat(value)
    moment.astimezone(datetime.UTC)  # years 1 to 9999 there as well
  except (TypeError, ValueError, OverflowError):
    return False
  return moment.tzinfo is not None


def _utc(value: str) -> str:
  """In the form of a journal: UTC with milliseconds."""
  moment = datetime.datetime.fromisoformat(value).astimezone(datetime.UTC)
  return moment.isoformat(timespec='milliseconds')


def _composed(one: _File) -> composed.Composed:
  """The journal of one file."""
  try:
    return composed.compose(*_header_and_actions(one))
  except InputError as error:
    text = str(error)
    told = text.startswith(str(one.path))
    raise InputError(text if told else f'{one.path}: {text}') from error


def _header_and_actions(one: _File):
  loaded = cases_lib.load(one.case)
  view = View.of(loaded.image)
  header = new_header(
    loaded.candidates,
    grid=view.to_json(),
    rater=one.rater,
    case=one.case.name,
    source=one.case.source,
    image_sha256=loaded.image_sha256,
    labels_sha256=loaded.labels_sha256,
    model=one.case.fingerprint or None,
    simulated=one.case.simulated,
    terms=Terms(blind=()),
  )
  content = one.content
  began = content.get('started')
  header['time'] = _utc(began if _is_time(began) else content['exported'])
  header['imported'] = {
    'file': one.path.name,
    'result': content['result'],
    'exported': content['exported'],
    'cmbjax': str(content.get('cmbjax', ''))[:40],
  }
  record = ReviewRecord(header)
  number = {item.id: item.number for item in record.items.values()}
  rows = {row['id']: row for row in content['lesions']}
  _check_ids(one.path, rows, number, view)
  exported = content['exported']
  actions = []
  for name, item in number.items():
    actions += _said(rows[name], {'item': item}, exported)
  actions += _additions(rows, record, loaded.image, exported)
  actions.sort(key=lambda action: action['time'])  # stable
  if all(rows[name]['verdict'] for name in number):
    last = max([_utc(exported), *(a['time'] for a in actions)])
    done = {'event': 'status', 'value': 'completed', 'ms': 0, 'time': last}
    actions.append(done)
  return header, actions


def _said(row, base, exported) -> list[dict[str, Any]]:
  """What a row says of a candidate; how it came about, the page alone knows."""
  base = base | {'time': _utc(row.get('time') or exported)}
  ms, verdict = round(row.get('ms', 0)), row['verdict']
  found = []
  if verdict or ms:  # time was spent also on what was left open
    said = {'event': 'verdict', 'value': verdict, 'mimic': row.get('mimic')}
    found.append(base | said | {'ms': ms})
  if row.get('comment'):
    said = {'event': 'comment', 'value': row['comment']}
    found.append(base | said | {'ms': 0})
  return found


def _check_ids(path, rows, number, view) -> None:
  missing = sorted(set(number) - set(rows))
  if missing:
    raise InputError(
      f'{path}: lacks {missing[0]}, which is in the result; it is not whole.'
    )
  for name, row in rows.items():
    inside = view.contains(view.to_ijk(row['centre_mm']))
    if name in number:
      continue
    if not name.startswith(_DROPPED) or row.get('status') != 'rejected':
      raise InputError(f'{path}: {name[:40]} is not in the result.')
    if not inside:
      raise InputError(f'{path}: {name[:40]} lies outside of the image.')


def _additions(rows, record, image, exported) -> list[dict[str, Any]]:
  """Candidates of no network that the reader took for microbleeds."""
  view = record.view
  owned = [record.voxels(number) for number in record.items]
  free = np.ones(view.shape, bool)
  for voxels in owned:
    free[tuple(view.ijk_of(voxels).T)] = False
  found = []
  for name in sorted(rows):
    row = rows[name]
    if not name.startswith(_DROPPED) or row['verdict'] not in (
      'accept',
      'unsure',
    ):
      continue
    ijk = [int(v) for v in view.to_ijk(row['centre_mm'])]
    new = {'event': 'add', 'ijk': ijk, 'ms': round(row.get('ms', 0))}
    if free[tuple(ijk)]:
      grown = grow.grow(
        image.array, image.spacing_mm, ijk, free=free.__getitem__
      )
      free[tuple(view.ijk_of(grown.voxels).T)] = False
      new |= {'set': grown.voxels, 'tool': grown.tool}
    words = '; '.join(t for t in (name, row.get('comment', '').strip()) if t)
    said = row | {'comment': words, 'ms': 0}
    if row['verdict'] == 'accept':  # an addition is one
      said |= {'verdict': None}
    time = _utc(row.get('time') or exported)
    found.append(new | {'time': time})
    found += _said(said, {'item': composed.LAST}, exported)
  return found
