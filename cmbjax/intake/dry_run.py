"""What every command says of the files that it found.

Rule: no file is left out in silence, nor are hundreds of names printed.
"""

import pathlib
import sys
from collections.abc import Iterable

HELP = (  # of the option, in every command
  'print what would be taken for what, as a table of persons and files, and '
  'why the rest is left out; write nothing'
)
LISTED = 12  # files or names of one sentence


def show(rows: Iterable, found) -> int:
  """Prints the table of --dry-run; returns the exit code.

  Args:
    rows: of `explain.rows`.
    found: `FoundScans`, whose notes follow on the standard error.
  """
  from cmbjax.intake import explain

  print(explain.text(list(rows)))
  _notes(found)
  return 1 if found.broken else 0


def tell(source: pathlib.Path, found) -> None:
  """Says on the standard error what is not used, and what is not sure."""
  _notes(found)
  if found.left_out and found.kind == 'bids':
    _say(f'left out, without a scan: {_listed(found.left_out)}')
  if found.files:
    named = [f'{_below(source, p)} ({why})' for p, why in found.files]
    _say(f'left out: {_listed(named)}')


def _notes(found):
  for note in found.notes:
    _say(note)
  for scan in found.scans:
    for note in scan.notes:
      _say(f'{scan.name}: {note}')


def _listed(names):
  more = f' and {len(names) - LISTED} more' if len(names) > LISTED else ''
  return f'{", ".join(names[:LISTED])}{more}'


def _below(source, path):
  inside = source.is_dir() and path.is_relative_to(source)
  return str(path.relative_to(source)) if inside else path.name


def _say(text):
  print(f'note: {text}', file=sys.stderr)
