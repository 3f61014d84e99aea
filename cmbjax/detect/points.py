"""operating_points.json: what `cmbjax detect` needs beside weights.

Rule: everything is measured on subjects whose networks did not see them; it
is stored in the folder of the weights and travels with them.
"""

import os
import pathlib
import sys
from typing import Any

import numpy as np

from cmbjax import doors, sealed
from cmbjax.data.examples import Examples, Scans
from cmbjax.detect import domain
from cmbjax.errors import InputError
from cmbjax.evaluation import operating_points, predictions

FILE = 'operating_points.json'
VERSION = 2  # of the file
PAPER_THRESHOLD = 0.1  # Chen et al., ISMRM 2019 #0671
DEFINITE = 0.5  # where nothing was measured out of fold


def store(
  folder: pathlib.Path,
  *,
  fingerprint: str,
  threshold: float,
  mirrored: bool,
  examples: Examples,
  scans: Scans,
  fold_of: np.ndarray,
  likelihood: np.ndarray,
  learned: tuple[Examples, Scans] | None = None,
  where: str = operating_points.OUT_OF_FOLD,
) -> None:
  """Writes operating_points.json; says so where it was not as written.

  Args:
    folder: of the weights.
    fingerprint: of the weights.
    threshold: of the high-sensitivity point.
    mirrored: likelihoods are means over mirror images.
    examples: n candidates of subjects that the networks did not see.
    scans: all scans of these subjects, those without candidates too.
    fold_of: [n] fold of each candidate; folds are apart by subject.
    likelihood: [n].
    learned: what the networks learned from, where that is something else.
    where: on what the points are chosen, for their rules.
  """
  path = folder / FILE
  try:  # they are written again all the same; a change is worth a word
    if doors.is_there(path):
      sealed.read_json(path)
  except InputError as error:
    print(f'note: {error} They are chosen again.', file=sys.stderr)
  chosen = operating_points.choose(
    predictions.of_examples(examples, likelihood),
    predictions.counts_of(scans),
    fold_of=fold_of,
    threshold=threshold,
    where=where,
  )
  taught, of = (examples, scans) if learned is None else learned
  if learned is not None:
    chosen['established'] = established(examples, scans, fold_of, likelihood)
  sealed.write_json(
    path,
    {
      'version': VERSION,
      'fingerprint': fingerprint,
      'mirrored': mirrored,
      'simulated': bool(of.simulated.any()),
      'cohorts': sorted(set(of.cohort.tolist())),
      **chosen,
      'learned': operating_points.counts(taught.label, of),
      'domain': domain.ranges(of),
    },
  )


def established(
  examples: Examples,
  scans: Scans,
  fold_of: np.ndarray,
  likelihood: np.ndarray,
) -> list[dict[str, Any]]:
  """How often "definite" is right, for each field of scans no network saw.

  Args:
    examples: n candidates.
    scans: all scans that they are of.
    fold_of: [n] fold of each candidate; folds are apart by subject.
    likelihood: [n].

  Returns:
    For each field with findings enough: field_t and spacing_mm, each [lowest,
    highest], scans, and precision, cross-fitted.
  """
  known = np.isfinite(scans.field_t)
  field = np.where(known, scans.field_t.round(1), -1.0)
  right = operating_points.precision_by(
    predictions.of_examples(examples, likelihood),
    predictions.counts_of(scans),
    fold_of=fold_of,
    group=field,
  )
  out = []
  for value in sorted(right):
    mine = known & (field == value)
    if mine.any():
      sides = scans.spacing_mm[mine]
      out.append({
        'field_t': [float(value)] * 2,
        'spacing_mm': np.stack([sides.min(0), sides.max(0)], 1).tolist(),
        'scans': int(mine.sum()),
        'precision': right[value],
      })  # fmt: skip
  return out


def stored(folder: str | os.PathLike) -> dict[str, Any] | None:
  """What `store` wrote to a folder of weights; None: nothing.

  Raises:
    InputError: it is not what a study wrote.
  """
  path = pathlib.Path(folder) / FILE
  return sealed.read_json(path) if doors.is_there(path) else None


def read(folder: pathlib.Path, record: dict[str, Any]) -> dict[str, Any]:
  """points, calibration, domain, mirrored, and site and established where they
  are there; the paper's rule without a file.

  Each of `established` is a kind of scan that no network saw, as the function
  of that name makes it.

  Raises:
    InputError: as `stored`, or it is of other weights, or packed weights lack
      it.
  """
  from cmbjax.training import checkpoint  # late: needs JAX

  found = stored(folder)
  if found is None and record.get('precision') == checkpoint.HALF:
    raise InputError(f'{folder}: {FILE} is missing; copy the folder again.')
  if found is not None:
    # Its digest has the name alone: a copy from another folder fits it.
    if found.get('fingerprint') != record['fingerprint']:
      raise InputError(
        f'{folder / FILE}: was made for other weights; copy the folder again, '
        'or run the study to its end again.'
      )
    known = {key: found[key] for key in ('points', 'calibration', 'domain')}
    if 'site' in found:  # else a fingerprint would change
      known['site'] = found['site']
    if 'established' in found:
      known['established'] = found['established']
    # The first bundled networks were trained before there was a choice.
    return known | {'mirrored': found.get('mirrored', False)}
  rule = 'threshold of the weights; nothing was measured out of fold'
  low = float(record.get('threshold', PAPER_THRESHOLD))
  return {
    'points': {
      'high_sensitivity': {'threshold': low, 'rule': rule},
      'high_precision': {'threshold': max(low, DEFINITE), 'rule': rule},
    },
    'calibration': {'kind': 'none'},
    'domain': {},
    'mirrored': False,
  }
