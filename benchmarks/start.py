"""Seconds from `python -m cmbjax.main` to the end of the first training step.

  python benchmarks/start.py

The real command on a small cohort whose examples are built already: once with
an empty compilation cache, then with what the first left there. Every line is a
stage, in seconds on the clock and of processor time; goals are 15 s and 5 s.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
GOALS = {'cold': 15.0, 'cached': 5.0}
CONFIG = """
from configs import base

def get_config(preset=''):
  config = base.get_config(preset)
  config.strategies = ('scratch',)
  config.tests = ('btumor_3t',)
  config.test_subjects.btumor_3t = 1
  config.train.folds = 2
  config.train.epochs = 1
  return config
"""


def main() -> None:
  if len(sys.argv) > 1:
    _child(float(sys.argv[1]), sys.argv[2:])
  report(measure())


def measure(rounds: int = 2) -> dict[str, list[dict]]:
  """{'cold': stages, 'cached': stages}; of cached the quickest of `rounds`."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    simulate = ('simulate', '--cohort', 'btumor_3t', '--subjects', '3')
    subprocess.run(
      [sys.executable, '-m', 'cmbjax.cli', *simulate, '--slab', '20', '--out',
       str(folder / 'cohort')],
      cwd=ROOT, check=True,
    )  # fmt: skip
    (folder / 'tiny.py').write_text(CONFIG)
    _run(folder, 'none')  # builds the examples, and the compiled convolution
    out = {'cold': _run(folder, 'cache')}
    runs = [_run(folder, 'cache') for _ in range(rounds)]
    out['cached'] = min(runs, key=lambda stages: stages[-1]['wall_s'])
  return out


def report(found: dict[str, list[dict]]) -> None:
  """One line for each stage, and the goals."""
  print(f'{"start to the end of":26s}', end='')
  print(''.join(f'{f"{n}: clock":>15s}{"processor":>11s}' for n in found))
  for lines in zip(*found.values()):
    cells = (f'{one["wall_s"]:13.2f} s{one["cpu_s"]:9.2f} s' for one in lines)
    print(f'{lines[0]["stage"]:26s}' + ''.join(cells))
  for name, stages in found.items():
    print(f'{name}: {stages[-1]["wall_s"]:.1f} s, goal {GOALS[name]:.0f} s')


def _run(folder: pathlib.Path, cache: str) -> list[dict]:
  environment = {
    **os.environ,
    'PYTHONPATH': str(ROOT),
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': str(folder / cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }
  command = [sys.executable, __file__, str(time.time())]
  command += [f'--config={folder}/tiny.py', f'--workdir={folder}/run']
  command += [f'--config.cohorts.btumor_3t={folder}/cohort']
  done = subprocess.run(
    command, env=environment, stdout=subprocess.PIPE, text=True, check=False
  )
  return json.loads(done.stdout.splitlines()[-1])


def _child(began: float, arguments: list[str]) -> None:
  """Runs the command, notes the time after each stage, ends after a step."""
  stages = []

  def note(stage):
    clock, used = time.time() - began, time.process_time()
    stages.append(
      {'stage': stage, 'wall_s': round(clock, 3), 'cpu_s': round(used, 3)}
    )

  def after(owner, name, stage):
    function = getattr(owner, name)

    def noted(*args, **kwargs):
      out = function(*args, **kwargs)
      note(stage)
      return out

    setattr(owner, name, noted)

  note('Python')
  import jax

  note('import of jax')
  from cmbjax import main as command
  from cmbjax.study import material, run, train
  from cmbjax.training import loop, runner

  note('import of cmbjax')
  assert run
  after(material, 'gather', 'examples and folds')
  after(train, 'first_weights', 'first weights')
  after(loop, 'initial_state', 'first state')
  begin = runner.Runner.epoch

  def epoch(self, *args, **kwargs):
    step = self._step

    def one(*values):
      out = jax.block_until_ready(step(*values))
      note('first step')
      print(json.dumps(stages), flush=True)
      os._exit(0)
      return out

    self._step = one
    return begin(self, *args, **kwargs)

  runner.Runner.epoch = epoch
  sys.exit(command.main(['main', *arguments]))


if __name__ == '__main__':
  main()
