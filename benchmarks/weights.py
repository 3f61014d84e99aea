"""How good the shipped weights are, on fresh simulated heads.

  python benchmarks/weights.py --out FOLDER
  cmbjax weights pack cmbjax/weights --out cmbjax/weights \
      --results benchmarks/results/weights.json     # into the model cards

Whole heads of every protocol are simulated into FOLDER (kept, and used again).
Each goes through `cmbjax detect` and `cmbjax evaluate` with the default
weights (rows of kind 'detect': outlined lesions, matched by touch), and its
candidates, labelled as for training, through all shipped weights (rows of
kind 'candidates': what the networks do). Protocols that no network was trained
on stand beside the others. Intervals: 95 %, jackknife over subjects. Seeds
9000-9099 are for tuning, 9100-9199 for reports: look at them once. No scan is
of a person, and no number says how good the weights are on scans of people.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from cmbjax import files
from cmbjax.data import examples as examples_lib
from cmbjax.detect import classifier, points
from cmbjax.evaluation import calibration, metrics
from cmbjax.evaluation.predictions import counts_of, of_examples
from cmbjax.reconstruct import channels
from cmbjax.simulate import cohort as simulator
from cmbjax.weights import catalogue

RESULTS = pathlib.Path(__file__).parent / 'results' / 'weights.json'
PROTOCOLS = {  # and how many heads of each
  'btumor_7t': 20,
  'btumor_3t': 10,
  'ccm_3t': 10,
  'btumor_7t_4echo': 5,
  'clinical_15t': 5,
  'isotropic_3t': 5,
}
POINTS = ('high_sensitivity', 'balanced', 'high_precision')


def main() -> None:
  """Simulates, detects, scores, prints the table and writes the results."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--seed', type=int, default=9160)
  parser.add_argument('--jobs', type=int, default=1)
  parser.add_argument('--protocols', nargs='+', default=list(PROTOCOLS))
  parser.add_argument('--scans', type=int, help='of each; default: 20, 10 or 5')
  parser.add_argument('--weights', nargs='+', default=list(catalogue.NAMES))
  parser.add_argument('--no-detect', action='store_true')
  parser.add_argument('--results', type=pathlib.Path, default=RESULTS)
  args = parser.parse_args()
  rows = []
  for name in args.protocols:
    folder = args.out / f'{name}_{args.seed}'
    simulator.simulate(
      name, subjects=args.scans or PROTOCOLS[name], out=folder,
      seed=args.seed, jobs=args.jobs,
    )  # fmt: skip
    if not args.no_detect:
      rows += detected(name, folder, args)
    rows += judged(name, folder, args)
  for row in rows:
    show(row)
  files.write_json(
    args.results,
    {
      'simulated': True,
      'seed': args.seed,
      'default': catalogue.DEFAULT,
      'weights': {
        name: files.read_json(catalogue.folder(name) / 'weights.json')[
          'fingerprint'
        ]
        for name in args.weights
      },
      'rows': rows,
    },
  )


def detected(name: str, folder: pathlib.Path, args) -> list[dict]:
  """The default weights through the real command line.

  What is 'definite' in the result is above the point of high precision.
  """
  out = args.out / f'detected_{name}_{args.seed}'
  _command(
    'detect', folder, out, '--no-report', '--no-regions', '--jobs', args.jobs
  )
  rows = []
  for point, only in (
    ('high_sensitivity', ()),
    ('high_precision', ('--only', 'definite')),
  ):
    scores = args.out / f'scores_{name}_{args.seed}_{point}'
    _command('evaluate', out, folder, *only, '--out', scores)
    rows.append(_scored(name, point, scores / 'evaluation.json'))
  return rows


def _scored(name: str, point: str, path: pathlib.Path) -> dict:
  found = json.loads(path.read_text())
  touch = found['rules']['touch']
  names = {'sensitivity': 'sensitivity_lesions'}
  return {
    'kind': 'detect',
    'weights': catalogue.DEFAULT,
    'protocol': name,
    'trained_on': _trained_on(catalogue.DEFAULT, name),
    'point': point,
    'scans': found['scans'],
    'lesions': touch['lesions'],
    'metrics': {names.get(k, k): v for k, v in touch['pooled'].items()},
  }


def _command(*words) -> None:
  done = subprocess.run(
    [sys.executable, '-m', 'cmbjax.cli', *map(str, words)],
    stdout=subprocess.DEVNULL,
    check=False,
  )
  if done.returncode:
    raise SystemExit(f'cmbjax {words[0]} ended with {done.returncode}')


def _trained_on(weights: str, protocol: str) -> bool:
  folder = catalogue.folder(weights)
  known = files.read_json(folder / points.FILE)['cohorts']
  start = files.read_json(folder / 'weights.json').get('start')
  return protocol in known or (start == '7t' and protocol == 'btumor_7t')


def judged(name: str, folder: pathlib.Path, args) -> list[dict]:
  """Every shipped ensemble on the labelled candidates of a cohort."""
  rows = []
  for weights in args.weights:
    known = classifier.load(weights)
    built = examples_lib.build(
      name, folder, args.out / 'examples', jobs=args.jobs,
      config=channels.data_set(known.patches, known.channels),
    )  # fmt: skip
    examples = examples_lib.load(built)
    seen = examples_lib.seen(examples)
    predictions = of_examples(examples, known.likelihood(seen).mean(0))
    counts = counts_of(examples_lib.load_scans(built))
    rows += [
      _row(known, weights, name, predictions, counts, point) for point in POINTS
    ]
  return rows


def _row(known, weights, protocol, predictions, counts, point) -> dict:
  found = metrics.evaluate(
    predictions, counts, threshold=known.threshold(point), method='jackknife'
  )
  sure = predictions._replace(
    probability=known.probability(predictions.probability)
  )
  found |= calibration.scores(sure, method='jackknife')
  return {
    'kind': 'candidates',
    'weights': weights,
    'protocol': protocol,
    'trained_on': _trained_on(weights, protocol),
    'point': point,
    'threshold': known.threshold(point),
    'scans': len(counts.scan),
    'lesions': int(counts.num_lesions.sum()),
    'candidates': len(predictions.key),
    'microbleeds': int(predictions.label.sum()),
    'metrics': {name: value._asdict() for name, value in found.items()},
  }


def show(row: dict) -> None:
  """One line; all numbers are of simulated scans."""
  new = '' if row['trained_on'] else ' (never trained on)'
  text = (
    f'{row["kind"]:<11}{row["weights"]:<10}{row["protocol"]}{new} '
    f'{row["point"]}, {row["scans"]} SIMULATED scans: '
  )
  parts = []
  for name in ('sensitivity_lesions', 'sensitivity_candidates', 'fp_per_scan',
               'fp_removed', 'precision', 'f1', 'auc', 'ece'):  # fmt: skip
    value = row['metrics'].get(name)
    if value is not None and value['value'] is not None:
      parts.append(f'{name} {value["value"]:.3f}')
  print(text + ', '.join(parts), flush=True)


if __name__ == '__main__':
  main()
