"""Scores against a truth to tables on disk, and to text for a terminal.

Rule: every number comes with its interval and with what it was counted over;
one that cannot be known is a dash with its reason.
"""

import csv
import io
import pathlib
import textwrap
from typing import Any

import numpy as np

from cmbjax import files
from cmbjax.detect.against_truth import ONLY, Evaluation
from cmbjax.evaluation import agreement, detections, intervals
from cmbjax.evaluation.intervals import Interval

_NAMES = {
  'sensitivity': 'Sensitivity, all lesions',
  'precision': 'Precision',
  'f1': 'F1',
  'fp_per_scan': 'False positives per scan',
}


_PER_SCAN = {
  'f1': 'Median F1 of scans, quartiles',
  'count_difference': 'Median |found - true|, quartiles',
}


_COUNTS = {
  'icc': 'ICC(2,1) of the counts',
  'kappa': 'Weighted kappa of the grades',
  'same_grade': 'Scans with the right grade',
  'bias': 'Found minus true, limits of agreement',
}


_LESION_HEAD = (
  *('scan', 'subject', 'what', 'index', 'diameter_mm', 'region'),
  *('likelihood', *detections.RULES),
)


def write(result: Evaluation, folder: pathlib.Path) -> None:
  """evaluation.csv, evaluation.json and evaluation_lesions.csv."""
  folder = files.make_folder(folder)
  head = ['rule', 'part', 'group', 'metric', 'value', 'low', 'high', 'note']
  head += ['count', 'simulated']
  # In every row, as rows are copied into other tables.
  simulated = 'yes' if result.found.simulated else 'no'
  rows = [[*row, simulated] for row in _rows(result)]
  lesions = _csv(_LESION_HEAD, _lesion_rows(result))
  with files.together():  # three views of one result
    files.write_text(folder / 'evaluation.csv', _csv(head, rows))
    files.write_text(folder / 'evaluation_lesions.csv', lesions)
    files.write_json(folder / 'evaluation.json', _plain(result))


def _rows(result: Evaluation) -> list[list]:
  """Long table: one number each, with what it was counted over."""
  rows = []
  for rule, scores in result.scores.items():
    for name, value in scores.pooled.items():
      count = len(result.found.scans)
      if name != 'fp_per_scan':
        count = scores.num_objects
      rows.append([rule, 'pooled', '', name, *value, count])
    for name, (value, count) in scores.per_subject.items():
      rows.append([rule, 'mean of subjects', '', name, *value, count])
    for name, (value, count) in scores.per_scan.items():
      rows.append([rule, 'median of scans', '', name, *value, count])
    for part, groups in scores.parts.items():
      for group, (value, count) in groups.items():
        rows.append([rule, part, group, 'sensitivity', *value, count])
  for name, value in _count_rows(result.counts).items():
    count = len(result.found.scans)
    rows.append(['', 'counts per scan', '', name, *value, count])
  return rows


def _count_rows(counts: agreement.CountAgreement) -> dict[str, Interval]:
  return {
    'icc': counts.icc,
    'kappa': counts.kappa,
    'same_grade': counts.same_grade,
    'bias': agreement.bias(counts),
  }


def _lesion_rows(result: Evaluation) -> list[list]:
  """Every true lesion, hit or not, and every detection that hits none."""
  rows = []
  for scan in result.found.scans:
    start = [scan.name, scan.subject]
    hits = {
      rule: set(m.lesion[m.hit].tolist()) for rule, m in scan.matched.items()
    }
    for number, size, region in zip(
      scan.lesion.tolist(), scan.diameter_mm, scan.region
    ):
      size = '' if np.isnan(size) else f'{size:.3f}'
      found = ['hit' if number in hits[r] else 'missed' for r in hits]
      rows.append([*start, 'lesion', number, size, region, '', *found])
    useful = {
      rule: set(m.detection[~m.false].tolist())
      for rule, m in scan.matched.items()
    }
    for number, rate in result.found.likelihood[scan.name].items():
      found = ['' if number in useful[r] else 'false' for r in useful]
      rows.append([*start, 'detection', number, '', '', rate, *found])
  return rows


def _plain(result: Evaluation) -> dict[str, Any]:
  return {
    'simulated': result.found.simulated,
    'detections': ONLY[result.found.only],
    'intervals': result.method,
    'scans': len(result.found.scans),
    'subjects': len({scan.subject for scan in result.found.scans}),
    'scans_without_result': list(result.found.missing),
    'rules': {
      rule: {
        'rule': detections.RULES[rule],
        'lesions': scores.num_objects,
        'hit': scores.num_hit,
        'detections': scores.num_detections,
        'false': scores.num_false,
        'pooled': _numbers(scores.pooled),
        'mean_of_subjects': _numbers(scores.per_subject),
        'median_of_scans': _numbers(scores.per_scan),
        'parts': _numbers(scores.parts),
      }
      for rule, scores in result.scores.items()
    },
    'counts': _numbers(_count_rows(result.counts)),
    'grades': {
      'lower_ends': list(agreement.GRADES),
      'true_by_found': result.counts.grades.tolist(),
    },
    'per_scan': [
      {
        'scan': s.name,
        'found': s.num_found,
        'true': len(s.lesion),
        'true_counted_by': result.found.counted_by.get(s.name),
        'true_how': list(result.found.said.get(s.name, ())),
      }
      for s in result.found.scans
    ],
  }


def _numbers(value: Any) -> dict[str, Any]:
  """Tables of intervals, of which some have a count, as JSON."""
  if isinstance(value, Interval):
    return value._asdict()
  if isinstance(value, tuple):
    interval, count = value
    return interval._asdict() | {'count': count}
  return {name: _numbers(one) for name, one in value.items()}


def text(result: Evaluation) -> str:
  """Plain text for a terminal, at most 100 columns wide."""
  found, scores = result.found, result.scores
  kind = 'simulated scans' if found.simulated else 'scans'
  subjects = len({scan.subject for scan in found.scans})
  lines = [
    f'{len(found.scans)} {kind} of {subjects} subjects; {ONLY[found.only]}',
    f'95 % intervals over subjects by {result.method}',
    '',
    f'  {"":<34}{"touch":<26}VALDO',
  ]
  for head, of in (
    ('Lesions hit', lambda s: f'{s.num_hit} of {s.num_objects}'),
    ('Detections that hit none', lambda s: f'{s.num_false}'),
  ):
    lines.append(f'  {head:<34}' + _both([of(s) for s in scores.values()]))
  for name, head in _NAMES.items():
    cells = [_cell(s.pooled[name], name) for s in scores.values()]
    lines.append(f'  {head:<34}' + _both(cells))
  for name in detections.PER_SUBJECT:
    cells = [_cell(s.per_subject[name][0], name) for s in scores.values()]
    lines.append(f'  {"  mean of subjects, " + name:<34}' + _both(cells))
  for name, head in _PER_SCAN.items():
    cells = [_cell(s.per_scan[name][0], name) for s in scores.values()]
    lines.append(f'  {head:<34}' + _both(cells))
  lines += _part_lines(result)
  lines += ['', 'Lesions per scan, found against true']
  for name, value in _count_rows(result.counts).items():
    lines.append(f'  {_COUNTS[name]:<40}{_cell(value, name)}')
  lines.append('')
  for rule, says in detections.RULES.items():
    name = {'touch': 'Touch', 'valdo': 'VALDO'}[rule]
    # 96: with the two of the indent less than 100 columns.
    lines += textwrap.wrap(f'{name}: {says}.', 96, subsequent_indent='  ')
  return '\n'.join(line.rstrip() for line in lines) + '\n'


def _part_lines(result: Evaluation) -> list[str]:
  lines = []
  first = next(iter(result.scores.values()))
  for part, groups in first.parts.items():
    lines += ['', f'Sensitivity by {part}']
    for group in groups:
      cells, count = [], groups[group][1]
      for scores in result.scores.values():
        one = scores.parts.get(part, {}).get(group)
        cells.append('–' if one is None else _cell(one[0], 'sensitivity'))
      lines.append(f'  {f"{group} ({count})":<34}' + _both(cells))
  return lines


def _both(cells: list[str]) -> str:
  return ''.join(f'{cell:<26}' for cell in cells)


def _cell(value: Interval, name: str) -> str:
  """'93 % (88 to 97)', '1.2 (0.8 to 1.9)', or a dash with the reason."""
  if value.value is None:
    return f'– ({value.note})' if value.note else '–'
  share = name in ('sensitivity', 'precision', 'same_grade')
  scale, digits, unit = (100, 0, ' %') if share else (1, 2, '')

  def shown(number):
    return f'{round(scale * number, digits) + 0.0:.{digits}f}'  # no -0.00

  if value.low is None:  # too few subjects for an interval
    return f'{shown(value.value)}{unit} {intervals.missing(value)}'
  ends = f'{shown(value.low)} to {shown(value.high)}'
  return f'{shown(value.value)}{unit} ({ends})'


def _csv(head: list, rows: list[list]) -> str:
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  writer.writerow(head)
  writer.writerows(rows)
  return buffer.getvalue()
