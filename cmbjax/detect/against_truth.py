"""Derivatives of `cmbjax detect` and a cohort's truth to tables of scores.

Rule: a scan that was not detected is never taken for one without lesions.
"""

import csv
import io
import pathlib
import textwrap
from typing import Any, NamedTuple

import numpy as np

from cmbjax import files
from cmbjax.data import cohort as cohorts
from cmbjax.data import truth as truth_lib
from cmbjax.detect import derivatives
from cmbjax.errors import InputError, NoInputError
from cmbjax.evaluation import agreement, detections
from cmbjax.evaluation.statistics import Interval
from cmbjax.imaging import volume
from cmbjax.progress import Progress

ONLY = {
  '': 'all detections',
  'definite': 'definite detections',
  'counted': 'detections that are not too large',
  'candidates': 'candidates that passed all gates, before the networks',
}
_NAMES = {
  'sensitivity': 'Sensitivity, all lesions',
  'precision': 'Precision',
  'f1': 'F1',
  'fp_per_scan': 'False positives per scan',
}
_COUNTS = {
  'icc': 'ICC(2,1) of the counts',
  'kappa': 'Weighted kappa of the grades',
  'same_grade': 'Scans with the right grade',
  'bias': 'Found minus true, limits of agreement',
}


class Found(NamedTuple):
  """All scans of a cohort that were detected, matched with their truth.

  Attributes:
    scans: one each.
    likelihood: scan name -> label of a detection -> likelihood or None.
    missing: names of scans without a result.
    simulated: the cohort is.
    only: which detections were taken; '' for all.
    unlabelled: names of scans without a truth.
  """

  scans: tuple[detections.ScoredScan, ...]
  likelihood: dict[str, dict[int, float | None]]
  missing: tuple[str, ...]
  simulated: bool
  only: str
  unlabelled: tuple[str, ...] = ()


class Result(NamedTuple):
  """Scores by rule, and the counts per scan."""

  found: Found
  scores: dict[str, detections.Scores]
  counts: agreement.CountAgreement
  method: str


def read(
  folder: pathlib.Path,
  cohort: pathlib.Path,
  *,
  only: str = '',
  partial: bool = False,
) -> Found:
  """Matches every labelled scan of a cohort with its detections.

  Args:
    folder: what `cmbjax detect` wrote.
    cohort: the scans with their truth.
    only: which detections are taken, one of `ONLY`.
    partial: leave out scans without a result.

  Raises:
    NoInputError: no folder, or no scan of the cohort has a result.
    InputError: some scans have none, or a grid differs.
  """
  if not folder.is_dir():
    raise NoInputError(f'{folder}: no such folder; run `cmbjax detect` first.')
  if derivatives.is_ours(cohort) and not derivatives.is_ours(folder):
    raise InputError(
      f'{cohort}: holds results of `cmbjax detect`, {folder} does not; give '
      'OUT first, then COHORT.'
    )
  labelled = cohorts.read_cohort(cohort)
  ending = '_seg-cmb_dseg.nii.gz'
  if only == 'candidates':
    ending = '_seg-candidates_dseg.nii.gz'
  pairs = [(s, _label_image(folder, s, ending)) for s in labelled.scans]
  missing = tuple(scan.name for scan, path in pairs if path is None)
  if len(missing) == len(pairs):
    raise NoInputError(
      f'{folder}: has no result of any of the {len(pairs)} scans of {cohort}; '
      'give the folder that `cmbjax detect` wrote'
      + (' with --write-steps.' if only == 'candidates' else '.')
    )
  if missing and not partial:
    raise InputError(
      f'{folder}: {len(missing)} of {len(pairs)} scans have no result '
      f'({", ".join(missing[:5])}); run `cmbjax detect` again, or leave them '
      'out with --partial.'
    )
  done = [(scan, path) for scan, path in pairs if path is not None]
  scans, likelihood = [], {}
  with Progress('evaluate', len(done)) as progress:
    for scan, path in done:
      one, rates = _match(scan, path, only)
      scans.append(one)
      likelihood[scan.name] = rates
      progress.advance(note=scan.name)
  return Found(
    tuple(scans),
    likelihood,
    missing,
    labelled.simulated,
    only,
    labelled.unlabelled,
  )


def _label_image(folder, scan, ending) -> pathlib.Path | None:
  """The label image of a scan that is done; a failed one has no files."""
  record = folder / 'logs' / f'{scan.name}.json'
  known = files.read_json(record) if record.is_file() else {}
  written = known.get('files', []) if isinstance(known, dict) else None
  if not isinstance(written, list) or not all(
    isinstance(name, str) for name in written
  ):
    raise InputError(
      f'{record}: is not a record of `cmbjax detect`; run it again.'
    )
  for name in written:
    if name.endswith(ending) and (folder / name).is_file():
      return folder / name
  return None


def _match(scan, path, only) -> tuple[detections.ScoredScan, dict]:
  image = volume.load(path)
  truth = truth_lib.load_truth(scan.truth, image)
  labels, rates = _taken(path, image.array.astype(np.int32), only)
  lesions = truth.labels
  if lesions is None:
    lesions = _spots(truth, image)
  true = detections.ScoredScan(
    name=scan.name,
    subject=scan.subject,
    matched=detections.match(labels, lesions, image.spacing_mm),
    lesion=truth.lesions,
    diameter_mm=np.asarray(truth.diameter_mm, float),
    region=np.array([truth.region_of(n) for n in truth.lesions], str),
    num_found=len(rates),
  )
  return true, rates


def _taken(path, labels, only):
  """Labels of the detections that are taken, and their likelihoods."""
  if only == 'candidates':
    index = np.unique(labels)
    return labels, dict.fromkeys(index[index > 0].tolist())
  table = path.with_name(path.name.removesuffix('.nii.gz') + '.tsv')
  if not table.is_file():
    raise InputError(f'{table}: not found; run `cmbjax detect` again.')
  lines = files.read_text(table).splitlines()
  rates, listed = {}, set()
  try:
    for row in csv.DictReader(lines, delimiter='\t'):
      index = int(row['index'])
      listed.add(index)
      if only == 'definite' and row['status'] != 'definite':
        continue
      if only == 'counted' and row['counted'] != 'true':
        continue
      text = row['likelihood']
      rates[index] = None if text == 'n/a' else float(text)
  except (KeyError, TypeError, ValueError, csv.Error) as error:
    raise InputError(
      f'{table}: is not a table of `cmbjax detect` ({error!r}).'
    ) from error
  if listed != set(np.unique(labels[labels > 0]).tolist()):
    raise InputError(
      f'{table}: lists other lesions than {path.name} holds; run `cmbjax '
      'detect --overwrite` again.'
    )
  return np.where(np.isin(labels, list(rates)), labels, 0), rates


def _spots(truth, image) -> np.ndarray:
  """Points as one voxel each: what there is to touch."""
  labels = np.zeros(image.array.shape[:3], np.int32)
  index = np.rint(image.to_index(truth.points_mm)).astype(int)
  for number, place in zip(truth.lesions, index):
    if labels[tuple(place)]:
      raise InputError(
        f'truth of {image.path.name}: two points lie in one voxel '
        f'({", ".join(map(str, place))}); remove one of them.'
      )
    labels[tuple(place)] = number
  return labels


def evaluate(found: Found, *, method: str = 'jackknife') -> Result:
  """Scores by both rules, and the agreement of the counts."""
  return Result(
    found=found,
    scores={
      rule: detections.evaluate(found.scans, rule, method=method)
      for rule in detections.RULES
    },
    counts=detections.counts(found.scans, method=method),
    method=method,
  )


def write(result: Result, folder: pathlib.Path) -> None:
  """evaluation.csv, evaluation.json and evaluation_lesions.csv."""
  folder = files.make_folder(folder)
  head = ['rule', 'part', 'group', 'metric', 'value', 'low', 'high', 'note']
  head += ['count', 'simulated']
  simulated = 'yes' if result.found.simulated else 'no'
  rows = [[*row, simulated] for row in _rows(result)]
  files.write_text(folder / 'evaluation.csv', _csv(head, rows))
  files.write_text(
    folder / 'evaluation_lesions.csv', _csv(_LESION_HEAD, _lesion_rows(result))
  )
  files.write_json(folder / 'evaluation.json', _plain(result))


def _rows(result: Result) -> list[list]:
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
    for part, groups in scores.parts.items():
      for group, (value, count) in groups.items():
        rows.append([rule, part, group, 'sensitivity', *value, count])
  for name, value in _count_rows(result.counts).items():
    count = len(result.found.scans)
    rows.append(['', 'counts per scan', '', name, *value, count])
  return rows


def _count_rows(counts: agreement.CountAgreement) -> dict[str, Interval]:
  icc = counts.icc
  if icc.value is not None and not np.isfinite(np.array(icc[:3], float)).all():
    # F quantiles overflow where scans are few and agree badly.
    icc = Interval(icc.value, None, None, 'too few scans for an interval')
  return {
    'icc': icc,
    'kappa': counts.kappa,
    'same_grade': counts.same_grade,
    'bias': Interval(*counts.bland_altman),
  }


_LESION_HEAD = ['scan', 'subject', 'what', 'index', 'diameter_mm', 'region']
_LESION_HEAD += ['likelihood', *detections.RULES]


def _lesion_rows(result: Result) -> list[list]:
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


def _plain(result: Result) -> dict[str, Any]:
  def numbers(value: Interval, count: int | None = None) -> dict:
    extra = {} if count is None else {'count': count}
    return value._asdict() | extra

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
        'pooled': {n: numbers(v) for n, v in scores.pooled.items()},
        'mean_of_subjects': {
          n: numbers(v, count) for n, (v, count) in scores.per_subject.items()
        },
        'parts': {
          part: {n: numbers(v, count) for n, (v, count) in groups.items()}
          for part, groups in scores.parts.items()
        },
      }
      for rule, scores in result.scores.items()
    },
    'counts': {n: numbers(v) for n, v in _count_rows(result.counts).items()},
    'grades': {
      'lower_ends': list(agreement.GRADES),
      'true_by_found': result.counts.grades.tolist(),
    },
    'per_scan': [
      {'scan': s.name, 'found': s.num_found, 'true': len(s.lesion)}
      for s in result.found.scans
    ],
  }


def text(result: Result) -> str:
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
  lines += _part_lines(result)
  lines += ['', 'Lesions per scan, found against true']
  for name, value in _count_rows(result.counts).items():
    lines.append(f'  {_COUNTS[name]:<40}{_cell(value, name)}')
  lines.append('')
  for rule, says in detections.RULES.items():
    name = {'touch': 'Touch', 'valdo': 'VALDO'}[rule]
    lines += textwrap.wrap(f'{name}: {says}.', 96, subsequent_indent='  ')
  return '\n'.join(line.rstrip() for line in lines) + '\n'


def _part_lines(result: Result) -> list[str]:
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

  if value.low is None:
    return shown(value.value) + unit
  ends = f'{shown(value.low)} to {shown(value.high)}'
  return f'{shown(value.value)}{unit} ({ends})'


def _csv(head: list, rows: list[list]) -> str:
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  writer.writerow(head)
  writer.writerows(rows)
  return buffer.getvalue()
