"""One compilation cache for the whole run, small shared material, and what a
run of the tests did not run."""

import collections
import contextlib
import os
import pathlib
import signal
import tempfile

import jax
import numpy as np
import pytest

from tests import browser, messages

# Compiled once, found again by the subprocesses of the end-to-end tests.
_CACHE = pathlib.Path(tempfile.gettempdir()) / f'cmbjax-test-{os.getuid()}'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')
jax.config.update(
  'jax_compilation_cache_dir', os.environ['JAX_COMPILATION_CACHE_DIR']
)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)

# A shell's background job ignores Ctrl-C, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


# What a machine of CI may lack; there, any other skipped test is a failure.
MAY_LACK = ('cannot mount', 'not glibc', 'CMBJAX_REAL_DATA')


def pytest_addoption(parser):
  parser.addoption(
    '--messages',
    choices=('check', 'write'),
    default='check',
    help='compare messages with tests/messages.json, or write it',
  )


def pytest_configure(config):
  messages.table.write = config.getoption('--messages') == 'write'


def pytest_runtest_logstart(nodeid):
  messages.table.start(nodeid)


def pytest_runtest_logreport(report):
  if report.skipped and not hasattr(report, 'wasxfail'):
    messages.table.skip(report.nodeid)


def pytest_sessionfinish(session):
  if hasattr(session.config, 'workeroutput'):  # one of several processes
    session.config.workeroutput['messages'] = messages.table.met
  elif messages.table.write:
    messages.table.save()
  reasons = _not_run(session.config)
  if os.environ.get('CI') and not all(r.startswith(MAY_LACK) for r in reasons):
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
  messages.table.met |= getattr(node, 'workeroutput', {}).get('messages', {})


def pytest_unconfigure(config):
  """The last line: what did not run, and why."""
  reasons = _not_run(config)
  if reasons:
    rows = [f'{count} ({why})' for why, count in sorted(reasons.items())]
    print('\nnot run: ' + ', '.join(rows))


def _not_run(config):
  """Reason -> how many tests; a skipped file counts as one."""
  reporter = config.pluginmanager.get_plugin('terminalreporter')
  skipped = reporter.stats.get('skipped', []) if reporter else []
  return collections.Counter(
    report.longrepr[2].removeprefix('Skipped: ') for report in skipped
  )


@pytest.fixture(autouse=True)
def _every_message_was_said(request):
  """A test says as many sentences as its row of the table has."""
  failed = request.session.testsfailed
  yield
  if request.session.testsfailed == failed:
    messages.table.finish(request.node.nodeid)


@pytest.fixture(scope='session')
def real_data():
  """Path of a licensed real file, or skip: `real_data('a/b.nii')`."""
  here = pathlib.Path(__file__).parents[1]
  root = pathlib.Path(
    os.environ.get('CMBJAX_REAL_DATA', here.parent / 'shared' / 'data')
  )

  def find(name):
    path = root / name
    if not path.exists():
      pytest.skip(f'CMBJAX_REAL_DATA holds no {name}')
    return path

  return find


@pytest.fixture(scope='session')
def toy():
  """40 patches [24, 24, 12] whose label is visible: dark in the middle."""
  rng = np.random.default_rng(0)
  label = (np.arange(40) % 2).astype(np.int8)
  image = rng.uniform(0.6, 1.0, (40, 24, 24, 12)).astype(np.float32)
  image[label == 1, 8:16, 8:16, 3:9] = 0.0
  return image, label


@pytest.fixture(scope='module')
def chromium():
  with browser.launched() as one:
    yield one


@pytest.fixture
def page(chromium):
  """A page of a reader who has never been here."""
  with contextlib.closing(chromium.new_context()) as context:
    yield context.new_page()
