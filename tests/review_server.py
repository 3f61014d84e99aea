"""A real review server in a process of its own, and one without a port."""

import contextlib
import http.client
import io
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys

import numpy as np

from cmbjax import cli
from cmbjax.review.cases import sources
from cmbjax.review.log import opening
from cmbjax.review.server import app, desk, guard
from tests import small_cohorts

TOKEN = 'the-token-of-the-tests'
PORT = 8123
HOST = f'127.0.0.1:{PORT}'
JSON = 'application/json'


def write_scan(folder, *, seed=1, lesions=4, **how):
  """One SWI and its label image; (image, labels, phantom)."""
  one = small_cohorts.phantom(seed, num_lesions=lesions, num_mimics=2, **how)
  image = folder / 'sub-01_swi.nii.gz'
  labels = folder / 'sub-01_dseg.nii.gz'
  small_cohorts.save(image, one.swi.astype(np.int16), one.affine)
  both = one.lesions + np.where(one.mimics, one.mimics + lesions, 0)
  small_cohorts.save(labels, both.astype(np.uint16), one.affine)
  return image, labels, one


def write_results(out, *, records, rows):
  """The parts of a folder of `cmbjax detect` that a review reads."""
  for name, record in records.items():
    path = out / 'logs' / f'{name}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    anat = out / name / 'anat'
    anat.mkdir(parents=True, exist_ok=True)
    (anat / f'{name}_space-orig_seg-cmb_dseg.tsv').write_text(rows)


class Local:
  """The application, asked without a port; a desk on a phantom."""

  def __init__(self, folder, *, hosts=(), ratings=False, **terms):
    image, labels, self.phantom = write_scan(folder)
    found = sources.find(image, labels=labels)
    self.root = folder / 'reviews'
    terms = opening.Terms(**terms)
    self.desk = desk.Desk(
      found.cases, self.root, 'anna', terms, ratings=ratings
    )
    self.guard = guard.Guard(PORT, token=TOKEN, hosts=hosts)
    self.app = app.make(self.desk, self.guard)
    self.log = self.root / 'anna' / 'sub-01' / 'events.jsonl'

  def ask(self, method, path, *, headers=None, token=True, **more):
    """A request as the page makes it; headers with None are left out."""
    given = {'Host': HOST}
    if token:
      given['x-cmb-token'] = TOKEN
    given |= headers or {}
    client = self.app.test_client(use_cookies=False)
    return client.open(
      path,
      method=method,
      headers={k: v for k, v in given.items() if v is not None},
      **more,
    )

  def get(self, path, **more):
    return self.ask('GET', path, **more)

  def post(self, path, body, *, headers=None, **more):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {'Content-Type': JSON} | (headers or {})
    return self.ask('POST', path, data=data, headers=headers, **more)

  def act(self, event, *, rev=None, case=0, **fields):
    """An action on the present revision; the answer."""
    if rev is None:
      rev = self.case(case)['rev']
    body = {'rev': rev, 'event': event, **fields}
    return self.post(f'/api/cases/{case}/events', body)

  def case(self, number=0):
    return self.get(f'/api/cases/{number}').get_json()


class Client:
  """Speaks with a running server as the page does."""

  def __init__(self, address):
    found = re.fullmatch(r'http://127\.0\.0\.1:(\d+)/\?token=([\w-]+)', address)
    self.port, self.token = int(found[1]), found[2]
    self.link = http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)

  def ask(self, method, path, body=None, headers=None, token=True):
    """(status, bytes, headers)."""
    given = {'x-cmb-token': self.token} if token else {}
    if body is not None:
      given['Content-Type'] = JSON
      body = body if isinstance(body, bytes) else json.dumps(body).encode()
    self.link.request(method, path, body=body, headers=given | (headers or {}))
    answer = self.link.getresponse()
    return answer.status, answer.read(), answer.headers

  def get(self, path):
    """The JSON of an answer that must be good."""
    status, body, _ = self.ask('GET', path)
    assert status == 200, body
    return json.loads(body)

  def act(self, event, *, rev, case=0, **fields):
    """(status, JSON) of an action."""
    body = {'rev': rev, 'event': event, **fields}
    status, answer, _ = self.ask('POST', f'/api/cases/{case}/events', body)
    return status, json.loads(answer)


def command(*arguments):
  return [sys.executable, '-m', 'cmbjax.cli', 'review', *map(str, arguments)]


class Server:
  """A running `cmbjax review`."""

  def __init__(self, *arguments):
    self.process = subprocess.Popen(
      command(*arguments, '--no-browser'),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    line = self.process.stdout.readline()
    if not line.startswith('open '):
      raise AssertionError(self.process.communicate()[1])
    self.address = line.split()[1]
    self.client = Client(self.address)

  def end(self, number=signal.SIGTERM):
    """(exit code, standard error)."""
    self.client.link.close()
    self.process.send_signal(number)
    errors = self.process.communicate(timeout=120)[1]
    return self.process.returncode, errors


class _Child:
  """A process with the methods of `subprocess.Popen` that are used here."""

  def __init__(self, process):
    self._process = process

  def poll(self):
    return self._process.exitcode

  def send_signal(self, number):
    if self._process.pid is not None and self._process.is_alive():
      os.kill(self._process.pid, number)

  def communicate(self, timeout):
    self._process.join(timeout)
    return '', ''

  @property
  def returncode(self):
    return self._process.exitcode


class Forked(Server):
  """The same from a process that has imported everything already.

  It is as real as the other one, but costs a tenth of its second.
  """

  def __init__(self, *arguments):
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['tests.review_server', 'cmbjax.cli'])
    ours, theirs = context.Pipe(duplex=False)
    words = ['review', *map(str, arguments), '--no-browser']
    process = context.Process(target=_serve, args=(words, theirs), daemon=True)
    process.start()
    theirs.close()
    self.process = _Child(process)
    with ours:
      self.address = ours.recv()
    self.client = Client(self.address)


def _serve(words, pipe):
  """The command line, whose first line goes into a pipe."""

  class Out(io.StringIO):
    def write(self, text):
      if text.startswith('open '):
        pipe.send(text.split()[1])

  sys.stdout, sys.stderr = Out(), io.StringIO()
  sys.exit(cli.main(words))


@contextlib.contextmanager
def running(*arguments):
  server = Server(*arguments)
  try:
    yield server
  finally:
    if server.process.poll() is None:
      server.end(signal.SIGKILL)
