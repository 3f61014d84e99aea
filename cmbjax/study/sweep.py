"""Trainings of all points of a sweep to the one of each strategy to report.

Rule: a point is chosen by the loss on held-out folds, never by a test set.
"""

import csv
import pathlib
from collections.abc import Mapping

import numpy as np

from cmbjax import doors, files
from cmbjax.errors import InputError
from cmbjax.study import train
from cmbjax.study.networks import Trained
from cmbjax.study.plan import Plan, Planned
from cmbjax.training import checkpoint, hosts, inference, replicas

_NOT_SHOWN = ('strategy', 'fold', 'seed')


def choose(
  plan: Plan, done: Mapping[str, Trained], shop: train.Workshop
) -> dict[str, Planned]:
  """Of each strategy the training with the smallest held-out loss.

  Its folder becomes `models/STRATEGY`; `sweep.csv` holds all of them.

  Args:
    plan: all trainings.
    done: fingerprint -> networks.
    shop: examples and folders.

  Raises:
    InputError: no training of one learned anything.
  """
  chosen: dict[str, Planned] = {}
  loss_of: dict[str, float] = {}
  strategies = {strategy for strategy, _ in plan.at}
  if len(plan.trainings) > len(strategies):  # a sweep
    for one in plan.trainings:
      loss_of[one.fingerprint] = np.inf
      if learned(shop.folder(one)):
        loss_of[one.fingerprint] = held_out_loss(
          one, done[one.fingerprint], shop
        )
  for (strategy, _), one in plan.at.items():
    best = chosen.setdefault(strategy, one)
    if loss_of and loss_of[one.fingerprint] < loss_of[best.fingerprint]:
      chosen[strategy] = one
  for strategy, one in chosen.items():
    if loss_of and not np.isfinite(loss_of[one.fingerprint]):
      raise InputError(
        f'{strategy}: no point of the sweep has a log with a finite held-out '
        'loss; lower the learning rates or look at the images, and remove the '
        'folder of a training whose epochs.jsonl is missing, to train it again.'
      )
  table = shop.workdir / 'sweep.csv'
  if not loss_of and hosts.is_writer():
    table.unlink(missing_ok=True)  # of an earlier sweep
    if len(plan.at) > len(chosen):
      hosts.say('sweep: its points change nothing that is trained here.')
  if loss_of:
    if hosts.is_writer():
      write_table(table, plan, loss_of, chosen)
    for strategy, one in chosen.items():
      publish(shop.folder(one), strategy, one.fingerprint)
      name = one.variant or 'all points alike'
      hosts.say(f'{strategy}: smallest held-out loss with {name}')
  return chosen


def held_out_loss(
  one: Planned, networks: Trained, shop: train.Workshop
) -> float:
  """Mean cross-entropy of the training candidates, each out of fold.

  Without class weights, so that trainings with different ones compare.

  Args:
    one: the training.
    networks: that came of it.
    shop: examples and folders.
  """
  job = train.make_job(one, shop.material)
  likelihood = inference.out_of_fold(
    job,
    shop.patches,
    networks.weights,
    shop.runner(one.recipe.config),
    batch=one.recipe.config.evaluation.batch,
  )
  label = shop.material.examples.label[job.pool]
  right = np.where(label == 1, likelihood, 1 - likelihood)
  # Cut off: one likelihood of 0 must not make all losses infinite alike.
  return float(-np.log(np.maximum(right, 1e-12)).mean())


def learned(folder: pathlib.Path) -> bool:
  """Whether every network of a training had a finite held-out loss once.

  One that had none keeps the weights that it began with; a sweep must not
  choose those, nor one whose log is not there to tell.
  """
  rows = train.epochs_of(folder)
  values = [row.get('validation_loss', []) for row in rows]
  networks = list(zip(*values))
  return bool(networks) and all(
    any(v is not None for v in network) for network in networks
  )


def write_table(
  path: pathlib.Path,
  plan: Plan,
  loss_of: Mapping[str, float],
  chosen: Mapping[str, Planned],
) -> None:
  """One line per training: settings, held-out loss, whether it was chosen.

  The loss is inf where a network did not learn, see `learned`.

  Args:
    path: of the table.
    plan: all trainings.
    loss_of: fingerprint -> held-out loss.
    chosen: strategy -> the best training.
  """
  columns = [f for f in replicas.Replica._fields if f not in _NOT_SHOWN]
  lines = [['strategy', 'variant', 'networks', 'epochs', 'batch', 'model']]
  lines[0] += [*columns, 'held_out_loss', 'chosen']
  for one in plan.trainings:
    config, rows = one.recipe.config, one.recipe.rows
    cells = [one.recipe.name, one.variant, len(rows), one.recipe.epochs]
    cells += [config.train.batch, config.model.name]
    cells += [getattr(rows[0], name) for name in columns]
    best = chosen[one.recipe.name].fingerprint == one.fingerprint
    loss = f'{loss_of[one.fingerprint]:.6f}'
    lines.append([*cells, loss, 'yes' if best else ''])
  with files.whole(path) as temporary, temporary.open('w', newline='') as out:
    csv.writer(out).writerows(lines)


def publish(source: pathlib.Path, strategy: str, fingerprint: str) -> None:
  """The chosen training of a sweep as `models/STRATEGY`.

  Args:
    source: folder of the training.
    strategy: its name.
    fingerprint: of the training.
  """
  target = source.with_name(strategy)
  if source == target:
    return
  try:
    if checkpoint.read_record(target)['fingerprint'] == fingerprint:
      checkpoint.check_weights(target)
      return
  except InputError:
    pass  # not there yet, or damaged: it is written
  checkpoint.save_weights(
    target, checkpoint.load_weights(source), checkpoint.read_record(source)
  )
  if hosts.is_writer() and doors.is_there(source / train.LOG):
    files.write_bytes(target / train.LOG, files.read_bytes(source / train.LOG))
