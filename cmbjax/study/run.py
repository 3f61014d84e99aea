"""One study: cohorts -> examples -> trainings -> predictions -> report.

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
from ml_collections import ConfigDict

from cmbjax import locks
from cmbjax.study import material as material_lib
from cmbjax.study import networks, ready, resolve, settings, train
from cmbjax.study import plan as plan_lib
from cmbjax.study import sweep as sweep_lib
from cmbjax.study.spec import Point
from cmbjax.training import hosts, record, watch, writers

if TYPE_CHECKING:
  from cmbjax.report import tables


def study(
  config: ConfigDict,
  workdir: pathlib.Path,
  *,
  sweep: Sequence[Mapping[str, Any]] = (),
  profile: bool = False,
  overwrite: bool = False,
) -> 'tables.StudyTables | None':
  """Runs one study and writes `workdir/report.html`.

  Args:
    config: as `config.load` gives it.
    workdir: gets cohorts/, examples/, models/, predictions.npz, record.json,
      report.html, results.csv and results.json.
    sweep: overrides of each point; the point with the smallest held-out loss
      is reported, of each strategy, and all are in `sweep.csv`.
    profile: writes a profile of one epoch to `workdir/profile`.
    overwrite: a run of other settings in this folder may be replaced.

  Returns:
    The tables; None in a process that is not the first.

  Raises:
    InputError: a cohort, label, split, weight or folder cannot be used.
  """
  workdir = ready.local(workdir)
  points = resolve.points(config, sweep)
  same = {f'config.{key}': v for key, v in settings.flat(config).items()}
  del same['config.simulate.jobs']  # of one machine
  hosts.check_same(same | {'sweep()': list(sweep)} | record.versions())
  checked = ready.check(points, workdir, overwrite=overwrite)
  alone = (
    locks.alone_in(workdir) if hosts.is_writer() else contextlib.nullcontext()
  )
  with alone:
    return _run(points, workdir, checked.setting, profile, overwrite)


def _run(
  points: tuple[Point, ...],
  workdir: pathlib.Path,
  setting: dict[str, Any],
  profile: bool,
  overwrite: bool,
) -> 'tables.StudyTables | None':
  study = points[0].study  # what no point of a sweep changes
  _compilation_cache(workdir)
  material = hosts.first(
    'gather',
    lambda: material_lib.gather(
      study, material_lib.find_cohorts(study, workdir), workdir
    ),
  )
  # Once more, by the people of the examples: those decide.
  material_lib.check_pretraining(study, material)
  given = {one.name: networks.load_given(one) for one in study.given}
  # Now with the examples themselves, where `ready` knew their cohorts alone.
  plan = plan_lib.plan(points, train.data_of(material, study))
  hosts.check_same({'scans': [one.fingerprint for one in plan.trainings]})
  log = record.RunRecord(workdir / 'record.json', settings.plain(study.config))
  log.write(
    setting=setting,
    fold_hash=material.folds.hash,
    sweep=[point.name for point in points if point.name],
    table=[row._asdict() for one in plan.trainings for row in one.recipe.rows],
  )
  shop = train.Workshop(material, workdir, overwrite=overwrite)
  with _observer(study.config, workdir, profile) as observer:
    done = train.train_all(plan, shop, given, observer)
  # Drawing and statistics import for a second: training does not wait.
  from cmbjax.report import printed, study_page
  from cmbjax.study import predict, tabulate

  chosen = sweep_lib.choose(plan, done, shop)
  trained = given | {n: done[one.fingerprint] for n, one in chosen.items()}
  predicted = predict.predict_all(study, shop, chosen, trained)
  if not hosts.is_writer():
    hosts.barrier('report')
    return None
  found = tabulate.tabulate(study, shop, predicted, chosen)
  page = study_page.write(found, workdir)
  print(printed.print_rows(found), flush=True)
  log.write(status='done')
  hosts.say(f'report: {page}')
  hosts.barrier('report')
  return found


@contextlib.contextmanager
def _observer(
  config: ConfigDict, workdir: pathlib.Path, profile: bool
) -> Iterator[watch.Observer]:
  """Who watches the training; only the first process writes."""
  if not hosts.is_writer():
    yield watch.Observer()
    return
  opened = writers.open_writers(
    config.writers, workdir, title=config.name, config=settings.flat(config)
  )
  observer = watch.Observer(
    workdir, writers=opened, profile=workdir / 'profile' if profile else None
  )
  try:
    yield observer
  finally:
    observer.close()


def _compilation_cache(workdir: pathlib.Path) -> None:
  """Compiled programs stay in the work folder: a resumed run starts at once."""
  if jax.config.jax_compilation_cache_dir is None:
    cache = str((workdir / 'compiled').absolute())
    jax.config.update('jax_compilation_cache_dir', cache)
    # Also quick and small programs: a resumed run compiles dozens of them.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  # One that a full disk cut short is only compiled again.
  warnings.filterwarnings('ignore', '.*persistent compilation cache entry')
