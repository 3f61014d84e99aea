"""An application to a running server on this computer.

Rule: it listens on the loopback alone, does nothing while nobody asks, and a
request to stop writes what is open and ends.
"""

import contextlib
import logging
import os
import pathlib
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator

import waitress.server

from cmbjax.errors import InputError
from cmbjax.report import pages
from cmbjax.review.server import bodies

ADDRESS = '127.0.0.1'
_THREADS = 6  # as many as a browser asks at once
# Windows has no SIGHUP.
_SIGNALS = tuple(
  getattr(signal, name)
  for name in ('SIGINT', 'SIGTERM', 'SIGHUP')
  if hasattr(signal, name)
)


def listen(port: int) -> socket.socket:
  """A socket on the loopback; port 0: a free one.

  Raises:
    InputError: the port is taken.
  """
  found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
  try:
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((ADDRESS, port))
  except (OSError, OverflowError) as error:
    found.close()
    why = getattr(error, 'strerror', None) or error
    raise InputError(
      f'--port: {port} cannot be used ({why}); give another, or 0 for any.'
    ) from error
  return found


def run(app, sock: socket.socket, *, ready: Callable[[], None]) -> int:
  """Serves until a signal stops it; the number of the signal.

  Args:
    app: WSGI.
    sock: of `listen`.
    ready: called once, when requests are taken.
  """
  logging.getLogger('waitress').setLevel(logging.ERROR)
  server = waitress.server.create_server(
    app,
    sockets=[sock],
    threads=_THREADS,
    ident=None,
    max_request_body_size=bodies.MOST_BYTES + 1,
    asyncore_loop_timeout=3600,  # it sleeps until somebody asks
    clear_untrusted_proxy_headers=True,
  )
  told: list[int] = []

  def stop(number, _):
    told.append(number)
    raise SystemExit  # which ends the loop of waitress

  with _listening(stop):
    try:
      ready()
      server.run()
    except SystemExit:
      pass
    server.close()
  return told[0] if told else signal.SIGTERM


@contextlib.contextmanager
def _listening(stop) -> Iterator[None]:
  before = {number: signal.signal(number, stop) for number in _SIGNALS}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def open_browser(address: str, folder: pathlib.Path) -> pathlib.Path | None:
  """Opens the page; the file to be removed later.

  The browser gets the name of a file that only this user can read, not the
  address: other users of the computer see command lines, and it has the token.
  """
  shown = os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
  if sys.platform.startswith('linux') and not shown:
    return None  # else a text browser might take the terminal
  path = folder / '.open.html'
  path.unlink(missing_ok=True)
  handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  with open(handle, 'w', encoding='utf-8') as file:
    file.write(pages.render('forward.html', address=address))
  where = path.resolve().as_uri()
  threading.Thread(target=webbrowser.open, args=(where,), daemon=True).start()
  return path
