"""The notebooks, run from top to bottom in a kernel of their own."""

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip('ipykernel', reason='needs the extra [docs]')
pytest.importorskip('nbclient', reason='needs the extra [docs]')

ROOT = pathlib.Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / 'notebooks').glob('*.ipynb'))


@pytest.mark.e2e
@pytest.mark.parametrize('name', NAMES)
def test_notebook_runs(name, tmp_path):
  done = subprocess.run(
    [sys.executable, ROOT / 'scripts/notebooks.py', name, '--check'],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
    timeout=1200,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert f'{name}.ipynb:' in done.stdout
  assert list(tmp_path.iterdir()) == []


def test_there_are_three():
  assert len(NAMES) == 3
