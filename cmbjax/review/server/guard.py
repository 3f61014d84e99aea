"""Who may ask this server for what, and what its answers forbid browsers.

Rule: patient images leave only to the person who started the server: exact
Host, no foreign Origin, a secret token, and a header that other sites cannot
send for every write.
"""

import secrets
from collections.abc import Iterable, Mapping

from cmbjax.review.server import bodies

HEADER = 'x-cmb-token'
_OPEN = ('/static/',)  # holds no data
_POLICY = {
  'default-src': "'none'",
  'script-src': "'self'",
  'style-src': "'self'",
  'img-src': "'self' data: blob:",
  'connect-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
}


class Refused(Exception):
  """A request that is not served: an HTTP status and one sentence."""

  def __init__(self, status: int, why: str):
    super().__init__(why)
    self.status, self.why = status, why


class Guard:
  """The rules of one server.

  Attributes:
    token: the secret; in the printed address, a cookie and the page.
    cookie: its name, which holds the port: browsers share cookies between
      the ports of a computer.
  """

  def __init__(self, port: int, *, token: str = '', hosts: Iterable[str] = ()):
    """`hosts`: exact names, with port if any, that a proxy shows to browsers;
    requests, origins and frames of these are let in."""
    self.token = token or secrets.token_urlsafe(24)
    self.cookie = f'cmb-token-{port}'
    self._extra = tuple(host.lower() for host in hosts)
    own = (f'127.0.0.1:{port}', f'localhost:{port}')
    self._hosts = {*own, *self._extra}
    self._origins = {f'http://{host}' for host in (*own, *self._extra)}
    self._origins |= {f'https://{host}' for host in self._extra}

  def is_proxied(self, host: str | None) -> bool:
    """Whether a request came by a name that a proxy shows.

    There the page gets no cookie: a frame of another site may not have one,
    and a name that is shared with other users' servers would tell it to them.
    """
    return (host or '').lower() in self._extra

  def check(
    self,
    *,
    method: str,
    path: str,
    headers: Mapping[str, str],
    cookies: Mapping[str, str],
    length: int | None,
  ) -> None:
    """Lets a request pass.

    Args:
      method: of HTTP.
      path: decoded, beginning with '/'.
      headers, cookies: of the request; header names in any case.
      length: its Content-Length; None where it gives none.

    Raises:
      Refused: 400 Host, 403 Origin or token, 411, 413, 415.
    """
    if headers.get('host', '').lower() not in self._hosts:
      raise Refused(400, 'this name of the server is not known here.')
    origin = headers.get('origin')
    if origin is not None and origin.lower() not in self._origins:
      raise Refused(403, 'requests from other pages are not served.')
    is_page = path == '/' and method in ('GET', 'HEAD')
    foreign = headers.get('sec-fetch-site', 'none') not in (
      'same-origin',
      'none',
    )
    if foreign and not is_page:
      raise Refused(403, 'requests from other pages are not served.')
    reads = method in ('GET', 'HEAD')
    if reads and (is_page or path.startswith(_OPEN)):
      return  # the page checks its token itself
    by_header = self.knows(headers.get(HEADER))
    by_cookie = reads and self.knows(cookies.get(self.cookie))
    if not by_header and not by_cookie:
      raise Refused(403, 'open the address that the terminal printed.')
    if not reads:
      _check_body(headers, length)

  def knows(self, token: str | None) -> bool:
    """Whether a token is the right one; takes as long either way."""
    given = (token or '').encode('utf-8', 'surrogatepass')
    return secrets.compare_digest(given, self.token.encode())

  def headers(self) -> dict[str, str]:
    """What every answer says to browsers."""
    frames = "'none'"
    if self._extra:
      frames = ' '.join(
        f'{scheme}://{host}'
        for host in self._extra
        for scheme in ('https', 'http')
      )
      frames = f"'self' {frames}"
    rules = _POLICY | {'frame-ancestors': frames}
    found = {
      'Content-Security-Policy': '; '.join(
        f'{k} {v}' for k, v in rules.items()
      ),
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'no-referrer',
      'Cache-Control': 'no-store',
      'Cross-Origin-Resource-Policy': 'same-origin',
      'Permissions-Policy': 'camera=(), microphone=(), geolocation=()',
    }
    if not self._extra:
      found['X-Frame-Options'] = 'DENY'
      found['Cross-Origin-Opener-Policy'] = 'same-origin'
    return found


def _check_body(headers, length):
  if 'transfer-encoding' in headers or length is None:
    raise Refused(411, 'a Content-Length is needed.')
  if length > bodies.MOST_BYTES:
    raise Refused(
      413, f'more than {bodies.MOST_BYTES // 2**20} MiB at once is not taken.'
    )
  if headers.get('content-encoding', 'identity').lower() != 'identity':
    raise Refused(415, 'compressed bodies are not taken.')
  kind, _, parameters = headers.get('content-type', '').partition(';')
  charset = parameters.strip().lower()
  if kind.strip().lower() != 'application/json' or charset not in (
    '',
    'charset=utf-8',
  ):
    raise Refused(415, 'the body must be application/json in UTF-8.')
