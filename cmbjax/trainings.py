"""Points of a sweep to jobs, jobs to trained weights.

Rule: a training is done once. Points that agree on everything that decides a
training share it, and so do two runs in one folder.
"""

import csv
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cmbjax import config as configs
from cmbjax import files
from cmbjax.data import augment, persons
from cmbjax.data import examples as examples_lib
from cmbjax.data import folds as folds_lib
from cmbjax.data.channels import ONLY_SWI
from cmbjax.errors import InputError
from cmbjax.models import get_model
from cmbjax.training import (
  checkpoint,
  held_out,
  hosts,
  logs,
  loop,
  record,
  replicas,
  watch,
)
from cmbjax.training.runner import Runner
from cmbjax.training.transfer import transfer

# Part of every fingerprint: raise it when the same settings would give other
# numbers than before.
NUMBERS_VERSION = 2


RunnerOf = Callable[[ConfigDict], Runner]


class Material(NamedTuple):
  """All examples of all cohorts, and who may be used for what."""

  examples: examples_lib.Examples
  scans: examples_lib.Scans
  folds: folds_lib.Folds
  fold_of: np.ndarray  # [N] fold of trainable examples, -1 for test subjects
  lesions: examples_lib.Lesions | None = None  # all true ones, of every cohort


class Trained(NamedTuple):
  """One strategy's networks, and how they came about."""

  weights: replicas.Weights  # leaves [R, ...]
  table: tuple[replicas.Replica, ...]  # R rows
  fingerprint: str
  model: str = ''
  variant: str = ''


_NOT_IN_SWEEP = ('strategy', 'fold', 'seed')


class Planned(NamedTuple):
  """One job, where it starts, and what its program looks like."""

  job: loop.Job
  config: ConfigDict
  fingerprint: str
  source: str | None  # fingerprint of the job whose weights it goes on from


def say(text: str) -> None:
  """A plain line beside the progress; standard output is for results."""
  if hosts.is_writer():
    print(text, file=sys.stderr, flush=True)


def plan(
  points: Sequence[configs.Point],
  material: Material,
  given: Mapping[str, Trained],
) -> dict[tuple[str, str], Planned]:
  """The jobs of all points: {(strategy, point name): job}.

  Jobs that are the same are the same object. A fine-tuning belongs to the
  pretraining of its own point, or to `given`.
  """
  out, known, taken = {}, {}, {}
  for point in points:
    for strategy in configs.trained_strategies(point.config):
      source = None
      if configs.goes_on(point.config, strategy):
        source = given.get('7t') or out['7t', point.name]
      job = make_job(point.config, material, strategy)
      mark = job_fingerprint(point.config, material, job, source)
      if mark not in known:
        variant = configs.variant(point, strategy)
        # Two trainings of one name would share a folder.
        count = taken[strategy, variant] = taken.get((strategy, variant), 0) + 1
        variant += f',{count}' if count > 1 else ''
        job = make_job(point.config, material, strategy, variant=variant)
        start = source.fingerprint if isinstance(source, Planned) else None
        known[mark] = Planned(job, point.config, mark, start)
      out[strategy, point.name] = known[mark]
  return out


def programs(planned: Sequence[Planned]) -> list[list[Planned]]:
  """Jobs that run at once: each list is one call of one compiled program.

  Jobs that wait for the weights of others come after them. What changes
  shapes (the network, the batch) opens another program.
  """
  unique = list({p.fingerprint: p for p in planned}.values())
  groups: dict[tuple, list[Planned]] = {}
  for one in unique:
    groups.setdefault((one.source is not None, program_of(one)), []).append(one)
  return [groups[key] for key in sorted(groups, key=lambda k: k[0])]


def program_of(planned: Planned) -> tuple:
  """What decides the shapes of a program."""
  return (*network_of(planned.config), planned.job.batch)


def network_of(config: ConfigDict) -> tuple:
  """What decides a network, as it is compiled."""
  model = config.model
  return (
    model.name,
    model.dtype,
    model.convolution,
    config.train.bn_momentum,
  )


def make_runner(config: ConfigDict) -> Runner:
  """The network and the way its replicas run."""
  network = get_model(
    config.model.name,
    convolution=config.model.convolution,
    bn_momentum=config.train.bn_momentum,
    dtype=jnp.dtype(config.model.dtype),
  )
  return Runner(
    network,
    backend=config.train.backend,
    width=config.train.width,
    data_parallel=config.train.data_parallel,
  )


def check_layers(points: Sequence[configs.Point]) -> None:
  """Refuses names of frozen layers that no network has, before any work.

  Raises:
    InputError: an expression fits no layer.
  """
  for point in points:
    if not point.config.train.finetune_frozen:
      continue
    network = get_model(point.config.model.name)
    shapes = jax.eval_shape(
      lambda x, n=network: n.init(jax.random.key(0), x),
      jax.ShapeDtypeStruct((1, *augment.SEEN, 1), jnp.float32),
    )
    rows = configs.replica_rows(point.config, 'finetuned')
    weights = replicas.Weights(shapes['params'], shapes.get('batch_stats', {}))
    replicas.trainable(rows, weights)


def runners() -> RunnerOf:
  """`make_runner`, once for each program."""
  made = {}

  def of(config):
    key = network_of(config)
    if key not in made:
      made[key] = make_runner(config)
    return made[key]

  return of


def train_all(
  planned: Sequence[Planned],
  material: Material,
  patches: replicas.Patches,
  given: Mapping[str, Trained],
  workdir: pathlib.Path,
  *,
  runner_of: RunnerOf,
  observer: watch.Observer | None = None,
) -> dict[str, Trained]:
  """Trains what is not there yet: {fingerprint: networks}."""
  done: dict[str, Trained] = {}
  for number, group in enumerate(programs(planned)):
    missing = []
    for one in group:
      weights = _finished(folder_of(workdir, one), one.fingerprint)
      if weights is None:
        missing.append(one)
      else:
        done[one.fingerprint] = _trained(one, weights)
    if missing:
      sources = [_source(one, done, given) for one in missing]
      new = _train_group(
        missing,
        sources,
        material,
        patches,
        workdir,
        number,
        runner_of,
        observer,
      )
      done |= {one.fingerprint: t for one, t in zip(missing, new)}
  return done


def _train_group(
  group: list[Planned],
  sources: list[Trained | None],
  material: Material,
  patches: replicas.Patches,
  workdir: pathlib.Path,
  number: int,
  runner_of: RunnerOf,
  observer: watch.Observer | None,
) -> list[Trained]:
  config = group[0].config
  runner = runner_of(config)
  jobs = [one.job for one in group]
  folders = tuple(folder_of(workdir, one) for one in group)
  common = workdir / 'models' / f'together-{number}'
  if len(group) == 1:
    common = folders[0]

  def start():
    weights = [
      first_weights(runner.network, one, material, source)
      for one, source in zip(group, sources)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *weights)

  weights = loop.train_together(
    jobs,
    patches,
    runner,
    place=loop.Place(common / 'checkpoints', folders),
    fingerprint=files.digest([one.fingerprint for one in group]),
    start=start,
    evaluation_batch=config.evaluation.batch,
    threshold=config.evaluation.threshold,
    save_every_s=config.train.save_every_s,
    observer=observer,
  )
  for one, folder, mine in zip(group, folders, weights):
    checkpoint.save_weights(folder, mine, _weights_record(one, material))
  if hosts.is_writer():  # the weights are there: nothing to go on from
    shutil.rmtree(common / 'checkpoints', ignore_errors=True)
    if len(group) > 1:
      shutil.rmtree(common)
  return [_trained(one, mine) for one, mine in zip(group, weights)]


def held_out_loss(
  one: Planned, networks: Trained, patches: replicas.Patches, runner: Runner
) -> float:
  """Mean cross-entropy of the training candidates, each out of fold.

  Without class weights, so that trainings with different ones compare.
  """
  likelihood = held_out.predict(
    one.job,
    patches,
    networks.weights,
    runner,
    batch=one.config.evaluation.batch,
  )
  label = np.asarray(patches.label)[one.job.pool]
  right = np.where(label == 1, likelihood, 1 - likelihood)
  return float(-np.log(np.maximum(right, 1e-12)).mean())


def learned(workdir: pathlib.Path, one: Planned) -> bool:
  """Whether every network of a training had a finite held-out loss once.

  One that had none keeps the weights that it began with; a sweep must not
  choose those.
  """
  rows = logs.read(folder_of(workdir, one) / 'epochs.jsonl')
  values = [row.get('validation_loss', []) for row in rows]
  return all(any(v is not None for v in network) for network in zip(*values))


def write_sweep(
  path: pathlib.Path,
  jobs: Mapping[str, Planned],
  loss_of: Mapping[str, float],
  chosen: Mapping[str, Planned],
) -> None:
  """One line per training: settings, held-out loss, whether it was chosen.

  The loss is inf where a network did not learn, see `learned`.
  """
  columns = [f for f in replicas.Replica._fields if f not in _NOT_IN_SWEEP]
  lines = [['strategy', 'variant', 'networks', 'epochs', 'batch', 'model']]
  lines[0] += [*columns, 'held_out_loss', 'chosen']
  for mark, one in jobs.items():
    job, row = one.job, one.job.replicas[0]
    cells = [job.strategy, job.variant, len(job.replicas), job.epochs]
    cells += [job.batch, one.config.model.name]
    cells += [getattr(row, name) for name in columns]
    best = chosen[job.strategy].fingerprint == mark
    lines.append([*cells, f'{loss_of[mark]:.6f}', 'yes' if best else ''])
  with files.whole(path) as temporary, temporary.open('w', newline='') as out:
    csv.writer(out).writerows(lines)


def publish(workdir: pathlib.Path, one: Planned) -> None:
  """The chosen training of a sweep as `models/STRATEGY`."""
  source = folder_of(workdir, one)
  target = source.with_name(one.job.strategy)
  if source == target or _finished(target, one.fingerprint) is not None:
    return
  checkpoint.save_weights(
    target, checkpoint.load_weights(source), checkpoint.read_record(source)
  )
  if hosts.is_writer():
    log = (source / 'epochs.jsonl').read_text(encoding='utf-8')
    files.write_text(target / 'epochs.jsonl', log)


def folder_of(workdir: pathlib.Path, planned: Planned) -> pathlib.Path:
  """`models/STRATEGY`, or `models/STRATEGY@VARIANT` in a sweep."""
  return pathlib.Path(workdir) / 'models' / planned.job.name


def make_job(
  config: ConfigDict, material: Material, strategy: str, *, variant: str = ''
) -> loop.Job:
  """The training of one strategy: its pool, folds, replicas and schedule."""
  train = config.train
  cohorts = configs.trained_on(config, strategy)
  pool = np.flatnonzero(trainable(material, cohorts))
  _check_pool(strategy, cohorts, material, pool)
  return loop.Job(
    strategy=strategy,
    replicas=configs.replica_rows(config, strategy),
    pool=pool,
    fold_of=material.fold_of[pool],
    epochs=configs.epochs_of(config, strategy),
    batch=train.batch,
    stop_after=train.stop_after,
    variant=variant,
  )


def first_weights(
  network, planned: Planned, material: Material, source: Trained | None
) -> replicas.Weights:
  """Fresh weights, or transferred ones: fold k goes on from fold k."""
  job = planned.job
  channels = len(planned.config.channels)
  fresh = replicas.first_weights(network, job.replicas, channels)
  if source is None:
    if planned.config.train.output_bias == 'prior':
      fresh = replicas.with_output_bias(fresh, _shares(job, material))
    return fresh
  given = [_partner(r, source.table) for r in job.replicas]
  chosen = jax.tree.map(lambda leaf: leaf[np.asarray(given)], source.weights)
  moved = transfer(fresh, chosen)
  say(f'{job.name}: weights from 7t\n{moved}')
  return moved.weights


def _shares(job: loop.Job, material: Material) -> list[float]:
  """Of microbleeds among what each row trains on, its fold left out."""
  label = material.examples.label[job.pool]
  return [
    float(np.clip(label[job.fold_of != row.fold].mean(), 0.01, 0.99))
    for row in job.replicas
  ]


def check_pretrained(config: ConfigDict) -> None:
  """Refuses 7T weights that do not fit this run, before any work.

  Raises:
    NoInputError: there are none.
    InputError: another network, other patches or channels, or a damaged file.
  """
  folder = configs.pretrained_folder(config)
  if folder is None:
    return
  known = checkpoint.read_record(folder)
  for key, has, wanted in (
    ('model.name', known['model'], config.model.name),
    ('patches', known.get('patches', 'native'), config.patches),
    ('channels', _sum(known.get('channels', ONLY_SWI)), _sum(config.channels)),
  ):
    if has != wanted:
      raise InputError(
        f'config.pretrained={config.pretrained}: these weights are for '
        f'{has}, config.{key} is {wanted}; make them equal, or set '
        '--config.pretrained=train.'
      )
  checkpoint.check_weights(folder)


def _sum(channels: Sequence[str]) -> str:
  return ' + '.join(channels)


def load_pretrained(config: ConfigDict, material: Material) -> Trained:
  """The 7T weights of an earlier run, if none of their people is used here.

  Raises:
    InputError: somebody in their training is in a fold or in a test set of
      this run.
  """
  folder = configs.pretrained_folder(config)
  known = checkpoint.read_record(folder)
  cohorts = {
    name
    for strategy in config.strategies
    if configs.goes_on(config, strategy)
    for name in configs.trained_on(config, strategy)
  }
  tuned = trainable(material, sorted(cohorts))
  _check_people(
    known,
    material,
    test=material.folds.test_subjects,
    training=material.examples.subject[tuned].tolist(),
  )
  table = replicas.from_record(known['replicas'])
  weights = checkpoint.load_weights(folder)
  return Trained(weights, table, known['fingerprint'], known['model'])


def _check_people(known: dict, material: Material, **used: Iterable[str]):
  """Nobody of the pretraining is among the subjects used for something."""
  scans = material.scans
  own = dict(zip(scans.subject.tolist(), scans.person.tolist()))
  if 'persons' not in known:  # older weights tell labels only
    own = {subject: subject for subject in own}
  trained_on = known.get('persons', known['subjects'])
  for name, subjects in used.items():
    both = persons.in_both((own[s] for s in subjects), trained_on)
    folds_lib.check_disjoint(**{'pretraining': both, name: both})


def trainable(material: Material, cohorts: Sequence[str]) -> np.ndarray:
  """[N] examples of these cohorts that may be learned from."""
  return np.isin(material.examples.cohort, cohorts) & (material.fold_of >= 0)


def job_fingerprint(
  config: ConfigDict,
  material: Material,
  job: loop.Job,
  source: Trained | Planned | None,
) -> str:
  """Of everything that decides the numbers of a job."""
  return files.digest(
    NUMBERS_VERSION,
    content(material.examples, job.pool),
    job.fold_of.tolist(),
    [list(row) for row in job.replicas],
    [job.epochs, job.batch, job.stop_after],
    [config.train.bn_momentum, config.model.name, config.model.dtype]
    + ([] if config.train.output_bias == 'zero' else ['output bias: prior'])
    + ([] if len(config.channels) == 1 else [_sum(config.channels)]),
    source.fingerprint if source else None,
  )


def content(examples: examples_lib.Examples, index: np.ndarray) -> str:
  """Digest of what networks see of some examples."""
  some = examples_lib.select(examples, index)
  return files.digest(
    some.key.tolist(),
    some.label.tolist(),
    np.ascontiguousarray(examples_lib.seen(some), np.float16).tobytes(),
  )


def _trained(one: Planned, weights: replicas.Weights) -> Trained:
  return Trained(
    weights,
    one.job.replicas,
    one.fingerprint,
    one.config.model.name,
    one.job.variant,
  )


def _source(
  one: Planned, done: Mapping[str, Trained], given: Mapping[str, Trained]
) -> Trained | None:
  if not configs.goes_on(one.config, one.job.strategy):
    return None
  return done[one.source] if one.source else given['7t']


def _check_pool(
  strategy: str, cohorts: Sequence[str], material: Material, pool: np.ndarray
) -> None:
  """Every fold needs examples to train on and to validate with."""
  labels = material.examples.label[pool]
  if not (labels == 1).any() or not (labels == 0).any():
    which = 'microbleed' if not (labels == 1).any() else 'mimic'
    raise InputError(
      f'{strategy}: the training subjects of '
      f'{" and ".join(cohorts)} have no {which} among '
      f'their {len(pool)} candidates; check the labels or give more scans.'
    )
  empty = set(range(material.folds.num_folds)) - set(material.fold_of[pool])
  if empty:
    raise InputError(
      f'{strategy}: fold {min(empty)} holds no candidate; give more scans or '
      'set config.train.folds lower.'
    )


def _partner(replica: replicas.Replica, table: tuple) -> int:
  """The row of `table` that a replica starts from: its fold, its seed."""
  same_fold = [i for i, r in enumerate(table) if r.fold == replica.fold]
  choices = same_fold or range(len(table))
  same = [i for i in choices if table[i].seed == replica.seed]
  if same:
    return same[0]
  return list(choices)[replica.seed % len(choices)]


def _finished(
  folder: pathlib.Path, fingerprint: str
) -> replicas.Weights | None:
  if not (folder / 'weights.json').is_file():
    return None
  try:
    if checkpoint.read_record(folder)['fingerprint'] != fingerprint:
      return None
    return checkpoint.load_weights(folder)
  except InputError:  # our own work, damaged: it is made again
    return None


def _people(job: loop.Job, material: Material) -> dict[str, list[str]]:
  """Whose scans a job learned from: labels, and the names of `persons`."""
  subjects = sorted(set(material.examples.subject[job.pool].tolist()))
  mine = np.isin(material.scans.subject, subjects)
  people = sorted(set(material.scans.person[mine].tolist()))
  return {'subjects': subjects, 'persons': people}


def _weights_record(one: Planned, material: Material) -> dict:
  job, config = one.job, one.config
  return {
    'strategy': job.strategy,
    'variant': job.variant,
    'model': config.model.name,
    'dtype': config.model.dtype,
    'bn_momentum': config.train.bn_momentum,
    'patches': config.patches,
    **({'channels': list(config.channels)} if len(config.channels) > 1 else {}),
    'threshold': config.evaluation.threshold,
    'replicas': [row._asdict() for row in job.replicas],
    'start': '7t' if configs.goes_on(config, job.strategy) else '',
    'epochs': job.epochs,
    'batch': job.batch,
    **_people(job, material),
    'fold_hash': material.folds.hash,
    'simulated': bool(material.scans.simulated.any()),
    'fingerprint': one.fingerprint,
    'environment': record.environment(),
  }
