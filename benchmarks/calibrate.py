"""What `cmbjax calibrate` gains on a protocol that the weights do not know.

  python benchmarks/calibrate.py --out FOLDER --subjects 40 --slab-mm 48

Slabs of protocols that no network was trained on are simulated into FOLDER
(kept, and used again), and their labelled candidates are judged by the
default weights. The truth takes the place of a reader, who sees what `detect`
shows: candidates above its threshold. Of all subjects 3, 5, 10 and 20 are
drawn as the reviewed ones, many times; operating points and calibration are
chosen on them as the command does, and scored on all other subjects. Seeds
9000-9099 are for tuning. No scan is of a person.

Columns: the share of the lesions above the floor that 'possible' keeps (asked
for: --keep) and its false positives per scan; precision and sensitivity of
'definite'; the calibration error (ECE) and the Brier score of the
probability. 'before' are the points of the weights. Means over the draws,
with the 5th and the 95th percentile.
"""

import argparse
import pathlib

import numpy as np

from cmbjax import files
from cmbjax.data import examples as examples_lib
from cmbjax.detect import classifier, points
from cmbjax.evaluation import (
  calibration,
  metrics,
  operating_points,
  site_points,
)
from cmbjax.evaluation import predictions as tables
from cmbjax.evaluation.predictions import ScanCounts, counts_of, of_examples
from cmbjax.reconstruct import channels
from cmbjax.simulate import cohort as simulator
from cmbjax.weights import catalogue

RESULTS = pathlib.Path(__file__).parent / 'results' / 'calibrate.json'
PROTOCOLS = ('clinical_15t',)
REVIEWED = (3, 5, 10, 20)
NAMES = {
  'kept': 'lesions kept',
  'fp': 'FP per scan',
  'definite_precision': 'precision, definite',
  'definite_sensitivity': 'sensitivity, definite',
  'ece': 'ECE',
  'brier': 'Brier',
}


def main() -> None:
  """Simulates, judges, draws, prints and writes results/calibrate.json."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--seed', type=int, default=9080)
  parser.add_argument('--subjects', type=int, default=40, help='per protocol')
  parser.add_argument('--slab-mm', type=float, help='default: whole heads')
  parser.add_argument('--draws', type=int, default=100)
  parser.add_argument('--keep', type=float, default=0.9)
  parser.add_argument('--jobs', type=int, default=1)
  parser.add_argument('--protocols', nargs='+', default=list(PROTOCOLS))
  parser.add_argument('--results', type=pathlib.Path, default=RESULTS)
  args = parser.parse_args()
  known = classifier.load(catalogue.DEFAULT)
  shipped = points.stored(catalogue.folder(catalogue.DEFAULT))
  rows = []
  for name in args.protocols:
    found = judged(name, known, args)
    for reviewed in REVIEWED:
      row = drawn(
        *found, shipped, reviewed=reviewed, draws=args.draws, keep=args.keep
      )
      rows.append({'protocol': name, 'reviewed': reviewed, **row})
      show(rows[-1])
  files.write_json(
    args.results,
    {
      'simulated': True,
      'seed': args.seed,
      'subjects': args.subjects,
      'slab_mm': args.slab_mm,
      'weights': catalogue.DEFAULT,
      'fingerprint': shipped['fingerprint'],
      'draws': args.draws,
      'keep': args.keep,
      'rows': rows,
    },
  )


def judged(name: str, known, args):
  """Likelihoods of the labelled candidates of a cohort, and its scans."""
  folder = args.out / f'{name}_{args.seed}'
  simulator.simulate(
    name, subjects=args.subjects, out=folder, seed=args.seed,
    slab_mm=args.slab_mm, jobs=args.jobs,
  )  # fmt: skip
  built = examples_lib.build(
    name, folder, args.out / 'examples', jobs=args.jobs,
    config=channels.data_set(known.patches, known.channels),
  )  # fmt: skip
  examples = examples_lib.load(built)
  likelihood = known.likelihood(examples_lib.seen(examples)).mean(0)
  scans = counts_of(examples_lib.load_scans(built))
  return of_examples(examples, likelihood), scans


def drawn(predictions, scans, shipped, *, reviewed, draws, keep) -> dict:
  """Scores of the other subjects over draws of reviewed ones."""
  known = {name: one['threshold'] for name, one in shipped['points'].items()}
  floor = known['high_sensitivity']
  shown = tables.select(predictions, predictions.probability > floor)
  subjects = np.unique(scans.subject)
  rng = np.random.default_rng(reviewed)
  before, after = [], []
  for _ in range(draws):
    mine = rng.choice(subjects, reviewed, replace=False)
    inside = part_of(shown, scans, np.isin(subjects, mine), subjects)
    other = part_of(shown, scans, ~np.isin(subjects, mine), subjects)
    if len(set(inside[0].label.tolist())) < 2:
      continue  # nothing to fit; the command refuses it too
    at, how = site_points.refit(
      inside[0], shipped, site_points.folds(*inside), floor=floor, keep=keep
    )
    before.append(scored(*other, known, shipped['calibration']))
    after.append(scored(*other, at, how))
  return {
    'draws': len(after),
    'before': summary(before),
    'after': summary(after),
  }


def part_of(predictions, scans, is_in, subjects):
  """The candidates and scans of some subjects."""
  names = subjects[is_in]
  rows = np.isin(predictions.subject, names)
  kept = np.isin(scans.subject, names)
  return (
    tables.select(predictions, rows),
    ScanCounts(*(column[kept] for column in scans)),
  )


def scored(predictions, scans, at, how) -> dict[str, float]:
  """What points and a calibration are worth on scans that chose neither."""
  low, high = (
    metrics.clusters(predictions, scans, threshold=at[point])
    for point in ('high_sensitivity', 'high_precision')
  )
  probability = operating_points.calibrated(predictions.probability, how)
  found, false = high.hit.sum(), high.false_positives.sum()
  return {
    'kept': float(low.hit.sum() / low.found.sum()),
    'fp': float(low.false_positives.sum() / low.scans.sum()),
    'definite_precision': float(found / max(found + false, 1)),
    'definite_sensitivity': float(found / high.lesions.sum()),
    'ece': calibration.ece(probability, predictions.label),
    'brier': calibration.brier(probability, predictions.label),
  }


def summary(rows: list[dict]) -> dict[str, list[float]]:
  """Mean, 5th and 95th percentile of each number."""
  found = {}
  for name in NAMES:
    values = [row[name] for row in rows]
    found[name] = [
      float(np.mean(values)),
      *map(float, np.percentile(values, (5, 95))),
    ]
  return found


def show(row: dict) -> None:
  """Two lines; all numbers are of simulated scans."""
  print(f'{row["protocol"]}, {row["reviewed"]} reviewed (SIMULATED)')
  for when in ('before', 'after'):
    cells = [
      f'{head} {mean:.3f} ({low:.3f} to {high:.3f})'
      for (mean, low, high), head in zip(row[when].values(), NAMES.values())
    ]
    print(f'  {when:<7}' + ', '.join(cells), flush=True)


if __name__ == '__main__':
  main()
