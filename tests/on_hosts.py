"""Run by test_hosts.py, once per process: OUT [COORDINATOR PROCESSES INDEX].

Trains the jobs of on_devices.py and writes their predictions.
"""

import pathlib
import sys

import numpy as np

from cmbjax.training import hosts


def predictions(out):
  """Likelihoods of every job, trained in folder `out`."""
  from cmbjax.training import loop
  from cmbjax.training.runner import Runner
  from tests import on_devices

  jobs = on_devices.jobs()
  runner = Runner(on_devices.NETWORK, backend='shard')
  names = [job.strategy for job in jobs]
  weights = loop.train_together(
    jobs,
    on_devices.PATCHES,
    runner,
    place=loop.Place(out / 'common', tuple(out / name for name in names)),
    fingerprint='f',
    start=lambda: on_devices.start(loop.rows_of(jobs)),
  )
  return {
    name: loop.predict(on_devices.PATCHES, one, runner, np.arange(11))
    for name, one in zip(names, weights)
  }


def main(out, coordinator='', processes='0', index='-1'):
  hosts.join(coordinator, int(processes), int(index))
  out = pathlib.Path(out)
  found = predictions(out)
  assert not hosts.agree(False)
  assert hosts.agree(hosts.is_writer())
  hosts.barrier('end')
  if hosts.is_writer():
    np.savez(out / 'predictions.npz', **found)


if __name__ == '__main__':
  main(*sys.argv[1:])
