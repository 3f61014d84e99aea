"""A config to what it means: one `Study`, or one for each point of a sweep.

Rule: everything is decided here, once. A wrong value ends before any work
starts, with the key, what was found and what is allowed.
"""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from cmbjax.errors import InputError, NoInputError, shown
from cmbjax.study import settings, values
from cmbjax.study.config import base_of
from cmbjax.study.spec import ALL, Cohort, Point, Recipe, Strategy, Study
from cmbjax.training import checkpoint
from cmbjax.training.replicas import Replica
from cmbjax.weights import catalogue

_TRAIN_FIRST = ('', 'train')  # values of config.pretrained
_OF_GIVEN = (  # what weights.json says of given weights
  *('model', 'model_code', 'patches', 'channels', 'candidates'),
  *('candidates_code', 'persons', 'replicas', 'fingerprint'),
)
_LONGEST_NAME = 180  # with a strategy before it a file system takes it


def points(
  config: ConfigDict, sweep: Sequence[Mapping[str, Any]] = ()
) -> tuple[Point, ...]:
  """A config and the overrides of its sweep to one checked study each.

  Raises:
    InputError: a wrong value, a key that cannot be swept, or a point twice.
    NoInputError: a cohort or weights folder does not exist.
  """
  if not sweep:
    return (Point('', study_of(config), {}),)
  out = []
  for overrides in sweep:
    wrong = [key for key in overrides if not _can_be_swept(config, key)]
    if wrong:
      raise InputError(
        f'sweep(): {wrong[0]!r} cannot be swept; allowed are '
        f'{", ".join(settings.SWEPT)}, and '
        f'{", ".join(settings.SWEPT_FIELDS)} of study.strategies.NAME.'
      )
    one = settings.copied(config)
    for key, value in overrides.items():
      settings.assign(one, key, value, of=f'sweep(): {dict(overrides)}')
    out.append(
      Point(
        settings.title(overrides, overrides), study_of(one), dict(overrides)
      )
    )
  # A name is a folder: two points of one would overwrite each other.
  names = [point.name for point in out]
  if len(set(names)) < len(names) or '' in names:
    raise InputError('sweep(): yields the same point twice, or an empty one.')
  if long := [name for name in names if len(name) > _LONGEST_NAME]:
    raise InputError(
      f'sweep(): the point {shown(long[0])} becomes a folder, of more than '
      f'{_LONGEST_NAME} signs; change fewer keys, or give shorter values.'
    )
  return tuple(out)


def _can_be_swept(config: ConfigDict, key: Any) -> bool:
  if key in settings.SWEPT or not isinstance(key, str):
    return key in settings.SWEPT
  section, _, field = key.rpartition('.')
  name = section.removeprefix('study.strategies.')
  return field in settings.SWEPT_FIELDS and name in config.study.strategies


def study_of(config: ConfigDict) -> Study:
  """A config to what it means; every value is checked.

  Raises:
    InputError: names the key, the value found and what is allowed.
    NoInputError: a cohort or weights folder does not exist.
  """
  values.check_kinds(config, base_of(config))
  strategies = {n: _strategy(n, s) for n, s in config.study.strategies.items()}
  cohorts = {name: _cohort(config, name) for name in config.study.cohorts}
  values.check(config, strategies, cohorts)
  folders = _given(config, strategies)
  recipes = {
    name: recipe(config, name, strategies[name], folders.get(name))
    for name in _needed(strategies, config.strategies, folders)
  }
  learned = {
    n for r in recipes.values() if r.is_trained for n in r.strategy.learns
  }
  study = Study(
    config=config,
    recipes=recipes,
    reported=tuple(config.strategies),
    cohorts={
      name: one
      for name, one in cohorts.items()
      if name in learned or name in config.tests
    },
    labels={name: one.label for name, one in cohorts.items()},
    tests=tuple(config.tests),
    numbers={(row.strategy, row.test): row.number for row in config.study.rows},
    claims=tuple(config.study.claims),
    paper=config.study.paper,
  )
  values.check_study(study)
  return study


def _strategy(name: str, fields: ConfigDict) -> Strategy:
  pairs = fields.settings
  if not all(isinstance(p, tuple) and len(p) == 2 for p in pairs) or len(
    {repr(key) for key, _ in pairs}
  ) < len(pairs):
    raise InputError(
      f'config.study.strategies.{name}.settings: is {shown(repr(pairs))}, must '
      "be pairs of different keys and values, for example (('train.batch',8),)."
    )
  own = {str(key): value for key, value in pairs}
  for key in own:
    if key not in settings.SETTINGS:
      raise InputError(
        f'config.study.strategies.{name}.settings: holds {key!r}; allowed are '
        f'{", ".join(settings.SETTINGS)}; epochs, learning_rate and frozen are '
        'fields of the strategy.'
      )
  plain = {key: value for key, value in fields.items() if key != 'settings'}
  return Strategy(**plain, settings=own)


def _cohort(config: ConfigDict, name: str) -> Cohort:
  one = config.study.cohorts[name]
  held = config.test_subjects[name]
  return Cohort(
    label=one.label,
    protocol=one.protocol,
    folder=config.cohorts[name],
    subjects=config.simulate.subjects[name],
    test=ALL if held == -1 else held,
    first=one.first,
    families=one.families,
    lesions=one.lesions,
  )


def _given(
  config: ConfigDict, strategies: Mapping[str, Strategy]
) -> dict[str, pathlib.Path]:
  """Folders of the strategies whose weights are given.

  `config.pretrained` gives those of the one that others start from.
  """
  given = {
    n: (f'study.strategies.{n}.weights', s.weights)
    for n, s in strategies.items()
    if s.weights
  }
  if config.pretrained not in _TRAIN_FIRST:
    # It names no strategy: there has to be one that it can mean.
    first = {
      s.starts for s in strategies.values() if s.starts and not s.weights
    }
    first = sorted(n for n in first if not strategies[n].starts)
    if len(first) != 1:
      raise InputError(
        f'config.pretrained: is {config.pretrained!r}, which stands for the '
        'strategy that others start from, and here these are '
        f'{", ".join(first) or "none"}; set weights of '
        'config.study.strategies.NAME instead.'
      )
    if first[0] in given:
      raise InputError(
        f'config.pretrained: is {config.pretrained!r}, but weights of '
        f'config.study.strategies.{first[0]} are {given[first[0]][1]!r}; take '
        'one of the two away.'
      )
    given[first[0]] = 'pretrained', config.pretrained
  return {name: _weights_folder(*pair) for name, pair in given.items()}


def _weights_folder(key: str, given: str) -> pathlib.Path:
  """Bundled weights by their name, else a folder.

  Raises:
    NoInputError: there is neither.
  """
  if given in catalogue.NAMES:
    return catalogue.folder(given)
  path = pathlib.Path(given).expanduser()
  if not path.is_dir():
    raise NoInputError(
      f'config.{key}: {given!r} is not a folder; give a folder models/NAME of '
      f'an earlier run, one of {", ".join(catalogue.NAMES)} for bundled '
      'weights, or leave it empty to train them.'
    )
  return path


def _needed(
  strategies: Mapping[str, Strategy],
  wanted: Sequence[str],
  given: Mapping[str, Any],
) -> list[str]:
  """The wanted ones and what they start from, each after its start.

  Otherwise in the order of the config.
  """
  needed, todo = set(), list(wanted)
  while todo:
    name = todo.pop()
    if name not in needed:
      needed.add(name)
      if strategies[name].starts and name not in given:
        todo.append(strategies[name].starts)
  out: list[str] = []
  for name in strategies:  # so that tables keep the order of the config
    chain = []
    while name in needed and name not in out:
      chain.append(name)
      name = '' if name in given else strategies[name].starts
    out += reversed(chain)
  return out


def recipe(
  config: ConfigDict,
  name: str,
  strategy: Strategy,
  folder: pathlib.Path | None = None,
) -> Recipe:
  """A strategy with every setting filled in.

  Args:
    config: of the study.
    name: of the strategy.
    strategy: as the config gives it.
    folder: of its weights, where they are given.
  """
  if strategy.settings:
    config = settings.copied(config)
    for key, value in strategy.settings.items():
      of = f'config.study.strategies.{name}.settings'
      settings.assign(config, key, value, of=of)
    values.check_numbers(config)
  known: Mapping[str, Any] = {}
  if folder is not None:
    known, config = checkpoint.read_record(folder), settings.copied(config)
    lacking = [key for key in _OF_GIVEN if key not in known]
    if lacking:
      raise InputError(
        f'{folder}/weights.json: has no {lacking[0]}, so another version wrote '
        'it; train again.'
      )
    config.model.name = known['model']
  tuned = bool(strategy.starts)
  epochs = config.train.finetune_epochs if tuned else config.train.epochs
  return Recipe(
    name=name,
    strategy=strategy,
    config=config,
    folder=folder,
    known=known,
    rows=_replicas(name, strategy, config.train),
    epochs=strategy.epochs or epochs,
  )


def _replicas(
  name: str, strategy: Strategy, train: ConfigDict
) -> tuple[Replica, ...]:
  """The rows of the replica table: seeds x folds."""
  tuned = bool(strategy.starts)
  rate = train.finetune_learning_rate if tuned else train.learning_rate
  if 0 < strategy.learning_rate < train.min_learning_rate:
    raise InputError(
      f'config.study.strategies.{name}.learning_rate: is '
      f'{strategy.learning_rate:g}, below config.train.min_learning_rate '
      f'({train.min_learning_rate:g}); raise it, or lower the other.'
    )
  one = Replica(
    strategy=name,
    fold=0,
    seed=0,
    learning_rate=strategy.learning_rate or rate,
    min_learning_rate=train.min_learning_rate,
    weight_decay=train.weight_decay,
    patience=train.plateau_patience,
    plateau_factor=train.plateau_factor,
    min_delta=train.plateau_min_delta,
    positive_weight=train.positive_weight,
    augmentation=train.augmentation,
    frozen=strategy.frozen or (train.finetune_frozen if tuned else ''),
    schedule=train.schedule,
    warmup=train.warmup,
  )
  pairs = itertools.product(train.seeds, range(train.folds))
  return tuple(one._replace(seed=seed, fold=fold) for seed, fold in pairs)
