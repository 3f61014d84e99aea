"""`cmbjax review`: candidates to a page in the browser, and readers to labels.

Rule: JAX is never needed here; what a person asked for that does not fit is
said in one line before anything is opened.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from cmbjax.intake import dry_run

EPILOG = """
Without a sub-verb, SOURCE is opened in the browser: its options are those of
cmbjax review open --help.

SOURCE is the OUT of cmbjax detect, a BIDS data set (its candidates are the
labels or points below derivatives/, or nothing yet), NIfTI files or one.

  cmbjax review OUT --rater anna
  cmbjax review scan.nii.gz --labels lesions.nii.gz
  cmbjax review merge OUT --raters anna bob --adjudicate carl
  cmbjax review agreement OUT
  cmbjax review export OUT --rater anna --out COHORT
  cmbjax review import verdicts.json --to OUT --rater anna

Every decision is on the disk before the page goes on, in a folder per reader:
OUT/sourcedata/review/anna/. The page works without network; nothing leaves
this computer. From another computer: ssh -L 8123:127.0.0.1:8123 HOST with
--port 8123 --no-browser.

exit code: 0 done, 2 wrong use, 3 nothing, 130 interrupted. Research use only.
"""
OPEN = 'open'  # what is done without a sub-verb
DOES = {  # sub-verb to what its --help says
  OPEN: 'The candidates of SOURCE on a page in the browser, until Ctrl-C.',
  'merge': 'Several readers to one: what they agree on, and who decides the '
  'rest.',
  'agreement': 'How far readers agree, as a page, tables and figures.',
  'export': "One reader's labels (or a merge) to a cohort for training.",
  'import': 'Verdicts from elsewhere (.json, .tsv) into a review.',
}
_SOURCE = (
  'what is reviewed: OUT of cmbjax detect, a BIDS data set or a NIfTI file'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The sub-verbs, each with its own options."""
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.epilog = EPILOG
  verbs = parser.add_subparsers(metavar='SUB-VERB', required=True)
  for verb, does in DOES.items():
    # Abbreviated, --rater would be taken for --raters, which is another thing.
    sub = verbs.add_parser(
      verb, help=does, description=does, allow_abbrev=False
    )
    adds, run_it = _VERBS[verb]
    adds(sub)
    sub.set_defaults(does=run_it)
  # argparse knows no sub-verb that may be left out.
  parse = parser.parse_known_args
  parser.parse_known_args = lambda words, known=None: parse(
    with_verb(words), known
  )


def with_verb(words: Sequence[str]) -> list[str]:
  """The words behind `cmbjax review`, 'open' before them where no verb is."""
  known = words and words[0] in (*DOES, '-h', '--help')
  return [*words] if known else [OPEN, *words]


def run(args: argparse.Namespace) -> int:
  """Does what the sub-verb says; returns the exit code.

  Raises:
    InputError, NoInputError: options or a source that cannot be used.
  """
  return args.does(args)


# Options.


def _add_open(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('source', metavar='SOURCE', help=_SOURCE)
  _add_rater(parser)
  _add_source(parser)
  parser.add_argument('--dry-run', action='store_true', help=dry_run.HELP)
  _add_reading(parser.add_argument_group('how to read'))
  _add_page(parser.add_argument_group('the page'))


def _add_rater(parser) -> None:
  parser.add_argument(
    '--rater',
    metavar='NAME',
    help='who reads; letters and digits; default: the login name',
  )


def _add_source(parser) -> None:
  group = parser.add_argument_group('which scans')
  _add_reviews(group)
  group.add_argument(
    '--images',
    metavar='DIR',
    type=pathlib.Path,
    help='where the images of OUT are now, when they were moved',
  )
  group.add_argument(
    '--labels',
    metavar='PATH',
    type=pathlib.Path,
    help='label image, mask or .tsv of points, or a folder of them, instead '
    'of those of SOURCE',
  )
  group.add_argument(
    '--swi-pattern',
    metavar='GLOB',
    help="name of a data set's SWI, where a subject has several such as two "
    "runs: '*run-2*_swi.nii.gz'",
  )
  group.add_argument(
    '--participant-label',
    nargs='+',
    default=(),
    metavar='ID',
    help="subjects to review, with or without 'sub-'; default: all",
  )


def _add_reviews(group) -> None:
  group.add_argument(
    '--reviews',
    metavar='DIR',
    type=pathlib.Path,
    help="where the readers' folders are; default: sourcedata/review of OUT",
  )


def _add_reading(group) -> None:
  group.add_argument(
    '--blind',
    metavar='LIST',
    default='score,id',
    help='what to hide, of score,mask,model,id,rater,evidence, or none; '
    'default: score,id',
  )
  group.add_argument(
    '--order',
    choices=('likelihood', 'random', 'position'),
    help='of the candidates; default: likelihood, with --repeat random',
  )
  group.add_argument(
    '--seed', type=int, default=0, help='of a random order; default: 0'
  )
  group.add_argument(
    '--mode',
    choices=('first-reader', 'second-reader'),
    default='second-reader',
    help='first-reader: no candidates until the reader says done; default: '
    'second-reader',
  )
  group.add_argument(
    '--repeat',
    type=float,
    default=0.0,
    metavar='PERCENT',
    help='of the candidates that are shown again, for the agreement of a '
    'reader with himself; default: 0',
  )
  group.add_argument(
    '--least',
    metavar='P',
    help='show only candidates of at least this likelihood (0 to 1), or '
    'definite; the others get no verdict and are in no export; default: all',
  )
  group.add_argument(
    '--ratings', action='store_true', help='also ask for a rating of 1 to 10'
  )


def _add_page(group) -> None:
  group.add_argument(
    '--port',
    type=int,
    default=0,
    metavar='N',
    help='default: 0, any that is free',
  )
  group.add_argument(
    '--no-browser', action='store_true', help='only print the address'
  )
  group.add_argument(
    '--allow-host',
    action='append',
    default=[],
    metavar='HOST',
    help='a name (with port, if any) under which a proxy shows the page, also '
    'in frames of that site; off by default',
  )


def _add_merge(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('source', metavar='SOURCE', help=_SOURCE)
  _add_reviews(parser)
  parser.add_argument(
    '--raters', nargs='+', metavar='NAME', required=True, help='whose readings'
  )
  parser.add_argument(
    '--adjudicate',
    metavar='NAME',
    help='who decides what the raters disagree on',
  )
  parser.add_argument(
    '--matching-mm',
    type=float,
    default=5.0,
    metavar='MM',
    help='additions this near are one lesion; default: 5',
  )
  parser.add_argument(
    '--show-verdicts',
    action='store_true',
    help="the adjudicator sees the raters' verdicts",
  )


def _add_agreement(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('source', metavar='SOURCE', help=_SOURCE)
  _add_reviews(parser)
  parser.add_argument(
    '--raters',
    nargs='+',
    metavar='NAME',
    default=(),
    help='whose readings; default: all',
  )
  parser.add_argument(
    '--out',
    metavar='DIR',
    type=pathlib.Path,
    help='what is written; default: agreement, among the reviews',
  )


def _add_export(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('source', metavar='SOURCE', help=_SOURCE)
  parser.add_argument(
    '--rater',
    metavar='NAME',
    required=True,
    help='whose labels; or the folder of a merge',
  )
  parser.add_argument(
    '--out',
    metavar='DIR',
    type=pathlib.Path,
    required=True,
    help='the cohort that is written',
  )
  _add_source(parser)
  parser.add_argument(
    '--link',
    choices=('hard', 'copy', 'symbolic'),
    default='hard',
    help='how images get there; default: hard',
  )
  parser.add_argument(
    '--grow-missing',
    action='store_true',
    help='outline accepted lesions that have no outline',
  )


def _add_import(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    'files', metavar='FILE', nargs='+', type=pathlib.Path, help='verdicts'
  )
  parser.add_argument(
    '--to',
    metavar='SOURCE',
    dest='source',
    required=True,
    help='what the verdicts are about',
  )
  _add_rater(parser)
  _add_source(parser)


# Verbs.


def _open(args) -> int:
  from cmbjax.review.log import folders
  from cmbjax.review.server import session

  options = session.options(args)
  if args.dry_run:
    return dry_run.show(*_call(args, 'rows'))
  found, root = _found(args)
  rater = folders.label_or_login(args.rater)
  return session.serve(found.cases, root, rater, options)


def _merge(args) -> int:
  from cmbjax.review.readers import merge

  path = merge.run_merge(
    _reviews(args),
    args.raters,
    adjudicate=args.adjudicate,
    matching_mm=args.matching_mm,
    show_verdicts=args.show_verdicts,
  )
  print(path)
  for line in merge.describe(path):
    _say(line)
  return 0


def _agreement(args) -> int:
  from cmbjax.review.readers import report

  root = _reviews(args)
  print(report.write(root, args.raters, args.out or root / 'agreement'))
  return 0


def _export(args) -> int:
  from cmbjax.review.export import cohort

  found, root = _found(args)
  path = cohort.write_cohort(
    found.cases,
    root,
    args.rater,
    args.out,
    link=args.link,
    grow_missing=args.grow_missing,
  )
  for name, why in cohort.left_out(found.cases, root, args.rater).items():
    _say(f'left out: {name}: {why}')
  for line in cohort.describe(path):
    _say(line)
  print(path)
  return 0


def _import(args) -> int:
  from cmbjax.review.export import verdicts_import
  from cmbjax.review.log import folders

  found, root = _found(args)
  # Without a name, each file says whose it is.
  rater = None if args.rater is None else folders.label_or_login(args.rater)
  for path in verdicts_import.bring(args.files, found.cases, root, rater):
    print(path)
  return 0


def _found(args):
  """The cases of the source, and the folder of the reviews."""
  found = _call(args, 'find')
  for why in found.left_out:
    _say(f'left out: {why}')
  return found, args.reviews or found.reviews


def _call(args, name):
  """A function of `sources`, with the options that all of them have."""
  from cmbjax.review.cases import sources

  return getattr(sources, name)(
    pathlib.Path(args.source), images=args.images, labels=args.labels,
    participants=args.participant_label, swi_pattern=args.swi_pattern,
  )  # fmt: skip


def _reviews(args) -> pathlib.Path:
  """The folder of the reviews, for verbs that need no images."""
  from cmbjax.review.cases import sources

  return args.reviews or sources.reviews_of(pathlib.Path(args.source))


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


_VERBS = {  # sub-verb to what adds its options, and what it does
  OPEN: (_add_open, _open),
  'merge': (_add_merge, _merge),
  'agreement': (_add_agreement, _agreement),
  'export': (_add_export, _export),
  'import': (_add_import, _import),
}
