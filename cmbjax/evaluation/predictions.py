"""Likelihoods by key: the only input of every metric, test and figure.

Rule: `key` (subject/scan/candidate) is the join column. Two tables are put
side by side only when their keys, labels and fold hash are equal.
"""

import json
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cmbjax import files
from cmbjax.errors import InputError

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


class Table(NamedTuple):
  """What one strategy says about one test set.

  Attributes:
    strategy: for example 'finetune'.
    test: name of the test set, for example 'btumor_3t'.
    predictions: likelihoods, averaged over seeds.
    scans: all scans of the test set.
    by_seed: [S, N] float, one row per training seed.
    fold_hash: of the subject folds; tables with different hashes are never
      compared.
    selection: how fixed choices (epoch, threshold) were made, one sentence.
    simulated: True when the test set is simulated; every title says so.
  """

  strategy: str
  test: str
  predictions: Predictions
  scans: ScanCounts
  by_seed: np.ndarray
  fold_hash: str = ''
  selection: str = ''
  simulated: bool = False


_HEAD = ('strategy', 'test', 'fold_hash', 'selection', 'simulated')


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
  names, first = np.unique(scans.scan, return_index=True)
  if len(names) < len(scans.scan):
    raise InputError('scans: a scan name occurs more than once.')
  unknown = ~np.isin(predictions.scan, names)
  if unknown.any():
    raise InputError(
      f'predictions: scans {_some(np.unique(predictions.scan[unknown]))} are '
      'not in the list of scans of this test set.'
    )
  if len(predictions.scan):
    at = first[np.searchsorted(names, predictions.scan)]
    wrong = scans.subject[at] != predictions.subject
    if wrong.any():
      raise InputError(
        f'predictions: {_some(predictions.key[wrong])} belong to another '
        'subject than their scan.'
      )
  lesion_scan, _ = lesions(predictions)
  found = np.zeros(len(scans.scan), int)
  if len(lesion_scan):
    np.add.at(found, first[np.searchsorted(names, lesion_scan)], 1)
  wrong = found + scans.num_missed > scans.num_lesions
  if wrong.any():
    i = int(np.flatnonzero(wrong)[0])
    raise InputError(
      f'scans: {scans.scan[i]} has {scans.num_lesions[i]} lesions, but '
      f'{found[i]} are hit by candidates and {scans.num_missed[i]} missed.'
    )


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
  best = np.zeros(len(pair))
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


def same_folds(first: Table, second: Table) -> None:
  """Raises InputError when the two tables come from different folds."""
  if first.fold_hash != second.fold_hash:
    raise InputError(
      f'folds: {first.strategy} on {first.test} was made with folds '
      f"'{first.fold_hash}', {second.strategy} with '{second.fold_hash}'; "
      'only runs with equal folds can be compared.'
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


def out_of_fold(probability: np.ndarray, fold_of: np.ndarray) -> np.ndarray:
  """Likelihood from the one model that never saw the subject.

  Args:
    probability: [K, N], every fold model on every candidate.
    fold_of: [N] int, the fold in which the candidate was held out.

  Returns:
    [N] likelihoods.
  """
  fold_of = np.asarray(fold_of)
  num_folds = len(probability)
  if np.any((fold_of < 0) | (fold_of >= num_folds)):
    raise InputError(
      f'folds: every candidate needs a fold in 0..{num_folds - 1}, found '
      f'{fold_of.min()}..{fold_of.max()}.'
    )
  return np.asarray(probability, np.float64)[fold_of, np.arange(len(fold_of))]


def write(path: str | os.PathLike, tables: Sequence[Table]) -> None:
  """Writes tables as one compressed .npz without pickled objects."""
  arrays, heads = {}, []
  for i, table in enumerate(tables):
    check(table.predictions, table.scans)
    heads.append({name: getattr(table, name) for name in _HEAD})
    for part in (table.predictions, table.scans):
      for name, column in part._asdict().items():
        arrays[f'{i}/{type(part).__name__}/{name}'] = _plain(column)
    arrays[f'{i}/by_seed'] = np.asarray(table.by_seed, np.float64)
  arrays['tables'] = np.frombuffer(json.dumps(heads).encode(), np.uint8)
  with files.whole(path) as temporary, temporary.open('wb') as handle:
    np.savez_compressed(handle, **arrays)


def read(path: str | os.PathLike) -> list[Table]:
  """Reads what `write` wrote.

  Args:
    path: the .npz file, or a folder that holds `predictions.npz`.

  Raises:
    InputError: when it is missing or was not written by `write`.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    path = path / 'predictions.npz'
  if not path.is_file():
    raise InputError(f'{path}: not found; give the folder of a finished run.')
  try:
    # np.load(path) would leave the file open when it is cut short.
    with path.open('rb') as handle, np.load(handle) as arrays:
      heads = json.loads(arrays['tables'].tobytes())
      return [_table(i, head, arrays) for i, head in enumerate(heads)]
  except (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    zipfile.BadZipFile,
  ) as error:
    raise InputError(
      f'{path}: is not a prediction file of cmbjax ({error}).'
    ) from error


def _table(i: int, head: dict, arrays) -> Table:
  def part(kind):
    return kind(
      *(arrays[f'{i}/{kind.__name__}/{name}'] for name in kind._fields)
    )

  return Table(
    predictions=part(Predictions),
    scans=part(ScanCounts),
    by_seed=arrays[f'{i}/by_seed'],
    **head,
  )


def _plain(column) -> np.ndarray:
  """Strings as fixed-width unicode, so that nothing is pickled."""
  column = np.asarray(column)
  return column.astype(str) if column.dtype.kind in 'OSU' else column


def _some(keys) -> str:
  keys = [str(k) for k in keys]
  more = f' and {len(keys) - _SHOWN} more' if len(keys) > _SHOWN else ''
  return ', '.join(keys[:_SHOWN]) + more
