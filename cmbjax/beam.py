"""A function over many items, on any Apache Beam runner, results in order.

Rule: what comes back is what a plain loop gives. Every result is a file in a
folder that all workers can write, so nothing large goes through the runner.
"""

import pathlib
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cmbjax import files
from cmbjax.errors import InputError


class BeamRunner(NamedTuple):
  """Where to run, as given by --beam_runner and --beam_options."""

  name: str  # DirectRunner, FlinkRunner, SparkRunner, ...
  options: str = ''  # 'key=value,flag,...' of Beam's PipelineOptions


def add_arguments(parser) -> None:
  """--beam_runner and --beam_options."""
  parser.add_argument(
    '--beam_runner',
    '--beam-runner',
    metavar='NAME',
    help="Apache Beam runner, e.g. DirectRunner; needs pip's extra [beam]",
  )
  parser.add_argument(
    '--beam_options',
    '--beam-options',
    default='',
    metavar='KEY=VALUE,...',
    help='of the runner, for example direct_num_workers=2',
  )


def runner_of(arguments) -> BeamRunner | None:
  """What the flags say; None: no Beam.

  Raises:
    InputError: options without a runner, or Beam is not installed.
  """
  if not arguments.beam_runner:
    if arguments.beam_options:
      raise InputError(
        '--beam_options: found without --beam_runner; give both.'
      )
    return None
  runner = BeamRunner(arguments.beam_runner, arguments.beam_options)
  _pipeline(runner)  # a wrong name ends here
  return runner


def run(
  work: Callable, items: Sequence, *, runner: BeamRunner, folder: pathlib.Path
) -> Iterator[Any]:
  """`map(work, items)` on a runner, in order.

  Args:
    work: can be pickled, and so can its results.
    items: one task each.
    runner: where to run.
    folder: all workers can write here; it is left as it was.

  Raises:
    InputError: as raised by `work` for the first item that failed, or the
      runner is unknown.
  """
  import apache_beam

  folder = pathlib.Path(folder)
  files.make_folder(folder)
  with tempfile.TemporaryDirectory(prefix='beam-', dir=folder) as shared:
    with _pipeline(runner) as pipeline:
      _ = (
        pipeline
        | apache_beam.Create(list(enumerate(items)))
        | apache_beam.Reshuffle()  # else one worker may get them all
        | apache_beam.Map(_store, work=work, folder=str(shared))
      )
    for number in range(len(items)):
      path = pathlib.Path(shared, f'{number}.pickle')
      # Our own workers wrote it, to a folder that only we can read.
      result, error = pickle.loads(path.read_bytes())  # nosec B301
      path.unlink()
      if error is not None:
        raise error
      yield result


def _store(numbered, *, work, folder) -> None:
  """One task on a worker; a person's mistake comes back as it is."""
  number, item = numbered
  try:
    result = work(item), None
  except InputError as error:
    result = None, error
  files.write_bytes(
    pathlib.Path(folder, f'{number}.pickle'), pickle.dumps(result)
  )


def _pipeline(runner: BeamRunner):
  try:
    import apache_beam
    from apache_beam.options import pipeline_options
  except ImportError as error:
    raise InputError(
      "--beam_runner: Apache Beam is not installed; pip install 'cmbjax[beam]'."
    ) from error
  flags = [f'--{part.strip()}' for part in runner.options.split(',') if part]
  options = pipeline_options.PipelineOptions(flags)
  try:
    return apache_beam.Pipeline(runner=runner.name, options=options)
  except (ValueError, ImportError) as error:
    first = str(error).splitlines()[0]
    raise InputError(f'--beam_runner={runner.name}: {first}') from error
