"""A made-up scan, and a review server on it that is asked as the page asks."""

import contextlib
import http.client
import json
import pathlib
import re
import subprocess
import sys

import nibabel as nib
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
SPACING_MM = (0.5, 0.5, 1.0)
_RADIUS_MM = 1.5


def write_scan(folder: pathlib.Path, shape, count: int, *, mask=False):
  """Noise with dark balls at the corners of a grid; (image, labels).

  Args:
    folder: where the two files go.
    shape: of the scan, in voxels.
    count: balls, numbered from 1.
    mask: labels are 0 and 1, no numbers.
  """
  rng = np.random.default_rng(0)
  image = rng.normal(900, 60, shape).astype(np.int16)
  labels = np.zeros(shape, np.uint16)
  side = int(np.ceil(count ** (1 / 3)))
  axes = [np.linspace(0.2, 0.8, side) * n for n in shape]
  centres = np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 3)
  offsets = np.argwhere(np.ones((7, 7, 3))) - (3, 3, 1)
  ball = offsets[np.linalg.norm(offsets * SPACING_MM, axis=1) <= _RADIUS_MM]
  for number, centre in enumerate(centres[:count].astype(int), 1):
    where = tuple((centre + ball).T)
    image[where] //= 4
    labels[where] = 1 if mask else number
  affine = np.diag([*SPACING_MM, 1.0])
  paths = folder / 'sub-01_swi.nii.gz', folder / 'sub-01_dseg.nii.gz'
  for path, array in zip(paths, (image, labels)):
    nib.save(nib.Nifti1Image(array, affine), path)
  return paths


class Server:
  """A running `cmbjax review`.

  Attributes:
    process: of the server.
    address: with the token, as printed.
    link: of HTTP.
  """

  def __init__(self, *arguments):
    words = ['review', *map(str, arguments), '--no-browser']
    self.process = subprocess.Popen(
      [sys.executable, '-m', 'cmbjax.cli', *words],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.address = self.process.stdout.readline().split()[1]
    port, token = re.search(r':(\d+)/\?token=(.+)', self.address).groups()
    self.headers = {'x-cmb-token': token, 'content-type': 'application/json'}
    self.link = http.client.HTTPConnection('127.0.0.1', int(port), timeout=120)

  def ask(self, path: str, body=None):
    """The answer to a GET, or to a POST of JSON; it has to be read."""
    data = None if body is None else json.dumps(body)
    method = 'GET' if body is None else 'POST'
    self.link.request(method, path, body=data, headers=self.headers)
    answer = self.link.getresponse()
    assert answer.status == 200, answer.read()
    return answer

  def json(self, path: str, body=None):
    return json.loads(self.ask(path, body).read())


@contextlib.contextmanager
def running(image, labels, reviews):
  """A server of one case; it ends with the block."""
  server = Server(
    image, '--labels', labels, '--reviews', reviews, '--rater', 'robot'
  )
  try:
    yield server
  finally:
    server.link.close()
    server.process.terminate()
    server.process.wait(120)
