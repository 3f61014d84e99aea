"""Dotted keys of a config: which there are, their values, what may change.

Rule: a config is read by these names alone, and only a copy is changed.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from cmbjax.errors import InputError

KINDS = {
  bool: 'true or false',
  int: 'a whole number',
  float: 'a number',
  str: 'text',
  tuple: 'a list such as "(1,2)"',
}

# What a strategy of its own, or a point of a sweep, may change: nothing that
# changes the examples, the folds or the tests, for then results could not be
# compared.
SETTINGS = (
  'model.name',
  'model.dtype',
  'train.augmentation',
  'train.augmenter',
  'train.batch',
  'train.bn_momentum',
  'train.loss',
  'train.min_learning_rate',
  'train.optimizer',
  'train.output_bias',
  'train.plateau_factor',
  'train.plateau_min_delta',
  'train.plateau_patience',
  'train.positive_weight',
  'train.schedule',
  'train.stop_after',
  'train.warmup',
  'train.weight_decay',
)
LENGTHS = (
  'train.epochs',
  'train.learning_rate',
  'train.finetune_epochs',
  'train.finetune_frozen',
  'train.finetune_learning_rate',
)
SWEPT = tuple(sorted((*SETTINGS, *LENGTHS)))
SWEPT_FIELDS = ('frozen', 'epochs', 'learning_rate')  # of a strategy

# Tables with a value for each cohort: key -> field of `Cohort`.
OF_COHORT = {
  'cohorts': 'folder',
  'simulate.subjects': 'subjects',
  'test_subjects': 'test',
}


def keys(config: ConfigDict, prefix: str = '') -> list[str]:
  """All dotted names of values."""
  out = []
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      out += keys(value, f'{prefix}{name}.')
    else:
      out.append(prefix + name)
  return out


def get(config: ConfigDict, key: str):
  """The value of a dotted name."""
  for part in key.split('.'):
    config = config[part]
  return config


def flat(config: ConfigDict) -> dict[str, Any]:
  """All values by dotted name."""
  return {key: get(config, key) for key in keys(config)}


def assign(config: ConfigDict, key: str, value: Any, *, of: str) -> None:
  """Changes the value of a dotted name.

  Args:
    config: that is changed.
    key: dotted.
    value: a whole number will do for a number.
    of: whose value it is, for the message.

  Raises:
    InputError: it is of another kind.
  """
  kind = type(get(config, key))
  value = float(value) if kind is float and type(value) is int else value
  if type(value) is not kind:
    raise InputError(f'{of}: {key} is {value!r}, must be {KINDS[kind]}.')
  section, _, last = key.rpartition('.')
  (get(config, section) if section else config)[last] = value


def copied(config: ConfigDict) -> ConfigDict:
  """A copy whose strategies and cohorts keep their order."""
  out = copy.deepcopy(config)
  for part in ('strategies', 'cohorts'):
    items = {n: out.study[part][n] for n in config.study[part]}
    out.study[part] = ConfigDict(items, sort_keys=False)
  return out


def plain(value: Any) -> Any:
  """A config or a value of it as JSON takes it, for records."""
  if hasattr(value, '_asdict'):
    value = value._asdict()
  if isinstance(value, ConfigDict | Mapping):
    return {str(name): plain(value[name]) for name in value}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  return value


def title(overrides: Mapping[str, Any], wanted: Sequence[str]) -> str:
  """'learning_rate=0.001,weight_decay=0.01', fit for a folder."""
  parts = []
  for key in sorted(wanted, key=_in_order):
    if key in overrides:
      value = overrides[key]
      value = f'{value:g}' if isinstance(value, float) else str(value)
      for section in ('train.', 'study.strategies.'):
        key = key.removeprefix(section)
      parts.append(f'{key}={value or "none"}')
  return re.sub(r'[^\w.,=+-]', '_', ','.join(parts))


def _in_order(key: str) -> tuple[int, str]:
  return (SWEPT.index(key) if key in SWEPT else len(SWEPT), key)
