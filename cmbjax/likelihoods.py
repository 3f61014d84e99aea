"""Trained networks to likelihoods by key: predictions.npz.

Rule: a test subject is judged by all networks, a training subject only by
those that never saw it; both are in the one file that metrics, operating
points and figures are made from.
"""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np
from ml_collections import ConfigDict

from cmbjax import config as configs
from cmbjax import files, trainings
from cmbjax.data import augment
from cmbjax.data import examples as examples_lib
from cmbjax.data import folds as folds_lib
from cmbjax.errors import InputError
from cmbjax.evaluation import predictions as predictions_lib
from cmbjax.evaluation.predictions import ENSEMBLE, OUT_OF_FOLD, Table
from cmbjax.lesions import learned
from cmbjax.training import held_out, hosts, loop, replicas
from cmbjax.trainings import Material, Planned, RunnerOf, Trained
from configs import chen2019

SELECTION = (
  'The epoch of each fold model is the one with the smallest loss on its '
  'held-out fold, which also lowers the learning rate; test subjects are in '
  'no fold.'
)
HELD_OUT_SELECTION = (
  'Each candidate is judged by the networks that held its fold out; the same '
  'fold chose their epoch, so these numbers are a little optimistic.'
)


def predict_all(
  config: ConfigDict,
  material: Material,
  chosen: Mapping[str, Planned],
  trained: Mapping[str, Trained],
  patches: replicas.Patches,
  workdir: pathlib.Path,
  *,
  runner_of: RunnerOf,
) -> list[Table]:
  """Every strategy on every test set, and out of fold on its own subjects.

  Writes predictions.npz, and the operating points beside the weights.
  """
  tables = []
  for strategy in config.strategies:
    settings = chosen[strategy].config if strategy in chosen else config
    runner = runner_of(settings)
    for test in config.tests:
      if (strategy, test) in chen2019.ROWS:
        tables.append(
          _ensemble(
            config,
            material,
            trained[strategy],
            strategy,
            test,
            patches,
            workdir,
            runner,
          )
        )
  for strategy, one in chosen.items():
    tables += _held_out(
      config,
      material,
      one,
      trained[strategy],
      strategy,
      patches,
      workdir,
      runner_of(one.config),
    )
  if hosts.is_writer():
    predictions_lib.write(workdir / 'predictions.npz', tables)
  return tables


def _ensemble(
  config, material, model, strategy, test, patches, workdir, runner
) -> Table:
  """One strategy on the test subjects of one cohort."""
  index = np.flatnonzero(
    (material.examples.cohort == test) & (material.fold_of < 0)
  )
  likelihood = _kept(
    workdir / 'predictions' / f'{strategy}-{test}.npz',
    files.digest(
      model.fingerprint,
      trainings.content(material.examples, index),
      config.evaluation.mirrored,
    ),
    lambda: _over_images(
      config,
      patches,
      lambda seen: loop.predict(
        seen, model.weights, runner, index, batch=config.evaluation.batch
      ),
    ),
  )
  scans = examples_lib.select(
    material.scans,
    (material.scans.cohort == test)
    & (material.folds.of(material.scans.subject) < 0),
  )
  if not len(scans.scan):
    raise InputError(
      f'config.test_subjects.{test}: is 0, so there is nothing to test on; '
      'set it to 1 or more, or take it out of config.tests.'
    )
  return _table(
    material, model, strategy, test, index, scans, likelihood, kind=ENSEMBLE
  )


def _held_out(
  config, material, one, model, strategy, patches, workdir, runner
) -> list[Table]:
  """One strategy on its training subjects: a table per cohort."""
  job = one.job
  likelihood = _kept(
    workdir / 'predictions' / f'{strategy}-held-out.npz',
    files.digest(
      model.fingerprint,
      trainings.content(material.examples, job.pool),
      np.asarray(job.fold_of).tolist(),
      config.evaluation.mirrored,
    ),
    lambda: _over_images(
      config,
      patches,
      lambda seen: held_out.predict_each(
        job, seen, model.weights, runner, batch=config.evaluation.batch
      ),
    ),
  )
  in_folds = material.folds.of(material.scans.subject) >= 0
  tables = []
  for cohort in configs.trained_on(one.config, strategy):
    mine = material.examples.cohort[job.pool] == cohort
    scans = examples_lib.select(
      material.scans, (material.scans.cohort == cohort) & in_folds
    )
    tables.append(
      _table(
        material,
        model,
        strategy,
        cohort,
        job.pool[mine],
        scans,
        likelihood[:, mine],
        kind=OUT_OF_FOLD,
      )
    )
  if hosts.is_writer():
    _store_points(config, material, one, model, strategy, likelihood, workdir)
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
  config, material, one, model, strategy, likelihood, workdir
) -> None:
  """Operating points beside the weights, for `cmbjax detect`."""
  folder, job = workdir / 'models' / strategy, one.job
  how = {
    'fingerprint': model.fingerprint,
    'threshold': config.evaluation.threshold,
    'mirrored': config.evaluation.mirrored,
  }
  if learned.is_stored(folder, **how):
    return
  networks = _networks(model, likelihood)
  learned.store(
    folder,
    **how,
    examples=examples_lib.select(material.examples, job.pool),
    scans=examples_lib.select(
      material.scans,
      np.isin(material.scans.cohort, configs.trained_on(one.config, strategy))
      & (material.folds.of(material.scans.subject) >= 0),
    ),
    fold_of=job.fold_of,
    likelihood=predictions_lib.ensemble(predictions_lib.by_seed(networks)),
  )


def _networks(model: Trained, likelihood: np.ndarray):
  return predictions_lib.Networks(
    likelihood=np.asarray(likelihood, np.float32),
    fold=np.array([row.fold for row in model.table]),
    seed=np.array([row.seed for row in model.table]),
  )


def _table(
  material, model, strategy, test, index, scans, likelihood, *, kind
) -> Table:
  """Likelihoods [R, n] of the examples `index` [n], with all they mean."""
  networks = _networks(model, likelihood)
  by_seed = predictions_lib.by_seed(networks)
  some = examples_lib.select(material.examples, index)
  return Table(
    strategy=strategy,
    test=test,
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
    strategy_label=chen2019.LABELS.get(strategy, strategy),
    test_label=chen2019.COHORT_LABELS.get(test, test),
  )


def _lesions(material: Material, scans) -> predictions_lib.TrueLesions | None:
  """All true lesions of some scans; None where only their number is known."""
  known = material.lesions
  if known is None:
    return None
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


def _kept(path: pathlib.Path, mark: str, predict) -> np.ndarray:
  """What was predicted before by the same networks, or `predict()`."""
  likelihood = _known_likelihood(path, mark)
  if likelihood is None:
    likelihood = predict()
    if hosts.is_writer():
      with files.whole(path) as temporary, temporary.open('wb') as handle:
        np.savez(handle, mark=mark, likelihood=likelihood)
  return likelihood


def _known_likelihood(path: pathlib.Path, mark: str) -> np.ndarray | None:
  try:
    stored = files.read_arrays(path)
    return stored['likelihood'] if str(stored['mark']) == mark else None
  except (InputError, KeyError):
    return None
