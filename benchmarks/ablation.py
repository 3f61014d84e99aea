"""What makes a network robust to scanners, measured on simulated heads.

  python benchmarks/ablation.py --data FOLDER --out FOLDER
  python benchmarks/ablation.py ... --arms native resampled

One network after the other learns from the same heads (configs/ablation.py)
for the same number of steps: patches on the scan's own grid or resampled in
mm, with or without heads of randomised protocols, further channels beside the
SWI, one augmenter or the other. Each is then judged on fresh heads of seven
protocols, two of which no arm was trained on, every part of which is drawn by
the family that trains nothing (`cmbjax.simulate.families`). The seed of those
heads is one for tuning (9000-9099), because the default weights are chosen by
this table; what they are worth is in benchmarks/results/weights.json, on other
heads. Heads, data sets and finished arms are kept and used again. No scan is of
a person.
"""

import argparse
import dataclasses
import pathlib
import subprocess
import sys

import numpy as np

from cmbjax import files
from cmbjax.data import examples as examples_lib
from cmbjax.detect import classifier
from cmbjax.evaluation import metrics
from cmbjax.evaluation.predictions import Predictions, counts_of, of_examples
from cmbjax.evaluation.predictions import lesions as best_of_lesions
from cmbjax.reconstruct import channels
from cmbjax.simulate import cohort as simulator

RESULTS = pathlib.Path(__file__).parent / 'results' / 'ablation.json'
KNOWN = {'btumor_7t': 30, 'btumor_3t': 20, 'ccm_3t': 10}  # heads to learn from
RANDOMISED = 'randomised'
UNKNOWN = ('clinical_15t', 'isotropic_3t')  # no arm learns from these
TESTS = (*KNOWN, 'btumor_7t_4echo', 'svd_15t', *UNKNOWN)
PLAIN = 'chen2018'  # augmenter
KEPT = 0.95  # share of proposed microbleeds, as the paper keeps at 7T


@dataclasses.dataclass(frozen=True)
class Arm:
  """One way of training."""

  patches: str = 'native'
  randomised: bool = False
  channels: tuple[str, ...] = ('swi',)
  augmenter: str = PLAIN

  @property
  def name(self) -> str:
    """'resampled+randomised+wide+appearance'."""
    words = [self.patches, *([RANDOMISED] if self.randomised else [])]
    last = [self.augmenter] if self.augmenter != PLAIN else []
    return '+'.join([*words, *self.channels[1:], *last])

  @property
  def cohorts(self) -> tuple[str, ...]:
    """What it learns from."""
    return (*KNOWN, RANDOMISED) if self.randomised else tuple(KNOWN)

  @property
  def data_set(self) -> str:
    """The builder's config."""
    return channels.data_set(self.patches, self.channels)


_MEASURED = ((), ('phase',), ('magnitude',), ('phase', 'magnitude'))
_DERIVED = ((), *((name,) for name in channels.DERIVED), channels.DERIVED)
ARMS = {
  arm.name: arm
  for arm in (
    *(
      Arm(patches, randomised, ('swi', *more))
      for more in _MEASURED
      for patches in ('native', 'resampled')
      for randomised in (False, True)
    ),
    *(
      Arm('resampled', True, ('swi', *more), augmenter)
      for more in _DERIVED
      for augmenter in (PLAIN, 'appearance')
    ),
  )
}


def main() -> None:
  """Simulates, trains, judges, prints the table and writes the results."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--arms', nargs='+', choices=ARMS, default=list(ARMS))
  parser.add_argument('--seed', type=int, default=5000, help='of the training')
  parser.add_argument('--test-seed', type=int, default=9050)
  parser.add_argument('--randomised', type=int, default=40, help='heads')
  parser.add_argument('--scans', type=int, default=5, help='of each test')
  parser.add_argument('--families', default='held-out', help='of the tests')
  parser.add_argument('--tests', nargs='+', choices=TESTS, default=list(TESTS))
  parser.add_argument('--slab', type=float, help='mm; default: whole heads')
  parser.add_argument('--steps', type=int, default=1000, help='of each network')
  parser.add_argument('--jobs', type=int)
  parser.add_argument('--results', type=pathlib.Path, default=RESULTS)
  args = parser.parse_args()
  heads = KNOWN | {RANDOMISED: args.randomised}
  learn = {name: _heads(name, n, args.seed, args) for name, n in heads.items()}
  weights = {name: trained(ARMS[name], learn, args) for name in args.arms}
  tests = {
    name: _heads(name, args.scans, args.test_seed, args, args.families)
    for name in args.tests
  }
  rows = []
  for name, folder in weights.items():
    for test, heads_of in tests.items():
      rows.append(judged(ARMS[name], folder, test, heads_of, args.out))
      show(rows[-1])
  files.write_json(
    args.results,
    {
      'simulated': True,
      'seed': args.seed,
      'test_seed': args.test_seed,
      'test_families': args.families,
      'slab_mm': args.slab,
      'heads': heads,
      'steps': args.steps,
      'rows': rows,
    },
  )


def _heads(cohort, count, seed, args, families='') -> pathlib.Path:
  folder = args.data / '_'.join(filter(None, [cohort, str(seed), families]))
  return simulator.simulate(
    cohort,
    subjects=count,
    out=folder,
    seed=seed,
    jobs=args.jobs,
    slab_mm=args.slab,
    families=families,
  )


def trained(arm: Arm, learn: dict[str, pathlib.Path], args) -> pathlib.Path:
  """The folder of an arm's weights; trained once, through the real command."""
  workdir = args.out / arm.name
  models = workdir / 'models' / 'combined'
  if (workdir / 'report.html').is_file():
    return models
  options = {
    'seed': args.seed,
    'patches': arm.patches,
    'channels': repr(arm.channels),
    'train.augmenter': arm.augmenter,
    'study.strategies.combined.learns': repr(arm.cohorts),
    'train.epochs': _epochs(arm, learn, args),
    **{f'cohorts.{name}': learn[name].resolve() for name in arm.cohorts},
  }
  shared = args.out / 'examples'
  shared.mkdir(parents=True, exist_ok=True)
  workdir.mkdir(exist_ok=True)
  if not (workdir / 'examples').exists():
    (workdir / 'examples').symlink_to(shared.resolve())
  words = [f'--config.{key}={value}' for key, value in options.items()]
  subprocess.run(
    [sys.executable, '-m', 'cmbjax.main', '--config=configs/ablation.py',
     f'--workdir={workdir}', *words],
    check=True,
  )  # fmt: skip
  return models


def _epochs(arm: Arm, learn, args) -> int:
  """So many that every arm makes about the same number of steps."""
  count = sum(
    len(load(name, learn[name], arm, args.out)[0].key) for name in arm.cohorts
  )
  per_epoch = count * (FOLDS - 1) / FOLDS / BATCH
  return max(1, round(args.steps / per_epoch))


FOLDS, BATCH = 3, 32  # as configs/ablation.py has them


def load(name: str, folder: pathlib.Path, arm: Arm, out: pathlib.Path):
  """Examples and scans of a cohort, cut as an arm sees them."""
  built = examples_lib.build(
    name, folder, out / 'examples', config=arm.data_set
  )
  return examples_lib.load(built), examples_lib.load_scans(built)


def judged(
  arm: Arm,
  weights: pathlib.Path,
  test: str,
  folder: pathlib.Path,
  out: pathlib.Path,
) -> dict:
  """One row: an arm on the labelled candidates of one protocol."""
  known = classifier.load(weights)
  examples, scans = load(test, folder, arm, out)
  seen = examples_lib.seen(examples)
  predictions = of_examples(examples, known.likelihood(seen).mean(0))
  counts = counts_of(scans)
  how = {'threshold': known.threshold('balanced'), 'method': 'jackknife'}
  found = metrics.evaluate(predictions, counts, **how)
  return {
    'arm': arm.name,
    'patches': arm.patches,
    'randomised': arm.randomised,
    'channels': arm.channels,
    'augmenter': arm.augmenter,
    'protocol': test,
    'trained_on': test not in (*UNKNOWN, 'btumor_7t_4echo'),
    'scans': len(scans.scan),
    'lesions': int(scans.num_lesions.sum()),
    'candidates': len(examples.key),
    'microbleeds': int(examples.label.sum()),
    'removed_at_kept': removed_at(predictions, KEPT),
    'metrics': {name: value._asdict() for name, value in found.items()},
  }


def removed_at(predictions: Predictions, kept: float) -> float:
  """Share of mimics removed where `kept` of the proposed lesions stay.

  The threshold is the best one for these heads, so it compares arms and
  promises nothing.
  """
  _, best = best_of_lesions(predictions)
  threshold = np.sort(best)[::-1][int(np.ceil(kept * len(best))) - 1]
  mimics = predictions.probability[predictions.label == 0]
  return float(np.mean(mimics < threshold))


def show(row: dict) -> None:
  """One line; all numbers are of simulated scans."""
  new = '' if row['trained_on'] else ' (never trained on)'
  parts = []
  for name in ('auc', 'average_precision', 'sensitivity_candidates',
               'fp_removed', 'precision', 'fp_per_scan'):  # fmt: skip
    value = row['metrics'][name]['value']
    parts.append(f'{name} {"-" if value is None else f"{value:.3f}"}')
  print(
    f'{row["arm"]:<38}{row["protocol"]}{new}, {row["scans"]} SIMULATED scans: '
    f'{", ".join(parts)}; {row["removed_at_kept"]:.3f} of mimics removed where '
    f'{KEPT:.0%} of microbleeds stay',
    flush=True,
  )


if __name__ == '__main__':
  main()
