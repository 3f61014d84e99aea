"""The house rules that a machine can check."""

import ast
import collections
import graphlib
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

import cmbjax

ROOT = pathlib.Path(cmbjax.__file__).parent
FOUNDATION = {'errors', 'files', 'progress', 'beam', 'workers', '__init__'}
FOUNDATION |= {'delimited', 'doors', 'locks', 'plugins', 'sealed'}
ALLOWED = {  # room -> rooms that it may import
  'errors': set(),
  'beam': {'errors', 'files'},
  'delimited': {'errors', 'files'},
  'doors': {'errors'},
  'files': {'doors', 'errors'},
  'locks': {'errors', 'files'},
  'sealed': {'doors', 'errors', 'files'},
  'progress': set(),
  'plugins': {'errors'},
  'workers': {'errors', 'plugins'},
  'imaging': FOUNDATION,
  'models': FOUNDATION,
  'intake': FOUNDATION | {'imaging'},
  'reconstruct': FOUNDATION | {'imaging', 'intake'},
  'simulate': FOUNDATION | {'imaging', 'intake'},
  'candidates': FOUNDATION | {'imaging', 'models'},
  'data': FOUNDATION | {'imaging', 'intake', 'reconstruct', 'candidates'},
  'training': FOUNDATION | {'data', 'models'},
  'evaluation': FOUNDATION,
  'weights': FOUNDATION | {'training', 'data'},
  'report': FOUNDATION | {'evaluation'},
  'review': FOUNDATION
  | {'imaging', 'intake', 'reconstruct', 'candidates', 'data', 'evaluation'}
  | {'report'},
  'detect': FOUNDATION
  | {
    'imaging',
    'intake',
    'reconstruct',
    'candidates',
    'data',
    'models',
    'training',
    'evaluation',
    'report',
  }
  | {'weights'},
  'calibrate': FOUNDATION
  | {'evaluation', 'review', 'detect', 'training', 'weights'},
  'study': FOUNDATION
  | {
    'simulate',
    'reconstruct',
    'candidates',
    'data',
    'models',
    'training',
    'evaluation',
  }
  | {'report', 'detect', 'weights'},
}


def room_of(path):
  first = path.relative_to(ROOT).parts[0]
  return first.removesuffix('.py')


def imported(path):
  """Names of ours that a file imports, at its top or in a function."""
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
      names = [f'{node.module}.{alias.name}' for alias in node.names]
    yield from (n for n in names if n.startswith('cmbjax.'))


def imported_rooms(path):
  return {name.split('.')[1] for name in imported(path)} - {'__version__'}


SOURCES = sorted(ROOT.rglob('*.py'))


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: p.stem)
def test_imports_go_one_way(path):
  room = room_of(path)
  if room in ALLOWED:
    wrong = imported_rooms(path) - ALLOWED[room] - {room}
    assert not wrong, f'{room} must not import {sorted(wrong)}'


def test_no_file_imports_itself_by_way_of_others():
  modules = {
    '.'.join(('cmbjax', *p.relative_to(ROOT).with_suffix('').parts)): p
    for p in SOURCES
    if p.stem != '__init__'
  }
  arrows = {
    module: {
      known
      for name in imported(path)
      for known in (name, name.rpartition('.')[0])
      if known in modules
    }
    for module, path in modules.items()
  }
  graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError


def test_a_public_class_has_one_meaning():
  homes = collections.defaultdict(list)
  for path in SOURCES:
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
      if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
        homes[node.name].append(str(path.relative_to(ROOT)))
  assert [homes[name] for name in homes if len(homes[name]) > 1] == []


def test_benchmarks_run_without_the_tests():
  for path in ROOT.parent.glob('benchmarks/*.py'):
    assert not re.search(
      r"""(import|from) tests\b|'tests['/]""", path.read_text()
    ), path.name


def test_what_benchmarks_import_is_there():
  for path in ROOT.parent.glob('benchmarks/*.py'):
    for name in imported(path):
      module, _, part = name.rpartition('.')
      home = importlib.import_module(module)
      if not hasattr(home, part):
        importlib.import_module(name)


def test_html_is_written_by_templates():
  """Where all text is escaped; figures.py turns matplotlib's SVG round."""
  users = [p.name for p in SOURCES if re.search(r'</[a-z]+>', p.read_text())]
  assert users == ['figures.py']


def test_only_checkpoint_imports_orbax():
  users = [p.name for p in SOURCES if 'orbax.checkpoint' in p.read_text()]
  assert users == ['checkpoint.py']


# Who reads a file in another way than by `doors`, and why it may.
OWN_DOORS = {
  'doors.py': 'is the door',
  'files.py': 'what it has written itself',
  'workers.py': '/proc',
  'models/kernel.py': '/proc, and a library that this user compiled',
  'beam.py': 'what its own workers wrote a moment ago',
  'imaging/nifti.py': 'nibabel, behind the door',
  'imaging/template.py': 'part of the package',
  'simulate/tissue_atlas.py': 'part of nilearn',
  'intake/dicom_images.py': 'what dcm2niix wrote a moment ago',
  'report/pages.py': 'part of the package',
  'review/server/app.py': 'part of the package',
  'study/config.py': 'part of the package',
}
# Who may ask whether there is a file: what is missing there is made again, or
# is looked for among all files of a folder.
ASKS_FOR_FILES = {
  'training/checkpoint.py',
  'simulate/kept.py',
  'detect/records.py',
  'review/server/app.py',
  'review/cases/sources.py',
  'weights/weights_command.py',
  'models/kernel.py',
  'data/built.py',
  'data/import_sources.py',
  'sealed.py',
  'intake/dicom_images.py',
  'study/config.py',
}
# Names that open, or copy, what a path names. `open` of a journal is ours.
READS = {'read_bytes', 'read_text', 'open', 'memmap', 'fromfile', 'genfromtxt'}
READS |= {'loadtxt', 'copy2', 'copyfile', 'loadmat', 'imread', 'read_csv'}
READERS = {'np.load', 'nib.load', 'shutil.copy', 'gzip.open', 'json.load'}
OURS = {'files', 'doors', 'Journal', 'app', 'self'}


def readings(tree):
  """Lines where a path is read without the door.

  A handle that is given on is fine: who has one came in by the door. A second
  argument that writes is another matter, which `files` sees to.
  """
  handles = {
    item.optional_vars.id
    for node in ast.walk(tree)
    if isinstance(node, ast.With)
    for item in node.items
    if isinstance(item.optional_vars, ast.Name)
  }
  for node in ast.walk(tree):
    if not isinstance(node, ast.Call):
      continue
    modes = [getattr(a, 'value', None) for a in node.args]
    if any(isinstance(m, str) and m[:1] in tuple('wax') for m in modes):
      continue
    name = ast.unparse(node.func)
    home, _, last = name.rpartition('.')
    first = ast.unparse(node.args[0]) if node.args else ''
    if name in {'ZipFile', 'zipfile.ZipFile', 'load_workbook', 'dcmread'} | (
      {'openpyxl.load_workbook', 'pydicom.dcmread', *READERS}
    ):
      if first not in handles and not first.startswith('io.BytesIO'):
        yield node.lineno
    elif (
      last in READS
      and home.rpartition('.')[2] not in OURS
      # Of the system: a file to write to, or a folder to sync.
      and (home != 'os' or 'O_RDONLY)' in ast.unparse(node))
    ):
      yield node.lineno


def test_files_are_read_through_the_door():
  found = {
    f'{path.relative_to(ROOT)}:{line}'
    for path in SOURCES
    if str(path.relative_to(ROOT)) not in OWN_DOORS
    for line in readings(ast.parse(path.read_text(encoding='utf-8')))
  }
  assert found == set(), 'use doors.open_file, files.read_... or files.copy'


@pytest.mark.parametrize(
  ('line', 'count'),
  [
    ('open(path)', 1),
    ('path.read_text()', 1),
    ('np.load(path)', 1),
    ('shutil.copy(a, b)', 1),
    ('pydicom.dcmread(path, force=True)', 1),
    ('with doors.open_file(p) as f: np.load(f)', 0),
    ('files.read_bytes(path)', 0),
    ("open(path, 'wb')", 0),
  ],
)
def test_readings_past_the_door_are_seen(line, count):
  assert len(list(readings(ast.parse(line)))) == count


def test_what_one_can_do_without_is_asked_for_by_name():
  """`is_file` takes a link to nothing for no file at all, without a word."""
  users = {
    str(path.relative_to(ROOT))
    for path in SOURCES
    if '.is_file()' in path.read_text(encoding='utf-8')
  }
  assert users <= ASKS_FOR_FILES, 'use doors.is_there'


def test_files_and_functions_are_small_and_named():
  for path in SOURCES:
    text = path.read_text(encoding='utf-8')
    assert text.count('\n') <= 400, f'{path.name} wants to be two nouns'
    for node in ast.walk(ast.parse(text)):
      if isinstance(node, ast.FunctionDef):
        lines = node.end_lineno - node.lineno + 1
        assert lines <= 60, f'{path.name}: {node.name} has {lines} lines'
    assert path.stem not in ('utils', 'helpers', 'common')


def test_help_starts_without_jax():
  code = (
    'import sys; from cmbjax import cli; cli.parser();'
    'assert "jax" not in sys.modules and "tensorflow" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


def test_nothing_of_ours_needs_tensorflow():
  code = (
    'import sys; from cmbjax import study;'
    'assert "tensorflow" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


# Rooms whose functions are called from Python, not by a command alone.
LIBRARY = (
  *('candidates', 'data', 'detect', 'evaluation', 'imaging', 'models'),
  'report',
  *('simulate', 'study', 'training'),
)


def without_args(source):
  """Public functions of three or more arguments without a section Args.

  One without any docstring overrides another, which has it.
  """
  todo = [ast.parse(source)]
  while todo:
    for node in ast.iter_child_nodes(todo.pop()):
      if getattr(node, 'name', '_').startswith('_'):
        continue
      if isinstance(node, ast.ClassDef):
        todo.append(node)
      elif isinstance(node, ast.FunctionDef):
        a, text = node.args, ast.get_docstring(node)
        names = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
        names = [n.arg for n in names if n and n.arg not in ('self', 'cls')]
        if len(names) >= 3 and text and '\nArgs:\n' not in text:
          yield node.name


def test_many_arguments_are_explained():
  lacking = [
    f'{path.relative_to(ROOT)}: {name}'
    for path in SOURCES
    if room_of(path) in LIBRARY and not path.stem.endswith('_command')
    for name in without_args(path.read_text())
  ]
  assert lacking == []


def test_arguments_without_an_explanation_are_seen():
  made = 'class A:\n  def b(self, {}):\n    "Doc."\n  def _c(x, y, z): "D."'
  assert list(without_args(made.format('x, *y, z'))) == ['b']
  assert list(without_args(made.format('x, y'))) == []
