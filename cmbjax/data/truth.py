"""What a person says about a scan, from its files to its lesions.

Rule: a truth is on the very grid of its scan, or it is refused. A scan without
a truth file is not a scan without lesions.
"""

import pathlib
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax import files
from cmbjax.data import point_table
from cmbjax.errors import InputError, shown
from cmbjax.imaging import slices, volume
from cmbjax.intake.truth_files import TruthFiles, json_beside, table_beside

TOUCHING = np.ones((3, 3, 3), bool)  # 26 neighbours

_LARGEST_LABEL = 1_000_000  # tables as long as the largest label are made


class Truth(NamedTuple):
  """The lesions of one scan, in the voxel order of its loaded scan."""

  kind: str  # as TruthFiles.kind; 'mask' has become 'labels'
  lesions: np.ndarray  # [L] int32, ascending, from 1: what `labels` holds
  diameter_mm: np.ndarray  # [L] float32 of the equivalent sphere; NaN unknown
  labels: np.ndarray | None  # int32 [X, Y, Z], 0 = none; None for points
  points_mm: np.ndarray | None  # [L, 3] world mm, for points only
  rejected: np.ndarray | None  # int32 [X, Y, Z] components, 'candidates' only
  region: tuple[str, ...] = ()  # L names, '' unknown; () when none is known

  def region_of(self, lesion: int) -> str:
    """Where a lesion is, as its table says; '' where not known."""
    at = int(np.searchsorted(self.lesions, lesion))
    return self.region[at] if self.region else ''

  def centres_mm(self, affine: np.ndarray) -> np.ndarray:
    """Centre of each lesion, [L, 3] world mm."""
    if self.points_mm is not None:
      return np.asarray(self.points_mm, float).reshape(-1, 3)
    index = centres(self.labels)[self.lesions]
    return index @ affine[:3, :3].T + affine[:3, 3]


def load_truth(truth: TruthFiles, scan: volume.Volume) -> Truth:
  """Reads the truth of a scan and checks it against the scan's grid.

  Raises:
    InputError: another shape or affine, labels that are not whole numbers,
      columns that are missing, points that lie outside.
  """
  if truth.kind == 'points':
    return _load_points(truth.path, scan)
  labels = load_labels(truth.path, scan)
  if truth.kind == 'labels' and not _is_semantic(truth.path, labels):
    lesions = np.unique(labels[labels > 0]).astype(np.int32)
    diameter_mm = _diameters(labels, lesions, scan.spacing_mm)
    diameter_mm, region = _noted(truth.path, lesions, diameter_mm)
    return Truth('labels', lesions, diameter_mm, labels, None, None, region)
  if truth.kind != 'candidates':
    labels = components(labels)
    lesions = np.arange(1, labels.max(initial=0) + 1, dtype=np.int32)
    diameter_mm = _diameters(labels, lesions, scan.spacing_mm)
    return Truth('labels', lesions, diameter_mm, labels, None, None)
  rejected = load_labels(truth.rejected, scan)
  _check_apart(truth, labels, rejected)
  labels, names = _instances(truth.path, labels)
  rejected, _ = _instances(truth.rejected, rejected)
  lesions = np.arange(1, len(names) + 1, dtype=np.int32)
  diameter_mm = _diameters(labels, lesions, scan.spacing_mm)
  diameter_mm, region = _noted(truth.path, names, diameter_mm)
  kind = truth.kind
  return Truth(kind, lesions, diameter_mm, labels, None, rejected, region)


def load_labels(path: pathlib.Path, scan: volume.Volume) -> np.ndarray:
  """A label image on the grid of `scan`: int32 [X, Y, Z].

  Raises:
    InputError: another grid, or values that are not whole numbers from 0 to
      a million.
  """
  labels = slices.array_like(volume.load(path), scan)
  if labels.dtype.kind == 'f':
    odd = labels != np.rint(labels)
    if odd.any():
      raise InputError(
        f'{path}: holds {labels[odd][0]:g}, expected whole numbers (0 is no '
        'lesion); threshold a probability map first.'
      )
  if labels.min() < 0 or labels.max() > _LARGEST_LABEL:
    odd = labels.min() if labels.min() < 0 else labels.max()
    raise InputError(
      f'{path}: holds {odd:g}, expected whole numbers from 0 to '
      f'{_LARGEST_LABEL:,}; number the lesions 1, 2, 3, ...'
    )
  return labels.astype(np.int32)


def centres(labels: np.ndarray) -> np.ndarray:
  """Mean voxel index of each label 0, 1, ..., [largest + 1, 3]."""
  number, place = labels[labels > 0], np.argwhere(labels > 0)
  size = np.maximum(np.bincount(number, minlength=1), 1)  # gaps: not 0 / 0
  total = [np.bincount(number, along, len(size)) for along in place.T]
  return np.stack(total, 1) / size[:, None]


def components(mask: np.ndarray) -> np.ndarray:
  """Connected components (26 neighbours) of mask > 0, int32 from 1."""
  labels, _ = ndimage.label(mask > 0, structure=TOUCHING)
  return labels.astype(np.int32)


def _instances(path, labels):
  """Labels 1..n, and the n numbers that the table beside them uses.

  Neighbours that a table keeps apart stay apart; without a table, as masks
  come, the connected components are the instances.
  """
  if table_beside(path) is None:
    labels = components(labels)
    return labels, np.arange(1, labels.max(initial=0) + 1, dtype=np.int32)
  names = np.unique(labels[labels > 0]).astype(np.int32)
  place = np.searchsorted(names, labels) + 1
  return np.where(labels > 0, place, 0).astype(np.int32), names


def _load_points(path, scan):
  header, rows = _read_table(path)
  world = {'x', 'y', 'z'} <= set(header)
  if not world and not {'i', 'j', 'k'} <= set(header):
    raise InputError(
      f'{path}: has the columns {shown(", ".join(header)) or "(none)"}; give '
      'x y z (mm, RAS world) or i j k (voxels of the file), separated by tabs.'
    )
  columns = [header.index(name) for name in ('xyz' if world else 'ijk')]
  points = [
    point_table.numbers(path, number, row, columns)
    for number, row in enumerate(rows, 1)
  ]
  points = np.array(points, float).reshape(-1, 3)
  if not world:
    points = points - _index_base(path)
    affine = scan.native.affine
    points = points @ affine[:3, :3].T + affine[:3, 3]
  index = np.rint(scan.to_index(points))
  outside = ((index < 0) | (index >= scan.array.shape[:3])).any(1)
  if outside.any():
    row = int(np.flatnonzero(outside)[0])
    where = ' '.join(f'{value:g}' for value in points[row])
    raise InputError(
      f'{path}: row {row + 1} lies at {where} mm, outside of its scan '
      f'{scan.path}; check units, order and sign of the columns.'
    )
  lesions = np.arange(1, len(points) + 1, dtype=np.int32)
  diameter = [_size(row, header) for row in rows]
  region = tuple(_cell(row, header, 'region') for row in rows)
  return Truth(
    'points',
    lesions,
    np.array(diameter, np.float32),
    None,
    points,
    None,
    region if any(region) else (),
  )


def _read_table(path):
  rows = files.read_rows(path)
  header = [name.strip().lower() for name in rows[0]] if rows else []
  return header, rows[1:]


def _index_base(path):
  """i j k count from 0, unless the JSON beside says "IndexBase": 1."""
  beside = json_beside(path)
  base = files.read_object(beside).get('IndexBase', 0) if beside else 0
  if base not in (0, 1):
    raise InputError(f'{beside}: IndexBase is {base!r}, allowed are 0 and 1.')
  return base


def _diameters(labels, lesions, spacing_mm):
  counts = np.bincount(labels[labels > 0], minlength=labels.max() + 1)
  volume_mm3 = counts[lesions] * float(np.prod(spacing_mm))
  return np.cbrt(6 / np.pi * volume_mm3).astype(np.float32)


def _noted(path, lesions, diameter_mm):
  """Sizes and regions: the table beside a label image knows better."""
  table = table_beside(path)
  header, rows = _read_table(table) if table else ([], [])
  if 'index' not in header:
    return diameter_mm, ()
  size, region = {}, {}
  for row in rows:
    try:
      index = int(_cell(row, header, 'index'))
    except ValueError:  # 'n/a'
      continue
    size[index] = _size(row, header)
    region[index] = _cell(row, header, 'region')
  noted = np.array([size.get(int(n), np.nan) for n in lesions], np.float32)
  names = tuple(region.get(int(n), '') for n in lesions)
  diameter_mm = np.where(np.isnan(noted), diameter_mm, noted)
  return diameter_mm.astype(np.float32), names if any(names) else ()


def _cell(row, header, name):
  """One cell as text; '' for a missing column, a short row or 'n/a'."""
  at = header.index(name) if name in header else len(row)
  text = row[at].strip() if at < len(row) else ''
  return '' if text.lower() == 'n/a' else text


def _size(row, header):
  """diameter_mm of a row; NaN: measured from the voxels, or not known."""
  try:
    return float(_cell(row, header, 'diameter_mm'))
  except ValueError:
    return np.nan


def _is_semantic(path, labels):
  """One value for all lesions, as masks have it, under the name of a dseg."""
  values = np.unique(labels[labels > 0])
  return values.size == 1 and table_beside(path) is None


def _check_apart(truth, accepted, rejected):
  both = int(((accepted > 0) & (rejected > 0)).sum())
  if both:
    raise InputError(
      f'{truth.path}: {both} voxels are also in {truth.rejected.name}; a '
      'candidate is either accepted or rejected, so correct one of the masks.'
    )
