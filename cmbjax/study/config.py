"""Config files and command-line overrides to one resolved `Study`.

Rule: this is the only place that reads a config file. A wrong key or value
ends before any work starts, with the key, what was found and what is allowed.
"""

import contextlib
import copy
import dataclasses
import difflib
import importlib
import importlib.util
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from cmbjax import plugins
from cmbjax.errors import InputError, NoInputError, shown
from cmbjax.study import values
from cmbjax.study.spec import ALL, Cohort, Point, Recipe, Strategy, Study
from cmbjax.study.values import KINDS, flat, get, keys, put

__all__ = ['flat', 'get', 'keys']

TRAIN_FIRST = ('', 'train')  # values of config.pretrained

# What a strategy of its own, or a point of a sweep, may change: nothing that
# changes the examples, the folds or the tests, for then results could not be
# compared.
SETTINGS = (
  'model.name',
  'model.dtype',
  'train.augmentation',
  'train.augmenter',
  'train.batch',
  'train.bn_momentum',
  'train.loss',
  'train.min_learning_rate',
  'train.optimizer',
  'train.output_bias',
  'train.plateau_factor',
  'train.plateau_min_delta',
  'train.plateau_patience',
  'train.positive_weight',
  'train.schedule',
  'train.stop_after',
  'train.warmup',
  'train.weight_decay',
)
_LENGTHS = (
  'train.epochs',
  'train.learning_rate',
  'train.finetune_epochs',
  'train.finetune_frozen',
  'train.finetune_learning_rate',
)
SWEPT = tuple(sorted((*SETTINGS, *_LENGTHS)))
_LONGEST_NAME = 180  # with a strategy before it a file system takes it
_SWEPT_FIELDS = ('frozen', 'epochs', 'learning_rate')  # of a strategy

# Tables with a value for each cohort: key -> field of `Cohort`.
OF_COHORT = {
  'cohorts': 'folder',
  'simulate.subjects': 'subjects',
  'test_subjects': 'test',
}
_MOVED = {
  'train.combined': 'study.strategies.combined.learns',
  'train.combined_start': 'study.strategies.combined.starts',
}


def resolve(name: str) -> tuple[pathlib.Path, str]:
  """The file and the preset of `--config=NAME[:PRESET]`.

  A path that exists wins; then the configs of the package.

  Raises:
    NoInputError: there is no such file.
  """
  path, _, preset = name.partition(':')
  candidates = [pathlib.Path(path).expanduser()]
  if candidates[0].parts[:-1] in ((), ('configs',)):  # no place of one's own
    candidates.append(plugins.packaged() / candidates[0].name)
  for candidate in candidates:
    if candidate.is_file():
      return candidate, preset
  own = sorted(plugins.packaged().glob('[a-z]*.py'))
  known = [p.stem for p in own if 'def get_config(' in p.read_text('utf-8')]
  raise NoInputError(
    f'--config={name}: no such file; the configs of the package are '
    f'{", ".join(known)} as configs/NAME.py.'
  )


def load(name: str) -> ConfigDict:
  """`get_config(preset)` of a config file, with every cohort and strategy.

  Raises:
    InputError: the file has no get_config, refuses the preset, or gives other
      keys than those of configs/base.py.
  """
  config = _call(name, 'get_config')
  if not isinstance(config, ConfigDict):
    raise InputError(
      f'--config={name}: get_config() gives {shown(repr(config))}, must give '
      'what base.get_config(preset) gives, with values changed.'
    )
  try:
    lay_out(config)
  except InputError as error:
    raise InputError(f'--config={name}: {error}') from error
  found, known = keys(config), keys(_base(config))
  for key in found:
    if key not in known:
      raise InputError(f'--config={name}: {key}: {_no_such_key(key, known)}')
  for key in known:
    if key not in found:
      raise InputError(
        f'--config={name}: {key}: is missing; begin with '
        'config = base.get_config(preset).'
      )
  return config


def load_sweep(name: str) -> tuple[dict[str, Any], ...]:
  """What `sweep()` of a config file yields; nothing when it has none.

  Raises:
    InputError: it yields something other than dicts of settings.
  """
  sweep = _call(name, 'sweep')
  if not all(isinstance(point, Mapping) for point in sweep):
    raise InputError(
      f'--config={name}: sweep() has to yield dicts of settings, for example '
      "{'train.learning_rate': 1e-3}."
    )
  return tuple(dict(point) for point in sweep)


def lay_out(config: ConfigDict) -> None:
  """Strategies and cohorts of `config.study` to keys that flags can change.

  Raises:
    InputError: one is not a Strategy or Cohort, or a table of cohorts names
      one that there is not.
  """
  for key in ('study.strategies', 'study.cohorts', *OF_COHORT):
    _section(config, key)
  for part, kind in (('strategies', Strategy), ('cohorts', Cohort)):
    table = config.study[part]
    for name, one in _named(f'study.{part}', table):
      if isinstance(one, kind):
        with table.ignore_type():
          table[name] = _fields(one, f'study.{part}.{name}')
        for key, field in OF_COHORT.items() if kind is Cohort else ():
          if name not in get(config, key):
            value = getattr(one, field)
            get(config, key)[name] = -1 if value == ALL else value
      elif set(one if isinstance(one, ConfigDict) else ()) != _names(kind):
        raise InputError(
          f'study.{part}.{name}: is {shown(repr(one))}, must be a '
          f'{kind.__name__}(...) of cmbjax.study.'
        )
  for key in OF_COHORT:
    for name in get(config, key):
      if name not in config.study.cohorts:
        known = ', '.join(config.study.cohorts)
        raise InputError(
          f'{key}.{name}: there is no cohort {name}; known are {known}. Add '
          f'config.study.cohorts.{name} = Cohort(...) for a new one.'
        )


def _section(config: ConfigDict, key: str) -> None:
  at, path = config, ''
  for part in key.split('.'):
    path = f'{path}.{part}' if path else part
    if part not in at:
      raise InputError(
        f'{path}: is missing; begin with config = base.get_config(preset).'
      )
    at = at[part]
    if not isinstance(at, ConfigDict):
      raise InputError(f'{path}: is {shown(repr(at))}, must be a ConfigDict.')


def _named(key: str, table: ConfigDict) -> list[tuple[str, Any]]:
  wrong = [name for name in table if not isinstance(name, str)]
  if wrong:
    raise InputError(f'{key}: holds the name {wrong[0]!r}, must be text.')
  return list(table.items())


def _fields(one: Strategy | Cohort, key: str = '') -> ConfigDict:
  names = _names(type(one)) - {'settings'}
  out = ConfigDict({n: getattr(one, n) for n in names})
  if isinstance(one, Strategy):
    if not isinstance(one.settings, Mapping):
      raise InputError(
        f'{key}.settings: is {shown(repr(one.settings))}, must be a dict of '
        "dotted keys, for example {'train.batch': 8}."
      )
    # Dotted keys are no keys of a ConfigDict, so pairs.
    out.settings = tuple(sorted(one.settings.items(), key=repr))
  return out


def _names(kind: type) -> set[str]:
  """Fields that are keys of `config.study`, for one key decides each value."""
  names = {field.name for field in dataclasses.fields(kind)}
  return names - {*OF_COHORT.values()}


def _call(name: str, function: str):
  """What a function of a config file returns; () when it has no `sweep`."""
  path, preset = resolve(name)
  try:
    with _executed(path.resolve()) as module:
      if function == 'sweep':
        return tuple(module.sweep()) if hasattr(module, 'sweep') else ()
      if not hasattr(module, function):
        raise InputError(
          f'--config={name}: has no {function}(preset), which a config needs.'
        )
      return getattr(module, function)(preset)
  except InputError:
    raise
  except (Exception, SystemExit) as error:  # of somebody's own file
    kind = type(error).__name__
    raise InputError(f'--config={name}: {kind}: {shown(error)}') from error


@contextlib.contextmanager
def _executed(path: pathlib.Path) -> Iterator[ModuleType]:
  """The module of a config file, whose neighbours can be imported.

  `import helper`, `from . import helper` and `from configs import helper` look
  in the folder of the file first; behind it, `configs` and `cmbjax.configs`
  are the configs of the package, in a checkout and in a wheel. What came from
  the folder is forgotten afterwards: another config may have a neighbour of
  the same name.
  """
  plugins.home = path.parent
  before = set(sys.modules)
  # A name of its own: `configs.base` may be this very file.
  spec = importlib.util.spec_from_file_location(f'configs.__{path.stem}', path)
  try:
    if spec is None:
      raise InputError(f'{path}: is not a Python file.')
    module = importlib.util.module_from_spec(spec)
    with plugins.searched(), plugins.configs_importable(path.parent):
      spec.loader.exec_module(module)
      yield module
  finally:
    for name, one in list(sys.modules.items()):
      if name not in before and _lies_in(one, path.parent):
        del sys.modules[name]


def _lies_in(module: Any, folder: pathlib.Path) -> bool:
  file = getattr(module, '__file__', None)
  return bool(file) and pathlib.Path(file).parent == folder


def check_overrides(config: ConfigDict, arguments: Sequence[str]) -> None:
  """Refuses `--config.KEY` arguments whose key does not exist.

  Raises:
    InputError: names the nearest keys.
  """
  known = keys(config)
  for argument in arguments:
    if not argument.startswith('--config.'):
      continue
    key = argument[len('--config.') :].partition('=')[0]
    if key not in known:
      raise InputError(f'--config.{shown(key)}: {_no_such_key(key, known)}')


def quoted(argument: str) -> str:
  """`--config.a.3d.b=1` as the flags take it, `--config.a['3d'].b=1`."""
  if not argument.startswith('--config.'):
    return argument
  key, equals, value = argument[len('--config.') :].partition('=')
  first, *rest = key.split('.')
  path = first + ''.join(
    f'.{part}' if part.isidentifier() else f'[{part!r}]' for part in rest
  )
  return f'--config.{path}{equals}{value}'


def wrong_value(config: ConfigDict, message: str) -> str:
  """What the flags say of a value that cannot be read, as one sentence."""
  found = re.match(r'flag --config\.(\S+?)=(.*?): ', message, re.DOTALL)
  key = re.sub(r"\['(.*?)'\]", r'.\1', found[1]) if found else ''
  if key not in keys(config):
    return shown(message)
  kind = KINDS[type(get(config, key))]
  return f'config.{key}: is {shown(found[2])!r}, must be {kind}.'


def _no_such_key(key: str, known: Sequence[str]) -> str:
  if key in _MOVED:
    return f'there is no such key any more; it is {_MOVED[key]} now.'
  for table, field in OF_COHORT.items():
    if found := re.fullmatch(rf'study\.cohorts\.(\w+)\.{field}', key):
      return f'there is no such key; it is {table}.{found[1]}.'
  near = difflib.get_close_matches(key, known, n=3, cutoff=0.4)
  if near:
    return f'there is no such key; did you mean {" or ".join(near)}?'
  return 'there is no such key; all of them are in configs/base.py.'


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
        f'{", ".join(SWEPT)}, and {", ".join(_SWEPT_FIELDS)} of '
        'study.strategies.NAME.'
      )
    one = copied(config)
    try:
      for key, value in overrides.items():
        put(one, key, value)
    except (KeyError, TypeError, ValueError) as error:
      raise InputError(f'sweep(): {dict(overrides)}: {error}') from error
    out.append(
      Point(title(overrides, overrides), study_of(one), dict(overrides))
    )
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
  if key in SWEPT or not isinstance(key, str):
    return key in SWEPT
  section, _, field = key.rpartition('.')
  name = section.removeprefix('study.strategies.')
  return field in _SWEPT_FIELDS and name in config.study.strategies


def copied(config: ConfigDict) -> ConfigDict:
  """A copy whose strategies and cohorts keep their order."""
  out = copy.deepcopy(config)
  for part in ('strategies', 'cohorts'):
    items = {n: out.study[part][n] for n in config.study[part]}
    out.study[part] = ConfigDict(items, sort_keys=False)
  return out


def title(overrides: Mapping[str, Any], wanted: Sequence[str]) -> str:
  """'learning_rate=0.001,weight_decay=0.01', fit for a folder."""
  parts = []
  for key in sorted(wanted, key=_in_order):
    if key in overrides:
      value = overrides[key]
      value = f'{value:g}' if isinstance(value, float) else str(value)
      for section in ('train.', 'study.strategies.'):
        key = key.removeprefix(section)
      parts.append(f'{key}={value or "none"}')
  return re.sub(r'[^\w.,=+-]', '_', ','.join(parts))


def _in_order(key: str) -> tuple[int, str]:
  return (SWEPT.index(key) if key in SWEPT else len(SWEPT), key)


def study_of(config: ConfigDict) -> Study:
  """A config to what it means; every value is checked.

  Raises:
    InputError: names the key, the value found and what is allowed.
    NoInputError: a cohort or weights folder does not exist.
  """
  values.check_kinds(config, _base(config))
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
  settings = {str(key): value for key, value in pairs}
  for key in settings:
    if key not in SETTINGS:
      raise InputError(
        f'config.study.strategies.{name}.settings: holds {key!r}; allowed are '
        f'{", ".join(SETTINGS)}; epochs, learning_rate and frozen are fields '
        'of the strategy.'
      )
  plain = {key: value for key, value in fields.items() if key != 'settings'}
  return Strategy(**plain, settings=settings)


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
  )


def _given(
  config: ConfigDict, strategies: Mapping[str, Strategy]
) -> dict[str, pathlib.Path]:
  """Folders of the strategies whose weights are given.

  `config.pretrained` stands for the one that others start from.
  """
  given = {
    n: (f'study.strategies.{n}.weights', s.weights)
    for n, s in strategies.items()
    if s.weights
  }
  if config.pretrained not in TRAIN_FIRST:
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
  from cmbjax.weights import catalogue

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
  for name in strategies:
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
    config = copied(config)
    for key, value in strategy.settings.items():
      of = f'config.study.strategies.{name}.settings'
      values.assign(config, key, value, of=of)
    values.check_numbers(config)
  from cmbjax.training.replicas import Replica

  train, tuned = config.train, bool(strategy.starts)
  rate = train.finetune_learning_rate if tuned else train.learning_rate
  if 0 < strategy.learning_rate < train.min_learning_rate:
    raise InputError(
      f'config.study.strategies.{name}.learning_rate: is '
      f'{strategy.learning_rate:g}, below config.train.min_learning_rate '
      f'({train.min_learning_rate:g}); raise it, or lower the other.'
    )
  rows = tuple(
    Replica(
      strategy=name,
      fold=fold,
      seed=seed,
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
    for seed in train.seeds
    for fold in range(train.folds)
  )
  epochs = train.finetune_epochs if tuned else train.epochs
  return Recipe(name, strategy, config, folder, rows, strategy.epochs or epochs)


def _base(config: ConfigDict) -> ConfigDict:
  """configs/base.py, with the strategies and cohorts of a config."""
  home = plugins.home
  base = _call(str(plugins.packaged() / 'base.py'), 'get_config')
  plugins.home = home
  for part, kind in (('strategies', Strategy), ('cohorts', Cohort)):
    base.study[part] = ConfigDict(
      {name: _fields(kind(label='')) for name in config.study[part]}
    )
  for name in config.study.cohorts:
    for key in OF_COHORT:
      get(base, key)[name] = '' if key == 'cohorts' else 0
  return base
