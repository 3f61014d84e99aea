"""What the review server refuses.

Each test is one way to get at images or labels that are none of one's
business, or to break a review.
"""

import gzip
import io
import json
import re

import pytest

from cmbjax import cli
from cmbjax.review.server import bodies, guard
from tests import review_server
from tests.messages import printed
from tests.review_server import HOST, PORT, TOKEN, Local

EVENTS = '/api/cases/0/events'
READS = (
  '/api/session',
  '/api/cases/0',
  '/api/cases/0/voxels/swi',
  '/api/cases/0/labels',
)


@pytest.fixture(scope='module')
def here(tmp_path_factory):
  """One desk for all tests that must not change it."""
  return Local(tmp_path_factory.mktemp('secure'))


@pytest.fixture
def same(here):
  """Fails when a test has changed the review."""
  here.case()
  before = here.log.read_bytes()
  yield here
  assert here.log.read_bytes() == before


def status(answer):
  assert answer.status_code != 500, answer.get_data()
  return answer.status_code


# The token.


@pytest.mark.parametrize('path', READS)
def test_no_token_no_data(same, path):
  assert status(same.get(path, token=False)) == 403


@pytest.mark.parametrize('path', READS)
def test_the_header_lets_read(same, path):
  assert status(same.get(path)) == 200


@pytest.mark.parametrize(
  'token', ['', 'x', TOKEN[:-1], TOKEN + 'x', TOKEN.upper(), 'tökén', '\x00']
)
def test_a_wrong_token(same, token):
  headers = {'x-cmb-token': token.encode('utf-8').decode('latin-1')}
  assert status(same.get('/api/session', headers=headers)) == 403


def test_the_cookie_lets_read(same):
  headers = {'Cookie': f'cmb-token-{PORT}={TOKEN}'}
  answer = same.get('/api/session', headers=headers, token=False)
  assert status(answer) == 200


def test_the_cookie_alone_cannot_write(same):
  headers = {'Cookie': f'cmb-token-{PORT}={TOKEN}'}
  body = {'rev': 0, 'event': 'done'}
  assert status(same.post(EVENTS, body, headers=headers, token=False)) == 403


def test_the_cookie_of_another_port(same):
  headers = {'Cookie': f'cmb-token-9999={TOKEN}'}
  answer = same.get('/api/session', headers=headers, token=False)
  assert status(answer) == 403


def test_the_token_in_the_address_becomes_a_cookie(same):
  answer = same.get(f'/?token={TOKEN}', token=False)
  assert status(answer) == 303
  assert answer.headers['Location'] == './'
  cookie = answer.headers['Set-Cookie']
  assert cookie.startswith(f'cmb-token-{PORT}={TOKEN};')
  assert 'HttpOnly' in cookie
  assert 'SameSite=Strict' in cookie


def test_the_redirect_goes_nowhere_else(same):
  path = f'/?token={TOKEN}&next=//evil.example'
  answer = same.get(path, token=False)
  assert answer.headers['Location'] == './'


def test_from_a_file_the_cookie_is_set_by_a_page(same):
  """A strict cookie is not sent along a redirect that began elsewhere."""
  headers = {'Sec-Fetch-Site': 'cross-site'}
  path = f'/?token={TOKEN}&a="><script>'
  answer = same.get(path, token=False, headers=headers)
  assert status(answer) == 200
  assert 'Set-Cookie' in answer.headers
  assert TOKEN not in answer.get_data(as_text=True)
  assert '<script' not in answer.get_data(as_text=True)


def test_a_wrong_token_in_the_address(same):
  answer = same.get('/?token=wrong', token=False)
  assert status(answer) == 403
  assert 'Set-Cookie' not in answer.headers


def test_the_page_without_a_token(same):
  answer = same.get('/', token=False)
  assert status(answer) == 403
  assert TOKEN not in answer.get_data(as_text=True)


def test_the_page_holds_the_token_once(same):
  headers = {'Cookie': f'cmb-token-{PORT}={TOKEN}'}
  text = same.get('/', token=False, headers=headers).get_data(as_text=True)
  assert text.count(TOKEN) == 1
  assert f'<meta name="cmb-token" content="{TOKEN}">' in text


def test_tokens_are_long_and_new_each_time():
  first, second = guard.Guard(1).token, guard.Guard(1).token
  assert first != second
  assert len(first) >= 32


def test_tokens_are_compared_in_constant_time(monkeypatch):
  asked = []
  monkeypatch.setattr(
    guard.secrets, 'compare_digest', lambda a, b: asked.append((a, b)) or False
  )
  assert not guard.Guard(1, token='secret').knows('guess')
  assert asked == [(b'guess', b'secret')]


# Host and origin.


@pytest.mark.parametrize(
  'host',
  [
    'evil.example',
    f'evil.example:{PORT}',
    '127.0.0.1',
    '127.0.0.1:80',
    f'127.0.0.1:{PORT}.evil.example',
    f'127.0.0.1.evil.example:{PORT}',
    f'localhost.:{PORT}',
    f'0.0.0.0:{PORT}',
    f'user@127.0.0.1:{PORT}',
    f'127.0.0.1:{PORT}, evil.example',
    '',
  ],
)
def test_another_host(same, host):
  """A name that an attacker resolves to this computer."""
  assert status(same.get('/api/session', headers={'Host': host})) == 400


def test_another_host_gets_not_even_static_files(same):
  headers = {'Host': 'evil.example'}
  assert status(same.get('/static/app.js', headers=headers)) == 400


@pytest.mark.parametrize('host', [HOST, f'localhost:{PORT}'])
def test_both_names_of_this_computer(same, host):
  assert status(same.get('/api/session', headers={'Host': host})) == 200


@pytest.mark.parametrize(
  'origin',
  [
    'https://evil.example',
    'null',
    '',
    'http://127.0.0.1',
    f'https://127.0.0.1:{PORT}',
    f'http://127.0.0.1:{PORT + 1}',
    f'http://127.0.0.1:{PORT}.evil.example',
    f'http://127.0.0.1:{PORT}/',
  ],
)
@pytest.mark.parametrize('path', ['/api/session', EVENTS])
def test_another_origin(same, origin, path):
  method = same.get if path == '/api/session' else same.post
  more = () if path == '/api/session' else ({'rev': 0, 'event': 'done'},)
  assert status(method(path, *more, headers={'Origin': origin})) == 403


def test_the_own_origin(same):
  headers = {'Origin': f'http://{HOST}'}
  assert status(same.get('/api/session', headers=headers)) == 200


@pytest.mark.parametrize('site', ['cross-site', 'same-site', 'anything'])
def test_requests_that_a_browser_calls_foreign(same, site):
  """Another port of this computer is the same site and sends cookies."""
  headers = {'Sec-Fetch-Site': site}
  assert status(same.get('/api/cases/0/labels', headers=headers)) == 403


# Paths.


@pytest.mark.parametrize(
  'path',
  [
    '/static/../app.py',
    '/static/%2e%2e/app.py',
    '/static/..%2fapp.py',
    '/static/..%5capp.py',
    '/static//etc/passwd',
    '/static/none/../../app.py',
    '/static/%00',
    '/static/',
    '/static',
    '/api/cases/0/voxels/..%2f..%2fetc%2fpasswd',
    '/api/cases/0/voxels//etc/passwd',
    '/api/cases/0/voxels/swi.nii.gz',
    '/api/cases/0/voxels/%00',
    '/api/cases/..%2f0/labels',
    '/api/cases/sub-01/labels',
    '/api/cases/0/events.jsonl',
    '/api/cases/0/state.json',
    '/events.jsonl',
  ],
)
def test_names_of_files_lead_nowhere(same, path):
  answer = same.get(path)
  assert status(answer) in (400, 404)
  assert b'root:' not in answer.get_data()
  assert b'import' not in answer.get_data()


@pytest.mark.parametrize(
  'number',
  ['1', '99', '-1', '1e3', '0x0', '٣', '00000000', '9' * 400, '9' * 5000],
)
def test_cases_that_do_not_exist(same, number):
  assert status(same.get(f'/api/cases/{number}')) == 404
  body = {'rev': 0, 'event': 'done'}
  assert status(same.post(f'/api/cases/{number}/events', body)) in (404, 405)


def test_static_files_need_no_token_and_hold_no_data(same):
  answer = same.get('/static/page.html', token=False)
  assert status(answer) == 200
  assert TOKEN not in answer.get_data(as_text=True)


# Bodies.


@pytest.mark.parametrize(
  'kind',
  [
    None,
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/json; charset=utf-16',
    'application/jsonp',
    'text/plain; application/json',
  ],
)
def test_other_kinds_of_body(same, kind):
  headers = {'Content-Type': kind}
  body = {'rev': 0, 'event': 'done'}
  assert status(same.post(EVENTS, body, headers=headers)) == 415


def test_a_body_of_unknown_length(same):
  answer = same.ask(
    'POST',
    EVENTS,
    headers={'Content-Type': 'application/json'},
    input_stream=io.BytesIO(b'{}'),
    environ_overrides={'CONTENT_LENGTH': ''},
  )
  assert status(answer) == 411


def test_a_body_that_is_shorter_than_it_says(same):
  length = {'CONTENT_LENGTH': '50'}
  answer = same.post(EVENTS, b'{}', environ_overrides=length)
  assert status(answer) == 400


@pytest.mark.parametrize('length', ['-1', 'abc', '1e3', '9' * 30])
def test_a_length_that_is_none(same, length):
  given = {'CONTENT_LENGTH': length}
  answer = same.post(EVENTS, b'{}', environ_overrides=given)
  assert status(answer) in (411, 413)


def test_a_body_that_is_too_large(same):
  body = b' ' * (bodies.MOST_BYTES + 1)
  assert status(same.post(EVENTS, body)) == 413


@pytest.mark.parametrize('coding', ['gzip', 'deflate', 'br', 'GZIP'])
def test_compressed_bodies(same, coding):
  """So that no small body can unpack to a large one."""
  bomb = gzip.compress(b' ' * 10**6)
  headers = {'Content-Encoding': coding}
  assert status(same.post(EVENTS, bomb, headers=headers)) == 415


@pytest.mark.parametrize(
  'body',
  [
    b' ',
    b'{',
    b'null',
    b'[]',
    b'"text"',
    b'1',
    b'\xff\xfe',
    b'\xef\xbb\xbf{}',
    b'{"rev": NaN, "event": "done"}',
    b'{"rev": 1e999, "event": "done"}',
    b'{"rev": Infinity}',
    b'{"rev": 0, "event": "done"}{}',
    b'[' * 200_000,
    b'{"a":' * 100_000,
    b'{"rev": ' + b'9' * 5000 + b', "event": "done"}',
    b'{"rev": 0, "event": "note", "value": "\\ud800"}',
    b'{"\\udfff": 0, "rev": 0, "event": "done"}',
  ],
)
def test_bodies_that_are_no_action(same, body):
  assert status(same.post(EVENTS, body)) == 400


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'event': 'done'},
    {'rev': 0},
    {'rev': '0', 'event': 'done'},
    {'rev': True, 'event': 'done'},
    {'rev': -1, 'event': 'done'},
    {'rev': 0.0, 'event': 'done'},
    {'rev': 0, 'event': 'open'},
    {'rev': 0, 'event': 'close'},
    {'rev': 0, 'event': '__class__'},
    {'rev': 0, 'event': ['done']},
    {'rev': 0, 'event': 'done', 'undoes': 3},
    {'rev': 0, 'event': 'done', 'time': '2020-01-01'},
    {'rev': 0, 'event': 'done', 'ms': -5},
    {'rev': 0, 'event': 'done', 'ms': 10**12},
    {'rev': 0, 'event': 'verdict', 'item': 1, 'value': '<script>'},
    {'rev': 0, 'event': 'verdict', 'item': 1, 'value': 'ACCEPT'},
    {'rev': 0, 'event': 'verdict', 'item': 1, 'value': ['accept']},
    {'rev': 0, 'event': 'verdict', 'item': 99, 'value': 'accept'},
    {'rev': 0, 'event': 'verdict', 'item': 0, 'value': 'accept'},
    {'rev': 0, 'event': 'verdict', 'item': '1', 'value': 'accept'},
    {'rev': 0, 'event': 'verdict', 'item': 10**18, 'value': 'accept'},
    {'rev': 0, 'event': 'rating', 'item': 1, 'value': 11},
    {'rev': 0, 'event': 'rating', 'item': 1, 'value': 5.5},
    {'rev': 0, 'event': 'region', 'item': 1, 'value': 'moon'},
    {'rev': 0, 'event': 'status', 'value': 'not a status'},
    {'rev': 0, 'event': 'note', 'value': 'x' * 10_001},
    {'rev': 0, 'event': 'comment', 'item': 1, 'value': {'a': 1}},
    {'rev': 0, 'event': 'add', 'ijk': [-1, 0, 0]},
    {'rev': 0, 'event': 'add', 'ijk': [64, 0, 0]},
    {'rev': 0, 'event': 'add', 'ijk': [1, 2]},
    {'rev': 0, 'event': 'add', 'ijk': [1, 2, 3.5]},
    {'rev': 0, 'event': 'add', 'ijk': [10**12, 0, 0], 'grow': True},
    {'rev': 0, 'event': 'add', 'ijk': [1, 2, 3], 'grow': 1},
    {'rev': 0, 'event': 'move', 'item': 1, 'ijk': [0, 0, 16]},
    {'rev': 0, 'event': 'remove', 'item': 1},
    {'rev': 0, 'event': 'edit', 'item': 1, 'set': [64 * 60 * 16]},
    {'rev': 0, 'event': 'edit', 'item': 1, 'set': [-1]},
    {'rev': 0, 'event': 'edit', 'item': 1, 'set': [1.5]},
    {'rev': 0, 'event': 'edit', 'item': 1, 'set': ['1']},
    {'rev': 0, 'event': 'edit', 'item': 1, 'set': [[1, 2]]},
    {'rev': 0, 'event': 'edit', 'item': 1, 'set': {'0': 1}},
    {'rev': 0, 'event': 'edit', 'item': 1, 'set': [10**30]},
    {'rev': 0, 'event': 'edit', 'item': 1, 'set': [1], 'clear': None},
    {'rev': 0, 'event': 'edit', 'item': 1, 'set': [1], 'tool': [[[[[]]]]]},
    {'rev': 0, 'event': 'edit', 'item': 1, 'tool': {'name': 'x' * 300}},
    {'rev': 0, 'event': 'grow', 'item': 1, 'ijk': [64, 0, 0]},
    {'rev': 0, 'event': 'grow', 'item': 99, 'ijk': [3, 0, 0]},
    {'rev': 0, 'event': 'grow', 'item': 1, 'ijk': [3, 0, 0], 'radius_mm': 500},
    {'rev': 0, 'event': 'grow', 'item': 1, 'ijk': [3, 0, 0], 'radius_mm': True},
    {'rev': 0, 'event': 'view', 'what': 'sweep', 'slices': -1},
    {'rev': 0, 'event': 'undo'},
    {'rev': 0, 'event': 'redo'},
  ],
  ids=lambda fields: json.dumps(fields)[:60],
)
def test_actions_that_are_refused(same, fields):
  answer = same.post(EVENTS, fields)
  assert status(answer) == 400
  assert len(answer.get_json()['error']) > 10


def test_more_voxels_than_a_brush_can_paint(same):
  fields = {'rev': 0, 'event': 'edit', 'item': 1, 'set': [0] * 500_001}
  assert status(same.post(EVENTS, fields)) == 400


def test_a_stale_revision(tmp_path):
  here = Local(tmp_path)
  rev = here.case()['rev']
  assert status(here.act('verdict', rev=rev, item=1, value='accept')) == 200
  before = here.log.read_bytes()
  answer = here.act('verdict', rev=rev, item=1, value='reject')
  assert status(answer) == 409
  assert answer.get_json()['rev'] == rev + 1
  assert here.log.read_bytes() == before


def test_a_future_revision(same):
  body = {'rev': 10**6, 'event': 'verdict', 'item': 1, 'value': 'accept'}
  assert status(same.post(EVENTS, body)) == 409


def test_a_place_is_small(same):
  path = '/api/cases/0/place'
  assert status(same.post(path, {'zoom': 'x' * 5000})) == 413
  assert status(same.post(path, [1])) == 400
  assert not (same.log.parent / 'place.json').exists()


@pytest.mark.parametrize(
  'method', ['PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT', 'FOO']
)
@pytest.mark.parametrize(
  'path', ['/', '/api/cases/0', EVENTS, '/static/app.js']
)
def test_other_methods(same, method, path):
  answer = same.ask(method, path, headers={'Content-Type': 'application/json'})
  assert status(answer) in (403, 405, 411)
  assert 'Access-Control-Allow-Origin' not in answer.headers


def test_a_method_may_not_be_overridden(same):
  headers = {'X-HTTP-Method-Override': 'POST'}
  answer = same.get('/api/cases/0/save', headers=headers)
  assert status(answer) == 405


# Answers.


@pytest.mark.parametrize('path', [*READS, '/', '/static/page.html', '/none'])
def test_headers_of_every_answer(same, path):
  headers = same.get(path).headers
  assert headers['X-Content-Type-Options'] == 'nosniff'
  assert headers['Referrer-Policy'] == 'no-referrer'
  assert headers['X-Frame-Options'] == 'DENY'
  assert headers['Cross-Origin-Resource-Policy'] == 'same-origin'
  assert headers['Cache-Control'] == 'no-store'
  assert 'access-control' not in str(headers).lower()


def rules(answer):
  text = answer.headers['Content-Security-Policy']
  return dict(rule.split(' ', 1) for rule in text.split('; '))


def test_scripts_of_the_page_are_its_own(same):
  found = rules(same.get('/'))
  assert found['default-src'] == "'none'"
  assert found['script-src'] == "'self'"
  assert found['connect-src'] == "'self'"
  assert found['frame-ancestors'] == "'none'"
  assert 'unsafe' not in str(found)


def test_the_page_has_no_script_or_style_of_its_own(same):
  """The policy would stop them, so they would be dead."""
  text = same.get('/').get_data(as_text=True)
  assert not re.search(r'<script(?![^>]*\bsrc=)', text)
  assert not re.search(r'<style|\sstyle=|\son\w+=', text)


def test_the_page_asks_nobody_else(same):
  text = same.get('/').get_data(as_text=True)
  sources = re.findall(r'(?:src|href)="([^"]+)"', text)
  assert sources
  assert not [one for one in sources if one.startswith(('/', 'http', '//'))]


def test_errors_are_json_without_insides(same):
  for path in ('/none', '/api/cases/9', '/api/cases/0/voxels/x'):
    answer = same.get(path)
    assert set(answer.get_json()) == {'error'}
    assert 'Traceback' not in answer.get_data(as_text=True)
    assert str(same.root) not in answer.get_data(as_text=True)


def test_answers_name_no_folders(same):
  for path in ('/api/session', '/api/cases/0'):
    assert str(same.root.parent) not in same.get(path).get_data(as_text=True)


def test_a_bug_is_no_traceback_in_the_page(tmp_path, monkeypatch):
  here = Local(tmp_path)
  monkeypatch.setattr(here.desk, 'session', lambda: 1 / 0)
  here.app.logger.disabled = True
  answer = here.get('/api/session')
  assert answer.status_code == 500
  assert set(answer.get_json()) == {'error'}
  assert 'ZeroDivision' not in answer.get_data(as_text=True)


# Other hosts, when asked for.


@pytest.fixture(scope='module')
def framed(tmp_path_factory):
  folder = tmp_path_factory.mktemp('framed')
  return Local(folder, hosts=['hub.example.org'])


def test_an_allowed_host_gets_all_three_openings(framed):
  headers = {'Host': 'hub.example.org', 'Origin': 'https://hub.example.org'}
  answer = framed.get('/api/session', headers=headers)
  assert status(answer) == 200
  assert 'https://hub.example.org' in rules(answer)['frame-ancestors']
  assert 'X-Frame-Options' not in answer.headers


def test_an_allowed_host_still_needs_the_token(framed):
  headers = {'Host': 'hub.example.org'}
  answer = framed.get('/api/session', headers=headers, token=False)
  assert status(answer) == 403


@pytest.mark.parametrize(
  'host', ['evil.example', 'a.hub.example.org', 'hub.example.org:81']
)
def test_an_allowed_host_is_exact(framed, host):
  assert status(framed.get('/api/session', headers={'Host': host})) == 400
  headers = {'Origin': f'https://{host}'}
  assert status(framed.get('/api/session', headers=headers)) == 403


def test_in_a_frame_the_page_comes_without_a_cookie(framed):
  headers = {'Host': 'hub.example.org'}
  answer = framed.get(f'/?token={TOKEN}', headers=headers, token=False)
  assert status(answer) == 200
  assert 'name="cmb-token"' in answer.get_data(as_text=True)


def test_a_shared_name_is_told_no_cookie(framed):
  """Servers of other users may have the same name at a hub."""
  path = f'/?token={TOKEN}'
  headers = {'Host': 'hub.example.org'}
  answer = framed.get(path, headers=headers, token=False)
  assert 'Set-Cookie' not in answer.headers
  assert 'Set-Cookie' in framed.get(path, token=False).headers


@pytest.mark.parametrize(
  'host', ['*', 'evil.example/', "a'b", 'a b', 'http://a', '', 'a;b', 'a:b']
)
def test_allowed_hosts_are_names(tmp_path, capsys, host):
  image, _, _ = review_server.write_scan(tmp_path)
  assert cli.main(['review', str(image), '--allow-host', host]) == 2
  printed(capsys.readouterr().err, '--allow-host')
