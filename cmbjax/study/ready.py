"""Whether a study can be run in a folder: every check before any work.

Rule: the run and its dry run make the same checks. A folder belongs to one
setting: what another one left in it is never deleted or replaced silently.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from cmbjax import doors, files
from cmbjax.candidates import stages
from cmbjax.errors import InputError
from cmbjax.evaluation import metrics
from cmbjax.study import cost, material, networks, settings
from cmbjax.study import plan as plan_lib
from cmbjax.study.spec import Point
from cmbjax.training import optim, writers

# What may differ between two runs in one folder: it changes no number.
_FREE = (
  'name',
  'study.paper',
  'study.rows',
  'study.claims',
  'writers',
  'simulate.jobs',
  'model.convolution',
  'train.backend',
  'train.width',
  'train.data_parallel',
  'train.save_every_s',
  'evaluation.batch',
)
_MOST_KEYS = 5  # in a message


class Checked(NamedTuple):
  """What is known before any work.

  Attributes:
    setting: dotted key -> value of all that decides the results; the work
      folder belongs to it.
    plan: the trainings, their examples known by their cohorts alone.
    costs: of the plan.
  """

  setting: dict[str, Any]
  plan: plan_lib.Plan
  costs: cost.Costs


def local(workdir: str | os.PathLike) -> pathlib.Path:
  """The work folder, on a file system of this machine.

  Raises:
    InputError: it is the address of another one.
  """
  if '://' in str(workdir):
    raise InputError(
      f'--workdir: {workdir} is a remote address; a run needs a folder of a '
      'file system (checkpoints are locked and replaced there). Mount the '
      'bucket, or copy the folder when the run has ended.'
    )
  return pathlib.Path(workdir).expanduser()


def check(
  points: Sequence[Point], workdir: pathlib.Path, *, overwrite: bool = False
) -> Checked:
  """Refuses what would end a run later, before anything is made.

  Args:
    points: of the sweep, or the one study.
    workdir: of the run.
    overwrite: a run of other settings there may be replaced.

  Raises:
    InputError: settings, folders, weights, people or devices that do not fit.
    NoInputError: a cohort without a scan, or weights that are not there.
  """
  study = points[0].study
  setting = setting_of(points)
  _check_owner(workdir, setting, overwrite)
  writers.check(study.config.writers)
  _check_parts(points)
  networks.check_layers(points)
  networks.check_starts(points)
  for point in points:  # networks may differ between them
    networks.check_given(point.study)
  given = material.check_people(study)
  # Examples are known by their cohorts alone: none is built yet.
  plan = plan_lib.plan(points)
  costs = cost.costs(study, plan.calls, workdir, given)
  cost.check_memory(costs)
  return Checked(setting, plan, costs)


def _check_parts(points: Sequence[Point]) -> None:
  """Finds everything that a config names, and the devices.

  Raises:
    InputError: a part that there is not, or that cannot be used.
  """
  config, runners = points[0].study.config, {}
  stages.find(config.candidates)
  own = config.evaluation.metrics
  for name in own:
    metrics.own(name)
  if len(set(own)) < len(own):
    raise InputError(f'config.evaluation.metrics: holds one twice, {own}.')
  for recipe in (r for point in points for r in point.study.recipes.values()):
    program = plan_lib.program_of(recipe.config)
    if program not in runners:
      runners[program] = networks.make_runner(recipe.config)
    if recipe.is_trained:
      optim.check_decay(runners[program].optimizer, recipe.rows)
      optim.rates(recipe.rows[0], recipe.epochs)


def setting_of(points: Sequence[Point]) -> dict[str, Any]:
  """What decides the results of a run."""
  config = points[0].study.config
  plain = {
    key: settings.plain(value)
    for key, value in settings.flat(config).items()
    if key not in _FREE and not key.endswith('.label')
  }
  if any(point.name for point in points):
    plain['sweep()'] = [settings.plain(point.overrides) for point in points]
    for key in {key for point in points for key in point.overrides}:
      plain.pop(key, None)
  return plain


def _check_owner(
  workdir: pathlib.Path, setting: dict[str, Any], overwrite: bool
) -> None:
  """Refuses a folder of another setting.

  Raises:
    InputError: names the keys that differ, and the ways out.
  """
  files.check_place(workdir, utf8=True)
  path = workdir / 'record.json'
  there = doors.is_there(path) or (workdir / 'models').is_dir()
  if overwrite or not there:
    return
  ways = (
    'give another --workdir, or --overwrite to go on here with the new '
    'settings; what they change is then replaced.'
  )
  try:
    known = files.read_object(path)['setting']
  except (InputError, KeyError):
    raise InputError(
      f'{workdir}: holds a run, but not its settings (record.json is of an '
      f'earlier version of cmbjax, or damaged); {ways}'
    ) from None
  differ = [
    f'{key} was {known.get(key, "not there")!r}, is '
    f'{setting.get(key, "not there")!r}'
    for key in sorted({*known, *setting})
    if known.get(key, ways) != setting.get(key, ways)
  ]
  if differ:
    more = len(differ) - _MOST_KEYS
    rest = f'; and {more} more' if more > 0 else ''
    raise InputError(
      f'{workdir}: belongs to a run of other settings: '
      f'{"; ".join(differ[:_MOST_KEYS])}{rest}. To keep it, {ways}'
    )
