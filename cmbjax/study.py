"""One study: cohorts -> examples -> replicas -> predictions -> report.

Rule: read it top to bottom. Every stage leaves its result in the work folder
under a fingerprint, so a second run reuses what exists and a killed run ends
with the same numbers.
"""

import contextlib
import pathlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cmbjax import config as configs
from cmbjax import files, trainings
from cmbjax.data import channels
from cmbjax.data import examples as examples_lib
from cmbjax.data import folds as folds_lib
from cmbjax.errors import InputError
from cmbjax.training import (
  hosts,
  record,
  replicas,
  watch,
  writers,
)
from cmbjax.trainings import Material, Planned, RunnerOf, Trained

if TYPE_CHECKING:
  from cmbjax.report import tables


def run(
  config: ConfigDict,
  workdir: pathlib.Path,
  *,
  sweep: Sequence[Mapping[str, Any]] = (),
  profile: bool = False,
) -> 'tables.StudyTables | None':
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
  writers.check(config.writers)
  if not hosts.is_writer():
    return _run(config, points, workdir, profile)
  with files.alone_in(workdir):
    return _run(config, points, workdir, profile)


def _run(
  config: ConfigDict,
  points: tuple[configs.Point, ...],
  workdir: pathlib.Path,
  profile: bool,
) -> 'tables.StudyTables | None':
  trainings.check_pretrained(config)  # wrong weights end here
  check_given(config)  # and people who are in two cohorts, or too few
  _compilation_cache(workdir)
  runner_of = trainings.runners()
  for point in points:
    runner_of(point.config)  # devices that do not fit end here
  material = hosts.first(
    'gather', lambda: gather(config, find_cohorts(config, workdir), workdir)
  )
  log = record.RunRecord(workdir / 'record.json', config.to_dict())
  patches = replicas.on_device(
    examples_lib.seen(material.examples), material.examples.label
  )
  given = {}
  if configs.pretrained_folder(config) is not None:
    given['7t'] = trainings.load_pretrained(config, material)
  planned = trainings.plan(points, material, given)
  jobs = {one.fingerprint: one for one in planned.values()}
  log.write(
    status='incomplete',
    fold_hash=material.folds.hash,
    sweep=[point.name for point in points if point.name],
    table=[row._asdict() for one in jobs.values() for row in one.job.replicas],
  )
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
  # Drawing and statistics import for a second: training does not wait.
  from cmbjax import likelihoods, tabulation
  from cmbjax.report import html, tables

  chosen = choose(planned, done, patches, runner_of, workdir)
  trained = given | {n: done[one.fingerprint] for n, one in chosen.items()}
  predicted = likelihoods.predict_all(
    config, material, chosen, trained, patches, workdir, runner_of=runner_of
  )
  if not hosts.is_writer():
    hosts.barrier('report')
    return None
  study = tabulation.tabulate(config, material, predicted, chosen, workdir)
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


def check_given(config: ConfigDict) -> None:
  """Refuses people of given cohorts, before anything is simulated or built.

  Raises:
    InputError: somebody is in two cohorts, or they are too few for the folds.
    NoInputError: a folder without a scan, or without a truth.
  """
  subjects_of = {}
  for name in configs.cohorts_needed(config):
    if folder := config.cohorts[name]:
      subjects = examples_lib.subjects(folder)
      own = subjects if config.shared_labels else _prefixed(subjects, name)
      subjects_of[name] = own
  make_folds(config, subjects_of)


def gather(
  config: ConfigDict,
  cohorts: Mapping[str, pathlib.Path],
  workdir: pathlib.Path,
) -> Material:
  """Cohort folders to examples, test subjects and folds."""
  examples, scans, lesions = {}, {}, {}
  data_set = channels.data_set(config.patches, config.channels)
  for name, folder in cohorts.items():
    built = folder
    if not examples_lib.is_built(folder):
      built = examples_lib.build(
        name, folder, workdir / 'examples', config=data_set
      )
    examples[name], scans[name] = examples_lib.load_as(
      name, built, config=data_set
    )
    lesions[name] = examples_lib.load_lesions(built, cohort=name)
    if not config.shared_labels:
      examples[name] = _own_labels(examples[name], name)
      scans[name] = _own_labels(scans[name], name)
      lesions[name] = _own_labels(lesions[name], name)
  folds = make_folds(config, {n: s.subject for n, s in scans.items()})
  _say_left_out(scans, folds)
  if hosts.is_writer():
    files.write_json(workdir / 'folds.json', folds.to_json())
  examples = _in_use(examples, folds)
  pairs = examples_lib.shared_images(examples)
  if pairs:
    raise InputError(
      f'{pairs[0][0]} and {pairs[0][1]}: are the same image under two '
      'subjects; one person may have one label only.'
    )
  return Material(
    examples=examples,
    scans=_in_use(scans, folds),
    folds=folds,
    fold_of=folds.of(examples.subject),
    lesions=_in_use(lesions, folds),
  )


def _in_use(rows_of: Mapping[str, Any], folds: folds_lib.Folds):
  """Rows of all cohorts, without those of subjects that nothing needs."""
  rows = examples_lib.concatenate(list(rows_of.values()))
  used = [*folds.test_subjects, *folds.fold_of_subject]
  mine = np.isin(rows.subject, used)
  return rows if mine.all() else examples_lib.select(rows, mine)


def _say_left_out(
  scans: Mapping[str, examples_lib.Scans], folds: folds_lib.Folds
) -> None:
  used = {*folds.test_subjects, *folds.fold_of_subject}
  for name, some in scans.items():
    unique = set(some.subject.tolist())
    if rest := len(unique - used):
      trainings.say(
        f'{name}: {rest} of {len(unique)} subjects are left out, too few for '
        f'folds; config.test_subjects.{name}={len(unique)} tests on all.'
      )


def make_folds(
  config: ConfigDict, subjects_of: Mapping[str, np.ndarray]
) -> folds_lib.Folds:
  """Test subjects and folds; a cohort's do not depend on the other cohorts."""
  trained = {
    name
    for strategy in configs.trained_strategies(config)
    for name in configs.trained_on(config, strategy)
  }
  folds_lib.check_disjoint(**subjects_of)
  used, num_test = {}, {}
  for name, subjects in subjects_of.items():
    unique = sorted(set(subjects))
    count = configs.held_out(config, name, len(unique))
    if name in trained and len(unique) <= count:
      raise InputError(
        f'{name}: all of its subjects ({len(unique)}) are held out for '
        'testing, so none is left to train on; give more scans or hold out '
        f'fewer with config.test_subjects.{name}.'
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
      loss_of[mark] = np.inf
      if trainings.learned(workdir, one):
        loss_of[mark] = trainings.held_out_loss(
          one, done[mark], patches, runner_of(one.config)
        )
  for (strategy, _), one in planned.items():
    best = chosen.setdefault(strategy, one)
    if loss_of and loss_of[one.fingerprint] < loss_of[best.fingerprint]:
      chosen[strategy] = one
  if not loss_of and hosts.is_writer():
    (workdir / 'sweep.csv').unlink(missing_ok=True)  # of an earlier sweep
    if len(planned) > len(chosen):
      trainings.say('sweep: its points change nothing that is trained here.')
  if loss_of:
    if hosts.is_writer():
      trainings.write_sweep(workdir / 'sweep.csv', jobs, loss_of, chosen)
    for one in chosen.values():
      trainings.publish(workdir, one)
      name = one.job.variant or 'all points alike'
      trainings.say(f'{one.job.strategy}: smallest held-out loss with {name}')
  return chosen


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
  observer = watch.Observer(
    workdir, writers=opened, profile=workdir / 'profile' if profile else None
  )
  try:
    yield observer
  finally:
    observer.close()


def _own_labels(rows, cohort: str):
  """The same subject label in two cohorts is two people: add the cohort."""
  changed = {'subject': _prefixed(rows.subject, cohort)}
  for name in ('scan', 'key', 'person'):
    if hasattr(rows, name):
      changed[name] = _prefixed(getattr(rows, name), cohort)
  return rows._replace(**changed)


def _prefixed(names: np.ndarray, cohort: str) -> np.ndarray:
  return np.array([f'{cohort}:{name}' for name in names.tolist()], str)


def _compilation_cache(workdir: pathlib.Path) -> None:
  """Compiled programs stay in the work folder: a resumed run starts at once."""
  if jax.config.jax_compilation_cache_dir is None:
    cache = str((workdir / 'compiled').absolute())
    jax.config.update('jax_compilation_cache_dir', cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  # One that a full disk cut short is only compiled again.
  warnings.filterwarnings('ignore', '.*persistent compilation cache entry')
