"""How well weights find microbleeds on scans of generators they never saw.

  python benchmarks/carry_over.py --out FOLDER --weights robust old/robust
  python benchmarks/carry_over.py --out FOLDER --families classic

Whole simulated heads of every protocol, each part drawn by the family that
trains nothing (`cmbjax.simulate.families`), go through `cmbjax detect` with
each of the weights, and its table of candidates is held against the truth: a
candidate shows the lesion that has a voxel within 2 mm of its centre.
Sensitivity is of all lesions, false positives are per whole head. Two
protocols were trained on by nothing either. Intervals: 95 %, over subjects.
Seeds 9000-9099 are for tuning, 9100-9199 for reports: look at them once. No
scan is of a person.
"""

import argparse
import pathlib
import subprocess
import sys
from typing import NamedTuple

import numpy as np
from scipy import spatial

from cmbjax import delimited, files
from cmbjax.detect import classifier
from cmbjax.evaluation import calibration, froc, metrics, statistics
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from cmbjax.imaging import volume
from cmbjax.simulate import cohort as simulator

RESULTS = pathlib.Path(__file__).parent / 'results' / 'carry_over.json'
PROTOCOLS = (
  *('btumor_7t', 'btumor_3t', 'ccm_3t', 'svd_15t'),
  *('clinical_15t', 'isotropic_3t'),  # never trained on
)
RATES = (1.0, 2.0, 5.0, 10.0)  # false positives per head
REACH_MM = 2.0
POSSIBLE, DEFINITE = 'possible', 'definite'
SAME = 'same as a better one'


class Head(NamedTuple):
  """Candidates of one scan, and which true lesion each shows."""

  name: str
  num_lesions: int
  kept: np.ndarray  # [N] bool, by the gates
  lesion: np.ndarray  # [N] int, 0: none
  likelihood: np.ndarray  # [N], NaN where no network saw it
  probability: np.ndarray  # [N], calibrated
  status: np.ndarray  # [N] str
  double: np.ndarray  # [N] bool, of one that is there


def main() -> None:
  """Simulates, detects, scores, prints the table and writes the results."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--seed', type=int, default=9000)
  parser.add_argument('--scans', type=int, default=10, help='per protocol')
  parser.add_argument('--jobs', type=int)
  parser.add_argument('--families', default='held-out')
  parser.add_argument('--protocols', nargs='+', default=list(PROTOCOLS))
  parser.add_argument('--weights', nargs='+', default=['robust'])
  parser.add_argument('--results', type=pathlib.Path, default=RESULTS)
  args = parser.parse_args()
  rows = []
  for protocol in args.protocols:
    folder = args.out / f'{protocol}_{args.families}_{args.seed}'
    simulator.simulate(
      protocol, subjects=args.scans, out=folder, seed=args.seed,
      families=args.families, jobs=args.jobs,
    )  # fmt: skip
    for weights in args.weights:
      found = args.out / f'{pathlib.Path(weights).name}_{folder.name}'
      detect(folder, found, weights, args.jobs)
      heads = [read(folder, found, n) for n in labels(folder)[: args.scans]]
      rows.append(
        {'weights': weights, 'protocol': protocol, 'families': args.families}
        | score(heads)
      )
      show(rows[-1])
  about = {'simulated': True, 'seed': args.seed, 'scans': args.scans}
  about['fingerprints'] = {
    w: classifier.load(w).fingerprint for w in args.weights
  }
  files.write_json(args.results, about | {'rows': rows})


def labels(folder: pathlib.Path) -> list[str]:
  return sorted(path.name for path in folder.glob('sub-*'))


def detect(folder, found, weights, jobs) -> None:
  """`cmbjax detect`; what is there already is kept."""
  words = ['detect', folder, found, '--weights', weights]
  words += ['--write-candidates', '--no-report', '--no-regions']
  words += ['--jobs', jobs] if jobs else []
  done = subprocess.run(
    [sys.executable, '-m', 'cmbjax.cli', *map(str, words)],
    stdout=subprocess.DEVNULL,
    check=False,
  )
  if done.returncode:
    raise SystemExit(f'cmbjax detect ended with {done.returncode}')


def read(folder: pathlib.Path, found: pathlib.Path, name: str) -> Head:
  """One scan: its table of candidates beside the truth."""
  (path,) = found.rglob(f'{name}_desc-candidates.tsv')
  rows = delimited.read(path).dicts()
  place = np.array([[float(r[f'{a}_mm']) for a in 'xyz'] for r in rows])
  truth = folder / 'derivatives' / 'truth' / name / 'anat' / name
  lesions = volume.load(f'{truth}_seg-cmb_dseg.nii.gz')
  voxel = np.argwhere(lesions.array > 0)
  number = lesions.array[tuple(voxel.T)].astype(int)
  shown = np.zeros(len(rows), int)
  if len(voxel) and len(rows):
    tree = spatial.cKDTree(lesions.to_world(voxel))
    away, nearest = tree.query(place, distance_upper_bound=REACH_MM)
    shown = np.where(np.isfinite(away), np.append(number, 0)[nearest], 0)

  def column(key):
    return np.array([r[key] for r in rows])

  def numbers(key):
    return np.array([float(r[key] or 'nan') for r in rows])

  return Head(
    name,
    len(np.unique(number)),
    column('kept') == 'true',
    shown,
    numbers('likelihood'),
    numbers('probability'),
    column('status'),
    column('reason') == SAME,
  )


def score(heads: list[Head]) -> dict:
  """All numbers of some heads, each with its interval."""
  predictions, counts = tables(heads)
  how = {'method': 'jackknife'}
  size = statistics.resampling(len(heads), **how)
  total = np.array([head.num_lesions for head in heads], float)

  def share(chosen):
    hits = [len(set(h.lesion[chosen(h)].tolist()) - {0}) for h in heads]
    return statistics.ratio_interval(
      np.array(hits, float), total, size, proportion=True, empty='no lesions'
    )

  def false(chosen):
    wrong = [float(np.sum(chosen(h) & (h.lesion == 0))) for h in heads]
    return statistics.ratio_interval(
      np.array(wrong), np.ones(len(heads)), size, proportion=False, empty=''
    )

  def right(chosen):
    found = [np.sum(chosen(h)) for h in heads]
    true = [np.sum(chosen(h) & (h.lesion > 0)) for h in heads]
    return statistics.ratio_interval(
      np.array(true, float), np.array(found, float), size, proportion=True,
      empty='none found',
    )  # fmt: skip

  stages = {
    'proposed': lambda h: np.ones(len(h.kept), bool),
    'kept': lambda h: h.kept,
    'found': lambda h: (h.status == DEFINITE) | (h.status == POSSIBLE),
    'definite': lambda h: h.status == DEFINITE,
  }
  out = {f'{name}_recall': share(one) for name, one in stages.items()}
  out |= {f'{name}_false': false(one) for name, one in stages.items()}
  out['definite_precision'] = right(stages['definite'])
  out['auc'] = metrics.evaluate(predictions, counts, **how)['auc']
  sure = np.concatenate([h.probability[chosen_of(h)] for h in heads])
  out['ece'] = calibration.scores(
    predictions._replace(probability=sure), **how
  )['ece']
  at = froc.sensitivities(predictions, counts, rates=RATES)
  out |= {f'sensitivity_at_{rate:g}': one for rate, one in at.items()}
  return {
    'heads': len(heads),
    'lesions': int(total.sum()),
    'metrics': {name: one._asdict() for name, one in out.items()},
  }


def chosen_of(head: Head) -> np.ndarray:
  """Candidates that networks saw, each dark spot once: bool [N]."""
  return head.kept & np.isfinite(head.likelihood) & ~head.double


def tables(heads: list[Head]) -> tuple[Predictions, ScanCounts]:
  """As the metrics of a study take them."""
  parts = []
  for head in heads:
    chosen = np.flatnonzero(chosen_of(head))
    parts += [
      (f'{head.name}/{n}', head.name, head.lesion[n], head.likelihood[n])
      for n in chosen.tolist()
    ]
  key, scan, lesion, likelihood = map(np.array, zip(*parts))
  names = np.array([head.name for head in heads])
  met = [len(set(h.lesion[chosen_of(h)].tolist()) - {0}) for h in heads]
  total = np.array([head.num_lesions for head in heads])
  return (
    Predictions(
      key, scan, scan, np.full(len(key), ''), (lesion > 0).astype(int),
      lesion.astype(int), likelihood.astype(float),
    ),
    ScanCounts(names, names, total, total - np.array(met)),
  )  # fmt: skip


def show(row: dict) -> None:
  """One line; all numbers are of simulated scans."""
  names = [
    'kept_recall', 'kept_false', 'found_recall', 'found_false',
    'definite_recall', 'definite_false', 'definite_precision', 'auc', 'ece',
    *(f'sensitivity_at_{rate:g}' for rate in RATES),
  ]  # fmt: skip
  text = (
    f'{row["weights"]} on {row["protocol"]} ({row["families"]}), '
    f'{row["heads"]} SIMULATED heads, {row["lesions"]} lesions: '
  )
  parts = []
  for name in names:
    one = row['metrics'][name]
    if one['value'] is not None:
      parts.append(f'{name} {one["value"]:.3f}')
  print(text + ', '.join(parts), flush=True)


if __name__ == '__main__':
  main()
