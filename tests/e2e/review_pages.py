"""A reader in front of the page: a real browser on a real review server."""

import base64
import json
import pathlib

import nibabel as nib
import numpy as np

from cmbjax.review.log import folders
from tests import browser as browser_lib
from tests import small_cohorts

PLAIN = ('--disable-3d-apis',)
WITH_WEBGL = ('--use-angle=swiftshader', '--enable-unsafe-swiftshader')
SHAPE = (96, 90, 24)
RATER = 'anna'


def write_cohort(root: pathlib.Path, *, lesions=12) -> pathlib.Path:
  """Two simulated people with a magnitude beside their SWI."""
  made = small_cohorts.write_cohort(
    root, subjects=2, simulated=True, num_lesions=lesions, shape=SHAPE
  )
  for subject, one in made.items():
    name = root / subject / 'anat' / f'{subject}_part-mag_T2starw.nii.gz'
    small_cohorts.save(name, 255 - one.swi, one.affine)
  return root


class Reader:
  """Keys, mouse and what can be read off the page."""

  def __init__(self, browser: browser_lib.Browser):
    self.browser = browser
    self.run, self.key, self.wait = browser.run, browser.key, browser.wait

  def open(self, address: str, *, width=1280, height=800, ratio=1, **more):
    """Opens the link of the server and waits for the first picture."""
    self.browser.size(width, height, ratio=ratio, **more)
    self.browser.go(address)
    self.ready()

  def ready(self):
    """Waits until a case is shown."""
    self.wait('document.body && document.body.dataset.ready')

  def reload(self):
    """Loads the page again."""
    self.browser.go(self.run('location.href'))
    self.ready()

  @property
  def item(self) -> dict:
    """The current candidate."""
    return self.run('cmbjax.item')

  def items(self) -> list[dict]:
    """All candidates as the page knows them."""
    return self.run('[...cmbjax.review.log.items.values()]')

  def choose(self, number: int):
    """Clicks a candidate in the list."""
    self.browser.click(f'[data-item="{number}"]')
    assert self.item['item'] == number

  def verdicts(self) -> dict[int, str | None]:
    return {item['item']: item['verdict'] for item in self.items()}

  def saved(self):
    """Waits until the server has everything."""
    self.wait('cmbjax.review.state === "saved"')

  def at(self, ijk, pane=0) -> tuple[float, float]:
    """Where a voxel stands on the page."""
    x, y = self.run(f'cmbjax.viewer.onPage({list(map(int, ijk))}, {pane})')
    return x, y

  def grey(self, ijk, pane=0) -> int:
    """What the canvas shows at a voxel: the red of its middle pixel."""
    return self.run(
      f'(() => {{ const v = cmbjax.viewer; v.refresh();'
      f' const c = v.panes[{pane}].canvas, b = c.getBoundingClientRect();'
      f' const [x, y] = v.onPage({list(map(int, ijk))}, {pane});'
      f' return c.getContext("2d").getImageData((x - b.x) * c.width / b.width,'
      f' (y - b.y) * c.height / b.height, 1, 1).data[0]; }})()'
    )

  def spread(self) -> float:
    """Standard deviation of the pixels of the images on the screen."""
    box = self.run(
      '(b => [b.x, b.y, b.width, b.height])'
      '(document.getElementById("stage").getBoundingClientRect())'
    )
    data = self.browser.call(
      'Page.captureScreenshot',
      clip=dict(zip(('x', 'y', 'width', 'height'), box)) | {'scale': 0.25},
    )['data']
    script = (
      f'new Promise(done => {{ const i = new Image(); i.onload = () => {{'
      f' const c = new OffscreenCanvas(i.width, i.height).getContext("2d");'
      f' c.drawImage(i, 0, 0);'
      f' const d = c.getImageData(0, 0, i.width, i.height).data;'
      f' let n = 0, s = 0, q = 0;'
      f' for (let k = 0; k < d.length; k += 4)'
      f' {{ n++; s += d[k]; q += d[k] * d[k]; }}'
      f' done(Math.sqrt(q / n - s * s / n / n)); }};'
      f' i.src = "data:image/png;base64,{data}"; }})'
    )
    assert base64.b64decode(data)
    return self.run(script)

  def banner(self) -> str:
    return self.run('document.getElementById("banners").textContent')

  def strangers(self) -> list[str]:
    """Requests that went anywhere but to this computer."""
    own = self.run('location.origin')
    return [
      address
      for address in self.browser.requests()
      if not address.startswith((own, 'data:', 'blob:'))
    ]


def lines(root: pathlib.Path, case='sub-01') -> list[dict]:
  """The journal of a case."""
  path = folders.folder_of(root, RATER, case) / 'events.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()]


def mask(root: pathlib.Path, case='sub-01') -> nib.Nifti1Image:
  """The mask that a reader has saved."""
  (path,) = folders.folder_of(root, RATER, case).glob('*_dseg.nii.gz')
  return nib.load(path)


def turned(
  array: np.ndarray, spacing_mm, codes: str, *, degrees: float
) -> nib.Nifti1Image:
  """A RAS array as a file with another order of axes, perhaps oblique."""
  affine = np.diag([*spacing_mm, 1.0])
  angle = np.radians(degrees)
  about_z, about_x = np.eye(4), np.eye(4)
  about_z[:2, :2] = [
    [np.cos(angle), -np.sin(angle)],
    [np.sin(angle), np.cos(angle)],
  ]
  about_x[1:3, 1:3] = about_z[:2, :2]
  image = nib.Nifti1Image(array, about_x @ about_z @ affine)
  start = nib.orientations.axcodes2ornt('RAS')
  change = nib.orientations.ornt_transform(
    start, nib.orientations.axcodes2ornt(codes)
  )
  return image.as_reoriented(change)
