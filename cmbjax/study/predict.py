"""Trained networks to likelihoods by key: predictions.npz.

Rule: a test subject is judged by all networks, a training subject only by
those that never saw it; both are in the one file that metrics, operating
points and figures are made from.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cmbjax import doors, files, sealed
from cmbjax.data import augment
from cmbjax.data import examples as examples_lib
from cmbjax.data import folds as folds_lib
from cmbjax.detect import points
from cmbjax.errors import InputError
from cmbjax.evaluation import operating_points, prediction_files
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.evaluation.predictions import ENSEMBLE, OUT_OF_FOLD, PredictionTable
from cmbjax.study.material import Material
from cmbjax.study.networks import Trained
from cmbjax.study.plan import Planned, source_of
from cmbjax.study.spec import Study
from cmbjax.study.train import Workshop, make_job
from cmbjax.training import hosts, inference, loop, replicas

SELECTION = (
  'The epoch of each fold model is the one with the smallest loss on its '
  'held-out fold, which also lowers the learning rate; test subjects are in '
  'no fold.'
)
HELD_OUT_SELECTION = (
  'Each candidate is judged by the networks that held its fold out; the same '
  'fold chose their epoch, so these numbers are a little optimistic.'
)


class Judge(NamedTuple):
  """The networks of one strategy, and how they are run."""

  name: str
  label: str
  networks: Trained
  config: ConfigDict
  planned: Planned | None  # None: they were given


class Seen(NamedTuple):
  """What the networks of one strategy say of one cohort."""

  cohort: str
  index: np.ndarray  # [n] positions in the examples
  scans: examples_lib.Scans  # all of them, those without a candidate too
  likelihood: np.ndarray  # [R, n]
  kind: str  # ENSEMBLE or OUT_OF_FOLD


def predict_all(
  study: Study,
  shop: Workshop,
  chosen: Mapping[str, Planned],
  trained: Mapping[str, Trained],
) -> list[PredictionTable]:
  """Every strategy on every test set, and out of fold on its own subjects.

  Writes predictions.npz, and the operating points beside the weights.

  Args:
    study: strategies and test sets.
    shop: examples and folders.
    chosen: strategy -> its training in this run.
    trained: strategy -> its networks, also the given ones.
  """
  judges = {
    name: Judge(
      name,
      recipe.strategy.label,
      trained[name],
      chosen[name].recipe.config if name in chosen else recipe.config,
      chosen.get(name),
    )
    for name, recipe in study.recipes.items()
  }
  tested = {
    (strategy, test): _ensemble(study, shop, judges[strategy], test)
    for strategy in study.reported
    for test in study.tests
  }
  tables = list(tested.values())
  for judge in judges.values():
    if judge.planned is not None:
      kept = tested.get((judge.name, judge.config.evaluation.points_from))
      tables += _held_out(study, shop, judge, kept)
  if hosts.is_writer():
    prediction_files.write(shop.workdir / 'predictions.npz', tables)
  return tables


def _ensemble(
  study: Study, shop: Workshop, judge: Judge, test: str
) -> PredictionTable:
  """One strategy on the test subjects of one cohort."""
  material = shop.material
  index = np.flatnonzero(
    (material.examples.cohort == test) & (material.fold_of < 0)
  )

  def predict(seen):
    return inference.predict(
      seen,
      judge.networks.weights,
      shop.runner(judge.config),
      index,
      batch=judge.config.evaluation.batch,
    )

  likelihood = _kept(
    shop,
    f'{judge.name}-{test}',
    [judge.networks.fingerprint, material.content(index)],
    judge.config,
    predict,
  )
  scans = examples_lib.select(
    material.scans,
    (material.scans.cohort == test)
    & (material.folds.of(material.scans.subject) < 0),
  )
  # Scans without a candidate count in a rate per scan, so scans are asked.
  if not len(scans.scan):
    raise InputError(
      f'config.test_subjects.{test}: is 0, so there is nothing to test on; '
      'set it to 1 or more, or take it out of config.tests.'
    )
  seen = Seen(test, index, scans, likelihood, ENSEMBLE)
  return _table(study, material, judge, seen)


def _held_out(
  study: Study, shop: Workshop, judge: Judge, kept: PredictionTable | None
) -> list[PredictionTable]:
  """One strategy on its training subjects: a table per cohort.

  Args:
    study: with the labels of cohorts.
    shop: examples and folders.
    judge: the networks of the strategy.
    kept: of the cohort that operating points are chosen on; None: these.
  """
  material = shop.material
  job = make_job(judge.planned, material)

  def predict(seen):
    return inference.out_of_fold_each(
      job,
      seen,
      judge.networks.weights,
      shop.runner(judge.config),
      batch=judge.config.evaluation.batch,
    )

  mark = [judge.networks.fingerprint, material.content(job.pool)]
  likelihood = _kept(
    shop,
    f'{judge.name}-held-out',
    [*mark, np.asarray(job.fold_of).tolist()],
    judge.config,
    predict,
  )
  in_folds = material.folds.of(material.scans.subject) >= 0
  learns = judge.planned.recipe.strategy.learns
  tables = []
  for cohort in learns:
    mine = material.examples.cohort[job.pool] == cohort
    scans = examples_lib.select(
      material.scans, (material.scans.cohort == cohort) & in_folds
    )
    seen = Seen(cohort, job.pool[mine], scans, likelihood[:, mine], OUT_OF_FOLD)
    tables.append(_table(study, material, judge, seen))
  if hosts.is_writer():
    _store_points(shop, judge, job, likelihood, kept)
  return tables


def _over_images(
  config: ConfigDict,
  patches: replicas.Patches,
  predict: Callable[[replicas.Patches], np.ndarray],
) -> np.ndarray:
  """What `predict` says of the patches, or its mean over mirror images."""
  if not config.evaluation.mirrored:
    return predict(patches)
  images = augment.mirrored(patches.image)
  rows = [predict(patches._replace(image=image)) for image in images]
  return np.mean(rows, axis=0)


def _store_points(
  shop: Workshop,
  judge: Judge,
  job: loop.Job,
  likelihood: np.ndarray,
  kept: PredictionTable | None,
) -> None:
  """Operating points beside the weights, for `cmbjax detect`."""
  material, evaluation = shop.material, judge.config.evaluation
  known = examples_lib.select(
    material.scans,
    np.isin(material.scans.cohort, judge.planned.recipe.strategy.learns)
    & (material.folds.of(material.scans.subject) >= 0),
  )
  taught = examples_lib.select(material.examples, job.pool)
  examples, scans, fold_of = taught, known, job.fold_of
  mean = predictions_lib.ensemble(
    predictions_lib.by_seed(_networks(judge, likelihood))
  )
  where = operating_points.OUT_OF_FOLD
  if kept is not None:
    cohort = material.examples.cohort == kept.test
    examples = examples_lib.select(
      material.examples, cohort & (material.fold_of < 0)
    )
    scans = examples_lib.select(
      material.scans, np.isin(material.scans.scan, kept.scans.scan)
    )
    _, person = np.unique(examples.subject, return_inverse=True)
    fold_of = person % judge.config.train.folds
    mean = kept.predictions.probability
    where = f'on {kept.test_label}, which no network saw'
  points.store(
    shop.workdir / 'models' / judge.name,
    fingerprint=judge.networks.fingerprint,
    threshold=evaluation.threshold,
    mirrored=evaluation.mirrored,
    examples=examples,
    scans=scans,
    fold_of=fold_of,
    likelihood=mean,
    learned=(taught, known),
    where=where,
  )


def _networks(judge: Judge, likelihood: np.ndarray):
  table = judge.networks.table
  return predictions_lib.Networks(
    likelihood=np.asarray(likelihood, np.float32),
    fold=np.array([row.fold for row in table]),
    seed=np.array([row.seed for row in table]),
  )


def _table(
  study: Study, material: Material, judge: Judge, seen: Seen
) -> PredictionTable:
  """Likelihoods with all they mean."""
  test, index, scans, likelihood, kind = seen
  networks = _networks(judge, likelihood)
  by_seed = predictions_lib.by_seed(networks)
  some = examples_lib.select(material.examples, index)
  return PredictionTable(
    strategy=judge.name,
    test=test,
    strategy_label=judge.label,
    test_label=study.labels[test],
    predictions=predictions_lib.of_examples(
      some, predictions_lib.ensemble(by_seed)
    ),
    scans=predictions_lib.counts_of(scans),
    by_seed=by_seed,
    fold_hash=_fold_hash(material, test),
    selection=SELECTION if kind == ENSEMBLE else HELD_OUT_SELECTION,
    simulated=bool(scans.simulated.any()),
    kind=kind,
    networks=networks,
    fold_of=material.fold_of[index],
    lesions=_lesions(material, scans),
  )


def _lesions(material: Material, scans) -> predictions_lib.TrueLesions | None:
  """All true lesions of some scans; None where only their number is known."""
  known = material.lesions
  mine = examples_lib.select(known, np.isin(known.scan, scans.scan))
  if len(mine.scan) != scans.num_lesions.sum():
    return None
  return predictions_lib.TrueLesions(
    scan=mine.scan,
    subject=mine.subject,
    lesion=mine.lesion.astype(int),
    diameter_mm=mine.diameter_mm.astype(float),
    region=mine.region,
    why=mine.why,
  )


def _fold_hash(material: Material, cohort: str) -> str:
  """Of one cohort's test subjects and folds, whatever else is in the run."""
  mine = set(material.scans.subject[material.scans.cohort == cohort])
  folds = material.folds
  return folds_lib.Folds(
    folds.num_folds,
    folds.seed,
    {s: k for s, k in folds.fold_of_subject.items() if s in mine},
    tuple(s for s in folds.test_subjects if s in mine),
  ).hash


def _kept(
  shop: Workshop, name: str, mark: list, config: ConfigDict, predict
) -> np.ndarray:
  """What was predicted before by the same networks, or `predict` of now."""
  path = shop.workdir / 'predictions' / f'{name}.npz'
  # The form of the convolution is left out: it changes the last bits alone.
  how = config.evaluation.mirrored, config.model.name, config.model.dtype
  mark = files.digest(*mark, how, source_of(config, 'model.name'))
  likelihood = _known_likelihood(path, mark)
  if likelihood is None:
    likelihood = _over_images(config, shop.patches, predict)
    if hosts.is_writer():
      arrays = {'mark': np.array(mark), 'likelihood': likelihood}
      sealed.write_arrays(path, arrays)
  return likelihood


def _known_likelihood(path: pathlib.Path, mark: str) -> np.ndarray | None:
  if not doors.is_there(path):
    return None
  try:
    stored = sealed.read_arrays(path)
    return stored['likelihood'] if str(stored['mark']) == mark else None
  except (InputError, KeyError):
    hosts.say(f'{path}: is damaged and is made again.')
    return None
