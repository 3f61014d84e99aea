"""What a report of a study holds.

Rule: simulated data are called so in every title.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cmbjax.evaluation import breakdown
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.evaluation.compare import Comparison
from cmbjax.evaluation.orderings import Ordering
from cmbjax.evaluation.statistics import Interval

# Its axes, each a list of numbers.
Curve = tuple[list[float], ...]


@dataclasses.dataclass(frozen=True)
class Metric:
  """How one metric is headed and written."""

  name: str
  head: str
  short: str
  meaning: str
  kind: str  # 'number', 'percent' or 'count'


# In the order of the columns; the first five fit a terminal.
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
class ScoredPoint:
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
class ResultRow:
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
  roc: Curve | None
  froc: Curve | None = None
  reliability: Curve | None = None
  calibration: dict[str, Interval] = dataclasses.field(default_factory=dict)
  agreement: dict[str, Interval] = dataclasses.field(default_factory=dict)
  grades: list[list[int]] = dataclasses.field(default_factory=list)
  bootstrap: dict[str, Interval] = dataclasses.field(default_factory=dict)
  seeds: tuple[float | None, ...] = ()
  parts: dict[str, dict[str, tuple[Interval, int]]] = dataclasses.field(
    default_factory=dict
  )
  kind: str = predictions_lib.ENSEMBLE
  calibrated_by: str = ''
  points: dict[str, ScoredPoint] = dataclasses.field(default_factory=dict)
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
  rows: list[ResultRow]
  learning: list[dict]
  record: dict
  orderings: list[Ordering] = dataclasses.field(default_factory=list)
  removed: list[Patch] = dataclasses.field(default_factory=list)
  misses: list[Patch] = dataclasses.field(default_factory=list)
  held_out: list[ResultRow] = dataclasses.field(default_factory=list)
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
    for one in self.pairs:
      known.setdefault(one.first, one.first_label or one.first)
      known.setdefault(one.second, one.second_label or one.second)
    return known

  def test_labels(self) -> dict[str, str]:
    """Name -> label of every cohort, then of other test sets."""
    known = {one.name: one.label for one in self.cohorts}
    for row in (*ordered(self.rows), *self.held_out):
      known.setdefault(row.test, row.test_label)
    for one in self.pairs:
      known.setdefault(one.test, one.test_label or one.test)
    return known


def headline(study: StudyTables) -> str:
  """'finetune, simulated data'."""
  return study.title + (', simulated data' if study.simulated else '')


def ordered(rows: Sequence[ResultRow]) -> list[ResultRow]:
  """Rows by their number in the paper; those without follow as given."""
  return sorted(rows, key=lambda row: (row.number is None, row.number or 0))


def numbered(rows: Sequence[ResultRow]) -> bool:
  """Whether any row has a number, so that a column of them says something."""
  return any(row.number is not None for row in rows)


def own_head(name: str, names: Sequence[str]) -> str:
  """'my_metrics:f2' -> 'f2', where no other one of `names` is called so."""
  short = name.rpartition(':')[2]
  same = [other for other in names if other.rpartition(':')[2] == short]
  return name if len(same) > 1 else short


def removed_head(study: StudyTables) -> str:
  """What `StudyTables.removed` shows."""
  before, after, test = study.removed_by
  if not before:
    return 'False candidates that are removed'
  return f'False candidates of {before} on {test} that {after} removes'


def claims_head(study: StudyTables) -> str:
  """What the claims are called."""
  return "The paper's orderings" if study.paper else 'Claims'
