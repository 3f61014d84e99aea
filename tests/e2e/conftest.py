"""A browser, a cohort and a room to read it in, for the review page."""

import signal

import pytest

from tests import browser as browser_lib
from tests import review_server
from tests.e2e import review_pages
from tests.e2e.review_pages import Reader


@pytest.fixture(scope='module')
def plain():
  """A browser without any WebGL."""
  with browser_lib.opened(*review_pages.PLAIN) as one:
    yield one


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  return review_pages.write_cohort(tmp_path_factory.mktemp('page') / 'cohort')


@pytest.fixture
def room(plain, source, tmp_path):
  """Opens servers and the page; everything ends with the test."""
  servers = []

  def enter(*arguments, **how):
    given = (source, '--reviews', tmp_path, '--rater', review_pages.RATER)
    server = review_server.Server(*given, *arguments)
    servers.append(server)
    reader = Reader(plain)
    reader.open(server.address, **how)
    return reader, server

  yield enter
  # Nothing may keep the page from being left.
  plain.run(
    'globalThis.cmbjax && Object.assign(cmbjax.review,'
    ' {queue: [], sending: false}), 0'
  )
  plain.go('about:blank')
  for server in servers:
    if server.process.poll() is None:
      server.end(signal.SIGKILL)
