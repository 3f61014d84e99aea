"""An SWI and its brain mask to candidate microbleeds.

Chain of Bian et al., Neuroimage Clin 2, 2013, on single slices as in Morrison
et al., 2018: radial symmetry, peaks, growing, shape gates. Rule: nothing is
thrown away; what a gate rejects stays in the table with its reason.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cmbjax.candidates import blobness, growing, peaks, radial_symmetry
from cmbjax.candidates.background import brain_box, flatten
from cmbjax.candidates.gates import Gates, judge, score

__all__ = ['Candidates', 'Gates', 'flatten', 'measure', 'propose']

SINGLE, TRAVELLING, HARD = 'single slice', 'travelling', 'hard'
OUTSIDE = 'outside the brain'
_GROUP = 512  # seeds that are measured at once


@dataclasses.dataclass(frozen=True)
class Candidates:
  """N candidates of one scan, best score first.

  Attributes:
    centre: [N, 3] int32, voxel nearest the middle of the region's core.
    score: [N] float32, see `gates.score`.
    kept: [N] bool.
    reason: N texts, '' where kept.
    features: name to [N] float32; sizes in mm.
    category: N of 'single slice', 'travelling' (drifts from slice to slice,
      as an oblique vessel does), 'hard' (a microbleed or a hard mimic).
    regions: N int32 [n, 3] voxel indices.
  """

  centre: np.ndarray
  score: np.ndarray
  kept: np.ndarray
  reason: list[str]
  features: dict[str, np.ndarray]
  category: list[str]
  regions: list[np.ndarray]

  def __len__(self) -> int:
    return len(self.score)


def propose(
  swi: np.ndarray,
  spacing_mm: Sequence[float],
  mask: np.ndarray,
  *,
  gates: Gates | None = None,
  jobs: int | None = None,
) -> Candidates:
  """Finds candidates.

  Args:
    swi: [X, Y, Z], 0..1, not projected.
    spacing_mm: voxel sizes along x, y, z; z is the slice axis.
    mask: [X, Y, Z] bool, the brain; may be empty.
    gates: the parameters; None means the defaults.
    jobs: threads; the result does not depend on it.

  Returns:
    Candidates, best first; the same for the same input, always.

  Raises:
    ValueError: shapes differ.
  """
  gates = gates or Gates()
  check_grid(swi, mask)
  spacing_mm = tuple(float(side) for side in spacing_mm)
  box = brain_box(mask, spacing_mm, gates)
  if box is None:
    mask, box = np.zeros((1, 1, 1), bool), (slice(0, 1),) * 3
  image = np.asarray(swi[box], np.float32)
  brain = np.asarray(mask[box], bool)
  image = flatten(image, spacing_mm, brain, gates=gates)
  peak, strength = _find(image, spacing_mm, brain, gates, jobs)
  seed = growing.darkest_near(image, peak, spacing_mm, reach_mm=gates.seed_mm)
  seed, strength = _once(seed, strength)
  features, regions = grown(
    image, brain, seed=seed, spacing_mm=spacing_mm, gates=gates, jobs=jobs
  )
  features['response'] = strength.astype(np.float32)
  features['score'] = score(features, spacing_mm)
  return table(
    regions,
    features,
    reason=judge(features, gates),
    gates=gates,
    spacing_mm=spacing_mm,
    start=np.array([part.start for part in box]),
  )


def measure(
  swi: np.ndarray,
  spacing_mm: Sequence[float],
  mask: np.ndarray,
  place: np.ndarray,
  *,
  score: np.ndarray | None = None,
  gates: Gates | None = None,
  jobs: int | None = None,
) -> Candidates:
  """Places that another detector found to candidates: grown and measured.

  No gate of size, shape or score is asked. A place outside the brain is not
  kept, nor is one that is nearer than `gates.merge_mm` to a better one.

  Args:
    swi: [X, Y, Z], 0..1, not projected.
    spacing_mm: voxel sizes along x, y, z; z is the slice axis.
    mask: [X, Y, Z] bool, the brain.
    place: [N, 3] voxel indices, rounded here; they become the centres.
    score: [N], larger is better; None: the contrast of each region.
    gates: of growing and merging; None means the defaults.
    jobs: threads.

  Raises:
    ValueError: shapes differ, a place is outside the image, or a number is
      not finite.
  """
  gates = gates or Gates()
  check_grid(swi, mask)
  spacing_mm = tuple(float(side) for side in spacing_mm)
  place = voxels(place, swi.shape)
  image = flatten(np.asarray(swi, np.float32), spacing_mm, mask, gates=gates)
  seed = growing.darkest_near(image, place, spacing_mm, reach_mm=gates.seed_mm)
  features, regions = grown(
    image, mask, seed=seed, spacing_mm=spacing_mm, gates=gates, jobs=jobs
  )
  features['score'] = features['contrast']
  if score is not None:
    features['score'] = np.asarray(score, np.float32)
  if features['score'].shape != (len(place),):
    raise ValueError(f'{len(place)} places have {np.shape(score)} scores')
  if not np.isfinite(features['score']).all():
    raise ValueError('a score is not finite')
  features['core_centre'] = place
  reason = ['' if inside else OUTSIDE for inside in mask[tuple(place.T)]]
  return table(
    regions,
    features,
    reason=reason,
    gates=gates,
    spacing_mm=spacing_mm,
    start=np.zeros(3, int),
  )


def check_grid(swi: np.ndarray, mask: np.ndarray) -> None:
  """Refuses two arrays that are not one grid.

  Raises:
    ValueError: shapes differ.
  """
  if swi.shape != mask.shape or swi.ndim != 3:
    raise ValueError(f'swi {swi.shape} and mask {mask.shape} must be one grid')


def voxels(place: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """Places as whole voxels inside a shape, int32 [N, 3].

  Raises:
    ValueError: another shape than [N, 3], or outside the image.
  """
  place = np.asarray(place, float)
  place = place.reshape(0, 3) if place.size == 0 else place
  if place.ndim != 2 or place.shape[1] != 3:
    raise ValueError(f'places have shape {place.shape}, must be [N, 3]')
  whole = np.rint(place)
  if not ((whole >= 0) & (whole < shape)).all():  # false for NaN too
    raise ValueError(f'a place is outside the image of {tuple(shape)} voxels')
  return whole.astype(np.int32)


def _find(image, spacing_mm, mask, gates, jobs):
  """Peaks [N, 3] of the radial symmetry, and its values there [N]."""
  response = radial_symmetry.radial_symmetry(
    image,
    spacing_mm,
    mask=mask,
    radii_mm=gates.radii_mm,
    strictness=gates.strictness,
    min_gradient=gates.min_gradient,
    jobs=jobs,
  )
  peak = peaks.find(
    image,
    response,
    spacing_mm,
    mask,
    gates=gates,
    least=gates.min_response,
    jobs=jobs,
  )
  return peak, response[tuple(peak.T)]


def grown(
  image: np.ndarray,
  mask: np.ndarray,
  *,
  seed: np.ndarray,
  spacing_mm: Sequence[float],
  gates: Gates,
  jobs: int | None = None,
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
  """Features of the half-maximum regions and of their cores, and the regions.

  Args:
    image: [X, Y, Z], as `flatten` gives it.
    mask: [X, Y, Z] bool, the brain.
    seed: [N, 3] voxels.
    spacing_mm: voxel sizes.
    gates: of growing.
    jobs: threads.

  Returns:
    Name to [N] float32 ('centre' and 'core_centre' [N, 3]), and N int32
    [n, 3] voxels.
  """
  features = {}
  for prefix, level in (('core_', gates.core_level), ('', gates.level)):
    parts, regions = [], []
    # Shapes of all cores at once would take more memory than the scan.
    for start in range(0, len(seed), _GROUP) or (0,):
      one = growing.grow(
        image,
        mask,
        seed[start : start + _GROUP],
        spacing_mm,
        level=level,
        growth_mm=gates.growth_mm,
        shell_mm=gates.shell_mm,
        jobs=jobs,
      )
      parts.append(
        growing.shapes(
          one, spacing_mm, growth_mm=gates.growth_mm, at_seed=bool(prefix)
        )
      )
      if not prefix:
        ends = np.searchsorted(one.owner, np.arange(1, len(one.seed)))
        regions += np.split(one.voxel, ends) if len(one.seed) else []
    features |= {
      prefix + name: np.concatenate([part[name] for part in parts])
      for name in parts[0]
    }
  for name in ('contrast', 'darkest', 'background', 'edge_mm', 'crowding'):
    del features[f'core_{name}']  # the same for both
  features['blobness'], features['roundness'] = blobness.blobness_at(
    image, seed, spacing_mm, diameters_mm=gates.diameters_mm
  )
  return features, regions


def _once(seed, strength):
  """Seeds that differ; of doubles the first, which has the best response."""
  _, first = np.unique(seed, axis=0, return_index=True)
  first = np.sort(first)
  return seed[first], strength[first]


def table(
  regions: list[np.ndarray],
  features: dict[str, np.ndarray],
  *,
  reason: Sequence[str],
  gates: Gates,
  spacing_mm: Sequence[float],
  start: np.ndarray,
) -> Candidates:
  """Sorts what was grown by its score, and merges what is too near.

  Args:
    regions: N, as `grown` gives them.
    features: as `grown` gives them, and 'score'.
    reason: N texts, '' where kept.
    gates: of merging.
    spacing_mm: voxel sizes.
    start: [3] voxel of the scan where the array begins.
  """
  centre = np.rint(features.pop('core_centre')).astype(np.int32)
  features.pop('centre')
  order = np.lexsort((*centre.T, -features['score']))
  features = {name: values[order] for name, values in features.items()}
  centre, value = centre[order], features.pop('score')
  voxels = [regions[i] + start.astype(np.int32) for i in order]
  reason = _merge([reason[i] for i in order], centre, spacing_mm, gates)
  return Candidates(
    (centre + start).astype(np.int32),
    value,
    np.array([not text for text in reason], bool),
    reason,
    features,
    _categories(features, gates),
    voxels,
  )


def _merge(reason, centre, spacing_mm, gates):
  """Of kept candidates that are too near, the better one stays."""
  kept = np.flatnonzero([not text for text in reason])
  stays = alone(centre[kept] * np.asarray(spacing_mm), gates.merge_mm)
  reason = list(reason)
  for i in kept[~stays]:
    reason[i] = 'same as a better one'
  return reason


def alone(place_mm: np.ndarray, gap_mm: float) -> np.ndarray:
  """Which of places [N, 3], best first, are far from all better ones."""
  stays = np.ones(len(place_mm), bool)
  for i in range(len(place_mm)):
    if stays[i]:
      away = np.linalg.norm(place_mm[i + 1 :] - place_mm[i], axis=1)
      stays[i + 1 :] &= away >= gap_mm
  return stays


def _categories(features, gates):
  shift = features['centroid_shift_mm'] > gates.travel_mm
  single = features['num_slices'] == 1
  return [
    SINGLE if one else TRAVELLING if moves else HARD
    for one, moves in zip(single, shift)
  ]
