"""The values of a config: which are allowed.

Rule: a message names the key, the value found and what is allowed.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from cmbjax.errors import InputError, NoInputError
from cmbjax.evaluation import claims
from cmbjax.models import convolution
from cmbjax.reconstruct.channels import CHANNELS, in_order
from cmbjax.simulate import families
from cmbjax.simulate.protocols import MOST_LESIONS, PROTOCOLS
from cmbjax.study.settings import KINDS, get, keys
from cmbjax.study.spec import ALL, Claim, Cohort, Row, Strategy, Study
from cmbjax.training import runner, writers

PATCHES = ('native', 'resampled')
DTYPES = ('float32', 'bfloat16')
INTERVALS = ('jackknife', 'bootstrap')
OUTPUT_BIASES = ('zero', 'prior')
PROTOCOL_OF_ALL = 'randomised'

# key -> lowest and highest value; beyond the highest ones no memory holds what
# is asked for.
_RANGES: dict[str, tuple[float, float]] = {
  'seed': (0, 2**32 - 1),
  'simulate.jobs': (0, 4096),
  'train.folds': (2, 1000),  # one to hold out, one to learn from
  'train.epochs': (1, 10**6),
  'train.finetune_epochs': (1, 10**6),
  'train.batch': (1, 65536),
  'train.stop_after': (0, 10**6),
  'train.plateau_patience': (1, 10**6),
  'train.plateau_min_delta': (0, math.inf),
  'train.weight_decay': (0, math.inf),
  'train.augmentation': (0, 1),
  'train.warmup': (0, 1),
  'train.width': (0, 10**6),
  'train.data_parallel': (1, 10**6),
  'train.save_every_s': (0, math.inf),
  'evaluation.batch': (1, 65536),
  'evaluation.draws': (1, 10**6),
}
_ABOVE_0 = (
  'train.learning_rate',
  'train.min_learning_rate',
  'train.finetune_learning_rate',
  'train.positive_weight',
)
_BETWEEN_0_AND_1 = (
  'train.plateau_factor',
  'train.bn_momentum',
  'evaluation.threshold',
  'evaluation.level',
)
_MOST_SUBJECTS = 10**6


def check_kinds(config: ConfigDict, base: ConfigDict) -> None:
  """A config file can hold None, or text for a number, without a word."""
  for key in keys(base):
    kind, value = type(get(base, key)), get(config, key)
    if type(value) is not kind and not (kind is float and type(value) is int):
      raise InputError(f'config.{key}: is {value!r}, must be {KINDS[kind]}.')


def check(
  config: ConfigDict,
  strategies: Mapping[str, Strategy],
  cohorts: Mapping[str, Cohort],
) -> None:
  """Checks every value of a config by itself.

  Args:
    config: with every key of base.py.
    strategies: by name.
    cohorts: by name.
  """
  check_numbers(config)
  if not config.name.isprintable():
    raise InputError(f'config.name: is {config.name!r}, must be one line.')
  _choices('strategies', config.strategies, strategies)
  _choices('tests', config.tests, cohorts)
  _choices('patches', (config.patches,), PATCHES)
  _channels(config.channels)
  _choices('evaluation.intervals', (config.evaluation.intervals,), INTERVALS)
  kept = config.evaluation.points_from
  if kept and kept not in config.tests:
    raise InputError(
      f'config.evaluation.points_from: is {kept!r}, must be empty or one of '
      f'config.tests ({", ".join(config.tests)}).'
    )
  if config.writers:
    _choices('writers', config.writers, writers.WRITERS)
  slab_mm = config.simulate.slab_mm
  if 0 < slab_mm < 8 or not 0 <= slab_mm <= 200:
    raise InputError(
      f'config.simulate.slab_mm: is {slab_mm:g}, must be 0 (the whole brain) '
      'or 8 to 200.'
    )
  _seeds(config.train.seeds)
  for name, one in strategies.items():
    _strategy(name, one, strategies, cohorts)
  for name, one in cohorts.items():
    _cohort(name, one)
  for part, table in (('strategies', strategies), ('cohorts', cohorts)):
    _labels(f'study.{part}', table)
  _rows_and_claims(config, strategies, cohorts)


def _labels(key: str, table: Mapping[str, Any]) -> None:
  """Tables and figures tell two of them apart by the label alone."""
  names: dict[str, str] = {}
  for name, one in table.items():
    other = names.setdefault(' '.join(one.label.split()), name)
    if other != name:
      raise InputError(
        f'config.{key}.{name}.label: is {one.label!r}, that of {other} as well;'
        ' give each its own.'
      )


def _rows_and_claims(config: ConfigDict, strategies, cohorts) -> None:
  known = {(s, t) for s in strategies for t in cohorts}
  for kind, part in ((Row, 'rows'), (Claim, 'claims')):
    for one in config.study[part]:
      if not isinstance(one, kind):
        raise InputError(
          f'config.study.{part}: holds {one!r}, must hold {kind.__name__}(...) '
          'of cmbjax.study.'
        )
      places = [one[1:], None] if kind is Row else [one.first, one.second]
      for place in places if places[1] is not None else places[:1]:
        # A list would do here and could not be looked up later.
        if not isinstance(place, tuple) or place not in list(known):
          raise InputError(
            f'config.study.{part}: names {place}, must be (strategy, cohort); '
            f'strategies are {", ".join(strategies)}, cohorts are '
            f'{", ".join(cohorts)}.'
          )
  claims.check(config.study.claims)
  rows = config.study.rows
  for row in rows:
    if type(row.number) is not int:
      raise InputError(
        f'config.study.rows: holds {tuple(row)}, its number must be a whole '
        'one.'
      )
    same = [r for r in rows if r.number == row.number or r[1:] == row[1:]]
    if len(same) > 1:
      raise InputError(
        f'config.study.rows: holds {tuple(same[0])} and {tuple(same[1])}; '
        'number each row once.'
      )


def check_numbers(config: ConfigDict) -> None:
  """Ranges and choices of what also a single strategy may change."""
  for key, (low, high) in _RANGES.items():
    most = f' to {high:,}' if high < math.inf else ' or more'
    _number(config, key, lambda v, a=low, b=high: a <= v <= b, f'{low}{most}')
  for key in _ABOVE_0:
    _number(config, key, lambda v: v > 0, 'above 0')
  for key in _BETWEEN_0_AND_1:
    _number(config, key, lambda v: 0 < v < 1, 'between 0 and 1')
  for key in ('learning_rate', 'finetune_learning_rate'):
    if config.train.min_learning_rate > config.train[key]:
      raise InputError(
        f'config.train.min_learning_rate: is above config.train.{key}; lower '
        'it.'
      )
  _expression('train.finetune_frozen', config.train.finetune_frozen)
  train = config.train
  _choices('train.output_bias', (train.output_bias,), OUTPUT_BIASES)
  _choices('model.dtype', (config.model.dtype,), DTYPES)
  _choices('train.backend', (train.backend,), runner.BACKENDS)
  forms = ('auto', *convolution.FORMS)
  _choices('model.convolution', (config.model.convolution,), forms)


def _strategy(
  name: str,
  one: Strategy,
  strategies: Mapping[str, Strategy],
  cohorts: Mapping[str, Cohort],
) -> None:
  key = f'study.strategies.{name}'
  _label(key, one.label)
  if not re.fullmatch(r'[\w.+-]{1,60}', name):
    raise InputError(
      f'config.{key}: {name!r} becomes a folder; use letters, digits, _ and -, '
      '60 of them at most.'
    )
  ignored = ('settings', 'frozen', 'epochs', 'learning_rate')
  if one.weights and (more := [k for k in ignored if getattr(one, k)]):
    raise InputError(
      f'config.{key}.{more[0]}: is set, but its weights are given and are not '
      'trained; take one of the two away.'
    )
  if one.learns or not one.weights:
    _choices(f'{key}.learns', one.learns, cohorts)
  if one.starts and one.starts not in strategies:
    raise InputError(
      f'config.{key}.starts: is {one.starts!r}; strategies are '
      f'{", ".join(strategies)}.'
    )
  chain, at = [name], one.starts
  while at:
    if at in chain:
      raise InputError(
        f'config.{key}.starts: {" <- ".join([*chain, at])} is a circle.'
      )
    chain.append(at)
    at = strategies[at].starts if at in strategies else ''
  _expression(f'{key}.frozen', one.frozen)
  if one.epochs < 0 or not 0 <= one.learning_rate < math.inf:
    raise InputError(
      f'config.{key}: epochs is {one.epochs} and learning_rate '
      f'{one.learning_rate:g}; both must be 0 (as config.train says) or more.'
    )


def _cohort(name: str, one: Cohort) -> None:
  _label(f'study.cohorts.{name}', one.label)
  if not re.fullmatch('[a-z][a-z0-9_]*', name):
    raise InputError(
      f'config.study.cohorts.{name}: use small letters, digits and _, a letter '
      'first.'
    )
  if one.test != ALL and not 0 <= one.test <= _MOST_SUBJECTS:
    raise InputError(
      f'config.test_subjects.{name}: is {one.test}, must be -1 (all of them), '
      '0 or more.'
    )
  if not 0 <= one.subjects <= _MOST_SUBJECTS:
    raise InputError(
      f'config.simulate.subjects.{name}: is {one.subjects}, must be 0 to '
      f'{_MOST_SUBJECTS:,}.'
    )
  if not 1 <= one.first <= _MOST_SUBJECTS:
    raise InputError(
      f'config.study.cohorts.{name}.first: is {one.first}, must be 1 to '
      f'{_MOST_SUBJECTS:,}.'
    )
  if one.folder and not os.path.isdir(os.path.expanduser(one.folder)):
    raise NoInputError(
      f'config.cohorts.{name}: {one.folder!r} is not a folder; correct the '
      'path, or leave it empty to simulate a cohort.'
    )
  if one.protocol and not one.folder:
    known = (*PROTOCOLS, PROTOCOL_OF_ALL)
    _choices(f'study.cohorts.{name}.protocol', (one.protocol,), known)
  if one.lesions != -1 and not 0 <= one.lesions <= MOST_LESIONS:
    raise InputError(
      f'config.study.cohorts.{name}.lesions: is {one.lesions:g}, must be -1 '
      f'(as the protocol has), or 0 to {MOST_LESIONS}.'
    )
  if one.families:
    try:
      families.check(one.families)
    except InputError as error:
      raise InputError(f'config.study.cohorts.{name}.{error}') from error


def check_study(study: Study) -> None:
  """Whether the cohorts are large enough for what is asked of them.

  Those that are given as folders are counted later.
  """
  folds, learned = study.config.train.folds, study.learned_from
  simulated: dict[tuple[str, int], str] = {}
  for name, one in study.cohorts.items():
    # Before the folder: this is decided without a look at the scans.
    if one.test == 0 and name in study.tests:
      raise InputError(
        f'config.test_subjects.{name}: is 0, but config.tests holds {name}; '
        'set it to 1 or more.'
      )
    if one.folder:
      continue
    if not one.protocol:
      raise InputError(
        f'config.cohorts.{name}: is empty, and the cohort has no protocol to '
        f'simulate it by; give a folder, or a protocol in '
        f'config.study.cohorts.{name}.'
      )
    if one.subjects < 1:
      raise InputError(
        f'config.simulate.subjects.{name}: is {one.subjects}, must be above 0.'
      )
    for number in one.numbers:
      other = simulated.setdefault((one.protocol, number), name)
      if other != name:
        raise InputError(
          f'config.study.cohorts.{name}: subject {number} of protocol '
          f'{one.protocol} is in {other} as well, and is the same person; '
          f'set first={study.cohorts[other].numbers.stop}.'
        )
    left = one.subjects - one.held_out(one.subjects)
    if name in learned and left < folds:
      raise InputError(
        f'config.simulate.subjects.{name}: is {one.subjects}, less '
        f'{one.subjects - left} test subjects (config.test_subjects.{name}) '
        f'leaves {left} for {folds} folds; raise it, give scans '
        f'by config.cohorts.{name}, or lower config.train.folds.'
      )


def _choices(key: str, values: Any, allowed: Sequence[str] | Mapping) -> None:
  if isinstance(values, str) or not values:
    raise InputError(
      f'config.{key}: is {values!r}, give a list of some of {tuple(allowed)}.'
    )
  known = list(allowed)  # a list is looked up in a list without a hash
  wrong = [v for v in values if v not in known]
  if wrong or len(set(values)) < len(values):
    found = repr(wrong[0]) if wrong else 'a value twice'
    raise InputError(
      f'config.{key}: holds {found}; allowed are {tuple(allowed)}, each once.'
    )


def _label(key: str, label: str) -> None:
  # 60 signs fit a column of the report, and a legend.
  short = isinstance(label, str) and label.strip() and len(label) <= 60
  if not short or not label.isprintable():
    raise InputError(
      f'config.{key}.label: is {label!r}, must be a short text for tables, of '
      'one line.'
    )


def _expression(key: str, text: str) -> None:
  try:
    re.compile(text)
  except re.error as error:
    raise InputError(
      f'config.{key}: {text!r} is not a regular expression ({error}).'
    ) from error


def _channels(channels: Sequence[str]) -> None:
  _choices('channels', channels, CHANNELS)
  if not in_order(channels):
    raise InputError(
      f'config.channels: is {tuple(channels)}; swi comes first, then those '
      f'that are wanted of {", ".join(CHANNELS[1:])}, in this order.'
    )


def _number(config: ConfigDict, key: str, good, allowed: str) -> None:
  value = get(config, key)
  if not math.isfinite(value) or not good(value):
    raise InputError(f'config.{key}: is {value}, must be {allowed}.')


def _seeds(seeds: Sequence[int]) -> None:
  # On the device a seed is a uint32.
  whole = all(type(s) is int and 0 <= s < 2**32 for s in seeds)
  if not seeds or not whole or len(set(seeds)) < len(seeds):
    raise InputError(
      f'config.train.seeds: is {tuple(seeds)}, give different whole numbers '
      'of 0 or more, for example "(0,1,2)".'
    )
