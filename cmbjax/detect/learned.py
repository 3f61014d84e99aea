"""A finished training to what `cmbjax detect` needs beside its weights.

Rule: everything is measured on training subjects, out of fold; it is stored
in the folder of the weights and travels with them.
"""

import pathlib
import sys

import numpy as np

from cmbjax import sealed
from cmbjax.data.examples import Examples, Scans
from cmbjax.detect import domain
from cmbjax.detect.classifier import POINTS_FILE
from cmbjax.errors import InputError
from cmbjax.evaluation import operating_points, predictions

VERSION = 2  # of the file; 1 had no digest


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
) -> None:
  """Writes operating_points.json; says so where it was not as written.

  Args:
    folder: of the weights.
    fingerprint: of the weights.
    threshold: of the high-sensitivity point.
    mirrored: likelihoods are means over mirror images.
    examples: the n training candidates.
    scans: all training scans, those without candidates too.
    fold_of: [n] fold of each candidate.
    likelihood: [n] out of fold.
  """
  path = folder / POINTS_FILE
  try:
    if path.is_file():
      sealed.read_json(path)
  except InputError as error:
    print(f'note: {error} They are chosen again.', file=sys.stderr)
  chosen = operating_points.choose(
    predictions.of_examples(examples, likelihood),
    predictions.counts_of(scans),
    fold_of=fold_of,
    threshold=threshold,
  )
  sealed.write_json(
    path,
    {
      'version': VERSION,
      'fingerprint': fingerprint,
      'mirrored': mirrored,
      'simulated': bool(scans.simulated.any()),
      'cohorts': sorted(set(scans.cohort.tolist())),
      **chosen,
      'domain': domain.ranges(scans),
    },
  )
