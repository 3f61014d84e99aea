"""`cmbjax evaluate`: detections and a truth to scores by both rules."""

import argparse
import pathlib
import sys

from cmbjax import files
from cmbjax.intake import dry_run

EPILOG = """
Compares what `cmbjax detect` wrote with the truth of a cohort, scan by scan:
sensitivity over all lesions, precision, F1 and false positives per scan, by
the touch rule and by the VALDO rule, pooled, as the mean over subjects and as
the median over scans, as the VALDO challenge shows it; by size and region of
the lesion; and the number of lesions per scan.

Writes evaluation.csv, evaluation.json and evaluation_lesions.csv (every true
lesion, every false detection) to OUT, or to --out. exit code: 0 done, 2 wrong
use, 3 nothing found.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options of the verb."""
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.epilog = EPILOG
  add = parser.add_argument
  add('detections', metavar='OUT', help='what `cmbjax detect` wrote')
  add('cohort', metavar='COHORT', help='folder of the scans with their truth')
  add(
    '--only',
    choices=('definite', 'counted', 'candidates'),
    default='',
    help='detections that are definite, or are not too large; or, instead, '
    'the candidates before the networks (after `detect --write-steps`)',
  )
  add(
    '--partial',
    action='store_true',
    help='leave out scans that were not detected, instead of ending',
  )
  add(
    '--method',
    choices=('jackknife', 'bootstrap'),
    default='jackknife',
    help='of the intervals; default: jackknife',
  )
  add('--dry-run', action='store_true', help=dry_run.HELP)
  add('--out', metavar='DIR', help='where the tables go; default: OUT')


def run(arguments: argparse.Namespace) -> int:
  """Evaluates; returns the exit code.

  Raises:
    InputError: a scan without a result, or on another grid.
  """
  from cmbjax.data import cohort, lesion_labels
  from cmbjax.detect import against_truth, score_tables

  if arguments.dry_run:
    return cohort.dry_run_of(pathlib.Path(arguments.cohort))

  folder = pathlib.Path(arguments.detections)
  files.check_place(arguments.out or folder)
  found = against_truth.read(
    folder,
    pathlib.Path(arguments.cohort),
    only=arguments.only,
    partial=arguments.partial,
  )
  if found.missing:
    print(
      f'note: {len(found.missing)} scans have no result and are left out '
      f'({", ".join(found.missing[:5])}).',
      file=sys.stderr,
    )
  for sentence in lesion_labels.together(found.said):
    print(f'note: {sentence}', file=sys.stderr)
  result = against_truth.evaluate(found, method=arguments.method)
  out = pathlib.Path(arguments.out) if arguments.out else folder
  score_tables.write(result, out)
  sys.stdout.write(score_tables.text(result))
  return 0
