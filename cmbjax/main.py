"""`python -m cmbjax.main --config=configs/finetune.py`: flags, nothing else.

It is kept short on purpose: the work is in study.py, where a notebook or a
test can call it.
"""

import pathlib
import sys
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from cmbjax import allocator
from cmbjax import config as configs
from cmbjax.errors import InputError, exit_code
from cmbjax.training import preemption

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Config file, with :preset behind it.', lock_config=True
)
_HELP = """
  --config=FILE[:PRESET]     a config; first of all flags (configs/*.py)
  --config.KEY=VALUE         changes one value; keys stand in configs/base.py
  --workdir=DIR              folder of the run; default runs/NAME
  --mode=dryrun              shows trainings, memory and time; trains nothing
  --profile                  profiles one epoch into DIR/profile
  --coordinator=HOST:PORT --processes=N --process=I
                             one of N processes; Slurm needs none of these

Single steps: cmbjax --help
"""
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; default runs/NAME of the config.'
)
_MODE = flags.DEFINE_enum('mode', 'run', ('run', 'dryrun'), 'What to do.')
_PROFILE = flags.DEFINE_bool('profile', False, 'Profiles one epoch.')
_COORDINATOR = flags.DEFINE_string('coordinator', '', 'Of several processes.')
_PROCESSES = flags.DEFINE_integer('processes', 0, 'How many there are.')
_PROCESS = flags.DEFINE_integer('process', -1, 'Which one this is, from 0.')


class Call(NamedTuple):
  """What the command line asks for."""

  config: ConfigDict
  workdir: pathlib.Path
  sweep: tuple[dict, ...]


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
  try:
    # --config has to stand before its overrides.
    left = flags.FLAGS(
      [argv[0], f'--config={configs.resolve(name)}', *rest], known_only=False
    )
  except (flags.Error, TypeError, ValueError) as error:
    raise InputError(configs.wrong_value(config, str(error))) from error
  if len(left) > 1:
    raise InputError(f'{left[1]}: is not a flag; values go behind "=".')
  if _WORKDIR.value == '':
    raise InputError('--workdir: is empty; give a folder or leave it out.')
  stem = pathlib.Path(name.partition(':')[0]).stem
  workdir = pathlib.Path(_WORKDIR.value or f'runs/{stem}')
  return Call(_CONFIG.value, workdir, configs.load_sweep(name))


def run(call: Call) -> None:
  """Runs the study, or shows what it would do."""
  if _MODE.value == 'dryrun':
    from cmbjax import dryrun

    print(dryrun.describe(*call))
    return
  from cmbjax.training import hosts

  with preemption.listening():
    hosts.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    from cmbjax import study

    config, workdir, sweep = call
    study.run(config, workdir, sweep=sweep, profile=_PROFILE.value)


def main(argv: list[str] | None = None) -> int:
  """Runs one study; returns the exit code, 0 too when it was asked to end."""
  argv = sys.argv if argv is None else argv
  if any(a in ('--help', '-h', '--helpfull') for a in argv[1:]):
    print(__doc__ + _HELP)
    return 0

  allocator.keep_pages()

  def work():
    try:
      call = parse(argv)
      configs.validate(call.config)
      run(call)
    except preemption.Stopped:
      told = 'cmbjax: stopped and saved; run it again to go on.'
      print(told, file=sys.stderr)
    return 0

  return exit_code(work)


if __name__ == '__main__':
  preemption.exit_with(main)
