"""What a study is made of: strategies, cohorts, rows of a table and claims.

Rule: all of it is data of a config, see configs/chen2019.py; nothing in the
package knows a strategy or a cohort by its name.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cmbjax.evaluation.claims import Claim

if TYPE_CHECKING:
  from ml_collections import ConfigDict

  from cmbjax.training.replicas import Replica

__all__ = [
  'ALL',
  'Claim',
  'Cohort',
  'Point',
  'Recipe',
  'Row',
  'Strategy',
  'Study',
]

ALL = 'all'


@dataclasses.dataclass(frozen=True)
class Strategy:
  """One way to get networks; each is trained once per fold and seed.

  Attributes:
    label: what tables and figures call it.
    learns: names of the cohorts whose training subjects it learns from.
    starts: name of the strategy whose weights it starts from, fold by fold;
      '' for fresh weights.
    weights: name of bundled weights, or a folder `models/NAME` of an earlier
      run: it is then used as it is, not trained, and has no settings, frozen,
      epochs or learning_rate of its own.
    frozen: regular expression of layer names that stay as they were loaded,
      for example '^(?!head/)' for a linear probe; '': as
      `config.train.finetune_frozen` says, where it starts from others.
    epochs: passes over its examples; 0: `config.train.finetune_epochs` where
      it starts from others, else `config.train.epochs`.
    learning_rate: 0: `config.train.finetune_learning_rate` or
      `config.train.learning_rate` in the same way.
    settings: values of other keys for this strategy alone, by dotted key, for
      example {'train.loss': 'my_losses:focal'}; any key that a sweep may
      change.
  """

  label: str
  learns: tuple[str, ...] = ()
  starts: str = ''
  weights: str = ''
  frozen: str = ''
  epochs: int = 0
  learning_rate: float = 0.0
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Cohort:
  """Scans of one kind.

  Attributes:
    label: what tables and figures call it.
    protocol: how it is simulated, a name of `simulate.protocols.PROTOCOLS` or
      'randomised'; not needed where there is a folder.
    folder: scans with their truth, or a data set that `cmbjax build` made; '':
      simulated. Same as `config.cohorts.NAME`.
    subjects: how many are simulated. Same as `config.simulate.subjects.NAME`.
    test: how many are held out for testing, or 'all'. Same as
      `config.test_subjects.NAME`, where -1 means all.
    first: number of the first one that is simulated. Subject 3 of a protocol
      is one person, so two cohorts of one protocol need other numbers.
    families: of generators, see `simulate.families.draw`.
    lesions: expected number of each simulated person; -1: as the protocol has.
  """

  label: str
  protocol: str = ''
  folder: str = ''
  subjects: int = 0
  test: int | str = 0
  first: int = 1
  families: str = ''
  lesions: float = -1.0

  @property
  def numbers(self) -> range:
    """Of the subjects that are simulated."""
    return range(self.first, self.first + self.subjects)

  def held_out(self, subjects: int) -> int:
    """How many of so many subjects are kept apart for testing."""
    return subjects if self.test == ALL else int(self.test)


class Row(NamedTuple):
  """The number that a strategy on a test set has in a paper's table."""

  number: int
  strategy: str
  test: str


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A strategy with every setting filled in.

  Attributes:
    name: its name in the config.
    strategy: as the config gives it.
    config: all settings, its own ones included.
    folder: of the weights, where they are given and not trained.
    rows: of the replica table, seeds x folds.
    epochs: passes over its examples.
    known: `weights.json` of the given weights; `config` has their network.
  """

  name: str
  strategy: Strategy
  config: 'ConfigDict'
  folder: pathlib.Path | None
  rows: 'tuple[Replica, ...]'
  epochs: int
  known: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def is_trained(self) -> bool:
    """Whether this run trains it."""
    return self.folder is None


@dataclasses.dataclass(frozen=True)
class Study:
  """A config, resolved.

  Attributes:
    config: all settings.
    recipes: of the strategies that are needed, each after what it starts from.
    reported: names of the strategies that get rows.
    cohorts: those that are read, by name, in the order of the config.
    labels: of all cohorts, by name.
    tests: names of the test sets.
    numbers: (strategy, test set) -> its number in the paper.
    claims: what the paper says of its rows.
    paper: whose numbers and claims these are; '' for nobody's.
  """

  config: 'ConfigDict'
  recipes: Mapping[str, Recipe]
  reported: tuple[str, ...]
  cohorts: Mapping[str, Cohort] = dataclasses.field(default_factory=dict)
  labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
  tests: tuple[str, ...] = ()
  numbers: Mapping[tuple[str, str], int] = dataclasses.field(
    default_factory=dict
  )
  claims: tuple[Claim, ...] = ()
  paper: str = ''

  @property
  def trained(self) -> tuple[Recipe, ...]:
    """Those that this run trains."""
    return tuple(one for one in self.recipes.values() if one.is_trained)

  @property
  def given(self) -> tuple[Recipe, ...]:
    """Those whose weights are there already."""
    return tuple(one for one in self.recipes.values() if not one.is_trained)

  @property
  def learned_from(self) -> frozenset[str]:
    """Cohorts that this run trains on."""
    return frozenset(n for one in self.trained for n in one.strategy.learns)


class Point(NamedTuple):
  """One point of a sweep: a whole study with some settings changed."""

  name: str  # 'learning_rate=0.001'; '' without a sweep
  study: Study
  overrides: Mapping[str, Any]  # dotted keys
