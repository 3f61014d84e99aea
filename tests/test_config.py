"""Config files of somebody's own, and values of the wrong kind."""

import pytest

from cmbjax import config as configs
from cmbjax.errors import InputError, NoInputError

START = (
  'from configs import base\n'
  'def get_config(preset=""):\n'
  '  config = base.get_config(preset)\n'
)


@pytest.mark.parametrize(
  ('body', 'message'),
  [
    (START + '  config.train.epoch = 3\n  return config', 'mean train.epochs'),
    (START + '  config.trian = 3\n  return config', 'trian: there is no such'),
    (
      START + '  del config.train.epochs\n  return config',
      'epochs: is missing',
    ),
    (START + '  return 3', 'gives 3, must give'),
    (START + '  return config.to_dict()', 'must give what base.get_config'),
    (START + '  return 1 / 0', 'ZeroDivisionError'),
    ('x = ', 'SyntaxError'),
    ('x = 1', r'has no get_config\(preset\)'),
  ],
)
def test_a_config_file_that_is_none(body, message, tmp_path):
  """A key that nobody reads would change nothing, without a word."""
  path = tmp_path / 'own.py'
  path.write_text(body)
  with pytest.raises(InputError, match=message):
    configs.load(str(path))


def test_every_shipped_config_keeps_to_the_base():
  for path in configs._folder().glob('[a-z]*.py'):
    configs.validate(configs.load(str(path)))


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('train.epochs', None, 'is None, must be a whole number'),
    ('train.learning_rate', None, 'is None, must be a number'),
    ('tests', None, 'is None, must be a list'),
    ('name', None, 'is None, must be text'),
    ('test_subjects.ccm_3t', -2, 'is -2, must be -1'),
  ],
)
def test_a_value_of_another_kind(key, value, message):
  config = configs.load('configs/base.py')
  config.update_from_flattened_dict({key: value})
  with pytest.raises(InputError, match=f'config.{key}: {message}'):
    configs.validate(config)


@pytest.mark.parametrize(
  ('said', 'sentence'),
  [
    ('train.epochs=2.5: invalid literal', "is '2.5', must be a whole number."),
    ("shared_labels=so: ('Non-boolean", "is 'so', must be true or false."),
    ('train.seeds=(1,: wrong', """is '(1,', must be a list such as "(1,2)"."""),
  ],
)
def test_a_flag_of_another_kind_is_one_sentence(said, sentence):
  config = configs.load('configs/base.py')
  key = said.partition('=')[0]
  found = configs.wrong_value(config, f'flag --config.{said}')
  assert found == f'config.{key}: {sentence}'
  assert configs.wrong_value(config, 'Unknown flag') == 'Unknown flag'


def test_a_path_of_ones_own_is_never_a_shipped_config(tmp_path, monkeypatch):
  """A misspelt folder before `finetune.py` must not run another study."""
  monkeypatch.chdir(tmp_path)
  assert configs.resolve('configs/finetune.py').endswith('finetune.py')
  assert configs.resolve('smoke.py:paper').endswith('smoke.py:paper')
  with pytest.raises(NoInputError, match='no such file'):
    configs.resolve(str(tmp_path / 'finetune.py'))
  with pytest.raises(NoInputError, match='no such file'):
    configs.resolve('mine/finetune.py')


def test_test_subjects_of_a_cohort_that_is_trained_on():
  """The message that asks for fewer names a key that there is."""
  config = configs.load('configs/combined.py')
  assert configs.held_out(config, 'ccm_3t', 7) == 7
  config.train.combined = ('btumor_3t', 'ccm_3t')
  with pytest.raises(InputError, match=r'4 test subjects .*ccm_3t. leaves 0'):
    configs.validate(config)
  configs.check_overrides(config, ['--config.test_subjects.ccm_3t=1'])
  config.test_subjects.ccm_3t = 1
  config.simulate.subjects.ccm_3t = 6
  configs.validate(config)
