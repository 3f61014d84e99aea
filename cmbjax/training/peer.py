"""One TCP connection to another process, by lines of JSON.

Rule: a line that was cut short is left out; the next one is read.
"""

import contextlib
import json
import socket
import threading

from cmbjax.errors import InputError

HELLO_S = 5.0  # for a connection to say who it is
_MOST_BYTES = 1 << 24  # of one message: a config has some ten thousand
# A machine that is lost closes no connection. The kernel asks, so a process
# that computes need not answer.
_KEEPALIVE = {'TCP_KEEPIDLE': 5, 'TCP_KEEPINTVL': 5, 'TCP_KEEPCNT': 4}


class Peer:
  """The connection; `host` is the name of the other machine."""

  host = ''

  def __init__(self, connection: socket.socket):
    self.socket = connection
    self._file = connection.makefile('rb')
    self._sends = threading.Lock()

  def keep_alive(self) -> None:
    """Waits for ever for a word, but notices a machine that is lost."""
    self.socket.settimeout(None)
    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in _KEEPALIVE.items():
      if hasattr(socket, name):  # not all systems have all of them
        self.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

  def read(self) -> dict | None:
    """The next message; None at the end."""
    while data := self._file.readline(_MOST_BYTES):
      with contextlib.suppress(ValueError):  # cut short by a signal
        message = json.loads(data)
        if isinstance(message, dict):
          return message
    return None

  def send(self, message: dict) -> None:
    """Sends a line; the line before may have been cut short by a signal."""
    data = b'\n' + json.dumps(message).encode() + b'\n'
    with self._sends, contextlib.suppress(OSError):  # whoever listens notices
      self.socket.sendall(data)

  def finish(self) -> None:
    """Says no more."""
    with contextlib.suppress(OSError):
      self.socket.shutdown(socket.SHUT_WR)

  def hang_up(self) -> None:
    """Closes it."""
    with contextlib.suppress(OSError):
      self.socket.shutdown(socket.SHUT_RDWR)
    self.socket.close()


def listening(address: tuple[str, int]) -> socket.socket:
  """A listener whose port JAX can take while its connections stay open.

  Raises:
    InputError: the port is in use, or not to be had.
  """
  host, port = address
  with contextlib.suppress(OSError):
    socket.create_connection(('localhost', port), HELLO_S).close()
    raise InputError(
      f'--coordinator: port {port} is in use on this machine, perhaps by '
      'another run; give another one.'
    )
  try:
    if socket.has_dualstack_ipv6():
      return socket.create_server(
        ('', port),
        family=socket.AF_INET6,
        dualstack_ipv6=True,
        reuse_port=True,
      )
    return socket.create_server(('', port), reuse_port=True)
  except OSError as error:
    raise InputError(
      f'--coordinator: port {port} of {host} cannot be used '
      f'({error.strerror or error}); give another one.'
    ) from error
