"""An SWI and its brain mask to candidates, by a gate that was learned.

All dark places, the best of them grown, and small networks instead of gates of
shape and a score made by hand. Rule: what the networks drop stays in the table
with its reason; which networks they are is in one file.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cmbjax.candidates import (
  dark_spots,
  detector,
  gate_network,
  growing,
  surroundings,
)
from cmbjax.candidates.background import brain_box, flatten
from cmbjax.candidates.detector import Candidates
from cmbjax.candidates.gates import Gates

PER_LITRE = 1200.0  # places that are grown, of the brain
MOST = 2000  # of any scan
LOW = 'low score'
# Of a grown region, and (with 'core_' before) of its core.
_SIZES = (
  'volume_mm3', 'diameter_mm', 'area_mm2', 'feret_mm', 'extent_mm',
  'elongation',
)  # fmt: skip
_SHAPES = (
  'flatness', 'eccentricity', 'circularity', 'solidity', 'centroid_shift_mm',
  'touches_sphere',
)  # fmt: skip
_OTHERS = (
  'contrast', 'darkest', 'background', 'edge_mm', 'blobness', 'roundness',
)  # fmt: skip
_FAINT = 0.02  # keeps a logarithm from growing without end


class Places(NamedTuple):
  """Dark places of one scan, in the box round its brain."""

  image: np.ndarray  # [X, Y, Z] flattened
  mask: np.ndarray  # [X, Y, Z] bool
  start: np.ndarray  # [3] voxel of the scan where the box begins
  spacing_mm: tuple[float, float, float]
  place: np.ndarray  # [N, 3] voxels of the box
  features: dict[str, np.ndarray]  # [N] each


def propose(
  swi: np.ndarray,
  spacing_mm: Sequence[float],
  mask: np.ndarray,
  *,
  gates: Gates | None = None,
  jobs: int | None = None,
) -> Candidates:
  """Finds candidates; see `detector.propose`, which it can replace.

  Args:
    swi: [X, Y, Z], 0..1, not projected.
    spacing_mm: voxel sizes along x, y, z; z is the slice axis.
    mask: [X, Y, Z] bool, the brain; may be empty.
    gates: of growing and merging; None means the defaults.
    jobs: threads; the result does not depend on it.

  Raises:
    ValueError: shapes differ.
    InputError: the file of the gate is damaged.
  """
  gates = gates or Gates()
  network = gate_network.load()
  places = find(swi, spacing_mm, mask, gates=gates, jobs=jobs)
  chosen = best(places, network)
  features, regions = grow(places, chosen, gates=gates, jobs=jobs)
  known = inputs(places, chosen, features, network)
  features['response'] = known['response']
  features['score'] = network.score(known)
  passed = features['score'] > network.threshold
  return detector.table(
    regions,
    features,
    reason=np.where(passed, '', LOW).tolist(),
    gates=gates,
    spacing_mm=places.spacing_mm,
    start=places.start,
  )


def find(
  swi: np.ndarray,
  spacing_mm: Sequence[float],
  mask: np.ndarray,
  *,
  gates: Gates,
  jobs: int | None = None,
) -> Places:
  """All dark places of a scan and their surroundings.

  Args:
    swi: [X, Y, Z], 0..1, not projected.
    spacing_mm: voxel sizes.
    mask: [X, Y, Z] bool, the brain; may be empty.
    gates: of the background.
    jobs: threads.

  Raises:
    ValueError: shapes differ.
  """
  detector.check_grid(swi, mask)
  sides = tuple(float(side) for side in spacing_mm)
  box = brain_box(mask, sides, gates)
  if box is None:
    mask, box = np.zeros((1, 1, 1), bool), (slice(0, 1),) * 3
  brain = np.asarray(mask[box], bool)
  image = flatten(np.asarray(swi[box], np.float32), sides, brain, gates=gates)
  spots = dark_spots.find(image, sides, brain, jobs=jobs)
  features = surroundings.describe(image, brain, spots.place, sides, jobs=jobs)
  features['response'] = spots.response
  for scale_mm, dark in zip(dark_spots.SCALES_MM, spots.darkness.T):
    features[f'dark {scale_mm:g}'] = dark
  start = np.array([part.start for part in box])
  return Places(image, brain, start, sides, spots.place, features)


def best(places: Places, network: gate_network.GateNetwork) -> np.ndarray:
  """Indices of the places that are worth growing, best first."""
  score = network.loose_score(places.features)
  litres = places.mask.sum() * np.prod(places.spacing_mm) / 1e6
  count = min(MOST, int(np.ceil(PER_LITRE * litres)))
  return np.argsort(-score, kind='stable')[:count]


def grow(
  places: Places, chosen: np.ndarray, *, gates: Gates, jobs: int | None = None
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
  """Shapes and regions at some places, as `detector.grown` gives them.

  Args:
    places: of a scan.
    chosen: [N] indices.
    gates: of growing.
    jobs: threads.
  """
  seed = growing.darkest_near(
    places.image,
    places.place[chosen],
    places.spacing_mm,
    reach_mm=gates.seed_mm,
  )
  return detector.grown(
    places.image,
    places.mask,
    seed=seed,
    spacing_mm=places.spacing_mm,
    gates=gates,
    jobs=jobs,
  )


def inputs(
  places: Places,
  chosen: np.ndarray,
  features: dict[str, np.ndarray],
  network: gate_network.GateNetwork,
) -> dict[str, np.ndarray]:
  """What the networks see of N grown places: name to [N].

  Args:
    places: of a scan.
    chosen: [N] indices of them.
    features: as `grow` gives them.
    network: with the linear step, whose score is one of them.
  """
  known = {name: values[chosen] for name, values in places.features.items()}
  known['loose score'] = network.loose_score(known)
  for name in _SIZES:
    for of in (name, f'core_{name}'):
      known[of] = np.log(features[of] + _FAINT)
  known['crowding'] = np.log(features['crowding'] + _FAINT)
  for name in _SHAPES:
    for of in (name, f'core_{name}'):
      known[of] = features[of]
  return known | {name: features[name] for name in _OTHERS}
