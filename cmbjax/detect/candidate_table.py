"""All candidates of a scan to the columns of a table.

Rule: a row for each place that was looked at, also those that a gate dropped.
"""

import numpy as np

from cmbjax.candidates import detector
from cmbjax.detect.verdicts import Verdicts
from cmbjax.imaging import volume


def columns(
  proposed: detector.Candidates,
  verdicts: Verdicts,
  owner: list[str],
  image: volume.Volume,
) -> dict[str, np.ndarray]:
  """The table of all candidates, those that a gate dropped too.

  Args:
    proposed: all candidates of the scan.
    verdicts: what was decided on them.
    owner: id of the lesion of each candidate, '' for none.
    image: the SWI, for places.

  Returns:
    Name to [N] array: candidate, x_mm y_mm z_mm (RAS world), i j k (voxel of
    the file), score, kept, reason, category, status, likelihood, spread,
    probability, lesion (id), then every feature of the candidate stage.
  """
  world = image.to_world(proposed.centre).reshape(-1, 3)
  native = image.to_native_index(proposed.centre).reshape(-1, 3)
  table = {'candidate': np.arange(1, len(proposed) + 1)}
  # + 0.0: a table with -0.0 would differ between machines.
  table |= {f'{a}_mm': world[:, n] + 0.0 for n, a in enumerate('xyz')}
  table |= {a: native[:, n] for n, a in enumerate('ijk')}
  return table | {
    'score': proposed.score,
    'kept': proposed.kept,
    'reason': np.array(verdicts.reason, str),
    'category': np.array(proposed.category, str),
    'status': np.array(verdicts.status, str),
    'likelihood': verdicts.likelihood,
    'spread': verdicts.spread,
    'probability': verdicts.probability,
    'lesion': np.array(owner, str),
    **proposed.features,
  }
