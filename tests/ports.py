"""A port that nobody else is given until JAX takes it.

gRPC shares its port (SO_REUSEPORT), so ours may stay bound; it never listens.
"""

import socket
from collections.abc import Iterable


def hold(ports: Iterable[int] = (0,)) -> socket.socket:
  """The first free one of some ports (0: any), as a socket to close."""
  for port in ports:
    with (
      socket.socket() as alone
    ):  # refused where anybody has it, shared or not
      try:
        alone.bind(('localhost', port))
      except OSError:
        continue
      free = number(alone)
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(('localhost', free))
    return one
  raise OSError('no port is free')


def number(held: socket.socket) -> int:
  """Its number."""
  return held.getsockname()[1]
