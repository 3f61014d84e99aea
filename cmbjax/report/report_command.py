"""`cmbjax report`: the results file of a finished run to a fresh report."""

import argparse
import pathlib


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """A run folder, and where to write."""
  parser.add_argument(
    'run_folder', metavar='RUN', help='work folder of a finished study'
  )
  parser.add_argument(
    '--out', metavar='DIR', help='default: into the run folder itself'
  )


def run(arguments: argparse.Namespace) -> int:
  """Draws report.html, CSV and figures again and prints the rows.

  Raises:
    InputError: when the run has no readable results.json.
  """
  from cmbjax.report import printed, storage, study_page

  folder = pathlib.Path(arguments.run_folder)
  study = storage.read_json(folder)
  page = study_page.write(study, arguments.out or folder)
  print(printed.print_rows(study))
  print(page)
  return 0
