"""`cmbjax compare`: finished runs to paired differences and tests.

Rule: only predictions on the same candidates with the same folds are
compared; everything else ends with one line that says why.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

from cmbjax.evaluation import intervals

COLUMNS = (
  ('auc', 'AUC', 3),
  ('average_precision', 'Avg. precision', 3),
  ('sensitivity_lesions', 'Sensitivity (all)', 3),
  ('precision', 'Precision', 3),
  ('fp_per_scan', 'FP per scan', 1),
  ('delong', 'AUC, DeLong', 3),
  ('mcnemar', 'Accuracy, McNemar', 3),
  ('nadeau_bengio', 'AUC of the folds', 3),
)
_WIDTH = 100
_ALPHA = 0.05  # of the intervals of 95 %


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """One run: all pairs of its strategies. Two runs: equal strategies."""
  parser.add_argument(
    'run_folder',
    nargs='+',
    metavar='RUN',
    help='work folder of a finished study (one or two)',
  )
  parser.add_argument(
    '--strategies',
    nargs=2,
    metavar=('FIRST', 'SECOND'),
    help='compare FIRST of the first run with SECOND of the last run',
  )
  parser.add_argument('--test', help='only this test set')
  parser.add_argument(
    '--threshold', type=float, default=0.1, help='strictly above; default 0.1'
  )
  parser.add_argument(
    '--method',
    choices=('jackknife', 'bootstrap'),
    default='jackknife',
    help='of the intervals; default jackknife',
  )
  parser.add_argument(
    '--draws', type=int, default=2000, help='bootstrap draws; default 2000'
  )
  parser.add_argument('--seed', type=int, default=0, help='default 0')
  parser.add_argument(
    '--metric',
    action='append',
    default=[],
    metavar='MODULE:NAME',
    help='also your own (y, score, subject) -> float; may be repeated',
  )
  parser.add_argument('--out', metavar='FILE', help='also write JSON')


def run(arguments: argparse.Namespace) -> int:
  """Prints the comparisons; returns the exit code.

  Raises:
    InputError: a run is missing or the runs cannot be compared.
  """
  from cmbjax import files
  from cmbjax.errors import InputError
  from cmbjax.evaluation import compare, metrics, permutation, prediction_files

  if arguments.draws < 1 or arguments.seed < 0:
    raise InputError('--draws: must be 1 or more, and --seed 0 or more.')
  if not 0 < arguments.threshold < 1:
    raise InputError(
      f'--threshold: is {arguments.threshold}, must be between 0 and 1.'
    )

  own = {name: metrics.own(name, key='--metric') for name in arguments.metric}
  runs = [prediction_files.read(folder) for folder in arguments.run_folder]
  found = pairs(runs, arguments)
  results = [
    compare.compare(
      first,
      second,
      threshold=arguments.threshold,
      method=arguments.method,
      draws=arguments.draws,
      seed=arguments.seed,
      own=own,
    )
    for first, second in found
  ]
  adjusted = permutation.holm([one.tests['auc'].p for one in results])
  sys.stdout.write(text(results, adjusted, own, runs=arguments.run_folder))
  if arguments.out:
    files.write_json(arguments.out, plain(results, adjusted))
  return 0


def pairs(runs: list, arguments: argparse.Namespace) -> list[tuple]:
  """The tables to put side by side.

  Raises:
    InputError: more than two runs, or nothing in common.
  """
  import itertools

  from cmbjax.errors import InputError

  if len(runs) > 2:
    raise InputError(f'compare: give one or two runs, not {len(runs)}.')
  first, last = runs[0], runs[-1]
  asked = tuple(arguments.strategies or ())
  # Of one run every two strategies, unless two are named.
  alone = len(runs) == 1 and not asked

  def fit(x, y):
    names = (x.strategy, y.strategy)
    return (
      (x.test, x.kind) == (y.test, y.kind)
      and arguments.test in (None, x.test)
      and (alone or names == (asked or (x.strategy, x.strategy)))
    )

  every = itertools.product(first, last)
  if alone:
    every = itertools.combinations(first, 2)
  if both := [pair for pair in every if fit(*pair)]:
    return both
  have = sorted(
    {
      f'{t.strategy} on {t.test}'
      + (' out of fold' if t.kind == 'out of fold' else '')
      for run in runs
      for t in run
    }
  )
  raise InputError(
    'compare: the runs have no pair of strategies on one test set; found '
    f'{", ".join(have)}.'
  )


def text(
  results: list,
  adjusted: list,
  own: Iterable[str] = (),
  *,
  runs: Sequence[str] = (),
) -> str:
  """Plain text, at most `_WIDTH` columns wide.

  Args:
    results: comparisons.
    adjusted: p of AUC of each after Holm.
    own: names of metrics of the user.
    runs: folders; of two, each strategy is headed with its own.
  """
  of = [f' of {run}' for run in runs] if len(runs) == 2 else ['', '']
  columns = [*COLUMNS, *((n, n.rpartition(':')[2][:19], 3) for n in own)]
  lines, lacks = [], undecided(results, adjusted)
  for one, p in zip(results, adjusted):
    kind = 'simulated subjects' if one.simulated else 'subjects'
    lines += [
      f'{one.first}{of[0]} minus {one.second}{of[1]} on {one.test}'
      f'{", out of fold" if one.kind == "out of fold" else ""} '
      f'({one.num_subjects} {kind})',
      f'  {"":<19}{"difference":>11}  {"95 % interval":<19}{"p":<9}assumes',
    ]
    for name, head, digits in columns:
      if name in one.tests:
        lines.append(_line(head, one.tests[name], digits))
    if p is not None and len(results) > 1:
      lines.append(f'  AUC, p after Holm over {len(results)} pairs: {p:.3f}')
    if lack := lacks.get(id(one)):
      lines.append(
        f'  AUC undecided; a difference as seen takes about {lack.needed:,} '
        f'subjects, {one.num_subjects} find one of {lack.detectable:.3f}'
      )
    lines.append('')
  return '\n'.join(lines)


def undecided(results: list, adjusted: list) -> dict:
  """What each pair lacks whose AUC is not decided: id of it -> `Lacking`."""
  from cmbjax.evaluation import compare

  family = max(sum(p is not None and p > _ALPHA for p in adjusted), 1)
  found = {}
  for one, p in zip(results, adjusted):
    gap = one.tests['auc'].difference
    clear = gap.low is not None and (gap.low > 0 or gap.high < 0)
    if p is None or p > _ALPHA or not clear:
      lack = compare.lacking(one, family=family)
      if lack is not None:
        found[id(one)] = lack
  return found


def _line(head: str, test, digits: int) -> str:
  gap = test.difference
  value = '–' if gap.value is None else f'{gap.value:+.{digits}f}'
  inside = intervals.missing(gap) or '–'
  if gap.low is not None:
    inside = f'{gap.low:+.{digits}f} to {gap.high:+.{digits}f}'
  p = '–' if test.p is None else f'{test.p:.4f}'
  p = '<0.0001' if p == '0.0000' else p
  line = f'  {head:<19}{value:>11}  {inside:<19}{p:<9}{test.assumption}'
  note = gap.note.removeprefix(f'{intervals.missing(gap)}: ')
  note = f' ({note})' if note else ''
  if len(line + note) > _WIDTH:
    note = '\n' + ' ' * 34 + note[1:]
  return line + note


def plain(results: list, adjusted: list) -> list[dict]:
  """The comparisons as JSON values."""
  lacks = undecided(results, adjusted)
  return [
    {
      'first': one.first,
      'second': one.second,
      'test': one.test,
      'kind': one.kind,
      'num_subjects': one.num_subjects,
      'simulated': one.simulated,
      'p_auc_holm': p,
      'auc_subjects_needed': getattr(lacks.get(id(one)), 'needed', None),
      'auc_detectable': getattr(lacks.get(id(one)), 'detectable', None),
      'tests': {
        name: {
          **test.difference._asdict(),
          'p': test.p,
          'assumption': test.assumption,
        }
        for name, test in one.tests.items()
      },
    }
    for one, p in zip(results, adjusted)
  ]
