"""How long it takes to find the scans among many names.

  python benchmarks/intake.py --scans 25000

Folders of empty images, four names to a scan, are made in a temporary place:
one flat folder, and one BIDS data set of a tenth as many subjects. Names and
JSON files are read, no voxels. Processor time, because the time that a disk
takes is not ours.
"""

import argparse
import pathlib
import resource
import tempfile
import time

from cmbjax import files
from cmbjax.intake import scans

RESULTS = pathlib.Path(__file__).parent / 'results' / 'intake.json'
FLAT = 'case{0:06d}_{1}'
BIDS = 'sub-{0:06d}/anat/sub-{0:06d}_{1}'
IMAGES = {FLAT: ('swi', 'mag', 'phase')}
IMAGES[BIDS] = ('swi', 'part-mag_swi', 'part-phase_swi')


def main() -> None:
  """Makes both folders, finds their scans, writes results/intake.json."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--scans', type=int, default=25_000)
  count = parser.parse_args().scans
  rows = {}
  for name, pattern, scans_of in (
    ('flat', FLAT, count),
    ('bids', BIDS, count // 10),
  ):
    with tempfile.TemporaryDirectory() as folder:
      make(pathlib.Path(folder), pattern, scans_of)
      rows[name] = measured(pathlib.Path(folder), scans_of)
    print(name, rows[name])
  files.write_json(RESULTS, rows)


def make(folder: pathlib.Path, pattern: str, count: int) -> None:
  """Empty images and a JSON for each SWI."""
  for number in range(count):
    for image in IMAGES[pattern]:
      path = folder / f'{pattern.format(number, image)}.nii.gz'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.touch()
    path = folder / f'{pattern.format(number, "swi")}.json'
    path.write_text('{"EchoTime": 0.02}')


def measured(folder: pathlib.Path, count: int) -> dict[str, float]:
  """Seconds of the processor and megabytes at most, so far."""
  start = time.process_time()
  found = scans.find(folder)
  seconds = time.process_time() - start
  assert len(found.scans) == count
  most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  return {
    'names': 4 * count,
    'seconds': round(seconds, 2),
    'megabytes': round(most),
  }


if __name__ == '__main__':
  main()
