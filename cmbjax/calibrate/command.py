"""`cmbjax calibrate`: reviewed scans to operating points for a site."""

import argparse
import pathlib
import sys

EPILOG = """
Takes the cases that a reader has completed (cmbjax review) and chooses again,
without any training, where a likelihood of the networks is 'possible' and
'definite', and how likely a microbleed is at it. What is printed of the new
points is cross-validated: each subject is scored with points that the other
subjects chose. The networks stay as they are.

  cmbjax detect BIDS found
  cmbjax review found --rater anna
  cmbjax calibrate found --rater anna --out weights/site
  cmbjax detect BIDS found2 --weights weights/site

No threshold is below the one that the scans were detected with, as no one
judged what is below it; to have lower ones, detect with --threshold .02 first.

exit code: 0 done, 2 wrong use or too few reviewed scans (their number is
said), 3 nothing there. Research use only.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options of the verb."""
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.epilog = EPILOG
  add = parser.add_argument
  add('detections', metavar='OUT', help='what `cmbjax detect` wrote')
  add(
    '--rater',
    metavar='NAME',
    required=True,
    help='whose reviews; or the folder of a merge',
  )
  add('--out', metavar='DIR', help='gets the weights; not there yet')
  add(
    '--weights',
    metavar='DIR',
    help='the networks that OUT was detected with; default: found among those '
    'that came with cmbjax',
  )
  add(
    '--reviews',
    metavar='DIR',
    type=pathlib.Path,
    help="where the readers' folders are; default: sourcedata/review of OUT",
  )
  add(
    '--keep',
    metavar='SHARE',
    type=float,
    default=0.95,
    help="share of the lesions found that 'possible' keeps; default: 0.95",
  )
  add(
    '--dry-run',
    action='store_true',
    help='print before and after, and write nothing',
  )


def run(args: argparse.Namespace) -> int:
  """Calibrates; returns the exit code.

  Raises:
    InputError, NoInputError: reviews or weights that cannot be used, or too
      few of them.
  """
  from cmbjax.calibrate import site_weights
  from cmbjax.errors import InputError
  from cmbjax.evaluation import site_points
  from cmbjax.review.readers import reviewed

  if not 0 < args.keep <= 1:
    raise InputError(f'--keep: found {args.keep:g}; give above 0 to 1.')
  if not args.out and not args.dry_run:
    raise InputError('--out: is missing; give a new folder, or --dry-run.')
  folder = pathlib.Path(args.detections)
  root = _reviews(folder, args.reviews)
  found = reviewed.read(folder, root, args.rater)
  for name, why in found.left_out.items():
    _say(f'left out: {name}: {why}')
  if found.undecided:
    _say(f'left out: {found.undecided} candidates without a decision')
  weights = site_weights.find(args.weights, found.fingerprint)
  _check_enough(root / found.rater, site_points, found)
  chosen = site_points.choose(
    found.predictions,
    found.scans,
    weights.points,
    floor=found.floor,
    keep=args.keep,
  )
  sys.stdout.write(site_weights.text(found, chosen))
  if not args.dry_run:
    print(site_weights.write(pathlib.Path(args.out), weights, found, chosen))
  return 0


def _reviews(folder, given) -> pathlib.Path:
  from cmbjax.errors import InputError
  from cmbjax.review.cases import results, sources

  root = given or sources.reviews_of(folder)
  if not results.records(folder):
    raise InputError(
      f'{folder}: holds no result of `cmbjax detect`; give its OUT, whose '
      'candidates were reviewed.'
    )
  return root


def _check_enough(folder, site_points, found) -> None:
  from cmbjax.errors import InputError

  known = site_points.count(found.predictions, found.scans)
  missing = site_points.missing(known)
  if missing:
    needs = ', '.join(
      f'{least} {name} (there are {known[name]})'
      for name, least in missing.items()
    )
    raise InputError(
      f'{folder}: a calibration needs {needs}; complete the review of more '
      'scans. Lesions are accepted candidates, mimics rejected ones.'
    )


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
