"""Our docstrings, which are plain text, as Sphinx wants them.

Rule: no word is changed; fields get the comments that stand beside them in the
source, for that is where shapes and units are.
"""

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize

# Before napoleon (500) looks for Args and Returns.
_EARLY = 400


def connect(app) -> None:
  """Hooks into autodoc."""
  app.connect('autodoc-process-docstring', _process, priority=_EARLY)
  app.connect('autodoc-skip-member', _skip)


def escape(line: str) -> str:
  """Stars, bars and trailing underscores outside of backticks, made plain."""
  parts = re.split(r'(`+[^`]*`+)', line)
  for i in range(0, len(parts), 2):
    parts[i] = re.sub(r'([*|\\])', r'\\\1', parts[i])
    parts[i] = re.sub(r'(\w)_(?!\w)', r'\1\\_', parts[i])
  return ''.join(parts)


def fields(thing) -> list[tuple[str, str]]:
  """(name, comment beside it) of a NamedTuple's or dataclass's own fields."""
  try:
    source = textwrap.dedent(inspect.getsource(thing))
  except (OSError, TypeError):
    return []
  comments = {}
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      comments[token.start[0]] = token.string.lstrip('# ')
  body = ast.parse(source).body[0].body
  return [
    (node.target.id, comments.get(node.end_lineno, ''))
    for node in body
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
  ]


def _process(app, what, name, thing, options, lines) -> None:
  lines[:] = [escape(line) for line in lines]
  if what == 'class' and _is_record(thing):
    told = '\n'.join(lines)
    rows = [f'- `{n}`: {escape(c)}' for n, c in fields(thing) if c]
    if rows and 'Attributes:' not in told:
      lines += ['', 'Fields:', '', *rows, '']


def _skip(app, what, name, thing, skip, options):
  """Fields stand in the class's own text."""
  return True if type(thing).__name__ == '_tuplegetter' else None


def _is_record(thing) -> bool:
  if not isinstance(thing, type):
    return False
  return hasattr(thing, '_fields') or dataclasses.is_dataclass(thing)
