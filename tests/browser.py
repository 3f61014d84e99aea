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
LOADED = 'Page.loadEventFired'
_MODIFIERS = {'Alt': 1, 'Control': 2, 'Meta': 4, 'Shift': 8}
_CODES = {  # key to code and Windows key number
  'Space': ('Space', 32),
  'Enter': ('Enter', 13),
  'Escape': ('Escape', 27),
  'Tab': ('Tab', 9),
  'Delete': ('Delete', 46),
  'Home': ('Home', 36),
  'PageUp': ('PageUp', 33),
  'PageDown': ('PageDown', 34),
  'ArrowLeft': ('ArrowLeft', 37),
  'ArrowUp': ('ArrowUp', 38),
  'ArrowRight': ('ArrowRight', 39),
  'ArrowDown': ('ArrowDown', 40),
  '+': ('NumpadAdd', 107),
  '-': ('Minus', 189),
  '=': ('Equal', 187),
  '[': ('BracketLeft', 219),
  ']': ('BracketRight', 221),
  '?': ('Slash', 191),
}
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

  def __init__(self, profile: pathlib.Path, flags: tuple[str, ...] = ()):
    command_read, self._write = _pipe()
    self._read, answer_write = _pipe()
    self._process = subprocess.Popen(
      [
        *(sys.executable, '-c', _LAUNCH, str(command_read), str(answer_write)),
        *(find(), *_FLAGS, *flags, f'--user-data-dir={profile}'),
        'about:blank',
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
    self.heard(LOADED)

  def heard(self, method: str, *, since: int = 0):
    """Waits until there was an event, not counting the first `since` ones."""
    while all(e.get('method') != method for e in self.events[since:]):
      self.events.append(self._next(30))

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

  def wait(self, script: str, *, timeout: float = 20):
    """Waits until a JavaScript expression is true."""
    end = time.monotonic() + timeout
    while not self.run(f'Boolean({script})'):
      assert time.monotonic() < end, f'never true: {script}'
      time.sleep(0.02)

  def size(self, width: int, height: int, *, ratio: float = 1, touch=False):
    """Size of the window in CSS pixels, and device pixels per CSS pixel."""
    self.call(
      'Emulation.setDeviceMetricsOverride',
      width=width, height=height, deviceScaleFactor=ratio, mobile=touch,
    )  # fmt: skip
    self.call('Emulation.setTouchEmulationEnabled', enabled=touch)

  def key(self, name: str, *, hold: bool = False):
    """One real key stroke: 'a', 'PageDown', 'Control+z', 'Shift+1'.

    With `hold` it stays down until `lift`.
    """
    *modifiers, key = ['+'] if name == '+' else name.split('+')
    bits = sum(_MODIFIERS[one] for one in modifiers)
    code, number = _CODES.get(key, (None, 0))
    if code is None:
      code = f'Digit{key}' if key.isdigit() else f'Key{key.upper()}'
      number = ord(key.upper())
    more = {'code': code, 'windowsVirtualKeyCode': number, 'modifiers': bits}
    text = {'Space': ' ', 'Enter': '\r'}.get(key, key)
    if len(text) == 1 and not bits & 6:  # neither Control nor Meta
      more['text'] = text
    more['key'] = ' ' if key == 'Space' else key
    self.call('Input.dispatchKeyEvent', type='keyDown', **more)
    if not hold:
      self.lift(name)

  def lift(self, name: str):
    """Lets a key go."""
    key = '+' if name == '+' else name.split('+')[-1]
    self.call(
      'Input.dispatchKeyEvent', type='keyUp', key=' ' if key == 'Space' else key
    )

  def mouse(self, kind: str, x: float, y: float, *, button='left', **more):
    """One real mouse event: 'Pressed', 'Moved' or 'Released'."""
    down = {'left': 1, 'right': 2, 'middle': 4}.get(button, 0)
    self.call(
      'Input.dispatchMouseEvent',
      type=f'mouse{kind}', x=x, y=y, button=button,
      buttons=0 if kind == 'Released' else down, clickCount=1, **more,
    )  # fmt: skip

  def drag(self, points, *, button='left', **more):
    """Presses at the first point, moves through all, lets go at the last."""
    self.mouse('Pressed', *points[0], button=button, **more)
    for point in points[1:]:
      self.mouse('Moved', *point, button=button, **more)
    self.mouse('Released', *points[-1], button=button, **more)

  def wheel(self, x: float, y: float, turns: float, **more):
    """Turns the wheel over a point; a turn is 100 pixels, down is positive."""
    self.call(
      'Input.dispatchMouseEvent',
      type='mouseWheel', x=x, y=y, deltaX=0, deltaY=100 * turns, **more,
    )  # fmt: skip

  def touch(self, *steps):
    """Fingers on the glass: each step is a list of points, one per finger."""
    for number, points in enumerate(steps):
      self.call(
        'Input.dispatchTouchEvent',
        type='touchMove' if number else 'touchStart',
        touchPoints=[
          {'x': x, 'y': y, 'id': finger} for finger, (x, y) in enumerate(points)
        ],
      )
    self.call('Input.dispatchTouchEvent', type='touchEnd', touchPoints=[])

  def press(self, keys: str):
    """Real key strokes, one per character."""
    for key in keys:
      common = {'key': key, 'text': key, 'unmodifiedText': key}
      self.call('Input.dispatchKeyEvent', type='keyDown', **common)
      self.call('Input.dispatchKeyEvent', type='keyUp', key=key)

  def click(self, selector: str):
    """A real mouse click in the middle of an element, where it is drawn."""
    frame = 'new Promise((drawn) => requestAnimationFrame(drawn))'
    self.run(f'{frame}.then(() => {frame}).then(() => 0)')
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
def opened(*flags: str):
  """A browser with a profile of its own, and with more flags."""
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    browser = Browser(pathlib.Path(profile), flags)
    try:
      yield browser
    finally:
      browser.close()
