"""A headless Chromium for tests, driven by Playwright.

Rule: it is the browser of this computer; none is downloaded. Where there is
none, tests that need it are skipped, which in CI is a failure.
"""

import contextlib
import shutil
import time

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
_NONE = f'no browser on the PATH: {", ".join(NAMES)}'
needed = pytest.mark.skipif(PROGRAM is None, reason=_NONE)
# As on a computer without a graphics card: the pages must not need one.
_FLAGS = ('--disable-gpu', '--disable-3d-apis')


@contextlib.contextmanager
def launched():
  """The browser; it ends with the block.

  Playwright keeps an event loop running in this thread meanwhile, in which
  `asyncio.run` of others would fail: no longer than one module.
  """
  from playwright.sync_api import sync_playwright

  assert PROGRAM, _NONE
  with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
      executable_path=PROGRAM, args=list(_FLAGS)
    )
    with contextlib.closing(browser):
      yield browser


class Heard:
  """What a page has asked for and complained about, from now on."""

  def __init__(self, page):
    self.requests, self.complaints = [], []
    page.on('request', lambda request: self.requests.append(request.url))
    page.on('pageerror', lambda error: self.complaints.append(str(error)))
    page.on('console', self._console)

  def _console(self, message):
    if message.type in ('error', 'warning'):
      self.complaints.append(message.text)


def wait(page, script, *, timeout_s=20):
  """Until an expression is true.

  `page.wait_for_function` evaluates text within the page, which the policy of
  the review page forbids.
  """
  end = time.monotonic() + timeout_s
  while not page.evaluate(f'Boolean({script})'):
    assert time.monotonic() < end, f'never true: {script}'
    time.sleep(0.02)


def check_file(page, path, *, width=1280, dark=False):
  """Opens a file: it fits, asks for nothing else, complains of nothing."""
  heard = Heard(page)
  page.set_viewport_size({'width': width, 'height': 900})
  page.emulate_media(color_scheme='dark' if dark else 'light')
  page.goto(path.as_uri())
  page.evaluate('document.querySelectorAll("details").forEach(d => d.open = 1)')
  assert page.evaluate('document.documentElement.scrollWidth <= innerWidth'), (
    path
  )
  asked = [one for one in heard.requests if not one.startswith('data:')]
  assert asked == [path.as_uri()]
  assert heard.complaints == []
