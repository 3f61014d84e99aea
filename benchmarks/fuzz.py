"""Thousands of spoilt files for every reader: how many end in a traceback.

  python benchmarks/fuzz.py --inputs 10000
  python benchmarks/fuzz.py --inputs 10000 --readers images 'data set'

Each reader runs in a process of its own whose memory is limited. Exits with 1
when a reader crashed, hung, or took more memory than it may.
"""

import argparse
import collections
import multiprocessing
import pathlib
import random
import resource
import sys
import tempfile
import time
import zlib

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests import spoilt_readers  # noqa: E402

MOST_GB = 3.0  # beyond what the reader takes for good files
_SHOWN = 3  # crashes of one reader
_HEADS = (
  'inputs', 'read', 'refused', 'crashes', 'slowest_s', 'memory_gb', 'seconds'
)  # fmt: skip


def main() -> int:
  """Runs all readers; returns the exit code."""
  args = _parser().parse_args()
  parts = {one.name: 1 / one.slow for one in spoilt_readers.READERS}
  counts = {
    name: -int(-args.inputs * part // sum(parts.values()))
    for name, part in parts.items()
  }
  rows = []
  print(f'{"":<22}' + ''.join(f'{head:>11}' for head in _HEADS))
  for name in args.readers or [n for n in parts if n not in _missing()]:
    row = run(name, counts[name], args.seed)
    rows.append(row)
    cells = ''.join(f'{row[head]:>11}' for head in _HEADS)
    print(f'{name:<22}{cells}', flush=True)
    for crash in row['examples']:
      print(crash, file=sys.stderr, flush=True)
    if args.out:  # at once: what was done stays when this is cut short
      _write(args, rows)
  total = _total(rows)
  print(f'{"all":<22}' + ''.join(f'{v:>11}' for v in total.values()))
  return 1 if total['crashes'] else 0


def _total(rows) -> dict:
  return {head: sum(row[head] for row in rows) for head in _HEADS[:4]}


def run(name: str, count: int, seed: int) -> dict:
  """One reader in a process of its own; what came of its inputs."""
  context = multiprocessing.get_context('spawn')
  ours, theirs = context.Pipe()
  process = context.Process(target=_work, args=(theirs, name, count, seed))
  process.start()
  theirs.close()
  try:
    row = ours.recv()
  except EOFError:  # killed, or out of memory
    process.join()
    row = dict.fromkeys(_HEADS, 0) | {'crashes': 1, 'how': {}}
    row['examples'] = [f'{name}: the process ended with {process.exitcode}']
  process.join()
  return {'reader': name, **row}


def _work(pipe, name, count, seed) -> None:
  rng = random.Random(zlib.crc32(f'{seed}/{name}'.encode()))
  reader = spoilt_readers.by_name(name)
  how, said, crashes = collections.Counter(), 0, []
  slowest = 0.0
  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    # What is imported and compiled by good files is no fault of a bad one.
    list(spoilt_readers.attempts(reader, home / 'first', rng, 0))
    before = _peak_gb()
    limit = int((_virtual_gb() + MOST_GB) * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for one in spoilt_readers.attempts(reader, home / 'then', rng, count):
      how[one.how] += 1
      slowest = max(slowest, one.seconds)
      said += bool(one.said and not one.crash)
      if one.crash:
        where = f'{name}: {one.path.name} ({one.how})'
        crashes.append(f'{where}\n{one.crash}')
  pipe.send(
    {
      'inputs': count,
      'read': count - said - len(crashes),
      'refused': said,
      'crashes': len(crashes),
      'slowest_s': round(slowest, 2),
      'memory_gb': round(_peak_gb() - before, 2),
      'seconds': round(time.process_time(), 1),
      'how': dict(how.most_common()),
      'examples': _different(crashes)[:_SHOWN],
    }
  )


def _different(crashes: list[str]) -> list[str]:
  """One for each last two lines of a traceback, the commonest first."""
  groups = collections.defaultdict(list)
  for text in crashes:
    lines = [line for line in text.splitlines() if 'File "' in line]
    groups[lines[-1] if lines else text[-200:]].append(text)
  ordered = sorted(groups.values(), key=len, reverse=True)
  return [f'{len(some)} x {some[0]}' for some in ordered]


def _missing() -> set[str]:
  """Readers whose package is not installed."""
  try:
    import pydicom  # noqa: F401
  except ImportError:
    return {'DICOM'}
  return set()


def _peak_gb() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _virtual_gb() -> float:
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  return pages * resource.getpagesize() / 1e9


def _write(args, rows) -> None:
  """These readers; what other readers the file has stay in it."""
  from cmbjax import files

  path = pathlib.Path(args.out)
  known = files.read_json(path)['readers'] if path.is_file() else []
  found = {row['reader']: row for row in (*known, *rows)}
  order = [one.name for one in spoilt_readers.READERS if one.name in found]
  rows = [
    {key: value for key, value in found[name].items() if key != 'examples'}
    for name in order
  ]
  files.write_json(
    path,
    {
      'command': f'python benchmarks/fuzz.py --inputs {args.inputs} '
      f'--seed {args.seed}',
      'seconds': round(sum(row['seconds'] for row in rows)),
      'memory_limit_gb': MOST_GB,
      'total': _total(rows),
      'readers': rows,
    },
  )


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  add = parser.add_argument
  add(
    '--inputs',
    type=int,
    default=10_000,
    help='of all readers together, also those left out',
  )
  add('--readers', nargs='*', help='default: all')
  add('--seed', type=int, default=0)
  add('--out', help='also write JSON; other readers in it stay')
  return parser


if __name__ == '__main__':
  sys.exit(main())
