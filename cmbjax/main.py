"""`python -m cmbjax.main --config=configs/finetune.py`: flags, nothing else.

It is kept short on purpose: the work is in cmbjax/study, where a notebook or
a test can call it.
"""

import pathlib
import sys
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from cmbjax import allocator
from cmbjax.errors import InputError, exit_code
from cmbjax.study import config as configs
from cmbjax.training import preemption

_HELP = """
  --config=FILE[:PRESET]     a config; first of all flags (configs/*.py)
  --config.KEY=VALUE         changes one value; keys are in configs/base.py
  --workdir=DIR              folder of the run; default runs/NAME[-PRESET]
  --overwrite                a run of other settings there may be replaced
  --mode=dryrun              shows trainings, memory and time; trains nothing
  --profile                  profiles one epoch into DIR/profile
  --coordinator=HOST:PORT --processes=N --process=I
                             one of N processes; Slurm needs none of these

Single steps: cmbjax --help
"""
MODES = ('run', 'dryrun')


class Call(NamedTuple):
  """What the command line asks for."""

  config: ConfigDict
  workdir: pathlib.Path
  sweep: tuple[dict, ...]
  flags: flags.FlagValues


def parse(argv: list[str]) -> Call:
  """Command line to what it asks for.

  Raises:
    InputError: a flag, key or value is wrong.
  """
  at = [i for i, a in enumerate(argv) if a.split('=')[0] == '--config']
  if len(at) > 1:
    raise InputError('--config: is given twice; keep one.')
  if not at:
    raise InputError('--config: is missing; try --config=configs/finetune.py.')
  name = argv[at[0]].partition('=')[2] or ''.join(argv[at[0] + 1 : at[0] + 2])
  rest = argv[1 : at[0]] + argv[at[0] + (1 if '=' in argv[at[0]] else 2) :]
  config = configs.load(name)
  configs.check_overrides(config, rest)
  words = [argv[0], *map(configs.quoted, rest)]
  known = _flags(config, words)
  try:
    left = known(words)
  except (flags.Error, TypeError, ValueError) as error:
    raise InputError(configs.wrong_value(config, str(error))) from error
  if len(left) > 1:
    raise InputError(f'{left[1]}: is not a flag; values go behind "=".')
  if known.workdir == '':
    raise InputError('--workdir: is empty; give a folder or leave it out.')
  path, preset = configs.locate(name)
  stem = f'{path.stem}-{preset}' if preset else path.stem
  workdir = pathlib.Path('runs', stem)
  if known.workdir:
    workdir = known.workdir  # as it was given: an address is no path
  return Call(config, workdir, configs.load_sweep(name), known)


def _flags(config: ConfigDict, words: list[str]) -> flags.FlagValues:
  known = flags.FlagValues()
  flags.DEFINE_string('workdir', None, 'Folder of the run.', known)
  flags.DEFINE_enum('mode', 'run', MODES, 'What to do.', known)
  flags.DEFINE_bool('overwrite', False, 'Other settings may go.', known)
  flags.DEFINE_bool('profile', False, 'Profiles one epoch.', known)
  flags.DEFINE_string('coordinator', '', 'Of several processes.', known)
  flags.DEFINE_integer('processes', 0, 'How many there are.', flag_values=known)
  flags.DEFINE_integer('process', -1, 'Which one, from 0.', flag_values=known)
  config_flags.DEFINE_config_dict(
    'config', config, flag_values=known, lock_config=True, sys_argv=words
  )
  return known


def run(call: Call) -> None:
  """Runs the study, or shows what it would do."""
  config, workdir, sweep, given = call
  if given.mode == 'dryrun':
    from cmbjax.study import dryrun

    print(dryrun.describe(config, workdir, sweep, overwrite=given.overwrite))
    return
  from cmbjax.training import hosts

  place = given.coordinator, given.processes, given.process
  with preemption.listening(), hosts.together(*place):
    from cmbjax.study import run as study

    study.study(
      config,
      workdir,
      sweep=sweep,
      profile=given.profile,
      overwrite=given.overwrite,
    )


def main(argv: list[str] | None = None) -> int:
  """Runs one study; returns the exit code, 0 too when it was asked to end."""
  argv = sys.argv if argv is None else argv
  if any(a in ('--help', '-h', '--helpfull') for a in argv[1:]):
    print(__doc__ + _HELP)
    return 0

  allocator.keep_pages()

  def work():
    try:
      run(parse(argv))
    except preemption.Stopped:
      told = 'cmbjax: stopped and saved; run it again to go on.'
      print(told, file=sys.stderr)
    return 0

  return exit_code(work)


if __name__ == '__main__':
  preemption.exit_with(main)
