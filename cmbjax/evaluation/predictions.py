"""Likelihoods by key: the only input of every metric, test and figure.

Rule: `key` (subject/scan/candidate) is the join column. Two tables are put
side by side only when their keys, labels and fold hash are equal.
"""

from typing import NamedTuple

import numpy as np

from cmbjax.errors import InputError

ENSEMBLE, OUT_OF_FOLD = 'ensemble', 'out of fold'

_SHOWN = 3  # keys named in an error message


class Predictions(NamedTuple):
  """One likelihood per candidate of one test set.

  Attributes:
    key: [N] str, 'subject/scan/candidate', unique.
    subject: [N] str, the unit of every interval and test.
    scan: [N] str.
    cohort: [N] str.
    label: [N] int, 1 microbleed, 0 mimic.
    lesion: [N] int, truth index within the scan that the candidate hits, 0
      none. Two candidates may hit the same lesion.
    probability: [N] float in 0..1.
  """

  key: np.ndarray
  subject: np.ndarray
  scan: np.ndarray
  cohort: np.ndarray
  label: np.ndarray
  lesion: np.ndarray
  probability: np.ndarray


class ScanCounts(NamedTuple):
  """All scans of a test set, those without candidates too.

  Attributes:
    scan: [M] str, unique.
    subject: [M] str.
    num_lesions: [M] int, all true lesions.
    num_missed: [M] int, those that no candidate reached.
  """

  scan: np.ndarray
  subject: np.ndarray
  num_lesions: np.ndarray
  num_missed: np.ndarray


class TrueLesions(NamedTuple):
  """All true lesions of a test set, also those that no candidate reached.

  Attributes:
    scan: [L] str.
    subject: [L] str.
    lesion: [L] int, as in `Predictions.lesion`.
    diameter_mm: [L] float, NaN where not known.
    region: [L] str, '' where not known.
    why: [L] str, '' where a candidate reached it, else why none did.
  """

  scan: np.ndarray
  subject: np.ndarray
  lesion: np.ndarray
  diameter_mm: np.ndarray
  region: np.ndarray
  why: np.ndarray


class Networks(NamedTuple):
  """What every network says, before any mean is taken.

  Attributes:
    likelihood: [R, N] float32; NaN where the network was trained on the
      candidate.
    fold: [R] int, held out of the training of each network.
    seed: [R] int, of each network.
  """

  likelihood: np.ndarray
  fold: np.ndarray
  seed: np.ndarray


class PredictionTable(NamedTuple):
  """What one strategy says about one test set.

  Attributes:
    strategy: name in the config.
    test: name of the test set.
    predictions: likelihoods, averaged over seeds.
    scans: all scans of the test set.
    by_seed: [S, N] float, one row per training seed.
    fold_hash: of the subject folds; tables with different hashes are never
      compared.
    selection: how fixed choices (epoch, threshold) were made, one sentence.
    simulated: True when the test set is simulated; every title says so.
    kind: `ENSEMBLE` (test subjects, mean of all networks) or `OUT_OF_FOLD`
      (training subjects, each by the networks that never saw it).
    networks: every network alone; None when only the mean is known.
    fold_of: [N] int, fold of each candidate, -1 for test subjects; None when
      not known.
    lesions: all true lesions; None when only their number is known.
    strategy_label: what a reader is shown, '' for the name.
    test_label: what a reader is shown, '' for the name.
  """

  strategy: str
  test: str
  predictions: Predictions
  scans: ScanCounts
  by_seed: np.ndarray
  fold_hash: str = ''
  selection: str = ''
  simulated: bool = False
  kind: str = ENSEMBLE
  networks: Networks | None = None
  fold_of: np.ndarray | None = None
  lesions: TrueLesions | None = None
  strategy_label: str = ''
  test_label: str = ''

  @property
  def label(self) -> str:
    """'7T on 3T_Btumor'."""
    strategy = self.strategy_label or self.strategy
    return f'{strategy} on {self.test_label or self.test}'


def check(predictions: Predictions, scans: ScanCounts | None = None) -> None:
  """Raises InputError unless the table is whole and consistent.

  Raises:
    InputError: unequal lengths, repeated keys, a likelihood outside 0..1, a
      label other than 0 or 1, a microbleed without lesion index, a candidate
      of an unknown scan, or more lesions hit than the scan has.
  """
  lengths = {name: len(v) for name, v in predictions._asdict().items()}
  if len(set(lengths.values())) > 1:
    raise InputError(f'predictions: columns differ in length, {lengths}.')
  unique, count = np.unique(predictions.key, return_counts=True)
  if np.any(count > 1):
    raise InputError(
      f'predictions: {_some(unique[count > 1])} occur more than once; every '
      'candidate needs its own key.'
    )
  _check_values(predictions)
  if scans is not None:
    _check_scans(predictions, scans)


def _check_values(predictions: Predictions) -> None:
  p = np.asarray(predictions.probability, np.float64)
  wrong = ~((p >= 0) & (p <= 1))  # also catches NaN
  if wrong.any():
    raise InputError(
      f'predictions: likelihood {p[wrong][0]} of '
      f'{_some(predictions.key[wrong])} is not in 0..1.'
    )
  wrong = ~np.isin(predictions.label, (0, 1))
  if wrong.any():
    raise InputError(
      f'predictions: label {predictions.label[wrong][0]} of '
      f'{_some(predictions.key[wrong])} is neither 0 (mimic) nor 1 (cmb).'
    )
  wrong = (predictions.label == 1) & (predictions.lesion <= 0)
  if wrong.any():
    raise InputError(
      f'predictions: {_some(predictions.key[wrong])} are microbleeds without '
      'the index of their lesion; lesion must be 1 or more.'
    )


def _check_scans(predictions: Predictions, scans: ScanCounts) -> None:
  if len(np.unique(scans.scan)) < len(scans.scan):
    raise InputError('scans: a scan name occurs more than once.')
  unknown = ~np.isin(predictions.scan, scans.scan)
  if unknown.any():
    raise InputError(
      f'predictions: scans {_some(np.unique(predictions.scan[unknown]))} are '
      'not in the list of scans of this test set.'
    )
  wrong = scans.subject[places_of(predictions.scan, scans)]
  wrong = wrong != predictions.subject
  if wrong.any():
    raise InputError(
      f'predictions: {_some(predictions.key[wrong])} belong to another '
      'subject than their scan.'
    )
  lesion_scan, _ = lesions(predictions)
  found = np.zeros(len(scans.scan), int)
  np.add.at(found, places_of(lesion_scan, scans), 1)
  wrong = found + scans.num_missed > scans.num_lesions
  if wrong.any():
    i = int(np.flatnonzero(wrong)[0])
    raise InputError(
      f'scans: {scans.scan[i]} has {scans.num_lesions[i]} lesions, but '
      f'{found[i]} are hit by candidates and {scans.num_missed[i]} missed.'
    )


def of_examples(examples, likelihood: np.ndarray) -> Predictions:
  """Likelihoods [N] of N labelled candidates (`data.examples.Examples`)."""
  return Predictions(
    key=examples.key,
    subject=examples.subject,
    scan=examples.scan,
    cohort=examples.cohort,
    label=examples.label.astype(int),
    lesion=examples.lesion.astype(int),
    probability=likelihood,
  )


def counts_of(scans) -> ScanCounts:
  """What metrics need of all scans (`data.examples.Scans`)."""
  return ScanCounts(
    scan=scans.scan,
    subject=scans.subject,
    num_lesions=scans.num_lesions.astype(int),
    num_missed=scans.num_missed.astype(int),
  )


def places_of(names: np.ndarray, scans: ScanCounts) -> np.ndarray:
  """Row of each scan of `names` in `scans`, all of which must be there."""
  order = np.argsort(scans.scan)
  if not len(names):
    return np.empty(0, int)
  return order[np.searchsorted(scans.scan[order], names)]


def lesions(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
  """Distinct lesions hit by candidates: scan [L] and likelihood [L].

  The likelihood of a lesion is the largest of its candidates.
  """
  hit = np.flatnonzero(predictions.label == 1)
  if not len(hit):
    return np.empty(0, np.asarray(predictions.scan).dtype), np.empty(0)
  name, scan = np.unique(predictions.scan[hit], return_inverse=True)
  pair = np.stack([scan, predictions.lesion[hit]], 1)
  pair, which = np.unique(pair, axis=0, return_inverse=True)
  best = np.zeros(len(pair))  # no likelihood is below
  np.maximum.at(best, which.ravel(), predictions.probability[hit])
  return name[pair[:, 0]], best


def align(first: Predictions, second: Predictions) -> Predictions:
  """`second` in the order of `first`.

  Raises:
    InputError: when keys, labels, subjects or lesions differ.
  """
  a, b = np.argsort(first.key), np.argsort(second.key)
  if len(a) != len(b) or np.any(first.key[a] != second.key[b]):
    odd = np.setxor1d(first.key, second.key)
    raise InputError(
      f'predictions: {len(odd)} keys are in only one of the two tables '
      f'({_some(odd)}); compare runs on the same candidates.'
    )
  order = np.empty_like(b)
  order[a] = b
  second = select(second, order)
  for name in ('label', 'subject', 'scan', 'lesion'):
    wrong = getattr(first, name) != getattr(second, name)
    if np.any(wrong):
      raise InputError(
        f'predictions: {name} of {_some(first.key[wrong])} differs between '
        'the two tables; compare runs on the same truth.'
      )
  return second


def same_test(first: PredictionTable, second: PredictionTable) -> None:
  """Raises InputError unless both tables judge the same scans and folds."""
  for name in ('test', 'kind'):
    one, other = getattr(first, name), getattr(second, name)
    if one != other:
      raise InputError(
        f"{name}: {first.strategy} has '{one}', {second.strategy} has "
        f"'{other}'; compare strategies on one test set."
      )
  if first.fold_hash != second.fold_hash:
    raise InputError(
      f'folds: {first.strategy} on {first.test} was made with folds '
      f"'{first.fold_hash}', {second.strategy} with '{second.fold_hash}'; "
      'only runs with equal folds can be compared.'
    )
  a, b = (np.argsort(one.scans.scan) for one in (first, second))
  for name in ScanCounts._fields:
    one, other = getattr(first.scans, name)[a], getattr(second.scans, name)[b]
    if not np.array_equal(one, other):
      raise InputError(
        f'scans: {name} differs between {first.strategy} and '
        f'{second.strategy} on {first.test}; compare runs on the same scans.'
      )


def select(predictions: Predictions, index: np.ndarray) -> Predictions:
  """Rows of the table by mask or index."""
  return Predictions(*(np.asarray(column)[index] for column in predictions))


def ensemble(probability: np.ndarray) -> np.ndarray:
  """Mean likelihood of the fold models, [K, N] -> [N].

  Likelihoods are averaged, not logits and not decisions (method of the
  paper: Chen 2019, ISMRM #0671).
  """
  return np.mean(np.asarray(probability, np.float64), axis=0)


def by_seed(networks: Networks) -> np.ndarray:
  """Mean likelihood of the networks of each seed, [S, N].

  NaN is left out, so that this is the ensemble on test subjects and the
  out-of-fold likelihood on training subjects. The mean over seeds is
  `ensemble` of the result.

  Raises:
    InputError: a candidate that no network of a seed may judge.
  """
  seeds = dict.fromkeys(np.asarray(networks.seed).tolist())
  rows = []
  for seed in seeds:
    mine = np.asarray(networks.likelihood, np.float64)[networks.seed == seed]
    known = np.isfinite(mine)
    if not known.any(0).all():
      where = int(np.flatnonzero(~known.any(0))[0])
      raise InputError(
        f'folds: candidate {where} of seed {seed} was in the training of all '
        f'{len(mine)} networks, so none may judge it; hold out every fold.'
      )
    # Not nanmean, which warns and allows a candidate without any.
    rows.append(np.where(known, mine, 0).sum(0) / known.sum(0))
  return np.stack(rows)


def lesion_likelihood(
  predictions: Predictions, lesions: TrueLesions
) -> np.ndarray:
  """Largest likelihood of each true lesion's candidates, [L]; NaN for none."""
  hit = np.flatnonzero(predictions.label == 1)
  best: dict[tuple[str, int], float] = {}
  for i in hit:
    place = str(predictions.scan[i]), int(predictions.lesion[i])
    value = float(predictions.probability[i])
    best[place] = max(best.get(place, value), value)
  pairs = zip(lesions.scan.tolist(), lesions.lesion.tolist())
  return np.array([best.get((s, int(n)), np.nan) for s, n in pairs], float)


def _some(keys) -> str:
  keys = [str(k) for k in keys]
  more = f' and {len(keys) - _SHOWN} more' if len(keys) > _SHOWN else ''
  return ', '.join(keys[:_SHOWN]) + more
