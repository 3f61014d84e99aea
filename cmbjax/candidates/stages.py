"""A candidate stage by its name, built in or the user's own, to candidates.

Rule: an own stage says where something is and nothing else; regions, measures
and which of two neighbours stays come from here, so labels and outlines mean
the same whatever stage found the place.

An own stage is any function `(swi, spacing_mm, mask)`, see `propose`, named as
'module:function'. It returns one of

* places [N, 3], voxel indices; the score is then the contrast of each;
* (places [N, 3], scores [N]), larger is better;
* `detector.Candidates`, for example of `detector.propose` with own gates.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cmbjax import files, plugins
from cmbjax.candidates import detector, gate_network, learned
from cmbjax.candidates.detector import Candidates
from cmbjax.candidates.gates import Gates
from cmbjax.errors import InputError, shown

DEFAULT = 'frst'
LEARNED = 'learned'
# By radial symmetry, as published; by small networks.
STAGES = {'frst': detector.propose, LEARNED: learned.propose}
KEY = 'config.candidates'
# What outlines and tables of lesions show of each candidate.
MEASURES = ('volume_mm3', 'diameter_mm', 'feret_mm', 'contrast')


def propose(
  swi: np.ndarray,
  spacing_mm: Sequence[float],
  mask: np.ndarray,
  *,
  gates: Gates | None = None,
  jobs: int | None = None,
) -> Candidates:
  """The candidates of the stage that `gates.generator` names.

  Args:
    swi: [X, Y, Z], 0..1, slice axis last (else RAS order), not projected.
    spacing_mm: voxel sizes along x, y, z; z is the slice axis.
    mask: [X, Y, Z] bool, the brain.
    gates: the parameters; None means the defaults. Of an own stage only those
      of growing and merging count.
    jobs: threads; an own stage gets it where it takes `jobs`.

  Raises:
    InputError: the stage is unknown, or an own one fails, or returns
      something else than the head of this module says.
  """
  gates = gates or Gates()
  stage = find(gates.generator)
  if not plugins.is_plugin(gates.generator):
    return stage(swi, spacing_mm, mask, gates=gates, jobs=jobs)
  name = gates.generator
  try:
    found = stage(
      _locked(swi),
      tuple(float(side) for side in spacing_mm),
      _locked(mask),
      **plugins.accepted(stage, {'jobs': jobs}),
    )
  except (Exception, SystemExit) as error:  # of the user's own code
    kind = type(error).__name__
    raise InputError(
      f'{KEY}: {name} failed ({kind}: {shown(error)}); it has to take '
      '(swi [X, Y, Z], spacing_mm, mask [X, Y, Z]), all read-only.'
    ) from error
  if isinstance(found, Candidates):
    return _checked(found, swi.shape, name)
  place, score = found if isinstance(found, tuple) else (found, None)
  try:
    if len(place) > gates.max_peaks:
      raise ValueError(
        f'{len(place):,} places in one scan, more than {gates.max_peaks:,}'
      )
    return detector.measure(
      swi, spacing_mm, mask, place, score=score, gates=gates, jobs=jobs
    )
  except (ValueError, TypeError) as error:
    raise _wrong(name, str(error)) from error


def find(name: str, *, key: str = KEY) -> Any:
  """The stage of a name.

  Args:
    name: of `STAGES`, or 'module:function'.
    key: of the setting, for the message.

  Raises:
    InputError: there is none, or it cannot be called.
  """
  found = plugins.find(name, key=key, known=STAGES)
  if not callable(found):
    raise InputError(
      f'{key}: {name!r} is a {type(found).__name__}, must be a function '
      '(swi, spacing_mm, mask).'
    )
  return found


def code(name: str) -> str:
  """16 hex digits over the source of an own stage, or over what was learned.

  '' of 'frst', which has no other part than this code.

  Raises:
    InputError: as `find`.
  """
  if name == LEARNED:
    return gate_network.digest()
  text = plugins.source(name, find(name))
  return files.digest(text) if text else ''


def facts(name: str) -> dict[str, str]:
  """What the record of weights says of the stage they learned from.

  Raises:
    InputError: as `find`.
  """
  return {'candidates': name, 'candidates_code': code(name)}


def _locked(array: np.ndarray) -> np.ndarray:
  """The same memory, read-only: patches are cut from it later."""
  view = np.asarray(array).view()
  view.flags.writeable = False
  return view


def _checked(found: Candidates, shape: tuple[int, ...], name: str):
  """Candidates that an own stage made itself.

  Raises:
    InputError: their columns do not belong together.
  """
  count = len(found.score)
  columns = {
    'centre': found.centre,
    'kept': found.kept,
    'reason': found.reason,
    'category': found.category,
    'regions': found.regions,
    **{f'features[{key!r}]': values for key, values in found.features.items()},
  }
  for key, column in columns.items():
    if len(column) != count:
      raise _wrong(name, f'{key} has {len(column)} rows, score has {count}')
  missing = [key for key in MEASURES if key not in found.features]
  if missing:
    raise _wrong(name, f'features lack {missing[0]!r}')
  try:
    centre = detector.voxels(found.centre, shape)
  except (ValueError, TypeError) as error:
    raise _wrong(name, str(error)) from error
  if not np.array_equal(centre, found.centre):
    raise _wrong(name, 'centres are not whole numbers')
  return found


def _wrong(name: str, why: str) -> InputError:
  return InputError(
    f'{KEY}: {name} did not return what a candidate stage returns ({why}); '
    'return places [N, 3] in voxels, or (places, scores [N]).'
  )
