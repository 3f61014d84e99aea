"""`python -m cmbjax.main --config=configs/finetune.py`: flags, nothing else.

It is kept short on purpose: the work is in study.py, where a notebook or a
test can call it.
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from cmbjax import config as configs
from cmbjax.errors import InputError

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Config file, with :preset behind it.', lock_config=True
)
_HELP = """
  --config=FILE[:PRESET]     a config; first of all flags (configs/*.py)
  --config.KEY=VALUE         changes one value; keys stand in configs/base.py
  --workdir=DIR              folder of the run; default runs/NAME

Single steps: cmbjax --help
"""
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; default runs/NAME of the config.'
)


def parse(argv: list[str]):
  """Command line to (config, workdir).

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
  configs.check_overrides(configs.load(name), rest)
  try:
    # --config has to stand before its overrides.
    left = flags.FLAGS(
      [argv[0], f'--config={configs.resolve(name)}', *rest], known_only=False
    )
  except (flags.Error, TypeError, ValueError) as error:
    raise InputError(' '.join(str(error).split())) from error
  if len(left) > 1:
    raise InputError(f'{left[1]}: is not a flag; values go behind "=".')
  if _WORKDIR.value == '':
    raise InputError('--workdir: is empty; give a folder or leave it out.')
  stem = pathlib.Path(name.partition(':')[0]).stem
  return _CONFIG.value, pathlib.Path(_WORKDIR.value or f'runs/{stem}')


def main(argv: list[str] | None = None) -> int:
  """Runs one study; returns the exit code."""
  argv = sys.argv if argv is None else argv
  if any(a in ('--help', '-h', '--helpfull') for a in argv[1:]):
    print(__doc__ + _HELP)
    return 0
  try:
    config, workdir = parse(argv)
    configs.validate(config)
    from cmbjax import study

    study.run(config, workdir)
  except InputError as error:
    print(f'cmbjax: {error}', file=sys.stderr)
    return error.exit_code
  except KeyboardInterrupt:
    print('cmbjax: interrupted; run it again to go on.', file=sys.stderr)
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main())
