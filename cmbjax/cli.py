"""The `cmbjax` command: one verb per job; the work is in the rooms.

Rule: `--help` is quick, so a room is imported only by its own verb.
"""

import argparse
import importlib
import sys

import cmbjax
from cmbjax.errors import exit_code

# Verbs whose arguments live in the room that does the work.
ROOMS = {
  'demo': 'cmbjax.demo',
  'detect': 'cmbjax.detect.detect_command',
  'review': 'cmbjax.review.command',
  'calibrate': 'cmbjax.calibrate.command',
  'evaluate': 'cmbjax.detect.evaluate_command',
  'swi': 'cmbjax.reconstruct.command',
  'import': 'cmbjax.data.import_command',
  'build': 'cmbjax.data.build_command',
  'simulate': 'cmbjax.simulate.simulate_command',
  'compare': 'cmbjax.evaluation.compare_command',
  'report': 'cmbjax.report.report_command',
  'weights': 'cmbjax.weights.weights_command',
  'doctor': 'cmbjax.doctor',
}
HELP = {
  'demo': 'one simulated scan, its microbleeds, and their review',
  'detect': 'scans to measured microbleeds, with tables and reports',
  'review': 'judge candidates in the browser; merge, compare, export readers',
  'calibrate': 'reviewed scans to operating points for a site, no training',
  'evaluate': 'score detections against the truth of a cohort',
  'simulate': 'make labelled scans from physics, as a BIDS folder',
  'swi': 'reconstruct SWI from magnitude and phase',
  'import': 'bring a public data set or a table of points into a cohort folder',
  'build': 'turn a cohort folder into a TFDS patch data set',
  'compare': 'compare the predictions of finished runs',
  'report': 'draw the report of a finished run again',
  'weights': 'networks that came with cmbjax: list, verify, path, pack',
  'doctor': 'what this machine has, how quick it is, and what to fix',
}


def parser() -> argparse.ArgumentParser:
  """All verbs with their options."""
  top = argparse.ArgumentParser(
    prog='cmbjax',
    description='Cerebral microbleeds on SWI: simulate, detect, study.',
    epilog='A study: python -m cmbjax.main --config=configs/finetune.py',
  )
  version = f'cmbjax {cmbjax.__version__}'
  top.add_argument('--version', action='version', version=version)
  verbs = top.add_subparsers(dest='verb', metavar='VERB', required=True)
  for verb, room in ROOMS.items():
    module = importlib.import_module(room)
    sub = verbs.add_parser(verb, help=HELP[verb], description=HELP[verb])
    module.add_arguments(sub)
    sub.set_defaults(run=module.run)
  return top


def main(argv: list[str] | None = None) -> int:
  """Runs one verb; returns the exit code (argparse exits with 2 itself)."""

  def work():
    arguments = parser().parse_args(argv)
    return arguments.run(arguments)

  return exit_code(work)


if __name__ == '__main__':
  sys.exit(main())
