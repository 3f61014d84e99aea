"""One program in several processes, each with its own devices.

Rule: every process runs the same code on the same data; only the first one
writes. With one process nothing here costs or changes anything.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO

import jax
import numpy as np

from cmbjax.errors import InputError, shown
from cmbjax.training import preemption
from cmbjax.training.line import Line

_line: Line | None = None
_HEARTBEAT_S = 24 * 3600  # the line notices sooner, and ends in order


class _Place(NamedTuple):
  """Of one process among several."""

  coordinator: str
  processes: int
  index: int


@contextlib.contextmanager
def together(
  coordinator: str = '', processes: int = 0, index: int = -1
) -> Iterator[None]:
  """Meets the other processes; inside, all continue or all end.

  An error in one ends the others within seconds, with its sentence and its
  exit code; so does a process that is killed. Enter it before anything else
  of JAX, inside `preemption.listening`.

  Args:
    coordinator: HOST:PORT of process 0; empty: found from Slurm when the job
      has several tasks, else there is one process.
    processes: how many there are.
    index: number of this one, from 0.

  Raises:
    InputError: only a part of the three is given, a process does not come, or
      one has failed.
  """
  global _line
  place = _place(coordinator, processes, index)
  if place.processes == 1:
    yield
    return
  line = _line = Line(*place)
  try:
    line.meet()
    _initialize(place)
    line.gather('joined')  # who failed sooner would leave the others in JAX
    yield
    # All is done: a SIGTERM now, which the others may not get, would only keep
    # this process away from where they wait for it, for minutes.
    with preemption.deferred():
      line.end()
      jax.distributed.shutdown()  # waits for all, before process 0 may be gone
      line.close()
  except BaseException as error:
    left = line.leave(error)
    if left is error:
      raise
    raise left from error
  finally:
    _line = None


def check_same(values: Mapping[str, Any]) -> None:
  """Ends all processes when they differ in anything.

  Args:
    values: of this process, in any depth of dicts: what is in the way of JSON
      is compared as text.

  Raises:
    InputError: names the first key that differs, with both values.
  """
  all_of = _gather('same', _flat(values))
  for index, mine in enumerate(all_of):
    for key in sorted({*all_of[0], *mine}):
      one, other = all_of[0].get(key), mine.get(key)
      if one != other:  # the first key will do: the others may follow from it
        _line.end_all(
          f'{key}: is {shown(other)} in process {index} and {shown(one)} in '
          'process 0; start all processes with the same command, files and '
          'versions.',
          InputError.exit_code,
        )


def count() -> int:
  """Number of processes."""
  return jax.process_count()


def is_writer() -> bool:
  """Whether this process writes files and the report."""
  return jax.process_index() == 0


def screen() -> TextIO:
  """Where progress goes: to one terminal only."""
  return sys.stderr if is_writer() else io.StringIO()


def say(text: str) -> None:
  """A plain line beside the progress; standard output is for results."""
  if is_writer():
    print(text, file=sys.stderr, flush=True)


def fetch(tree: Any) -> Any:
  """Arrays on all devices to whole numpy arrays in every process."""

  def one(leaf):
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
      from jax.experimental import multihost_utils

      return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)

  return jax.tree.map(one, tree)


def agree(flag: bool) -> bool:
  """Whether any process says yes; all must ask."""
  return any(_gather('agree', bool(flag)))


def barrier(name: str) -> None:
  """Waits until all processes are here, for hours if need be."""
  _gather(name)


def first(name: str, function: Callable[[], Any]) -> Any:
  """The first process makes files; the others call it when they are there."""
  out = function() if is_writer() else None
  barrier(name)
  return out if is_writer() else function()


def _place(coordinator: str, processes: int, index: int) -> _Place:
  if coordinator or processes or index >= 0:
    if not coordinator or not 0 <= index < processes:
      raise InputError(
        '--coordinator, --processes and --process: give all three, with '
        f'--process from 0 to --processes - 1; found {coordinator!r}, '
        f'{processes} and {index}.'
      )
    return _Place(coordinator, processes, index)
  tasks = int(os.environ.get('SLURM_NTASKS', '1'))
  if tasks > 1 and _in_step():
    return _Place(_slurm_address(), tasks, int(os.environ['SLURM_PROCID']))
  return _Place('', 1, 0)


def _slurm_address() -> str:
  """The first node of the step, and a port by the number of the job.

  The same rule as in JAX, which does not say what it found.
  """
  nodes = os.environ['SLURM_STEP_NODELIST']  # a,b or a[01-03,07],b
  name, number = re.match(r'([^,\[]+)(?:\[([^,\]-]+))?', nodes).groups()
  port = 65535 - 2**12 + 1 + int(os.environ['SLURM_JOB_ID']) % 2**12
  return f'{name}{number or ""}:{port}'


def _initialize(place: _Place) -> None:
  # Its preemption service would take SIGTERM away from `preemption`.
  jax.config.update('jax_enable_preemption_service', False)
  jax.distributed.initialize(*place, heartbeat_timeout_seconds=_HEARTBEAT_S)
  jax.devices()  # waits for the others: not later, while one simulates


def _gather(name: str, value: Any = None) -> list:
  """Values of all processes; without JAX, whose waiting nothing interrupts."""
  if _line:
    return _line.gather(name, value)
  if count() > 1:
    raise RuntimeError('several processes: put the work into hosts.together.')
  return [value]


def _flat(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested dicts to one, with dots in its keys and text as values."""
  out = {}
  for key, value in values.items():
    if isinstance(value, Mapping):
      out |= _flat(value, f'{prefix}{key}.')
    else:
      out[f'{prefix}{key}'] = repr(value)
  return out


def _in_step() -> bool:
  """Whether Slurm started this process with srun, not the batch script."""
  return 'SLURM_STEP_ID' in os.environ and 'SLURM_PROCID' in os.environ
