"""`cmbjax review`: candidates to a page in the browser, and readers to labels.

Rule: JAX is never needed here; what a person asked for that does not fit is
said in one line before anything is opened.
"""

import argparse
import pathlib
import re
import sys

EPILOG = """
SOURCE is the OUT of cmbjax detect, a BIDS data set (its candidates are the
labels or points below derivatives/, or nothing yet) or one NIfTI file.

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

exit code: 0 done, 2 wrong use, 3 nothing to do, 130 interrupted.
Research use only.
"""
OPEN = 'open'  # what is done without a sub-verb
_SOURCE = ('images', 'labels', 'participant_label', 'reviews', 'swi_pattern')
_GOES_WITH = {  # sub-verb to its options
  OPEN: (
    *_SOURCE, 'rater', 'blind', 'order', 'seed', 'mode', 'repeat', 'least',
    'ratings', 'port', 'no_browser', 'allow_host',
  ),
  'merge': (
    'reviews', 'raters', 'adjudicate', 'matching_mm', 'show_verdicts',
  ),
  'agreement': ('reviews', 'raters', 'out'),
  'export': (*_SOURCE, 'rater', 'out', 'link', 'grow_missing'),
  'import': (*_SOURCE, 'rater', 'to'),
}  # fmt: skip
_NEEDS = {
  'merge': ('raters',),
  'export': ('rater', 'out'),
  'import': ('to',),
}
_DOES = {  # sub-verb to what its --help says
  'merge': 'Several readers to one: what they agree on, and who decides the '
  'rest.',
  'agreement': 'How far readers agree, as a page, tables and figures.',
  'export': "One reader's labels (or a merge) to a cohort for training.",
  'import': 'Verdicts from elsewhere (.json, .tsv) into a review.',
}
_WORDS = {
  'SOURCE': 'what was reviewed: OUT of cmbjax detect, a BIDS data set or a '
  'NIfTI file',
  'FILE': 'verdicts',
}
_FOR = re.compile(f'^(({"|".join(_DOES)})(, )?)+: ')  # of a shared help
_BLINDS = ('score', 'mask', 'model', 'id', 'rater')


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options of the verb and of its sub-verbs."""
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.usage = (
    'cmbjax review [merge | agreement | export | import] SOURCE [options]'
  )
  parser.epilog = EPILOG
  parser.add_argument(
    'words',
    nargs='+',
    metavar='SOURCE',
    help='what to review; before it, perhaps a sub-verb, see below',
  )
  _add_options(parser)
  group = parser.add_argument_group('help', conflict_handler='resolve')
  group.add_argument(
    '-h', '--help', action=_Help, help='show this; of a sub-verb its own'
  )


class _Help(argparse.Action):
  """--help of the verb, or behind a sub-verb of that."""

  def __init__(self, option_strings, dest, **more):
    super().__init__(
      option_strings, dest, nargs=0, default=argparse.SUPPRESS, **more
    )

  def __call__(self, parser, namespace, values, option_string=None):
    verb = (getattr(namespace, 'words', None) or [OPEN])[0]
    (sub_parser(verb) if verb in _DOES else parser).print_help()
    parser.exit()


def sub_parser(verb: str) -> argparse.ArgumentParser:
  """The options of one sub-verb, and no others."""
  parser = argparse.ArgumentParser(
    prog=f'cmbjax review {verb}', description=_DOES[verb]
  )
  what = 'FILE' if verb == 'import' else 'SOURCE'
  parser.add_argument(
    'words', nargs='+' if verb == 'import' else None, metavar=what,
    help=_WORDS[what],
  )  # fmt: skip
  _add_options(parser)
  for action in parser._actions:
    if action.dest not in ('help', 'words', *_GOES_WITH[verb]):
      action.help = argparse.SUPPRESS
    elif action.help:
      action.help = _FOR.sub('', action.help)
    if action.dest in _NEEDS.get(verb, ()):
      action.required = True
  return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
  _add_source(parser.add_argument_group('which scans'))
  _add_reading(parser.add_argument_group('how to read'))
  _add_page(parser.add_argument_group('the page'))
  _add_merging(parser.add_argument_group('several readers, and afterwards'))


def _add_source(group) -> None:
  group.add_argument(
    '--rater',
    metavar='NAME',
    help='who reads; letters and digits; default: the login name',
  )
  group.add_argument(
    '--images',
    metavar='DIR',
    help='where the images of OUT are now, when they were moved',
  )
  group.add_argument(
    '--labels',
    metavar='PATH',
    help='label image, mask or .tsv of points, or a folder of them, instead '
    'of what lies with SOURCE',
  )
  group.add_argument(
    '--reviews',
    metavar='DIR',
    help="where the readers' folders are; default: sourcedata/review of OUT",
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
    metavar='ID',
    help="subjects to review, with or without 'sub-'; default: all",
  )


def _add_reading(group) -> None:
  group.add_argument(
    '--blind',
    metavar='LIST',
    help=f'what to hide, of {",".join(_BLINDS)}, or none; default: score,id',
  )
  group.add_argument(
    '--order',
    choices=('likelihood', 'random', 'position'),
    help='of the candidates; default: likelihood, with --repeat random',
  )
  group.add_argument('--seed', type=int, help='of a random order; default: 0')
  group.add_argument(
    '--mode',
    choices=('first-reader', 'second-reader'),
    help='first-reader: no candidates until the reader says done; default: '
    'second-reader',
  )
  group.add_argument(
    '--repeat',
    type=float,
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
    '--ratings',
    action='store_const',
    const=True,
    help='also ask for a rating of 1 to 10',
  )


def _add_page(group) -> None:
  group.add_argument(
    '--port', type=int, metavar='N', help='default: 0, any that is free'
  )
  group.add_argument(
    '--no-browser',
    action='store_const',
    const=True,
    help='only print the address',
  )
  group.add_argument(
    '--allow-host',
    action='append',
    metavar='HOST',
    help='a name (with port, if any) under which a proxy shows the page, also '
    'in frames of that site; off by default',
  )


def _add_merging(group) -> None:
  group.add_argument(
    '--raters',
    nargs='+',
    metavar='NAME',
    help='merge, agreement: whose readings',
  )
  group.add_argument(
    '--adjudicate',
    metavar='NAME',
    help='merge: who decides what the raters disagree on',
  )
  group.add_argument(
    '--matching-mm',
    type=float,
    metavar='MM',
    help='merge: additions this near are one lesion; default: 5',
  )
  group.add_argument(
    '--show-verdicts',
    action='store_const',
    const=True,
    help="merge: the adjudicator sees the raters' verdicts",
  )
  group.add_argument(
    '--out', metavar='PATH', help='export, agreement: what is written'
  )
  group.add_argument(
    '--link',
    choices=('hard', 'copy', 'symbolic'),
    help='export: how images get there; default: hard',
  )
  group.add_argument(
    '--grow-missing',
    action='store_const',
    const=True,
    help='export: outline accepted lesions that have no outline',
  )
  group.add_argument(
    '--to', metavar='SOURCE', help='import: what the verdicts are about'
  )


def run(args: argparse.Namespace) -> int:
  """Opens the page, or does what the sub-verb says; returns the exit code.

  Raises:
    InputError, NoInputError: options or a source that cannot be used.
  """
  words = list(args.words)
  verb = words.pop(0) if words[0] in _GOES_WITH and words[0] != OPEN else OPEN
  _check(args, verb, words)
  if verb == 'import':
    return _bring(args, words)
  args.source = words[0]
  return {
    OPEN: _open,
    'merge': _merge,
    'agreement': _agreement,
    'export': _export,
  }[verb](args)


def _check(args, verb, words) -> None:
  from cmbjax.errors import InputError

  given = {
    name
    for name, value in vars(args).items()
    if value is not None and any(name in some for some in _GOES_WITH.values())
  }
  wrong = sorted(given - set(_GOES_WITH[verb]))
  if wrong:
    fits = [v for v, names in _GOES_WITH.items() if wrong[0] in names]
    fits = ' or '.join(f'review {v}' if v != OPEN else 'review' for v in fits)
    raise InputError(f'{_option(wrong[0])}: goes with cmbjax {fits}.')
  missing = [n for n in _NEEDS.get(verb, ()) if n not in given]
  if missing:
    raise InputError(f'{_option(missing[0])}: is needed by review {verb}.')
  what = 'FILE of verdicts' if verb == 'import' else 'SOURCE'
  if not words:
    raise InputError(f'review {verb}: give a {what}.')
  if verb != 'import' and len(words) > 1:
    raise InputError(
      f'review: found {" ".join(words)}; give one SOURCE (sub-verbs are '
      'merge, agreement, export and import).'
    )


def _option(name: str) -> str:
  return '--' + name.replace('_', '-')


def _found(args, source):
  """The cases of the source, and the folder of the reviews."""
  from cmbjax.review.cases import sources

  found = sources.find(
    pathlib.Path(source),
    images=pathlib.Path(args.images) if args.images else None,
    labels=pathlib.Path(args.labels) if args.labels else None,
    participants=args.participant_label or (),
    swi_pattern=args.swi_pattern,
  )
  for why in found.left_out:
    _say(f'left out: {why}')
  return found, pathlib.Path(args.reviews or found.reviews)


def _reviews(args) -> pathlib.Path:
  """The folder of the reviews, for verbs that need no images."""
  from cmbjax.review.cases import sources

  if args.reviews:
    return pathlib.Path(args.reviews)
  return sources.reviews_of(pathlib.Path(args.source))


def _rater(args) -> str:
  from cmbjax.review.log import journal

  return journal.rater_label(_login() if args.rater is None else args.rater)


def _login() -> str:
  import getpass

  try:
    return getpass.getuser()
  except (OSError, KeyError, ImportError):  # no name for this number
    return 'reader'


def _open(args) -> int:
  """Serves the page until Ctrl-C."""
  from cmbjax.review.log import journal
  from cmbjax.review.server import desk, guard, serve

  options = _options(args)
  hosts = [_host(text) for text in args.allow_host or ()]
  found, root = _found(args, args.source)
  rater = _rater(args)
  with journal.hold(root, rater) as folder:
    table = desk.Desk(found.cases, root, rater, options)
    _check_cases(table, rater)
    with serve.listen(args.port or 0) as sock:
      port = sock.getsockname()[1]
      gate = guard.Guard(port, hosts=hosts)
      for host in hosts:
        _say(f'warning: pages of {host} may show this review')
      return _serve(args, table, gate, sock, folder)


def _serve(args, table, gate, sock, folder) -> int:
  import signal

  from cmbjax.review.server import app, serve

  port = sock.getsockname()[1]
  address = f'http://{serve.ADDRESS}:{port}/?token={gate.token}'
  opened = []

  def ready():
    count = len(table.cases)
    _say(f'review: {count} case{"s" * (count != 1)}, saved in {folder}')
    print(f'open {address}', flush=True)
    _say('end with Ctrl-C')
    table.warm(table.start)
    if not args.no_browser:
      opened.append(serve.open_browser(address, folder))

  try:
    told = serve.run(app.make(table, gate), sock, ready=ready)
  finally:
    for path in opened:
      if path is not None:
        path.unlink(missing_ok=True)
    for why in table.close():
      _say(why)
  _say('review: closed, everything is saved')
  return 130 if told == signal.SIGINT else 0


def _options(args):
  from cmbjax.errors import InputError
  from cmbjax.review.server import desk

  blind = ('score', 'id')
  if args.blind is not None:
    blind = tuple(part.strip() for part in args.blind.split(','))
    blind = () if blind == ('none',) else blind
    wrong = [name for name in blind if name not in _BLINDS]
    if wrong:
      raise InputError(
        f"--blind: found '{wrong[0]}'; give some of {','.join(_BLINDS)}, or "
        'none.'
      )
  if args.port is not None and not 0 <= args.port < 2**16:
    raise InputError(f'--port: found {args.port}; give 0 to 65535.')
  if args.seed is not None and not 0 <= args.seed < 2**63:
    raise InputError(f'--seed: found {args.seed}; give a number from 0.')
  if args.repeat is not None and not 0 <= args.repeat <= 100:
    raise InputError(f'--repeat: found {args.repeat:g}; give 0 to 100 percent.')
  given = {
    'least': _least(args.least),
    'mode': args.mode,
    'order': _order(args.order, args.repeat, blind),
    'seed': args.seed,
    'repeat': args.repeat,
    'ratings': args.ratings,
  }
  given = {name: value for name, value in given.items() if value is not None}
  return desk.Options(blind=blind, **given)


def _order(order: str | None, repeat: float | None, blind) -> str | None:
  """What comes again must not stand out by its place, name or likelihood."""
  from cmbjax.errors import InputError

  if not repeat:
    return order
  if order in ('likelihood', 'position'):
    raise InputError(
      f'--order: found {order} with --repeat; what is shown again would stand '
      'out, so leave --order away (it is random then).'
    )
  missing = [name for name in ('score', 'id') if name not in blind]
  if missing:
    raise InputError(
      f'--blind: --repeat needs {" and ".join(missing)} in it, else these tell '
      'what is shown again.'
    )
  return 'random'


def _least(text: str | None) -> float | str | None:
  from cmbjax.errors import InputError

  if text in (None, 'definite'):
    return text
  try:
    least = float(text)
  except ValueError:
    least = -1.0
  if not 0 <= least <= 1:
    raise InputError(
      f"--least: found '{text}'; give a likelihood of 0 to 1, or definite."
    )
  return least


def _host(text: str) -> str:
  """A name as browsers write it in Host."""
  import re

  from cmbjax.errors import InputError

  if not re.fullmatch(r'[A-Za-z0-9.-]+(:[0-9]{1,5})?', text):
    raise InputError(
      f"--allow-host: found '{text}'; give a name such as hub.example.org or "
      'hub.example.org:8000.'
    )
  return text.lower()


def _check_cases(table, rater) -> None:
  from cmbjax.errors import NoInputError

  if not table.cases:
    raise NoInputError(
      f'{rater}: has nothing to decide here; run cmbjax review merge again.'
    )


def _merge(args) -> int:
  from cmbjax.review.readers import merge

  path = merge.run_merge(
    _reviews(args),
    args.raters,
    adjudicate=args.adjudicate,
    matching_mm=5.0 if args.matching_mm is None else args.matching_mm,
    show_verdicts=bool(args.show_verdicts),
  )
  print(path)
  for line in merge.describe(path):
    _say(line)
  return 0


def _agreement(args) -> int:
  from cmbjax.review.readers import report as agreement_report

  root = _reviews(args)
  out = pathlib.Path(args.out) if args.out else root / 'agreement'
  print(agreement_report.write(root, args.raters, out))
  return 0


def _export(args) -> int:
  from cmbjax.review.export import cohort as export

  found, root = _found(args, args.source)
  path = export.write_cohort(
    found.cases,
    root,
    args.rater,
    pathlib.Path(args.out),
    link=args.link or 'hard',
    grow_missing=bool(args.grow_missing),
  )
  for name, why in export.left_out(found.cases, root, args.rater).items():
    _say(f'left out: {name}: {why}')
  for line in export.describe(path):
    _say(line)
  print(path)
  return 0


def _bring(args, words) -> int:
  from cmbjax.review.export import verdicts_import

  found, root = _found(args, args.to)
  rater = None if args.rater is None else _rater(args)  # else the file's own
  paths = [pathlib.Path(word) for word in words]
  for path in verdicts_import.bring(paths, found.cases, root, rater):
    print(path)
  return 0


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
