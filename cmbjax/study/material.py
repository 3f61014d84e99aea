"""Cohorts to examples, and to which of them may be used for what.

Rule: a person is on one side of every split, in all cohorts and in the
pretraining too. Who is one person: the same simulated subject of one seed; of
real scans the same label, or label and cohort where labels are per cohort.
"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmbjax import files
from cmbjax.data import examples as examples_lib
from cmbjax.data import folds as folds_lib
from cmbjax.data import persons
from cmbjax.data.built import is_built
from cmbjax.errors import InputError
from cmbjax.reconstruct import channels
from cmbjax.study.spec import Cohort, Recipe, Study
from cmbjax.training import hosts


class Material(NamedTuple):
  """All examples of all cohorts, and which may be used for what."""

  examples: examples_lib.Examples
  scans: examples_lib.Scans
  folds: folds_lib.Folds
  fold_of: np.ndarray  # [N] fold of trainable examples, -1 for test subjects
  lesions: examples_lib.Lesions  # all true ones, of every cohort

  def trainable(self, cohorts: Sequence[str]) -> np.ndarray:
    """Positions [n] of examples of these cohorts that may be learned from."""
    mine = np.isin(self.examples.cohort, cohorts) & (self.fold_of >= 0)
    return np.flatnonzero(mine)

  def content(self, index: np.ndarray) -> str:
    """Digest of what networks see of some examples."""
    some = examples_lib.select(self.examples, index)
    return files.digest(
      some.key.tolist(),
      some.label.tolist(),
      np.ascontiguousarray(examples_lib.seen(some), np.float16).tobytes(),
    )


def find_cohorts(
  study: Study, workdir: pathlib.Path
) -> dict[str, pathlib.Path]:
  """The folder of every cohort that is needed; simulates those not given."""
  config, out = study.config, {}
  for name, cohort in study.cohorts.items():
    if cohort.folder:
      out[name] = pathlib.Path(cohort.folder).expanduser()
      continue
    from cmbjax.simulate import cohort as simulator

    out[name] = simulator.simulate(
      cohort.protocol,
      subjects=cohort.subjects,
      first=cohort.first,
      out=workdir / 'cohorts' / name,
      seed=config.seed,
      jobs=config.simulate.jobs or None,
      slab_mm=config.simulate.slab_mm or None,
      families=cohort.families,
      lesions=None if cohort.lesions == -1 else cohort.lesions,
    )
  return out


def check_people(study: Study) -> dict[str, int]:
  """Refuses people on two sides of a split, before anything is made.

  Returns:
    How many subjects each cohort has.

  Raises:
    InputError: somebody is on two sides, or they are too few for the folds.
    NoInputError: a folder without a scan, or without a truth.
  """
  people = {
    name: _people_of(cohort, study.config.seed)
    for name, cohort in study.cohorts.items()
  }
  named = names(people, shared=study.config.shared_labels)
  folds = make_folds(study, {n: own.values() for n, own in named.items()})
  identity = {
    named[cohort][label]: persons.of_cohort(person, cohort)
    for cohort, own in people.items()
    for label, person in own.items()
  }
  for recipe in study.given:
    learned = _learned_after(study, recipe)
    tuned = (s for n in learned for s in named[n].values())
    trained = [s for s in tuned if s in folds.fold_of_subject]
    _check_pretraining(study, recipe, identity, folds, trained)
  return {name: len(own) for name, own in people.items()}


def _people_of(cohort: Cohort, seed: int) -> dict[str, str]:
  """Subject label -> person, of a folder, a built data set, or a simulation."""
  if not cohort.folder:
    from cmbjax.simulate import cohort as simulator

    return simulator.people(cohort.protocol, cohort.numbers, seed=seed)
  folder = pathlib.Path(cohort.folder).expanduser()
  if is_built(folder):
    scans = examples_lib.load_scans(folder)
    return dict(zip(scans.subject.tolist(), scans.person.tolist()))
  from cmbjax.data import cohort as cohorts  # late: TFDS needs a second

  read = cohorts.read_cohort(folder)
  # A comparison on other subjects than were meant would be another one.
  cohorts.refuse_broken(read, 'move such scans out of the folder')
  scans = read.scans
  cohorts.check_files(scans)
  return {
    s.subject: persons.person_of(s.subject, s.files.sidecar) for s in scans
  }


def names(
  people: Mapping[str, Mapping[str, str]], *, shared: bool
) -> dict[str, dict[str, str]]:
  """Cohort -> label -> name of the subject in this run.

  A label that means two people gets the first cohort of each before it; so does
  every real one when labels are per cohort.

  Args:
    people: cohort -> label -> person, see `persons.person_of`.
    shared: one label is one person in all cohorts.
  """
  homes: dict[str, dict[str, str]] = {}  # label -> person -> first cohort
  for cohort, own in people.items():
    for label, person in own.items():
      homes.setdefault(label, {}).setdefault(person, cohort)

  def name_of(label: str, person: str, cohort: str) -> str:
    if not (shared or '@' in person):
      return f'{cohort}:{label}'
    home = homes[label]
    return f'{home[person]}:{label}' if len(home) > 1 else label

  return {
    cohort: {label: name_of(label, one, cohort) for label, one in own.items()}
    for cohort, own in people.items()
  }


def gather(
  study: Study, cohorts: Mapping[str, pathlib.Path], workdir: pathlib.Path
) -> Material:
  """Cohort folders to examples, test subjects and folds.

  Args:
    study: cohorts, channels and folds.
    cohorts: name -> folder.
    workdir: gets examples/ and folds.json.
  """
  config, rows = study.config, {}
  data_set = channels.data_set(config.patches, config.channels)
  for name, folder in cohorts.items():
    built = folder
    if not is_built(folder):
      built = examples_lib.build(
        name,
        folder,
        workdir / 'examples',
        config=data_set,
        candidates=config.candidates,
      )
    examples, scans = examples_lib.load_as(
      name, built, config=data_set, candidates=config.candidates
    )
    rows[name] = examples, scans, examples_lib.load_lesions(built, cohort=name)
  rows = _named(rows, shared=config.shared_labels)
  scans = {name: some[1] for name, some in rows.items()}
  folds = make_folds(study, {n: s.subject for n, s in scans.items()})
  _say_left_out(scans, folds)
  if hosts.is_writer():
    files.write_json(workdir / 'folds.json', folds.to_json())
  examples, scans, lesions = (
    _in_use([some[i] for some in rows.values()], folds) for i in range(3)
  )
  # Labels can be wrong; the same image on both sides of a split never is right.
  pairs = examples_lib.shared_images(examples)
  if pairs:
    raise InputError(
      f'{pairs[0][0]} and {pairs[0][1]}: are the same image under two '
      'subjects; one person may have one label only.'
    )
  return Material(examples, scans, folds, folds.of(examples.subject), lesions)


def _named(rows: dict[str, tuple], *, shared: bool) -> dict[str, tuple]:
  """Names of subjects, scans and keys that no other cohort has."""
  people = {
    cohort: dict(zip(scans.subject.tolist(), scans.person.tolist()))
    for cohort, (_, scans, _) in rows.items()
  }
  named = names(people, shared=shared)
  count: dict[str, int] = {}
  for own in people.values():
    for label in own:
      count[label] = count.get(label, 0) + 1

  def renamed(table, cohort):
    """`table` with the name of each subject before the name of its scan."""
    labels = table.subject.tolist()
    many = [count[s] > 1 or named[cohort][s] != s for s in labels]
    changed = {'subject': np.array([named[cohort][s] for s in labels], str)}
    for column in ('scan', 'key'):
      if hasattr(table, column):
        old = getattr(table, column).tolist()
        changed[column] = np.array(
          [f'{cohort}:{n}' if far else n for n, far in zip(old, many)], str
        )
    return table._replace(**changed)

  return {
    cohort: tuple(renamed(table, cohort) for table in tables)
    for cohort, tables in rows.items()
  }


def _in_use(tables: Sequence[Any], folds: folds_lib.Folds):
  """Rows of all cohorts, without those of subjects that nothing needs."""
  rows = examples_lib.concatenate(tables)
  used = [*folds.test_subjects, *folds.fold_of_subject]
  mine = np.isin(rows.subject, used)
  return rows if mine.all() else examples_lib.select(rows, mine)


def _say_left_out(
  scans: Mapping[str, examples_lib.Scans], folds: folds_lib.Folds
) -> None:
  used = {*folds.test_subjects, *folds.fold_of_subject}
  for name, some in scans.items():
    unique = set(some.subject.tolist())
    if rest := len(unique - used):
      hosts.say(
        f'{name}: {rest} of {len(unique)} subjects are left out, too few for '
        f'folds; config.test_subjects.{name}={len(unique)} tests on all.'
      )


def make_folds(
  study: Study, subjects_of: Mapping[str, Iterable[str]]
) -> folds_lib.Folds:
  """Test subjects and folds; a cohort's do not depend on the other cohorts."""
  config, learned = study.config, study.learned_from
  used, num_test = {}, {}
  for name, subjects in subjects_of.items():
    unique = sorted(set(subjects))
    count = study.cohorts[name].held_out(len(unique))
    if name in learned and len(unique) <= count:
      raise InputError(
        f'{name}: all of its subjects ({len(unique)}) are held out for '
        'testing, so none is left to train on; give more scans or hold out '
        f'fewer with config.test_subjects.{name}.'
      )
    if name not in learned and len(unique) - count < config.train.folds:
      # Only tested here, and too small for folds: hold out, and leave the rest.
      count = min(count, len(unique))
      unique = folds_lib.hold_out(unique, count, seed=config.seed, cohort=name)
    used[name], num_test[name] = unique, count
  folds = folds_lib.make_folds(
    used, config.train.folds, num_test=num_test, seed=config.seed
  )
  for name in learned & set(used):
    if not set(used[name]) & set(folds.fold_of_subject):
      raise InputError(
        f'{name}: all of its subjects test another cohort as well, so none is '
        'left to train on; the same people cannot do both. Give other scans, '
        'or set --config.shared_labels=false if labels are per cohort.'
      )
  return folds


def check_pretraining(study: Study, material: Material) -> None:
  """Nobody of given weights is in a fold or in a test set of this run.

  Raises:
    InputError: somebody is.
  """
  scans = material.scans
  identity = {
    subject: persons.of_cohort(person, cohort)
    for subject, person, cohort in zip(
      scans.subject.tolist(), scans.person.tolist(), scans.cohort.tolist()
    )
  }
  for recipe in study.given:
    learned = _learned_after(study, recipe)
    tuned = material.examples.subject[material.trainable(learned)]
    _check_pretraining(study, recipe, identity, material.folds, tuned.tolist())


def _learned_after(study: Study, given: Recipe) -> list[str]:
  """Cohorts of all strategies that start, at last, from given weights."""
  out = set()
  for recipe in study.trained:
    at = recipe.strategy.starts
    while at and at != given.name:
      one = study.recipes[at]
      at = one.strategy.starts if one.is_trained else ''
    if at:
      out |= set(recipe.strategy.learns)
  return sorted(out)


def _check_pretraining(
  study: Study,
  recipe: Recipe,
  identity: Mapping[str, str],
  folds: folds_lib.Folds,
  tuned: Iterable[str],
) -> None:
  trained_on = recipe.known['persons']
  for what, subjects in (('test', folds.test_subjects), ('training', tuned)):
    mine = {identity[s] for s in subjects if s in identity}
    both = persons.in_both(mine, trained_on, shared=study.config.shared_labels)
    if both:
      more = ' and others' if len(both) > 3 else ''
      raise InputError(
        f'pretraining and {what} share {len(both)} '
        f'{"person" if len(both) == 1 else "people"}: '
        f'{", ".join(both[:3])}{more}. Networks are not judged, nor trained '
        'further, on people whom they learned from: take other weights '
        '(config.pretrained), or other scans (another config.seed where they '
        'are simulated).'
      )
