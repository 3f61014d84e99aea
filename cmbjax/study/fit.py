"""Patches, labels and subjects in arrays to trained networks.

Rule: it is the training of a study, with the settings of configs/base.py; folds
are drawn by subject, so that nobody is on both sides of a split.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax import locks
from cmbjax.data import augment, examples, folds
from cmbjax.detect import classifier
from cmbjax.errors import InputError
from cmbjax.reconstruct.channels import CHANNELS, depth
from cmbjax.study import config as configs
from cmbjax.study import networks, plan, resolve, train, values
from cmbjax.study import settings as keys
from cmbjax.study.material import Material
from cmbjax.study.spec import Cohort, Point, Strategy, Study
from cmbjax.training import inference
from cmbjax.weights import catalogue

NAME = 'fitted'  # of the strategy, and of its folder in models/
_COHORT, _START = 'own', 'start'
# Those of a study that mean something without cohorts and tests.
_SETTINGS = (
  'seed',
  'patches',
  'channels',
  'model',
  'train',
  'evaluation.batch',
)


class Fitted(NamedTuple):
  """Trained networks, and what they say of those they were trained on."""

  networks: classifier.Classifier  # as `cmbjax.load(folder)` gives them again
  held_out: np.ndarray  # [N] mean likelihood by networks that never saw it
  fold_of: np.ndarray  # [N] which fold it was in
  folder: pathlib.Path  # workdir/models/fitted


def fit(
  patches: np.ndarray,
  label: Sequence[int] | np.ndarray,
  subject: Sequence[str] | np.ndarray,
  workdir: str | os.PathLike,
  *,
  settings: Mapping[str, Any] | None = None,
  start: str | os.PathLike | None = None,
) -> Fitted:
  """Trains a network for each fold and seed on your own patches.

  Run again with the same arguments it continues where it was, or takes what is
  there.

  Args:
    patches: [N, 24, 24, 12] or [N, 24, 24, 12, C] in 0..1; the candidate is at
      (12, 12, 6). The SWI is the first channel.
    label: [N] 1 for a microbleed, 0 for a mimic.
    subject: [N] whose patch it is.
    workdir: gets models/fitted, which `cmbjax.load` and `cmbjax detect
      --weights` take, and the state of an unfinished training.
    settings: dotted keys of configs/base.py, such as {'train.epochs': 3}.
    start: weights to start from, fold by fold, as `cmbjax.load` takes them;
      nobody of these patches may be among those they learned from, which you
      have to know: arrays have no names of people. None: fresh weights.

  Raises:
    InputError: arrays that do not fit each other, an unknown setting, too few
      subjects for the folds, or another training in the folder.
    NoInputError: there are no such weights to start from.
  """
  given = classifier.load(start) if start is not None else None
  config = _config(settings or {}, given)
  material = _material(config, patches, label, subject)
  study = _study(config, None if start is None else catalogue.resolve(start))
  points = (Point('', study, {}),)
  networks.check_layers(points)
  networks.check_given(study)
  workdir = pathlib.Path(workdir).expanduser()
  with locks.alone_in(workdir):
    shop = train.Workshop(material, workdir)
    started = {one.name: networks.load_given(one) for one in study.given}
    planned = plan.plan(points, train.data_of(material, study))
    done = train.train_all(planned, shop, started)
    (one,) = planned.trainings
    likelihood = inference.out_of_fold(
      train.make_job(one, material),
      shop.patches,
      done[one.fingerprint].weights,
      shop.runner(config),
      batch=config.evaluation.batch,
    )
  folder = shop.folder(one)
  return Fitted(classifier.load(folder), likelihood, material.fold_of, folder)


def _config(settings: Mapping[str, Any], given: classifier.Classifier | None):
  """configs/base.py with some values changed.

  Raises:
    InputError: a key or a value is wrong.
  """
  config = configs.load('configs/base.py')
  if given is not None:
    config.model.name, config.patches = given.model, given.patches
    config.candidates = given.candidates
  known = [key for key in keys.keys(config) if key.startswith(_SETTINGS)]
  for key, value in settings.items():
    if key not in known:
      raise InputError(
        f'settings: holds {key!r}; allowed are {", ".join(known)}.'
      )
    keys.assign(config, key, value, of='settings')
  config.strategies, config.tests = (NAME,), (_COHORT,)
  config.study.rows = config.study.claims = ()  # of other strategies
  strategies = {NAME: Strategy(NAME, learns=(_COHORT,))}
  values.check(config, strategies, {_COHORT: Cohort(_COHORT)})
  return config


def _study(config, start: pathlib.Path | None) -> Study:
  """One strategy that learns from one cohort."""
  first = _START if start is not None else ''
  recipes = {}
  if start is not None:
    one = Strategy(start.name, weights=str(start))
    recipes[_START] = resolve.recipe(config, _START, one, start)
  mine = Strategy(NAME, learns=(_COHORT,), starts=first)
  recipes[NAME] = resolve.recipe(config, NAME, mine)
  return Study(config, recipes, reported=(NAME,))


def _material(config, patches, label, subject) -> Material:
  """The arrays as examples, one scan per subject, and their folds.

  Raises:
    InputError: they do not fit each other, or the settings.
  """
  patches = np.asarray(patches, np.float32)
  label, subject = np.asarray(label), np.asarray(subject).astype(str)
  count = len(patches)
  if patches.ndim not in (4, 5) or patches.shape[1:4] != augment.PATCH:
    raise InputError(
      f'patches: have shape {patches.shape}; give (N, 24, 24, 12), and '
      '(..., C) behind it for several channels.'
    )
  if label.shape != (count,) or subject.shape != (count,):
    raise InputError(
      f'arrays: {count} patches, labels of shape {label.shape} and subjects of '
      f'shape {subject.shape}; give one of each for every patch.'
    )
  if not np.isin(label, (0, 1)).all():
    raise InputError('label: must be 0 (mimic) or 1 (microbleed).')
  patches = augment.with_channels(patches)
  if patches.shape[-1] != depth(config.channels):
    raise InputError(
      f'patches: have {patches.shape[-1]} channels, the setting channels is '
      f'{tuple(config.channels)}; set it to some of {CHANNELS}.'
    )
  if not (patches.min(initial=0) >= 0 and patches.max(initial=0) <= 1):
    raise InputError(
      f'patches: hold {patches.min():g} to {patches.max():g}, must be 0 to 1.'
    )
  drawn = folds.make_folds(
    {_COHORT: subject}, config.train.folds, num_test={}, seed=config.seed
  )
  rows = _examples(patches, label, subject)
  return Material(
    rows, _scans(subject), drawn, drawn.of(subject), _no_lesions()
  )


def _examples(patches, label, subject) -> examples.Examples:
  count = len(label)
  keys = [f'{s}/{s}/{i:06d}' for i, s in enumerate(subject)]
  return examples.Examples(
    image=np.ascontiguousarray(patches[..., 0]),
    label=label.astype(np.int8),
    subject=subject,
    scan=subject,
    key=np.array(keys, str),
    # Of places and sizes nothing is known, and training asks for none.
    centre=np.zeros((count, 3), np.int32),
    centre_mm=np.full((count, 3), np.nan, np.float32),
    spacing_mm=np.full((count, 3), np.nan, np.float32),
    score=np.full(count, np.nan, np.float32),
    lesion=np.zeros(count, np.int32),
    cohort=np.full(count, _COHORT),
    beside=patches[..., 1:],
  )


def _scans(subject) -> examples.Scans:
  """One for each subject; of the scans themselves nothing is known."""
  names = np.unique(subject)
  unknown = dict.fromkeys(examples.Scans._fields, np.full(len(names), np.nan))
  unknown |= dict.fromkeys(('scan', 'subject', 'person'), names)
  unknown |= {
    'cohort': np.full(len(names), _COHORT),
    'truth': np.full(len(names), 'candidates'),
    'simulated': np.zeros(len(names), bool),
  }
  return examples.Scans(**unknown)


def _no_lesions() -> examples.Lesions:
  return examples.Lesions(*(np.zeros(0) for _ in examples.Lesions._fields))
