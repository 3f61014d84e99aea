"""Subjects to test sets and folds. A subject is never on both sides of a split.

Every cohort is drawn on its own, from a random stream that carries its name:
a subject's fold is the same whether its cohort is used alone or together with
others, so strategies can be compared pair by pair.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cmbjax import files
from cmbjax.errors import InputError

_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Folds:
  """Which fold each training subject belongs to, and who is only tested.

  Attributes:
    num_folds: K.
    seed: the seed that it was drawn with.
    fold_of_subject: training subject -> fold 0..K-1.
    test_subjects: held-out subjects, sorted; in no fold.
  """

  num_folds: int
  seed: int
  fold_of_subject: Mapping[str, int]
  test_subjects: tuple[str, ...] = ()

  def of(self, subjects: Iterable[str]) -> np.ndarray:
    """subjects [N] -> fold_of int32 [N]; -1 for a subject of the test set.

    Raises:
      InputError: a subject is in no fold and not in the test set either.
    """
    subjects = [str(subject) for subject in subjects]
    known = {**dict.fromkeys(self.test_subjects, -1), **self.fold_of_subject}
    unknown = sorted(set(subjects) - set(known))
    if unknown:
      raise InputError(
        f'subjects {_listing(unknown)} are in no fold and not in the test '
        'set; the folds were made from other cohorts, so make them again.'
      )
    return np.array([known[subject] for subject in subjects], np.int32)

  @property
  def hash(self) -> str:
    """16 hex digits; results with different hashes cannot be compared."""
    return files.digest(self._content())

  def to_json(self) -> dict[str, Any]:
    """What `folds.json` holds."""
    return {**self._content(), 'hash': self.hash}

  def _content(self) -> dict[str, Any]:
    return {
      'format': _FORMAT,
      'num_folds': self.num_folds,
      'seed': self.seed,
      'fold_of_subject': dict(sorted(self.fold_of_subject.items())),
      'test_subjects': sorted(self.test_subjects),
    }


def make_folds(
  subjects_of: Mapping[str, Iterable[str]],
  num_folds: int,
  *,
  num_test: Mapping[str, int],
  seed: int,
) -> Folds:
  """Cohort name -> subjects to one test set and K folds.

  Somebody who is in two cohorts, scanned at 7T and at 3T, is on one side of
  the split in both: whoever tests one cohort tests the other as well.

  Args:
    subjects_of: cohort name -> its subjects (repeats do not matter).
    num_folds: K, at least 2.
    num_test: cohort name -> subjects to hold out; all of them is allowed
      (a cohort that is never trained on), a missing name means none.
    seed: of the draw.

  Raises:
    InputError: too few subjects are left.
  """
  unique_of = {
    n: sorted({str(s) for s in some}) for n, some in subjects_of.items()
  }
  count_of = {name: num_test.get(name, 0) for name in unique_of}
  test: set[str] = set()
  # Cohorts that are only tested come first: their subjects are test subjects
  # wherever else they are.
  for name in sorted(unique_of, key=lambda n: count_of[n] < len(unique_of[n])):
    held = test.intersection(unique_of[name])
    rest = [s for s in unique_of[name] if s not in held]
    more = max(count_of[name] - len(held), 0)
    test |= hold_out(rest, more, seed=seed, cohort=name)
  fold_of_subject: dict[str, int] = {}
  for name, unique in unique_of.items():
    rest = [subject for subject in unique if subject not in test]
    if rest:
      fold_of = assign(
        rest, num_folds, seed=seed, cohort=name, known=fold_of_subject
      )
      fold_of_subject |= dict(zip(rest, fold_of.tolist()))
  return Folds(num_folds, seed, fold_of_subject, tuple(sorted(test)))


def hold_out(
  subjects: Iterable[str], num_test: int, *, seed: int, cohort: str
) -> set[str]:
  """Draws `num_test` whole subjects of one cohort for the test set.

  Args:
    subjects: of the cohort; repeats do not matter.
    num_test: how many.
    seed: of the draw.
    cohort: its name, which is part of the random stream.

  Raises:
    InputError: the cohort has fewer subjects.
  """
  unique = sorted({str(subject) for subject in subjects})
  if not 0 <= num_test <= len(unique):
    raise InputError(
      f'{cohort}: {num_test} test subjects were asked for, but the cohort has '
      f'{_count(len(unique))}; set config.test_subjects.{cohort} to 0..'
      f'{len(unique)}.'
    )
  order = _stream(seed, 'hold out', cohort).permutation(len(unique))
  return {unique[i] for i in order[:num_test]}


def assign(
  subjects: Iterable[str],
  num_folds: int,
  *,
  seed: int,
  cohort: str = '',
  known: Mapping[str, int] | None = None,
) -> np.ndarray:
  """subjects [N] (of one cohort) -> fold_of int32 [N].

  Folds differ by at most one subject, as far as `known` allows; the order of
  `subjects` and how often each is repeated do not matter. Those in `known`
  keep their fold.

  Args:
    subjects: [N] labels.
    num_folds: K.
    seed: of the draw.
    cohort: its name, which is part of the random stream.
    known: subject -> fold that another cohort gave it.

  Raises:
    InputError: fewer than two folds, or fewer subjects than folds.
  """
  subjects = [str(subject) for subject in subjects]
  unique = sorted(set(subjects))
  where = f'{cohort}: ' if cohort else ''
  if num_folds < 2:
    raise InputError(
      f'config.train.folds: found {num_folds}, expected 2 or more.'
    )
  if len(unique) < 2:  # one subject would be trained and tested on
    raise InputError(
      f'{where}only {_count(len(unique))} to train on; folds need at least 2 '
      'subjects, so give more scans or hold out fewer.'
    )
  if len(unique) < num_folds:
    raise InputError(
      f'{where}{num_folds} folds were asked for, but only '
      f'{_count(len(unique))} can be trained on; set config.train.folds to '
      f'{len(unique)} or less, hold out fewer or give more subjects.'
    )
  order = _stream(seed, 'folds', cohort).permutation(len(unique))
  fold_of = {s: known[s] for s in unique if s in (known or {})}
  # Those known from another cohort count too, so that folds stay even.
  sizes = np.bincount(list(fold_of.values()), minlength=num_folds)
  for subject in (unique[i] for i in order):
    if subject not in fold_of:
      fold_of[subject] = int(np.argmin(sizes))  # the first of the smallest
      sizes[fold_of[subject]] += 1
  return np.array([fold_of[subject] for subject in subjects], np.int32)


def _stream(seed: int, purpose: str, cohort: str) -> np.random.Generator:
  # Not hash(): it differs from process to process.
  names = [zlib.crc32(name.encode()) for name in (purpose, cohort)]
  return np.random.default_rng([seed, *names])


def _count(number: int) -> str:
  return '1 subject' if number == 1 else f'{number} subjects'


def _listing(names: list[str], most: int = 5) -> str:
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more
