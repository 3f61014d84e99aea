"""Imported by Python as it begins: sockets reach nothing but this machine."""

import os
import sys

_HERE = {'localhost', '::1', '0.0.0.0', '::', '', None}
_PLACES = {  # where the host stands among the arguments of an audit event
  'socket.connect': 1,
  'socket.sendto': 1,
  'socket.sendmsg': 1,
  'socket.getaddrinfo': 0,
  'socket.gethostbyname': 0,
  'socket.gethostbyaddr': 0,
}


def _watch(event, arguments):
  place = _PLACES.get(event)
  if place is None:
    return
  host = arguments[place]
  if isinstance(host, tuple):
    host = host[0]
  elif place == 1:  # a socket of the file system, or a connected one
    return
  host = host.decode() if isinstance(host, bytes) else host
  if host in _HERE or host.startswith('127.'):
    return
  _note(f'{event} {host}')
  raise OSError(f'{host}: no network is allowed here')


def _note(line):
  record = os.open(
    os.environ['CMBJAX_TEST_ATTEMPTS'],
    os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    0o600,
  )
  os.write(record, f'{line}\n'.encode())
  os.close(record)


if 'CMBJAX_TEST_ATTEMPTS' in os.environ:
  _note('watched')
  sys.addaudithook(_watch)
