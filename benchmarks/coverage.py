"""Do the intervals cover, and does the paired test keep its level?

  python benchmarks/coverage.py                # 1,000 repeats, about 10 minutes
  python benchmarks/coverage.py --repeats=100  # a quick look

Scores are simulated with effects of the subject on the level of all its
candidates, on how visible its lesions are and on how many mimics it has, so
that the candidates of one subject are far from independent. The truth is the
value for infinitely many subjects, from 40,000 of them.

Expected from the jackknife, which all reports use: 93-98 %. The percentile
bootstrap is shown beside it: it covers too little below 30 subjects. Only the
sensitivity at 4 FP per scan, whose threshold is a quantile, is by bootstrap
in the reports too: there the jackknife fails. The paired permutation test
gives p <= 0.05 in 4-6 % when both models are equally good (less where few
permutations or many ties make it coarse, as with FP per scan).
"""

import argparse
import math
import pathlib

import numpy as np

from cmbjax import files
from cmbjax.evaluation import froc, metrics, permutation
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from cmbjax.progress import Progress

SIZES = (6, 12, 16, 30, 60)
METHODS = ('jackknife', 'bootstrap')
METRICS = ('auc', 'average_precision', 'sensitivity_lesions')
METRICS += ('sensitivity_candidates', 'precision', 'fp_per_scan')
RATE = 4.0  # FP per scan of 'sensitivity_at_4', always by bootstrap
THRESHOLD = 0.1
RESULTS = pathlib.Path(__file__).parent / 'results' / 'coverage.json'


def simulate(
  num_subjects: int, seed: list[int]
) -> tuple[Predictions, ScanCounts, np.ndarray]:
  """A test set, its scans, and a second, equally good likelihood [N]."""
  rng = np.random.default_rng(seed)
  lesions = 1 + rng.poisson(rng.gamma(2.0, 4.0, num_subjects))
  missed = rng.binomial(lesions, 0.12)
  mimics = rng.poisson(rng.gamma(4.0, 8.0, num_subjects))
  count = lesions - missed + mimics
  owner = np.repeat(np.arange(num_subjects), count)
  place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
  label = (place < (lesions - missed)[owner]).astype(int)
  level = rng.normal(0, 0.6, num_subjects)[owner]
  visible = rng.normal(2.2, 0.5, num_subjects)[owner]
  common = level + visible * label - 3.0 + rng.normal(0, 0.8, len(owner))
  # Two models that share what the patch shows and err on their own, per
  # subject and per candidate: exchangeable within a subject.
  own = rng.normal(0, 0.3, (2, num_subjects))[:, owner] * label
  own = own + rng.normal(0, 0.6, (2, len(owner)))
  first, second = 1 / (1 + np.exp(-(common + own)))
  names = np.array([f'sub-{i:05d}' for i in range(num_subjects)])
  subject = names[owner]
  key = np.char.add(subject, np.char.mod('/%05d', place))
  lesion = np.where(label == 1, place + 1, 0)
  cohort = np.full(len(owner), 'simulated')
  return (
    Predictions(key, subject, subject, cohort, label, lesion, first),
    ScanCounts(names, names, lesions, missed),
    second,
  )


def truth(num_subjects: int = 40_000) -> dict[str, float]:
  """The metrics of a population of subjects."""
  p, scans, _ = simulate(num_subjects, [7])
  sums = metrics.clusters(p, scans, threshold=THRESHOLD)
  found = {
    name: float(top.sum() / bottom.sum())
    for name, (top, bottom) in metrics.ratios(sums).items()
  }
  found['auc'] = metrics.auc(p.probability, p.label)
  found['average_precision'] = metrics.average_precision(p.probability, p.label)
  at_rate = metrics.sensitivity_at(metrics.froc(p, scans), (RATE,))
  found['sensitivity_at_4'] = at_rate[RATE]
  return found


def names_of(method: str) -> tuple[str, ...]:
  """Metrics with an interval by this method."""
  return METRICS + ('sensitivity_at_4',) * (method == 'bootstrap')


def coverage(
  num_subjects: int, target: dict, *, method: str, repeats: int
) -> dict:
  """Share of repeats whose interval holds the truth, below and above."""
  names = names_of(method)
  inside = {name: np.zeros(3, int) for name in names}
  label = f'coverage of the {method}, {num_subjects} subjects'
  with Progress(label, repeats) as progress:
    for repeat in range(repeats):
      p, scans, _ = simulate(num_subjects, [1, num_subjects, repeat])
      found = metrics.evaluate(
        p, scans, threshold=THRESHOLD, method=method, seed=repeat
      )
      if 'sensitivity_at_4' in names:
        at_rate = froc.sensitivities(p, scans, rates=(RATE,), seed=repeat)
        found['sensitivity_at_4'] = at_rate[RATE]
      for name in names:
        interval, value = found[name], target[name]
        if interval.low is not None:
          side = 1 + (interval.low > value) - (interval.high < value)
          inside[name][side] += 1
      progress.advance()
  return {
    name: {
      'coverage': float(n[1] / n.sum()),
      'interval_below': float(n[0] / n.sum()),
      'interval_above': float(n[2] / n.sum()),
      'undefined': repeats - int(n.sum()),
    }
    for name, n in inside.items()
  }


def type_one(num_subjects: int, *, repeats: int, level: float = 0.05) -> dict:
  """Share of p <= level when the two models are equally good."""
  small = np.zeros(2, int)
  with Progress(f'type I error, {num_subjects} subjects', repeats) as progress:
    for repeat in range(repeats):
      p, scans, second = simulate(num_subjects, [2, num_subjects, repeat])
      at = np.searchsorted(scans.subject, p.subject)
      swap = permutation.swap_contributions(
        p.probability, second, p.label, at, num_subjects
      )
      fp = [(s > THRESHOLD) & (p.label == 0) for s in (p.probability, second)]
      gap = np.bincount(at, fp[0].astype(float) - fp[1], minlength=num_subjects)
      for k, contribution in enumerate((swap, gap)):
        p_value = permutation.sign_flip(
          contribution, draws=1999, seed=repeat, estimated=k == 0
        )
        small[k] += p_value <= level
      progress.advance()
  auc, fp_per_scan = (small / repeats).tolist()
  return {'auc': auc, 'fp_per_scan': fp_per_scan}


def main() -> None:
  """Runs everything, prints a table and writes results/coverage.json."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--repeats', type=int, default=1000)
  parser.add_argument('--out', type=pathlib.Path, default=RESULTS)
  arguments = parser.parse_args()
  repeats = arguments.repeats
  target = truth()
  result = {
    'repeats': repeats,
    'monte_carlo_error': math.sqrt(0.95 * 0.05 / repeats),
    'truth': {name: target[name] for name in names_of('bootstrap')},
    'coverage': {
      method: {
        str(n): coverage(n, target, method=method, repeats=repeats)
        for n in SIZES
      }
      for method in METHODS
    },
    'type_one': {str(n): type_one(n, repeats=repeats) for n in SIZES},
  }
  files.write_json(arguments.out, result)
  for method in METHODS:
    found = result['coverage'][method]
    print(f'{method}: % of 95 % intervals that cover, {repeats} repeats')
    print(f'{"subjects":>24}' + ''.join(f'{n:>8}' for n in SIZES))
    for name in names_of(method):
      shares = [found[str(n)][name]['coverage'] for n in SIZES]
      print(f'{name:<24}' + ''.join(f'{100 * s:>8.1f}' for s in shares))
  print('Type I error of the paired permutation test at 5 %')
  for name in ('auc', 'fp_per_scan'):
    shares = [result['type_one'][str(n)][name] for n in SIZES]
    print(f'{name:<24}' + ''.join(f'{100 * s:>8.1f}' for s in shares))


if __name__ == '__main__':
  main()
