"""One study: cohorts -> examples -> replicas -> predictions -> report.

Rule: read it top to bottom. Every stage leaves its result in the work folder
under a fingerprint, so a second run reuses what exists and a killed run ends
with the same numbers.
"""

import contextlib
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cmbjax import config as configs
from cmbjax import files, trainings
from cmbjax.data import augment
from cmbjax.data import examples as examples_lib
from cmbjax.data import folds as folds_lib
from cmbjax.errors import InputError
from cmbjax.evaluation import compare
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.lesions import learned
from cmbjax.report import html, tables
from cmbjax.training import (
  checkpoint,
  held_out,
  hosts,
  logs,
  loop,
  record,
  replicas,
  watch,
  writers,
)
from cmbjax.training.runner import Runner
from cmbjax.trainings import Material, Planned, RunnerOf, Trained

NUM_SHOWN = 6  # patches in a gallery of the report

SELECTION = (
  'The epoch of each fold model is the one with the smallest loss on its '
  'held-out fold, which also lowers the learning rate; test subjects are in '
  'no fold.'
)


def run(
  config: ConfigDict,
  workdir: pathlib.Path,
  *,
  sweep: Sequence[Mapping[str, Any]] = (),
  profile: bool = False,
) -> tables.StudyTables | None:
  """Runs one study and writes `workdir/report.html`.

  Args:
    config: as made by configs/*.py, already validated.
    workdir: gets cohorts/, examples/, models/, predictions.npz, record.json,
      report.html, results.csv and results.json.
    sweep: overrides of each point; the point with the smallest held-out loss
      is reported, of each strategy, and all are in `sweep.csv`.
    profile: writes a profile of one epoch to `workdir/profile`.

  Returns:
    The tables; None in a process that is not the first.

  Raises:
    InputError: a cohort, label, split or weight cannot be used.
  """
  workdir = pathlib.Path(workdir)
  points = configs.points(config, sweep)
  trainings.check_layers(points)
  if not hosts.is_writer():
    return _run(config, points, workdir, profile)
  with files.alone_in(workdir):
    return _run(config, points, workdir, profile)


def _run(
  config: ConfigDict,
  points: tuple[configs.Point, ...],
  workdir: pathlib.Path,
  profile: bool,
) -> tables.StudyTables | None:
  if config.pretrained:
    checkpoint.read_record(config.pretrained)  # a wrong folder ends here
  _compilation_cache(workdir)
  material = hosts.first(
    'gather', lambda: gather(config, find_cohorts(config, workdir), workdir)
  )
  log = record.RunRecord(workdir / 'record.json', config.to_dict())
  patches = replicas.on_device(material.examples.image, material.examples.label)
  given = {}
  if config.pretrained:
    given['7t'] = trainings.load_pretrained(config, material)
  planned = trainings.plan(points, material, given)
  jobs = {one.fingerprint: one for one in planned.values()}
  log.write(
    status='incomplete',
    fold_hash=material.folds.hash,
    sweep=[point.name for point in points if point.name],
    table=[row._asdict() for one in jobs.values() for row in one.job.replicas],
  )
  runner_of = trainings.runners()
  with _observer(config, workdir, profile) as observer:
    done = trainings.train_all(
      tuple(jobs.values()),
      material,
      patches,
      given,
      workdir,
      runner_of=runner_of,
      observer=observer,
    )
  chosen = choose(planned, done, patches, runner_of, workdir)
  trained = given | {n: done[one.fingerprint] for n, one in chosen.items()}
  store_points(config, material, chosen, trained, runner_of, patches, workdir)

  def runner_for(strategy):
    return runner_of(chosen[strategy].config if strategy in chosen else config)

  predicted = predict_all(
    config, material, trained, runner_for, patches, workdir
  )
  if not hosts.is_writer():
    hosts.barrier('report')
    return None
  study = tabulate(config, material, predicted, chosen, workdir)
  page = html.write(study, workdir)
  print(tables.print_rows(study), flush=True)
  log.write(status='done')
  trainings.say(f'report: {page}')
  hosts.barrier('report')
  return study


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
    built = folder
    if not examples_lib.is_built(folder):
      built = examples_lib.build(
        name, folder, workdir / 'examples', config=config.patches
      )
    examples[name], scans[name] = examples_lib.load_as(
      name, built, config=config.patches
    )
    if not config.shared_labels:
      examples[name] = _own_labels(examples[name], name)
      scans[name] = _own_labels(scans[name], name)
  folds = make_folds(config, {n: s.subject for n, s in scans.items()})
  if hosts.is_writer():
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


def choose(
  planned: Mapping[tuple[str, str], Planned],
  done: Mapping[str, Trained],
  patches: replicas.Patches,
  runner_of: RunnerOf,
  workdir: pathlib.Path,
) -> dict[str, Planned]:
  """Of each strategy the training with the smallest held-out loss.

  Its folder becomes `models/STRATEGY`; `sweep.csv` holds all of them.
  """
  jobs = {one.fingerprint: one for one in planned.values()}
  chosen: dict[str, Planned] = {}
  loss_of = {}
  if len(jobs) > len({strategy for strategy, _ in planned}):  # a sweep
    for mark, one in jobs.items():
      loss_of[mark] = trainings.held_out_loss(
        one, done[mark], patches, runner_of(one.config)
      )
  for (strategy, _), one in planned.items():
    best = chosen.setdefault(strategy, one)
    if loss_of and loss_of[one.fingerprint] < loss_of[best.fingerprint]:
      chosen[strategy] = one
  if loss_of:
    if hosts.is_writer():
      trainings.write_sweep(workdir / 'sweep.csv', jobs, loss_of, chosen)
    for one in chosen.values():
      trainings.publish(workdir, one)
  return chosen


def store_points(
  config: ConfigDict,
  material: Material,
  chosen: Mapping[str, Planned],
  trained: Mapping[str, Trained],
  runner_of: RunnerOf,
  patches: replicas.Patches,
  workdir: pathlib.Path,
) -> None:
  """Operating points beside every strategy's weights, for `cmbjax detect`."""
  for strategy, one in chosen.items():
    folder, model = workdir / 'models' / strategy, trained[strategy]
    if learned.is_stored(folder, model.fingerprint):
      continue
    job = one.job
    likelihood = held_out.predict(
      job,
      patches,
      model.weights,
      runner_of(one.config),
      batch=config.evaluation.batch,
    )
    if not hosts.is_writer():
      continue
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
      likelihood=likelihood,
      threshold=config.evaluation.threshold,
    )


def predict_all(
  config: ConfigDict,
  material: Material,
  trained: Mapping[str, Trained],
  runner_for: Callable[[str], Runner],
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
      mark = files.digest(
        model.fingerprint, trainings.content(material.examples, index)
      )
      path = workdir / 'predictions' / f'{strategy}-{test}.npz'
      likelihood = _known_likelihood(path, mark)
      if likelihood is None:
        likelihood = loop.predict(
          patches,
          model.weights,
          runner_for(strategy),
          index,
          batch=config.evaluation.batch,
        )
        if hosts.is_writer():
          with files.whole(path) as temporary, temporary.open('wb') as handle:
            np.savez(handle, mark=mark, likelihood=likelihood)
      out[strategy, test] = _table(
        config, material, model, strategy, test, index, likelihood
      )
  if hosts.is_writer():
    predictions_lib.write(workdir / 'predictions.npz', list(out.values()))
  return out


def tabulate(
  config: ConfigDict,
  material: Material,
  predicted: Mapping[tuple[str, str], predictions_lib.Table],
  chosen: Mapping[str, Planned],
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
    learning=_learning(chosen, workdir),
    record=_study_record(config, material, chosen, options),
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
    'selection': SELECTION,
    **({'chosen_of_sweep': variants} if any(variants.values()) else {}),
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
  if scans.truth[0] == 'patches':
    sizes = f'patches without scans, {sizes}'
  return ', '.join([*parts, f'{sizes} mm'])


def _learning(
  chosen: Mapping[str, Planned], workdir: pathlib.Path
) -> list[dict]:
  out = []
  for one in chosen.values():
    folder = trainings.folder_of(workdir, one)
    log = logs.read(folder / 'epochs.jsonl')
    out += tables.learning_rows(log, one.job.replicas)
  return out


@contextlib.contextmanager
def _observer(
  config: ConfigDict, workdir: pathlib.Path, profile: bool
) -> Iterator[watch.Observer]:
  """Who watches the training; only the first process writes."""
  if not hosts.is_writer():
    yield watch.Observer()
    return
  settings = {key: configs.get(config, key) for key in configs.keys(config)}
  opened = writers.open_writers(
    config.writers, workdir, title=config.name, config=settings
  )
  try:
    yield watch.Observer(
      workdir, writers=opened, profile=workdir / 'profile' if profile else None
    )
  finally:
    for one in opened:
      one.close()


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
