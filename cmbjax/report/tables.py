"""A study's numbers as rows: for the terminal, CSV, JSON and the page.

Rule: a number that is not defined is shown as a dash with the reason as a
note; NaN is never written. Simulated data are called so in every title.
"""

import base64
import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.evaluation import agreement, breakdown, calibration, metrics
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.evaluation.compare import Comparison
from cmbjax.evaluation.orderings import Ordering
from cmbjax.evaluation.statistics import Interval, Test

DASH = '–'
STRATEGIES = {
  '7t': '7T',
  'finetuned': '7T fine-tuned on 3T',
  'scratch': '3T from scratch',
  'combined': '7T and 3T combined',
}
TESTS = {
  'btumor_7t': '7T_Btumor',
  'btumor_3t': '3T_Btumor',
  'ccm_3t': '3T_CCM',
}


@dataclasses.dataclass(frozen=True)
class Metric:
  """How one metric is headed and written."""

  name: str
  head: str
  short: str
  meaning: str
  kind: str  # 'number', 'percent' or 'count'


METRICS = (
  Metric(
    'auc',
    'AUC',
    'AUC',
    'area under the ROC curve over the candidates',
    'number',
  ),
  Metric(
    'sensitivity_candidates',
    'Sensitivity, candidates',
    'Sens. cand.',
    'lesions kept, of those that became candidates (as in the paper)',
    'percent',
  ),
  Metric(
    'sensitivity_lesions',
    'Sensitivity, all lesions',
    'Sens. all',
    'lesions kept, of all true lesions, also those never proposed',
    'percent',
  ),
  Metric(
    'precision',
    'Precision',
    'Precision',
    'lesions kept / (lesions kept + mimics kept)',
    'percent',
  ),
  Metric(
    'fp_per_scan',
    'FP per scan',
    'FP per scan',
    'mimics kept, per scan',
    'count',
  ),
  Metric(
    'fp_removed',
    'FP removed',
    'FP removed',
    'share of the mimics that the classifier removes',
    'percent',
  ),
)
# In results.csv and results.json only.
MORE_METRICS = ('average_precision', 'f1', 'detector_sensitivity')


@dataclasses.dataclass(frozen=True)
class Row:
  """One strategy on one test set: a row of Figure 3.

  Attributes:
    strategy: for example 'finetuned'.
    test: cohort name of the test set.
    number: row of the paper's Figure 3, None when it has none.
    metrics: by name, see `METRICS`.
    num_subjects: in the test set.
    num_scans: in the test set.
    num_candidates: in the test set.
    num_lesions: all true lesions of the test set.
    roc: (fpr, tpr) corners of the curve, None with one class only.
    froc: (FP per scan, sensitivity of all lesions), None without lesions.
    reliability: (mean likelihood, share of microbleeds, count) per bin.
    calibration: 'brier' and 'ece' with intervals.
    agreement: of the number of microbleeds per scan: 'icc', 'kappa',
      'same_grade', 'bias' (Bland-Altman; its bounds are the limits of
      agreement).
    grades: scans by true (outer) and found (inner) grade of burden, see
      `agreement.GRADES`.
    bootstrap: the bounds of `metrics` by 2,000 draws of whole subjects, for
      results.csv and results.json.
    seeds: AUC of every training seed alone.
    parts: heading -> group -> (sensitivity of all lesions, lesions).
    kind: 'ensemble' (test subjects) or 'out of fold' (training subjects).
  """

  strategy: str
  test: str
  number: int | None
  metrics: dict[str, Interval]
  num_subjects: int
  num_scans: int
  num_candidates: int
  num_lesions: int
  roc: tuple | None
  froc: tuple | None = None
  reliability: tuple | None = None
  calibration: dict[str, Interval] = dataclasses.field(default_factory=dict)
  agreement: dict[str, Interval] = dataclasses.field(default_factory=dict)
  grades: tuple = ()
  bootstrap: dict[str, Interval] = dataclasses.field(default_factory=dict)
  seeds: tuple = ()
  parts: dict[str, dict[str, tuple]] = dataclasses.field(default_factory=dict)
  kind: str = predictions_lib.ENSEMBLE


@dataclasses.dataclass(frozen=True)
class CohortRow:
  """One cohort: a row of Figure 2. `num_cmb`, `num_fp` count candidates."""

  name: str
  num_subjects: int
  num_scans: int
  num_cmb: int
  num_fp: int
  num_lesions: int
  num_missed: int
  simulated: bool
  protocol: str


@dataclasses.dataclass(frozen=True)
class Patch:
  """One candidate or lesion to look at.

  Attributes:
    key: subject/scan/candidate, or subject/scan/lesion.
    image: [X, Y, Z] float 0..1, RAS voxel order; may be empty.
    caption: what it is, for example 'vein' or '1.9 mm, never proposed'.
    before: likelihood of the model before fine-tuning, None if there is none.
    after: likelihood of the fine-tuned model, None if there is none.
  """

  key: str
  image: np.ndarray
  caption: str = ''
  before: float | None = None
  after: float | None = None


@dataclasses.dataclass(frozen=True)
class StudyTables:
  """All that a report shows.

  Attributes:
    title: of the study, for example 'finetune'.
    simulated: True when any cohort is simulated.
    cohorts: rows of Figure 2.
    rows: rows of Figure 3.
    learning: one dict per epoch and replica: strategy, fold, seed, epoch,
      train_loss, validation_loss, learning_rate (a number or None each).
    record: settings and versions; used keys: threshold, level, method,
      draws, seed, folds, fold_hash, model, selection, environment, config.
    orderings: the paper's claims and what this study says of them.
    removed: Figure 4, false candidates that fine-tuning removes.
    misses: lesions that the study missed, and its worst errors.
    held_out: as `rows`, out of fold on the training subjects.
    pairs: all pairs of strategies on the same candidates.
  """

  title: str
  simulated: bool
  cohorts: list[CohortRow]
  rows: list[Row]
  learning: list[dict]
  record: dict
  orderings: list[Ordering] = dataclasses.field(default_factory=list)
  removed: list[Patch] = dataclasses.field(default_factory=list)
  misses: list[Patch] = dataclasses.field(default_factory=list)
  held_out: list[Row] = dataclasses.field(default_factory=list)
  pairs: list[Comparison] = dataclasses.field(default_factory=list)


def make_row(
  table: predictions_lib.Table,
  *,
  number: int | None = None,
  threshold: float = metrics.THRESHOLD,
  **how,
) -> Row:
  """Everything of one row from one prediction table.

  Args:
    table: predictions of one strategy on one test set.
    number: row of the paper's Figure 3, see `evaluation.orderings.ROWS`.
    threshold: a likelihood must be strictly above it.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.
  """
  p, scans = table.predictions, table.scans
  froc = metrics.froc(p, scans)
  counted = agreement.count_agreement(p, scans, threshold=threshold, **how)
  return Row(
    strategy=table.strategy,
    test=table.test,
    number=number,
    metrics=metrics.evaluate(p, scans, threshold=threshold, **how),
    bootstrap=metrics.evaluate(
      p, scans, threshold=threshold, **{**how, 'method': 'bootstrap'}
    ),
    num_subjects=len(np.unique(scans.subject)),
    num_scans=len(scans.scan),
    num_candidates=len(p.key),
    num_lesions=int(np.sum(scans.num_lesions)),
    roc=_curve(metrics.roc(p.probability, p.label)),
    froc=_curve(froc and _rises(froc)),
    reliability=_curve(calibration.reliability(p.probability, p.label)),
    calibration=calibration.scores(p, **how),
    agreement=_agreement(counted),
    grades=counted.grades.tolist(),
    parts=_parts(table, threshold=threshold, **how),
    seeds=tuple(metrics.auc(one, p.label) for one in table.by_seed),
    kind=table.kind,
  )


def _parts(table: predictions_lib.Table, **how) -> dict[str, dict[str, tuple]]:
  """Sensitivity by size and region, where the lesions are known one by one."""
  true = table.lesions
  if true is None:
    return {}
  return breakdown.sensitivities(
    true.diameter_mm,
    true.region,
    true.subject,
    predictions_lib.lesion_likelihood(table.predictions, true),
    **how,
  )


def _agreement(found: agreement.CountAgreement) -> dict[str, Interval]:
  return {
    'icc': found.icc,
    'kappa': found.kappa,
    'same_grade': found.same_grade,
    'bias': Interval(*found.bland_altman),
  }


def _rises(froc: metrics.Froc):
  """The points of a step curve at which it rises, and its end."""
  y = froc.sensitivity
  keep = np.concatenate([[True], y[1:] > y[:-1]])
  keep[-1] = True
  return froc.fp_per_scan[keep], y[keep]


def _curve(curve):
  if curve is None:
    return None
  return tuple(np.asarray(axis, float).tolist() for axis in curve)


def learning_rows(log: Sequence[dict], replicas: Sequence) -> list[dict]:
  """Epoch log (vectors of length R) to one dict per epoch and replica.

  Args:
    log: rows with epoch, train_loss, validation_loss, learning_rate.
    replicas: R objects with strategy, fold and seed.
  """
  columns = ('train_loss', 'validation_loss', 'learning_rate')
  return [
    {'strategy': one.strategy, 'fold': int(one.fold), 'seed': int(one.seed)}
    | {'epoch': row['epoch']}
    | {name: row[name][r] for name in columns if name in row}
    for row in log
    for r, one in enumerate(replicas)
  ]


def strategy_label(name: str) -> str:
  """'7t' -> '7T'; unknown names stay."""
  return STRATEGIES.get(name, name)


def cohort_label(name: str) -> str:
  """'btumor_3t' -> '3T_Btumor'; unknown names stay."""
  return TESTS.get(name, name)


def headline(study: StudyTables) -> str:
  """'finetune, simulated data'."""
  return study.title + (', simulated data' if study.simulated else '')


def ordered(rows: Sequence[Row]) -> list[Row]:
  """Rows by their number in Figure 3; those without follow as given."""
  return sorted(rows, key=lambda row: (row.number is None, row.number or 0))


def number(value: float | None, kind: str) -> str:
  """One value as text: 0.942, '93 %' or 11.2; a dash for None."""
  if value is None:
    return DASH
  if kind == 'percent':
    return f'{100 * value:.0f}\N{NO-BREAK SPACE}%'
  if kind == 'count':
    return f'{value:.1f}'
  return f'{value:.3f}'


def bounds(interval: Interval, kind: str) -> str:
  """The interval as text, '' when there is none."""
  if interval.low is None or interval.high is None:
    return ''
  low, high = interval.low, interval.high
  if kind == 'percent':
    return f'{100 * low:.0f}–{100 * high:.0f}'
  if kind == 'count':
    return f'{low:.1f}–{high:.1f}'
  text = f'{low:.3f}–{high:.3f}'
  if low < 0:
    text = f'{low:.3f} to {high:.3f}'.replace('-', '−')
  return text.replace('0.', '.')


class Notes:
  """Collects notes and gives each different one a letter."""

  def __init__(self):
    self.texts: list[str] = []

  def mark(self, text: str) -> str:
    """'' for no note, else 'a', 'b', ...; the same text, the same letter."""
    if not text:
      return ''
    if text not in self.texts:
      self.texts.append(text)
    index = self.texts.index(text)
    return chr(ord('a') + index) if index < 26 else str(index)


def print_rows(study: StudyTables) -> str:
  """The rows as plain text for a terminal, at most 120 columns wide."""
  notes = Notes()
  table = [['Row', 'Strategy', 'Test set', *(m.short for m in METRICS[:5])]]
  for row in ordered(study.rows):
    line = [
      DASH if row.number is None else str(row.number),
      _clip(strategy_label(row.strategy), 19),
      _clip(cohort_label(row.test), 12),
    ]
    for metric in METRICS[:5]:
      line.append(_cell(row.metrics.get(metric.name), metric.kind, notes))
    table.append(line)
  level = study.record.get('level', 0.95)
  threshold = study.record.get('threshold', metrics.THRESHOLD)
  lines = [headline(study), '', *_columns(table), '']
  lines.append(
    f'Threshold {threshold:g} (strictly above); {100 * level:g} % intervals '
    f'over subjects by {study.record.get("method", "jackknife")}; those by '
    'bootstrap are in results.csv.'
  )
  lines += [f'{notes.mark(text)}) {text}' for text in notes.texts]
  lines += _verdict_lines(study)
  return '\n'.join(lines) + '\n'


def _verdict_lines(study: StudyTables) -> list[str]:
  if not study.orderings:
    return []
  where = ' on simulated data' if study.simulated else ''
  lines = ['', f"The paper's orderings{where} (difference of AUC):"]
  for one in study.orderings:
    lines.append(f'  {one.verdict:<15} {_clip(one.claim, 100)}')
  return lines


def _cell(interval: Interval | None, kind: str, notes: Notes) -> str:
  if interval is None:
    return DASH
  text = number(interval.value, kind)
  inside = bounds(interval, kind)
  mark = notes.mark(interval.note)
  return (
    text + (f' ({inside})' if inside else '') + (f' {mark})' if mark else '')
  )


def _columns(table: list[list[str]]) -> list[str]:
  width = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
  lines = [
    '  '.join(cell.ljust(w) for cell, w in zip(row, width)).rstrip()
    for row in table
  ]
  return [lines[0], '-' * max(len(line) for line in lines), *lines[1:]]


def _clip(text: str, width: int) -> str:
  return text if len(text) <= width else text[: width - 1] + '…'


def write_csv(study: StudyTables, path: str | os.PathLike) -> None:
  """results.csv: one line per row and metric, empty cells where undefined."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  head = 'row strategy test kind simulated metric value low high note'
  head += ' bootstrap_low bootstrap_high subjects scans candidates lesions'
  writer.writerow(head.split())
  for row in (*ordered(study.rows), *study.held_out):
    counts = [row.num_subjects, row.num_scans]
    counts += [row.num_candidates, row.num_lesions]
    for name, interval in _all_metrics(row).items():
      head = [row.number, row.strategy, row.test, row.kind]
      head.append(_yes(study.simulated))
      drawn = row.bootstrap.get(name)
      drawn = [drawn.low, drawn.high] if drawn else [None, None]
      writer.writerow([*head, name, *interval, *drawn, *counts])
  files.write_text(path, buffer.getvalue())


def write_breakdown(study: StudyTables, path: str | os.PathLike) -> None:
  """breakdown.csv: sensitivity of all lesions by size and region."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  head = 'row strategy test kind simulated by group lesions value low high note'
  writer.writerow(head.split())
  for row in (*ordered(study.rows), *study.held_out):
    head = [row.number, row.strategy, row.test, row.kind]
    head.append(_yes(study.simulated))
    for by, groups in row.parts.items():
      for group, (interval, count) in groups.items():
        writer.writerow([*head, by, group, count, *interval])
  files.write_text(path, buffer.getvalue())


def write_orderings(study: StudyTables, path: str | os.PathLike) -> None:
  """orderings.csv: the paper's claims, differences, tests and verdicts."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  head = 'claim rows simulated metric difference low high note p p_holm'
  head += ' verdict reason subjects_needed design by_seed'
  writer.writerow(head.split())
  for one in study.orderings:
    seeds = ' '.join('' if gap is None else f'{gap:.6g}' for gap in one.by_seed)
    line = [one.claim, one.rows, _yes(study.simulated), one.metric]
    line += [*one.difference, one.p, one.p_holm, one.verdict, one.reason]
    writer.writerow([*line, one.needed, one.design, seeds])
  files.write_text(path, buffer.getvalue())


def _all_metrics(row: Row) -> dict[str, Interval]:
  counts = {f'count_{name}': one for name, one in row.agreement.items()}
  return row.metrics | row.calibration | counts


def _yes(value: bool) -> str:
  return 'yes' if value else 'no'


def write_json(study: StudyTables, path: str | os.PathLike) -> None:
  """results.json: everything that `read_json` needs to draw it again."""
  files.write_json(path, plain(study))


def read_json(path: str | os.PathLike) -> StudyTables:
  """The study that `write_json` wrote; a folder means its results.json."""
  path = pathlib.Path(path)
  if path.is_dir():
    path = path / 'results.json'
  value = files.read_json(path)
  try:
    return _study(value)
  except (KeyError, TypeError, ValueError) as error:
    raise InputError(
      f'{path}: is not a results file of cmbjax ({error!r}); run the study '
      'again.'
    ) from error


def plain(value):
  """Dataclasses, tuples and arrays to JSON; not finite becomes null."""
  if isinstance(value, Patch):
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
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value


def _study(value: dict) -> StudyTables:
  def intervals(items):
    return {name: Interval(**one) for name, one in items.items()}

  def row(item):
    parts = {
      head: {name: (Interval(**one), n) for name, (one, n) in group.items()}
      for head, group in item['parts'].items()
    }
    fields = {
      'metrics': intervals(item['metrics']),
      'bootstrap': intervals(item['bootstrap']),
      'calibration': intervals(item['calibration']),
      'agreement': intervals(item['agreement']),
      'parts': parts,
      'seeds': tuple(item['seeds']),
    }
    for name in ('roc', 'froc', 'reliability'):
      fields[name] = item[name] and tuple(item[name])
    return Row(**{**item, **fields})

  def patch(item):
    pixels = base64.b64decode(item['image']['uint8'])
    image = np.frombuffer(pixels, np.uint8).reshape(item['image']['shape'])
    return Patch(**{**item, 'image': image / np.float32(255)})

  def ordering(item):
    item = item | {'difference': Interval(**item['difference'])}
    item |= {'by_seed': tuple(item.get('by_seed', ()))}
    return Ordering(**item | {'fp_difference': _maybe(item['fp_difference'])})

  def pair(item):
    tests = {
      name: Test(**one | {'difference': Interval(**one['difference'])})
      for name, one in item['tests'].items()
    }
    return Comparison(**item | {'tests': tests})

  return StudyTables(
    **value
    | {
      'cohorts': [CohortRow(**item) for item in value['cohorts']],
      'rows': [row(item) for item in value['rows']],
      'held_out': [row(item) for item in value.get('held_out', [])],
      'pairs': [pair(item) for item in value.get('pairs', [])],
      'orderings': [ordering(item) for item in value['orderings']],
      'removed': [patch(item) for item in value['removed']],
      'misses': [patch(item) for item in value['misses']],
    }
  )


def _maybe(item):
  return None if item is None else Interval(**item)
