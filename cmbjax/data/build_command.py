"""`cmbjax build`: a builder folder and a cohort to a TFDS data set on disk.

The stock `tfds build` imports TensorFlow, Beam and mlcroissant before it can
print its help; this uses only the documented `download_and_prepare`. The same
in Python, without this command:

    Builder(data_dir=OUT, config='native').download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir=SOURCE))
"""

import argparse
import importlib
import importlib.util
import pathlib
import sys

from cmbjax import beam
from cmbjax.errors import InputError, NoInputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The flags of `tfds build` that apply, and --jobs."""
  parser.add_argument(
    'builder',
    help='name of the cohort (small letters, digits, _), or the folder of a '
    'builder, for example tfds_builders/NAME',
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
    help="'native' (default) or 'resampled', also with '_phase', '_magnitude' "
    'or both behind it, for further channels',
  )
  parser.add_argument(
    '--candidates',
    metavar='STAGE',
    help="how candidates are found: 'frst' (default), or a function "
    "of your own as 'module:function'",
  )
  parser.add_argument(
    '--jobs', type=int, default=None, help='threads; default: one per core'
  )
  parser.add_argument(
    '--overwrite', action='store_true', help='build again what is there'
  )
  beam.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
  """Builds and prints the folder; 0 when it is there.

  Raises:
    NoInputError: no such builder or cohort.
    InputError: the cohort or a flag is wrong, or another cohort was built to
      the same place.
  """
  if args.jobs is not None and args.jobs < 1:
    raise InputError(f'--jobs: is {args.jobs}, must be 1 or more.')
  from cmbjax.candidates import stages
  from cmbjax.data import examples

  builder_class = load_builder(args.builder)
  runner = beam.runner_of(args)
  stage = args.candidates or stages.DEFAULT
  stages.find(stage, key='--candidates')  # a wrong one ends here
  folder = examples.build_with(
    builder_class,
    args.manual_dir,
    args.data_dir,
    config=args.config,
    candidates=stage,
    jobs=args.jobs,
    overwrite=args.overwrite,
    runner=runner,
  )
  print(folder)
  return 0


def load_builder(folder: str) -> type:
  """The class `Builder` of FOLDER/NAME_dataset_builder.py.

  A folder that does not exist is looked for in the installed tfds_builders;
  a plain name that is not a folder is the name of a new cohort.

  Args:
    folder: of the builder, or a name.

  Raises:
    NoInputError: there is no such file.
    InputError: the file has no class of that name.
  """
  from cmbjax.data import built

  path = pathlib.Path(folder).resolve()
  name = path.name
  ours = importlib.util.find_spec('tfds_builders')
  homes = [pathlib.Path(p).resolve() for p in ours.submodule_search_locations]
  if not path.is_dir():
    path = next((h / name for h in homes if (h / name).is_dir()), path)
    if not path.is_dir() and folder == name:
      return built.builder_class_of(name)
  file = path / f'{name}_dataset_builder.py'
  if not file.is_file():
    raise NoInputError(
      f'{folder}: holds no {file.name}; give a builder folder such as '
      'tfds_builders/NAME.'
    )
  # TFDS names a data set after its module, reads README.md beside it, and
  # refuses a second module of one name.
  package = f'tfds_builders.{name}' if path.parent in homes else name
  sys.path.insert(0, str(path.parent))
  try:
    module = importlib.import_module(f'{package}.{file.stem}')
  finally:
    sys.path.remove(str(path.parent))
  if not hasattr(module, 'Builder'):
    raise InputError(f'{file}: has no class Builder.')
  return module.Builder
