"""Likelihoods by key to the rows, curves and galleries of the report.

Rule: whatever is shown is made from the tables of predictions.npz and the
facts of the scans; nothing is trained or predicted here.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from cmbjax import config as configs
from cmbjax import files, likelihoods, trainings
from cmbjax.data import augment
from cmbjax.data import examples as examples_lib
from cmbjax.data.tables import NEVER_PROPOSED
from cmbjax.evaluation import compare, orderings
from cmbjax.evaluation.predictions import ENSEMBLE, OUT_OF_FOLD, Table
from cmbjax.lesions.classifier import POINTS_FILE
from cmbjax.report import rows, tables
from cmbjax.training import checkpoint, logs, record
from cmbjax.trainings import Material, Planned
from configs import chen2019

NUM_SHOWN = 6  # patches in a gallery of the report


def tabulate(
  config: ConfigDict,
  material: Material,
  predicted: Sequence[Table],
  chosen: Mapping[str, Planned],
  workdir: pathlib.Path,
) -> tables.StudyTables:
  """Everything of the report."""
  options = {
    'threshold': config.evaluation.threshold,
    'method': config.evaluation.intervals,
    'draws': config.evaluation.draws,
    'seed': config.seed,
    'level': config.evaluation.level,
  }
  tested = {(t.strategy, t.test): t for t in predicted if t.kind == ENSEMBLE}
  held_out = [t for t in predicted if t.kind == OUT_OF_FOLD]
  stored = {name: _stored(config, chosen, name, workdir) for name, _ in tested}
  return tables.StudyTables(
    title=config.name,
    simulated=bool(material.scans.simulated.any()),
    cohorts=[_cohort_row(material, n) for n in configs.cohorts_needed(config)],
    rows=[
      rows.make_row(
        table,
        number=chen2019.ROWS.get(key),
        stored=stored[table.strategy],
        **options,
      )
      for key, table in tested.items()
    ],
    held_out=[rows.make_row(table, **options) for table in held_out],
    pairs=compare.all_pairs(predicted, **options),
    learning=_learning(chosen, workdir),
    record=_study_record(config, material, chosen, options),
    orderings=orderings.orderings(
      {key: table.predictions for key, table in tested.items()},
      {test: table.scans for (_, test), table in tested.items()},
      claims=chen2019.CLAIMS,
      numbers=chen2019.ROWS,
      labels={key: table.label for key, table in tested.items()},
      by_seed={key: table.by_seed for key, table in tested.items()},
      **options,
    ),
    removed=_removed(material, tested, config.evaluation.threshold),
    misses=_misses(material, tested, config.evaluation.threshold),
    removed_by=(
      *(chen2019.LABELS[n] for n in ('7t', 'finetuned')),
      chen2019.COHORT_LABELS['btumor_3t'],
    ),
    paper=chen2019.PAPER,
    strategies=[
      tables.StrategyRow(name, chen2019.LABELS[name])
      for name in config.strategies
    ],
  )


def _stored(
  config: ConfigDict,
  chosen: Mapping[str, Planned],
  strategy: str,
  workdir: pathlib.Path,
) -> dict | None:
  """Operating points and calibration beside the weights of a strategy."""
  if strategy in chosen:
    folder = trainings.folder_of(workdir, chosen[strategy])
  else:
    folder = pathlib.Path(configs.pretrained_folder(config))
  path = folder / POINTS_FILE
  return files.read_object(path) if path.is_file() else None


def _removed(
  material: Material, predicted: Mapping, threshold: float
) -> list[tables.Patch]:
  """Figure 4: false candidates on 3T that fine-tuning removes."""
  before = predicted.get(('7t', 'btumor_3t'))
  after = predicted.get(('finetuned', 'btumor_3t'))
  if before is None or after is None:
    return []
  return rows.removed(
    before,
    after,
    lambda key: _seen(material, key),
    threshold=threshold,
    most=NUM_SHOWN,
  )


def _misses(
  material: Material, predicted: Mapping, threshold: float
) -> list[tables.Patch]:
  """Of each test set: lesions never proposed, then the worst errors."""
  last = {test: table for (_, test), table in predicted.items()}
  out = []
  for table in last.values():
    out += _never_proposed(material, table)[:NUM_SHOWN]
    out += _worst(material, table, threshold)[:NUM_SHOWN]
  return out


def _never_proposed(material: Material, table: Table) -> list[tables.Patch]:
  """Lesions that no candidate reached, the largest first."""
  known = material.lesions
  if known is None:
    return []
  mine = np.isin(known.scan, table.scans.scan) & (known.why != '')
  index = np.flatnonzero(mine)
  size = np.nan_to_num(known.diameter_mm[index], nan=-1.0)
  return [
    tables.Patch(
      key=str(known.key[i]),
      image=np.zeros((0, 0, 0)) if known.image[i] is None else known.image[i],
      caption=_lesion_caption(known, i),
    )
    for i in index[np.argsort(-size, kind='stable')]
  ]


def _lesion_caption(known: examples_lib.Lesions, i: int) -> str:
  """'2.4 mm, thalamus, at 12 -30 8 mm: too light (score 0.31)'."""
  what = _size_and_region(known, i)
  place = ' '.join(f'{value:.0f}' for value in known.centre_mm[i])
  score = ''
  if np.isfinite(known.score[i]):
    score = f' (score {known.score[i]:.2f})'
  why = str(known.why[i])
  if why != NEVER_PROPOSED:
    why = f'never proposed: {why}'
  return ', '.join([*what, f'at {place} mm']) + f': {why}{score}'


def _size_and_region(known: examples_lib.Lesions, i: int) -> list[str]:
  parts = []
  if np.isfinite(known.diameter_mm[i]):
    parts.append(f'{known.diameter_mm[i]:.1f} mm')
  if known.region[i]:
    parts.append(str(known.region[i]))
  return parts


def _worst(
  material: Material, table: Table, threshold: float
) -> list[tables.Patch]:
  """Microbleeds that a strategy lost, then mimics that it kept."""
  p, known = table.predictions, material.lesions
  name = table.strategy_label
  out = []
  for i in compare.worst_errors(p, threshold=threshold)[:NUM_SHOWN]:
    what = 'microbleed, lost' if p.label[i] else 'mimic, kept'
    if p.label[i] and known is not None:
      same = (known.scan == p.scan[i]) & (known.lesion == p.lesion[i])
      for at in np.flatnonzero(same):
        what = ', '.join([*_size_and_region(known, at), what])
    out.append(
      tables.Patch(
        key=str(p.key[i]),
        image=_seen(material, p.key[i]),
        caption=f'{what} by {name}',
        after=float(p.probability[i]),
      )
    )
  return out


def _seen(material: Material, key: str) -> np.ndarray:
  """The [16, 16, 8] patch of one candidate, as a network sees it."""
  (index,) = np.flatnonzero(material.examples.key == key)
  return np.asarray(augment.centre_crop(material.examples.image[index]))


def _study_record(
  config: ConfigDict,
  material: Material,
  chosen: Mapping[str, Planned],
  options: dict,
) -> dict:
  variants = {name: one.job.variant for name, one in chosen.items()}
  return {
    **options,
    'model': config.model.name,
    'folds': config.train.folds,
    'seeds': list(config.train.seeds),
    'fold_hash': material.folds.hash,
    'selection': likelihoods.SELECTION,
    **_pretrained(config),
    **({'chosen_of_sweep': variants} if any(variants.values()) else {}),
    'environment': record.environment(),
    'config': config.to_dict(),
  }


def _pretrained(config: ConfigDict) -> dict[str, str]:
  """Where 7T weights came from that this run did not train."""
  folder = configs.pretrained_folder(config)
  if folder is None:
    return {}
  known = checkpoint.read_record(folder)
  owner = (
    'those that came with cmbjax' if config.pretrained == '7t' else 'given'
  )
  kind = 'simulated ' if known.get('simulated') else ''
  text = (
    f'The 7T weights are {owner}, trained on {len(known["subjects"])} '
    f'{kind}subjects (fingerprint {known["fingerprint"]}), not in this run.'
  )
  return {'pretrained': text}


def _cohort_row(material: Material, name: str) -> tables.CohortRow:
  scans = examples_lib.select(material.scans, material.scans.cohort == name)
  labels = material.examples.label[material.examples.cohort == name]
  return tables.CohortRow(
    name=name,
    num_subjects=len(set(scans.subject)),
    num_scans=len(scans.scan),
    num_cmb=int(np.sum(labels == 1)),
    num_fp=int(np.sum(labels == 0)),
    num_lesions=int(scans.num_lesions.sum()),
    num_missed=int(scans.num_missed.sum()),
    simulated=bool(scans.simulated.any()),
    protocol=protocol(scans),
    label=chen2019.COHORT_LABELS.get(name, name),
  )


def protocol(scans: examples_lib.Scans) -> str:
  """How some scans were made, in words.

  Returns:
    '7 T, TE 16 ms, 0.5 x 0.5 x 2 mm' where all are alike, else the number of
    different ones and the range of each value: '12 protocols: 1.5–7 T, ...'.
  """
  facts = np.column_stack([scans.field_t, scans.echo_time_s, scans.spacing_mm])
  different = len({tuple(f'{v:.3g}' for v in scan) for scan in facts})
  parts = [
    _range('{} T', scans.field_t),
    _range('TE {} ms', 1000 * scans.echo_time_s),
  ]
  sizes = ' x '.join(
    _range('{}', side, digits=2) for side in scans.spacing_mm.T
  )
  if np.all(scans.truth == 'patches'):
    sizes = f'patches without scans, {sizes}'
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


def _learning(
  chosen: Mapping[str, Planned], workdir: pathlib.Path
) -> list[dict]:
  out = []
  for one in chosen.values():
    folder = trainings.folder_of(workdir, one)
    log = logs.read(folder / 'epochs.jsonl')
    out += rows.learning_rows(log, one.job.replicas)
  return out
