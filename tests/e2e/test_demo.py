"""`cmbjax demo --no-browser`: a result within minutes, and again at once."""

import subprocess
import sys

import pytest

from tests.messages import printed

pytestmark = pytest.mark.e2e


def demo(folder, *options):
  return subprocess.run(
    [sys.executable, '-m', 'cmbjax.cli', 'demo', '--no-browser', *options],
    cwd=folder,
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )


def test_demo_makes_a_page_and_says_how_to_go_on(tmp_path):
  done = demo(tmp_path)
  assert done.returncode == 0, done.stderr
  page, command = done.stdout.splitlines()[-2:]
  assert page.endswith('.html')
  assert 'simulated' in (tmp_path / page).read_text(encoding='utf-8').lower()
  assert command == 'cmbjax review cmbjax-demo/results'
  assert 'Traceback' not in done.stderr
  again = demo(tmp_path)
  assert again.returncode == 0
  assert again.stdout.splitlines()[-2:] == [page, command]
  assert 'detect: 0 done, 1 were done already' in again.stderr


def test_an_unknown_cohort_is_one_error(tmp_path):
  done = demo(tmp_path, '--cohort=mri')
  assert done.returncode == 2
  printed(done.stderr, 'btumor_7t')
  assert not list(tmp_path.iterdir())
