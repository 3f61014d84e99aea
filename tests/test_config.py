"""Config files of somebody's own, and values of the wrong kind."""

import re

import pytest

from cmbjax import plugins
from cmbjax.errors import InputError, NoInputError
from cmbjax.study import config as configs
from cmbjax.study import resolve
from tests.messages import says

START = (
  'from configs import base\n'
  'def get_config(preset=""):\n'
  '  config = base.get_config(preset)\n'
)


@pytest.mark.parametrize(
  ('body', 'message'),
  [
    (START + '  config.train.epoch = 3\n  return config', 'train.epochs'),
    (START + '  config.trian = 3\n  return config', ''),
    (
      START + '  del config.train.epochs\n  return config',
      '',
    ),
    (START + '  return 3', ''),
    (START + '  return config.to_dict()', 'base.get_config'),
    (START + '  return 1 / 0', 'ZeroDivisionError'),
    ('import sys\nsys.exit(0)', 'SystemExit'),
    (START + '  raise SystemExit', 'SystemExit'),
    ('x = ', 'SyntaxError'),
    ('x = 1', 'get_config'),
  ],
)
def test_a_config_file_that_is_none(body, message, tmp_path):
  """A key that nobody reads would change nothing, without a word."""
  path = tmp_path / 'own.py'
  path.write_text(body)
  with says(InputError, message):
    configs.load(str(path))


BEATS = re.compile(r'(.+) beats (?:the )?(.+) on (3T|CCM)')
STRATEGIES = {
  'Fine-tuning': 'finetuned',
  'fine-tuning': 'finetuned',
  'training from scratch': 'scratch',
  '7T model': '7t',
  'Combined training': 'combined',
}


def test_claims_of_the_paper_compare_what_they_say():
  claims = configs.load('configs/base.py').study.claims
  found = [(BEATS.fullmatch(one.text), one) for one in claims]
  found = [(words, one) for words, one in found if words]
  assert len(found) == 7
  for words, one in found:
    test = {'3T': 'btumor_3t', 'CCM': 'ccm_3t'}[words[3]]
    assert one.first == (STRATEGIES[words[1]], test)
    assert one.second == (STRATEGIES[words[2]], test)


def test_the_sweep_gives_each_rate_to_every_strategy():
  """60 trainings: three rates, four strategies, five folds."""
  path = 'configs/sweep.py'
  points = resolve.points(configs.load(path), configs.load_sweep(path))
  rows = [row for one in points for r in one.study.trained for row in r.rows]
  assert len(set(rows)) == len(rows) == 60
  assert {(row.strategy, row.learning_rate) for row in rows} == {
    (name, rate)
    for name in ('7t', 'finetuned', 'scratch', 'combined')
    for rate in (3e-5, 1e-4, 3e-4)
  }


def test_every_shipped_config_keeps_to_the_base():
  for path in plugins.packaged().glob('[a-z]*.py'):
    if path.stem != 'chen2019':  # definitions alone
      resolve.study_of(configs.load(str(path)))


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('train.epochs', None),
    ('train.learning_rate', None),
    ('tests', None),
    ('name', None),
    ('test_subjects.ccm_3t', -2),
    ('study.strategies.7t.settings', (1, 2)),
  ],
)
def test_a_value_of_another_kind(key, value):
  config = configs.load('configs/base.py')
  config.update_from_flattened_dict({key: value})
  with says(InputError, f'config.{key} {value}'):
    resolve.study_of(config)


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
  assert configs.locate('configs/finetune.py')[0].name == 'finetune.py'
  path, preset = configs.locate('smoke.py:paper')
  assert (path.name, preset) == ('smoke.py', 'paper')
  with says(NoInputError):
    configs.locate(str(tmp_path / 'finetune.py'))
  with says(NoInputError):
    configs.locate('mine/finetune.py')


def test_test_subjects_of_a_cohort_that_is_trained_on():
  """The message that asks for fewer names a key that there is."""
  config = configs.load('configs/combined.py')
  assert resolve.study_of(config).cohorts['ccm_3t'].held_out(7) == 7
  config.study.strategies.combined.learns = ('btumor_3t', 'ccm_3t')
  with says(InputError, 'ccm_3t'):
    resolve.study_of(config)
  configs.check_overrides(config, ['--config.test_subjects.ccm_3t=1'])
  config.test_subjects.ccm_3t = 1
  config.simulate.subjects.ccm_3t = 6
  resolve.study_of(config)


OWN = """
from cmbjax.study import Cohort, Strategy
from configs import base
def get_config(preset=''):
  config = base.get_config(preset)
"""


def own(tmp_path, *lines):
  path = tmp_path / 'own.py'
  body = ''.join(f'  {line}\n' for line in lines)
  path.write_text(f'{OWN}{body}  return config\n')
  return str(path)


def test_a_strategy_of_ones_own_is_resolved_once(tmp_path):
  config = configs.load(
    own(
      tmp_path,
      "config.study.strategies.probe = Strategy('Probe', ('btumor_3t',), '7t',",
      "  frozen='^(?!head/)', learning_rate=2e-3,",
      "  settings={'train.loss': 'optax:hinge_loss'})",
      "config.study.strategies.twice = Strategy('Twice', ('ccm_3t',), 'probe')",
      "config.strategies = ('twice',)",
      'config.test_subjects.ccm_3t = 1',
      'config.simulate.subjects.ccm_3t = 6',
    )
  )
  study = resolve.study_of(config)
  assert list(study.recipes) == ['7t', 'probe', 'twice']
  first, probe, twice = study.recipes.values()
  assert (first.epochs, probe.epochs, twice.epochs) == (24, 12, 12)
  assert {row.frozen for row in probe.rows} == {'^(?!head/)'}
  assert {row.frozen for row in twice.rows} == {''}
  assert probe.rows[0].learning_rate == 2e-3
  assert probe.config.train.loss == 'optax:hinge_loss'
  assert twice.config.train.loss == config.train.loss == 'cross_entropy'
  # Strategies and cohorts keep their order, also where settings are copied.
  assert list(probe.config.study.strategies) == list(config.study.strategies)
  assert study.reported == ('twice',)
  assert set(study.cohorts) == {'btumor_7t', 'btumor_3t', 'ccm_3t'}


def test_flags_reach_strategies_and_cohorts(tmp_path):
  from cmbjax import main

  path = own(
    tmp_path,
    "config.study.cohorts.clinic = Cohort('Clinic', protocol='clinical_15t',",
    "  subjects=6, test='all')",
    "config.tests += ('clinic',)",
  )
  call = main.parse(
    [
      'main',
      f'--config={path}',
      '--config.study.strategies.7t.epochs=3',
      '--config.study.strategies.finetuned.frozen=^stage_a',
      '--config.simulate.subjects.clinic=9',
      f'--config.cohorts.btumor_3t={tmp_path}',
    ]
  )
  study = resolve.study_of(call.config)
  assert study.recipes['7t'].epochs == 3
  assert study.recipes['finetuned'].rows[0].frozen == '^stage_a'
  clinic = study.cohorts['clinic']
  assert (clinic.subjects, clinic.held_out(9)) == (9, 9)
  assert study.cohorts['btumor_3t'].folder == str(tmp_path)
  with says(InputError, "'x'"):
    main.parse(
      ['main', f'--config={path}', '--config.study.strategies.7t.epochs=x']
    )
  for field, key in (
    ('subjects', 'simulate.subjects'),
    ('test', 'test_subjects'),
    ('folder', 'cohorts'),
  ):  # one key decides each value: a second one would change nothing
    flag = f'--config.study.cohorts.clinic.{field}=3'
    with says(InputError, f'{key}'):
      main.parse(['main', f'--config={path}', flag])


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    (["config.study.strategies.new = {'label': 'x'}"], 'Strategy'),
    (
      ["config.study.strategies.new = Strategy('N', ('nowhere',))"],
      "new.learns 'nowhere' ccm_3t",
    ),
    (
      ["config.study.strategies.new = Strategy('N', ('ccm_3t',), 'old')"],
      "new.starts 'old'",
    ),
    (
      [
        "config.study.strategies.a = Strategy('A', ('ccm_3t',), 'b')",
        "config.study.strategies.b = Strategy('B', ('ccm_3t',), 'a')",
      ],
      '',
    ),
    (
      [
        "config.study.strategies.new = Strategy('N', ('ccm_3t',), "
        "settings={'train.folds': 3})"
      ],
      "'train.folds'",
    ),
    (
      [
        "config.study.strategies.new = Strategy('N', ('btumor_3t',), "
        "settings={'train.batch': 'x'})",
        "config.strategies = ('new',)",
      ],
      "train.batch 'x'",
    ),
    (["config.cohorts.clinic = '/data'"], ''),
    (
      ["config.study.strategies.new = Strategy('N', weights='/no/where')"],
      "strategies.new.weights '/no/where'",
    ),
    (
      ["config.study.cohorts.clinic = Cohort('C', subjects=3, test='all')",
       "config.tests = ('clinic',)"],
      'config.cohorts.clinic',
    ),
    (
      ["config.study.cohorts.clinic = Cohort('C', 'mri', subjects=3)"],
      "'mri'",
    ),
    (["config.study.strategies.new = Strategy('', ('ccm_3t',))"], ''),
    (
      ["config.study.strategies.new = Strategy('two\\nlines', ('ccm_3t',))"],
      '',
    ),
    (["config.tests = (['ccm_3t'],)"], ''),
    (
      ["config.study.cohorts.new = Cohort('N', 'ccm_3t', first=10**7)"],
      '10000000 000',
    ),
    (["config.name = 'a\\0b'"], ''),
    (
      ["config.study.cohorts.b = Cohort('B', 'btumor_3t', '', 3, 'all')",
       "config.tests = ('b',)"],
      'cohorts.b btumor_3t first=11',
    ),
    (
      ["config.study.strategies.new = Strategy('3T from  scratch',",
       "  ('ccm_3t',))"],
      'new.label',
    ),
    (
      ["config.study.cohorts.new = Cohort('3T_CCM', 'ccm_3t', '', 3, 'all')"],
      "new.label '3T_CCM' ccm_3t",
    ),
    (
      ["config.study.strategies['n' * 61] = Strategy('N', ('ccm_3t',))"],
      '',
    ),
    (
      ["config.study.strategies[7] = Strategy('N', ('ccm_3t',))"],
      'study.strategies',
    ),
    (
      ["config.study.strategies.new = Strategy('N', settings=None)"],
      'new.settings None',
    ),
    (
      ["config.study.strategies.new = Strategy('N', settings={1: 2, 'b': 3})"],
      '',
    ),
    (
      [
        "config.study.strategies.new = Strategy('N', ('btumor_3t',), "
        "learning_rate=1e-9)",
        "config.strategies = ('new',)",
      ],
      'learning_rate config.train.min_learning_rate',
    ),
    (
      ["config.study.strategies.new = Strategy('N', weights='7t', epochs=3)"],
      'new.epochs',
    ),
    (
      ["config.study.strategies.new = Strategy('N', weights='nowhere')"],
      'config.study.strategies.new.weights',
    ),
    (
      [
        "config.study.strategies['7t'] = Strategy('7T', weights='combined')",
        "config.pretrained = '7t'",
      ],
      "'7t' 'combined'",
    ),
    (["del config.study"], ''),
    (["del config.simulate"], ''),
    (
      ["with config.ignore_type(): config.cohorts = ''"],
      'ConfigDict',
    ),
    (["config.evaluation.draws = 10**12"], '1000000000000'),
    (["config.train.batch = 10**9"], '1000000000'),
  ],
)  # fmt: skip
def test_a_study_that_is_none(tmp_path, lines, message):
  with says(InputError, message):
    resolve.study_of(configs.load(own(tmp_path, *lines)))


ROW_4, ROW_6 = "('finetuned', 'btumor_3t')", "('scratch', 'btumor_3t')"


@pytest.mark.parametrize(
  ('part', 'value', 'message'),
  [
    ('claims', f'Claim("x", {ROW_4}, {ROW_4})', ''),
    ('claims', f'*2 * (Claim("x", {ROW_4}, {ROW_6}),)', ''),
    ('claims', f'Claim("", {ROW_4}, {ROW_6})', ''),
    ('claims', f'Claim(None, {ROW_4}, {ROW_6})', ''),
    ('claims', f'Claim("x", list({ROW_4}), {ROW_6})', ''),
    ('claims', f'Claim("x", None, {ROW_6})', 'None'),
    ('claims', f'Claim("x", {ROW_4}, 5)', ''),
    ('claims', f'Claim("x", {ROW_4}, {ROW_6}, margin="1")', "'1'"),
    (
      'claims',
      f'Claim("x", {ROW_4}, {ROW_6}, margin=float("inf"))',
      '',
    ),
    ('rows', 'Row(1, ["7t"], "ccm_3t")', ''),
    ('rows', 'Row("1", "7t", "ccm_3t")', ''),
    ('rows', 'Row(1, "7t", "ccm_3t"), Row(2, "7t", "ccm_3t")', ''),
    ('rows', 'Row(1, "7t", "ccm_3t"), Row(1, "7t", "btumor_3t")', ''),
  ],
)
def test_rows_and_claims_that_are_none(tmp_path, part, value, message):
  """A list in one is found before training, not after it, when it ends."""
  more = 'from cmbjax.study import Claim, Row'
  path = own(tmp_path, more, f'config.study.{part} = ({value},)')
  with says(InputError, message):
    resolve.study_of(configs.load(path))


@pytest.mark.parametrize(
  'value', ["('train.batch',8)", '(1,)', '((1,2),(1,3))']
)
def test_settings_of_a_strategy_that_are_no_pairs(value):
  config = configs.load('configs/base.py')
  config.study.strategies.scratch.settings = eval(value)
  with says(InputError):
    resolve.study_of(config)


@pytest.mark.parametrize(
  'line',
  [
    'import neighbour',
    'from . import neighbour',
    'from .neighbour import RATE',
    'from configs import neighbour',
    'from cmbjax.configs import base as again',
    'from configs.finetune import get_config as other',
  ],
)
@pytest.mark.parametrize('folder', ['mine', 'configs'])
def test_imports_of_a_config_file(tmp_path, monkeypatch, line, folder):
  """Its own folder first, the configs of the package behind it."""
  home = tmp_path / folder
  home.mkdir()
  (home / 'neighbour.py').write_text('RATE = 3e-3\n')
  (home / 'own.py').write_text(f'{line}\n{OWN}  return config\n')
  monkeypatch.chdir(tmp_path)
  resolve.study_of(configs.load(f'{folder}/own.py'))
  monkeypatch.setenv('HOME', str(tmp_path))
  configs.load(f'~/{folder}/own.py')


def test_the_source_of_a_part_holds_the_helpers_beside_it(
  tmp_path, monkeypatch
):
  """An edited helper is another network, and was taken for the same."""
  import sys

  from cmbjax import plugins

  def text(rate):
    for name in [n for n in sys.modules if n.partition('.')[0] == 'own_nets']:
      del sys.modules[name]
    (package / 'deep.py').write_text(f'RATE = {rate}\n')
    part = plugins.find('own_nets.net:Net', key='k', known={})
    return plugins.source('own_nets.net:Net', part)

  package = tmp_path / 'own_nets'
  package.mkdir()
  (package / '__init__.py').write_text('')
  (package / 'net.py').write_text(
    'import numpy\nfrom cmbjax import files\nfrom . import layers\n'
    'class Net:\n  pass\n'
  )
  (package / 'layers.py').write_text('from own_nets.deep import RATE\n')
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(plugins, 'home', None)
  found = text(1)
  assert 'RATE = 1' in found
  assert 'import RATE' in found
  assert len(found) < 300  # neither numpy nor cmbjax
  assert text(22) == found.replace('RATE = 1', 'RATE = 22')


def test_a_neighbour_of_another_config_is_forgotten(tmp_path):
  """Two configs in one process, each with a helper of the same name."""
  for name, rate in (('a', 1e-3), ('b', 2e-3)):
    home = tmp_path / name
    home.mkdir()
    (home / 'neighbour.py').write_text(f'RATE = {rate}\n')
    text = f'import neighbour\n{OWN}  config.train.learning_rate = '
    (home / 'own.py').write_text(f'{text}neighbour.RATE\n  return config\n')
    config = configs.load(str(home / 'own.py'))
    assert config.train.learning_rate == rate
