"""A config to the text of what it would train: `--mode=dryrun`.

Rule: it is the run's own plan, after the run's own checks; nothing is
simulated, built, compiled or trained.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from cmbjax.progress import readable
from cmbjax.study import cost, ready, resolve
from cmbjax.study.plan import Planned
from cmbjax.study.settings import SETTINGS, get

# Columns of the table that are always there: heading, field of a row.
_COLUMNS = {
  'rate': 'learning_rate',
  'decay': 'weight_decay',
  'patience': 'patience',
  'weight': 'positive_weight',
  'augment': 'augmentation',
  'frozen': 'frozen',
}
# Settings that these columns show already.
_IN_TABLE = (
  'model.name',
  'train.augmentation',
  'train.batch',
  'train.plateau_patience',
  'train.positive_weight',
  'train.weight_decay',
)
_SHOWN = ('network', 'batch', 'epochs', 'steps')


def describe(
  config: ConfigDict,
  workdir: pathlib.Path,
  sweep: Sequence[dict] = (),
  *,
  overwrite: bool = False,
) -> str:
  """The text.

  Args:
    config: as for `run.study`.
    workdir: of the run.
    sweep: overrides of each point.
    overwrite: as for `run.study`.

  Raises:
    InputError, NoInputError: whatever the run would end with before its work.
  """
  workdir = ready.local(workdir)
  points = resolve.points(config, sweep)
  checked = ready.check(points, workdir, overwrite=overwrite)
  plan, costs, study = checked.plan, checked.costs, points[0].study
  total = sum(len(one.recipe.rows) for one in plan.trainings)
  programs = len({one.program for one in plan.trainings})
  out = [
    f'{config.name}: {total} trainings, {programs} '
    f'program{"s" if programs > 1 else ""}, {len(plan.calls)} '
    f'call{"s" if len(plan.calls) > 1 else ""}; nothing is trained now',
    '',
    *_table(plan.trainings, costs.candidates),
    '',
  ]
  for recipe in study.given:
    out.append(f'{recipe.name}: weights of {recipe.folder}, not trained.')
  out += [f'Candidates: {costs.counted}.', '']
  for number, call in enumerate(plan.calls, 1):
    out.append(_call(number, call, costs.candidates))
  where = 'of this process' if cost.on_cpu() else 'on the device'
  out += [
    f'Memory: about {costs.bytes / 1e9:.1f} GB {where} (estimated).',
    f'Time: about {costs.seconds:.0f} s, {readable(costs.seconds)}, for the '
    f'training ({costs.measured}).',
  ]
  # Times were measured on idle cores.
  load, cores = os.getloadavg()[0], os.cpu_count() or 1
  if cost.on_cpu() and load > cores / 2:
    out.append(
      f'Other work is running here now (load {load:.1f} on {cores} cores): '
      f'up to {(load + cores) / cores:.0f} times as long.'
    )
  return '\n'.join(out)


def _table(
  trainings: Sequence[Planned], counts: Mapping[str, int]
) -> list[str]:
  """One line a training; a further column for each setting that differs."""
  more = [
    key
    for key in SETTINGS
    if len({str(get(one.recipe.config, key)) for one in trainings}) > 1
    and key not in _IN_TABLE
  ]
  lines = [['strategy', 'folds', 'seeds', *_COLUMNS, *_SHOWN]]
  lines[0] += [key.removeprefix('train.') for key in more]
  for one in trainings:
    config, row = one.recipe.config, one.recipe.rows[0]
    cells = [one.recipe.name, config.train.folds, len(config.train.seeds)]
    cells += [getattr(row, field) or '-' for field in _COLUMNS.values()]
    cells += [config.model.name, config.train.batch, one.recipe.epochs]
    cells += [cost.num_steps(one, counts)]
    cells += [get(config, key) for key in more]
    lines.append([f'{c:g}' if isinstance(c, float) else str(c) for c in cells])
  widths = [max(map(len, column)) for column in zip(*lines)]
  return [
    '  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
    for line in lines
  ]


def _call(
  number: int, call: Sequence[Planned], counts: Mapping[str, int]
) -> str:
  config = call[0].recipe.config
  strategies = ', '.join(dict.fromkeys(one.recipe.name for one in call))
  rows = sum(len(one.recipe.rows) for one in call)
  steps = max(one.recipe.epochs * cost.num_steps(one, counts) for one in call)
  return (
    f'Call {number}: {rows} networks at once ({strategies}); '
    f'{config.model.name} ({cost.network(call[0]).parameters:,} parameters), '
    f'{config.model.dtype}, batch {config.train.batch}; {steps:,} steps.'
  )
