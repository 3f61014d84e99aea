"""'module:name' in a config to the object that it names.

Rule: a module is looked for in the folder of the user's config file first,
then in the current folder, then where Python looks anyway.
"""

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
    InputError: there is no such part, or its module cannot be imported.
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
  except Exception as error:  # whatever the user's own module raises
    kind = type(error).__name__
    raise InputError(
      f'{key}: {shown(name)!r} cannot be imported ({kind}: {shown(error)}); '
      "give 'module:name' of a file beside your config, in the current folder "
      'or of an installed package.'
    ) from error
  return found


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

  Of the module that its name says, of the one that defines it, and of what
  these import from the folder of the first: a `functools.partial` alone would
  say that it is of functools.
  """
  if not is_plugin(name):
    return ''
  first = sys.modules.get(name.partition(':')[0])
  todo, texts = [first, inspect.getmodule(part)], {}
  while todo:
    module = todo.pop()
    if module is None or module.__name__ in texts:
      continue
    try:
      texts[module.__name__] = inspect.getsource(module)
    except (OSError, TypeError):  # compiled, or typed into a notebook
      texts[module.__name__] = ''
    for value in list(vars(module).values()):
      of = value if inspect.ismodule(value) else inspect.getmodule(value)
      if _folder(of) and _folder(of) == _folder(first):
        todo.append(of)
  return '\n'.join(texts[one] for one in sorted(texts))


def _folder(module: Any) -> str:
  return os.path.dirname(getattr(module, '__file__', None) or '')


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
