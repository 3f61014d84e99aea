"""HTTP to the desk and back.

Rule: a handler turns a request into one call and its result into JSON;
whatever a request holds, the answer is never a traceback.
"""

import errno
import pathlib
import re
from typing import Any

import flask
from werkzeug.exceptions import HTTPException
from werkzeug.security import safe_join

from cmbjax.errors import InputError
from cmbjax.report import pages
from cmbjax.review.log import journal, record
from cmbjax.review.server import bodies
from cmbjax.review.server.desk import (
  MOST_PLACE_BYTES,
  MOST_SETTINGS_BYTES,
  Closed,
  Desk,
  NotThere,
)
from cmbjax.review.server.guard import Guard, Refused

STATIC = pathlib.Path(__file__).parents[1] / 'page'
# The next case is read when this one is on the screen, not while it loads.
_NEXT_AFTER_S = 3.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TYPES = {  # not left to the computer, which may call scripts plain text
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
}
_STATUS = {NotThere: 404, Closed: 503, record.Stale: 409, journal.DiskFull: 507}


def make(desk: Desk, guard: Guard) -> flask.Flask:
  """The application of one reader."""
  app = flask.Flask(
    'cmbjax.review', static_folder=None, template_folder=str(STATIC)
  )
  app.config['MAX_CONTENT_LENGTH'] = bodies.MOST_BYTES
  app.config['PROVIDE_AUTOMATIC_OPTIONS'] = False
  app.json.sort_keys = False
  app.url_map.merge_slashes = False
  _add_guard(app, guard)
  _add_page(app, guard)
  _add_reading(app, desk)
  _add_writing(app, desk)
  _add_errors(app)
  return app


def _add_guard(app, guard):
  @app.before_request
  def check():
    request = flask.request
    guard.check(
      method=request.method,
      path=request.path,
      headers={name.lower(): value for name, value in request.headers},
      cookies=request.cookies,
      length=_length(request.environ.get('CONTENT_LENGTH')),
    )

  @app.after_request
  def forbid(response):
    response.headers.update(guard.headers())
    return response


def _length(text) -> int | None:
  """What a Content-Length says; None where that is no number."""
  return int(text[:20]) if re.fullmatch('[0-9]+', text or '') else None


def _case(text) -> int:
  """The number of a case in an address."""
  if not re.fullmatch('[0-9]{1,6}', text):
    raise NotThere('there is no such case.')
  return int(text)


def _add_page(app, guard):
  @app.get('/')
  def page():
    token = flask.request.args.get('token')
    if token is not None:
      return _let_in(guard, token)
    known = flask.request.cookies.get(guard.cookie)
    known = known or flask.request.headers.get('x-cmb-token')
    if not guard.knows(known):
      raise Refused(403, 'open the address that the terminal printed.')
    return _page(guard)

  @app.get('/static/<path:name>')
  def static(name):
    path = safe_join(str(STATIC), name)
    if path is None or not pathlib.Path(path).is_file():
      raise NotThere('there is no such file.')
    kind = _TYPES.get(pathlib.PurePath(name).suffix, 'application/octet-stream')
    return flask.Response(pathlib.Path(path).read_bytes(), mimetype=kind)


def _let_in(guard, token):
  """The cookie, and an address without the token."""
  if not guard.knows(token):
    raise Refused(403, 'open the address that the terminal printed.')
  if guard.is_proxied(flask.request.headers.get('host')):
    return _page(guard)
  if flask.request.headers.get('sec-fetch-site', 'none') != 'none':
    # A strict cookie is not sent after a redirect that began elsewhere, such
    # as in the file that opened the browser; a page of ours asks once more.
    response = flask.make_response(pages.render('forward.html', address='./'))
  else:
    response = flask.redirect('./', 303)
  response.set_cookie(
    guard.cookie, guard.token, httponly=True, samesite='Strict'
  )
  return response


def _page(guard):
  return flask.render_template('page.html', token=guard.token)


def _add_reading(app, desk):
  @app.get('/api/session')
  def session():
    return desk.session()

  @app.get('/api/cases/<number>')
  def case(number):
    with desk.use(_case(number)) as opened:
      return desk.case_json(int(number), opened)

  @app.get('/api/cases/<number>/voxels/<name>')
  def voxels(number, name):
    with desk.use(_case(number)) as opened:
      pass  # a sequence may take long, and the case is wanted meanwhile
    shown = opened.sequence(name)
    if name == opened.case.sequences[0].name:
      desk.warm(int(number) + 1, after_s=_NEXT_AFTER_S)
    stored = shown.voxels
    response = _stream(stored.stored)
    response.headers['x-cmb-slope'] = repr(stored.slope)
    response.headers['x-cmb-intercept'] = repr(stored.intercept)
    response.headers['x-cmb-window'] = ' '.join(map(repr, shown.window))
    return response

  @app.get('/api/cases/<number>/brain')
  def brain(number):
    with desk.use(_case(number)) as opened:
      pass  # it takes seconds
    try:
      return _stream(opened.brain())
    except InputError:
      return flask.Response(status=204)  # none is found in some images

  @app.get('/api/cases/<number>/labels')
  def labels(number):
    with desk.use(_case(number)) as opened:
      found = opened.book.record.labels()
      rev = opened.book.record.rev
      response = _stream(found.copy(order='F'))  # edits go on meanwhile
    response.headers['x-cmb-rev'] = str(rev)
    return response


def _add_writing(app, desk):
  @app.post('/api/cases/<number>/events')
  def events(number):
    action = bodies.read(_body())
    with desk.use(_case(number)) as opened:
      return desk.act(opened, action)

  @app.post('/api/cases/<number>/save')
  def save(number):
    _body()
    with desk.use(_case(number)) as opened:
      return {'files': desk.save(opened)}

  @app.post('/api/cases/<number>/place')
  def place(number):
    found = _short(MOST_PLACE_BYTES)
    with desk.use(_case(number)) as opened:
      desk.keep_place(opened, found)
      return {}

  @app.post('/api/settings')
  def settings():
    desk.keep_settings(_short(MOST_SETTINGS_BYTES))
    return {}


def _short(most) -> dict[str, Any]:
  """What the page wants to be kept."""
  body = _body()
  if len(body) > most:
    raise Refused(413, f'more than {most} bytes are not kept.')
  return bodies.read(body)


def _body() -> bytes:
  body = flask.request.get_data(cache=False)
  if len(body) != flask.request.content_length:
    raise Refused(400, 'the body is shorter than its Content-Length.')
  return body


def _add_errors(app):
  @app.errorhandler(Refused)
  def refused(error):
    return {'error': error.why}, error.status

  @app.errorhandler(InputError)
  def mistaken(error):
    answer = {'error': str(error)}
    if isinstance(error, record.Stale):
      answer['rev'] = error.rev
    default = 422 if flask.request.method == 'GET' else 400
    if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL:
      default = 507
    return answer, _STATUS.get(type(error), default)

  @app.errorhandler(HTTPException)
  def other(error):
    return {'error': f'{error.name.lower()}.'}, error.code


def _stream(array):
  """[X, Y, Z] of a little-endian type as bytes, x fastest."""
  # Slice by slice: a copy of the whole might not fit beside what is open.
  parts = (array[..., z].tobytes('F') for z in range(array.shape[2]))
  return flask.Response(
    parts,
    mimetype='application/octet-stream',
    headers={'Content-Length': str(array.nbytes)},
  )
