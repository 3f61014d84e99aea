"""Likelihoods by key to the rows, curves and galleries of the report.

Rule: whatever is shown is made from the tables of predictions.npz and the
facts of the scans; nothing is trained or predicted here.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cmbjax.data import examples as examples_lib
from cmbjax.detect import points
from cmbjax.evaluation import compare, metrics, orderings
from cmbjax.evaluation.predictions import ENSEMBLE, OUT_OF_FOLD, PredictionTable
from cmbjax.report import rows, tables
from cmbjax.study import gallery, predict, train
from cmbjax.study.material import Material
from cmbjax.study.plan import Planned
from cmbjax.study.settings import plain
from cmbjax.study.spec import Recipe, Study
from cmbjax.study.train import Workshop
from cmbjax.training import record
from cmbjax.weights import catalogue


def tabulate(
  study: Study,
  shop: Workshop,
  predicted: Sequence[PredictionTable],
  chosen: Mapping[str, Planned],
) -> tables.StudyTables:
  """Everything of the report.

  Args:
    study: strategies and test sets.
    shop: examples and folders.
    predicted: all prediction tables.
    chosen: strategy -> its training in this run.
  """
  config, material = study.config, shop.material
  how = {
    'method': config.evaluation.intervals,
    'draws': config.evaluation.draws,
    'seed': config.seed,
    'level': config.evaluation.level,
  }
  options = {'threshold': config.evaluation.threshold, **how}
  own = {name: metrics.own(name) for name in config.evaluation.metrics}
  tested = {(t.strategy, t.test): t for t in predicted if t.kind == ENSEMBLE}
  held_out = [t for t in predicted if t.kind == OUT_OF_FOLD]
  removed_by, removed = gallery.removed(study, material, tested)
  return tables.StudyTables(
    title=config.name,
    simulated=bool(material.scans.simulated.any()),
    paper=study.paper if _is_of_paper(study, tested) else '',
    strategies=_strategy_rows(study, chosen),
    metrics=list(own),
    cohorts=[_cohort_row(study, material, name) for name in study.cohorts],
    rows=[
      rows.make_row(
        table,
        number=study.numbers.get(key),
        stored=_stored(study, shop, table.strategy),
        own=own,
        **options,
      )
      for key, table in tested.items()
    ],
    held_out=[rows.make_row(table, own=own, **options) for table in held_out],
    pairs=compare.all_pairs(predicted, own=own, **options),
    learning=_learning(chosen, shop),
    record=_study_record(study, material, chosen, options),
    orderings=orderings.orderings(
      {key: table.predictions for key, table in tested.items()},
      {test: table.scans for (_, test), table in tested.items()},
      labels={key: table.label for key, table in tested.items()},
      by_seed={key: table.by_seed for key, table in tested.items()},
      claims=study.claims,
      numbers=study.numbers,
      **options,
    ),
    removed=removed,
    removed_by=removed_by,
    misses=gallery.misses(material, tested, config.evaluation.threshold),
  )


def _is_of_paper(study: Study, tested: Mapping) -> bool:
  """Whether any row has a number, or a claim is about it."""
  return any(key in study.numbers for key in tested) or any(
    claim.first in tested for claim in study.claims
  )


def _as_used(study: Study, chosen: Mapping[str, Planned]) -> dict[str, Recipe]:
  """Of each strategy the settings that were used: points of a sweep differ."""
  return {**study.recipes, **{n: one.recipe for n, one in chosen.items()}}


def _strategy_rows(study: Study, chosen: Mapping) -> list[tables.StrategyRow]:
  used = _as_used(study, chosen)
  return [_strategy_row(recipe, study) for recipe in used.values()]


def _strategy_row(recipe: Recipe, study: Study) -> tables.StrategyRow:
  """'learns from 3T_Btumor; starts from 7T; layers ^(?!head/) are frozen'."""
  strategy, parts = recipe.strategy, []
  if recipe.is_trained:
    cohorts = ' and '.join(study.labels[name] for name in strategy.learns)
    parts.append(f'learns from {cohorts}')
    if strategy.starts:
      start = study.recipes[strategy.starts].strategy.label
      parts.append(f'starts from {start}')
    if recipe.rows[0].frozen:
      parts.append(f'layers {recipe.rows[0].frozen} are frozen')
    parts += [f'{key} is {value}' for key, value in strategy.settings.items()]
  else:
    parts.append('weights that were not trained in this run')
  return tables.StrategyRow(recipe.name, strategy.label, '; '.join(parts))


def _stored(study: Study, shop: Workshop, name: str) -> dict | None:
  """Operating points and calibration beside the weights of a strategy."""
  folder = study.recipes[name].folder or shop.workdir / 'models' / name
  return points.stored(folder)


def _study_record(
  study: Study,
  material: Material,
  chosen: Mapping[str, Planned],
  options: dict,
) -> dict:
  config = study.config
  variants = {name: one.variant for name, one in chosen.items()}
  used = _as_used(study, chosen)
  models = [used[n].config.model.name for n in study.reported]
  return {
    **options,
    'model': ', '.join(dict.fromkeys(models)),
    'candidates': config.candidates,
    'folds': config.train.folds,
    'seeds': list(config.train.seeds),
    'fold_hash': material.folds.hash,
    'selection': predict.SELECTION,
    **_pretrained(study),
    **({'chosen_of_sweep': variants} if any(variants.values()) else {}),
    'environment': record.environment(),
    'config': plain(config),
  }


def _pretrained(study: Study) -> dict[str, str]:
  """Where weights came from that this run did not train."""
  texts = []
  for recipe in study.given:
    known = recipe.known
    bundled = recipe.folder in catalogue.shipped().values()
    owner = 'bundled with cmbjax' if bundled else 'given'
    kind = 'simulated ' if known['simulated'] else ''
    texts.append(
      f'The {recipe.strategy.label} weights are {owner}, trained on '
      f'{len(known["subjects"])} {kind}subjects (fingerprint '
      f'{known["fingerprint"]}), not in this run.'
    )
  return {'pretrained': ' '.join(texts)} if texts else {}


def _cohort_row(
  study: Study, material: Material, name: str
) -> tables.CohortRow:
  scans = examples_lib.select(material.scans, material.scans.cohort == name)
  labels = material.examples.label[material.examples.cohort == name]
  return tables.CohortRow(
    name=name,
    label=study.labels[name],
    num_subjects=len(set(scans.subject)),
    num_scans=len(scans.scan),
    num_cmb=int(np.sum(labels == 1)),
    num_fp=int(np.sum(labels == 0)),
    num_lesions=int(scans.num_lesions.sum()),
    num_missed=int(scans.num_missed.sum()),
    simulated=bool(scans.simulated.any()),
    protocol=protocol(scans),
  )


def protocol(scans: examples_lib.Scans) -> str:
  """How some scans were made, in words.

  Returns:
    '7 T, TE 16 ms, 0.5 x 0.5 x 2 mm' where all are alike, else the number of
    different ones and the range of each value: '12 protocols: 1.5–7 T, ...'.
  """
  facts = np.column_stack([scans.field_t, scans.echo_time_s, scans.spacing_mm])
  # Rounded: headers differ in the last digits from scan to scan.
  different = len({tuple(f'{v:.3g}' for v in scan) for scan in facts})
  parts = [
    _range('{} T', scans.field_t),
    _range('TE {} ms', 1000 * scans.echo_time_s),
  ]
  sizes = ' x '.join(
    _range('{}', side, digits=2) for side in scans.spacing_mm.T
  )
  text = ', '.join(filter(None, [*parts, f'{sizes} mm']))
  return text if different == 1 else f'{different} protocols: {text}'


def _range(form: str, values: np.ndarray, *, digits: int = 3) -> str:
  """'3 T' or '1.5–7 T (2 not known)'; '' where none is known."""
  known = values[np.isfinite(values)]
  if not len(known):
    return ''
  ends = dict.fromkeys(f'{v:.{digits}g}' for v in (known.min(), known.max()))
  text = form.format('–'.join(ends))
  missing = len(values) - len(known)
  return f'{text} ({missing} not known)' if missing else text


def _learning(chosen: Mapping[str, Planned], shop: Workshop) -> list[dict]:
  out = []
  for one in chosen.values():
    log = train.epochs_of(shop.folder(one))
    out += rows.learning_rows(log, one.recipe.rows)
  return out
