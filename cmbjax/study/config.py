"""Config files and command-line overrides to a config with every key.

Rule: this is the only place that reads a config file. A wrong key ends here,
with the nearest ones; what the values mean is for `resolve`.
"""

import contextlib
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
from cmbjax.study.settings import KINDS, OF_COHORT, get, keys
from cmbjax.study.spec import ALL, Cohort, Strategy


def locate(name: str) -> tuple[pathlib.Path, str]:
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
  found, known = keys(config), keys(base_of(config))
  for key in found:
    if key not in known:
      raise InputError(f'--config={name}: {key}: {_no_such_key(key, known)}')
  # Nothing is filled in silently: a config shows all that it means.
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
            # A flag has one type, so 'all' is -1 on the command line.
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
    # A ConfigDict takes no key with a dot, so these are pairs.
    out.settings = tuple(sorted(one.settings.items(), key=repr))
  return out


def _names(kind: type) -> set[str]:
  """Fields that are keys of `config.study`, for one key decides each value."""
  names = {field.name for field in dataclasses.fields(kind)}
  return names - {*OF_COHORT.values()}


def _call(name: str, function: str):
  """What a function of a config file returns; () when it has no `sweep`."""
  path, preset = locate(name)
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
  for table, field in OF_COHORT.items():
    if found := re.fullmatch(rf'study\.cohorts\.(\w+)\.{field}', key):
      return f'there is no such key; it is {table}.{found[1]}.'
  # Below 0.4 the nearest keys have nothing to do with it.
  near = difflib.get_close_matches(key, known, n=3, cutoff=0.4)
  if near:
    return f'there is no such key; did you mean {" or ".join(near)}?'
  return 'there is no such key; all of them are in configs/base.py.'


def base_of(config: ConfigDict) -> ConfigDict:
  """configs/base.py, with the strategies and cohorts of a config."""
  home = plugins.home  # reading a file moves it there
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
