"""SIGKILL at random moments of a training; resumed, it must end the same.

  python benchmarks/kills.py --kills=20

Rule: one flipped bit in the final weights is a failure (exit code 1). It also
sends one SIGTERM, and tells how long the program took to save and end.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--epochs', type=int, default=120)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  rng = np.random.default_rng(args.seed)
  with tempfile.TemporaryDirectory() as parent:
    folder = pathlib.Path(parent)
    whole, _ = begin(folder / 'whole', args.epochs).communicate()
    for number in range(args.kills):
      process = begin(folder / 'killed', args.epochs)
      before = lines(folder / 'killed')
      # At any time from Python's start to some epochs of training.
      if rng.random() < 0.8:
        wait(process, folder / 'killed', before + int(rng.integers(1, 4)))
        time.sleep(rng.uniform(0, 0.2))
      else:
        time.sleep(rng.uniform(0, 4))
      process.send_signal(signal.SIGKILL)
      process.communicate()
      killed = process.returncode == -signal.SIGKILL
      print(
        f'kill {number + 1}: after {lines(folder / "killed")} of '
        f'{args.epochs} epochs{"" if killed else " (had ended)"}',
        flush=True,
      )
    process = begin(folder / 'killed', args.epochs)
    wait(process, folder / 'killed', lines(folder / 'killed') + 2)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    took = time.monotonic() - asked
    print(f'SIGTERM: exit code {process.returncode} after {took:.2f} s')
    resumed, _ = begin(folder / 'killed', args.epochs).communicate()
  same = bool(whole) and whole == resumed
  print('bitwise equal' if same else f'DIFFERENT: {whole!r} and {resumed!r}')
  return 0 if same and process.returncode == 0 else 1


def begin(folder: pathlib.Path, epochs: int) -> subprocess.Popen:
  """tests/killed.py, which trains four small networks."""
  return subprocess.Popen(
    [
      sys.executable,
      str(ROOT / 'tests' / 'killed.py'),
      str(folder),
      str(epochs),
    ],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )


def lines(folder: pathlib.Path) -> int:
  """Epochs in the log."""
  path = folder / 'epochs.jsonl'
  return len(path.read_text().splitlines()) if path.exists() else 0


def wait(process: subprocess.Popen, folder: pathlib.Path, count: int) -> None:
  """Until so many epochs are logged, or it has ended."""
  while process.poll() is None and lines(folder) < count:
    time.sleep(0.002)


if __name__ == '__main__':
  sys.exit(main())
