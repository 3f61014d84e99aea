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

SECTIONS = {
  'Args:': 'Arguments',
  'Attributes:': 'Attributes',
  'Returns:': 'Returns',
  'Yields:': 'Yields',
  'Raises:': 'Raises',
}


def connect(app) -> None:
  """Hooks into autodoc."""
  app.connect('autodoc-process-docstring', _process)
  app.connect('autodoc-skip-member', _skip)


def marked_up(lines: list[str]) -> list[str]:
  """Plain lines to reStructuredText: sections to lists, columns kept."""
  out: list[str] = []
  at = 0
  while at < len(lines):
    line = lines[at]
    if line in SECTIONS:
      block, at = indented(lines, at + 1)
      out += ['', f'**{SECTIONS[line]}**', '', *items(block), '']
    elif line.startswith(' ') and (not out or not out[-1].strip()):
      block, at = indented(lines, at)
      out += ['::', '', *(f'  {text}' for text in block), '']
    else:
      out.append(escape(line))
      at += 1
  return out


def indented(lines: list[str], at: int) -> tuple[list[str], int]:
  """The block of indented (or empty) lines from `at`, and where it ends."""
  end = at
  while end < len(lines) and (not lines[end] or lines[end].startswith(' ')):
    end += 1
  return textwrap.dedent('\n'.join(lines[at:end])).strip('\n').split('\n'), end


def items(block: list[str]) -> list[str]:
  """'name: what' with lines that go on further in, to a list."""
  out: list[str] = []
  for line in block:
    named = re.match(r'([\w*][\w*, .]{0,60}?): (.*)', line)
    if named:
      out.append(f'- **{escape(named[1])}**: {escape(named[2])}')
    elif out and out[0].startswith('- '):
      out.append(f'  {escape(line.strip())}'.rstrip())
    else:
      out.append(escape(line.strip()))
  return out


def escape(line: str) -> str:
  """Stars, bars and trailing underscores outside of backticks, made plain."""
  bullet = re.match(r'\s*[*-] ', line)
  start = bullet[0] if bullet else ''
  parts = re.split(r'(`+[^`]*`+)', line[len(start) :])
  for i in range(0, len(parts), 2):
    parts[i] = re.sub(r'([*|\\])', r'\\\1', parts[i])
    parts[i] = re.sub(r'(\w)_(?!\w)', r'\1\\_', parts[i])
  return start + ''.join(parts)


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
  told = list(lines)
  lines[:] = marked_up(told)
  if what == 'class' and _is_record(thing):
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
