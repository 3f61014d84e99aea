"""How long a reader waits for the review server, on a large scan.

  python benchmarks/review.py [--shape 512 512 144] [--candidates 300]
      [--mask]

Makes a .nii.gz and its labels, starts a real server, opens the case as the
page does, then acts: verdicts, brush strokes, growing, undo. Prints seconds
and the memory of the server. The scan is noise and balls, no head.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
import served


class Watch:
  """Acts, and measures each kind: what the page waits, what it costs."""

  def __init__(self, server, case):
    self.server, self.rev = server, case['rev']

  def all(self, name, actions):
    """One kind of action, many times."""
    waits, before = [], processor_s(self.server.process)
    for fields in actions:
      start = time.perf_counter()
      body = {'rev': self.rev, **fields}
      answer = self.server.json('/api/cases/0/events', body)
      waits.append(1000 * (time.perf_counter() - start))
      self.rev = answer['rev']
    spent = processor_s(self.server.process) - before
    print(
      f'{name:22s} n {len(waits):4d}  median {np.median(waits):7.1f} ms  '
      f'p99 {np.percentile(waits, 99):7.1f} ms  processor '
      f'{1000 * spent / len(waits):6.1f} ms each'
    )


def processor_s(process):
  """Seconds of processor time of the server so far."""
  text = pathlib.Path(f'/proc/{process.pid}/stat').read_text()
  fields = text.rpartition(')')[2].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def memory_mb(process, field):
  text = pathlib.Path(f'/proc/{process.pid}/status').read_text()
  (line,) = [one for one in text.splitlines() if one.startswith(field)]
  return int(line.split()[1]) / 1024


def first_picture(server):
  """Seconds from the click on the address to all that is drawn."""
  start = time.perf_counter()
  server.json('/api/session')
  case = server.json('/api/cases/0')
  known = time.perf_counter() - start
  answer = server.ask('/api/cases/0/voxels/swi')
  answer.read(1)
  first = time.perf_counter() - start
  answer.read()
  whole = time.perf_counter() - start
  server.ask('/api/cases/0/labels').read()
  print(
    f'case known {known:.2f} s, first byte {first:.2f} s, all voxels '
    f'{whole:.2f} s, labels too {time.perf_counter() - start:.2f} s; the '
    f'server has used {processor_s(server.process):.2f} s of processor time '
    'since its start'
  )
  return case


def acts(server, case, rng):
  """A reader who does every thing."""
  watch, items = Watch(server, case), case['items']
  x, y, z = case['dim']

  def stroke(item):
    i, j, k = item['ijk']
    around = range(-4, 5)
    return [i + a + x * (j + b + y * k) for a in around for b in around]

  watch.all(
    'verdict',
    [
      {'event': 'verdict', 'item': one['item'], 'value': 'accept', 'ms': 900}
      for one in items
    ],
  )
  watch.all(
    'stroke of 81 voxels',
    [
      {'event': 'edit', 'item': one['item'], 'set': stroke(one)}
      for one in items[::3]
    ],
  )
  watch.all(
    'grow',
    [
      {'event': 'grow', 'item': one['item'], 'ijk': one['ijk']}
      for one in items[::5]
    ],
  )
  watch.all('undo and redo', [{'event': 'undo'}, {'event': 'redo'}] * 40)
  many = rng.choice(x * y * z, 100_000, replace=False).tolist()
  watch.all('stroke of 100,000', [{'event': 'edit', 'item': 1, 'set': many}])
  watch.all('undo of that', [{'event': 'undo'}])


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--shape', type=int, nargs=3, default=(512, 512, 144))
  parser.add_argument('--candidates', type=int, default=300)
  parser.add_argument(
    '--mask', action='store_true', help='labels are 0 and 1, no numbers'
  )
  args = parser.parse_args()
  rng = np.random.default_rng(0)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    image, labels = served.write_scan(
      folder, args.shape, args.candidates, mask=args.mask
    )
    print(f'{image.stat().st_size / 1e6:.0f} MB .nii.gz, {args.shape}')
    start = time.perf_counter()
    with served.running(image, labels, folder / 'r') as server:
      print(f'address printed after {time.perf_counter() - start:.2f} s')
      case = first_picture(server)
      fields = json.dumps(case)
      print(f'{len(case["items"])} items, {len(fields) / 1000:.0f} kB of JSON')
      acts(server, case, rng)
      print(
        f'memory {memory_mb(server.process, "VmRSS"):.0f} MB, most '
        f'{memory_mb(server.process, "VmHWM"):.0f} MB'
      )
      start = time.perf_counter()
    print(f'closed in {time.perf_counter() - start:.2f} s')
  return 0


if __name__ == '__main__':
  sys.exit(main())
