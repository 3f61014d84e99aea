"""A reader in front of the page: a real browser on a real review server."""

import functools
import io
import json
import pathlib

import nibabel as nib
import numpy as np
from PIL import Image

from cmbjax import delimited
from cmbjax.review.log import folders
from tests import browser, small_cohorts

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
    # With a place of each lesion nothing is to be said of the label image.
    places = one.lesion_voxels @ one.affine[:3, :3].T + one.affine[:3, 3]
    table = small_cohorts.label_path(root, subject)
    delimited.write(
      table.with_name(table.name.replace('.nii.gz', '.tsv')),
      [
        ['index', 'x', 'y', 'z'],
        *([str(n), *map(str, place)] for n, place in enumerate(places, 1)),
      ],
    )
  return root


class Reader:
  """Keys, mouse and what can be read off the page."""

  def __init__(self, chromium, address, *, width=1280, height=800, **how):
    """Opens the link of a server and waits for the first picture.

    `run` calls what it evaluates to if that is a function: end with `, 0`.

    Args:
      chromium: the browser.
      address: the link.
      width, height: of the window, in CSS pixels.
      how: further options of Playwright for a window.
    """
    context = chromium.new_context(
      viewport={'width': width, 'height': height}, **how
    )
    self.page = page = context.new_page()
    self.heard = browser.Heard(page)
    self.run, self.wait = page.evaluate, functools.partial(browser.wait, page)
    self.key, self.mouse = page.keyboard.press, page.mouse
    page.goto(address)
    self.ready()

  def ready(self):
    """Waits until a case is shown."""
    self.wait('document.body && document.body.dataset.ready')

  def reload(self):
    """Loads the page again."""
    self.page.reload()
    self.ready()

  def size(self, width, height):
    """Another size of the window, in CSS pixels."""
    self.page.set_viewport_size({'width': width, 'height': height})

  def click(self, selector: str):
    """The middle of an element, where it is drawn."""
    self.page.click(selector)

  @property
  def item(self) -> dict:
    """The current candidate."""
    return self.run('cmbjax.reading.item')

  def items(self) -> list[dict]:
    """All candidates as the page knows them."""
    return self.run('[...cmbjax.review.items.values()]')

  def choose(self, number: int):
    """Clicks a candidate in the list."""
    self.click(f'[data-item="{number}"]')
    assert self.item['item'] == number

  def verdicts(self) -> dict[int, str | None]:
    return {item['item']: item['verdict'] for item in self.items()}

  def saved(self):
    """Waits until the server has everything."""
    self.wait('cmbjax.review.state === "saved"')

  def at(self, ijk, pane=0) -> tuple[float, float]:
    """Where a voxel is on the page."""
    x, y = self.run(f'cmbjax.viewer.onPage({list(map(int, ijk))}, {pane})')
    return x, y

  def press(self, points, **button):
    """Presses at the first point and moves through the others."""
    self.mouse.move(*points[0])
    self.mouse.down(**button)
    for point in points[1:]:
      self.mouse.move(*point)

  def drag(self, points, **button):
    """The same, and lets go at the last one."""
    self.press(points, **button)
    self.mouse.up(**button)

  def wheel(self, x: float, y: float, turns: float):
    """Turns the wheel over a point; a turn is 100 pixels, down is positive."""
    self.mouse.move(x, y)
    self.mouse.wheel(0, 100 * turns)

  def touch(self, *steps):
    """Fingers on the glass: each step is a list of points, one per finger."""
    devtools = self.page.context.new_cdp_session(self.page)
    kinds = ('touchStart', *['touchMove'] * (len(steps) - 1), 'touchEnd')
    for kind, points in zip(kinds, (*steps, [])):
      touches = [{'x': x, 'y': y, 'id': n} for n, (x, y) in enumerate(points)]
      devtools.send(
        'Input.dispatchTouchEvent', {'type': kind, 'touchPoints': touches}
      )

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
    picture = self.page.locator('#stage').screenshot()
    with Image.open(io.BytesIO(picture)) as image:
      return float(np.std(np.asarray(image.reduce(4))[..., 0]))

  def banner(self) -> str:
    return self.page.text_content('#banners')

  def strangers(self) -> list[str]:
    """Requests that went anywhere but to this computer."""
    own = self.run('location.origin')
    return [
      address
      for address in self.heard.requests
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
