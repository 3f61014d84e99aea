"""What the program knows of itself, as pages in docs/generated.

Rule: nothing here is written by hand; a page that is as it was is not
touched, so that a second build is quick.
"""

import argparse
import dataclasses
import importlib
import inspect
import io
import json
import os
import pathlib
import re
import shutil
import tokenize
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
NAME = 'NAME'  # stands for that of any strategy or cohort
ROOMS = {  # room -> what it turns into what
  'imaging': 'Volumes to SWI, brain masks and regions.',
  'intake': 'Folders and files to scans.',
  'reconstruct': 'The files of one scan to its SWI.',
  'simulate': 'Physics to labelled scans.',
  'candidates': 'An SWI to candidates and outlines.',
  'study': 'A config to a finished study; the spine.',
  'data': 'Cohorts to labelled patches, folds and batches.',
  'models': 'Patches to logits.',
  'training': 'Replicas to weights.',
  'evaluation': 'Predictions to metrics, intervals and tests.',
  'report': 'Numbers to pages, tables and figures.',
  'detect': 'One scan, through all of it, to measured lesions.',
  'review': 'A person reads, and what was read is kept.',
  'calibrate': 'What a site reviewed to operating points of its own.',
  'weights': 'The networks that come with the package.',
}


def everything(docs: pathlib.Path) -> None:
  """Writes docs/generated."""
  out = docs / 'generated'
  write_configs(out / 'configs.md')
  write_cli(out / 'cli')
  write_api(out / 'api')
  write_cards(out / 'cards.md')
  write_ablation(out / 'ablation.md')
  copy_notebooks(out / 'notebooks')


class Key(NamedTuple):
  """One line of configs/base.py."""

  name: str
  default: str
  comment: str


class Group(NamedTuple):
  """Keys below one ConfigDict, with what stands above it."""

  name: str
  comment: str
  keys: list[Key]


def config_keys(path: pathlib.Path) -> list[Group]:
  """Every `config.KEY = VALUE` with its comments, in order.

  What has a value for each strategy or cohort is there once, as NAME.
  """
  text = path.read_text(encoding='utf-8')
  body = text.partition('def get_config')[2].partition('def _paper_scale')[0]
  groups = [Group('', '', [])]
  above: list[str] = []
  for line in body.splitlines():
    line = line.strip()
    if line.startswith('#'):
      above.append(line.lstrip('# '))
      continue
    if line.startswith('config.') and ' = ' in line:
      name, _, rest = line.removeprefix('config.').partition(' = ')
      value, beside = split_comment(rest)
      comment = ' '.join([*above, beside]).strip()
      if value == 'ConfigDict()':
        groups.append(Group(name, comment, []))
      elif name == 'study':
        groups += study_keys(comment)
      else:
        section = name.rpartition('.')[0]
        group = next(g for g in reversed(groups) if g.name in (section, ''))
        group.keys.append(Key(name, value, comment))
    above = []
  for group in groups:
    if not group.keys:  # a table by name of the cohort
      default = 'as its Cohort says'
      group.keys.append(Key(f'{group.name}.{NAME}', default, ''))
  return groups


def study_keys(comment: str) -> list[Group]:
  """The keys of `config.study`; fields of its parts from their docstrings."""
  from cmbjax.study import spec
  from cmbjax.study.settings import OF_COHORT

  known = attributes(spec.Study)
  whole = [
    Key('study.paper', "''", known['paper']),
    Key('study.rows', '()', f'{spec.Row.__doc__} Row(number, strategy, test).'),
    Key('study.claims', '()', f'{known["claims"]} {_fields_of(spec.Claim)}'),
  ]
  groups = [Group('study', comment, whole)]
  for part, kind in (('strategies', spec.Strategy), ('cohorts', spec.Cohort)):
    told = attributes(kind)
    keys = [
      Key(
        f'study.{part}.{NAME}.{field.name}', _default(field), told[field.name]
      )
      for field in dataclasses.fields(kind)
      if kind is spec.Strategy or field.name not in OF_COHORT.values()
    ]
    first = inspect.getdoc(kind).partition('\n')[0]
    groups.append(Group(f'study.{part}.{NAME}', first, keys))
  return groups


def attributes(kind: type) -> dict[str, str]:
  """What the docstring of a class says of each of its attributes."""
  block = inspect.getdoc(kind).partition('Attributes:\n')[2]
  entries = re.split(r'^  (?=\w+: )', block, flags=re.M)[1:]
  # Quotes as code: a page would make them curly.
  entries = [re.sub(r"(?<!\w)'[^']*'(?!\w)", r'`\g<0>`', e) for e in entries]
  pairs = (entry.partition(': ') for entry in entries)
  return {name: ' '.join(text.split()) for name, _, text in pairs}


def _fields_of(kind: type) -> str:
  names = getattr(kind, '_fields', None) or [
    field.name for field in dataclasses.fields(kind)
  ]
  return f'{kind.__name__}({", ".join(names)}).'


def _default(field: dataclasses.Field) -> str:
  if field.default_factory is not dataclasses.MISSING:
    return repr(field.default_factory())
  return (
    'needed' if field.default is dataclasses.MISSING else repr(field.default)
  )


def split_comment(code: str) -> tuple[str, str]:
  """'0.5  # of it' -> ('0.5', 'of it'); a # in a string is no comment."""
  for token in tokenize.generate_tokens(io.StringIO(code).readline):
    if token.type == tokenize.COMMENT:
      return code[: token.start[1]].strip(), token.string.lstrip('# ')
  return code.strip(), ''


def write_configs(path: pathlib.Path) -> None:
  """The tables of all keys, with the paper's scale where it differs."""
  from cmbjax.study import config as configs
  from cmbjax.study import settings as settings_lib

  name = str(ROOT / 'configs/base.py')
  small, paper = configs.load(name), configs.load(f'{name}:paper')
  lines = []
  for group in config_keys(ROOT / 'configs/base.py'):
    lines += [f'## {"`" + group.name + "`" if group.name else "The run"}', '']
    if group.comment:
      lines += [_sentence(group.comment), '']
    for key in group.keys:
      told = [_plain(_sentence(key.comment))] if key.comment else []
      if NAME not in key.name and not key.name.startswith('study.'):
        big = settings_lib.get(paper, key.name)
        if big != settings_lib.get(small, key.name):
          told.append(f'`:paper` has `{big!r}`.')
      field = key.name.removeprefix(f'study.strategies.{NAME}.')
      if key.name in settings_lib.SWEPT or field in settings_lib.SWEPT_FIELDS:
        told.append('*Sweep.*')
      lines += _defined(f'`{key.name}` = `{key.default}`', ' '.join(told))
    if group.name == f'study.strategies.{NAME}':
      lines += ['Those that are there:', '', *_strategies(small.study), '']
    if group.name == f'study.cohorts.{NAME}':
      lines += ['Those that are there, and with `:paper`:', '']
      lines += [*_cohorts(small, paper), '']
    lines.append('')
  _write(path, '\n'.join(lines))


def _strategies(study) -> list[str]:
  """A table of the strategies of a config."""
  lines = ['| NAME | label | learns | starts |', '|---|---|---|---|']
  for name, one in study.strategies.items():
    learns = ', '.join(f'`{cohort}`' for cohort in one.learns)
    start = f'`{one.starts}`' if one.starts else 'fresh weights'
    lines.append(f'| `{name}` | {one.label} | {learns} | {start} |')
  return lines


def _cohorts(small, paper) -> list[str]:
  """A table of the cohorts of a config at two sizes."""
  lines = ['| NAME | label | subjects | test | subjects, `:paper` | test |']
  lines.append('|---' * 6 + '|')
  for name, one in small.study.cohorts.items():
    cells = [f'`{name}`', one.label]
    for config in (small, paper):
      held = config.test_subjects[name]
      cells += [config.simulate.subjects[name], 'all' if held == -1 else held]
    lines.append('| ' + ' | '.join(map(str, cells)) + ' |')
  return lines


def write_cli(folder: pathlib.Path) -> None:
  """A page per verb, and one that lists them."""
  from cmbjax import cli

  os.environ['COLUMNS'] = '78'
  index = ['# Verbs', '', '```{toctree}', ':hidden:', '']
  pages = {verb: _verb(parser) for verb, parser in verbs(cli.parser()).items()}
  index += [*pages, '```', '', '| verb | what it does |', '|---|---|']
  for verb, text in pages.items():
    _write(folder / f'{verb}.md', text)
    index.append(f'| [`cmbjax {verb}`]({verb}.md) | {cli.HELP[verb]} |')
  _write(folder / 'index.md', '\n'.join([*index, '']))
  _keep_only(folder, [*pages, 'index'])


def verbs(parser) -> dict[str, argparse.ArgumentParser]:
  """The parsers of all verbs, by name."""
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      return dict(action.choices)
  return {}


def _verb(parser) -> str:
  usage = parser.format_usage().removeprefix('usage: ')
  lines = [f'# {parser.prog}', '', _sentence(parser.description or ''), '']
  lines += ['```text', usage.rstrip(), '```', '']
  for group in parser._action_groups:
    actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
    actions = [a for a in actions if a.dest != 'help']
    if not actions:
      continue
    lines += [f'## {_sentence(group.title or "options").rstrip(".")}', '']
    for action in actions:
      lines += _defined(_names(action), _plain(_sentence(_help(action))))
  if parser.epilog:
    lines += ['## More', '', '```text', parser.epilog.strip(), '```', '']
  for name, sub in verbs(parser).items():
    lines += [
      f'## {name}',
      '',
      '```text',
      sub.format_help().rstrip(),
      '```',
      '',
    ]
  return '\n'.join(lines)


def _names(action) -> str:
  if not action.option_strings:
    names = [action.metavar or action.dest]
    return f'`{_choices(action) if action.choices else names[0]}`'
  value = ''
  if action.nargs != 0:
    value = action.metavar or _choices(action) or action.dest.upper()
    value = ' '.join(value) if isinstance(value, tuple) else value
    value += ' ...' if action.nargs in ('+', '*') else ''
  return ', '.join(f'`{f"{n} {value}".strip()}`' for n in action.option_strings)


def _choices(action) -> str:
  return (
    '{' + ','.join(map(str, action.choices)) + '}' if action.choices else ''
  )


def _help(action) -> str:
  text = (action.help or '').replace('%(default)s', str(action.default))
  return text.replace('%%', '%')


def write_api(folder: pathlib.Path) -> None:
  """A page per room: every module that has something public."""
  for room, purpose in ROOMS.items():
    paths = sorted((ROOT / 'cmbjax' / room).rglob('*.py'))
    assert paths, f'ROOMS: cmbjax/{room} has no module'
    modules = [
      '.'.join(path.relative_to(ROOT).with_suffix('').parts)
      for path in paths
      if not path.stem.startswith('_') and not path.stem.endswith('command')
    ]
    lines = [f'# cmbjax.{room}', '', purpose, '']
    for module in modules:
      importlib.import_module(module)  # a module that is broken says so here
      title = module.removeprefix(f'cmbjax.{room}.')
      lines += [f'## {title}', '', '```{eval-rst}', f'.. automodule:: {module}']
      lines += ['```', '']
    _write(folder / f'{room}.md', '\n'.join(lines))
  _keep_only(folder, list(ROOMS))


def write_cards(path: pathlib.Path) -> None:
  """The model cards that lie beside the weights, one after the other."""
  found = sorted((ROOT / 'cmbjax/weights').glob('*/README.md'))
  parts = [f'#{card.read_text(encoding="utf-8").strip()}' for card in found]
  parts = [part.replace('\n## ', '\n### ') for part in parts]
  none = 'This version comes without weights: train your own, or use `none`.'
  _write(path, '\n\n'.join(parts) + '\n' if parts else f'{none}\n')


def write_ablation(path: pathlib.Path) -> None:
  """The table of benchmarks/ablation.py: an arm a line, a protocol a column."""
  stored = ROOT / 'benchmarks' / 'results' / 'ablation.json'
  rows = json.loads(stored.read_text())['rows']
  protocols = list(dict.fromkeys(row['protocol'] for row in rows))
  arms = list(dict.fromkeys(row['arm'] for row in rows))
  found = {(row['arm'], row['protocol']): row for row in rows}
  lines = [
    '| patches, heads, channels | ' + ' | '.join(protocols) + ' |',
    '|---' * (len(protocols) + 1) + '|',
  ]
  for arm in arms:
    cells = [_judged(found[arm, protocol]) for protocol in protocols]
    lines.append(f'| {arm.replace("+", " + ")} | ' + ' | '.join(cells) + ' |')
  _write(path, '\n'.join(lines) + '\n')


def _judged(row: dict) -> str:
  auc = row['metrics']['auc']
  if auc['value'] is None:
    return 'n/a'
  text = f'{auc["value"]:.3f}'
  if auc['low'] is not None:
    text += f'<br>{auc["low"]:.2f}–{auc["high"]:.2f}'
  return f'{text}<br>{100 * row["removed_at_kept"]:.0f} %'


def copy_notebooks(folder: pathlib.Path) -> None:
  """The notebooks, with what they showed when they were run last.

  The badge is a picture from the network; a page here asks for none.
  """
  found = sorted((ROOT / 'notebooks').glob('*.ipynb'))
  for path in found:
    text = path.read_text(encoding='utf-8')
    _write(
      folder / path.name, re.sub(r'!\[(Open in Colab)\]\([^)]*\)', r'\1', text)
    )
  _keep_only(folder, [path.stem for path in found])


def _sentence(text: str) -> str:
  text = text.strip()
  return text[:1].upper() + text[1:]


def _defined(name: str, meaning: str) -> list[str]:
  """An entry of a definition list, or a line where there is no more to say."""
  return [name, f': {meaning.strip()}', ''] if meaning.strip() else [name, '']


def _plain(text: str) -> str:
  """One line, with what Markdown would read as marks made plain."""
  text = ' '.join(text.split())
  for sign in '|<*[':
    text = text.replace(sign, '\\' + sign)
  if text and text[-1] not in '.:;!?)':
    text += '.'
  return text


def _write(path: pathlib.Path, text: str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  if not path.exists() or path.read_text(encoding='utf-8') != text:
    path.write_text(text, encoding='utf-8')


def _keep_only(folder: pathlib.Path, stems) -> None:
  for path in folder.iterdir():
    if path.stem not in stems:
      shutil.rmtree(path) if path.is_dir() else path.unlink()
