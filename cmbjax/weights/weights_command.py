"""`cmbjax weights`: which networks are bundled, and are they whole."""

import argparse
import pathlib

EPILOG = """
examples:
  cmbjax weights list
  cmbjax weights verify              # all that came with cmbjax
  cmbjax weights path 7t             # for other programs
  cmbjax weights pack runs/weights --out cmbjax/weights
  cmbjax weights pack runs/robust --out cmbjax/weights --name robust
  cmbjax weights gate cohort/3t cohort/7t --out cmbjax/candidates/gate.npz

exit code: 0 all is well, 2 something is damaged or wrong use, 3 nothing there.
"""
ACTIONS = ('list', 'verify', 'path', 'pack', 'gate')
# Of all lesions, on scans that were left out. Many simulated ones are too faint
# to see: at 0.97 about 900 other places per litre pass with them.
GATE_RECALL = 0.9


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options of the verb."""
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.epilog = EPILOG
  parser.add_argument('action', choices=ACTIONS, help='what to do')
  parser.add_argument(
    'which',
    nargs='*',
    metavar='NAME',
    help='7t, finetuned, combined, robust or a folder; for pack: the run; for '
    'gate: cohorts with a truth',
  )
  parser.add_argument(
    '--out',
    metavar='PATH',
    help='for pack: gets one folder per name; for gate: the file',
  )
  parser.add_argument(
    '--results',
    metavar='FILE',
    help='for pack: benchmarks/results/weights.json, for the model cards',
  )
  parser.add_argument(
    '--name', help='for pack: what the only strategy of the run is called'
  )
  parser.add_argument(
    '--recall',
    type=float,
    metavar='SHARE',
    help=f'for gate: of all lesions that pass; default: {GATE_RECALL}',
  )
  parser.add_argument(
    '--seed', type=int, metavar='S', help='for gate; default: 0'
  )


def run(args: argparse.Namespace) -> int:
  """Does it; returns the exit code.

  Raises:
    NoInputError, InputError: weights that are missing or damaged.
  """
  from cmbjax.errors import InputError

  for name, actions in _FOR.items():
    if args.action not in actions and getattr(args, name) is not None:
      allowed = ' and '.join(actions)
      raise InputError(f'--{name}: is for {allowed} only; leave it out.')
  if args.action == 'gate':
    return _gate(args)
  if len(args.which) > 1:
    raise InputError(
      f'weights {args.action}: takes one name, not {len(args.which)}; leave '
      f'{args.which[1]!r} out.'
    )
  args.which = args.which[0] if args.which else None
  work = {'list': _list, 'verify': _verify, 'path': _path, 'pack': _pack}
  return work[args.action](args)


_FOR = {
  'out': ('pack', 'gate'),
  'results': ('pack',),
  'name': ('pack',),
  'recall': ('gate',),
  'seed': ('gate',),
}


def _list(args) -> int:
  from cmbjax import files
  from cmbjax.errors import InputError, NoInputError
  from cmbjax.weights import card, catalogue

  if args.which is not None:
    raise InputError('weights list: takes no name; leave it out.')
  found = catalogue.shipped()
  if not found:
    raise NoInputError('weights: none came with this cmbjax; install it again.')
  for name, folder in found.items():
    record = files.read_json(folder / 'weights.json')
    points = files.read_json(folder / 'operating_points.json')
    size = _size_mb(folder)
    mark = ', default of detect' if name == catalogue.DEFAULT else ''
    learned = 'simulated' if record['simulated'] else 'real'
    print(
      f'{name}: {len(record["replicas"])} x {record["model"]}, {size:.1f} MB, '
      f'fingerprint {record["fingerprint"]}{mark}'
    )
    print(f'  {card.ABOUT[name]}')
    print(f'  learned from {len(record["subjects"])} {learned} subjects')
    for title, text in card.protocols(points['domain']).items():
      print(f'  {title}: {text}')
  print('Research use only; each folder has a README.md.')
  return 0


def _verify(args) -> int:
  from cmbjax.errors import InputError
  from cmbjax.weights import catalogue

  if args.which is None:
    folders = {name: catalogue.folder(name) for name in catalogue.NAMES}
  else:
    folders = {args.which: catalogue.resolve(args.which)}
  wrong = []
  for name, folder in folders.items():
    found = _damage(folder)
    print(f'{name}: {found or "ok"}')
    wrong += [name] if found else []
  if wrong:
    raise InputError(
      f'weights: {", ".join(wrong)} {"is" if len(wrong) == 1 else "are"} '
      'damaged; install cmbjax or copy the folder again.'
    )
  return 0


def _damage(folder) -> str:
  """What is wrong with the files of some weights; '' where nothing is."""
  from cmbjax import sealed
  from cmbjax.errors import InputError, NoInputError
  from cmbjax.training import checkpoint
  from cmbjax.weights.pack import POINTS_FILE

  try:
    record = checkpoint.read_record(folder)
    checkpoint.check_weights(folder)
    if (folder / POINTS_FILE).is_file():  # `fit` makes none
      points = sealed.read_json(folder / POINTS_FILE)
      if points.get('fingerprint') != record['fingerprint']:
        return f'{POINTS_FILE} was made for other weights'
    elif record.get('precision') == checkpoint.HALF:
      return f'{POINTS_FILE} is missing'
  except NoInputError:
    raise
  except InputError as error:
    return str(error)
  return ''


def _path(args) -> int:
  from cmbjax.weights import catalogue

  print(catalogue.folder(args.which or catalogue.DEFAULT))
  return 0


def _pack(args) -> int:
  from cmbjax.errors import InputError
  from cmbjax.weights import pack

  for name, value in (('RUN', args.which), ('--out', args.out)):
    if value is None:
      raise InputError(f'weights pack: {name} is missing.')
  results = pathlib.Path(args.results) if args.results else None
  for folder in pack.pack(
    pathlib.Path(args.which),
    pathlib.Path(args.out),
    results=results,
    name=args.name,
  ):
    print(f'{folder}: {_size_mb(folder):.1f} MB')
  return 0


def _gate(args) -> int:
  from cmbjax.data import gate_material
  from cmbjax.errors import InputError

  for name, value in (('COHORT', args.which), ('--out', args.out)):
    if not value:
      raise InputError(f'weights gate: {name} is missing.')
  recall = GATE_RECALL if args.recall is None else args.recall
  if not 0 < recall <= 1:
    raise InputError(f'--recall: is {recall:g}, must be above 0, at most 1.')
  if (args.seed or 0) < 0:
    raise InputError(f'--seed: is {args.seed}, must be 0 or more.')
  found = gate_material.learn_gate(
    [pathlib.Path(folder) for folder in args.which],
    seed=args.seed or 0,
    recall=recall,
  )
  found.network.save(args.out)
  print(
    f'{args.out}: keeps {found.recall:.3f} of {found.lesions} lesions and '
    f'{found.false_per_litre:.0f} other places per litre of brain, on scans '
    f'that were left out; {found.never} lesions have no place at all'
  )
  for kept, false in found.others:
    print(f'  another threshold: {kept:.3f} and {false:.0f}')
  return 0


def _size_mb(folder) -> float:
  return sum(p.stat().st_size for p in folder.rglob('*') if p.is_file()) / 1e6
