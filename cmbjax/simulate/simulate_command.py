"""`cmbjax simulate`: labelled scans from physics, and how real they are."""

import argparse
import sys

from cmbjax import beam


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options of the verb."""
  parser.add_argument(
    '--cohort',
    metavar='NAME',
    help='btumor_7t, btumor_3t, ccm_3t, btumor_7t_4echo, svd_15t, '
    'clinical_15t, isotropic_3t, or randomised: a scanner of its own for '
    'every subject',
  )
  parser.add_argument('--subjects', type=int, metavar='N', help='how many')
  parser.add_argument('--out', metavar='DIR', help='folder of the cohort')
  parser.add_argument(
    '--seed', type=int, default=0, metavar='S', help='default: 0'
  )
  parser.add_argument(
    '--first',
    type=int,
    default=1,
    metavar='N',
    help='number of the first subject; default: 1',
  )
  parser.add_argument(
    '--jobs', type=int, metavar='N', help='processes; default: one per core'
  )
  parser.add_argument(
    '--slab',
    type=float,
    metavar='MM',
    help='only a slab round the ventricles; default: the whole head',
  )
  parser.add_argument(
    '--families',
    default='',
    metavar='CHOICE',
    help='of generators, drawn for each subject: classic, trained, held-out, '
    'mixed, any, or "part=family"; default: classic, and trained for '
    'randomised',
  )
  parser.add_argument(
    '--lesions',
    type=float,
    metavar='N',
    help='expected microbleeds of a person; 0: none; default: those of the '
    'cohort',
  )
  parser.add_argument(
    '--check',
    metavar='DIR',
    help='instead: compare the lesions of a cohort folder with real ones',
  )
  beam.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
  """Simulates a cohort, or checks one; returns the exit code."""
  from cmbjax.errors import InputError

  if arguments.check:
    from cmbjax.simulate import check

    print(check.check(arguments.check).text)
    return 0
  for name in ('cohort', 'subjects', 'out'):
    if getattr(arguments, name) is None:
      raise InputError(f'--{name}: is missing; see cmbjax simulate --help.')
  from cmbjax.simulate import cohort

  folder = cohort.simulate(
    arguments.cohort,
    subjects=arguments.subjects,
    out=arguments.out,
    seed=arguments.seed,
    jobs=arguments.jobs,
    first=arguments.first,
    slab_mm=arguments.slab,
    families=arguments.families,
    lesions=arguments.lesions,
    runner=beam.runner_of(arguments),
  )
  print(f'{folder}: simulated scans', file=sys.stderr)
  return 0
