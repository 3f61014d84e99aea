"""`cmbjax demo`: one simulated scan, found microbleeds, and their review.

Rule: it runs the same verbs as a person would, and says which; what is there
already is used again.
"""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Sequence

SEED = 2019  # of no training, tuning or test scans


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options of the verb."""
  parser.add_argument(
    '--out',
    default='cmbjax-demo',
    metavar='DIR',
    help='folder for the scan and the result; default: cmbjax-demo',
  )
  parser.add_argument(
    '--cohort',
    help='what kind of scan to simulate, as for cmbjax simulate; default: 3T',
  )
  parser.add_argument(
    '--seed', type=int, default=SEED, metavar='S', help=f'default: {SEED}'
  )
  parser.add_argument(
    '--no-browser',
    action='store_true',
    help='make the scan and the result, say where they are, and end',
  )


def run(arguments: argparse.Namespace) -> int:
  """Simulates, detects and opens the review; returns the exit code."""
  from cmbjax.simulate.protocols import DEMO

  out, cohort = pathlib.Path(arguments.out), arguments.cohort or DEMO
  scans, results = out / 'scans' / cohort, out / 'results'
  begin = ['simulate', f'--cohort={cohort}', '--subjects=1']
  code = _verb([*begin, f'--out={scans}', f'--seed={arguments.seed}'])
  code = code or _verb(['detect', str(scans), str(results)])
  if code:
    return code
  review = ['review', str(results)]
  if arguments.no_browser:
    for page in sorted(results.glob('sub-*.html')):
      print(page)
    print(_shown(review))
    return 0
  return _verb(review)


def _verb(words: Sequence[str]) -> int:
  """Runs one verb of ours as if it had been typed."""
  from cmbjax import cli

  print(f'$ {_shown(words)}', file=sys.stderr)
  parsed = cli.parser().parse_args(list(words))
  return parsed.run(parsed)


def _shown(words: Sequence[str]) -> str:
  return shlex.join(['cmbjax', *words])
