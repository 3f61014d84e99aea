"""Which simulated lesions the candidate stage finds, and what it costs.

  python benchmarks/recall.py --seed 9120 --scans 10 --out FOLDER

Whole heads of every cohort are simulated into FOLDER (kept, and used again)
and go through what `cmbjax detect` does: the SWI as it is read, a brain mask
from that SWI alone, candidates, outlines. Which candidate shows which lesion
is decided as for training (`cmbjax.data.tables`): a region grown by one voxel
touches it. Lesions above 10 mm are no microbleeds and stand apart. Intervals:
95 %, jackknife over subjects. Seeds 9000-9099 are for tuning, the others for
reports. No scan is of a person.
"""

import argparse
import collections
import concurrent.futures
import csv
import functools
import multiprocessing
import pathlib
import resource

import numpy as np

from cmbjax import files
from cmbjax.candidates import detector, segmentation, stages
from cmbjax.data import cohort, tables
from cmbjax.evaluation import statistics
from cmbjax.imaging import volume
from cmbjax.progress import Progress
from cmbjax.simulate import cohort as simulator

RESULTS = pathlib.Path(__file__).parent / 'results' / 'recall.json'
SIZES = {  # of the true lesion's diameter in mm
  'below 1.5 mm': (0.0, 1.5),
  '1.5 to 2.5 mm': (1.5, 2.5),
  '2.5 to 4 mm': (2.5, 4.0),
  '4 to 10 mm': (4.0, segmentation.LARGEST_MM),
}
LARGE = (segmentation.LARGEST_MM, np.inf)
OUTSIDE, NEVER = 'outside the brain mask', tables.NEVER_PROPOSED
NOTHING = 'nothing that was put there'


def main() -> None:
  """Simulates, detects, prints the table and writes results/recall.json."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--seed', type=int, default=9120)
  parser.add_argument('--scans', type=int, default=10, help='per cohort')
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--jobs', type=int, default=1)
  parser.add_argument('--generator', default='frst')
  parser.add_argument('--results', type=pathlib.Path, default=RESULTS)
  args = parser.parse_args()
  for name in simulator.COHORTS:
    simulator.simulate(
      name, subjects=args.scans, out=args.out / name, seed=args.seed,
      jobs=args.jobs,
    )  # fmt: skip
  gates = detector.Gates(generator=args.generator)
  found = {
    name: measure(args.out / name, args.scans, gates, args.jobs)
    for name in simulator.COHORTS
  }
  result = {
    'simulated': True,
    'seed': args.seed,
    'scans_per_cohort': args.scans,
    'generator': args.generator,
    'cohorts': {name: summary(scans) for name, scans in found.items()},
  }
  files.write_json(args.results, result)
  for name, one in result['cohorts'].items():
    show(name, one)


def measure(folder, count: int, gates, jobs: int) -> list[dict]:
  """What happened in each of the first `count` scans of a cohort."""
  scans = cohort.read_cohort(folder).scans[:count]
  work = functools.partial(examine, gates=gates)
  context = multiprocessing.get_context('spawn')
  results = []
  with (
    Progress(f'detect {folder.name}', len(scans)) as progress,
    concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool,
  ):
    for scan, result in zip(scans, pool.map(work, scans)):
      results.append(result)
      progress.advance(note=scan.name)
  return results


def examine(scan: cohort.Scan, gates) -> dict:
  """Lesions of one scan with their fate, false candidates by kind."""
  loaded = cohort.load_scan(scan)
  swi, spacing_mm, mask = loaded.swi, loaded.spacing_mm, loaded.mask
  used = _processor_s()
  found = stages.propose(swi, spacing_mm, mask, gates=gates, jobs=1)
  used = _processor_s() - used
  shown = tables.lesion_of(found.centre, found.regions, loaded)
  drawn = segmentation.segment(
    swi, spacing_mm, mask, found.centre[found.kept], gates=gates, jobs=1
  )
  fates = _fates(found, shown, loaded)
  outlines = _outlines(drawn.labels, shown[found.kept], loaded)
  diameter = dict(zip(loaded.truth.lesions.tolist(), loaded.truth.diameter_mm))
  return {
    'scan': scan.name,
    'lesions': [
      {'diameter_mm': float(diameter[n]), 'fate': fate, **outlines.get(n, {})}
      for n, fate in fates.items()
    ],
    'false': collections.Counter(_false_kinds(scan, loaded, found, shown)),
    'rejected': collections.Counter(text for text in found.reason if text),
    'proposed': len(found),
    'kept': int(found.kept.sum()),
    'processor_s': used,
  }


def _processor_s() -> float:
  used = resource.getrusage(resource.RUSAGE_SELF)
  return used.ru_utime + used.ru_stime


def _fates(found, shown, loaded) -> dict[int, str]:
  """'' for a lesion that a kept candidate shows, else where it was lost."""
  labels = loaded.truth.labels
  inside = set(np.unique(labels[loaded.mask]).tolist())
  fates = {}
  for number in loaded.truth.lesions.tolist():
    mine = np.flatnonzero(shown == number)
    if found.kept[mine].any():
      fates[number] = ''
    elif number not in inside:
      fates[number] = OUTSIDE
    else:
      fates[number] = found.reason[mine[0]] if len(mine) else NEVER
  return fates


def _false_kinds(scan, loaded, found, shown) -> list[str]:
  """What each kept candidate without a lesion shows instead."""
  path = scan.truth.path
  mimic = path.with_name(path.name.replace('_seg-cmb_', '_seg-mimic_'))
  labels = volume.load(mimic).array.astype(np.int32)
  table = path.with_name(mimic.name.split('.')[0] + '.tsv')
  with table.open() as handle:
    rows = list(csv.DictReader(handle, delimiter='\t'))
  kind = {int(row['index']): row['type'] for row in rows}
  other = loaded._replace(truth=loaded.truth._replace(labels=labels))
  false = np.flatnonzero(found.kept & (shown == 0))
  regions = [found.regions[i] for i in false]
  index = tables.lesion_of(found.centre[false], regions, other)
  return [kind.get(n, NOTHING) for n in index.tolist()]


def _outlines(labels, shown, loaded) -> dict[int, dict]:
  """Dice, volume ratio and centre error of each lesion that was outlined.

  Of several candidates on one lesion the one with most overlap counts.
  """
  side = np.asarray(loaded.spacing_mm)
  flat = np.flatnonzero((labels > 0) | (loaded.truth.labels > 0))
  place = np.stack(np.unravel_index(flat, labels.shape), 1) * side
  ours = labels.ravel()[flat].astype(int)
  theirs = loaded.truth.labels.ravel()[flat]
  result = {}
  for number in np.unique(shown[shown > 0]).tolist():
    true = theirs == number
    best = max(
      1 + np.flatnonzero(shown == number),
      key=lambda n: int((true & (ours == n)).sum()),
    )
    mine = ours == best
    middle = place[mine].mean(0) - place[true].mean(0)
    result[number] = {
      'dice': float(2 * (mine & true).sum() / (mine.sum() + true.sum())),
      'volume_ratio': float(mine.sum() / true.sum()),
      'centre_mm': float(np.linalg.norm(middle)),
    }
  return result


def summary(scans: list[dict]) -> dict:
  """Recall, losses, costs and outlines of one cohort."""
  groups = {'all to 10 mm': (0.0, LARGE[0]), **SIZES, 'above 10 mm': LARGE}
  false = [sum(scan['false'].values()) for scan in scans]
  ones = np.ones(len(scans))
  return {
    'scans': len(scans),
    'by_size': {
      name: _group(scans, *limits) for name, limits in groups.items()
    },
    'false_per_scan': _ratio(np.array(false, float), ones, 'log'),
    'false_range': [min(false), max(false)],
    'false_kinds_per_scan': _mean([scan['false'] for scan in scans]),
    'rejected_per_scan': _mean([scan['rejected'] for scan in scans]),
    'proposed_per_scan': float(np.mean([s['proposed'] for s in scans])),
    'processor_s': float(np.median([s['processor_s'] for s in scans])),
    'each': [_brief(scan) for scan in scans],
  }


def _brief(scan: dict) -> dict:
  """One scan with its lesions counted, not listed."""
  lost = collections.Counter(one['fate'] for one in scan['lesions'])
  found = lost.pop('', 0)
  return {**scan, 'lesions': len(scan['lesions']), 'found': found, 'lost': lost}


def _group(scans, low: float, high: float) -> dict:
  """Lesions with low < diameter <= high."""
  lesions = [
    [one for one in scan['lesions'] if low < one['diameter_mm'] <= high]
    for scan in scans
  ]
  count = np.array([len(some) for some in lesions], float)
  flat = [one for some in lesions for one in some]

  def recall(lost):
    hits = [sum(one['fate'] not in lost for one in some) for some in lesions]
    return _ratio(np.array(hits, float), count, 'logit')

  fates = collections.Counter(one['fate'] for one in flat if one['fate'])
  return {
    'lesions': len(flat),
    'recall': recall(set(fates)),
    'inside_mask': recall({OUTSIDE}),
    'proposed': recall({OUTSIDE, NEVER}),
    'lost': dict(fates.most_common()),
    'outlined': _quartiles(flat),
  }


def _quartiles(lesions) -> dict:
  """Lower quartile, median and upper quartile of what was outlined."""
  drawn = [one for one in lesions if 'dice' in one]
  result = {'lesions': len(drawn)}
  for name in ('dice', 'volume_ratio', 'centre_mm'):
    values = [one[name] for one in drawn]
    result[name] = (
      np.percentile(values, [25, 50, 75]).tolist() if values else None
    )
  return result


def _ratio(top, bottom, scale: str) -> dict:
  """Sum over sum with its jackknife interval."""
  how = statistics.resampling(len(top))
  left = how.weights @ bottom
  draws = np.divide(
    how.weights @ top, left, out=np.full(len(left), np.nan), where=left > 0
  )
  value = float(top.sum() / bottom.sum()) if bottom.sum() else None
  return statistics.interval(value, draws, how, scale=scale)._asdict()


def _mean(counters) -> dict[str, float]:
  total = sum(counters, collections.Counter())
  return {name: n / len(counters) for name, n in total.most_common()}


def show(name: str, one: dict) -> None:
  """Prints the results of one cohort."""
  print(f'\n{name}: {one["scans"]} SIMULATED scans')
  print(
    f'{"":<15}{"lesions":>8}  {"recall, 95 % interval":<22}{"in mask":>8}'
    f'{"proposed":>9}  {"Dice":>5}{"volume":>8}{"centre":>8}'
  )
  for label, group in one['by_size'].items():
    if group['lesions']:
      print(_line(label, group))
      for why, count in group['lost'].items():
        print(f'{"":<15}{count:>8}  lost: {why}')
  low, high = one['false_range']
  print(
    f'false candidates per scan {_interval(one["false_per_scan"], 0)}, '
    f'from {low} to {high}; {one["proposed_per_scan"]:.0f} looked at; '
    f'{one["processor_s"]:.1f} s processor time'
  )
  for title in ('false_kinds_per_scan', 'rejected_per_scan'):
    parts = [f'{kind} {n:.1f}' for kind, n in one[title].items()]
    print(f'{title.replace("_", " ")}: ' + ', '.join(parts))


def _line(label, group) -> str:
  text = (
    f'{label:<15}{group["lesions"]:>8}  {_interval(group["recall"], 3):<22}'
  )
  text += f'{group["inside_mask"]["value"]:>8.3f}'
  text += f'{group["proposed"]["value"]:>9.3f}'
  drawn = group['outlined']
  if drawn['lesions']:
    dice, ratio, away = (
      drawn[key][1] for key in ('dice', 'volume_ratio', 'centre_mm')
    )
    text += f'  {dice:>5.2f}{ratio:>8.2f}{away:>5.2f} mm'
  return text


def _interval(ratio: dict, digits: int) -> str:
  text = f'{ratio["value"]:.{digits}f}'
  if ratio['low'] is None:
    return text
  return f'{text} ({ratio["low"]:.{digits}f}, {ratio["high"]:.{digits}f})'


if __name__ == '__main__':
  main()
