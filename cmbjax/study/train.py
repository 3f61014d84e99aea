"""Planned trainings to trained weights.

Rule: a training is done once, and a folder of weights belongs to one training:
what another one left there is never taken, and never replaced without a word.
"""

import pathlib
import shutil
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from cmbjax import doors, files, sealed
from cmbjax.candidates import stages
from cmbjax.data import examples as examples_lib
from cmbjax.data import persons
from cmbjax.errors import InputError
from cmbjax.reconstruct.channels import depth
from cmbjax.study.material import Material
from cmbjax.study.networks import Trained, code_of, make_runner
from cmbjax.study.plan import Plan, Planned, program_of
from cmbjax.study.spec import Recipe, Study
from cmbjax.training import (
  checkpoint,
  hosts,
  logs,
  loop,
  record,
  replicas,
  watch,
)
from cmbjax.training.runner import Runner
from cmbjax.training.transfer import transfer

LOG = 'epochs.jsonl'


class Workshop:
  """What the trainings of a run share.

  Args:
    material: all examples.
    workdir: of the run.
    overwrite: what another setting left in a folder may be replaced.
  """

  def __init__(
    self, material: Material, workdir: pathlib.Path, *, overwrite: bool = False
  ):
    self.material = material
    self.workdir = pathlib.Path(workdir)
    self.overwrite = overwrite
    self.patches = replicas.on_device(
      examples_lib.seen(material.examples), material.examples.label
    )
    self._runners: dict[tuple, Runner] = {}

  def runner(self, config: ConfigDict) -> Runner:
    """The network and the way its replicas run, once for each program."""
    key = program_of(config)
    if key not in self._runners:
      self._runners[key] = make_runner(config)
    return self._runners[key]

  def folder(self, planned: Planned) -> pathlib.Path:
    """`models/STRATEGY`, or `models/STRATEGY@VARIANT` in a sweep."""
    return self.workdir / 'models' / planned.name


def train_all(
  plan: Plan,
  shop: Workshop,
  given: Mapping[str, Trained],
  observer: watch.Observer | None = None,
) -> dict[str, Trained]:
  """Trains what is not there yet: {fingerprint: networks}.

  Args:
    plan: the trainings, and which of them run at once.
    shop: examples and folders.
    given: strategy -> networks that are not trained here.
    observer: sees speed and losses; None for nobody.
  """
  done: dict[str, Trained] = {}
  for number, group in enumerate(plan.calls):
    found = {one.fingerprint: _finished(one, shop) for one in group}
    done |= {mark: one for mark, one in found.items() if one is not None}
    missing = [one for one in group if found[one.fingerprint] is None]
    common = _common(shop, number) / 'checkpoints'
    if missing and _mark(group) in checkpoint.fingerprints(common):
      missing = list(group)  # a kill came while their weights were saved
    if missing:
      sources = [
        done[one.source] if one.source else given.get(one.given)
        for one in missing
      ]
      new = _train_group(missing, sources, shop, number, observer)
      done |= {one.fingerprint: t for one, t in zip(missing, new)}
  return done


def _train_group(
  group: list[Planned],
  sources: list[Trained | None],
  shop: Workshop,
  number: int,
  observer: watch.Observer | None,
) -> list[Trained]:
  """The networks of some trainings, in one call of one program."""
  config = group[0].recipe.config
  runner = shop.runner(config)
  jobs = [make_job(one, shop.material) for one in group]
  folders = tuple(shop.folder(one) for one in group)
  common = folders[0] if len(group) == 1 else _common(shop, number)
  mark = _mark(group)
  _check_unfinished(common / 'checkpoints', mark, shop.overwrite)

  def start():
    weights = [
      first_weights(runner.network, one, job, shop.material, source)
      for one, job, source in zip(group, jobs, sources)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *weights)

  weights = loop.train_together(
    jobs,
    shop.patches,
    runner,
    checkpoints=common / 'checkpoints',
    logs=folders,
    fingerprint=mark,
    start=start,
    evaluation_batch=config.evaluation.batch,
    save_every_s=config.train.save_every_s,
    threshold=config.evaluation.threshold,
    observer=observer,
  )
  for one, job, folder, mine in zip(group, jobs, folders, weights):
    known = _weights_record(one, job, shop.material)
    if hosts.is_writer():
      known['log'] = sealed.sha256(folder / LOG)
    checkpoint.save_weights(folder, mine, known)
  if hosts.is_writer():  # the weights are there: nothing is left to resume
    shutil.rmtree(common / 'checkpoints', ignore_errors=True)
    if len(group) > 1:
      shutil.rmtree(common)
  return [
    Trained(mine, one.recipe.rows, one.fingerprint)
    for one, mine in zip(group, weights)
  ]


def _common(shop: Workshop, number: int) -> pathlib.Path:
  """Of the state of several trainings, until all are done.

  No training is called so: names have a sign before '@'.
  """
  return shop.workdir / 'models' / f'@together-{number}'


def _mark(group: Sequence[Planned]) -> str:
  return files.digest([one.fingerprint for one in group])


def _finished(one: Planned, shop: Workshop) -> Trained | None:
  """The networks of a training that is done; None where it is not.

  Raises:
    InputError: the folder holds another training, which would be lost.
  """
  folder = shop.folder(one)
  if not doors.is_there(folder / 'weights.json'):
    return None
  try:
    known = checkpoint.read_record(folder)['fingerprint']
  except InputError:
    known = 'unreadable'
  if known == one.fingerprint:
    try:
      weights = checkpoint.load_weights(folder)
      return Trained(weights, one.recipe.rows, one.fingerprint)
    except InputError:
      hosts.say(f'{folder}: is damaged; its networks are trained again.')
      return None
  _may_replace(folder, 'networks', shop.overwrite)
  return None


def _may_replace(folder: pathlib.Path, what: str, overwrite: bool) -> None:
  """Says that something is replaced, or refuses to.

  Raises:
    InputError: it was not asked for.
  """
  if not overwrite:
    raise InputError(
      f'{folder}: holds {what} of other examples, folds or settings, of '
      'another version of cmbjax, or changed by hand, which would be lost; '
      'give another --workdir, or --overwrite to replace them.'
    )
  hosts.say(f'{folder}: its {what} are replaced.')


def _check_unfinished(folder: pathlib.Path, mark: str, overwrite: bool) -> None:
  """Refuses to delete the checkpoints of another training.

  Raises:
    InputError: some are there.
  """
  if checkpoint.fingerprints(folder) - {mark}:
    _may_replace(folder, 'unfinished networks', overwrite)


def make_job(one: Planned, material: Material) -> loop.Job:
  """The training of one strategy: its pool, folds, replicas and length."""
  recipe = one.recipe
  pool = material.trainable(recipe.strategy.learns)
  _check_pool(recipe, material, pool)
  return loop.Job(
    strategy=recipe.name,
    replicas=recipe.rows,
    pool=pool,
    fold_of=material.fold_of[pool],
    epochs=recipe.epochs,
    batch=recipe.config.train.batch,
    stop_after=recipe.config.train.stop_after,
    variant=one.variant,
  )


def data_of(material: Material, study: Study) -> dict[tuple[str, ...], list]:
  """Content of examples and folds for fingerprints, by their cohorts."""
  out = {}
  for learns in {one.strategy.learns for one in study.trained}:
    pool = material.trainable(learns)
    facts = stages.facts(study.config.candidates)
    out[learns] = [
      material.content(pool),
      material.fold_of[pool].tolist(),
      facts,
    ]
  return out


def first_weights(
  network,
  planned: Planned,
  job: loop.Job,
  material: Material,
  source: Trained | None,
) -> replicas.Weights:
  """Fresh weights, or transferred ones: fold k starts from fold k.

  Args:
    network: the Flax module.
    planned: the training.
    job: its rows.
    material: labels, for the bias of the output.
    source: networks to start from; None: fresh weights.
  """
  config = planned.recipe.config
  fresh = replicas.first_weights(network, job.replicas, depth(config.channels))
  if source is None:
    if config.train.output_bias == 'prior':
      fresh = replicas.with_output_bias(fresh, _shares(job, material))
    return fresh
  given = [_partner(r, source.table) for r in job.replicas]
  chosen = jax.tree.map(lambda leaf: leaf[np.asarray(given)], source.weights)
  moved = transfer(fresh, chosen)
  start = planned.recipe.strategy.starts
  hosts.say(f'{job.name}: weights from {start}\n{moved}')
  return moved.weights


def _shares(job: loop.Job, material: Material) -> list[float]:
  """Of microbleeds among what each row trains on, its fold left out."""
  label = material.examples.label[job.pool]
  return [
    # The logit of 0 or of 1 is infinite.
    float(np.clip(label[job.fold_of != row.fold].mean(), 0.01, 0.99))
    for row in job.replicas
  ]


def _partner(replica: replicas.Replica, table: tuple) -> int:
  """The row of `table` that a replica starts from: its fold, its seed."""
  same_fold = [i for i, r in enumerate(table) if r.fold == replica.fold]
  choices = same_fold or range(len(table))
  # A seed that the source does not have starts from any of its seeds, always
  # the same one.
  same = [i for i in choices if table[i].seed == replica.seed]
  if same:
    return same[0]
  return list(choices)[replica.seed % len(choices)]


def _check_pool(recipe: Recipe, material: Material, pool: np.ndarray) -> None:
  """Every fold needs examples to train on and to validate with."""
  labels = material.examples.label[pool]
  if not (labels == 1).any() or not (labels == 0).any():
    which = 'microbleed' if not (labels == 1).any() else 'mimic'
    raise InputError(
      f'{recipe.name}: the training subjects of '
      f'{" and ".join(recipe.strategy.learns)} have no {which} among '
      f'their {len(pool)} candidates; check the labels or give more scans.'
    )
  empty = set(range(material.folds.num_folds)) - set(material.fold_of[pool])
  if empty:
    raise InputError(
      f'{recipe.name}: fold {min(empty)} holds no candidate; give more scans '
      'or set config.train.folds lower.'
    )


def _weights_record(one: Planned, job: loop.Job, material: Material) -> dict:
  config = one.recipe.config
  return {
    'strategy': one.recipe.name,
    'label': one.recipe.strategy.label,
    'variant': one.variant,
    'model': config.model.name,
    'model_code': code_of(config),
    'dtype': config.model.dtype,
    'bn_momentum': config.train.bn_momentum,
    'loss': config.train.loss,
    'augmenter': config.train.augmenter,
    'optimizer': config.train.optimizer,
    'patches': config.patches,
    'channels': list(config.channels),
    **stages.facts(config.candidates),
    'threshold': config.evaluation.threshold,
    'replicas': [row._asdict() for row in one.recipe.rows],
    'start': one.recipe.strategy.starts,
    'epochs': job.epochs,
    'batch': job.batch,
    **_people(job, material),
    'fold_hash': material.folds.hash,
    'simulated': bool(material.scans.simulated.any()),
    'fingerprint': one.fingerprint,
    'environment': record.environment(),
  }


def _people(job: loop.Job, material: Material) -> dict[str, list[str]]:
  """Whose scans a job learned from: labels, and names by `persons`."""
  scans = material.scans
  cohorts = set(material.examples.cohort[job.pool].tolist())
  subjects = set(material.examples.subject[job.pool].tolist())
  mine = np.isin(scans.subject, sorted(subjects))
  mine &= np.isin(scans.cohort, sorted(cohorts))
  return {
    'subjects': sorted(subjects),
    'persons': sorted(
      {
        persons.of_cohort(person, cohort)
        for person, cohort in zip(
          scans.person[mine].tolist(), scans.cohort[mine].tolist()
        )
      }
    ),
  }


def epochs_of(folder: pathlib.Path) -> list[dict]:
  """The log of a finished training; empty where it is not what was written."""
  path = folder / LOG
  known = checkpoint.read_record(folder).get('log')
  if not doors.is_there(path) or known != sealed.sha256(path):
    hosts.say(
      f'{path}: is missing, or was changed after the training; it is left out.'
    )
    return []
  return logs.read(path)
