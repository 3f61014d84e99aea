"""kill -9 of a review server between and during random actions.

  python benchmarks/review_kills.py [--kills 100]

A reader acts at random over HTTP; the server is killed at a random moment;
everything that was answered must be in the journal, and nothing else but the
one action on its way. Takes about two seconds per kill, with --forked one:
then the servers start from a process that has imported everything already.
"""

import argparse
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import review_kills, review_server  # noqa: E402


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=100)
  parser.add_argument('--seed', type=int, default=1)
  parser.add_argument('--forked', action='store_true')
  args = parser.parse_args()
  kind = review_server.Forked if args.forked else review_server.Server
  start = time.monotonic()

  def tell(number, count):
    if number % 10 == 0:
      print(f'{number} kills, {count.acknowledged} answered', flush=True)

  with tempfile.TemporaryDirectory() as folder:
    count = review_kills.run(
      pathlib.Path(folder),
      kills=args.kills,
      seed=args.seed,
      kind=kind,
      tell=tell,
    )
  print(
    f'{count.kills} kills in {time.monotonic() - start:.0f} s: '
    f'{count.acknowledged} actions answered, 0 lost; {count.unanswered} on '
    f'their way, of which {count.kept} had reached the disk; '
    f'{count.half_lines} half-written lines.'
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())
