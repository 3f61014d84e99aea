"""One study: cohorts -> examples -> replicas -> predictions -> report.

Rule: read it top to bottom. Every stage leaves its result in the work folder
under a fingerprint, so a second run reuses what exists and a killed run ends
with the same numbers.
"""

import pathlib
import sys
import zipfile
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cmbjax import config as configs
from cmbjax import files
from cmbjax.data import augment
from cmbjax.data import examples as examples_lib
from cmbjax.data import folds as folds_lib
from cmbjax.errors import InputError
from cmbjax.evaluation import compare
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.lesions import learned
from cmbjax.models import get_model
from cmbjax.report import html, tables
from cmbjax.training import (
  checkpoint,
  held_out,
  logs,
  loop,
  optim,
  record,
  replicas,
)
from cmbjax.training.transfer import transfer

# Part of every fingerprint: raise it when the same settings would give other
# numbers than before.
NUMBERS_VERSION = 1

NUM_SHOWN = 6  # patches in a gallery of the report

SELECTION = (
  'The epoch of each fold model is the one with the smallest loss on its '
  'held-out fold, which also lowers the learning rate; test subjects are in '
  'no fold.'
)


class Material(NamedTuple):
  """All examples of all cohorts, and who may be used for what."""

  examples: examples_lib.Examples
  scans: examples_lib.Scans
  folds: folds_lib.Folds
  fold_of: np.ndarray  # [N] fold of trainable examples, -1 for test subjects


class Trained(NamedTuple):
  """One strategy's networks, and how they came about."""

  weights: replicas.Weights  # leaves [R, ...]
  table: tuple[replicas.Replica, ...]  # R rows
  fingerprint: str


def run(config: ConfigDict, workdir: pathlib.Path) -> tables.StudyTables:
  """Runs one study and writes `workdir/report.html`.

  Args:
    config: as made by configs/*.py, already validated.
    workdir: gets cohorts/, examples/, models/, predictions.npz, report.html,
      results.csv and results.json.

  Raises:
    InputError: a cohort, label, split or weight cannot be used.
  """
  with files.alone_in(workdir):
    return _run(config, pathlib.Path(workdir))


def _run(config: ConfigDict, workdir: pathlib.Path) -> tables.StudyTables:
  if config.pretrained:
    checkpoint.read_record(config.pretrained)  # a wrong folder ends here
  _compilation_cache(workdir)
  material = gather(config, find_cohorts(config, workdir), workdir)
  network = get_model(
    config.model.name,
    convolution=config.model.convolution,
    bn_momentum=config.train.bn_momentum,
  )
  runner = replicas.Runner(
    network,
    backend=config.train.backend,
    positive_weight=config.train.positive_weight,
  )
  patches = replicas.on_device(material.examples.image, material.examples.label)
  trained = train_all(config, material, runner, patches, workdir)
  store_points(config, material, trained, runner, patches, workdir)
  predicted = predict_all(config, material, trained, runner, patches, workdir)
  study = tabulate(config, material, predicted, workdir)
  page = html.write(study, workdir)
  print(tables.print_rows(study), flush=True)
  say(f'report: {page}')
  return study


def say(text: str) -> None:
  """A plain line beside the progress; standard output is for results."""
  print(text, file=sys.stderr, flush=True)


def find_cohorts(
  config: ConfigDict, workdir: pathlib.Path
) -> dict[str, pathlib.Path]:
  """The folder of every cohort that is needed; simulates those not given."""
  out = {}
  for name in configs.cohorts_needed(config):
    if config.cohorts[name]:
      out[name] = pathlib.Path(config.cohorts[name])
      continue
    from cmbjax.simulate import cohort

    out[name] = cohort.simulate(
      name,
      subjects=config.simulate.subjects[name],
      out=workdir / 'cohorts' / name,
      seed=config.seed,
      jobs=config.simulate.jobs or None,
      slab_mm=config.simulate.slab_mm or None,
    )
  return out


def gather(
  config: ConfigDict,
  cohorts: Mapping[str, pathlib.Path],
  workdir: pathlib.Path,
) -> Material:
  """Cohort folders to examples, test subjects and folds."""
  examples, scans = {}, {}
  for name, folder in cohorts.items():
    built = examples_lib.build(
      name, folder, workdir / 'examples', config=config.patches
    )
    examples[name] = examples_lib.load(built)
    scans[name] = examples_lib.load_scans(built)
    if not config.shared_labels:
      examples[name] = _own_labels(examples[name], name)
      scans[name] = _own_labels(scans[name], name)
  folds = make_folds(config, {n: s.subject for n, s in scans.items()})
  files.write_json(workdir / 'folds.json', folds.to_json())
  examples = examples_lib.concatenate(list(examples.values()))
  pairs = examples_lib.shared_images(examples)
  if pairs:
    raise InputError(
      f'{pairs[0][0]} and {pairs[0][1]}: are the same image under two '
      'subjects; one person may have one label only.'
    )
  return Material(
    examples=examples,
    scans=examples_lib.concatenate(list(scans.values())),
    folds=folds,
    fold_of=folds.of(examples.subject),
  )


def make_folds(
  config: ConfigDict, subjects_of: Mapping[str, np.ndarray]
) -> folds_lib.Folds:
  """Test subjects and folds; a cohort's do not depend on the other cohorts."""
  trained = {
    name
    for strategy in configs.trained_strategies(config)
    for name in configs.TRAINED_ON[strategy]
  }
  folds_lib.check_disjoint(**subjects_of)
  used, num_test = {}, {}
  for name, subjects in subjects_of.items():
    unique = sorted(set(subjects))
    count = config.test_subjects.get(name, len(unique))
    if name in trained and len(unique) <= count:
      raise InputError(
        f'{name}: has {len(unique)} subjects and {count} are held out for '
        'testing, so none is left to train on; give more scans or lower '
        f'config.test_subjects.{name}.'
      )
    if name not in trained and len(unique) - count < config.train.folds:
      # Only tested here, and too small for folds: hold out, and leave the rest.
      count = min(count, len(unique))
      unique = folds_lib.hold_out(unique, count, seed=config.seed, cohort=name)
    used[name], num_test[name] = unique, count
  return folds_lib.make_folds(
    used, config.train.folds, num_test=num_test, seed=config.seed
  )


def train_all(
  config: ConfigDict,
  material: Material,
  runner: replicas.Runner,
  patches: replicas.Patches,
  workdir: pathlib.Path,
) -> dict[str, Trained]:
  """Trains every strategy, each after what it starts from; reuses weights."""
  out = {}
  if config.pretrained:
    out['7t'] = load_pretrained(config, material)
  for strategy in configs.trained_strategies(config):
    source = out['7t'] if strategy == 'finetuned' else None
    job = make_job(config, material, strategy)
    fingerprint = _job_fingerprint(config, material, job, source)
    folder = workdir / 'models' / strategy
    weights = _finished(folder, fingerprint)
    if weights is None:
      weights = loop.train(
        job,
        patches,
        runner,
        folder=folder,
        fingerprint=fingerprint,
        start=lambda j=job, s=source: first_weights(runner.network, j, s),
        evaluation_batch=config.evaluation.batch,
      )
      checkpoint.save_weights(
        folder, weights, _weights_record(config, material, job, fingerprint)
      )
    out[strategy] = Trained(weights, job.replicas, fingerprint)
  return out


def store_points(
  config: ConfigDict,
  material: Material,
  trained: Mapping[str, Trained],
  runner: replicas.Runner,
  patches: replicas.Patches,
  workdir: pathlib.Path,
) -> None:
  """Operating points beside every strategy's weights, for `cmbjax detect`."""
  for strategy in configs.trained_strategies(config):
    folder, model = workdir / 'models' / strategy, trained[strategy]
    if learned.is_stored(folder, model.fingerprint):
      continue
    job = make_job(config, material, strategy)
    learned.store(
      folder,
      fingerprint=model.fingerprint,
      examples=examples_lib.select(material.examples, job.pool),
      scans=examples_lib.select(
        material.scans,
        np.isin(material.scans.cohort, configs.TRAINED_ON[strategy])
        & (material.folds.of(material.scans.subject) >= 0),
      ),
      fold_of=job.fold_of,
      likelihood=held_out.predict(
        job, patches, model.weights, runner, batch=config.evaluation.batch
      ),
      threshold=config.evaluation.threshold,
    )


def make_job(config: ConfigDict, material: Material, strategy: str) -> loop.Job:
  """The training of one strategy: its pool, folds, replicas and schedule."""
  train = config.train
  tuned = strategy == 'finetuned'
  rate = train.finetune_learning_rate if tuned else train.learning_rate
  pool = np.flatnonzero(_trainable(material, strategy))
  _check_pool(strategy, material, pool)
  return loop.Job(
    strategy=strategy,
    replicas=tuple(
      replicas.Replica(strategy, fold, seed, rate)
      for seed in train.seeds
      for fold in range(train.folds)
    ),
    pool=pool,
    fold_of=material.fold_of[pool],
    epochs=train.finetune_epochs if tuned else train.epochs,
    batch=train.batch,
    plateau=optim.Plateau(
      factor=train.plateau_factor,
      patience=train.plateau_patience,
      min_delta=train.plateau_min_delta,
      min_scale=train.min_learning_rate / rate,
    ),
    stop_after=train.stop_after,
    positive_weight=train.positive_weight,
  )


def first_weights(
  network, job: loop.Job, source: Trained | None
) -> replicas.Weights:
  """Fresh weights, or transferred ones: fold k goes on from fold k."""
  fresh = replicas.stack([replicas.initial(network, r) for r in job.replicas])
  if source is None:
    return fresh
  given = [_partner(r, source.table) for r in job.replicas]
  chosen = jax.tree.map(lambda leaf: leaf[np.asarray(given)], source.weights)
  moved = transfer(fresh, chosen)
  say(f'{job.strategy}: weights from 7t\n{moved}')
  return moved.weights


def load_pretrained(config: ConfigDict, material: Material) -> Trained:
  """The 7T weights of an earlier run, if none of their subjects is used here.

  Raises:
    InputError: another network, or a subject of theirs is in a fold or in a
      test set of this run.
  """
  known = checkpoint.read_record(config.pretrained)
  if known['model'] != config.model.name:
    raise InputError(
      f'{config.pretrained}: holds {known["model"]}, config.model.name is '
      f'{config.model.name}; make them equal.'
    )
  trained_on = known['subjects']
  folds_lib.check_disjoint(
    pretraining=trained_on, test=material.folds.test_subjects
  )
  tuned = set(material.examples.subject[_trainable(material, 'finetuned')])
  folds_lib.check_disjoint(pretraining=trained_on, training=tuned)
  table = tuple(replicas.Replica(*row) for row in known['replicas'])
  weights = checkpoint.load_weights(pathlib.Path(config.pretrained))
  return Trained(weights, table, known['fingerprint'])


def predict_all(
  config: ConfigDict,
  material: Material,
  trained: Mapping[str, Trained],
  runner: replicas.Runner,
  patches: replicas.Patches,
  workdir: pathlib.Path,
) -> dict[tuple[str, str], predictions_lib.Table]:
  """Every strategy on every test set; the result is `predictions.npz`."""
  out = {}
  for strategy in config.strategies:
    model = trained[strategy]
    for test in config.tests:
      if (strategy, test) not in compare.ROWS:
        continue
      index = np.flatnonzero(
        (material.examples.cohort == test) & (material.fold_of < 0)
      )
      mark = files.digest(model.fingerprint, _content(material.examples, index))
      path = workdir / 'predictions' / f'{strategy}-{test}.npz'
      likelihood = _known_likelihood(path, mark)
      if likelihood is None:
        likelihood = loop.predict(
          patches, model.weights, runner, index, batch=config.evaluation.batch
        )
        with files.whole(path) as temporary, temporary.open('wb') as handle:
          np.savez(handle, mark=mark, likelihood=likelihood)
      out[strategy, test] = _table(
        config, material, model, strategy, test, index, likelihood
      )
  predictions_lib.write(workdir / 'predictions.npz', list(out.values()))
  return out


def tabulate(
  config: ConfigDict,
  material: Material,
  predicted: Mapping[tuple[str, str], predictions_lib.Table],
  workdir: pathlib.Path,
) -> tables.StudyTables:
  """Predictions to the rows, cohort table and curves of the report."""
  options = {
    'threshold': config.evaluation.threshold,
    'method': config.evaluation.intervals,
    'draws': config.evaluation.draws,
    'seed': config.seed,
    'level': config.evaluation.level,
  }
  return tables.StudyTables(
    title=config.name,
    simulated=bool(material.scans.simulated.any()),
    cohorts=[_cohort_row(material, n) for n in configs.cohorts_needed(config)],
    rows=[
      tables.make_row(table, number=compare.ROWS.get(key), **options)
      for key, table in predicted.items()
    ],
    learning=_learning(config, material, workdir),
    record=_study_record(config, material, options),
    orderings=compare.orderings(
      {key: table.predictions for key, table in predicted.items()},
      {test: table.scans for (_, test), table in predicted.items()},
      **options,
    ),
    removed=_removed(material, predicted, config.evaluation.threshold),
    misses=_worst(material, predicted, config.evaluation.threshold),
  )


def _removed(
  material: Material, predicted: Mapping, threshold: float
) -> list[tables.Patch]:
  """Figure 4: false candidates on 3T that fine-tuning removes."""
  before = predicted.get(('7t', 'btumor_3t'))
  after = predicted.get(('finetuned', 'btumor_3t'))
  if before is None or after is None:
    return []
  old = before.predictions
  new = predictions_lib.align(old, after.predictions)
  rows = compare.removed_by(old, new, threshold=threshold)[:NUM_SHOWN]
  return [
    tables.Patch(
      key=str(old.key[i]),
      image=_seen(material, old.key[i]),
      before=float(old.probability[i]),
      after=float(new.probability[i]),
    )
    for i in rows
  ]


def _worst(
  material: Material, predicted: Mapping, threshold: float
) -> list[tables.Patch]:
  """The worst errors of the last strategy on each test set."""
  last = {test: table for (_, test), table in predicted.items()}
  out = []
  for table in last.values():
    p = table.predictions
    name = tables.strategy_label(table.strategy)
    for i in compare.worst_errors(p, threshold=threshold)[:NUM_SHOWN]:
      what = 'microbleed, lost' if p.label[i] else 'mimic, kept'
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
  config: ConfigDict, material: Material, options: dict
) -> dict:
  return {
    **options,
    'model': config.model.name,
    'folds': config.train.folds,
    'seeds': list(config.train.seeds),
    'fold_hash': material.folds.hash,
    'selection': SELECTION,
    'environment': record.environment(),
    'config': config.to_dict(),
  }


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
    protocol=_protocol(scans),
  )


def _protocol(scans: examples_lib.Scans) -> str:
  """'7 T, TE 16 ms, 0.5 x 0.5 x 2 mm' of the first scan."""
  parts = []
  if np.isfinite(scans.field_t[0]):
    parts.append(f'{scans.field_t[0]:g} T')
  if np.isfinite(scans.echo_time_s[0]):
    parts.append(f'TE {1000 * scans.echo_time_s[0]:g} ms')
  sizes = ' x '.join(f'{size:.2g}' for size in scans.spacing_mm[0])
  return ', '.join([*parts, f'{sizes} mm'])


def _learning(
  config: ConfigDict, material: Material, workdir: pathlib.Path
) -> list[dict]:
  out = []
  for strategy in configs.trained_strategies(config):
    log = logs.read(workdir / 'models' / strategy / 'epochs.jsonl')
    table = make_job(config, material, strategy).replicas
    out += tables.learning_rows(log, table)
  return out


def _table(
  config: ConfigDict,
  material: Material,
  model: Trained,
  strategy: str,
  test: str,
  index: np.ndarray,
  likelihood: np.ndarray,
) -> predictions_lib.Table:
  """One strategy on one test set; likelihood [R, n], mean over R."""
  seeds = np.array([r.seed for r in model.table])
  by_seed = np.stack(
    [
      predictions_lib.ensemble(likelihood[seeds == seed])
      for seed in dict.fromkeys(seeds.tolist())
    ]
  )
  some = examples_lib.select(material.examples, index)
  scans = examples_lib.select(
    material.scans,
    (material.scans.cohort == test)
    & (material.folds.of(material.scans.subject) < 0),
  )
  if not len(scans.scan):
    raise InputError(
      f'config.test_subjects.{test}: is 0, so there is nothing to test on; '
      'set it to 1 or more, or take it out of config.tests.'
    )
  return predictions_lib.Table(
    strategy=strategy,
    test=test,
    predictions=predictions_lib.Predictions(
      key=some.key,
      subject=some.subject,
      scan=some.scan,
      cohort=some.cohort,
      label=some.label.astype(int),
      lesion=some.lesion.astype(int),
      probability=predictions_lib.ensemble(by_seed),
    ),
    scans=predictions_lib.ScanCounts(
      scan=scans.scan,
      subject=scans.subject,
      num_lesions=scans.num_lesions.astype(int),
      num_missed=scans.num_missed.astype(int),
    ),
    by_seed=by_seed,
    fold_hash=_fold_hash(material, test),
    selection=SELECTION,
    simulated=bool(scans.simulated.any()),
  )


def _fold_hash(material: Material, cohort: str) -> str:
  """Of one cohort's test subjects and folds, whatever else is in the run."""
  mine = set(material.scans.subject[material.scans.cohort == cohort])
  folds = material.folds
  return folds_lib.Folds(
    folds.num_folds,
    folds.seed,
    {s: k for s, k in folds.fold_of_subject.items() if s in mine},
    tuple(s for s in folds.test_subjects if s in mine),
  ).hash


def _trainable(material: Material, strategy: str) -> np.ndarray:
  """[N] examples that a strategy may learn from, itself."""
  cohorts = configs.TRAINED_ON[strategy]
  return np.isin(material.examples.cohort, cohorts) & (material.fold_of >= 0)


def _check_pool(strategy: str, material: Material, pool: np.ndarray) -> None:
  """Every fold needs examples to train on and to validate with."""
  labels = material.examples.label[pool]
  if not (labels == 1).any() or not (labels == 0).any():
    which = 'microbleed' if not (labels == 1).any() else 'mimic'
    raise InputError(
      f'{strategy}: the training subjects of '
      f'{" and ".join(configs.TRAINED_ON[strategy])} have no {which} among '
      f'their {len(pool)} candidates; check the labels or give more scans.'
    )
  empty = set(range(material.folds.num_folds)) - set(material.fold_of[pool])
  if empty:
    raise InputError(
      f'{strategy}: fold {min(empty)} holds no candidate; give more scans or '
      'set config.train.folds lower.'
    )


def _partner(replica: replicas.Replica, table: tuple) -> int:
  """The row of `table` that a replica starts from: its fold, its seed."""
  same_fold = [i for i, r in enumerate(table) if r.fold == replica.fold]
  choices = same_fold or range(len(table))
  same = [i for i in choices if table[i].seed == replica.seed]
  if same:
    return same[0]
  return list(choices)[replica.seed % len(choices)]


def _job_fingerprint(
  config: ConfigDict, material: Material, job: loop.Job, source: Trained | None
) -> str:
  return files.digest(
    NUMBERS_VERSION,
    _content(material.examples, job.pool),
    job.fold_of.tolist(),
    [list(row) for row in job.replicas],
    [job.epochs, job.batch, list(job.plateau), job.stop_after],
    [job.positive_weight, config.train.bn_momentum, config.model.name],
    source.fingerprint if source else None,
  )


def _content(examples: examples_lib.Examples, index: np.ndarray) -> str:
  """Digest of what networks see of some examples."""
  return files.digest(
    examples.key[index].tolist(),
    examples.label[index].tolist(),
    np.ascontiguousarray(examples.image[index], np.float16).tobytes(),
  )


def _finished(
  folder: pathlib.Path, fingerprint: str
) -> replicas.Weights | None:
  if not (folder / 'weights.json').is_file():
    return None
  try:
    if checkpoint.read_record(folder)['fingerprint'] != fingerprint:
      return None
    return checkpoint.load_weights(folder)
  except InputError:  # our own work, damaged: it is made again
    return None


def _weights_record(
  config: ConfigDict, material: Material, job: loop.Job, fingerprint: str
) -> dict:
  return {
    'strategy': job.strategy,
    'model': config.model.name,
    'bn_momentum': config.train.bn_momentum,
    'patches': config.patches,
    'threshold': config.evaluation.threshold,
    'replicas': [list(row) for row in job.replicas],
    'subjects': sorted(set(material.examples.subject[job.pool].tolist())),
    'fold_hash': material.folds.hash,
    'simulated': bool(material.scans.simulated.any()),
    'fingerprint': fingerprint,
    'environment': record.environment(),
  }


def _known_likelihood(path: pathlib.Path, mark: str) -> np.ndarray | None:
  try:
    with np.load(path) as stored:
      return stored['likelihood'] if str(stored['mark']) == mark else None
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    return None


def _own_labels(rows, cohort: str):
  """The same subject label in two cohorts is two people: add the cohort."""
  changed = {'subject': _prefixed(rows.subject, cohort)}
  changed['scan'] = _prefixed(rows.scan, cohort)
  if hasattr(rows, 'key'):
    changed['key'] = _prefixed(rows.key, cohort)
  return rows._replace(**changed)


def _prefixed(names: np.ndarray, cohort: str) -> np.ndarray:
  return np.array([f'{cohort}:{name}' for name in names.tolist()], str)


def _compilation_cache(workdir: pathlib.Path) -> None:
  """Compiled programs stay in the work folder: a resumed run starts at once."""
  if jax.config.jax_compilation_cache_dir is None:
    cache = str((workdir / 'compiled').absolute())
    jax.config.update('jax_compilation_cache_dir', cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
