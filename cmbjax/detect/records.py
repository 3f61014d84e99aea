"""logs/NAME.json of each scan that was tried, and the table of all of them.

Rule: a scan is done when its record says so; the record is written last and
names every file, so a half written scan is never taken for a result.
"""

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cmbjax import doors, files, sealed
from cmbjax.detect.counts import LOCATIONS
from cmbjax.detect.derivatives import JUDGED, tsv
from cmbjax.detect.result import DEFINITE, POSSIBLE, ScanResult
from cmbjax.errors import InputError
from cmbjax.intake.scan_files import ScanFiles

GROUP = (
  'name',
  'subject',
  'session',
  'status',
  'definite',
  'possible',
  'counted',
  'too_large',
  'rejected',
  'candidates',
  'volume_mm3',
  *(f'{place}_{kind}' for place in LOCATIONS for kind in (DEFINITE, POSSIBLE)),
  'grade',
  'grade_with_possible',
  'aria_h',
  'aria_h_with_possible',
  'pattern',
  'strictly_lobar',
  'not_established',
  'field_t',
  'echo_time_s',
  'spacing_mm',
  'operating_point',
  'threshold',
  'num_warnings',
  'simulated',
  'seconds',
  'page',
  'note',
)


def write_record(
  out: pathlib.Path,
  result: ScanResult,
  mark: str,
  written: Sequence,
  *,
  scan: ScanFiles,
) -> dict[str, Any]:
  """logs/NAME.json, which makes a scan count as done; what it says.

  Args:
    out: the folder of results.
    result: of the scan.
    mark: of its inputs and settings.
    written: the files of the result.
    scan: its input, whose place the record holds, seen from `out`,
      so that a review finds what was judged.
  """
  _remove_stale(out, result.name, written)
  record = {
    'mark': mark,
    'files': [str(path.relative_to(out)) for path in written],
    'sums': {str(p.relative_to(out)): sealed.sha256(p) for p in written},
    'images': _images(out, scan, written),
    'row': group_row(result),
    'warnings': list(result.warnings),
    'top_rejected': [dict(row) for row in result.top_rejected],
    'seconds': dict(result.seconds),
    'software': dict(result.software),
  }
  if scan.cartesian:  # else a review takes the real part for the magnitude
    record['cartesian'] = True
  # Last: a kill before it leaves a scan that is not done.
  sealed.write_json(_record_path(out, result.name), record)
  return record


def _former(out: pathlib.Path, name: str) -> list[str]:
  """What the last finished run wrote of a scan."""
  record = _read(_record_path(out, name))
  return record.get('files', record.get('former', []))


def _remove_stale(out: pathlib.Path, name: str, written: Sequence) -> None:
  """A page or a table of an earlier result does not outlive it."""
  root = out.resolve()
  for path in (root / former for former in _former(out, name)):
    # A record may have been edited: nothing else is ever removed.
    is_ours = path.name.startswith(name) and root in path.resolve().parents
    if is_ours and path not in {each.resolve() for each in written}:
      path.unlink(missing_ok=True)


def _images(out, scan, written) -> dict[str, list[str]]:
  """Sequence to its files; 'swi' is the image that was judged."""
  judged = [path for path in written if path.name.endswith(JUDGED)]
  swi = () if scan.swi is None else (scan.swi,)
  known = {
    'swi': swi,
    'magnitude': scan.magnitude,
    'phase': scan.phase,
    'mask': () if scan.mask is None else (scan.mask,),
  }
  found = {'swi': [str(path.relative_to(out)) for path in judged]}
  for name, some in known.items():
    paths = [_seen_from(out, path) for path in some]
    found[name] = found.get(name) or paths
  if not found['swi']:  # no phase: the longest echo is what was judged
    found['swi'] = found['magnitude'][-1:]
  return found


def _seen_from(out, path) -> str:
  """A relative path; a link to the file itself is kept, not followed."""
  place = path.parent.resolve() / path.name
  return pathlib.Path(os.path.relpath(place, out.resolve())).as_posix()


def write_failure(out: pathlib.Path, name: str, error: str) -> None:
  """From now on the scan is not done, and the group table says why.

  Args:
    out: folder of the derivative data set.
    name: of the scan.
    error: the sentence.
  """
  row = dict.fromkeys(GROUP) | {'name': name, 'subject': name.split('_')[0]}
  row |= {'status': 'failed', 'note': error}
  former = _former(out, name)  # still there, until the next result
  sealed.write_json(_record_path(out, name), {'row': row, 'former': former})


def refuse_another(
  out: pathlib.Path, scan: ScanFiles, source: pathlib.Path
) -> None:
  """Keeps a result of another input, as of 'anna' a year before.

  Args:
    out: folder of the derivative data set.
    scan: that would be done.
    source: file or folder that it was found in.

  Raises:
    InputError: of this name there is a result of an image elsewhere.
  """
  images = _read(_record_path(out, scan.name)).get('images') or {}
  inside, here = out.resolve(), source.resolve()
  here = here if here.is_dir() else here.parent
  mine = [*([scan.swi] if scan.swi else []), *scan.magnitude]
  mine = [path.parent.resolve() / path.name for path in mine]
  for name in (*images.get('swi', ()), *images.get('magnitude', ())):
    path = pathlib.Path(os.path.normpath(inside / name))
    if path in mine or {inside, here} & set(path.parents):
      continue
    if doors.is_there(path):
      raise InputError(
        f'{out}: holds the result of {path} as {scan.name}, which '
        f'{scan.swi or scan.magnitude[0]} would be too; give another folder, '
        'rename one of them, or replace the result with --overwrite.'
      )


def is_known(out: pathlib.Path, name: str) -> bool:
  """Whether the scan was tried before."""
  return doors.is_there(_record_path(out, name))


def done(out: pathlib.Path, name: str, mark: str) -> dict[str, Any] | None:
  """The record of a scan that is done with this mark, its files present.

  A file that was changed since is kept, with a word: somebody may have
  corrected an outline in place.

  Args:
    out: folder of the derivative data set.
    name: of the scan.
    mark: of everything that decides its result.
  """
  record = _read(_record_path(out, name))
  if record.get('mark') != mark:
    return None
  if not all((out / path).is_file() for path in record.get('files', ['?'])):
    return None
  for path, wanted in record.get('sums', {}).items():
    # A person may have corrected an outline; a detection must not undo that.
    if sealed.sha256(out / path) != wanted:
      _say(
        f'{out / path}: is not as it was written; it is kept, --overwrite '
        'makes it again.'
      )
  return record


def records(out: pathlib.Path) -> list[dict[str, Any]]:
  """The records of all scans that were tried, sorted by name."""
  found = []
  for path in sorted((out / 'logs').glob('sub-*.json')):
    record = _read(path)
    if 'row' in record:
      found.append(record)
    else:
      _say(f'{path}: is damaged, so its scan is left out; do the scan again.')
  return found


def write_group(out: pathlib.Path, *, page: bool = True) -> pathlib.Path:
  """group_cmb.tsv of every scan that was tried, and the group page."""
  found = records(out)
  path = out / 'group_cmb.tsv'
  files.write_text(path, tsv(GROUP, [record['row'] for record in found]))
  if page:
    from cmbjax.report import group_page

    group_page.write_group([_page_row(out, record) for record in found], out)
  else:
    (out / 'group.html').unlink(missing_ok=True)  # it tells other numbers
  return path


def group_row(result: ScanResult) -> dict[str, Any]:
  """One scan as a row of the group table, JSON types only."""
  tally, protocol = result.counts, result.protocol
  places = {
    f'{place}_{kind}': tally['by_location'][place][kind]
    for place in LOCATIONS
    for kind in (DEFINITE, POSSIBLE)
  }
  same = {key: tally[key] for key in GROUP if key in tally}
  same['not_established'] = '; '.join(tally['not_established'])
  row = {
    'name': result.name,
    'subject': result.subject,
    'session': result.session,
    'status': 'done',
    **same,
    **places,
    'field_t': protocol['field_t'],
    'echo_time_s': protocol['echo_time_s'],
    'spacing_mm': list(result.spacing_mm),
    'operating_point': result.operating_point['name'],
    'threshold': result.operating_point['threshold'],
    'num_warnings': len(result.warnings),
    'simulated': result.simulated,
    'seconds': round(sum(result.seconds.values()), 2),
    'page': f'{result.name}.html',
    'note': '',
  }
  return {name: row[name] for name in GROUP}


def _page_row(out: pathlib.Path, record: Mapping[str, Any]) -> dict[str, Any]:
  """A record as the group page takes it."""
  row = dict(record['row'])
  if row['status'] == 'failed':
    return {'name': row['name'], 'error': row['note']}
  for place in LOCATIONS:
    row[place] = row[f'{place}_{DEFINITE}'] + row[f'{place}_{POSSIBLE}']
  if not (out / row['page']).is_file():
    row['page'] = None
  return row | {'warnings': record['warnings']}


def _say(text: str) -> None:
  print(f'note: {text}', file=sys.stderr, flush=True)


def _record_path(out: pathlib.Path, name: str) -> pathlib.Path:
  return out / 'logs' / f'{name}.json'


def _read(path: pathlib.Path) -> dict[str, Any]:
  """A record as it was written, {} where it is not."""
  try:
    return sealed.read_json(path)
  except InputError:
    return {}
