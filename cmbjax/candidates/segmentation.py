"""Accepted candidates to outlined and measured lesions.

Rule: a voxel belongs to at most one lesion, and the index of a lesion is its
label, its row and its name in every file.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage, spatial

from cmbjax.candidates import growing
from cmbjax.candidates.background import brain_box, flatten
from cmbjax.candidates.gates import Gates

LARGEST_MM = 10.0  # above this it is not a microbleed (Gregoire 2009, MARS)
REACH_MM = 12.0  # how far a lesion larger than that is followed
MICROBLEED, LARGE = 'microbleed', 'macro or cavernoma'


@dataclasses.dataclass(frozen=True)
class Segmentation:
  """N lesions; lesion n has label n + 1.

  Attributes:
    labels: [X, Y, Z] uint16, 0 outside.
    kind: N of 'microbleed' and 'macro or cavernoma' (not to be counted).
    measures: name to [N] float32. volume_mm3; diameter_mm (equivalent
      sphere); feret_mm (longest in plane, of the largest slice); extent_mm
      and num_slices along z; contrast and darkest (fractions of the local
      brain); sphericity; centre_x, centre_y, centre_z (voxels).
  """

  labels: np.ndarray
  kind: list[str]
  measures: dict[str, np.ndarray]


def segment(
  swi: np.ndarray,
  spacing_mm: Sequence[float],
  mask: np.ndarray,
  centre: np.ndarray,
  *,
  gates: Gates | None = None,
  jobs: int | None = None,
) -> Segmentation:
  """Outlines one lesion at each centre by local half-maximum growing.

  A lesion is what is joined to its darkest voxel and darker than half-way
  from there to the median of a shell round it. Growing ends at `growth_mm`;
  a region that fills most of that sphere is followed to REACH_MM, so that
  large lesions are found out instead of cut to size. Every lesion is one
  piece, joined by faces.

  Args:
    swi: [X, Y, Z], not projected.
    spacing_mm: voxel sizes.
    mask: [X, Y, Z] bool, the brain.
    centre: [N, 3] voxel indices, best first: where two lesions meet, a voxel
      goes to the one whose seed is nearer.
    gates: growing parameters; None means the defaults.
    jobs: threads.

  Returns:
    Segmentation with N lesions, each of at least one voxel (of two equal
    centres the later one has none).
  """
  gates = gates or Gates()
  spacing_mm = tuple(float(side) for side in spacing_mm)
  centre = np.asarray(centre, np.int32).reshape(-1, 3)
  labels = np.zeros(swi.shape, np.uint16)
  regions = _grow(
    swi, mask, centre=centre, spacing_mm=spacing_mm, gates=gates, jobs=jobs
  )
  _paint(labels, regions, spacing_mm)
  _fill(labels)
  _join(labels, regions.seed)
  measures = measure(labels, spacing_mm, len(centre))
  measures['darkest'] = regions.darkest
  measures['contrast'] = growing.contrast(regions)
  large = np.maximum(measures['diameter_mm'], measures['feret_mm'])
  kind = [LARGE if size > LARGEST_MM else MICROBLEED for size in large]
  return Segmentation(labels, kind, measures)


def measure(
  labels: np.ndarray, spacing_mm: Sequence[float], count: int
) -> dict[str, np.ndarray]:
  """Size and shape of labels 1..count; a label without a voxel is all 0.

  Args:
    labels: [X, Y, Z] whole numbers, 0 is nothing.
    spacing_mm: voxel sizes.
    count: the largest label.

  Returns:
    Name to [count] float32: volume_mm3, diameter_mm, feret_mm, extent_mm,
    num_slices, sphericity, centre_x, centre_y, centre_z.
  """
  flat = np.flatnonzero(labels)
  owner = labels.ravel()[flat].astype(np.int64) - 1
  order = np.argsort(owner, kind='stable')
  present, owner = np.unique(owner[order], return_inverse=True)
  voxel = np.stack(np.unravel_index(flat[order], labels.shape), 1)
  shape = growing.geometry(owner, voxel, spacing_mm, len(present))
  area = _surface(labels, voxel, spacing_mm, count)[present]
  ball = np.cbrt(np.pi * (6 * shape['volume_mm3']) ** 2)
  shape['sphericity'] = np.minimum(ball / area, 1)
  for axis, name in enumerate('xyz'):
    shape[f'centre_{name}'] = shape['centre'][:, axis]
  measures = {}
  for name in _MEASURES:
    measures[name] = np.zeros(count, np.float32)
    measures[name][present] = shape[name]
  return measures


_MEASURES = (
  'volume_mm3',
  'diameter_mm',
  'feret_mm',
  'extent_mm',
  'num_slices',
  'sphericity',
  'centre_x',
  'centre_y',
  'centre_z',
)


def _surface(labels, voxel, spacing_mm, count):
  """Surface [count] in mm2 from crossings along the three axes.

  Args:
    labels: [X, Y, Z].
    voxel: [V, 3], all voxels with a label.
    spacing_mm: voxel sizes.
    count: the largest label.

  Voxel faces are 3 / 2 of the surface of a ball (Cauchy-Crofton), so 2 / 3
  of them is right for round bodies at any voxel size.
  """
  faces = np.zeros(count + 1)
  label = labels[tuple(voxel.T)]
  for axis in range(3):
    area = np.prod(spacing_mm) / spacing_mm[axis]
    for step in (1, -1):
      beside = voxel.copy()
      beside[:, axis] += step
      at = beside[:, axis].clip(0, labels.shape[axis] - 1)
      outside = beside[:, axis] != at
      beside[:, axis] = at
      differs = (labels[tuple(beside.T)] != label) | outside
      faces += area * np.bincount(label[differs], minlength=count + 1)
  return faces[1:] * 2 / 3


def _grow(swi, mask, *, centre, spacing_mm, gates, jobs):
  """Regions round the centres, grown in the box that holds brain and them."""
  whole = (slice(0, size) for size in mask.shape)
  box = brain_box(mask, spacing_mm, gates, also=centre) or tuple(whole)
  start = np.array([part.start for part in box], np.int32)
  image, mask = np.asarray(swi[box], np.float32), mask[box]
  regions = _grow_flat(
    flatten(image, spacing_mm, mask, gates=gates),
    mask,
    centre=centre - start,
    spacing_mm=spacing_mm,
    gates=gates,
    jobs=jobs,
  )
  return regions._replace(
    seed=regions.seed + start, voxel=regions.voxel + start
  )


def _grow_flat(image, mask, *, centre, spacing_mm, gates, jobs):
  seed = growing.darkest_near(image, centre, spacing_mm, reach_mm=gates.seed_mm)
  # Two lesions may not share a seed: the later one keeps its own centre.
  _, first = np.unique(seed, axis=0, return_index=True)
  later = np.setdiff1d(np.arange(len(seed)), first)
  seed[later] = centre[later]

  def grown(which, growth_mm, shell_mm, level=gates.level):
    return growing.grow(
      image,
      mask,
      seed[which],
      spacing_mm,
      level=level,
      growth_mm=growth_mm,
      shell_mm=shell_mm,
      jobs=jobs,
    )

  near = grown(slice(None), gates.growth_mm, gates.shell_mm)
  voxels = np.bincount(near.owner, minlength=len(seed))
  sphere = 4 / 3 * np.pi * gates.growth_mm**3
  full = voxels * np.prod(spacing_mm) > _FULL * sphere
  full |= near.background < _INSIDE
  core = grown(slice(None), gates.growth_mm, gates.shell_mm, gates.core_level)
  near = _near_core(near, core, spacing_mm)
  if not full.any():
    return near
  far = grown(full, REACH_MM, (REACH_MM, REACH_MM + 3))
  return _replace(near, far, np.flatnonzero(full))


_FULL = 0.4  # of the growth sphere: more than any vessel through it fills
_INSIDE = 0.5  # of the local brain: so dark a shell is within a lesion


_RIM = 1.5  # from core to half maximum, in voxels or mm, the larger ones


def _near_core(regions, core, spacing_mm):
  """Without what is far from the core: faint vessels that join a lesion.

  The point spread blurs the rim of a lesion over about a voxel, so half
  maximum is never far from the darker core, unless something leaks in.
  """
  scale = np.maximum(np.asarray(spacing_mm), 1.0)
  starts = np.searchsorted(regions.owner, np.arange(len(regions.seed) + 1))
  firsts = np.searchsorted(core.owner, np.arange(len(regions.seed) + 1))
  stays = np.zeros(len(regions.owner), bool)
  for i in range(len(regions.seed)):
    part = slice(starts[i], starts[i + 1])
    tree = spatial.cKDTree(
      core.voxel[firsts[i] : firsts[i + 1]] * spacing_mm / scale
    )
    away, _ = tree.query(regions.voxel[part] * spacing_mm / scale)
    stays[part] = away <= _RIM
  return regions._replace(
    owner=regions.owner[stays], voxel=regions.voxel[stays]
  )


def _replace(near, far, which):
  """`near` with the regions `which` taken from `far`."""
  stays = ~np.isin(near.owner, which)
  owner = np.concatenate([near.owner[stays], which[far.owner]])
  voxel = np.concatenate([near.voxel[stays], far.voxel])
  order = np.argsort(owner, kind='stable')
  background = near.background.copy()
  background[which] = far.background
  return near._replace(
    owner=owner[order], voxel=voxel[order], background=background
  )


def _paint(labels, regions, spacing_mm):
  """Each voxel to the nearest seed; of equally near ones to the earlier."""
  away = regions.voxel - regions.seed[regions.owner]
  away = np.linalg.norm(away * np.asarray(spacing_mm), axis=1)
  order = np.lexsort((-regions.owner, -away))  # the last one painted stays
  place = tuple(regions.voxel[order].T)
  labels[place] = regions.owner[order] + 1


def _fill(labels):
  """Closes holes inside each lesion, in place."""
  for label, box in enumerate(ndimage.find_objects(labels), start=1):
    if box is not None:
      part = labels[box]
      filled = ndimage.binary_fill_holes(part == label)
      part[filled & (part == 0)] = label


def _join(labels, seed):
  """Each lesion in one piece: what hangs on by an edge or corner goes.

  Faces join the objects of the VALDO rule, and of most readers of masks.
  """
  for label, box in enumerate(ndimage.find_objects(labels), start=1):
    if box is not None:
      part = labels[box]
      pieces, count = ndimage.label(part == label)
      if count > 1:
        start = [axis.start for axis in box]
        own = pieces[tuple(seed[label - 1] - start)]
        own = own or np.bincount(pieces[pieces > 0]).argmax()
        part[(pieces > 0) & (pieces != own)] = 0
