"""Seconds for the metrics and intervals of a large study.

  python benchmarks/evaluation.py                 # 200,000 candidates x 20
  python benchmarks/evaluation.py --replicas=2    # a quick look

Simulated scores of 400 subjects, a fifth of them microbleeds. For every
replica: all metrics of a row with their intervals from 2,000 bootstrap draws
of whole subjects, sensitivity at fixed FP per scan with theirs, and all again
with the jackknife, which the reports use. Aim: 60 s for both on 2 cores.

Beside it: what a notebook does, scikit-learn's AUC and average precision on
each draw, timed on a few draws and scaled up.
"""

import argparse
import json
import pathlib
import time

import numpy as np

from cmbjax import files
from cmbjax.evaluation import froc, metrics
from cmbjax.evaluation.predictions import Predictions, ScanCounts

RESULTS = pathlib.Path(__file__).parent / 'results' / 'evaluation.json'


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--candidates', type=int, default=200_000)
  parser.add_argument('--replicas', type=int, default=20)
  parser.add_argument('--subjects', type=int, default=400)
  parser.add_argument('--draws', type=int, default=2000)
  parser.add_argument('--keep', action='store_true', help=f'write {RESULTS}')
  args = parser.parse_args()
  shared, scans, scores = _study(args)
  found = {'simulated': True, **vars(args)}
  found.pop('keep')
  for method in ('bootstrap', 'jackknife'):
    start, busy = time.perf_counter(), time.process_time()
    for score in scores:
      metrics.evaluate(
        shared._replace(probability=score),
        scans,
        method=method,
        draws=args.draws,
      )
    found[method] = {
      'seconds': round(time.perf_counter() - start, 2),
      'cpu_seconds': round(time.process_time() - busy, 2),
    }
  start, busy = time.perf_counter(), time.process_time()
  for score in scores:
    froc.sensitivities(
      shared._replace(probability=score), scans, draws=args.draws
    )
  found['fixed rates, bootstrap'] = {
    'seconds': round(time.perf_counter() - start, 2),
    'cpu_seconds': round(time.process_time() - busy, 2),
  }
  each = _sklearn_draw(shared._replace(probability=scores[0]))
  found['scikit-learn, scaled'] = {
    'seconds': round(each * args.draws * args.replicas, 1)
  }
  print(json.dumps(found, indent=2))
  if args.keep:
    files.write_json(RESULTS, found)


def _study(args):
  """Candidates of all subjects, their scans, and a score per replica."""
  rng = np.random.default_rng(0)
  names = np.array([f'sub-{i:04d}' for i in range(args.subjects)])
  owner = np.sort(rng.integers(0, args.subjects, args.candidates))
  label = (rng.random(args.candidates) < 0.2).astype(int)
  key = np.char.mod('%07d', np.arange(args.candidates))
  lesion = np.where(label == 1, np.arange(args.candidates) + 1, 0)
  shown = 1.5 * label + rng.normal(0, 0.5, args.subjects)[owner]
  scores = [
    1 / (1 + np.exp(-(shown - 2 + rng.normal(0, 1, args.candidates))))
    for _ in range(args.replicas)
  ]
  cohort = np.full(args.candidates, 'simulated')
  subject = names[owner]
  hits = np.bincount(owner, label, minlength=args.subjects).astype(int)
  return (
    Predictions(key, subject, subject, cohort, label, lesion, scores[0]),
    ScanCounts(names, names, hits + 2, np.full(args.subjects, 2)),
    scores,
  )


def _sklearn_draw(p, draws=3):
  """Seconds per draw of the usual loop over scikit-learn's metrics."""
  from sklearn.metrics import average_precision_score, roc_auc_score

  rows = [np.flatnonzero(p.subject == s) for s in np.unique(p.subject)]
  rng = np.random.default_rng(1)
  start = time.perf_counter()
  for _ in range(draws):
    at = np.concatenate(
      [rows[i] for i in rng.integers(0, len(rows), len(rows))]
    )
    roc_auc_score(p.label[at], p.probability[at])
    average_precision_score(p.label[at], p.probability[at])
  return (time.perf_counter() - start) / draws


if __name__ == '__main__':
  main()
