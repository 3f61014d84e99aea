"""How fast the review page is: seconds per decision, milliseconds per frame.

  python benchmarks/review_reader.py [--candidates 300] [--decisions 100]

A scripted reader opens one made-up scan of 512 x 512 x 144 voxels with many
candidates in a real headless Chromium without WebGL and without a GPU, on a
real `cmbjax review`, and judges them by keyboard. Nothing here says how long a
person needs to look; it is what the program adds to that.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import nibabel as nib
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from tests import browser as browser_lib
from tests import review_server
from tests.e2e import review_pages

SHAPE = (512, 512, 144)
SPACING_MM = (0.45, 0.45, 1.0)
_FRAMES = """
(() => {
  const v = cmbjax.viewer, found = [];
  v.setSlab(%s); v.setField(%s); v.refresh();
  for (let n = 0; n < 40; n++) {
    v.jump([200 + 3 * n, 300 - 2 * n, 50 + n]);
    const start = performance.now();
    v.refresh();
    for (const pane of v.panes) pane.context.getImageData(5, 5, 1, 1);
    found.push(performance.now() - start);
  }
  return found;
})()
"""


def write_scan(folder: pathlib.Path, count: int):
  """Noise with dark balls at the corners of a grid; (image, labels)."""
  rng = np.random.default_rng(0)
  image = rng.integers(150, 200, SHAPE).astype(np.int16)
  labels = np.zeros(SHAPE, np.uint16)
  side = int(np.ceil(count ** (1 / 3)))
  axes = [np.linspace(0.2, 0.8, side) * n for n in SHAPE]
  grid = np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 3)
  offsets = np.argwhere(np.ones((7, 7, 3))) - (3, 3, 1)
  ball = offsets[np.linalg.norm(offsets * SPACING_MM, axis=1) <= 1.3]
  for number, centre in enumerate(grid[:count].astype(int), 1):
    where = tuple((centre + ball).T)
    image[where] = 30
    labels[where] = number
  affine = np.diag([*SPACING_MM, 1.0])
  paths = folder / 'scan.nii', folder / 'scan_dseg.nii.gz'
  for path, array in zip(paths, (image, labels)):
    nib.save(nib.Nifti1Image(array, affine), path)
  return paths


def processor_ms(browser) -> float:
  """Processor time of the page so far: other programs do not count."""
  found = browser.call('Performance.getMetrics')['metrics']
  return 1000 * {row['name']: row['value'] for row in found}['TaskDuration']


def told(name: str, values, unit: str):
  """One line: median and 95th percentile."""
  high = np.percentile(values, 95)
  print(f'{name}: median {statistics.median(values):.3g} {unit}, ', end='')
  print(f'p95 {high:.3g} {unit} ({len(values)})', flush=True)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--candidates', type=int, default=300)
  parser.add_argument('--decisions', type=int, default=100)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    image, labels = write_scan(folder, args.candidates)
    given = (image, '--labels', labels, '--reviews', folder / 'r')
    with (
      review_server.running(*given, '--rater', 'robot') as server,
      browser_lib.opened(*review_pages.PLAIN) as browser,
    ):
      reader = review_pages.Reader(browser)
      browser.call('Performance.enable', timeDomain='threadTicks')
      start = time.perf_counter()
      reader.open(server.address, width=1920, height=1080)
      print(f'first picture: {time.perf_counter() - start:.2f} s from the link')
      start = time.perf_counter()
      reader.reload()
      print(f'again (case open): {time.perf_counter() - start:.2f} s')
      for slab in (0, 10):
        for field in ('null', 60):
          begun = processor_ms(browser)
          frames = reader.run(_FRAMES % (slab, field))
          used = (processor_ms(browser) - begun) / len(frames)
          told(f'frame, slab {slab} mm, field {field} mm', frames, 'ms')
          print(f'  processor time: mean {used:.1f} ms', flush=True)
      begun = processor_ms(browser)
      reader.run('cmbjax.viewer.setSlab(0), cmbjax.viewer.setField(60)')
      shown, kept = [], []
      for number in range(args.decisions):
        before = reader.item['item']
        start = time.perf_counter()
        reader.key('aru'[number % 3])
        reader.wait(f'cmbjax.current !== {before} && !cmbjax.viewer.waiting')
        shown.append(time.perf_counter() - start)
        reader.saved()
        kept.append(time.perf_counter() - start)
      used = (processor_ms(browser) - begun) / args.decisions
      print(f'processor time of the page: {used:.0f} ms per decision')
      told('key to next candidate on the screen', shown, 's')
      told('key to the decision on the disk', kept, 's')
  return 0


if __name__ == '__main__':
  sys.exit(main())
