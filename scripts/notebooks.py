#!/usr/bin/env python3
"""Runs the notebooks, offline, and keeps what they show.

  python scripts/notebooks.py                  # all; writes them back
  python scripts/notebooks.py 01 --check       # only whether it runs

Rule: a notebook runs in an empty folder, from top to bottom; what is kept is
small and names nothing of this machine.
"""

import argparse
import pathlib
import sys
import tempfile

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parents[1] / 'notebooks'
CELL_S = 600  # a cell that takes longer is stuck
MOST_BYTES = 400_000


def execute(path: pathlib.Path) -> nbformat.NotebookNode:
  """The notebook as it is after a run.

  Raises:
    CellExecutionError: a cell failed.
  """
  notebook = nbformat.read(path, as_version=4)
  with tempfile.TemporaryDirectory() as folder:
    nbclient.NotebookClient(
      notebook,
      timeout=CELL_S,
      kernel_name='python3',
      resources={'metadata': {'path': folder}},
    ).execute()
  return notebook


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
  """Without progress, times and the machine's own details."""
  for cell in notebook.cells:
    cell.metadata = {}
    if cell.cell_type == 'code':
      cell.outputs = [
        out
        for out in cell.outputs
        if not (out.output_type == 'stream' and out.name == 'stderr')
      ]
  notebook.metadata = {
    'kernelspec': notebook.metadata.kernelspec,
    'language_info': {'name': 'python'},
  }
  return notebook


def main() -> int:
  """Runs what is named; 1 when a notebook grew too large."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('names', nargs='*', help='beginnings; default: all')
  parser.add_argument('--check', action='store_true', help='write nothing')
  arguments = parser.parse_args()
  for path in sorted(FOLDER.glob('*.ipynb')):
    if arguments.names and not path.name.startswith(tuple(arguments.names)):
      continue
    text = nbformat.writes(cleaned(execute(path)))
    print(f'{path.name}: {len(text) // 1000} kB')
    if len(text) > MOST_BYTES:
      print(f'{path.name}: is too large, draw less', file=sys.stderr)
      return 1
    if not arguments.check:
      path.write_text(f'{text}\n', encoding='utf-8')
  return 0


if __name__ == '__main__':
  sys.exit(main())
