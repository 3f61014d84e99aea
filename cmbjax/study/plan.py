"""Points of a sweep to the trainings that they need, and to calls of them.

Rule: a training is planned once. Points that agree on everything that decides
a training share it; the run and its dry run read the same plan.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cmbjax import files, plugins
from cmbjax.study import settings
from cmbjax.study.spec import Point, Recipe

# Part of every fingerprint: raise it when the same settings would give other
# numbers than before.
NUMBERS_VERSION = 3

# Parts that a config may bring itself, as 'module:name'.
PARTS = (
  'model.name',
  'train.loss',
  'train.augmenter',
  'train.optimizer',
  'train.schedule',
)


class Planned(NamedTuple):
  """One training: R rows that share a pool, a length and a program.

  Attributes:
    recipe: what is trained.
    variant: point of a sweep, '' for none.
    fingerprint: of everything that decides its numbers.
    source: fingerprint of the training whose weights it starts from.
    given: name of the strategy whose given weights it starts from.
    wave: how many trainings have to come before it, one after the other.
  """

  recipe: Recipe
  variant: str
  fingerprint: str
  source: str | None
  given: str | None
  wave: int

  @property
  def name(self) -> str:
    """'scratch' or 'scratch@learning_rate=0.001'; also a folder."""
    return self.recipe.name + (f'@{self.variant}' if self.variant else '')

  @property
  def program(self) -> tuple:
    """What decides a compiled program, besides the number of its rows."""
    train = self.recipe.config.train
    return (*program_of(self.recipe.config), train.batch)


class Plan(NamedTuple):
  """All trainings of a study.

  Attributes:
    at: (strategy, name of a point) -> its training.
    trainings: the different ones, in the order in which they can be done.
    calls: trainings that run at once, each in one call of one program; those
      that wait for the weights of others come after them.
  """

  at: Mapping[tuple[str, str], Planned]
  trainings: tuple[Planned, ...]
  calls: tuple[tuple[Planned, ...], ...]


def plan(
  points: Sequence[Point], data: Mapping[tuple[str, ...], Any] | None = None
) -> Plan:
  """The trainings of all points.

  Args:
    points: see `resolve.points`.
    data: content of the examples and folds of some cohorts, by their names;
      None: the names are enough.
  """
  at: dict[tuple[str, str], Planned] = {}
  known: dict[str, Planned] = {}
  taken: dict[tuple[str, str], int] = {}
  for point in points:
    for recipe in point.study.trained:
      start, learns = recipe.strategy.starts, recipe.strategy.learns
      source = at.get((start, point.name))
      begins = None
      if start:
        known_start = point.study.recipes[start].known  # of given weights
        begins = source.fingerprint if source else known_start['fingerprint']
      mark = fingerprint(recipe, data[learns] if data else learns, begins)
      if mark not in known:
        variant = _variant(point, recipe)
        # Two trainings of one name would share a folder.
        place = recipe.name, variant
        taken[place] = taken.get(place, 0) + 1
        variant += f',{taken[place]}' if taken[place] > 1 else ''
        known[mark] = Planned(
          recipe=recipe,
          variant=variant,
          fingerprint=mark,
          source=source.fingerprint if source else None,
          given=start if start and not source else None,
          wave=source.wave + 1 if source else 0,
        )
      at[recipe.name, point.name] = known[mark]
  # What others start from comes first; sorting keeps the order within a wave.
  trainings = tuple(sorted(known.values(), key=lambda one: one.wave))
  calls: dict[tuple, list[Planned]] = {}
  for one in trainings:
    calls.setdefault((one.wave, one.program), []).append(one)
  return Plan(at, trainings, tuple(map(tuple, calls.values())))


def fingerprint(recipe: Recipe, data: Any, source: str | None) -> str:
  """Of everything that decides the numbers of a training, and its name.

  Args:
    recipe: what is trained.
    data: content of its examples and folds, or names of its cohorts.
    source: fingerprint of the weights that it starts from; None: fresh ones.
  """
  config = recipe.config
  rows = [row._asdict() for row in recipe.rows]
  decides = ('model.name', 'model.dtype', 'train.bn_momentum', 'train.batch')
  decides += ('train.stop_after', 'train.output_bias', 'train.loss')
  decides += ('train.augmenter', 'train.optimizer', 'channels', 'patches')
  return files.digest(
    NUMBERS_VERSION,
    data,
    rows,
    recipe.epochs,
    {key: settings.get(config, key) for key in decides},
    {key: source_of(config, key) for key in PARTS},
    source,
  )


def source_of(config, key: str) -> str:
  """The source text of a part that is not built in; else ''."""
  name = settings.get(config, key)
  if not plugins.is_plugin(name):
    return ''
  return plugins.source(name, plugins.find(name, key=f'config.{key}', known={}))


def program_of(config) -> tuple:
  """What decides a network and its step, as they are compiled."""
  # Rates, weights and strengths are arrays of the program: they may differ
  # between its rows without another compilation.
  return (
    config.model.name,
    config.model.dtype,
    config.model.convolution,
    config.train.bn_momentum,
    config.train.loss,
    config.train.augmenter,
    config.train.optimizer,
    tuple(config.channels),
  )


def _variant(point: Point, recipe: Recipe) -> str:
  """The part of a point's name that matters for one strategy.

  What matters for a training matters for all that start from it.
  """
  chain: list[Recipe] = []
  at: Recipe | None = recipe
  while at is not None and at.is_trained:
    chain.append(at)
    at = point.study.recipes.get(at.strategy.starts)
  wanted = [
    key for key in point.overrides if any(_matters(key, one) for one in chain)
  ]
  return settings.title(point.overrides, wanted)


def _matters(key: str, recipe: Recipe) -> bool:
  """Whether a key of a sweep changes a training, whatever it starts from."""
  strategy = recipe.strategy
  if key.startswith('study.'):
    return key.startswith(f'study.strategies.{recipe.name}.')
  if key in strategy.settings:
    return False
  field = key.removeprefix('train.').removeprefix('finetune_')
  if field not in ('epochs', 'learning_rate', 'frozen'):
    return True
  tunes = key.startswith('train.finetune_')
  return tunes == bool(strategy.starts) and not getattr(strategy, field)
