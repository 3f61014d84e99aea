"""A real review server, asked by sockets that keep no rules."""

import socket
import stat
import sys
import threading

import pytest

from cmbjax.errors import InputError
from cmbjax.review.server import serve
from tests import review_server
from tests.messages import says

EVENTS = '/api/cases/0/events'


@pytest.fixture(scope='module')
def server(tmp_path_factory):
  folder = tmp_path_factory.mktemp('real')
  image, labels, _ = review_server.write_scan(folder)
  with review_server.running(
    image, '--labels', labels, '--reviews', folder / 'r', '--rater', 'anna'
  ) as running:
    running.folder = folder / 'r' / 'anna'
    yield running


def raw(server, text, *, more=b''):
  """The first line that a server answers to bytes."""
  with socket.create_connection(('127.0.0.1', server.client.port), 10) as link:
    link.sendall(text.encode('latin-1') + more)
    return link.makefile('rb').readline().decode('latin-1')


def head(server, method='POST', path=EVENTS, **headers):
  lines = [
    f'{method} {path} HTTP/1.1',
    f'Host: 127.0.0.1:{server.client.port}',
    f'x-cmb-token: {server.client.token}',
    'Content-Type: application/json',
    *(f'{name.replace("_", "-")}: {value}' for name, value in headers.items()),
  ]
  return '\r\n'.join(lines) + '\r\n\r\n'


@pytest.mark.e2e
def test_it_listens_on_the_loopback_only(server):
  """Every other address of this computer refuses the port."""
  found = {i[4][0] for i in socket.getaddrinfo(socket.gethostname(), None)}
  others = {a for a in found if not a.startswith('127.') and a != '::1'}
  for address in others | {'127.0.0.2', '::1'}:
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.socket(family) as link:
      link.settimeout(3)
      assert link.connect_ex((address, server.client.port)) != 0


@pytest.mark.e2e
def test_a_real_body_that_is_too_large_is_not_read(server):
  assert ' 413 ' in raw(server, head(server, Content_Length=10**9))


@pytest.mark.e2e
def test_two_lengths(server):
  text = head(server, Content_Length=2, Transfer_Encoding='chunked')
  assert raw(server, text, more=b'{}\r\n').split()[1] in ('400', '411')
  text = head(server, Content_Length='2, 3')
  assert ' 400 ' in raw(server, text, more=b'{}')


@pytest.mark.e2e
def test_headers_without_end(server):
  text = head(server).removesuffix('\r\n\r\n')
  text += '\r\nx: ' + 'y' * 300_000 + '\r\n\r\n'
  assert ' 431 ' in raw(server, text)


@pytest.mark.e2e
@pytest.mark.parametrize(
  'line',
  [
    'GET',
    'GET / HTTP/9.9',
    '\x00',
    'GET http://evil.example/ HTTP/1.1',
    'a b c d',
  ],
)
def test_lines_that_are_no_request(server, line):
  text = f'{line}\r\nHost: evil.example\r\n\r\n'
  assert ' 40' in raw(server, text)


@pytest.mark.e2e
@pytest.mark.parametrize(
  'path',
  ['/static/../app.py', '/static/..%2fapp.py', '/static/..%5capp.py', '/../x'],
)
def test_real_paths_that_a_client_does_not_clean(server, path):
  assert raw(server, head(server, 'GET', path)).split()[1] in ('400', '404')


@pytest.mark.e2e
def test_it_does_not_say_what_it_runs_on(server):
  _, _, headers = server.client.ask('GET', '/api/session')
  assert 'Server' not in headers
  assert 'X-Powered-By' not in headers


@pytest.mark.e2e
def test_the_token_is_not_on_the_command_line(server):
  with open(f'/proc/{server.process.pid}/cmdline', 'rb') as file:
    assert server.client.token.encode() not in file.read()


@pytest.mark.e2e
def test_the_token_is_in_no_file(server):
  server.client.get('/api/cases/0')
  for path in server.folder.rglob('*'):
    if path.is_file():
      assert server.client.token.encode() not in path.read_bytes()


def test_the_browser_is_given_a_file_that_only_this_user_reads(
  tmp_path, monkeypatch
):
  asked = []
  monkeypatch.setenv('DISPLAY', ':0')
  monkeypatch.setattr(serve.webbrowser, 'open', asked.append)
  address = 'http://127.0.0.1:1/?token=a&viewer="x'
  path = serve.open_browser(address, tmp_path)
  serve_threads()
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  assert asked == [path.resolve().as_uri()]
  assert 'token=a&amp;viewer=&#34;x' in path.read_text()


def serve_threads():
  for thread in threading.enumerate():
    if thread is not threading.current_thread() and thread.daemon:
      thread.join(5)


def test_without_a_screen_no_text_browser_takes_the_terminal(
  tmp_path, monkeypatch
):
  monkeypatch.delenv('DISPLAY', raising=False)
  monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
  monkeypatch.setattr(sys, 'platform', 'linux')
  assert serve.open_browser('http://x', tmp_path) is None
  assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken():
  with serve.listen(0) as first:
    first.listen()
    with says(InputError, '--port'):
      serve.listen(first.getsockname()[1])
