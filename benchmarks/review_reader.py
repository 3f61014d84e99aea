"""How fast the review page is: seconds per decision, milliseconds per frame.

  python benchmarks/review_reader.py [--candidates 300] [--decisions 100]

A scripted reader opens one made-up scan of 512 x 512 x 144 voxels with many
candidates in a real headless Chromium without a GPU, on a
real `cmbjax review`, and judges them by keyboard. Nothing here says how long a
person needs to look; it is what the program adds to that.
"""

import argparse
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

import numpy as np
import served
from playwright import sync_api

SHAPE = (512, 512, 144)
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


class Reader:
  """A window of the review page."""

  def __init__(self, playwright):
    browser = playwright.chromium.launch(
      executable_path=shutil.which('chromium'),
      args=['--disable-gpu', '--disable-3d-apis'],
    )
    self.page = browser.new_page(viewport={'width': 1920, 'height': 1080})
    self.devtools = self.page.context.new_cdp_session(self.page)
    self.devtools.send('Performance.enable', {'timeDomain': 'threadTicks'})

  def wait(self, script: str):
    """Until an expression is true; the page's policy forbids other ways."""
    while not self.page.evaluate(f'Boolean({script})'):
      time.sleep(0.002)

  def ready(self):
    """Until a case is shown."""
    self.wait('document.body && document.body.dataset.ready')


def processor_ms(reader) -> float:
  """Processor time of the page so far: other programs do not count."""
  found = reader.devtools.send('Performance.getMetrics')['metrics']
  return 1000 * {row['name']: row['value'] for row in found}['TaskDuration']


def told(name: str, values, unit: str):
  """One line: median and 95th percentile."""
  high = np.percentile(values, 95)
  print(f'{name}: median {statistics.median(values):.3g} {unit}, ', end='')
  print(f'p95 {high:.3g} {unit} ({len(values)})', flush=True)


def frames(reader):
  """How long a step to another slice takes, by slab and field of view."""
  for slab in (0, 10):
    for field in ('null', 60):
      begun = processor_ms(reader)
      found = reader.page.evaluate(_FRAMES % (slab, field))
      used = (processor_ms(reader) - begun) / len(found)
      told(f'frame, slab {slab} mm, field {field} mm', found, 'ms')
      print(f'  processor time: mean {used:.1f} ms', flush=True)


def decisions(reader, count: int):
  """How long a verdict takes to the next candidate, and to the disk."""
  begun = processor_ms(reader)
  reader.page.evaluate('cmbjax.viewer.setSlab(0), cmbjax.viewer.setField(60)')
  shown, kept = [], []
  for number in range(count):
    before = reader.page.evaluate('cmbjax.reading.current')
    start = time.perf_counter()
    reader.page.keyboard.press('aru'[number % 3])
    reader.wait(
      f'cmbjax.reading.current !== {before} && !cmbjax.viewer.waiting'
    )
    shown.append(time.perf_counter() - start)
    reader.wait('cmbjax.review.state === "saved"')
    kept.append(time.perf_counter() - start)
  used = (processor_ms(reader) - begun) / count
  print(f'processor time of the page: {used:.0f} ms per decision')
  told('key to next candidate on the screen', shown, 's')
  told('key to the decision on the disk', kept, 's')


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--candidates', type=int, default=300)
  parser.add_argument('--decisions', type=int, default=100)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    image, labels = served.write_scan(folder, SHAPE, args.candidates)
    with (
      served.running(image, labels, folder / 'r') as server,
      sync_api.sync_playwright() as playwright,
    ):
      reader = Reader(playwright)
      start = time.perf_counter()
      reader.page.goto(server.address)
      reader.ready()
      print(f'first picture: {time.perf_counter() - start:.2f} s from the link')
      start = time.perf_counter()
      reader.page.reload()
      reader.ready()
      print(f'again (case open): {time.perf_counter() - start:.2f} s')
      frames(reader)
      decisions(reader, args.decisions)
  return 0


if __name__ == '__main__':
  sys.exit(main())
