"""'module:name' in a config to the object that it names.

Rule: a module is looked for in the folder of the user's config file first,
then where Python looks anyway, then in the current folder.
"""

import ast
import contextlib
import importlib
import importlib.machinery
import inspect
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from cmbjax.errors import InputError, shown

# Folder of the config file that was read last; `study.config` sets it.
home: pathlib.Path | None = None
_found: set[str] = set()  # names of the modules that `find` has imported
_searching = threading.RLock()  # there is one `sys.path` for all threads


def is_plugin(name: str) -> bool:
  """Whether a name has the form 'module:name', so that it is not built in."""
  return isinstance(name, str) and ':' in name


def find(name: str, *, key: str, known: Mapping[str, Any]) -> Any:
  """A built-in part by its name, or any object as 'module:name'.

  Args:
    name: a key of `known`, or 'module:name' ('my_nets:Net', 'optax:lion').
    key: of the config, for messages, for example 'config.train.loss'.
    known: the built-in parts.

  Raises:
    InputError: the part is unknown, or its module cannot be imported.
  """
  if not is_plugin(name):
    if name in known:
      return known[name]
    raise InputError(
      f'{key}: is {shown(name)!r}; choose one of {", ".join(known)}, or give '
      "your own as 'module:name'."
    )
  module, _, attribute = name.partition(':')
  try:
    with searched():
      found: Any = _imported(module)
      for part in attribute.split('.'):
        found = getattr(found, part)
  # Whatever the user's own module raises; one that ends must not end us.
  except (Exception, SystemExit) as error:
    kind = type(error).__name__
    raise InputError(
      f'{key}: {shown(name)!r} cannot be imported ({kind}: {shown(error)}); '
      "give 'module:name' of a file beside your config, in the current folder "
      'or of an installed package.'
    ) from error
  return found


@contextlib.contextmanager
def tried(name: str, *, key: str, must: str, verb: str = 'used') -> Iterator:
  """A block that calls a part, whose errors become one sentence.

  Args:
    name: of the part, as the config gives it.
    key: of the config, for example 'config.train.loss'.
    must: what the part has to do, behind 'it must'.
    verb: what could not be done with it.

  Raises:
    InputError: anything was raised inside.
  """
  try:
    yield
  # Whatever somebody's own code raises; one that ends must not end us.
  except (Exception, SystemExit) as error:
    raise InputError(
      f'{key}: {shown(name)!r} cannot be {verb} ({type(error).__name__}: '
      f'{shown(error)}); it must {must}.'
    ) from error


def _imported(module: str) -> Any:
  """A module by the rule; one of another config may have the same name."""
  top = module.partition('.')[0]
  spec = importlib.machinery.PathFinder.find_spec(top)
  known = getattr(sys.modules.get(top), '__file__', None)
  if top in _found and spec and spec.origin != known:
    for name in [n for n in sys.modules if n.partition('.')[0] == top]:
      del sys.modules[name]
  if top not in sys.modules:
    _found.add(top)
  if top == 'configs':
    return importlib.import_module(module)
  with configs_importable(home):  # it may be a config itself
    return importlib.import_module(module)


def source(name: str, part: Any) -> str:
  """The source text of a plug-in, to tell two versions of it apart.

  Of the module that its name says, of the one that defines it (a
  `functools.partial` alone would say that it is of functools), and of what
  these import from their own folder: a helper decides as much.
  """
  if not is_plugin(name):
    return ''
  first = sys.modules.get(name.partition(':')[0])
  todo, texts, home = [first, inspect.getmodule(part)], {}, _home(first)
  while todo:
    module = todo.pop()
    if module is None or module.__name__ in texts:
      continue
    try:
      text = inspect.getsource(module)
    except (OSError, TypeError):  # compiled, or typed into a notebook
      text = ''
    texts[module.__name__] = text
    if home and _home(module) == home:
      todo += map(sys.modules.get, _names_in(text, module.__package__ or ''))
      todo = [one for one in todo if _home(one) == home]
  return '\n'.join(texts[one] for one in sorted(texts))


def _home(module: Any) -> pathlib.Path | None:
  """The folder that a user's module is found in; None for an installed one."""
  file = getattr(module, '__file__', None)
  if not file or 'site-packages' in (parts := pathlib.Path(file).parts):
    return None
  up = module.__name__.count('.') + (parts[-1] == '__init__.py')
  home = pathlib.Path(*parts).parents[up]
  return None if module.__name__.partition('.')[0] == 'cmbjax' else home


def _names_in(text: str, package: str) -> set[str]:
  """Full names of what might be modules in the imports of a text."""
  names: set[str] = set()
  with _searching:  # Python 3.11 counts the depth of all its parsers together
    tree = ast.parse(text)
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      up = package.split('.')[: len(package.split('.')) - node.level + 1]
      start = '.'.join(
        [*(up if node.level else []), *filter(None, [node.module])]
      )
      names |= {start, *(f'{start}.{alias.name}' for alias in node.names)}
  return names


def accepted(function: Callable, settings: Mapping[str, Any]) -> dict[str, Any]:
  """Those of the settings that a function takes by name."""
  parameters = inspect.signature(function).parameters.values()
  if any(p.kind is p.VAR_KEYWORD for p in parameters):
    return dict(settings)
  by_name = (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
  )
  names = {p.name for p in parameters if p.kind in by_name}
  return {name: value for name, value in settings.items() if name in names}


def packaged() -> pathlib.Path:
  """The configs of the package: in the wheel, or beside it in a checkout."""
  package = pathlib.Path(__file__).parent
  inside = package / 'configs'
  return inside if inside.is_dir() else package.parent / 'configs'


@contextlib.contextmanager
def configs_importable(folder: pathlib.Path | None) -> Iterator[None]:
  """Until the block ends, `configs` and `cmbjax.configs` are one package.

  Of a folder first, then of the configs of the package, in a checkout and in a
  wheel.
  """

  def known() -> dict[str, ModuleType]:
    return {
      name: one
      for name, one in sys.modules.items()
      if f'{name}.'.startswith(('configs.', 'cmbjax.configs.'))
    }

  before = known()
  for name in before:
    del sys.modules[name]
  package = ModuleType('configs')
  package.__path__ = [str(one) for one in (folder, packaged()) if one]
  sys.modules |= {'configs': package, 'cmbjax.configs': package}
  try:
    yield
  finally:
    for name in known():
      del sys.modules[name]
    sys.modules |= before


@contextlib.contextmanager
def searched() -> Iterator[None]:
  """`sys.path` with the folders of the rule, until the block ends."""
  with _searching:
    before = list(sys.path)
    sys.path[:0] = [str(home)] if home else []
    sys.path.append(os.getcwd())
    try:
      yield
    finally:
      sys.path[:] = before
