"""Config files and command-line overrides to one checked config.

Rule: a wrong key or value ends before any work starts, with the key, what was
found and what is allowed.
"""

import difflib
import importlib.util
import math
import os
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cmbjax.errors import InputError, NoInputError, shown

COHORTS = ('btumor_7t', 'btumor_3t', 'ccm_3t')
# And the simulator's scans of every scanner, for `combined` to learn from.
LEARNABLE = (*COHORTS, 'randomised')
STRATEGIES = ('7t', 'finetuned', 'scratch', 'combined')
PATCHES = ('native', 'resampled')
BACKENDS = ('auto', 'loop', 'map', 'vmap', 'shard')
DTYPES = ('float32', 'bfloat16')
WRITERS = ('tensorboard', 'wandb', 'mlflow')
INTERVALS = ('jackknife', 'bootstrap')

# Cohorts whose training subjects a strategy learns from, itself; those of
# 'combined' stand in the config.
_TRAINED_ON = {
  '7t': ('btumor_7t',),
  'finetuned': ('btumor_3t',),
  'scratch': ('btumor_3t',),
}
OUTPUT_BIASES = ('zero', 'prior')
TRAIN_FIRST = ('', 'train')  # values of config.pretrained

_POSITIVE = (
  'train.folds',
  'train.epochs',
  'train.finetune_epochs',
  'train.batch',
  'train.learning_rate',
  'train.min_learning_rate',
  'train.finetune_learning_rate',
  'train.plateau_patience',
  'train.positive_weight',
  'train.data_parallel',
  'evaluation.batch',
  'evaluation.draws',
  'simulate.subjects.btumor_7t',
  'simulate.subjects.btumor_3t',
  'simulate.subjects.ccm_3t',
)
_BETWEEN_0_AND_1 = (
  'train.plateau_factor',
  'train.bn_momentum',
  'evaluation.threshold',
  'evaluation.level',
)
_NOT_NEGATIVE = (
  'seed',
  'simulate.jobs',
  'simulate.slab_mm',
  'simulate.subjects.randomised',
  'test_subjects.btumor_7t',
  'test_subjects.btumor_3t',
  'test_subjects.randomised',
  'train.stop_after',
  'train.plateau_min_delta',
  'train.weight_decay',
  'train.augmentation',
  'train.width',
  'train.save_every_s',
)

_KINDS = {
  bool: 'true or false',
  int: 'a whole number',
  float: 'a number',
  str: 'text',
  tuple: 'a list such as "(1,2)"',
}

# What one point of a sweep may change: nothing that changes the examples, the
# folds or the tests, for then the points could not be compared.
SWEPT = (
  'model.name',
  'model.dtype',
  'train.augmentation',
  'train.batch',
  'train.bn_momentum',
  'train.epochs',
  'train.finetune_epochs',
  'train.finetune_frozen',
  'train.finetune_learning_rate',
  'train.learning_rate',
  'train.min_learning_rate',
  'train.plateau_factor',
  'train.plateau_min_delta',
  'train.plateau_patience',
  'train.positive_weight',
  'train.stop_after',
  'train.weight_decay',
)


def resolve(name: str) -> str:
  """The config file for `--config=NAME[:PRESET]`, preset kept.

  A path that exists wins; then the configs that came with the package.

  Raises:
    NoInputError: there is no such file.
  """
  path, colon, preset = name.partition(':')
  candidates = [pathlib.Path(path)]
  if candidates[0].parts[:-1] in ((), ('configs',)):  # no place of one's own
    candidates.append(_folder() / candidates[0].name)
  for candidate in candidates:
    if candidate.is_file():
      return f'{candidate}{colon}{preset}'
  known = sorted(p.stem for p in _folder().glob('[a-z]*.py'))
  raise NoInputError(
    f'--config={name}: no such file; shipped configs are {", ".join(known)} '
    'as configs/NAME.py.'
  )


class Point(NamedTuple):
  """One point of a sweep: the settings of one whole study."""

  name: str  # 'learning_rate=0.001'; '' without a sweep
  config: ConfigDict
  overrides: Mapping[str, Any]  # dotted keys


def load(name: str) -> ConfigDict:
  """`get_config(preset)` of a config file.

  Raises:
    InputError: the file has no get_config, refuses the preset, or gives other
      keys than those of configs/base.py.
  """
  config = _call(name, 'get_config')
  if not isinstance(config, ConfigDict):
    raise InputError(
      f'--config={name}: get_config() gives {shown(repr(config))}, must give '
      'what base.get_config(preset) gives, with values changed.'
    )
  found, known = keys(config), keys(_base())
  for key in found:
    if key not in known:
      raise InputError(f'--config={name}: {key}: {_no_such_key(key, known)}')
  for key in known:
    if key not in found:
      raise InputError(
        f'--config={name}: {key}: is missing; begin with '
        'config = base.get_config(preset).'
      )
  return config


def load_sweep(name: str) -> tuple[dict[str, Any], ...]:
  """What `sweep()` of a config file yields; nothing when it has none.

  Raises:
    InputError: it yields something other than dicts of settings.
  """
  sweep = _call(name, 'sweep')
  if not all(isinstance(point, Mapping) for point in sweep):
    raise InputError(
      f'--config={name}: sweep() has to yield dicts of settings, for example '
      "{'train.learning_rate': 1e-3}."
    )
  return tuple(dict(point) for point in sweep)


def _call(name: str, function: str):
  """What a function of a config file returns; () when it has no `sweep`."""
  path, _, preset = resolve(name).partition(':')
  # Config files say `from configs import base`.
  home = str(pathlib.Path(path).resolve().parent.parent)
  if home not in sys.path:
    sys.path.append(home)  # last: it must shadow nothing
  spec = importlib.util.spec_from_file_location('cmbjax_config', path)
  if spec is None:
    raise InputError(f'--config={name}: is not a Python file.')
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    if function == 'sweep':
      return tuple(module.sweep()) if hasattr(module, 'sweep') else ()
    if not hasattr(module, function):
      raise InputError(f'--config={name}: has no {function}(preset).')
    return getattr(module, function)(preset)
  except InputError:
    raise
  except Exception as error:  # of somebody's own file
    kind = type(error).__name__
    raise InputError(f'--config={name}: {kind}: {shown(error)}') from error


def check_overrides(config: ConfigDict, arguments: Sequence[str]) -> None:
  """Refuses `--config.KEY` arguments whose key does not exist.

  Raises:
    InputError: names the nearest keys.
  """
  known = keys(config)
  for argument in arguments:
    if not argument.startswith('--config.'):
      continue
    key = argument[len('--config.') :].partition('=')[0]
    if key not in known:
      raise InputError(f'--config.{shown(key)}: {_no_such_key(key, known)}')


def wrong_value(config: ConfigDict, message: str) -> str:
  """What the flags say of a value that cannot be read, as one sentence."""
  found = re.match(r'flag --config\.([\w.]+)=(.*?): ', message, re.DOTALL)
  if not found or found[1] not in keys(config):
    return shown(message)
  kind = _KINDS[type(get(config, found[1]))]
  return f'config.{found[1]}: is {shown(found[2])!r}, must be {kind}.'


def _no_such_key(key: str, known: Sequence[str]) -> str:
  near = difflib.get_close_matches(key, known, n=3, cutoff=0.4)
  if near:
    return f'there is no such key; did you mean {" or ".join(near)}?'
  return 'there is no such key; all of them stand in configs/base.py.'


def keys(config: ConfigDict, prefix: str = '') -> list[str]:
  """All dotted names of values."""
  out = []
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      out += keys(value, f'{prefix}{name}.')
    else:
      out.append(prefix + name)
  return out


def validate(config: ConfigDict) -> None:
  """Checks every value: its kind, and its range or list of choices.

  Raises:
    InputError: names the key, the value found and what is allowed.
    NoInputError: a cohort or weights folder does not exist.
  """
  _kinds(config)
  _choices('strategies', config.strategies, STRATEGIES)
  _choices('tests', config.tests, COHORTS)
  _choices('patches', (config.patches,), PATCHES)
  _channels(config.channels)
  _choices('train.combined', config.train.combined, LEARNABLE)
  _choices('train.output_bias', (config.train.output_bias,), OUTPUT_BIASES)
  _choices('train.combined_start', (config.train.combined_start,), ('', '7t'))
  _choices('evaluation.intervals', (config.evaluation.intervals,), INTERVALS)
  for key in _POSITIVE:
    _number(config, key, lambda v: v > 0, 'above 0')
  for key in _NOT_NEGATIVE:
    _number(config, key, lambda v: v >= 0, '0 or more')
  for key in _BETWEEN_0_AND_1:
    _number(config, key, lambda v: 0 < v < 1, 'between 0 and 1')
  if config.test_subjects.ccm_3t < -1:
    raise InputError(
      f'config.test_subjects.ccm_3t: is {config.test_subjects.ccm_3t}, must be '
      '-1 (all of them), 0 or more.'
    )
  if config.train.folds < 2:
    raise InputError('config.train.folds: is 1, cross-validation needs 2.')
  for key in ('learning_rate', 'finetune_learning_rate'):
    if config.train.min_learning_rate > config.train[key]:
      raise InputError(
        f'config.train.min_learning_rate: is above config.train.{key}; lower '
        'it.'
      )
  if config.train.augmentation > 1:
    raise InputError(
      f'config.train.augmentation: is {config.train.augmentation:g}, must be '
      '0 (none) to 1 (as published).'
    )
  try:
    re.compile(config.train.finetune_frozen)
  except re.error as error:
    raise InputError(
      f'config.train.finetune_frozen: {config.train.finetune_frozen!r} is no '
      f'regular expression ({error}).'
    ) from error
  if 0 < config.simulate.slab_mm < 8 or config.simulate.slab_mm > 200:
    raise InputError(
      f'config.simulate.slab_mm: is {config.simulate.slab_mm:g}, must be 0 '
      '(the whole brain) or 8 to 200.'
    )
  if config.seed >= 2**32:
    raise InputError('config.seed: is too large, must be below 2**32.')
  _names(config)
  _seeds(config.train.seeds)
  for name in LEARNABLE:
    _folder_exists(f'cohorts.{name}', config.cohorts[name])
  pretrained_folder(config)
  _enough_subjects(config)


def points(
  config: ConfigDict, sweep: Sequence[Mapping[str, Any]]
) -> tuple[Point, ...]:
  """A config and the overrides of its sweep to one checked config each.

  Raises:
    InputError: a key that cannot be swept, a wrong value, or a point twice.
  """
  if not sweep:
    return (Point('', config, {}),)
  out = []
  for overrides in sweep:
    wrong = [key for key in overrides if key not in SWEPT]
    if wrong:
      raise InputError(
        f'sweep(): {wrong[0]!r} cannot be swept; allowed are '
        f'{", ".join(SWEPT)}.'
      )
    one = config.copy_and_resolve_references()
    try:
      one.update_from_flattened_dict(overrides)
    except (KeyError, TypeError, ValueError) as error:
      raise InputError(f'sweep(): {dict(overrides)}: {error}') from error
    validate(one)
    out.append(Point(_title(overrides, SWEPT), one, dict(overrides)))
  names = [point.name for point in out]
  if len(set(names)) < len(names) or '' in names:
    raise InputError('sweep(): yields the same point twice, or an empty one.')
  return tuple(out)


def variant(point: Point, strategy: str) -> str:
  """The part of a point's name that matters for one strategy."""
  tuning = ('train.finetune_',)
  if goes_on(point.config, strategy):  # and of the pretraining
    own = ('train.learning_rate', 'train.epochs')
    first = point.config.pretrained in TRAIN_FIRST
    keys = [k for k in SWEPT if first or k not in own]
  else:
    keys = [key for key in SWEPT if not key.startswith(tuning)]
  return _title(point.overrides, keys)


def replica_rows(config: ConfigDict, strategy: str) -> tuple:
  """The rows of one strategy in the replica table: seeds x folds."""
  from cmbjax.training.replicas import Replica

  train, tuned = config.train, goes_on(config, strategy)
  return tuple(
    Replica(
      strategy=strategy,
      fold=fold,
      seed=seed,
      learning_rate=(
        train.finetune_learning_rate if tuned else train.learning_rate
      ),
      min_learning_rate=train.min_learning_rate,
      weight_decay=train.weight_decay,
      patience=train.plateau_patience,
      plateau_factor=train.plateau_factor,
      min_delta=train.plateau_min_delta,
      positive_weight=train.positive_weight,
      augmentation=train.augmentation,
      frozen=train.finetune_frozen if tuned else '',
    )
    for seed in train.seeds
    for fold in range(train.folds)
  )


def epochs_of(config: ConfigDict, strategy: str) -> int:
  """Passes over the training examples."""
  train = config.train
  return train.finetune_epochs if goes_on(config, strategy) else train.epochs


def _title(overrides: Mapping[str, Any], keys: Sequence[str]) -> str:
  """'learning_rate=0.001,weight_decay=0.01', fit for a folder."""
  parts = []
  for key in keys:
    if key in overrides:
      value = overrides[key]
      value = f'{value:g}' if isinstance(value, float) else str(value)
      short = key.partition('.')[2] if key.startswith('train.') else key
      parts.append(f'{short}={value or "none"}')
  return re.sub(r'[^\w.,=+-]', '_', ','.join(parts))


def cohorts_needed(config: ConfigDict) -> tuple[str, ...]:
  """Cohorts that this study reads, in a fixed order."""
  needed = set(config.tests)
  for strategy in trained_strategies(config):
    needed |= set(trained_on(config, strategy))
  return tuple(name for name in LEARNABLE if name in needed)


def trained_on(config: ConfigDict, strategy: str) -> tuple[str, ...]:
  """Cohorts whose training subjects a strategy learns from, itself."""
  if strategy != 'combined':
    return _TRAINED_ON[strategy]
  return tuple(name for name in LEARNABLE if name in config.train.combined)


def held_out(config: ConfigDict, name: str, subjects: int) -> int:
  """How many of a cohort's subjects are kept apart for testing."""
  count = config.test_subjects[name]
  return subjects if count < 0 else count


def goes_on(config: ConfigDict, strategy: str) -> bool:
  """Whether a strategy starts from the 7T weights, not from nothing."""
  if strategy == 'combined':
    return config.train.combined_start == '7t'
  return strategy == 'finetuned'


def pretrained_folder(config: ConfigDict) -> pathlib.Path | None:
  """Where the 7T weights to start from lie; None: they are trained first.

  Raises:
    NoInputError: there is no such folder, and no shipped weights of the name.
  """
  if config.pretrained in TRAIN_FIRST:
    return None
  from cmbjax.weights import catalogue

  if config.pretrained == '7t':
    return catalogue.folder('7t')
  _folder_exists('pretrained', config.pretrained)
  return pathlib.Path(config.pretrained)


def trained_strategies(config: ConfigDict) -> tuple[str, ...]:
  """Strategies that this run trains, each after what it starts from."""
  wanted = set(config.strategies)
  if any(goes_on(config, strategy) for strategy in wanted):
    wanted.add('7t')
  if config.pretrained not in TRAIN_FIRST:
    wanted.discard('7t')
  return tuple(s for s in STRATEGIES if s in wanted)


def get(config: ConfigDict, key: str):
  """The value of a dotted name."""
  for part in key.split('.'):
    config = config[part]
  return config


def _folder() -> pathlib.Path:
  """The configs that came along: in the wheel, or beside it in a checkout."""
  package = pathlib.Path(__file__).parent
  inside = package / 'configs'
  return inside if inside.is_dir() else package.parent / 'configs'


def _base() -> ConfigDict:
  return _call(str(_folder() / 'base.py'), 'get_config')


def _kinds(config: ConfigDict) -> None:
  """A config file can hold None, or text for a number, without a word."""
  base = _base()
  for key in keys(base):
    kind, value = type(get(base, key)), get(config, key)
    if type(value) is not kind and not (kind is float and type(value) is int):
      raise InputError(f'config.{key}: is {value!r}, must be {_KINDS[kind]}.')


def _choices(key: str, values: Sequence[str], allowed: Sequence[str]) -> None:
  if isinstance(values, str) or not values:
    raise InputError(
      f'config.{key}: is {values!r}, give a list of some of {tuple(allowed)}.'
    )
  wrong = [v for v in values if v not in allowed]
  if wrong or len(set(values)) < len(values):
    found = wrong[0] if wrong else 'a value twice'
    raise InputError(
      f'config.{key}: holds {found!r}; allowed are {tuple(allowed)}, each once.'
    )


def _channels(channels: Sequence[str]) -> None:
  from cmbjax.data.channels import CHANNELS, in_order

  _choices('channels', channels, CHANNELS)
  if not in_order(channels):
    raise InputError(
      f'config.channels: is {tuple(channels)}; swi comes first, then phase, '
      'then magnitude, those that are wanted.'
    )


def _number(config: ConfigDict, key: str, good, allowed: str) -> None:
  value = get(config, key)
  if not math.isfinite(value) or not good(value):
    raise InputError(f'config.{key}: is {value}, must be {allowed}.')


def _names(config: ConfigDict) -> None:
  from cmbjax import models
  from cmbjax.models import convolution

  forms = ('auto', *convolution.FORMS)
  _choices('model.name', (config.model.name,), models.MODELS)
  _choices('model.convolution', (config.model.convolution,), forms)
  _choices('train.backend', (config.train.backend,), BACKENDS)
  _choices('model.dtype', (config.model.dtype,), DTYPES)
  if config.writers:
    _choices('writers', config.writers, WRITERS)


def _enough_subjects(config: ConfigDict) -> None:
  """Counts of cohorts that will be simulated; given folders are read later."""
  trained = {
    name
    for strategy in trained_strategies(config)
    for name in trained_on(config, strategy)
  }
  for name in cohorts_needed(config):
    held = config.test_subjects[name]
    if held == 0 and name in config.tests:
      raise InputError(
        f'config.test_subjects.{name}: is 0, but config.tests holds {name}; '
        'set it to 1 or more.'
      )
    if config.cohorts[name]:
      continue
    simulated = config.simulate.subjects[name]
    left = simulated - held_out(config, name, simulated)
    if name in trained and left < config.train.folds:
      raise InputError(
        f'config.simulate.subjects.{name}: is {simulated}, less '
        f'{simulated - left} test subjects (config.test_subjects.{name}) '
        f'leaves {left} for {config.train.folds} folds; raise it, give scans '
        f'by config.cohorts.{name}, or lower config.train.folds.'
      )


def _seeds(seeds: Sequence[int]) -> None:
  whole = all(isinstance(s, int) and s >= 0 for s in seeds)
  if not seeds or not whole or len(set(seeds)) < len(seeds):
    raise InputError(
      f'config.train.seeds: is {tuple(seeds)}, give different whole numbers '
      'of 0 or more, for example "(0,1,2)".'
    )


def _folder_exists(key: str, value: str) -> None:
  if value and not os.path.isdir(value):
    raise NoInputError(
      f'config.{key}: {value!r} is not a folder; '
      + (
        'give one, 7t for the shipped weights, or train to train them first.'
        if key == 'pretrained'
        else 'correct the path, or leave it empty to simulate a cohort.'
      )
    )
