"""A real headless Chromium for tests, driven over its own pipe.

No package is needed: commands are JSON with a zero byte at the end, on file
descriptors 3 and 4 (`--remote-debugging-pipe`).
"""

import base64
import collections
import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
_FLAGS = (
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-extensions',
  '--no-first-run',
  '--hide-scrollbars',
  '--remote-debugging-pipe',
)
_LOADED = 'Page.loadEventFired'
# The pipe is 3 and 4 in the browser, whatever its numbers are here.
_LAUNCH = (
  'import os, sys;'
  'os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4);'
  'os.execvp(sys.argv[3], sys.argv[3:])'
)


def find() -> str | None:
  """The browser's program, or None."""
  return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
  """One page of one browser."""

  def __init__(self, profile: pathlib.Path):
    command_read, self._write = _pipe()
    self._read, answer_write = _pipe()
    self._process = subprocess.Popen(
      [
        *(sys.executable, '-c', _LAUNCH, str(command_read), str(answer_write)),
        *(find(), *_FLAGS, f'--user-data-dir={profile}', 'about:blank'),
      ],
      pass_fds=(command_read, answer_write),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(command_read)
    os.close(answer_write)
    self._parts, self._messages = [], collections.deque()
    self._count, self._session = 0, None
    self.events = []
    targets = self.call('Target.getTargets')['targetInfos']
    target = next(t['targetId'] for t in targets if t['type'] == 'page')
    found = self.call('Target.attachToTarget', targetId=target, flatten=True)
    self._session = found['sessionId']
    for domain in ('Page', 'Runtime', 'Network', 'Log'):
      self.call(f'{domain}.enable')

  def call(self, method: str, **parameters):
    """One command; returns its result."""
    self._count += 1
    message = {'id': self._count, 'method': method, 'params': parameters}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._write, json.dumps(message).encode() + b'\0')
    while True:
      answer = self._next(30)
      if answer.get('id') == self._count:
        assert 'error' not in answer, (method, answer['error'])
        return answer['result']
      self.events.append(answer)

  def _next(self, timeout: float):
    end = time.monotonic() + timeout
    while not self._messages:
      left = max(end - time.monotonic(), 0)
      assert select.select([self._read], [], [], left)[0], 'browser is silent'
      data = os.read(self._read, 1 << 20)
      assert data, 'the browser has gone'
      *whole, rest = data.split(b'\0')
      if whole:
        whole[0] = b''.join([*self._parts, whole[0]])
        self._parts = []
      self._messages.extend(whole)
      self._parts.append(rest)
    return json.loads(self._messages.popleft())

  def open(self, path: pathlib.Path, *, width=1280, height=900, dark=False):
    """Loads a file and waits until it is complete."""
    self.call(
      'Emulation.setDeviceMetricsOverride',
      width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
    )  # fmt: skip
    scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else ''}
    self.call('Emulation.setEmulatedMedia', features=[scheme])
    self.go(path.resolve().as_uri())

  def go(self, address: str):
    """Leaves the page for another one and waits until it is complete."""
    self.events.clear()
    self.call('Page.navigate', url=address)
    loaded = any(e.get('method') == _LOADED for e in self.events)
    while not loaded:
      self.events.append(self._next(30))
      loaded = self.events[-1].get('method') == _LOADED

  def forget(self):
    """Empties what file pages have stored."""
    self.go('about:blank')
    for kind in ('local_storage', 'all'):
      self.call(
        'Storage.clearDataForOrigin', origin='file://', storageTypes=kind
      )

  def run(self, script: str):
    """The value of a JavaScript expression (promises are awaited)."""
    answer = self.call(
      'Runtime.evaluate',
      expression=script, returnByValue=True, awaitPromise=True,
    )  # fmt: skip
    assert 'exceptionDetails' not in answer, answer['exceptionDetails']
    return answer['result'].get('value')

  def press(self, keys: str):
    """Real key strokes, one per character."""
    for key in keys:
      common = {'key': key, 'text': key, 'unmodifiedText': key}
      self.call('Input.dispatchKeyEvent', type='keyDown', **common)
      self.call('Input.dispatchKeyEvent', type='keyUp', key=key)

  def click(self, selector: str):
    """A real mouse click in the middle of an element."""
    x, y = self.run(
      f'(e => (e.scrollIntoView({{block: "center"}}), '
      f'r = e.getBoundingClientRect(), '
      f'[r.x + r.width / 2, r.y + r.height / 2]))'
      f'(document.querySelector({json.dumps(selector)}))'
    )
    for kind in ('mousePressed', 'mouseReleased'):
      self.call(
        'Input.dispatchMouseEvent',
        type=kind, x=x, y=y, button='left', clickCount=1,
      )  # fmt: skip

  def screenshot(self, path: pathlib.Path, *, whole=True, clip=None):
    """Writes a PNG of the page, or of the part (x, y, width, height)."""
    more = {}
    if clip:
      names = ('x', 'y', 'width', 'height')
      more['clip'] = dict(zip(names, clip)) | {'scale': 1}
    data = self.call(
      'Page.captureScreenshot', captureBeyondViewport=whole, **more
    )['data']
    pathlib.Path(path).write_bytes(base64.b64decode(data))

  def requests(self) -> list[str]:
    """Addresses that were asked for since the page was opened."""
    self.run('1')
    return [
      event['params']['request']['url']
      for event in self.events
      if event.get('method') == 'Network.requestWillBeSent'
    ]

  def complaints(self) -> list[str]:
    """Errors and refusals in the console since the page was opened."""
    self.run('1')
    found = []
    for event in self.events:
      if event.get('method') == 'Log.entryAdded':
        found.append(event['params']['entry']['text'])
      if event.get('method') == 'Runtime.exceptionThrown':
        found.append(json.dumps(event['params']['exceptionDetails']))
    return found

  def close(self):
    """Ends the browser."""
    with contextlib.suppress(OSError, AssertionError):
      self._session = None
      self.call('Browser.close')
    try:
      self._process.wait(10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._write)
    os.close(self._read)


def _pipe() -> tuple[int, int]:
  """A pipe whose numbers do not meet 3 and 4."""
  ends = os.pipe()
  high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
  for end in ends:
    os.close(end)
  return high


@contextlib.contextmanager
def opened():
  """A browser with a profile of its own."""
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    browser = Browser(pathlib.Path(profile))
    try:
      yield browser
    finally:
      browser.close()
