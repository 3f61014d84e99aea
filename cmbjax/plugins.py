"""'module:name' in a config to the object that it names.

Rule: a module is looked for in the folder of the user's config file first,
then in the current folder, then where Python looks anyway.
"""

import ast
import contextlib
import importlib
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
_searching = threading.RLock()  # there is one `sys.path` for all threads


def is_plugin(name: str) -> bool:
  """Whether a name has the form 'module:name', so that it is not built in."""
  return ':' in name


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
      found: Any = importlib.import_module(module)
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


def source(name: str, part: Any) -> str:
  """The source text of a plug-in, to tell two versions of it apart.

  With that of the modules beside it which it imports: what it gets from a
  helper of its own decides as much.
  """
  if not is_plugin(name):
    return ''
  module = inspect.getmodule(part)
  try:
    text = inspect.getsource(module or part)
  except (OSError, TypeError):  # compiled, or typed into a notebook
    return ''
  return ''.join(
    [text, *_beside(module, {module.__name__})] if module else text
  )


def _beside(module: ModuleType, seen: set[str]) -> Iterator[str]:
  """Source texts of what a module imports from its own folder."""
  file, package = getattr(module, '__file__', None), module.__package__ or ''
  if not file or 'site-packages' in pathlib.Path(file).parts:
    return
  home = pathlib.Path(file).parents[module.__name__.count('.')]
  for name in _imported(pathlib.Path(file).read_text('utf-8'), package):
    other = sys.modules.get(name)
    path = pathlib.Path(getattr(other, '__file__', None) or os.devnull)
    inside = path.suffix == '.py' and path.is_relative_to(home)
    if inside and name.partition('.')[0] != 'cmbjax' and name not in seen:
      seen.add(name)
      yield path.read_text('utf-8')
      yield from _beside(other, seen)


def _imported(text: str, package: str) -> list[str]:
  """Full names of what might be modules in the imports of a text."""
  names: set[str] = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      up = package.split('.')[: len(package.split('.')) - node.level + 1]
      above = up if node.level else []
      start = '.'.join([*above, *filter(None, [node.module])])
      names |= {start, *(f'{start}.{alias.name}' for alias in node.names)}
  return sorted(names)


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
