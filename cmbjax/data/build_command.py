"""`cmbjax build`: a builder folder and a cohort to a TFDS data set on disk.

The stock `tfds build` imports TensorFlow, Beam and mlcroissant before it can
print its help; this uses only the documented `download_and_prepare`. The same
in Python, without this command:

    Builder(data_dir=OUT, config='native').download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir=SOURCE))
"""

import argparse
import pathlib

from cmbjax import beam, doors, files
from cmbjax.errors import InputError
from cmbjax.intake import dry_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The flags of `tfds build` that apply, and --jobs."""
  parser.add_argument(
    'builder',
    help='name of the cohort (small letters, digits, _), or tfds_builders/NAME',
  )
  parser.add_argument(
    '--manual_dir', '--manual-dir', required=True, help='the cohort folder'
  )
  parser.add_argument(
    '--data_dir',
    '--data-dir',
    required=True,
    help='result: DATA_DIR/NAME/CONFIG/VERSION',
  )
  parser.add_argument(
    '--config',
    default='native',
    help="'native' (default) or 'resampled'; further channels are named behind "
    "it in the order of config.channels, as 'resampled_wide_mirror'",
  )
  parser.add_argument(
    '--candidates',
    metavar='STAGE',
    help="how candidates are found: 'frst' (default), 'learned', or a "
    "function of your own as 'module:function'",
  )
  parser.add_argument(
    '--jobs', type=int, default=None, help='threads; default: one per core'
  )
  parser.add_argument(
    '--overwrite', action='store_true', help='build again what is there'
  )
  parser.add_argument('--dry-run', action='store_true', help=dry_run.HELP)
  beam.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
  """Builds and prints the folder; 0: all is in it, 1: not every scan.

  Raises:
    NoInputError: no such builder or cohort.
    InputError: the cohort or a flag is wrong, or another cohort was built to
      the same place.
  """
  if args.jobs is not None and args.jobs < 1:
    raise InputError(f'--jobs: is {args.jobs}, must be 1 or more.')
  from cmbjax.candidates import stages
  from cmbjax.data import cohort, examples

  _check_ours(args.builder)
  if args.dry_run:
    return cohort.dry_run_of(pathlib.Path(args.manual_dir))
  runner = beam.runner_of(args)
  stage = args.candidates or stages.DEFAULT
  stages.find(stage, key='--candidates')  # a wrong one ends here
  folder = examples.build(
    args.builder,
    args.manual_dir,
    args.data_dir,
    config=args.config,
    candidates=stage,
    jobs=args.jobs,
    overwrite=args.overwrite,
    runner=runner,
    apart=False,
  )
  print(folder)
  # They were said; the others are kept.
  return 1 if cohort.read_cohort(args.manual_dir).broken else 0


def _check_ours(builder: str) -> None:
  """A folder with a builder of somebody's own is not taken for one of ours."""
  import tfds_builders

  own = pathlib.Path(
    builder, f'{pathlib.Path(builder).name}_dataset_builder.py'
  )
  ours = pathlib.Path(tfds_builders.__file__).parent.joinpath(*own.parts[-2:])
  if doors.is_there(own) and not (
    doors.is_there(ours) and files.digest(own) == files.digest(ours)
  ):
    raise InputError(
      f'{own}: is a builder of your own; give its class to '
      '`cmbjax.data.examples.build` in Python, or run `tfds build` there.'
    )
