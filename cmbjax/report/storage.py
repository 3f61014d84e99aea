"""A study's tables to CSV and JSON, and from JSON back.

Rule: an undefined number is an empty cell or null with its reason beside it;
NaN is never written. results.json holds all that the page shows.
"""

import base64
import csv
import dataclasses
import io
import os
import pathlib
import types
import typing
from collections.abc import Iterator
from typing import Any

import numpy as np

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.evaluation import permutation
from cmbjax.evaluation.statistics import Interval
from cmbjax.report import tables
from cmbjax.report.tables import Patch, ResultRow, StudyTables


def write_all(study: StudyTables, folder: pathlib.Path) -> None:
  """results.json and every table as CSV."""
  write_json(study, folder / 'results.json')
  for name, write in (
    ('results', write_csv),
    ('breakdown', write_breakdown),
    ('likelihood', write_likelihood),
    ('operating_points', write_points),
    ('orderings', write_orderings),
    ('pairs', write_pairs),
  ):
    write(study, folder / f'{name}.csv')


_WHERE = 'row strategy test kind simulated'


def _write(path, head: str, lines) -> None:
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  writer.writerow(head.split())
  writer.writerows(lines)
  files.write_text(path, buffer.getvalue())


def _rows(study: StudyTables) -> Iterator[tuple[list, ResultRow]]:
  """Every row with the cells that say which one it is."""
  for row in (*tables.ordered(study.rows), *study.held_out):
    where = [row.number, row.strategy, row.test, row.kind]
    yield [*where, _yes(study.simulated)], row


def write_csv(study: StudyTables, path: str | os.PathLike) -> None:
  """results.csv: one line per row and metric, empty cells where undefined."""
  head = f'{_WHERE} metric value low high note'
  head += ' bootstrap_low bootstrap_high subjects scans candidates lesions'
  lines = []
  for where, row in _rows(study):
    counts = [row.num_subjects, row.num_scans]
    counts += [row.num_candidates, row.num_lesions]
    for name, interval in _all_metrics(row).items():
      drawn = row.bootstrap.get(name)
      drawn = [drawn.low, drawn.high] if drawn else [None, None]
      lines.append([*where, name, *interval, *drawn, *counts])
  _write(path, head, lines)


def write_breakdown(study: StudyTables, path: str | os.PathLike) -> None:
  """breakdown.csv: sensitivity of all lesions by size and region."""
  _write(
    path,
    f'{_WHERE} by group lesions value low high note',
    (
      [*where, by, group, count, *interval]
      for where, row in _rows(study)
      for by, groups in row.parts.items()
      for group, (interval, count) in groups.items()
    ),
  )


def write_likelihood(study: StudyTables, path: str | os.PathLike) -> None:
  """likelihood.csv: what the candidates of each bin of likelihood are."""
  head = f'{_WHERE} above up_to candidates microbleeds lesions'
  head += ' metric value low high note'
  names = ('share', 'of_lesions', 'fp_per_scan')
  lines = []
  for where, row in _rows(study):
    for one in row.likelihoods:
      cells = [one.low, one.high, one.candidates, one.microbleeds, one.lesions]
      for name in names:
        lines.append([*where, *cells, name, *getattr(one, name)])
  _write(path, head, lines)


def write_points(study: StudyTables, path: str | os.PathLike) -> None:
  """operating_points.csv: thresholds chosen out of fold, on the test sets."""
  _write(
    path,
    f'{_WHERE} point threshold rule metric value low high note',
    (
      [*where, name, point.threshold, point.rule, metric, *interval]
      for where, row in _rows(study)
      for name, point in row.points.items()
      for metric, interval in point.metrics.items()
    ),
  )


def write_orderings(study: StudyTables, path: str | os.PathLike) -> None:
  """orderings.csv: claims, differences, tests and verdicts."""
  head = 'claim rows simulated metric difference low high note bootstrap_low'
  head += ' bootstrap_high p p_holm verdict reason subjects subjects_needed'
  head += ' detectable design by_seed'
  lines = []
  for one in study.orderings:
    seeds = ' '.join('' if gap is None else f'{gap:.6g}' for gap in one.by_seed)
    drawn = one.bootstrap or Interval(None, None, None)
    line = [one.claim, one.rows, _yes(study.simulated), one.metric]
    line += [*one.difference, drawn.low, drawn.high, one.p, one.p_holm]
    line += [one.verdict, one.reason, one.num_subjects, one.needed]
    lines.append([*line, one.detectable, one.design, seeds])
  _write(path, head, lines)


def write_pairs(study: StudyTables, path: str | os.PathLike) -> None:
  """pairs.csv: every test of every pair of strategies, first minus second."""
  adjusted = permutation.holm([one.tests['auc'].p for one in study.pairs])
  head = 'first second test kind simulated subjects difference_of value low'
  head += ' high note p p_holm assumption'
  _write(
    path,
    head,
    (
      [
        *(one.first, one.second, one.test, one.kind, _yes(one.simulated)),
        *(one.num_subjects, name, *test.difference, test.p),
        holm if name == 'auc' else None,
        test.assumption,
      ]
      for one, holm in zip(study.pairs, adjusted)
      for name, test in one.tests.items()
    ),
  )


def _all_metrics(row: ResultRow) -> dict[str, Interval]:
  counts = {f'count_{name}': one for name, one in row.agreement.items()}
  rates = {f'sensitivity_at_{name}': one for name, one in row.rates.items()}
  return row.metrics | row.own | row.levels | rates | row.calibration | counts


def _yes(value: bool) -> str:
  return 'yes' if value else 'no'


def write_json(study: StudyTables, path: str | os.PathLike) -> None:
  """results.json: everything that `read_json` needs to draw it again."""
  fields = plain(study)  # with a digest: numbers are never edited by hand
  files.write_json(path, {'digest': files.digest(fields), **fields})


def read_json(path: str | os.PathLike) -> StudyTables:
  """The study that `write_json` wrote; a folder means its results.json."""
  path = pathlib.Path(path)
  if path.is_dir():
    path = path / 'results.json'
  if not doors.is_there(path):
    raise NoInputError(f'{path}: not found; give the folder of a finished run.')
  value = files.read_object(path)
  digest = value.pop('digest', None)
  # A number changed by hand would pass into a page as if it were measured.
  if digest is not None and digest != files.digest(value):
    raise InputError(
      f'{path}: was changed since the study wrote it; run the study again, '
      'which takes up what it finished.'
    )
  try:
    if digest is None:
      raise KeyError('digest')
    return _typed(StudyTables, value)
  except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
    raise InputError(
      f'{path}: is not a results file of cmbjax ({error!r}); run the study '
      'again.'
    ) from error


def plain(value):
  """Dataclasses, tuples and arrays to JSON; not finite becomes null."""
  if isinstance(value, Patch):
    # A page shows no more than 256 grey levels.
    pixels = np.clip(np.round(255 * np.asarray(value.image)), 0, 255)
    image = {
      'shape': list(pixels.shape),
      'uint8': base64.b64encode(pixels.astype(np.uint8).tobytes()).decode(),
    }
    return {**vars(value), 'image': image}
  if dataclasses.is_dataclass(value):
    fields = dataclasses.fields(value)
    return {f.name: plain(getattr(value, f.name)) for f in fields}
  if hasattr(value, '_asdict'):
    value = value._asdict()
  if isinstance(value, dict):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, np.ndarray):
    value = value.tolist()
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, list | tuple):
    return [plain(v) for v in value]
  # JSON has no NaN, and readers of it stop at one.
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value


def _typed(hint: Any, value: Any) -> Any:
  """JSON values as the type that a field has; the inverse of `plain`."""
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if value is None or hint is Any:
    return value
  if origin is types.UnionType:  # `X | None`, as all of ours
    return _typed(inner[0], value)
  if origin is dict:
    return {name: _typed(inner[1], one) for name, one in value.items()}
  if origin is list:
    return [_typed(inner[0], one) for one in value]
  if origin is tuple:
    every = inner[:1] * len(value) if inner[1:] == (...,) else inner
    return tuple(_typed(kind, one) for kind, one in zip(every, value))
  if hint is np.ndarray:
    pixels = np.frombuffer(base64.b64decode(value['uint8']), np.uint8)
    return pixels.reshape(value['shape']) / np.float32(255)
  if dataclasses.is_dataclass(hint) or hasattr(hint, '_fields'):
    kinds = typing.get_type_hints(hint)
    return hint(**{name: _typed(kinds[name], v) for name, v in value.items()})
  return value
