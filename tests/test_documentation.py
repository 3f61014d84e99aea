"""What documentation and notebooks say is there, is there."""

import ast
import contextlib
import importlib.util
import io
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import types

import pytest
from ml_collections import ConfigDict

from cmbjax import cli, main
from cmbjax.study import config as configs
from cmbjax.study import resolve
from cmbjax.study.settings import keys as keys_of
from tests.messages import says

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / 'docs'
NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))
PAGES = [
  ROOT / 'README.md',
  ROOT / 'CONTRIBUTING.md',
  *sorted(p for p in DOCS.rglob('*.md') if 'generated' not in p.parts),
]


def load(name):
  spec = importlib.util.spec_from_file_location(name, DOCS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def text_of(path):
  if path.suffix != '.ipynb':
    return path.read_text(encoding='utf-8')
  cells = json.loads(path.read_text(encoding='utf-8'))['cells']
  return '\n'.join(
    ''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown'
  )


def blocks(page):
  """What a page has in blocks marked `sh`."""
  return re.findall(r'^```sh\n(.*?)^```', text_of(page), re.S | re.M)


def commands():
  """(page, line) of every command in a block marked `sh`."""
  for page in [*PAGES, *NOTEBOOKS]:
    for block in blocks(page):
      for line in block.replace('\\\n', ' ').splitlines():
        if line.split('#')[0].strip():
          yield page.name, line.strip()


def own_files(folder):
  """Writes what pages show as files: blocks whose first line is their name."""
  for page in PAGES:
    text = text_of(page)
    for code, name in re.findall(
      r'^```python\n(# (\w+\.py)\n.*?)^```', text, re.S | re.M
    ):
      path = folder / name
      assert not path.exists() or path.read_text() == code, page.name
      path.write_text(code)


# Of `python -m cmbjax.main`.
FLAGS = {f'--{name}' for name in main._flags(ConfigDict(), [])}
COMMANDS = sorted(set(commands()))
STARTS = ('cmbjax ', 'python -m cmbjax.main ')


def refusal(words):
  """Why a command line would be refused; '' where it would be taken."""
  if words[0] == 'cmbjax':
    said = io.StringIO()
    try:
      with contextlib.redirect_stderr(said):
        cli.parser().parse_args(words[1:])
    except SystemExit:
      return said.getvalue() or 'refused'
    return ''
  try:
    name = next(w for w in words if w.startswith('--config='))[9:]
    config = configs.load(name)
    configs.check_overrides(config, words)
    resolve.study_of(main.parse(['main', *words[3:]]).config)
  except configs.NoInputError as error:
    # Folders of the reader are not here.
    return '' if 'is not a folder' in str(error) else str(error)
  except (ValueError, AssertionError, StopIteration) as error:
    return f'{type(error).__name__} {error}'
  return ''


@pytest.mark.parametrize(
  ('page', 'line'), [c for c in COMMANDS if c[1].startswith(STARTS)]
)
def test_command_is_taken(page, line, tmp_path, monkeypatch):
  own_files(tmp_path)
  monkeypatch.chdir(tmp_path)
  assert refusal(shlex.split(line, comments=True)) == ''


def test_there_are_commands_of_every_verb():
  shown = {line.split()[1] for _, line in COMMANDS if line[:7] == 'cmbjax '}
  assert set(cli.ROOMS) <= shown


@pytest.mark.parametrize(
  'line',
  [
    'cmbjax detekt a b',
    'cmbjax detect a b --treshold 1',
    'cmbjax simulate --subjects=many',
    'python -m cmbjax.main --config=configs/nothing.py',
    'python -m cmbjax.main --config=configs/study.py --config.train.epoch=3',
    'python -m cmbjax.main --config=configs/study.py --config.train.folds=1',
    'python -m cmbjax.main --config=configs/study.py --wokdir=x',
  ],
)
def test_a_stale_command_is_seen(line):
  assert refusal(shlex.split(line)) != ''


def test_other_commands_name_what_is_there():
  targets = re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.M)
  seen = set()
  for page, line in COMMANDS:
    words = shlex.split(line, comments=True)
    if words[0] == 'make':
      assert words[1] in targets, f'{page}: {line}'
      seen.add('make')
    for word in words:
      if word.startswith('scripts/'):
        assert (ROOT / word).is_file(), f'{page}: {line}'
        seen.add('scripts')
  assert seen == {'make', 'scripts'}


@pytest.mark.parametrize('page', [*PAGES, *NOTEBOOKS], ids=lambda p: p.stem)
def test_a_shell_takes_what_is_copied(page):
  """Parentheses without quotes, for one, are no words for a shell."""
  found = subprocess.run(
    [shutil.which('bash'), '-n'],
    input='\n'.join(blocks(page)),
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stderr


def options_of(parser):
  """Every option of a parser and of its verbs."""
  found = set(parser._option_string_actions)
  for action in parser._actions:
    if isinstance(getattr(action, 'choices', None), dict):
      for one in action.choices.values():
        found |= options_of(one)
  return found


def verb_parser(words):
  """The parser of `cmbjax VERB`, or that of a verb of the verb."""
  parser, verbs = cli.parser(), load('generate').verbs
  for word in words:
    if word not in verbs(parser):
      break
    parser = verbs(parser)[word]
  return parser


def inline(page):
  """What stands `so` in the text of a page, outside of blocks."""
  text = re.sub(r'^```.*?^```', '', text_of(page), flags=re.S | re.M)
  return [' '.join(found.split()) for found in re.findall(r'`([^`]+)`', text)]


OPTION = re.compile(r'(?<![\w-])--[a-zA-Z][\w-]*(?:\.[a-zA-Z_]\w*)*')
OF_OTHERS = {  # sbatch
  '--array', '--gpus-per-node', '--nodes', '--ntasks-per-node',
}  # fmt: skip


def settings(base):
  """All keys, also as they are written for any strategy or cohort.

  `clinic` and `randomised` are cohorts that pages add.
  """
  keys = set(keys_of(base))
  tables = r'study\.strategies|study\.cohorts|cohorts|simulate\.subjects'
  tables += '|test_subjects'
  for name in ('NAME', 'clinic', 'randomised'):
    keys |= {
      re.sub(rf'^({tables})\.\w+', rf'\1.{name}', key) for key in keys_of(base)
    }
  return keys


def stale_options(text, parser):
  """Options in a text that neither the parser nor a study knows."""
  base = configs.load(str(ROOT / 'configs/base.py'))
  known = options_of(parser) | OF_OTHERS | {'--config.KEY'}
  known |= FLAGS | {f'--config.{key}' for key in settings(base)}
  for source in re.findall(r'benchmarks/\w+\.py', text):
    known |= set(OPTION.findall((ROOT / source).read_text()))
  return sorted(set(OPTION.findall(text)) - known)


@pytest.mark.parametrize('page', [*PAGES, *NOTEBOOKS], ids=lambda p: p.stem)
def test_options_exist_wherever_they_are_named(page):
  assert stale_options(text_of(page), cli.parser()) == []
  for words in inline(page):
    if words.startswith('cmbjax '):
      verb = words.split()[1]
      assert verb in {*cli.ROOMS, '--help'}, words
      assert stale_options(words, verb_parser(words.split()[1:])) == []


def test_a_stale_option_is_seen():
  parser = cli.parser()
  assert stale_options('take `--treshold 0.05`', parser) == ['--treshold']
  gone = '--config.train.epoch'
  assert stale_options(f'`{gone}=3`', parser) == [gone]
  # One of another verb does not count.
  assert stale_options('--raters', parser) == []
  assert stale_options('--raters', verb_parser(['detect'])) == ['--raters']
  assert stale_options('--raters', verb_parser(['review', 'agreement'])) == []


def test_settings_exist_wherever_they_are_named():
  base = configs.load(str(ROOT / 'configs/base.py'))
  groups = {key.partition('.')[0] for key in keys_of(base) if '.' in key}
  known = settings(base) | {'study.strategies.NAME', 'study.cohorts.NAME'}
  seen = set()
  for page in [*PAGES, *NOTEBOOKS]:
    for words in inline(page):
      key = re.match(r'(?:config\.)?(\w+)((?:\.\w+)+)(?= ?=|$)', words)
      if key and key[1] in groups and not key[2].endswith(('.py', '.csv')):
        name = key[1] + key[2]
        assert name in known, f'{page.name}: {words}'
        seen.add(name)
  assert len(seen) >= 5


def called(path):
  """(words of a command, settings that are set) of every code cell."""
  for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
    if cell['cell_type'] != 'code':
      continue
    code = re.sub(r'^( *)%.*$', r'\1pass', ''.join(cell['source']), flags=re.M)
    for node in ast.walk(ast.parse(code)):
      if isinstance(node, ast.Call) and ast.unparse(node.func) == 'cmbjax':
        words = [ast.unparse(word) for word in node.args[0].elts]
        yield [word.removeprefix('f').strip("'") for word in words], []
      if isinstance(node, ast.Assign):
        yield [], [ast.unparse(target) for target in node.targets]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_cells_name_what_is_there(path):
  """Without running them, which scripts/notebooks.py does."""
  base = keys_of(configs.load(str(ROOT / 'configs/base.py')))
  seen = 0
  for words, targets in called(path):
    if words:
      assert stale_options(' '.join(words), verb_parser(words)) == []
    keys = [t[7:] for t in targets if t.startswith('config.')]
    assert set(keys) <= set(base)
    seen += len(keys) + bool(words)
  assert seen >= 3


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_first_cell_asks_where_cmbjax_is(path, monkeypatch):
  """In Colab: no name is guessed, since it may be another's package."""
  source = ''.join(json.loads(path.read_text())['cells'][1]['source'])
  assert "\nCMBJAX = ''" in source
  pip = '%pip install --quiet {CMBJAX}'
  assert source.count(pip) == 1
  source = source.replace(pip, 'installed.append(CMBJAX)')
  installed = []
  exec(source, {'installed': installed})
  assert installed == []  # elsewhere it does nothing
  colab = types.ModuleType('google.colab')
  monkeypatch.setitem(sys.modules, 'google.colab', colab)
  with says(SystemExit, 'CMBJAX'):
    exec(source, {'installed': installed})
  told = source.replace("CMBJAX = ''", "CMBJAX = 'a.whl'")
  exec(told, {'installed': installed})
  assert installed == ['a.whl']


def links():
  for page in [*PAGES, *NOTEBOOKS]:
    for target in re.findall(r'\]\(([^)\s]+)\)', text_of(page)):
      if not re.match(r'[a-z]+:', target) and not target.startswith('#'):
        yield page, target


def test_links_lead_somewhere():
  found = list(links())
  assert len(found) > 40
  for page, target in found:
    path = (page.parent / target.partition('#')[0]).resolve()
    parts = path.parts
    if 'generated' in parts:  # made while building
      kind, name = parts[parts.index('generated') + 1 :][:2]
      there = {
        'cli': path.stem in {*cli.ROOMS, 'index'},
        'notebooks': (ROOT / 'notebooks' / name).is_file(),
      }
      assert there[kind], f'{page.name}: {target}'
    else:
      assert path.exists(), f'{page.name}: {target}'


def test_every_setting_is_in_the_reference_with_a_comment():
  groups = load('generate').config_keys(ROOT / 'configs/base.py')
  keys = {key.name: key for group in groups for key in group.keys}
  base = configs.load(str(ROOT / 'configs/base.py'))
  cohorts, strategies = base.study.cohorts, base.study.strategies
  named = '|'.join([*cohorts, *strategies])
  wanted = {re.sub(rf'\.({named})\b', '.NAME', k) for k in keys_of(base)}
  assert set(keys) == wanted
  assert len(wanted) < len(keys_of(base))
  for group in groups:
    for key in group.keys:
      assert key.comment or group.comment, f'{key.name} has no comment'
  assert keys['train.folds'].default == '5'
  assert 'by subject' in keys['train.folds'].comment
  assert keys['pretrained'].default == "''"
  assert keys['study.strategies.NAME.epochs'].default == '0'
  assert 'linear probe' in keys['study.strategies.NAME.frozen'].comment
  assert keys['study.cohorts.NAME.label'].default == 'needed'


def test_verbs_have_pages_with_their_options(tmp_path):
  load('generate').write_cli(tmp_path)
  assert {p.stem for p in tmp_path.iterdir()} == {*cli.ROOMS, 'index'}
  page = (tmp_path / 'detect.md').read_text()
  assert (
    '`--operating-point {high_sensitivity,balanced,high_precision}`' in page
  )
  assert ': A likelihood instead of an operating point, 0 to 1.' in page


def test_pages_of_notebooks_ask_no_network(tmp_path):
  load('generate').copy_notebooks(tmp_path)
  assert len(list(tmp_path.iterdir())) == len(NOTEBOOKS)
  for path in tmp_path.iterdir():
    text = path.read_text()
    assert '[Open in Colab](https://colab' in text
    assert '](https://colab.research.google.com/assets' not in text


def test_docstrings_become_lists_and_keep_their_words():
  marked = load('plain_docstrings').marked_up
  lines = [
    'Sums x_ over *all*.',
    '',
    '* one',
    '',
    'Args:',
    '  first: [N], as `a*b`.',
    '  **how: more,',
    '    of it.',
    '',
    'Raises:',
    '  InputError: a row | is wrong.',
    '',
    '  a   column',
  ]
  out = '\n'.join(marked(lines))
  assert r'Sums x\_ over \*all\*.' in out
  assert '\n* one\n' in out
  assert '- **first**: [N], as `a*b`.' in out
  assert '- **\\*\\*how**: more,\n  of it.' in out
  assert r'a row \| is wrong.' in out
  assert '**Raises**' in out


def test_fields_get_the_comments_beside_them():
  from cmbjax.data import cohort

  found = dict(load('plain_docstrings').fields(cohort.LoadedScan))
  assert found['swi'] == '[X, Y, Z] float32 0..1'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_small_and_starts_anywhere(path):
  text = path.read_text(encoding='utf-8')
  assert len(text) < 400_000
  notebook = json.loads(text)
  first, second = notebook['cells'][:2]
  badge = ''.join(first['source'])
  assert f'/blob/main/notebooks/{path.name})' in badge
  assert 'simulated' in badge
  assert "if 'google.colab' in sys.modules:" in ''.join(second['source'])
  for cell in notebook['cells']:
    for out in cell.get('outputs', []):
      assert out.get('name') != 'stderr'
      assert out['output_type'] != 'error'


def test_nothing_names_a_place_on_a_machine():
  for path in [*PAGES, *NOTEBOOKS]:
    found = re.search(r'/(home|root|tmp|work|Users)/', path.read_text())
    assert not found, f'{path.name}: {found[0]}'


def test_figures_are_small_and_used():
  text = ''.join(page.read_text() for page in PAGES)
  figures = list((DOCS / 'figures').glob('*.png'))
  assert len(figures) >= 7
  for path in figures:
    assert path.stat().st_size <= 80_000
    assert f'figures/{path.name}' in text
