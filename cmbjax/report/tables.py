"""A study's numbers as rows: for the terminal, the page and `storage`.

Rule: a number that is not defined is shown as a dash with the reason as a
note; NaN is never written. Simulated data are called so in every title.
"""

import dataclasses
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cmbjax.evaluation import (
  agreement,
  breakdown,
  calibration,
  froc,
  levels,
  metrics,
  operating_points,
)
from cmbjax.evaluation import own as own_metrics
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.evaluation.compare import Comparison
from cmbjax.evaluation.orderings import Ordering
from cmbjax.evaluation.statistics import Interval

DASH = '–'
_MOST_DIGITS = 9  # single precision has no more
_OWN_PER_LINE = 3  # own metrics beside each other, for 120 columns


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
    'lesions kept, of those that became candidates',
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


@dataclasses.dataclass(frozen=True)
class Point:
  """A threshold that was chosen out of fold, on a test set.

  Attributes:
    threshold: strictly above.
    rule: how it was chosen, one sentence.
    metrics: sensitivity_candidates, sensitivity_lesions, precision, f1 and
      fp_per_scan.
  """

  threshold: float
  rule: str
  metrics: dict[str, Interval]


POINT_METRICS = ('sensitivity_candidates', 'sensitivity_lesions', 'precision')
POINT_METRICS += ('f1', 'fp_per_scan')


@dataclasses.dataclass(frozen=True)
class Row:
  """One strategy on one test set.

  Attributes:
    strategy: name in the config.
    test: cohort name of the test set.
    number: row of the table of a paper, None when it has none.
    metrics: by name, see `METRICS`.
    num_subjects: in the test set.
    num_scans: in the test set.
    num_candidates: in the test set.
    num_lesions: all true lesions of the test set.
    roc: (fpr, tpr) corners of the curve, None with one class only.
    froc: (FP per scan, sensitivity of all lesions), None without lesions.
    reliability: (mean likelihood, share of microbleeds, count) per bin.
    calibration: 'brier' and 'ece' with intervals; 'brier_calibrated' and
      'ece_calibrated' where out-of-fold predictions gave a calibration.
    calibrated_by: 'none', 'temperature', 'isotonic', or '' when not known.
    points: name -> an operating point, chosen out of fold and scored here.
    levels: metrics by patch, scan and subject, see `evaluation.levels`.
    rates: FP per scan (as text) -> sensitivity of all lesions at most there.
    likelihoods: candidates by likelihood.
    agreement: of the number of microbleeds per scan: 'icc', 'consistency',
      'kappa',
      'same_grade', 'bias' (Bland-Altman; its bounds are the limits of
      agreement).
    grades: scans by true (outer) and found (inner) grade of burden, see
      `agreement.GRADES`.
    bootstrap: the bounds of `metrics` by 2,000 draws of whole subjects, for
      results.csv and results.json.
    seeds: AUC of every training seed alone.
    parts: heading -> group -> (sensitivity of all lesions, lesions).
    kind: 'ensemble' (test subjects) or 'out of fold' (training subjects).
    strategy_label: what a reader is shown; the name where none is given.
    test_label: what a reader is shown; the name where none is given.
    own: metrics of the user by 'module:name'.
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
  calibrated_by: str = ''
  points: dict[str, Point] = dataclasses.field(default_factory=dict)
  levels: dict[str, Interval] = dataclasses.field(default_factory=dict)
  rates: dict[str, Interval] = dataclasses.field(default_factory=dict)
  likelihoods: list[breakdown.Bin] = dataclasses.field(default_factory=list)
  strategy_label: str = ''
  test_label: str = ''
  own: dict[str, Interval] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    _fill(self, strategy_label=self.strategy, test_label=self.test)


@dataclasses.dataclass(frozen=True)
class CohortRow:
  """One cohort; `num_cmb` and `num_fp` count candidates.

  `label` is what a reader is shown; the name where none is given.
  """

  name: str
  num_subjects: int
  num_scans: int
  num_cmb: int
  num_fp: int
  num_lesions: int
  num_missed: int
  simulated: bool
  protocol: str
  label: str = ''

  def __post_init__(self):
    _fill(self, label=self.name)


@dataclasses.dataclass(frozen=True)
class StrategyRow:
  """One strategy in words.

  Attributes:
    name: in the config.
    label: what a reader is shown; the name where none is given.
    text: what it does, without a full stop: 'learns on 3T_Btumor, starts from
      7T, keeps the layers ^conv'.
  """

  name: str
  label: str = ''
  text: str = ''

  def __post_init__(self):
    _fill(self, label=self.name)


def _fill(row, **names: str) -> None:
  """A label that is not given is the name."""
  for field, name in names.items():
    object.__setattr__(row, field, getattr(row, field) or name)


@dataclasses.dataclass(frozen=True)
class Patch:
  """One candidate or lesion to look at.

  Attributes:
    key: subject/scan/candidate, or subject/scan/lesion.
    image: [X, Y, Z] float 0..1, RAS voxel order; may be empty.
    caption: what it is, for example 'vein' or '1.9 mm, never proposed'.
    before: likelihood of the strategy that another one started from, None if
      there is none.
    after: likelihood of that other one, or of the only one.
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
    cohorts: one row each.
    rows: every strategy on every test set.
    learning: one dict per epoch and replica: strategy, fold, seed, epoch,
      train_loss, validation_loss, learning_rate (a number or None each).
    record: settings and versions; used keys: threshold, level, method,
      draws, seed, folds, fold_hash, model, selection, pretrained,
      environment, config, candidates.
    orderings: claims and what this study says of them.
    removed: false candidates that a strategy removes after its start.
    misses: lesions that the study missed, and its worst errors.
    held_out: as `rows`, out of fold on the training subjects.
    pairs: all pairs of strategies on the same candidates.
    removed_by: labels of the strategy before, the one after, and the test
      set of `removed`.
    paper: whose rows and claims these are, for example 'Chen et al., ISMRM
      2019 #0671'; '' for nobody's.
    strategies: in the order of the config, which also gives their colours.
    metrics: names of the user's own metrics, in order.
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
  removed_by: tuple[str, str, str] = ('', '', '')
  paper: str = ''
  strategies: list[StrategyRow] = dataclasses.field(default_factory=list)
  metrics: tuple[str, ...] = ()

  def strategy_labels(self) -> dict[str, str]:
    """Name -> label of every strategy, in the order of the config."""
    known = {one.name: one.label for one in self.strategies}
    for row in (*ordered(self.rows), *self.held_out):
      known.setdefault(row.strategy, row.strategy_label)
    for line in self.learning:
      known.setdefault(line['strategy'], line['strategy'])
    return known

  def test_labels(self) -> dict[str, str]:
    """Name -> label of every cohort, then of test sets that are no cohort."""
    known = {one.name: one.label for one in self.cohorts}
    for row in (*ordered(self.rows), *self.held_out):
      known.setdefault(row.test, row.test_label)
    return known


def make_row(
  table: predictions_lib.Table,
  *,
  number: int | None = None,
  threshold: float = metrics.THRESHOLD,
  stored: Mapping | None = None,
  own: Mapping[str, Callable] | None = None,
  **how,
) -> Row:
  """Everything of one row from one prediction table.

  Args:
    table: predictions of one strategy on one test set.
    number: row of the table of a paper, None when it has none.
    threshold: a likelihood must be strictly above it.
    stored: what `operating_points.choose` gave on out-of-fold predictions of
      the same strategy; None when it is not known.
    own: 'module:name' -> metric of the user, see `metrics.own`.
    how: `method`, `draws`, `seed` and `level` of `statistics.resampling`.
  """
  p, scans = table.predictions, table.scans
  curve = metrics.froc(p, scans)
  stored = stored or {}
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
    froc=_curve(curve and _rises(curve)),
    reliability=_curve(calibration.reliability(p.probability, p.label)),
    calibration=_calibration(p, stored.get('calibration'), how),
    calibrated_by=stored.get('calibration', {}).get('kind', ''),
    points=_points(p, scans, stored.get('points', {}), how),
    levels=levels.evaluate(p, scans, threshold=threshold, **how),
    rates={
      f'{rate:g}': found
      for rate, found in froc.sensitivities(p, scans, **how).items()
    },
    likelihoods=breakdown.by_likelihood(p, scans, **how),
    agreement=_agreement(counted),
    grades=counted.grades.tolist(),
    parts=_parts(table, threshold=threshold, **how),
    seeds=tuple(metrics.auc(one, p.label) for one in table.by_seed),
    kind=table.kind,
    strategy_label=table.strategy_label,
    test_label=table.test_label,
    own={
      name: own_metrics.interval(metric, p, scans, level=how.get('level', 0.95))
      for name, metric in (own or {}).items()
    },
  )


def _calibration(p, fitted, how) -> dict[str, Interval]:
  """Brier score and ECE, as they are and under the stored calibration."""
  found = calibration.scores(p, **how)
  if fitted:
    value = operating_points.calibrated(p.probability, fitted)
    again = calibration.scores(p._replace(probability=value), **how)
    found |= {f'{name}_calibrated': one for name, one in again.items()}
  return found


def _points(p, scans, points, how) -> dict[str, Point]:
  """Thresholds of the training subjects on this test set."""
  result = {}
  for name, point in points.items():
    found = metrics.evaluate(p, scans, threshold=point['threshold'], **how)
    kept = {metric: found[metric] for metric in POINT_METRICS}
    result[name] = Point(point['threshold'], point['rule'], kept)
  return result


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
    'consistency': found.consistency,
    'kappa': found.kappa,
    'same_grade': found.same_grade,
    'bias': _bias(found.bland_altman),
  }


def _bias(found: agreement.BlandAltman) -> Interval:
  if found.bias is None:
    return Interval(None, None, None, 'no scans')
  note = '' if found.low is not None else 'one scan, so no limits'
  return Interval(*found, note)


def _rises(curve: metrics.Froc):
  """The points of a step curve at which it rises, and its end."""
  y = curve.sensitivity
  keep = np.concatenate([[True], y[1:] > y[:-1]])
  keep[-1] = True
  return curve.fp_per_scan[keep], y[keep]


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


def headline(study: StudyTables) -> str:
  """'finetune, simulated data'."""
  return study.title + (', simulated data' if study.simulated else '')


def ordered(rows: Sequence[Row]) -> list[Row]:
  """Rows by their number in the paper; those without follow as given."""
  return sorted(rows, key=lambda row: (row.number is None, row.number or 0))


def number(value: float | None, kind: str) -> str:
  """One value as text: 0.942, '93 %' or 11.2; a dash for None."""
  if value is None:
    return DASH
  if kind == 'percent':
    return f'{100 * value:.0f}\N{NO-BREAK SPACE}%'
  if kind == 'count':
    return f'{value:.1f}'
  return f'{value:.3f}'.replace('-', '−')


def likelihood_text(
  likelihood: float, *thresholds: float, digits: int = 2
) -> str:
  """A likelihood as text that lies on its own side of the thresholds.

  Args:
    likelihood: 0 to 1.
    thresholds: what it is held against.
    digits: behind the point; more where rounding would cross a threshold.
  """
  side = np.sign(np.subtract(likelihood, thresholds))
  for more in range(digits, _MOST_DIGITS):
    text = f'{likelihood:.{more}f}'
    if np.array_equal(np.sign(np.subtract(float(text), thresholds)), side):
      return text
  return f'{likelihood:.{_MOST_DIGITS}f}'


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
  return re.sub(r'\b0\.', '.', text)  # 10.5 keeps its zero


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


def numbered(rows: Sequence[Row]) -> bool:
  """Whether any row has a number, so that a column of them says something."""
  return any(row.number is not None for row in rows)


def own_head(name: str) -> str:
  """'my_metrics:f2' -> 'f2'."""
  return name.rpartition(':')[2]


def print_rows(study: StudyTables) -> str:
  """The rows as plain text for a terminal, at most 120 columns wide."""
  notes = Notes()
  table = _lines(
    study,
    [m.short for m in METRICS[:5]],
    lambda row: [
      _cell(row.metrics.get(m.name), m.kind, notes) for m in METRICS[:5]
    ],
  )
  level = study.record.get('level', 0.95)
  threshold = study.record.get('threshold', metrics.THRESHOLD)
  lines = [headline(study), '', *_columns(table), '']
  for i in range(0, len(study.metrics), _OWN_PER_LINE):
    names = study.metrics[i : i + _OWN_PER_LINE]
    own = _lines(
      study,
      [_clip(own_head(name), 20) for name in names],
      lambda row, names=names: [
        _cell(row.own.get(name), 'number', notes) for name in names
      ],
    )
    lines += [*_columns(own), '']
  lines.append(
    f'Threshold {threshold:g} (strictly above); {100 * level:g} % intervals '
    f'over subjects by {study.record.get("method", "jackknife")}; those by '
    'bootstrap are in results.csv.'
  )
  if study.record.get('pretrained'):
    lines += textwrap.wrap(study.record['pretrained'], 100)
  lines += [f'{notes.mark(text)}) {text}' for text in notes.texts]
  lines += _verdict_lines(study)
  return '\n'.join(lines) + '\n'


def _lines(study: StudyTables, heads: list[str], values: Callable) -> list:
  """Which row it is, then some values of it; a heading first."""
  with_number = numbered(study.rows)
  table = [['Row'] * with_number + ['Strategy', 'Test set', *heads]]
  for row in ordered(study.rows):
    place = [DASH if row.number is None else str(row.number)] * with_number
    where = [_clip(row.strategy_label, 19), _clip(row.test_label, 12)]
    table.append([*place, *where, *values(row)])
  return table


def removed_head(study: StudyTables) -> str:
  """What `StudyTables.removed` shows."""
  before, after, test = study.removed_by
  if not before:
    return 'False candidates that are removed'
  return f'False candidates of {before} on {test} that {after} removes'


def claims_head(study: StudyTables) -> str:
  """What the claims are called."""
  return "The paper's orderings" if study.paper else 'Claims'


def _verdict_lines(study: StudyTables) -> list[str]:
  if not study.orderings:
    return []
  where = ' on simulated data' if study.simulated else ''
  lines = ['', f'{claims_head(study)}{where} (difference, p after Holm):']
  for one in study.orderings:
    value = number(one.difference.value, 'percent')
    if one.metric == 'auc' and one.difference.value is not None:
      value = f'{one.difference.value:+.3f}'.replace('-', '−')
    p = '' if one.p_holm is None else f'p {one.p_holm:.3f}'
    claim = _clip(one.claim, 85)
    lines.append(f'  {one.verdict:<15}{value:>7}  {p:<8}{claim}')
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
