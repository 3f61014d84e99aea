"""Run by test_hosts.py, once per process.

  on_hosts.py OUT [COORDINATOR PROCESSES INDEX [FAULT]]

Trains the jobs of on_devices.py and writes their predictions. FAULT is what
happens to this process at the end of an epoch.
"""

import os
import pathlib
import signal
import sys
import threading

import numpy as np

from cmbjax import errors
from cmbjax.training import hosts, preemption

SENTENCE = 'epochs.jsonl: cannot be written (No space left on device).'


def predictions(out):
  """Likelihoods of every job, trained in folder `out`."""
  from cmbjax.training import inference, loop
  from cmbjax.training.runner import Runner
  from tests import on_devices

  jobs = on_devices.jobs()
  runner = Runner(on_devices.NETWORK, backend='shard')
  names = [job.strategy for job in jobs]
  weights = loop.train_together(
    jobs,
    on_devices.PATCHES,
    runner,
    checkpoints=out / 'common',
    logs=[out / name for name in names],
    fingerprint='f',
    start=lambda: on_devices.start(loop.rows_of(jobs)),
  )
  return {
    name: inference.predict(on_devices.PATCHES, one, runner, np.arange(11))
    for name, one in zip(names, weights)
  }


def strike(fault):
  """What goes wrong."""
  if fault == 'sentence':
    raise errors.InputError(SENTENCE)
  if fault == 'bug':
    raise ZeroDivisionError('of a test')
  if fault == 'sigkill':
    os.kill(os.getpid(), signal.SIGKILL)
  if fault == 'sigterm':  # only to this one
    os.kill(os.getpid(), signal.SIGTERM)
  if fault == 'waits':  # as in C++, which hears of nothing
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Event().wait()


def break_in_training(fault):
  """Strikes where the first epoch ends."""
  usual = hosts.agree

  def agree(flag):
    hosts.agree = usual
    strike(fault)
    return usual(flag or preemption.requested())

  hosts.agree = agree


def work(out, coordinator='', processes='0', index='-1', fault=''):
  """The whole program; the exit code."""
  with (
    preemption.listening(),
    hosts.together(coordinator, int(processes), int(index)),
  ):
    if fault.startswith('early '):
      strike(fault.removeprefix('early '))
    if fault:
      break_in_training(fault)
    found = predictions(pathlib.Path(out))
    assert not hosts.agree(False)
    assert hosts.agree(hosts.is_writer())
    hosts.barrier('end')
    if hosts.is_writer():
      np.savez(pathlib.Path(out) / 'predictions.npz', **found)
  return 0


def main():
  try:
    return errors.exit_code(lambda: work(*sys.argv[1:]))
  except preemption.Stopped:
    return 0


if __name__ == '__main__':
  preemption.exit_with(main)
