"""One program in several processes, each with its own devices.

Rule: every process runs the same code on the same data; only the first one
writes. With one process nothing here costs or changes anything.
"""

import io
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

import jax
import numpy as np

from cmbjax.errors import InputError

_barriers = itertools.count()
_BARRIER_MS = 24 * 3600 * 1000  # the first process may simulate for hours


def join(coordinator: str = '', processes: int = 0, index: int = -1) -> None:
  """Meets the other processes; call it before anything else of JAX.

  Args:
    coordinator: HOST:PORT of process 0; empty: found from Slurm when the job
      has several tasks, else there is one process.
    processes: how many there are.
    index: number of this one, from 0.

  Raises:
    InputError: only a part of the three is given.
  """
  if coordinator or processes or index >= 0:
    if not coordinator or not 0 <= index < processes:
      raise InputError(
        '--coordinator, --processes and --process: give all three, with '
        f'--process from 0 to --processes - 1; found {coordinator!r}, '
        f'{processes} and {index}.'
      )
    _initialize(coordinator, processes, index)
  elif int(os.environ.get('SLURM_NTASKS', '1')) > 1 and _in_step():
    _initialize()  # JAX reads the rest from Slurm


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
  if count() == 1:
    return flag
  from jax.experimental import multihost_utils

  return bool(multihost_utils.process_allgather(np.array(flag)).any())


def barrier(name: str) -> None:
  """Waits until all processes are here."""
  if count() == 1:
    return
  from jax._src import distributed  # the public barrier times out in minutes

  # A name serves once.
  name = f'cmbjax {next(_barriers)} {name}'
  distributed.global_state.client.wait_at_barrier(name, _BARRIER_MS)


def first(name: str, function: Callable[[], Any]) -> Any:
  """The first process makes files; the others call it when they are there."""
  out = function() if is_writer() else None
  barrier(name)
  return out if is_writer() else function()


def _initialize(*arguments: Any) -> None:
  # Its preemption service would take SIGTERM away from `preemption`.
  jax.config.update('jax_enable_preemption_service', False)
  jax.distributed.initialize(*arguments)


def _in_step() -> bool:
  """Whether Slurm started this process with srun, not the batch script."""
  return 'SLURM_STEP_ID' in os.environ and 'SLURM_PROCID' in os.environ
