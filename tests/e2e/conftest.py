"""A cohort and a room to read it in, for the review page."""

import contextlib
import signal

import pytest

from tests import review_server
from tests.e2e import review_pages


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  return review_pages.write_cohort(tmp_path_factory.mktemp('page') / 'cohort')


@pytest.fixture
def read(chromium):
  """Opens the page of a server; all windows close with the test."""
  with contextlib.ExitStack() as stack:

    def enter(address, **how):
      reader = review_pages.Reader(chromium, address, **how)
      stack.enter_context(contextlib.closing(reader.page.context))
      return reader

    yield enter


@pytest.fixture
def room(read, source, tmp_path):
  """Starts servers and opens their page; everything ends with the test."""
  servers = []

  def enter(*arguments, **how):
    given = (source, '--reviews', tmp_path, '--rater', review_pages.RATER)
    server = review_server.Server(*given, *arguments)
    servers.append(server)
    return read(server.address, **how), server

  yield enter
  for server in servers:
    if server.process.poll() is None:
      server.end(signal.SIGKILL)
