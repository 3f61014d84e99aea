"""Points of a scan to the rating regions of MARS, with how sure that is.

Rule: a region is given together with its distance to the next one; where
registration could have put a lesion on the wrong side of a border between
lobar, deep and infratentorial, it is not certain.

Regions and their groups: Gregoire et al., Neurology 2009 (MARS). A map of
one's own takes the place of the drawn one with `load_atlas`.
"""

import functools
import os
import pathlib
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError, shown
from cmbjax.imaging import region_geometry
from cmbjax.imaging import template as template_module
from cmbjax.imaging import volume as volume_module

REGIONS = region_geometry.REGIONS
LOCATIONS = ('unknown', 'lobar', 'deep', 'infratentorial')
# Affine registration leaves about this much between two brains (rms of
# simulated heads: benchmarks/regions.py).
MARGIN_MM = 3.0
_FAR_MM = 8.0  # outside of the template's brain a region means nothing
_MOST_DIGITS = 9  # of a label
_LEAST_INSIDE = 0.5  # of the labels of an atlas, within _FAR_MM of the brain
_MOST_BORDERS = 0.7  # of neighbours; 1000 parcels at 2 mm have a third
_MIDLINE_MM = 2.0
_LOCATION_OF = {
  'brainstem': 'infratentorial',
  'cerebellum': 'infratentorial',
  'basal ganglia': 'deep',
  'thalamus': 'deep',
  'internal capsule': 'deep',
  'external capsule': 'deep',
  'corpus callosum': 'deep',
  'deep white matter': 'deep',
  'frontal': 'lobar',
  'parietal': 'lobar',
  'temporal': 'lobar',
  'occipital': 'lobar',
  'insula': 'lobar',
}


class Atlas(NamedTuple):
  """A region map in MNI space.

  Attributes:
    names: of label 0, 1, 2, ...; label 0 is 'outside'.
    locations: one of `LOCATIONS` per label.
    labels: [X, Y, Z] uint16; outside of the brain that of the nearest voxel.
    affine: [4, 4] voxel index to MNI mm.
    to_region_mm: [X, Y, Z] float32 distance to the next region.
    to_location_mm: the same to the next of lobar, deep, infratentorial.
    outside_mm: the same to the nearest labelled voxel; 0 within.
  """

  names: tuple[str, ...]
  locations: tuple[str, ...]
  labels: np.ndarray
  affine: np.ndarray
  to_region_mm: np.ndarray
  to_location_mm: np.ndarray
  outside_mm: np.ndarray


class Place(NamedTuple):
  """Where one lesion is.

  Attributes:
    region: name of the region, or 'outside'.
    side: 'left', 'right' or 'midline'.
    location: 'lobar', 'deep', 'infratentorial' or 'unknown'.
    margin_mm: distance to the next region.
    location_margin_mm: distance to the next location.
    certain: the location would be the same if the place were wrong by the
      margin; for a map without locations, the region would.
  """

  region: str
  side: str
  location: str
  margin_mm: float
  location_margin_mm: float
  certain: bool


def location_of(region: str) -> str:
  """'lobar', 'deep' or 'infratentorial' of a MARS region, else 'unknown'."""
  return _LOCATION_OF.get(region, 'unknown')


@functools.lru_cache(maxsize=1)
def drawn_atlas() -> Atlas:
  """The region map of the package, on a 2 mm grid of MNI152."""
  half = region_geometry.draw()
  affine = np.diag([template_module.STEP_MM] * 3 + [1.0])
  affine[:3, 3] = template_module.load().origin_mm
  labels = np.concatenate([half[:0:-1], half])
  return _build(labels, affine, REGIONS, tuple(map(location_of, REGIONS)))


def load_atlas(
  path: str | os.PathLike, table: str | os.PathLike | None = None
) -> Atlas:
  """One's own label image in MNI space.

  Args:
    path: NIfTI of whole numbers, 0 outside.
    table: tab separated, columns `index`, `name` and, if wanted, `location`
      (lobar, deep, infratentorial); None: the file beside it that ends in
      `.tsv`, if there is one, else labels are named by their number.

  Raises:
    NoInputError: a file does not exist.
    InputError: labels that are no whole numbers or are too many, a table
      without the columns, or with an unknown location.
  """
  volume = volume_module.load(path)
  values = np.asarray(volume.array, np.float32)
  whole = np.rint(values)
  if abs(values - whole).max() > 1e-3 or whole.min() < 0 or whole.max() > 65535:
    raise InputError(
      f'{path}: holds values that are no labels, expected whole numbers from 0 '
      'to 65535; give a label image.'
    )
  if not whole.any():
    raise InputError(f'{path}: holds no label; give another label image.')
  _check_atlas(path, whole, volume.affine)
  names, locations = _read_table(path, table, int(whole.max()))
  return _build(whole.astype(np.uint16), volume.affine, names, locations)


def _check_atlas(path, labels, affine) -> None:
  """Refuses what is a label image of another space, or no label image."""
  place = np.argwhere(labels > 0)
  mni = place @ affine[:3, :3].T + affine[:3, 3]
  brain = drawn_atlas()
  index, beyond = _nearest(mni, brain)
  inside = (brain.outside_mm[index] + beyond <= _FAR_MM).mean()
  if inside < _LEAST_INSIDE:
    raise InputError(
      f'{path}: only {100 * inside:.0f} % of its labels lie in the brain of '
      'MNI152; give a label image in MNI space, in mm.'
    )
  pairs, differ = 0, 0
  for axis in range(3):
    line = np.moveaxis(labels, axis, 0)
    both = (line[1:] > 0) & (line[:-1] > 0)
    pairs += int(both.sum())
    differ += int((both & (line[1:] != line[:-1])).sum())
  if pairs and differ / pairs > _MOST_BORDERS:
    raise InputError(
      f'{path}: {100 * differ / pairs:.0f} % of neighbouring voxels differ, as '
      'in a scan; give a label image, where a region is one number.'
    )


def _read_table(path, table, highest):
  """Names and locations of labels 0 .. highest."""
  if table is None:
    stem = str(path).removesuffix('.gz').removesuffix('.nii')
    beside = pathlib.Path(stem + '.tsv')
    table = beside if doors.is_there(beside) else None
  names = ['outside', *(f'label {n}' for n in range(1, highest + 1))]
  locations = ['unknown'] * (highest + 1)
  if table is None:
    return tuple(names), tuple(locations)
  table = pathlib.Path(table)
  if not doors.is_there(table):
    raise NoInputError(f'{table}: no such file; check the name.')
  lines = files.read_text(table).splitlines()
  head = lines[0].split('\t') if lines else []
  if not {'index', 'name'} <= set(head):
    raise InputError(
      f'{table}: has columns {shown(head)}, needs index and name, separated by '
      'tabs.'
    )
  for number, line in enumerate(lines[1:], 2):
    if not line.strip():
      continue
    row = dict(zip(head, line.split('\t')))
    index, name = (row.get(key, '').strip() for key in ('index', 'name'))
    if not index.isdecimal() or len(index) > _MOST_DIGITS or not name:
      raise InputError(
        f'{table}: line {number} is {shown(repr(line))}, expected a whole '
        'number and a name.'
      )
    location = row.get('location', '').strip() or location_of(name.lower())
    if location not in LOCATIONS:
      raise InputError(
        f'{table}: line {number} has location {shown(repr(location))}; '
        f'choose one of {", ".join(LOCATIONS)}.'
      )
    if 0 < int(index) <= highest:
      names[int(index)], locations[int(index)] = name, location
  return tuple(names), tuple(locations)


def _build(labels, affine, names, locations) -> Atlas:
  """Spreads the labels over the outside and measures the distances."""
  spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))
  away, nearest = ndimage.distance_transform_edt(
    labels == 0, sampling=spacing, return_indices=True
  )
  labels = labels[tuple(nearest)].astype(np.uint16)
  order = np.array([LOCATIONS.index(name) for name in locations])
  return Atlas(
    tuple(names),
    tuple(locations),
    labels,
    affine,
    _to_border(labels, spacing),
    _to_border(order[labels], spacing),
    away.astype(np.float32),
  )


def _to_border(labels, spacing) -> np.ndarray:
  """Distance in mm from each voxel to where the label changes."""
  border = np.zeros(labels.shape, bool)
  for axis in range(3):
    first = np.moveaxis(labels, axis, 0)
    edge = np.moveaxis(border, axis, 0)
    change = first[1:] != first[:-1]
    edge[1:] |= change
    edge[:-1] |= change
  if not border.any():
    return np.full(labels.shape, 1e3, np.float32)
  away = ndimage.distance_transform_edt(~border, sampling=spacing)
  return (away + float(spacing.min()) / 2).astype(np.float32)


def region_of_lesions(
  lesions_mm: list[np.ndarray],
  world_to_mni: np.ndarray,
  *,
  atlas: Atlas | None = None,
  margin_mm: float = MARGIN_MM,
) -> list[Place]:
  """Regions by the majority of each lesion's voxels.

  Args:
    lesions_mm: [n, 3] world mm of the voxels, one array per lesion.
    world_to_mni: [4, 4] of the registration; the identity for MNI points.
    atlas: None: the drawn map.
    margin_mm: a border nearer than this makes a place uncertain.

  Returns:
    One place per lesion; of equal shares infratentorial goes before deep
    before lobar. Distances are those at the middle of the lesion.
  """
  atlas = drawn_atlas() if atlas is None else atlas
  return [
    _place(np.asarray(v, float).reshape(-1, 3), world_to_mni, atlas, margin_mm)
    for v in lesions_mm
  ]


def _place(voxels_mm, world_to_mni, atlas: Atlas, margin_mm) -> Place:
  matrix = np.asarray(world_to_mni, float)
  if not len(voxels_mm) or not np.isfinite(voxels_mm).all():
    return Place('outside', 'midline', 'unknown', 0.0, 0.0, False)
  mni = voxels_mm @ matrix[:3, :3].T + matrix[:3, 3]
  index, beyond = _nearest(mni, atlas)
  far = atlas.outside_mm[index] + beyond
  found = np.where(far > _FAR_MM, 0, atlas.labels[index])
  labels, counts = np.unique(found, return_counts=True)
  rank = [LOCATIONS.index(atlas.locations[n]) for n in labels]
  label = int(max(zip(counts, rank, labels))[2])
  middle = mni.mean(0)
  at, _ = _nearest(middle[None], atlas)
  region_mm = float(atlas.to_region_mm[at][0])
  location_mm = float(atlas.to_location_mm[at][0])
  agrees = atlas.labels[at][0] == label
  known = atlas.locations[label] != 'unknown'
  if not agrees:  # a hollow or bent lesion: its middle is across a border
    region_mm = 0.0
    if (
      not known
      or atlas.locations[atlas.labels[at][0]] != (atlas.locations[label])
    ):
      location_mm = 0.0
  distance = location_mm if known else region_mm
  side = 'midline'
  if abs(middle[0]) > _MIDLINE_MM:
    side = 'right' if middle[0] > 0 else 'left'
  return Place(
    atlas.names[label],
    side,
    atlas.locations[label],
    region_mm,
    location_mm,
    bool(label and distance >= margin_mm),
  )


def _nearest(mni, atlas: Atlas):
  """Indices of the voxels nearest to MNI mm [N, 3], and mm beyond the grid."""
  inverse = np.linalg.inv(atlas.affine)
  index = mni @ inverse[:3, :3].T + inverse[:3, 3]
  inside = np.clip(np.rint(index), 0, np.array(atlas.labels.shape) - 1)
  spacing = np.sqrt((atlas.affine[:3, :3] ** 2).sum(0))
  over = np.maximum(abs(index - inside) - 0.5, 0) * spacing
  return tuple(inside.astype(int).T), np.sqrt((over**2).sum(1))
