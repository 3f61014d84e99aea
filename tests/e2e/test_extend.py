"""What docs/howto/extend.md says, done from the wheel in an empty folder.

What the three changes take that once needed an edited package, as the page
shows them (code without blank lines; imports and `get_config` included):

* a linear probe beside the four strategies: 1 file, 9 lines, 5 of them its own;
* a fourth cohort at 1.5T: 1 file, 9 lines, 5 of them its own;
* a network from outside: 1 file, 10 lines, and a flag or a setting.
"""

import csv
import json
import os
import pathlib
import re
import shlex
import subprocess

import numpy as np
import pytest

from cmbjax.training import checkpoint, logs
from tests import small_cohorts, wheel

DOCS = pathlib.Path(__file__).parents[2] / 'docs'
NAMED = re.compile(r'^```python\n(# (\w+\.py)\n.*?)^```', re.S | re.M)
FILES = {
  name: code
  for page in DOCS.rglob('*.md')
  for code, name in NAMED.findall(page.read_text(encoding='utf-8'))
}
PAGES = [DOCS / name for name in ('howto/extend.md', 'howto/sweeps.md')]
PAGES.append(DOCS / 'concepts/simulator.md')
COHORTS = {'btumor_7t': 4, 'btumor_3t': 4, 'ccm_3t': 2, 'clinic': 2}
STRATEGIES = ('7t', 'finetuned', 'scratch', 'combined', 'probe', 'small')
SMALL = (
  '--config.model.name=my_net:Small',
  '--config.test_subjects.btumor_7t=2',
  '--config.test_subjects.btumor_3t=2',
  '--config.train.folds=2',
  '--config.train.epochs=1',
  '--config.train.finetune_epochs=1',
  '--config.evaluation.draws=20',
)
# Many command lines in one process: most of a short one is its imports.
DRIVER = """
import contextlib, io, json, sys
import cmbjax
from cmbjax import main
found = {'cmbjax': cmbjax.__file__, 'path': sys.path}
for line in json.load(sys.stdin):
  out, errors = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
    code = main.main(line)
  found[' '.join(line)] = [code, out.getvalue(), errors.getvalue()]
print(json.dumps(found))
"""

pytestmark = pytest.mark.e2e


def commands(page):
  """Command lines of a page, joined where they go on."""
  text = page.read_text(encoding='utf-8')
  for block in re.findall(r'^```sh\n(.*?)^```', text, re.S | re.M):
    for line in block.replace('\\\n', ' ').splitlines():
      yield ' '.join(line.split())


@pytest.fixture(scope='module')
def start(tmp_path_factory):
  """Runs a command in a folder that holds the files of the pages alone."""
  folder = tmp_path_factory.mktemp('extend')
  path = wheel.install(folder)
  here = folder / 'here'
  here.mkdir()
  for name, code in FILES.items():
    (here / name).write_text(code)
  for number, (name, subjects) in enumerate(COHORTS.items()):
    small_cohorts.write_cohort(
      here / 'data' / name, subjects=subjects, first=1 + 10 * number
    )
  environment = {**os.environ, 'PATH': path}
  environment.pop('PYTHONPATH', None)

  def call(command, given=''):
    return subprocess.run(
      ['bash', '-c', command],
      cwd=here,
      env=environment,
      input=given,
      capture_output=True,
      text=True,
      timeout=300,
      check=False,
    )

  call.here = here
  return call


def dry(start, lines):
  """Output of each line, shown by the dry run."""
  words = [
    [*shlex.split(line.replace('/data/', 'data/'))[2:], '--mode=dryrun']
    for line in lines
  ]
  done = start(f'python -c {shlex.quote(DRIVER)}', json.dumps(words))
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert str(start.here.parent) in found.pop('cmbjax')  # not the checkout
  assert str(DOCS.parent) not in found.pop('path')
  for line, (code, _, errors) in found.items():
    assert code == 0, f'{line}: {errors}'
  return {line: out for line, (_, out, _) in found.items()}


def test_every_documented_study_passes_its_checks(start):
  """Each with --mode=dryrun, which makes every check of the run."""
  lines = [
    line
    for page in PAGES
    for line in commands(page)
    if line.startswith('python -m cmbjax.main ')
  ]
  found = dry(start, lines)
  assert len(found) >= 14
  text = '\n'.join(found.values())
  for part in ('^(?!head/)', 'my_net:Small', 'my_schedule:one_cycle'):
    assert part in text
  sweep = next(out for line, out in found.items() if 'rates.py' in line)
  # '7t' and 'finetuned' at three rates, in five folds.
  assert '30 trainings, 1 program, 2 calls' in sweep
  assert not (start.here / 'runs').exists()


def test_a_config_imports_its_neighbours(start):
  """In the folder of the file, wherever the command is started."""
  mine = start.here / 'mine'
  mine.mkdir()
  (mine / 'common.py').write_text('RATE = 3e-3\n')
  body = FILES['rates.py'].partition('def sweep')[0]
  name = "= 'rates'"
  body = body.replace(name, f'{name}\n  config.train.learning_rate = RATE')
  lines = [
    'from common import RATE',
    'from .common import RATE',
    'from configs.common import RATE',
    'from cmbjax.configs import base as again; from common import RATE',
  ]
  for number, line in enumerate(lines):
    (mine / f'own_{number}.py').write_text(f'{line}\n{body}')
  found = dry(
    start,
    [
      f'python -m cmbjax.main --config={folder}/own_{number}.py'
      for number in range(len(lines))
      for folder in ('mine', mine)
    ],
  )
  assert len(found) == 2 * len(lines)
  assert all(' 0.003 ' in out for out in found.values())


def test_the_study_from_python(start):
  """The example of the reference, planned instead of run."""
  page = (DOCS / 'reference' / 'api.md').read_text(encoding='utf-8')
  (code,) = re.findall(r'^```python\n(.*?)^```', page, re.S | re.M)
  planned = code.replace('config, run', 'config, dryrun').replace(
    'run.study(', 'dryrun.describe('
  )
  assert planned.count('dryrun') == 2
  done = start('python', f'{planned}\nprint(tables)')
  assert done.returncode == 0, done.stderr
  assert '4 trainings, 1 program' in done.stdout


@pytest.fixture(scope='module')
def everything(start):
  """everything.py as the page starts it, on tiny cohorts: folder, output."""
  cohorts = [f'--config.cohorts.{name}=data/{name}' for name in COHORTS]
  epochs = '--config.study.strategies.small.epochs=4'
  return _run(start, '--config=everything.py', *cohorts, epochs)


def _run(start, named, *more):
  """The documented run of a config, made small: its folder, what it said."""
  (line,) = (
    line
    for line in commands(PAGES[0])
    if named in line and 'main' in line and 'dryrun' not in line
  )
  done = start(f'{line} {shlex.join([*more, *SMALL])}')
  assert done.returncode == 0, done.stderr
  return start.here / _workdir(line), done.stdout


def _workdir(line):
  found = re.search(r'--workdir=(\S+)', line)
  return found[1] if found else f'runs/{re.search(r"=(.+?)[.]py", line)[1]}'


def test_all_parts_have_rows_everywhere(everything):
  """Table, results.csv, results.json and report: 6 strategies x 4 cohorts."""
  folder, table = everything
  with (folder / 'results.csv').open() as text:
    rows = list(csv.DictReader(text))
  tested = {(row['strategy'], row['test']) for row in rows}
  assert {(s, t) for s in STRATEGIES for t in COHORTS} <= tested
  for strategy in ('Linear probe', 'Own network'):
    for test in ('7T_Btumor', '3T_Btumor', '3T_CCM', '1.5T clinic'):
      row = rf'^–  +{strategy} +{re.escape(test)} +\d'
      # Once with the usual numbers, once with the own metric.
      assert len(re.findall(row, table, re.M)) == 2, f'{strategy} {test}'
  assert 'removed_at_95' in table
  page = (folder / 'report.html').read_text(encoding='utf-8')
  for text in ('Linear probe', 'Own network', '1.5T clinic', 'removed_at_95'):
    assert text in page
  known = json.loads((folder / 'results.json').read_text())
  metric = 'my_metric:removed_at_95'
  assert all(0 <= r['own'][metric]['value'] <= 1 for r in known['rows'])
  # What the paper says of its own rows is still there.
  assert {r['number'] for r in known['rows']} == {*range(1, 11), None}
  assert known['orderings']


def test_the_probe_trained_its_head_alone(everything):
  models = everything[0] / 'models'
  first, probe, tuned = (
    checkpoint.load_weights(models / name).params
    for name in ('7t', 'probe', 'finetuned')
  )
  for other, moved in ((probe, {'head'}), (tuned, set(first))):
    different = {
      layer
      for layer, leaves in other.items()
      if any((leaves[k] != first[layer][k]).any() for k in leaves)
    }
    assert different == moved


def test_own_parts_were_used_and_are_kept(everything):
  models = everything[0] / 'models'
  record = json.loads((models / 'small' / 'weights.json').read_text())
  assert record['model'] == 'my_net:Small'
  assert record['candidates'] == 'my_stage:dark_spots'
  own, usual = (
    logs.read(models / name / 'epochs.jsonl') for name in ('small', 'scratch')
  )
  rates = [row['learning_rate'][0] for row in own]
  assert len(rates) == 4
  assert rates[0] < 0.1 * max(rates)  # one cycle goes up first
  # Focal loss of a network that knows nothing: a quarter of cross-entropy.
  losses = [np.mean(rows[0]['validation_loss']) for rows in (own, usual)]
  assert losses[0] < 0.5 * losses[1]


def test_compare_takes_strategy_and_metric(start, everything):
  (line,) = (c for c in commands(PAGES[0]) if 'compare runs/everything' in c)
  done = start(line)
  assert done.returncode == 0, done.stderr
  for test in COHORTS:
    assert f'probe minus finetuned on {test} (2 subjects)' in done.stdout
  assert done.stdout.count('removed_at_95') >= len(COHORTS)


def test_its_weights_detect_with_the_own_stage(start, everything):
  """And say so where another stage proposes."""
  weights = everything[0] / 'models' / 'small'
  scan = 'data/clinic/sub-31/anat/sub-31_swi.nii.gz'
  command = f'cmbjax detect {scan} {{}} --weights {weights} --no-regions'
  done = start(command.format('out --no-report'))
  assert done.returncode == 0, done.stderr
  record = json.loads((start.here / 'out/logs/sub-31.json').read_text())
  assert not [w for w in record['warnings'] if 'learned' in w], record
  done = start(command.format('other --no-report --candidates frst'))
  assert done.returncode == 0, done.stderr
  record = json.loads((start.here / 'other/logs/sub-31.json').read_text())
  assert [w for w in record['warnings'] if 'my_stage:dark_spots' in w], record


def test_a_question_that_the_paper_did_not_ask(start):
  """Does fine-tuning on 3T forget 7T? A row without a number."""
  cohorts = [f'--config.cohorts.{n}=data/{n}' for n in list(COHORTS)[:2]]
  folder, table = _run(
    start, 'runs/forgets', '--config.pretrained=train', *cohorts
  )
  assert re.search(r'^7T fine-tuned on 3T +7T_Btumor +0?\.?\d', table, re.M)
  assert '7T fine-tuned on 3T' in (folder / 'report.html').read_text()
  (row,) = json.loads((folder / 'results.json').read_text())['rows']
  assert (row['strategy'], row['test']) == ('finetuned', 'btumor_7t')
  assert row['number'] is None


def code_lines(name):
  """Without blank lines, docstrings and the name of the file."""
  text = re.sub(r'""".*?"""', '', FILES[name], flags=re.S)
  return [x for x in text.splitlines()[1:] if x.strip()]


def test_each_takes_few_lines():
  """The numbers at the head of this file."""
  counted = {name: len(code_lines(name)) for name in FILES}
  assert (counted['probe.py'], counted['clinic.py']) == (9, 9)
  assert counted['my_net.py'] == 10
  counted.pop('everything.py')
  assert max(counted.values()) <= 20
